//! The conditions that must hold at rest, on the wire and for the messages sent.

use std::collections::HashMap;

use super::{
    ledger::{Ledger, State},
    transport::SharedPipe,
};
use crate::common::wire;

/// The frames of one direction, as a parser that is not the crate's sees them.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) frames: u64,
    pub(crate) has_close: bool,
    /// The number of bytes of an incomplete frame at the end.
    pub(crate) left: usize,
}

/// Checks the rules of RFC 6455 for these bytes. After our own Close only answers to Pings come.
pub(crate) fn parse(bytes: &[u8], masked: bool, deflate: bool, raw: bool) -> Result<Wire, String> {
    let (frames, left) = wire::split(bytes);
    let (mut open, mut has_close) = (false, false);
    let mut keys = HashMap::new();
    for (number, frame) in frames.iter().enumerate() {
        let error = |text: &str| Err(format!("frame {number} ({frame:?}): {text}"));
        let (fin, opcode) = (frame.first & 0x80 != 0, frame.first & 0x0F);
        let shortest = match frame.payload.len() {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        } + if frame.key.is_some() { 4 } else { 0 };
        if frame.wire_len - frame.payload.len() != shortest {
            return error("its length is not in the shortest form");
        }
        if !raw && frame.key.is_some() != masked {
            return error("its mask bit is wrong");
        }
        if let Some(key) = frame.key {
            let times = keys.entry(key).or_insert(0);
            *times += 1;
            if *times > 2 {
                return error("its masking key was used twice before");
            }
        }
        if has_close && !raw && opcode != 0xA {
            return error("it is behind the Close");
        }
        if frame.first & 0x30 != 0 || (frame.first & 0x40 != 0 && !(deflate && matches!(opcode, 1 | 2))) {
            return error("reserved bits are set");
        }
        match opcode {
            1 | 2 if open => return error("it is inside a message"),
            0 if !open => return error("there is no message to continue"),
            0..=2 => open = !fin,
            8..=10 if frame.payload.len() > 125 || !fin => return error("it is no control frame"),
            8 => has_close = true,
            9 | 10 => {}
            _ => return error("its opcode is reserved"),
        }
    }
    Ok(Wire { frames: frames.len() as u64, has_close, left })
}

/// Both directions: from the client, from the server.
pub(crate) struct Wires<'a> {
    pub(crate) pipes: [&'a SharedPipe; 2],
    /// `true` for frames of this crate; those of tungstenite are not judged.
    pub(crate) ours: [bool; 2],
}

impl Wires<'_> {
    pub(crate) fn check(&self, ledger: &Ledger) -> Result<(), String> {
        for (side, pipe) in self.pipes.iter().enumerate() {
            if let Some(fault) = pipe.0.lock().unwrap().fault {
                return Err(format!("side {side}: {fault}"));
            }
            if self.ours[side] {
                self.parse(side, ledger)?;
            }
        }
        Ok(())
    }

    fn parse(&self, side: usize, ledger: &Ledger) -> Result<Wire, String> {
        let settings = &ledger.settings;
        let parsed = parse(&self.pipes[side].frames(), side == 0, settings.deflate, settings.raw());
        parsed.map_err(|error| format!("side {side}: {error}"))
    }

    /// Checks the state when no task will be woken any more. `left`: the unfinished tasks.
    pub(crate) fn judge_rest(&self, ledger: &Ledger, left: &[&str]) -> Result<(), String> {
        let settings = &ledger.settings;
        let gone = ledger.sides.iter().any(|side| side.reader_gone.get());
        let (closed, raw) = (ledger.closed.get(), settings.raw());
        let only_readers = left.iter().all(|name| name.starts_with("reader"));
        if !settings.errors && !closed && !raw && self.ours == [true; 2] {
            // Holds even if one reader was dropped: bytes flushed to the other reader have arrived.
            if !only_readers {
                return Err(format!("these wait for ever: {left:?}"));
            }
            for from in 0..2 {
                if !ledger.sides[1 - from].reader_gone.get() {
                    ledger.missing(from, |state| state == State::Flushed).map_or(Ok(()), Err)?;
                }
            }
        }
        if ledger.broken.get() || gone || (raw && closed) {
            return self.check(ledger);
        }
        if !only_readers {
            return Err(format!("these wait for ever: {left:?}"));
        }
        if closed && !left.is_empty() {
            return Err(format!("the closing does not end: {left:?}"));
        }
        for from in 0..2 {
            self.judge_side(ledger, from, closed)?;
        }
        // Tungstenite may end before it has written everything, its Close included.
        let answered =
            (0..2).all(|side| self.ours[side] || self.parse(side, ledger).is_ok_and(|wire| wire.has_close));
        if closed && answered {
            for write in ledger.sides.iter().filter_map(|side| side.kept.borrow().first().cloned()) {
                let frames = write.close_frames();
                if !frames.is_clean() || !write.is_closed() {
                    return Err(format!("the closing was not clean: {frames:?}"));
                }
            }
        }
        self.check(ledger)
    }

    fn judge_side(&self, ledger: &Ledger, from: usize, closed: bool) -> Result<(), String> {
        let settings = &ledger.settings;
        if !closed
            && ledger.sides[from].ended.get()
            && ledger.sides.iter().all(|side| !side.kept.borrow().is_empty())
        {
            return Err(format!("reader {from} has ended without a cause"));
        }
        let must_arrive = |state| state == State::Flushed || (state == State::Ok && !closed);
        if let Some(lost) = ledger.missing(from, must_arrive) {
            // Tungstenite may end before it has written everything.
            let is_cut =
                !self.ours[from] && closed && !self.parse(from, ledger).is_ok_and(|wire| wire.has_close);
            return if is_cut { Ok(()) } else { Err(lost) };
        }
        if closed {
            return Ok(());
        }
        let empties = ledger.sides[from].empties.get();
        if !(empties.accepted..=empties.accepted + empties.maybe).contains(&empties.arrived) {
            return Err(format!(
                "side {from}: {} and {} empty messages were sent, {} have arrived",
                empties.accepted, empties.maybe, empties.arrived
            ));
        }
        let kept = ledger.sides[from].kept.borrow();
        let Some(write) = kept.first().filter(|_| !settings.beats && self.ours[from]) else { return Ok(()) };
        let (stats, written) = (write.stats(), self.pipes[from].frames().len() as u64);
        let wire = self.parse(from, ledger)?;
        if write.buffered() != 0 || wire.left != 0 {
            return Err(format!("side {from}: {} bytes wait at rest, {wire:?}", write.buffered()));
        }
        if (stats.bytes_out, stats.frames_out) != (written, wire.frames) {
            return Err(format!("side {from}: {stats:?}, but {written} bytes and {wire:?} on the wire"));
        }
        if let Some(other) = ledger.sides[1 - from].kept.borrow().first()
            && other.stats().bytes_in != written
        {
            return Err(format!(
                "side {}: {:?}, but {written} bytes were sent to it",
                1 - from,
                other.stats()
            ));
        }
        Ok(())
    }
}
