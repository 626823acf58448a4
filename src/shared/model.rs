//! Every interleaving of a few threads around one connection, by the model checker: what two halves in two tasks may
//! do to each other. A future that is never woken is a deadlock here, and fails the test.
//!
//! `RUSTFLAGS="--cfg coro_websocket_loom" cargo test --release --lib shared::model`

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::{FutureExt, SinkExt};
use loom::{
    future::block_on,
    model::Builder,
    thread::{self, JoinHandle},
};

use crate::{error::Error, frame::Message, sync::lock};

mod world;

use world::{PARTS, Peer, Reading, connection};

/// All that fits.
const ROOMY: usize = 1 << 20;

/// Runs the scenario in every order that so many preemptions allow (`LOOM_MAX_PREEMPTIONS` says otherwise).
fn explore(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 10_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    #[expect(clippy::print_stderr, reason = "how much was explored is part of the result")]
    {
        eprintln!("{name}: {} executions", executions.load(Ordering::Relaxed));
    }
}

fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || block_on(work))
}

/// Reads until the peer has got so many frames. That alone, or the reading, must wake us.
fn read_until_received(read: &mut Reading, peer: &Peer, frames: usize) {
    block_on(poll_fn(|cx| {
        while read.poll_message(cx).is_ready() {}
        peer.poll_received(cx, frames)
    }));
}

/// Reads to the end, and gives the error before it.
fn read_to_end(read: &mut Reading) -> Option<Error> {
    let mut last = None;
    while let Some(message) = block_on(poll_fn(|cx| read.poll_message(cx))) {
        last = message.err();
    }
    last
}

#[test]
fn two_senders_and_a_close_share_the_wire() {
    explore(3, || {
        let (_read, mut write, peer) = connection(ROOMY, 8, &[]);
        let senders = ["a", "b"].map(|text| {
            let mut write = write.clone();
            spawn(async move { write.text(text).await.is_ok() })
        });
        block_on(write.close_with(1000, "")).unwrap();
        let sent = senders.map(|sender| sender.join().unwrap());
        let said = peer.said();
        assert!(said.ends_with("close"), "{said}");
        assert_eq!(
            sent,
            ["a", "b"].map(|text| said.contains(text)),
            "{said}: what was accepted, and nothing else, goes out"
        );
    });
}

#[test]
fn pongs_go_out_while_others_send() {
    explore(2, || {
        let script = [Message::ping("x"), Message::ping("y")];
        let (mut read, mut write, peer) = connection(ROOMY, 8, &script);
        let mut other = write.clone();
        let sender = spawn(async move { write.text("a").await.unwrap() });
        let feeder = spawn(async move { other.feed(Message::text("b")).await.unwrap() });
        read_until_received(&mut read, &peer, 4);
        sender.join().unwrap();
        feeder.join().unwrap();
        let said = peer.said();
        assert!(said.contains('a') && said.contains('b'), "{said}");
        assert!(said.find('x') < said.find('y'), "{said}");
    });
}

#[test]
fn what_is_fed_goes_out_while_read_waits() {
    explore(3, || {
        let (mut read, mut write, peer) = connection(ROOMY, 8, &[]);
        let feeder = spawn(async move {
            write.feed(Message::text("a")).await.unwrap();
            write.feed(Message::text("b")).await.unwrap();
        });
        read_until_received(&mut read, &peer, 2);
        feeder.join().unwrap();
        assert_eq!(peer.said(), "a b");
    });
}

#[test]
fn what_was_fed_goes_out_though_another_has_the_lock() {
    explore(3, || {
        let (mut read, mut write, peer) = connection(ROOMY, 8, &[Message::ping("x")]);
        let looking = thread::spawn({
            let write = write.clone();
            move || {
                let _ = write.buffered();
                write
            }
        });
        block_on(write.feed(Message::text("a"))).unwrap();
        // So that the checker tries this while the other has the lock: both touch the wire.
        peer.take(0);
        read_until_received(&mut read, &peer, 2);
        drop(looking.join().unwrap());
        assert_eq!(peer.said(), "a x");
    });
}

#[test]
fn a_send_that_is_given_up_goes_out_while_read_waits() {
    explore(2, || {
        let (mut read, mut write, peer) = connection(0, 8, &[]);
        let sender = thread::spawn(move || {
            // Polled once, and dropped while the transport has no room, or has just got some.
            let mut sending = Box::pin(write.send(Message::text("a")));
            let _ = block_on(poll_fn(|cx| Poll::Ready(sending.poll_unpin(cx).is_ready())));
        });
        let network = thread::spawn({
            let peer = peer.clone();
            move || peer.take(PARTS)
        });
        read_until_received(&mut read, &peer, 1);
        sender.join().unwrap();
        network.join().unwrap();
        assert_eq!(peer.said(), "a");
    });
}

#[test]
fn senders_without_room_drain_for_each_other() {
    explore(2, || {
        let (_read, write, peer) = connection(1, 1, &[]);
        let senders = ["a", "b"].map(|text| {
            let mut write = write.clone();
            spawn(async move { write.text(text).await.unwrap() })
        });
        peer.take(1);
        peer.take(PARTS);
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(matches!(peer.said().as_str(), "a b" | "b a"));
    });
}

#[test]
fn room_is_noticed_while_read_writes_too() {
    explore(1, || {
        let (mut read, mut write, peer) = connection(0, 1, &[]);
        block_on(write.feed(Message::text("a"))).unwrap();
        let feeder = spawn(async move { write.feed(Message::text("b")).await.unwrap() });
        let network = thread::spawn({
            let peer = peer.clone();
            move || peer.take(2 * PARTS)
        });
        read_until_received(&mut read, &peer, 2);
        feeder.join().unwrap();
        network.join().unwrap();
        assert_eq!(peer.said(), "a b");
    });
}

#[test]
fn data_of_others_waits_for_the_end_of_a_fragmented_message() {
    explore(3, || {
        let (_read, mut write, peer) = connection(ROOMY, 8, &[]);
        let mut other = write.clone();
        let sender = spawn(async move {
            other.text("x").await.unwrap();
        });
        block_on(async {
            let first = Message { fin: false, ..Message::text("a") };
            write.send(first).await.unwrap();
            write.send(Message::ping("p")).await.unwrap();
            write.send(Message::continuation("b", true)).await.unwrap();
        });
        sender.join().unwrap();
        let said = peer.said();
        assert!(matches!(said.as_str(), "x a p b" | "a p b x"), "{said}");
    });
}

#[test]
fn a_close_lets_those_go_who_wait_for_the_end_of_a_message() {
    explore(3, || {
        let (_read, mut write, peer) = connection(ROOMY, 8, &[]);
        let mut other = write.clone();
        let sender = spawn(async move { other.text("x").await });
        block_on(async {
            let first = Message { fin: false, ..Message::text("a") };
            write.feed(first).await.unwrap();
            write.close().await.unwrap();
        });
        let sent = sender.join().unwrap();
        let said = peer.said();
        match sent {
            Ok(_) => assert_eq!(said, "x a close"),
            Err(error) => {
                assert!(matches!(error, Error::Closed(_)));
                assert_eq!(said, "a close");
            }
        }
    });
}

#[test]
fn a_writer_dropped_in_mid_message_fails_the_connection_for_all() {
    explore(2, || {
        let (mut read, mut write, peer) = connection(ROOMY, 8, &[]);
        let mut other = write.clone();
        let sender = spawn(async move { other.text("x").await });
        let quitter = spawn(async move {
            let first = Message { fin: false, ..Message::text("a") };
            write.feed(first).await.unwrap();
        });
        assert!(matches!(read_to_end(&mut read), Some(Error::Abandoned)));
        quitter.join().unwrap();
        let sent = sender.join().unwrap();
        let said = peer.said();
        match sent {
            Ok(_) => assert_eq!(said, "x a close"),
            Err(error) => {
                assert!(matches!(error, Error::Abandoned | Error::Closed(_)), "{error}");
                assert_eq!(said, "a close");
            }
        }
        assert!(lock(&peer.0).shut);
    });
}

#[test]
fn a_writer_dropped_in_mid_message_and_an_abort_end_the_reading() {
    explore(2, || {
        let (mut read, mut write, peer) = connection(0, 8, &[]);
        let mut other = write.clone();
        let quitter = spawn(async move {
            let first = Message { fin: false, ..Message::text("a") };
            write.feed(first).await
        });
        let aborter = thread::spawn(move || other.abort());
        assert!(matches!(read_to_end(&mut read), Some(Error::Abandoned) | None));
        let _ = quitter.join().unwrap();
        aborter.join().unwrap();
        assert_eq!(peer.said(), "");
    });
}

#[test]
fn the_peers_close_is_echoed_once_while_others_send_and_close() {
    explore(2, || {
        let (mut read, mut write, peer) = connection(ROOMY, 8, &[Message::close(1000, "bye")]);
        let mut other = write.clone();
        let sender = spawn(async move { other.text("x").await.is_ok() });
        let closer = spawn(async move { write.close().await.is_ok() });
        assert!(read_to_end(&mut read).is_none());
        assert!(closer.join().unwrap(), "closed is what was asked for");
        let sent = sender.join().unwrap();
        assert_eq!(peer.said(), if sent { "x close" } else { "close" });
        assert!(lock(&peer.0).shut);
    });
}

#[test]
fn nothing_that_waited_for_room_follows_the_echo_of_a_close() {
    explore(2, || {
        let script = [Message::ping("p"), Message::close(1000, "bye")];
        let (mut read, mut write, peer) = connection(0, 1, &script);
        block_on(write.feed(Message::text("a"))).unwrap();
        let feeder = spawn(async move { write.feed(Message::text("b")).await.is_ok() });
        let network = thread::spawn({
            let peer = peer.clone();
            move || peer.take(ROOMY)
        });
        assert!(read_to_end(&mut read).is_none());
        network.join().unwrap();
        let fed = feeder.join().unwrap();
        let said = peer.said();
        assert!(said.ends_with("close"), "{said}");
        assert_eq!(said.contains('b'), fed, "{said}: what was accepted, and nothing else, goes out");
    });
}

#[test]
fn abort_lets_everybody_go() {
    explore(2, || {
        let (mut read, mut write, peer) = connection(1, 1, &[]);
        let mut other = write.clone();
        let sender = spawn(async move { other.text("x").await });
        let aborter = thread::spawn(move || {
            write.abort();
            assert!(write.is_closed());
        });
        assert!(read_to_end(&mut read).is_none());
        assert!(matches!(sender.join().unwrap(), Err(Error::Closed(_))));
        aborter.join().unwrap();
        assert!(lock(&peer.0).parts.len() <= 1);
    });
}

#[test]
fn halves_may_be_dropped_while_others_send() {
    explore(2, || {
        let (read, mut write, peer) = connection(ROOMY, 8, &[Message::ping("p")]);
        let mut other = write.clone();
        let sender = spawn(async move { other.text("x").await.unwrap() });
        let reader = thread::spawn(move || {
            let mut read = read;
            let _ = block_on(poll_fn(|cx| Poll::Ready(read.poll_message(cx).is_ready())));
        });
        block_on(write.feed(Message::text("lost, maybe"))).unwrap();
        drop(write);
        sender.join().unwrap();
        reader.join().unwrap();
        assert!(peer.said().contains('x'));
    });
}
