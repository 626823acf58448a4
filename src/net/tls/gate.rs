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
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    net::{SocketReader, SocketWriter},
    socket::TlsInfo,
};

use super::hello::Records;

/// How many bytes a server may send before the handshake is done. The longest chains of certificates have a fifth
/// of that.
const HANDSHAKE_LEN: usize = 256 << 10;

/// What each record counts for at least.
const MIN_RECORD_LEN: usize = 64;

/// How many bytes are read before others have their turn: the stream reads on as long as nothing comes out, and a
/// peer can send a lot of that.
const TURN_LEN: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Gate {
    reader: SocketReader,
    writer: SocketWriter,
    turn: Turn,
    /// How many bytes may still be read in this turn.
    left: usize,
    /// Something was to be written in a turn for reading.
    flush_due: bool,
    /// What comes during the handshake.
    records: Records,
    /// Why the server took no more of the handshake. Most likely it has said that itself, in TLS.
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
    pub(super) fn new(reader: SocketReader, writer: SocketWriter) -> Self {
        let (turn, left) = (Turn::Handshake, HANDSHAKE_LEN);
        Self { reader, writer, turn, left, flush_due: false, records: Records::default(), hung_up: None }
    }

    /// From now on turns count. Gives what was agreed on.
    pub(super) fn end_handshake(&mut self) -> Option<TlsInfo> {
        self.turn = Turn::Write;
        std::mem::take(&mut self.records).into_hello()
    }

    /// The stream is about to be polled for this.
    pub(super) fn begin(&mut self, turn: Turn) {
        self.turn = turn;
        self.left = TURN_LEN;
    }

    /// Whether something was to be written while reading, since this was asked last.
    pub(super) fn take_flush_due(&mut self) -> bool {
        std::mem::take(&mut self.flush_due)
    }

    /// The connection is over.
    pub(super) fn shutdown(&self) {
        self.writer.shutdown(Shutdown::Both);
    }

    fn may_write(&mut self) -> bool {
        self.flush_due |= self.turn == Turn::Read;
        self.turn != Turn::Read
    }
}

impl AsyncRead for Gate {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.turn == Turn::Write {
            return Poll::Pending;
        }
        if this.left == 0 {
            if this.turn == Turn::Handshake {
                let endless = io::Error::new(io::ErrorKind::InvalidData, "the handshake has no end");
                return Poll::Ready(Err(endless));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut len = buf.len().min(this.left);
        if this.turn == Turn::Handshake {
            // No more than one record, so that the stream answers each: when it finds something wrong, it writes
            // only the first of what it has to say, which must be the alert that says so.
            len = len.min(this.records.missing());
        }
        let buf = buf.get_mut(..len).unwrap_or_default();
        match ready!(Pin::new(&mut this.reader).poll_read(cx, buf)) {
            Ok(0) if this.hung_up.is_some() => Poll::Ready(this.hung_up.take().map_or(Ok(0), Err)),
            Ok(count) => {
                let mut charge = count;
                if this.turn == Turn::Handshake && this.records.put(buf.get(..count).unwrap_or_default()) {
                    charge = charge.max(MIN_RECORD_LEN);
                }
                this.left = this.left.saturating_sub(charge);
                Poll::Ready(Ok(count))
            }
            // The stream would take it for an orderly end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.may_write() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.writer).poll_write(cx, buf) {
            Poll::Ready(Err(error)) if self.turn == Turn::Handshake => {
                self.hung_up.get_or_insert(error);
                Poll::Ready(Ok(buf.len()))
            }
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.may_write() { Pin::new(&mut self.writer).poll_flush(cx) } else { Poll::Pending }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.may_write() { Pin::new(&mut self.writer).poll_close(cx) } else { Poll::Pending }
    }
}
