//! Locks and atomics: those of the standard library, or those of the model checker.

#[cfg(coro_websocket_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(not(coro_websocket_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{PoisonError, TryLockError},
    task::Waker,
};

/// Waits for a lock that nobody holds across an await. Whoever panicked with it left whole frames behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Runs a waker or a destructor of the caller. Catches its panic, which must not affect other wakers and destructors or
/// the task that runs them. The panic hook has reported it.
pub(crate) fn isolate(work: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(work));
}

/// Wakes all of them, even if a waker panics.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        isolate(|| waker.wake());
    }
}

/// Drops all of them, even if a destructor panics.
pub(crate) fn drop_all<T>(items: impl IntoIterator<Item = T>) {
    for item in items {
        isolate(|| drop(item));
    }
}

/// A number that no other thread has while this one lives; never zero.
#[cfg(not(coro_websocket_loom))]
#[inline]
pub(crate) fn thread_mark() -> usize {
    // The address of something that each thread has. Another one gets the same only once this one has ended.
    thread_local! {
        static MARK: [u8; 1] = const { [0] };
    }
    MARK.with(|mark| mark.as_ptr().addr())
}

#[cfg(coro_websocket_loom)]
pub(crate) fn thread_mark() -> usize {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    hasher.hash_one(loom::thread::current().id()) as usize | 1
}
