//! A transport in memory that is always ready, for every kind of trait that a library may ask for.

use std::{
    cell::{Cell, RefCell},
    hint::black_box,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::ReadBuf;

thread_local! {
    static WRITTEN: Cell<u64> = const { Cell::new(0) };
    static CAPTURED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives the same bytes over and over, and takes everything.
#[derive(Debug)]
pub(crate) struct Memory {
    tape: &'static [u8],
    position: usize,
    captures: bool,
}

impl Memory {
    /// `tape` ends with a whole frame.
    pub(crate) fn reading(tape: &'static [u8]) -> Self {
        Self { tape, position: 0, captures: false }
    }

    /// Has nothing to read. What is written is counted, and kept if `captures`.
    pub(crate) fn writing(captures: bool) -> Self {
        Self { tape: &[], position: 0, captures }
    }

    fn take(&mut self, len: usize) -> &'static [u8] {
        let rest = &self.tape[self.position..];
        let part = &rest[..rest.len().min(len)];
        self.position = (self.position + part.len()) % self.tape.len().max(1);
        part
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        WRITTEN.set(WRITTEN.get() + bytes.len() as u64);
        if self.captures {
            CAPTURED.with_borrow_mut(|captured| captured.extend_from_slice(bytes));
        }
        black_box(bytes).len()
    }

    fn put_all(&mut self, parts: &[IoSlice<'_>]) -> usize {
        parts.iter().map(|part| self.put(part)).sum()
    }
}

/// How many bytes were written on this thread since this was asked last.
pub(crate) fn take_written() -> u64 {
    WRITTEN.replace(0)
}

pub(crate) fn take_captured() -> Vec<u8> {
    CAPTURED.take()
}

impl io::Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let part = self.take(buf.len());
        buf[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

impl io::Write for Memory {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(self.put(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.put_all(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl futures::io::AsyncRead for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Read::read(&mut *self, buf))
    }
}

impl futures::io::AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put(buf)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put_all(bufs)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let part = self.take(buf.remaining());
        buf.put_slice(part);
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put(buf)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put_all(bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl wtx::stream::StreamReader for Memory {
    async fn read(&mut self, bytes: &mut [u8]) -> wtx::Result<usize> {
        Ok(io::Read::read(self, bytes)?)
    }
}

impl wtx::stream::StreamWriter for Memory {
    async fn write_all(&mut self, bytes: &[u8]) -> wtx::Result<()> {
        self.put(bytes);
        Ok(())
    }

    async fn write_all_vectored(&mut self, parts: &[&[u8]]) -> wtx::Result<()> {
        for part in parts {
            self.put(part);
        }
        Ok(())
    }
}
