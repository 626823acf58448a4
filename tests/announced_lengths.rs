//! Memory is reserved for what has arrived, never for a length that was announced.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    io,
    pin::Pin,
    process::Command,
    task::{Context, Poll},
};

use allocation_counter::measure;
use common::{
    drive::{drive, now},
    wire,
};
use coro_websocket::{FrameReader, Message, Role, StreamExt, WrapOptions, wrap_io};
use futures::{AsyncRead, io::sink};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Gives these bytes, then nothing more.
struct Stalled(Vec<u8>, usize);

impl AsyncRead for Stalled {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let rest = &self.0[self.1..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.1 += len;
        if len == 0 {
            // The test's own memory does not count.
            (self.0, self.1) = (Vec::new(), 0);
            return Poll::Pending;
        }
        Poll::Ready(Ok(len))
    }
}

/// The start of a frame of which `sent` bytes have come.
fn begun(role: Role, first: u8, announced: usize, sent: usize) -> Vec<u8> {
    let mut bytes = wire::header(first, wire::form(announced as u64), announced as u64, wire::key_to(role));
    bytes.resize(bytes.len() + sent, 7);
    bytes
}

fn whole(role: Role, len: usize) -> Vec<u8> {
    wire::to(role, wire::BINARY, vec![7; len])
}

fn warm() {
    for role in ROLES {
        let mut reader = FrameReader::new(Stalled(whole(role, 100), 0), WrapOptions::new(role));
        assert!(now(reader.next()).is_ready());
        assert!(now(reader.next()).is_pending());
    }
}

/// Few reads, and room for the bytes that they return.
fn most(sent: usize) -> u64 {
    (4 * sent + 64 * KIB) as u64
}

#[test]
fn a_frame_that_has_not_come_whole_takes_a_small_multiple_of_what_has() {
    warm();
    for role in ROLES {
        for announced in [64 * KIB, MIB, 16 * MIB] {
            for sent in [0, 1, 20 * KIB, 33 * KIB, 44 * KIB, 63 * KIB, 100 * KIB, 700 * KIB] {
                if sent >= announced {
                    continue;
                }
                let io = Stalled(begun(role, wire::BINARY, announced, sent), 0);
                let memory = measure(|| {
                    let mut reader = FrameReader::new(io, WrapOptions::new(role));
                    assert!(now(reader.next()).is_pending());
                    std::mem::forget(reader);
                });
                let held = memory.bytes_current + (sent + 14) as i64;
                assert!(held <= most(sent) as i64, "{sent} of {announced}: {memory:?}");
                assert!(memory.bytes_max <= most(sent), "{sent} of {announced}: {memory:?}");
            }
        }
    }
}

#[test]
fn room_that_the_thread_has_kept_is_not_lent_to_a_frame_that_does_not_come() {
    warm();
    for role in ROLES {
        let mut held = Vec::new();
        let memory = measure(|| {
            for _ in 0..100 {
                // Sending a large payload leaves its room to the thread.
                let (_read, mut write) = wrap_io(Stalled(Vec::new(), 0), sink(), WrapOptions::new(role));
                drive(write.send(Message::binary(vec![7; MIB]))).unwrap();
                let io = Stalled(begun(role, wire::BINARY, MIB, 100), 0);
                let (mut read, write) = wrap_io(io, sink(), WrapOptions::new(role));
                assert!(now(read.next()).is_pending());
                held.push((read, write));
            }
        });
        assert!(memory.bytes_current < 8 * MIB as i64, "{memory:?}");
    }
}

#[test]
fn room_of_the_frame_before_is_not_left_to_one_that_does_not_come() {
    warm();
    for role in ROLES {
        let mut held = Vec::new();
        let memory = measure(|| {
            for _ in 0..20 {
                let bytes = [whole(role, MIB), begun(role, wire::BINARY, 16 * MIB, 100)].concat();
                let mut reader = FrameReader::new(Stalled(bytes, 0), WrapOptions::new(role));
                // Lent, so that its room stays with the reader.
                assert!(
                    matches!(now(reader.frame()), Poll::Ready(Some(Ok(frame))) if frame.payload.len() == MIB)
                );
                assert!(now(reader.frame()).is_pending());
                held.push(reader);
            }
        });
        assert!(memory.bytes_current < 5 * MIB as i64, "{memory:?}");
    }
}

#[test]
fn fragments_take_a_small_multiple_of_what_has_come() {
    warm();
    for role in ROLES {
        let mut bytes = wire::to(role, wire::FIRST_BINARY, vec![7; 20 * KIB]);
        bytes.extend(wire::to(role, wire::NEXT, vec![7; 20 * KIB]));
        bytes.extend(begun(role, wire::NEXT, 15 * MIB, 4 * KIB));
        let sent = bytes.len();
        let io = Stalled(bytes, 0);
        let memory = measure(|| {
            let (mut read, write) = wrap_io(io, sink(), WrapOptions::new(role));
            assert!(now(read.messages().next()).is_pending());
            std::mem::forget((read, write));
        });
        assert!(memory.bytes_max <= most(sent), "{memory:?}");
    }
}

#[cfg(feature = "deflate")]
#[test]
fn a_compressed_frame_takes_a_small_multiple_of_what_has_been_inflated() {
    warm();
    for role in ROLES {
        for sent in [1, 20 * KIB, 44 * KIB] {
            let mut bytes = wire::header(0xC2, wire::Form::Bits64, 16 * MIB as u64, wire::key_to(role));
            // Stored blocks: the output has the length of the input.
            let mut payload = Vec::new();
            while payload.len() < sent {
                payload.extend([0x00, 0x00, 0x10, 0xFF, 0xEF]);
                payload.resize(payload.len() + 0x1000, 7);
            }
            bytes.extend(wire::key_to(role).map_or(payload.clone(), |key| wire::masked(&payload, key)));
            let io = Stalled(bytes, 0);
            let options = WrapOptions::new(role).deflate(coro_websocket::Deflate::default());
            let memory = measure(|| {
                let mut reader = FrameReader::new(io, options);
                assert!(now(reader.next()).is_pending());
                std::mem::forget(reader);
            });
            // With the inflater and its window.
            assert!(memory.bytes_max <= most(payload.len()) + 128 * KIB as u64, "{sent}: {memory:?}");
        }
    }
}

/// Runs in a process of its own, whose address space is limited.
#[test]
fn child_with_little_address_space() {
    let Some(announced) = std::env::var_os("ANNOUNCED") else { return };
    let announced: usize = announced.to_str().unwrap().parse().unwrap();
    let mut readers = Vec::new();
    for number in 0..1000 {
        let role = ROLES[number % 2];
        let io = Stalled(begun(role, wire::BINARY, announced, 44 * KIB), 0);
        let mut reader = FrameReader::new(io, WrapOptions::new(role));
        assert!(now(reader.next()).is_pending());
        readers.push(reader);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_peers_that_announce_16_mib_do_not_exhaust_512_mib() {
    let tests = std::env::current_exe().unwrap();
    for announced in [45 * KIB, 16 * MIB] {
        let script = format!("ulimit -v {}; exec \"$0\" --exact child_with_little_address_space", 512 * KIB);
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(&tests)
            .env("ANNOUNCED", announced.to_string())
            .env("RUST_TEST_THREADS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{announced}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
