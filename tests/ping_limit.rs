//! The limit of `ping`: it ends where no Pong is read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test, also in what the tests have in common"
)]

mod common;

use std::{pin::pin, time::Duration};

use common::{
    alone,
    drive::{drive, now},
    wire,
};
use coro_websocket::{Error, Phase, Role, StreamExt, WrapOptions};
use futures::{
    executor::block_on,
    future::{Either, select},
};

const TICK: Duration = Duration::from_millis(20);

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn ping_has_a_limit_where_no_task_reads() {
    for role in ROLES {
        for capacity in [1 << 20, 0] {
            let ((mut read, mut write), _far) = alone(capacity, WrapOptions::new(role));
            let pong = block_on(write.ping_timeout(TICK));
            assert!(matches!(pong, Err(Error::TimedOut(Phase::Call))), "{pong:?}");
            assert!(now(read.next()).is_pending(), "the connection goes on");
            assert!(!write.is_closed());
        }
    }
}

#[test]
fn ping_has_a_limit_where_the_peer_does_not_answer() {
    let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::client());
    block_on(async {
        let reading = pin!(async { while read.next().await.is_some() {} });
        let pinging = pin!(write.ping_timeout(TICK));
        match select(pinging, reading).await {
            Either::Left((pong, _)) => assert!(matches!(pong, Err(Error::TimedOut(Phase::Call))), "{pong:?}"),
            Either::Right(_) => panic!("the end"),
        }
    });
    // The next one is answered in time, and the late answer to the first does no harm.
    let mut pinging = Box::pin(write.ping_timeout(None));
    assert!(now(pinging.as_mut()).is_pending());
    for ping in far.frames() {
        far.put(&wire::to(Role::Client, wire::PONG, &ping.payload));
    }
    while now(read.next()).is_ready() {}
    assert!(drive(pinging).is_ok());
}

#[test]
fn ping_has_a_limit_unless_another_is_chosen() {
    // The limit is a timer, so a Ping without one leaves nothing that wakes it.
    let ((_read, mut write), _far) = alone(1 << 20, WrapOptions::client());
    assert!(now(write.ping_timeout(None)).is_pending());
    assert!(now(write.ping_timeout(Duration::MAX)).is_pending());
    assert!(now(write.ping()).is_pending());
    let none = block_on(write.ping_timeout(Duration::ZERO));
    assert!(matches!(none, Err(Error::TimedOut(Phase::Call))), "{none:?}");
}

#[test]
fn ping_errs_at_once_where_the_reader_is_gone() {
    let ((read, mut write), _far) = alone(1 << 20, WrapOptions::client());
    drop(read);
    assert!(matches!(drive(write.ping()), Err(Error::ReaderGone)));
    assert!(matches!(drive(write.ping_timeout(Duration::MAX)), Err(Error::ReaderGone)));
}
