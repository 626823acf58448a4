//! The header of a frame (RFC 6455 §5.2).

use super::{FrameView, Message, Opcode};

/// The longest header: two bytes, a 64-bit length, a masking key.
pub(crate) const MAX_LEN: usize = 14;

/// How much room [`Header::encode`] takes: some bytes more than it leaves.
pub(crate) const ROOM: usize = 16;

/// All of a frame but its payload
/// ([RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The first byte: FIN, RSV1 to RSV3, opcode. Kept as it is, since most of the time nobody asks.
    first: u8,
    masked: bool,
    /// As it is in memory. One number, since four bytes in an `Option` are copied piece by piece.
    key: u32,
    /// The length of the payload in bytes.
    pub len: u64,
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;

impl Header {
    /// The header of the frame that carries this message; its `mask` and `len` are not looked at.
    #[must_use]
    #[inline]
    pub fn of(message: &Message, masking_key: Option<[u8; 4]>) -> Self {
        let &Message { fin, rsv1, rsv2, rsv3, opcode, ref payload, .. } = message;
        let bit = |set: bool, bit: u8| u8::from(set) * bit;
        let first = bit(fin, FIN) | bit(rsv1, RSV1) | bit(rsv2, RSV2) | bit(rsv3, RSV3) | opcode.bits();
        let key = u32::from_ne_bytes(masking_key.unwrap_or_default());
        Self { first, masked: masking_key.is_some(), key, len: payload.len() as u64 }
    }

    /// Whether this is the last fragment of a message.
    #[must_use]
    pub const fn fin(&self) -> bool {
        self.first & FIN != 0
    }

    /// The key that the payload is masked with, if it is.
    #[must_use]
    #[inline]
    pub const fn masking_key(&self) -> Option<[u8; 4]> {
        if self.masked { Some(self.key.to_ne_bytes()) } else { None }
    }

    /// Whether the payload is masked.
    #[inline]
    pub(crate) const fn is_masked(&self) -> bool {
        self.masked
    }

    /// How the payload is meant.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        Opcode::new(self.first)
    }

    pub(crate) const fn has_reserved_bits(&self) -> bool {
        self.first & (RSV1 | RSV2 | RSV3) != 0
    }

    pub(crate) const fn rsv1(&self) -> bool {
        self.first & RSV1 != 0
    }

    /// Returns RSV1, RSV2 and RSV3.
    pub(crate) fn reserved_bits(&self) -> [bool; 3] {
        [RSV1, RSV2, RSV3].map(|bit| self.first & bit != 0)
    }

    /// Whether this frame begins a message whose payload is compressed, if an extension says so
    /// ([RFC 7692 §6](https://www.rfc-editor.org/rfc/rfc7692#section-6)).
    pub(crate) const fn begins_compressed(&self) -> bool {
        matches!(self.first & !FIN, 0x41 | 0x42)
    }

    /// The same, but that RSV1 is not set.
    pub(crate) const fn without_rsv1(self) -> Self {
        Self { first: self.first & !RSV1, ..self }
    }

    /// Whether this is a whole message: text or binary, with FIN and no reserved bit.
    pub(crate) const fn is_whole_message(&self) -> bool {
        matches!(self.first, 0x81 | 0x82)
    }

    /// Whether a peer that counts right would have used fewer bytes for the length, of which there were
    /// `header_len` in the whole header.
    pub(crate) const fn is_minimal(&self, header_len: usize) -> bool {
        self.wire_len() == header_len
    }

    /// How many bytes this header takes on the wire: 2 to 14.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        2 + length_bytes(self.len) + if self.masked { 4 } else { 0 }
    }

    /// Appends the header to `target`, with the length in its shortest form
    /// ([RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
    #[inline]
    pub fn encode(&self, target: &mut Vec<u8>) {
        // Appended as a whole and cut: no unknown length.
        let (bytes, len) = self.bytes();
        let end = target.len() + len;
        target.extend_from_slice(&bytes);
        target.truncate(end);
    }

    /// The header as it goes out, and how many of these bytes it takes. Built in registers, not byte by byte.
    #[inline]
    pub(crate) fn bytes(&self) -> ([u8; ROOM], usize) {
        let start = |marker: u64| u64::from(self.first) | (u64::from(self.masked) << 7 | marker) << 8;
        let (low, high, len) = match self.len {
            len @ 0..=125 => (start(len) | u64::from(self.key.to_le()) << 16, 0, 2),
            len @ 126..=0xFFFF => {
                let len = len.swap_bytes() >> 48;
                (start(126) | len << 16 | u64::from(self.key.to_le()) << 32, 0, 4)
            }
            len => {
                let len = len.swap_bytes();
                (start(127) | len << 16, len >> 48 | u64::from(self.key.to_le()) << 16, 10)
            }
        };
        let bytes = u128::from(low) | u128::from(high) << 64;
        (bytes.to_le_bytes(), len + if self.masked { 4 } else { 0 })
    }

    /// Reads a header from the start of `bytes`: the header and its length, or `None` when there are too few
    /// bytes. Whatever the bits say is represented, no rule is checked.
    #[must_use]
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
        let (len, rest) = match second & 0x7F {
            126 => {
                let (len, rest) = rest.split_first_chunk::<2>()?;
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*len), rest)
            }
            len => (u64::from(len), rest),
        };
        let masked = second & 0x80 != 0;
        let (key, rest) = if masked {
            let (key, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_ne_bytes(*key), rest)
        } else {
            (0, rest)
        };
        Some((Self { first, masked, key, len }, bytes.len() - rest.len()))
    }

    /// The frame that this header and its payload make.
    #[inline]
    pub(crate) fn view<'a>(&self, payload: &'a [u8]) -> FrameView<'a> {
        let has = |bit: u8| self.first & bit != 0;
        FrameView {
            fin: has(FIN),
            rsv1: has(RSV1),
            rsv2: has(RSV2),
            rsv3: has(RSV3),
            opcode: self.opcode(),
            mask: self.masked,
            len: self.len,
            payload,
        }
    }

    pub(crate) fn message(&self, payload: bytes::Bytes) -> Message {
        let FrameView { fin, rsv1, rsv2, rsv3, opcode, mask, len, .. } = self.view(&[]);
        Message { fin, rsv1, rsv2, rsv3, opcode, mask, len, payload }
    }
}

const fn length_bytes(len: u64) -> usize {
    match len {
        0..=125 => 0,
        126..=0xFFFF => 2,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_boundary_takes_the_fewest_bytes_and_round_trips() {
        let lengths = [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 33, u64::MAX];
        for len in lengths {
            for masking_key in [None, Some([1, 2, 3, 4])] {
                let header = Header { len, ..Header::of(&Message::default(), masking_key) };
                let mut bytes = Vec::new();
                header.encode(&mut bytes);
                assert_eq!(bytes.len(), header.wire_len());
                assert!(header.is_minimal(bytes.len()));
                for cut in 0..bytes.len() {
                    assert_eq!(Header::parse(&bytes[..cut]), None, "no header in {cut} bytes");
                }
                assert_eq!(Header::parse(&bytes), Some((header, bytes.len())));
            }
        }
    }

    #[test]
    fn every_first_byte_round_trips() {
        for first in 0..=255_u8 {
            let (header, len) = Header::parse(&[first, 0]).unwrap();
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            assert_eq!((bytes, len), (vec![first, 0], 2));
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_needed_is_noticed() {
        for bytes in [&[0x82, 126, 0, 125][..], &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]] {
            let (header, len) = Header::parse(bytes).unwrap();
            assert!(!header.is_minimal(len));
        }
    }
}
