//! Its vector code is chosen when it is compiled; here, as everything, for the baseline of the target.

use std::future::ready;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use sockudo_ws::{
    CompressedWebSocketStream, Config, DeflateConfig, Message, WebSocketStream, handshake::server_handshake,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{DEFLATE, MAX_MESSAGE, Role, Seen, Work, now};
use crate::{
    memory::Memory,
    runtimes::{answer, on_tokio},
};

fn config() -> Config {
    Config::builder().max_payload_length(MAX_MESSAGE).build()
}

fn socket(io: Memory, role: Role) -> WebSocketStream<Memory> {
    let role = if role == Role::Server { sockudo_ws::Role::Server } else { sockudo_ws::Role::Client };
    WebSocketStream::from_raw(io, role, config())
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    let mut socket = socket(io, role);
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                match socket.next().await.unwrap().unwrap() {
                    Message::Text(payload) | Message::Binary(payload) => seen.payload(&payload),
                    other => panic!("{other:?}"),
                }
            }
        });
    })
}

pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let mut socket = socket(io, role);
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                socket.send(Message::Binary(payload.clone())).await.unwrap();
            }
        });
    })
}

pub(crate) fn serve() -> ! {
    on_tokio(|mut socket| async {
        server_handshake(&mut socket).await?;
        let socket = WebSocketStream::from_raw(socket, sockudo_ws::Role::Server, config());
        let (write, read) = StreamExt::split(socket);
        read.try_filter(|message| ready(matches!(message, Message::Text(_) | Message::Binary(_))))
            .forward(write)
            .await?;
        Ok(())
    })
}

/// At its default level, 6.
pub(crate) fn serve_deflate() -> ! {
    on_tokio(|socket| async {
        let mut socket = socket.compat();
        answer(&mut socket, DEFLATE).await?;
        let socket =
            CompressedWebSocketStream::server(socket.into_inner(), config(), DeflateConfig::default());
        let (write, read) = StreamExt::split(socket);
        read.try_filter(|message| ready(matches!(message, Message::Text(_) | Message::Binary(_))))
            .forward(write)
            .await?;
        Ok(())
    })
}
