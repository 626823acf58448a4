//! A decoder for what a writer sends, written from RFC 6455 and RFC 7692 alone: it shares no line with the crate, and
//! inflates with another crate, so that the two cannot have a fault in common.

use miniz_oxide::{
    DataFormat, MZError, MZFlush, MZStatus,
    inflate::stream::{InflateState, inflate},
};

/// The header of a frame, and where the frame ends in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) rsv1: bool,
    pub(crate) opcode: u8,
    pub(crate) masked: bool,
    pub(crate) end: usize,
}

/// Reads frames from bytes, one after the other.
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    /// `true` while a message is unfinished. `None`: frames are raw, in any order.
    open: Option<bool>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8], raw: bool) -> Self {
        Self { bytes, at: 0, open: (!raw).then_some(false) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("{len} bytes are missing at {}", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next frame, or `None` at the end of the bytes. Its unmasked payload replaces what `payload` holds.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Frame>, String> {
        if self.at == self.bytes.len() {
            return match self.open {
                Some(true) => Err("the last message has no end".to_owned()),
                _ => Ok(None),
            };
        }
        let start = self.at;
        let head = self.take(2)?;
        let (first, second) = (head[0], head[1]);
        let len = match second & 0b0111_1111 {
            126 => self.take(2)?.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
            127 => self.take(8)?.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        let shortest = match len {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        if self.at - start != shortest {
            return Err(format!("the length {len} at {start} is not in its shortest form"));
        }
        let frame = Frame {
            fin: first & 0b1000_0000 != 0,
            rsv1: first & 0b0100_0000 != 0,
            opcode: first & 0b0000_1111,
            masked: second & 0b1000_0000 != 0,
            end: 0,
        };
        let key = if frame.masked { self.take(4)? } else { &[0; 4] };
        let len = usize::try_from(len).map_err(|error| error.to_string())?;
        payload.clear();
        payload.extend_from_slice(self.take(len)?);
        unmask(payload, [key[0], key[1], key[2], key[3]]);
        if first & 0b0011_0000 != 0 {
            return Err(format!("RSV2 or RSV3 is set at {start}"));
        }
        self.check(&frame, len).map_err(|error| format!("{error} at {start}"))?;
        Ok(Some(Frame { end: self.at, ..frame }))
    }

    /// The rules of RFC 6455 §5.4 and §5.5, and of RFC 7692 §6.1 for the first reserved bit.
    fn check(&mut self, frame: &Frame, len: usize) -> Result<(), String> {
        let is_control = frame.opcode >= 8;
        if !matches!(frame.opcode, 0..=2 | 8..=10) {
            return Err(format!("reserved opcode {}", frame.opcode));
        }
        if is_control && (len > 125 || !frame.fin) {
            return Err("control frame that is too long or a fragment".to_owned());
        }
        if frame.rsv1 && !matches!(frame.opcode, 1 | 2) {
            return Err("RSV1 is set on a frame that begins no message".to_owned());
        }
        if let Some(open) = self.open.as_mut().filter(|_| !is_control) {
            if *open != (frame.opcode == 0) {
                return Err(format!("opcode {} while a message is open: {open}", frame.opcode));
            }
            *open = !frame.fin;
        }
        Ok(())
    }
}

/// RFC 6455 §5.3, four bytes at a time.
fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let number = u32::from_be_bytes(key);
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        let masked = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        word.copy_from_slice(&(masked ^ number).to_be_bytes());
    }
    for (index, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= key[index];
    }
}

/// Inflates the messages of one direction (RFC 7692 §7.2.2).
pub(crate) struct Inflater {
    state: Box<InflateState>,
    keeps_context: bool,
}

impl Inflater {
    pub(crate) fn new(keeps_context: bool) -> Self {
        Self { state: InflateState::new_boxed(DataFormat::Raw), keeps_context }
    }

    /// Appends what one frame of a message inflates to, as far as it can be known yet.
    pub(crate) fn push(&mut self, payload: &[u8], fin: bool, inflated: &mut Vec<u8>) -> Result<(), String> {
        self.inflate(payload, inflated)?;
        if fin {
            self.inflate(&[0x00, 0x00, 0xFF, 0xFF], inflated)?;
            if !self.keeps_context {
                self.state.reset(DataFormat::Raw);
            }
        }
        Ok(())
    }

    fn inflate(&mut self, mut bytes: &[u8], inflated: &mut Vec<u8>) -> Result<(), String> {
        let mut room = [0; 4096];
        loop {
            let step = inflate(&mut self.state, bytes, &mut room, MZFlush::Sync);
            bytes = &bytes[step.bytes_consumed..];
            inflated.extend_from_slice(&room[..step.bytes_written]);
            match step.status {
                // RFC 7692 §7.2.3.4 allows it. This writer has no reason for it.
                Ok(MZStatus::StreamEnd) => return Err("a block says that it is the last one".to_owned()),
                Ok(_) | Err(MZError::Buf) => {}
                Err(error) => return Err(format!("it cannot be inflated: {error:?}")),
            }
            if bytes.is_empty() && step.bytes_written < room.len() {
                return Ok(());
            }
            if step.bytes_consumed == 0 && step.bytes_written == 0 {
                return Err("it cannot be inflated further".to_owned());
            }
        }
    }
}
