//! Frames (RFC 6455 §5): the [`Message`] struct that the whole crate is about.

use std::fmt;

use bytes::Bytes;

mod close;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod explain;
pub(crate) mod header;
pub(crate) mod mask;
mod opcode;

pub use close::{CloseCode, CloseFrame};
pub use opcode::Opcode;

/// One frame, sent or received ([RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)). A whole
/// message is one frame with `fin`, or several of which only the last has it.
///
/// # Examples
///
/// ```
/// use coro_websocket::{Message, Opcode};
///
/// let text = Message::text("hello");
/// assert_eq!((text.fin, text.opcode, text.len), (true, Opcode::TEXT, 5));
/// let first = Message { fin: false, opcode: Opcode::TEXT, payload: "hel".into(), ..Message::default() };
/// let last = Message::continuation("lo", true);
/// # let _ = (first, last);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[doc(alias = "Frame")]
#[expect(clippy::exhaustive_structs, reason = "these are the parts of a frame, there are no others")]
pub struct Message {
    /// Whether this is the last fragment of a message. Default: `true`.
    pub fin: bool,
    /// The first reserved bit. Where compression was agreed on, a received frame has it cleared, and one that is
    /// sent may have it set: then the payload is that of a message that the caller has compressed
    /// ([RFC 7692 §6](https://www.rfc-editor.org/rfc/rfc7692#section-6)), and goes out as it is.
    pub rsv1: bool,
    /// The second reserved bit.
    pub rsv2: bool,
    /// The third reserved bit.
    pub rsv3: bool,
    /// How the payload is meant. Default: [`Opcode::BINARY`].
    pub opcode: Opcode,
    /// Whether the frame was masked on the wire. The payload never is. When sending, the role decides, and this
    /// only with [`Checks::Off`](crate::Checks::Off).
    pub mask: bool,
    /// The length of the payload on the wire, in bytes. When sending, the payload decides.
    pub len: u64,
    /// What the frame carries.
    pub payload: Bytes,
}

impl Message {
    fn new(opcode: Opcode, payload: Bytes) -> Self {
        let len = payload.len() as u64;
        Self { fin: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask: false, len, payload }
    }

    /// A whole message of text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Opcode::TEXT, Bytes::from(text.into()))
    }

    /// A whole message of bytes.
    #[must_use]
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self::new(Opcode::BINARY, payload.into())
    }

    /// A Ping. The payload may have 125 bytes.
    #[must_use]
    pub fn ping(payload: impl Into<Bytes>) -> Self {
        Self::new(Opcode::PING, payload.into())
    }

    /// A Pong. The payload may have 125 bytes.
    #[must_use]
    pub fn pong(payload: impl Into<Bytes>) -> Self {
        Self::new(Opcode::PONG, payload.into())
    }

    /// A Close frame. The reason may have 123 bytes. With [`CloseCode::NO_STATUS`] the frame is empty, and so
    /// must be the reason.
    #[must_use]
    pub fn close(code: impl Into<CloseCode>, reason: &str) -> Self {
        let code = code.into();
        let payload = if code == CloseCode::NO_STATUS && reason.is_empty() {
            Bytes::new()
        } else {
            [&code.number().to_be_bytes(), reason.as_bytes()].concat().into()
        };
        Self::new(Opcode::CLOSE, payload)
    }

    /// The next part of a fragmented message; `fin` says whether it is the last.
    #[must_use]
    pub fn continuation(payload: impl Into<Bytes>, fin: bool) -> Self {
        Self { fin, ..Self::new(Opcode::CONTINUATION, payload.into()) }
    }

    /// Whether this is text, binary or a continuation of either, so not a control frame.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.opcode.is_data()
    }

    /// The payload as text, whatever the opcode says; `None` where it is not UTF-8. A fragment may end in the
    /// middle of a character.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        simdutf8::basic::from_utf8(&self.payload).ok()
    }

    /// What a Close frame says; `None` for every other frame.
    ///
    /// # Errors
    ///
    /// The payload of the Close frame is malformed.
    pub fn as_close(&self) -> Result<Option<CloseFrame>, crate::error::ProtocolError> {
        if self.opcode == Opcode::CLOSE { CloseFrame::parse(&self.payload).map(Some) } else { Ok(None) }
    }
}

impl Default for Message {
    /// An empty binary message: `fin` set, nothing else.
    fn default() -> Self {
        Self::new(Opcode::BINARY, Bytes::new())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(payload: Vec<u8>) -> Self {
        Self::binary(payload)
    }
}

impl From<Bytes> for Message {
    fn from(payload: Bytes) -> Self {
        Self::binary(payload)
    }
}

/// One received frame, lent by [`Read::frame`](crate::Read::frame) or
/// [`FrameReader::frame`](crate::FrameReader::frame). The fields are those of [`Message`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "these are the parts of a frame, there are no others")]
pub struct FrameView<'a> {
    /// Whether this is the last fragment of a message.
    pub fin: bool,
    /// The first reserved bit.
    pub rsv1: bool,
    /// The second reserved bit.
    pub rsv2: bool,
    /// The third reserved bit.
    pub rsv3: bool,
    /// How the payload is meant.
    pub opcode: Opcode,
    /// Whether the frame was masked on the wire.
    pub mask: bool,
    /// The length of the payload on the wire, in bytes.
    pub len: u64,
    /// What the frame carries, unmasked.
    pub payload: &'a [u8],
}

impl FrameView<'_> {
    /// The frame with a payload of its own.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let &FrameView { fin, rsv1, rsv2, rsv3, opcode, mask, len, payload } = self;
        Message { fin, rsv1, rsv2, rsv3, opcode, mask, len, payload: Bytes::copy_from_slice(payload) }
    }

    /// Whether this is text, binary or a continuation of either, so not a control frame.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.opcode.is_data()
    }

    /// The payload as text, whatever the opcode says; `None` where it is not UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        simdutf8::basic::from_utf8(self.payload).ok()
    }
}

impl<'a> From<&'a Message> for FrameView<'a> {
    fn from(message: &'a Message) -> Self {
        let &Message { fin, rsv1, rsv2, rsv3, opcode, mask, len, ref payload } = message;
        Self { fin, rsv1, rsv2, rsv3, opcode, mask, len, payload }
    }
}

/// How much of a payload a log line shows.
const SHOWN: usize = 64;

impl fmt::Display for FrameView<'_> {
    /// One line for a log: the parts of the header that are set, and the start of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.opcode)?;
        for (set, name) in [
            (!self.fin, " fragment"),
            (self.rsv1, " rsv1"),
            (self.rsv2, " rsv2"),
            (self.rsv3, " rsv3"),
            (self.mask, " masked"),
        ] {
            if set {
                f.write_str(name)?;
            }
        }
        write!(f, " {} bytes", self.len)?;
        if self.opcode == Opcode::CLOSE {
            return CloseFrame::parse(self.payload).map_or(Ok(()), |close| write!(f, ": {close}"));
        }
        let shown = self.payload.get(..SHOWN).unwrap_or(self.payload);
        if shown.is_empty() {
            return Ok(());
        }
        let more = if shown.len() < self.payload.len() { "…" } else { "" };
        let valid = match str::from_utf8(shown) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() => {
                shown.get(..error.valid_up_to()).and_then(|start| str::from_utf8(start).ok())
            }
            Err(_) => None,
        };
        match valid.filter(|_| self.opcode != Opcode::BINARY) {
            Some(text) => write!(f, ": {text:?}{more}"),
            None => {
                f.write_str(":")?;
                shown.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
                f.write_str(more)
            }
        }
    }
}

impl fmt::Debug for FrameView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameView({self})")
    }
}

impl fmt::Display for Message {
    /// One line for a log: the parts of the header that are set, and the start of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FrameView::from(self).fmt(f)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({self})")
    }
}
