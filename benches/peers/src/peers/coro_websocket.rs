//! This project.

use bytes::Bytes;
use coro_websocket::{FrameWriter, Message, SinkExt, StreamExt, WrapOptions, wrap_io};

use super::{Role, Seen, Work, now};
use crate::memory::Memory;

fn options(role: Role) -> WrapOptions {
    match role {
        Role::Server => WrapOptions::server(),
        Role::Client => WrapOptions::client(),
    }
}

/// Frames are lent.
pub(crate) fn decode_views(io: Memory, role: Role) -> Work {
    let (mut read, write) = wrap_io(io, Memory::writing(false), options(role));
    Box::new(move |frames, seen: &mut Seen| {
        let _both_live = &write;
        now(async {
            for _ in 0..frames {
                seen.payload(read.frame().await.unwrap().unwrap().payload);
            }
        });
    })
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    let (mut read, write) = wrap_io(io, Memory::writing(false), options(role));
    Box::new(move |frames, seen: &mut Seen| {
        let _both_live = &write;
        now(async {
            for _ in 0..frames {
                seen.payload(&read.next().await.unwrap().unwrap().payload);
            }
        });
    })
}

pub(crate) fn encode_alone(io: Memory, role: Role, payload: Bytes) -> Work {
    let mut writer = FrameWriter::new(io, options(role));
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                writer.send(Message::binary(payload.clone())).await.unwrap();
            }
        });
    })
}

pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let (read, mut write) = wrap_io(Memory::reading(&[]), io, options(role));
    Box::new(move |frames, _| {
        let _both_live = &read;
        now(async {
            for _ in 0..frames {
                write.send(Message::binary(payload.clone())).await.unwrap();
            }
        });
    })
}
