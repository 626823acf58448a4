//! A TLS stream in two halves, each of which one task may poll.
//!
//! The stream is under a lock for as long as one poll of it takes; both directions share its state, so one may wait
//! that long for the other. No lock is held across an await, and none while a waker of the caller is cloned, run or
//! dropped ([`Relay`]).
//!
//! Only the reader polls the socket for reading, with the waker that stands for the reader's. Both halves poll it for
//! writing, always with one waker that wakes both. So neither half replaces the other's waker, and a half that waits
//! for room is woken when there is some.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};

use crate::{
    pool,
    sync::{Mutex, MutexGuard, lock},
};

use super::{
    gate::{Gate, Turn},
    stream_error,
    wakers::Relay,
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
    relay: Relay,
}

/// The locked stream. Dropping it unlocks the stream, then passes on the wake-ups that came meanwhile.
struct Locked<'a> {
    shared: &'a Shared,
    /// `None` only during the drop.
    stream: Option<MutexGuard<'a, Box<dyn Stream>>>,
}

impl Shared {
    fn lock(&self) -> Locked<'_> {
        let stream = lock(&self.stream);
        self.relay.begin_poll();
        Locked { shared: self, stream: Some(stream) }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.shared.relay.end_poll();
        drop(self.stream.take());
        self.shared.relay.catch_up();
    }
}

impl Locked<'_> {
    fn poll<T>(
        &mut self,
        turn: Turn,
        poll: impl FnOnce(Pin<&mut dyn Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        self.shared.gate.begin(turn);
        poll(Pin::new(&mut ***stream))
    }

    fn poll_read(&mut self, failed: &mut Option<io::Error>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Shared { gate, relay, .. } = self.shared;
        if failed.is_none() {
            let read = self.poll(Turn::Read, |stream| stream.poll_read(&mut relay.read_cx(), buf));
            if gate.take_flush_due() {
                relay.set_reader_needs_room(true);
                // If the flush must wait, the next read repeats it. If it fails, the writer gets the error too.
                if self.poll(Turn::Write, |stream| stream.poll_flush(&mut relay.room_cx())).is_ready() {
                    relay.set_reader_needs_room(false);
                }
            }
            match read {
                Poll::Ready(Err(error)) => *failed = Some(stream_error(error)),
                read => return read,
            }
        }
        // After an error the stream may still hold data that it decrypted before. That data is returned first.
        let rest = self.poll(Turn::Write, |stream| stream.poll_read(&mut relay.read_cx(), buf));
        match (rest, failed.take()) {
            (Poll::Ready(Ok(count @ 1..)), why) => {
                *failed = why;
                Poll::Ready(Ok(count))
            }
            (_, Some(error)) => Poll::Ready(Err(error)),
            (read, None) => read,
        }
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

pub(super) fn split(stream: Box<dyn Stream>, gate: Gate, relay: Relay) -> (Reader, Writer) {
    let shared = Arc::new(Shared { stream: Mutex::new(stream), gate, relay });
    (Reader { shared: Arc::clone(&shared), failed: None }, Writer(shared))
}

impl Reader {
    pub(in crate::net) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.relay.register_reader(cx.waker());
        self.shared.lock().poll_read(&mut self.failed, buf)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.relay.forget_reader();
    }
}

impl Writer {
    fn poll<T>(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut dyn Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let relay = &self.0.relay;
        relay.register_writer(cx.waker());
        let polled = self.0.lock().poll(Turn::Write, |stream| poll(stream, &mut relay.room_cx()));
        polled.map_err(stream_error)
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
        self.0.relay.forget_writer();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::{self, SocketReader, SocketWriter},
        options::Role,
    };
    use async_io::Async;
    use std::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
        task::{Wake, Waker},
        time::Duration,
    };

    /// A stream that is always pending and wakes the task while it is polled, like a socket that yields to other tasks.
    struct Waking;

    fn wakes<T>(cx: &Context<'_>) -> Poll<io::Result<T>> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    impl AsyncRead for Waking {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            wakes(cx)
        }
    }

    impl AsyncWrite for Waking {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            wakes(cx)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            wakes(cx)
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            wakes(cx)
        }
    }

    fn pair() -> (Reader, Writer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (reader, writer) =
            net::halves::split(Arc::new(Async::new(near).unwrap()), net::halves::Next::Read);
        let reader = SocketReader(net::Reader::Tcp(reader));
        let writer = SocketWriter { io: net::Writer::Tcp(writer), seat: None };
        split(Box::new(Waking), Gate::new(Role::Client, reader, writer), Relay::new())
    }

    /// A waker that calls a function when it is woken and when it is dropped, as executors do that poll in a callback.
    struct Inline<F: Fn() + Send + Sync>(F);

    impl<F: Fn() + Send + Sync> Wake for Inline<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }

    impl<F: Fn() + Send + Sync> Drop for Inline<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    fn noop() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    type PollHalf<T> = fn(&mut T, &mut Context<'_>) -> bool;

    fn read(reader: &mut Reader, cx: &mut Context<'_>) -> bool {
        reader.poll_read(cx, &mut [0; 8]).is_pending()
    }

    fn write(writer: &mut Writer, cx: &mut Context<'_>) -> bool {
        Pin::new(writer).poll_write(cx, &[1]).is_pending()
    }

    fn flush(writer: &mut Writer, cx: &mut Context<'_>) -> bool {
        Pin::new(writer).poll_flush(cx).is_pending()
    }

    fn close(writer: &mut Writer, cx: &mut Context<'_>) -> bool {
        Pin::new(writer).poll_close(cx).is_pending()
    }

    /// Runs a test that would deadlock if a lock were held, and returns whether the waker ran.
    #[expect(clippy::disallowed_methods, reason = "a test that is stuck must fail")]
    fn runs(test: impl FnOnce(mpsc::Sender<()>) + Send + 'static) {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || test(sender));
        receiver.recv_timeout(Duration::from_secs(20)).expect("the waker ran, and no lock was held");
        thread.join().unwrap();
    }

    #[test]
    fn waker_of_the_reader_may_use_the_writer() {
        for poll in [write, flush, close] as [PollHalf<Writer>; 3] {
            runs(move |done| {
                let (mut reader, writer) = pair();
                let writer = Mutex::new(writer);
                let waker = Arc::new(Inline(move || {
                    assert!(poll(&mut lock(&writer), &mut noop()));
                    let _ = done.send(());
                }));
                assert!(read(&mut reader, &mut Context::from_waker(&waker.into())));
                // Another waker takes its place.
                assert!(read(&mut reader, &mut noop()));
            });
        }
    }

    #[test]
    fn waker_of_the_writer_may_use_the_reader() {
        for poll in [write, flush, close] as [PollHalf<Writer>; 3] {
            runs(move |done| {
                let (reader, mut writer) = pair();
                let reader = Mutex::new(reader);
                let waker = Arc::new(Inline(move || {
                    assert!(read(&mut lock(&reader), &mut noop()));
                    let _ = done.send(());
                }));
                assert!(poll(&mut writer, &mut Context::from_waker(&waker.into())));
                assert!(poll(&mut writer, &mut noop()));
            });
        }
    }

    #[test]
    fn waker_may_drop_the_other_half() {
        runs(|done| {
            let (mut reader, writer) = pair();
            let writer = Mutex::new(Some(writer));
            let waker = Arc::new(Inline(move || {
                drop(lock(&writer).take());
                let _ = done.send(());
            }));
            assert!(read(&mut reader, &mut Context::from_waker(&waker.into())));
        });
    }

    #[test]
    fn dropped_halves_keep_no_waker() {
        let (mut reader, mut writer) = pair();
        let counted = Arc::new(Inline(|| ()));
        let waker = Waker::from(Arc::clone(&counted));
        // Each poll wakes its own half, so the stream's own wake-ups do not register again.
        assert!(read(&mut reader, &mut Context::from_waker(&waker)));
        assert!(write(&mut writer, &mut Context::from_waker(&waker)));
        drop((waker, reader));
        drop(writer);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
