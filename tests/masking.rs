//! Masking (RFC 6455 §5.3): who does it, with which keys, and on whose bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::collections::HashSet;

use bytes::Bytes;
use common::{
    alone,
    drive::{Later, drive, drive_with},
    fail,
    fault::{Fault, FaultyWrite, Pace},
    wire::{self, Dice},
};
use coro_websocket::{FrameReader, Message, ProtocolError, Role, SinkExt, StreamExt, WrapOptions, wrap_io};

fn keys(frames: &[wire::Frame]) -> Vec<[u8; 4]> {
    frames.iter().map(|frame| frame.key.expect("a client masks every frame")).collect()
}

/// A sum of squares that is around 255 for bytes that nobody can tell from random ones.
fn chi_square(bytes: impl Iterator<Item = u8>) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.for_each(|byte| counts[usize::from(byte)] += 1);
    let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// CVE-2025-10148: one key was drawn for a whole connection. §5.3: "The masking key is a 32-bit value chosen at random
/// by the client. When preparing a masked frame, the client MUST pick a fresh masking key from the set of allowed
/// 32-bit values. The masking key needs to be unpredictable".
#[test]
fn cve_2025_10148_ten_thousand_frames_have_ten_thousand_keys() {
    let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
    for _ in 0..10_000 {
        drive(write.binary(&b"the same payload"[..])).unwrap();
    }
    let keys = keys(&far.frames());
    assert_eq!(keys.len(), 10_000);
    // Two equal keys come about once in a hundred runs, three pairs of them never.
    assert!(keys.iter().collect::<HashSet<_>>().len() >= 9_998, "keys repeat");
    let steps: HashSet<_> = keys.windows(2).collect();
    assert!(steps.len() >= 9_998, "the sequence of keys repeats");
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a key is used twice in a row");
    assert!(keys.windows(2).filter(|pair| pair == &[[0; 4]; 2]).count() == 0);
    for place in 0..4 {
        let chi = chi_square(keys.iter().map(|key| key[place]));
        assert!((140.0..420.0).contains(&chi), "byte {place} of the keys is not random: {chi}");
    }
    let chi = chi_square(keys.iter().flatten().copied());
    assert!((140.0..420.0).contains(&chi), "the keys are not random: {chi}");
    let steps = keys.windows(2).flat_map(|pair| pair[0].into_iter().zip(pair[1]).map(|(a, b)| a ^ b));
    let chi = chi_square(steps);
    assert!((140.0..420.0).contains(&chi), "the keys follow from each other: {chi}");
}

#[test]
fn every_kind_of_frame_of_every_clone_and_connection_has_a_key_of_its_own() {
    let mut all = Vec::new();
    for _ in 0..50 {
        let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
        let mut clone = write.clone();
        far.put(&wire::to(Role::Client, wire::PING, "answer me"));
        drive(async {
            write.text("a").await.unwrap();
            clone.text("b").await.unwrap();
            write.send(wire::message(wire::FIRST_BINARY, false, b"c")).await.unwrap();
            clone.send(Message::ping("d")).await.unwrap();
            write.send(Message::continuation("e", false)).await.unwrap();
            clone.pong("f").await.unwrap();
            write.send(Message::continuation("", true)).await.unwrap();
            read.next().await.unwrap().unwrap();
            write.binary(vec![7; 70_000]).await.unwrap();
            write.close_with(1000, "").await.unwrap();
        });
        let frames = far.frames();
        assert_eq!(frames.len(), 10, "the Pong included");
        all.extend(keys(&frames));
    }
    assert!(all.iter().collect::<HashSet<_>>().len() >= all.len() - 1, "keys repeat");
}

/// A key that changes between two writes of one frame would garble it; one that is drawn again for a retry would
/// show two encodings of the same bytes.
#[test]
fn a_frame_keeps_its_key_through_partial_writes_interruptions_and_pauses() {
    for len in [0, 1, 5, 125, 126, 1023, 65_535, 65_536, 65_537, 200_000] {
        let payload = Bytes::from(Dice::new(len as u64).bytes(len));
        for chunk in [1, 7, 1000, 65_535, 65_536, 65_537, usize::MAX] {
            if len / chunk > 70_000 {
                continue;
            }
            for fault in [Fault::Stall(2), Fault::Interrupted(2)] {
                let later = Later::default();
                let pace = Pace { chunk, pauses: chunk > 1 };
                let (io, taken) = FaultyWrite::new(pace, Some((len / 2, fault)), &later);
                let (_read, mut write) = wrap_io(futures::io::empty(), io, WrapOptions::client());
                drive_with(
                    async {
                        write.feed(Message::text("before")).await.unwrap();
                        write.feed(Message::binary(payload.clone())).await.unwrap();
                        write.send(Message::text("behind")).await.unwrap();
                    },
                    &later,
                );
                let frames = wire::frames(&taken.bytes());
                assert_eq!(frames.len(), 3);
                assert!(frames[1].payload == payload, "{len} bytes in parts of {chunk}");
                assert_eq!(
                    (&frames[0].payload[..], &frames[2].payload[..]),
                    (&b"before"[..], &b"behind"[..])
                );
            }
        }
    }
}

#[test]
fn large_masked_payloads_go_through_partial_vectored_writes() {
    let payloads: Vec<Bytes> = [70_000, 65_536, 3, 131_072, 0, 100_001]
        .iter()
        .map(|len| Bytes::from(Dice::new(*len as u64).bytes(*len)))
        .collect();
    for role in [Role::Client, Role::Server] {
        for chunk in [997, 4096, 65_536, 65_550, 70_014, usize::MAX] {
            let later = Later::default();
            let (io, taken) = FaultyWrite::new(Pace { chunk, pauses: true }, None, &later);
            let options = WrapOptions::new(role).write_buffer_len(usize::MAX);
            let (_read, mut write) = wrap_io(futures::io::empty(), io, options);
            drive_with(
                async {
                    for payload in &payloads {
                        write.feed(Message::binary(payload.clone())).await.unwrap();
                    }
                    write.flush().await.unwrap();
                },
                &later,
            );
            let frames = wire::frames(&taken.bytes());
            assert!(frames.iter().map(|frame| &frame.payload).eq(&payloads), "{role:?}, parts of {chunk}");
            assert_eq!(frames.iter().all(|frame| frame.key.is_some()), role == Role::Client);
            assert!(role == Role::Client || taken.vectored() > 0, "payloads are written as they are");
        }
    }
}

#[test]
fn the_payload_of_the_caller_is_never_changed() {
    for len in [0, 1, 125, 1024, 65_535, 65_536, 300_000] {
        let original = Dice::new(3).bytes(len);
        let payload = Bytes::from(original.clone());
        let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
        let mut clone = write.clone();
        drive(async {
            write.binary(payload.clone()).await.unwrap();
            clone.binary(payload.clone()).await.unwrap();
        });
        assert!(payload == original, "{len} bytes were changed");
        let frames = far.frames();
        assert!(frames.iter().all(|frame| frame.payload == original));
        assert_ne!(frames[0].key, frames[1].key);
    }
}

/// §5.1: "a client MUST mask all frames that it sends to the server" and "A server MUST NOT mask any frames that it
/// sends to the client."
#[test]
fn the_role_decides_who_masks_and_the_option_overrides_it_for_sending_only() {
    for (options, masks) in [
        (WrapOptions::client(), true),
        (WrapOptions::server(), false),
        (WrapOptions::client().mask(false), false),
        (WrapOptions::server().mask(true), true),
    ] {
        for frame_says in [false, true] {
            let ((_read, mut write), mut far) = alone(1024, options.clone());
            let message = Message { mask: frame_says, ..Message::text("Hello") };
            assert_eq!(drive(write.write(message)).unwrap(), if masks { 11 } else { 7 });
            let [frame] = &far.frames()[..] else { panic!("one frame") };
            assert_eq!(frame.key.is_some(), masks, "the frame's own mask does not matter");
        }
    }
    // What comes in is judged by the role all the same.
    let failed =
        fail(Role::Server, WrapOptions::client().mask(false), &wire::to(Role::Server, wire::TEXT, "a"));
    assert_eq!(failed.error, ProtocolError::Masked);
}

/// §5.1: "The server MUST close the connection upon receiving a frame that is not masked. In this case, a server MAY
/// send a Close frame with a status code of 1002 (protocol error)".
#[test]
fn server_rejects_an_unmasked_frame_of_every_kind() {
    for first in [wire::TEXT, wire::BINARY, wire::FIRST_TEXT, wire::PING, wire::PONG, wire::CLOSE] {
        let failed = fail(Role::Server, WrapOptions::server(), &wire::frame(first, None, b""));
        assert_eq!((failed.error, failed.code), (ProtocolError::Unmasked, 1002), "{first:#x}");
    }
}

/// §5.1: "A client MUST close a connection if it detects a masked frame. In this case, it MAY use the status code 1002
/// (protocol error)".
#[test]
fn client_rejects_a_masked_frame_of_every_kind() {
    for first in [wire::TEXT, wire::BINARY, wire::FIRST_TEXT, wire::PING, wire::PONG, wire::CLOSE] {
        let failed = fail(Role::Client, WrapOptions::client(), &wire::frame(first, Some(wire::KEY), b""));
        assert_eq!((failed.error, failed.code), (ProtocolError::Masked, 1002), "{first:#x}");
    }
}

/// CVE-2020-36406: unmasking wrote beyond the payload. Every length, at every place in the buffer, with a frame
/// behind it.
#[test]
fn cve_2020_36406_every_length_at_every_offset_is_unmasked_and_its_neighbours_are_left_alone() {
    for offset in 0..16 {
        let mut bytes = wire::frame(wire::BINARY, Some([0; 4]), &vec![0xAA; offset]);
        for len in 0..300_usize {
            let key = [len.to_le_bytes()[0], 0xF0, len.to_le_bytes()[1], 0x0F];
            bytes.extend(wire::frame(wire::BINARY, Some(key), &Dice::new(len as u64).bytes(len)));
        }
        drive(async {
            let mut owned = FrameReader::new(&bytes[..], WrapOptions::server());
            let mut lent = FrameReader::new(&bytes[..], WrapOptions::server());
            assert_eq!(owned.next().await.unwrap().unwrap().payload, vec![0xAA; offset]);
            assert_eq!(lent.frame().await.unwrap().unwrap().payload, vec![0xAA; offset]);
            for len in 0..300_usize {
                let expected = Dice::new(len as u64).bytes(len);
                let message = owned.next().await.unwrap().unwrap();
                assert!(message.mask && message.payload == expected, "{len} bytes at {offset}");
                let frame = lent.frame().await.unwrap().unwrap();
                assert!(frame.mask && frame.payload == expected, "{len} bytes at {offset}");
            }
        });
    }
}
