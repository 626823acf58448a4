//! Blocking, so that there is no echo server of it for many connections on one thread.

use bytes::Bytes;
use tungstenite::{Message, WebSocket, protocol};

use super::{Role, Seen, Work};
use crate::memory::Memory;

pub(super) fn role(role: Role) -> protocol::Role {
    match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    }
}

pub(crate) fn decode(io: Memory, of: Role) -> Work {
    let mut socket = WebSocket::from_raw_socket(io, role(of), None);
    Box::new(move |frames, seen: &mut Seen| {
        for _ in 0..frames {
            seen.payload(&socket.read().unwrap().into_data());
        }
    })
}

pub(crate) fn encode(io: Memory, of: Role, payload: Bytes) -> Work {
    let mut socket = WebSocket::from_raw_socket(io, role(of), None);
    Box::new(move |frames, _| {
        for _ in 0..frames {
            socket.send(Message::Binary(payload.clone())).unwrap();
        }
    })
}
