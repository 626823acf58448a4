//! tungstenite on tokio.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{
    SinkExt, StreamExt, TryStreamExt,
    channel::mpsc::{UnboundedSender, unbounded},
    future::select,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::{Role, Seen, Work, now, tungstenite::role};
use crate::{memory::Memory, runtimes::on_tokio};

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
    on_tokio(|socket| async {
        let (write, read) = accept_async(socket).await?.split();
        read.try_filter(|message| ready(message.is_text() || message.is_binary())).forward(write).await?;
        Ok(())
    })
}

/// Whatever comes goes to everybody: its example of a chat, a queue for each connection.
pub(crate) fn broadcast() -> ! {
    let members: Arc<Mutex<Vec<UnboundedSender<Message>>>> = Arc::default();
    on_tokio(move |socket| {
        let members = Arc::clone(&members);
        async move {
            let (write, read) = accept_async(socket).await?.split();
            let (sender, receiver) = unbounded();
            members.lock().unwrap().push(sender);
            let spread = read.try_for_each(|message| {
                for member in &*members.lock().unwrap() {
                    member.unbounded_send(message.clone()).unwrap();
                }
                ready(Ok(()))
            });
            select(spread, receiver.map(Ok).forward(write)).await;
            Ok(())
        }
    })
}
