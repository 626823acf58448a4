//! The rules of `Write`: what may go out, when it does, and who waits for whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use common::{
    Far, alone,
    drive::{Later, drive, drive_with, now, settle},
    fault::{Fault, FaultyWrite, Pace},
    poll_once, wire,
};
use coro_websocket::{
    CloseCode, Error, FrameWriter, Message, Opcode, ProtocolError, Role, SinkExt, StreamExt, TryFeedError,
    WrapOptions, wrap_io,
};
use futures::{AsyncWrite, FutureExt, Sink};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// First byte and payload of everything that was sent, in order.
fn sent(far: &mut Far) -> Vec<(u8, String)> {
    let frames = far.frames().into_iter();
    frames.map(|frame| (frame.first, String::from_utf8_lossy(&frame.payload).into_owned())).collect()
}

fn texts(expected: &[(u8, &str)]) -> Vec<(u8, String)> {
    expected.iter().map(|(first, payload)| (*first, (*payload).to_owned())).collect()
}

/// Frames that a strict peer would refuse, and why.
fn invalid() -> Vec<(Message, ProtocolError)> {
    let frame = |first: u8, payload: &[u8]| wire::message(first, false, payload);
    vec![
        (frame(0xC1, b""), ProtocolError::ReservedBits),
        (frame(0xA2, b""), ProtocolError::ReservedBits),
        (frame(0x99, b""), ProtocolError::ReservedBits),
        (frame(0x83, b""), ProtocolError::ReservedOpcode),
        (frame(0x87, b""), ProtocolError::ReservedOpcode),
        (frame(0x8B, b""), ProtocolError::ReservedOpcode),
        (frame(0x8F, b""), ProtocolError::ReservedOpcode),
        (frame(wire::PING, &[0; 126]), ProtocolError::ControlTooLong),
        (frame(wire::PONG, &[0; 70_000]), ProtocolError::ControlTooLong),
        (frame(0x09, b""), ProtocolError::ControlFragmented),
        (frame(0x08, b""), ProtocolError::ControlFragmented),
        (frame(wire::LAST, b""), ProtocolError::UnexpectedContinuation),
        (frame(wire::NEXT, b""), ProtocolError::UnexpectedContinuation),
        (frame(wire::TEXT, b"\xff"), ProtocolError::InvalidUtf8),
        (frame(wire::TEXT, b"\xe2\x82"), ProtocolError::InvalidUtf8),
        (frame(wire::CLOSE, &[3]), ProtocolError::ClosePayload),
        (frame(wire::CLOSE, &[0; 126]), ProtocolError::ControlTooLong),
        (frame(wire::CLOSE, b"\x03\xe8\xff"), ProtocolError::CloseReason),
        (Message::close(1005, "not on the wire"), ProtocolError::CloseCode),
        (Message::close(1006, ""), ProtocolError::CloseCode),
        (Message::close(1015, ""), ProtocolError::CloseCode),
        (Message::close(999, ""), ProtocolError::CloseCode),
        (Message::close(5000, ""), ProtocolError::CloseCode),
        (Message::close(1000, &"x".repeat(124)), ProtocolError::ControlTooLong),
    ]
}

#[test]
fn an_invalid_frame_is_refused_nothing_goes_out_and_the_connection_goes_on() {
    for role in ROLES {
        for (message, expected) in invalid() {
            let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::new(role));
            let is_expected =
                |error: Error| matches!(error, Error::Invalid { error, .. } if error == expected);
            assert!(is_expected(drive(write.send(message.clone())).unwrap_err()), "{message}");
            assert!(is_expected(drive(write.write(message.clone())).unwrap_err()));
            assert!(is_expected(drive(write.feed(message.clone())).unwrap_err()));
            assert!(is_expected(drive(SinkExt::send(&mut write, message.clone())).unwrap_err()));
            match write.try_feed(message.clone()) {
                Err(TryFeedError::Refused { message: back, error }) => {
                    assert!(is_expected(error));
                    assert_eq!(back, message, "it is handed back");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!((write.buffered(), write.stats().frames_out), (0, 0));
            drive(write.text("goes on")).unwrap();
            assert_eq!(sent(&mut far), texts(&[(wire::TEXT, "goes on")]), "after {message}");
            let mut alone = FrameWriter::new(Vec::new(), WrapOptions::new(role));
            assert!(is_expected(drive(alone.send(message)).unwrap_err()));
            assert_eq!(alone.into_inner(), []);
        }
    }
}

#[test]
fn an_invalid_code_does_not_close() {
    let ((_read, mut write), mut far) = alone(1024, WrapOptions::client());
    assert!(matches!(
        drive(write.close_with(1006, "")),
        Err(Error::Invalid { error: ProtocolError::CloseCode, .. })
    ));
    assert!(!write.is_closed());
    drive(write.close_with(CloseCode::NO_STATUS, "")).unwrap();
    assert!(write.is_closed());
    assert_eq!(sent(&mut far), texts(&[(wire::CLOSE, "")]));
}

#[test]
fn an_invalid_frame_in_mid_message_leaves_the_message_open() {
    let ((_read, mut write), mut far) = alone(1024, WrapOptions::server());
    drive(write.send(wire::message(wire::FIRST_TEXT, false, b"\xce"))).unwrap();
    for (message, _) in invalid().into_iter().filter(|(message, _)| message.opcode != Opcode::CONTINUATION) {
        assert!(matches!(drive(write.send(message)), Err(Error::Invalid { .. })));
    }
    drive(write.send(wire::message(wire::LAST, false, b"\xba"))).unwrap();
    assert_eq!(far.frames().len(), 2);
}

#[test]
fn write_gives_the_exact_number_of_bytes_on_the_wire() {
    for role in ROLES {
        let key_len = if role == Role::Client { 4 } else { 0 };
        for len in [0, 1, 125, 126, 127, 1023, 1024, 65_535, 65_536, 100_000] {
            let header_len = 2
                + key_len
                + match len {
                    0..=125 => 0,
                    126..=65_535 => 2,
                    _ => 8,
                };
            let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::new(role));
            assert_eq!(drive(write.binary(vec![0; len])).unwrap(), header_len + len);
            assert_eq!(drive(write.write(Message::text("é".repeat(len / 2)))).unwrap(), {
                let len = len / 2 * 2;
                let header_len = 2
                    + key_len
                    + if len > 65_535 {
                        8
                    } else if len > 125 {
                        2
                    } else {
                        0
                    };
                header_len + len
            });
            let bytes = far.input.take_all();
            assert_eq!(write.stats().bytes_out, bytes.len() as u64);
            assert_eq!(wire::frames(&bytes)[0].wire_len, header_len + len);
        }
    }
}

#[test]
fn data_of_another_writer_waits_for_the_end_of_a_fragmented_message_and_control_frames_pass() {
    for role in ROLES {
        let ((_read, mut one), mut far) = alone(1 << 20, WrapOptions::new(role));
        let (mut two, mut three) = (one.clone(), one.clone());
        drive(one.send(wire::message(wire::FIRST_TEXT, false, b"1a"))).unwrap();
        let mut waiting = Box::pin(two.text("2"));
        assert!(settle(&mut waiting).is_pending());
        drive(three.send(Message::ping("passes"))).unwrap();
        drive(three.pong("passes too")).unwrap();
        assert!(matches!(three.try_feed("3"), Err(TryFeedError::Full(back)) if back.as_text() == Some("3")));
        drive(three.feed("3")).unwrap();
        drive(one.send(wire::message(wire::NEXT, false, b"1b"))).unwrap();
        assert!(settle(&mut waiting).is_pending());
        drive(one.send(wire::message(wire::LAST, false, b"1c"))).unwrap();
        assert!(matches!(drive(waiting), Ok(2..)));
        drive(three.flush()).unwrap();
        let expected = [
            (wire::FIRST_TEXT, "1a"),
            (wire::PING, "passes"),
            (wire::PONG, "passes too"),
            (wire::NEXT, "1b"),
            (wire::LAST, "1c"),
            (wire::TEXT, "2"),
            (wire::TEXT, "3"),
        ];
        assert_eq!(sent(&mut far), texts(&expected));
    }
}

#[test]
fn a_waiting_writer_is_woken_by_the_end_of_the_message() {
    let ((_read, mut one), mut far) = alone(1024, WrapOptions::client());
    let mut two = one.clone();
    drive(async {
        one.send(wire::message(wire::FIRST_BINARY, false, b"1")).await.unwrap();
        // `drive` fails if nobody wakes the writer that waits.
        let (waited, ended) = futures::join!(two.text("2"), async {
            common::drive::pause().await;
            one.send(Message::continuation("1", true)).await
        });
        waited.unwrap();
        ended.unwrap();
    });
    assert_eq!(far.frames().len(), 3);
}

#[test]
fn fragmented_messages_of_several_writers_come_one_after_the_other() {
    let ((_read, write), mut far) = alone(1 << 20, WrapOptions::server());
    let writers: Vec<_> = (0..5).map(|_| write.clone()).collect();
    drive(futures::future::join_all(writers.into_iter().enumerate().map(async |(number, mut write)| {
        for turn in 0..20 {
            let part = format!("{number} {turn}");
            write.send(wire::message(wire::FIRST_TEXT, false, part.as_bytes())).await.unwrap();
            common::drive::pause().await;
            write.send(Message::continuation(part.clone(), false)).await.unwrap();
            write.send(Message::ping("")).await.unwrap();
            common::drive::pause().await;
            write.send(Message::continuation(part, true)).await.unwrap();
        }
    })));
    let mut open: Option<Vec<u8>> = None;
    let mut messages = 0;
    for frame in far.frames().into_iter().filter(|frame| frame.first != wire::PING) {
        match &open {
            None => {
                assert_eq!(frame.first, wire::FIRST_TEXT);
                open = Some(frame.payload);
            }
            Some(part) => {
                assert_eq!(&frame.payload, part, "fragments of two messages are mixed");
                if frame.first == wire::LAST {
                    open = None;
                    messages += 1;
                }
            }
        }
    }
    assert_eq!(messages, 100);
}

#[test]
fn a_close_passes_an_open_message_and_what_waits_for_it_fails() {
    let ((_read, mut one), mut far) = alone(1024, WrapOptions::client());
    let (mut two, mut three) = (one.clone(), one.clone());
    drive(one.send(wire::message(wire::FIRST_TEXT, false, b"never finished"))).unwrap();
    let mut waiting = Box::pin(two.text("never sent"));
    assert!(poll_once(&mut waiting).is_pending());
    drive(three.close_with(1000, "")).unwrap();
    assert!(matches!(drive(waiting), Err(Error::Closed(_))));
    assert!(matches!(drive(one.send(Message::continuation("", true))), Err(Error::Closed(_))));
    let sent: Vec<u8> = far.frames().iter().map(|frame| frame.first).collect();
    assert_eq!(sent, [wire::FIRST_TEXT, wire::CLOSE]);
    drop(one);
    assert!(matches!(drive(two.text("late")), Err(Error::Closed(_))), "that was no desertion");
}

#[test]
fn a_writer_dropped_in_mid_message_fails_the_connection_for_all() {
    for role in ROLES {
        let ((mut read, mut one), mut far) = alone(1024, WrapOptions::new(role));
        let (mut two, mut three) = (one.clone(), one.clone());
        drive(one.send(wire::message(wire::FIRST_TEXT, false, b"never finished"))).unwrap();
        let mut waiting = Box::pin(two.text("never sent"));
        assert!(poll_once(&mut waiting).is_pending());
        drop(one);
        assert!(matches!(drive(waiting), Err(Error::Abandoned)));
        assert!(matches!(drive(three.text("late")), Err(Error::Abandoned)));
        assert!(matches!(now(three.feed("late")), Poll::Ready(Err(Error::Abandoned))));
        assert!(three.is_closed());
        assert!(poll_once(&mut read.next()).is_pending(), "the peer is to have read the Close");
        let frames = far.frames();
        assert_eq!((frames.len(), frames[1].close_code()), (2, 1011));
        assert!(far.input.is_ended());
        drop(far);
        assert!(matches!(drive(read.next()), Some(Err(Error::Abandoned))));
        assert!(drive(read.next()).is_none());
        assert!(matches!(drive(three.text("later")), Err(Error::Abandoned)), "the reason does not change");
    }
}

#[test]
fn read_is_woken_when_a_writer_is_dropped_in_mid_message() {
    let ((mut read, mut write), far) = alone(1024, WrapOptions::client());
    drive(write.send(wire::message(wire::FIRST_TEXT, false, b"a"))).unwrap();
    let error = drive(async {
        futures::join!(read.next(), async {
            common::drive::pause().await;
            drop(write);
            common::drive::pause().await;
            drop(far);
        })
        .0
    });
    assert!(matches!(error, Some(Err(Error::Abandoned))));
}

#[test]
fn a_writer_dropped_before_its_message_began_on_the_wire_takes_it_back_and_nothing_else() {
    let ((_read, mut one), mut far) = alone(1024, WrapOptions::client());
    drive(one.send(wire::message(wire::FIRST_TEXT, false, b"1"))).unwrap();
    let mut two = one.clone();
    drive(two.feed(wire::message(wire::FIRST_TEXT, false, b"withdrawn"))).unwrap();
    drop(two);
    drive(one.send(Message::continuation("1", true))).unwrap();
    drive(one.text("goes on")).unwrap();
    let expected = [(wire::FIRST_TEXT, "1"), (wire::LAST, "1"), (wire::TEXT, "goes on")];
    assert_eq!(sent(&mut far), texts(&expected));
}

#[test]
fn a_whole_message_that_waits_is_sent_though_its_writer_was_dropped() {
    for role in ROLES {
        let ((_read, mut one), mut far) = alone(1024, WrapOptions::new(role));
        drive(one.send(wire::message(wire::FIRST_TEXT, false, b"1"))).unwrap();
        let mut two = one.clone();
        drive(two.feed("2")).unwrap();
        drop(two);
        // Others come and go meanwhile.
        let mut three = one.clone();
        drive(three.feed(wire::message(wire::FIRST_BINARY, false, b"withdrawn"))).unwrap();
        drop(three);
        drive(one.clone().feed("4")).unwrap();
        drive(one.send(Message::continuation("1", true))).unwrap();
        drive(one.text("end")).unwrap();
        let expected = [
            (wire::FIRST_TEXT, "1"),
            (wire::LAST, "1"),
            (wire::TEXT, "2"),
            (wire::TEXT, "4"),
            (wire::TEXT, "end"),
        ];
        assert_eq!(sent(&mut far), texts(&expected));
    }
}

#[test]
fn a_new_writer_waits_for_its_own_frame_and_not_for_that_of_a_writer_before_it() {
    let ((_read, mut one), mut far) = alone(1024, WrapOptions::client());
    let mut long = one.clone();
    drive(one.send(wire::message(wire::FIRST_TEXT, false, b"1"))).unwrap();
    let mut two = one.clone();
    drive(two.feed("2")).unwrap();
    drop(two);
    drive(long.feed(wire::message(wire::FIRST_TEXT, false, b"long"))).unwrap();
    let mut new = one.clone();
    let mut waiting = Box::pin(new.text("new"));
    assert!(poll_once(&mut waiting).is_pending());
    drive(one.send(Message::continuation("1", true))).unwrap();
    assert!(settle(&mut waiting).is_pending(), "the message of another writer is open now");
    drive(long.send(Message::continuation("long", true))).unwrap();
    assert!(matches!(drive(waiting), Ok(9)));
    let expected = [
        (wire::FIRST_TEXT, "1"),
        (wire::LAST, "1"),
        (wire::TEXT, "2"),
        (wire::FIRST_TEXT, "long"),
        (wire::LAST, "long"),
        (wire::TEXT, "new"),
    ];
    assert_eq!(sent(&mut far), texts(&expected));
}

#[test]
fn try_feed_hands_the_message_back_above_the_mark() {
    let ((_read, mut write), mut far) = alone(0, WrapOptions::server().write_buffer_len(10));
    write.try_feed("12345").unwrap();
    assert_eq!(write.buffered(), 7);
    write.try_feed("67890").unwrap();
    assert_eq!(write.buffered(), 14, "one frame may go beyond the mark");
    let refused = write.try_feed("too much").unwrap_err();
    assert!(matches!(&refused, TryFeedError::Full(message) if message.as_text() == Some("too much")));
    assert_eq!(refused.into_message(), Message::text("too much"));
    assert_eq!((write.buffered(), write.stats().frames_out), (14, 2));
    far.grow(100);
    drive(write.flush()).unwrap();
    write.try_feed("room again").unwrap();
}

#[test]
fn try_feed_hands_the_message_back_when_closed() {
    let ((_read, mut write), _far) = alone(1024, WrapOptions::server());
    drive(write.close_with(1000, "")).unwrap();
    let refused = write.try_feed("late").unwrap_err();
    assert!(matches!(&refused, TryFeedError::Refused { error: Error::Closed(_), .. }));
    assert_eq!(refused.into_message(), Message::text("late"));
}

fn poll_ready<S: Sink<Message> + Unpin>(sink: &mut S) -> Poll<Result<(), S::Error>> {
    Pin::new(sink).poll_ready(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn poll_ready_waits_at_the_mark_and_is_ready_below_it() {
    let ((_read, mut write), mut far) = alone(0, WrapOptions::server().write_buffer_len(100));
    let mut other = write.clone();
    drive(write.feed(Message::binary(vec![0; 96]))).unwrap();
    assert_eq!(write.buffered(), 98);
    assert!(poll_ready(&mut write).is_ready(), "below the mark");
    drive(write.feed("")).unwrap();
    assert_eq!(write.buffered(), 100);
    assert!(poll_ready(&mut write).is_pending() && poll_ready(&mut other).is_pending());
    far.grow(1);
    assert!(poll_ready(&mut write).is_ready(), "one byte was taken, so 99 are left");
    assert_eq!(write.buffered(), 99);
    assert!(poll_ready(&mut other).is_ready());
}

#[test]
fn a_mark_of_zero_means_that_each_frame_waits_for_those_before_it() {
    let ((_read, mut write), mut far) = alone(0, WrapOptions::server().write_buffer_len(0));
    drive(write.feed("a")).unwrap();
    assert!(now(write.feed("b")).is_pending());
    far.grow(2);
    assert!(now(write.feed("b")).is_pending(), "a byte is left");
    far.grow(1);
    drive(write.feed("b")).unwrap();
    assert_eq!(write.buffered(), 3);
}

#[test]
fn send_resolves_when_its_own_frame_is_handed_over_though_more_is_buffered_behind_it() {
    // The transport has room for the first frame only.
    let ((_read, mut one), mut far) = alone(0, WrapOptions::server());
    let mut two = one.clone();
    let mut first = Box::pin(one.text("12345"));
    assert!(poll_once(&mut first).is_pending());
    drive(two.feed("67890")).unwrap();
    let mut second = Box::pin(two.flush());
    assert!(poll_once(&mut second).is_pending());
    far.grow(6);
    assert!(poll_once(&mut first).is_pending());
    far.grow(1);
    assert!(matches!(poll_once(&mut first), Poll::Ready(Ok(7))));
    assert!(poll_once(&mut second).is_pending());
}

/// Whoever moves the bytes: here it is `Read`, and then another writer, that try to move all of them.
#[test]
fn send_resolves_when_its_own_frame_was_handed_over_by_somebody_else() {
    let ((mut read, mut one), mut far) = alone(0, WrapOptions::server());
    let mut two = one.clone();
    let mut first = Box::pin(one.text("12345"));
    assert!(poll_once(&mut first).is_pending());
    drive(two.feed("67890")).unwrap();
    far.grow(7);
    assert!(poll_once(&mut read.next()).is_pending());
    assert!(matches!(poll_once(&mut first), Poll::Ready(Ok(7))), "Read wrote it");

    let ((_read, mut one), mut far) = alone(0, WrapOptions::server());
    let mut two = one.clone();
    let mut first = Box::pin(one.text("12345"));
    assert!(poll_once(&mut first).is_pending());
    drive(two.feed("67890")).unwrap();
    let mut second = Box::pin(two.flush());
    far.grow(9);
    assert!(poll_once(&mut second).is_pending());
    assert!(matches!(poll_once(&mut first), Poll::Ready(Ok(7))), "the other writer wrote it");
}

/// And it is woken for that.
#[test]
fn send_is_woken_when_its_own_frame_was_handed_over_by_somebody_else() {
    let ((mut read, mut one), mut far) = alone(0, WrapOptions::server());
    let mut two = one.clone();
    drive(async {
        let mut first = Box::pin(one.text("12345"));
        assert!(poll_once(&mut first).is_pending());
        two.feed("67890").await.unwrap();
        let room = async {
            common::drive::pause().await;
            far.grow(8);
        };
        let reading = async { read.next().await };
        let sending = async { futures::join!(first, room).0 };
        match futures::future::select(Box::pin(reading), Box::pin(sending)).await {
            futures::future::Either::Right((sent, _)) => assert_eq!(sent.unwrap(), 7),
            futures::future::Either::Left(_) => panic!("nothing was to be read"),
        }
    });
}

#[test]
fn flush_waits_for_the_frames_of_its_own_clone_only() {
    let ((_read, mut one), mut far) = alone(0, WrapOptions::server());
    let mut two = one.clone();
    drive(one.feed("1")).unwrap();
    drive(two.feed("2")).unwrap();
    far.grow(3);
    drive(one.flush()).unwrap();
    assert!(now(two.flush()).is_pending());
    far.grow(3);
    drive(two.flush()).unwrap();
    assert_eq!(write_len(&mut far), 6);
}

fn write_len(far: &mut Far) -> usize {
    far.input.take_all().len()
}

#[test]
fn small_frames_that_were_fed_go_out_in_one_write() {
    let later = Later::default();
    let (io, taken) = FaultyWrite::new(Pace::FAST, None, &later);
    let (_read, mut write) = wrap_io(futures::io::empty(), io, WrapOptions::client());
    drive_with(
        async {
            for _ in 0..500 {
                write.feed("small").await.unwrap();
            }
            write.flush().await.unwrap();
        },
        &later,
    );
    assert_eq!(wire::frames(&taken.bytes()).len(), 500);
    assert_eq!((taken.calls(), taken.flushes()), (1, 1));
}

/// Notes the length of each write. A wrapper that forgets vectored writes gets `AsyncWrite`'s own, which write the first
/// slice alone; tokio-util's `Compat` is one.
#[derive(Default)]
struct Lengths {
    vectored: bool,
    seen: Vec<usize>,
}

impl AsyncWrite for Lengths {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.seen.push(buf.len());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.vectored {
            return self.poll_write(cx, &bufs[0]);
        }
        let len = bufs.iter().map(|buf| buf.len()).sum();
        self.seen.push(len);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_transport_that_takes_one_slice_at_a_time_gets_frames_in_one_piece_soon() {
    const LEN: usize = 16 << 10;
    const LONG: usize = 64 << 10;
    let seen = |vectored| {
        let mut writer = FrameWriter::new(Lengths { vectored, seen: Vec::new() }, WrapOptions::server());
        for len in [LEN, LEN, LEN, LEN, LONG, LEN] {
            writer.send(Message::binary(vec![1; len])).now_or_never().unwrap().unwrap();
        }
        writer.into_inner().seen
    };
    assert_eq!(seen(true), [LEN + 4, LEN + 4, LEN + 4, LEN + 4, LONG + 10, LEN + 4]);
    assert_eq!(seen(false), [4, LEN, 4, LEN, LEN + 4, LEN + 4, 10, LONG, LEN + 4]);
}

/// A transport that buffers has the first frame, and takes the second only once that is flushed.
#[test]
fn what_the_transport_has_is_flushed_though_it_takes_nothing_now() {
    let later = Later::default();
    let (transport, taken) = FaultyWrite::new(Pace::FAST, Some((3, Fault::Stall(2))), &later);
    let mut writer = FrameWriter::new(transport, WrapOptions::server().write_buffer_len(0));
    drive(writer.feed(Message::text("a"))).unwrap();
    assert!(poll_ready(&mut writer).is_ready());
    assert_eq!((taken.calls(), taken.flushes()), (1, 0));
    assert!(now(writer.send(Message::text("b"))).is_ready());
    assert_eq!((taken.calls(), taken.flushes()), (2, 2));
}

#[test]
fn the_header_of_a_large_masked_frame_goes_out_with_its_payload() {
    let mut writer = FrameWriter::new(Lengths { vectored: true, seen: Vec::new() }, WrapOptions::client());
    writer.send(Message::binary(vec![1; 200 << 10])).now_or_never().unwrap().unwrap();
    assert_eq!(writer.into_inner().seen, [14 + (64 << 10), 64 << 10, 64 << 10, 8 << 10]);
}

#[test]
fn a_second_close_is_fine_and_changes_nothing_and_data_is_refused() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        let mut clone = write.clone();
        drive(write.close_with(1000, "first")).unwrap();
        drive(clone.close_with(1001, "second")).unwrap();
        drive(clone.send(Message::close(1001, "third"))).unwrap();
        drive(SinkExt::close(&mut clone)).unwrap();
        assert!(write.is_closed() && clone.is_closed());
        for write in [&mut write, &mut clone] {
            assert!(matches!(drive(write.text("late")), Err(Error::Closed(_))));
            assert!(matches!(drive(write.feed("late")), Err(Error::Closed(_))));
            assert!(matches!(drive(write.send(Message::ping(""))), Err(Error::Closed(_))));
            assert!(matches!(drive(write.send(Message::pong(""))), Err(Error::Closed(_))));
            assert!(matches!(drive(SinkExt::send(write, Message::text("late"))), Err(Error::Closed(_))));
            drive(SinkExt::send(write, Message::close(1001, "a sink that knows no better"))).unwrap();
        }
        assert_eq!(sent(&mut far), texts(&[(wire::CLOSE, "\u{3}\u{fffd}first")]));
        assert_eq!(write.close_frames().sent.unwrap().reason, "first");
        // Once it is all over, too.
        far.put(&wire::close_to(role, 1000, ""));
        drop(far);
        drive(async { while read.next().await.transpose().unwrap().is_some() {} });
        drive(clone.close_with(1000, "at last")).unwrap();
        drive(SinkExt::close(&mut clone)).unwrap();
        assert!(matches!(drive(clone.text("later")), Err(Error::Closed(_))));
    }
}

#[test]
fn a_close_after_that_of_the_peer_was_answered_is_fine() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::close_to(role, 4000, ""));
        assert_eq!(drive(read.next()).unwrap().unwrap().opcode, Opcode::CLOSE);
        drive(write.close_with(1000, "")).unwrap();
        let Far { mut input, output } = far;
        drop(output);
        assert!(drive(read.next()).is_none());
        drive(write.close_with(1000, "")).unwrap();
        assert_eq!(wire::frames(&input.take_all()).len(), 1, "one Close in all");
    }
}

#[test]
fn a_close_goes_out_behind_all_that_was_accepted_before() {
    for role in ROLES {
        let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::new(role));
        let mut clone = write.clone();
        drive(clone.feed("1")).unwrap();
        drive(write.feed(Message::binary(vec![b'2'; 100_000]))).unwrap();
        drive(write.close_with(1000, "")).unwrap();
        let firsts: Vec<u8> = far.frames().iter().map(|frame| frame.first).collect();
        assert_eq!(firsts, [wire::TEXT, wire::BINARY, wire::CLOSE]);
    }
}

#[test]
fn a_close_does_not_wait_for_room() {
    let ((_read, mut write), mut far) = alone(0, WrapOptions::server().write_buffer_len(1));
    drive(write.feed("above")).unwrap();
    assert!(now(write.close_with(1000, "")).is_pending(), "it waits for the transport");
    assert!(write.is_closed(), "but it is accepted");
    far.grow(100);
    drive(write.flush()).unwrap();
    assert_eq!(far.frames().len(), 2);
}

/// CVE-2026-45736 and CVE-2016-10518 (node ws): bytes of other memory went out with control frames.
#[test]
fn control_frames_carry_their_payload_and_nothing_else() {
    for len in 0..=125 {
        let payload: Vec<u8> = (0..len).map(|byte| b'a' + byte % 26).collect();
        let reason = String::from_utf8(payload.iter().copied().take(123).collect()).unwrap();
        for message in
            [Message::ping(payload.clone()), Message::pong(payload.clone()), Message::close(1000, &reason)]
        {
            let mut expected =
                vec![0x80 | message.opcode.bits(), u8::try_from(message.payload.len()).unwrap()];
            expected.extend_from_slice(&message.payload);
            let ((_read, mut write), mut far) = alone(1024, WrapOptions::server());
            drive(write.send(message)).unwrap();
            assert_eq!(far.input.take_all(), expected);
        }
    }
}
