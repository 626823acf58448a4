//! Executors that never hang: a future that waits while nobody is going to wake it is a failure, at once.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use super::Count;

/// More polls than any test needs.
const MAX_POLLS: usize = 20_000_000;

/// Wakers that a transport was given and has not used yet.
#[derive(Clone, Default)]
pub struct Later(Arc<Mutex<Vec<Waker>>>);

impl Later {
    pub fn push(&self, waker: &Waker) {
        self.0.lock().unwrap().push(waker.clone());
    }

    /// Wakes everybody who was promised to be woken. Gives how many.
    pub fn fire(&self) -> usize {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap());
        let count = wakers.len();
        wakers.into_iter().for_each(Waker::wake);
        count
    }
}

/// Runs a future to its end. What it waits for must be in memory: whenever it is pending, its waker must have been
/// called meanwhile, or else it would wait for ever.
pub fn drive<F: Future>(future: F) -> F::Output {
    drive_with(future, &Later::default())
}

/// The same over transports that call their wakers later.
pub fn drive_with<F: Future>(future: F, later: &Later) -> F::Output {
    let mut future = pin!(future);
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for _ in 0..MAX_POLLS {
        let before = wakes.get();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        if wakes.get() == before {
            later.fire();
            assert_ne!(wakes.get(), before, "pending, and nobody is going to wake it");
        }
    }
    panic!("{MAX_POLLS} polls and no end");
}

/// The same, with polls that nobody asked for between those that the transport did.
pub fn drive_nervously<F: Future>(future: F, later: &Later) -> F::Output {
    let mut future = pin!(future);
    drive_with(
        std::future::poll_fn(|cx| {
            for _ in 0..2 {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
            }
            future.as_mut().poll(cx)
        }),
        later,
    )
}

/// Polls a future for as long as it is woken, and then no more: what happens by itself has happened.
pub fn settle<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for _ in 0..MAX_POLLS {
        let before = wakes.get();
        let polled = std::pin::Pin::new(&mut *future).poll(&mut Context::from_waker(&waker));
        if polled.is_ready() || wakes.get() == before {
            return polled;
        }
    }
    panic!("{MAX_POLLS} polls and no rest");
}

/// What one poll gives, of a future that may be dropped then.
pub fn now<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets everybody else go on once.
pub async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
