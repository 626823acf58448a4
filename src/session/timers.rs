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
    /// For as long again nobody has read, and nothing was written: if something waits to be, it waits in vain.
    pub(crate) stuck: bool,
    /// The closing handshake has taken too long.
    pub(crate) close: bool,
}

/// How many bytes have gone through so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// From the peer.
    pub(crate) received: u64,
    /// Into the transport.
    pub(crate) written: u64,
}

#[derive(Debug)]
pub(crate) struct Timers {
    heartbeat: Option<Heartbeat>,
    next_beat: Option<Instant>,
    /// In a box, since most of the time there is none.
    awaited: Option<Box<Awaited>>,
    close_at: Option<Instant>,
}

/// A Ping after which nothing has come.
#[derive(Debug)]
struct Awaited {
    deadline: Instant,
    /// How many bytes had been received when the Ping was due.
    received: u64,
    /// How many had been written when that was last looked at.
    written: u64,
    /// How many will have been written when the Ping is; `None` while it could not even be buffered.
    end: Option<u64>,
    /// Whether the reader has been told. From then on `written` is what had been by then.
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

    /// Whether a Ping is awaited that has not been buffered: then one must be, though there be no room.
    pub(crate) fn lacks_ping(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.end.is_none())
    }

    /// A Ping has been buffered, and is out when so many bytes have been written.
    pub(crate) fn on_ping(&mut self, end: u64) {
        if let Some(awaited) = &mut self.awaited {
            awaited.end.get_or_insert(end);
        }
    }

    /// So many bytes have been written.
    pub(crate) fn on_written(&mut self, written: u64) {
        if let Some(awaited) = self.awaited.as_mut().filter(|awaited| !awaited.told) {
            awaited.written = written;
        }
    }

    /// What is due by `now`.
    pub(crate) fn due(&mut self, now: Instant, traffic: Traffic) -> Due {
        let Traffic { received, written } = traffic;
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
        self.awaited.take_if(|awaited| awaited.received != received);
        if let Some(awaited) = &mut self.awaited
            && awaited.deadline <= now
        {
            let again = now.checked_add(timeout).unwrap_or(now);
            let was_out = awaited.end.is_some_and(|end| end <= awaited.written);
            if awaited.told {
                due.stuck = awaited.written == written && !slept(awaited.deadline, now, timeout);
                (awaited.written, awaited.deadline) = (written, again);
            } else if !was_out && awaited.written < written {
                // The Ping stood behind what a slow peer has been taking: it lives.
                (awaited.written, awaited.deadline) = (written, again);
            } else if slept(awaited.deadline, now, timeout) {
                // The machine slept, or nobody polled: the peer gets a new Ping and the whole time again.
                self.awaited = None;
                due.beat = Some(true);
            } else {
                awaited.told = true;
                due.silence = true;
                (awaited.written, awaited.deadline) = (written, again);
            }
        }
        if due.beat.is_some() && self.awaited.is_none() {
            self.awaited = now
                .checked_add(timeout)
                .map(|deadline| Box::new(Awaited { deadline, received, written, end: None, told: false }));
        }
        due
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        let awaited = self.awaited.as_ref().map(|awaited| awaited.deadline);
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

    fn heard(received: u64) -> Traffic {
        Traffic { received, written: 0 }
    }

    fn start(heartbeat: Heartbeat) -> (Timers, Instant) {
        #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
        let now = Instant::now();
        let mut timers = Timers::new(Some(heartbeat));
        assert_eq!(timers.due(now, heard(0)), Due::default(), "the first beat comes after one interval");
        (timers, now)
    }

    #[test]
    fn pongs_go_out_every_interval_and_judge_nobody() {
        let (mut timers, start) = start(Heartbeat::pong(10 * S));
        for beat in 1..100 {
            let now = start + 10 * S * beat;
            assert_eq!(timers.next(), Some(now));
            assert_eq!(timers.due(now, heard(0)), Due { beat: Some(false), ..Due::default() });
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
                let due = timers.due(now, heard(received));
                if due.beat.is_some() && now == start + every * S {
                    received += 2;
                }
                silent = due.silence.then_some(now);
            }
            assert_eq!(silent, Some(start + (2 * every + timeout) * S), "{every} {timeout}");
        }
    }

    #[test]
    fn a_slow_peer_lives_while_it_takes_what_stands_before_the_ping() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        let mut now = start + 10 * S;
        assert_eq!(timers.due(now, heard(0)).beat, Some(true));
        assert!(timers.lacks_ping(), "one Ping is buffered though there be no room");
        timers.on_ping(1000);
        assert!(!timers.lacks_ping());
        for written in (100..=1000).step_by(100) {
            now += 10 * S;
            assert!(!timers.due(now, Traffic { received: 0, written }).silence, "{written}");
        }
        now += 10 * S;
        let silent = timers.due(now, Traffic { received: 0, written: 2000 }).silence;
        assert!(silent, "the Ping is out; what is written behind it is no life");
    }

    #[test]
    fn a_ping_that_is_out_at_once_gives_no_more_time() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.due(start + 10 * S, heard(0));
        timers.on_ping(2);
        timers.on_written(2);
        assert!(timers.due(start + 20 * S, Traffic { received: 0, written: 2000 }).silence);
    }

    #[test]
    fn a_peer_that_takes_nothing_before_the_ping_is_silent() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.due(start + 10 * S, heard(0));
        timers.on_ping(1000);
        timers.on_written(0);
        assert!(timers.due(start + 20 * S, heard(0)).silence);
    }

    #[test]
    fn where_nobody_reads_a_peer_that_takes_nothing_has_the_time_twice() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        let mut due = |seconds: u32, written| {
            let due = timers.due(start + seconds * S, Traffic { received: 0, written });
            timers.on_written(written);
            (due.silence, due.stuck)
        };
        assert_eq!(due(10, 0), (false, false));
        assert_eq!(due(20, 0), (true, false));
        assert_eq!(due(25, 1), (false, false));
        assert_eq!(due(30, 1), (false, false), "it has taken something");
        assert_eq!(due(40, 1), (false, true));
        assert_eq!(due(60, 1), (false, false), "nobody has polled for long");
        assert_eq!(due(70, 1), (false, true));
        timers.due(start + 71 * S, heard(1));
        assert!(!timers.due(start + 80 * S, Traffic { received: 1, written: 1 }).stuck, "it lives");
    }

    #[test]
    fn any_byte_is_life() {
        let (mut timers, _) = start(Heartbeat::ping(10 * S));
        for received in 0..1000 {
            let now = timers.next().unwrap();
            assert!(!timers.due(now, heard(received)).silence);
        }
    }

    #[test]
    fn nothing_is_judged_right_after_the_machine_slept() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        assert_eq!(timers.due(start + 10 * S, heard(0)).beat, Some(true));
        let woken = start + 3600 * S;
        assert_eq!(timers.due(woken, heard(0)), Due { beat: Some(true), ..Due::default() });
        assert!(!timers.due(woken + 9 * S, heard(0)).silence, "one fresh interval first");
        assert!(timers.due(woken + 10 * S, heard(0)).silence);
    }

    #[test]
    fn closing_ends_the_heartbeat_and_keeps_the_first_deadline() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.close_by(start + 5 * S);
        timers.close_by(start + 9 * S);
        assert_eq!(timers.next(), Some(start + 5 * S));
        assert_eq!(timers.due(start + 5 * S, heard(0)), Due { close: true, ..Due::default() });
        assert_eq!(timers.next(), None);
    }
}
