//! The transport of the writers.

use std::{
    cell::{Ref, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use futures::AsyncWrite;

use super::{Slices, Taking};

/// After this many writes the transport takes everything, so that scripts with bytes taken one by one end soon.
const MAX_WRITES: usize = 300;

/// The bytes that the transport has taken, and its next steps.
#[derive(Default)]
struct Wire {
    taken: Vec<u8>,
    /// The number of flushed bytes.
    flushed: usize,
    takes: Vec<Taking>,
    slices: Slices,
    calls: usize,
    writes: usize,
    was_pending: bool,
    later: Vec<Waker>,
}

impl Wire {
    /// Returns the number of bytes it takes now. It is never pending twice in a row.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let taking = match self.takes.len() {
            0 => Taking::Bytes(usize::MAX),
            _ if self.writes > MAX_WRITES => Taking::Bytes(usize::MAX),
            count => self.takes[self.calls % count],
        };
        self.calls += 1;
        let was_pending = std::mem::take(&mut self.was_pending);
        match taking {
            Taking::Bytes(count) => Poll::Ready(Ok(count)),
            _ if was_pending => Poll::Ready(Ok(usize::MAX)),
            taking => {
                self.was_pending = true;
                match taking {
                    Taking::Later => self.later.push(cx.waker().clone()),
                    Taking::Again => cx.waker().wake_by_ref(),
                    _ => return Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
                }
                Poll::Pending
            }
        }
    }

    fn take(&mut self, slices: &[IoSlice<'_>], mut most: usize) -> usize {
        let only_first = match self.slices {
            Slices::All => false,
            Slices::First => true,
            Slices::Mixed => self.writes % 2 == 1,
        };
        self.writes += 1;
        let before = self.taken.len();
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let part = &slice[..slice.len().min(most)];
            self.taken.extend_from_slice(part);
            most -= part.len();
            if only_first || most == 0 {
                break;
            }
        }
        self.taken.len() - before
    }
}

#[derive(Clone)]
pub(super) struct Transport(Rc<RefCell<Wire>>);

impl Transport {
    pub(super) fn new(takes: Vec<Taking>, slices: Slices) -> Self {
        Self(Rc::new(RefCell::new(Wire { takes, slices, ..Wire::default() })))
    }

    pub(super) fn taken(&self) -> Ref<'_, [u8]> {
        Ref::map(self.0.borrow(), |wire| &*wire.taken)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.borrow_mut().taken);
    }

    pub(super) fn flushed_len(&self) -> usize {
        self.0.borrow().flushed
    }

    /// Does the wake-ups that were promised. Says whether there were any.
    pub(super) fn wake(&self) -> bool {
        let promised = std::mem::take(&mut self.0.borrow_mut().later);
        let any = !promised.is_empty();
        promised.into_iter().for_each(Waker::wake);
        any
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let most = ready!(wire.poll(cx))?;
        Poll::Ready(Ok(wire.take(slices, most)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        ready!(wire.poll(cx))?;
        wire.flushed = wire.taken.len();
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
