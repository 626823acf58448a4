//! tungstenite on tokio.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{Role, Seen, Work, now, tungstenite::role};
use crate::memory::Memory;

pub(crate) fn decode(io: Memory, of: Role) -> Work {
    let mut socket = now(WebSocketStream::from_raw_socket(io, role(of), None));
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                seen.payload(&socket.next().await.unwrap().unwrap().into_data());
            }
        });
    })
}

pub(crate) fn encode(io: Memory, of: Role, payload: Bytes) -> Work {
    let mut socket = now(WebSocketStream::from_raw_socket(io, role(of), None));
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                socket.send(Message::Binary(payload.clone())).await.unwrap();
            }
        });
    })
}
