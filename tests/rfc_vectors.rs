//! The examples of RFC 6455 §5.7, byte for byte, in both directions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{alone, drive::drive, wire};
use coro_websocket::{
    FrameReader, FrameWriter, Message, Opcode, Role, StreamExt, WrapOptions,
    codec::{self, Header},
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    frames: Vec<Message>,
}

fn fragment(fin: bool, opcode: Opcode, payload: &'static str) -> Message {
    Message { fin, len: payload.len() as u64, opcode, payload: payload.into(), ..Message::default() }
}

/// §5.7, in its words.
fn vectors() -> Vec<Vector> {
    let large = |len: usize| (0..len).map(|i| i.to_le_bytes()[0]).collect::<Vec<u8>>();
    vec![
        Vector {
            name: "A single-frame unmasked text message",
            bytes: vec![0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
            frames: vec![Message::text("Hello")],
        },
        Vector {
            name: "A single-frame masked text message",
            bytes: vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
            frames: vec![Message { mask: true, ..Message::text("Hello") }],
        },
        Vector {
            name: "A fragmented unmasked text message",
            bytes: vec![0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f],
            frames: vec![fragment(false, Opcode::TEXT, "Hel"), fragment(true, Opcode::CONTINUATION, "lo")],
        },
        Vector {
            name: "Unmasked Ping request",
            bytes: vec![0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
            frames: vec![Message::ping("Hello")],
        },
        Vector {
            name: "masked Ping response",
            bytes: vec![0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
            frames: vec![Message { mask: true, ..Message::pong("Hello") }],
        },
        Vector {
            name: "256 bytes binary message in a single unmasked frame",
            bytes: [&[0x82, 0x7E, 0x01, 0x00][..], &large(256)].concat(),
            frames: vec![Message::binary(large(256))],
        },
        Vector {
            name: "64KiB binary message in a single unmasked frame",
            bytes: [&[0x82, 0x7F, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00][..], &large(65_536)]
                .concat(),
            frames: vec![Message::binary(large(65_536))],
        },
    ]
}

/// Who receives such a frame.
fn receiver(vector: &Vector) -> Role {
    if vector.frames[0].mask { Role::Server } else { Role::Client }
}

#[test]
fn pure_functions_decode_every_vector_and_encode_it_again() {
    for Vector { name, bytes, frames } in vectors() {
        let mut rest = bytes.clone();
        let mut encoded = Vec::new();
        for expected in &frames {
            let (header, header_len) = Header::parse(&rest).unwrap();
            assert_eq!(header.wire_len(), header_len, "{name}");
            assert_eq!(header.masking_key(), expected.mask.then_some(KEY), "{name}");
            let (frame, len) = codec::decode(&mut rest).unwrap();
            assert_eq!(&frame.to_message(), expected, "{name}");
            rest.drain(..len);
            assert_eq!(codec::encode(expected, header.masking_key(), &mut encoded), len);
        }
        assert!(rest.is_empty() && encoded == bytes, "{name}");
    }
}

#[test]
fn no_part_of_a_vector_is_a_frame() {
    for Vector { name, bytes, frames } in vectors() {
        let first_len =
            frames[0].payload.len() + bytes.len() - frames.iter().map(|f| f.payload.len()).sum::<usize>();
        let first_len = if frames.len() == 1 { first_len } else { 5 };
        for cut in (0..first_len.min(300)).chain([first_len - 1]) {
            let mut part = bytes[..cut].to_vec();
            assert_eq!(codec::decode(&mut part), None, "{name}, {cut} bytes of it");
            assert_eq!(part, bytes[..cut], "what is not a frame is left alone");
        }
    }
}

#[test]
fn a_reader_gives_every_vector_owned_and_lent() {
    for vector in vectors() {
        let Vector { name, bytes, frames } = &vector;
        let options = WrapOptions::new(receiver(&vector));
        drive(async {
            let mut owned = FrameReader::new(&bytes[..], options.clone());
            let mut lent = FrameReader::new(&bytes[..], options);
            for expected in frames {
                assert_eq!(&owned.next().await.unwrap().unwrap(), expected, "{name}");
                assert_eq!(lent.frame().await.unwrap().unwrap(), expected.into(), "{name}");
            }
            assert!(owned.next().await.is_none() && lent.frame().await.is_none());
        });
    }
}

#[test]
fn a_server_writes_every_unmasked_vector_byte_for_byte() {
    for Vector { name, bytes, frames } in vectors().into_iter().filter(|vector| !vector.frames[0].mask) {
        drive(async {
            let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::server());
            let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server());
            let mut wire_len = 0;
            for frame in frames {
                writer.send(frame.clone()).await.unwrap();
                wire_len += write.write(frame).await.unwrap();
            }
            assert_eq!(wire_len, bytes.len(), "{name}");
            assert!(far.input.take_all() == bytes && writer.into_inner() == bytes, "{name}");
        });
    }
}

#[test]
fn a_client_writes_every_vector_masked_with_a_key_of_its_own() {
    for Vector { name, frames, .. } in vectors() {
        let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
        for frame in &frames {
            drive(write.send(frame.clone())).unwrap();
        }
        for (sent, frame) in far.frames().iter().zip(&frames) {
            assert!(sent.key.is_some(), "{name}");
            assert_eq!((sent.opcode(), &sent.payload[..]), (frame.opcode, &frame.payload[..]), "{name}");
        }
    }
}

/// §5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response". The example's Pong
/// "contains a body of "Hello", matching the body of the ping".
#[test]
fn the_ping_of_the_rfc_is_answered_with_the_pong_of_the_rfc() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client());
    far.put(&[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    assert_eq!(drive(read.next()).unwrap().unwrap(), Message::ping("Hello"));
    assert!(common::poll_once(&mut read.next()).is_pending());
    let [pong] = &far.frames()[..] else { panic!("one Pong") };
    assert_eq!((pong.first, &pong.payload[..]), (wire::PONG, &b"Hello"[..]));
    assert!(pong.key.is_some(), "a client's Pong is masked");
}

/// §5.3: "Octet i of the transformed data ("transformed-octet-i") is the XOR of octet i of the original data
/// ("original-octet-i") with octet at index i modulo 4 of the masking key".
#[test]
fn masking_is_the_transformation_of_the_rfc() {
    let mut payload = *b"Hello";
    codec::mask(&mut payload, KEY);
    assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    codec::mask(&mut payload, KEY);
    assert_eq!(&payload, b"Hello");
}
