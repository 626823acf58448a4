//! Text is UTF-8 (RFC 6455 §8.1), and what is not is noticed as soon as it can be.
//!
//! The judge is the standard library: text has failed once a prefix of it cannot be the start of any text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{alone, drive::drive, fail, poll_once, wire};
use coro_websocket::{Data, Error, FrameReader, Message, ProtocolError, Role, StreamExt, WrapOptions};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Whether no text begins like this.
fn is_bad(prefix: &[u8]) -> bool {
    str::from_utf8(prefix).is_err_and(|error| error.error_len().is_some())
}

/// Sequences that are not UTF-8: of every kind that the conformance suite tries in its section 6, and some more.
fn bad() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        // Continuation bytes on their own.
        &b"\x80"[..],
        b"\xbf",
        b"\x80\xbf\x80\xbf\x80\xbf",
        // First bytes that nothing valid follows.
        b"\xc3 ",
        b"\xe1 ",
        b"\xe1\x80 ",
        b"\xf1\x80\x80 ",
        b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41",
        // Bytes that never occur.
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        // Longer than needed.
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        // Surrogates, alone and in pairs.
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbe\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        // Above U+10FFFF.
        b"\xf4\x90\x80\x80",
        b"\xf7\xbf\xbf\xbf",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    // "κόσμε", then a surrogate, then "edited": case 6.3.1 and those like it.
    all.push([&b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"[..], b"\xed\xa0\x80", b"edited"].concat());
    all.push([&b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"[..], b"\xf4\x90\x80\x80", b"edited"].concat());
    all
}

/// Characters of every length and on every border, those that are not assigned among them.
fn good() -> Vec<String> {
    let borders = [
        0x0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x1_0000,
        0x1_FFFE, 0x1_FFFF, 0x3_FFFF, 0x4_0000, 0xF_FFFF, 0x10_0000, 0x10_FFFE, 0x10_FFFF,
    ];
    let mut all: Vec<String> = borders.iter().map(|code| char::from_u32(*code).unwrap().into()).collect();
    all.push(borders.iter().map(|code| char::from_u32(*code).unwrap()).collect());
    all.push("Hello-µ@ßöäüàá-UTF-8!!".into());
    all.push("κόσμε 漢字 🦀🦀🦀 naïve".repeat(50));
    all.push(String::new());
    all
}

/// §8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a
/// valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_." It does at the first byte that proves it,
/// though the frame says that much more is to come.
#[test]
fn the_first_bad_byte_fails_the_connection_before_its_frame_is_complete() {
    for role in ROLES {
        for sequence in bad() {
            for first in [wire::TEXT, wire::FIRST_TEXT] {
                let mut payload = sequence.clone();
                payload.extend([b'.'; 500]);
                let bytes = wire::to(role, first, &payload);
                let header_len = bytes.len() - payload.len();
                let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
                far.put(&bytes[..header_len]);
                let bad_at = (1..=payload.len()).find(|len| is_bad(&payload[..*len])).unwrap();
                for len in 1..=bad_at {
                    assert!(poll_once(&mut read.next()).is_pending());
                    assert_eq!(far.input.take_all(), [], "{sequence:x?} is not bad after {} bytes", len - 1);
                    far.put(&bytes[header_len + len - 1..header_len + len]);
                }
                assert!(poll_once(&mut read.next()).is_pending(), "the error waits for the end of the peer");
                let sent = far.frames();
                assert_eq!(sent.len(), 1, "{sequence:x?} is bad after {bad_at} bytes");
                assert_eq!(sent[0].close_code(), 1007);
                drop(far);
                let error = drive(read.next());
                assert!(matches!(
                    error,
                    Some(Err(Error::Protocol { error: ProtocolError::InvalidUtf8, .. }))
                ));
                assert!(drive(read.next()).is_none());
            }
        }
    }
}

/// The same, where the first bytes come along with the header, and nothing or the end follows.
#[test]
fn bad_text_that_comes_with_its_header_fails_the_connection_at_once() {
    for role in ROLES {
        for sequence in bad() {
            let mut payload = sequence.clone();
            payload.extend([b'.'; 500]);
            let bytes = wire::to(role, wire::TEXT, &payload);
            let header_len = bytes.len() - payload.len();
            let bad_at = (1..=payload.len()).find(|len| is_bad(&payload[..*len])).unwrap();
            let come = &bytes[..header_len + bad_at];
            let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
            far.put(come);
            assert!(poll_once(&mut read.next()).is_pending(), "the error waits for the end of the peer");
            assert_eq!(far.frames()[0].close_code(), 1007, "{sequence:x?}");
            let error = drive(FrameReader::new(come, WrapOptions::new(role)).next());
            assert!(
                matches!(error, Some(Err(Error::Protocol { error: ProtocolError::InvalidUtf8, .. }))),
                "{error:?}"
            );
        }
    }
}

#[test]
fn bad_text_fails_wherever_its_fragments_are_cut_with_control_frames_in_between() {
    for role in ROLES {
        for sequence in bad() {
            for at in 0..=sequence.len() {
                let bytes = [
                    wire::to(role, wire::FIRST_TEXT, &sequence[..at]),
                    wire::to(role, wire::PING, b"\xff"),
                    wire::to(role, wire::NEXT, b""),
                    wire::to(role, wire::PONG, b"\x80\x80"),
                    wire::to(role, wire::LAST, &sequence[at..]),
                ]
                .concat();
                let failed = fail(role, WrapOptions::new(role), &bytes);
                assert_eq!((failed.error, failed.code), (ProtocolError::InvalidUtf8, 1007));
                let yielded = if is_bad(&sequence[..at]) { 0 } else { 4 };
                assert_eq!(failed.yielded.len(), yielded, "{sequence:x?} cut at {at}");
            }
        }
    }
}

#[test]
fn a_message_that_ends_in_the_middle_of_a_character_fails() {
    for role in ROLES {
        for text in ["é", "€", "🦀", "text that ends with 🦀"] {
            for missing in 1..text.len().min(4) {
                let part = &text.as_bytes()[..text.len() - missing];
                if str::from_utf8(part).is_ok() {
                    continue;
                }
                for bytes in [
                    wire::to(role, wire::TEXT, part),
                    [wire::to(role, wire::FIRST_TEXT, part), wire::to(role, wire::LAST, "")].concat(),
                ] {
                    let failed = fail(role, WrapOptions::new(role), &bytes);
                    assert_eq!((failed.error, failed.code), (ProtocolError::InvalidUtf8, 1007));
                }
            }
        }
    }
}

#[test]
fn good_text_passes_whole_and_in_fragments_cut_anywhere() {
    for role in ROLES {
        for text in good() {
            let bytes = text.as_bytes();
            for at in (0..=bytes.len()).take(200) {
                let ((mut read, _write), mut far) = alone(4096, WrapOptions::new(role));
                far.put(&wire::to(role, wire::FIRST_TEXT, &bytes[..at]));
                far.put(&wire::to(role, wire::PING, b"\xff"));
                far.put(&wire::to(role, wire::LAST, &bytes[at..]));
                far.put(&wire::to(role, wire::TEXT, bytes));
                for _ in 0..2 {
                    let data = drive(read.messages().next()).unwrap().unwrap();
                    assert_eq!(data, Data::Text(text.clone()));
                }
            }
        }
    }
}

#[test]
fn the_text_of_one_message_is_not_continued_by_the_next() {
    // Two halves of one character, in messages that are not one.
    let bytes = [
        wire::to(Role::Client, wire::FIRST_BINARY, b"\xce"),
        wire::to(Role::Client, wire::LAST, b""),
        wire::to(Role::Client, wire::TEXT, b"\xba"),
    ];
    let failed = fail(Role::Client, WrapOptions::client(), &bytes.concat());
    assert_eq!((failed.error, failed.yielded.len()), (ProtocolError::InvalidUtf8, 2));
}

#[test]
fn binary_messages_and_control_frames_are_not_checked() {
    for role in ROLES {
        for sequence in bad() {
            let ((mut read, _write), mut far) = alone(4096, WrapOptions::new(role));
            for first in [wire::BINARY, wire::FIRST_BINARY, wire::NEXT, wire::PING, wire::PONG, wire::LAST] {
                far.put(&wire::to(role, first, &sequence));
                assert_eq!(drive(read.next()).unwrap().unwrap().payload, sequence);
            }
        }
    }
}

/// Long runs of ASCII are checked in vectors, with ends that are not whole vectors.
#[test]
fn a_bad_sequence_is_found_at_every_place_of_a_long_ascii_text() {
    for sequence in bad() {
        for before in (0..140).chain([255, 256, 257, 1000, 4095, 4096, 70_000]) {
            for after in [0, 1, 63, 64, 200] {
                let mut text = vec![b'a'; before];
                text.extend(&sequence);
                text.extend(vec![b'z'; after]);
                let bytes = wire::to(Role::Client, wire::TEXT, &text);
                let mut reader = FrameReader::new(&bytes[..], WrapOptions::client());
                let found = drive(reader.next());
                assert!(
                    matches!(found, Some(Err(Error::Protocol { error: ProtocolError::InvalidUtf8, .. }))),
                    "{sequence:x?}"
                );
                assert!(drive(reader.next()).is_none());
            }
        }
    }
}

#[test]
fn every_two_bytes_are_judged_like_the_standard_library_does() {
    for first in 0..=255_u8 {
        for second in 0..=255_u8 {
            let expected = str::from_utf8(&[first, second]).is_ok();
            let whole = [0x81, 2, first, second];
            let split = [0x01, 1, first, 0x80, 1, second];
            for bytes in [&whole[..], &split] {
                let mut reader = FrameReader::new(bytes, WrapOptions::client());
                let mut valid = true;
                drive(async {
                    while let Some(frame) = reader.frame().await {
                        valid &= frame.is_ok();
                    }
                });
                assert_eq!(valid, expected, "{bytes:x?}");
            }
        }
    }
}

#[test]
fn text_that_is_not_utf8_does_not_go_out() {
    for role in ROLES {
        let ((_read, mut write), mut far) = alone(4096, WrapOptions::new(role));
        drive(async {
            for sequence in bad() {
                let refused = write.send(wire::message(wire::TEXT, false, &sequence)).await;
                assert!(
                    matches!(refused, Err(Error::Invalid { error: ProtocolError::InvalidUtf8, .. })),
                    "{sequence:x?}"
                );
            }
            // A fragment may end in the middle of a character, the message may not.
            write.send(wire::message(wire::FIRST_TEXT, false, b"\xf0\x9f")).await.unwrap();
            let refused = write.send(Message::continuation(&b"a"[..], false)).await;
            assert!(matches!(refused, Err(Error::Invalid { error: ProtocolError::InvalidUtf8, .. })));
            let refused = write.send(Message::continuation(&b"\xa6"[..], true)).await;
            assert!(matches!(refused, Err(Error::Invalid { error: ProtocolError::InvalidUtf8, .. })));
            write.send(Message::continuation(&b"\xa6\x80"[..], true)).await.unwrap();
            let refused = write.send(wire::message(wire::CLOSE, false, b"\x03\xe8\xff")).await;
            assert!(matches!(refused, Err(Error::Invalid { error: ProtocolError::CloseReason, .. })));
        });
        let sent: Vec<_> = far.frames().into_iter().map(|frame| (frame.first, frame.payload)).collect();
        assert_eq!(sent, [(wire::FIRST_TEXT, b"\xf0\x9f".to_vec()), (wire::LAST, b"\xa6\x80".to_vec())]);
    }
}
