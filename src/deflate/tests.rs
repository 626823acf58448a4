//! Both directions together: what was compressed is inflated to the same.
#![cfg(feature = "deflate")]
#![allow(clippy::cast_possible_truncation, reason = "numbers are cut to what is needed of them")]

use super::{Deflater, Inflater, Sending};
use crate::{
    error::ProtocolError,
    frame::{Message, Opcode},
    options::{Deflate, Role},
    pool::CHUNK_LEN,
};

/// A generator of the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Noise, words, or one byte over and over.
    fn payload(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 8] = ["the ", "frame", "{\"id\":", "0000", ", ", "websocket", "\u{e9}", "\n"];
        match self.below(3) {
            0 => (0..len).map(|_| self.next() as u8).collect(),
            1 => {
                let mut text = Vec::new();
                while text.len() < len {
                    text.extend_from_slice(WORDS[self.below(WORDS.len())].as_bytes());
                }
                text.truncate(len);
                text
            }
            _ => vec![self.next() as u8; len],
        }
    }
}

fn inflater(deflate: &Deflate) -> Inflater {
    Inflater::new(deflate, Role::Server)
}

fn inflate(inflater: &mut Inflater, part: &[u8], last: bool) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = Vec::new();
    inflater.inflate(part, last, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

fn deflater(deflate: &Deflate) -> Deflater {
    Deflater::new(Sending::new(deflate, Role::Client))
}

fn deflate(deflater: &mut Deflater, message: Message) -> Message {
    let mut message = message;
    deflater.on_message(&mut message).unwrap();
    message
}

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// RFC 7692 §7.2.3.1 to §7.2.3.5, each cut at every index.
#[test]
fn vectors_of_the_rfc_are_inflated() {
    let uncompressed = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for vector in [&HELLO[..], &uncompressed, &last_block, &two_blocks, &last_block[..7]] {
        for cut in 0..=vector.len() {
            let mut inflater = inflater(&Deflate::default());
            let mut text = inflate(&mut inflater, &vector[..cut], false).unwrap();
            text.extend(inflate(&mut inflater, &vector[cut..], true).unwrap());
            assert_eq!(text, b"Hello", "{vector:x?} cut at {cut}");
        }
    }
}

/// RFC 7692 §7.2.3.2: the second message refers to the first, and without that it cannot be read.
#[test]
fn messages_may_refer_to_those_before() {
    let referring = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let mut keeping = inflater(&Deflate::default());
    assert_eq!(inflate(&mut keeping, &HELLO, true).unwrap(), b"Hello");
    assert_eq!(inflate(&mut keeping, &referring, true).unwrap(), b"Hello");
    let mut forgetting = inflater(&Deflate::default().client_no_context_takeover(true));
    assert_eq!(inflate(&mut forgetting, &HELLO, true).unwrap(), b"Hello");
    assert_eq!(inflate(&mut forgetting, &referring, true), Err(ProtocolError::Deflate));
}

/// RFC 7692 §7.2.3.6: "the endpoint can use a single octet 0x00".
#[test]
fn empty_messages_and_fragments_are_inflated_and_made() {
    for empty in [&[0x00][..], &[0x02, 0x00], &[], &[0x00, 0x00, 0x00, 0xff, 0xff, 0x00], &[0x03, 0x00]] {
        let mut inflater = inflater(&Deflate::default());
        assert_eq!(inflate(&mut inflater, empty, true), Ok(vec![]), "{empty:x?}");
        assert_eq!(inflate(&mut inflater, &HELLO, true).unwrap(), b"Hello");
    }
    for no_takeover in [false, true] {
        let options = Deflate::default().threshold(0).client_no_context_takeover(no_takeover);
        let (mut deflater, mut inflater) = (deflater(&options), inflater(&options));
        for parts in [&[""][..], &["", ""], &["", "a", ""], &["a", ""], &["a", "", "b"]] {
            let mut text = String::new();
            for (index, part) in parts.iter().enumerate() {
                let fin = index + 1 == parts.len();
                let opcode = if index == 0 { Opcode::TEXT } else { Opcode::CONTINUATION };
                let frame = Message { opcode, ..Message::continuation(*part, fin) };
                let frame = deflate(&mut deflater, frame);
                assert_eq!(frame.rsv1, index == 0 && (parts.len() > 1 || !no_takeover));
                let payload = if frame.rsv1 || index > 0 {
                    inflate(&mut inflater, &frame.payload, fin).unwrap()
                } else {
                    frame.payload.to_vec()
                };
                text.push_str(str::from_utf8(&payload).unwrap());
            }
            assert_eq!(text, parts.concat());
        }
    }
}

/// RFC 7692 §7.2.3.5: a stream may end in the middle of a message, and what follows may refer to what came
/// before; but not without limit, since ending costs more than it takes bytes.
#[test]
fn blocks_that_say_they_are_last_are_not_the_end() {
    let last_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let referring = [0xf3, 0x00, 0x11, 0x00];
    let stored = [0x01, 0x02, 0x00, 0xfd, 0xff, b'!', b'!'];
    for deflate in [Deflate::default(), Deflate::default().client_no_context_takeover(true)] {
        let mut inflater = inflater(&deflate);
        let message = [&last_block[..], &referring, &stored, &HELLO].concat();
        for cut in 0..=message.len() {
            let mut text = inflate(&mut inflater, &message[..cut], false).unwrap();
            text.extend(inflate(&mut inflater, &message[cut..], true).unwrap());
            assert_eq!(text, b"HelloHello!!Hello", "cut at {cut}");
        }
        assert!(inflate(&mut inflater, &[0x03, 0x00].repeat(1023), true).is_ok());
        assert_eq!(inflate(&mut inflater, &[0x03, 0x00].repeat(1025), true), Err(ProtocolError::Deflate));
    }
}

/// Output that ends exactly where a buffer does, before and after the tail.
#[test]
fn output_that_fills_a_buffer_is_complete() {
    for around in [CHUNK_LEN, 2 * CHUNK_LEN] {
        for len in around - 3..=around + 3 {
            for byte in [None, Some(b'x')] {
                let payload = match byte {
                    Some(byte) => vec![byte; len],
                    None => Numbers(len as u64).payload(len),
                };
                let options = Deflate::default().threshold(0);
                let frame = deflate(&mut deflater(&options), Message::binary(payload.clone()));
                assert!(frame.rsv1);
                let inflated = inflate(&mut inflater(&options), &frame.payload, true).unwrap();
                assert!(inflated == payload, "{len} bytes");
            }
        }
    }
    // The compressor's buffer, too: stored blocks, so that its output is as long as wanted.
    for len in CHUNK_LEN - 40..CHUNK_LEN + 10 {
        let options = Deflate::default().level(0);
        let payload = Numbers(7).payload(len);
        let mut deflater = deflater(&options);
        let mut inflater = inflater(&options);
        for _ in 0..2 {
            let frame = deflate(&mut deflater, Message::binary(payload.clone()));
            assert!(inflate(&mut inflater, &frame.payload, true).unwrap() == payload, "{len} bytes");
        }
    }
}

/// RFC 7692 §7.2.2: what cannot be inflated is an error, and so is what is cut off.
#[test]
fn malformed_messages_are_noticed() {
    for (malformed, what) in [
        (&[0x06][..], "block type 3"),
        (&[0x00, 0x05, 0x00, 0x00, 0x00], "length that does not match its complement"),
        (&HELLO[..5], "cut off in a code"),
        (&[0x00, 0x0a, 0x00, 0xf5, 0xff, 0x48], "cut off in a stored block"),
        (&[0x02, 0x01, 0x00], "distance beyond the start"),
        (&[0xff; 64], "noise"),
    ] {
        let mut inflater = inflater(&Deflate::default());
        assert_eq!(inflate(&mut inflater, malformed, true), Err(ProtocolError::Deflate), "{what}");
        assert_eq!(inflate(&mut inflater, &HELLO, true).unwrap(), b"Hello", "a message after {what}");
    }
    let mut inflater = inflater(&Deflate::default());
    assert_eq!(inflate(&mut inflater, &[0x06], false), Err(ProtocolError::Deflate));
    assert_eq!(inflate(&mut inflater, &HELLO, false), Err(ProtocolError::Deflate), "the rest of the message");
    assert_eq!(inflate(&mut inflater, &HELLO, true), Err(ProtocolError::Deflate), "and its end");
    assert_eq!(inflate(&mut inflater, &HELLO, true).unwrap(), b"Hello");
}

/// Random payloads in random fragments, cut anywhere on the way, come out as they went in: with every window,
/// with and without context, at all levels.
#[test]
fn random_messages_come_out_as_they_went_in() {
    let mut numbers = Numbers(1);
    for bits in 9..=15 {
        for no_takeover in [false, true] {
            for round in 0..10 {
                let options = Deflate::default()
                    .client_max_window_bits(bits)
                    .client_no_context_takeover(no_takeover)
                    .level(round)
                    .memory_level(1 + numbers.below(9) as u8)
                    .threshold(numbers.below(100));
                round_trip(&options, &mut numbers);
            }
        }
    }
}

fn round_trip(options: &Deflate, numbers: &mut Numbers) {
    let (mut deflater, mut inflater) = (deflater(options), inflater(options));
    for _ in 0..12 {
        let len = [0, 1, 50, 1000, 40_000, 150_000][numbers.below(6)];
        let mut rest = numbers.payload(numbers.0 as usize % (len + 1));
        let mut compressed = false;
        let mut opcode = Opcode::BINARY;
        deflater.set_enabled(numbers.below(5) > 0);
        loop {
            let part = rest.drain(..numbers.below(rest.len() + 1)).collect::<Vec<_>>();
            let fin = numbers.below(3) == 0;
            let part = if fin { [part, std::mem::take(&mut rest)].concat() } else { part };
            let frame =
                deflate(&mut deflater, Message { opcode, ..Message::continuation(part.clone(), fin) });
            compressed |= frame.rsv1;
            let mut came = Vec::new();
            let mut payload = &frame.payload[..];
            while came.len() <= part.len() {
                let (now, later) = payload.split_at(numbers.below(payload.len() + 1));
                payload = later;
                if compressed {
                    came.extend(inflate(&mut inflater, now, fin && later.is_empty()).unwrap());
                } else {
                    came.extend_from_slice(now);
                }
                if later.is_empty() {
                    break;
                }
            }
            assert!(came == part, "{options:?}");
            opcode = Opcode::CONTINUATION;
            if fin {
                break;
            }
        }
    }
}

/// RFC 7692 §7.1.2.1: "the server is not going to use an LZ77 sliding window size greater than" what was agreed
/// on: noise that comes again is noticed within the window, and not beyond.
#[test]
fn windows_are_kept() {
    let mut numbers = Numbers(2);
    for bits in 9..=15_u8 {
        for (len, compresses) in [((1 << bits) + 1, false), ((1 << bits) - 300, true)] {
            let options = Deflate::default().client_max_window_bits(bits);
            let (mut deflater, mut inflater) = (deflater(&options), inflater(&options));
            let noise: Vec<u8> = (0..len).map(|_| numbers.next() as u8).collect();
            for payload in [noise.clone(), noise.repeat(2)] {
                let frame = deflate(&mut deflater, Message::binary(payload.clone()));
                assert!(inflate(&mut inflater, &frame.payload, true).unwrap() == payload, "{bits} bits");
                let again = payload.len() > len;
                assert_eq!(frame.payload.len() < payload.len() * 3 / 4, again && compresses, "{bits} bits");
            }
        }
    }
}

/// CVE-2026-29035 (civetweb): hostile input wrote out of bounds. Valid messages with bytes changed, left out and put
/// in: each is inflated, or malformed, up to the limit, and a good one comes through afterwards.
#[test]
fn mangled_messages_do_no_harm() {
    const LIMIT: usize = 1 << 20;
    let mut numbers = Numbers(4);
    let (mut good, mut bad) = (0, 0);
    for round in 0..3000_u32 {
        let level = (round % 10) as u8;
        let options = Deflate::default().client_no_context_takeover(round % 2 == 0).level(level);
        let (mut deflater, mut inflater) = (deflater(&options), inflater(&options));
        let len = numbers.below(600);
        let mut bytes = deflate(&mut deflater, Message::binary(numbers.payload(len))).payload.to_vec();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(bytes.len() + 1);
            match numbers.below(3) {
                0 => bytes.insert(at, numbers.next() as u8),
                1 => bytes.truncate(at),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << numbers.below(8)),
            }
        }
        let mut made = 0;
        let inflated = inflater.inflate(&bytes, true, |piece| {
            made += piece.len();
            if made > LIMIT { Err(ProtocolError::MessageTooLarge) } else { Ok(()) }
        });
        match inflated {
            Ok(()) => good += 1,
            Err(error) => {
                assert!(error == ProtocolError::Deflate || made > LIMIT);
                bad += 1;
            }
        }
        assert_eq!(inflate(&mut inflater, &HELLO, true).unwrap(), b"Hello");
    }
    assert!(good > 100 && bad > 100, "{good} and {bad}");
}

/// With 8 bits agreed on for us, nothing is compressed; a peer's own are read.
#[test]
fn eight_bits_are_read_but_not_written() {
    let options = Deflate::default().client_max_window_bits(8).threshold(0);
    let frame = deflate(&mut deflater(&options), Message::text("a".repeat(1000)));
    assert!(!frame.rsv1 && frame.payload.len() == 1000);
    assert_eq!(inflate(&mut inflater(&options), &HELLO, true).unwrap(), b"Hello");
}

#[test]
fn what_does_not_get_shorter_goes_as_it_is_where_nothing_refers_to_it() {
    let zeros = Message::binary(vec![0; 4096]);
    let mut numbers = Numbers(5);
    let random = Message::binary((0..4096).map(|_| numbers.next() as u8).collect::<Vec<u8>>());
    for (no_takeover, compressed) in [(true, false), (false, true)] {
        let options = Deflate::default().client_no_context_takeover(no_takeover);
        let mut deflater = deflater(&options);
        assert!(deflate(&mut deflater, zeros.clone()).rsv1);
        assert_eq!(deflate(&mut deflater, random.clone()).rsv1, compressed);
    }
}

#[test]
fn messages_below_the_threshold_and_control_frames_stay_as_they_are() {
    let mut deflater = deflater(&Deflate::default().threshold(10));
    for (message, compressed) in [
        (Message::text("123456789"), false),
        (Message::text("1234567890"), true),
        (Message::ping("1234567890"), false),
        (Message::close(1000, "1234567890"), false),
        (Message { fin: false, ..Message::text("1") }, true),
        (Message::ping("1234567890"), false),
    ] {
        assert_eq!(deflate(&mut deflater, message.clone()).rsv1, compressed, "{message}");
    }
    assert!(!deflate(&mut deflater, Message::continuation("2", true)).rsv1);
}
