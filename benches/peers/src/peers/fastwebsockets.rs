//! Vectored writes and automatic answers are its defaults.

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocket};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{MAX_MESSAGE, Role, Seen, Work, now};
use crate::{
    memory::Memory,
    runtimes::{answer, on_tokio},
};

fn role(role: Role) -> fastwebsockets::Role {
    match role {
        Role::Server => fastwebsockets::Role::Server,
        Role::Client => fastwebsockets::Role::Client,
    }
}

pub(crate) fn decode(io: Memory, of: Role) -> Work {
    let mut socket = WebSocket::after_handshake(io, role(of));
    socket.set_max_message_size(MAX_MESSAGE);
    let mut socket = FragmentCollector::new(socket);
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                seen.payload(&socket.read_frame().await.unwrap().payload);
            }
        });
    })
}

pub(crate) fn encode(io: Memory, of: Role, payload: Bytes) -> Work {
    let mut socket = WebSocket::after_handshake(io, role(of));
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                // Where it is to be masked, it is copied.
                let frame = Frame::binary(Payload::Borrowed(&payload));
                // Frames live as long as the socket, says its type; this one is gone at once.
                write(&mut socket, frame).await;
            }
        });
    })
}

/// A payload that may be destroyed is masked where it is.
pub(crate) fn encode_in_place(io: Memory, of: Role, payload: Bytes) -> Work {
    let mut socket = WebSocket::after_handshake(io, role(of));
    let mut payload = payload.to_vec();
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                write(&mut socket, Frame::binary(Payload::BorrowedMut(&mut payload))).await;
            }
        });
    })
}

async fn write(socket: &mut WebSocket<Memory>, frame: Frame<'_>) {
    socket.write_frame(frame).await.unwrap();
    socket.flush().await.unwrap();
}

/// The loop of its echo server; the handshake is ours, so that nothing of hyper is under it.
pub(crate) fn serve() -> ! {
    on_tokio(|socket| async {
        let mut socket = socket.compat();
        answer(&mut socket, None).await?;
        let mut socket = WebSocket::after_handshake(socket.into_inner(), fastwebsockets::Role::Server);
        socket.set_max_message_size(MAX_MESSAGE);
        let mut socket = FragmentCollector::new(socket);
        loop {
            let frame = socket.read_frame().await?;
            match frame.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
                _ => {}
            }
        }
    })
}
