//! Pings whose Pongs are awaited.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures::channel::oneshot;

use crate::{
    entropy,
    error::Error,
    sync::{AtomicUsize, Mutex, Ordering, drop_all, isolate, lock},
};

/// The number of Pings kept for which no future waits. Beyond that the oldest are forgotten.
const KEPT: usize = 256;

/// The longest payload of a Ping (RFC 6455 §5.5). A longer one, which only `Checks::Off` lets pass, is not entered.
const MAX_LEN: usize = 125;

/// The Pings sent since the first unanswered one of [`Write::ping`](crate::Write::ping), that one included.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// The number of entered Pings. While it is zero, Pings and Pongs of others cost no lock.
    count: AtomicUsize,
    /// Boxed, because most connections never need it.
    table: Mutex<Option<Box<Table>>>,
}

#[derive(Debug)]
struct Table {
    /// The payload of the next own Ping: random at first, so that the peer cannot know it before it is sent.
    next: u128,
    /// The Pings in the order of the wire.
    sent: VecDeque<Sent>,
    /// The number of own Pings among them.
    own: usize,
    /// The length of `sent` at which Pings for which no future waits are counted.
    limit: usize,
}

/// A Ping that is not answered yet.
#[derive(Debug)]
pub(crate) struct Sent {
    payload: Box<[u8]>,
    /// `None` for a Ping that was not sent by [`Write::ping`](crate::Write::ping).
    own: Option<(Instant, oneshot::Sender<Duration>)>,
}

impl Sent {
    fn is_awaited(&self) -> bool {
        self.own.as_ref().is_some_and(|(_, answer)| !answer.is_canceled())
    }
}

impl Table {
    fn new() -> Result<Self, Error> {
        let next = u128::from_be_bytes(entropy::draw_nonce()?);
        Ok(Self { next, sent: VecDeque::new(), own: 0, limit: 2 * KEPT })
    }

    fn push(&mut self, payload: &[u8], own: Option<(Instant, oneshot::Sender<Duration>)>) -> Vec<Sent> {
        let forgotten = if self.sent.len() < self.limit { Vec::new() } else { self.forget_oldest() };
        self.own += usize::from(own.is_some());
        self.sent.push_back(Sent { payload: payload.into(), own });
        forgotten
    }

    /// Forgets the oldest Pings for which no future waits, and keeps the latest of them.
    fn forget_oldest(&mut self) -> Vec<Sent> {
        let unawaited = self.sent.iter().filter(|sent| !sent.is_awaited()).count();
        let mut excess = unawaited.saturating_sub(KEPT);
        let mut forgotten = Vec::with_capacity(excess);
        for sent in std::mem::take(&mut self.sent) {
            if excess > 0 && !sent.is_awaited() {
                excess -= 1;
                self.own -= usize::from(sent.own.is_some());
                forgotten.push(sent);
            } else {
                self.sent.push_back(sent);
            }
        }
        // Doubling keeps the cost per Ping constant, however many futures wait.
        self.limit = 2 * self.sent.len().max(KEPT);
        forgotten
    }
}

impl Pings {
    /// Enters an own Ping. Returns its payload, which no other Ping of this connection has, the receiver of the answer,
    /// and the Pings forgotten for it, which must be dropped outside of locks.
    ///
    /// This and [`enter`](Self::enter) must be called in the order of the wire, before the Ping goes out.
    #[expect(clippy::type_complexity, reason = "three things, each named in the line above")]
    pub(crate) fn register(
        &self,
        now: Instant,
    ) -> Result<([u8; 16], oneshot::Receiver<Duration>, Vec<Sent>), Error> {
        let (answer, receiver) = oneshot::channel();
        let mut table = lock(&self.table);
        let table = match &mut *table {
            Some(table) => table,
            none => none.insert(Box::new(Table::new()?)),
        };
        let payload = table.next.to_be_bytes();
        table.next = table.next.wrapping_add(1);
        let forgotten = table.push(&payload, Some((now, answer)));
        self.count.store(table.sent.len(), Ordering::Release);
        Ok((payload, receiver, forgotten))
    }

    /// Enters any other Ping, if an own one went out before it. Returns the Pings forgotten for it.
    pub(crate) fn enter(&self, payload: &[u8]) -> Vec<Sent> {
        let mut table = lock(&self.table);
        match &mut *table {
            Some(table) if table.own > 0 && payload.len() <= MAX_LEN => {
                let forgotten = table.push(payload, None);
                self.count.store(table.sent.len(), Ordering::Release);
                forgotten
            }
            _ => Vec::new(),
        }
    }

    /// Returns whether no own Ping waits for its Pong.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Takes a Pong. It answers the first Ping with its payload and those before it: a peer "MAY elect to send a Pong
    /// frame for only the most recently processed Ping frame" (RFC 6455 §5.5.3). Returns whether that was an own Ping.
    pub(crate) fn on_pong(&self, payload: &[u8], now: Instant) -> bool {
        let answered: Vec<Sent> = {
            let mut table = lock(&self.table);
            let Some(table) = &mut *table else { return false };
            let Some(found) = table.sent.iter().position(|sent| *sent.payload == *payload) else {
                return false;
            };
            let answered: Vec<Sent> = table.sent.drain(..=found).collect();
            table.own -= answered.iter().filter(|sent| sent.own.is_some()).count();
            if table.own == 0 {
                // The remaining Pings hold no sender, so dropping them runs no code of the caller.
                table.sent = VecDeque::new();
                table.limit = 2 * KEPT;
            }
            self.count.store(table.sent.len(), Ordering::Release);
            answered
        };
        let is_own = answered.last().is_some_and(|sent| sent.own.is_some());
        for (since, answer) in answered.into_iter().filter_map(|sent| sent.own) {
            let round_trip = now.saturating_duration_since(since);
            isolate(|| {
                // The future may have been dropped.
                let _ = answer.send(round_trip);
            });
        }
        is_own
    }

    /// No Pong will be read any more.
    pub(crate) fn clear(&self) {
        let forgotten = {
            let mut table = lock(&self.table);
            self.count.store(0, Ordering::Release);
            table.as_mut().map(|table| {
                table.own = 0;
                std::mem::take(&mut table.sent)
            })
        };
        drop_all(forgotten.into_iter().flatten());
    }
}
