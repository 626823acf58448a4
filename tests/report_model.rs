//! Random streams of valid and violating frames, read with `Checks::Report` and `Checks::Off`: a message that is
//! yielded as `Ok` is one that the peer has sent, whatever it sent before.
//!
//! `REPORT_MODEL_FROM` is the first seed, `REPORT_MODEL_SCRIPTS` how many there are.
#![cfg(feature = "deflate")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::task::Poll;

use common::{
    PipeReader, PipeWriter, alone,
    drive::{drive, settle},
    pipe,
    wire::{self, Dice, Form},
};
use coro_websocket::{Checks, Data, Deflate, Error, FrameWriter, Message, Role, StreamExt, WrapOptions};

/// A message that the peer has sent.
struct Sent {
    text: bool,
    body: Vec<u8>,
    /// A correct frame, which must be yielded unless an earlier violation prevents that.
    valid: bool,
}

/// The peer: it compresses each message when it begins it, and lays the frames out by hand.
struct Peer {
    dice: Dice,
    /// The role of the reader under test.
    role: Role,
    writer: FrameWriter<PipeWriter>,
    compressed: PipeReader,
    deflate: bool,
    sent: Vec<Sent>,
    bytes: Vec<u8>,
    log: Vec<String>,
}

/// First byte and payload.
type Frame = (u8, Vec<u8>);

impl Peer {
    fn new(dice: Dice, role: Role, deflate: Option<Deflate>) -> Self {
        let (output, compressed) = pipe(1 << 24);
        let other = if role == Role::Client { WrapOptions::server() } else { WrapOptions::client() };
        let options = deflate.map_or(other.clone(), |deflate| other.deflate(deflate));
        let writer = FrameWriter::new(output, options);
        let deflate = deflate.is_some();
        Self { dice, role, writer, compressed, deflate, sent: vec![], bytes: vec![], log: vec![] }
    }

    /// Some text that names its message and repeats much of others.
    fn body(&mut self, text: bool) -> Vec<u8> {
        const PHRASES: [&str; 6] = [
            "the balance of the account is ",
            "EUR, paid on the first day of the month; ",
            "{\"id\": 1234, \"name\": \"größe\"}, ",
            "0000000000000000000000000000",
            "who has not read the rules of the house? ",
            "漢字 and letters ",
        ];
        let mut body = format!("{} ", self.sent.len());
        let most = if self.dice.up_to(8) == 0 { 400 } else { 12 };
        for _ in 0..self.dice.up_to(most) {
            body += PHRASES[self.dice.up_to(PHRASES.len())];
        }
        let mut body = body.into_bytes();
        if !text {
            let noise = self.dice.up_to(40);
            body.extend(self.dice.bytes(noise));
        }
        body
    }

    /// A new message, as its fragments.
    fn message(&mut self, valid: bool, compress: bool) -> Vec<Frame> {
        let text = self.dice.up_to(2) == 0;
        let body = self.body(text);
        self.sent.push(Sent { text, body: body.clone(), valid });
        self.fragments(text, body, compress)
    }

    fn fragments(&mut self, text: bool, body: Vec<u8>, compress: bool) -> Vec<Frame> {
        let mut first = if text { wire::TEXT } else { wire::BINARY };
        let mut payload = body;
        if compress && self.deflate {
            // The text of a violation may be none, so all is compressed as bytes.
            drive(self.writer.send(Message::binary(payload))).unwrap();
            let frame = wire::frames(&self.compressed.take_all()).remove(0);
            first |= frame.first & 0x40;
            payload = frame.payload;
        }
        let count = 1 + [0, 0, 1, 2, 4][self.dice.up_to(5)];
        let mut cuts: Vec<usize> = (1..count).map(|_| self.dice.up_to(payload.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(payload.len());
        let mut start = 0;
        let mut frames: Vec<Frame> = Vec::new();
        for end in cuts {
            let opcode = if frames.is_empty() { first & 0x7F } else { wire::NEXT };
            frames.push((opcode, payload[start..end].to_vec()));
            start = end;
        }
        frames.last_mut().unwrap().0 |= 0x80;
        frames
    }

    fn put(&mut self, frame: &Frame) {
        self.log.push(format!("{:#04x} {} bytes", frame.0, frame.1.len()));
        self.bytes.extend(wire::to(self.role, frame.0, &frame.1));
    }

    fn put_all(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.put(frame);
            if self.dice.up_to(6) == 0 {
                self.put(&(wire::PING, vec![]));
            }
        }
    }

    /// The frame breaks a rule that says nothing about its message.
    fn put_badly(&mut self, (first, payload): &Frame) {
        let key = wire::key_to(self.role);
        self.log.push(format!("{first:#04x} {} bytes, badly", payload.len()));
        match self.dice.up_to(3) {
            0 => self.bytes.extend(wire::frame(*first, key.xor(Some(wire::KEY)), payload)),
            1 => self.bytes.extend(wire::to(self.role, first | [0x20, 0x10][self.dice.up_to(2)], payload)),
            _ => {
                self.bytes.extend(wire::header(*first, Form::Bits64, payload.len() as u64, key));
                self.bytes.extend(key.map_or(payload.clone(), |key| wire::masked(payload, key)));
            }
        }
    }

    fn bad_control(&mut self) {
        let frame = match self.dice.up_to(5) {
            0 => (wire::PING, vec![7; 126]),
            1 => (0x09, vec![7]),
            2 => (0x8B, vec![7]),
            3 => (wire::CLOSE, vec![3]),
            _ => (0x99, vec![7]),
        };
        self.put(&frame);
    }

    /// Something after which a later message, if it is valid, can always be told from others and be inflated.
    fn act_gently(&mut self) {
        let compress = self.dice.up_to(3) != 0;
        match self.dice.up_to(9) {
            0..=3 => {
                let frames = self.message(true, compress);
                self.put_all(&frames);
            }
            4 | 5 => {
                let frames = self.message(false, compress);
                let bad = self.dice.up_to(frames.len());
                for (index, frame) in frames.iter().enumerate() {
                    if index == bad { self.put_badly(frame) } else { self.put(frame) }
                }
            }
            6 => {
                let mut body = self.body(true);
                let at = self.dice.up_to(body.len());
                body[at] = 0xFF;
                let frames = self.fragments(true, body, compress);
                self.put_all(&frames);
            }
            7 => self.bad_control(),
            _ => {
                let (open, plain) = (self.message(true, compress), self.message(false, false));
                let intruder = (plain[0].0 | 0x80, plain.concat_payloads());
                self.put(&open[0]);
                if open.len() > 1 {
                    self.put(&intruder);
                }
                if self.dice.up_to(2) == 0 {
                    self.bad_control();
                }
                self.put_all(&open[1..]);
            }
        }
    }

    /// Something that may cost other messages.
    fn act(&mut self) {
        let compress = self.dice.up_to(3) != 0;
        let mut frames = self.message(true, compress);
        match self.dice.up_to(8) {
            0 => {
                let first = [wire::LAST, wire::NEXT][self.dice.up_to(2)];
                self.put(&(first, b"stray".to_vec()));
                self.put_all(&frames);
            }
            1 => {
                // Two messages at once.
                let compress = self.dice.up_to(2) == 0;
                let others = self.message(true, compress);
                // They begin in the order in which they were compressed, or else nothing could be noticed.
                self.put(&frames.remove(0));
                let (mut one, mut two) = (frames.into_iter().peekable(), others.into_iter().peekable());
                while one.peek().is_some() || two.peek().is_some() {
                    let next = if self.dice.up_to(2) == 0 { one.next() } else { two.next() };
                    if let Some(frame) = next {
                        self.put(&frame);
                    }
                }
            }
            2 => {
                if frames.len() > 1 {
                    frames.pop();
                }
                self.put_all(&frames);
                self.leave_no_message_open();
            }
            3 if frames.len() > 1 => self.put_all(&frames[1..]),
            4 => {
                // Undetectable faults are left out: a control frame in the place of a fragment, the other kind of data.
                let at = self.dice.up_to(frames.len());
                let opcodes = if at == 0 { [0x0, 0x3, 0x7, 0xB] } else { [0x1, 0x2, 0x3, 0x7] };
                frames[at].0 = frames[at].0 & 0xF0 | opcodes[self.dice.up_to(4)];
                self.put_all(&frames);
                self.leave_no_message_open();
            }
            5 => {
                // The peer's compressor has seen the message, the reader gets something else.
                if frames[0].0 & 0x40 != 0 {
                    frames = vec![(frames[0].0 | 0x80, vec![0x06])];
                }
                self.put_all(&frames);
            }
            6 => {
                self.put(&(0xC9, vec![]));
                self.put_all(&frames);
            }
            _ => self.put_all(&frames),
        }
    }

    /// The start of one message followed by the end of another looks like a message. So the part that follows begins
    /// one.
    fn leave_no_message_open(&mut self) {
        for _ in 0..2 {
            let frames = self.message(true, false);
            self.put_all(&frames);
        }
    }

    /// Frames after which every reader knows where it is.
    fn end(&mut self) -> Vec<Data> {
        let text = |frames: &mut Vec<Frame>, text: &str| frames.push((wire::TEXT, text.into()));
        let mut frames = Vec::new();
        text(&mut frames, "last 1");
        text(&mut frames, "last 2");
        frames.extend([(wire::FIRST_TEXT, b"last ".to_vec()), (wire::LAST, b"3".to_vec())]);
        frames.extend([(wire::FIRST_TEXT, b"last ".to_vec()), (wire::LAST, b"4".to_vec())]);
        text(&mut frames, "last 5");
        frames.iter().for_each(|frame| self.put(frame));
        (1..=5).map(|number| Data::Text(format!("last {number}"))).collect()
    }
}

trait Payloads {
    fn concat_payloads(&self) -> Vec<u8>;
}

impl Payloads for Vec<Frame> {
    fn concat_payloads(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, payload)| payload.clone()).collect()
    }
}

/// Reads these bytes in random parts. Gives the messages and how many errors there were.
fn read(role: Role, options: WrapOptions, bytes: &[u8], dice: &mut Dice) -> (Vec<Data>, usize) {
    let ((mut read, _write), mut far) = alone(1 << 24, options);
    let (mut messages, mut errors) = (Vec::new(), 0);
    let mut rest = bytes;
    loop {
        match settle(&mut read.messages().next()) {
            Poll::Ready(Some(Ok(data))) => messages.push(data),
            Poll::Ready(Some(Err(Error::Reported { .. } | Error::Protocol { .. }))) => errors += 1,
            Poll::Ready(other) => panic!("{role:?}: {other:?}"),
            Poll::Pending if rest.is_empty() => return (messages, errors),
            Poll::Pending => {
                let most = if dice.up_to(3) == 0 { 20 } else { 30_000 };
                let part;
                (part, rest) = rest.split_at((1 + dice.up_to(most)).min(rest.len()));
                far.put(part);
            }
        }
    }
}

/// Runs one script. Panics where a message is wrong.
fn run(seed: u64, off: bool) {
    let mut dice = Dice::new(seed);
    let role = [Role::Client, Role::Server][dice.up_to(2)];
    let deflate = (dice.up_to(4) != 0).then(|| {
        let alone = dice.up_to(3) == 0;
        let bits = 9 + u8::try_from(dice.up_to(7)).unwrap();
        let deflate = Deflate::default().threshold(0).server_no_context_takeover(alone);
        deflate.client_no_context_takeover(alone).server_max_window_bits(bits).client_max_window_bits(bits)
    });
    let gentle = !off && dice.up_to(2) == 0;
    let mut peer = Peer::new(Dice::new(seed ^ 0xABCD), role, deflate);
    for _ in 0..=peer.dice.up_to(30) {
        if gentle { peer.act_gently() } else { peer.act() }
    }
    let last = peer.end();
    let options = WrapOptions::new(role).checks(if off { Checks::Off } else { Checks::Report });
    let options = deflate.map_or(options.clone(), |deflate| options.deflate(deflate));
    let (messages, errors) = read(role, options, &peer.bytes, &mut dice);
    let context = || format!("seed {seed}, off {off}, {role:?}, {deflate:?}\n{}", peer.log.join("\n"));
    let mut yielded = vec![false; peer.sent.len()];
    for data in &messages {
        if last.contains(data) {
            continue;
        }
        let text = data.as_text().is_some();
        let found = peer
            .sent
            .iter()
            .zip(&yielded)
            .position(|(sent, yielded)| !yielded && sent.body == data.as_bytes() && sent.text == text);
        let found = found.unwrap_or_else(|| {
            let start = data.as_bytes()[..data.as_bytes().len().min(60)].escape_ascii().to_string();
            panic!("a message that was never sent: {start}\n{}", context())
        });
        yielded[found] = true;
    }
    if gentle {
        for (index, (sent, yielded)) in peer.sent.iter().zip(&yielded).enumerate() {
            assert!(*yielded || !sent.valid, "message {index} is missing\n{}", context());
        }
        assert_eq!(messages[messages.len() - last.len()..], last, "{}", context());
    }
    let (text, whole) = (&last[3], &last[4]);
    assert!(messages.contains(text) && messages.contains(whole), "{errors} errors, no end\n{}", context());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn run_all(off: bool) {
    let from = number("REPORT_MODEL_FROM").unwrap_or(0);
    for seed in from..from + number("REPORT_MODEL_SCRIPTS").unwrap_or(1000) {
        run(seed, off);
    }
}

#[test]
fn with_report_a_message_is_right_or_an_error() {
    run_all(false);
}

#[test]
fn without_checks_a_message_is_right_or_an_error() {
    run_all(true);
}
