//! Programs that write and do not read: `drive`, and the errors of a writer without a reader.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test, also in what the tests have in common"
)]

mod common;

use std::{
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use async_io::Timer;
use common::{
    Far, PipeRead, PipeWrite, alone,
    drive::{drive, now, settle},
    wire,
};
use coro_websocket::{
    Checks, Data, Error, Heartbeat, Message, Phase, ProtocolError, Role, StreamExt, WrapOptions, wrap_frames,
};
use futures::{channel::mpsc, executor::block_on, future::join};

const TICK: Duration = Duration::from_millis(20);

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[expect(clippy::disallowed_methods, reason = "what is measured is a limit")]
fn clock() -> Instant {
    Instant::now()
}

/// A peer that takes everything and says nothing.
fn silent(role: Role) -> ((PipeRead, PipeWrite), Far) {
    alone(1 << 30, WrapOptions::new(role).heartbeat(Heartbeat::ping(TICK).timeout(2 * TICK)))
}

/// Sends a little every now and then, until that fails.
async fn write_on(write: &mut PipeWrite) -> Error {
    loop {
        if let Err(error) = write.text("tick").await {
            return error;
        }
        Timer::after(TICK / 4).await;
    }
}

#[test]
fn program_that_only_writes_and_drives_is_told_of_a_silent_peer() {
    for role in ROLES {
        let ((mut read, mut write), _far) = silent(role);
        let (driven, _written) = block_on(join(read.drive(), write_on(&mut write)));
        assert!(matches!(driven, Err(Error::TimedOut(Phase::Heartbeat))), "{driven:?}");
    }
}

#[test]
fn program_that_only_writes_and_drives_is_told_of_a_close() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = silent(role);
        far.put(&wire::to(role, wire::CLOSE, b"\x03\xe8enough"));
        drop(far.output);
        let (driven, written) = block_on(join(read.drive(), write_on(&mut write)));
        assert!(driven.is_ok(), "the closing handshake was completed: {driven:?}");
        assert!(matches!(written, Error::Closed(_)), "{written:?}");
        assert_eq!(read.close_frames().received.unwrap().reason, "enough");
    }
}

#[test]
fn program_that_only_writes_and_drives_is_told_of_an_end_without_close() {
    for role in ROLES {
        let ((mut read, mut write), far) = silent(role);
        drop(far.output);
        let (driven, _written) = block_on(join(read.drive(), write_on(&mut write)));
        assert!(matches!(driven, Err(Error::Lost)), "{driven:?}");
    }
}

#[test]
fn program_over_decoded_frames_is_told_too() {
    let (near_sink, _far_stream) = mpsc::channel(1000);
    let (_far_sink, near_stream) = mpsc::channel::<Message>(8);
    let options = WrapOptions::client().heartbeat(Heartbeat::ping(TICK).timeout(2 * TICK));
    let (mut read, mut write) = wrap_frames(near_stream.map(Ok::<_, Error>), near_sink, options);
    let writing =
        async { while write.text("tick").await.is_ok() && Timer::after(TICK / 4).await > clock() - TICK {} };
    let (driven, ()) = block_on(join(read.drive(), writing));
    assert!(matches!(driven, Err(Error::TimedOut(Phase::Heartbeat))), "{driven:?}");
}

#[test]
fn drive_answers_pings_and_sends_what_was_fed() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::new(role));
        far.put(&wire::to(role, wire::PING, "there?"));
        far.put(&wire::to(role, wire::TEXT, "unwanted"));
        drive(write.feed(Message::text("fed"))).unwrap();
        assert!(settle(&mut pin!(read.drive())).is_pending());
        let sent: Vec<_> = far.frames().into_iter().map(|frame| frame.payload).collect();
        assert_eq!(sent, [&b"fed"[..], b"there?"]);
    }
}

#[test]
fn drive_that_is_dropped_leaves_no_half_message_behind() {
    for checks in [Checks::Strict, Checks::Report, Checks::Off] {
        let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::client().checks(checks));
        // Begun before, thrown away, ended after; begun and thrown away, ended after; begun before, its end thrown
        // away.
        for (before, during, after) in [
            (Some(wire::FIRST_TEXT), wire::NEXT, Some(wire::LAST)),
            (None, wire::FIRST_TEXT, Some(wire::LAST)),
            (Some(wire::FIRST_TEXT), wire::LAST, None),
        ] {
            if let Some(first) = before {
                far.put(&wire::to(Role::Client, first, "begun "));
                assert!(now(read.messages().next()).is_pending());
            }
            far.put(&wire::to(Role::Client, during, "lost "));
            assert!(now(read.drive()).is_pending());
            if let Some(last) = after {
                far.put(&wire::to(Role::Client, last, "end"));
            }
            far.put(&wire::to(Role::Client, wire::TEXT, "whole"));
            let next = drive(read.messages().next()).unwrap().unwrap();
            assert_eq!(next, Data::Text("whole".into()), "{checks:?} {before:?} {during}");
        }
    }
}

#[test]
fn message_between_the_fragments_that_drive_throws_away_does_not_end_theirs() {
    for checks in [Checks::Report, Checks::Off] {
        let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::client().checks(checks));
        far.put(&wire::to(Role::Client, wire::FIRST_TEXT, "begun "));
        far.put(&wire::to(Role::Client, wire::TEXT, "between"));
        assert!(now(read.drive()).is_pending());
        far.put(&wire::to(Role::Client, wire::LAST, "end"));
        far.put(&wire::to(Role::Client, wire::TEXT, "whole"));
        let next = drive(read.messages().next()).unwrap().unwrap();
        assert_eq!(next, Data::Text("whole".into()), "{checks:?}");
    }
}

#[test]
fn drive_continues_after_a_reported_violation() {
    let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::client().checks(Checks::Report));
    far.put(&wire::to(Role::Client, wire::TEXT | 0x40, "reserved"));
    assert!(now(read.drive()).is_pending());
    drive(write.text("on")).unwrap();
    let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::client());
    far.put(&wire::to(Role::Client, wire::TEXT | 0x40, "reserved"));
    drop(far.output);
    assert!(matches!(drive(read.drive()), Err(Error::Protocol { error: ProtocolError::ReservedBits, .. })));
    assert!(drive(read.drive()).is_ok(), "the end comes once more");
}

/// Without `drive` only a transport that takes nothing tells the writer.
#[test]
fn writer_that_is_blocked_is_told_within_the_limit_however_the_reader_is_left_alone() {
    #[derive(Debug, Clone, Copy)]
    enum Reader {
        NeverPolled,
        Dropped,
        GivenUp,
    }
    let test = |role, reader| {
        let (every, limit) = (3 * TICK, 50 * TICK);
        let options = WrapOptions::new(role).heartbeat(Heartbeat::ping(every).timeout(limit));
        let ((mut read, mut write), _far) = alone(100, options);
        let since = clock();
        block_on(async {
            let read = match reader {
                Reader::NeverPolled => Some(read),
                Reader::Dropped => {
                    drop(read);
                    None
                }
                Reader::GivenUp => {
                    assert!(futures::poll!(read.next()).is_pending(), "nothing comes");
                    Some(read)
                }
            };
            let sent = write.send(Message::binary(vec![7; 1000])).await;
            assert!(matches!(sent, Err(Error::TimedOut(Phase::Heartbeat))), "{reader:?} {sent:?}");
            drop(read);
        });
        // Not after another limit. The allowance for 100 bytes is less than a millisecond.
        assert!(since.elapsed() < every + 2 * limit, "{role:?} {reader:?}");
    };
    thread::scope(|scope| {
        for reader in [Reader::NeverPolled, Reader::Dropped, Reader::GivenUp] {
            for role in ROLES {
                scope.spawn(move || test(role, reader));
            }
        }
    });
}
