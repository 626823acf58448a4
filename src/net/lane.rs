//! Blocking work, on the thread pool that the whole process shares.
//!
//! The pool is limited, and running work cannot be cancelled. Therefore each kind of work has its own limit: calls that
//! never return, such as lookups that no name server answers, occupy at most that number of threads, however often they
//! are dropped and retried.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures::channel::oneshot;

use crate::sync::{Mutex, lock};

/// A queue for one kind of work. A limited number of jobs run at once; the others wait in order of arrival.
pub(super) struct Lane {
    most: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// The number of threads at work.
    workers: usize,
}

type Job = Box<dyn FnOnce() + Send>;

/// A job that may still be queued. Dropping this removes it from the queue.
struct Waiting {
    lane: &'static Lane,
    key: u64,
}

impl Lane {
    pub(super) fn new(most: usize) -> Self {
        Self { most, queue: Mutex::default() }
    }

    /// Runs the work and returns its result, or an error if it panicked. Dropping the future cancels work that has not
    /// begun; running work continues, and its result is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (give, given) = oneshot::channel();
        let _waiting = self.enter(Box::new(move || drop(give.send(work()))));
        given.await.map_err(|_| io::Error::other("it panicked"))
    }

    fn enter(&'static self, job: Job) -> Waiting {
        let mut queue = lock(&self.queue);
        let key = queue.next;
        queue.next += 1;
        queue.jobs.insert(key, job);
        let starts = queue.workers < self.most;
        queue.workers += usize::from(starts);
        drop(queue);
        if starts {
            blocking::unblock(|| self.work()).detach();
        }
        Waiting { lane: self, key }
    }

    /// Runs one job after another until the queue is empty.
    fn work(&self) {
        while let Some(job) = self.next() {
            // A panic ends only this job. Its caller notices that the result is missing.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        let job = queue.jobs.pop_first();
        queue.workers -= usize::from(job.is_none());
        job.map(|(_, job)| job)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let job = lock(&self.lane.queue).jobs.remove(&self.key);
        drop(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_io::block_on;
    use futures::{FutureExt, future::join_all};
    use std::{
        sync::{
            Arc, Condvar, LazyLock, Mutex as StdMutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    /// A door that starts shut, and the number of threads waiting at it.
    #[derive(Default)]
    struct Door(StdMutex<bool>, Condvar, AtomicUsize);

    impl Door {
        fn pass(&self) {
            self.2.fetch_add(1, Ordering::SeqCst);
            let open = self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap();
            drop(open);
        }

        fn open(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }

        fn waiting(&self) -> usize {
            self.2.load(Ordering::SeqCst)
        }
    }

    fn until(is_so: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if is_so() {
                return;
            }
            block_on(async_io::Timer::after(Duration::from_millis(1)));
        }
        panic!("not in time");
    }

    #[test]
    fn work_that_does_not_end_occupies_a_bounded_number_of_threads_however_often_it_is_given_up() {
        static LANE: LazyLock<Lane> = LazyLock::new(|| Lane::new(4));
        let door = Arc::<Door>::default();
        let passing = || {
            let door = Arc::clone(&door);
            let mut passing = Box::pin(LANE.run(move || door.pass()));
            assert!((&mut passing).now_or_never().is_none());
            passing
        };
        let begun: Vec<_> = (0..4).map(|_| passing()).collect();
        until(|| door.waiting() == 4);
        drop(begun);
        for _ in 0..100 {
            drop(passing());
        }
        // Jobs that were dropped before they began are not kept.
        assert!(lock(&LANE.queue).jobs.is_empty());
        // Other work of the process still runs.
        block_on(blocking::unblock(|| ()));
        let mut next = Box::pin(LANE.run(|| 7));
        assert!((&mut next).now_or_never().is_none());
        door.open();
        assert_eq!(block_on(next).unwrap(), 7);
        assert_eq!(door.waiting(), 4);
    }

    #[test]
    fn all_work_is_done_and_a_panic_ends_only_its_own() {
        static LANE: LazyLock<Lane> = LazyLock::new(|| Lane::new(3));
        let work = |index: usize| {
            LANE.run(move || {
                assert!(index % 10 != 9, "this is part of the test");
                index
            })
        };
        let done = block_on(join_all((0..200).map(work)));
        for (index, done) in done.into_iter().enumerate() {
            assert_eq!(done.ok(), (index % 10 != 9).then_some(index));
        }
        until(|| lock(&LANE.queue).workers == 0);
    }
}
