//! A TLS stream in two halves, each of which one task may poll.
//!
//! The stream is under a lock for as long as one poll of it takes; both directions share its state, so one has to
//! wait for the other that long. No lock is held across an await, and none while a waker runs.
//!
//! The socket is polled for reading with the reader's waker, in the reader's turn only. For writing it is polled
//! by both, and always with one waker that wakes both: so neither replaces the other's, and whoever waits for
//! room is woken when there is some.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures::{
    io::{AsyncRead, AsyncWrite, IoSlice},
    task::AtomicWaker,
};

use crate::{
    pool,
    sync::{Mutex, lock},
};

use super::{
    gate::{Gate, Turn},
    stream_error,
};

/// The most that goes into one record of TLS ([RFC 8446
/// §5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)).
const RECORD_LEN: usize = 16 << 10;

/// The stream of either role.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Shared {
    stream: Mutex<Box<dyn Stream>>,
    /// What is under it.
    gate: Gate,
    room: Arc<Room>,
    room_waker: Waker,
}

/// Who waits for the socket to have room.
#[derive(Default)]
struct Room {
    writer: AtomicWaker,
    /// The reader, while something that TLS has to say by itself is not out.
    reader: AtomicWaker,
}

impl Wake for Room {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.writer.wake();
        self.reader.wake();
    }
}

/// The half that reads.
pub(in crate::net) struct Reader {
    shared: Arc<Shared>,
    /// Why nothing more comes in, while what came before is still given out.
    failed: Option<io::Error>,
}

/// The half that writes. Dropped, it shuts the socket down.
pub(in crate::net) struct Writer(Arc<Shared>);

pub(super) fn split(stream: Box<dyn Stream>, gate: Gate) -> (Reader, Writer) {
    let room = Arc::<Room>::default();
    let room_waker = Arc::clone(&room).into();
    let shared = Arc::new(Shared { stream: Mutex::new(stream), gate, room, room_waker });
    (Reader { shared: Arc::clone(&shared), failed: None }, Writer(shared))
}

impl Reader {
    pub(in crate::net) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Shared { stream, gate, room, room_waker } = &*self.shared;
        let mut stream = lock(stream);
        if self.failed.is_none() {
            gate.begin(Turn::Read);
            let read = Pin::new(&mut *stream).poll_read(cx, buf);
            if gate.take_flush_due() {
                room.reader.register(cx.waker());
                gate.begin(Turn::Write);
                // If it has to wait, the next read asks for it again. If it fails, the writer will see that too.
                let flushed = Pin::new(&mut *stream).poll_flush(&mut Context::from_waker(room_waker));
                if flushed.is_ready() {
                    room.reader.take();
                }
            }
            match read {
                Poll::Ready(Err(error)) => self.failed = Some(stream_error(error)),
                read => return read,
            }
        }
        // The stream stops at an error even where it has decrypted what stood before. That is given out first.
        gate.begin(Turn::Write);
        match (Pin::new(&mut *stream).poll_read(cx, buf), self.failed.take()) {
            (Poll::Ready(Ok(count @ 1..)), failed) => {
                self.failed = failed;
                Poll::Ready(Ok(count))
            }
            (_, Some(error)) => Poll::Ready(Err(error)),
            (read, None) => read,
        }
    }
}

impl Writer {
    fn poll<T>(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut dyn Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Shared { stream, gate, room, room_waker } = &*self.0;
        room.writer.register(cx.waker());
        let mut stream = lock(stream);
        gate.begin(Turn::Write);
        poll(Pin::new(&mut **stream), &mut Context::from_waker(room_waker)).map_err(stream_error)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    /// Small parts go into one record, instead of one each.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = bufs.iter().filter(|part| !part.is_empty());
        let (first, second) = (parts.next(), parts.next());
        let first = first.map_or(&[][..], |part| part);
        if second.is_none() || first.len() >= RECORD_LEN {
            return self.poll_write(cx, first);
        }
        let mut record = pool::take_buffer();
        for part in bufs {
            let room = RECORD_LEN - record.len();
            record.extend(part.get(..room).unwrap_or(part));
        }
        let written = self.poll_write(cx, record.as_slice());
        pool::give_buffer(record);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_flush(cx))
    }

    /// Says that nothing more comes, then ends the socket's writing side.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_close(cx))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.gate.shutdown();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
