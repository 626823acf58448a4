//! [`wrap_io`] and [`wrap_frames`]: halves around transports that the caller has.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    io::{AsyncRead, AsyncWrite},
    sink::Sink,
    stream::Stream,
};

use crate::{
    error::{Error, ProtocolError},
    frame::{FrameView, Message, header::Header},
    options::{Checks, Settings, WrapOptions},
    read::Read,
    reader::{self, FrameReader, Source},
    session::Inbound,
    shared::Shared,
    sync::drop_all,
    write::Write,
    writer::{self, FrameWriter, Outlet, Progress},
};

/// The reading half over byte transports `R` and `W`.
pub type IoRead<R, W> = Read<FrameReader<R>, FrameWriter<W>>;

/// The writing half over a byte transport `W`.
pub type IoWrite<W> = Write<FrameWriter<W>>;

/// The reading half over a stream `S` and a sink `K` of decoded frames.
pub type FrameStreamRead<S, K> = Read<FrameStream<S>, FrameSink<K>>;

/// The writing half over a sink `K` of decoded frames.
pub type FrameSinkWrite<K> = Write<FrameSink<K>>;

/// Makes a WebSocket connection of the two halves of a byte transport whose opening handshake is done, or needs
/// none. A plain function: nothing is read or written yet, and no runtime is needed.
///
/// The halves of the transport may be polled from two tasks at once. What only one task may poll, such as a TLS
/// stream that was naively split, must be made safe for that first.
///
/// With unusable options (a heartbeat whose interval or limit is zero) the connection has ended at once: the transport
/// is dropped without being polled, the reader returns [`Error::Options`] and then ends, and every `send` returns that
/// error.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use coro_websocket::{StreamExt, WrapOptions, wrap_io};
///
/// let received: &[u8] = &[0x81, 0x02, b'h', b'i', 0x88, 0x02, 0x03, 0xe8];
/// let sent = Vec::new();
/// let (mut read, mut write) = wrap_io(received, sent, WrapOptions::client());
/// write.text("hello").await?;
/// assert_eq!(read.next().await.unwrap()?.as_text(), Some("hi"));
/// let close = read.next().await.unwrap()?.as_close().unwrap().unwrap();
/// assert_eq!(close.code.number(), 1000);
/// assert!(read.next().await.is_none());
/// # Ok::<_, coro_websocket::Error>(()) }).unwrap();
/// ```
pub fn wrap_io<R, W>(read: R, write: W, options: WrapOptions) -> (IoRead<R, W>, IoWrite<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    assemble(read, Vec::new(), write, &options.settings)
}

/// The halves of a connection whose opening handshake has just been done; `leftover` came behind its head.
pub(crate) fn assemble<R, W>(
    read: R,
    leftover: Vec<u8>,
    write: W,
    settings: &Settings,
) -> (IoRead<R, W>, IoWrite<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let source = FrameReader::with_leftover(read, settings, &leftover);
    halves(source, FrameWriter::with_settings(write, settings), settings)
}

fn halves<S: Source, K: Outlet>(source: S, outlet: K, settings: &Settings) -> (Read<S, K>, Write<K>) {
    let shared = Shared::new(outlet, settings);
    let write = Write::new(Arc::clone(&shared));
    let mut read = Read::new(source, shared, settings);
    if let Err(why) = settings.check_heartbeat() {
        read.refuse(why);
    }
    (read, write)
}

/// Makes a WebSocket connection of channels that carry decoded frames already, as luvit's `wrapIo` does. Frames
/// are never encoded, and their payloads never touched: what goes into the sink has `mask` and `len` set as they
/// would be on the wire, what comes from the stream is taken as it is, whatever its `mask` says.
///
/// Pings and Close frames are answered, fragments, text and limits checked, heartbeats sent, as over bytes. Frames are
/// not compressed or inflated. Unusable options are treated as in [`wrap_io`].
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use coro_websocket::{Error, Message, SinkExt, StreamExt, WrapOptions, wrap_frames};
/// use futures::channel::mpsc;
///
/// let (near_sink, far_stream) = mpsc::channel(8);
/// let (far_sink, near_stream) = mpsc::channel(8);
/// let ok = |message| Ok::<Message, Error>(message);
/// let (_near_read, mut near) = wrap_frames(near_stream.map(ok), near_sink, WrapOptions::client());
/// let (mut far, _far_write) = wrap_frames(far_stream.map(ok), far_sink, WrapOptions::server());
/// near.text("hello").await?;
/// assert_eq!(far.next().await.unwrap()?.as_text(), Some("hello"));
/// # Ok::<_, coro_websocket::Error>(()) }).unwrap();
/// ```
pub fn wrap_frames<S, E, K>(
    stream: S,
    sink: K,
    options: WrapOptions,
) -> (FrameStreamRead<S, K>, FrameSinkWrite<K>)
where
    S: Stream<Item = Result<Message, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    K: Sink<Message> + Unpin,
    K::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let settings = &Settings { deflate: None, ..options.settings };
    let source = FrameStream {
        stream,
        rules: Inbound::decoded(settings),
        staged: None,
        current: Message::default(),
        received: 0,
        ended: false,
    };
    let mask = (settings.checks != Checks::Off).then_some(settings.masks());
    let outlet = FrameSink { sink, queue: VecDeque::new(), buffered: 0, progress: Progress::default(), mask };
    halves(source, outlet, settings)
}

fn transport(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Transport(error.into().into())
}

fn wire_len(message: &Message) -> usize {
    Header::of(message, message.mask.then_some([0; 4])).wire_len() + message.payload.len()
}

/// A stream of decoded frames as the source of a [`Read`]; see [`wrap_frames`].
pub struct FrameStream<S> {
    stream: S,
    rules: Inbound,
    staged: Option<Message>,
    current: Message,
    received: u64,
    ended: bool,
}

impl<S> FrameStream<S> {
    fn check(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let header = Header::of(message, None);
        self.rules.on_header(&header, header.wire_len())?;
        self.rules.on_payload(&header, &message.payload)?;
        self.rules.on_end(&header, &message.payload)
    }
}

impl<S, E> Source for FrameStream<S>
where
    S: Stream<Item = Result<Message, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
}

impl<S, E> reader::sealed::Source for FrameStream<S>
where
    S: Stream<Item = Result<Message, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn advance(&mut self) -> Option<Result<(), Error>> {
        let message = self.staged.take().filter(|_| !self.ended)?;
        Some(match self.check(&message) {
            Ok(()) => {
                if let Some(error) = self.rules.take_reported() {
                    return Some(Err(Error::Reported { error, frame: message.into() }));
                }
                self.current = message;
                Ok(())
            }
            Err(error) => {
                self.ended = true;
                Err(self.rules.refuse(error, &Header::of(&message, None), &message.payload))
            }
        })
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => {
                self.received += wire_len(&message) as u64;
                self.staged = Some(message);
                Ok(true)
            }
            Some(Err(error)) => {
                self.ended = true;
                Err(transport(error))
            }
            None => Ok(false),
        })
    }

    fn view(&self) -> FrameView<'_> {
        FrameView::from(&self.current)
    }

    fn take(&mut self) -> Message {
        std::mem::take(&mut self.current)
    }

    fn is_torn(&self) -> bool {
        false
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.staged = None;
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => {
                let len = wire_len(&message);
                self.received += len as u64;
                len
            }
            _ => 0,
        })
    }

    fn received(&self) -> u64 {
        self.received
    }
}

impl<S> fmt::Debug for FrameStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameStream").finish_non_exhaustive()
    }
}

/// A sink of frames as the outlet of a [`Write`]; see [`wrap_frames`].
pub struct FrameSink<K> {
    sink: K,
    queue: VecDeque<Message>,
    /// What the frames in the queue would have on the wire.
    buffered: usize,
    progress: Progress,
    /// The mask bit that frames get; `None` where they keep their own.
    mask: Option<bool>,
}

impl<K> FrameSink<K>
where
    K: Sink<Message> + Unpin,
    K::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Hands frames over until the sink has taken everything before `target`.
    fn poll_drain_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>> {
        while self.progress.accepted - (self.buffered as u64) < target && !self.queue.is_empty() {
            ready!(Pin::new(&mut self.sink).poll_ready(cx)).map_err(transport)?;
            let Some(message) = self.queue.pop_front() else { break };
            self.buffered -= wire_len(&message);
            Pin::new(&mut self.sink).start_send(message).map_err(transport)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<K> Outlet for FrameSink<K>
where
    K: Sink<Message> + Unpin,
    K::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
}

impl<K> writer::sealed::Outlet for FrameSink<K>
where
    K: Sink<Message> + Unpin,
    K::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn push(&mut self, message: &mut Message) -> Result<usize, Error> {
        let mut message = std::mem::take(message);
        message.mask = self.mask.unwrap_or(message.mask);
        message.len = message.payload.len() as u64;
        let wire_len = wire_len(&message);
        self.queue.push_back(message);
        self.buffered += wire_len;
        self.progress.accepted += wire_len as u64;
        Ok(wire_len)
    }

    fn buffered(&self) -> usize {
        self.buffered
    }

    fn accepted(&self) -> u64 {
        self.progress.accepted
    }

    fn flushed(&self) -> u64 {
        self.progress.flushed
    }

    fn poll_flush_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>> {
        while self.progress.flushed < target {
            let drained = self.poll_drain_to(cx, target)?;
            let written = self.progress.accepted - self.buffered as u64;
            if self.progress.flushed == written {
                return drained.map(Ok);
            }
            // As in `FrameWriter`: what the sink has taken is flushed, then it is asked again for more.
            ready!(Pin::new(&mut self.sink).poll_flush(cx)).map_err(transport)?;
            self.progress.flushed = written;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sink).poll_close(cx).map_err(transport)
    }
}

impl<K> Drop for FrameSink<K> {
    /// Drops the unsent frames. A destructor that panics does not keep the others from running.
    fn drop(&mut self) {
        drop_all(std::mem::take(&mut self.queue));
    }
}

impl<K> fmt::Debug for FrameSink<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSink").finish_non_exhaustive()
    }
}
