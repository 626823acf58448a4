//! Where the transport cuts the bytes makes no difference.
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
    io,
    pin::Pin,
    task::{Context, Poll},
};

use common::{
    drive::{Later, drive, drive_with},
    fault::{Fault, FaultyRead, FaultyWrite, Pace},
    wire,
};
use coro_websocket::{
    Error, FrameReader, IoRead, Message, ProtocolError, Role, SinkExt, StreamExt, WrapOptions, wrap_io,
};
use futures::io::{AsyncRead, sink};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// The bytes, of which the first `cut` come alone.
fn cut(bytes: &[u8], cut: usize, later: &Later) -> FaultyRead {
    FaultyRead::new(bytes.to_vec(), Pace::FAST, Some((cut, Fault::Stall(1))), later)
}

type Items = Vec<Result<Message, String>>;

fn item(item: Result<Message, Error>) -> Result<Message, String> {
    item.map_err(|error| match error {
        Error::Protocol { error, .. } => format!("Protocol({error:?})"),
        error => format!("{error:?}"),
    })
}

/// Everything that a codec of its own gives.
async fn all_of_reader(bytes: FaultyRead, role: Role, lend: bool) -> Items {
    let mut reader = FrameReader::new(bytes, WrapOptions::new(role));
    let mut items = Vec::new();
    loop {
        let next = if lend {
            reader.frame().await.map(|frame| frame.map(|frame| frame.to_message()))
        } else {
            reader.next().await
        };
        match next {
            Some(next) => items.push(item(next)),
            None => return items,
        }
    }
}

/// Everything that a half of a connection gives.
async fn all_of_read(bytes: FaultyRead, role: Role, lend: bool) -> Items {
    let (mut read, _write): (IoRead<_, _>, _) = wrap_io(bytes, sink(), WrapOptions::new(role));
    let mut items = Vec::new();
    loop {
        let next = if lend {
            read.frame().await.map(|frame| frame.map(|frame| frame.to_message()))
        } else {
            read.next().await
        };
        match next {
            Some(next) => items.push(item(next)),
            None => return items,
        }
    }
}

fn encode(frames: &[(u8, Vec<u8>)], role: Role) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| wire::to(role, *first, payload)).collect()
}

fn decoded(frames: &[(u8, Vec<u8>)], role: Role) -> Items {
    let mask = role == Role::Server;
    frames.iter().map(|(first, payload)| Ok(wire::message(*first, mask, payload))).collect()
}

/// The frames of RFC 6455 §5.7, with lengths of 256 bytes and 64 KiB, and a Close.
fn vectors() -> Vec<(u8, Vec<u8>)> {
    vec![
        (wire::TEXT, b"Hello".to_vec()),
        (wire::FIRST_TEXT, b"Hel".to_vec()),
        (wire::LAST, b"lo".to_vec()),
        (wire::PING, b"Hello".to_vec()),
        (wire::PONG, b"Hello".to_vec()),
        (wire::BINARY, (0..=255).collect()),
        (wire::CLOSE, [&1000_u16.to_be_bytes()[..], b"bye"].concat()),
    ]
}

#[test]
fn the_vectors_of_the_rfc_cut_at_every_index_are_the_same() {
    for role in ROLES {
        let bytes = encode(&vectors(), role);
        let expected = decoded(&vectors(), role);
        for at in 0..=bytes.len() {
            let later = Later::default();
            for lend in [false, true] {
                let reader = drive_with(all_of_reader(cut(&bytes, at, &later), role, lend), &later);
                assert_eq!(reader, expected, "{role:?} reader cut at {at}");
                let read = drive_with(all_of_read(cut(&bytes, at, &later), role, lend), &later);
                assert_eq!(read, expected, "{role:?} half cut at {at}");
            }
        }
    }
}

#[test]
fn a_frame_of_64_kib_cut_at_every_index_near_its_ends_and_buffers_is_the_same() {
    const LEN: usize = 65_536;
    for role in ROLES {
        let frames = [(wire::BINARY, wire::Dice::new(7).bytes(LEN)), (wire::TEXT, b"behind".to_vec())];
        let bytes = encode(&frames, role);
        let expected = decoded(&frames, role);
        // One read takes 20 KiB.
        let reads = [20_480, 40_960, 61_440].into_iter().flat_map(|end| end - 20..end + 20);
        let cuts = (0..300).chain(LEN - 40..bytes.len()).chain((300..LEN - 40).step_by(4099)).chain(reads);
        for at in cuts {
            let later = Later::default();
            for lend in [false, true] {
                let reader = drive_with(all_of_reader(cut(&bytes, at, &later), role, lend), &later);
                assert!(reader == expected, "{role:?} reader cut at {at}");
            }
        }
    }
}

/// Those that just fit into one read, or just do not, and so come whole or in parts.
#[test]
fn frames_about_as_long_as_a_read_are_the_same_in_parts_of_any_size() {
    let mut dice = wire::Dice::new(3);
    let lengths = [20_464, 20_472, 20_473, 20_479, 20_480, 20_481, 10_233, 10_240, 16_384, 300, 20_480];
    let firsts = [wire::BINARY, wire::TEXT];
    let frames: Vec<_> = lengths
        .into_iter()
        .zip(firsts.into_iter().cycle())
        .map(|(len, first)| (first, dice.text(len).into_bytes()))
        .collect();
    for role in ROLES {
        let bytes = encode(&frames, role);
        let expected = decoded(&frames, role);
        for chunk in [1000, 4096, 9000, 16_384, 20_479, 20_480, usize::MAX] {
            for (pauses, lend) in [(false, false), (false, true), (true, false), (true, true)] {
                let later = Later::default();
                let part = FaultyRead::new(bytes.clone(), Pace { chunk, pauses }, None, &later);
                let reader = drive_with(all_of_reader(part, role, lend), &later);
                assert!(reader == expected, "{role:?}, parts of {chunk}");
            }
        }
    }
}

/// Rooms of large payloads are used again, for those that are lent and those that were sent again.
#[test]
fn large_payloads_in_any_parts_are_the_same_though_they_lie_where_others_were() {
    let mut dice = wire::Dice::new(5);
    for role in ROLES {
        for round in 0..60 {
            let frames: Vec<_> = (0..6)
                .map(|_| {
                    let len = [1 << 18, 40_000, 20_000, 9000][dice.up_to(4)];
                    let len = len - dice.up_to(len / 4);
                    (wire::BINARY, dice.bytes(len))
                })
                .collect();
            let chunk = 1 + [usize::MAX - 1, 300_000, 30_000][dice.up_to(3)] / (1 + dice.up_to(4));
            let pace = Pace { chunk, pauses: dice.up_to(2) == 0 };
            let later = Later::default();
            let (read, (write, taken)) = (
                FaultyRead::new(encode(&frames, role), pace, None, &later),
                FaultyWrite::new(pace, None, &later),
            );
            let (mut read, mut write) = wrap_io(read, write, WrapOptions::new(role));
            let echo = async {
                for (_, payload) in &frames {
                    if dice.up_to(3) == 0 {
                        let frame = read.frame().await.unwrap().unwrap();
                        assert!(frame.payload == payload, "lent, round {round}");
                        write.send(frame.to_message()).await.unwrap();
                    } else {
                        let message = read.next().await.unwrap().unwrap();
                        assert!(message.payload == payload, "taken, round {round}");
                        if dice.up_to(2) == 0 {
                            write.send(message).await.unwrap();
                        } else {
                            write.feed(message).await.unwrap();
                        }
                    }
                }
                write.flush().await.unwrap();
            };
            drive_with(echo, &later);
            let sent = wire::frames(&taken.bytes());
            assert_eq!(sent.len(), frames.len());
            for (sent, (_, payload)) in sent.iter().zip(&frames) {
                assert!(sent.payload == *payload, "sent, round {round}");
            }
        }
    }
}

/// 500 frames of all kinds, kept short so that every cut can be tried.
fn mixed() -> Vec<(u8, Vec<u8>)> {
    let mut frames = wire::mixed(11, 490, 6);
    // Some that cross the borders of the length forms, and are copied rather than lent.
    frames.push((wire::BINARY, vec![1; 125]));
    frames.push((wire::BINARY, vec![2; 126]));
    frames.push((wire::BINARY, vec![3; 127]));
    frames.push((wire::BINARY, vec![4; 255]));
    frames.push((wire::BINARY, vec![5; 256]));
    frames.push((wire::FIRST_BINARY, vec![6; 300]));
    frames.push((wire::PING, vec![7; 125]));
    frames.push((wire::NEXT, vec![]));
    frames.push((wire::LAST, vec![8; 10]));
    frames.push((wire::TEXT, "🦀".repeat(40).into_bytes()));
    assert_eq!(frames.len(), 500);
    frames
}

fn cut_everywhere(role: Role, all: impl AsyncFn(FaultyRead) -> Items) {
    let bytes = encode(&mixed(), role);
    let expected = decoded(&mixed(), role);
    for at in 0..=bytes.len() {
        let later = Later::default();
        let mut items = drive_with(all(cut(&bytes, at, &later)), &later);
        // The end without a Close is an error for a connection, and none for a codec.
        if items.len() == 501 {
            assert_eq!(items.pop(), Some(Err(String::from("Lost"))));
        }
        assert!(items == expected, "{role:?} cut at {at}");
    }
}

#[test]
fn five_hundred_frames_cut_at_every_index_are_the_same_to_the_stream_of_a_codec() {
    for role in ROLES {
        cut_everywhere(role, async |bytes| all_of_reader(bytes, role, false).await);
    }
}

#[test]
fn five_hundred_frames_cut_at_every_index_are_the_same_to_frame_of_a_codec() {
    for role in ROLES {
        cut_everywhere(role, async |bytes| all_of_reader(bytes, role, true).await);
    }
}

#[test]
fn five_hundred_frames_cut_at_every_index_are_the_same_to_next() {
    for role in ROLES {
        cut_everywhere(role, async |bytes| all_of_read(bytes, role, false).await);
    }
}

#[test]
fn five_hundred_frames_cut_at_every_index_are_the_same_to_frame() {
    for role in ROLES {
        cut_everywhere(role, async |bytes| all_of_read(bytes, role, true).await);
    }
}

#[test]
fn five_hundred_frames_in_parts_of_any_size_are_the_same() {
    for role in ROLES {
        let bytes = encode(&mixed(), role);
        let expected = decoded(&mixed(), role);
        for chunk in (1..=16).chain([63, 64, 65, 127, 128, 255, 256, 257, 1000, 4096]) {
            for (pauses, lend) in [(false, false), (false, true), (true, false), (true, true)] {
                let later = Later::default();
                let part = || FaultyRead::new(bytes.clone(), Pace { chunk, pauses }, None, &later);
                let reader = drive_with(all_of_reader(part(), role, lend), &later);
                assert!(reader == expected, "{role:?} reader, parts of {chunk}");
                let mut read = drive_with(all_of_read(part(), role, lend), &later);
                assert_eq!(read.pop(), Some(Err(String::from("Lost"))));
                assert!(read == expected, "{role:?} half, parts of {chunk}");
            }
        }
    }
}

/// Gives part after part, with a Pending between two, and counts how often it is asked.
struct Parts {
    parts: VecDeque<Vec<u8>>,
    paused: bool,
    asked: usize,
}

impl AsyncRead for Parts {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.asked += 1;
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let part = self.parts.pop_front().unwrap_or_default();
        buf[..part.len()].copy_from_slice(&part);
        Poll::Ready(Ok(part.len()))
    }
}

#[test]
fn the_short_vectors_of_the_rfc_cut_at_every_two_indices_are_the_same() {
    for role in ROLES {
        let mut frames = vectors();
        frames.remove(5);
        let bytes = encode(&frames, role);
        let expected = decoded(&frames, role);
        for first in 1..bytes.len() {
            for second in first + 1..bytes.len() {
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                let parts = Parts {
                    parts: parts.iter().map(|part| part.to_vec()).collect(),
                    paused: false,
                    asked: 0,
                };
                let (mut read, _write) = wrap_io(parts, sink(), WrapOptions::new(role));
                let mut items = Vec::new();
                drive(async {
                    while let Some(next) = read.next().await {
                        items.push(item(next));
                    }
                });
                assert_eq!(items, expected, "{role:?} cut at {first} and {second}");
            }
        }
    }
}

/// RUSTSEC-2023-0065 (CVE-2023-43669): what came in small parts was looked at from its start again for each of them.
#[test]
fn bytes_that_come_one_at_a_time_are_asked_for_once_each_and_never_read_again() {
    for role in ROLES {
        for count in [1, 2, 4] {
            let frames = wire::mixed(5, 100 * count, 300);
            let bytes = encode(&frames, role);
            let parts =
                Parts { parts: bytes.iter().map(|byte| vec![*byte]).collect(), paused: false, asked: 0 };
            let mut reader = FrameReader::new(parts, WrapOptions::new(role));
            let mut seen = 0;
            drive(async {
                while let Some(frame) = reader.next().await {
                    frame.unwrap();
                    seen += 1;
                }
            });
            assert_eq!(seen, frames.len());
            assert_eq!(reader.into_inner().asked, 2 * (bytes.len() + 1));
        }
    }
}

/// nats-server#8029: a header that is cut short was waited for without end.
#[test]
fn every_truncation_of_a_frame_is_an_error_and_between_frames_it_is_the_end() {
    let lengths = [0, 1, 125, 126, 300, 65_536];
    for role in ROLES {
        for len in lengths {
            let whole = wire::to(role, wire::BINARY, vec![9; len]);
            let header_len = whole.len() - len;
            for at in (0..=header_len + len.min(5)).chain([whole.len() - 1]) {
                let bytes = [&wire::to(role, wire::TEXT, "before")[..], &whole[..at]].concat();
                let later = Later::default();
                let part = || FaultyRead::new(bytes.clone(), Pace::FAST, None, &later);
                for lend in [false, true] {
                    let mut reader = drive_with(all_of_reader(part(), role, lend), &later);
                    let mut read = drive_with(all_of_read(part(), role, lend), &later);
                    if at < whole.len() {
                        assert_eq!(
                            read.pop(),
                            Some(Err(String::from("Lost"))),
                            "half, {at} of {}",
                            whole.len()
                        );
                    }
                    if at > 0 && at < whole.len() {
                        assert_eq!(
                            reader.pop(),
                            Some(Err(String::from("Lost"))),
                            "codec, {at} of {}",
                            whole.len()
                        );
                    }
                    if at < whole.len() {
                        assert_eq!((reader.len(), read.len()), (1, 1));
                    }
                }
            }
        }
    }
}

#[test]
fn a_violation_is_the_same_wherever_its_bytes_are_cut() {
    use ProtocolError::{
        ClosePayload, ControlFragmented, ControlTooLong, InvalidUtf8, LengthNotMinimal, LengthTooLarge,
        MessageInterleaved, ReservedBits, ReservedOpcode, UnexpectedContinuation,
    };
    for role in ROLES {
        let key = wire::key_to(role);
        let to = |first, payload: &[u8]| wire::to(role, first, payload);
        let long = |first, form, len| wire::header(first, form, len, key);
        let cases = [
            (vec![to(0xC1, b"a")], ReservedBits),
            (vec![to(0x83, b"a")], ReservedOpcode),
            (vec![to(0x8B, b"")], ReservedOpcode),
            (vec![to(0x09, b"a")], ControlFragmented),
            (vec![to(wire::PING, &[0; 126])], ControlTooLong),
            (vec![long(wire::BINARY, wire::Form::Bits16, 125)], LengthNotMinimal),
            (vec![long(wire::BINARY, wire::Form::Bits64, 65_535)], LengthNotMinimal),
            (vec![long(wire::BINARY, wire::Form::Bits64, 1 << 63)], LengthTooLarge),
            (vec![to(wire::LAST, b"a")], UnexpectedContinuation),
            (vec![to(wire::FIRST_TEXT, b"a"), to(wire::TEXT, b"b")], MessageInterleaved),
            (vec![to(wire::TEXT, b"abc\xff")], InvalidUtf8),
            (vec![to(wire::FIRST_TEXT, b"\xce"), to(wire::PING, b""), to(wire::LAST, b"a")], InvalidUtf8),
            (vec![to(wire::CLOSE, &[3])], ClosePayload),
        ];
        for (frames, error) in cases {
            let bytes = frames.concat();
            for at in 0..=bytes.len() {
                let later = Later::default();
                for lend in [false, true] {
                    let reader = drive_with(all_of_reader(cut(&bytes, at, &later), role, lend), &later);
                    let read = drive_with(all_of_read(cut(&bytes, at, &later), role, lend), &later);
                    assert_eq!(reader.len(), frames.len(), "the error comes last");
                    assert_eq!(reader.last(), Some(&Err(format!("Protocol({error:?})"))), "cut at {at}");
                    assert_eq!(read, reader);
                }
            }
        }
    }
}
