//! How much memory a connection takes, whatever its peer does. Allocations are counted per thread, and each test
//! works in one thread.
//!
//! `CORO_WEBSOCKET_FLOOD` says how many frames a flood has (a hundred thousand by default).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test, also in what the tests have in common"
)]

mod common;

use std::{
    collections::VecDeque,
    env, io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use coro_websocket::{
    AcceptOptions, Checks, Data, Error, IoRead, IoWrite, Message, Opcode, Options, ProtocolError, Role,
    SinkExt, StreamExt, WrapOptions, accept_io, codec, connect, connect_io, wrap_io,
};
use futures::{
    executor::block_on,
    io::{AsyncRead, AsyncWrite, empty, sink},
};

const KIB: u64 = 1 << 10;

/// How many frames a flood has.
fn flood() -> usize {
    env::var("CORO_WEBSOCKET_FLOOD").map_or(100_000, |text| text.parse().unwrap())
}

/// A peer that sends `first`, then `again` so many times, as fast as it is read, and then nothing more.
struct Hostile {
    first: Vec<u8>,
    again: Vec<u8>,
    times: usize,
    at: usize,
    sent: usize,
}

fn hostile(first: &[u8], again: &[u8], times: usize) -> Hostile {
    Hostile { first: first.to_vec(), again: again.to_vec(), times, at: 0, sent: 0 }
}

impl AsyncRead for Hostile {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut count = 0;
        let all = this.first.len() + this.again.len() * this.times;
        while count < buf.len() && this.at < all {
            let from = match this.at.checked_sub(this.first.len()) {
                None => &this.first[this.at..],
                Some(at) => &this.again[at % this.again.len()..],
            };
            let part = from.len().min(buf.len() - count);
            buf[count..count + part].copy_from_slice(&from[..part]);
            count += part;
            this.at += part;
        }
        this.sent += count;
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }
}

/// A transport that takes nothing until it is opened, and then everything.
#[derive(Clone, Default)]
struct Window {
    open: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<u8>>>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Window {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl AsyncWrite for Window {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.open.load(Ordering::SeqCst) {
            self.taken.lock().unwrap().extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A transport that takes everything and keeps nothing.
struct Hole;

impl AsyncWrite for Hole {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Fills the pools of this thread: what is measured afterwards is one connection more.
fn warm() {
    let frame = [&[0x82, 126, 0x40, 0][..], &[0; 16 << 10]].concat();
    let (mut read, mut write) = wrap_io(hostile(&[], &frame, 5), Hole, WrapOptions::client());
    block_on(async {
        read.next().await.unwrap().unwrap();
        write.send(Message::binary(vec![0; 16 << 10])).await.unwrap();
        write.send(Message::binary(vec![0; 100 << 10])).await.unwrap();
    });
}

/// Lends frames until none comes any more.
fn drain<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(read: &mut IoRead<R, W>) -> (usize, Option<Error>) {
    let mut frames = 0;
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut next = std::pin::pin!(read.frame());
        match next.as_mut().poll(&mut cx) {
            Poll::Ready(Some(Ok(_))) => frames += 1,
            Poll::Ready(Some(Err(error))) => return (frames, Some(error)),
            Poll::Ready(None) | Poll::Pending => return (frames, None),
        }
    }
}

fn frames_of(mut bytes: &mut [u8]) -> Vec<Message> {
    let mut frames = Vec::new();
    while let Some((frame, len)) = codec::decode(bytes) {
        frames.push(frame.to_message());
        bytes = &mut bytes[len..];
    }
    assert!(bytes.is_empty(), "a frame is torn");
    frames
}

/// RUSTSEC-2020-0043 / CVE-2020-35896 (ws-rs): the outgoing buffer grew while the peer did not read.
#[test]
fn pings_of_a_peer_that_never_reads_are_answered_within_bounds() {
    let window = Window::default();
    let source = hostile(&[], &[0x89, 4, b'p', b'i', b'n', b'g'], 10 * flood());
    let (mut read, write) = wrap_io(source, window.clone(), WrapOptions::client());
    warm();
    let memory = measure(|| assert_eq!(drain(&mut read).0, 10 * flood()));
    assert!(memory.bytes_max < 256 * KIB, "{memory:?}");
    assert!(write.buffered() < 65 << 10);
    window.open();
    assert_eq!(drain(&mut read).0, 0);
    let pongs = frames_of(&mut window.taken.lock().unwrap());
    assert!(pongs.iter().all(|pong| pong.opcode == Opcode::PONG && &*pong.payload == b"ping"));
    assert!(pongs.len() * 10 > 64 << 10, "as many as fit below the mark");
}

/// RUSTSEC-2022-0035 / CVE-2022-35922 (rust-websocket): memory was taken for a length that was only announced.
#[test]
fn nothing_is_allocated_for_a_length_that_is_only_announced() {
    let limit = 16_u64 << 20;
    for (len, refused) in [(1 << 62, true), (1 << 40, true), (limit + 1, true), (limit, false)] {
        let mut head = vec![0x82, 127];
        head.extend(len.to_be_bytes());
        head.push(0);
        warm();
        let memory = measure(|| {
            let (mut read, _write) = wrap_io(hostile(&head, &[], 0), Hole, WrapOptions::client());
            let (frames, _) = drain(&mut read);
            assert_eq!(frames, 0);
            assert_eq!(read.close_frames().sent.is_some(), refused, "{len}");
        });
        assert!(memory.bytes_max <= 64 * KIB, "{len}: {memory:?}");
    }
}

/// The same, where some of it has come: that decides how much is taken, not what was announced.
#[test]
fn what_is_allocated_is_bounded_by_what_has_come() {
    let head = [&[0x82, 127][..], &(16_u64 << 20).to_be_bytes()].concat();
    for (come, times) in [(1 << 10, 2), (20 << 10, 2), (40 << 10, 16), (200 << 10, 16)] {
        let (mut read, _write) = wrap_io(hostile(&head, &[7], come), Hole, WrapOptions::client());
        warm();
        let memory = measure(|| assert_eq!(drain(&mut read).0, 0));
        assert!(memory.bytes_max <= (come * times) as u64 + KIB, "{come}: {memory:?}");
    }
}

/// CVE-2026-48779, websockets/ws#2331 (node ws), RUSTSEC-2026-0185, CVE-2026-25800 (quinn-proto): structures for tiny fragments, many times their size.
#[test]
fn fragments_of_one_byte_hold_no_more_than_was_received() {
    let limit = 1 << 20;
    let options = WrapOptions::client().max_message_len(limit);
    let source = hostile(&[0x02, 1, b'x'], &[0x00, 1, b'x'], limit);
    let (mut read, _write) = wrap_io(source, Hole, options);
    warm();
    let memory = measure(|| {
        let end = block_on(read.messages().next()).unwrap();
        assert!(matches!(end, Err(Error::Limit { error: ProtocolError::MessageTooLarge, .. })));
    });
    // Each fragment counts for 64 bytes.
    let received = (limit / 64 * 3) as u64;
    assert!(memory.bytes_max <= 2 * received + 64 * KIB, "{received}: {memory:?}");
    assert!(memory.bytes_current < 64 * KIB as i64, "and it is let go: {memory:?}");
    assert_eq!(read.close_frames().sent.unwrap().code, coro_websocket::CloseCode::TOO_BIG);
}

/// RUSTSEC-2026-0258 (h2), CVE-2014-0193 (Netty): endless empty frames.
#[test]
fn endless_empty_fragments_end_at_the_limit_of_the_message() {
    let limit = 64 * flood();
    let options = WrapOptions::client().max_message_len(limit);
    let source = hostile(&[0x01, 0], &[0x00, 0], flood());
    let (mut read, _write) = wrap_io(source, Hole, options);
    warm();
    let memory = measure(|| assert_eq!(drain(&mut read).0, flood()));
    assert!(memory.bytes_max < 64 * KIB, "{memory:?}");
    assert_eq!(read.close_frames().sent.unwrap().code, coro_websocket::CloseCode::TOO_BIG);
}

/// RUSTSEC-2026-0258 (h2), RUSTSEC-2020-0019 (tokio-rustls): what nobody asks for is not read.
#[test]
fn endless_messages_that_nobody_reads_stay_in_the_transport() {
    let count = flood();
    let (mut read, mut write) = wrap_io(hostile(&[], &[0x82, 0], count), Hole, WrapOptions::client());
    warm();
    let memory = measure(|| {
        block_on(async {
            assert!(read.next().await.unwrap().unwrap().payload.is_empty());
            for _ in 0..1000 {
                write.text("busy").await.unwrap();
            }
        });
        assert!(read.stats().bytes_in <= 64 * KIB, "one read");
    });
    assert!(memory.bytes_max < 80 * KIB, "{memory:?}");
    let memory = measure(|| assert_eq!(drain(&mut read).0, count - 1));
    assert_eq!(memory.count_total, 0, "{memory:?}");
}

/// CVE-2021-3690 (Undertow): a buffer leaked with each Pong.
#[test]
fn unsolicited_pongs_leave_nothing_behind() {
    let count = 10 * flood();
    let source = hostile(&[], &[0x8A, 3, 1, 2, 3], count);
    let (mut read, _write) = wrap_io(source, Hole, WrapOptions::client());
    warm();
    let memory = measure(|| assert_eq!(drain(&mut read).0, count));
    assert_eq!(memory.count_total, 0, "{memory:?}");
}

/// RUSTSEC-2024-0003 (h2): a reply to each malformed frame, queued without limit.
#[test]
fn a_storm_of_malformed_frames_gets_one_close() {
    let window = Window::default();
    let source = hostile(&[], &[0x83, 0, 0x89, 0, 0x88, 1, 0], flood());
    let (mut read, mut write) = wrap_io(source, window.clone(), WrapOptions::client());
    warm();
    let memory = measure(|| {
        for _ in 0..100 {
            assert_eq!(drain(&mut read).0, 0);
        }
        assert!(matches!(write.try_feed("late"), Err(coro_websocket::TryFeedError::Refused { .. })));
    });
    assert!(memory.bytes_max < 64 * KIB, "{memory:?}");
    window.open();
    drain(&mut read);
    let frames = frames_of(&mut window.taken.lock().unwrap());
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].opcode, Opcode::CLOSE);
    assert_eq!(frames[0].payload[..2], 1002_u16.to_be_bytes());
}

/// RUSTSEC-2024-0003 (h2): the same where violations are only reported. Nothing is sent at all.
#[test]
fn a_storm_of_reported_violations_is_not_kept() {
    let source = hostile(&[], &[0x83, 0], flood());
    let options = WrapOptions::client().checks(Checks::Report);
    let (mut read, write) = wrap_io(source, Window::default(), options);
    warm();
    let memory = measure(|| {
        for _ in 0..flood() {
            let next = block_on(read.next());
            assert!(matches!(next, Some(Err(Error::Reported { .. }))));
        }
    });
    assert!(memory.bytes_max < 64 * KIB, "{memory:?}");
    assert_eq!(write.buffered(), 0);
}

/// A binary frame from a server.
fn frame(payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(&Message::binary(vec![7; payload]), None, &mut bytes);
    bytes
}

/// jetty#13029: the last message was retained.
#[test]
fn nothing_of_a_delivered_message_is_retained() {
    let big = frame(1 << 20);
    warm();
    // Another frame follows, of which only the start has come.
    let (mut read, _write) = wrap_io(hostile(&big, &[0x82], 1), Hole, WrapOptions::client());
    let memory = measure(|| {
        let message = block_on(read.next()).unwrap().unwrap();
        assert_eq!(message.payload.len(), 1 << 20);
        drop(message);
        assert_eq!(drain(&mut read).0, 0);
    });
    assert!(memory.bytes_current < 512, "taken: {memory:?}");

    let (mut read, _write) = wrap_io(hostile(&big, &[0x82], 1), Hole, WrapOptions::client());
    let memory = measure(|| assert_eq!(drain(&mut read).0, 1));
    assert!(memory.bytes_current < 512, "lent: {memory:?}");

    let (mut read, _write) = wrap_io(hostile(&big, &[0x82], 1), Hole, WrapOptions::client());
    let memory = measure(|| {
        let data = block_on(read.messages().next()).unwrap().unwrap();
        assert!(matches!(&data, Data::Binary(bytes) if bytes.len() == 1 << 20));
        drop(data);
        assert_eq!(drain(&mut read).0, 0);
    });
    assert!(memory.bytes_current < 512, "joined: {memory:?}");
}

/// jetty#13029: a small payload must not keep the buffer of a large one before it.
#[test]
fn a_small_payload_does_not_pin_a_large_buffer() {
    let bytes = [frame(1 << 20), frame(300), frame(3)].concat();
    let (mut read, _write) = wrap_io(hostile(&bytes, &[], 0), Hole, WrapOptions::client());
    warm();
    let mut kept = Vec::with_capacity(2);
    let memory = measure(|| {
        block_on(async {
            assert_eq!(read.frame().await.unwrap().unwrap().payload.len(), 1 << 20);
            kept.push(read.next().await.unwrap().unwrap());
            kept.push(read.next().await.unwrap().unwrap());
        });
        assert_eq!(drain(&mut read).0, 0);
    });
    assert_eq!(kept.iter().map(|message| message.payload.len()).sum::<usize>(), 303);
    assert!(memory.bytes_current < 1024, "{memory:?}");
}

/// Counts how many payloads have been let go.
struct Payload(Arc<AtomicUsize>, Vec<u8>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// jetty#13029, for what is sent: a payload is let go once the transport has it.
#[test]
fn nothing_of_a_sent_message_is_retained() {
    let dropped = Arc::new(AtomicUsize::new(0));
    for options in [WrapOptions::client(), WrapOptions::server()] {
        for len in [10, 2000, 70_000, 1 << 20] {
            let (_read, mut write) = wrap_io(hostile(&[], &[], 0), Hole, options.clone());
            dropped.store(0, Ordering::SeqCst);
            let payload = bytes::Bytes::from_owner(Payload(Arc::clone(&dropped), vec![0; len]));
            block_on(write.send(Message::binary(payload))).unwrap();
            assert_eq!(dropped.load(Ordering::SeqCst), 1, "{len}");
            assert_eq!(write.buffered(), 0);
        }
    }
}

type Idle = Vec<(IoRead<Hostile, Hole>, IoWrite<Hole>)>;

/// 20,000 idle connections in one process must be cheap, also after they have been busy.
#[test]
fn an_idle_connection_holds_next_to_nothing() {
    const COUNT: usize = 100;
    for role in [Role::Client, Role::Server] {
        let mut received = Vec::new();
        codec::encode(
            &Message::binary(vec![7; 16 << 10]),
            (role == Role::Server).then_some([1, 2, 3, 4]),
            &mut received,
        );
        let mut sources: VecDeque<Hostile> = (0..COUNT).map(|_| hostile(&received, &[], 0)).collect();
        let mut idle: Idle = Vec::with_capacity(COUNT);
        warm();
        let memory = measure(|| {
            while let Some(source) = sources.pop_front() {
                let (mut read, mut write) = wrap_io(source, Hole, WrapOptions::new(role));
                block_on(async {
                    let message = read.next().await.unwrap().unwrap();
                    assert_eq!(message.payload.len(), 16 << 10);
                    write.send(message).await.unwrap();
                    write.feed("small").await.unwrap();
                });
                assert_eq!(drain(&mut read).0, 0);
                idle.push((read, write));
            }
        });
        let each = memory.bytes_current / COUNT as i64;
        let halves = size_of::<(IoRead<Hostile, Hole>, IoWrite<Hole>)>();
        let all = usize::try_from(each).unwrap() + halves;
        assert!(all < 1800, "{each} bytes on the heap for each, and {halves} in the halves");
    }
}

/// The hot paths do not allocate.
#[test]
fn small_frames_cost_no_allocation() {
    let count = 10_000;
    // As many as fit into one read, so that none is cut by its end.
    let small = frame(62);
    let (mut read, _write) = wrap_io(hostile(&[], &small, 2 * count), Hole, WrapOptions::client());
    warm();
    let memory = measure(|| {
        block_on(async {
            for _ in 0..count {
                assert_eq!(read.frame().await.unwrap().unwrap().payload.len(), 62);
            }
        });
    });
    assert_eq!(memory.count_total, 0, "frame: {memory:?}");
    let memory = measure(|| {
        block_on(async {
            for _ in 0..count {
                assert_eq!(read.next().await.unwrap().unwrap().payload.len(), 62);
            }
        });
    });
    assert!(memory.count_total <= count as u64, "next: its payload, and nothing else: {memory:?}");
    for options in [WrapOptions::client(), WrapOptions::server()] {
        let (_read, mut write) = wrap_io(hostile(&[], &[], 0), Hole, options);
        let memory = measure(|| {
            block_on(async {
                for _ in 0..count {
                    write.feed(Message::binary(bytes::Bytes::from_static(&[7; 40]))).await.unwrap();
                }
                SinkExt::flush(&mut write).await.unwrap();
                for _ in 0..count {
                    write.send(Message::binary(bytes::Bytes::from_static(&[7; 40]))).await.unwrap();
                }
            });
        });
        assert!(memory.count_total <= 20, "the buffer grows to its size, once: {memory:?}");
    }
}

/// What comes in goes where lay what went out.
#[test]
fn an_echo_of_large_messages_uses_the_same_memory_again() {
    for len in [64 << 10, 1 << 20] {
        let (mut read, mut write) = wrap_io(hostile(&[], &frame(len), 60), Hole, WrapOptions::client());
        let mut echo = |count| {
            block_on(async {
                for _ in 0..count {
                    let message = read.next().await.unwrap().unwrap();
                    assert_eq!(message.payload.len(), len);
                    write.send(message).await.unwrap();
                }
            });
        };
        echo(10);
        let memory = measure(|| echo(50));
        assert!(memory.bytes_total < len as u64, "{memory:?}");
    }
}

/// CVE-2020-27813 (gorilla), CVE-2026-27889 (nats-server), CVE-2026-1528 (undici): lengths that overflow when added
/// up.
#[test]
fn lengths_that_overflow_are_refused() {
    for len in [1_u64 << 63, u64::MAX, i64::MAX as u64] {
        let head = [&[0x02, 1, b'x', 0x00, 127][..], &len.to_be_bytes()].concat();
        let options = WrapOptions::client().max_frame_len(usize::MAX).max_message_len(usize::MAX >> 1);
        let far = common::pipe(1024);
        drop(far.1);
        let (mut read, _write) = wrap_io(io_bytes(head), far.0, options);
        warm();
        let memory = measure(|| {
            block_on(async {
                assert_eq!(read.next().await.unwrap().unwrap().len, 1);
                let refused = read.next().await.unwrap();
                let expected = if len > i64::MAX as u64 {
                    ProtocolError::LengthTooLarge
                } else {
                    ProtocolError::MessageTooLarge
                };
                assert!(
                    matches!(refused, Err(Error::Protocol { error, .. } | Error::Limit { error, .. }) if error == expected)
                );
            });
        });
        assert!(memory.bytes_max < 64 * KIB, "{memory:?}");
    }
}

fn io_bytes(bytes: Vec<u8>) -> futures::io::Cursor<Vec<u8>> {
    futures::io::Cursor::new(bytes)
}

/// A task has room for the largest of what it ever awaits, as long as it lives: a handshake is over soon.
#[test]
fn futures_of_handshakes_are_one_pointer() {
    let pointer = size_of::<usize>();
    assert_eq!(size_of_val(&connect(Options::default())), pointer);
    assert_eq!(size_of_val(&connect_io(empty(), sink(), Options::default())), pointer);
    assert_eq!(size_of_val(&accept_io(empty(), sink(), AcceptOptions::default())), pointer);
}
