//! The wakers of a TLS stream's halves, and wake-ups deferred while its locks are held.
//!
//! The stream and its socket are polled under locks, and a socket may run a waker during the poll: when it yields to
//! other tasks, or when it replaces an earlier waker. Therefore they never get a waker of the caller, but one that
//! stands for it. A wake-up from inside a poll is noted and passed on after the locks are released.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

use crate::sync::{AtomicU32, AtomicUsize, Ordering, thread_mark, wake_all};

/// Wake the reader.
const READ: u32 = 1;
/// The socket has room: wake the writer, and the reader if it waits for room.
const ROOM: u32 = 1 << 1;
/// The reader waits for room, because records that TLS sends by itself are not out yet.
const READER_NEEDS_ROOM: u32 = 1 << 2;

#[derive(Default)]
struct Wakers {
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// The deferred wake-ups, and whether the reader waits for room.
    flags: AtomicU32,
    /// The mark of the thread that polls under the locks; zero if none does.
    polled_by: AtomicUsize,
}

/// The wakers of both halves, and the wakers that stand for them.
pub(super) struct Relay {
    wakers: Arc<Wakers>,
    read: Waker,
    room: Waker,
}

struct ReadWaker(Arc<Wakers>);
struct RoomWaker(Arc<Wakers>);

impl Relay {
    pub(super) fn new() -> Self {
        let wakers = Arc::<Wakers>::default();
        let read = Arc::new(ReadWaker(Arc::clone(&wakers))).into();
        let room = Arc::new(RoomWaker(Arc::clone(&wakers))).into();
        Self { wakers, read, room }
    }

    /// Registers the reader's waker. Must be called without the locks, like every method that takes or runs a waker of
    /// the caller.
    pub(super) fn register_reader(&self, waker: &Waker) {
        self.wakers.reader.register(waker);
    }

    pub(super) fn register_writer(&self, waker: &Waker) {
        self.wakers.writer.register(waker);
    }

    pub(super) fn forget_reader(&self) {
        drop(self.wakers.reader.take());
    }

    pub(super) fn forget_writer(&self) {
        drop(self.wakers.writer.take());
    }

    /// Returns a context whose waker stands for the reader's.
    pub(super) fn read_cx(&self) -> Context<'_> {
        Context::from_waker(&self.read)
    }

    /// Returns a context whose waker stands for all tasks that wait for room in the socket.
    pub(super) fn room_cx(&self) -> Context<'_> {
        Context::from_waker(&self.room)
    }

    pub(super) fn set_reader_needs_room(&self, needs: bool) {
        if needs {
            self.wakers.flags.fetch_or(READER_NEEDS_ROOM, Ordering::AcqRel);
        } else {
            self.wakers.flags.fetch_and(!READER_NEEDS_ROOM, Ordering::AcqRel);
        }
    }

    /// Defers wake-ups by this thread from now on. Must be called under the lock.
    pub(super) fn begin_poll(&self) {
        // No order is needed: a thread always sees what it has stored itself.
        self.wakers.polled_by.store(thread_mark(), Ordering::Relaxed);
    }

    /// Ends the deferral. Must be called under the lock.
    pub(super) fn end_poll(&self) {
        self.wakers.polled_by.store(0, Ordering::Relaxed);
    }

    /// Passes on the deferred wake-ups.
    pub(super) fn catch_up(&self) {
        if self.wakers.flags.load(Ordering::Acquire) & (READ | ROOM) != 0 {
            let flags = self.wakers.flags.fetch_and(!(READ | ROOM), Ordering::AcqRel);
            self.wakers.run(flags & (READ | ROOM));
        }
    }

    /// Polls a future that takes the locks itself, such as a handshake, with a waker that stands for the reader's.
    pub(super) fn poll_with<T>(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.register_reader(cx.waker());
        self.begin_poll();
        let polled = poll(&mut self.read_cx());
        self.end_poll();
        self.catch_up();
        polled
    }
}

impl Wakers {
    fn wake(&self, whom: u32) {
        if self.polled_by.load(Ordering::Relaxed) == thread_mark() {
            self.flags.fetch_or(whom, Ordering::AcqRel);
        } else {
            self.run(whom);
        }
    }

    fn run(&self, whom: u32) {
        let has_room = whom & ROOM != 0;
        let writer = if has_room { self.writer.take() } else { None };
        let reads = whom & READ != 0
            || has_room
                && self.flags.fetch_and(!READER_NEEDS_ROOM, Ordering::AcqRel) & READER_NEEDS_ROOM != 0;
        let reader = if reads { self.reader.take() } else { None };
        wake_all([writer, reader].into_iter().flatten());
    }
}

impl Wake for ReadWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake(READ);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake(READ);
    }
}

impl Wake for RoomWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake(ROOM);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake(ROOM);
    }
}
