//! [`FrameReader`]: frames out of a byte transport, under the rules for what comes in.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{
    future::poll_fn,
    io::AsyncRead,
    stream::{FusedStream, Stream},
};

use crate::{
    deflate::Inflater,
    error::{Error, ProtocolError},
    frame::{FrameView, Message, Opcode, decode::Body, header::Header, mask::mask},
    options::{Checks, Settings, WrapOptions},
    pool,
    session::Inbound,
};

mod input;

use input::{Input, poll_read};

/// Up to this length a payload stays in the buffer that it is read into until it is whole, as long as it comes at once.
const HELD_LEN: u64 = pool::CHUNK_LEN as u64;

/// Where [`Read`](crate::Read) takes its frames from. Sealed: implemented by [`FrameReader`] and by what
/// [`wrap_frames`](crate::wrap_frames) makes of a stream.
pub trait Source: sealed::Source {}

pub(crate) mod sealed {
    use super::{Context, Error, FrameView, Message, Poll};

    #[expect(unnameable_types, reason = "sealed: nobody else implements it")]
    pub trait Source: Unpin {
        /// The next frame of what has been read already; `None` when more must be read. The frame is current
        /// until the next call.
        fn advance(&mut self) -> Option<Result<(), Error>>;

        /// Reads once. `false`: the transport has ended.
        fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>>;

        /// The current frame.
        fn view(&self) -> FrameView<'_>;

        /// The current frame, with its payload. To be called once.
        fn take(&mut self) -> Message;

        /// Whether the transport has ended in the middle of a frame.
        fn is_torn(&self) -> bool;

        /// Reads once and throws away what comes. Gives how much it was, zero at the end or after an error.
        fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<usize>;

        /// How many bytes have been received in all.
        fn received(&self) -> u64;
    }
}

/// Reads frames from a byte transport: a [`Stream`] of [`Message`]s that checks them and sends nothing.
///
/// It is what [`wrap_io`](crate::wrap_io) puts under [`Read`](crate::Read), and can be used alone to look at
/// frames. A violation of the protocol or a failure of the transport ends the stream after its error.
///
/// # Cancel safety
///
/// All state is in the reader. Dropping a future of [`frame`](Self::frame) or of the stream loses nothing.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use coro_websocket::{FrameReader, StreamExt, WrapOptions};
///
/// let bytes: &[u8] = &[0x89, 0x00, 0x81, 0x02, b'h', b'i'];
/// let mut reader = FrameReader::new(bytes, WrapOptions::client());
/// assert_eq!(reader.next().await.unwrap()?.to_string(), "ping 0 bytes");
/// assert_eq!(reader.next().await.unwrap()?.as_text(), Some("hi"));
/// assert!(reader.next().await.is_none());
/// # Ok::<_, coro_websocket::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    input: Input,
    rules: Inbound,
    /// The header of the current frame, or of the one whose payload is coming in.
    header: Header,
    stage: Stage,
    current: Current,
    body: Body,
    inflater: Option<Box<Inflater>>,
    /// Whether the payload that is coming in is compressed.
    compressed: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    /// A payload that has not come whole. It stays where it is while more comes at once.
    Held,
    /// The last bytes of what is there of the payload, so many, are still to be unmasked and checked.
    Payload {
        arrived: usize,
    },
    /// What has come is refused, which is still to be said.
    Violated(ProtocolError),
    /// Nothing more comes.
    Ended,
}

/// Where the payload of the current frame is.
#[derive(Debug)]
enum Current {
    Input(Range<usize>),
    Body,
}

/// Unmasks all of a frame's payload, or masks it again.
#[inline]
fn unmask(payload: &mut [u8], header: &Header) {
    if let Some(key) = header.masking_key() {
        mask(payload, key);
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader for the given role: a server's frames come in masked, a client's do not. Heartbeat, deadlines
    /// and other options for sending have no meaning here.
    #[must_use]
    pub fn new(io: R, options: WrapOptions) -> Self {
        Self::with_leftover(io, &options.settings, &[])
    }

    /// A reader whose first bytes came behind the head of the opening handshake.
    pub(crate) fn with_leftover(io: R, settings: &Settings, leftover: &[u8]) -> Self {
        let mut input = Input::default();
        input.put(leftover);
        let header = Header::of(&Message::default(), None);
        let (stage, current, body) = (Stage::Header, Current::Body, Body::default());
        let rules = Inbound::new(settings);
        let deflate = settings.deflate.as_ref().filter(|_| settings.checks != Checks::Off);
        let inflater = deflate.map(|deflate| Box::new(Inflater::new(deflate, settings.role)));
        Self { io, input, rules, header, stage, current, body, inflater, compressed: false }
    }

    /// Waits for the next frame and lends it: nothing is copied and nothing counted. `None` is the end of the
    /// transport.
    ///
    /// # Errors
    ///
    /// As the stream gives them: [`Error::Protocol`], [`Error::Reported`], [`Error::Io`], and [`Error::Lost`]
    /// where the transport ends in the middle of a frame.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn frame(&mut self) -> Option<Result<FrameView<'_>, Error>> {
        match poll_fn(|cx| self.poll_frame(cx)).await? {
            Ok(()) => Some(Ok(sealed::Source::view(self))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Gives the transport back. Bytes that were read from it and not yet given out are lost.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.io
    }

    #[inline]
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        match sealed::Source::advance(self) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_read_frame(cx),
        }
    }

    fn poll_read_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        use sealed::Source as _;
        loop {
            if self.stage == Stage::Ended {
                return Poll::Ready(None);
            }
            if !ready!(self.poll_fill(cx))? {
                let torn = self.is_torn();
                self.stage = Stage::Ended;
                return Poll::Ready(torn.then_some(Err(Error::Lost)));
            }
            if let Some(frame) = self.advance() {
                return Poll::Ready(Some(frame));
            }
        }
    }

    /// Takes a frame as most are: a whole message that breaks no rule and is here whole. `false` where there is none,
    /// and then nothing has changed.
    #[inline]
    fn advance_plain(&mut self) -> bool {
        let Input { chunk, start, end, .. } = &mut self.input;
        let Some(bytes) = chunk.get_mut(*start..*end) else { return false };
        let Some((header, header_len)) = Header::parse(bytes) else { return false };
        let Ok(len) = usize::try_from(header.len) else { return false };
        if !self.rules.is_plain(&header, header_len) {
            return false;
        }
        let Some(payload) = bytes.get_mut(header_len..).and_then(|rest| rest.get_mut(..len)) else {
            return false;
        };
        unmask(payload, &header);
        if !Inbound::is_plain_payload(&header, payload) {
            // Masking once more undoes it.
            unmask(payload, &header);
            return false;
        }
        let from = *start + header_len;
        self.current = Current::Input(from..from + len);
        *start = from + len;
        self.header = header;
        true
    }

    /// The next frame, whatever it is, as far as it has come.
    fn advance_any(&mut self) -> Option<Result<(), Error>> {
        let complete = match self.stage {
            Stage::Header => self.on_header(),
            Stage::Held => self.on_held(),
            Stage::Payload { arrived } => self.on_payload(arrived),
            Stage::Violated(error) => Err(error),
            Stage::Ended => Ok(false),
        };
        match complete {
            Ok(false) => None,
            Ok(true) => Some(match self.rules.take_reported() {
                None => Ok(()),
                Some(error) => Err(Error::Reported { error, frame: sealed::Source::take(self).into() }),
            }),
            Err(error) => {
                self.stage = Stage::Ended;
                Some(Err(self.rules.refuse(error, &self.header, sealed::Source::view(self).payload)))
            }
        }
    }

    /// A header may have come: its frame is checked, and completed if its payload is here too.
    fn on_header(&mut self) -> Result<bool, ProtocolError> {
        let Some((header, header_len)) = Header::parse(self.input.bytes()) else {
            return Ok(false);
        };
        self.header = header;
        self.rules.on_header(&header, header_len)?;
        self.compressed = self.rules.inflates(&header);
        if self.compressed && header.opcode() != Opcode::CONTINUATION {
            self.header = header.without_rsv1();
            if let Some(inflater) = &mut self.inflater {
                inflater.begin();
            }
        }
        self.input.start += header_len;
        if !self.compressed && header.len <= HELD_LEN {
            self.stage = Stage::Held;
            return self.on_held();
        }
        self.body.start(usize::try_from(header.len).unwrap_or(usize::MAX));
        self.on_payload(0)
    }

    /// The payload of the current frame may have come whole.
    fn on_held(&mut self) -> Result<bool, ProtocolError> {
        let Self { input, rules, header, .. } = self;
        let range = input.start..input.start + usize::try_from(header.len).unwrap_or(usize::MAX);
        if range.end > input.end {
            return Ok(false);
        }
        input.start = range.end;
        self.stage = Stage::Header;
        let payload = input.chunk.get_mut(range.clone()).unwrap_or_default();
        unmask(payload, header);
        self.current = Current::Input(range);
        rules.on_payload(header, payload)?;
        rules.on_end(header, payload)?;
        Ok(true)
    }

    /// What was held waits for more: it goes to a buffer of its own. Text that is wrong is refused before the rest comes.
    fn unhold(&mut self) -> Result<bool, ProtocolError> {
        self.body.start(usize::try_from(self.header.len).unwrap_or(usize::MAX));
        let complete = self.on_payload(0);
        self.input.release();
        complete
    }

    /// Some of the payload has come, so much of it to where it stays. Says whether that was the last of it.
    fn on_payload(&mut self, arrived: usize) -> Result<bool, ProtocolError> {
        self.stage = Stage::Payload { arrived: 0 };
        if self.compressed {
            self.inflate()?;
        } else {
            let part = self.body.arrived(arrived, self.header.masking_key());
            self.rules.on_payload(&self.header, part)?;
            self.copy()?;
        }
        if self.body.missing() > 0 {
            return Ok(false);
        }
        self.current = Current::Body;
        self.rules.on_end(&self.header, self.body.bytes())?;
        self.stage = Stage::Header;
        Ok(true)
    }

    /// Takes what has come of the payload as it is.
    fn copy(&mut self) -> Result<(), ProtocolError> {
        let Self { input, header, body, rules, .. } = self;
        let part = input.part_of(body, header);
        body.extend(part);
        rules.on_payload(header, part)
    }

    /// Inflates what has come of the payload. What comes out is checked piece by piece, then kept.
    fn inflate(&mut self) -> Result<(), ProtocolError> {
        let Self { input, header, body, rules, inflater: Some(inflater), .. } = self else {
            return Ok(());
        };
        let part = input.part_of(body, header);
        if rules.is_window_lost() {
            return Ok(());
        }
        let last = header.fin() && body.missing() == 0;
        let inflated = inflater.inflate(part, last, |piece| {
            rules.on_inflated(body.bytes().len(), piece.len())?;
            rules.on_payload(header, piece)?;
            body.append(piece);
            Ok(())
        });
        match inflated {
            Err(ProtocolError::Deflate) => rules.judge(inflated),
            inflated => inflated,
        }
    }
}

impl<R: AsyncRead + Unpin> Source for FrameReader<R> {}

impl<R: AsyncRead + Unpin> sealed::Source for FrameReader<R> {
    #[inline]
    fn advance(&mut self) -> Option<Result<(), Error>> {
        if self.stage == Stage::Header && self.advance_plain() {
            return Some(Ok(()));
        }
        self.advance_any()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        let direct = match self.stage {
            Stage::Payload { .. } if !self.compressed => self.body.direct_len(),
            _ => 0,
        };
        let filled = if direct > 0 {
            self.input.release();
            let room = self.body.room(direct);
            let filled = poll_read(&mut self.io, cx, room).map_ok(|count| count.min(direct));
            if let Poll::Ready(Ok(arrived)) = filled {
                self.stage = Stage::Payload { arrived };
                self.input.received += arrived as u64;
            }
            filled
        } else {
            let filled = self.input.poll_fill(&mut self.io, cx);
            if !matches!(filled, Poll::Ready(Ok(1..))) {
                if self.stage != Stage::Held {
                    self.input.stash();
                } else if let Err(error) = self.unhold() {
                    self.stage = Stage::Violated(error);
                    return Poll::Ready(Ok(true));
                }
            }
            filled
        };
        if filled.is_pending() {
            if self.stage == Stage::Header { self.body.clear() } else { self.body.wait() }
        }
        match ready!(filled) {
            Ok(count) => Poll::Ready(Ok(count > 0)),
            Err(error) => {
                self.stage = Stage::Ended;
                Poll::Ready(Err(error.into()))
            }
        }
    }

    #[inline(always)]
    fn view(&self) -> FrameView<'_> {
        self.header.view(match &self.current {
            Current::Body => self.body.bytes(),
            Current::Input(range) => self.input.chunk.get(range.clone()).unwrap_or_default(),
        })
    }

    fn take(&mut self) -> Message {
        match self.current {
            Current::Body => self.header.message(self.body.take()),
            Current::Input(_) => self.view().to_message(),
        }
    }

    fn is_torn(&self) -> bool {
        matches!(self.stage, Stage::Held | Stage::Payload { .. }) || self.input.is_partial()
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.body.clear();
        self.input.clear();
        let read = self.input.poll_fill(&mut self.io, cx);
        self.input.clear();
        if read.is_pending() {
            self.input.release();
        }
        read.map(|read| read.unwrap_or(0))
    }

    fn received(&self) -> u64 {
        self.input.received
    }
}

impl<R: AsyncRead + Unpin> Stream for FrameReader<R> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.poll_frame(cx)).map(|frame| frame.map(|()| sealed::Source::take(&mut *self))))
    }
}

impl<R: AsyncRead + Unpin> FusedStream for FrameReader<R> {
    fn is_terminated(&self) -> bool {
        self.stage == Stage::Ended
    }
}
