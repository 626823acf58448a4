//! With the settings of its echo server: messages are never split, and of any size.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_websockets::{ClientBuilder, Config, Limits, Message, ServerBuilder, WebSocketStream};

use super::{Role, Seen, Work, now};
use crate::memory::Memory;

fn config() -> Config {
    Config::default().frame_size(usize::MAX)
}

fn socket(io: Memory, role: Role) -> WebSocketStream<Memory> {
    match role {
        Role::Server => ServerBuilder::new().config(config()).limits(Limits::unlimited()).serve(io),
        Role::Client => ClientBuilder::new().config(config()).limits(Limits::unlimited()).take_over(io),
    }
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    let mut socket = socket(io, role);
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                seen.payload(socket.next().await.unwrap().unwrap().as_payload());
            }
        });
    })
}

pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let mut socket = socket(io, role);
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                socket.send(Message::binary(payload.clone())).await.unwrap();
            }
        });
    })
}
