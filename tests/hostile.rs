//! What hostile clients send to a listening server, and what they cannot do to it. Figures are for `tests/abuse`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::{
    future::poll_fn,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    pin::pin,
    process::Command,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use coro_websocket::{
    Error, HandshakeError, Phase, Read, Request, Server, ServerOptions, StreamExt, Write, serve,
};
use futures::{
    executor::block_on,
    future::{Either, join, select},
};

const KEYED: &str = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn bind(options: ServerOptions) -> Server {
    block_on(Server::bind("127.0.0.1:0", options)).unwrap()
}

fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    // A bound for what may hang, far above what anything takes.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn valid() -> String {
    format!("GET / HTTP/1.1\r\n{KEYED}")
}

/// Whatever comes until the end. Says whether the end was in order.
fn rest(stream: &mut TcpStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let in_order = stream.read_to_end(&mut bytes).is_ok();
    (String::from_utf8_lossy(&bytes).into_owned(), in_order)
}

async fn wait_for_close(_: Request, mut read: Read, _: Write) -> Result<(), Error> {
    while let Some(message) = read.next().await {
        message?;
    }
    Ok(())
}

/// Serves until the thread is done.
fn served<T: Send + 'static>(server: &Server, clients: impl FnOnce() -> T + Send + 'static) -> T {
    let clients = thread::spawn(clients);
    let done = async {
        while !clients.is_finished() {
            async_io::Timer::after(Duration::from_millis(2)).await;
        }
    };
    block_on(async {
        match select(pin!(serve(server, wait_for_close)), pin!(done)).await {
            Either::Left((ended, _)) => panic!("{ended:?}"),
            Either::Right(((), _)) => {}
        }
    });
    clients.join().unwrap()
}

/// What makes a refusal a whole answer: it says that it is the last, how long it is, and what would be right.
fn check_refusal(answer: &str, status: u16, without_body: bool) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    assert!(header("Connection").unwrap().starts_with("close"), "{answer}");
    let len: usize = header("Content-Length").unwrap().parse().unwrap();
    assert!(len > 0 && body.len() == if without_body { 0 } else { len }, "{answer}");
    assert_eq!(header("Upgrade"), (status == 426).then_some("websocket"), "{answer}");
    assert!(status != 426 || header("Sec-WebSocket-Version") == Some("13"), "{answer}");
    assert_eq!(header("Allow"), (status == 405).then_some("GET"), "{answer}");
}

/// RUSTSEC-2021-0078, RUSTSEC-2021-0079, RUSTSEC-2021-0020, RUSTSEC-2020-0008 (hyper): what two readers of one head
/// may read differently. CVE-2024-37890 (ws), CVE-2026-65624 (cowboy), CVE-2026-54465, CVE-2026-61666
/// (websocket-driver): heads without end, without what must be there, with a malformed Host. CVE-2026-45541 (ESP-IDF):
/// malformed lists. CVE-2026-54463, CVE-2026-54466 (websocket-driver): drafts. GHSA-c4j6-fc7j-m34r (Next.js): requests
/// for elsewhere. CVE-2018-14732, CVE-2019-13611, CVE-2019-13209: pages of others.
#[test]
fn every_hostile_head_gets_its_answer_and_nobody_else_notices() {
    let and = |line: &str| format!("GET / HTTP/1.1\r\n{line}\r\n{KEYED}");
    let start = |line: &str| format!("{line}\r\n{KEYED}");
    let with = |from: &str, to: &str| valid().replace(from, to);
    let cases = [
        (valid(), 101),
        // Line ends and bytes.
        (valid().replace("\r\n", "\n"), 400),
        (with("\r\nUpgrade", "\nUpgrade"), 400),
        (with("\r\nUpgrade", "\rUpgrade"), 400),
        (with("Host: h", "Host: h\0"), 400),
        (with("websocket", "websocket\r\n folded"), 400),
        (with("websocket", "\r\n\twebsocket"), 400),
        (with("Host:", "Host :"), 400),
        (with("Host:", " Host:"), 400),
        (format!("\n{}", valid()), 400),
        (format!("\r\n \r\n{}", valid()), 400),
        ("\r\n".repeat(8 << 10), 431),
        // Before the request, empty lines are ignored (RFC 9112 §2.2).
        (format!("\r\n{}", valid()), 101),
        ("\0".repeat(100), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0".to_owned(), 400),
        // Too much.
        (and("X: y\r\n".repeat(59).trim_end()), 101),
        (and("X: y\r\n".repeat(60).trim_end()), 431),
        (and("X: y\r\n".repeat(10_000).trim_end()), 431),
        // Without any of those that must be there.
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(64)), 400),
        (and(&format!("X: {}", "y".repeat(16 << 10))), 431),
        (and(&format!("X: {}", "y".repeat(1 << 20))), 431),
        ("y".repeat(1 << 20), 431),
        (start(&format!("GET /{} HTTP/1.1", "y".repeat(1 << 20))), 431),
        // Once and only once.
        (and("Host: h"), 400),
        (and("Host: other"), 400),
        (with("Host: h\r\n", ""), 400),
        (with("Host: h", "Host: a b"), 400),
        (with("Host: h", "Host: h, h"), 400),
        (with("Host: h", "Host: h:99999"), 400),
        (and("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"), 400),
        (with("dGhlIHNhbXBsZSBub25jZQ==", ""), 400),
        (and("Sec-WebSocket-Version: 13"), 426),
        (and("Sec-WebSocket-Version: 8"), 426),
        (with(": 13", ": 8"), 426),
        (with(": 13", ": 0"), 426),
        (with(": 13", ": 14"), 426),
        (with(": 13", ": 013"), 426),
        (with(": 13", ": 13, 8"), 426),
        (with(": 13", ":"), 426),
        (with("Sec-WebSocket-Version: 13\r\n", ""), 400),
        (with("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"), 426),
        (with("Connection: Upgrade", "Connection: close"), 426),
        (with("Connection: Upgrade\r\n", ""), 426),
        (with("Upgrade: websocket\r\n", ""), 426),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400),
        // The drafts before the RFC.
        (and("Sec-WebSocket-Key1: 1 2\r\nSec-WebSocket-Key2: 1 2\r\nContent-Length: 8"), 400),
        // Method and version of HTTP.
        (start("GET / HTTP/1.0"), 400),
        (start("GET / HTTP/1.2"), 400),
        (start("GET / HTTP/2.0"), 400),
        (start("GET /"), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        (start("POST / HTTP/1.1"), 405),
        (start("HEAD / HTTP/1.1"), 405),
        (start("get / HTTP/1.1"), 405),
        (start("CONNECT h:80 HTTP/1.1"), 405),
        // A body.
        (and("Content-Length: 0"), 101),
        (and("Content-Length: 5"), 400),
        (and("Content-Length: 0\r\nContent-Length: 5"), 400),
        (and("Content-Length: 0\r\nContent-Length: 0"), 400),
        (and("Content-Length: +0"), 400),
        (and("Transfer-Encoding: chunked"), 400),
        (and("Transfer-Encoding: identity"), 400),
        (and("Content-Length: 0\r\nTransfer-Encoding: chunked"), 400),
        (and("Content-Length: x"), 400),
        // Where to.
        (start("GET http://h/ HTTP/1.1"), 101),
        (start("GET HTTP://H:80 HTTP/1.1"), 101),
        (start("GET ws://h/ HTTP/1.1"), 101),
        // The host of the target counts, `Host` does not (RFC 9112 §3.2.2).
        (start("GET http://other/ HTTP/1.1"), 101),
        (start("GET http://other/ HTTP/1.1\r\nOrigin: http://other"), 101),
        (start("GET http://other/ HTTP/1.1\r\nOrigin: http://h"), 403),
        (start("GET http://other/ HTTP/1.1\r\nHost: other"), 400),
        (start("GET http://user@h/ HTTP/1.1"), 400),
        (start("GET ftp://h/ HTTP/1.1"), 400),
        (start("GET * HTTP/1.1"), 400),
        (start("GET h:80 HTTP/1.1"), 400),
        (start("GET chat HTTP/1.1"), 400),
        (start("GET /a#b HTTP/1.1"), 400),
        (start("GET /a b HTTP/1.1"), 400),
        (start("GET /ä HTTP/1.1"), 400),
        // Never decoded, so never anything else than what was asked for.
        (start("GET /%2e%2e/%00%2F?a=%0d%0a HTTP/1.1"), 101),
        (start("GET //evil/../x HTTP/1.1"), 101),
        // Lists.
        (and("Sec-WebSocket-Protocol: ,"), 101),
        (and("Sec-WebSocket-Protocol: ;"), 400),
        (and("Sec-WebSocket-Protocol: a b"), 400),
        (and("Sec-WebSocket-Extensions: ;"), 400),
        (and("Sec-WebSocket-Extensions: a;b=\"c"), 400),
        // Pages of others.
        (and("Origin: http://evil"), 403),
        (and("Origin: null"), 403),
        (and("Origin: http://h"), 101),
    ];
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    let server = bind(ServerOptions::default().on_failure(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    let address = server.local_addr().unwrap();
    // All are seen: those who were let in end without a Close, and so does the patient one.
    let failed = cases.len() + 1;
    served(&server, move || {
        // One whose head takes as long as all of the others.
        let mut patient = raw(address);
        let (first, last) = KEYED.split_at(30);
        write!(patient, "GET / HTTP/1.1\r\n{first}").unwrap();
        for (head, status) in &cases {
            let mut stream = raw(address);
            // The server may have seen enough before it is all out.
            let _ = stream.write_all(head.as_bytes());
            if *status == 101 {
                let _ = stream.shutdown(Shutdown::Write);
            }
            let (answer, in_order) = rest(&mut stream);
            let shown = &head[..head.len().min(200)];
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} {answer:?}");
            assert!(in_order || *status == 101, "{shown:?}");
            if *status != 101 {
                check_refusal(&answer, *status, head.starts_with("HEAD "));
            }
        }
        patient.write_all(last.as_bytes()).unwrap();
        patient.shutdown(Shutdown::Write).unwrap();
        assert!(rest(&mut patient).0.starts_with("HTTP/1.1 101 "));
    });
    assert_eq!(failures.load(Ordering::SeqCst), failed);
    assert_eq!(server.connections(), 0);
}

/// RUSTSEC-2023-0065 / CVE-2023-43669 (tungstenite): a head that was parsed again with every byte. The work is counted
/// beside the parser; here it comes in 16 Ki packets.
#[test]
fn head_of_one_byte_per_packet_is_served() {
    let server = bind(ServerOptions::default());
    let address = server.local_addr().unwrap();
    served(&server, move || {
        let lines = valid();
        let (lines, end) = lines.split_at(lines.len() - 4);
        let room = (16 << 10) - lines.len() - end.len() - 5;
        let head = format!("{lines}\r\nX: {}{end}", "x".repeat(room));
        assert_eq!(head.len(), 16 << 10);
        let mut stream = raw(address);
        for byte in head.bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(rest(&mut stream).0.starts_with("HTTP/1.1 101 "));
    });
}

/// However many wait, whoever shares the thread has turns in between.
#[test]
fn accepting_many_lets_others_have_their_turn() {
    const COUNT: usize = 400;
    let server = bind(ServerOptions::default());
    let streams: Vec<_> = (0..COUNT).map(|_| raw(server.local_addr().unwrap())).collect();
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut accept = pin!(server.accept());
        let mut before = 0;
        while server.connections() < COUNT / 2 {
            assert!(accept.as_mut().poll(&mut cx).is_pending());
            assert!(server.connections() - before <= 40, "{before} {}", server.connections());
            before = server.connections();
        }
    }
    let mut arrived = Vec::new();
    let mut in_a_row = 0;
    while server.connections() < COUNT {
        match pin!(server.incoming()).poll(&mut cx) {
            Poll::Ready(connecting) => {
                arrived.push(connecting.unwrap().unwrap());
                in_a_row += 1;
                assert!(in_a_row <= 40);
            }
            Poll::Pending => in_a_row = 0,
        }
    }
    drop(streams);
}

#[test]
fn handlers_have_their_turn_however_many_arrive() {
    const COUNT: usize = 400;
    let server = bind(ServerOptions::default());
    let address = server.local_addr().unwrap();
    let streams: Vec<_> = (0..COUNT)
        .map(|_| {
            let mut stream = raw(address);
            stream.write_all(valid().as_bytes()).unwrap();
            stream
        })
        .collect();
    let seen = Mutex::new(Vec::new());
    // The first one looks around whenever it has its turn.
    let handler = async |_: Request, _read: Read, _write: Write| {
        let is_first = seen.lock().unwrap().is_empty();
        poll_fn(|_| {
            if is_first {
                seen.lock().unwrap().push(server.connections());
            }
            Poll::Pending
        })
        .await
    };
    block_on(async {
        let mut serving = pin!(serve(&server, handler));
        let mut all = pin!(async {
            while server.connections() < COUNT {
                async_io::Timer::after(Duration::from_millis(1)).await;
            }
        });
        // Polled by hand, since the first handler wakes nobody.
        poll_fn(|cx| {
            assert!(serving.as_mut().poll(cx).is_pending());
            cx.waker().wake_by_ref();
            all.as_mut().poll(cx)
        })
        .await;
    });
    let mut before = 0;
    for &now in &*seen.lock().unwrap() {
        assert!(now - before <= 80, "{before} {now}");
        before = now;
    }
    drop(streams);
}

#[test]
fn hook_that_panics_costs_its_client_alone() {
    let server = bind(ServerOptions::default().on_failure(|_, _| panic!("part of the test")));
    server.set_proxy_handshake(|request, accept| match request.path() {
        "/" => Ok(accept),
        _ => panic!("part of the test"),
    });
    let address = server.local_addr().unwrap();
    served(&server, move || {
        let mut patient = raw(address);
        patient.write_all(&valid().as_bytes()[..20]).unwrap();
        for (head, answered) in [
            (valid().replace("GET /", "GET /panic"), "HTTP/1.1 500 "),
            ("nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
            (valid(), "HTTP/1.1 101 "),
        ] {
            let mut stream = raw(address);
            stream.write_all(head.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let (answer, _) = rest(&mut stream);
            assert!(answer.starts_with(answered), "{answer}");
        }
        patient.write_all(&valid().as_bytes()[20..]).unwrap();
        patient.shutdown(Shutdown::Write).unwrap();
        assert!(rest(&mut patient).0.starts_with("HTTP/1.1 101 "));
    });
    assert_eq!(server.connections(), 0);
}

#[test]
fn closing_drops_clients_that_were_not_accepted_even_while_a_caller_of_accept_waits() {
    let server = bind(ServerOptions::default());
    let mut begun = raw(server.local_addr().unwrap());
    begun.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut accept = pin!(server.accept());
    while server.connections() == 0 {
        assert!(accept.as_mut().poll(&mut cx).is_pending());
    }
    server.close();
    assert_eq!(server.connections(), 0);
    assert_eq!(rest(&mut begun), (String::new(), true));
    assert!(block_on(server.accept()).unwrap().is_none());
}

const DESCRIPTORS: &str = "CORO_WEBSOCKET_TEST_DESCRIPTORS";

/// Out of file descriptors, a server neither ends nor spins. It is in a process of its own, which has few.
#[cfg(unix)]
#[test]
fn server_without_descriptors_waits_for_some() {
    if std::env::var_os(DESCRIPTORS).is_some() {
        without_descriptors();
        return;
    }
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "server_without_descriptors_waits_for_some", "--nocapture"])
        .env(DESCRIPTORS, "64")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

fn without_descriptors() {
    let failures = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&failures);
    let itself: Arc<OnceLock<Weak<Server>>> = Arc::default();
    let asked = Arc::clone(&itself);
    let server = Arc::new(bind(ServerOptions::default().on_failure(move |_, error| {
        // Whoever is told may ask the server whatever he likes.
        let server = asked.get().unwrap().upgrade().unwrap();
        assert!(server.is_listening() && server.local_addr().is_some());
        log.lock().unwrap().push((server.connections(), error.io_kind()));
    })));
    itself.set(Arc::downgrade(&server)).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
        assert!(hoard.len() < 64);
    }
    hoard.pop();
    let mut client = raw(server.local_addr().unwrap());
    client.write_all(valid().as_bytes()).unwrap();
    block_on(async {
        let timeout = Duration::from_millis(300);
        let incoming = async {
            let waiting = pin!(server.incoming());
            assert!(matches!(select(waiting, async_io::Timer::after(timeout)).await, Either::Right(_)));
        };
        let (accepted, ()) = join(server.accept_timeout(timeout), incoming).await;
        assert!(matches!(accepted, Err(Error::TimedOut(Phase::Call))));
        // 5 ms, then twice as long each time, up to a second.
        let failed = failures.lock().unwrap().len();
        assert!((1..=12).contains(&failed), "{failed}");
        drop(hoard);
        assert!(server.accept().await.unwrap().is_some());
    });
    let emfile = io::Error::from_raw_os_error(24).kind();
    assert!(failures.lock().unwrap().iter().all(|failure| *failure == (0, Some(emfile))));
}

/// Clients connect, calls of `accept` are given up whenever they wait, and the server is closed at any moment: each
/// client is handed out, or sees the end; no seat is lost and nobody waits for ever.
#[test]
fn whatever_races_each_client_is_handed_out_or_sees_the_end() {
    const CLIENTS: usize = 24;
    for round in 0..150_u64 {
        let server = Arc::new(bind(ServerOptions::default()));
        let address = server.local_addr().unwrap();
        let clients: Vec<_> = (0..3_u64)
            .map(|part| {
                thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(round * 10 + part);
                    let mut greeted = 0;
                    let mut streams = Vec::new();
                    for _ in 0..CLIENTS / 3 {
                        // It may be closed already.
                        let Ok(mut stream) = TcpStream::connect(address) else { continue };
                        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                        let cut = if random.bool() { 0 } else { random.usize(..valid().len()) };
                        let _ = stream.write_all(&valid().as_bytes()[..cut]);
                        let _ = stream.write_all(&valid().as_bytes()[cut..]);
                        streams.push(stream);
                    }
                    for mut stream in streams {
                        let mut bytes = Vec::new();
                        if let Err(error) = stream.read_to_end(&mut bytes) {
                            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "nobody has told it");
                        }
                        greeted += usize::from(bytes.windows(4).any(|part| part == b"\x81\x02hi"));
                    }
                    greeted
                })
            })
            .collect();
        let acceptors: Vec<_> = (0..2_u64)
            .map(|part| {
                let server = Arc::clone(&server);
                thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(1000 + round * 10 + part);
                    let mut handed = Vec::new();
                    block_on(async {
                        loop {
                            let mut left = random.u32(0..4);
                            let mut accept = pin!(server.accept());
                            let attempt = poll_fn(|cx| match accept.as_mut().poll(cx) {
                                Poll::Pending if left == 0 => Poll::Ready(None),
                                Poll::Pending => {
                                    left -= 1;
                                    Poll::Pending
                                }
                                ready => Poll::Ready(Some(ready)),
                            });
                            match attempt.await {
                                Some(Poll::Ready(Ok(Some((_, read, mut write))))) => {
                                    write.text("hi").await.unwrap();
                                    handed.push((read, write));
                                }
                                Some(Poll::Ready(ended)) => {
                                    assert!(ended.unwrap().is_none());
                                    break;
                                }
                                _ => thread::yield_now(),
                            }
                        }
                    });
                    handed.len()
                })
            })
            .collect();
        let closer = {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                // At any moment, from before the first client to after the last.
                let mut random = fastrand::Rng::with_seed(round);
                for _ in 0..random.u32(0..3000) {
                    thread::yield_now();
                }
                server.close();
            })
        };
        closer.join().unwrap();
        let handed: usize = acceptors.into_iter().map(|acceptor| acceptor.join().unwrap()).sum();
        let greeted: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(handed, greeted, "round {round}");
        assert_eq!(server.connections(), 0, "round {round}");
        assert!(block_on(server.accept()).unwrap().is_none());
        assert!(block_on(server.incoming()).unwrap().is_none());
    }
}

/// CVE-2025-11677 (libwebsockets): a handshake that failed left something that was used again. CVE-2021-42340 (Tomcat):
/// something leaked with each connection. Here clients hang up, or take everything back, after each byte of the
/// handshake; `tests/abuse` counts descriptors and memory after very many.
#[test]
fn handshake_that_ends_at_any_byte_leaves_nothing() {
    let server = bind(ServerOptions::default());
    let address = server.local_addr().unwrap();
    served(&server, move || {
        for len in 0..valid().len() {
            for reset in [false, true] {
                let mut stream = raw(address);
                stream.write_all(&valid().as_bytes()[..len]).unwrap();
                if reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    continue;
                }
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(rest(&mut stream), (String::new(), true), "{len}");
            }
        }
        let mut last = raw(address);
        last.write_all(valid().as_bytes()).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        assert!(rest(&mut last).0.starts_with("HTTP/1.1 101 "));
    });
    assert_eq!(server.connections(), 0);
}

/// A client that is refused is no reason to keep anything of it.
#[test]
fn refusal_is_told_with_the_rule_that_was_broken() {
    let (tell, told) = mpsc::channel();
    let server = bind(ServerOptions::default().on_failure(move |_, error| tell.send(error.clone()).unwrap()));
    let address = server.local_addr().unwrap();
    let error = served(&server, move || {
        let mut stream = raw(address);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n").unwrap();
        assert!(rest(&mut stream).0.starts_with("HTTP/1.1 400 "));
        // The client may know sooner.
        told.recv_timeout(Duration::from_secs(10)).unwrap()
    });
    assert!(matches!(error, Error::Handshake { error: HandshakeError::Host, .. }), "{error:?}");
}
