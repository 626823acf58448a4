//! A table of deadlines: heartbeat, silence of the peer, end of the closing handshake.
//!
//! Time is an argument. The caller keeps the clock and calls [`Timers::due`] at [`Timers::next`] or later.
//!
//! A peer is dead if it has answered no Ping and given no other sign of life for the heartbeat's limit plus an
//! allowance. Signs of life are received bytes, and bytes that the transport takes after it had been full. Bytes taken
//! by a transport that was never full prove nothing: a kernel takes megabytes for a link that is cut. The allowance is
//! the time in which a slow peer reads what was handed over since the last answered Ping; a Ping says how much that
//! is, so that its Pong tells how far the peer has read.

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
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MIB: u64 = 1 << 20;

    fn heard(received: u64) -> Traffic {
        Traffic { received, ..Traffic::default() }
    }

    fn wrote(written: u64) -> Traffic {
        Traffic { written, ..Traffic::default() }
    }

    fn start(heartbeat: Heartbeat) -> (Timers, Instant) {
        #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
        let now = Instant::now();
        let mut timers = Timers::new(Some(heartbeat));
        let due = timers.due(now, S, heard(0));
        assert_eq!(due, Due::default(), "the first beat comes after one interval");
        (timers, now)
    }

    #[test]
    fn pongs_go_out_every_interval_and_no_peer_is_judged() {
        let (mut timers, start) = start(Heartbeat::pong(10 * S));
        for beat in 1..100 {
            let now = start + 10 * S * beat;
            assert_eq!(timers.next(), Some(now));
            assert_eq!(timers.due(now, S, heard(0)), Due { beat: Some(false), ..Due::default() });
        }
    }

    #[test]
    fn silence_is_noticed_one_limit_after_the_first_unanswered_ping() {
        for (every, limit) in [(10, 4), (10, 10), (10, 35)] {
            let (mut timers, start) = start(Heartbeat::ping(every * S).timeout(limit * S));
            let mut received = 0;
            let mut silent = None;
            // The peer answers the first Ping and then dies.
            while let Some(now) = timers.next().filter(|_| silent.is_none()) {
                let due = timers.due(now, S, heard(received));
                if due.beat.is_some() && now == start + every * S {
                    received += 2;
                }
                silent = due.silence.then_some(now);
            }
            assert_eq!(silent, Some(start + (2 * every + limit) * S), "{every} {limit}");
        }
    }

    #[test]
    fn limit_restarts_when_a_full_transport_takes_bytes() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        let mut now = start + 10 * S;
        assert_eq!(timers.due(now, S, heard(0)).beat, Some(true));
        assert!(timers.lacks_ping(), "one Ping is buffered though there be no room");
        timers.on_beat(1000);
        assert!(!timers.lacks_ping());
        for _ in 0..10 {
            now += 9 * S;
            timers.on_progress(now);
            assert!(!timers.due(now + 9 * S, S, heard(0)).silence);
        }
        assert!(timers.due(now + 10 * S, S, heard(0)).silence);
    }

    #[test]
    fn bytes_that_a_transport_takes_without_being_full_are_no_sign_of_life() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.due(start + 10 * S, S, heard(0));
        timers.on_beat(2);
        let at = |seconds| start + 10 * S + Duration::from_secs(seconds);
        // 1 MiB every second, which the allowance counts up to 8 MiB.
        for second in 1..74 {
            assert!(!timers.due(at(second), S, wrote(second * MIB)).silence, "{second}");
        }
        assert!(timers.due(at(74), S, wrote(74 * MIB)).silence, "10 s and 64 s for 8 MiB");
    }

    #[test]
    fn allowance_counts_what_was_sent_since_the_last_answered_ping() {
        for (written, answered, allowance) in [
            (0, 0, 0),
            (MIB, MIB, 0),
            (MIB, 0, 8_000),
            (100 * MIB, 99 * MIB, 8_000),
            (128 << 10, 0, 1_000),
            (9 * MIB, MIB, 64_000),
            (100 * MIB, 0, 64_000),
            // A peer that invents positions.
            (MIB, u64::MAX, 0),
        ] {
            let (mut timers, start) = start(Heartbeat::ping(10 * S));
            let traffic = Traffic { written, answered, ..Traffic::default() };
            timers.due(start + 10 * S, S, traffic);
            let deadline = start + 20 * S + Duration::from_millis(allowance);
            assert_eq!(timers.awaited.as_ref().unwrap().at, Some(deadline), "{written} {answered}");
            assert!(!timers.due(deadline - Duration::from_nanos(1), S, traffic).silence);
            assert!(timers.due(deadline, S, traffic).silence);
        }
    }

    #[test]
    fn ping_says_how_far_the_peer_has_read_once_there_is_something_to_say() {
        assert!(mark(0, 0).is_empty());
        assert!(mark(5 * MIB + 1023, 5 * MIB).is_empty());
        for position in [1024, 5 * MIB, u64::MAX] {
            assert_eq!(parse_mark(&mark(position, 0)), Some(position));
        }
        for other in
            [&b""[..], b"beat", b"beat\0\0\0\0\0\0\0\x01\0", b"\0\0\0\0\0\0\0\x01", b"BEAT\0\0\0\0\0\0\0\x01"]
        {
            assert_eq!(parse_mark(other), None);
        }
    }

    #[test]
    fn writer_is_told_along_with_the_reader_if_no_task_has_read_since_the_ping() {
        let looked = |looks| Traffic { looks, ..Traffic::default() };
        for (looks, due) in [
            ([5, 5, 5], [(false, false), (true, true), (true, true)]),
            // A task reads, or did: it has another limit to judge.
            ([5, 6, 6], [(false, false), (true, false), (true, true)]),
            ([5, 6, 7], [(false, false), (true, false), (true, false)]),
        ] {
            let (mut timers, start) = start(Heartbeat::ping(10 * S));
            for (at, (looks, expected)) in [10, 20, 30].into_iter().zip(looks.into_iter().zip(due)) {
                let due = timers.due(start + at * S, S, looked(looks));
                assert_eq!((due.silence, due.stuck), expected, "{at} {looks}");
            }
            timers.due(start + 31 * S, S, heard(1));
            assert!(!timers.due(start + 40 * S, S, heard(1)).silence, "it lives");
        }
    }

    #[test]
    fn writer_that_has_just_become_blocked_is_not_told() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        let at = |seconds| start + Duration::from_secs(seconds);
        timers.due(at(10), S, heard(0));
        timers.on_beat(0);
        assert!(timers.due(at(20), S, heard(0)).stuck, "if the transport has been full since the Ping");
        timers.on_full(at(29));
        assert!(!timers.due(at(30), S, heard(0)).stuck);
        assert!(!timers.due(at(38), S, heard(0)).stuck);
        assert!(timers.due(at(39), S, heard(0)).stuck, "exactly then");
    }

    #[test]
    fn any_byte_is_life() {
        let (mut timers, _) = start(Heartbeat::ping(10 * S));
        for received in 0..1000 {
            let now = timers.next().unwrap();
            assert!(!timers.due(now, S, heard(received)).silence);
        }
    }

    #[test]
    fn no_peer_is_judged_right_after_no_half_was_polled_for_long() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        assert_eq!(timers.due(start + 10 * S, S, heard(0)).beat, Some(true));
        timers.on_beat(0);
        let woken = start + 3600 * S;
        let due = timers.due(woken, S, heard(0));
        assert_eq!(due, Due { beat: Some(true), rested: true, awaits: true, ..Due::default() });
        assert!(!timers.due(woken + 9 * S, S, heard(0)).silence, "one fresh interval first");
        assert!(timers.due(woken + 10 * S, S, heard(0)).silence);
    }

    #[test]
    fn being_late_is_an_excuse_once_until_the_peer_is_heard() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        let at = |minutes: u32| start + minutes * 60 * S;
        for (minutes, received, rested, silent) in [
            (1, 0, false, false),
            (2, 0, true, false),
            (3, 0, false, true),
            (4, 1, false, false),
            (5, 1, true, false),
            (6, 1, false, true),
        ] {
            let due = timers.due(at(minutes), S, heard(received));
            timers.on_beat(0);
            assert_eq!((due.rested, due.silence), (rested, silent), "{minutes}");
        }
    }

    #[test]
    fn no_peer_is_judged_before_one_interval_after_a_suspension() {
        // The monotonic clock stood still while the wall clock ran on: with a Ping awaited, with none, after its limit.
        for passed in [12, 5, 14] {
            let (mut timers, start) = start(Heartbeat::ping(10 * S).timeout(4 * S));
            for second in [10, 14].into_iter().filter(|second| *second <= passed) {
                timers.due(start + second * S, S, heard(0));
                timers.on_beat(0);
            }
            let woken = start + passed * S;
            let due = timers.due(woken, 3601 * S, heard(0));
            assert_eq!(
                due,
                Due { beat: Some(true), rested: true, awaits: true, ..Due::default() },
                "{passed}"
            );
            for later in 1..10 {
                assert!(!timers.due(woken + later * S, 3601 * S, heard(0)).silence, "{passed} {later}");
            }
            assert!(timers.due(woken + 10 * S, 3601 * S, heard(0)).silence, "{passed}");
        }
    }

    #[test]
    fn wall_clock_that_is_set_back_or_drifts_changes_nothing() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.due(start + 10 * S, Duration::ZERO, heard(0));
        for second in 11..20 {
            let ahead = Duration::from_millis(900) * (second - 10);
            assert!(!timers.due(start + second * S, ahead, heard(0)).rested);
        }
        assert!(timers.due(start + 20 * S, S, heard(0)).silence);
    }

    #[test]
    fn beat_waits_for_the_one_before_it_and_the_peer_is_judged_by_that() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        assert_eq!(timers.due(start + 10 * S, S, heard(0)).beat, Some(true));
        timers.on_beat(100);
        // The peer was heard, but its first Ping does not go out.
        let mut silent = None;
        while let Some(now) = timers.next().filter(|_| silent.is_none()) {
            let due = timers.due(now, S, Traffic { received: 1, written: 99, ..Traffic::default() });
            assert_eq!(due.beat, None);
            silent = due.silence.then_some(now);
        }
        let allowance = wrote(99).allowance();
        assert_eq!(silent, Some(start + 30 * S + allowance), "the next interval, and the limit");
    }

    #[test]
    fn interval_or_limit_of_a_nanosecond_leaves_the_timer_at_rest_for_a_millisecond() {
        const NS: Duration = Duration::from_nanos(1);
        for heartbeat in [
            Heartbeat::pong(NS),
            Heartbeat::ping(NS),
            Heartbeat::ping(S).timeout(NS),
            Heartbeat::ping(NS).timeout(S),
        ] {
            let (mut timers, start) = start(heartbeat);
            let mut now = start;
            for _ in 0..1000 {
                let next = timers.next().unwrap();
                assert!(next >= now, "{heartbeat:?}");
                now = next;
                timers.due(now, S, heard(0));
                timers.on_beat(0);
                assert!(timers.next().unwrap() >= now + Duration::from_micros(1), "{heartbeat:?}");
            }
            assert!(now >= start + Duration::from_millis(500), "{heartbeat:?}");
        }
    }

    #[test]
    fn interval_without_end_never_comes() {
        let (mut timers, start) = start(Heartbeat::ping(Duration::MAX));
        assert_eq!(timers.next(), None);
        assert_eq!(timers.due(start + 3600 * S, S, heard(0)), Due::default());
    }

    #[test]
    fn closing_ends_the_heartbeat_and_keeps_the_first_deadline() {
        let (mut timers, start) = start(Heartbeat::ping(10 * S));
        timers.close_by(Some(start + 5 * S));
        timers.close_by(Some(start + 9 * S));
        timers.close_by(None);
        assert_eq!(timers.next(), Some(start + 5 * S));
        assert_eq!(timers.due(start + 5 * S, S, heard(0)), Due { close: true, ..Due::default() });
        assert_eq!(timers.next(), None);
    }
}
