//! A prepared frame goes out as the caller made it, or compressed once.
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
use coro_websocket::{
    Deflate, Error, FrameReader, FrameWriter, Message, PreparedFrame, Role, StreamExt, WrapOptions, wrap_io,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn options(role: Role) -> WrapOptions {
    WrapOptions::new(role).deflate(Deflate::default().threshold(0))
}

/// A payload compressed by this crate, as a relay receives it.
fn compressed_by_the_caller(plain: &str) -> Message {
    let mut writer = FrameWriter::new(Vec::new(), options(Role::Server));
    drive(writer.send(plain)).unwrap();
    let frame = wire::frames(&writer.into_inner()).remove(0);
    assert_eq!(frame.first, wire::TEXT | 0x40);
    Message { rsv1: true, ..wire::message(wire::TEXT, false, &frame.payload) }
}

#[test]
fn a_prepared_frame_that_the_caller_has_compressed_is_not_compressed_again() {
    for role in ROLES {
        for len in [10, 1 << 10, 1 << 20] {
            let plain = "a".repeat(len);
            let news = PreparedFrame::new(compressed_by_the_caller(&plain));
            for compress in [true, false] {
                let ((_read, mut write), mut far) = alone(1 << 22, options(role));
                write.set_compression(compress);
                // Only messages that the connection compresses may refer to earlier ones, not messages that the caller
                // has compressed.
                drive(write.send("before")).unwrap();
                let message = write.prepared(&news);
                assert_eq!(message, *news.message());
                drive(write.send(message)).unwrap();
                drive(write.send("behind")).unwrap();
                let bytes = far.input.take_all();
                let other = if role == Role::Client { Role::Server } else { Role::Client };
                let mut reader = FrameReader::new(&bytes[..], options(other));
                for expected in ["before", &plain, "behind"] {
                    assert_eq!(drive(reader.next()).unwrap().unwrap().as_text(), Some(expected));
                }
            }
        }
    }
}

#[test]
fn a_prepared_frame_that_the_caller_has_compressed_is_refused_where_nothing_was_agreed_on() {
    let news = PreparedFrame::new(compressed_by_the_caller("hello"));
    let (_read, mut write) = wrap_io(&b""[..], Vec::new(), WrapOptions::server());
    let message = write.prepared(&news);
    assert!(message.rsv1);
    assert!(matches!(drive(write.send(message)), Err(Error::Invalid { .. })));
}
