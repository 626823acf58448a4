//! Its check of UTF-8 is off unless asked for; here it is on.

use bytes::Bytes;
use futures::SinkExt;
use yawc::{Frame, Options, WebSocket};

use super::{MAX_MESSAGE, Role, Seen, Work, now};
use crate::memory::Memory;

fn options() -> Options {
    Options::default().with_limits(MAX_MESSAGE, 2 * MAX_MESSAGE).with_utf8()
}

fn socket(io: Memory, role: Role) -> WebSocket<Memory> {
    let role = if role == Role::Server { yawc::Role::Server } else { yawc::Role::Client };
    WebSocket::from_stream(io, role, options()).unwrap()
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    let mut socket = socket(io, role);
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                seen.payload(socket.next_frame().await.unwrap().payload());
            }
        });
    })
}

pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let mut socket = socket(io, role);
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                socket.send(Frame::binary(payload.clone())).await.unwrap();
            }
        });
    })
}
