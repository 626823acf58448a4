//! `wrap_frames`: halves over channels of decoded frames, whose bytes are never touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use common::{
    drive::{drive, now, settle},
    wire::{self, Dice},
};
use coro_websocket::{
    Checks, Error, FrameSinkWrite, FrameStreamRead, Message, Opcode, ProtocolError, Role, SinkExt, StreamExt,
    WrapOptions, wrap_frames, wrap_io,
};
use futures::{Sink, Stream, channel::mpsc, join};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[derive(Default)]
struct State {
    frames: VecDeque<Message>,
    capacity: usize,
    ready: bool,
    ended: bool,
    flushes: usize,
    sender: Option<Waker>,
    receiver: Option<Waker>,
    /// After so many frames every call fails.
    fails_after: Option<usize>,
    passed: usize,
}

/// A typed channel that refuses when it is full, and that insists on its contract: nothing is sent before it said
/// that it was ready, nor after its end.
#[derive(Clone, Default)]
struct Channel(Arc<Mutex<State>>);

impl Channel {
    fn new(capacity: usize) -> Self {
        let channel = Self::default();
        channel.0.lock().unwrap().capacity = capacity;
        channel
    }

    fn put(&self, message: Message) {
        let mut state = self.0.lock().unwrap();
        state.frames.push_back(message);
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
    }

    fn take_one(&self) -> Option<Message> {
        let mut state = self.0.lock().unwrap();
        let frame = state.frames.pop_front();
        if let Some(waker) = state.sender.take() {
            waker.wake();
        }
        frame
    }

    fn take_all(&self) -> Vec<Message> {
        std::iter::from_fn(|| self.take_one()).collect()
    }

    fn end(&self) {
        let mut state = self.0.lock().unwrap();
        state.ended = true;
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
    }

    fn is_ended(&self) -> bool {
        self.0.lock().unwrap().ended
    }

    fn failing_after(self, count: usize) -> Self {
        self.0.lock().unwrap().fails_after = Some(count);
        self
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.fails_after.is_some_and(|count| self.passed >= count) {
            return Err(io::Error::other("the channel failed"));
        }
        Ok(())
    }
}

impl Sink<Message> for Channel {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        state.check()?;
        if state.frames.len() >= state.capacity {
            state.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.ready = true;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        assert!(std::mem::take(&mut state.ready), "a frame was sent into a channel that was not ready");
        assert!(!state.ended, "a frame was sent into a channel that has ended");
        state.passed += 1;
        state.frames.push_back(message);
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        state.check()?;
        state.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Stream for Channel {
    type Item = io::Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock().unwrap();
        state.check()?;
        match state.frames.pop_front() {
            Some(frame) => {
                state.passed += 1;
                if let Some(waker) = state.sender.take() {
                    waker.wake();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None if state.ended => Poll::Ready(None),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

type Read = FrameStreamRead<Channel, Channel>;
type Write = FrameSinkWrite<Channel>;

/// Halves, what they read and what they have written.
fn wrapped(capacity: usize, options: WrapOptions) -> ((Read, Write), Channel, Channel) {
    let (input, output) = (Channel::new(usize::MAX), Channel::new(capacity));
    (wrap_frames(input.clone(), output.clone(), options), input, output)
}

fn payloads() -> Vec<Bytes> {
    [1, 125, 126, 1024, 65_536, 1 << 20].iter().map(|len| Bytes::from(Dice::new(5).bytes(*len))).collect()
}

/// A sink that refuses when it is full, as in luvit: what is accepted waits for it and is never encoded.
#[test]
fn payloads_go_out_and_come_in_as_the_very_same_bytes() {
    for role in ROLES {
        for mask in [None, Some(true), Some(false)] {
            let options = WrapOptions::new(role).write_buffer_len(1 << 30);
            let options = mask.map_or(options.clone(), |mask| options.mask(mask));
            let ((mut read, mut write), input, output) = wrapped(2, options);
            let mut near = Vec::new();
            for payload in payloads() {
                write.try_feed(Message::binary(payload.clone())).unwrap();
                input.put(Message { mask: true, ..Message::binary(payload.clone()) });
                near.push(payload);
            }
            let mut out = Vec::new();
            while out.len() < near.len() {
                assert!(
                    settle(&mut write.flush()).is_ready() || output.0.lock().unwrap().frames.len() == 2,
                    "full"
                );
                out.extend(output.take_all());
            }
            for (message, payload) in out.iter().zip(&near) {
                assert_eq!(message.payload.as_ptr(), payload.as_ptr(), "copied on the way out");
                assert_eq!(message.len, payload.len() as u64);
                assert_eq!(message.mask, mask.unwrap_or(role == Role::Client));
            }
            for payload in &near {
                let message = drive(read.next()).unwrap().unwrap();
                assert_eq!(message.payload.as_ptr(), payload.as_ptr(), "copied on the way in");
                assert!(message.mask, "it is as it was given");
            }
            input.put(Message::binary(near[5].clone()));
            assert_eq!(drive(read.frame()).unwrap().unwrap().payload.as_ptr(), near[5].as_ptr());
        }
    }
}

#[test]
fn a_sink_that_refuses_when_full_loses_nothing_and_keeps_the_order() {
    for capacity in [1, 2, 5] {
        for mark in [0, 50, 64 << 10] {
            let ((_read, mut write), _input, output) =
                wrapped(capacity, WrapOptions::client().write_buffer_len(mark));
            drive(async {
                let sending = async {
                    for number in 0..200 {
                        if number % 2 == 0 {
                            write.feed(format!("{number}")).await.unwrap();
                        } else {
                            write.send(format!("{number}")).await.unwrap();
                        }
                    }
                };
                let mut receiver = output.clone();
                let receiving = async {
                    for number in 0..200 {
                        let message = receiver.next().await.unwrap().unwrap();
                        assert_eq!(message.as_text(), Some(&number.to_string()[..]));
                        common::drive::pause().await;
                    }
                };
                join!(sending, receiving);
            });
        }
    }
}

#[test]
fn send_resolves_when_the_sink_has_its_frame_though_more_waits_behind_it() {
    let ((mut read, mut one), _input, output) = wrapped(1, WrapOptions::server());
    let mut two = one.clone();
    drive(one.text("fills the channel")).unwrap();
    let mut first = Box::pin(one.text("first"));
    assert!(common::poll_once(&mut first).is_pending());
    drive(two.feed("second")).unwrap();
    output.take_one();
    assert!(common::poll_once(&mut read.next()).is_pending(), "Read moves what it can");
    assert!(common::poll_once(&mut first).is_ready());
    assert!(now(two.flush()).is_pending());
    output.take_one();
    drive(two.flush()).unwrap();
}

#[test]
fn what_write_says_is_what_the_frame_would_have_on_the_wire() {
    for role in ROLES {
        for len in [0, 125, 126, 65_535, 65_536] {
            let ((_read, mut write), _input, _output) = wrapped(1, WrapOptions::new(role));
            let (_io_read, mut io_write) =
                wrap_io(futures::io::empty(), futures::io::sink(), WrapOptions::new(role));
            let message = Message::binary(vec![0; len]);
            let expected = drive(io_write.write(message.clone())).unwrap();
            assert_eq!(drive(write.write(message)).unwrap(), expected);
            assert_eq!(write.stats(), io_write.stats());
        }
    }
}

#[test]
fn the_mark_counts_frames_as_they_would_be_on_the_wire() {
    let ((_read, mut write), _input, output) = wrapped(0, WrapOptions::server().write_buffer_len(100));
    write.try_feed(Message::binary(vec![0; 97])).unwrap();
    assert_eq!(write.buffered(), 99);
    write.try_feed("").unwrap();
    assert_eq!(write.buffered(), 101);
    assert!(write.try_feed("").is_err());
    output.0.lock().unwrap().capacity = 1;
    assert!(output.take_all().is_empty(), "the sink says that it has room");
    drive(write.feed("")).unwrap();
    assert_eq!(write.buffered(), 4);
}

#[test]
fn pings_and_close_are_answered_as_over_bytes() {
    for role in ROLES {
        let ((mut read, _write), input, output) = wrapped(10, WrapOptions::new(role));
        input.put(Message::ping("ping"));
        input.put(Message::close(1001, "going"));
        input.end();
        assert_eq!(drive(read.next()).unwrap().unwrap(), Message::ping("ping"));
        assert_eq!(drive(read.next()).unwrap().unwrap(), Message::close(1001, "going"));
        assert!(drive(read.next()).is_none());
        assert!(output.is_ended(), "the sink is closed behind both Closes");
        let mask = role == Role::Client;
        let expected = [Message::pong("ping"), Message::close(1001, "going")];
        assert_eq!(output.take_all(), expected.map(|message| Message { mask, ..message }));
        assert!(read.close_frames().is_clean());
    }
}

#[test]
fn the_rules_for_frames_hold_and_the_mask_is_nobodys_business() {
    let bad = |first, payload: &[u8]| wire::message(first, false, payload);
    let cases = [
        (vec![bad(0xC1, b"")], ProtocolError::ReservedBits),
        (vec![bad(0x83, b"")], ProtocolError::ReservedOpcode),
        (vec![bad(0x09, b"")], ProtocolError::ControlFragmented),
        (vec![bad(wire::PING, &[0; 126])], ProtocolError::ControlTooLong),
        (vec![bad(wire::LAST, b"")], ProtocolError::UnexpectedContinuation),
        (vec![bad(wire::FIRST_TEXT, b""), bad(wire::TEXT, b"")], ProtocolError::MessageInterleaved),
        (vec![bad(wire::FIRST_TEXT, b"\xce"), bad(wire::LAST, b"\xce")], ProtocolError::InvalidUtf8),
        (vec![bad(wire::CLOSE, &[3])], ProtocolError::ClosePayload),
        (vec![bad(wire::BINARY, &[0; 101])], ProtocolError::FrameTooLarge),
        (vec![bad(wire::FIRST_BINARY, &[0; 100]), bad(wire::LAST, &[0; 51])], ProtocolError::MessageTooLarge),
    ];
    for role in ROLES {
        for (frames, expected) in cases.clone() {
            for mask in [false, true] {
                let options = WrapOptions::new(role).max_frame_len(100).max_message_len(150);
                let ((mut read, mut write), input, output) = wrapped(10, options);
                let before = frames.len() - 1;
                for frame in frames.clone() {
                    input.put(Message { mask, ..frame });
                }
                input.end();
                for _ in 0..before {
                    drive(read.next()).unwrap().unwrap();
                }
                assert!(
                    matches!(drive(read.next()), Some(Err(Error::Protocol { error, .. } | Error::Limit { error, .. })) if error == expected)
                );
                assert!(drive(read.next()).is_none());
                let sent = output.take_all();
                let code = sent[0].as_close().unwrap().unwrap().code;
                assert_eq!((sent.len(), code), (1, expected.into()));
                assert!(output.is_ended() && drive(write.text("late")).is_err());
            }
        }
    }
}

#[test]
fn off_passes_every_frame_as_it_is_and_report_goes_on() {
    let mut frames: Vec<Message> =
        (0..=255).map(|first| wire::message(first, first % 2 == 0, b"\xff")).collect();
    frames.push(wire::message(wire::PING, true, &[0; 200]));
    let ((mut read, mut write), input, output) = wrapped(1000, WrapOptions::client().checks(Checks::Off));
    for frame in &frames {
        input.put(frame.clone());
        assert_eq!(&drive(read.next()).unwrap().unwrap(), frame);
        drive(write.send(frame.clone())).unwrap();
        assert_eq!(&output.take_one().unwrap(), frame, "its own mask too");
    }
    input.end();
    assert!(drive(read.next()).is_none());

    let ((mut read, _write), input, output) = wrapped(10, WrapOptions::client().checks(Checks::Report));
    let bad = wire::message(wire::LAST, false, b"of nothing");
    input.put(bad.clone());
    input.put(Message::text("next"));
    let reported = drive(read.next());
    assert!(matches!(reported, Some(Err(Error::Reported { frame, .. })) if *frame == bad));
    assert_eq!(drive(read.next()).unwrap().unwrap(), Message::text("next"));
    assert_eq!(output.take_all(), []);
}

#[test]
fn the_end_of_the_stream_without_a_close_is_an_error() {
    let ((mut read, _write), input, output) = wrapped(1, WrapOptions::client());
    input.put(Message::text("last"));
    input.end();
    assert!(drive(read.next()).unwrap().is_ok());
    assert!(matches!(drive(read.next()), Some(Err(Error::Lost))));
    assert!(drive(read.next()).is_none() && drive(read.next()).is_none());
    assert_eq!(output.take_all(), []);
}

#[test]
fn a_failing_stream_gives_its_error_and_then_the_end() {
    for count in 0..5 {
        let (input, output) = (Channel::new(10).failing_after(count), Channel::new(10));
        (0..10).for_each(|_| input.put(Message::text("x")));
        let (mut read, mut write) = wrap_frames(input, output, WrapOptions::client());
        for _ in 0..count {
            drive(read.next()).unwrap().unwrap();
        }
        match drive(read.next()) {
            Some(Err(Error::Transport(error))) => assert_eq!(error.to_string(), "the channel failed"),
            other => panic!("{other:?}"),
        }
        assert!(drive(read.next()).is_none() && drive(read.next()).is_none());
        assert!(drive(write.text("late")).is_err());
    }
}

#[test]
fn a_failing_sink_gives_its_error_to_writers_at_once_and_to_read_once_input_has_ended() {
    for count in 0..5 {
        let (input, output) = (Channel::new(10), Channel::new(10).failing_after(count));
        let (mut read, mut write) = wrap_frames(input.clone(), output, WrapOptions::client());
        for _ in 1..count {
            drive(write.text("x")).unwrap();
        }
        // The last frame that is taken cannot be flushed any more.
        assert!(matches!(drive(write.text("x")), Err(Error::Transport(_))));
        assert!(matches!(drive(write.text("x")), Err(Error::Transport(_))));
        input.put(Message::ping("still read"));
        input.end();
        assert!(drive(read.next()).unwrap().is_ok());
        assert!(matches!(drive(read.next()), Some(Err(Error::Transport(_)))));
        assert!(drive(read.next()).is_none());
    }
}

#[test]
fn every_kind_of_error_that_can_be_boxed_will_do() {
    fn both<E, F>(error: E, sink_error: F)
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Into<Box<dyn std::error::Error + Send + Sync>> + Clone,
    {
        let stream = futures::stream::iter([Err::<Message, E>(error)]);
        let sink = Box::pin(futures::sink::unfold((), move |(), _: Message| {
            let error = sink_error.clone();
            async move { Err::<(), F>(error) }
        }));
        let (mut read, mut write) = wrap_frames(stream, sink, WrapOptions::server());
        assert!(matches!(drive(write.text("x")), Err(Error::Transport(_))));
        assert!(matches!(drive(read.next()), Some(Err(Error::Transport(_)))));
    }
    both("a text", String::from("another"));
    both(io::Error::other("io"), Error::Closed(None));
    both(Box::<dyn std::error::Error + Send + Sync>::from("boxed"), "a text");
}

#[test]
fn two_ends_over_channels_of_any_capacity_talk_and_close_cleanly() {
    for capacity in [0, 1, 10] {
        let (near_sink, far_stream) = mpsc::channel(capacity);
        let (far_sink, near_stream) = mpsc::channel(capacity);
        let ok = |message| Ok::<Message, Infallible>(message);
        let (mut near_read, mut near) = wrap_frames(near_stream.map(ok), near_sink, WrapOptions::client());
        let (mut far_read, mut far) = wrap_frames(far_stream.map(ok), far_sink, WrapOptions::server());
        drive(async {
            let asking = async {
                for number in 0..100 {
                    near.feed(format!("{number}")).await.unwrap();
                    near.send(Message::ping("")).await.unwrap();
                }
                near.close_with(1000, "").await.unwrap();
            };
            let echoes = async {
                let mut echoed = 0;
                while let Some(message) = near_read.next().await.transpose().unwrap() {
                    echoed += usize::from(message.opcode == Opcode::TEXT);
                }
                echoed
            };
            let echoing = async {
                while let Some(message) = far_read.next().await.transpose().unwrap() {
                    if message.is_data() {
                        far.feed(message).await.unwrap();
                    }
                }
            };
            let ((), echoed, ()) = join!(asking, echoes, echoing);
            assert_eq!(echoed, 100);
            assert!(near_read.close_frames().is_clean() && far_read.close_frames().is_clean());
        });
    }
}
