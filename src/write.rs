//! [`Write`]: the half that sends.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{future::poll_fn, sink::Sink};

use crate::{
    deadline::Deadline,
    error::{Error, Phase},
    frame::{CloseCode, Message},
    net::SocketWriter,
    prepared::PreparedFrame,
    session::closing::CloseFrames,
    shared::{Flags, Outgoing, Refusal, Sender, Shared, Stats},
    writer::{FrameWriter, Outlet},
};

/// The limit of [`Write::ping`] for its Pong.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The half of a connection that sends frames: a [`Sink`] of [`Message`]s that can be cloned.
///
/// Sending through it flushes: [`send`](Self::send), [`write`](Self::write), [`text`](Self::text). What was only
/// buffered by [`feed`](Self::feed) or [`try_feed`](Self::try_feed) is flushed by [`Read`](crate::Read) before
/// it waits for input, so that replies in a read loop batch by themselves. **Where nobody polls `Read`, nothing
/// flushes what was fed but [`flush`](futures::SinkExt::flush) itself.**
///
/// Each clone may stage one frame above [`write_buffer_len`](crate::WrapOptions::write_buffer_len). While one
/// clone's fragmented message is open, data frames of other clones wait for its end; Ping, Pong and Close pass.
///
/// The type parameter says where frames go to; as plain `Write` it is what [`connect`](crate::connect) gives.
///
/// # Cancel safety
///
/// A frame is accepted whole or not at all, and what is accepted goes out even when the future that sent it is
/// dropped. Before that, dropping the future sends nothing.
///
/// # Drop
///
/// Dropping the last `Write` sends nothing; [`Read`](crate::Read) goes on, and goes on answering. Dropping one in
/// the middle of its fragmented message fails the connection with [`Error::Abandoned`] for all. When both halves
/// are gone the transport is closed without a Close frame, and what was only fed is lost.
///
/// # Examples
///
/// ```
/// # use coro_websocket::{IoWrite, Message, SinkExt, Error};
/// # async fn example(mut write: IoWrite<Vec<u8>>) -> Result<(), Error> {
/// write.send(Message::text("hello")).await?;
/// let bytes_on_the_wire = write.binary(vec![1, 2, 3]).await?;
/// # let _ = bytes_on_the_wire;
/// write.close_with(1000, "done").await?;
/// # Ok(()) }
/// ```
pub struct Write<K: Outlet = FrameWriter<SocketWriter>> {
    shared: Arc<Shared<K>>,
    sender: Sender,
}

impl<K: Outlet> Write<K> {
    pub(crate) fn new(shared: Arc<Shared<K>>) -> Self {
        Self { sender: shared.add_writer(true), shared }
    }

    /// Returns the shared state of the connection, which lives as long as a half or this reference.
    pub(crate) fn shared(&self) -> &Arc<Shared<K>> {
        &self.shared
    }

    /// Sends one frame: resolves when the transport has it, whatever others have buffered behind it. The same as
    /// [`SinkExt::send`](futures::SinkExt::send), at the cost of one lock instead of three.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a frame that would break the protocol: nothing went out, the connection goes on.
    /// [`Error::Closed`], [`Error::Io`], [`Error::Abandoned`] when nothing can be sent any more. After the peer's Close
    /// has been read, the error is [`Error::Closed`] with that Close, even if the transport has failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the frame is accepted sends nothing; afterwards the frame goes out all the
    /// same, flushed by whoever polls a half next.
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let mut outgoing = Outgoing::from(message.into());
        poll_fn(move |cx| self.shared.poll_send(&mut self.sender, &mut outgoing, true, cx).map_ok(drop))
    }

    /// Sends one frame like [`send`](Self::send) and gives its length on the wire, header and key included; where it
    /// has to wait for the end of another clone's message, the length before it is compressed.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn write(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<usize, Error>> {
        let mut outgoing = Outgoing::from(message.into());
        poll_fn(move |cx| self.shared.poll_send(&mut self.sender, &mut outgoing, true, cx))
    }

    /// Buffers one frame, waiting only for room. The same as [`SinkExt::feed`](futures::SinkExt::feed), at the
    /// cost of one lock instead of two.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it resolves sends nothing.
    pub fn feed(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let mut outgoing = Outgoing::from(message.into());
        poll_fn(move |cx| self.shared.poll_send(&mut self.sender, &mut outgoing, false, cx).map_ok(drop))
    }

    /// Buffers one frame, or hands it back if that would have to wait. If the buffer is above its mark, the buffered
    /// bytes are offered to the transport first, once. Otherwise nothing is flushed. No task is woken when there is
    /// room again.
    ///
    /// # Errors
    ///
    /// [`TryFeedError::Full`] where the transport does not take enough to get below the mark, or while another
    /// clone's fragmented message is open;
    /// [`TryFeedError::Refused`] where [`send`](Self::send) would fail.
    pub fn try_feed(&mut self, message: impl Into<Message>) -> Result<(), TryFeedError> {
        let mut message = message.into();
        match self.shared.try_feed(&mut self.sender, &mut message) {
            Ok(()) => Ok(()),
            Err(Refusal::Full) => Err(TryFeedError::Full(message)),
            Err(Refusal::Error(error)) => Err(TryFeedError::Refused { message, error }),
        }
    }

    /// Sends a whole message of text. Gives its length on the wire.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn text(&mut self, text: impl Into<String>) -> impl Future<Output = Result<usize, Error>> {
        self.write(Message::text(text))
    }

    /// Sends a whole message of bytes. Gives its length on the wire.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn binary(&mut self, payload: impl Into<bytes::Bytes>) -> impl Future<Output = Result<usize, Error>> {
        self.write(Message::binary(payload))
    }

    /// The frame as this connection sends it, by whichever way: compressed, if others that agreed on the same had it
    /// compressed, or now. A message that the caller has compressed (`rsv1`) is returned unchanged.
    #[must_use]
    pub fn prepared(&self, frame: &PreparedFrame) -> Message {
        frame.message_for(self.shared.compressing.filter(|_| self.sender.compress))
    }

    /// Whether messages that this clone begins from now on are compressed, where compression was agreed on.
    /// Default: `true`, and in a new clone as in the one it was made of. Without effect where nothing was agreed
    /// on.
    ///
    /// Off for what is compressed already, and for secrets next to what a stranger has chosen
    /// (CRIME).
    pub fn set_compression(&mut self, enabled: bool) {
        self.sender.compress = enabled;
    }

    /// Sends a Ping with a payload of its own, 16 bytes, and waits for its Pong, at most 20 seconds. Returns the
    /// round-trip time.
    ///
    /// A Pong for a later Ping, also of a heartbeat or of the caller, counts too: a peer may answer only the latest of
    /// several ([RFC 6455 §5.5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3)). [`Read`](crate::Read) yields
    /// all Pongs but those for Pings of this method; with [`Checks::Off`](crate::Checks::Off) it yields these, too.
    ///
    /// **[`Read`](crate::Read) must be polled by another task meanwhile, because it reads the Pong. Awaited inside the
    /// read loop, this waits until the limit.** To send a Ping without waiting for its Pong, use
    /// `send(Message::ping(…))`.
    ///
    /// # Errors
    ///
    /// The same as [`send`](Self::send). [`Error::TimedOut`] with [`Phase::Call`] when no Pong was read in time: the
    /// connection goes on. [`Error::Closed`] when the peer's Close, or the end of the connection, comes before the
    /// Pong; [`Error::ReaderGone`] when `Read` was dropped before that.
    ///
    /// # Cancel safety
    ///
    /// The same as [`send`](Self::send). A Pong that arrives after the future was dropped is not yielded either.
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        self.ping_timeout(PING_TIMEOUT).await
    }

    /// Sends a Ping like [`ping`](Self::ping), with another limit from now to the Pong. `None`: no limit.
    ///
    /// # Errors
    ///
    /// The same as [`ping`](Self::ping).
    ///
    /// # Cancel safety
    ///
    /// The same as [`ping`](Self::ping).
    pub async fn ping_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> Result<Duration, Error> {
        let deadline = Deadline::after(timeout);
        deadline.within_phase(Phase::Call, pin!(self.ping_and_wait())).await
    }

    async fn ping_and_wait(&mut self) -> Result<Duration, Error> {
        let shared = Arc::clone(&self.shared);
        let gone = || match shared.closed() {
            Error::Closed(None) if shared.signals.has(Flags::READER_GONE) => Err(Error::ReaderGone),
            why => Err(why),
        };
        let ended = || shared.signals.look() & (Flags::READER_GONE | Flags::STOP) != 0;
        if ended() {
            return gone();
        }
        let mut pong = None;
        poll_fn(|cx| shared.poll_ping(&mut self.sender, &mut pong, cx)).await?;
        match pong {
            // Whoever ends the reading says so first and clears the pings then, so none is registered too late.
            Some(pong) if !ended() => pong.await.or_else(|_| gone()),
            _ => gone(),
        }
    }

    /// Sends a Pong that no Ping asked for, or that answers one where
    /// [`auto_pong`](crate::WrapOptions::auto_pong) is off. Gives its length on the wire.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn pong(&mut self, payload: impl Into<bytes::Bytes>) -> Result<usize, Error> {
        self.write(Message::pong(payload)).await
    }

    /// Starts the closing handshake ([RFC 6455 §7.1.2](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.2)):
    /// sends a Close frame and resolves when the transport has it. The peer's answer is read by
    /// [`Read`](crate::Read), until its end. Where a Close was sent already, nothing happens.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`Error::Invalid`] for a code that may not be sent or a reason above 123 bytes.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn close_with(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.send(Message::close(code, reason)).await
    }

    /// Ends the connection at once, without a Close frame: what is buffered is lost, the transport is dropped,
    /// [`Read`](crate::Read) gives its end. Doing it again changes nothing.
    pub fn abort(&mut self) {
        self.shared.abort();
    }

    /// How many bytes of frames wait for the transport.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.shared.buffered()
    }

    /// Whether nothing can be sent any more: a Close was sent, the connection failed, or it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.signals.has(Flags::CLOSED)
    }

    /// The Close frames that went both ways so far.
    #[must_use]
    pub fn close_frames(&self) -> CloseFrames {
        self.shared.close_frames()
    }

    /// How much went through the connection so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

impl<K: Outlet> Clone for Write<K> {
    /// Another writer of the same connection, with no fragmented message of its own begun.
    fn clone(&self) -> Self {
        Self { sender: self.shared.add_writer(self.sender.compress), shared: Arc::clone(&self.shared) }
    }
}

impl<K: Outlet> Drop for Write<K> {
    fn drop(&mut self) {
        self.shared.remove_writer(&self.sender);
    }
}

impl<K: Outlet> fmt::Debug for Write<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<K: Outlet> Sink<Message> for Write<K> {
    type Error = Error;

    /// Ready while the buffer is below its mark. Not a reservation: each clone may stage one frame above.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.shared.poll_ready(&mut this.sender, cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = &mut *self;
        this.shared.start_send(&mut this.sender, message).map(drop)
    }

    /// Resolves when the transport has every frame that this clone sent.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.shared.poll_flush(&mut this.sender, cx)
    }

    /// Sends an empty Close, unless a Close was sent, and resolves when the transport has it. Fails if a frame of this
    /// clone never went out because the connection ended before. With [`Checks::Off`](crate::Checks::Off) the
    /// transport's writing side is ended instead. No frame is accepted afterwards.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.shared.poll_close(&mut this.sender, cx)
    }
}

/// Why [`Write::try_feed`] did not take a frame. It is handed back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TryFeedError {
    /// The call would have to wait: the transport takes no more and the buffer is above its mark, or another clone's
    /// fragmented message is open.
    Full(Message),
    /// It may not be sent, or nothing can be sent any more.
    Refused {
        /// The frame.
        message: Message,
        /// Why.
        error: Error,
    },
}

impl TryFeedError {
    /// The frame that was not taken.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message) | Self::Refused { message, .. } => message,
        }
    }
}

impl fmt::Display for TryFeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("there is no room now"),
            Self::Refused { error, .. } => error.fmt(f),
        }
    }
}

impl std::error::Error for TryFeedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(_) => None,
            Self::Refused { error, .. } => Some(error),
        }
    }
}
