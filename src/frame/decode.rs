//! One frame out of bytes, and into bytes, for those who have all of them at hand.

use bytes::Bytes;

use super::{
    FrameView, Message,
    header::Header,
    mask::{extend_masked, mask, rotate},
};
use crate::{buffer::Buffer, pool};

/// Reads one frame from the start of `bytes`, unmasks its payload in place and lends it. Gives the frame and its
/// length on the wire, or `None` when the frame is not complete. No rule is checked.
///
/// # Examples
///
/// ```
/// let mut bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
/// let (frame, len) = coro_websocket::codec::decode(&mut bytes).unwrap();
/// assert_eq!((frame.as_text(), frame.mask, len), (Some("Hello"), true, 11));
/// ```
pub fn decode(bytes: &mut [u8]) -> Option<(FrameView<'_>, usize)> {
    let (header, header_len) = Header::parse(bytes)?;
    let end = usize::try_from(header.len).ok()?.checked_add(header_len)?;
    let payload = bytes.get_mut(header_len..end)?;
    if let Some(key) = header.masking_key() {
        mask(payload, key);
    }
    Some((header.view(payload), end))
}

/// Appends one frame to `target`, masked where there is a key, and gives its length on the wire. No rule is
/// checked; `mask` and `len` of the message are not looked at.
///
/// # Examples
///
/// ```
/// use coro_websocket::{Message, codec};
///
/// let mut bytes = Vec::new();
/// codec::encode(&Message::text("Hello"), None, &mut bytes);
/// assert_eq!(bytes, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
/// ```
pub fn encode(message: &Message, masking_key: Option<[u8; 4]>, target: &mut Vec<u8>) -> usize {
    let start = target.len();
    Header::of(message, masking_key).encode(target);
    match masking_key {
        Some(key) => extend_masked(target, &message.payload, key),
        None => target.extend_from_slice(&message.payload),
    }
    target.len() - start
}

/// An incomplete payload that waits for input has a buffer of at most this many times the bytes that have arrived.
const MAX_AHEAD: usize = 4;

/// Where so much of a payload is still to come, it is read to where it will stay.
const DIRECT_FROM: usize = 16 << 10;

/// How much of it at a time: what is still in the second cache when it is unmasked.
const DIRECT_LEN: usize = 128 << 10;

/// The payload of the frame that is coming in, in a buffer of its own that grows as the bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Buffer,
    expected: usize,
    /// How much of what is expected has come.
    received: usize,
}

impl Body {
    /// A frame begins whose payload has this length.
    pub(crate) fn start(&mut self, expected: usize) {
        // The frame before was lent, and may have been large; this one, if it is kept, must not keep its buffer.
        if self.bytes.capacity() > expected.saturating_mul(2) {
            self.clear();
        }
        self.bytes.clear();
        self.expected = expected;
        self.received = 0;
    }

    pub(crate) fn missing(&self) -> usize {
        self.expected - self.received
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// A part has come. Unmasks it with the key of the frame.
    pub(crate) fn unmask(&mut self, part: &mut [u8], masking_key: Option<[u8; 4]>) {
        if let Some(key) = masking_key {
            mask(part, rotate(key, self.received));
        }
        self.received += part.len();
    }

    /// Keeps a part of what was announced.
    pub(crate) fn extend(&mut self, part: &[u8]) {
        self.grow(part.len());
        self.bytes.extend(part);
    }

    /// How much of what is missing is to be read to where it will stay: as far as that need not be filled first, which
    /// costs more than reading to somewhere else and copying.
    pub(crate) fn direct_len(&mut self) -> usize {
        let len = self.missing().min(self.bytes.initialised_room().len()).min(DIRECT_LEN);
        if len < DIRECT_FROM { 0 } else { len }
    }

    /// Room for so much of it.
    pub(crate) fn room(&mut self, direct_len: usize) -> &mut [u8] {
        self.bytes.room(direct_len)
    }

    /// So much has been read into the [`room`](Self::room): unmasks it with the key of the frame, and lends it.
    pub(crate) fn arrived(&mut self, len: usize, masking_key: Option<[u8; 4]>) -> &[u8] {
        let start = self.bytes.len();
        self.bytes.advance(len);
        let part = self.bytes.tail_mut(start);
        if let Some(key) = masking_key {
            mask(part, rotate(key, self.received));
        }
        self.received += len;
        part
    }

    /// Keeps what was made of compressed parts.
    pub(crate) fn append(&mut self, inflated: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(inflated.len());
        }
        self.bytes.extend(inflated);
    }

    /// Makes room for twice the bytes that have arrived, never for the announced length. A buffer that the thread keeps
    /// costs nothing, so it is lent for the whole payload until [`wait`](Self::wait).
    fn grow(&mut self, arrived: usize) {
        let needed = self.bytes.len() + arrived;
        if needed <= self.bytes.capacity() {
            return;
        }
        if (self.bytes.is_empty() || self.expected / MAX_AHEAD <= needed)
            && let Some(mut kept) = pool::take_payload(self.expected)
        {
            kept.extend(self.bytes.as_slice());
            self.bytes = kept;
            return;
        }
        let target = needed.saturating_mul(2).min(self.expected).max(needed);
        self.bytes.reserve_exact(target - self.bytes.len());
    }

    /// Called when the peer has paused within a payload. Gives back a buffer that is too large for the bytes that have
    /// arrived: one lent by the thread, or left from the previous payload.
    pub(crate) fn wait(&mut self) {
        if self.bytes.capacity() / MAX_AHEAD > self.bytes.len().max(pool::CHUNK_LEN) {
            self.give_room_back();
        }
    }

    #[cold]
    fn give_room_back(&mut self) {
        let mut small = Buffer::default();
        small.reserve_exact(self.bytes.len().saturating_mul(2));
        small.extend(self.bytes.as_slice());
        pool::give_payload(std::mem::replace(&mut self.bytes, small));
    }

    pub(crate) fn take(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes);
        let capacity = bytes.capacity();
        let mut bytes = bytes.into_vec();
        if bytes.len() < capacity / 4 * 3 {
            bytes.shrink_to_fit();
        }
        Bytes::from(bytes)
    }

    /// Gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
