//! Two halves in two tasks, with clones of the writer in others: nothing lost, torn, reordered or stuck.
//!
//! `CORO_WEBSOCKET_FRAMES` says how many frames go over each transport (some ten thousand by default),
//! `CORO_WEBSOCKET_SEED` with which randomness.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a panic fails the test, also in what the tests have in common"
)]

mod common;

use std::{
    env, io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use async_net::{TcpListener, TcpStream};
use common::{PipeReader, connected};
use coro_websocket::{
    Error, FrameReader, IoRead, IoWrite, Message, Opcode, SinkExt, StreamExt, TryFeedError, WrapOptions,
    wrap_io,
};
use fastrand::Rng;
use futures::{
    FutureExt,
    executor::block_on,
    io::{AsyncRead, AsyncWrite},
};

/// How many clones of the writer each end has, each in a thread of its own.
const WRITERS: usize = 2;

/// How long nothing at all may happen.
const STUCK: Duration = Duration::from_secs(20);

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Says which seed it was, when a test fails.
struct Seed(u64);

impl Seed {
    fn new() -> Self {
        Self(number("CORO_WEBSOCKET_SEED", 0x5eed))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CORO_WEBSOCKET_SEED={}", self.0);
        }
    }
}

/// What one end has done.
#[derive(Debug, Default)]
struct Tally {
    /// Messages accepted from each writer, and messages received from each of the other end's.
    sent: [AtomicU64; WRITERS],
    received: [AtomicU64; WRITERS],
    pings: AtomicU64,
    pongs: AtomicU64,
    state: Mutex<&'static str>,
}

impl Tally {
    fn progress(&self) -> u64 {
        let all = self.sent.iter().chain(&self.received);
        all.chain([&self.pings, &self.pongs]).map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What all threads of one run share.
struct Run {
    ends: [Tally; 2],
    /// Writers that have still something to send.
    sending: AtomicUsize,
    /// When this many messages are sent, whoever sends the next one closes instead.
    close_after: Option<u64>,
    /// Messages of each writer.
    messages: u64,
}

/// The payload of a writer's message: who, the how manieth, and bytes that follow from these.
fn payload(writer: usize, nth: u64, rng: &mut Rng) -> Vec<u8> {
    let len = match rng.u8(..) {
        0 => rng.usize(0..100_000),
        1..16 => rng.usize(0..3000),
        _ => rng.usize(0..200),
    };
    let mut bytes = vec![u8::try_from(writer).unwrap()];
    bytes.extend(nth.to_be_bytes());
    bytes.extend((0..len).map(|i| fill(writer, nth, i)));
    bytes
}

fn fill(writer: usize, nth: u64, i: usize) -> u8 {
    let [byte, ..] = nth.wrapping_mul(31).wrapping_add((i ^ writer) as u64).to_le_bytes();
    byte
}

fn check(payload: &[u8]) -> (usize, u64) {
    let (&writer, rest) = payload.split_first().unwrap();
    let (nth, rest) = rest.split_first_chunk::<8>().unwrap();
    let (writer, nth) = (usize::from(writer), u64::from_be_bytes(*nth));
    assert!(
        rest.iter().enumerate().all(|(i, &byte)| byte == fill(writer, nth, i)),
        "message {nth} of writer {writer} is torn"
    );
    (writer, nth)
}

/// One writer: frames and fragmented messages, sent, fed, tried, given up, with Pings in between.
async fn send_all<W: AsyncWrite + Unpin>(
    run: &Run,
    end: usize,
    writer: usize,
    mut write: IoWrite<W>,
    mut rng: Rng,
) -> Result<(), Error> {
    let tally = &run.ends[end];
    for nth in 0..run.messages {
        let total: u64 = run.ends[end].sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
        if run.close_after.is_some_and(|after| total >= after) {
            return write.close_with(1000, "enough").await;
        }
        if rng.u8(..) < 8 {
            let id = tally.pings.fetch_add(1, Ordering::Relaxed);
            write.send(Message::ping(id.to_be_bytes().to_vec())).await?;
        }
        let bytes = payload(writer, nth, &mut rng);
        match rng.u8(..8) {
            // A message in several frames. Not where a Close may come: what waits behind one is given up.
            0 if run.close_after.is_none() => {
                let cut = rng.usize(..bytes.len());
                let first = Message { fin: false, ..Message::binary(bytes[..cut].to_vec()) };
                write.feed(first).await?;
                write.send(Message::continuation("", false)).await?;
                write.feed(Message::continuation(bytes[cut..].to_vec(), true)).await?;
            }
            1 | 2 => write.send(Message::binary(bytes)).await?,
            3 => {
                // The same through the traits.
                SinkExt::feed(&mut write, Message::binary(bytes)).await?;
                SinkExt::flush(&mut write).await?;
            }
            4 => match write.try_feed(Message::binary(bytes)) {
                Ok(()) => {}
                Err(TryFeedError::Full(message)) => write.feed(message).await?,
                Err(TryFeedError::Refused { error, .. }) => return Err(error),
                Err(_) => unreachable!(),
            },
            _ => write.feed(Message::binary(bytes)).await?,
        }
        tally.sent[writer].store(nth + 1, Ordering::Relaxed);
    }
    // The last of all closes, for both ends.
    if run.sending.fetch_sub(1, Ordering::AcqRel) == 1 {
        write.close_with(1000, "done").await?;
    }
    Ok(())
}

/// The reading half of one end, up to the end.
async fn receive_all<R, W>(run: &Run, end: usize, mut read: IoRead<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let tally = &run.ends[end];
    *tally.state.lock().unwrap() = "reading";
    let mut whole = Vec::new();
    let mut open = false;
    let mut next_pong = 0;
    while let Some(message) = read.next().await {
        let message = message.unwrap_or_else(|error| panic!("end {end}: {error}"));
        match message.opcode {
            Opcode::PONG => {
                let id = u64::from_be_bytes(message.payload.as_ref().try_into().unwrap());
                assert!(id < tally.pings.load(Ordering::Relaxed), "a Pong without a Ping");
                tally.pongs.fetch_add(1, Ordering::Relaxed);
                next_pong += 1;
            }
            Opcode::PING | Opcode::CLOSE => {}
            opcode => {
                assert_eq!(opcode == Opcode::CONTINUATION, open);
                open = !message.fin;
                whole.extend_from_slice(&message.payload);
                if open {
                    continue;
                }
                let (writer, nth) = check(&whole);
                whole.clear();
                let received = &tally.received[writer];
                assert_eq!(nth, received.load(Ordering::Relaxed), "writer {writer}");
                received.store(nth + 1, Ordering::Relaxed);
            }
        }
    }
    assert!(read.close_frames().is_clean(), "end {end}");
    assert!(next_pong <= tally.pings.load(Ordering::Relaxed));
    *tally.state.lock().unwrap() = "ended";
}

type Ends<R, W> = [(IoRead<R, W>, IoWrite<W>); 2];

/// Everything at once, with a watchdog.
fn run<R, W>(seed: u64, messages: u64, close_after: Option<u64>, ends: Ends<R, W>)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let run = Arc::new(Run {
        ends: Default::default(),
        sending: AtomicUsize::new(2 * WRITERS),
        close_after,
        messages,
    });
    let (done, finished) = mpsc::channel();
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
        let done = done.clone();
        let thread = Builder::new().name(name).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let _ = done.send(result.is_ok());
        });
        threads.push(thread.unwrap());
    };
    for (end, (read, write)) in ends.into_iter().enumerate() {
        for writer in 0..WRITERS {
            let (run, write) = (Arc::clone(&run), write.clone());
            let rng = Rng::with_seed(seed ^ (end * WRITERS + writer) as u64);
            let work = move || match block_on(send_all(&run, end, writer, write, rng)) {
                // The other end, or another clone, has closed.
                Ok(()) | Err(Error::Closed(_) | Error::Io(_)) if run.close_after.is_some() => {}
                sent => sent.unwrap(),
            };
            spawn(format!("writer {end}.{writer}"), Box::new(work));
        }
        let run = Arc::clone(&run);
        let work = move || block_on(receive_all(&run, end, read));
        spawn(format!("reader {end}"), Box::new(work));
    }
    drop(done);
    let mut progress = u64::MAX;
    loop {
        match finished.recv_timeout(STUCK) {
            Ok(well) => assert!(well, "seed {seed}: {:?}", run.ends),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = run.ends.iter().map(Tally::progress).sum();
                assert_ne!(now, progress, "stuck, seed {seed}: {:?}", run.ends);
                progress = now;
            }
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    for (from, to) in [(0, 1), (1, 0)] {
        for writer in 0..WRITERS {
            let sent = run.ends[from].sent[writer].load(Ordering::Relaxed);
            let received = run.ends[to].received[writer].load(Ordering::Relaxed);
            assert_eq!(sent, received, "seed {seed}: from end {from}, writer {writer}");
            assert!(close_after.is_some() || sent == messages);
        }
    }
}

async fn tcp_pair() -> [TcpStream; 2] {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = futures::join!(TcpStream::connect(address), listener.accept());
    [near.unwrap(), far.unwrap().0]
}

fn over_tcp(client: WrapOptions, server: WrapOptions) -> Ends<TcpStream, TcpStream> {
    let [near, far] = block_on(tcp_pair());
    [wrap_io(near.clone(), near, client), wrap_io(far.clone(), far, server)]
}

/// Frames for each transport; a message has one and a bit.
fn messages_per_writer(default: u64) -> u64 {
    number("CORO_WEBSOCKET_FRAMES", default) / (2 * WRITERS as u64)
}

#[test]
fn nothing_is_lost_torn_reordered_or_stuck_in_memory() {
    let seed = Seed::new();
    let messages = messages_per_writer(60_000) / 3;
    for (capacity, mark) in [(200, 64 << 10), (64 << 10, 64 << 10), (5000, 0)] {
        let client = WrapOptions::client().write_buffer_len(mark);
        let server = WrapOptions::server().write_buffer_len(mark);
        let share = if capacity < 1000 { messages / 10 } else { messages };
        let (near, far) = connected(capacity, client, server);
        run(seed.0, share, None, [near, far]);
    }
}

#[test]
fn nothing_is_lost_torn_reordered_or_stuck_over_tcp() {
    let seed = Seed::new();
    let ends = over_tcp(WrapOptions::client(), WrapOptions::server());
    run(seed.0, messages_per_writer(60_000), None, ends);
}

/// CVE-2022-25762 (Tomcat): sending and closing at once mixed up their bytes.
#[test]
fn a_close_at_any_time_comes_after_all_that_was_accepted() {
    let seed = Seed::new();
    let rounds = number("CORO_WEBSOCKET_FRAMES", 60_000) / 600;
    let mut rng = Rng::with_seed(seed.0);
    for round in 0..rounds {
        let close_after = Some(rng.u64(..200));
        let seed = rng.u64(..);
        if round % 2 == 0 {
            let (near, far) = connected(4096, WrapOptions::client(), WrapOptions::server());
            run(seed, 1000, close_after, [near, far]);
        } else {
            let ends = over_tcp(WrapOptions::client(), WrapOptions::server());
            run(seed, 1000, close_after, ends);
        }
    }
}

/// A transport under a writer that takes so many bytes each time it is allowed to go on. When that is used up it
/// wakes the task and is pending, until the task has yielded, as the sockets of some runtimes do.
#[derive(Clone, Default)]
struct Allowance {
    bytes: Arc<AtomicUsize>,
    polls: Arc<AtomicUsize>,
    wakes_at_once: bool,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Allowance {
    /// Takes so many bytes more, and says so.
    fn allow(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl AsyncWrite for Allowance {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polls = self.polls.fetch_add(1, Ordering::SeqCst);
        assert!(polls < 1000, "polled again and again without a yield");
        let count = buf.len().min(self.bytes.load(Ordering::SeqCst));
        if count == 0 {
            if self.wakes_at_once {
                cx.waker().wake_by_ref();
            }
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.bytes.fetch_sub(count, Ordering::SeqCst);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A peer that never says anything.
fn silent() -> PipeReader {
    let (write, read) = common::pipe(1);
    std::mem::forget(write);
    read
}

#[test]
fn a_transport_that_wants_its_task_to_yield_is_not_polled_until_then() {
    let transport = Allowance { wakes_at_once: true, ..Allowance::default() };
    let (mut read, mut write) = wrap_io(silent(), transport.clone(), WrapOptions::server());
    let count = Arc::new(common::Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut sending = Box::pin(write.send(Message::binary(vec![0; 100])));
    for _ in 0..10 {
        let woken = count.get();
        assert!(sending.as_mut().poll(&mut cx).is_pending());
        assert!(count.get() > woken, "the wake-up is passed on");
        let woken = count.get();
        assert!(read.poll_next_unpin(&mut cx).is_pending());
        assert!(count.get() > woken, "to the reader too");
    }
    transport.allow(1000);
    assert!(sending.as_mut().poll(&mut cx).is_ready());
}

/// A waker that uses the connection itself, as an executor that polls at once would.
struct Inline(Mutex<Option<IoWrite<Allowance>>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let write = self.0.lock().unwrap().take();
        if let Some(write) = write {
            let _ = write.buffered();
            drop(write.clone());
        }
    }
}

/// Runs a test that deadlocks when it fails.
fn within_bounds(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = Builder::new()
        .spawn(move || {
            test();
            let _ = done.send(());
        })
        .unwrap();
    let timed_out = finished.recv_timeout(STUCK) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!timed_out, "stuck");
    thread.join().unwrap();
}

#[test]
fn wakers_run_outside_the_lock() {
    within_bounds(|| {
        let transport = Allowance { wakes_at_once: true, ..Allowance::default() };
        let (mut read, mut write) = wrap_io(silent(), transport.clone(), WrapOptions::server());
        let inline = Arc::new(Inline(Mutex::new(Some(write.clone()))));
        let waker = Waker::from(Arc::clone(&inline));
        let mut cx = Context::from_waker(&waker);
        assert!(read.poll_next_unpin(&mut cx).is_pending());
        let mut other = write.clone();
        let mut ping = Box::pin(other.ping());
        assert!(ping.as_mut().poll(&mut cx).is_pending());
        assert!(inline.0.lock().unwrap().is_none(), "woken by the transport");
        transport.allow(1000);
        assert!(ping.as_mut().poll(&mut cx).is_pending());
        assert_eq!(write.buffered(), 0, "the Ping is out");
        // The end wakes everybody, those too who wait for a Pong.
        *inline.0.lock().unwrap() = Some(write.clone());
        write.abort();
        assert!(inline.0.lock().unwrap().is_none(), "woken by the end");
        assert!(matches!(ping.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    });
}

#[test]
fn a_writer_is_ready_as_soon_as_the_buffer_is_below_its_mark() {
    let transport = Allowance::default();
    let options = WrapOptions::server().write_buffer_len(1000);
    let (_read, mut write) = wrap_io(silent(), transport.clone(), options);
    let mut cx = Context::from_waker(Waker::noop());
    write.try_feed(Message::binary(vec![0; 1500])).unwrap();
    assert!(write.poll_ready_unpin(&mut cx).is_pending(), "above, and the transport takes nothing");
    transport.allow(800);
    assert!(write.poll_ready_unpin(&mut cx).is_ready(), "it took some, not all");
    assert_eq!(write.buffered(), 1504 - 800);
}

#[test]
fn a_pong_that_was_held_back_goes_out_as_soon_as_the_buffer_is_below_its_mark() {
    let transport = Allowance::default();
    let options = WrapOptions::client().write_buffer_len(1000);
    let (mut far_write, read) = common::pipe(100);
    let (mut read, mut write) = wrap_io(read, transport.clone(), options);
    let mut cx = Context::from_waker(Waker::noop());
    write.try_feed(Message::binary(vec![0; 1500])).unwrap();
    far_write.put(&[0x89, 1, b'?']);
    assert!(read.poll_next_unpin(&mut cx).is_ready(), "the Ping");
    let before = write.buffered();
    assert_eq!(write.stats().frames_out, 1, "no room for its Pong");
    transport.allow(800);
    assert!(read.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(write.stats().frames_out, 2);
    assert_eq!(write.buffered(), before - 800 + 2 + 4 + 1);
}

/// A transport that takes nothing until it is given a reading half. That is polled while the first bytes are written,
/// as another thread may do at any time.
#[derive(Clone, Default)]
struct Meanwhile {
    read: Arc<Mutex<Option<IoRead<PipeReader, Self>>>>,
    polled: Arc<Mutex<Option<IoRead<PipeReader, Self>>>>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl AsyncWrite for Meanwhile {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(mut read) = self.read.lock().unwrap().take() {
            let mut cx = Context::from_waker(Waker::noop());
            let polled = read.poll_next_unpin(&mut cx);
            assert!(polled.is_pending(), "the echo is not out yet: {polled:?}");
            *self.polled.lock().unwrap() = Some(read);
        }
        if self.polled.lock().unwrap().is_none() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.taken.lock().unwrap().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// §5.5.1: "The application MUST NOT send any more data frames after sending a Close frame."
#[test]
fn what_waits_for_room_is_refused_when_the_echo_of_a_close_comes_before_it() {
    let transport = Meanwhile::default();
    let options = WrapOptions::client().write_buffer_len(1000);
    let (mut far_write, read) = common::pipe(100);
    let (mut read, mut write) = wrap_io(read, transport.clone(), options);
    let mut cx = Context::from_waker(Waker::noop());
    write.try_feed(Message::binary(vec![0; 1500])).unwrap();
    far_write.put(&[0x89, 1, b'?']);
    assert!(read.poll_next_unpin(&mut cx).is_ready(), "the Ping; there is no room for its Pong");
    let mut sending = Box::pin(write.feed(Message::text("late")));
    assert!(sending.as_mut().poll(&mut cx).is_pending(), "no room for this either");
    // The reader finds the Close while the writer, which has the lock, makes room. It leaves the echo to that.
    far_write.put(&[0x88, 0]);
    *transport.read.lock().unwrap() = Some(read);
    let sent = sending.as_mut().poll(&mut cx);
    drop(sending);
    let _ = write.flush().now_or_never();
    let taken = transport.taken.lock().unwrap().clone();
    let frames: Vec<_> = block_on(
        FrameReader::new(&taken[..], WrapOptions::server()).map(|frame| frame.unwrap().opcode).collect(),
    );
    assert_eq!(frames, [Opcode::BINARY, Opcode::PONG, Opcode::CLOSE]);
    assert!(matches!(sent, Poll::Ready(Err(Error::Closed(_)))), "{sent:?}");
}
