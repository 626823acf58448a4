//! Opcodes (RFC 6455 §5.2).

use std::fmt;

/// The meaning of a frame, four bits wide
/// ([RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)). The ten that the RFC reserves can be
/// represented too.
///
/// # Examples
///
/// ```
/// use coro_websocket::Opcode;
/// assert!(Opcode::PING.is_control());
/// assert_eq!(Opcode::new(0x3).to_string(), "reserved 0x3");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opcode(u8);

impl Opcode {
    /// The next part of a fragmented message.
    pub const CONTINUATION: Self = Self(0x0);
    /// A message of UTF-8 text, or its first part.
    pub const TEXT: Self = Self(0x1);
    /// A message of bytes, or its first part.
    pub const BINARY: Self = Self(0x2);
    /// The start or the answer of the closing handshake.
    pub const CLOSE: Self = Self(0x8);
    /// A question that a Pong with the same payload answers.
    pub const PING: Self = Self(0x9);
    /// The answer to a Ping, or a sign of life that nobody asked for.
    pub const PONG: Self = Self(0xA);

    /// The opcode of this number, of which the lower four bits count.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & 0x0F)
    }

    /// The number, from 0 to 15.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the most significant bit is set: Close, Ping, Pong and 0xB to 0xF
    /// ([RFC 6455 §5.5](https://www.rfc-editor.org/rfc/rfc6455#section-5.5)).
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & 0x8 != 0
    }

    /// Whether this is text, binary or a continuation of either.
    #[must_use]
    pub const fn is_data(self) -> bool {
        self.0 <= 0x2
    }

    /// Whether the RFC gives this opcode no meaning: 0x3 to 0x7 and 0xB to 0xF.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        matches!(self.0, 0x3..=0x7 | 0xB..=0xF)
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::CONTINUATION => "continuation",
            Self::TEXT => "text",
            Self::BINARY => "binary",
            Self::CLOSE => "close",
            Self::PING => "ping",
            Self::PONG => "pong",
            Self(bits) => return write!(f, "reserved {bits:#x}"),
        })
    }
}

impl fmt::Debug for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opcode({self})")
    }
}
