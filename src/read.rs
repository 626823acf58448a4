//! [`Read`]: the half that receives.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    future::poll_fn,
    stream::{FusedStream, Stream},
};

use crate::{
    clock::{self, Alarm},
    error::{Error, Phase},
    frame::{CloseCode, FrameView, Message, Opcode},
    messages::{Messages, Partial},
    net::{SocketReader, SocketWriter},
    options::{Checks, Role, Settings},
    reader::{FrameReader, Source},
    session::{closing::CloseFrames, timers},
    shared::{Flags, Shared, Stats, Stop},
    sync::{AtomicU64, Ordering},
    writer::{FrameWriter, Outlet},
};

/// How much of what a peer sends after the end of a connection is read and thrown away, so that unread bytes do
/// not make the transport throw away our Close frame.
const DRAIN_LEN: usize = 1 << 20;

/// The half of a connection that receives frames: a [`Stream`] of [`Message`]s, control frames included.
///
/// It answers Pings and the peer's Close, checks what comes, and flushes what [`Write`](crate::Write) has
/// buffered before it waits for input. **Pongs, heartbeats and deadlines are driven by polling it**, so keep it
/// polled: in a `while let Some(message) = read.next().await` loop, most often.
///
/// - After a Ping: the Pong is buffered, then the Ping is yielded.
/// - After a Close: the echo is sent, then the Close is yielded, then the stream ends.
/// - After our own Close: data is yielded and Pings are answered until the peer's Close.
/// - Before the end, a client waits until the server has ended the transport. A server that has sent Pings waits for
///   the client in the same way, because a Pong that meets a closed socket destroys data on its way. Both wait at most
///   for the close deadline.
/// - After a violation: the peer gets a Close frame that says so, then comes the error, then the end.
/// - When the transport ends without a Close frame from either side: [`Error::Lost`], then the end.
///
/// The type parameters say where frames come from and go to; as plain `Read` it is what
/// [`connect`](crate::connect) gives.
///
/// # Cancel safety
///
/// All state is in the half. Dropping any of its futures loses nothing.
///
/// # Drop
///
/// Without `Read` nobody answers Pings or the peer's Close, and nobody flushes what was only fed. Writing goes on.
///
/// # Examples
///
/// ```
/// # use coro_websocket::{Error, IoRead, IoWrite, StreamExt};
/// # async fn example(mut read: IoRead<&[u8], Vec<u8>>, mut write: IoWrite<Vec<u8>>) -> Result<(), Error> {
/// while let Some(message) = read.next().await {
///     let message = message?;
///     if message.is_data() {
///         write.feed(message).await?;
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Read<S: Source = FrameReader<SocketReader>, K: Outlet = FrameWriter<SocketWriter>> {
    /// `None` once the connection is over. In a box, since the future of an `async fn` that is given a `Read` has room
    /// for it twice.
    source: Option<Box<S>>,
    pub(crate) shared: Arc<Shared<K>>,
    stage: Stage,
    parked: bool,
    role: Role,
    raw: bool,
    strict: bool,
    auto_pong: bool,
    pub(crate) partial: Partial,
}

/// How far the connection is, seen from the reading side.
#[derive(Debug)]
enum Stage {
    /// Frames come in; also after our own Close.
    Open,
    /// The peer's Close is current; it is yielded when its echo is out.
    Echoing,
    /// Both Closes are through: the transport is to end.
    Ending { discarded: usize },
    /// The connection fails: our Close goes out and what comes in is thrown away, then the error is given.
    Failing { error: Error, discarded: usize, ended: bool },
    /// The end, or the error before it.
    Ended(Option<Error>),
}

impl<S: Source, K: Outlet> Read<S, K> {
    pub(crate) fn new(source: S, shared: Arc<Shared<K>>, settings: &Settings) -> Self {
        // The bytes that were received after the head of the opening handshake.
        shared.counts.bytes_in.store(source.received(), Ordering::Relaxed);
        Self {
            source: Some(Box::new(source)),
            shared,
            stage: Stage::Open,
            parked: false,
            role: settings.role,
            raw: settings.checks == Checks::Off,
            strict: settings.checks == Checks::Strict,
            auto_pong: settings.auto_pong,
            partial: Partial::new(settings),
        }
    }

    /// Waits for the next frame and lends it: no payload is copied, no reference counted. Otherwise the same as
    /// `next`.
    ///
    /// # Errors
    ///
    /// As the stream gives them: see [`Read`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro_websocket::{Error, IoRead};
    /// # async fn example(mut read: IoRead<&[u8], Vec<u8>>) -> Result<(), Error> {
    /// let mut bytes = 0;
    /// while let Some(frame) = read.frame().await {
    ///     bytes += frame?.payload.len();
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn frame(&mut self) -> Option<Result<FrameView<'_>, Error>> {
        match poll_fn(|cx| self.poll_frame(cx)).await? {
            Ok(()) => self.source.as_ref().map(|source| Ok(source.view())),
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits for the next frame, but not for longer than `timeout`. `Ok(None)` is the end.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] with [`Phase::Call`] when nothing came in time: nothing is lost, the next call goes on.
    /// Otherwise as the stream gives them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Message>, Error> {
        let deadline = clock::now().checked_add(timeout);
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll_message(cx) {
                return Poll::Ready(next.transpose());
            }
            let Some(deadline) = deadline else {
                return Poll::Pending;
            };
            ready!(alarm.poll_at(cx, deadline));
            // The first poll of a socket may only register a waker. Data that has arrived counts even after the
            // deadline.
            match self.poll_message(cx) {
                Poll::Ready(next) => Poll::Ready(next.transpose()),
                Poll::Pending => Poll::Ready(Err(Error::TimedOut(Phase::Call))),
            }
        })
        .await
    }

    /// Reads until the connection ends and throws all data away, for programs that only write. It answers Pings (unless
    /// `auto_pong` is off) and the peer's Close, sends heartbeats, and notices a dead peer. A writer alone cannot
    /// notice that, because the system accepts megabytes for a peer that is gone.
    ///
    /// Returns `Ok(())` after the closing handshake. After that, and after an error, every `send` fails. Violations
    /// that [`Checks::Report`](crate::Checks::Report) reports are thrown away as well.
    ///
    /// # Errors
    ///
    /// The same errors as the stream: [`Error::TimedOut`] with [`Phase::Heartbeat`] for a silent peer, [`Error::Lost`]
    /// for one that ended the transport without a Close.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses only the data that it has thrown away. [`messages`](Self::messages) then continues
    /// with the first message that begins afterwards.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use coro_websocket::{Error, Read, Write};
    /// use futures::future::try_join;
    ///
    /// # async fn example(mut read: Read, mut write: Write) -> Result<(), Error> {
    /// let writing = async {
    ///     for tick in 0.. {
    ///         write.text(format!("tick {tick}")).await?;
    ///         async_io::Timer::after(Duration::from_secs(1)).await;
    ///     }
    ///     Ok(())
    /// };
    /// // Ends with the first error of the two.
    /// try_join(writing, read.drive()).await?;
    /// # Ok(()) }
    /// ```
    pub async fn drive(&mut self) -> Result<(), Error> {
        loop {
            match poll_fn(|cx| self.poll_frame(cx)).await {
                Some(Ok(())) => {
                    if let Some(source) = &self.source {
                        let FrameView { opcode, fin, .. } = source.view();
                        self.partial.on_thrown_away(opcode, fin);
                    }
                }
                Some(Err(Error::Reported { error, frame })) => self.partial.on_reported(error, &frame),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    /// Whole messages instead of frames: fragments are joined, control frames are left out.
    ///
    /// With [`Checks::Off`](crate::Checks::Off) messages are not inflated, so a compressed message is an error here,
    /// and reading goes on. Its frames can be read from [`Read`] itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro_websocket::{Data, Error, IoRead, StreamExt};
    /// # async fn example(mut read: IoRead<&[u8], Vec<u8>>) -> Result<(), Error> {
    /// while let Some(data) = read.messages().next().await {
    ///     match data? {
    ///         Data::Text(text) => println!("{text}"),
    ///         Data::Binary(bytes) => println!("{} bytes", bytes.len()),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn messages(&mut self) -> Messages<'_, S, K> {
        Messages::new(self)
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

    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        Poll::Ready(match ready!(self.poll_frame(cx)) {
            Some(Ok(())) => self.source.as_mut().map(|source| Ok(source.take())),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        if std::mem::take(&mut self.parked) {
            self.shared.signals.clear(Flags::PARKED);
        }
        loop {
            match &mut self.stage {
                Stage::Open => {
                    if self.shared.signals.has(Flags::STOP) {
                        self.on_stop();
                        continue;
                    }
                    let Some(source) = &mut self.source else {
                        self.end(None);
                        continue;
                    };
                    match source.advance() {
                        Some(Ok(())) => {
                            if self.on_frame() {
                                return Poll::Ready(Some(Ok(())));
                            }
                        }
                        Some(Err(error @ Error::Reported { .. })) => return Poll::Ready(Some(Err(error))),
                        Some(Err(error)) => self.on_violation(error),
                        None => ready!(self.poll_fill(cx)),
                    }
                }
                Stage::Echoing => {
                    ready!(self.poll_flags(cx, Flags::CLOSE_FLUSHED | Flags::WRITE_FAILED | Flags::STOP));
                    self.stage = Stage::Ending { discarded: 0 };
                    return Poll::Ready(Some(Ok(())));
                }
                Stage::Ending { .. } => {
                    ready!(self.poll_ending(cx));
                    self.end(None);
                }
                Stage::Failing { .. } => {
                    let error = ready!(self.poll_failing(cx));
                    self.end(Some(error));
                }
                Stage::Ended(error) => return Poll::Ready(error.take().map(Err)),
            }
        }
    }

    /// Reads once; before that, what is buffered goes out, so that no reply waits for a peer that never pauses.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.signals.has(Flags::UNFLUSHED | Flags::WORK) {
            self.shared.pump();
        }
        let Some(source) = &mut self.source else {
            return Poll::Ready(());
        };
        // Checked before the read: only a read that begins after the deadline can tell that the peer is dead.
        let judging = self.shared.signals.has(Flags::SILENT);
        let mut filled = source.poll_fill(cx);
        if judging && filled.is_pending() {
            // The first poll of a socket may only register a waker.
            filled = source.poll_fill(cx);
        }
        match filled {
            Poll::Ready(Ok(true)) => self.shared.counts.bytes_in.store(source.received(), Ordering::Relaxed),
            Poll::Ready(Ok(false)) => self.on_eof(),
            Poll::Ready(Err(error)) => self.on_lost(error),
            Poll::Pending => {
                let received = source.received();
                add(&self.shared.counts.looks, 1);
                if judging && self.shared.is_silent(received) {
                    self.on_silence();
                } else if self.park(cx) & (Flags::STOP | Flags::SILENT) == 0 {
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// About to wait: from now on whoever buffers something wakes this task. Gives the flags.
    fn park(&mut self, cx: &Context<'_>) -> u32 {
        self.parked = true;
        let flags = self.shared.signals.park_read(cx.waker());
        if flags & (Flags::UNFLUSHED | Flags::WORK) == 0 {
            return flags;
        }
        self.shared.pump();
        self.shared.signals.look()
    }

    /// Waits until one of the flags is up, flushing meanwhile.
    fn poll_flags(&mut self, cx: &Context<'_>, flags: u32) -> Poll<()> {
        self.parked = true;
        self.shared.signals.park_read(cx.waker());
        self.shared.pump();
        if self.shared.signals.look() & flags == 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    /// A frame is current. Says whether it is to be yielded now.
    #[inline]
    fn on_frame(&mut self) -> bool {
        let Some(source) = &self.source else { return false };
        let frame = source.view();
        add(&self.shared.counts.frames_in, 1);
        add(&self.shared.counts.payload_in, frame.payload.len() as u64);
        if !frame.opcode.is_control() {
            return true;
        }
        let is_awaited = frame.opcode == Opcode::PONG
            && !self.shared.pings.is_empty()
            && self.shared.pings.on_pong(frame.payload, clock::now());
        if self.raw {
            return true;
        }
        if is_awaited {
            // `Write::ping` returns the round-trip time instead.
            return false;
        }
        if let Some(position) = timers::parse_mark(frame.payload)
            && frame.opcode == Opcode::PONG
        {
            self.shared.counts.answered.fetch_max(position, Ordering::Relaxed);
        }
        match frame.opcode {
            Opcode::PING if self.auto_pong => {
                self.shared.post_pong(Bytes::copy_from_slice(frame.payload));
            }
            Opcode::CLOSE => {
                let close = frame.to_message();
                let received = close.as_close().ok().flatten();
                if self.shared.signals.has(Flags::CLOSING) {
                    self.shared.on_close_received(received, None);
                    self.stage = Stage::Ending { discarded: 0 };
                } else {
                    // §5.5.1: "If an endpoint receives a Close frame and did not previously send a Close frame,
                    // the endpoint MUST send a Close frame in response."
                    self.shared.on_close_received(received, Some(close));
                    self.stage = Stage::Echoing;
                    return false;
                }
            }
            _ => {}
        }
        true
    }

    /// Ends the connection before anything is read or written: the first poll of either half returns this error.
    pub(crate) fn refuse(&mut self, why: Error) {
        self.shared.refuse(why.clone());
        self.stage = Stage::Ended(Some(why));
        self.source = None;
    }

    /// The peer broke the protocol.
    fn on_violation(&mut self, error: Error) {
        match &error {
            // §7.1.7: "the endpoint SHOULD send a Close frame with an appropriate status code"
            Error::Protocol { error: rule, .. } if self.strict => {
                self.shared.post_close(Message::close(CloseCode::from(*rule), &rule.to_string()));
                self.fail(error);
            }
            // A peer that knows the limit can send smaller messages.
            Error::Limit { error: limit, text } if self.strict => {
                self.shared.post_close(Message::close(CloseCode::from(*limit), text));
                self.fail(error);
            }
            _ => self.end(Some(error)),
        }
    }

    fn fail(&mut self, error: Error) {
        self.shared.post_shut();
        self.stage = Stage::Failing { error, discarded: 0, ended: false };
    }

    /// The other half, or a deadline, says that it is over.
    fn on_stop(&mut self) {
        match self.shared.take_stop() {
            Some(Stop::Failed(error)) => self.fail(error),
            Some(Stop::Quiet) => self.end(None),
            None => {}
        }
    }

    /// The transport has ended. After our own Close, and for those who check nothing, that is no error.
    fn on_eof(&mut self) {
        let torn = self.source.as_ref().is_some_and(|source| source.is_torn());
        let expected = if self.raw { !torn } else { self.shared.signals.has(Flags::CLOSING) };
        let error = (!expected).then(|| self.shared.write_error().unwrap_or(Error::Lost));
        self.end(error);
    }

    /// The transport has failed. Whoever closes may see its peer reset the connection.
    fn on_lost(&mut self, error: Error) {
        let expected = !self.raw && self.shared.signals.has(Flags::CLOSING);
        self.end(Some(error).filter(|_| !expected));
    }

    /// The peer is dead. It is told so, but that is not awaited.
    fn on_silence(&mut self) {
        self.shared.post_close(Message::close(CloseCode::INTERNAL_ERROR, "heartbeat timeout"));
        self.shared.pump();
        // If writing failed, no Ping may have reached the peer, so the write error is reported.
        let error = self.shared.write_error().unwrap_or(Error::TimedOut(Phase::Heartbeat));
        self.end(Some(error));
    }

    /// Ends the transport after both Closes. §7.1.1: "the server MUST close the TCP connection first", for which the
    /// client waits. A server that has sent Pings waits for the client to close, too: the client answers them until it
    /// has received our Close, and a closed socket would answer such a Pong with a reset, which discards data and a
    /// Close in flight.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.role == Role::Client {
            ready!(self.poll_peer_end(cx));
        }
        self.shared.post_shut();
        ready!(self.poll_flags(cx, Flags::SHUT | Flags::WRITE_FAILED | Flags::STOP));
        if self.role == Role::Server && self.shared.signals.has(Flags::PINGED) {
            ready!(self.poll_peer_end(cx));
        }
        Poll::Ready(())
    }

    /// Waits until the peer has ended the transport, or until its time is up.
    fn poll_peer_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Stage::Ending { discarded } = &mut self.stage else {
                return Poll::Ready(());
            };
            let Some(source) = &mut self.source else {
                return Poll::Ready(());
            };
            if *discarded >= DRAIN_LEN {
                return Poll::Ready(());
            }
            match source.poll_discard(cx) {
                Poll::Ready(0) => {
                    *discarded = DRAIN_LEN;
                    return Poll::Ready(());
                }
                Poll::Ready(count) => {
                    *discarded += count;
                    self.shared.counts.bytes_in.store(source.received(), Ordering::Relaxed);
                }
                Poll::Pending => return self.poll_flags(cx, Flags::STOP),
            }
        }
    }

    /// Our Close goes out and the writing side is shut, while what comes in is thrown away, up to its end, the
    /// close deadline, or a limit.
    fn poll_failing(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let flushed = self.poll_flags(cx, Flags::SHUT | Flags::WRITE_FAILED | Flags::STOP).is_ready();
        let stopped = self.shared.signals.has(Flags::STOP);
        let Stage::Failing { error, discarded, ended } = &mut self.stage else {
            return Poll::Ready(Error::Closed(None));
        };
        while let Some(source) = &mut self.source
            && !*ended
            && !stopped
        {
            match source.poll_discard(cx) {
                Poll::Ready(0) => *ended = true,
                Poll::Ready(count) => {
                    *discarded += count;
                    *ended = *discarded >= DRAIN_LEN;
                    self.shared.counts.bytes_in.store(source.received(), Ordering::Relaxed);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if flushed { Poll::Ready(error.clone()) } else { Poll::Pending }
    }

    /// The end, after an error if there is one. The transport is let go.
    fn end(&mut self, error: Option<Error>) {
        self.stage = Stage::Ended(error);
        self.source = None;
        if self.raw {
            // A relay may still have to write frames that it has read. From now on, `Write::ping` fails.
            self.shared.signals.raise(Flags::STOP);
            self.shared.pings.clear();
        } else {
            self.shared.post_end();
        }
    }
}

/// Adds to a count. Only `Read` does so, so no read-modify-write is needed.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl<S: Source, K: Outlet> Stream for Read<S, K> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl<S: Source, K: Outlet> FusedStream for Read<S, K> {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Ended(None))
    }
}

impl<S: Source, K: Outlet> Drop for Read<S, K> {
    fn drop(&mut self) {
        self.shared.signals.raise(Flags::READER_GONE);
        self.shared.signals.forget_read();
        self.shared.pings.clear();
    }
}

impl<S: Source, K: Outlet> fmt::Debug for Read<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("ended", &self.is_terminated()).finish_non_exhaustive()
    }
}
