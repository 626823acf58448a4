//! `connect`: from a URL to halves, over real sockets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::indexing_slicing, reason = "tests")]

#[path = "common/net.rs"]
mod net;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    time::{Duration, Instant},
};

use coro_websocket::{
    Error, HandshakeError, Message, Opcode, Options, OptionsError, Phase, SinkExt, StreamExt, connect,
};
use futures::executor::block_on;
use net::{accept, open_files, options, read_head, read_to_end, serve, switching};

const SOON: Duration = Duration::from_millis(150);

fn refused(options: Options) -> Error {
    block_on(connect(options)).map(|(response, ..)| response).unwrap_err()
}

#[test]
fn connection_opens_and_tells_of_its_socket() {
    let (address, server) = serve(|stream| {
        let stream = async_io::Async::new(stream).unwrap();
        block_on(async {
            let (read, write) = net::accepted(&stream, &stream).await.unwrap();
            net::echo(read, write).await.unwrap();
        });
    });
    block_on(async {
        let (response, mut read, mut write) = connect(options(address)).await.unwrap();
        assert_eq!(response.code(), 101);
        let timings = response.timings();
        assert_eq!((timings.dns, timings.tls), (None, None));
        assert!(timings.connect.is_some() && timings.handshake.is_some_and(|took| took > Duration::ZERO));
        let socket = response.socket().unwrap().clone();
        assert_eq!(socket.peer_addr(), Some(address));
        assert!(socket.local_addr().is_some() && socket.is_alive());
        assert!(socket.nodelay().unwrap());
        socket.set_nodelay(false).unwrap();
        assert!(!socket.nodelay().unwrap());

        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let message = Message::binary(vec![7; len]);
            let (sent, echo) = futures::join!(write.send(message.clone()), read.next());
            sent.unwrap();
            assert_eq!(echo.unwrap().unwrap().payload, message.payload);
        }
        write.close_with(1000, "").await.unwrap();
        assert!(read.next().await.unwrap().unwrap().as_close().unwrap().is_some());
        assert!(read.next().await.is_none());
        drop((read, write));
        assert!(!socket.is_alive(), "the handle is weak");
        assert_eq!(socket.peer_addr(), Some(address));
        assert!(matches!(socket.shutdown(Shutdown::Both), Err(Error::Closed(_))));
    });
    server.join().unwrap();
}

#[test]
fn unix_socket_is_reached_by_its_path() {
    let path = std::env::temp_dir().join(format!("coro-websocket-{}.socket", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_head(&mut stream);
        stream.write_all(switching(&request).as_bytes()).unwrap();
        stream.write_all(b"\x81\x02hi\x88\x00").unwrap();
        let mut close = [0; 6];
        stream.read_exact(&mut close).unwrap();
        request
    });
    block_on(async {
        let (response, mut read, _write) = connect(Options::default().path(&path)).await.unwrap();
        let socket = response.socket().unwrap();
        assert_eq!((socket.peer_addr(), socket.nodelay().unwrap()), (None, true));
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
        assert_eq!(read.next().await.unwrap().unwrap().opcode, Opcode::CLOSE);
        assert!(read.next().await.is_none());
    });
    assert!(server.join().unwrap().contains("\r\nHost: localhost\r\n"));
    std::fs::remove_file(&path).unwrap();
    let error = refused(Options::default().path(&path));
    assert!(matches!(error, Error::Connect(_)) && error.to_string().contains(".socket"), "{error}");
    assert_eq!((error.code(), error.io_kind()), (Some(-3), Some(std::io::ErrorKind::NotFound)));
}

#[test]
fn unix_server_whose_queue_is_full_is_waited_for() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let path = std::env::temp_dir().join(format!("coro-websocket-full-{}.socket", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let server = std::thread::spawn(move || {
        std::thread::sleep(SOON);
        for _ in 0..8 {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = stream;
            let request = read_head(&mut stream);
            stream.write_all(switching(&request).as_bytes()).unwrap();
        }
    });
    let all = (0..8).map(|_| connect(Options::default().path(&path)));
    for connected in block_on(futures::future::join_all(all)) {
        assert_eq!(connected.unwrap().0.code(), 101);
    }
    server.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn nowhere_to_connect_to_is_an_error_of_the_caller() {
    assert!(matches!(refused(Options::default()), Error::Options { error: OptionsError::NoAddress, .. }));
    assert!(matches!(refused(Options::default().port(0)), Error::Options { error: OptionsError::Port, .. }));
    assert!(matches!(
        refused(Options::default().host("a b")),
        Error::Options { error: OptionsError::Host, .. }
    ));
}

#[test]
fn what_could_split_the_request_never_opens_a_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    for bad in ["\r\nA: b", "\n", "\r", "\0", " x"] {
        for options in [
            options(address).pathname(format!("/a{bad}")),
            options(address).host(format!("127.0.0.1{bad}")),
            options(address).header(format!("A{bad}"), "b"),
            options(address).header("Host", format!("h{bad}")),
            options(address).subprotocol(format!("a{bad}")),
        ] {
            let error = refused(options.clone());
            assert!(matches!(error, Error::Options { .. }), "{options:?}: {error}");
        }
        let url = format!("ws://{address}/a{bad}");
        assert!(matches!(Options::from_url(&url), Err(Error::Url { .. })));
    }
    for bad in ["b\r\nC: d", "b\n", "b\r", "b\0"] {
        let error = refused(options(address).header("A", bad));
        assert!(matches!(error, Error::Options { error: OptionsError::Header, .. }), "{bad:?}: {error}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn host_names_the_port_unless_it_is_the_default_and_ipv6_has_brackets() {
    let asked = |options: &dyn Fn(u16) -> Options, bind: &str| {
        let listener = TcpListener::bind(bind).ok()?;
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
            request.lines().find_map(|line| line.strip_prefix("Host: ").map(str::to_owned)).unwrap()
        });
        let error = refused(options(port));
        assert!(matches!(error, Error::Handshake { error: HandshakeError::Status(404), .. }), "{error}");
        assert_eq!(error.response().unwrap().body(), b"no");
        Some(server.join().unwrap().replace(&port.to_string(), "PORT"))
    };
    let v4 = "127.0.0.1:0";
    let expect = |options: &dyn Fn(u16) -> Options, expected: &str| {
        assert_eq!(asked(options, v4).as_deref(), Some(expected));
    };
    expect(&|port| Options::default().port(port), "127.0.0.1:PORT");
    expect(&|port| Options::default().host("LocalHost").port(port), "localhost:PORT");
    expect(&|port| Options::from_url(&format!("ws://127.1:{port}")).unwrap(), "127.0.0.1:PORT");
    expect(&|port| Options::default().port(port).header("Host", "example.com"), "example.com");
    let v6 = asked(&|port| Options::default().host("::1").port(port), "[::1]:0");
    assert!(v6.is_none_or(|host| host == "[::1]:PORT"));
}

#[test]
fn name_without_an_address_is_an_error_of_its_own() {
    for host in ["bücher.invalid", "does-not-exist.invalid"] {
        let error = refused(Options::default().host(host).port(1));
        assert!(matches!(error, Error::Resolve(_)), "{error}");
        assert_eq!(error.code(), Some(-3));
    }
}

#[test]
fn refusal_of_the_socket_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = refused(options(address));
    assert!(matches!(error, Error::Connect(_)));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert_eq!((error.code(), error.io_kind()), (Some(-3), Some(std::io::ErrorKind::ConnectionRefused)));
}

#[test]
fn each_phase_ends_with_the_deadline_and_says_so() {
    let zero = refused(Options::default().host("localhost").port(1).timeout(Duration::ZERO));
    assert!(matches!(zero, Error::TimedOut(Phase::Dns)) && zero.code() == Some(-5), "{zero}");

    let (_full, _fill, address) = black_hole();
    for options in [options(address).connect_timeout(SOON), options(address).timeout(SOON)] {
        let since = Instant::now();
        let error = refused(options);
        assert!(matches!(error, Error::TimedOut(Phase::Connect)) && error.code() == Some(-5), "{error}");
        assert!(since.elapsed() >= SOON);
    }

    let (address, server) = serve(|mut stream| {
        read_head(&mut stream);
        read_to_end(&mut stream)
    });
    // The time for the socket is not that for the answer.
    let error = refused(options(address).connect_timeout(SOON / 2).timeout(SOON));
    assert!(matches!(error, Error::TimedOut(Phase::Handshake)) && error.code() == Some(-6), "{error}");
    assert!(server.join().unwrap(), "the socket is closed");
}

/// A listener whose queue is full: it answers nobody.
fn black_hole() -> (socket2::Socket, Vec<socket2::Socket>, std::net::SocketAddr) {
    use socket2::{Domain, SockAddr, Socket, Type};
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = (0..4).map(|_| {
        let stream = socket();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.connect(&address);
        stream
    });
    let fill = fill.collect();
    std::thread::sleep(Duration::from_millis(20));
    (listener, fill, address.as_socket().unwrap())
}

#[test]
fn slow_head_does_not_move_the_deadline() {
    let (address, server) = serve(|mut stream| {
        let request = read_head(&mut stream);
        for byte in switching(&request).bytes() {
            if stream.write_all(&[byte]).is_err() {
                return true;
            }
            std::thread::sleep(SOON / 10);
        }
        false
    });
    let since = Instant::now();
    let error = refused(options(address).timeout(SOON));
    assert!(matches!(error, Error::TimedOut(Phase::Handshake)), "{error}");
    assert!(since.elapsed() < SOON * 4);
    assert!(server.join().unwrap(), "the socket is closed");
}

#[test]
fn head_in_single_bytes_opens_and_frames_behind_it_are_the_first() {
    let (address, server) = serve(|mut stream| {
        let request = read_head(&mut stream);
        let answer = [switching(&request).as_bytes(), b"\x81\x02hi\x89\x00\x88\x02\x03\xe8"].concat();
        for byte in answer {
            stream.write_all(&[byte]).unwrap();
        }
        read_to_end(&mut stream)
    });
    block_on(async {
        let (_, mut read, _write) = connect(options(address)).await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
        assert_eq!(read.next().await.unwrap().unwrap().to_string(), "ping 0 bytes");
        assert!(read.next().await.unwrap().unwrap().as_close().unwrap().is_some());
    });
    assert!(server.join().unwrap());
}

#[test]
fn too_many_headers_are_refused_while_they_come() {
    let (address, server) = serve(|mut stream| {
        read_head(&mut stream);
        let mut sent = 0;
        let _ = stream.write_all(b"HTTP/1.1 101 x\r\n");
        for index in 0..10_000 {
            if stream.write_all(format!("X-{index}: y\r\n").as_bytes()).is_err() {
                break;
            }
            sent = index;
        }
        sent
    });
    let error = refused(options(address));
    assert!(
        matches!(
            error,
            Error::Handshake { error: HandshakeError::TooManyHeaders | HandshakeError::HeadTooLarge, .. }
        ),
        "{error}"
    );
    assert_eq!(error.code(), Some(-4));
    server.join().unwrap();
}

#[test]
fn end_or_reset_at_each_byte_of_the_answer_is_a_clear_error() {
    let whole = switching("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    for len in 0..whole.len() {
        for reset in [false, true] {
            let (address, server) = serve(move |mut stream| {
                let request = read_head(&mut stream);
                let answer = switching(&request);
                stream.write_all(&answer.as_bytes()[..len]).unwrap();
                if reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            });
            let error = refused(options(address));
            let expected = match &error {
                Error::Handshake { error: HandshakeError::NoHead, .. } => !reset,
                Error::Io(error) => reset && error.kind() == std::io::ErrorKind::ConnectionReset,
                _ => false,
            };
            assert!(expected, "after {len} bytes, reset {reset}: {error}");
            server.join().unwrap();
        }
    }
}

#[test]
fn refusal_carries_the_answer_with_the_start_of_its_body() {
    let (address, server) = serve(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nX-Why: no\r\n\r\n").unwrap();
        let _ = stream.write_all(&[b'x'; 100_000]);
    });
    let error = refused(options(address));
    assert_eq!(error.code(), Some(-15));
    let response = error.response().unwrap();
    assert_eq!(
        (response.code(), response.reason(), response.header("x-why")),
        (403, "Forbidden", Some("no"))
    );
    assert_eq!(response.body(), [b'x'; 16 << 10]);
    assert!(response.socket().is_none());
    server.join().unwrap();
}

#[test]
fn server_that_never_answers_a_close_loses_its_socket_at_the_deadline() {
    let (address, server) = serve(|stream| read_to_end(&mut accept(stream)));
    block_on(async {
        let options = options(address).close_timeout(SOON);
        let (response, mut read, mut write) = connect(options).await.unwrap();
        write.close().await.unwrap();
        assert!(read.next().await.is_none());
        assert!(!read.close_frames().is_clean());
        // The halves are still here, the socket is not.
        assert!(!response.socket().unwrap().is_alive());
        assert!(server.join().unwrap());
        drop((read, write));
    });
}

#[test]
fn aborted_connection_is_closed_though_the_reader_is_kept() {
    let (address, server) = serve(|stream| read_to_end(&mut accept(stream)));
    block_on(async {
        let (_, read, mut write) = connect(options(address)).await.unwrap();
        write.abort();
        assert!(server.join().unwrap());
        drop(read);
    });
}

#[test]
fn socket_that_is_shut_down_ends_both_halves() {
    let (address, server) = serve(|stream| read_to_end(&mut accept(stream)));
    block_on(async {
        let (response, mut read, mut write) = connect(options(address)).await.unwrap();
        response.socket().unwrap().shutdown(Shutdown::Both).unwrap();
        assert!(matches!(read.next().await, Some(Err(Error::Lost))));
        assert!(read.next().await.is_none());
        assert!(write.text("late").await.is_err());
    });
    assert!(server.join().unwrap());
}

#[test]
fn dropped_future_closes_its_socket() {
    let (address, server) = serve(|mut stream| read_to_end(&mut stream));
    block_on(async {
        let connecting = connect(options(address));
        let pause = async_io::Timer::after(SOON);
        futures::pin_mut!(connecting);
        assert!(matches!(
            futures::future::select(connecting, pause).await,
            futures::future::Either::Right(_)
        ));
    });
    assert!(server.join().unwrap());
}

/// Descriptors are counted in a process of their own, since other tests open some.
#[test]
fn thousand_rounds_leave_no_descriptor_and_no_memory() {
    if std::env::var_os("COUNT_FILES").is_none() {
        let this = std::env::current_exe().unwrap();
        let alone = std::process::Command::new(this)
            .args(["--exact", "thousand_rounds_leave_no_descriptor_and_no_memory"])
            .env("COUNT_FILES", "1")
            .output()
            .unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (round, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let request = read_head(&mut stream);
            if round % 4 == 3 {
                stream.write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n").unwrap();
                continue;
            }
            stream.write_all(switching(&request).as_bytes()).unwrap();
            stream.write_all(b"\x81\x02hi\x88\x02\x03\xe8").unwrap();
            let mut close = [0; 8];
            let _ = stream.read(&mut close);
        }
    });
    let round = |number: usize| {
        let connected = block_on(connect(options(address)));
        if number % 4 == 3 {
            assert!(connected.is_err());
            return;
        }
        let (_, mut read, write) = connected.unwrap();
        block_on(async {
            assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
            if !number.is_multiple_of(4) {
                assert!(read.next().await.unwrap().is_ok());
                assert!(read.next().await.is_none());
            }
        });
        drop(write);
    };
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    (0..200).for_each(round);
    let (files, kilobytes) = (open_files(), resident());
    (0..1000).for_each(round);
    assert!(open_files() <= files + 1, "{files} descriptors became {}", open_files());
    assert!(resident() <= kilobytes + 1024, "{kilobytes} kB became {}", resident());
}
