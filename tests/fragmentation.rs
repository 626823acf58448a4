//! Fragmented messages (RFC 6455 §5.4), in both directions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{alone, drive::drive, fail, wire};
use coro_websocket::{Error, Message, Opcode, ProtocolError, Role, StreamExt, WrapOptions};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn frames_to(role: Role, frames: &[(u8, &str)]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| wire::to(role, *first, payload)).collect()
}

/// §5.4: "A fragmented message consists of a single frame with the FIN bit clear and an opcode other than 0, followed
/// by zero or more frames with the FIN bit clear and the opcode set to 0, and terminated by a single frame with the FIN
/// bit set and an opcode of 0."
#[test]
fn fragments_are_yielded_one_by_one_as_they_were_sent() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        let sent = [
            (wire::FIRST_TEXT, "one"),
            (wire::NEXT, ""),
            (wire::NEXT, "two"),
            (wire::LAST, "three"),
            (wire::FIRST_BINARY, ""),
            (wire::LAST, ""),
        ];
        far.put(&frames_to(role, &sent));
        for (first, payload) in sent {
            let message = drive(read.next()).unwrap().unwrap();
            assert_eq!(message, wire::message(first, role == Role::Server, payload.as_bytes()));
        }
    }
}

/// §5.4: "Control frames MAY be injected in the middle of a fragmented message."
#[test]
fn control_frames_between_fragments_are_yielded_where_they_came_and_answered() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        let sent = [
            (wire::FIRST_TEXT, "a"),
            (wire::PING, "1"),
            (wire::PONG, "2"),
            (wire::NEXT, "b"),
            (wire::PING, "3"),
            (wire::LAST, "c"),
        ];
        far.put(&frames_to(role, &sent));
        for (first, payload) in sent {
            let message = drive(read.next()).unwrap().unwrap();
            assert_eq!(message, wire::message(first, role == Role::Server, payload.as_bytes()));
        }
        assert!(common::poll_once(&mut read.next()).is_pending());
        let pongs: Vec<_> = far.frames().into_iter().map(|frame| (frame.first, frame.payload)).collect();
        assert_eq!(pongs, [(wire::PONG, b"1".to_vec()), (wire::PONG, b"3".to_vec())]);
    }
}

#[test]
fn a_close_between_fragments_ends_the_connection_cleanly() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&frames_to(role, &[(wire::FIRST_TEXT, "never finished")]));
        far.put(&wire::close_to(role, 1001, ""));
        drop(far.output);
        assert!(!drive(read.next()).unwrap().unwrap().fin);
        assert_eq!(drive(read.next()).unwrap().unwrap().opcode, Opcode::CLOSE);
        assert!(drive(read.next()).is_none());
        assert!(read.close_frames().is_clean());
    }
}

/// §5.4: a continuation frame belongs to "a fragmented message"; without one it has no meaning.
#[test]
fn a_continuation_of_nothing_fails_the_connection() {
    for role in ROLES {
        for first in [wire::LAST, wire::NEXT] {
            for before in [&[][..], &[(wire::TEXT, "whole")], &[(wire::FIRST_TEXT, "a"), (wire::LAST, "b")]] {
                let mut bytes = frames_to(role, before);
                bytes.extend(wire::to(role, first, "lost"));
                let failed = fail(role, WrapOptions::new(role), &bytes);
                assert_eq!((failed.error, failed.code), (ProtocolError::UnexpectedContinuation, 1002));
                assert_eq!(failed.yielded.len(), before.len(), "what came before is given");
            }
        }
    }
}

/// §5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another message unless an
/// extension has been negotiated that can interpret the interleaving."
#[test]
fn a_new_message_in_the_middle_of_another_fails_the_connection() {
    for role in ROLES {
        for opened in [wire::FIRST_TEXT, wire::FIRST_BINARY] {
            for second in [wire::TEXT, wire::BINARY, wire::FIRST_TEXT, wire::FIRST_BINARY] {
                let bytes = frames_to(role, &[(opened, "a"), (wire::NEXT, "b"), (second, "c")]);
                let failed = fail(role, WrapOptions::new(role), &bytes);
                assert_eq!((failed.error, failed.code), (ProtocolError::MessageInterleaved, 1002));
                assert_eq!(failed.yielded.len(), 2);
            }
        }
    }
}

/// RUSTSEC-2024-0003: a storm of malformed frames made a storm of answers.
#[test]
fn rustsec_2024_0003_many_malformed_frames_are_answered_by_one_close() {
    for role in ROLES {
        let storm: Vec<u8> = (0..1000).flat_map(|_| wire::to(role, wire::LAST, "x")).collect();
        let failed = fail(role, WrapOptions::new(role), &storm);
        assert!(failed.sent.is_empty(), "nothing but one Close");
    }
}

#[test]
fn fragments_go_out_as_they_were_given() {
    for role in ROLES {
        let ((_read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        let given = [
            (wire::FIRST_TEXT, &b"\xf0\x9f"[..]),
            (wire::NEXT, b""),
            (wire::PING, b"in between"),
            (wire::LAST, b"\xa6\x80"),
            (wire::BINARY, b"\xff"),
        ];
        drive(async {
            for (first, payload) in given {
                write.send(wire::message(first, false, payload)).await.unwrap();
            }
        });
        let sent = far.frames();
        assert!(sent.iter().map(|frame| (frame.first, &frame.payload[..])).eq(given));
    }
}

#[test]
fn fragments_that_a_strict_peer_would_refuse_do_not_go_out() {
    let ((_read, mut write), mut far) = alone(1024, WrapOptions::client());
    drive(async {
        let refused = write.send(Message::continuation("of nothing", true)).await;
        assert!(matches!(refused, Err(Error::Invalid { error: ProtocolError::UnexpectedContinuation, .. })));
        write.send(wire::message(wire::FIRST_TEXT, false, b"a")).await.unwrap();
        for second in [wire::TEXT, wire::FIRST_BINARY] {
            let refused = write.send(wire::message(second, false, b"b")).await;
            assert!(matches!(refused, Err(Error::Invalid { error: ProtocolError::MessageInterleaved, .. })));
        }
        write.send(Message::continuation("c", true)).await.unwrap();
        write.text("d").await.unwrap();
    });
    let firsts: Vec<u8> = far.frames().iter().map(|frame| frame.first).collect();
    assert_eq!(firsts, [wire::FIRST_TEXT, wire::LAST, wire::TEXT]);
}

#[test]
fn a_message_of_very_many_fragments_is_whole() {
    for role in ROLES {
        let options = WrapOptions::new(role).max_message_len(usize::MAX);
        let ((mut read, _write), mut far) = alone(1024, options);
        let count = 20_000;
        far.put(&wire::to(role, wire::FIRST_TEXT, "é"));
        let next = wire::to(role, wire::NEXT, "x");
        (0..count).for_each(|_| far.put(&next));
        far.put(&wire::to(role, wire::LAST, "é"));
        let data = drive(read.messages().next()).unwrap().unwrap();
        assert_eq!(data.as_text().unwrap().len(), count + 4);
    }
}
