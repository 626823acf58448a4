//! Heartbeats, silence of the peer and the end of the closing handshake, at chosen times.

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
        assert_eq!(due, Due { beat: Some(true), rested: true, awaits: true, ..Due::default() }, "{passed}");
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
