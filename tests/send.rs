//! Futures of the halves and of the handshake can be spawned on runtimes with many threads. It is enough that this
//! compiles.
#![allow(dead_code, reason = "nothing here is run")]

use std::time::Duration;

use coro_websocket::{
    Accept, AcceptOptions, IoRead, IoWrite, Message, Options, Refused, SinkExt, StreamExt, Upgrade,
    accept_io, connect_io, shutdown,
};
use futures::io::{AsyncRead, AsyncWrite};

fn is_send(_: impl Send) {}

fn connections<R, W>(mut read: IoRead<R, W>, mut write: IoWrite<W>)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    is_send(read.next());
    is_send(read.frame());
    is_send(read.next_timeout(Duration::ZERO));
    is_send(read.messages().next());
    is_send(write.send(Message::default()));
    is_send(write.feed(Message::default()));
    is_send(write.flush());
    is_send(write.ping());
    is_send(write.close_with(1000, ""));
    is_send(shutdown(&mut read, &mut write, 1000, "", Duration::ZERO));
}

fn handshakes<R, W>(transports: [(R, W); 2], upgrades: [Upgrade<R, W>; 3], refused: Refused<R, W>)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let [(r, w), (other_r, other_w)] = transports;
    is_send(connect_io(r, w, Options::default()));
    is_send(accept_io(other_r, other_w, AcceptOptions::default()));
    let [accepted, rejected, answered] = upgrades;
    is_send(accepted.accept(Accept::default()));
    is_send(rejected.reject(403, ""));
    is_send(answered.respond(coro_websocket::Reply::new(204)));
    is_send(refused.answer());
}
