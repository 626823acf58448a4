//! Limits on frames, on messages and on what is held for them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{
    alone,
    drive::{drive, now},
    fail, poll_once,
    wire::{self, Form},
};
use coro_websocket::{
    Checks, Error, FrameReader, Message, ProtocolError, Role, StreamExt, TryFeedError, WrapOptions,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn frame_header(role: Role, len: u64) -> Vec<u8> {
    wire::header(wire::BINARY, wire::form(len), len, wire::key_to(role))
}

#[test]
fn a_frame_of_the_limit_passes_and_one_byte_more_is_refused_by_its_header_alone() {
    for role in ROLES {
        for limit in [0, 1, 125, 126, 1000, 65_535, 65_536] {
            let options = WrapOptions::new(role).max_frame_len(limit);
            for len in [limit.saturating_sub(1), limit] {
                let ((mut read, _write), mut far) = alone(1024, options.clone());
                far.put(&wire::to(role, wire::BINARY, vec![1; len]));
                assert_eq!(drive(read.next()).unwrap().unwrap().payload.len(), len);
            }
            let failed = fail(role, options, &frame_header(role, limit as u64 + 1));
            assert_eq!((failed.error, failed.code), (ProtocolError::FrameTooLarge, 1009), "{limit}");
        }
    }
}

/// RUSTSEC-2022-0035 (CVE-2022-35922): memory of the announced length was asked for. CVE-2020-27813, CVE-2026-27889,
/// CVE-2026-1528: 64-bit lengths overflowed.
#[test]
fn rustsec_2022_0035_huge_lengths_are_refused_by_their_headers() {
    let too_large = (ProtocolError::FrameTooLarge, 1009);
    let beyond_messages = (ProtocolError::MessageTooLarge, 1009);
    let impossible = (ProtocolError::LengthTooLarge, 1002);
    for role in ROLES {
        for (len, expected) in [
            (1 << 25, too_large),
            (u64::from(u32::MAX), beyond_messages),
            (1 << 32, beyond_messages),
            ((1 << 32) + 5, beyond_messages),
            (1 << 40, beyond_messages),
            (1 << 62, beyond_messages),
            ((1 << 63) - 1, beyond_messages),
            // §5.2: "the most significant bit MUST be 0"
            (1 << 63, impossible),
            ((1 << 63) + 1, impossible),
            (u64::MAX, impossible),
        ] {
            let failed = fail(role, WrapOptions::new(role), &frame_header(role, len));
            assert_eq!((failed.error, failed.code), expected, "{len:#x}");
        }
    }
}

#[test]
fn a_length_that_no_memory_holds_takes_no_memory_before_its_bytes_come() {
    for role in ROLES {
        for checks in [Checks::Strict, Checks::Report, Checks::Off] {
            for len in [1 << 40, 1 << 62, (1 << 63) - 1] {
                let options = WrapOptions::new(role)
                    .checks(checks)
                    .max_frame_len(usize::MAX)
                    .max_message_len(usize::MAX);
                let ((mut read, _write), mut far) = alone(1024, options);
                far.put(&frame_header(role, len));
                assert!(poll_once(&mut read.next()).is_pending());
                far.put(&[0; 100_000]);
                assert!(poll_once(&mut read.next()).is_pending(), "much more is to come");
                drop(far);
                assert!(matches!(drive(read.next()), Some(Err(Error::Lost))));
            }
        }
    }
}

/// CVE-2020-27813, again: the lengths of several fragments, added up.
#[test]
fn cve_2020_27813_fragments_whose_lengths_overflow_when_added_are_refused() {
    for role in ROLES {
        let options = WrapOptions::new(role).max_frame_len(usize::MAX).max_message_len((1 << 62) + 100);
        let mut bytes = wire::to(role, wire::FIRST_BINARY, vec![0; 101]);
        bytes.extend(wire::header(wire::NEXT, Form::Bits64, 1 << 62, wire::key_to(role)));
        let failed = fail(role, options, &bytes);
        assert_eq!((failed.error, failed.code), (ProtocolError::MessageTooLarge, 1009));
    }
}

/// CVE-2026-54463: lengths in a form that nothing bounds. §5.2: "Note that in all cases, the minimal number of bytes
/// MUST be used to encode the length, for example, the length of a 124-byte-long string can't be encoded as the sequence
/// 126, 0, 124."
#[test]
fn cve_2026_54463_a_length_in_more_bytes_than_needed_is_refused() {
    for role in ROLES {
        for (form, len) in [
            (Form::Bits16, 0),
            (Form::Bits16, 124),
            (Form::Bits16, 125),
            (Form::Bits64, 0),
            (Form::Bits64, 125),
            (Form::Bits64, 126),
            (Form::Bits64, 65_535),
        ] {
            for first in [wire::TEXT, wire::BINARY, wire::FIRST_BINARY] {
                let failed =
                    fail(role, WrapOptions::new(role), &wire::header(first, form, len, wire::key_to(role)));
                assert_eq!((failed.error, failed.code), (ProtocolError::LengthNotMinimal, 1002));
            }
        }
        for (form, len) in [(Form::Bits16, 126), (Form::Bits16, 65_535), (Form::Bits64, 65_536)] {
            let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
            far.put(&wire::header(wire::BINARY, form, len, Some([0; 4]).filter(|_| role == Role::Server)));
            far.put(&vec![0; usize::try_from(len).unwrap()]);
            assert_eq!(drive(read.next()).unwrap().unwrap().len, len);
        }
    }
}

#[test]
fn a_message_of_the_limit_passes_in_any_fragments_and_one_byte_more_does_not() {
    for role in ROLES {
        let limit = 1000;
        let options = WrapOptions::new(role).max_message_len(limit);
        for total in [limit - 1, limit, limit + 1] {
            for parts in
                [vec![total], vec![500, total - 500], vec![64, 100, total - 164], vec![total - 64, 64]]
            {
                let mut bytes = Vec::new();
                for (place, part) in parts.iter().enumerate() {
                    let last = place + 1 == parts.len();
                    let first = if place == 0 { wire::FIRST_BINARY } else { wire::NEXT }
                        | if last { 0x80 } else { 0 };
                    bytes.extend(wire::to(role, first, vec![0; *part]));
                }
                if total > limit {
                    let failed = fail(role, options.clone(), &bytes);
                    assert_eq!((failed.error, failed.code), (ProtocolError::MessageTooLarge, 1009));
                    assert_eq!(failed.yielded.len(), parts.len() - 1, "refused by its last header");
                } else {
                    let ((mut read, _write), mut far) = alone(1024, options.clone());
                    // One message after the other: what was charged for the first is forgotten.
                    for _ in 0..3 {
                        far.put(&bytes);
                        let data = drive(read.messages().next()).unwrap().unwrap();
                        assert_eq!(data.as_bytes().len(), total);
                    }
                }
            }
        }
    }
}

/// CVE-2014-0193, CVE-2026-12151, RUSTSEC-2026-0258: fragments without end, each of them too small to count.
#[test]
fn cve_2014_0193_each_fragment_is_charged_64_bytes_at_least() {
    for role in ROLES {
        let options = WrapOptions::new(role).max_message_len(640);
        for len in [0, 1, 63, 64] {
            let payload = vec![0; len];
            let mut bytes = wire::to(role, wire::FIRST_BINARY, &payload);
            (1..10).for_each(|_| bytes.extend(wire::to(role, wire::NEXT, &payload)));
            let ((mut read, _write), mut far) = alone(1024, options.clone());
            far.put(&bytes);
            for _ in 0..10 {
                drive(read.next()).unwrap().unwrap();
            }
            bytes.extend(wire::to(role, wire::LAST, b""));
            let failed = fail(role, options.clone(), &bytes);
            assert_eq!((failed.error, failed.code), (ProtocolError::MessageTooLarge, 1009));
            assert_eq!(failed.yielded.len(), 10);
        }
    }
}

#[test]
fn control_frames_between_fragments_are_not_charged() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::new(role).max_message_len(200));
        far.put(&wire::to(role, wire::FIRST_BINARY, [0; 100]));
        (0..100).for_each(|_| far.put(&wire::to(role, wire::PING, [0; 125])));
        far.put(&wire::to(role, wire::LAST, [0; 100]));
        assert_eq!(drive(read.messages().next()).unwrap().unwrap().as_bytes().len(), 200);
    }
}

#[test]
fn a_small_limit_is_not_used_up_by_the_charge_of_a_single_frame() {
    for role in ROLES {
        let options = WrapOptions::new(role).max_message_len(10);
        let ((mut read, _write), mut far) = alone(1024, options.clone());
        for len in 0..=10 {
            far.put(&wire::to(role, wire::BINARY, vec![0; len]));
            assert_eq!(drive(read.next()).unwrap().unwrap().payload.len(), len);
        }
        let failed = fail(role, options, &wire::to(role, wire::BINARY, [0; 11]));
        assert_eq!(failed.error, ProtocolError::MessageTooLarge);
    }
}

/// CVE-2016-10542, CVE-2016-10544, CVE-2018-21035, CVE-2025-32049, CVE-2026-0716: limits that were huge by default, or missing.
#[test]
fn cve_2016_10542_by_default_a_frame_has_16_mib_at_most() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&frame_header(role, 16 << 20));
        assert!(poll_once(&mut read.next()).is_pending(), "its payload is awaited");
        let failed = fail(role, WrapOptions::new(role), &frame_header(role, (16 << 20) + 1));
        assert_eq!((failed.error, failed.code), (ProtocolError::FrameTooLarge, 1009));
    }
}

#[test]
fn cve_2018_21035_by_default_a_message_has_64_mib_at_most() {
    // As empty fragments, each of which counts for 64 bytes.
    let fragments = (64 << 20) / 64;
    let mut bytes = vec![0x02, 0x00];
    bytes.resize(2 * (fragments + 1), 0x00);
    let mut reader = FrameReader::new(&bytes[..], WrapOptions::client());
    drive(async {
        for _ in 0..fragments {
            reader.frame().await.unwrap().unwrap();
        }
        let refused = reader.frame().await;
        assert!(matches!(refused, Some(Err(Error::Limit { error: ProtocolError::MessageTooLarge, .. }))));
        assert!(reader.frame().await.is_none());
    });
}

#[test]
fn by_default_64_kib_are_buffered_before_a_writer_waits() {
    for role in ROLES {
        let ((_read, mut write), _far) = alone(0, WrapOptions::new(role));
        let frame = Message::binary(vec![0; 1000]);
        let mut fed = 0;
        while write.try_feed(frame.clone()).is_ok() {
            fed += 1;
        }
        let wire_len = 1004 + if role == Role::Client { 4 } else { 0 };
        assert_eq!(write.buffered(), fed * wire_len);
        assert_eq!(fed, (64_usize << 10).div_ceil(wire_len), "one frame may go beyond the mark");
        assert!(matches!(write.try_feed(frame.clone()), Err(TryFeedError::Full(_))));
        assert!(now(write.feed(frame)).is_pending());
    }
}

#[test]
fn without_checks_only_the_frame_limit_holds() {
    for role in ROLES {
        let options = WrapOptions::new(role).checks(Checks::Off).max_frame_len(100).max_message_len(50);
        let ((mut read, _write), mut far) = alone(1024, options);
        far.put(&wire::to(role, wire::BINARY, [0; 100]));
        far.put(&frame_header(role, 101));
        assert_eq!(drive(read.next()).unwrap().unwrap().len, 100);
        let refused = drive(read.next());
        assert!(matches!(refused, Some(Err(Error::Limit { error: ProtocolError::FrameTooLarge, .. }))));
        assert!(drive(read.next()).is_none());
        assert_eq!(far.input.take_all(), [], "nothing is said");
    }
}

/// How much memory a payload keeps alive.
fn held(message: Message) -> usize {
    message.payload.try_into_mut().expect("nobody else has it").capacity()
}

#[test]
fn a_payload_that_was_kept_holds_little_more_than_itself() {
    for role in ROLES {
        let lengths = [1, 100, 255, 256, 300, 5000, 65_535, 65_536, 200_000, 1_000_000];
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        for len in lengths {
            far.put(&wire::to(role, wire::BINARY, vec![1; len]));
        }
        for len in lengths {
            let message = drive(read.next()).unwrap().unwrap();
            assert_eq!(message.payload.len(), len);
            let held = held(message);
            assert!(held <= 2 * len + 64, "{len} bytes hold {held}");
        }
    }
}

/// Neither the frame before, which was only lent, nor the buffer it came in is kept alive.
#[test]
fn a_small_payload_does_not_hold_the_buffer_of_a_large_one_that_was_lent_before() {
    for role in ROLES {
        for len in [1, 255, 256, 300, 5000] {
            let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
            far.put(&wire::to(role, wire::BINARY, vec![1; 1_000_000]));
            far.put(&wire::to(role, wire::BINARY, vec![2; len]));
            assert_eq!(drive(read.frame()).unwrap().unwrap().payload.len(), 1_000_000);
            let message = drive(read.next()).unwrap().unwrap();
            assert_eq!(message.payload, vec![2; len]);
            let held = held(message);
            assert!(held <= 2 * len + 64, "{len} bytes hold {held}");
        }
    }
}
