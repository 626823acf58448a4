//! Callers in several tasks that wait for the same event. Each may be dropped, or never be polled again, at any time.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use slab::Slab;

use crate::sync::{Mutex, lock, wake_all};

/// The wakers of the waiting callers. This is a waker itself and wakes all of them, because a single one might never be
/// polled again.
#[derive(Default)]
pub(crate) struct Callers(Mutex<Slab<Option<Waker>>>);

/// One registered caller. Dropping it removes its waker.
pub(crate) struct Caller<'a> {
    callers: &'a Callers,
    key: usize,
}

impl Callers {
    pub(crate) fn enter(&self) -> Caller<'_> {
        Caller { callers: self, key: lock(&self.0).insert(None) }
    }

    pub(crate) fn wake_all(&self) {
        let wakers: Vec<_> = lock(&self.0).iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wake_all(wakers);
    }
}

impl Wake for Callers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

impl Caller<'_> {
    /// Registers the caller for the next wake-up. Wakers are cloned and dropped without the lock.
    pub(crate) fn register(&self, waker: &Waker) {
        let waker = waker.clone();
        let replaced = lock(&self.callers.0).get_mut(self.key).and_then(|known| known.replace(waker));
        drop(replaced);
    }

    /// Waits until the callers are woken. A wake-up after [`register`](Self::register) counts.
    pub(crate) fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let replaced = match lock(&self.callers.0).get_mut(self.key) {
            Some(Some(known)) => Some(mem::replace(known, waker)),
            _ => None,
        };
        if replaced.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let waker = lock(&self.callers.0).try_remove(self.key);
        drop(waker);
    }
}
