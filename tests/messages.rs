//! `messages()`: whole messages instead of frames.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use bytes::Bytes;
use common::{
    PipeRead, alone,
    drive::{drive, now},
    wire::{self, Dice},
};
use coro_websocket::{
    Checks, Data, Error, Message, Opcode, ProtocolError, Role, StreamExt, WrapOptions, wrap_frames,
};
use futures::stream::FusedStream;

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn next(read: &mut PipeRead) -> Option<Result<Data, Error>> {
    drive(read.messages().next())
}

fn text(text: &str) -> Data {
    Data::Text(text.to_owned())
}

#[test]
fn single_frames_are_whole_messages() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::TEXT, "naïve"));
        far.put(&wire::to(role, wire::TEXT, ""));
        far.put(&wire::to(role, wire::BINARY, [0xFF, 0]));
        far.put(&wire::to(role, wire::BINARY, []));
        assert_eq!(next(&mut read).unwrap().unwrap(), text("naïve"));
        assert_eq!(next(&mut read).unwrap().unwrap(), text(""));
        assert_eq!(next(&mut read).unwrap().unwrap(), Data::Binary(Bytes::from_static(&[0xFF, 0])));
        assert_eq!(next(&mut read).unwrap().unwrap(), Data::Binary(Bytes::new()));
    }
}

#[test]
fn fragments_are_joined_wherever_they_are_cut_and_control_frames_are_left_out() {
    let whole = "κόσμε 🦀 naïve";
    for role in ROLES {
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let bytes = whole.as_bytes();
                let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
                far.put(&wire::to(role, wire::PING, "before"));
                far.put(&wire::to(role, wire::FIRST_TEXT, &bytes[..first]));
                far.put(&wire::to(role, wire::PONG, "between"));
                far.put(&wire::to(role, wire::NEXT, &bytes[first..second]));
                far.put(&wire::to(role, wire::PING, "between"));
                far.put(&wire::to(role, wire::LAST, &bytes[second..]));
                far.put(&wire::to(role, wire::FIRST_BINARY, &bytes[..first]));
                far.put(&wire::to(role, wire::LAST, &bytes[first..]));
                assert_eq!(next(&mut read).unwrap().unwrap(), text(whole));
                assert_eq!(next(&mut read).unwrap().unwrap(), Data::Binary(Bytes::from_static(bytes)));
                assert!(now(read.messages().next()).is_pending());
                assert_eq!(far.frames().len(), 2, "the Pings are answered all the same");
            }
        }
    }
}

#[test]
fn a_message_is_given_when_its_last_fragment_has_come_and_not_before() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client());
    far.put(&wire::to(Role::Client, wire::FIRST_TEXT, "a"));
    assert!(now(read.messages().next()).is_pending());
    far.put(&wire::to(Role::Client, wire::NEXT, "b"));
    assert!(now(read.messages().next()).is_pending());
    far.put(&wire::to(Role::Client, wire::LAST, ""));
    assert_eq!(next(&mut read).unwrap().unwrap(), text("ab"));
}

#[test]
fn mixed_frames_give_the_messages_that_were_sent() {
    for role in ROLES {
        for seed in 0..20 {
            let frames = wire::mixed(seed, 200, 300);
            let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::new(role));
            let mut expected: Vec<(bool, Vec<u8>)> = Vec::new();
            for (first, payload) in &frames {
                far.put(&wire::to(role, *first, payload));
                match *first & 0x0F {
                    0 => expected.last_mut().unwrap().1.extend(payload),
                    kind @ (1 | 2) => expected.push((kind == 1, payload.clone())),
                    _ => {}
                }
            }
            for (is_text, payload) in expected {
                let data = next(&mut read).unwrap().unwrap();
                assert_eq!((data.as_text().is_some(), data.as_bytes()), (is_text, &payload[..]));
            }
        }
    }
}

#[test]
fn the_peers_close_ends_the_messages_without_an_error() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::TEXT, "last"));
        far.put(&wire::to(role, wire::FIRST_TEXT, "never finished"));
        far.put(&wire::close_to(role, 1000, ""));
        drop(far.output);
        assert_eq!(next(&mut read).unwrap().unwrap(), text("last"));
        assert!(!read.messages().is_terminated());
        assert!(next(&mut read).is_none());
        assert!(read.messages().is_terminated() && next(&mut read).is_none());
        assert!(read.close_frames().is_clean());
    }
}

#[test]
fn errors_come_as_they_come_to_next() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::FIRST_TEXT, "a"));
        far.put(&wire::to(role, wire::TEXT, "b"));
        drop(far);
        let error = next(&mut read);
        assert!(matches!(error, Some(Err(Error::Protocol { error: ProtocolError::MessageInterleaved, .. }))));
        assert!(next(&mut read).is_none());

        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::FIRST_TEXT, "never finished"));
        drop(far);
        assert!(matches!(next(&mut read), Some(Err(Error::Lost))));
        assert!(next(&mut read).is_none());
    }
}

#[test]
fn without_checks_messages_are_checked_here_and_reading_goes_on() {
    for role in ROLES {
        let options = WrapOptions::new(role).checks(Checks::Off).max_message_len(10);
        let ((mut read, _write), mut far) = alone(1024, options);
        let mut put = |first, payload: &[u8]| far.put(&wire::to(role, first, payload));
        put(wire::LAST, b"of nothing");
        put(wire::TEXT, b"bad \xff");
        put(0x83, b"reserved opcodes are no data");
        put(wire::FIRST_BINARY, b"1234567");
        put(wire::NEXT, b"890!");
        put(wire::NEXT, b"the rest");
        put(wire::LAST, b"is left out");
        put(wire::BINARY, b"good");
        put(wire::FIRST_TEXT, b"one");
        put(wire::BINARY, b"two");
        put(wire::LAST, b"three");
        let mut error = |expected| match next(&mut read) {
            Some(Err(Error::Protocol { error, .. } | Error::Limit { error, .. })) => {
                assert_eq!(error, expected);
            }
            other => panic!("{other:?} instead of {expected:?}"),
        };
        error(ProtocolError::UnexpectedContinuation);
        error(ProtocolError::InvalidUtf8);
        error(ProtocolError::MessageTooLarge);
        assert_eq!(next(&mut read).unwrap().unwrap().as_bytes(), b"good");
        assert!(matches!(
            next(&mut read),
            Some(Err(Error::Protocol { error: ProtocolError::MessageInterleaved, .. }))
        ));
        assert_eq!(next(&mut read).unwrap().unwrap(), text("onethree"));
    }
}

#[test]
fn a_message_with_a_reported_fragment_is_left_out_and_the_next_is_given() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role).checks(Checks::Report));
        // One that ends so, one that goes on, one that begins so; each is reported once.
        for frames in [
            &[(wire::FIRST_TEXT, &b"a"[..]), (wire::LAST, b"\xff")][..],
            &[(wire::FIRST_TEXT, b"a"), (wire::NEXT, b"\xff"), (wire::NEXT, b"c"), (wire::LAST, b"d")],
            &[(wire::FIRST_TEXT, b"\xff"), (wire::NEXT, b"b"), (wire::LAST, b"c")],
            &[(wire::FIRST_BINARY, b"a"), (0x70, b"b"), (wire::NEXT, b"c"), (wire::LAST, b"d")],
            &[(wire::TEXT, b"\xff")],
        ] {
            for (first, payload) in frames {
                far.put(&wire::to(role, *first, payload));
            }
            far.put(&wire::to(role, wire::FIRST_TEXT, "who"));
            far.put(&wire::to(role, wire::LAST, "le"));
            assert!(matches!(next(&mut read), Some(Err(Error::Reported { .. }))));
            assert_eq!(next(&mut read).unwrap().unwrap(), text("whole"), "behind {frames:x?}");
        }
        // What is no part of a message does it no harm.
        far.put(&wire::to(role, wire::FIRST_TEXT, "who"));
        far.put(&wire::to(role, wire::BINARY, "intruder"));
        far.put(&wire::to(role, 0x09, "half a Ping"));
        far.put(&wire::to(role, wire::LAST, "le"));
        for _ in 0..2 {
            assert!(matches!(next(&mut read), Some(Err(Error::Reported { .. }))));
        }
        assert_eq!(next(&mut read).unwrap().unwrap(), text("whole"));
    }
}

#[test]
fn without_checks_no_fragment_of_one_message_is_taken_for_one_of_another() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role).checks(Checks::Off));
        let interleaved = |next| {
            let error = ProtocolError::MessageInterleaved;
            assert!(matches!(next, Some(Err(Error::Protocol { error: found, .. })) if found == error));
        };
        far.put(&wire::to(role, wire::FIRST_TEXT, "a1 "));
        far.put(&wire::to(role, wire::FIRST_TEXT, "b1 "));
        far.put(&wire::to(role, wire::LAST, "a2 or b2"));
        far.put(&wire::to(role, wire::TEXT, "next"));
        interleaved(next(&mut read));
        interleaved(next(&mut read));
        assert_eq!(next(&mut read).unwrap().unwrap(), text("next"));
        // An unfinished message does not block later ones for ever.
        far.put(&wire::to(role, wire::FIRST_TEXT, "a1 "));
        (0..3).for_each(|_| far.put(&wire::to(role, wire::TEXT, "whole")));
        interleaved(next(&mut read));
        (0..2).for_each(|_| assert_eq!(next(&mut read).unwrap().unwrap(), text("whole")));
        far.put(&wire::to(role, wire::FIRST_BINARY, "a"));
        far.put(&wire::to(role, wire::LAST, "b"));
        interleaved(next(&mut read));
        interleaved(next(&mut read));
        far.put(&wire::to(role, wire::FIRST_TEXT, "a"));
        far.put(&wire::to(role, wire::LAST, "b"));
        assert_eq!(next(&mut read).unwrap().unwrap(), text("ab"));
    }
}

#[test]
fn without_checks_a_compressed_message_is_an_error_and_not_its_compressed_bytes() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role).checks(Checks::Off));
        for frames in [
            &[(wire::TEXT | 0x40, &b"\x4a\x04\x00"[..])][..],
            &[(wire::BINARY | 0x40, b"\x4a\x04\x00")],
            &[(wire::FIRST_TEXT | 0x40, b"\x4a"), (wire::NEXT, b"\x04"), (wire::LAST, b"\x00")],
        ] {
            frames.iter().for_each(|(first, payload)| far.put(&wire::to(role, *first, payload)));
            far.put(&wire::to(role, wire::TEXT, "plain"));
            let error = next(&mut read).unwrap().unwrap_err();
            assert!(matches!(error, Error::Protocol { error: ProtocolError::Deflate, .. }), "{error:?}");
            assert_eq!(next(&mut read).unwrap().unwrap(), text("plain"), "behind {frames:x?}");
        }
    }
}

#[test]
fn frames_and_messages_can_be_read_by_turns_between_messages() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client());
    for _ in 0..3 {
        far.put(&wire::to(Role::Client, wire::FIRST_TEXT, "a"));
        far.put(&wire::to(Role::Client, wire::LAST, "b"));
        far.put(&wire::to(Role::Client, wire::PING, ""));
        assert_eq!(next(&mut read).unwrap().unwrap(), text("ab"));
        assert_eq!(drive(read.next()).unwrap().unwrap().opcode, Opcode::PING);
    }
}

#[test]
fn a_single_binary_frame_is_given_without_a_copy() {
    let payload = Bytes::from(Dice::new(1).bytes(10_000));
    let stream = futures::stream::iter([Ok::<_, Error>(Message::binary(payload.clone()))]);
    let (mut read, _write) = wrap_frames(stream, futures::sink::drain(), WrapOptions::client());
    let Some(Ok(Data::Binary(bytes))) = drive(read.messages().next()) else { panic!("binary data") };
    assert_eq!(bytes.as_ptr(), payload.as_ptr());
}

/// CVE-2026-65623: what had come was measured anew for every fragment, so that work grew with the square of it. Here a
/// buffer that were copied for each fragment would move 20 GB.
#[test]
fn cve_2026_65623_a_message_of_many_fragments_is_joined_in_place() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client().max_message_len(64 << 20));
    let fragment = [7; 1000];
    far.put(&wire::to(Role::Client, wire::FIRST_BINARY, fragment));
    (0..20_000).for_each(|_| far.put(&wire::to(Role::Client, wire::NEXT, fragment)));
    far.put(&wire::to(Role::Client, wire::LAST, ""));
    assert_eq!(next(&mut read).unwrap().unwrap().as_bytes().len(), 20_001_000);
}

#[test]
fn data_becomes_a_message_that_can_be_sent_back() {
    assert_eq!(Message::from(text("hi")), Message::text("hi"));
    assert_eq!(Message::from(Data::Binary(Bytes::from_static(b"hi"))), Message::binary("hi"));
    assert_eq!((text("hi").as_bytes(), Data::Binary(Bytes::new()).as_text()), (&b"hi"[..], None));
    let ((mut read, mut write), mut far) = alone(1024, WrapOptions::server());
    far.put(&wire::to(Role::Server, wire::FIRST_TEXT, "echo "));
    far.put(&wire::to(Role::Server, wire::LAST, "me"));
    let data = next(&mut read).unwrap().unwrap();
    drive(write.send(data)).unwrap();
    assert_eq!(far.frames()[0].payload, b"echo me");
}
