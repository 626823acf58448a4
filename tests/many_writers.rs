//! Many clones of one `Write` that wait: the cost grows with their number, not with its square.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use common::{PipeWrite, alone, drive::drive, poll_once};
use coro_websocket::{Message, WrapOptions};

/// Eight times as many cost eight times as much, or 64 times where each of them looks at all others. The best of many
/// runs, each shorter than a turn of the scheduler, tells the two apart on a busy machine, too.
fn assert_linear(what: &str, cost: impl Fn(usize) -> Duration) {
    let best = |count| (0..20).map(|_| cost(count)).min().unwrap();
    let (few, many) = (best(250), best(2000));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    assert!(ratio < 24.0, "{what}: {few:?}, and {many:?} for eight times as many");
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn clones(write: &PipeWrite, count: usize) -> Vec<PipeWrite> {
    (0..count).map(|_| write.clone()).collect()
}

#[test]
fn waking_and_polling_and_dropping_writers_that_wait_costs_each_of_them_the_same() {
    let cost = |count: usize| {
        let ((_read, write), mut far) = alone(0, WrapOptions::server());
        let mut clones = clones(&write, count);
        let mut sends: Vec<_> = clones.iter_mut().map(|clone| Box::pin(clone.send("x"))).collect();
        let poll = |send: &mut Pin<Box<_>>| assert!(poll_once(send).is_pending());
        sends.iter_mut().for_each(poll);
        // Most of the free room goes to the writers that are polled first.
        let woken = timed(|| {
            far.grow(2);
            sends.iter_mut().for_each(poll);
        });
        drop(sends);
        (woken, timed(|| drop(clones)))
    };
    assert_linear("waking and polling", |count| cost(count).0);
    assert_linear("dropping", |count| cost(count).1);
}

#[test]
fn writers_whose_frames_wait_for_another_message_cost_the_same_each() {
    for fin in [true, false] {
        let cost = |count: usize| {
            let ((_read, mut open), mut far) =
                alone(1 << 20, WrapOptions::server().write_buffer_len(1 << 20));
            drive(open.send(Message { fin: false, ..Message::text("begins") })).unwrap();
            let mut clones = clones(&open, count);
            let frame = || Message { fin, ..Message::text("x") };
            let fed = timed(|| clones.iter_mut().for_each(|clone| drive(clone.feed(frame())).unwrap()));
            let dropped = timed(|| drop(clones));
            let released = timed(|| drive(open.send(Message::continuation("ends", true))).unwrap());
            assert_eq!(far.frames().len(), 2 + if fin { count } else { 0 });
            (fed, dropped, released)
        };
        assert_linear("feeding", |count| cost(count).0);
        assert_linear("dropping", |count| cost(count).1);
        assert_linear("releasing", |count| cost(count).2);
    }
}

/// Clones that come, wait and go leave nothing behind, though the transport never wakes anybody.
#[test]
fn writers_that_wait_and_go_leave_nothing_behind() {
    let ((_read, write), _far) = alone(0, WrapOptions::server());
    let come_and_go = |count: usize| {
        for _ in 0..count {
            let mut clone = write.clone();
            let mut flushing = Box::pin(clone.send(Message::ping("")));
            let _ = Pin::new(&mut flushing).poll(&mut Context::from_waker(Waker::noop()));
        }
    };
    // Above the mark nothing more is accepted.
    let mut other = write.clone();
    while other.try_feed(Message::binary(vec![0; 1000])).is_ok() {}
    come_and_go(100);
    let kept = allocation_counter::measure(|| come_and_go(10_000));
    assert!(kept.bytes_current < 10_000, "{} bytes are kept", kept.bytes_current);
}

/// The order in which writers began to wait is the order in which they are woken.
#[test]
fn writers_are_woken_in_the_order_in_which_they_began_to_wait() {
    use std::sync::{Arc, Mutex};

    struct Note(usize, Arc<Mutex<Vec<usize>>>);

    impl std::task::Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    let ((_read, write), mut far) = alone(0, WrapOptions::server());
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut clones = clones(&write, 8);
    let mut sends: Vec<_> = clones.iter_mut().map(|clone| Box::pin(clone.send("x"))).collect();
    let order = [3, 0, 7, 5, 1, 6, 2, 4];
    for round in 0..3 {
        for &index in &order {
            let waker = Waker::from(Arc::new(Note(index, Arc::clone(&woken))));
            let polled = sends[index].as_mut().poll(&mut Context::from_waker(&waker));
            assert!(matches!(polled, Poll::Pending), "round {round}");
        }
        far.grow(1);
        assert_eq!(std::mem::take(&mut *woken.lock().unwrap()), order);
        // The byte that there is room for is taken, so that the transport is asked again.
        let _ = poll_once(&mut sends[order[0]]);
        woken.lock().unwrap().clear();
    }
}
