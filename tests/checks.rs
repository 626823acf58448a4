//! What is done about violations: `Checks::Strict`, `Checks::Report` and `Checks::Off`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{
    alone, connected,
    drive::{drive, settle},
    fail, poll_once,
    wire::{self, Form},
};
use coro_websocket::{
    Checks, CloseCode, Error, FrameReader, FrameWriter, Message, Opcode, ProtocolError, Role, SinkExt,
    StreamExt, WrapOptions, wrap_io,
};
use futures::join;

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Violations that leave it clear where the next frame begins: the frame, and how the bytes of it are laid out.
fn violations(role: Role) -> Vec<(Message, Vec<u8>, ProtocolError)> {
    let mask = role == Role::Server;
    let plain = |first: u8, payload: &[u8], error| {
        (wire::message(first, mask, payload), wire::to(role, first, payload), error)
    };
    let wrong_key = if mask { None } else { Some(wire::KEY) };
    let wrong_mask = if mask { ProtocolError::Unmasked } else { ProtocolError::Masked };
    let mut long = wire::header(wire::BINARY, Form::Bits64, 3, wire::key_to(role));
    long.extend(if mask { wire::masked(b"abc", wire::KEY) } else { b"abc".to_vec() });
    vec![
        plain(0xC1, b"rsv1", ProtocolError::ReservedBits),
        plain(0xA2, b"rsv2", ProtocolError::ReservedBits),
        plain(0x99, b"rsv3", ProtocolError::ReservedBits),
        plain(0x83, b"reserved", ProtocolError::ReservedOpcode),
        plain(0x8F, b"reserved", ProtocolError::ReservedOpcode),
        plain(wire::PING, &[7; 200], ProtocolError::ControlTooLong),
        plain(0x09, b"fragment", ProtocolError::ControlFragmented),
        plain(wire::LAST, b"of nothing", ProtocolError::UnexpectedContinuation),
        plain(wire::TEXT, b"not \xff text", ProtocolError::InvalidUtf8),
        plain(wire::TEXT, b"half \xe2\x82", ProtocolError::InvalidUtf8),
        plain(wire::CLOSE, &[3], ProtocolError::ClosePayload),
        plain(wire::CLOSE, &[0, 5], ProtocolError::CloseCode),
        plain(wire::CLOSE, b"\x03\xe8\xff", ProtocolError::CloseReason),
        (
            wire::message(wire::TEXT, !mask, b"wrong mask"),
            wire::frame(wire::TEXT, wrong_key, b"wrong mask"),
            wrong_mask,
        ),
        (wire::message(wire::BINARY, mask, b"abc"), long, ProtocolError::LengthNotMinimal),
    ]
}

#[test]
fn strict_is_the_default_and_fails_on_every_violation() {
    for role in ROLES {
        for options in [WrapOptions::new(role), WrapOptions::new(role).checks(Checks::Strict)] {
            for (frame, bytes, error) in violations(role) {
                let failed = fail(role, options.clone(), &bytes);
                assert_eq!(failed.error, error, "{frame}");
                assert_eq!(CloseCode::new(failed.code), CloseCode::from(error));
            }
        }
    }
}

#[test]
fn report_yields_every_violation_with_its_frame_sends_nothing_and_reads_on() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(4096, WrapOptions::new(role).checks(Checks::Report));
        for (frame, bytes, expected) in violations(role) {
            far.put(&bytes);
            far.put(&wire::to(role, wire::TEXT, "next"));
            match drive(read.next()) {
                Some(Err(Error::Reported { error, frame: reported })) => {
                    assert_eq!((error, &*reported), (expected, &frame));
                }
                other => panic!("{other:?} instead of a report of {frame}"),
            }
            assert_eq!(drive(read.frame()).unwrap().unwrap().as_text(), Some("next"));
        }
        assert_eq!(far.input.take_all(), [], "nothing is said");
        drive(write.text("still open")).unwrap();
        assert!(!write.is_closed() && !read.close_frames().is_clean());
    }
}

#[test]
fn report_yields_a_message_in_the_middle_of_another_and_goes_on_with_the_first() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(4096, WrapOptions::new(role).checks(Checks::Report));
        far.put(&wire::to(role, wire::FIRST_TEXT, "one "));
        far.put(&wire::to(role, wire::BINARY, "intruder"));
        far.put(&wire::to(role, wire::LAST, "message"));
        assert!(drive(read.next()).unwrap().is_ok());
        let reported = drive(read.next());
        assert!(matches!(
            reported,
            Some(Err(Error::Reported { error: ProtocolError::MessageInterleaved, .. }))
        ));
        assert!(drive(read.next()).unwrap().unwrap().fin);
    }
}

/// Reads these frames with `Checks::Report`. Returns payloads and broken rules.
fn reported(role: Role, frames: &[Vec<u8>]) -> Vec<Result<String, ProtocolError>> {
    let bytes = frames.concat();
    let mut reader = FrameReader::new(&bytes[..], WrapOptions::new(role).checks(Checks::Report));
    let mut seen = Vec::new();
    while let Some(next) = drive(reader.next()) {
        seen.push(match next {
            Ok(frame) => Ok(String::from_utf8(frame.payload.to_vec()).unwrap()),
            Err(Error::Reported { error, .. }) => Err(error),
            Err(error) => panic!("{error:?}"),
        });
    }
    seen
}

#[test]
fn report_of_a_last_fragment_ends_its_message() {
    for role in ROLES {
        let key = wire::key_to(role);
        let mut long = wire::header(wire::LAST, Form::Bits16, 1, key);
        long.extend(if key.is_some() { wire::masked(b"b", wire::KEY) } else { b"b".to_vec() });
        let wrong_key = if key.is_some() { None } else { Some(wire::KEY) };
        for (last, error) in [
            (long, ProtocolError::LengthNotMinimal),
            (wire::to(role, 0xA0, "b"), ProtocolError::ReservedBits),
            (wire::to(role, 0xC0, "b"), ProtocolError::ReservedBits),
            (wire::to(role, wire::LAST, b"\xff"), ProtocolError::InvalidUtf8),
            (
                wire::frame(wire::LAST, wrong_key, b"b"),
                if key.is_some() { ProtocolError::Unmasked } else { ProtocolError::Masked },
            ),
        ] {
            let first = wire::to(role, wire::FIRST_TEXT, "a");
            let next = wire::to(role, wire::TEXT, "ok");
            let seen = reported(role, &[first, last, next.clone(), next]);
            assert_eq!(seen, [Ok("a".into()), Err(error), Ok("ok".into()), Ok("ok".into())]);
        }
    }
}

#[test]
fn report_of_a_fragment_keeps_the_check_of_the_text_around_it() {
    for role in ROLES {
        let first = wire::to(role, wire::FIRST_TEXT, b"\xce");
        let close = wire::to(role, wire::CLOSE, [3]);
        // The end of the letter is in a frame that breaks a rule of its own.
        let letter =
            [first.clone(), wire::to(role, 0x20, b"\xba"), wire::to(role, wire::LAST, "end")].concat();
        let mut reader = FrameReader::new(&letter[..], WrapOptions::new(role).checks(Checks::Report));
        let results: Vec<bool> =
            std::iter::from_fn(|| drive(reader.next())).map(|next| next.is_ok()).collect();
        assert_eq!(results, [true, false, true]);
        let bytes = [first, close, wire::to(role, wire::LAST, b"\xff")].concat();
        let mut reader = FrameReader::new(&bytes[..], WrapOptions::new(role).checks(Checks::Report));
        assert!(drive(reader.next()).unwrap().is_ok());
        for expected in [ProtocolError::ClosePayload, ProtocolError::InvalidUtf8] {
            let Some(Err(Error::Reported { error, .. })) = drive(reader.next()) else { panic!("{expected}") };
            assert_eq!(error, expected);
        }
    }
}

/// Which of two messages a continuation belongs to cannot be known.
#[test]
fn report_takes_no_fragment_of_one_message_for_one_of_another() {
    let interleaved = || Err(ProtocolError::MessageInterleaved);
    let ok = |text: &str| Ok(text.to_owned());
    for role in ROLES {
        let to = |first, payload: &str| wire::to(role, first, payload);
        let begun = [to(wire::FIRST_TEXT, "a1 "), to(wire::FIRST_TEXT, "b1 ")];
        let ended = [to(wire::LAST, "a2"), to(wire::TEXT, "next")];
        assert_eq!(
            reported(role, &[begun.to_vec(), ended.to_vec()].concat()),
            [ok("a1 "), interleaved(), interleaved(), ok("next")]
        );
        // An unfinished message does not block later ones for ever.
        let others = ["c", "d", "e"].map(|text| to(wire::TEXT, text));
        for given_up in [&begun[..1], &begun] {
            let seen = reported(role, &[given_up.to_vec(), others.to_vec(), ended.to_vec()].concat());
            let others = [interleaved(), ok("d"), ok("e"), interleaved(), ok("next")];
            assert_eq!(seen[given_up.len()..], others);
        }
    }
}

/// The frames of a message are joined as they came, whatever the text in them.
#[test]
fn report_of_bad_text_ends_with_its_message() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(4096, WrapOptions::new(role).checks(Checks::Report));
        for frames in [
            &[(wire::TEXT, &b"\xff"[..])][..],
            &[(wire::FIRST_TEXT, b"\xff"), (wire::NEXT, b"\xff"), (wire::LAST, b"\xff")],
            &[(wire::FIRST_TEXT, b"a"), (wire::LAST, b"\xe2")],
        ] {
            for (first, payload) in frames {
                far.put(&wire::to(role, *first, payload));
            }
            far.put(&wire::to(role, wire::FIRST_TEXT, b"\xce"));
            far.put(&wire::to(role, wire::LAST, b"\xba"));
            let mut reports = 0;
            for _ in frames {
                match drive(read.next()).unwrap() {
                    Ok(_) => {}
                    Err(Error::Reported { error, .. }) => {
                        assert_eq!(error, ProtocolError::InvalidUtf8);
                        reports += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(reports, 1, "once for a message");
            assert!(drive(read.next()).unwrap().is_ok() && drive(read.next()).unwrap().is_ok());
        }
    }
}

#[test]
fn report_still_answers_pings_and_a_good_close() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(4096, WrapOptions::new(role).checks(Checks::Report));
        far.put(&wire::to(role, wire::CLOSE, [3]));
        far.put(&wire::to(role, wire::PING, "here?"));
        far.put(&wire::close_to(role, 1000, "good"));
        assert!(drive(read.next()).unwrap().is_err());
        assert!(drive(read.next()).unwrap().is_ok());
        assert_eq!(drive(read.next()).unwrap().unwrap().opcode, Opcode::CLOSE);
        let sent = far.frames();
        assert_eq!((sent.len(), sent[0].first), (2, wire::PONG));
        assert_eq!(sent[1].close_code(), 1000);
    }
}

#[test]
fn report_ends_where_the_next_frame_cannot_be_found_or_a_limit_is_passed() {
    for role in ROLES {
        let key = wire::key_to(role);
        for (bytes, expected) in [
            (wire::header(wire::BINARY, Form::Bits64, 1 << 63, key), ProtocolError::LengthTooLarge),
            (wire::header(wire::BINARY, Form::Bits64, 1 << 24, key), ProtocolError::FrameTooLarge),
            (wire::header(0xF3, Form::Bits64, 1 << 24, key), ProtocolError::FrameTooLarge),
            (wire::header(wire::BINARY, Form::Bits64, 1 << 40, key), ProtocolError::MessageTooLarge),
        ] {
            let options = WrapOptions::new(role).checks(Checks::Report).max_frame_len(1 << 20);
            let options = if expected == ProtocolError::MessageTooLarge {
                options.max_frame_len(usize::MAX)
            } else {
                options
            };
            let ((mut read, mut write), mut far) = alone(4096, options);
            far.put(&bytes);
            assert!(
                matches!(drive(read.next()), Some(Err(Error::Protocol { error, .. } | Error::Limit { error, .. })) if error == expected)
            );
            assert!(drive(read.next()).is_none());
            assert_eq!(far.input.take_all(), [], "nothing is said");
            assert!(drive(write.text("late")).is_err());
        }
    }
}

#[test]
fn a_reader_alone_reports_too() {
    for role in ROLES {
        for (frame, mut bytes, expected) in violations(role) {
            bytes.extend(wire::to(role, wire::TEXT, "next"));
            let mut reader = FrameReader::new(&bytes[..], WrapOptions::new(role).checks(Checks::Report));
            let reported = drive(reader.next());
            assert!(matches!(&reported, Some(Err(Error::Reported { error, frame: reported }))
                if *error == expected && **reported == frame));
            assert!(drive(reader.next()).unwrap().is_ok() && drive(reader.next()).is_none());
        }
    }
}

#[test]
fn report_checks_what_goes_out_like_strict() {
    let ((_read, mut write), mut far) = alone(4096, WrapOptions::client().checks(Checks::Report));
    for first in [0xC1, 0x83, 0x8B, 0x09, wire::LAST] {
        assert!(matches!(drive(write.send(wire::message(first, false, b""))), Err(Error::Invalid { .. })));
    }
    assert_eq!(far.input.take_all(), []);
}

#[test]
fn off_gives_every_frame_as_it_came_and_answers_nothing() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(4096, WrapOptions::new(role).checks(Checks::Off));
        for (frame, bytes, _) in violations(role) {
            far.put(&bytes);
            assert_eq!(drive(read.next()).unwrap().unwrap(), frame);
        }
        far.put(&wire::to(role, wire::PING, "unanswered"));
        far.put(&wire::close_to(role, 1000, "unanswered"));
        far.put(&wire::to(role, wire::TEXT, "behind the Close"));
        for opcode in [Opcode::PING, Opcode::CLOSE, Opcode::TEXT] {
            assert_eq!(drive(read.next()).unwrap().unwrap().opcode, opcode);
        }
        assert!(poll_once(&mut read.next()).is_pending());
        assert_eq!(far.input.take_all(), []);
        drop(far.output);
        assert!(drive(read.next()).is_none(), "the end is no error");
        drive(write.text("a relay may still write")).unwrap();
        assert_eq!(wire::frames(&far.input.take_all()).len(), 1);
    }
}

#[test]
fn off_tells_when_the_end_comes_in_the_middle_of_a_frame() {
    for role in ROLES {
        let whole = wire::to(role, wire::BINARY, [1; 300]);
        for cut in [1, 3, whole.len() - 1] {
            let ((mut read, _write), mut far) = alone(4096, WrapOptions::new(role).checks(Checks::Off));
            far.put(&whole[..cut]);
            drop(far.output);
            assert!(matches!(drive(read.next()), Some(Err(Error::Lost))));
            assert!(drive(read.next()).is_none());
        }
    }
}

#[test]
fn off_lets_every_frame_out_and_its_own_mask_decides() {
    for role in ROLES {
        for mask_option in [None, Some(false), Some(true)] {
            let options = WrapOptions::new(role).checks(Checks::Off);
            let options = mask_option.map_or(options.clone(), |mask| options.mask(mask));
            let ((_read, mut write), mut far) = alone(1 << 20, options);
            let frames: Vec<Message> = violations(Role::Client)
                .into_iter()
                .chain(violations(Role::Server))
                .map(|(frame, ..)| frame)
                .chain([Message::close(1000, ""), Message::text("behind"), Message::close(1000, "")])
                .collect();
            for frame in &frames {
                drive(write.send(frame.clone())).unwrap();
            }
            let sent = far.frames();
            assert_eq!(sent.len(), frames.len());
            for (sent, frame) in sent.iter().zip(&frames) {
                assert_eq!(&wire::message(sent.first, sent.key.is_some(), &sent.payload), frame);
            }
        }
    }
}

/// What a relay is to pass on: all that may be in a stream of frames, and much that may not.
fn anything() -> Vec<(u8, Vec<u8>)> {
    let mut frames = wire::mixed(77, 200, 400);
    for first in 0..=255 {
        frames.push((first, wire::Dice::new(u64::from(first)).bytes(usize::from(first))));
    }
    frames.push((wire::CLOSE, vec![]));
    frames.push((wire::BINARY, wire::Dice::new(4).bytes(100_000)));
    frames.push((wire::CLOSE, vec![1]));
    frames
}

#[test]
fn a_relay_of_two_raw_connections_forwards_both_ways_byte_for_byte() {
    let options = |role| WrapOptions::new(role).checks(Checks::Off);
    let ((client_read, client_write), mut server) = alone(1000, options(Role::Client));
    let ((server_read, server_write), mut client) = alone(1000, options(Role::Server));
    let down: Vec<u8> =
        anything().iter().flat_map(|(first, payload)| wire::frame(*first, None, payload)).collect();
    let up: Vec<u8> = anything()
        .iter()
        .flat_map(|(first, payload)| wire::frame(*first, Some(wire::KEY), payload))
        .collect();
    server.put(&down);
    client.put(&up);
    drop((server.output, client.output));
    let mut relay = Box::pin(async {
        let (down, up) = join!(client_read.forward(server_write), server_read.forward(client_write));
        down.unwrap();
        up.unwrap();
    });
    let (mut got_down, mut got_up) = (Vec::new(), Vec::new());
    let mut done = false;
    while !done {
        done = settle(&mut relay).is_ready();
        let (more_down, more_up) = (client.input.take_all(), server.input.take_all());
        assert!(done || !more_down.is_empty() || !more_up.is_empty(), "the relay stands still");
        got_down.extend(more_down);
        got_up.extend(more_up);
    }
    assert!(got_down == down, "what the server says is passed on as it is");
    // What the client says gets keys of its own, and is the same otherwise.
    let frames = wire::frames(&got_up);
    assert_eq!((frames.len(), got_up.len()), (anything().len(), up.len()));
    for (frame, (first, payload)) in frames.iter().zip(anything()) {
        assert!(frame.key.is_some() && frame.first == first && frame.payload == payload);
    }
    assert!(client.input.is_ended() && server.input.is_ended(), "and the ends are passed on");
}

#[test]
fn reader_and_writer_alone_are_a_relay_too() {
    let options = || WrapOptions::client().checks(Checks::Off);
    let bytes: Vec<u8> =
        anything().iter().flat_map(|(first, payload)| wire::frame(*first, None, payload)).collect();
    let mut sink = Vec::new();
    let reader = FrameReader::new(&bytes[..], options());
    let writer = FrameWriter::new(&mut sink, options());
    drive(reader.forward(writer)).unwrap();
    assert!(sink == bytes);
}

#[test]
fn two_peers_talk_through_a_relay_and_close_cleanly() {
    let options = |role| WrapOptions::new(role).checks(Checks::Off);
    let ((client_in, client_out), (near_in, near_out)) = common::duplex(100);
    let ((server_in, server_out), (far_in, far_out)) = common::duplex(100);
    let (mut client_read, mut client) = wrap_io(client_in, client_out, WrapOptions::client());
    let (mut server_read, mut server) = wrap_io(server_in, server_out, WrapOptions::server());
    let (to_client, from_client) = {
        let (read, write) = wrap_io(near_in, near_out, options(Role::Server));
        (write, read)
    };
    let (from_server, to_server) = wrap_io(far_in, far_out, options(Role::Client));
    drive(async {
        let relay = async {
            let (up, down) = join!(from_client.forward(to_server), from_server.forward(to_client));
            up.unwrap();
            down.unwrap();
        };
        let asking = async {
            for turn in 0..20 {
                client.text("question ".repeat(turn)).await.unwrap();
                assert_eq!(client_read.next().await.unwrap().unwrap().payload, "question ".repeat(turn));
            }
            client.close_with(1000, "enough").await.unwrap();
            while client_read.next().await.transpose().unwrap().is_some() {}
            assert!(client_read.close_frames().is_clean());
        };
        let answering = async {
            while let Some(message) = server_read.next().await.transpose().unwrap() {
                if message.is_data() {
                    server.send(message).await.unwrap();
                }
            }
            assert_eq!(server_read.close_frames().received.unwrap().reason, "enough");
        };
        join!(relay, asking, answering);
    });
}

/// The two ends need not be checked alike.
#[test]
fn a_strict_end_and_a_raw_end_understand_each_other() {
    let ((mut raw_read, mut raw), (mut strict_read, mut strict)) =
        connected(1024, WrapOptions::client().checks(Checks::Off), WrapOptions::server());
    drive(async {
        raw.send(Message { mask: true, ..Message::text("by hand") }).await.unwrap();
        assert_eq!(strict_read.next().await.unwrap().unwrap().as_text(), Some("by hand"));
        strict.text("hello").await.unwrap();
        assert_eq!(raw_read.next().await.unwrap().unwrap().as_text(), Some("hello"));
        SinkExt::close(&mut raw).await.unwrap();
        assert!(matches!(strict_read.next().await, Some(Err(Error::Lost))), "raw, the end is only the end");
    });
}
