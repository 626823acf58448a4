//! The choice whether to compress a message is made when the message is accepted.
#![cfg(feature = "deflate")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{alone, drive::drive, wire};
use coro_websocket::{Deflate, Message, Role, WrapOptions};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const SECRET: &str = "secret=1234 secret=1234 secret=1234 secret=1234 ";

fn options(role: Role) -> WrapOptions {
    WrapOptions::new(role).deflate(Deflate::default().threshold(0))
}

fn begins() -> Message {
    Message { fin: false, ..Message::text("begins") }
}

fn ends() -> Message {
    Message::continuation("ends", true)
}

/// Counts the frames whose payload is the uncompressed secret, and those that begin a compressed message.
fn judge(frames: &[wire::Frame]) -> (usize, usize) {
    let plain = frames.iter().filter(|frame| frame.payload == SECRET.as_bytes()).count();
    (plain, frames.iter().filter(|frame| frame.first & 0x40 != 0).count())
}

#[test]
fn a_message_that_waits_goes_out_as_its_writer_had_it_whatever_becomes_of_the_writer() {
    for role in ROLES {
        for (compress, then) in [(false, true), (true, false)] {
            for dropped in [false, true] {
                let ((_read, mut open), mut far) = alone(1 << 20, options(role));
                let mut write = open.clone();
                write.set_compression(compress);
                drive(open.send(begins())).unwrap();
                drive(write.feed(SECRET)).unwrap();
                write.set_compression(then);
                let kept = if dropped {
                    drop(write);
                    // The next clone may take its place.
                    let mut next = open.clone();
                    next.set_compression(then);
                    next
                } else {
                    write
                };
                drive(open.send(ends())).unwrap();
                drop(kept);
                let expected = if compress { (0, 2) } else { (1, 1) };
                assert_eq!(judge(&far.frames()), expected, "{role:?} {compress} dropped: {dropped}");
            }
        }
    }
}

#[test]
fn messages_of_several_writers_that_wait_each_keep_the_choice_of_their_writer() {
    for role in ROLES {
        let ((_read, mut open), mut far) = alone(1 << 20, options(role));
        drive(open.send(begins())).unwrap();
        for number in 0..10 {
            let mut write = open.clone();
            write.set_compression(number % 2 == 0);
            drive(write.feed(SECRET)).unwrap();
        }
        drive(open.send(ends())).unwrap();
        assert_eq!(judge(&far.frames()), (5, 6));
    }
}

#[test]
fn a_fragmented_message_that_waits_keeps_the_choice_of_its_first_frame() {
    for role in ROLES {
        let ((_read, mut open), mut far) = alone(1 << 20, options(role));
        let mut write = open.clone();
        write.set_compression(false);
        drive(open.send(begins())).unwrap();
        drive(write.feed(Message { fin: false, ..Message::text(SECRET) })).unwrap();
        write.set_compression(true);
        drive(open.send(ends())).unwrap();
        drive(write.feed(Message::continuation(SECRET, true))).unwrap();
        drive(open.send(SECRET)).unwrap();
        assert_eq!(judge(&far.frames()), (2, 2));
    }
}
