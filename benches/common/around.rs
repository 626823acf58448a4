//! What there is besides the codec: masking, UTF-8, compression, the opening handshake.

use std::{
    cell::RefCell,
    collections::VecDeque,
    hint::black_box,
    io::{self, Read as _},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use coro_websocket::{Accept, AcceptOptions, FrameReader, Message, Options, accept_io, codec, connect_io};
#[cfg(feature = "deflate")]
use coro_websocket::{Deflate, FrameWriter, StreamExt, WrapOptions};
use futures::{
    FutureExt,
    future::join,
    io::{AsyncRead, AsyncWrite},
};

use super::{Case, MakeLem, Tape, Void, batch, message, now, receiving};

/// Makes a case for a size.
pub(super) type MakeSized = fn(usize) -> Case;

/// `mask` alone, and whole texts, whose bytes are checked where those of binary messages are not.
pub(super) const PARTS: [(&str, MakeSized); 4] = [
    ("codec::mask", |len| {
        let mut payload = vec![b'a'; len];
        Case::new(batch(len), move || {
            for _ in 0..batch(len) {
                codec::mask(black_box(&mut payload), [0x37, 0xfa, 0x21, 0x3d]);
            }
        })
    }),
    ("binary", |len| texts(&message(len))),
    ("text, ASCII", |len| texts(&Message::text("a".repeat(len)))),
    ("text, three bytes", |len| {
        let mut text = "€".repeat(len / 3);
        text.push_str(&"a".repeat(len % 3));
        texts(&Message::text(text))
    }),
];

/// A server reads this message, by `frame()`.
fn texts(message: &Message) -> Case {
    let (tape, frames) = Tape::repeat(message, Some([0x37, 0xfa, 0x21, 0x3d]));
    let mut reader = FrameReader::new(tape, receiving(true));
    Case::new(frames, move || {
        for _ in 0..frames {
            black_box(now(reader.frame()).unwrap().unwrap());
        }
    })
}

#[cfg(feature = "deflate")]
pub(super) const DEFLATE: [(&str, MakeSized); 4] = [
    ("deflate", |len| deflated(len, Deflate::default())),
    ("deflate, no takeover", |len| deflated(len, without_takeover())),
    ("inflate", |len| inflated(len, Deflate::default())),
    ("inflate, no takeover", |len| inflated(len, without_takeover())),
];

#[cfg(feature = "deflate")]
fn without_takeover() -> Deflate {
    Deflate::default().server_no_context_takeover(true).client_no_context_takeover(true)
}

/// Messages like those of a feed: each is new, and like those before it.
#[cfg(feature = "deflate")]
fn feed(len: usize) -> Vec<Message> {
    let mut number = 7_u32;
    let mut text = String::new();
    let mut messages = Vec::new();
    while messages.len() < batch(len) {
        while text.len() < len {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(&format!("{{\"product\":\"BTC-USD\",\"price\":\"{}\"}},", number >> 12));
        }
        let rest = text.split_off(len);
        messages.push(Message::text(std::mem::replace(&mut text, rest)));
    }
    messages
}

#[cfg(feature = "deflate")]
fn deflated(len: usize, deflate: Deflate) -> Case {
    let messages = feed(len);
    let mut writer = FrameWriter::new(Void, WrapOptions::server().deflate(deflate.threshold(0)));
    Case::new(messages.len(), move || {
        for message in &messages {
            now(writer.send(message.clone())).unwrap();
        }
    })
}

/// The tape begins anew in the middle of a context, so each run has a reader of its own.
#[cfg(feature = "deflate")]
fn inflated(len: usize, deflate: Deflate) -> Case {
    let messages = feed(len);
    let mut writer = FrameWriter::new(Vec::new(), WrapOptions::server().deflate(deflate.threshold(0)));
    for message in &messages {
        now(writer.send(message.clone())).unwrap();
    }
    let bytes = writer.into_inner();
    Case::new(messages.len(), move || {
        let mut reader = FrameReader::new(&*bytes, WrapOptions::client().deflate(deflate));
        for _ in 0..messages.len() {
            black_box(now(reader.next()).unwrap().unwrap());
        }
    })
}

pub(super) const HANDSHAKE: [(&str, MakeLem); 2] = [
    ("accept_io", || {
        const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        Case::new(1, || {
            let upgrade = now(accept_io(REQUEST, Void, AcceptOptions::default())).unwrap();
            black_box(now(upgrade.accept(Accept::default())).unwrap());
        })
    }),
    ("connect_io and accept_io", || {
        Case::new(1, || {
            let (near, far) = (Pipe::default(), Pipe::default());
            let options = Options::default().host("server.example.com").pathname("/chat");
            let client = connect_io(near.clone(), far.clone(), options);
            let server = async {
                let upgrade = accept_io(far, near, AcceptOptions::default()).await.unwrap();
                upgrade.accept(Accept::default()).await.unwrap()
            };
            let mut both = Box::pin(join(client, server));
            // Nobody is woken: each has its turn until both are done.
            let (client, server) = (0..100).find_map(|_| (&mut both).now_or_never()).unwrap();
            black_box((client.unwrap(), server));
        })
    }),
];

/// One direction, in memory.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<VecDeque<u8>>>);

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut bytes = self.0.borrow_mut();
        if bytes.is_empty() { Poll::Pending } else { Poll::Ready(bytes.read(buf)) }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().extend(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
