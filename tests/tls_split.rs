//! Halves of a TLS connection on two threads: nobody's wake-up is lost, nobody spins.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::indexing_slicing, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[path = "common/tls.rs"]
mod tls;

use std::{
    future::poll_fn,
    net::TcpStream,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    thread::JoinHandle,
    time::Duration,
};

use async_io::{Async, Timer};
use async_tls::TlsAcceptor;
use coro_websocket::{Message, Opcode, Options, Read, StreamExt, TlsVersion, Write, connect};
use futures::{executor::block_on, io::AsyncReadExt, join};
use net::{accepted, options, serve};
use rustls::ServerConfig;
use tls::{Authority, VERSIONS, server_config, server_params, trusting};

/// Longer than any round takes that is not stuck.
const STALL: Duration = Duration::from_secs(10);

struct Setup {
    authority: Authority,
    config: Arc<ServerConfig>,
}

fn setup(version: TlsVersion) -> Setup {
    let authority = Authority::new("split");
    let identity = authority.sign(server_params(&["localhost"]));
    Setup { config: server_config(&identity, version, None, &[]), authority }
}

type ServerSide = async_tls::server::TlsStream<Async<TcpStream>>;
type ServerRead =
    coro_websocket::IoRead<futures::io::ReadHalf<ServerSide>, futures::io::WriteHalf<ServerSide>>;
type ServerWrite = coro_websocket::IoWrite<futures::io::WriteHalf<ServerSide>>;

/// A server whose halves stay in one task, where a split as simple as this one works.
fn server<T: Send + 'static>(
    setup: &Setup,
    task: impl AsyncFnOnce(ServerRead, ServerWrite) -> T + Send + 'static,
) -> (Options, JoinHandle<T>) {
    let acceptor = TlsAcceptor::from(Arc::clone(&setup.config));
    let (address, thread) = serve(move |stream| {
        stream.set_nonblocking(true).unwrap();
        block_on(async {
            let stream = acceptor.accept(Async::new(stream).unwrap()).await.unwrap();
            let (read, write) = stream.split();
            let (read, write) = accepted(read, write).await.unwrap();
            task(read, write).await
        })
    });
    (options(address).host("localhost").tls(trusting(&setup.authority)), thread)
}

fn open(options: Options) -> (Read, Write) {
    let (_, read, write) = block_on(connect(options)).unwrap();
    (read, write)
}

#[test]
fn messages_beyond_all_buffers_go_both_ways_at_once() {
    const LEN: usize = 12 << 20;
    const COUNT: usize = 4;
    for version in VERSIONS {
        let (options, server) = server(&setup(version), async |mut read, mut write| {
            let send = async {
                for index in 0..COUNT {
                    write.send(Message::binary(vec![u8::try_from(index).unwrap(); LEN])).await.unwrap();
                }
                write.close_with(1000, "").await.unwrap();
            };
            let receive = async {
                let mut received = 0;
                while let Some(frame) = read.frame().await {
                    received += frame.unwrap().payload.len();
                }
                received
            };
            join!(send, receive).1
        });
        let (mut read, mut write) = open(options);
        let writer = std::thread::spawn(move || {
            for index in 0..COUNT {
                block_on(write.send(Message::binary(vec![u8::try_from(index).unwrap(); LEN]))).unwrap();
            }
            write
        });
        for index in 0..COUNT {
            let message = block_on(read.next_timeout(STALL)).unwrap().unwrap();
            assert_eq!(message.payload.len(), LEN);
            assert!(message.payload.iter().all(|&byte| usize::from(byte) == index));
        }
        let mut write = writer.join().unwrap();
        block_on(async {
            write.close_with(1000, "").await.unwrap();
            while read.next_timeout(STALL).await.unwrap().is_some() {}
        });
        // A two-byte Close payload goes both ways as well.
        assert_eq!(server.join().unwrap(), COUNT * LEN + 2);
    }
}

#[test]
fn requests_are_answered_while_one_way_messages_are_in_flight() {
    const ROUNDS: u32 = 5000;
    for version in VERSIONS {
        let (options, server) = server(&setup(version), async |mut read, mut write| {
            let mut one_way = 0;
            while let Some(message) = read.next().await {
                let message = message.unwrap();
                match message.opcode {
                    // A request: an answer, with something unasked before it.
                    Opcode::TEXT => {
                        write.feed(Message::binary(vec![1; 700])).await.unwrap();
                        write.feed(message).await.unwrap();
                    }
                    Opcode::BINARY => one_way += 1,
                    _ => {}
                }
            }
            one_way
        });
        let (mut read, mut write) = open(options);
        let done = Arc::new(AtomicBool::new(false));
        let talker = {
            let (mut write, done) = (write.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                block_on(async {
                    let mut sent = 0;
                    while !done.load(Ordering::Relaxed) {
                        write.send(Message::binary(vec![2; 1 + sent % 3000])).await.unwrap();
                        sent += 1;
                        // Enough to be always on the way, not so much that nothing else is.
                        Timer::after(Duration::from_micros(200)).await;
                    }
                    sent
                })
            })
        };
        // Requests come from a third thread, which is told of each answer.
        let (answered, answers) = mpsc::channel();
        let requester = std::thread::spawn(move || {
            for round in 0..ROUNDS {
                block_on(write.send(Message::text(round.to_string()))).unwrap();
                assert_eq!(answers.recv_timeout(STALL).ok(), Some(round), "stalled");
            }
            write
        });
        let mut round = 0;
        while round < ROUNDS {
            let message = block_on(read.next_timeout(STALL)).expect("stalled").unwrap();
            if message.opcode == Opcode::TEXT {
                assert_eq!(message.as_text(), Some(&*round.to_string()));
                answered.send(round).unwrap();
                round += 1;
            }
        }
        let mut write = requester.join().unwrap();
        done.store(true, Ordering::Relaxed);
        let sent = talker.join().unwrap();
        block_on(async {
            write.close_with(1000, "").await.unwrap();
            while read.next_timeout(STALL).await.unwrap().is_some() {}
        });
        assert_eq!(server.join().unwrap(), sent);
        assert!(sent > 100, "{sent}");
    }
}

/// Polls a future on a thread of its own until told to stop, and counts.
fn counting<T: Send + 'static>(
    polls: &Arc<AtomicUsize>,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let polls = Arc::clone(polls);
    std::thread::spawn(move || {
        let mut future = pin!(future);
        block_on(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            future.as_mut().poll(cx)
        }))
    })
}

#[test]
fn writer_that_is_blocked_and_reader_that_waits_are_left_alone() {
    for version in VERSIONS {
        let (resume, resumed) = mpsc::channel();
        let (options, server) = server(&setup(version), async move |mut read, mut write| {
            // Not reading at all.
            write.text("ready").await.unwrap();
            resumed.recv().unwrap();
            let mut received = 0;
            while let Some(message) = read.next().await {
                received += message.unwrap().payload.len();
            }
            received
        });
        let (mut read, mut write) = open(options);
        assert_eq!(block_on(read.next()).unwrap().unwrap().as_text(), Some("ready"));
        let (reads, writes) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let reader = counting(&reads, async move {
            while let Some(message) = read.next().await {
                message.unwrap();
            }
        });
        let sent = Arc::<AtomicUsize>::default();
        let writer = counting(&writes, {
            let sent = Arc::clone(&sent);
            async move {
                for _ in 0..16 {
                    write.send(Message::binary(vec![7; 1 << 20])).await.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                write.close_with(1000, "").await.unwrap();
            }
        });
        let pause = |time| block_on(async { Timer::after(time).await });
        pause(Duration::from_millis(500));
        let before = (reads.load(Ordering::Relaxed), writes.load(Ordering::Relaxed));
        assert!(sent.load(Ordering::Relaxed) < 16, "the writer is blocked");
        pause(Duration::from_secs(2));
        let after = (reads.load(Ordering::Relaxed), writes.load(Ordering::Relaxed));
        assert!(after.0 - before.0 <= 4 && after.1 - before.1 <= 4, "{before:?} {after:?}");
        resume.send(()).unwrap();
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(server.join().unwrap(), (16 << 20) + 2);
    }
}

#[test]
fn close_is_answered_while_the_writer_is_blocked() {
    let (options, server) = server(&setup(TlsVersion::Tls13), async |mut read, mut write| {
        // Closes without reading what comes; then reads it all.
        write.close_with(1001, "going").await.unwrap();
        while let Some(frame) = read.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        read.close_frames().is_clean()
    });
    let (mut read, mut write) = open(options);
    let writer = std::thread::spawn(move || {
        block_on(async {
            while write.send(Message::binary(vec![7; 1 << 20])).await.is_ok() {}
            write
        })
    });
    let close = block_on(read.next_timeout(STALL)).unwrap().unwrap();
    assert_eq!(close.opcode, Opcode::CLOSE);
    assert!(block_on(read.next_timeout(STALL)).unwrap().is_none());
    assert!(server.join().unwrap());
    drop(writer.join().unwrap());
}

#[test]
fn poll_of_one_half_does_not_take_the_wake_up_of_the_other() {
    let (options, server) = server(&setup(TlsVersion::Tls13), async |mut read, mut write| {
        while let Some(message) = read.next().await {
            let message = message.unwrap();
            if message.is_data() {
                Timer::after(Duration::from_millis(1)).await;
                write.send(message).await.unwrap();
            }
        }
    });
    let (mut read, mut write) = open(options);
    // The reader waits in a thread of its own, while the writer is polled from here all the time.
    let (answered, answers) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        block_on(async {
            while let Some(message) = read.next().await {
                let _ = answered.send(message.unwrap().opcode);
            }
        });
    });
    for _ in 0..500 {
        block_on(async {
            write.send(Message::text("x")).await.unwrap();
            for _ in 0..3 {
                poll_fn(|cx| {
                    let _ = futures::Sink::poll_flush(std::pin::Pin::new(&mut write), cx);
                    Poll::Ready(())
                })
                .await;
            }
        });
        assert_eq!(answers.recv_timeout(STALL), Ok(Opcode::TEXT), "stalled");
    }
    block_on(write.close_with(1000, "")).unwrap();
    reader.join().unwrap();
    server.join().unwrap();
}
