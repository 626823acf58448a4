//! The handshakes that [`Server::accept`](super::Server::accept) performs side by side.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use futures::{
    future::{BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};

use crate::{
    callers::Callers,
    error::Error,
    sync::{Mutex, lock},
};

use super::{
    arrivals::IN_A_ROW,
    listening::{Connecting, Connection, Shared},
};

/// The set of tasks that all callers of `accept` share. Each caller that is polled polls the whole set, so no caller
/// depends on another one being polled, and dropping a caller drops no task.
pub(super) struct Handshakes {
    tasks: Mutex<Place>,
    callers: Arc<Callers>,
    /// Wakes all callers.
    waker: Waker,
}

/// The place of the tasks while no caller polls them. A caller takes them out to poll them, because the code that they
/// call, such as the hook, must not run under a lock.
struct Place {
    tasks: Option<Tasks>,
    /// `true` if a caller has looked for the tasks while another had them.
    missed: bool,
}

#[derive(Default)]
struct Tasks {
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Held by the task that waits for the next client.
    waiting: Weak<()>,
    /// The number of tasks done since other futures had their turn.
    in_a_row: u32,
}

/// The result of a task.
enum Done {
    Arrived(Result<Option<Connecting>, Error>),
    /// The connection, if the client was accepted.
    Answered(Option<Box<Connection>>),
}

/// The tasks while one caller polls them, or `None` if another caller has them. Dropping this puts them back.
struct Turn<'a> {
    handshakes: &'a Handshakes,
    shared: &'a Shared,
    tasks: Option<Tasks>,
}

impl Default for Handshakes {
    fn default() -> Self {
        let callers = Arc::<Callers>::default();
        let waker = Arc::clone(&callers).into();
        let tasks = Mutex::new(Place { tasks: Some(Tasks::default()), missed: false });
        Self { tasks, callers, waker }
    }
}

impl Handshakes {
    /// Waits for the next connection whose handshake is done. Returns `None` if the server is closed.
    pub(super) async fn next(&self, shared: &Arc<Shared>) -> Result<Option<Connection>, Error> {
        let caller = self.callers.enter();
        poll_fn(|cx| {
            // Registered before looking for the tasks, so that no wake-up is missed.
            caller.register(cx.waker());
            let mut turn = self.take(shared);
            match &mut turn.tasks {
                Some(tasks) => tasks.poll(&mut Context::from_waker(&self.waker), shared),
                None if shared.arrivals.is_closed() => Poll::Ready(Ok(None)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn take<'a>(&'a self, shared: &'a Shared) -> Turn<'a> {
        let mut place = lock(&self.tasks);
        let tasks = place.tasks.take();
        place.missed |= tasks.is_none();
        drop(place);
        Turn { handshakes: self, shared, tasks }
    }

    /// Drops all tasks because the server is closed. If a caller has them, that caller drops them.
    pub(super) fn close(&self) {
        let tasks = lock(&self.tasks).tasks.take();
        drop(tasks);
        self.callers.wake_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut tasks = self.tasks.take();
        if tasks.is_none() {
            return;
        }
        let missed = {
            let mut place = lock(&self.handshakes.tasks);
            if !self.shared.arrivals.is_closed() {
                place.tasks = tasks.take();
            }
            std::mem::take(&mut place.missed)
        };
        drop(tasks);
        if missed {
            self.handshakes.callers.wake_all();
        }
    }
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = Done> + Send + 'static) {
        self.running.push(Box::pin(task));
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Arc<Shared>,
    ) -> Poll<Result<Option<Connection>, Error>> {
        loop {
            if shared.arrivals.is_closed() {
                return Poll::Ready(Ok(None));
            }
            self.in_a_row += 1;
            if self.in_a_row > IN_A_ROW {
                self.in_a_row = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.waiting.strong_count() == 0 {
                let waiting = Arc::new(());
                self.waiting = Arc::downgrade(&waiting);
                let shared = Arc::clone(shared);
                self.spawn(async move {
                    let arrived = shared.incoming().await;
                    drop(waiting);
                    Done::Arrived(arrived)
                });
            }
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(Done::Arrived(Ok(Some(connecting))))) => {
                    let shared = Arc::clone(shared);
                    let answer = async move { shared.answer(connecting).await.map(Box::new) };
                    // A panic in one handshake must not end the others.
                    let answer = AssertUnwindSafe(answer).catch_unwind();
                    self.spawn(answer.map(|answered| Done::Answered(answered.ok().flatten())));
                }
                Poll::Ready(Some(Done::Arrived(Ok(None)))) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Done::Arrived(Err(error)))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Done::Answered(Some(connection)))) => {
                    return Poll::Ready(Ok(Some(*connection)));
                }
                Poll::Ready(Some(Done::Answered(None)) | None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
