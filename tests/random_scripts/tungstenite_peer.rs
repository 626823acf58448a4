//! Tungstenite as the peer: it reads, answers, and sends some messages of its own.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use fastrand::Rng;
use futures::{AsyncRead, AsyncWrite, future::poll_fn};
use tungstenite::{Error, Message, WebSocket, error::ProtocolError, protocol::Role};

use super::{
    executor::Task,
    ledger::{Ledger, State},
    script::length,
    transport::{ReadEnd, WriteEnd},
};

thread_local! {
    /// The waker of the task that polls tungstenite now.
    static WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Pending becomes `WouldBlock`.
struct Blocking(ReadEnd, WriteEnd);

fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    let waker = WAKER.with(|waker| waker.borrow().clone()).unwrap();
    match poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Blocking {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        now(|cx| Pin::new(&mut self.0).poll_read(cx, buf))
    }
}

impl io::Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(|cx| Pin::new(&mut self.1).poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(|cx| Pin::new(&mut self.1).poll_flush(cx))
    }
}

struct Endpoint {
    socket: WebSocket<Blocking>,
    ledger: Rc<Ledger>,
    side: usize,
    rng: Rng,
    to_send: usize,
}

pub(crate) fn task(r: ReadEnd, w: WriteEnd, ledger: Rc<Ledger>, side: usize, mut rng: Rng) -> Task {
    let role = if side == 0 { Role::Client } else { Role::Server };
    let socket = WebSocket::from_raw_socket(Blocking(r, w), role, None);
    ledger.add_clone(side);
    let to_send = rng.usize(0..40);
    let mut endpoint = Endpoint { socket, ledger, side, rng, to_send };
    Box::pin(poll_fn(move |cx| {
        WAKER.with(|waker| *waker.borrow_mut() = Some(cx.waker().clone()));
        for _ in 0..400 {
            if let Some(poll) = endpoint.step(cx) {
                return poll;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Endpoint {
    /// Sends something, perhaps, and reads once.
    fn step(&mut self, cx: &Context<'_>) -> Option<Poll<()>> {
        if self.to_send > 0 && self.rng.bool() && self.socket.can_write() && !self.ledger.over.get() {
            self.to_send -= 1;
            self.send();
        }
        match self.socket.read() {
            Ok(Message::Text(text)) => self.ledger.on_arrival(1 - self.side, text.as_bytes(), true),
            Ok(Message::Binary(bytes)) => self.ledger.on_arrival(1 - self.side, &bytes, false),
            Ok(Message::Close(_)) => self.ledger.closed.set(true),
            Ok(_) => {}
            Err(error) if would_block(&error) => {
                if let Err(Error::ConnectionClosed) = self.socket.flush() {
                    return Some(self.end());
                }
                if self.to_send > 0 && self.socket.can_write() {
                    cx.waker().wake_by_ref();
                }
                return Some(Poll::Pending);
            }
            Err(Error::ConnectionClosed) => return Some(self.end()),
            // A Pong may come behind our Close (RFC 6455 §5.5.2), which tungstenite does not expect.
            Err(Error::Protocol(ProtocolError::ReceivedAfterClosing)) => return Some(self.end()),
            Err(error) => {
                if !self.ledger.broken.get() && !self.ledger.over.get() {
                    self.ledger.fault(format!("tungstenite: {error:?}"));
                }
                return Some(self.end());
            }
        }
        None
    }

    fn end(&self) -> Poll<()> {
        self.ledger.sides[self.side].ended.set(true);
        Poll::Ready(())
    }

    fn send(&mut self) {
        let text = self.rng.bool();
        match self.rng.u8(0..8) {
            0 => drop(self.socket.write(Message::Ping(vec![b'p'; self.rng.usize(0..125)].into()))),
            1 if self.ledger.settings.closes && self.rng.u8(0..4) == 0 => {
                self.ledger.closed.set(true);
                drop(self.socket.close(None));
                self.to_send = 0;
            }
            _ => {
                let len = length(&mut self.rng, &self.ledger.settings).max(6);
                let (number, bytes) = self.ledger.new_message(self.side, 0, len, text);
                let message = if text {
                    Message::text(String::from_utf8(bytes).unwrap())
                } else {
                    Message::binary(bytes)
                };
                let state = match self.socket.write(message) {
                    Ok(()) => State::Flushed,
                    Err(error) if would_block(&error) => State::Flushed,
                    Err(_) => State::Maybe,
                };
                self.ledger.set(self.side, 0, number, state);
            }
        }
    }
}
