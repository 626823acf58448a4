//! With the settings of its echo server: messages are never split, and of any size.

use std::future::ready;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio_websockets::{ClientBuilder, Config, Limits, Message, ServerBuilder, WebSocketStream};

use super::{Role, Seen, Work, now};
use crate::{memory::Memory, runtimes::on_tokio};

fn config() -> Config {
    Config::default().frame_size(usize::MAX)
}

fn server() -> ServerBuilder {
    ServerBuilder::new().config(config()).limits(Limits::unlimited())
}

fn socket(io: Memory, role: Role) -> WebSocketStream<Memory> {
    match role {
        Role::Server => server().serve(io),
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

/// The loop of its echo server.
pub(crate) fn serve() -> ! {
    on_tokio(|socket| async {
        let (_request, mut socket) = server().accept(socket).await?;
        while let Some(message) = socket.next().await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.send(message).await?;
            }
        }
        Ok(())
    })
}

/// Batches, by the combinators of futures.
pub(crate) fn serve_forwarding() -> ! {
    on_tokio(|socket| async {
        let (_request, socket) = server().accept(socket).await?;
        let (write, read) = socket.split();
        read.try_filter(|message| ready(message.is_text() || message.is_binary())).forward(write).await?;
        Ok(())
    })
}
