//! Its check of UTF-8 is off unless asked for; here it is on.

use bytes::Bytes;
use futures::{FutureExt, SinkExt};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;
use yawc::{CompressionLevel, Frame, OpCode, Options, WebSocket};

use super::{DEFLATE, MAX_MESSAGE, Role, Seen, Work, now};
use crate::{
    memory::Memory,
    runtimes::{Ended, answer, on_tokio},
};

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

/// Batches of up to 32 messages that are there at once, as in its own benchmark; the handshake is ours, so that nothing
/// of hyper is under it.
pub(crate) fn serve() -> ! {
    on_tokio(|socket| echo(socket, None, options()))
}

pub(crate) fn serve_deflate_2() -> ! {
    on_tokio(|socket| echo(socket, DEFLATE, options().with_compression_level(CompressionLevel::new(2))))
}

/// At the level that is its default.
pub(crate) fn serve_deflate_6() -> ! {
    on_tokio(|socket| echo(socket, DEFLATE, options().with_compression_level(CompressionLevel::default())))
}

async fn echo(socket: TcpStream, extensions: Option<&str>, options: Options) -> Ended {
    let mut socket = socket.compat();
    answer(&mut socket, extensions).await?;
    let socket = socket.into_inner();
    let mut socket = WebSocket::from_stream_with_extensions(socket, yawc::Role::Server, extensions, options)?;
    loop {
        let mut next = Some(socket.next_frame().await);
        for count in 1.. {
            let Some(frame) = next else { break };
            let frame = frame?;
            if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
                socket.feed(frame).await?;
            }
            next = if count < 32 { socket.next_frame().now_or_never() } else { None };
        }
        socket.flush().await?;
    }
}
