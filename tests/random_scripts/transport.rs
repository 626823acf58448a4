//! A pipe that takes and gives random parts, answers Pending at random, and keeps the wake-ups that it promised until
//! the executor fires them.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read as _},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use fastrand::Rng;
use futures::{AsyncRead, AsyncWrite};

/// Wake-ups that transports have promised. The executor fires them one by one, at random.
#[derive(Clone, Default)]
pub(crate) struct Promised(Arc<Mutex<VecDeque<Waker>>>);

impl Promised {
    fn add(&self, waker: &Waker) {
        self.0.lock().unwrap().push_back(waker.clone());
    }

    /// Fires the oldest. `false`: there is none.
    pub(crate) fn fire(&self) -> bool {
        let waker = self.0.lock().unwrap().pop_front();
        waker.map(Waker::wake).is_some()
    }
}

/// The behaviour of a pipe.
pub(crate) struct Manners {
    pub(crate) capacity: usize,
    /// The most bytes of one call.
    pub(crate) most: usize,
    /// In how many of 256 calls it is Pending without a reason.
    pub(crate) hesitates: u8,
    /// `true` if it takes more than the first slice.
    pub(crate) vectored: bool,
    /// The number of bytes after which it fails, for the reader and for the writer.
    pub(crate) read_fails_at: usize,
    pub(crate) write_fails_at: usize,
}

pub(crate) struct Pipe {
    manners: Manners,
    bytes: VecDeque<u8>,
    /// All bytes written so far.
    pub(crate) written: Vec<u8>,
    taken: usize,
    ended: bool,
    reader_gone: bool,
    killed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    rng: Rng,
    promised: Promised,
    /// The forbidden calls that the writer made.
    pub(crate) fault: Option<&'static str>,
}

/// Both ends. It is only locked for a moment, never while a waker runs.
#[derive(Clone)]
pub(crate) struct SharedPipe(pub(crate) Arc<Mutex<Pipe>>);

impl SharedPipe {
    pub(crate) fn new(manners: Manners, rng: Rng, promised: &Promised) -> Self {
        Self(Arc::new(Mutex::new(Pipe {
            manners,
            bytes: VecDeque::new(),
            written: Vec::new(),
            taken: 0,
            ended: false,
            reader_gone: false,
            killed: false,
            reader: None,
            writer: None,
            rng,
            promised: promised.clone(),
            fault: None,
        })))
    }

    /// The transport ends for both.
    pub(crate) fn kill(&self) {
        self.change(|pipe| (pipe.killed, pipe.ended) = (true, true));
    }

    /// Returns all bytes written after the head of a handshake.
    pub(crate) fn frames(&self) -> Vec<u8> {
        let written = self.0.lock().unwrap().written.clone();
        if !written.starts_with(b"GET ") && !written.starts_with(b"HTTP") {
            return written;
        }
        let end = written.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        end.map_or(Vec::new(), |end| written[end + 4..].to_vec())
    }

    /// Changes something, then wakes both ends.
    fn change<T>(&self, work: impl FnOnce(&mut Pipe) -> T) -> T {
        let mut pipe = self.0.lock().unwrap();
        let done = work(&mut pipe);
        let wakers = [pipe.reader.take(), pipe.writer.take()];
        drop(pipe);
        wakers.into_iter().flatten().for_each(Waker::wake);
        done
    }
}

impl Pipe {
    fn hesitates(&mut self, cx: &Context<'_>) -> bool {
        if self.rng.u8(..) >= self.manners.hesitates {
            return false;
        }
        if self.rng.u8(..) < 60 {
            cx.waker().wake_by_ref();
        } else {
            self.promised.add(cx.waker());
        }
        true
    }

    /// Draws the number of available bytes that pass now.
    fn part(&mut self, len: usize) -> usize {
        let len = len.min(self.manners.most);
        match self.rng.u8(0..6) {
            _ if len <= 1 => len,
            0 => 1,
            1 => self.rng.usize(1..=len),
            2 => len.min(self.rng.usize(1..=16)),
            3 => len - 1,
            _ => len,
        }
    }
}

pub(crate) struct ReadEnd(pub(crate) SharedPipe);
pub(crate) struct WriteEnd(pub(crate) SharedPipe);

impl AsyncRead for ReadEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.0.lock().unwrap();
        if pipe.taken >= pipe.manners.read_fails_at {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.killed {
            return Poll::Ready(Ok(0));
        }
        if pipe.hesitates(cx) {
            return Poll::Pending;
        }
        if pipe.bytes.is_empty() {
            if pipe.ended {
                return Poll::Ready(Ok(0));
            }
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = pipe.bytes.len().min(out.len());
        let len = pipe.part(len);
        pipe.bytes.read_exact(&mut out[..len]).unwrap();
        pipe.taken += len;
        let writer = pipe.writer.take();
        drop(pipe);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(len))
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        self.0.change(|pipe| pipe.reader_gone = true);
    }
}

impl WriteEnd {
    fn write(&self, cx: &Context<'_>, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.0.lock().unwrap();
        let fails = pipe.written.len() >= pipe.manners.write_fails_at;
        if fails || pipe.reader_gone || pipe.killed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.ended {
            pipe.fault = Some("a write behind the end");
        }
        if pipe.hesitates(cx) {
            return Poll::Pending;
        }
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        if all == 0 {
            pipe.fault = Some("a write of nothing");
        }
        let room = pipe.manners.capacity - pipe.bytes.len();
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = pipe.part(room.min(all));
        let mut left = len;
        for slice in slices {
            let part = &slice[..left.min(slice.len())];
            pipe.bytes.extend(part);
            pipe.written.extend(part);
            left -= part.len();
        }
        let reader = pipe.reader.take();
        drop(pipe);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for WriteEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, &[bytes])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = if self.0.0.lock().unwrap().manners.vectored { slices.len() } else { 1 };
        let filled: Vec<&[u8]> =
            slices.iter().map(|slice| &**slice).filter(|slice| !slice.is_empty()).take(count).collect();
        self.write(cx, &filled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.0.lock().unwrap();
        if pipe.written.len() >= pipe.manners.write_fails_at {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.hesitates(cx) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.0.lock().unwrap().hesitates(cx) {
            return Poll::Pending;
        }
        self.0.change(|pipe| pipe.ended = true);
        Poll::Ready(Ok(()))
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        self.0.change(|pipe| pipe.ended = true);
    }
}
