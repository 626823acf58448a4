//! Ping, Pong and Close (RFC 6455 §5.5).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};

use common::{
    Far, alone,
    drive::{drive, now, settle},
    fail, poll_once, wire,
};
use coro_websocket::{
    Checks, CloseCode, Error, IoRead, Message, Opcode, ProtocolError, Role, SinkExt, StreamExt, WrapOptions,
};
use futures::{
    future::{Either, select},
    join,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Reads one frame that has come.
fn take<R, W>(read: &mut IoRead<R, W>) -> Message
where
    R: futures::io::AsyncRead + Unpin,
    W: futures::io::AsyncWrite + Unpin,
{
    match poll_once(&mut read.next()) {
        Poll::Ready(Some(Ok(message))) => message,
        other => panic!("{other:?} instead of a frame"),
    }
}

fn pongs(far: &mut Far) -> Vec<Vec<u8>> {
    far.frames().into_iter().filter(|frame| frame.first == wire::PONG).map(|frame| frame.payload).collect()
}

/// §5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it already received a
/// Close frame. It SHOULD respond with Pong frame as soon as is practical."
#[test]
fn a_pong_is_buffered_before_its_ping_is_yielded() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::PING, "first"));
        assert_eq!(take(&mut read).opcode, Opcode::PING);
        assert!(write.buffered() > 0, "the Pong waits already");
        drive(write.text("second")).unwrap();
        let firsts: Vec<u8> = far.frames().iter().map(|frame| frame.first).collect();
        assert_eq!(firsts, [wire::PONG, wire::TEXT]);
    }
}

/// §5.5.3: "A Pong frame sent in response to a Ping frame must have identical "Application data" as found in the
/// message body of the Ping frame being replied to."
#[test]
fn every_ping_is_answered_in_order_with_its_own_payload() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::new(role));
        let payloads: Vec<Vec<u8>> = (0..=125).map(|len| wire::Dice::new(len as u64).bytes(len)).collect();
        for payload in &payloads {
            far.put(&wire::to(role, wire::PING, payload));
        }
        for payload in &payloads {
            assert_eq!(take(&mut read).payload, payload);
        }
        assert!(poll_once(&mut read.next()).is_pending());
        assert_eq!(pongs(&mut far), payloads);
    }
}

#[test]
fn a_lent_ping_is_answered_too() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client());
    far.put(&wire::to(Role::Client, wire::PING, "lent"));
    assert_eq!(drive(read.frame()).unwrap().unwrap().payload, b"lent");
    assert!(now(read.frame()).is_pending());
    assert_eq!(pongs(&mut far), [b"lent"]);
}

#[test]
fn without_auto_pong_the_caller_answers() {
    let ((mut read, mut write), mut far) = alone(1024, WrapOptions::server().auto_pong(false));
    far.put(&wire::to(Role::Server, wire::PING, "yours"));
    let ping = take(&mut read);
    assert!(poll_once(&mut read.next()).is_pending());
    assert_eq!(far.frames(), []);
    assert_eq!(drive(write.pong(ping.payload)).unwrap(), 7);
    assert_eq!(pongs(&mut far), [b"yours"]);
    // Close frames are answered all the same.
    far.put(&wire::close_to(Role::Server, 1000, ""));
    assert_eq!(drive(read.next()).unwrap().unwrap().opcode, Opcode::CLOSE);
    assert_eq!(far.frames()[0].close_code(), 1000);
}

/// §5.5.3: "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to previous Ping
/// frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame."
#[test]
fn above_the_mark_only_the_latest_ping_is_answered() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(0, WrapOptions::new(role).write_buffer_len(100));
        assert!(now(write.binary(vec![0; 200])).is_pending());
        let above = write.buffered();
        assert!(above > 200);
        for number in 0..100 {
            far.put(&wire::to(role, wire::PING, format!("{number}")));
            assert_eq!(take(&mut read).payload, format!("{number}"));
            assert_eq!(write.buffered(), above, "memory is bounded while nothing goes out");
        }
        // Now the transport takes what waits.
        let mut sent = Vec::new();
        let mut reading = read.next();
        for _ in 0..1000 {
            assert!(settle(&mut reading).is_pending());
            far.grow(1);
            sent.extend(far.input.take_all());
        }
        let sent = wire::frames(&sent);
        assert_eq!(sent.len(), 2);
        assert_eq!((sent[0].first, sent[1].first), (wire::BINARY, wire::PONG));
        assert_eq!(sent[1].payload, b"99");
    }
}

/// CVE-2020-35896: what was to go out to a peer that does not read grew without bound.
#[test]
fn cve_2020_35896_a_flood_of_pings_from_a_peer_that_does_not_read_is_buffered_up_to_the_mark() {
    for role in ROLES {
        let mark = 4096;
        let ((mut read, write), mut far) = alone(0, WrapOptions::new(role).write_buffer_len(mark));
        for _ in 0..20_000 {
            far.put(&wire::to(role, wire::PING, [0; 125]));
            take(&mut read);
            assert!(write.buffered() < mark + 140);
        }
    }
}

/// CVE-2025-5399: a Pong that could not be written was tried again without end.
#[test]
fn cve_2025_5399_a_reader_whose_pong_is_blocked_waits_without_spinning() {
    let ((mut read, mut write), mut far) = alone(0, WrapOptions::client());
    assert!(now(write.text("blocked")).is_pending());
    far.put(&wire::to(Role::Client, wire::PING, ""));
    take(&mut read);
    let mut polls = 0;
    let mut reading = read.next();
    let mut reading = poll_fn(|cx| {
        polls += 1;
        std::pin::Pin::new(&mut reading).poll(cx)
    });
    assert!(settle(&mut pin!(&mut reading)).is_pending());
    assert!(polls <= 2, "{polls} polls and nothing to do");
}

#[test]
fn a_pong_goes_out_while_a_large_frame_of_a_writer_is_blocked() {
    let ((mut read, mut write), mut far) = alone(1000, WrapOptions::server().write_buffer_len(1 << 20));
    let mut sending = Box::pin(write.binary(vec![5; 10_000]));
    assert!(poll_once(&mut sending).is_pending());
    far.put(&wire::to(Role::Server, wire::PING, "now"));
    take(&mut read);
    let mut sent = Vec::new();
    // The writer's task does nothing any more; the reader's moves everything.
    while poll_once(&mut read.next()).is_pending() {
        let part = far.input.take_all();
        if part.is_empty() {
            break;
        }
        sent.extend(part);
    }
    let firsts: Vec<u8> = wire::frames(&sent).iter().map(|frame| frame.first).collect();
    assert_eq!(firsts, [wire::BINARY, wire::PONG]);
    assert!(poll_once(&mut sending).is_ready());
}

/// §5.5.1: "The application MUST NOT send any more data frames after sending a Close frame." Control frames of the
/// caller are refused as well; the answers to Pings are in `pings_while_closing.rs`.
#[test]
fn after_our_close_control_frames_are_yielded_and_the_caller_sends_none() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        drive(write.close_with(1000, "")).unwrap();
        far.put(&wire::to(role, wire::PING, "answered"));
        far.put(&wire::to(role, wire::PONG, ""));
        assert_eq!((take(&mut read).opcode, take(&mut read).opcode), (Opcode::PING, Opcode::PONG));
        assert!(poll_once(&mut read.next()).is_pending());
        assert!(matches!(drive(write.pong("")), Err(Error::Closed(_))));
        assert!(matches!(drive(write.ping()), Err(Error::Closed(_))));
        let sent = far.frames();
        assert_eq!((sent.len(), sent[1].first), (2, wire::PONG));
        assert_eq!(sent[0].close_code(), 1000);
    }
}

#[test]
fn ping_resolves_when_read_sees_its_pong_which_is_not_yielded() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        let mut pinging = Box::pin(write.ping());
        assert!(poll_once(&mut pinging).is_pending());
        let [ping] = &far.frames()[..] else { panic!("one Ping") };
        assert_eq!(ping.first, wire::PING);
        far.put(&wire::to(role, wire::PONG, "somebody else's"));
        assert_eq!(take(&mut read).payload, "somebody else's");
        assert!(poll_once(&mut pinging).is_pending(), "that was not the answer");
        far.put(&wire::to(role, wire::PONG, &ping.payload));
        assert!(poll_once(&mut read.next()).is_pending());
        assert!(matches!(drive(pinging), Ok(_round_trip)));
        far.put(&wire::to(role, wire::PONG, &ping.payload));
        assert_eq!(take(&mut read).payload, ping.payload, "a second one answers nothing");
    }
}

#[test]
fn ping_resolves_without_checks_too_and_errs_when_there_is_nothing_to_read_any_more() {
    let ((mut read, mut write), mut far) = alone(1024, WrapOptions::server().checks(Checks::Off));
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    let payload = far.frames().remove(0).payload;
    far.put(&wire::to(Role::Server, wire::PONG, &payload));
    assert_eq!(take(&mut read).payload, payload);
    assert!(matches!(poll_once(&mut pinging), Poll::Ready(Ok(_))));
    drop(pinging);
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    drop(far.output);
    assert!(drive(read.next()).is_none());
    assert!(matches!(drive(pinging), Err(Error::Closed(_))));
    assert!(matches!(drive(write.ping()), Err(Error::Closed(_))), "no Pong can be read any more");
    drive(write.text("a relay may still write")).unwrap();
}

#[test]
fn ping_is_woken_by_the_task_that_reads() {
    let ((mut near_read, mut near), (mut far_read, _far)) =
        common::connected(1024, WrapOptions::client(), WrapOptions::server());
    drive(async {
        let ping = pin!(near.ping());
        let near_reads = async { while near_read.next().await.is_some() {} };
        let far_reads = async { while far_read.next().await.is_some() {} };
        let reading = pin!(async { join!(near_reads, far_reads) });
        assert!(matches!(select(ping, reading).await, Either::Left((Ok(_), _))));
    });
}

/// §5.5.3, again: a peer may answer "only the most recently processed Ping frame".
#[test]
fn a_pong_answers_its_ping_and_those_before_it_and_none_behind() {
    let ((mut read, write), mut far) = alone(1024, WrapOptions::client());
    let mut writers: Vec<_> = (0..4).map(|_| write.clone()).collect();
    let mut pings: Vec<_> = writers.iter_mut().map(|write| Box::pin(write.ping())).collect();
    assert!(pings.iter_mut().all(|ping| poll_once(ping).is_pending()));
    let sent = far.frames();
    let distinct: std::collections::HashSet<_> = sent.iter().map(|frame| &frame.payload).collect();
    assert_eq!(distinct.len(), 4, "each Ping can be told from the others");
    far.put(&wire::to(Role::Client, wire::PONG, &sent[2].payload));
    assert!(poll_once(&mut read.next()).is_pending());
    let answered: Vec<bool> = pings.iter_mut().map(|ping| poll_once(ping).is_ready()).collect();
    assert_eq!(answered, [true, true, true, false]);
}

#[test]
fn a_ping_whose_future_was_dropped_leaves_nothing_behind() {
    let ((mut read, mut write), mut far) = alone(4096, WrapOptions::client());
    for _ in 0..50 {
        assert!(now(write.ping()).is_pending());
    }
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    for ping in far.frames() {
        far.put(&wire::to(Role::Client, wire::PONG, &ping.payload));
        assert!(poll_once(&mut read.next()).is_pending(), "no caller knows this payload");
    }
    assert!(poll_once(&mut pinging).is_ready());
}

#[test]
fn ping_errs_when_read_is_gone_or_goes_or_ends() {
    let ((read, mut write), _far) = alone(1024, WrapOptions::client());
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    drop(read);
    assert!(matches!(drive(pinging), Err(Error::ReaderGone)), "it would wait for ever");
    assert!(matches!(drive(write.ping()), Err(Error::ReaderGone)));
    drive(write.text("writing goes on")).unwrap();

    let ((mut read, mut write), far) = alone(1024, WrapOptions::client());
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    drop(far.output);
    assert!(matches!(drive(read.next()), Some(Err(Error::Lost))));
    assert!(matches!(drive(pinging), Err(Error::Closed(_))));
    assert!(drive(write.ping()).is_err());
}

#[test]
fn a_pong_that_nobody_asked_for_is_yielded_and_not_answered() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        for _ in 0..1000 {
            far.put(&wire::to(role, wire::PONG, "unsolicited"));
            assert_eq!(take(&mut read).opcode, Opcode::PONG);
        }
        assert!(poll_once(&mut read.next()).is_pending());
        assert_eq!(far.frames(), [], "\"A response to an unsolicited Pong frame is not expected.\"");
    }
}

/// CVE-2020-13935: a control frame with a length of 126 or 127 made an endless loop. §5.5: "All control frames MUST
/// have a payload length of 125 bytes or less and MUST NOT be fragmented."
#[test]
fn cve_2020_13935_a_control_frame_with_a_longer_length_form_fails_with_1002() {
    for role in ROLES {
        let key = wire::key_to(role);
        for first in [wire::PING, wire::PONG, wire::CLOSE] {
            for (form, len) in [
                (wire::Form::Bits16, 126),
                (wire::Form::Bits16, 127),
                (wire::Form::Bits16, 65_535),
                (wire::Form::Bits64, 65_536),
                (wire::Form::Bits64, i64::MAX as u64),
            ] {
                // The header alone is enough: the payload is not waited for.
                let failed = fail(role, WrapOptions::new(role), &wire::header(first, form, len, key));
                assert_eq!((failed.error, failed.code), (ProtocolError::ControlTooLong, 1002));
            }
            for (form, len) in [(wire::Form::Bits16, 5), (wire::Form::Bits64, 5), (wire::Form::Bits64, 125)] {
                let failed = fail(role, WrapOptions::new(role), &wire::header(first, form, len, key));
                assert_eq!((failed.error, failed.code), (ProtocolError::LengthNotMinimal, 1002));
            }
        }
    }
}

#[test]
fn a_fragmented_control_frame_fails_with_1002() {
    for role in ROLES {
        for first in [wire::PING, wire::PONG, wire::CLOSE] {
            let failed = fail(role, WrapOptions::new(role), &wire::to(role, first & 0x7F, ""));
            assert_eq!((failed.error, failed.code), (ProtocolError::ControlFragmented, 1002));
        }
    }
}

/// §5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
#[test]
fn every_reserved_opcode_fails_with_1002() {
    for role in ROLES {
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            let failed = fail(role, WrapOptions::new(role), &wire::to(role, 0x80 | opcode, "?"));
            assert_eq!((failed.error, failed.code), (ProtocolError::ReservedOpcode, 1002), "{opcode:#x}");
        }
    }
}

/// CVE-2026-59881, nats-server#8029: reserved bits were accepted though nothing was negotiated. §5.2: "If a nonzero
/// value is received and none of the negotiated extensions defines the meaning of such a nonzero value, the receiving
/// endpoint MUST _Fail the WebSocket Connection_."
#[test]
fn cve_2026_59881_every_reserved_bit_on_every_opcode_fails_with_1002() {
    for role in ROLES {
        for bits in 1..8_u8 {
            for first in [wire::TEXT, wire::BINARY, wire::FIRST_TEXT, wire::PING, wire::PONG, wire::CLOSE] {
                let failed = fail(role, WrapOptions::new(role), &wire::to(role, first | bits << 4, ""));
                assert_eq!((failed.error, failed.code), (ProtocolError::ReservedBits, 1002), "{bits:03b}");
            }
        }
    }
}

/// §7.4: which status codes may be in a Close frame.
#[test]
fn every_status_code_is_echoed_or_refused() {
    for number in
        (0..1100).chain(1900..2100).chain(2990..3010).chain(3990..4010).chain(4990..5010).chain([65_535])
    {
        let role = ROLES[usize::from(number % 2 == 0)];
        let allowed = matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let close = wire::close_to(role, number, "why");
        if !allowed {
            let failed = fail(role, WrapOptions::new(role), &close);
            assert_eq!((failed.error, failed.code), (ProtocolError::CloseCode, 1002), "{number}");
            continue;
        }
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&close);
        let said = take(&mut read).as_close().unwrap().unwrap();
        assert_eq!((said.code, &said.reason[..]), (CloseCode::new(number), "why"));
        // §5.5.1: "When sending a Close frame in response, the endpoint typically echos the status code it received."
        assert_eq!(far.frames()[0].close_code(), number);
    }
}

/// §5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
#[test]
fn a_close_of_one_byte_or_with_a_reason_that_is_not_text_is_refused() {
    for role in ROLES {
        let failed = fail(role, WrapOptions::new(role), &wire::to(role, wire::CLOSE, [3]));
        assert_eq!((failed.error, failed.code), (ProtocolError::ClosePayload, 1002));
        let failed =
            fail(role, WrapOptions::new(role), &wire::to(role, wire::CLOSE, b"\x03\xe8\xce\xba\xe1"));
        assert_eq!((failed.error, failed.code), (ProtocolError::CloseReason, 1007));
    }
}

#[test]
fn an_empty_close_is_echoed_empty() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::CLOSE, ""));
        let close = take(&mut read).as_close().unwrap().unwrap();
        assert_eq!(close.code, CloseCode::NO_STATUS);
        let sent = far.frames();
        assert_eq!((sent.len(), sent[0].first, sent[0].payload.len()), (1, wire::CLOSE, 0));
    }
}

#[test]
fn bytes_behind_a_close_are_never_yielded() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::close_to(role, 1000, ""));
        far.put(&wire::to(role, wire::TEXT, "too late"));
        far.put(&[0xFF; 500]);
        let Far { mut input, output } = far;
        drop(output);
        assert_eq!(take(&mut read).opcode, Opcode::CLOSE);
        assert!(drive(read.next()).is_none());
        assert_eq!(wire::frames(&input.take_all()).len(), 1);
    }
}

#[test]
fn control_frames_of_the_full_125_bytes_pass_both_ways() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(4096, WrapOptions::new(role));
        drive(async {
            write.send(Message::ping(vec![1; 125])).await.unwrap();
            write.send(Message::pong(vec![2; 125])).await.unwrap();
            let refused = write.send(Message::ping(vec![3; 126])).await;
            assert!(matches!(refused, Err(Error::Invalid { error: ProtocolError::ControlTooLong, .. })));
            write.close_with(1000, &"x".repeat(123)).await.unwrap();
            write.flush().await.unwrap();
        });
        assert_eq!(far.frames().iter().map(|frame| frame.payload.len()).collect::<Vec<_>>(), [125; 3]);
        far.put(&wire::close_to(role, 1000, &"y".repeat(123)));
        assert_eq!(take(&mut read).len, 125);
    }
}

/// Whoever waits for nothing must not be kept awake by it.
#[test]
fn a_reader_that_waits_is_not_polled_by_itself() {
    let ((mut read, _write), _far) = alone(1024, WrapOptions::client());
    let mut reading = read.next();
    let counter = std::sync::Arc::new(common::Count::default());
    let waker = Waker::from(std::sync::Arc::clone(&counter));
    for _ in 0..10 {
        assert!(std::pin::Pin::new(&mut reading).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(counter.get(), 0);
}
