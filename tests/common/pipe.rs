//! Byte transports in memory for the opening handshake, and what their far end does.
#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A pipe: what is written at one end is read at the other.
pub(crate) fn pipe() -> (Reader, Writer) {
    let shared = Arc::<Mutex<Shared>>::default();
    (Reader { shared: shared.clone(), portion: usize::MAX }, Writer { shared })
}

/// Two ends that talk to each other, each with a reader and a writer.
pub(crate) fn duplex() -> ((Reader, Writer), (Reader, Writer)) {
    let ((to_left, from_right), (to_right, from_left)) = (pipe(), pipe());
    ((to_left, from_left), (to_right, from_right))
}

#[derive(Default)]
struct Shared {
    bytes: VecDeque<u8>,
    closed: bool,
    reader_gone: bool,
    waker: Option<Waker>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of a pipe to read from.
pub(crate) struct Reader {
    shared: Arc<Mutex<Shared>>,
    portion: usize,
}

impl Reader {
    /// Gives so many bytes at a time at most.
    pub(crate) fn by(mut self, portion: usize) -> Self {
        self.portion = portion;
        self
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        let len = shared.bytes.len().min(buf.len()).min(self.portion);
        if len == 0 && !shared.closed {
            shared.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buf.iter_mut().zip(shared.bytes.drain(..len)).for_each(|(to, from)| *to = from);
        Poll::Ready(Ok(len))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.shared).reader_gone = true;
    }
}

/// The end of a pipe to write to. Dropped, it is closed.
pub(crate) struct Writer {
    shared: Arc<Mutex<Shared>>,
}

impl Writer {
    fn end(&self) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        shared.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        if shared.closed || shared.reader_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        shared.bytes.extend(bytes);
        shared.waker.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads until the other end closes.
pub(crate) async fn read_to_end(reader: &mut Reader) -> String {
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the blank line after a head.
pub(crate) async fn read_head(reader: &mut Reader) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(reader.read(&mut byte).await, Ok(1)) {
        bytes.extend(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes all of it; the other end may be gone.
pub(crate) async fn write(writer: &mut Writer, bytes: impl AsRef<[u8]>) {
    let _ = writer.write_all(bytes.as_ref()).await;
}

/// Lets the other futures of a task go on first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
