//! A table of deadlines: heartbeat, silence of the peer, end of the closing handshake.
//!
//! Time is an argument. Whoever keeps the clock calls [`Timers::due`] at [`Timers::next`] or later.

use std::time::{Duration, Instant};

use crate::options::Heartbeat;

/// What has come due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// A heartbeat is to be sent: a Ping (`true`) or a Pong.
    pub(crate) beat: Option<bool>,
    /// The peer has been silent for too long, unless the transport holds bytes that nobody read yet.
    pub(crate) silence: bool,
    /// The closing handshake has taken too long.
    pub(crate) close: bool,
}

#[derive(Debug)]
pub(crate) struct Timers {
    heartbeat: Option<Heartbeat>,
    next_beat: Option<Instant>,
    awaited: Option<Awaited>,
    close_at: Option<Instant>,
}

/// A Ping after which nothing has come.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    deadline: Instant,
    /// How many bytes had been received when the Ping was sent.
    received: u64,
    /// Whether the reader has been told.
    told: bool,
}

impl Timers {
    pub(crate) fn new(heartbeat: Option<Heartbeat>) -> Self {
        let heartbeat = heartbeat.filter(|heartbeat| !heartbeat.every.is_zero());
        Self { heartbeat, next_beat: None, awaited: None, close_at: None }
    }

    pub(crate) fn has_heartbeat(&self) -> bool {
        self.heartbeat.is_some()
    }

    /// The closing handshake must be over by then, unless a deadline was set before.
    pub(crate) fn close_by(&mut self, deadline: Instant) {
        self.close_at.get_or_insert(deadline);
        self.heartbeat = None;
        self.next_beat = None;
        self.awaited = None;
    }

    pub(crate) fn forget_close(&mut self) {
        self.close_at = None;
    }

    /// What is due by `now`, when so many bytes have been received in all.
    pub(crate) fn due(&mut self, now: Instant, received: u64) -> Due {
        let mut due =
            Due { close: self.close_at.take_if(|deadline| *deadline <= now).is_some(), ..Due::default() };
        let Some(Heartbeat { every, timeout }) = self.heartbeat else {
            return due;
        };
        if self.next_beat.is_none() {
            self.next_beat = now.checked_add(every);
        }
        if self.next_beat.is_some_and(|next| next <= now) {
            self.next_beat = now.checked_add(every);
            due.beat = Some(timeout.is_some());
        }
        let Some(timeout) = timeout else { return due };
        self.awaited = self.awaited.filter(|awaited| awaited.received == received);
        if let Some(awaited) = &mut self.awaited
            && awaited.deadline <= now
            && !awaited.told
        {
            if slept(awaited.deadline, now, timeout) {
                // The machine slept, or nobody polled: the peer gets a new Ping and the whole time again.
                self.awaited = None;
                due.beat = Some(true);
            } else {
                awaited.told = true;
                due.silence = true;
            }
        }
        if due.beat.is_some() && self.awaited.is_none() {
            self.awaited =
                now.checked_add(timeout).map(|deadline| Awaited { deadline, received, told: false });
        }
        due
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        let awaited = self.awaited.filter(|awaited| !awaited.told).map(|awaited| awaited.deadline);
        [self.close_at, self.next_beat, awaited].into_iter().flatten().min()
    }
}

/// Whether a deadline was noticed so late that the peer cannot be blamed for the silence.
fn slept(deadline: Instant, now: Instant, timeout: Duration) -> bool {
    now.saturating_duration_since(deadline) > timeout / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn start(heartbeat: Heartbeat) -> (Timers, Instant) {
        #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
        let now = Instant::now();
        let mut timers = Timers::new(Some(heartbeat));
        assert_eq!(timers.due(now, 0), Due::default(), "the first beat comes after one interval");
        (timers, now)
    }

    #[test]
    fn pongs_go_out_every_interval_and_judge_nobody() {
        let (mut timers, start) = start(Heartbeat::pong(10 * S));
        for beat in 1..100 {
            let now = start + 10 * S * beat;
            assert_eq!(timers.next(), Some(now));
            assert_eq!(timers.due(now, 0), Due { beat: Some(false), ..Due::default() });
        }
    }

    #[test]
    fn silence_is_noticed_one_timeout_after_the_first_unanswered_ping() {
        for (every, timeout) in [(10, 4), (10, 10), (10, 35)] {
            let (mut timers, start) = start(Heartbeat::ping(every * S).timeout(timeout * S));
            let mut received = 0;
            let mut silent = None;
            // The peer answers the first Ping and then dies.
            while let Some(now) = timers.next().filter(|_| silent.is_none()) {
                let due = timers.due(now, received);
                if due.beat.is_some() && now == start + every * S {
                    received += 2;
                }
                silent = due.silence.then_some(now);
            }
            assert_eq!(silent, Some(start + (2 * every + timeout) * S), "{every} {timeout}");
        }
    }

    #[test]
    fn any_byte_is_life() {
        let (mut timers, _) = start(Heartbeat::ping(10 * S));
        for received in 0..1000 {
            let now = timers.next().unwrap();
            assert!(!timers.due(now, received).silence);
        }
    }

    #[test]
    fn nothing_is_judged_right_after_the_machine_slept() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        assert_eq!(timers.due(start + 10 * S, 0).beat, Some(true));
        let woken = start + 3600 * S;
        assert_eq!(timers.due(woken, 0), Due { beat: Some(true), ..Due::default() });
        assert!(!timers.due(woken + 9 * S, 0).silence, "one fresh interval first");
        assert!(timers.due(woken + 10 * S, 0).silence);
    }

    #[test]
    fn closing_ends_the_heartbeat_and_keeps_the_first_deadline() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.close_by(start + 5 * S);
        timers.close_by(start + 9 * S);
        assert_eq!(timers.next(), Some(start + 5 * S));
        assert_eq!(timers.due(start + 5 * S, 0), Due { close: true, ..Due::default() });
        assert_eq!(timers.next(), None);
    }
}
