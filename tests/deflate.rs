//! permessage-deflate (RFC 7692) on connections: what is agreed on, what goes over the wire, what comes out.
#![cfg(feature = "deflate")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "noise is cut to bytes")]

mod common;

use common::{PipeRead, PipeReader, PipeWrite, Trickle, connected, duplex, read_head, write};
use coro_websocket::{
    Accept, AcceptOptions, Checks, CloseCode, Deflate, DeflateParams, Error, FrameReader, FrameWriter,
    HandshakeError, Message, Opcode, Options, OptionsError, PreparedFrame, ProtocolError, SinkExt, StreamExt,
    WrapOptions, accept_io, codec, connect_io, wrap_io,
};
use futures::{FutureExt, executor::block_on, join};

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// Everything is compressed, so that what is tested does not depend on lengths.
fn always() -> Deflate {
    Deflate::default().threshold(0)
}

fn client() -> WrapOptions {
    WrapOptions::client().deflate(always())
}

fn server() -> WrapOptions {
    WrapOptions::server().deflate(always())
}

fn pair(deflate: Deflate) -> ((PipeRead, PipeWrite), (PipeRead, PipeWrite)) {
    connected(1 << 20, WrapOptions::client().deflate(deflate), WrapOptions::server().deflate(deflate))
}

/// A text that compresses, but not to nothing.
fn text(len: usize) -> String {
    (0_u32..)
        .map(|i| format!("{} ", i.wrapping_mul(2_654_435_761) >> 16))
        .take(len / 2 + 1)
        .collect::<String>()[..len]
        .to_owned()
}

/// One frame, masked with zeros for a server.
fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut message = Message::binary(payload.to_vec());
    message.opcode = Opcode::new(first);
    message.fin = first & 0x80 != 0;
    message.rsv1 = first & 0x40 != 0;
    message.rsv2 = first & 0x20 != 0;
    message.rsv3 = first & 0x10 != 0;
    let mut bytes = Vec::new();
    codec::encode(&message, masked.then_some([0; 4]), &mut bytes);
    bytes
}

/// What a client reads of these bytes, up to the end or an error, and the code of the Close that it sends.
fn read_as_client(bytes: &[u8], options: WrapOptions) -> (Vec<Message>, Option<Error>, Option<u16>) {
    let ((near_read, near_write), (mut far_read, mut far_write)) = duplex(usize::MAX);
    far_write.put(bytes);
    drop(far_write);
    let (mut read, _write) = wrap_io(near_read, near_write, options);
    let (mut messages, mut error) = (Vec::new(), None);
    block_on(async {
        while let Some(next) = read.next().await {
            match next {
                Ok(message) => messages.push(message),
                Err(failed) => error = Some(failed),
            }
        }
    });
    let mut sent = far_read.take_all();
    let code = codec::decode(&mut sent)
        .and_then(|(frame, _)| Some(u16::from_be_bytes(*frame.payload.first_chunk::<2>()?)));
    (messages, error, code)
}

fn violation(bytes: &[u8], options: WrapOptions) -> (ProtocolError, u16) {
    match read_as_client(bytes, options) {
        (_, Some(Error::Protocol { error, .. } | Error::Limit { error, .. }), Some(code)) => {
            assert_eq!(CloseCode::from(error).number(), code);
            (error, code)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sides_agree_and_say_on_what() {
    for (offers, own, expected) in [
        (&[][..], Some(Deflate::default()), None),
        (&[Deflate::default()], None, None),
        (&[Deflate::default()], Some(Deflate::default()), Some("permessage-deflate")),
        (
            &[always().server_max_window_bits(10).client_no_context_takeover(true)],
            Some(always().client_max_window_bits(12).server_no_context_takeover(true)),
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=10; client_max_window_bits=12",
            ),
        ),
    ] {
        let ((client_in, client_out), (server_in, server_out)) = duplex(1 << 20);
        let options = offers.iter().fold(Options::default(), |options, offer| options.deflate(*offer));
        let accept = own.into_iter().fold(AcceptOptions::default(), AcceptOptions::deflate);
        block_on(async {
            let server = async {
                let upgrade = accept_io(server_in, server_out, accept).await.unwrap();
                assert_eq!(upgrade.request().deflate(), None);
                upgrade.accept(Accept::default()).await.unwrap()
            };
            let client = connect_io(client_in, client_out, options);
            let ((request, mut server_read, mut server_write), client) = join!(server, client);
            let (response, mut client_read, mut client_write) = client.unwrap();
            assert_eq!(response.deflate().map(|params| params.to_string()).as_deref(), expected);
            assert_eq!(request.deflate(), response.deflate());
            for len in [0, 10, 1000, 70_000] {
                let sent = text(len);
                let client_len = client_write.text(sent.clone()).await.unwrap();
                let server_len = server_write.text(sent.clone()).await.unwrap();
                assert_eq!(client_len < len && server_len < len, expected.is_some() && len > 10);
                for read in [&mut client_read, &mut server_read] {
                    assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some(&*sent));
                }
            }
        });
    }
}

#[test]
fn one_connection_may_do_without() {
    let ((client_in, client_out), (server_in, server_out)) = duplex(1 << 20);
    block_on(async {
        let server = async {
            let options = AcceptOptions::default().deflate(Deflate::default());
            let upgrade = accept_io(server_in, server_out, options).await.unwrap();
            upgrade.accept(Accept::default().deflate(None)).await.unwrap()
        };
        let client = connect_io(client_in, client_out, Options::default().deflate(Deflate::default()));
        let ((request, ..), client) = join!(server, client);
        assert_eq!((request.deflate(), client.unwrap().0.deflate()), (None, None));
    });
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_sent() {
    for deflate in [
        Deflate::default().level(10),
        Deflate::default().memory_level(0),
        Deflate::default().memory_level(10),
        Deflate::default().server_max_window_bits(8),
        Deflate::default().client_max_window_bits(16),
        Deflate::default().client_max_window_bits(0),
    ] {
        block_on(async {
            let ((read, write), _far) = duplex(usize::MAX);
            let connected = connect_io(read, write, Options::default().deflate(deflate)).await;
            assert!(
                matches!(connected, Err(Error::Options { error: OptionsError::Deflate, .. })),
                "{deflate:?}"
            );
            let ((read, write), _far) = duplex(usize::MAX);
            let accepted = accept_io(read, write, AcceptOptions::default().deflate(deflate)).await;
            assert!(
                matches!(accepted, Err(Error::Options { error: OptionsError::Deflate, .. })),
                "{deflate:?}"
            );
        });
    }
}

/// What a client makes of this answer to its offer, or to none.
fn answered(options: Options, answer: &str) -> Result<Option<DeflateParams>, HandshakeError> {
    let ((read, near_write), (mut far_read, mut far_write)) = duplex(usize::MAX);
    block_on(async {
        let server = async {
            let request = read_head(&mut far_read).await;
            let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let accept = codec::accept_key(key);
            write(
                &mut far_write,
                format!(
                    "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n"
                ),
            )
            .await;
            drop(far_write);
        };
        match join!(connect_io(read, near_write, options), server).0 {
            Ok((response, ..)) => Ok(response.deflate()),
            Err(Error::Handshake { error, response: Some(_), .. }) => Err(error),
            Err(other) => panic!("{other:?}"),
        }
    })
}

/// RFC 6455 §4.1: an extension "that was not present in the client's handshake" fails. RFC 7692 §7.1 and
/// CVE-2026-2229: so does one with parameters that are not as they must be.
#[test]
fn an_answer_that_was_not_offered_fails() {
    let offering = || Options::default().deflate(Deflate::default());
    assert_eq!(answered(Options::default(), "permessage-deflate"), Err(HandshakeError::Extension));
    assert_eq!(answered(offering(), "permessage-deflate"), Ok(Some(DeflateParams::default())));
    assert_eq!(answered(offering(), "").unwrap(), None);
    for bits in ["0", "7", "16", "\"\"", "08", "x"] {
        let answer = format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(answered(offering(), &answer), Err(HandshakeError::Extension), "{answer}");
    }
    for bits in [8, 9, 15] {
        let answer = format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(answered(offering(), &answer).unwrap().unwrap().server_max_window_bits, bits);
    }
    for answer in
        ["x-webkit-deflate-frame", "permessage-deflate, permessage-deflate", "permessage-deflate; x"]
    {
        assert_eq!(answered(offering(), answer), Err(HandshakeError::Extension), "{answer}");
    }
}

/// CVE-2026-59881 (aiohttp): RSV1 without negotiation was taken for compressed data. RFC 6455 §5.2: "MUST be 0
/// unless an extension is negotiated that defines meanings for non-zero values."
#[test]
fn rsv1_without_negotiation_is_a_protocol_error() {
    let expected = (ProtocolError::ReservedBits, 1002);
    assert_eq!(violation(&frame(0xc1, &HELLO, false), WrapOptions::client()), expected);
}

/// RFC 7692 §6.1: "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first
/// fragments of a data message. An endpoint receiving such a frame MUST _Fail the WebSocket Connection_."
#[test]
fn rsv1_on_control_frames_and_continuations_is_a_protocol_error() {
    let expected = (ProtocolError::ReservedBits, 1002);
    for first in [0xc8, 0xc9, 0xca, 0xe1, 0xd1, 0xf1, 0xa1, 0x91, 0xc0, 0x40] {
        assert_eq!(violation(&frame(first, b"", false), client()), expected, "{first:x}");
    }
    for (first, begun) in [(0xc0, 0x41), (0x40, 0x41), (0xc0, 0x01), (0xc9, 0x41)] {
        let bytes = [frame(begun, b"", false), frame(first, b"", false)].concat();
        assert_eq!(violation(&bytes, client()), expected, "{first:x} after {begun:x}");
    }
}

/// Each fragment comes out as soon as it has come in, with `rsv1` cleared and its length on the wire; control
/// frames come in between, everywhere (aiohttp#13274: compressed data after a Pong was refused).
#[test]
fn fragments_are_inflated_as_they_come_with_control_frames_in_between() {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for round in 0..3_u8 {
        for (index, byte) in HELLO.iter().enumerate() {
            bytes.extend(frame(0x8a, b"pong", false));
            expected.push((Opcode::PONG, "pong".to_owned()));
            let opcode = if index == 0 { 0x41 } else { 0x00 };
            let fin = if index + 1 == HELLO.len() { 0x80 } else { 0x00 };
            bytes.extend(frame(opcode | fin, &[*byte], false));
            bytes.extend(frame(0x89, &[b'0' + round], false));
            expected.push((Opcode::PING, round.to_string()));
        }
    }
    let mut reader = FrameReader::new(&*bytes, client());
    block_on(async {
        let (mut text, mut ended) = (String::new(), Vec::new());
        let mut others = Vec::new();
        while let Some(frame) = reader.frame().await {
            let frame = frame.unwrap();
            assert!(!frame.rsv1);
            if frame.is_data() {
                assert_eq!(frame.len, 1, "the length on the wire");
                text.push_str(frame.as_text().unwrap());
                if frame.fin {
                    ended.push(std::mem::take(&mut text));
                }
            } else {
                others.push((frame.opcode, frame.as_text().unwrap().to_owned()));
            }
        }
        assert_eq!(ended, ["Hello"; 3]);
        assert_eq!(others, expected);
    });
    // Not before the end of the message, but before it has come.
    let ((near_read, near_write), (_far_read, mut far_write)) = duplex(usize::MAX);
    let (mut read, _write) = wrap_io(near_read, near_write, client());
    far_write.put(&frame(0x41, &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff], false));
    let first = read.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!((first.as_text(), first.len, first.fin, first.opcode), (Some("He"), 8, false, Opcode::TEXT));
}

/// RFC 6455 §8.1, for what comes out: it fails at the first byte that is wrong, before the frame is complete.
#[test]
fn text_is_checked_after_inflating() {
    let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(always()));
    let invalid = [b"ok ".as_slice(), &[0xff], &[b'x'; 5000]].concat();
    block_on(writer.send(Message::binary(invalid))).unwrap();
    let mut bytes = writer.into_inner();
    assert_eq!(bytes[0], 0xc2);
    bytes[0] = 0xc1;
    assert_eq!(violation(&bytes, client()), (ProtocolError::InvalidUtf8, 1007));
    assert_eq!(violation(&bytes[..bytes.len() - 1], client()), (ProtocolError::InvalidUtf8, 1007));
    bytes[0] = 0xc2;
    assert!(read_as_client(&bytes, client()).0[0].payload.starts_with(b"ok \xff"));
    let cut =
        [frame(0x41, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xc3], false), frame(0x80, &[0x00], false)].concat();
    assert_eq!(violation(&cut, client()), (ProtocolError::InvalidUtf8, 1007));
}

#[test]
fn what_cannot_be_inflated_is_invalid_data() {
    for (first, payload) in [(0xc1, &[0x06][..]), (0xc2, &HELLO[..4]), (0xc1, &[0x02, 0x01, 0x00])] {
        assert_eq!(violation(&frame(first, payload, false), client()), (ProtocolError::Deflate, 1007));
    }
}

/// CVE-2018-1000518 (websockets), CVE-2021-21419 (eventlet), CVE-2026-1526 (undici), CVE-2026-54464
/// (websocket-driver), CVE-2026-27571 (nats-server), GHSA-frh3-6pv6-rc8j (bandit) and others: limits were those
/// of compressed lengths. One less, the same, one more; alone, in fragments, with the context of the message
/// before.
#[test]
fn limits_are_those_of_what_comes_out() {
    const LIMIT: usize = 100_000;
    for fragments in [1, 2, 7] {
        for no_takeover in [false, true] {
            for len in [LIMIT - 1, LIMIT, LIMIT + 1] {
                for frame_limit in [false, true].into_iter().take(if fragments == 1 { 2 } else { 1 }) {
                    let deflate = always().server_no_context_takeover(no_takeover);
                    let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(deflate));
                    block_on(async {
                        writer.send(Message::binary(vec![b'a'; LIMIT - 1])).await.unwrap();
                        for index in 0..fragments {
                            let part = len * (index + 1) / fragments - len * index / fragments;
                            let opcode = if index == 0 { Opcode::BINARY } else { Opcode::CONTINUATION };
                            let fin = index + 1 == fragments;
                            let part = Message { opcode, ..Message::continuation(vec![b'a'; part], fin) };
                            writer.send(part).await.unwrap();
                        }
                    });
                    let options = WrapOptions::client().deflate(deflate);
                    let (options, expected) = if frame_limit {
                        (options.max_frame_len(LIMIT), ProtocolError::FrameTooLarge)
                    } else {
                        (options.max_message_len(LIMIT), ProtocolError::MessageTooLarge)
                    };
                    let bytes = writer.into_inner();
                    assert!(bytes.len() < 2000);
                    if len > LIMIT {
                        assert_eq!(violation(&bytes, options), (expected, 1009));
                    } else {
                        let (messages, error, _) = read_as_client(&bytes, options);
                        assert!(matches!(error, Some(Error::Lost)), "{error:?}");
                        assert_eq!(messages.iter().map(|m| m.payload.len()).sum::<usize>(), LIMIT - 1 + len);
                    }
                }
            }
        }
    }
}

/// Noise becomes longer when it is compressed; at the limit it is accepted all the same.
#[test]
fn what_does_not_compress_passes_up_to_the_limit() {
    let noise: Vec<u8> =
        (0..100_000_u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 37) as u8).collect();
    for memory_level in [1, 8] {
        let deflate = always().memory_level(memory_level).level(0);
        let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(deflate));
        block_on(writer.send(Message::binary(noise.clone()))).unwrap();
        let bytes = writer.into_inner();
        assert!(bytes.len() > noise.len() + 10);
        let options = client().max_frame_len(noise.len()).max_message_len(noise.len());
        assert_eq!(read_as_client(&bytes, options).0[0].payload, noise);
        let options = client().max_frame_len(noise.len() - 1);
        assert_eq!(violation(&bytes, options), (ProtocolError::FrameTooLarge, 1009));
    }
}

/// Reads these bytes as a client with `Checks::Report`. Returns texts and broken rules.
fn reported(bytes: &[u8], deflate: Deflate) -> Vec<String> {
    let options = WrapOptions::client().deflate(deflate).checks(Checks::Report);
    let mut reader = FrameReader::new(bytes, options);
    block_on(async {
        let mut seen = Vec::new();
        while let Some(next) = reader.next().await {
            seen.push(match next {
                Ok(message) => message.as_text().unwrap().to_owned(),
                Err(Error::Reported { error, .. }) => error.to_string(),
                Err(error) => panic!("{error}"),
            });
        }
        seen
    })
}

/// The peer's compressor refers to what it compressed before. What of that could not be inflated here is not known, so
/// that nothing that follows can be trusted.
#[test]
fn after_a_message_that_cannot_be_inflated_no_other_is_where_the_context_is_kept() {
    let again = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00], false);
    let malformed = ProtocolError::Deflate.to_string();
    let stray = ProtocolError::UnexpectedContinuation.to_string();
    let unreadable = [
        vec![frame(0xc1, &[0x06], false)],
        vec![frame(0x41, &[0x06], false), frame(0x80, &[0x00], false)],
        vec![frame(0x41, &[0xf2], false), frame(0x00, &[0x06, 0xff], false), frame(0x80, &[0x00], false)],
    ];
    for bad in unreadable {
        let bytes = [frame(0xc1, &HELLO, false), bad.concat(), again.clone()].concat();
        let bytes = [&bytes[..], &frame(0x81, b"plain", false), &frame(0xc1, &HELLO, false)].concat();
        let seen = reported(&bytes, always());
        assert_eq!((&*seen[0], &*seen[seen.len() - 2]), ("Hello", "plain"));
        assert!(
            seen[1..seen.len() - 2]
                .iter()
                .chain(seen.last())
                .all(|text| *text == malformed || text.is_empty())
        );
        // Without context takeover the next message is right again.
        let bytes = [&bad.concat()[..], &frame(0xc1, &HELLO, false)].concat();
        let seen = reported(&bytes, always().server_no_context_takeover(true));
        assert_eq!(seen.last().unwrap(), "Hello");
    }
    // A continuation of nothing may belong to a compressed message.
    let bytes = [frame(0xc1, &HELLO, false), frame(0x80, &[0x00], false), again].concat();
    assert_eq!(reported(&bytes, always()), ["Hello", &stray, &malformed]);
}

#[test]
fn a_reported_frame_of_a_compressed_message_is_inflated_with_the_others() {
    let reserved = ProtocolError::ReservedBits.to_string();
    let masked = ProtocolError::Masked.to_string();
    let again = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00], false);
    for (bad, error) in [(frame(0xe1, &HELLO, false), &reserved), (frame(0xc1, &HELLO, true), &masked)] {
        assert_eq!(reported(&[&bad[..], &again].concat(), always()), [error, "Hello"]);
    }
    // A control frame is never compressed. If it claims to be, the state of the peer's compressor is unknown.
    let bytes = [frame(0xc1, &HELLO, false), frame(0xc9, b"", false), again].concat();
    let malformed = ProtocolError::Deflate.to_string();
    assert_eq!(reported(&bytes, always()), ["Hello", &reserved, &malformed]);
}

/// With [`Checks::Off`] a relay gives on what it got: `rsv1` and the compressed payload, both ways.
#[test]
fn unchecked_frames_pass_as_they_are() {
    let raw = |role: WrapOptions| role.deflate(always()).checks(Checks::Off);
    let ((mut client_read, mut client_write), (near_in, near_out)) = {
        let ((client_in, client_out), near) = duplex(1 << 20);
        (wrap_io(client_in, client_out, client()), near)
    };
    let ((far_in, far_out), (mut server_read, mut server_write)) = {
        let (far, (server_in, server_out)) = duplex(1 << 20);
        (far, wrap_io(server_in, server_out, server()))
    };
    let (mut near_read, mut near_write) = wrap_io(near_in, near_out, raw(WrapOptions::server()));
    let (mut far_read, mut far_write) = wrap_io(far_in, far_out, raw(WrapOptions::client()));
    block_on(async {
        for round in 0..3 {
            let sent = text(1000 + round);
            client_write.text(sent.clone()).await.unwrap();
            let frame = near_read.next().await.unwrap().unwrap();
            assert!(frame.rsv1 && frame.payload.len() < 700, "{frame}");
            far_write.send(frame).await.unwrap();
            let message = server_read.next().await.unwrap().unwrap();
            assert_eq!((message.as_text(), message.rsv1), (Some(&*sent), false));
            server_write.text(sent.clone()).await.unwrap();
            let frame = far_read.next().await.unwrap().unwrap();
            assert!(frame.rsv1);
            near_write.send(Message { mask: false, ..frame }).await.unwrap();
            assert_eq!(client_read.next().await.unwrap().unwrap().as_text(), Some(&*sent));
        }
    });
}

/// Compression on the way out: each clone for itself, per message, also where a message waits for its turn.
#[test]
fn each_writer_says_whether_its_messages_are_compressed() {
    let ((_, mut write), (near_read, near_write)) = {
        let ((client_in, client_out), server) = duplex(1 << 20);
        (wrap_io(client_in, client_out, client()), server)
    };
    let mut raw = FrameReader::new(near_read, WrapOptions::server().checks(Checks::Off));
    let _near_write = near_write;
    block_on(async {
        let mut next = async || {
            let frame = raw.next().await.unwrap().unwrap();
            (frame.opcode, frame.rsv1)
        };
        let mut secret = write.clone();
        secret.set_compression(false);
        let mut third = secret.clone();
        for (writer, compressed) in [(&mut write, true), (&mut secret, false), (&mut third, false)] {
            writer.text("x".repeat(100)).await.unwrap();
            assert_eq!(next().await, (Opcode::TEXT, compressed));
        }
        third.set_compression(true);
        third.text("x".repeat(100)).await.unwrap();
        assert_eq!(next().await, (Opcode::TEXT, true));
        // In the middle of a message nothing changes, and what waits is what it was when it was fed.
        write.send(Message { fin: false, ..Message::text("begin") }).await.unwrap();
        secret.feed(Message::text("secret ".repeat(20))).await.unwrap();
        secret.set_compression(true);
        write.set_compression(false);
        write.send(Message::ping("")).await.unwrap();
        write.send(Message::continuation("more", false)).await.unwrap();
        write.send(Message::continuation("end", true)).await.unwrap();
        write.send(Message::text("x".repeat(100))).await.unwrap();
        secret.send(Message::text("x".repeat(100))).await.unwrap();
        for expected in [
            (Opcode::TEXT, true),
            (Opcode::PING, false),
            (Opcode::CONTINUATION, false),
            (Opcode::CONTINUATION, false),
            (Opcode::TEXT, false),
            (Opcode::TEXT, false),
            (Opcode::TEXT, true),
        ] {
            assert_eq!(next().await, expected);
        }
    });
}

/// Many clones, whole and fragmented messages, all through one context.
#[test]
fn clones_share_one_context() {
    for deflate in [always(), always().client_no_context_takeover(true), always().client_max_window_bits(9)] {
        let ((_client_read, write), (mut read, _server_write)) = pair(deflate);
        block_on(async {
            let mut writers: Vec<_> = (0..4).map(|_| write.clone()).collect();
            let sending = async {
                for round in 0..20 {
                    for (index, writer) in writers.iter_mut().enumerate() {
                        let sent = text(300 + 10 * index + round);
                        if round % 3 == index % 3 {
                            let (head, tail) = sent.split_at(100);
                            writer.send(Message { fin: false, ..Message::text(head) }).await.unwrap();
                            writer.send(Message::continuation(tail.to_owned(), true)).await.unwrap();
                        } else {
                            writer.text(sent).await.unwrap();
                        }
                    }
                }
            };
            let receiving = async {
                let mut lengths = Vec::new();
                for _ in 0..80 {
                    let data = read.messages().next().await.unwrap().unwrap();
                    let data = data.as_text().unwrap();
                    assert_eq!(data, text(data.len()));
                    lengths.push(data.len());
                }
                lengths.sort_unstable();
                let mut expected: Vec<_> =
                    (0..20).flat_map(|round| (0..4).map(move |index| 300 + 10 * index + round)).collect();
                expected.sort_unstable();
                assert_eq!(lengths, expected);
            };
            join!(sending, receiving);
        });
    }
}

/// One message for many: compressed once for all connections that agreed on the same, which the shared payload
/// shows, and every connection goes on afterwards.
#[test]
fn a_prepared_frame_is_compressed_once_for_each_agreement() {
    let news = PreparedFrame::new(Message::text(text(5000)));
    let mut payloads = Vec::new();
    let kinds = [
        Some(always()),
        Some(always().client_no_context_takeover(true).server_no_context_takeover(true)),
        Some(always().client_max_window_bits(10)),
        None,
    ];
    for deflate in (0..16).map(|index| kinds[index % 4]) {
        let with = |options: WrapOptions| match deflate {
            Some(deflate) => options.deflate(deflate),
            None => options,
        };
        let ((_client_read, mut write), (mut read, _server_write)) =
            connected(1 << 20, with(WrapOptions::client()), with(WrapOptions::server()));
        block_on(async {
            for round in 0..2 {
                let before = text(300);
                write.text(before.clone()).await.unwrap();
                let message = write.prepared(&news);
                assert_eq!(message.rsv1, deflate.is_some());
                payloads.push(message.payload.as_ptr());
                if round == 0 {
                    write.send(message).await.unwrap();
                } else {
                    write.try_feed(message).unwrap();
                }
                write.text(before.clone()).await.unwrap();
                for expected in [&before, &text(5000), &before] {
                    assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some(&**expected));
                }
            }
            write.set_compression(false);
            assert!(!write.prepared(&news).rsv1);
            let ping = PreparedFrame::from(Message::ping("a".repeat(100)));
            assert!(!write.prepared(&ping).rsv1);
        });
    }
    payloads.sort_unstable();
    payloads.dedup();
    assert_eq!(payloads.len(), 3, "two agreements, and what was given");
}

/// A caller may send what it has compressed itself, where that was agreed on, and nowhere else.
#[test]
fn a_caller_may_send_what_is_compressed_already() {
    let ((_client_read, mut write), (mut read, _server_write)) = pair(Deflate::default());
    let hello = Message { rsv1: true, payload: HELLO.to_vec().into(), ..Message::text("") };
    block_on(async {
        write.text(text(200)).await.unwrap();
        write.send(hello.clone()).await.unwrap();
        let (head, tail) = HELLO.split_at(3);
        let head = Message { fin: false, payload: head.to_vec().into(), ..hello.clone() };
        write.send(head).await.unwrap();
        write.send(Message::continuation(tail.to_vec(), true)).await.unwrap();
        write.text(text(200)).await.unwrap();
        for expected in [&*text(200), "Hello", "Hello", &text(200)] {
            let data = read.messages().next().await.unwrap().unwrap();
            assert_eq!(data.as_text(), Some(expected));
        }
        for invalid in [
            Message { rsv1: true, ..Message::ping("") },
            Message { rsv1: true, rsv2: true, ..Message::text("") },
            Message { rsv1: true, ..Message::continuation("", true) },
        ] {
            assert!(matches!(
                write.send(invalid).await,
                Err(Error::Invalid { error: ProtocolError::ReservedBits, .. })
            ));
        }
        let ((_read, mut plain), _far) = connected(1024, WrapOptions::client(), WrapOptions::server());
        assert!(matches!(
            plain.send(hello).await,
            Err(Error::Invalid { error: ProtocolError::ReservedBits, .. })
        ));
    });
}

#[test]
fn statistics_count_both_lengths() {
    let ((_client_read, mut write), (mut read, _server_write)) = pair(Deflate::default());
    block_on(async {
        let wire_len = write.text(text(10_000)).await.unwrap();
        assert!(wire_len < 6000);
        let message = read.next().await.unwrap().unwrap();
        assert_eq!(message.len + 8, wire_len as u64);
        let (sent, received) = (write.stats(), read.stats());
        assert_eq!((sent.bytes_out, sent.payload_out), (wire_len as u64, 10_000));
        assert_eq!((received.bytes_in, received.payload_in), (wire_len as u64, 10_000));
    });
}

/// Over a transport that gives and takes one byte at a time, every future is dropped each time that it has to
/// wait, and made anew.
#[test]
fn dropping_futures_loses_nothing() {
    for deflate in [always(), always().client_no_context_takeover(true)] {
        let ((client_in, client_out), (server_in, server_out)) = duplex(7);
        let options = |options: WrapOptions| options.deflate(deflate);
        let (_read, mut write) = wrap_io(client_in, Trickle::new(client_out), options(WrapOptions::client()));
        let (mut read, _write) = wrap_io(Trickle::new(server_in), server_out, options(WrapOptions::server()));
        let mut unsent: Vec<Message> = (0..20)
            .flat_map(|round| {
                let sent = text(30 * round + 50);
                let (head, tail) = sent.split_at(round);
                [
                    Message { fin: false, ..Message::text(head) },
                    Message::ping("between"),
                    Message::continuation(tail.to_owned(), true),
                    Message::binary(sent.clone().into_bytes()),
                ]
            })
            .rev()
            .collect();
        let (mut got, mut kinds) = (Vec::new(), 0);
        for _ in 0..1_000_000 {
            if kinds == 80 {
                break;
            }
            if let Some(message) = unsent.pop()
                && let Err(error) = write.try_feed(message)
            {
                unsent.push(error.into_message());
            }
            let _ = write.flush().now_or_never();
            while let Some(next) = read.next().now_or_never() {
                let message = next.unwrap().unwrap();
                kinds += 1;
                if message.is_data() {
                    got.push((message.fin, message.as_text().unwrap().to_owned()));
                }
            }
        }
        for round in 0..20 {
            let sent = text(30 * round + 50);
            let (head, tail) = sent.split_at(round);
            assert_eq!(got[3 * round], (false, head.to_owned()));
            assert_eq!(got[3 * round + 1], (true, tail.to_owned()));
            assert_eq!(got[3 * round + 2], (true, sent));
        }
    }
}

/// RUSTSEC-2026-0258 (h2), CVE-2026-12151 (undici): fragments without end, of which nothing comes out. Each counts for
/// 64 bytes, compressed or not.
#[test]
fn compressed_fragments_of_nothing_count_for_the_limit() {
    const COUNT: usize = 100;
    for part in [&b""[..], &[0x00, 0x00, 0x00, 0xff, 0xff]] {
        let mut bytes = frame(0x42, part, false);
        bytes.extend(frame(0x00, part, false).repeat(COUNT));
        let (read, error, code) = read_as_client(&bytes, client().max_message_len(64 * COUNT));
        assert_eq!(read.len(), COUNT);
        assert!(read.iter().all(|fragment| fragment.payload.is_empty()));
        assert!(
            matches!(error, Some(Error::Limit { error: ProtocolError::MessageTooLarge, .. })),
            "{error:?}"
        );
        assert_eq!(code, Some(1009));
    }
}

/// CVE-2026-0716, CVE-2025-32049 and CVE-2024-52532 (libsoup): without limits, hostile input was read out of bounds or
/// without end. Whatever bytes are changed, left out or put in, reading comes to an end, and no more comes out than
/// deflate can make of it (1032 times as much, zlib's technical details say).
#[test]
fn mangled_frames_without_limits_come_to_an_end() {
    let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(always()));
    block_on(async {
        for len in [1, 50, 3000] {
            let sent = text(len);
            let (head, tail) = sent.split_at(len / 2);
            writer.send(Message::text(sent.clone())).await.unwrap();
            writer.send(Message { fin: false, ..Message::text(head) }).await.unwrap();
            writer.send(Message::ping("between")).await.unwrap();
            writer.send(Message::continuation(tail.to_owned(), true)).await.unwrap();
        }
    });
    let good = writer.into_inner();
    let options = client().max_frame_len(usize::MAX).max_message_len(usize::MAX);
    let mut random = fastrand::Rng::with_seed(5);
    let (mut whole, mut torn, mut refused) = (0, 0, 0);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes.insert(at, random.u8(..)),
                1 => drop(bytes.drain(at..bytes.len().min(at + random.usize(1..40)))),
                _ => bytes[at] ^= 1 << random.u8(..8),
            }
        }
        let (mut frames, mut made) = (0, 0);
        let mut reader = FrameReader::new(&*bytes, options.clone());
        let error = loop {
            match reader.next().now_or_never().unwrap() {
                Some(Ok(message)) => {
                    frames += 1;
                    made += message.payload.len();
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        assert!(reader.next().now_or_never().unwrap().is_none());
        assert!(frames <= bytes.len() / 2 && made <= 1032 * bytes.len(), "{frames} frames, {made} bytes");
        match error {
            None => whole += 1,
            Some(Error::Lost) => torn += 1,
            Some(Error::Protocol { .. } | Error::Limit { .. }) => refused += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(whole > 100 && torn > 0 && refused > 1000, "{whole}, {torn} and {refused}");
}

/// CVE-2026-2229 and others: whatever a client offers, the server answers, and never fails by itself.
#[test]
fn hostile_offers_are_declined_or_refused() {
    let request = |offers: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: {offers}\r\n\r\n"
        )
    };
    let answer = |offers: &str| {
        let ((read, near_write), (mut far_read, mut far_write)): ((PipeReader, _), _) = duplex(usize::MAX);
        far_write.put(request(offers).as_bytes());
        drop(far_write);
        block_on(async {
            let options = AcceptOptions::default().deflate(Deflate::default());
            let upgrade = accept_io(read, near_write, options).await.unwrap();
            if let Err(refused) = upgrade.accept(Accept::default()).await {
                refused.answer().await.unwrap();
            }
        });
        String::from_utf8(far_read.take_all()).unwrap()
    };
    for (offers, status, accepted) in [
        ("permessage-deflate; client_max_window_bits", 101, true),
        ("permessage-deflate; server_max_window_bits=0", 101, false),
        ("permessage-deflate; server_max_window_bits=7", 101, false),
        ("permessage-deflate; server_max_window_bits=8", 101, false),
        ("permessage-deflate; server_max_window_bits=9", 101, true),
        ("permessage-deflate; server_max_window_bits=15", 101, true),
        ("permessage-deflate; server_max_window_bits=16", 101, false),
        ("permessage-deflate; server_max_window_bits=\"\"", 400, false),
        ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", 101, false),
        ("permessage-deflate; unknown", 101, false),
        ("permessage-deflate; unknown, permessage-deflate", 101, true),
        (";", 400, false),
    ] {
        let answer = answer(offers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{offers}: {answer}");
        assert_eq!(answer.contains("Sec-WebSocket-Extensions: permessage-deflate"), accepted, "{offers}");
    }
}
