//! Frames written and read by hand: nothing of any library that is measured.

/// Of the client that the load generator is; it could be any.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const RSV1: u8 = 0x40;
const FIN: u8 = 0x80;
const MASK: u8 = 0x80;

/// Appends a whole message in one frame. `first` is the opcode, and RSV1 if it is compressed.
pub(crate) fn put_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], key: Option<[u8; 4]>) {
    out.push(FIN | first);
    put_len(out, payload.len(), if key.is_some() { MASK } else { 0 });
    if let Some(key) = key {
        out.extend(key);
        let start = out.len();
        out.extend_from_slice(payload);
        unmask(&mut out[start..], key, 0);
    } else {
        out.extend_from_slice(payload);
    }
}

fn put_len(out: &mut Vec<u8>, len: usize, mask: u8) {
    match len {
        0..126 => out.push(mask | len as u8),
        126..0x1_0000 => {
            out.push(mask | 126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

/// `offset` is the position of the first byte in the payload.
fn unmask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let key = u32::from_ne_bytes(key).to_ne_bytes();
    let turned: [u8; 4] = std::array::from_fn(|i| key[(offset + i) % 4]);
    let wide = u64::from_ne_bytes(std::array::from_fn(|i| turned[i % 4]));
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(turned.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// The head of a frame: its first byte, the length of the payload, the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) first: u8,
    pub(crate) len: usize,
    pub(crate) key: Option<[u8; 4]>,
    /// Of the head itself.
    pub(crate) size: usize,
}

impl Head {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (len, rest) = match second & !MASK {
            126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))?,
            127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len) as usize, rest))?,
            len => (len.into(), rest),
        };
        let (key, rest) = if second & MASK == 0 {
            (None, rest)
        } else {
            rest.split_first_chunk().map(|(key, rest)| (Some(*key), rest))?
        };
        Some(Self { first: first & !FIN, len, key, size: bytes.len() - rest.len() })
    }
}

/// What an echo has to do, and nothing that could be left out: heads are parsed, payloads unmasked while they are
/// copied behind their new heads. What a library checks on top is not checked.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    /// Answers: whole ones, then what is there of the next.
    out: Vec<u8>,
    whole: usize,
    /// An incomplete head.
    head: Vec<u8>,
    key: [u8; 4],
    done: usize,
    left: usize,
}

impl Echo {
    /// Takes what was read.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        if !self.head.is_empty() {
            let mut joined = std::mem::take(&mut self.head);
            joined.extend_from_slice(bytes);
            return self.put(&joined);
        }
        loop {
            let (part, rest) = bytes.split_at(bytes.len().min(self.left));
            let start = self.out.len();
            self.out.extend_from_slice(part);
            unmask(&mut self.out[start..], self.key, self.done);
            self.done += part.len();
            self.left -= part.len();
            bytes = rest;
            if self.left > 0 {
                return;
            }
            self.whole = self.out.len();
            let Some(head) = Head::parse(bytes) else {
                self.head.extend_from_slice(bytes);
                return;
            };
            bytes = &bytes[head.size..];
            self.out.push(FIN | head.first);
            put_len(&mut self.out, head.len, 0);
            self.out.reserve(head.len);
            (self.key, self.done, self.left) = (head.key.unwrap_or_default(), 0, head.len);
        }
    }

    /// Whole answers that are to be written.
    pub(crate) fn due(&self) -> &[u8] {
        &self.out[..self.whole]
    }

    /// So many bytes of them were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.whole -= count;
        if count == self.out.len() {
            // Nothing is kept while nothing is to be done.
            self.out = Vec::new();
        } else {
            self.out.drain(..count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_whole_wherever_input_is_cut() {
        let (mut tape, mut expected) = (Vec::new(), Vec::new());
        for len in [0, 1, 7, 125, 126, 300, 0x1_0000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            put_frame(&mut tape, BINARY, &payload, Some(KEY));
            put_frame(&mut expected, BINARY, &payload, None);
        }
        for step in [1, 2, 3, 13, 1000, tape.len()] {
            let (mut echo, mut got) = (Echo::default(), Vec::new());
            for part in tape.chunks(step) {
                echo.put(part);
                got.extend_from_slice(echo.due());
                echo.wrote(echo.due().len());
            }
            assert_eq!(got, expected);
        }
    }
}
