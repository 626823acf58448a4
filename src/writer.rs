//! [`FrameWriter`]: frames into a byte transport, under the rules for what goes out.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{future::poll_fn, io::AsyncWrite, sink::Sink};

use crate::{
    deflate::{Deflater, Sending},
    entropy,
    error::Error,
    frame::{
        Message, Opcode,
        encode::{self, Queue, SLICES},
        explain::refuse,
        header::Header,
    },
    options::{Checks, Settings, WrapOptions},
    session::Outbound,
};

/// Where [`Write`](crate::Write) puts its frames. Sealed: implemented by [`FrameWriter`] and by what
/// [`wrap_frames`](crate::wrap_frames) makes of a sink.
pub trait Outlet: sealed::Outlet {}

pub(crate) mod sealed {
    use super::{Bytes, Context, Error, Message, Poll};

    #[expect(unnameable_types, reason = "sealed: nobody else implements it")]
    pub trait Outlet: Unpin {
        /// Accepts one frame, whole, whatever it says. Gives its length on the wire. What is left of the message has
        /// no meaning; it is dropped by the caller, outside locks.
        fn push(&mut self, message: &mut Message) -> Result<usize, Error>;

        /// Accepts one frame like [`push`](Self::push), says how long it is, and hands everything to the transport.
        fn poll_send(
            &mut self,
            cx: &mut Context<'_>,
            message: &mut Message,
            wire_len: &mut Option<usize>,
        ) -> Poll<Result<(), Error>> {
            *wire_len = Some(self.push(message)?);
            let target = self.accepted();
            self.poll_flush_to(cx, target)
        }

        /// How many bytes of frames wait for the transport.
        fn buffered(&self) -> usize;

        /// How many bytes of frames have been accepted in all.
        fn accepted(&self) -> u64;

        /// How many of those the transport has taken and flushed.
        fn flushed(&self) -> u64;

        /// Hands everything accepted before `target` to the transport and flushes that.
        fn poll_flush_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>>;

        /// Returns whether written or compressed payloads must be dropped outside of locks.
        fn has_spent(&self) -> bool {
            false
        }

        /// Returns these payloads.
        fn take_spent(&mut self) -> Vec<Bytes> {
            Vec::new()
        }

        /// Whether messages that begin from now on may be compressed.
        fn set_compression(&mut self, _enabled: bool) {}

        /// Ends the transport's writing side. Everything has been flushed before.
        fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    }
}

/// The result, made anew where all is well: to move it with its room for an error, of which next to nothing has been
/// written, makes the processor wait for its own stores.
#[inline(always)]
fn plainly(sent: Poll<Result<(), Error>>) -> Poll<Result<(), Error>> {
    if let Poll::Ready(Ok(())) = sent { Poll::Ready(Ok(())) } else { sent }
}

/// How far the bytes of all frames have come, counted from the first.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) accepted: u64,
    pub(crate) flushed: u64,
}

/// Writes frames to a byte transport: a [`Sink`] of [`Message`]s that checks and masks them.
///
/// It is what [`wrap_io`](crate::wrap_io) puts under [`Write`](crate::Write), and can be used alone. Nothing is
/// written but by polling it; `send` flushes, `feed` only buffers. Closing the sink ends the transport's writing
/// side and sends no Close frame.
///
/// # Cancel safety
///
/// A frame is accepted whole or not at all, and then stays accepted. Dropping any future never tears a frame.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use coro_websocket::{FrameWriter, Message, SinkExt, WrapOptions};
///
/// let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server());
/// writer.send(Message::text("hi")).await?;
/// assert_eq!(writer.into_inner(), [0x81, 0x02, b'h', b'i']);
/// # Ok::<_, coro_websocket::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    queue: Queue,
    progress: Progress,
    /// The state of a writer without [`Write`](crate::Write). Below `Write`, each clone has its own.
    alone: Option<Box<Alone>>,
    mask: MaskBy,
    deflater: Option<Box<Deflater>>,
    high_water: usize,
}

/// The state of a writer that is used without [`Write`](crate::Write).
#[derive(Debug)]
struct Alone {
    rules: Outbound,
    end: End,
}

impl Alone {
    /// Fails if this frame must not go out now. With `MaskBy::Frame` frames are not checked.
    #[inline]
    fn check(&mut self, message: &Message, mask: MaskBy) -> Result<(), Error> {
        if self.end != End::Open || message.opcode == Opcode::CLOSE {
            return self.check_other(message, mask);
        }
        self.rules.on_message(message).map_err(|error| refuse(error, message))
    }

    /// Checks a Close frame, or any frame after the end.
    #[cold]
    fn check_other(&mut self, message: &Message, mask: MaskBy) -> Result<(), Error> {
        match self.end {
            End::Open => {}
            // §5.5.1: "The application MUST NOT send any more data frames after sending a Close frame."
            End::Said if !message.opcode.is_data() => {}
            _ => return Err(Error::Closed(None)),
        }
        self.rules.on_message(message).map_err(|error| refuse(error, message))?;
        if message.opcode == Opcode::CLOSE && matches!(mask, MaskBy::Role(_)) {
            self.end = End::Said;
        }
        Ok(())
    }
}

/// The progress of ending the writing side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Frames are accepted.
    Open,
    /// A Close frame was accepted: no data may follow it.
    Said,
    /// No frame is accepted any more; accepted frames still go out.
    Closing,
    /// The transport's writing side has been ended.
    Closed,
}

/// What decides whether a frame is masked.
#[derive(Debug, Clone, Copy)]
enum MaskBy {
    Role(bool),
    Frame,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer for the given role: a client masks its frames, a server does not. Heartbeat, deadlines and other
    /// options for receiving have no meaning here.
    #[must_use]
    pub fn new(io: W, options: WrapOptions) -> Self {
        let settings = &options.settings;
        let rules = Outbound::new(settings.checks, settings.deflate.is_some());
        Self { alone: Some(Box::new(Alone { rules, end: End::Open })), ..Self::with_settings(io, settings) }
    }

    /// One that checks nothing.
    pub(crate) fn with_settings(io: W, settings: &Settings) -> Self {
        let mask = match settings.checks {
            Checks::Off => MaskBy::Frame,
            _ => MaskBy::Role(settings.masks()),
        };
        Self {
            io,
            // What is compressed is of other lengths than what was.
            queue: Queue::new(settings.deflate.is_none()),
            progress: Progress::default(),
            alone: None,
            mask,
            deflater: Sending::of(settings).map(|sending| Box::new(Deflater::new(sending))),
            high_water: settings.write_buffer_len,
        }
    }

    /// How many bytes of frames wait for the transport.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.queue.len()
    }

    /// Whether messages that begin from now on are compressed, where compression was agreed on. Default: `true`.
    pub fn set_compression(&mut self, enabled: bool) {
        sealed::Outlet::set_compression(self, enabled);
    }

    /// Gives the transport back. What waits for it is lost.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.io
    }

    /// Sends one frame: resolves when the transport has it. The same as
    /// [`SinkExt::send`](futures::SinkExt::send), in fewer steps.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a frame that would break the protocol: nothing went out, the writer goes on.
    /// [`Error::Io`] where the transport fails; [`Error::Closed`] after `close`, and for data after a Close frame
    /// unless nothing is checked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the frame is accepted sends nothing; afterwards it goes out with the next flush.
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let (mut message, mut wire_len) = (message.into(), None);
        poll_fn(move |cx| {
            let sent = if wire_len.is_some() {
                let target = self.progress.accepted;
                sealed::Outlet::poll_flush_to(self, cx, target)
            } else {
                ready!(self.poll_room(cx))?;
                self.check(&message)?;
                sealed::Outlet::poll_send(self, cx, &mut message, &mut wire_len)
            };
            if sent.is_pending() {
                // Nothing is kept twice while this waits.
                message.payload = Bytes::new();
            }
            plainly(sent)
        })
    }

    #[inline]
    fn accept(&mut self, message: &mut Message) -> Result<(), Error> {
        self.check(message)?;
        sealed::Outlet::push(self, message).map(drop)
    }

    #[inline]
    fn check(&mut self, message: &Message) -> Result<(), Error> {
        match &mut self.alone {
            None => Ok(()),
            Some(alone) => alone.check(message, self.mask),
        }
    }

    /// The header of a frame that is accepted now.
    #[inline]
    fn header(&self, message: &Message) -> Result<Header, Error> {
        let masked = match self.mask {
            MaskBy::Role(masked) => masked,
            MaskBy::Frame => message.mask,
        };
        // §5.3: "the masking key needs to be unpredictable": drawn when the payload is fixed.
        let masking_key = if masked { Some(entropy::draw_key()?) } else { None };
        Ok(Header::of(message, masking_key))
    }

    #[inline]
    fn enqueue(&mut self, header: &Header, message: &mut Message) -> usize {
        let wire_len = self.queue.push(header, &mut message.payload);
        self.progress.accepted += wire_len as u64;
        wire_len
    }

    /// Compresses the payload if its message is compressed.
    #[cold]
    fn compress(&mut self, message: &mut Message) -> io::Result<()> {
        if let Some(deflater) = &mut self.deflater
            && let Some(replaced) = deflater.on_message(message)?
        {
            self.queue.spend(replaced);
            self.drop_spent();
        }
        Ok(())
    }

    /// Drops the written payloads if the writer is used without [`Write`](crate::Write): no lock is held then.
    #[inline]
    fn drop_spent(&mut self) {
        if self.queue.has_spent() && self.alone.is_some() {
            drop(self.queue.take_spent());
        }
    }

    /// Offers a frame to the transport that needs no buffer: it is so short that it is put together here, or goes out
    /// as it is. `None` for all others.
    #[inline]
    fn poll_offer(
        &mut self,
        cx: &mut Context<'_>,
        header: &Header,
        payload: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if payload.len() <= encode::SHORT {
            let (frame, len) = encode::short_frame(header, payload);
            let frame = frame.get(..len)?;
            return Some(self.poll_io(|io| io.poll_write(cx, frame)));
        }
        if header.is_masked() || self.queue.copies(payload.len()) {
            return None;
        }
        let (head, head_len) = header.bytes();
        let head = head.get(..head_len)?;
        let slices = [IoSlice::new(head), IoSlice::new(payload)];
        let written = self.poll_io(|io| io.poll_write_vectored(cx, &slices));
        if let Poll::Ready(Ok(written)) = written {
            self.queue.on_vectored(head_len, written);
        }
        Some(written)
    }

    /// Does something with the transport until it is not interrupted.
    #[inline]
    fn poll_io<T>(
        &mut self,
        mut poll: impl FnMut(Pin<&mut W>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            match poll(Pin::new(&mut self.io)) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => return polled,
            }
        }
    }

    /// Writes until not more than the mark waits.
    #[inline]
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.queue.len() <= self.high_water {
            return Poll::Ready(Ok(()));
        }
        let target = self.progress.accepted - self.high_water as u64;
        self.poll_drain_to(cx, target)
    }

    /// Writes until the transport has taken everything before `target`.
    #[inline]
    fn poll_drain_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>> {
        while self.progress.accepted - (self.queue.len() as u64) < target && self.queue.len() > 0 {
            ready!(self.poll_write(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes once: as much as the transport takes of what waits.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = loop {
            let written = match self.queue.in_one_piece() {
                Some(bytes) => Pin::new(&mut self.io).poll_write(cx, bytes),
                None => self.poll_write_pieces(cx),
            };
            match ready!(written) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written,
            }
        };
        Poll::Ready(self.on_written(written))
    }

    /// The transport has taken so much of what waits.
    #[inline]
    fn on_written(&mut self, written: io::Result<usize>) -> io::Result<()> {
        match written? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => {
                self.queue.consume(written);
                self.drop_spent();
                Ok(())
            }
        }
    }

    fn poll_write_pieces(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        let (first_len, written) = if let Some(pieces) = self.queue.in_two_pieces() {
            let [head, _] = pieces;
            (head.len(), io.poll_write_vectored(cx, &pieces.map(IoSlice::new)))
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.next(&mut slices);
            match slices.get(..count).unwrap_or(&slices) {
                [one] => return io.poll_write(cx, one),
                several => {
                    (several.first().map_or(0, |first| first.len()), io.poll_write_vectored(cx, several))
                }
            }
        };
        if let Poll::Ready(Ok(written)) = written {
            self.queue.on_vectored(first_len, written);
        }
        written
    }
}

impl<W: AsyncWrite + Unpin> Outlet for FrameWriter<W> {}

impl<W: AsyncWrite + Unpin> sealed::Outlet for FrameWriter<W> {
    #[inline]
    fn push(&mut self, message: &mut Message) -> Result<usize, Error> {
        if self.deflater.is_some() {
            self.compress(message)?;
        }
        let header = self.header(message)?;
        Ok(self.enqueue(&header, message))
    }

    #[inline]
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Message,
        wire_len: &mut Option<usize>,
    ) -> Poll<Result<(), Error>> {
        if self.deflater.is_some() {
            self.compress(message)?;
        }
        let header = self.header(message)?;
        let offered =
            if self.queue.len() == 0 { self.poll_offer(cx, &header, &message.payload) } else { None };
        let len = header.wire_len() + message.payload.len();
        *wire_len = Some(len);
        if let Some(Poll::Ready(Ok(written))) = offered
            && written == len
        {
            self.progress.accepted += len as u64;
            self.queue.let_go(&mut message.payload);
            let flushed = self.poll_io(|io| io.poll_flush(cx));
            if let Poll::Ready(Ok(())) = flushed {
                self.progress.flushed = self.progress.accepted;
                return Poll::Ready(Ok(()));
            }
            return flushed.map_err(Error::from);
        }
        let unflushed = self.progress.flushed != self.progress.accepted;
        self.enqueue(&header, message);
        match offered {
            Some(Poll::Ready(written)) => self.on_written(written)?,
            Some(Poll::Pending) if !unflushed => return Poll::Pending,
            _ => {}
        }
        let target = self.progress.accepted;
        sealed::Outlet::poll_flush_to(self, cx, target)
    }

    fn buffered(&self) -> usize {
        self.queue.len()
    }

    fn accepted(&self) -> u64 {
        self.progress.accepted
    }

    fn flushed(&self) -> u64 {
        self.progress.flushed
    }

    #[inline]
    fn poll_flush_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>> {
        while self.progress.flushed < target {
            let drained = self.poll_drain_to(cx, target)?;
            let written = self.progress.accepted - self.queue.len() as u64;
            if self.progress.flushed == written {
                return drained.map(Ok);
            }
            // Where the transport takes no more now, what it has taken is flushed all the same: those whose frames
            // it was wait for nothing else. Then it is asked again, since a flush may have made it forget who waits.
            ready!(self.poll_io(|io| io.poll_flush(cx)))?;
            self.progress.flushed = written;
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn has_spent(&self) -> bool {
        self.queue.has_spent()
    }

    fn take_spent(&mut self) -> Vec<Bytes> {
        self.queue.take_spent()
    }

    fn set_compression(&mut self, enabled: bool) {
        if let Some(deflater) = &mut self.deflater {
            deflater.set_enabled(enabled);
        }
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_io(|io| io.poll_close(cx)).map_err(Error::from)
    }
}

impl<W: AsyncWrite + Unpin> Sink<Message> for FrameWriter<W> {
    type Error = Error;

    /// Resolves while at most [`WrapOptions::write_buffer_len`] bytes are buffered; writes the excess.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_room(cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, mut message: Message) -> Result<(), Error> {
        self.accept(&mut message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let target = self.progress.accepted;
        sealed::Outlet::poll_flush_to(&mut *self, cx, target)
    }

    /// Flushes, then ends the transport's writing side. No Close frame is sent. From the first poll on, no frame is
    /// accepted any more.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.alone {
            Some(alone) if alone.end == End::Closed => return Poll::Ready(Ok(())),
            Some(alone) => alone.end = End::Closing,
            None => {}
        }
        ready!(self.as_mut().poll_flush(cx))?;
        ready!(sealed::Outlet::poll_shut(&mut *self, cx))?;
        if let Some(alone) = &mut self.alone {
            alone.end = End::Closed;
        }
        Poll::Ready(Ok(()))
    }
}
