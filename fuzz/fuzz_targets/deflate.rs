//! permessage-deflate: hostile frames come to an end and make no more than deflate can; and whatever one end compresses,
//! the other one gets.
#![no_main]

use coro_websocket::{Deflate, FrameReader, FrameWriter, Message, StreamExt, WrapOptions};
use futures::FutureExt;
use libfuzzer_sys::fuzz_target;

/// From each byte of a compressed message come at most so many (technical details of zlib).
const RATIO: usize = 1032;

fn deflate(choice: u8) -> Deflate {
    let bits = 9 + choice % 7;
    let without = choice & 0x80 != 0;
    Deflate::default()
        .threshold(0)
        .server_max_window_bits(bits)
        .client_max_window_bits(bits)
        .server_no_context_takeover(without)
        .client_no_context_takeover(without)
}

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (choice, limited, bytes) = input;
    let deflate = deflate(choice);
    let mut options = WrapOptions::client().deflate(deflate);
    if !limited {
        options = options.max_frame_len(usize::MAX).max_message_len(usize::MAX);
    }
    let mut reader = FrameReader::new(bytes, options);
    let mut made = 0;
    while let Some(Ok(message)) = reader.next().now_or_never().expect("the bytes are there") {
        made += message.payload.len();
    }
    assert!(made <= RATIO * bytes.len());

    let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(deflate));
    let messages: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    for message in &messages {
        let sent = writer.send(Message::binary(message.to_vec())).now_or_never();
        sent.expect("a vector takes everything").expect("it is a message");
    }
    let wire = writer.into_inner();
    let mut reader = FrameReader::new(&*wire, WrapOptions::client().deflate(deflate));
    for message in messages {
        let read = reader.next().now_or_never().expect("the bytes are there");
        assert_eq!(read.expect("it was sent").expect("it breaks no rule").payload, message);
    }
    assert!(reader.next().now_or_never().expect("the end is there").is_none());
});
