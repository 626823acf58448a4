//! Its masking keys are drawn from a generator that is not cryptographic.

use bytes::Bytes;
use wtx::{
    collection::Vector,
    rng::{Xorshift64, simple_seed},
    web_socket::{Frame, OpCode, WebSocket, WebSocketBuffer, WebSocketPayloadOrigin},
};

use super::{Role, Seen, Work, now};
use crate::memory::Memory;

type Socket<const IS_CLIENT: bool> = WebSocket<(), Xorshift64, Memory, WebSocketBuffer, IS_CLIENT>;

fn socket<const IS_CLIENT: bool>(io: Memory) -> Socket<IS_CLIENT> {
    WebSocket::new((), false, Xorshift64::from(simple_seed()), io, WebSocketBuffer::new())
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    match role {
        Role::Server => decode_with(socket::<false>(io)),
        Role::Client => decode_with(socket::<true>(io)),
    }
}

fn decode_with<const IS_CLIENT: bool>(mut socket: Socket<IS_CLIENT>) -> Work {
    let mut buffer = Vector::new();
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                buffer.clear();
                let frame = socket.read_frame(&mut buffer, WebSocketPayloadOrigin::Adaptive).await.unwrap();
                seen.payload(frame.payload());
            }
        });
    })
}

/// A payload is masked where it is, so it is copied first if it is to be masked.
pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let mut copy = payload.to_vec();
    match role {
        Role::Server => encode_with(socket::<false>(io), copy, |_| {}),
        Role::Client => {
            copy.clear();
            encode_with(socket::<true>(io), copy, move |copy| {
                copy.clear();
                copy.extend_from_slice(&payload);
            })
        }
    }
}

pub(crate) fn encode_in_place(io: Memory, role: Role, payload: Bytes) -> Work {
    match role {
        Role::Server => encode_with(socket::<false>(io), payload.to_vec(), |_| {}),
        Role::Client => encode_with(socket::<true>(io), payload.to_vec(), |_| {}),
    }
}

fn encode_with<const IS_CLIENT: bool>(
    mut socket: Socket<IS_CLIENT>,
    mut payload: Vec<u8>,
    mut renew: impl FnMut(&mut Vec<u8>) + 'static,
) -> Work {
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                renew(&mut payload);
                let mut frame = Frame::new_fin(OpCode::Binary, payload.as_mut_slice());
                socket.write_frame(&mut frame).await.unwrap();
            }
        });
    })
}
