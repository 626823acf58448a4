//! Over real loopback TCP: what only a socket does to a connection.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test, also in what the tests have in common"
)]

mod common;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::{self, Builder, JoinHandle},
    time::Duration,
};

use async_net::{TcpListener, TcpStream};
use coro_websocket::{
    CloseCode, Error, IoRead, IoWrite, Message, Opcode, ProtocolError, StreamExt, WrapOptions, codec, wrap_io,
};
use futures::{
    executor::block_on,
    io::{AsyncRead, AsyncWrite},
};

/// Held for reading by all, so that the test that counts descriptors, which holds it for writing, is alone.
static SOCKETS: RwLock<()> = RwLock::new(());

fn listener() -> (TcpListener, SocketAddr) {
    let listener = block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A peer in a thread of its own, on a bare socket.
fn peer<T: Send + 'static>(
    address: SocketAddr,
    script: impl FnOnce(std::net::TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    let connect = move || {
        let socket = std::net::TcpStream::connect(address).unwrap();
        // A bound for what may hang, far above what anything takes.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        script(socket)
    };
    Builder::new().spawn(connect).unwrap()
}

type TcpRead = IoRead<TcpStream, TcpStream>;
type TcpWrite = IoWrite<TcpStream>;

async fn accept(listener: &TcpListener, options: WrapOptions) -> (TcpRead, TcpWrite) {
    let socket = listener.accept().await.unwrap().0;
    socket.set_nodelay(true).unwrap();
    wrap_io(socket.clone(), socket, options)
}

fn masked(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, Some([1, 2, 3, 4]), &mut bytes);
    bytes
}

fn frames_of(bytes: &mut [u8]) -> Vec<Message> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while let Some((frame, len)) = codec::decode(rest) {
        frames.push(frame.to_message());
        rest = &mut rest[len..];
    }
    frames
}

/// Chromium and others report 1006 where a server resets the connection before its Close frame was read.
#[test]
fn the_peer_gets_our_close_after_its_violation_also_with_unread_data_in_flight() {
    const ROUNDS: usize = 1000;
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let violator = Builder::new().spawn(move || {
        for round in 0..ROUNDS {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut bytes = masked(&Message::text("fine"));
            // A reserved opcode, and then more than the buffers of both sockets may hold.
            bytes.extend([0x83, 0x80, 0, 0, 0, 0]);
            bytes.resize(bytes.len() + [0, 1, 5_000, 400_000][round % 4], 0x55);
            socket.write_all(&bytes).unwrap();
            if round % 3 == 0 {
                socket.write_all(&[0; 100]).unwrap();
            }
            let mut received = Vec::new();
            let end = socket.read_to_end(&mut received);
            assert!(end.is_ok(), "round {round}: {end:?}");
            let frames = frames_of(&mut received);
            assert_eq!(frames.len(), 1, "round {round}: {frames:?}");
            let close = frames[0].as_close().unwrap().unwrap();
            assert_eq!(close.code, CloseCode::PROTOCOL_ERROR, "round {round}");
        }
    });
    block_on(async {
        for round in 0..ROUNDS {
            let (mut read, write) = accept(&listener, WrapOptions::server()).await;
            assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("fine"));
            assert!(
                matches!(
                    read.next().await,
                    Some(Err(Error::Protocol { error: ProtocolError::ReservedOpcode, .. }))
                ),
                "round {round}"
            );
            assert!(read.next().await.is_none());
            assert!(write.is_closed());
        }
    });
    violator.unwrap().join().unwrap();
}

#[test]
fn a_peer_that_ends_its_side_without_close_is_lost_and_all_is_let_go() {
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let far = peer(address, |mut socket| {
        socket.write_all(&masked(&Message::text("last words"))).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).map(|_| received)
    });
    block_on(async {
        let (mut read, mut write) = accept(&listener, WrapOptions::server()).await;
        assert!(read.next().await.unwrap().is_ok());
        assert!(matches!(read.next().await, Some(Err(Error::Lost))));
        assert!(read.next().await.is_none());
        assert!(matches!(write.text("late").await, Err(Error::Closed(_))));
    });
    assert!(far.join().unwrap().unwrap().is_empty(), "no Close was said to it");
}

#[test]
fn a_peer_that_resets_fails_the_reader_and_every_writer() {
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let far = peer(address, |socket| {
        // Unread bytes at the end are a reset.
        while !matches!(socket.peek(&mut [0]), Ok(1)) {}
    });
    block_on(async {
        let (mut read, mut write) = accept(&listener, WrapOptions::server()).await;
        let mut other = write.clone();
        write.text("never read").await.unwrap();
        far.join().unwrap();
        let end = read.next().await;
        assert!(matches!(end, Some(Err(Error::Io(_)))), "{end:?}");
        assert!(read.next().await.is_none());
        for write in [&mut write, &mut other] {
            assert!(write.text("late").await.is_err());
        }
    });
}

/// The peer's Close may still be in what it sent, although nothing can be written to it any more.
#[test]
fn what_came_before_the_end_is_read_although_writing_fails() {
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let far = peer(address, |mut socket| {
        socket.write_all(&masked(&Message::text("one"))).unwrap();
        socket.write_all(&masked(&Message::close(1000, ""))).unwrap();
        socket.shutdown(Shutdown::Both).unwrap();
    });
    block_on(async {
        let (mut read, mut write) = accept(&listener, WrapOptions::server()).await;
        far.join().unwrap();
        let mut failed = false;
        for _ in 0..100 {
            failed |= write.send(Message::binary(vec![0; 10_000])).await.is_err();
        }
        // Where the reset has thrown away what came before, there is nothing to be read.
        match read.next().await.unwrap() {
            Ok(message) => {
                assert_eq!(message.as_text(), Some("one"));
                assert_eq!(read.next().await.unwrap().unwrap().opcode, Opcode::CLOSE);
            }
            Err(error) => assert!(matches!(error, Error::Io(_)), "{error}"),
        }
        assert!(read.next().await.is_none());
        assert!(failed);
    });
}

/// CVE-2024-23672 (Tomcat): a peer kept connections open by not finishing the closing handshake.
#[test]
fn a_peer_that_never_answers_close_is_left_at_the_deadline() {
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    for options in [WrapOptions::server(), WrapOptions::client()] {
        let far = peer(address, |mut socket| {
            let mut received = Vec::new();
            socket.read_to_end(&mut received).map(|_| received)
        });
        block_on(async {
            let options = options.close_timeout(Duration::from_millis(50));
            let (mut read, mut write) = accept(&listener, options).await;
            write.close_with(1001, "").await.unwrap();
            assert!(read.next().await.is_none());
            assert!(!read.close_frames().is_clean());
        });
        let mut received = far.join().unwrap().expect("the end, and no reset");
        assert_eq!(frames_of(&mut received).len(), 1);
    }
}

/// CVE-2024-23672 (Tomcat), from the other side: a server that says Close and then never ends the transport.
#[test]
fn a_server_that_never_ends_the_transport_is_left_at_the_deadline() {
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let far = peer(address, |mut socket| {
        socket.write_all(&[0x88, 0]).unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).map(|_| received)
    });
    block_on(async {
        let options = WrapOptions::client().close_timeout(Duration::from_millis(50));
        let (mut read, _write) = accept(&listener, options).await;
        assert_eq!(read.next().await.unwrap().unwrap().opcode, Opcode::CLOSE);
        assert!(read.next().await.is_none());
        assert!(read.close_frames().is_clean());
    });
    assert_eq!(frames_of(&mut far.join().unwrap().unwrap()).len(), 1);
}

/// How many descriptors this process has, where that can be counted.
fn descriptors() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count())
}

/// CVE-2021-42340 (Tomcat): something leaked with each closed connection.
#[test]
fn closed_connections_leave_no_descriptor_behind() {
    let _alone = SOCKETS.write();
    let (listener, address) = listener();
    let round = |how: usize| {
        block_on(async {
            let (near, far) = futures::join!(TcpStream::connect(address), listener.accept());
            let (near, far) = (near.unwrap(), far.unwrap().0);
            let (mut read, mut write) = wrap_io(near.clone(), near, WrapOptions::client());
            let (mut far_read, mut far_write) = wrap_io(far.clone(), far, WrapOptions::server());
            write.text("hello").await.unwrap();
            assert!(far_read.next().await.unwrap().is_ok());
            match how % 4 {
                0 => {
                    write.close_with(1000, "").await.unwrap();
                    let near = async { while read.next().await.is_some() {} };
                    let far = async { while far_read.next().await.is_some() {} };
                    futures::join!(near, far);
                }
                1 => far_write.abort(),
                2 => drop((read, write)),
                _ => {
                    far_write.feed("never flushed").await.unwrap();
                    drop(read);
                }
            }
        });
    };
    (0..8).for_each(round);
    let before = descriptors();
    (0..400).for_each(round);
    assert_eq!(descriptors(), before);
}

/// Counts how often a transport is polled.
struct Counted<T> {
    io: T,
    polls: Arc<AtomicUsize>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// CVE-2025-5399 (curl): a busy loop in the automatic Pong while the write side was full.
#[test]
fn a_writer_without_room_and_pings_at_the_reader_do_not_spin() {
    const PINGS: usize = 200;
    const BIG: usize = 16 << 20;
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let far = peer(address, move |mut socket| {
        // Pings, and nothing is read.
        for _ in 0..PINGS {
            socket.write_all(&masked(&Message::ping("?"))).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        wait.recv().unwrap();
        // From now on everything is.
        let mut received = Vec::new();
        let mut part = vec![0; 1 << 20];
        loop {
            let count = socket.read(&mut part).unwrap();
            assert_ne!(count, 0);
            received.extend_from_slice(&part[..count]);
            if received.len() > BIG {
                let mut frames = frames_of(&mut received.clone());
                let after = frames.iter().position(|frame| frame.payload.len() == BIG);
                if after.is_some_and(|at| at + 1 < frames.len()) {
                    return frames.split_off(after.unwrap());
                }
            }
        }
    });
    let socket = block_on(listener.accept()).unwrap().0;
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = |io| Counted { io, polls: Arc::clone(&polls) };
    let (mut read, mut write) =
        wrap_io(counted(socket.clone()), counted(socket.clone()), WrapOptions::server());
    let sending = Builder::new().spawn(move || block_on(write.send(Message::binary(vec![1; BIG])))).unwrap();
    let reading = Builder::new()
        .spawn(move || {
            block_on(async {
                for _ in 0..PINGS {
                    let ping = read.next().await.unwrap().unwrap();
                    assert_eq!(ping.opcode, Opcode::PING);
                }
                go_on(&mut read).await;
            });
            read
        })
        .unwrap();
    let pinged = wait_for(|| reading.is_finished());
    assert!(pinged, "the reader goes on while the writer waits");
    let busy = polls.load(Ordering::SeqCst);
    // A few for each Ping, and those that filled the socket.
    assert!(busy < 10 * PINGS, "{busy} polls");
    // Both wait: nothing is polled at all.
    let mut read = reading.join().unwrap();
    let waiting = Builder::new().spawn(move || block_on(read.next())).unwrap();
    thread::sleep(Duration::from_millis(100));
    let before = polls.load(Ordering::SeqCst);
    thread::sleep(Duration::from_millis(150));
    let idle = polls.load(Ordering::SeqCst) - before;
    assert!(idle <= 2, "{idle} polls while both halves wait");
    assert!(!sending.is_finished());
    go.send(()).unwrap();
    sending.join().unwrap().unwrap();
    let frames = far.join().unwrap();
    assert!(waiting.join().unwrap().is_none_or(|end| end.is_err()), "the peer has gone");
    assert_eq!(frames[0].payload.len(), BIG);
    assert_eq!(frames[1].opcode, Opcode::PONG, "the latest Ping at least is answered");
}

/// One poll more, in which everything that can be sent is.
async fn go_on<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(read: &mut IoRead<R, W>) {
    assert!(futures::poll!(read.next()).is_pending());
}

/// Waits for something that must come soon, and says whether it did.
fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    (0..2000).any(|_| {
        let done = done();
        if !done {
            thread::sleep(Duration::from_millis(10));
        }
        done
    })
}

/// A connection that nobody uses costs no polls, and a spurious wake-up of the transport only one each.
#[test]
fn an_idle_connection_is_not_polled() {
    let _shared = SOCKETS.read();
    let (listener, address) = listener();
    let far = peer(address, |mut socket| {
        let mut received = Vec::new();
        socket.read_to_end(&mut received).map_err(|error| error.kind())
    });
    block_on(async {
        let (mut read, write) = accept(&listener, WrapOptions::server()).await;
        let count = Arc::new(common::Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(read.poll_next_unpin(&mut cx).is_pending());
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(count.get(), 0, "nobody was woken");
        drop((read, write));
    });
    let end = far.join().unwrap();
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "closed without a word");
}
