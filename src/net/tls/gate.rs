//! What is under the TLS stream: the socket, open in one direction at a time.
//!
//! The stream reads from its socket while it writes, and writes while it reads. With halves in two tasks that
//! would hand each task's wake-ups to the other. So, after the handshake, while the stream is polled for one
//! direction the other one is shut: it is pending and nobody is told when that changes. Reading is what only the
//! reader waits for; what reading would have to write is noted, and written afterwards in a turn of its own.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    error::{Quoted, guess_protocol},
    net::{SocketReader, SocketWriter},
    options::Role,
    socket::TlsInfo,
    sync::{Mutex, lock},
};

use super::hello::Records;

/// How many bytes a peer may send before the handshake is done. The longest chains of certificates have a fifth
/// of that.
const HANDSHAKE_LEN: usize = 256 << 10;

/// What each record counts for at least.
const MIN_RECORD_LEN: usize = 64;

/// How many bytes are read before others have their turn: the stream reads on as long as nothing comes out, and a
/// peer can send a lot of that.
const TURN_LEN: usize = 256 << 10;

/// The gate, which the stream has and its halves too. Its lock is only taken under the one of the stream, by whoever
/// polls that, and to end the connection: nobody waits for it.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Mutex<Ports>>);

#[derive(Debug)]
struct Ports {
    role: Role,
    reader: SocketReader,
    writer: SocketWriter,
    turn: Turn,
    /// How many bytes may still be read in this turn.
    left: usize,
    /// Something was to be written in a turn for reading.
    flush_due: bool,
    /// What comes during the handshake.
    incoming: Records,
    /// What a server sends during the handshake.
    outgoing: Records,
    /// Why the peer took no more of the handshake. Most likely it has said that itself, in TLS.
    hung_up: Option<io::Error>,
}

/// What the stream is polled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Handshake,
    Read,
    Write,
}

impl Gate {
    pub(super) fn new(role: Role, reader: SocketReader, writer: SocketWriter) -> Self {
        Self(Arc::new(Mutex::new(Ports {
            role,
            reader,
            writer,
            turn: Turn::Handshake,
            left: HANDSHAKE_LEN,
            flush_due: false,
            incoming: Records::default(),
            outgoing: Records::default(),
            hung_up: None,
        })))
    }

    /// Returns whether the handshake has received no byte so far.
    pub(super) fn is_silent(&self) -> bool {
        lock(&self.0).left == HANDSHAKE_LEN
    }

    /// From now on turns count. Gives what was agreed on.
    pub(super) fn end_handshake(&self) -> Option<TlsInfo> {
        let mut ports = lock(&self.0);
        ports.turn = Turn::Write;
        let (incoming, outgoing) = (std::mem::take(&mut ports.incoming), std::mem::take(&mut ports.outgoing));
        match ports.role {
            Role::Client => incoming,
            Role::Server => outgoing,
        }
        .into_info()
    }

    /// Describes a peer that does not speak TLS.
    pub(super) fn describe_stranger(&self) -> Option<String> {
        let ports = lock(&self.0);
        let first = ports.incoming.stranger()?;
        let (peer, advice) = match ports.role {
            Role::Client => ("server", "; a port without TLS has a ws:// URL"),
            Role::Server => ("client", "; its URL must begin with wss://"),
        };
        let guess = match guess_protocol(first) {
            Some(protocol) => format!("; it seems to speak {protocol}"),
            None => String::new(),
        };
        Some(format!("the {peer} does not speak TLS on this port, it sent {}{guess}{advice}", Quoted(first)))
    }

    /// Returns whether the peer has sent nothing.
    pub(super) fn heard_nothing(&self) -> bool {
        lock(&self.0).incoming.is_empty()
    }

    /// The stream is about to be polled for this.
    pub(super) fn begin(&self, turn: Turn) {
        let mut ports = lock(&self.0);
        ports.turn = turn;
        ports.left = TURN_LEN;
    }

    /// Whether something was to be written while reading, since this was asked last.
    pub(super) fn take_flush_due(&self) -> bool {
        std::mem::take(&mut lock(&self.0).flush_due)
    }

    /// The connection is over.
    pub(super) fn shutdown(&self) {
        lock(&self.0).writer.shutdown(Shutdown::Both);
    }
}

impl Ports {
    fn may_write(&mut self) -> bool {
        self.flush_due |= self.turn == Turn::Read;
        self.turn != Turn::Read
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.turn == Turn::Write {
            return Poll::Pending;
        }
        if self.left == 0 {
            if self.turn == Turn::Handshake {
                let endless = io::Error::new(io::ErrorKind::InvalidData, "the handshake has no end");
                return Poll::Ready(Err(endless));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut len = buf.len().min(self.left);
        if self.turn == Turn::Handshake {
            // No more than one record, so that the stream answers each: when it finds something wrong, it writes
            // only the first of what it has to say, which must be the alert that says so.
            len = len.min(self.incoming.missing());
        }
        let buf = buf.get_mut(..len).unwrap_or_default();
        match ready!(Pin::new(&mut self.reader).poll_read(cx, buf)) {
            Ok(0) if self.hung_up.is_some() => Poll::Ready(self.hung_up.take().map_or(Ok(0), Err)),
            Ok(count) => {
                let mut charge = count;
                if self.turn == Turn::Handshake && self.incoming.put(buf.get(..count).unwrap_or_default()) {
                    charge = charge.max(MIN_RECORD_LEN);
                }
                self.left = self.left.saturating_sub(charge);
                Poll::Ready(Ok(count))
            }
            // The stream would take it for an orderly end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.may_write() {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.writer).poll_write(cx, buf);
        if self.turn != Turn::Handshake {
            return written;
        }
        match written {
            Poll::Ready(Err(error)) => {
                self.hung_up.get_or_insert(error);
                Poll::Ready(Ok(buf.len()))
            }
            Poll::Ready(Ok(count)) => {
                if self.role == Role::Server {
                    self.outgoing.put_all(buf.get(..count).unwrap_or_default());
                }
                Poll::Ready(Ok(count))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ports = lock(&self.0);
        if ports.may_write() { Pin::new(&mut ports.writer).poll_flush(cx) } else { Poll::Pending }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ports = lock(&self.0);
        if ports.may_write() { Pin::new(&mut ports.writer).poll_close(cx) } else { Poll::Pending }
    }
}
