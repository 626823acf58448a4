//! This project.

use std::net::TcpListener;

use bytes::Bytes;
use coro_websocket::{
    Accept, AcceptOptions, FrameWriter, Message, SinkExt, StreamExt, WrapOptions, accept_io, wrap_io,
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::{Role, Seen, Work, now};
use crate::{
    memory::Memory,
    runtimes::{Ended, on_smol, on_tokio},
};

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

/// On async-io.
pub(crate) fn serve(listener: TcpListener) -> ! {
    on_smol(listener, |socket| {
        let (r, w) = socket.split();
        echo(r, w, AcceptOptions::default())
    })
}

/// On tokio, over the adapters of tokio-util.
pub(crate) fn serve_on_tokio(listener: TcpListener) -> ! {
    on_tokio(listener, |socket| {
        let (r, w) = socket.into_split();
        echo(r.compat(), w.compat_write(), AcceptOptions::default())
    })
}

/// The plain loop. What was fed goes out when there is nothing more to read.
async fn echo<R, W>(r: R, w: W, options: AcceptOptions) -> Ended
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let upgrade = accept_io(r, w, options).await?;
    let (_request, mut read, mut write) = upgrade.accept(Accept::default()).await.map_err(|_| "refused")?;
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    Ok(())
}
