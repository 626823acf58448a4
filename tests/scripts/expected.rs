//! The frames expected on the wire, and the comparison.

use std::{collections::VecDeque, sync::OnceLock};

use bytes::Bytes;

use super::{
    Compression, Content, Frame,
    decoder::{Decoder, Inflater},
};

/// More than the longest payload.
const SOURCE_LEN: usize = (1 << 20) + (64 << 10);

/// Bytes that payloads are cut from: random ones, and words.
fn sources() -> &'static [Bytes; 2] {
    static SOURCES: OnceLock<[Bytes; 2]> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut roll = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let random: Vec<u8> = (0..SOURCE_LEN / 8 + 1).flat_map(|_| roll().to_le_bytes()).collect();
        let words = ["frame ", "queue ", "transport ", "slice ", "key ", "mask ", "writer ", "0123456789 "];
        let mut letters = String::new();
        while letters.len() < SOURCE_LEN {
            letters.push_str(words[usize::try_from(roll() >> 61).unwrap_or(0)]);
        }
        [random.into(), letters.into()]
    })
}

/// The payload of the frame with this number: no two of a script begin at the same byte.
pub(super) fn payload(number: usize, frame: &Frame) -> Bytes {
    let [random, letters] = sources();
    let source = if matches!(frame.content, Content::Letters) { letters } else { random };
    let start = number * 251 % (60 << 10);
    source.slice(start..start + frame.len)
}

/// A frame that was accepted.
#[derive(Clone)]
pub(super) struct Accepted {
    pub(super) writer: usize,
    pub(super) fin: bool,
    pub(super) opcode: u8,
    pub(super) payload: Bytes,
    pub(super) masked: bool,
    /// `true` if its message may be compressed.
    pub(super) compressed: bool,
}

/// A writer was told that this many of its frames are out when the transport had flushed this many bytes.
struct Promise {
    writer: usize,
    frames: usize,
    flushed: usize,
}

/// The frames expected on the wire, in order.
#[derive(Default)]
pub(super) struct Expected {
    order: Vec<Accepted>,
    raw: bool,
    /// The writer whose message is open: data of the others waits.
    open: Option<usize>,
    waiting: VecDeque<Accepted>,
    promises: Vec<Promise>,
}

impl Expected {
    pub(super) fn new(raw: bool) -> Self {
        Self { raw, ..Self::default() }
    }

    pub(super) fn must_wait(&self, writer: usize, opcode: u8) -> bool {
        !self.raw && opcode < 8 && self.open.is_some_and(|open| open != writer)
    }

    pub(super) fn is_waiting(&self, writer: usize) -> bool {
        self.waiting.iter().any(|frame| frame.writer == writer)
    }

    pub(super) fn accept(&mut self, frame: Accepted) {
        if self.must_wait(frame.writer, frame.opcode) {
            return self.waiting.push_back(frame);
        }
        self.place(frame);
        while self.open.is_none()
            && let Some(frame) = self.waiting.pop_front()
        {
            self.place(frame);
        }
    }

    fn place(&mut self, frame: Accepted) {
        if frame.opcode < 8 {
            self.open = (!frame.fin).then_some(frame.writer);
        }
        self.order.push(frame);
    }

    /// Notes that all frames of this writer are out.
    pub(super) fn promise(&mut self, writer: usize, flushed: usize) {
        let frames = self.order.iter().filter(|frame| frame.writer == writer).count();
        self.promises.push(Promise { writer, frames, flushed });
    }
}

impl Expected {
    /// Decodes the bytes that the transport has taken, and compares.
    pub(super) fn check(self, taken: &[u8], compression: Option<Compression>) -> Result<(), String> {
        if !self.waiting.is_empty() {
            return Err("a frame waits for ever".to_owned());
        }
        let mut decoder = Decoder::new(taken, self.raw);
        let mut inflater = compression.map(|compression| Inflater::new(compression.keeps_context));
        let mut payload = Vec::new();
        // The open compressed message: its expected content, and the content inflated so far.
        let mut open: Option<(Vec<u8>, Vec<u8>)> = None;
        let mut ends = Vec::with_capacity(self.order.len());
        for (number, accepted) in self.order.iter().enumerate() {
            let wrong = |what: &str| format!("frame {number} of {}: {what}", self.order.len());
            let found = decoder.next(&mut payload).map_err(|error| wrong(&error))?;
            let found = found.ok_or_else(|| wrong("it is not there"))?;
            ends.push(found.end);
            if (found.fin, found.opcode) != (accepted.fin, accepted.opcode) {
                return Err(wrong(&format!("{found:?} instead of opcode {}", accepted.opcode)));
            }
            if found.masked != accepted.masked {
                return Err(wrong("its mask bit is wrong"));
            }
            if found.rsv1 {
                if inflater.is_none() || !accepted.compressed {
                    return Err(wrong("it is compressed"));
                }
                open = Some((Vec::new(), Vec::new()));
            }
            match (&mut open, &mut inflater) {
                (Some((sent, inflated)), Some(inflater)) if found.opcode < 8 => {
                    sent.extend_from_slice(&accepted.payload);
                    inflater.push(&payload, found.fin, inflated).map_err(|error| wrong(&error))?;
                    if found.fin {
                        if sent != inflated {
                            return Err(wrong("its message inflates to something else"));
                        }
                        open = None;
                    }
                }
                _ if payload != accepted.payload => return Err(wrong("its payload is another one")),
                _ => {}
            }
        }
        if decoder.next(&mut payload)?.is_some() {
            return Err("more frames than were accepted".to_owned());
        }
        for Promise { writer, frames, flushed } in self.promises {
            let own = self.order.iter().zip(&ends).filter(|(frame, _)| frame.writer == writer);
            if own.take(frames).any(|(_, end)| *end > flushed) {
                return Err("a flush was done before the frame was out".to_owned());
            }
        }
        Ok(())
    }
}
