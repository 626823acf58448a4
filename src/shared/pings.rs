//! Pings that somebody waits for.

use std::time::{Duration, Instant};

use futures::channel::oneshot;

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// How many wait; so that a Pong nobody waits for costs no lock.
    count: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    payload: [u8; 8],
    since: Instant,
    answer: oneshot::Sender<Duration>,
}

impl Pings {
    /// A payload that no other Ping of this connection has, and the answer to come. To be called in the order in which
    /// the Pings go out.
    pub(crate) fn register(&self, now: Instant) -> ([u8; 8], oneshot::Receiver<Duration>) {
        let (answer, receiver) = oneshot::channel();
        let mut table = lock(&self.table);
        table.waiting.retain(|waiting| !waiting.answer.is_canceled());
        table.last += 1;
        let payload = table.last.to_be_bytes();
        table.waiting.push(Waiting { payload, since: now, answer });
        self.count.store(table.waiting.len(), Ordering::Release);
        (payload, receiver)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// A Pong has come. It answers its Ping and those before it: a peer "MAY elect to send a Pong frame for only
    /// the most recently processed Ping frame" (RFC 6455 §5.5.3).
    pub(crate) fn on_pong(&self, payload: &[u8], now: Instant) {
        let mut table = lock(&self.table);
        let Some(found) = table.waiting.iter().position(|waiting| waiting.payload == payload) else {
            return;
        };
        let answered: Vec<Waiting> = table.waiting.drain(..=found).collect();
        self.count.store(table.waiting.len(), Ordering::Release);
        drop(table);
        for Waiting { since, answer, .. } in answered {
            // Whoever asked may have gone.
            let _ = answer.send(now.saturating_duration_since(since));
        }
    }

    /// No Pong will be read any more.
    pub(crate) fn clear(&self) {
        let forgotten = std::mem::take(&mut lock(&self.table).waiting);
        self.count.store(0, Ordering::Release);
        drop(forgotten);
    }
}
