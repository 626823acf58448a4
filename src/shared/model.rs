//! Every interleaving of a few threads around one connection, by the model checker: what two halves in two tasks may
//! do to each other. A future that is never woken is a deadlock here, and fails the test.
//!
//! `RUSTFLAGS="--cfg coro_websocket_loom" cargo test --release --lib shared::model`

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, SinkExt};
use loom::{
    future::block_on,
    model::Builder,
    thread::{self, JoinHandle},
};

use crate::{
    error::Error,
    frame::{FrameView, Message, Opcode},
    options::{Role, Settings},
    read::Read,
    reader::{self, Source},
    shared::Shared,
    sync::{Mutex, lock},
    write::Write,
    writer::{self, Outlet},
};

/// Each frame has two parts on the wire, whatever it carries, so that it could be torn.
const PARTS: usize = 2;

/// What is between our end and the peer.
#[derive(Default)]
struct Wire {
    parts: Vec<Message>,
    /// How many parts more the transport takes now.
    room: usize,
    shut: bool,
    sender: Option<Waker>,
    peer: Option<Waker>,
}

/// The peer's end: it takes what is sent, when it likes.
#[derive(Clone)]
struct Peer(Arc<Mutex<Wire>>);

/// Our end, writing.
struct Line {
    wire: Arc<Mutex<Wire>>,
    queue: VecDeque<Message>,
    accepted: u64,
    written: u64,
    flushed: u64,
}

impl Outlet for Line {}

impl writer::sealed::Outlet for Line {
    fn push(&mut self, message: &mut Message) -> Result<usize, Error> {
        self.queue.extend(std::iter::repeat_n(message.clone(), PARTS));
        self.accepted += PARTS as u64;
        Ok(PARTS)
    }

    fn buffered(&self) -> usize {
        // Something that others touch too, so that they come in between while the lock is held.
        drop(lock(&self.wire));
        self.queue.len()
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn flushed(&self) -> u64 {
        self.flushed
    }

    fn poll_flush_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>> {
        let mut peer = None;
        let polled = {
            let mut wire = lock(&self.wire);
            while self.written < target && wire.room > 0 {
                let Some(part) = self.queue.pop_front() else { break };
                wire.room -= 1;
                wire.parts.push(part);
                self.written += 1;
                peer = wire.peer.take().or(peer);
            }
            if self.written < target {
                wire.sender = Some(cx.waker().clone());
                Poll::Pending
            } else {
                self.flushed = self.written;
                Poll::Ready(Ok(()))
            }
        };
        if let Some(peer) = peer {
            peer.wake();
        }
        polled
    }

    fn poll_shut(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        lock(&self.wire).shut = true;
        Poll::Ready(Ok(()))
    }
}

impl Peer {
    /// Makes room, and says so as a transport does.
    fn take(&self, parts: usize) {
        let mut wire = lock(&self.0);
        wire.room += parts;
        let sender = wire.sender.take();
        drop(wire);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    fn poll_received(&self, cx: &Context<'_>, frames: usize) -> Poll<()> {
        let mut wire = lock(&self.0);
        if wire.parts.len() >= frames * PARTS {
            return Poll::Ready(());
        }
        wire.peer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What was received. No frame is torn, and nothing comes after a Close frame.
    fn frames(&self) -> Vec<Message> {
        let wire = lock(&self.0);
        let (frames, rest) = wire.parts.as_chunks::<PARTS>();
        assert!(rest.is_empty(), "a frame is torn");
        let frames: Vec<Message> = frames
            .iter()
            .map(|[head, tail]| {
                assert_eq!(head, tail, "frames are interleaved");
                head.clone()
            })
            .collect();
        let close = frames.iter().position(|frame| frame.opcode == Opcode::CLOSE);
        assert!(close.is_none_or(|place| place + 1 == frames.len()), "after Close: {frames:?}");
        frames
    }

    fn said(&self) -> String {
        let texts: Vec<String> = self
            .frames()
            .iter()
            .map(|frame| match frame.opcode {
                Opcode::CLOSE => "close".to_owned(),
                _ => frame.as_text().unwrap_or_default().to_owned(),
            })
            .collect();
        texts.join(" ")
    }
}

/// What the peer sends: these frames, and then nothing more, nor the end.
struct Script {
    frames: VecDeque<Message>,
    staged: Option<Message>,
    current: Message,
}

impl Source for Script {}

impl reader::sealed::Source for Script {
    fn advance(&mut self, _: bool) -> Option<Result<(), Error>> {
        self.current = self.staged.take()?;
        Some(Ok(()))
    }

    fn poll_fill(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        self.staged = self.frames.pop_front();
        if self.staged.is_some() { Poll::Ready(Ok(true)) } else { Poll::Pending }
    }

    fn view(&self) -> FrameView<'_> {
        FrameView::from(&self.current)
    }

    fn take(&mut self) -> Message {
        std::mem::take(&mut self.current)
    }

    fn is_torn(&self) -> bool {
        false
    }

    fn poll_discard(&mut self, _: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(0)
    }

    fn received(&self) -> u64 {
        0
    }
}

type Reading = Read<Script, Line>;
type Writing = Write<Line>;

/// A server's halves, with a mark of `high_water` parts, over a transport that takes `room` parts for now.
fn connection(room: usize, high_water: usize, script: &[Message]) -> (Reading, Writing, Peer) {
    let wire = Arc::new(Mutex::new(Wire { room, ..Wire::default() }));
    let line = Line { wire: Arc::clone(&wire), queue: VecDeque::new(), accepted: 0, written: 0, flushed: 0 };
    let mut settings = Settings::new(Role::Server);
    settings.write_buffer_len = high_water;
    let shared = Shared::new(line, &settings);
    let write = Write::new(Arc::clone(&shared), settings.checks, None);
    let source =
        Script { frames: script.iter().cloned().collect(), staged: None, current: Message::default() };
    (Read::new(source, shared, &settings), write, Peer(wire))
}

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
                assert!(matches!(error, Error::Closed));
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
                assert!(matches!(error, Error::Abandoned | Error::Closed), "{error}");
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
        assert!(matches!(sender.join().unwrap(), Err(Error::Closed)));
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
