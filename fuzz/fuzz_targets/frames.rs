//! The reader and the pure functions find the same frames, in whatever pieces the bytes come.
#![no_main]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use coro_websocket::{Checks, FrameReader, StreamExt, WrapOptions, codec};
use futures::{FutureExt, io::AsyncRead};
use libfuzzer_sys::fuzz_target;

/// Gives at most so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = self.1.min(self.0.len()).min(buf.len());
        let (piece, rest) = self.0.split_at(len);
        buf[..len].copy_from_slice(piece);
        self.0 = rest;
        Poll::Ready(Ok(len))
    }
}

fuzz_target!(|input: (u8, bool, bool, &[u8])| {
    let (piece, server, strict, bytes) = input;
    let piece = if piece == 0 { usize::MAX } else { piece.into() };
    let options = if server { WrapOptions::server() } else { WrapOptions::client() };
    let options = options.checks(if strict { Checks::Strict } else { Checks::Off });
    let mut reader = FrameReader::new(Pieces(bytes, piece), options);
    let mut rest = bytes.to_vec();
    loop {
        match reader.next().now_or_never().expect("the bytes are there") {
            Some(Ok(message)) => {
                let (frame, len) = codec::decode(&mut rest).expect("it was read");
                assert_eq!(frame.to_message(), message);
                rest.drain(..len);
            }
            // What is left is no whole frame, or one that breaks a rule.
            Some(Err(_)) => break,
            None => {
                assert!(rest.is_empty());
                break;
            }
        }
    }
});
