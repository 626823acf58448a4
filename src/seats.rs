//! How many may be there at once.

use std::{fmt, sync::Arc};

use crate::{
    callers::Callers,
    sync::{AtomicUsize, Ordering},
};

/// A number of seats, some of them taken.
pub(crate) struct Seats {
    most: usize,
    taken: AtomicUsize,
    /// The callers to wake when a seat becomes free.
    freed: Arc<Callers>,
}

impl Seats {
    pub(crate) fn new(most: usize, freed: &Arc<Callers>) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), freed: Arc::clone(freed) })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.taken() >= self.most
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Takes a seat. Whether there is one, the caller has asked before.
    pub(crate) fn take(self: &Arc<Self>) -> Seat {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Seat(Arc::clone(self))
    }
}

/// A seat that is taken until this is dropped.
pub(crate) struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.wake_all();
    }
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.taken(), self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    #[test]
    fn seat_is_free_again_once_dropped_and_those_who_wait_are_told() {
        let freed = Arc::<Callers>::default();
        let seats = Seats::new(2, &freed);
        let (first, second) = (seats.take(), seats.take());
        assert!(seats.is_full());
        let cx = Context::from_waker(Waker::noop());
        let (one, other) = (freed.enter(), freed.enter());
        for caller in [&one, &other] {
            caller.register(cx.waker());
            assert!(caller.poll_woken(&cx).is_pending());
        }
        drop(first);
        assert!([&one, &other].iter().all(|caller| caller.poll_woken(&cx).is_ready()));
        assert_eq!((seats.taken(), seats.is_full()), (1, false));
        drop(second);
        assert_eq!(seats.taken(), 0);
        assert!(Seats::new(0, &freed).is_full());
    }
}
