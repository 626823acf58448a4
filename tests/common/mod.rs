//! Transports for tests: in memory, bounded, and as awkward as a network may be.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

pub mod drive;
pub mod fault;
pub mod wire;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use coro_websocket::{Error, IoRead, IoWrite, Message, ProtocolError, Role, StreamExt, WrapOptions, wrap_io};
use futures::{
    future::poll_fn,
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
};

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The reading end of a [`pipe`].
pub struct PipeReader {
    pipe: Arc<Mutex<Pipe>>,
    portion: usize,
}

/// The writing end of a [`pipe`].
pub struct PipeWriter(Arc<Mutex<Pipe>>);

/// Bytes from one end to the other, of which `capacity` fit in between.
pub fn pipe(capacity: usize) -> (PipeWriter, PipeReader) {
    let pipe = Arc::new(Mutex::new(Pipe { capacity, ..Pipe::default() }));
    (PipeWriter(Arc::clone(&pipe)), PipeReader { pipe, portion: usize::MAX })
}

/// Two ends of a transport, each a reader and a writer.
pub fn duplex(capacity: usize) -> ((PipeReader, PipeWriter), (PipeReader, PipeWriter)) {
    let (left_write, right_read) = pipe(capacity);
    let (right_write, left_read) = pipe(capacity);
    ((left_read, left_write), (right_read, right_write))
}

pub type PipeRead = IoRead<PipeReader, PipeWriter>;
pub type PipeWrite = IoWrite<PipeWriter>;

/// A client and a server, connected.
pub fn connected(
    capacity: usize,
    client: WrapOptions,
    server: WrapOptions,
) -> ((PipeRead, PipeWrite), (PipeRead, PipeWrite)) {
    let ((client_in, client_out), (server_in, server_out)) = duplex(capacity);
    (wrap_io(client_in, client_out, client), wrap_io(server_in, server_out, server))
}

/// The other end of a connection, as bytes: what we sent, and what we are to receive.
pub struct Far {
    pub input: PipeReader,
    pub output: PipeWriter,
}

/// The halves of one role, and the bytes at the other end of them.
pub fn alone(capacity: usize, options: WrapOptions) -> ((PipeRead, PipeWrite), Far) {
    let ((read, write), (input, output)) = duplex(capacity);
    (wrap_io(read, write, options), Far { input, output })
}

impl Far {
    /// Sends bytes to our reader.
    pub fn put(&mut self, bytes: &[u8]) {
        self.output.put(bytes);
    }

    /// Lets more bytes fit into what our writer writes to.
    pub fn grow(&mut self, more: usize) {
        let mut pipe = self.input.pipe.lock().unwrap();
        pipe.capacity += more;
        let waker = pipe.writer.take();
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The whole frames that our writer has put into the transport since the last call.
    pub fn frames(&mut self) -> Vec<wire::Frame> {
        wire::frames(&self.input.take_all())
    }
}

/// How a connection failed.
#[derive(Debug)]
pub struct Failed {
    pub yielded: Vec<Message>,
    pub error: ProtocolError,
    /// The status code that the peer was told.
    pub code: u16,
    /// What was sent before the Close frame.
    pub sent: Vec<wire::Frame>,
}

/// Reads these bytes from a peer that then waits, up to the violation that must be in them. It is to be told so by
/// one Close frame, which is the last frame and is there before the error is given; then comes the end.
pub fn fail(role: Role, options: WrapOptions, bytes: &[u8]) -> Failed {
    let ((mut read, mut write), mut far) = alone(1 << 20, options);
    far.put(bytes);
    let mut yielded = Vec::new();
    let mut next = || {
        let mut reading = read.next();
        drive::settle(&mut reading)
    };
    let mut pending = false;
    while !pending {
        match next() {
            Poll::Ready(Some(Ok(message))) => yielded.push(message),
            Poll::Ready(other) => panic!("{other:?} before the peer has ended"),
            Poll::Pending => pending = true,
        }
    }
    assert!(far.input.is_ended(), "the transport is shut behind the Close frame");
    let mut sent = far.frames();
    let code = sent.pop().expect("the peer is told").close_code();
    assert!(sent.iter().all(|frame| frame.first != wire::CLOSE), "and told once");
    assert!(sent.iter().all(|frame| frame.key.is_some() == (role == Role::Client)));
    drop(far);
    let Poll::Ready(Some(Err(Error::Protocol { error, .. } | Error::Limit { error, .. }))) = next() else {
        panic!("no violation was found")
    };
    assert!(matches!(next(), Poll::Ready(None)), "then the end");
    assert!(write.is_closed() && drive::drive(write.text("late")).is_err());
    Failed { yielded, error, code, sent }
}

impl PipeReader {
    /// Gives so many bytes at a time at most.
    pub fn by(mut self, portion: usize) -> Self {
        self.portion = portion;
        self
    }

    /// At most `len` bytes of what is in the pipe now.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut pipe = self.pipe.lock().unwrap();
        let len = len.min(pipe.bytes.len());
        let bytes = pipe.bytes.drain(..len).collect();
        let waker = pipe.writer.take();
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
        bytes
    }

    /// Everything that is in the pipe now.
    pub fn take_all(&mut self) -> Vec<u8> {
        let mut pipe = self.pipe.lock().unwrap();
        let bytes = pipe.bytes.drain(..).collect();
        let waker = pipe.writer.take();
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
        bytes
    }

    pub fn is_ended(&self) -> bool {
        self.pipe.lock().unwrap().ended
    }
}

impl PipeWriter {
    /// Puts bytes into the pipe, whatever its capacity.
    pub fn put(&mut self, bytes: &[u8]) {
        let mut pipe = self.0.lock().unwrap();
        pipe.bytes.extend(bytes);
        let waker = pipe.reader.take();
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.lock().unwrap();
        if pipe.bytes.is_empty() {
            if pipe.ended {
                return Poll::Ready(Ok(0));
            }
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buf.len().min(pipe.bytes.len()).min(self.portion);
        for (place, byte) in buf.iter_mut().zip(pipe.bytes.drain(..count)) {
            *place = byte;
        }
        let waker = pipe.writer.take();
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.lock().unwrap();
        if pipe.reader_gone || pipe.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = buf.len().min(pipe.capacity.saturating_sub(pipe.bytes.len()));
        if count == 0 && !buf.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes.extend(&buf[..count]);
        let waker = pipe.reader.take();
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().end();
        Poll::Ready(Ok(()))
    }
}

impl Pipe {
    fn end(&mut self) {
        self.ended = true;
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.lock().unwrap().end();
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut pipe = self.pipe.lock().unwrap();
        pipe.reader_gone = true;
        if let Some(waker) = pipe.writer.take() {
            waker.wake();
        }
    }
}

/// A transport that gives and takes one byte at a time, and has to be asked twice for each.
pub struct Trickle<T> {
    pub io: T,
    asked: bool,
}

impl<T> Trickle<T> {
    pub fn new(io: T) -> Self {
        Self { io, asked: false }
    }

    fn ask(&mut self, cx: &Context<'_>) -> bool {
        self.asked = !self.asked;
        if self.asked {
            cx.waker().wake_by_ref();
        }
        !self.asked
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Trickle<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.ask(cx) {
            return Poll::Pending;
        }
        let len = buf.len().min(1);
        Pin::new(&mut self.io).poll_read(cx, &mut buf[..len])
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Trickle<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.ask(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ask(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ask(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub struct Count(pub AtomicUsize);

impl Count {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Reads until the other end closes.
pub async fn read_to_end(reader: &mut PipeReader) -> String {
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the blank line after a head.
pub async fn read_head(reader: &mut PipeReader) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(reader.read(&mut byte).await, Ok(1)) {
        bytes.extend(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes all of it; the other end may be gone.
pub async fn write(writer: &mut PipeWriter, bytes: impl AsRef<[u8]>) {
    let _ = writer.write_all(bytes.as_ref()).await;
}

/// Lets the other futures of a task go on first.
pub async fn yield_now() {
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
