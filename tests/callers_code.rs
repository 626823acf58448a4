//! The caller's code never runs under the connection's lock: neither destructors of payloads nor wakers. One of them
//! that panics harms neither those after it nor the task that runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use common::{Count, Far, PipeRead, PipeWrite, alone, drive::drive, poll_once, wire};
use coro_websocket::{Message, Opcode, Role, SinkExt, StreamExt, WrapOptions, wrap_frames, wrap_io};
use futures::{AsyncWrite, Sink, channel::mpsc as channel};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// A buffer whose owner asks the connection something when it is dropped.
struct Lent {
    bytes: Vec<u8>,
    on_drop: Box<dyn Fn() + Send + Sync>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

/// A payload that asks how much is buffered when it is dropped, and counts that.
fn lent(bytes: impl Into<Vec<u8>>, write: &PipeWrite, drops: &Arc<AtomicUsize>) -> Bytes {
    let (write, drops) = (write.clone(), Arc::clone(drops));
    let on_drop = Box::new(move || {
        let _ = write.buffered();
        drops.fetch_add(1, Ordering::SeqCst);
    });
    Bytes::from_owner(Lent { bytes: bytes.into(), on_drop })
}

/// Does something that must not wait for a lock that its own thread has.
fn without_deadlock(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(10)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: deadlock"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

#[test]
fn a_written_payload_is_dropped_outside_the_lock() {
    for role in ROLES {
        for len in [100, 5 << 10, 100 << 10] {
            for capacity in [10, 1 << 20] {
                without_deadlock(&format!("{role:?} {len} {capacity}"), move || {
                    let ((_read, mut write), mut far) =
                        alone(capacity, WrapOptions::new(role).write_buffer_len(1 << 20));
                    let drops = Arc::default();
                    for _ in 0..3 {
                        let payload = lent(vec![7; len], &write, &drops);
                        drive(write.feed(Message::binary(payload))).unwrap();
                    }
                    let payload = lent(vec![7; len], &write, &drops);
                    {
                        let mut sending = pin!(write.send(Message::binary(payload)));
                        while poll_once(&mut sending).is_pending() {
                            far.grow(100 << 10);
                        }
                    }
                    assert_eq!(drops.load(Ordering::SeqCst), 4);
                });
            }
        }
    }
}

#[cfg(feature = "deflate")]
#[test]
fn a_payload_that_was_compressed_is_dropped_outside_the_lock() {
    for role in ROLES {
        without_deadlock(&format!("{role:?}"), move || {
            let options = WrapOptions::new(role).deflate(coro_websocket::Deflate::default());
            let ((_read, mut write), _far) = alone(1 << 20, options);
            let drops = Arc::default();
            for len in [5 << 10, 100 << 10] {
                let [a, b] = [(); 2].map(|()| lent(vec![b'a'; len], &write, &drops));
                drive(write.feed(Message::binary(a))).unwrap();
                drive(write.send(Message::binary(b))).unwrap();
            }
            assert_eq!(drops.load(Ordering::SeqCst), 4);
        });
    }
}

#[test]
fn a_waiting_payload_is_dropped_outside_the_lock_whatever_becomes_of_it() {
    type End = fn(PipeRead, PipeWrite, PipeWrite, Far);
    let ends: [(&str, End); 7] = [
        ("its turn comes", |_read, mut open, _other, _far| {
            drive(open.send(Message::continuation("ends", true))).unwrap();
        }),
        ("a Close", |_read, mut open, _other, _far| drive(open.close_with(1000, "")).unwrap()),
        ("an abort", |_read, mut open, _other, _far| open.abort()),
        ("the open message is abandoned", |_read, open, _other, _far| drop(open)),
        ("its writer is dropped, and another closes", |_read, mut open, other, _far| {
            drop(other);
            drive(open.close()).unwrap();
        }),
        ("the transport fails", |_read, mut open, _other, far| {
            drop(far);
            drive(open.flush()).unwrap();
            assert!(drive(open.send(Message::continuation("", true))).is_err());
        }),
        ("the peer's Close", |mut read, _open, _other, mut far| {
            far.put(&wire::close_to(Role::Server, 1000, ""));
            assert!(drive(read.next()).unwrap().unwrap().opcode == Opcode::CLOSE);
        }),
    ];
    for (what, end) in ends {
        for fin in [true, false] {
            without_deadlock(&format!("{what}, fin: {fin}"), move || {
                let ((read, mut open), far) = alone(1 << 20, WrapOptions::server());
                let mut other = open.clone();
                let drops = Arc::default();
                let payload = lent("waits", &open, &drops);
                drive(open.send(Message { fin: false, ..Message::binary("begins") })).unwrap();
                drive(other.feed(Message { fin, ..Message::binary(payload) })).unwrap();
                end(read, open, other, far);
                assert_eq!(drops.load(Ordering::SeqCst), 1);
            });
        }
    }
}

#[test]
fn the_start_of_a_message_that_waits_is_dropped_outside_the_lock_with_its_writer() {
    without_deadlock("withdrawn", || {
        let ((_read, mut open), mut far) = alone(1 << 20, WrapOptions::server());
        let mut other = open.clone();
        let drops = Arc::default();
        let payload = lent("waits", &open, &drops);
        drive(open.send(Message { fin: false, ..Message::binary("begins") })).unwrap();
        drive(other.feed(Message { fin: false, ..Message::binary(payload) })).unwrap();
        drop(other);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        drive(open.send(Message::continuation("ends", true))).unwrap();
        let payloads: Vec<_> = far.frames().into_iter().map(|frame| frame.payload).collect();
        assert_eq!(payloads, [b"begins".to_vec(), b"ends".to_vec()]);
    });
}

#[test]
fn the_payload_of_a_close_frame_is_dropped_outside_the_lock() {
    without_deadlock("Close", || {
        let ((_read, mut write), _far) = alone(1 << 20, WrapOptions::server());
        let drops = Arc::default();
        let close = |write: &PipeWrite| Message {
            opcode: Opcode::CLOSE,
            payload: lent(1000_u16.to_be_bytes(), write, &drops),
            ..Message::default()
        };
        for _ in 0..2 {
            let message = close(&write);
            drive(write.send(message)).unwrap();
            let message = close(&write);
            Sink::start_send(Pin::new(&mut write), message).unwrap();
            let message = close(&write);
            write.try_feed(message).unwrap();
        }
        assert_eq!(drops.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn payloads_for_a_sink_of_frames_are_dropped_outside_the_lock_too() {
    for closes in [true, false] {
        without_deadlock(&format!("closes: {closes}"), move || {
            let (sink, _far) = channel::channel(0);
            let stream = futures::stream::pending::<Result<Message, coro_websocket::Error>>();
            let (_read, mut open) = wrap_frames(stream, sink, WrapOptions::server());
            let mut other = open.clone();
            let drops: Arc<AtomicUsize> = Arc::default();
            let lent = || {
                let (write, drops) = (open.clone(), Arc::clone(&drops));
                let on_drop = Box::new(move || {
                    let _ = write.buffered();
                    drops.fetch_add(1, Ordering::SeqCst);
                });
                Message::binary(Bytes::from_owner(Lent { bytes: vec![7; 10], on_drop }))
            };
            let (queued, waiting) = (lent(), lent());
            drive(open.feed(Message::ping("fills the channel"))).unwrap();
            drive(open.feed(Message { fin: false, ..queued })).unwrap();
            drive(other.feed(waiting)).unwrap();
            if closes {
                assert!(poll_once(&mut open.close()).is_pending());
                assert_eq!(drops.load(Ordering::SeqCst), 1);
            }
            open.abort();
            assert_eq!(drops.load(Ordering::SeqCst), 2);
        });
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("the executor of this task is gone");
    }
}

/// Polls with a waker that panics.
fn poll_badly<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics))))
}

/// A waker that counts, and the count.
fn counting() -> (Waker, Arc<Count>) {
    let count = Arc::new(Count::default());
    (Waker::from(Arc::clone(&count)), count)
}

fn poll_counting<F: Future + Unpin>(future: &mut F) -> (Poll<F::Output>, Arc<Count>) {
    let (waker, count) = counting();
    (Pin::new(future).poll(&mut Context::from_waker(&waker)), count)
}

#[test]
fn a_waker_that_panics_keeps_no_writer_from_being_woken_by_the_transport() {
    for role in ROLES {
        let ((_read, write), mut far) = alone(0, WrapOptions::new(role));
        let mut clones: Vec<_> = (0..5).map(|_| write.clone()).collect();
        let mut sends: Vec<_> = clones.iter_mut().map(|clone| Box::pin(clone.send("x"))).collect();
        let counts: Vec<_> = sends
            .iter_mut()
            .enumerate()
            .filter_map(|(index, send)| {
                if index % 2 == 0 {
                    assert!(poll_badly(send).is_pending());
                    return None;
                }
                Some(poll_counting(send).1)
            })
            .collect();
        far.grow(100);
        assert!(counts.iter().all(|count| count.get() == 1));
    }
}

#[test]
fn a_waker_of_read_that_panics_keeps_no_writer_from_being_woken() {
    let ends: [fn(PipeWrite, &mut Far); 2] = [|mut write, _| write.abort(), |_, far| far.grow(100)];
    for end in ends {
        let ((mut read, mut write), mut far) = alone(0, WrapOptions::server());
        let other = write.clone();
        let mut reading = read.next();
        assert!(poll_badly(&mut reading).is_pending());
        let mut sending = Box::pin(write.send("x"));
        let (polled, count) = poll_counting(&mut sending);
        assert!(polled.is_pending());
        end(other, &mut far);
        assert_eq!(count.get(), 1);
        // The transport has the waker, too, and runs it when it is dropped.
        std::mem::forget(far);
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_ping_from_being_answered() {
    let ends: [fn(PipeRead, &mut Far); 2] = [
        |mut read, far| {
            let pings = far.frames();
            far.put(&wire::to(Role::Server, wire::PONG, &pings.last().unwrap().payload));
            let _ = poll_once(&mut read.next());
        },
        |read, _| drop(read),
    ];
    for end in ends {
        let ((read, mut write), mut far) = alone(1 << 10, WrapOptions::server());
        let (mut second, mut third) = (write.clone(), write.clone());
        let mut pings = [&mut write, &mut second, &mut third].map(|write| Box::pin(write.ping()));
        let [first, others @ ..] = &mut pings;
        assert!(poll_badly(first).is_pending());
        let counts = others.each_mut().map(|ping| poll_counting(ping).1);
        end(read, &mut far);
        assert_eq!(counts.map(|count| count.get()), [1, 1]);
        assert!(others.iter_mut().all(|ping| poll_once(ping).is_ready()));
    }
}

/// A transport that takes nothing and panics when it is dropped.
struct Bomb;

impl AsyncWrite for Bomb {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("the executor of this task is gone");
        }
    }
}

#[test]
fn a_destructor_that_panics_prevents_no_wake_up() {
    let (_read, mut write) = wrap_io(&b""[..], Bomb, WrapOptions::server());
    let mut other = write.clone();
    let mut sending = Box::pin(other.send("x"));
    let (polled, count) = poll_counting(&mut sending);
    assert!(polled.is_pending());
    write.abort();
    assert_eq!(count.get(), 1);
    assert!(matches!(poll_once(&mut sending), Poll::Ready(Err(coro_websocket::Error::Closed(_)))));

    let ((_read, mut open), _far) = alone(1 << 10, WrapOptions::server());
    let mut others = [open.clone(), open.clone()];
    drive(open.send(Message { fin: false, ..Message::text("begins") })).unwrap();
    let mut sends: Vec<_> = others
        .iter_mut()
        .map(|other| {
            let on_drop = Box::new(|| panic!("the executor of this task is gone"));
            Box::pin(other.send(Message::binary(Bytes::from_owner(Lent { bytes: vec![1], on_drop }))))
        })
        .collect();
    let counts: Vec<_> = sends.iter_mut().map(|send| poll_counting(send).1).collect();
    open.abort();
    assert!(counts.iter().all(|count| count.get() == 1));
}

#[test]
fn destructors_of_frames_that_never_went_out_may_panic_each() {
    for role in ROLES {
        for len in [100, 5 << 10, 100 << 10] {
            let drops = Arc::<AtomicUsize>::default();
            let payload = || {
                let drops = Arc::clone(&drops);
                let on_drop = Box::new(move || {
                    drops.fetch_add(1, Ordering::SeqCst);
                    panic!("the executor of this task is gone");
                });
                Message::binary(Bytes::from_owner(Lent { bytes: vec![7; len], on_drop }))
            };
            for abort in [true, false] {
                let (sink, far) = channel::channel(0);
                let stream = futures::stream::pending::<Result<Message, coro_websocket::Error>>();
                let options = WrapOptions::new(role).write_buffer_len(1 << 20);
                let (read, mut write) = wrap_frames(stream, sink, options);
                for _ in 0..3 {
                    write.try_feed(payload()).unwrap();
                }
                if abort {
                    write.abort();
                }
                drop((read, write, far));
                assert_eq!(drops.swap(0, Ordering::SeqCst), 3, "decoded frames");
            }
            if len < 64 << 10 && (role == Role::Client || len < 4 << 10) {
                // Copied, and dropped by the caller's own call.
                continue;
            }
            for abort in [true, false] {
                let ((read, mut write), far) = alone(0, WrapOptions::new(role).write_buffer_len(1 << 20));
                for _ in 0..3 {
                    write.try_feed(payload()).unwrap();
                }
                if abort {
                    write.abort();
                }
                drop((read, write, far));
                assert_eq!(drops.swap(0, Ordering::SeqCst), 3, "bytes");
            }
        }
    }
}

/// Asks the connection something when it is woken and when it is dropped.
struct Asks(PipeWrite);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        let _ = self.0.buffered();
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        let _ = self.0.buffered();
    }
}

#[test]
fn wakers_are_run_replaced_and_dropped_outside_the_lock() {
    without_deadlock("wakers", || {
        let ((mut read, write), mut far) = alone(0, WrapOptions::server());
        let mut clones = [write.clone(), write.clone(), write.clone()];
        let waker = || Waker::from(Arc::new(Asks(write.clone())));
        {
            let mut sends = clones.each_mut().map(|clone| Box::pin(clone.send("x")));
            for _ in 0..2 {
                for send in &mut sends {
                    assert!(Pin::new(send).poll(&mut Context::from_waker(&waker())).is_pending());
                }
                assert!(Pin::new(&mut read.next()).poll(&mut Context::from_waker(&waker())).is_pending());
            }
        }
        drop(clones);
        far.grow(100);
        drop(read);
        let mut write = write.clone();
        drive(write.flush()).unwrap();
    });
}
