//! What compression costs in memory, and what a peer cannot make it cost. A file of its own, since it counts what
//! is allocated.
#![cfg(feature = "deflate")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "noise is cut to bytes")]

mod common;

use allocation_counter::{AllocationInfo, measure};
use common::duplex;
use coro_websocket::{
    Deflate, Error, FrameReader, FrameWriter, Message, Opcode, ProtocolError, StreamExt, WrapOptions, codec,
    wrap_io,
};
use futures::{FutureExt, executor::block_on};

const MIB: usize = 1 << 20;

fn client() -> WrapOptions {
    WrapOptions::client().deflate(Deflate::default())
}

/// A part of a compressed message that becomes 1 MiB of zeros, refers to nothing before it, and ends at the end of
/// a byte.
fn zeros() -> Vec<u8> {
    let options = WrapOptions::server().deflate(Deflate::default().level(9).server_no_context_takeover(true));
    let mut writer = FrameWriter::new(Vec::new(), options);
    block_on(writer.send(Message::binary(vec![0; MIB]))).unwrap();
    let mut bytes = writer.into_inner();
    let (frame, _) = codec::decode(&mut bytes).unwrap();
    let part = [frame.payload, &[0x00, 0x00, 0xff, 0xff]].concat();
    assert!(part.len() < 1100, "{}", part.len());
    part
}

fn frame(fin: bool, opcode: Opcode, rsv1: bool, payload: Vec<u8>) -> Vec<u8> {
    let message = Message { opcode, rsv1, ..Message::continuation(payload, fin) };
    let mut bytes = Vec::new();
    codec::encode(&message, None, &mut bytes);
    bytes
}

/// One frame of some 6 MiB that becomes 6 GiB.
fn bomb() -> Vec<u8> {
    let bytes = frame(true, Opcode::BINARY, true, zeros().repeat(6 << 10));
    assert!((6 * MIB..7 * MIB).contains(&bytes.len()), "{}", bytes.len());
    bytes
}

/// What the whole program would have had to hold at once.
fn peak(info: AllocationInfo) -> usize {
    usize::try_from(info.bytes_max).unwrap()
}

/// CVE-2026-27571 and CVE-2026-33219 (nats-server), CVE-2018-1000518 (websockets), CVE-2026-1526 (undici) and
/// others: 6 MiB that become 6 GiB. Memory follows the limit, and so does the time: what was not needed to find
/// out was not inflated.
#[test]
fn a_bomb_stops_at_the_limit() {
    let bomb = bomb();
    for (limit, options) in [
        (16 * MIB, client()),
        (MIB, client().max_message_len(MIB)),
        (MIB, client().max_message_len(1000).max_frame_len(16 * MIB)),
        (0, client().max_message_len(0)),
    ] {
        let mut reader = FrameReader::new(&*bomb, options);
        let info = measure(|| {
            let error = reader.next().now_or_never().unwrap().unwrap().unwrap_err();
            let too_large = [ProtocolError::FrameTooLarge, ProtocolError::MessageTooLarge];
            assert!(matches!(error, Error::Limit { error, .. } if too_large.contains(&error)), "{error}");
        });
        assert!(peak(info) <= 2 * limit + MIB, "{} bytes for a limit of {limit}", peak(info));
        assert!(bomb.len() - reader.into_inner().len() <= 64 << 10, "only one read was made");
    }
    // The peer is told.
    let ((near_read, near_write), (mut far_read, mut far_write)) = duplex(usize::MAX);
    far_write.put(&bomb);
    drop(far_write);
    let (mut read, _write) = wrap_io(near_read, near_write, client());
    block_on(async {
        let error = read.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Limit { error: ProtocolError::FrameTooLarge, .. }));
        assert!(read.next().await.is_none());
    });
    let mut sent = far_read.take_all();
    assert_eq!(codec::decode(&mut sent).unwrap().0.payload[..2], 1009_u16.to_be_bytes());
}

/// The same in 6144 fragments, each within the limit for a frame.
#[test]
fn a_bomb_in_fragments_stops_at_the_limit() {
    let part = zeros();
    let mut bytes = frame(false, Opcode::BINARY, true, part.clone());
    for _ in 0..6 << 10 {
        bytes.extend(frame(false, Opcode::CONTINUATION, false, part.clone()));
    }
    for no_takeover in [false, true] {
        let options =
            WrapOptions::client().deflate(Deflate::default().server_no_context_takeover(no_takeover));
        let mut reader = FrameReader::new(&*bytes, options);
        let mut frames = 0;
        let info = measure(|| {
            loop {
                match reader.next().now_or_never().unwrap().unwrap() {
                    Ok(_) => frames += 1,
                    Err(error) => {
                        break assert!(matches!(
                            error,
                            Error::Limit { error: ProtocolError::MessageTooLarge, .. }
                        ));
                    }
                }
            }
        });
        assert_eq!(frames, 64);
        assert!(peak(info) <= 4 * MIB, "{}", peak(info));
    }
}

/// Many small bombs, each within the limits, in and out again, while the peer reads nothing: what waits to be
/// written stops the reading.
#[test]
fn many_small_bombs_wait_for_a_peer_that_does_not_read() {
    let ((near_read, near_write), (_far_read, mut far_write)) = duplex(1000);
    let mut message = zeros();
    message.truncate(message.len() - 4);
    for _ in 0..1000 {
        far_write.put(&frame(true, Opcode::BINARY, true, message.clone()));
    }
    let (mut read, mut write) = wrap_io(near_read, near_write, client().mask(false).auto_pong(true));
    let mut echoed = 0;
    let info = measure(|| {
        let mut echo = Box::pin(async {
            while let Some(message) = read.next().await {
                write.feed(message.unwrap()).await.unwrap();
                echoed += 1;
            }
        });
        for _ in 0..100 {
            assert!(echo.as_mut().now_or_never().is_none());
        }
    });
    assert!((1..200).contains(&echoed), "{echoed}");
    assert!(peak(info) <= 4 * MIB, "{}", peak(info));
}

/// RUSTSEC-2022-0035: nothing is reserved for what was announced, compressed or not.
#[test]
fn an_announced_length_reserves_nothing() {
    for len in [17 * MIB as u64, 1 << 40, 1 << 62, u64::MAX] {
        let bytes = [&[0xc2, 127][..], &len.to_be_bytes(), &[0xf2]].concat();
        let mut reader = FrameReader::new(&*bytes, client());
        let info = measure(|| {
            let refused = reader.next().now_or_never().unwrap().unwrap();
            assert!(matches!(refused, Err(Error::Limit { .. } | Error::Protocol { .. })));
        });
        assert!(peak(info) <= 65 << 10, "{}", peak(info));
    }
    let mut bytes = [0xc2, 127, 0, 0, 0, 0, 0, 0xff, 0, 0].to_vec();
    bytes.extend(zeros());
    let mut reader = FrameReader::new(&*bytes, client().max_frame_len(64 * MIB));
    let info = measure(|| {
        assert!(matches!(reader.next().now_or_never().unwrap().unwrap(), Err(Error::Lost)));
    });
    assert!(peak(info) <= 3 * MIB, "{}", peak(info));
}

/// What a client's end holds between messages for sending and for receiving, after one of 1 MiB each, in a thread
/// that has other connections of the same kind already, and lends what it has to lend.
fn idle(deflate: Deflate) -> (usize, usize) {
    let noise: Vec<u8> =
        (0..MIB as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 37) as u8).collect();
    let mut far = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(deflate));
    block_on(far.send(Message::binary(noise.clone()))).unwrap();
    let bytes = far.into_inner();
    let run = || {
        let client = WrapOptions::client().deflate(deflate);
        let mut writer = FrameWriter::new(futures::io::sink(), client.clone());
        let mut reader = FrameReader::new(&*bytes, client);
        let message = Message::binary(noise.clone());
        let sent = message.clone();
        let sending = measure(|| block_on(writer.send(sent)).unwrap());
        let receiving = measure(|| {
            drop(block_on(reader.next()).unwrap().unwrap());
            assert!(block_on(reader.next()).is_none());
        });
        drop(message);
        let held = |info: AllocationInfo| usize::try_from(info.bytes_current).unwrap();
        (held(sending), held(receiving), (writer, reader))
    };
    let _others = (run(), run());
    let (sending, receiving, _this) = run();
    (sending, receiving)
}

/// jetty#13029 and jetty#293: the last message, or the inflater, stayed.
#[test]
fn memory_between_messages_is_what_later_ones_may_refer_to() {
    for bits in [9, 12, 15] {
        let deflate = Deflate::default().client_max_window_bits(bits).server_max_window_bits(bits);
        let afresh = deflate.client_no_context_takeover(true).server_no_context_takeover(true);
        let (sending, receiving) = idle(afresh);
        assert!(sending <= 1 << 10 && receiving <= 1 << 10, "{sending} and {receiving} with {bits} bits");
        let (sending, receiving) = idle(deflate);
        assert!((128 << 10..400 << 10).contains(&sending), "{sending} with {bits} bits");
        assert!(receiving <= (1 << bits) + (1 << 10), "{receiving} with {bits} bits");
    }
}

/// The table of the README: `cargo test --test deflate_memory -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn table_of_memory() {
    for memory_level in [1, 8, 9] {
        for bits in 9..=15 {
            let deflate = Deflate::default()
                .client_max_window_bits(bits)
                .server_max_window_bits(bits)
                .memory_level(memory_level);
            let (sending, receiving) = idle(deflate);
            let afresh = deflate.client_no_context_takeover(true).server_no_context_takeover(true);
            println!(
                "memory level {memory_level}, {bits} bits: {sending} + {receiving}, afresh {:?}",
                idle(afresh)
            );
        }
    }
}
