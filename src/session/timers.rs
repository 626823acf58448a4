//! A table of deadlines: heartbeat, silence of the peer, end of the closing handshake.
//!
//! Time is an argument. The caller keeps the clock and calls [`Timers::due`] at [`Timers::next`] or later.
//!
//! A peer is dead if it has answered no Ping and given no other sign of life for the heartbeat's limit plus an
//! allowance. Signs of life are received bytes, and bytes that the transport takes after it had been full. Bytes taken
//! by a transport that was never full prove nothing: a kernel takes megabytes for a link that is cut. The allowance is
//! the time in which a slow peer reads the bytes written since the last answered Ping. A Ping contains its position in
//! the stream, so that its Pong tells how far the peer has read.

use std::time::{Duration, Instant};

use crate::options::Heartbeat;

/// The shortest interval and limit. Below, the timer would take more of the processor than the connection.
const MIN: Duration = Duration::from_millis(1);

/// The slowest peer that is not taken for a dead one reads this many bytes in a second.
const SLOWEST: u64 = 128 << 10;

/// The allowance stops growing at this many bytes: the largest receive buffer that a slow peer may have.
const MAX_UNANSWERED: u64 = 8 << 20;

/// Fewer unanswered bytes are not worth a payload in the Ping: they are read in 8 ms.
const WORTH_MARKING: u64 = 1 << 10;

/// A wall clock that runs this much ahead of the monotonic one says that the machine was suspended.
const MIN_SUSPENSION: Duration = Duration::from_secs(1);

/// The events whose deadlines have passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// A heartbeat must be sent: a Ping (`true`) or a Pong.
    pub(crate) beat: Option<bool>,
    /// The peer has given no sign of life in time, unless the transport holds bytes that the reader has not read yet.
    pub(crate) silence: bool,
    /// No task has looked for input in that time, and the transport, if it is full, has been full for as long. A
    /// blocked writer must not wait for the reader's judgement.
    pub(crate) stuck: bool,
    /// The machine was suspended, or no half was polled. An earlier `silence` is withdrawn.
    pub(crate) rested: bool,
    /// From now on a Ping is awaited. The reader must look for input before its limit ends.
    pub(crate) awaits: bool,
    /// The closing handshake has taken too long.
    pub(crate) close: bool,
}

/// Counts of the connection so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Bytes from the peer.
    pub(crate) received: u64,
    /// Bytes that the transport has taken.
    pub(crate) written: u64,
    /// The position of the last answered Ping: the bytes written before it.
    pub(crate) answered: u64,
    /// The number of times that the reader has found no input.
    pub(crate) looks: u64,
}

impl Traffic {
    /// Returns the time in which a slow peer reads the bytes written since the last answered Ping.
    fn allowance(self) -> Duration {
        let unanswered = self.written.saturating_sub(self.answered).min(MAX_UNANSWERED);
        Duration::from_micros(unanswered * 1_000_000 / SLOWEST)
    }
}

/// Makes the payload of a Ping. `position` bytes were accepted before it, and the peer is known to have read `answered`
/// of them.
pub(crate) fn mark(position: u64, answered: u64) -> Vec<u8> {
    if position.saturating_sub(answered) < WORTH_MARKING {
        return Vec::new();
    }
    [MARK, &position.to_be_bytes()].concat()
}

/// Returns the position in the payload of a Pong, if it answers such a Ping.
pub(crate) fn parse_mark(payload: &[u8]) -> Option<u64> {
    payload.strip_prefix(MARK)?.try_into().ok().map(u64::from_be_bytes)
}

const MARK: &[u8] = b"beat";

#[derive(Debug)]
pub(crate) struct Timers {
    heartbeat: Option<Heartbeat>,
    next_beat: Option<Instant>,
    /// The transport has taken the last heartbeat once it has taken this many bytes.
    beat_end: u64,
    /// The lead of the wall clock over the monotonic clock at the last call.
    ahead: Duration,
    /// The number of bytes received when the peer last got one more interval.
    rested: Option<u64>,
    /// In a box, since most of the time there is none.
    awaited: Option<Box<Awaited>>,
    close_at: Option<Instant>,
}

/// A Ping after which nothing has come.
#[derive(Debug)]
struct Awaited {
    /// The time when the Ping was due, or when a full transport last took bytes, whichever is later. The last byte of
    /// the Ping goes out at one of these times.
    since: Instant,
    /// The time when the transport last became full, if that was after the Ping was due.
    full_since: Instant,
    /// The earliest time to judge the peer, whatever the limit.
    not_before: Instant,
    /// The time to check again.
    at: Option<Instant>,
    /// How many bytes had been received when the Ping was due.
    received: u64,
    /// [`Traffic::looks`] when the Ping was due, or when the reader was last told.
    looks: u64,
    /// `true` if the Ping was buffered, or an earlier one waits in the buffer.
    placed: bool,
    /// `true` if the reader was told of the silence.
    told: bool,
}

impl Timers {
    pub(crate) fn new(heartbeat: Option<Heartbeat>) -> Self {
        let heartbeat = heartbeat.map(|Heartbeat { every, timeout }| Heartbeat {
            every: every.max(MIN),
            timeout: timeout.map(|timeout| timeout.max(MIN)),
        });
        Self {
            heartbeat,
            next_beat: None,
            beat_end: 0,
            ahead: Duration::MAX,
            rested: None,
            awaited: None,
            close_at: None,
        }
    }

    pub(crate) fn has_heartbeat(&self) -> bool {
        self.heartbeat.is_some()
    }

    /// Begins the closing handshake, which must end by `deadline` unless an earlier call set one. `None`: no limit.
    /// Heartbeats stop, so that the peer is not judged by one.
    pub(crate) fn close_by(&mut self, deadline: Option<Instant>) {
        self.close_at = self.close_at.or(deadline);
        self.heartbeat = None;
        self.next_beat = None;
        self.awaited = None;
    }

    pub(crate) fn forget_close(&mut self) {
        self.close_at = None;
    }

    /// Whether a Ping is awaited that has not been buffered: then one must be, though there be no room.
    pub(crate) fn lacks_ping(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| !awaited.placed)
    }

    /// Notes that a heartbeat was buffered. The transport has taken it once it has taken `end` bytes.
    pub(crate) fn on_beat(&mut self, end: u64) {
        self.beat_end = end;
        if let Some(awaited) = &mut self.awaited {
            awaited.placed = true;
        }
    }

    /// Returns whether a Ping is awaited.
    pub(crate) fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Notes that a full transport has taken bytes: the peer is alive, or the Ping has gone out.
    pub(crate) fn on_progress(&mut self, now: Instant) {
        if let Some(awaited) = &mut self.awaited {
            awaited.since = now;
            awaited.told = false;
        }
    }

    /// Notes that the transport has become full.
    pub(crate) fn on_full(&mut self, now: Instant) {
        if let Some(awaited) = &mut self.awaited {
            awaited.full_since = now;
        }
    }

    /// Returns the events due by `now`. `ahead` is the lead of the wall clock over the monotonic clock. It only changes
    /// when the machine was suspended or the wall clock was set.
    pub(crate) fn due(&mut self, now: Instant, ahead: Duration, traffic: Traffic) -> Due {
        let mut due =
            Due { close: self.close_at.take_if(|deadline| *deadline <= now).is_some(), ..Due::default() };
        let Some(Heartbeat { every, timeout }) = self.heartbeat else {
            return due;
        };
        if self.next_beat.is_none() {
            self.next_beat = now.checked_add(every);
        }
        if let Some(limit) = timeout {
            due.rested = self.is_late(now, ahead, limit, traffic);
            if due.rested {
                self.rested = Some(traffic.received);
                self.awaited = None;
                self.next_beat = Some(now);
            } else if let Some(awaited) = &mut self.awaited {
                (due.silence, due.stuck) = awaited.judge(now, limit, traffic);
            }
        }
        self.ahead = ahead;
        if self.next_beat.is_some_and(|next| next <= now) {
            self.next_beat = now.checked_add(every);
            // An earlier heartbeat that has not gone out yet is enough.
            let waits = traffic.written < self.beat_end;
            due.beat = (!waits).then_some(timeout.is_some());
            if let Some(limit) = timeout
                && self.awaited.is_none()
            {
                let not_before = if due.rested { now.checked_add(every).unwrap_or(now) } else { now };
                let mut awaited = Awaited {
                    since: now,
                    full_since: now,
                    not_before,
                    at: None,
                    received: traffic.received,
                    looks: traffic.looks,
                    placed: waits,
                    told: false,
                };
                awaited.at = awaited.deadline(limit, traffic);
                self.awaited = Some(Box::new(awaited));
                due.awaits = true;
            }
        }
        due
    }

    /// Forgets the Ping if the peer was heard. Otherwise returns whether its deadline was noticed too late to blame the
    /// peer: the machine was suspended, or no half was polled. The second excuse counts only once until the peer is
    /// heard, so that a busy program finds a dead peer too.
    fn is_late(&mut self, now: Instant, ahead: Duration, limit: Duration, traffic: Traffic) -> bool {
        self.awaited.take_if(|awaited| awaited.received != traffic.received);
        if ahead.saturating_sub(self.ahead) > MIN_SUSPENSION.max(limit / 2) {
            return true;
        }
        let noticed = self.awaited.as_ref().and_then(|awaited| {
            let deadline = if awaited.told { awaited.at } else { awaited.deadline(limit, traffic) };
            Some(now.saturating_duration_since(deadline?))
        });
        noticed.is_some_and(|late| late > limit / 2) && self.rested != Some(traffic.received)
    }

    /// The time to check again.
    pub(crate) fn next(&self) -> Option<Instant> {
        let awaited = self.awaited.as_ref().and_then(|awaited| awaited.at);
        [self.close_at, self.next_beat, awaited].into_iter().flatten().min()
    }
}

impl Awaited {
    /// Returns the time at which the peer is dead unless it gives a sign of life before.
    fn deadline(&self, limit: Duration, traffic: Traffic) -> Option<Instant> {
        self.silent_since(self.since, limit, traffic)
    }

    fn silent_since(&self, since: Instant, limit: Duration, traffic: Traffic) -> Option<Instant> {
        let deadline = since.checked_add(limit.checked_add(traffic.allowance())?)?;
        Some(deadline.max(self.not_before))
    }

    /// Returns whether the reader must judge the peer, and whether no reader will.
    fn judge(&mut self, now: Instant, limit: Duration, traffic: Traffic) -> (bool, bool) {
        if !self.told {
            self.at = self.deadline(limit, traffic);
        }
        if self.at.is_none_or(|at| at > now) {
            return (false, false);
        }
        self.told = true;
        self.at = now.checked_add(limit);
        if self.looks != traffic.looks {
            // A task reads, or did. It is told now and has another limit to judge.
            self.looks = traffic.looks;
            return (true, false);
        }
        // No task reads, although the reader was woken a whole limit ago. The peer has taken nothing since the
        // transport became full.
        let blocked = self.silent_since(self.since.max(self.full_since), limit, traffic);
        let stuck = blocked.is_some_and(|blocked| blocked <= now);
        if !stuck {
            self.at = self.at.into_iter().chain(blocked).min();
        }
        (true, stuck)
    }
}

#[cfg(test)]
mod tests;
