//! Transports that fail, end, stall and split as they are told.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite};

use super::drive::Later;

/// What happens once so many bytes have gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// From now on every call fails.
    Error,
    /// From now on nothing is given, or taken, any more.
    End,
    /// So many times the task is woken in vain.
    Stall(usize),
    /// So many calls are interrupted.
    Interrupted(usize),
}

/// How a transport behaves while nothing is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most bytes of one call.
    pub chunk: usize,
    /// Whether each call has to be made twice.
    pub pauses: bool,
}

impl Pace {
    pub const FAST: Self = Self { chunk: usize::MAX, pauses: false };
    pub const SLOW: Self = Self { chunk: 1, pauses: true };
}

/// What one direction has to go through.
struct Gate {
    pace: Pace,
    paused: bool,
    passed: usize,
    fault: Option<(usize, Fault)>,
    later: Later,
}

impl Gate {
    /// How many bytes may pass now.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        if self.pace.pauses {
            self.paused = !self.paused;
            if self.paused {
                self.later.push(cx.waker());
                return Poll::Pending;
            }
        }
        let Some((at, fault)) = &mut self.fault else {
            return Poll::Ready(Ok(self.pace.chunk));
        };
        if self.passed < *at {
            return Poll::Ready(Ok(self.pace.chunk.min(*at - self.passed)));
        }
        match fault {
            Fault::Error => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Fault::End => return Poll::Ready(Ok(0)),
            Fault::Stall(0) | Fault::Interrupted(0) => self.fault = None,
            Fault::Stall(times) => {
                *times -= 1;
                self.later.push(cx.waker());
                return Poll::Pending;
            }
            Fault::Interrupted(times) => {
                *times -= 1;
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
        }
        Poll::Ready(Ok(self.pace.chunk))
    }
}

/// Gives these bytes, then the end.
pub struct FaultyRead {
    bytes: Vec<u8>,
    gate: Gate,
}

impl FaultyRead {
    pub fn new(bytes: Vec<u8>, pace: Pace, fault: Option<(usize, Fault)>, later: &Later) -> Self {
        let later = later.clone();
        Self { bytes, gate: Gate { pace, paused: false, passed: 0, fault, later } }
    }
}

impl AsyncRead for FaultyRead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = std::task::ready!(this.gate.poll(cx))?;
        let rest = &this.bytes[this.gate.passed..];
        let count = rest.len().min(buf.len()).min(most);
        buf[..count].copy_from_slice(&rest[..count]);
        this.gate.passed += count;
        Poll::Ready(Ok(count))
    }
}

/// What a [`FaultyWrite`] has taken.
#[derive(Clone, Default)]
pub struct Taken(Arc<Mutex<TakenState>>);

#[derive(Default)]
struct TakenState {
    bytes: Vec<u8>,
    calls: usize,
    vectored: usize,
    flushes: usize,
    closed: bool,
}

impl Taken {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    /// How many writes there were.
    pub fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    /// How many writes had more than one slice.
    pub fn vectored(&self) -> usize {
        self.0.lock().unwrap().vectored
    }

    pub fn flushes(&self) -> usize {
        self.0.lock().unwrap().flushes
    }

    pub fn is_closed(&self) -> bool {
        self.0.lock().unwrap().closed
    }
}

/// Takes bytes, across the slices of a vectored write too.
pub struct FaultyWrite {
    taken: Taken,
    gate: Gate,
}

impl FaultyWrite {
    pub fn new(pace: Pace, fault: Option<(usize, Fault)>, later: &Later) -> (Self, Taken) {
        let later = later.clone();
        let taken = Taken::default();
        (Self { taken: taken.clone(), gate: Gate { pace, paused: false, passed: 0, fault, later } }, taken)
    }
}

impl AsyncWrite for FaultyWrite {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut most = std::task::ready!(self.gate.poll(cx))?;
        let mut count = 0;
        {
            let mut taken = self.taken.0.lock().unwrap();
            assert!(!taken.closed, "a write after the end");
            taken.calls += 1;
            taken.vectored += usize::from(slices.len() > 1);
            for slice in slices {
                let part = &slice[..slice.len().min(most)];
                taken.bytes.extend_from_slice(part);
                most -= part.len();
                count += part.len();
            }
        }
        self.gate.passed += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.gate.poll(cx))?;
        self.taken.0.lock().unwrap().flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.gate.poll(cx))?;
        self.taken.0.lock().unwrap().closed = true;
        Poll::Ready(Ok(()))
    }
}
