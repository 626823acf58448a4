//! Frames laid out and read by hand, so that the codec under test is not its own judge.

use coro_websocket::{Message, Opcode, Role};

pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// First bytes of frames.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8A;
pub const FIRST_TEXT: u8 = 0x01;
pub const FIRST_BINARY: u8 = 0x02;
pub const NEXT: u8 = 0x00;
pub const LAST: u8 = 0x80;

/// How a payload length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Short,
    Bits16,
    Bits64,
}

/// A header with any length in any form.
pub fn header(first: u8, form: Form, len: u64, key: Option<[u8; 4]>) -> Vec<u8> {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match form {
        Form::Short => bytes.push(mask | u8::try_from(len).unwrap()),
        Form::Bits16 => {
            bytes.push(mask | 126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        Form::Bits64 => {
            bytes.push(mask | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(key.into_iter().flatten());
    bytes
}

pub fn form(len: u64) -> Form {
    match len {
        0..126 => Form::Short,
        126..0x1_0000 => Form::Bits16,
        _ => Form::Bits64,
    }
}

pub fn masked(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

/// A whole frame.
pub fn frame(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u64;
    let mut bytes = header(first, form(len), len, key);
    match key {
        Some(key) => bytes.extend(masked(payload, key)),
        None => bytes.extend(payload),
    }
    bytes
}

/// The key that frames to an endpoint of this role must have.
pub fn key_to(role: Role) -> Option<[u8; 4]> {
    (role == Role::Server).then_some(KEY)
}

/// A whole frame for an endpoint of this role.
pub fn to(role: Role, first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(first, key_to(role), payload.as_ref())
}

/// A Close frame for an endpoint of this role.
pub fn close_to(role: Role, code: u16, reason: &str) -> Vec<u8> {
    to(role, CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A frame as it was on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub key: Option<[u8; 4]>,
    /// Unmasked.
    pub payload: Vec<u8>,
    pub wire_len: usize,
}

impl Frame {
    pub fn opcode(&self) -> Opcode {
        Opcode::new(self.first)
    }

    pub fn close_code(&self) -> u16 {
        assert_eq!(self.first, CLOSE);
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.payload[..self.payload.len().min(32)];
        write!(f, "{:#04x} {} bytes {:?}", self.first, self.payload.len(), start.escape_ascii().to_string())
    }
}

/// All whole frames from the start of `bytes`, and how many bytes are left behind them.
pub fn split(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((frame, next)) = split_first(rest) {
        frames.push(frame);
        rest = next;
    }
    (frames, rest.len())
}

/// All frames, of which the last must be whole too.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (frames, left) = split(bytes);
    assert_eq!(left, 0, "a torn frame at the end");
    frames
}

fn split_first(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (&[first, second], mut rest) = bytes.split_first_chunk::<2>()?;
    let len = match second & 0x7F {
        126 => {
            let (len, behind) = rest.split_first_chunk::<2>()?;
            rest = behind;
            usize::from(u16::from_be_bytes(*len))
        }
        127 => {
            let (len, behind) = rest.split_first_chunk::<8>()?;
            rest = behind;
            usize::try_from(u64::from_be_bytes(*len)).unwrap()
        }
        len => usize::from(len),
    };
    let key = if second & 0x80 == 0 {
        None
    } else {
        let (key, behind) = rest.split_first_chunk::<4>()?;
        rest = behind;
        Some(*key)
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    let payload = key.map_or_else(|| payload.to_vec(), |key| masked(payload, key));
    let wire_len = bytes.len() - rest.len();
    Some((Frame { first, key, payload, wire_len }, rest))
}

/// The message that this frame is for whoever receives it.
pub fn message(first: u8, mask: bool, payload: &[u8]) -> Message {
    Message {
        fin: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        rsv2: first & 0x20 != 0,
        rsv3: first & 0x10 != 0,
        opcode: Opcode::new(first),
        mask,
        len: payload.len() as u64,
        payload: payload.to_vec().into(),
    }
}

/// Numbers that look random and are the same every time (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// From 0 to `sides` - 1.
    pub fn up_to(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll() % sides as u64).unwrap()
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    /// Letters, of one to four bytes each.
    pub fn text(&mut self, len: usize) -> String {
        const LETTERS: [char; 6] = ['a', 'z', 'é', '€', '漢', '🦀'];
        (0..len).map(|_| LETTERS[self.up_to(LETTERS.len())]).collect()
    }
}

/// Frames that a peer may send, one after the other: whole and fragmented messages of both kinds, text cut in the
/// middle of characters, and control frames in between. As first byte and payload.
pub fn mixed(seed: u64, count: usize, max_len: usize) -> Vec<(u8, Vec<u8>)> {
    let mut dice = Dice::new(seed);
    let mut open: Option<Vec<u8>> = None;
    let mut frames = Vec::new();
    while frames.len() < count {
        let len = dice.up_to(max_len + 1);
        let last = frames.len() + 1 == count;
        match dice.up_to(8) {
            0 if !last => frames.push((PING, dice.bytes(len.min(125)))),
            1 if !last => frames.push((PONG, dice.bytes(len.min(125)))),
            kind => match &mut open {
                Some(rest) => {
                    let end = last || dice.up_to(3) == 0;
                    let at = if end { rest.len() } else { dice.up_to(rest.len() + 1) };
                    let part = rest.drain(..at).collect();
                    frames.push((if end { LAST } else { NEXT }, part));
                    if end {
                        open = None;
                    }
                }
                None => {
                    let text = kind < 5;
                    let mut payload = if text { dice.text(len / 3).into_bytes() } else { dice.bytes(len) };
                    if last || dice.up_to(2) == 0 {
                        frames.push((if text { TEXT } else { BINARY }, payload));
                    } else {
                        let at = dice.up_to(payload.len() + 1);
                        let rest = payload.split_off(at);
                        frames.push((if text { FIRST_TEXT } else { FIRST_BINARY }, payload));
                        open = Some(rest);
                    }
                }
            },
        }
    }
    frames
}
