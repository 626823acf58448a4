//! An executor that polls a random woken task next, and now and then one that was not woken.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use fastrand::Rng;
use futures::future::poll_fn;

use super::{ledger::Ledger, transport::Promised};

pub(crate) type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Running {
    name: String,
    task: Task,
    woken: Arc<Woken>,
}

pub(crate) struct Executor {
    running: Vec<Running>,
    rng: Rng,
    promised: Promised,
    pub(crate) polls: u64,
}

/// More polls than any script needs.
const MOST_POLLS: u64 = 3_000_000;

impl Executor {
    pub(crate) fn new(rng: Rng, promised: Promised) -> Self {
        Self { running: Vec::new(), rng, promised, polls: 0 }
    }

    pub(crate) fn spawn(&mut self, name: impl Into<String>, task: Task) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.running.push(Running { name: name.into(), task, woken });
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.running.iter().map(|running| &*running.name).collect()
    }

    /// Polls until no task is woken and nothing is promised.
    pub(crate) fn run(&mut self, ledger: &Ledger) -> Result<(), String> {
        loop {
            for (name, task) in ledger.take_spawned() {
                self.spawn(name, task);
            }
            self.polls += 1;
            if self.polls > MOST_POLLS {
                return Err(format!("no rest; these run: {:?}", self.names()));
            }
            if self.rng.u8(..) < 30 {
                self.promised.fire();
            }
            let is_woken = |running: &Running| running.woken.0.load(Ordering::SeqCst);
            let woken: Vec<usize> =
                (0..self.running.len()).filter(|at| is_woken(&self.running[*at])).collect();
            let at = if woken.is_empty() {
                let mut any = false;
                while self.promised.fire() {
                    any = true;
                }
                if !any {
                    return Ok(());
                }
                continue;
            } else if self.rng.u8(..) < 12 {
                self.rng.usize(..self.running.len())
            } else {
                woken[self.rng.usize(..woken.len())]
            };
            let running = &mut self.running[at];
            running.woken.0.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&running.woken));
            if running.task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(self.running.swap_remove(at));
            }
        }
    }
}

/// Yields to other tasks this many times.
pub(crate) async fn pause(mut times: usize) {
    poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Drops the future when it has been Pending more often than that. `None`: it was dropped.
pub(crate) async fn give_up_after<F: Future>(polls: Option<usize>, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut pending = 0;
    poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            pending += 1;
            if polls.is_some_and(|polls| pending > polls) { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}
