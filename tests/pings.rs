//! `Write::ping`: which Pong answers it, and which Pongs are yielded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{collections::HashSet, time::Duration};

use common::{
    Far, PipeRead, PipeWrite, alone, connected,
    drive::{drive, now},
    poll_once, wire,
};
use coro_websocket::{Checks, Heartbeat, Message, Opcode, Role, StreamExt, WrapOptions, wrap_frames};
use futures::{FutureExt, channel::mpsc, join};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// The payloads of the Pings that have gone out.
fn pings(far: &mut Far) -> Vec<Vec<u8>> {
    far.frames().into_iter().filter(|frame| frame.first == wire::PING).map(|frame| frame.payload).collect()
}

fn pong(far: &mut Far, role: Role, payload: &[u8]) {
    far.put(&wire::to(role, wire::PONG, payload));
}

/// The payloads of the Pongs that `Read` yields now.
fn yielded(read: &mut PipeRead) -> Vec<Vec<u8>> {
    let mut yielded = Vec::new();
    while let Some(Some(message)) = read.next().now_or_never() {
        let message = message.unwrap();
        assert!(message.opcode == Opcode::PONG);
        yielded.push(message.payload.to_vec());
    }
    yielded
}

/// Sends a Ping that no future waits for.
type Later = fn(PipeWrite);

const LATER: [(&str, Later); 4] = [
    ("sent", |mut write| drive(write.send(Message::ping("later"))).unwrap()),
    ("written", |mut write| assert!(drive(write.write(Message::ping("later"))).unwrap() > 5)),
    ("tried", |mut write| {
        write.try_feed(Message::ping("later")).unwrap();
        drive(futures::SinkExt::flush(&mut write)).unwrap();
    }),
    ("fed", |mut write| {
        drive(async {
            write.feed(Message::ping("later")).await.unwrap();
            futures::SinkExt::flush(&mut write).await.unwrap();
        });
    }),
];

/// §5.5.3: a peer "MAY elect to send a Pong frame for only the most recently processed Ping frame".
#[test]
fn a_pong_for_a_later_ping_of_any_origin_answers_those_before_it() {
    for role in ROLES {
        for checks in [Checks::Strict, Checks::Report, Checks::Off] {
            for (how, later) in LATER {
                let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role).checks(checks));
                let other = write.clone();
                let mut pinging = Box::pin(write.ping());
                assert!(poll_once(&mut pinging).is_pending());
                later(other);
                assert_eq!(pings(&mut far)[1], b"later");
                pong(&mut far, role, b"later");
                assert_eq!(yielded(&mut read), [b"later"], "{how}: it answers a Ping of the caller's");
                assert!(drive(pinging).is_ok(), "{role:?} {checks:?} {how}");
            }
        }
    }
}

#[test]
fn a_pong_for_a_heartbeat_answers_the_pings_before_it_and_is_yielded() {
    let beat = Heartbeat::ping(Duration::from_millis(20)).timeout(Duration::from_secs(60));
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role).heartbeat(beat));
        futures::executor::block_on(async {
            let mut pinging = Box::pin(write.ping());
            assert!(poll_once(&mut pinging).is_pending());
            let mut sent = pings(&mut far);
            while sent.len() < 2 {
                let _ = read.next_timeout(Duration::from_millis(5)).await;
                sent.extend(pings(&mut far));
            }
            assert!(sent[1].is_empty());
            pong(&mut far, role, &sent[1]);
            assert!(read.next().await.unwrap().unwrap().opcode == Opcode::PONG);
            assert!(poll_once(&mut pinging).is_ready());
        });
    }
}

#[test]
fn a_pong_for_an_earlier_ping_does_not_answer_a_later_one() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        let (mut second, mut other) = (write.clone(), write.clone());
        let mut first = Box::pin(write.ping());
        assert!(poll_once(&mut first).is_pending());
        drive(other.send(Message::ping("between"))).unwrap();
        let mut second = Box::pin(second.ping());
        assert!(poll_once(&mut second).is_pending());
        let sent = pings(&mut far);
        pong(&mut far, role, b"between");
        assert_eq!(yielded(&mut read), [b"between"]);
        assert!(poll_once(&mut first).is_ready());
        assert!(poll_once(&mut second).is_pending());
        // Equal payloads: the first Ping is meant.
        drive(other.send(Message::ping(sent[2].clone()))).unwrap();
        pong(&mut far, role, &sent[2]);
        assert!(yielded(&mut read).is_empty(), "it answers the Ping of `ping`");
        assert!(poll_once(&mut second).is_ready());
        pong(&mut far, role, &sent[2]);
        assert_eq!(yielded(&mut read), [&sent[2][..]], "it answers the caller's");
    }
}

#[test]
fn only_pongs_to_own_pings_are_hidden_and_none_without_checks() {
    for role in ROLES {
        for checks in [Checks::Strict, Checks::Report, Checks::Off] {
            let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role).checks(checks));
            let mut pinging = Box::pin(write.ping());
            assert!(poll_once(&mut pinging).is_pending());
            let own = pings(&mut far).remove(0);
            pong(&mut far, role, b"unsolicited");
            pong(&mut far, role, &own);
            pong(&mut far, role, &own);
            let (unsolicited, own) = (b"unsolicited".to_vec(), own);
            let expected = match checks {
                Checks::Off => vec![unsolicited, own.clone(), own],
                _ => vec![unsolicited, own],
            };
            assert_eq!(yielded(&mut read), expected, "{checks:?}");
            assert!(drive(pinging).is_ok());
        }
    }
}

#[test]
fn a_hidden_pong_wakes_no_loop_over_messages_and_ends_nothing() {
    let ((mut near_read, mut near), (mut far_read, mut far)) =
        connected(1024, WrapOptions::client(), WrapOptions::server());
    drive(async {
        let pinging = async {
            for _ in 0..100 {
                near.ping().await.unwrap();
            }
            near.close_with(1000, "").await.unwrap();
        };
        let near_reads = async {
            let mut yielded = Vec::new();
            while let Some(message) = near_read.next().await {
                yielded.push(message.unwrap());
            }
            assert!(matches!(&yielded[..], [close] if close.opcode == Opcode::CLOSE), "{yielded:?}");
        };
        let far_reads = async {
            let mut count = 0;
            while let Some(message) = far_read.next().await {
                count += usize::from(message.unwrap().opcode == Opcode::PING);
            }
            assert_eq!(count, 100);
        };
        join!(pinging, near_reads, far_reads);
    });
    assert!(drive(far.send("late")).is_err());
}

#[test]
fn own_pings_have_sixteen_bytes_that_no_other_connection_sends() {
    let mut payloads = HashSet::new();
    for _ in 0..100 {
        let ((_read, mut write), mut far) = alone(1024, WrapOptions::client());
        for _ in 0..3 {
            assert!(now(write.ping()).is_pending());
        }
        payloads.extend(pings(&mut far));
    }
    assert_eq!(payloads.len(), 300);
    assert!(payloads.iter().all(|payload| payload.len() == 16));
}

#[test]
fn a_sink_of_frames_gives_pings_the_same_meaning() {
    let (sink, mut far) = mpsc::channel(8);
    let (input, stream) = mpsc::unbounded::<Result<Message, coro_websocket::Error>>();
    let (mut read, mut write) = wrap_frames(stream, sink, WrapOptions::client());
    let mut other = write.clone();
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    drive(other.send(Message::ping("later"))).unwrap();
    let own = drive(far.next()).unwrap().payload;
    input.unbounded_send(Ok(Message::pong("later"))).unwrap();
    input.unbounded_send(Ok(Message::pong(own.clone()))).unwrap();
    assert_eq!(drive(read.next()).unwrap().unwrap().payload, "later");
    assert!(drive(pinging).is_ok());
    assert_eq!(drive(read.next()).unwrap().unwrap().payload, own, "it came too late to answer anything");
}

/// Memory is bounded however many Pings follow an unanswered one.
#[test]
fn pings_behind_an_unanswered_one_are_kept_up_to_a_bound_of_which_the_latest_still_answer() {
    let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
    let mut other = write.clone();
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    let mut send = |far: &mut Far, count: u32| {
        for number in 0..count {
            drive(other.send(Message::ping(vec![(number % 251) as u8; 125]))).unwrap();
            far.frames();
        }
    };
    send(&mut far, 1000);
    let kept = allocation_counter::measure(|| send(&mut far, 3000));
    assert!(kept.bytes_current < 20 << 10, "{} bytes were kept", kept.bytes_current);
    pong(&mut far, Role::Client, &[((3000_u32 - 1) % 251) as u8; 125]);
    assert_eq!(yielded(&mut read).len(), 1);
    assert!(poll_once(&mut pinging).is_ready());
}

#[test]
fn futures_of_ping_that_were_dropped_are_forgotten_up_to_a_bound() {
    let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
    let mut drop_pings = |count: usize| {
        for _ in 0..count {
            assert!(now(write.ping()).is_pending());
            far.frames();
        }
    };
    drop_pings(1000);
    let kept = allocation_counter::measure(|| drop_pings(3000));
    assert!(kept.bytes_current < 20 << 10, "{} bytes were kept", kept.bytes_current);
    let mut pinging = Box::pin(write.ping());
    assert!(poll_once(&mut pinging).is_pending());
    let own = pings(&mut far).remove(0);
    pong(&mut far, Role::Client, &own);
    assert!(yielded(&mut read).is_empty());
    assert!(poll_once(&mut pinging).is_ready());
}

#[test]
fn every_future_of_many_gets_its_pong_though_other_pings_are_forgotten() {
    let ((mut read, write), mut far) = alone(1 << 20, WrapOptions::client());
    let mut clones: Vec<_> = (0..1000).map(|_| write.clone()).collect();
    let mut others: Vec<_> = (0..1000).map(|_| write.clone()).collect();
    let mut waiting: Vec<_> = clones
        .iter_mut()
        .zip(&mut others)
        .map(|(clone, other)| {
            let mut pinging = Box::pin(clone.ping());
            assert!(poll_once(&mut pinging).is_pending());
            drive(other.send(Message::ping("other"))).unwrap();
            pinging
        })
        .collect();
    for payload in pings(&mut far).into_iter().filter(|payload| payload.len() == 16) {
        pong(&mut far, Role::Client, &payload);
    }
    assert!(yielded(&mut read).is_empty());
    assert!(waiting.iter_mut().all(|ping| poll_once(ping).is_ready()));
}
