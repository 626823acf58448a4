//! Its masking keys are drawn from a generator that is not cryptographic.

use bytes::Bytes;
use wtx::{
    collection::Vector,
    rng::{Xorshift64, simple_seed},
    web_socket::{Frame, OpCode, WebSocket, WebSocketAcceptor, WebSocketBuffer, WebSocketPayloadOrigin},
};

use super::{Role, Seen, Work, now};
use crate::{memory::Memory, runtimes::on_smol};

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

pub(crate) fn serve() -> ! {
    on_smol(|socket| async {
        let mut socket = WebSocketAcceptor::default().no_masking(false).accept(socket).await?;
        let (mut common, mut reader, mut writer) = socket.split_mut();
        let mut buffer = Vector::new();
        loop {
            buffer.clear();
            let mut frame =
                reader.read_frame(&mut buffer, &mut common, WebSocketPayloadOrigin::Adaptive).await?;
            match frame.op_code() {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => writer.write_frame(&mut common, &mut frame).await?,
                _ => {}
            }
        }
    })
}
