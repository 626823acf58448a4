//! One file for each library: how it decodes and encodes in memory, and the echo server that its documentation
//! leads to.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{grid::Kind, limits, memory::Memory, server::Serve};

pub(crate) mod async_tungstenite;
pub(crate) mod coro_websocket;
pub(crate) mod fastwebsockets;
pub(crate) mod ratchet;
pub(crate) mod sockudo_ws;
pub(crate) mod soketto;
pub(crate) mod tokio_tungstenite;
pub(crate) mod tokio_websockets;
pub(crate) mod tungstenite;
pub(crate) mod wtx;
pub(crate) mod yawc;

/// Above every payload that is measured; each library gets it where its own limit is lower.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// What is agreed on where messages are compressed: both sides keep their contexts, unless the library declines.
pub(crate) const DEFLATE: Option<&str> = Some("permessage-deflate");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads masked frames, and writes others.
    Server,
    Client,
}

/// Handles so many frames. What was decoded is shown.
pub(crate) type Work = Box<dyn FnMut(u64, &mut Seen)>;

/// Decodes what the memory has; for one of the two roles.
pub(crate) type Decode = fn(Memory, Role) -> Work;

/// Sends a payload, again and again, flushed each time. It is the caller's, and stays what it is.
pub(crate) type Encode = fn(Memory, Role, Bytes) -> Work;

/// Where decoded payloads are shown, so that nobody can skip work.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Looks at contents, too. It is there before a measurement, not during it.
    pub(crate) check: Option<fn(&[u8])>,
}

impl Seen {
    pub(crate) fn payload(&mut self, payload: &[u8]) {
        self.frames += 1;
        self.bytes += payload.len() as u64;
        if let Some(check) = self.check {
            check(payload);
        }
        black_box(payload.as_ptr());
    }
}

pub(crate) const DECODERS: [(&str, Kind, Decode); 11] = [
    ("coro-websocket, `frame()`", Kind::Ours, coro_websocket::decode_views),
    ("coro-websocket, Stream", Kind::Ours, coro_websocket::decode),
    ("tungstenite", Kind::Peer { tokio: false }, tungstenite::decode),
    ("tokio-tungstenite", Kind::Peer { tokio: true }, tokio_tungstenite::decode),
    ("async-tungstenite", Kind::Peer { tokio: false }, async_tungstenite::decode),
    ("fastwebsockets", Kind::Peer { tokio: true }, fastwebsockets::decode),
    ("soketto", Kind::Peer { tokio: false }, soketto::decode),
    ("tokio-websockets", Kind::Peer { tokio: true }, tokio_websockets::decode),
    ("yawc", Kind::Peer { tokio: true }, yawc::decode),
    ("wtx", Kind::Peer { tokio: false }, wtx::decode),
    ("sockudo-ws", Kind::Peer { tokio: true }, sockudo_ws::decode),
];

pub(crate) const ENCODERS: [(&str, Kind, Encode); 13] = [
    ("coro-websocket, FrameWriter", Kind::Ours, coro_websocket::encode_alone),
    ("coro-websocket, Write", Kind::Ours, coro_websocket::encode),
    ("tungstenite", Kind::Peer { tokio: false }, tungstenite::encode),
    ("tokio-tungstenite", Kind::Peer { tokio: true }, tokio_tungstenite::encode),
    ("async-tungstenite", Kind::Peer { tokio: false }, async_tungstenite::encode),
    ("fastwebsockets", Kind::Peer { tokio: true }, fastwebsockets::encode),
    ("soketto", Kind::Peer { tokio: false }, soketto::encode),
    ("tokio-websockets", Kind::Peer { tokio: true }, tokio_websockets::encode),
    ("yawc", Kind::Peer { tokio: true }, yawc::encode),
    ("wtx", Kind::Peer { tokio: false }, wtx::encode),
    ("sockudo-ws", Kind::Peer { tokio: true }, sockudo_ws::encode),
    ("fastwebsockets, payload destroyed", Kind::Other, fastwebsockets::encode_in_place),
    ("wtx, payload destroyed", Kind::Other, wtx::encode_in_place),
];

pub(crate) const SERVERS: [(&str, Kind, Serve); 15] = [
    ("limit-epoll", Kind::Limit, limits::epoll),
    ("limit-tokio", Kind::Limit, limits::tokio),
    ("limit-smol", Kind::Limit, limits::smol),
    ("limit-smol, readiness awaited", Kind::Limit, limits::smol_awaiting),
    ("coro-websocket", Kind::Ours, coro_websocket::serve),
    ("coro-websocket on tokio", Kind::Ours, coro_websocket::serve_on_tokio),
    ("tokio-tungstenite, `forward`", Kind::Peer { tokio: true }, tokio_tungstenite::serve),
    ("async-tungstenite, `forward`", Kind::Peer { tokio: false }, async_tungstenite::serve),
    ("fastwebsockets", Kind::Peer { tokio: true }, fastwebsockets::serve),
    ("soketto", Kind::Peer { tokio: false }, soketto::serve),
    ("tokio-websockets", Kind::Peer { tokio: true }, tokio_websockets::serve),
    ("tokio-websockets, `forward`", Kind::Peer { tokio: true }, tokio_websockets::serve_forwarding),
    ("yawc, batches", Kind::Peer { tokio: true }, yawc::serve),
    ("wtx", Kind::Peer { tokio: false }, wtx::serve),
    ("sockudo-ws, `forward`", Kind::Peer { tokio: true }, sockudo_ws::serve),
];

pub(crate) const DEFLATE_SERVERS: [(&str, Kind, Serve); 8] = [
    ("coro-websocket, level 2", Kind::Ours, coro_websocket::serve_deflate),
    ("coro-websocket, level 6", Kind::Ours, coro_websocket::serve_deflate_6),
    ("coro-websocket on tokio, level 2", Kind::Ours, coro_websocket::serve_deflate_on_tokio),
    ("yawc, level 2", Kind::Peer { tokio: true }, yawc::serve_deflate_2),
    ("yawc, level 6", Kind::Peer { tokio: true }, yawc::serve_deflate_6),
    ("sockudo-ws, level 6", Kind::Peer { tokio: true }, sockudo_ws::serve_deflate),
    ("soketto, level 1", Kind::Peer { tokio: false }, soketto::serve_deflate),
    ("ratchet, level 1", Kind::Peer { tokio: true }, ratchet::serve_deflate),
];

/// Each sends whatever it gets to everybody.
pub(crate) const BROADCASTERS: [(&str, Kind, Serve); 3] = [
    ("limit-epoll, broadcast", Kind::Limit, limits::epoll_broadcast),
    ("coro-websocket, broadcast", Kind::Ours, coro_websocket::broadcast),
    ("tokio-tungstenite, broadcast", Kind::Peer { tokio: true }, tokio_tungstenite::broadcast),
];

/// The server of a name.
pub(crate) fn find(name: &str) -> Option<Serve> {
    let mut all = SERVERS.iter().chain(&DEFLATE_SERVERS).chain(&BROADCASTERS);
    Some(all.find(|(known, ..)| *known == name)?.2)
}

/// The output of a future whose transport is always ready.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}
