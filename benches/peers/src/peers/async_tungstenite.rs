//! tungstenite on any runtime; here on smol.

use std::future::ready;

use async_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::{Role, Seen, Work, now, tungstenite::role};
use crate::{memory::Memory, runtimes::on_smol};

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

pub(crate) fn serve() -> ! {
    on_smol(|socket| async {
        let (write, read) = accept_async(socket).await?.split();
        read.try_filter(|message| ready(message.is_text() || message.is_binary())).forward(write).await?;
        Ok(())
    })
}
