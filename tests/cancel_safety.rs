//! Dropping a future anywhere loses nothing, tears nothing and sends nothing twice.
//!
//! Every future is dropped at every poll that does not finish it and made again, over a transport that gives and
//! takes one byte at a time with a Pending in between. What comes in was encoded, and what goes out is decoded, by
//! somebody else (tungstenite).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    io::Cursor,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{Far, PipeReader, PipeWriter, Trickle, duplex, wire};
use coro_websocket::{
    Data, Error, FrameReader, FrameWriter, IoRead, IoWrite, Message, Opcode, Role, SinkExt, StreamExt,
    WrapOptions, shutdown, wrap_io,
};
use tungstenite::protocol::frame::{Frame, FrameHeader, FrameSocket, coding::OpCode};

type SlowRead = IoRead<Trickle<PipeReader>, Trickle<PipeWriter>>;
type SlowWrite = IoWrite<Trickle<PipeWriter>>;

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const PLENTY: usize = 16 << 20;

/// A connection whose transport goes one byte at a time, and the other end of it.
fn slow(options: WrapOptions) -> ((SlowRead, SlowWrite), Far) {
    let ((read, write), (input, output)) = duplex(PLENTY);
    let halves = wrap_io(Trickle::new(read), Trickle::new(write), options);
    (halves, Far { input, output })
}

/// Counts futures that were dropped before their end.
#[derive(Default)]
struct Cancel {
    count: usize,
}

impl Cancel {
    /// Polls once, now and then up to three times, then drops.
    fn attempt<F: Future>(&mut self, future: F) -> Poll<F::Output> {
        let mut future = pin!(future);
        let polls = if self.count % 16 < 14 { 1 } else { self.count % 16 - 12 };
        for _ in 0..polls {
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_ready() {
                return polled;
            }
        }
        self.count += 1;
        Poll::Pending
    }

    /// Attempts until one comes to its end.
    fn until_ready<T>(&mut self, mut make: impl AsyncFnMut() -> T) -> T {
        for _ in 0..10_000_000 {
            if let Poll::Ready(output) = self.attempt(make()) {
                return output;
            }
        }
        panic!("no future ever comes to its end");
    }

    /// Attempts until the connection has accepted one frame more, by a future that came to its end or by one that was
    /// dropped: then it must not be sent again.
    fn until_accepted(
        &mut self,
        write: &mut SlowWrite,
        mut send: impl AsyncFnMut(&mut SlowWrite) -> Result<(), Error>,
    ) {
        let before = write.stats().frames_out;
        for _ in 0..10_000_000 {
            let attempt = self.attempt(send(write));
            let accepted = write.stats().frames_out - before;
            match attempt {
                Poll::Ready(sent) => {
                    sent.unwrap();
                    assert_eq!(accepted, 1);
                    return;
                }
                Poll::Pending if accepted > 0 => {
                    assert_eq!(accepted, 1);
                    return;
                }
                Poll::Pending => {}
            }
        }
        panic!("no frame is ever accepted");
    }
}

/// What the peer sends, encoded by somebody else.
fn encode(frames: &[(u8, Vec<u8>)], role: Role) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (first, payload) in frames {
        let header = FrameHeader {
            is_final: first & 0x80 != 0,
            opcode: OpCode::from(first & 0x0F),
            mask: wire::key_to(role),
            ..FrameHeader::default()
        };
        Frame::from_payload(header, payload.clone().into()).format(&mut bytes).unwrap();
    }
    bytes
}

/// What the peer gets, decoded by somebody else. Nothing may be left behind the last frame.
fn decode(bytes: &[u8], role: Role) -> Vec<(u8, Vec<u8>)> {
    let mut socket = FrameSocket::new(Cursor::new(bytes));
    let mut frames = Vec::new();
    let mut len = 0;
    while let Some(frame) = socket.read(None).unwrap() {
        len += frame.len();
        let header = frame.header();
        assert_eq!(header.mask.is_some(), role == Role::Client, "a client masks, a server does not");
        assert!(!header.rsv1 && !header.rsv2 && !header.rsv3);
        let first = u8::from(header.opcode) | if header.is_final { 0x80 } else { 0 };
        let payload = match header.mask {
            Some(key) => wire::masked(frame.payload(), key),
            None => frame.payload().to_vec(),
        };
        frames.push((first, payload));
    }
    assert_eq!(len, bytes.len(), "a torn frame at the end");
    frames
}

/// Control, fragmented, large and Close frames.
fn incoming() -> Vec<(u8, Vec<u8>)> {
    let mut frames = wire::mixed(1, 150, 200);
    let large = wire::Dice::new(2).bytes(70_000);
    let text = "naïve 🦀 text ".repeat(4000).into_bytes();
    frames.push((wire::BINARY, large));
    frames.push((wire::FIRST_TEXT, text[..7].to_vec()));
    frames.push((wire::PING, b"between".to_vec()));
    frames.push((wire::NEXT, text[7..10].to_vec()));
    frames.push((wire::PONG, vec![]));
    frames.push((wire::LAST, text[10..].to_vec()));
    frames.push((wire::CLOSE, [&4000_u16.to_be_bytes()[..], b"done"].concat()));
    frames
}

/// The answers to what came in: a Pong for every Ping and a Close for the Close.
fn replies(incoming: &[(u8, Vec<u8>)]) -> Vec<(u8, Vec<u8>)> {
    let answers = incoming.iter().filter_map(|(first, payload)| match *first {
        wire::PING => Some((wire::PONG, payload.clone())),
        wire::CLOSE => Some((wire::CLOSE, payload.clone())),
        _ => None,
    });
    answers.collect()
}

fn messages_of(frames: &[(u8, Vec<u8>)], role: Role) -> Vec<Message> {
    let mask = role == Role::Server;
    frames.iter().map(|(first, payload)| wire::message(*first, mask, payload)).collect()
}

/// Attempts the ways to read by turns, each dropped, until one of them gives a frame.
async fn read_by_turns(read: &mut SlowRead, turn: usize) -> Option<Result<Message, Error>> {
    match turn % 64 {
        63 => read.next_timeout(Duration::from_secs(3600)).await.transpose(),
        turn if turn % 2 == 0 => read.next().await,
        _ => read.frame().await.map(|frame| frame.map(|frame| frame.to_message())),
    }
}

/// http4s#7882, nim-websock#126: bytes lost where receiving was given up.
#[test]
fn next_frame_and_next_timeout_give_every_frame_once_whole_and_in_order() {
    for role in ROLES {
        let frames = incoming();
        let ((mut read, _write), mut far) = slow(WrapOptions::new(role));
        far.put(&encode(&frames, role));
        let Far { mut input, output } = far;
        drop(output);
        let mut cancel = Cancel::default();
        let mut turn = 0;
        let mut seen = Vec::new();
        while let Some(message) = cancel.until_ready(async || {
            turn += 1;
            read_by_turns(&mut read, turn).await
        }) {
            seen.push(message.unwrap());
        }
        assert_eq!(seen, messages_of(&frames, role));
        assert_eq!(decode(&input.take_all(), role), replies(&frames));
        assert!(input.is_ended() && read.close_frames().is_clean());
        assert!(cancel.count >= 100_000, "only {} cancellations", cancel.count);
    }
}

#[test]
fn messages_keep_their_fragments_when_the_stream_of_them_is_dropped() {
    for role in ROLES {
        let frames = incoming();
        let ((mut read, _write), mut far) = slow(WrapOptions::new(role));
        far.put(&encode(&frames, role));
        let Far { mut input, output } = far;
        drop(output);
        let mut cancel = Cancel::default();
        let mut seen = Vec::new();
        while let Some(data) = cancel.until_ready(async || read.messages().next().await) {
            seen.push(match data.unwrap() {
                Data::Text(text) => (true, text.into_bytes()),
                Data::Binary(bytes) => (false, bytes.to_vec()),
            });
        }
        let mut whole: Vec<(bool, Vec<u8>)> = Vec::new();
        for (first, payload) in frames.iter().filter(|(first, _)| first & 0x08 == 0) {
            match first & 0x0F {
                0 => whole.last_mut().unwrap().1.extend(payload),
                kind => whole.push((kind == 1, payload.clone())),
            }
        }
        assert!(seen == whole, "{} messages instead of {}", seen.len(), whole.len());
        assert_eq!(decode(&input.take_all(), role), replies(&frames));
        assert!(cancel.count >= 100_000, "only {} cancellations", cancel.count);
    }
}

/// Sends one frame in one of the ways there are.
async fn send_by_turns(write: &mut SlowWrite, turn: usize, message: Message) -> Result<(), Error> {
    match (turn % 8, message.opcode) {
        (0, _) => write.send(message).await,
        (1, _) => write.feed(message).await,
        (2, _) => write.write(message).await.map(drop),
        (3, _) => SinkExt::send(write, message).await,
        (4, _) => SinkExt::feed(write, message).await,
        (_, Opcode::PONG) => write.pong(message.payload).await.map(drop),
        (_, Opcode::BINARY) if message.fin => write.binary(message.payload).await.map(drop),
        (_, Opcode::TEXT) if message.fin => {
            let text = message.as_text().unwrap().to_owned();
            write.text(text).await.map(drop)
        }
        _ => write.send(message).await,
    }
}

/// ESPAsyncWebServer#453, fastwebsockets#64: torn or interleaved frames where a call was given up.
#[test]
fn send_feed_write_flush_ping_and_close_put_every_frame_on_the_wire_once_whole_and_in_order() {
    let mut cancellations = 0;
    for (role, mark) in
        [(Role::Client, 300), (Role::Server, 0), (Role::Server, 64 << 10), (Role::Client, 64 << 10)]
    {
        let mut frames = incoming();
        let close = frames.pop().unwrap();
        let ((_read, mut write), mut far) = slow(WrapOptions::new(role).write_buffer_len(mark));
        let mut cancel = Cancel::default();
        let mut expected = Vec::new();
        for (turn, (first, payload)) in frames.into_iter().enumerate() {
            let message = wire::message(first, false, &payload);
            cancel
                .until_accepted(&mut write, async |write| send_by_turns(write, turn, message.clone()).await);
            expected.push((first, payload));
            if turn % 10 == 0 {
                // Nobody reads, so its Pong never comes; the Ping goes out all the same.
                cancel.until_accepted(&mut write, async |write| write.ping().await.map(drop));
                expected.push((wire::PING, Vec::new()));
            }
            if turn % 3 == 0 {
                cancel.until_ready(async || write.flush().await).unwrap();
            }
        }
        cancel.until_accepted(&mut write, async |write| write.close_with(4000, "done").await);
        expected.push(close);
        // A second Close is fine, and nothing goes out for it.
        cancel.until_ready(async || write.close_with(4001, "again").await).unwrap();
        cancel.until_ready(async || SinkExt::close(&mut write).await).unwrap();
        cancel.until_ready(async || write.flush().await).unwrap();
        assert_eq!(write.buffered(), 0);
        let sent = decode(&far.input.take_all(), role);
        let pings =
            |frames: &[(u8, Vec<u8>)]| frames.iter().filter(|(first, _)| *first == wire::PING).count();
        assert_eq!(pings(&sent), pings(&expected));
        // The payloads of `ping` are random.
        for (sent, expected) in sent.iter().zip(&expected) {
            assert_eq!(sent.0, expected.0);
            assert!(sent.1 == expected.1 || (sent.0 == wire::PING && sent.1.len() == 16), "{sent:x?}");
        }
        assert_eq!(sent.len(), expected.len());
        cancellations += cancel.count;
    }
    assert!(cancellations >= 200_000, "only {cancellations} cancellations");
}

#[test]
fn sink_close_dropped_at_every_poll_sends_one_empty_close() {
    for role in ROLES {
        let ((_read, mut write), mut far) = slow(WrapOptions::new(role));
        let mut cancel = Cancel::default();
        write.try_feed("before").unwrap();
        cancel.until_ready(async || SinkExt::close(&mut write).await).unwrap();
        let sent = decode(&far.input.take_all(), role);
        assert_eq!(sent, [(wire::TEXT, b"before".to_vec()), (wire::CLOSE, vec![])]);
        assert!(cancel.count >= 4);
    }
}

#[test]
fn shutdown_dropped_at_every_poll_sends_one_close_and_ends_cleanly() {
    for role in ROLES {
        let frames = incoming();
        let ((mut read, mut write), mut far) = slow(WrapOptions::new(role));
        far.put(&encode(&frames, role));
        let Far { mut input, output } = far;
        drop(output);
        write.try_feed("before").unwrap();
        let mut cancel = Cancel::default();
        let deadline = Duration::from_secs(3600);
        let closing = async || shutdown(&mut read, &mut write, 4001, "enough", deadline).await;
        let done = cancel.until_ready(closing).unwrap();
        assert!(done.is_clean());
        assert_eq!(done.received.unwrap().code.number(), 4000);
        let sent = decode(&input.take_all(), role);
        let close = [&4001_u16.to_be_bytes()[..], b"enough"].concat();
        let (first, pongs) = sent.split_at(2);
        assert_eq!(first, [(wire::TEXT, b"before".to_vec()), (wire::CLOSE, close)]);
        // §5.5.2: Pings are answered until the peer's Close.
        assert!(pongs.iter().all(|(first, _)| *first == wire::PONG));
        assert!(input.is_ended());
        assert!(cancel.count >= 100_000, "only {} cancellations", cancel.count);
    }
}

#[test]
fn an_echo_of_dropped_reads_and_dropped_feeds_is_exact() {
    for role in ROLES {
        let frames = incoming();
        let ((mut read, mut write), mut far) = slow(WrapOptions::new(role).write_buffer_len(1 << 20));
        far.put(&encode(&frames, role));
        let Far { mut input, output } = far;
        drop(output);
        let mut cancel = Cancel::default();
        while let Some(message) = cancel.until_ready(async || read.next().await) {
            let message = message.unwrap();
            if message.is_data() {
                cancel.until_accepted(&mut write, async |write| write.feed(message.clone()).await);
            }
        }
        let expected: Vec<_> = frames
            .iter()
            .filter(|(first, _)| *first != wire::PONG)
            .map(|(first, payload)| (if *first == wire::PING { wire::PONG } else { *first }, payload.clone()))
            .collect();
        assert!(decode(&input.take_all(), role) == expected, "the echo differs");
        assert!(cancel.count >= 100_000, "only {} cancellations", cancel.count);
    }
}

#[test]
fn a_frame_that_waits_for_the_message_of_another_writer_is_not_withdrawn_with_its_future() {
    for role in ROLES {
        let ((_read, mut write), mut far) = slow(WrapOptions::new(role));
        let mut other = write.clone();
        let mut cancel = Cancel::default();
        let first = wire::message(wire::FIRST_TEXT, false, b"one ");
        cancel.until_accepted(&mut write, async |write| write.send(first.clone()).await);
        assert!(cancel.attempt(other.text("three")).is_pending());
        write.try_feed(Message::continuation("two", true)).unwrap();
        cancel.until_ready(async || other.flush().await).unwrap();
        let sent = decode(&far.input.take_all(), role);
        let expected = [(wire::FIRST_TEXT, "one "), (wire::LAST, "two"), (wire::TEXT, "three")];
        assert_eq!(sent, expected.map(|(first, payload)| (first, payload.as_bytes().to_vec())));
    }
}

#[test]
fn frame_reader_and_frame_writer_alone_are_as_safe() {
    for role in ROLES {
        let frames = incoming();
        let (mut from, to) = duplex(PLENTY);
        let (mut far_in, mut far_out) = to;
        far_out.put(&encode(&frames, role));
        drop(far_out);
        let mut reader = FrameReader::new(Trickle::new(&mut from.0), WrapOptions::new(role));
        let mut writer =
            FrameWriter::new(Trickle::new(&mut from.1), WrapOptions::new(role).write_buffer_len(100));
        let mut cancel = Cancel::default();
        let mut seen = Vec::new();
        let mut turn = 0;
        while let Some(message) = cancel.until_ready(async || {
            turn += 1;
            if turn % 2 == 0 {
                reader.next().await
            } else {
                reader.frame().await.map(|frame| frame.map(|frame| frame.to_message()))
            }
        }) {
            let message = message.unwrap();
            // `feed` of the sink accepts nothing before it is ready, so that it can be dropped and made again.
            cancel.until_ready(async || writer.feed(message.clone()).await).unwrap();
            seen.push(message);
        }
        cancel.until_ready(async || writer.flush().await).unwrap();
        cancel.until_ready(async || writer.close().await).unwrap();
        assert_eq!(seen, messages_of(&frames, role));
        assert!(decode(&far_in.take_all(), role) == frames, "what was written differs");
        assert!(cancel.count >= 100_000, "only {} cancellations", cancel.count);
    }
}
