//! Who waits for what: flags, and the wakers of all tasks that hold a half.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use slab::Slab;

use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, drop_all, lock, thread_mark, wake_all};

/// The bits of one atomic.
#[derive(Debug)]
pub(crate) struct Flags;

impl Flags {
    /// Replies wait in the slots.
    pub(crate) const REPLIES: u32 = 1;
    /// Everything buffered is to be flushed.
    pub(crate) const FLUSH: u32 = 1 << 1;
    /// The timer fired, or its deadlines changed.
    pub(crate) const TIMER: u32 = 1 << 2;
    /// The connection is over.
    pub(crate) const END: u32 = 1 << 3;
    /// What the holder of the lock does before it rests.
    pub(crate) const WORK: u32 = Self::REPLIES | Self::FLUSH | Self::TIMER | Self::END;
    /// Something is buffered that nobody has flushed yet.
    pub(crate) const UNFLUSHED: u32 = 1 << 4;
    /// `Read` waits, and is to be woken when something is buffered.
    pub(crate) const PARKED: u32 = 1 << 5;
    /// `Read` was dropped.
    pub(crate) const READER_GONE: u32 = 1 << 6;
    /// Writers wait.
    pub(crate) const WAITERS: u32 = 1 << 7;
    /// Our Close frame has been accepted.
    pub(crate) const CLOSING: u32 = 1 << 8;
    /// Our Close frame has been flushed.
    pub(crate) const CLOSE_FLUSHED: u32 = 1 << 9;
    /// The transport's writing side has been ended.
    pub(crate) const SHUT: u32 = 1 << 10;
    /// The transport's writing side has failed.
    pub(crate) const WRITE_FAILED: u32 = 1 << 11;
    /// `Read` is to look why it must stop.
    pub(crate) const STOP: u32 = 1 << 12;
    /// `Read` is to judge whether the peer is dead.
    pub(crate) const SILENT: u32 = 1 << 13;
    /// Nothing can be sent any more.
    pub(crate) const CLOSED: u32 = 1 << 14;
    /// We have sent a Ping.
    pub(crate) const PINGED: u32 = 1 << 15;
}

/// Flags and wakers. As a waker itself, it is the one that the transport under the writers gets.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    flags: AtomicU32,
    /// How often the transport has said that it has room.
    transport_wakes: AtomicUsize,
    /// The mark of the thread that polls the transport, under the lock; zero: none.
    polled_by: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    read: Option<Waker>,
    /// The waiting writers, in the order in which they began to wait.
    writers: Slab<Waker>,
    /// The number of times that all writers were woken. Seats of earlier rounds are gone.
    round: u64,
}

impl Table {
    /// Returns the waker in this seat, if it was not woken since.
    fn seated(&mut self, seat: &Seat) -> Option<&mut Waker> {
        if seat.round == self.round { self.writers.get_mut(seat.key) } else { None }
    }
}

impl Default for Table {
    fn default() -> Self {
        // Starts at 1, so that a default seat (round 0) is never current.
        Self { read: None, writers: Slab::new(), round: 1 }
    }
}

/// The place of one writer's waker in the table, which avoids a search.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    round: u64,
    key: usize,
}

impl Signals {
    /// Whether one of these flags is up. A hint: it may be old.
    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Acquire) & flags != 0
    }

    /// The flags as they are now. As a read-modify-write it is ordered with those of all others: of two who each
    /// raise or unlock something and then look, at least one sees what the other did.
    #[inline]
    pub(crate) fn look(&self) -> u32 {
        self.flags.fetch_or(0, Ordering::AcqRel)
    }

    /// Gives the flags as they were.
    #[inline]
    pub(crate) fn raise(&self, flags: u32) -> u32 {
        self.flags.fetch_or(flags, Ordering::AcqRel)
    }

    /// Gives the flags as they were.
    #[inline]
    pub(crate) fn clear(&self, flags: u32) -> u32 {
        self.flags.fetch_and(!flags, Ordering::AcqRel)
    }

    /// How often the transport has said that it has room.
    #[inline]
    pub(crate) fn transport_wakes(&self) -> usize {
        self.transport_wakes.load(Ordering::Acquire)
    }

    /// Marks that this thread polls the transport, until the guard is dropped. A wake-up by this thread during the poll
    /// is only counted, because wakers must not run under the transport's lock. A wake-up by another thread, which does
    /// not have the lock, runs the wakers. If the count has changed, the polling thread must wake all tasks after the
    /// unlock.
    ///
    /// No order is needed: a thread always sees what it has stored itself.
    #[inline]
    pub(crate) fn begin_poll(&self) -> Polling<'_> {
        self.polled_by.store(thread_mark(), Ordering::Relaxed);
        Polling(self)
    }

    /// `Read` is about to wait. Gives the flags as they were before it said so.
    pub(crate) fn park_read(&self, waker: &Waker) -> u32 {
        let is_known = lock(&self.table).read.as_ref().is_some_and(|known| known.will_wake(waker));
        if !is_known {
            // Wakers are cloned and dropped outside the lock, because both run code of the executor.
            let waker = waker.clone();
            let replaced = lock(&self.table).read.replace(waker);
            drop_all(replaced);
        }
        self.raise(Flags::PARKED)
    }

    pub(crate) fn forget_read(&self) {
        let waker = lock(&self.table).read.take();
        drop_all(waker);
    }

    /// Parks a writer. Afterwards it must check again whether it has to wait.
    pub(crate) fn park_writer(&self, seat: &mut Seat, waker: &Waker) {
        let waker = waker.clone();
        let replaced = {
            let mut table = lock(&self.table);
            let replaced = if let Some(seated) = table.seated(seat) {
                Some(std::mem::replace(seated, waker))
            } else {
                *seat = Seat { round: table.round, key: table.writers.insert(waker) };
                None
            };
            self.raise(Flags::WAITERS);
            replaced
        };
        drop_all(replaced);
    }

    /// Removes a writer that no longer waits.
    pub(crate) fn forget_writer(&self, seat: &Seat) {
        if seat.round == 0 {
            return;
        }
        let forgotten = {
            let mut table = lock(&self.table);
            if table.seated(seat).is_some() { table.writers.try_remove(seat.key) } else { None }
        };
        drop_all(forgotten);
    }

    pub(crate) fn wake_read(&self) {
        let waker = lock(&self.table).read.take();
        wake_all(waker);
    }

    pub(crate) fn wake_writers(&self) {
        if self.has(Flags::WAITERS) {
            let writers = {
                let mut table = lock(&self.table);
                self.clear(Flags::WAITERS);
                table.round += 1;
                std::mem::take(&mut table.writers)
            };
            wake_all(writers.into_iter().map(|(_, waker)| waker));
        }
    }

    fn wake_all(&self) {
        self.wake_read();
        self.wake_writers();
    }
}

/// The guard of a poll of the transport.
pub(crate) struct Polling<'a>(&'a Signals);

impl Drop for Polling<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.polled_by.store(0, Ordering::Relaxed);
    }
}

impl Wake for Signals {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.transport_wakes.fetch_add(1, Ordering::AcqRel);
        if self.polled_by.load(Ordering::Relaxed) == thread_mark() {
            return;
        }
        // A read-modify-write: a writer that has just put itself into the table either is seen here or sees the new
        // count.
        self.look();
        self.wake_all();
    }
}

/// The waker that the timer gets.
pub(crate) struct TimerWaker(pub(crate) Arc<Signals>);

impl Wake for TimerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.raise(Flags::TIMER);
        self.0.wake_all();
    }
}
