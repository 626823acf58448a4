//! Fragments of one message (RFC 6455 §5.4) and its text (§8.1).

use crate::{
    error::ProtocolError,
    frame::{Opcode, header::Header},
};

/// What a fragment costs at least, so that a message of empty fragments ends too.
const MIN_CHARGE: u64 = 64;

/// The state of the message that is coming in, or going out.
///
/// If violations are only reported, a frame that belongs to no message changes the state too, so that a part of one
/// message is never taken for a part of another.
///
/// - A whole message in the middle of another is reported, and the other goes on. If a second one follows directly, the
///   peer has given the other up: from then on whole messages are taken, and the state is *doubtful*.
/// - The first fragment of a message in the middle of another is reported. Which of the two a continuation belongs to
///   is *doubtful*.
/// - In the doubtful state, first fragments and continuations are reported, up to the last fragment of a message. A
///   whole message that does not directly follow another is reported too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fragments {
    max_message_len: u64,
    charged: u64,
    open: bool,
    /// `true` if the last frame was a whole message in the middle of another one.
    interrupted: bool,
    /// `true` if several messages are unfinished, so that the next continuation may belong to any of them.
    doubtful: bool,
    text: bool,
    /// Whether the message comes compressed, so that headers do not say how long it is.
    compressed: bool,
    /// Whether it is one frame, as far as its header says.
    alone: bool,
    utf8: Utf8,
}

impl Fragments {
    pub(crate) fn new(max_message_len: u64) -> Self {
        Self {
            max_message_len,
            charged: 0,
            open: false,
            interrupted: false,
            doubtful: false,
            text: false,
            compressed: false,
            alone: false,
            utf8: Utf8::default(),
        }
    }

    pub(crate) fn max_message_len(&self) -> u64 {
        self.max_message_len
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns whether no message is unfinished.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        !self.open && !self.doubtful
    }

    /// Whether the message is text that is still being checked.
    pub(crate) fn is_text(&self) -> bool {
        self.text
    }

    /// Returns whether the open message, or the last one, is compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// The rest of this message's text is not checked any more.
    pub(crate) fn skip_text(&mut self) {
        self.text = false;
        self.utf8 = Utf8::default();
    }

    /// Gives up the open message: its fragments can no longer be told from those of others.
    fn give_up(&mut self) {
        self.open = false;
        self.interrupted = false;
        self.doubtful = true;
        self.skip_text();
    }

    /// Takes the header of a data frame; `compressed`: it begins a compressed message. After an error the frame is not
    /// part of a message.
    pub(crate) fn on_frame(&mut self, header: &Header, compressed: bool) -> Result<(), ProtocolError> {
        match header.opcode() {
            Opcode::CONTINUATION if !self.open => {
                // §5.4: a continuation belongs to "a fragmented message", which there must be.
                let error = if self.doubtful {
                    ProtocolError::MessageInterleaved
                } else {
                    ProtocolError::UnexpectedContinuation
                };
                self.doubtful &= !header.fin();
                self.interrupted = false;
                return Err(error);
            }
            Opcode::CONTINUATION => self.interrupted = false,
            Opcode::TEXT | Opcode::BINARY => {
                self.on_first(header)?;
                self.charged = 0;
                self.text = header.opcode() == Opcode::TEXT;
                self.compressed = compressed;
                self.utf8 = Utf8::default();
            }
            _ => {
                if self.open {
                    self.give_up();
                }
                return Err(ProtocolError::ReservedOpcode);
            }
        }
        let len = if self.compressed { 0 } else { header.len };
        let charged = self.charged.saturating_add(len.max(MIN_CHARGE));
        // A message of one small frame is within any limit that it does not exceed itself.
        let alone = !self.open && header.fin() && len <= self.max_message_len;
        if charged > self.max_message_len && !alone {
            return Err(ProtocolError::MessageTooLarge);
        }
        self.charged = charged;
        self.alone = alone;
        self.open = true;
        Ok(())
    }

    /// Takes a frame that begins a message.
    fn on_first(&mut self, header: &Header) -> Result<(), ProtocolError> {
        if self.is_closed() {
            return Ok(());
        }
        if header.fin() && self.interrupted {
            // The second whole message in a row.
            self.doubtful = true;
            self.open = false;
            return Ok(());
        }
        if header.fin() {
            self.interrupted = true;
        } else {
            self.give_up();
        }
        // §5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another message"
        Err(ProtocolError::MessageInterleaved)
    }

    /// So many bytes more were made of the frame, of which there were `before`.
    pub(crate) fn on_inflated(&mut self, before: u64, more: u64) -> Result<(), ProtocolError> {
        let len = before.saturating_add(more);
        let charge = len.max(MIN_CHARGE) - before.max(MIN_CHARGE);
        self.charged = self.charged.saturating_add(charge);
        let within = if self.alone { len } else { self.charged } <= self.max_message_len;
        if within { Ok(()) } else { Err(ProtocolError::MessageTooLarge) }
    }

    /// Some of the frame's payload, where the message is text.
    pub(crate) fn on_text(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        // §8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not,
        // in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
        self.utf8.feed(payload)
    }

    /// The frame is complete.
    pub(crate) fn on_end(&mut self, fin: bool) -> Result<(), ProtocolError> {
        self.end_frame(fin);
        if fin && std::mem::take(&mut self.text) { self.utf8.finish() } else { Ok(()) }
    }

    /// Ends a frame whose text is not checked.
    pub(crate) fn end_frame(&mut self, fin: bool) {
        self.open &= !fin;
    }
}

/// UTF-8 that comes in parts, cut anywhere.
#[derive(Debug, Clone, Copy, Default)]
struct Utf8 {
    /// The start of a character whose end has not come yet.
    partial: [u8; 4],
    partial_len: u8,
}

impl Utf8 {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        while self.partial_len > 0 {
            let Some((&next, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            if let Some(place) = self.partial.get_mut(usize::from(self.partial_len)) {
                *place = next;
            }
            self.partial_len += 1;
            let seen = self.partial.get(..usize::from(self.partial_len)).unwrap_or(&self.partial);
            match str::from_utf8(seen) {
                Ok(_) => self.partial_len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(ProtocolError::InvalidUtf8),
            }
        }
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                for (place, &byte) in self.partial.iter_mut().zip(bytes.iter().skip(error.valid_up_to())) {
                    *place = byte;
                    self.partial_len += 1;
                }
                Ok(())
            }
            Err(_) => Err(ProtocolError::InvalidUtf8),
        }
    }

    fn finish(&mut self) -> Result<(), ProtocolError> {
        if std::mem::take(&mut self.partial_len) == 0 { Ok(()) } else { Err(ProtocolError::InvalidUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&[u8]]) -> bool {
        let mut utf8 = Utf8::default();
        parts.iter().all(|part| utf8.feed(part).is_ok()) && utf8.finish().is_ok()
    }

    #[test]
    fn text_cut_anywhere_is_judged_like_the_whole() {
        let samples: [&[u8]; 9] = [
            "κόσμε ελληνικά 🦀 naïve text that is longer than one vector register of any kind".as_bytes(),
            b"",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xed\xa0\x80",
            b"\xc0\x80",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",
            b"\xf0\x9f\xa6",
            b"abc\x80",
        ];
        for sample in samples {
            let valid = str::from_utf8(sample).is_ok();
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let parts = [&sample[..first], &sample[first..second], &sample[second..]];
                    assert_eq!(check(&parts), valid, "{sample:x?} cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn the_first_bad_byte_is_noticed_at_once() {
        let mut utf8 = Utf8::default();
        assert!(utf8.feed(b"\xf4").is_ok());
        assert!(utf8.feed(b"\x90").is_err(), "above U+10FFFF, before the character is complete");
    }
}
