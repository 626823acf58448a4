//! The listening server: where it listens, whom it accepts, and what it never loses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "common/net.rs"]
mod net;

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

use coro_websocket::{
    Addresses, CloseCode, Error, HandshakeError, Message, Options, OptionsError, Origins, Phase, Read, Reply,
    Request, Server, ServerOptions, SinkExt, StreamExt, UrlError, Write, accept_io, connect, serve,
};
use futures::{
    executor::block_on,
    future::{Either, join, join_all, select},
};
use net::read_to_end;

const KEYED: &str = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn bind(options: ServerOptions) -> Server {
    block_on(Server::bind("127.0.0.1:0", options)).unwrap()
}

fn address(server: &Server) -> SocketAddr {
    server.local_addr().unwrap()
}

fn client(server: &Server) -> Options {
    net::options(address(server))
}

fn raw(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(address(server)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Everything that comes until the end.
fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What the future gives, while the server accepts whoever comes.
async fn beside<T>(server: &Server, future: impl Future<Output = T>) -> T {
    let accepting = async {
        let mut connections = Vec::new();
        loop {
            connections.push(server.accept().await.unwrap().unwrap());
        }
    };
    match select(pin!(accepting), pin!(future)).await {
        Either::Left((never, _)) => never,
        Either::Right((output, _)) => output,
    }
}

async fn echo(_: Request, mut read: Read, mut write: Write) -> Result<(), Error> {
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    Ok(())
}

/// Serves until the other future is done.
async fn served<T>(server: &Server, future: impl Future<Output = T>) -> T {
    match select(pin!(serve(server, echo)), pin!(future)).await {
        Either::Left((ended, _)) => panic!("{ended:?}"),
        Either::Right((output, _)) => output,
    }
}

async fn exchange(options: Options) -> Result<(), Error> {
    let (_, mut read, mut write) = connect(options).await?;
    write.text("hello").await?;
    assert_eq!(read.next().await.unwrap()?.as_text(), Some("hello"));
    write.close_with(1000, "").await?;
    while let Some(message) = read.next().await {
        message?;
    }
    assert!(read.close_frames().is_clean());
    Ok(())
}

#[test]
fn connection_tells_who_has_come_and_for_what() {
    let server = bind(ServerOptions::default());
    block_on(async {
        let coming = async {
            let (response, read, write) = connect(client(&server).pathname("/chat?room=1")).await.unwrap();
            (response, read, write)
        };
        let ((request, _read, mut write), (response, mut far, _write)) =
            join(async { server.accept().await.unwrap().unwrap() }, coming).await;
        assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
        let near = response.socket().unwrap();
        assert_eq!(request.peer_addr(), near.local_addr());
        let socket = request.socket().unwrap();
        assert_eq!((socket.local_addr(), socket.nodelay().unwrap()), (near.peer_addr(), true));
        assert!(socket.tls().is_none());
        write.text("hi").await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap().as_text(), Some("hi"));
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn places_are_named_in_many_ways() {
    let free = |host: &str| {
        let listener = TcpListener::bind((host, 0)).unwrap();
        listener.local_addr().unwrap()
    };
    for host in ["127.0.0.1", "::1"] {
        let given = free(host);
        let places: [Addresses; 7] = [
            given.into(),
            given.to_string().into(),
            given.to_string().as_str().into(),
            (&given.to_string()).into(),
            (given.ip(), given.port()).into(),
            (host, given.port()).into(),
            (host.to_owned(), given.port()).into(),
        ];
        for place in places {
            let server = block_on(Server::bind(place, ServerOptions::default())).unwrap();
            assert_eq!(server.local_addr(), Some(given));
            block_on(served(&server, exchange(net::options(given)))).unwrap();
        }
    }
    let named = block_on(Server::bind("localhost:0", ServerOptions::default())).unwrap();
    assert!(address(&named).ip().is_loopback());
}

#[test]
fn server_listens_in_several_places_or_in_none() {
    let options = ServerOptions::default;
    let server = block_on(Server::bind(["127.0.0.1:0", "[::1]:0", "ws://localhost:0"], options())).unwrap();
    let addresses = server.local_addrs();
    assert_eq!(addresses.len(), 3);
    block_on(async {
        for address in &addresses {
            served(&server, exchange(net::options(*address))).await.unwrap();
        }
    });
    let busy = addresses[0];
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = block_on(Server::bind(vec![free, busy], options())).unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::AddrInUse));
    assert!(error.to_string().contains(&busy.to_string()), "{error}");
    // What could be bound was given up.
    TcpListener::bind(free).unwrap();
}

#[test]
fn what_is_no_place_says_why() {
    let bind = |places: Addresses| block_on(Server::bind(places, ServerOptions::default())).map(drop);
    let url = |result: Result<(), Error>| match result {
        Err(Error::Url { error, .. }) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(url(bind("http://127.0.0.1:0".into())), UrlError::Scheme);
    assert_eq!(url(bind("ws://user@127.0.0.1:0".into())), UrlError::Userinfo);
    assert_eq!(url(bind("ws://127.0.0.1:0/a?b".into())), UrlError::Syntax);
    assert_eq!(url(bind("127.0.0.1".into())), UrlError::Port);
    assert_eq!(url(bind("[::1]".into())), UrlError::Port);
    assert_eq!(url(bind("127.0.0.1:65536".into())), UrlError::Port);
    assert_eq!(url(bind("127.0.0.1/x:0".into())), UrlError::Host);
    assert_eq!(url(bind("a b:0".into())), UrlError::Character);
    assert_eq!(url(bind("".into())), UrlError::Host);
    assert!(matches!(
        bind("wss://127.0.0.1:0".into()),
        Err(Error::Options { error: OptionsError::NoCertificate, .. })
    ));
    let none: [&str; 0] = [];
    assert!(matches!(bind(none.into()), Err(Error::Options { error: OptionsError::NoAddress, .. })));
    let heartbeat = ServerOptions::default().heartbeat(Duration::ZERO);
    let error = block_on(Server::bind("127.0.0.1:0", heartbeat)).unwrap_err();
    assert!(matches!(error, Error::Options { error: OptionsError::Heartbeat, .. }));
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("coro-websocket-server-{name}-{}.socket", std::process::id()))
}

#[cfg(unix)]
#[test]
fn unix_socket_is_listened_on_replaced_when_abandoned_and_removed() {
    let path = socket_path("whole");
    let options = ServerOptions::default;
    // Left behind by a server that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = block_on(Server::bind(path.as_path(), options())).unwrap();
    assert_eq!((server.local_addr(), server.is_listening()), (None, true));
    block_on(async {
        let accepted = async {
            let (request, read, write) = server.accept().await.unwrap().unwrap();
            assert_eq!(request.peer_addr(), None);
            assert!(request.socket().is_some());
            echo(request, read, write).await
        };
        let (served, done) = join(accepted, exchange(Options::default().path(&path))).await;
        served.and(done).unwrap();
    });
    // One that is in use is left alone, and so is what is no socket.
    let error = block_on(Server::bind(path.clone(), options())).unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::AddrInUse));
    server.close();
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    let error = block_on(Server::bind(path.clone(), options())).unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::AddrInUse), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    std::fs::remove_file(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn socket_file_of_another_is_left_alone() {
    let path = socket_path("moved");
    let first = block_on(Server::bind(path.as_path(), ServerOptions::default())).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = block_on(Server::bind(path.as_path(), ServerOptions::default())).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!Path::new(&path).exists());
}

#[test]
fn path_of_the_url_is_the_only_one() {
    let server = block_on(Server::bind("ws://127.0.0.1:0/chat", ServerOptions::default())).unwrap();
    block_on(served(&server, async {
        exchange(client(&server).pathname("/chat")).await.unwrap();
        exchange(client(&server).pathname("/chat?x")).await.unwrap();
        for other in ["/", "/chat/", "/Chat", "/chats"] {
            let error = exchange(client(&server).pathname(other)).await.unwrap_err();
            assert_eq!(error.response().unwrap().code(), 404, "{other}");
        }
    }));
}

#[test]
fn what_is_no_websocket_is_answered_and_seen() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = bind(ServerOptions::default().on_failure(move |peer, error| {
        log.lock().unwrap().push((peer, error.clone()));
    }));
    let address = address(&server);
    let cases = [
        (format!("POST / HTTP/1.1\r\n{KEYED}"), "405", HandshakeError::Method),
        (format!("GET / HTTP/1.0\r\n{KEYED}"), "400", HandshakeError::HttpVersion),
        (format!("GET / HTTP/1.1\r\nOrigin: http://evil\r\n{KEYED}"), "403", HandshakeError::Origin),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "426", HandshakeError::Upgrade),
        ("nonsense\r\n\r\n".to_owned(), "400", HandshakeError::Malformed),
        (format!("GET / HTTP/1.1\r\n{}", KEYED.replace(": 13", ": 8")), "426", HandshakeError::Version),
        (format!("GET / HTTP/1.1\r\nContent-Length: 1\r\n{KEYED}"), "400", HandshakeError::Body),
        (format!("GET /{} HTTP/1.1\r\n{KEYED}", "a".repeat(16 << 10)), "431", HandshakeError::HeadTooLarge),
    ];
    let expected: Vec<_> = cases.iter().map(|(_, _, error)| *error).collect();
    let clients = std::thread::spawn(move || {
        for (request, status, _) in cases {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let answer = answer(stream);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {answer}");
            assert!(answer.contains("\r\nConnection: close"), "{answer}");
            if status == "426" {
                assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
            }
        }
    });
    block_on(beside(&server, async {
        while !clients.is_finished() {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
        exchange_alone(&server).await;
    }));
    clients.join().unwrap();
    let seen = seen.lock().unwrap();
    let errors: Vec<_> = seen
        .iter()
        .map(|(peer, error)| match error {
            Error::Handshake { error, .. } if peer.is_some() => *error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors, expected);
}

/// A handshake alone: nobody takes care of the connection.
async fn exchange_alone(server: &Server) {
    let (_, read, write) = connect(client(server)).await.unwrap();
    drop((read, write));
}

#[test]
fn silent_clients_hold_nobody_up() {
    let server = bind(ServerOptions::default().timeout(Duration::from_secs(3600)));
    let silent: Vec<_> = (0..20).map(|_| raw(&server)).collect();
    block_on(served(&server, async {
        exchange(client(&server)).await.unwrap();
    }));
    assert_eq!(server.connections(), silent.len());
}

#[test]
fn silent_client_gets_its_answer_at_the_deadline() {
    let timeout = Duration::from_millis(100);
    let server = bind(ServerOptions::default().timeout(timeout));
    let since = Instant::now();
    let silent: Vec<_> = (0..20).map(|_| raw(&server)).collect();
    let reading = std::thread::spawn(move || {
        for stream in silent {
            let answer = answer(stream);
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        }
    });
    block_on(served(&server, async {
        while !reading.is_finished() {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
    }));
    assert!(since.elapsed() >= timeout);
    reading.join().unwrap();
}

/// The deadline is not put off by who asks for the next client only now and then.
#[test]
fn given_up_accept_loses_nobody() {
    let server = bind(ServerOptions::default());
    let count = 50;
    let clients = std::thread::spawn({
        let options = client(&server);
        move || block_on(join_all((0..count).map(|_| connect(options.clone()))))
    });
    let mut accepted = Vec::new();
    let mut polls = 0;
    while accepted.len() < count {
        // Each attempt is given up after a single wake-up.
        let attempt = block_on(async {
            let mut accept = pin!(server.accept());
            let mut asked = false;
            poll_fn(|cx| {
                polls += 1;
                match accept.as_mut().poll(cx) {
                    Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                    Poll::Pending if std::mem::replace(&mut asked, true) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        });
        accepted.extend(attempt.map(|accepted| accepted.unwrap().unwrap()));
    }
    assert!(polls > count);
    for connection in clients.join().unwrap() {
        connection.unwrap();
    }
    assert_eq!(server.connections(), count);
}

#[test]
fn several_tasks_accept_at_once() {
    let server = Arc::new(bind(ServerOptions::default()));
    let count = 60;
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                block_on(async {
                    let mut mine = Vec::new();
                    while let Some(connection) = server.accept().await.unwrap() {
                        mine.push(connection);
                    }
                    mine.len()
                })
            })
        })
        .collect();
    let clients = block_on(join_all((0..count).map(|_| connect(client(&server)))));
    assert!(clients.iter().all(Result::is_ok));
    // The last 101 may be out before its connection is handed over.
    while server.connections() < count {
        std::thread::yield_now();
    }
    server.close();
    let handed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(handed, count);
}

#[test]
fn server_that_is_closed_lets_connections_live() {
    let server = bind(ServerOptions::default());
    let at = address(&server);
    block_on(async {
        let ((_, mut read, mut write), (_, mut far_read, mut far_write)) =
            join(async { server.accept().await.unwrap().unwrap() }, async {
                connect(client(&server)).await.unwrap()
            })
            .await;
        // Whoever waits is told.
        let (accepted, arrived, ()) = futures::join!(server.accept(), server.incoming(), async {
            async_io::Timer::after(Duration::from_millis(10)).await;
            server.close();
        });
        assert!(accepted.unwrap().is_none() && arrived.unwrap().is_none());
        server.close();
        assert!(!server.is_listening());
        assert_eq!((server.local_addr(), server.local_addrs().len()), (None, 0));
        assert!(server.accept().await.unwrap().is_none());
        assert!(server.incoming().await.unwrap().is_none());
        assert!(matches!(connect(net::options(at)).await, Err(Error::Connect(_))));
        write.text("still here").await.unwrap();
        assert_eq!(far_read.next().await.unwrap().unwrap().as_text(), Some("still here"));
        far_write.text("here too").await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("here too"));
    });
    // The address is free.
    TcpListener::bind(at).unwrap();
}

#[test]
fn closing_drops_whom_nobody_has_accepted() {
    let server = bind(ServerOptions::default());
    let mut begun = raw(&server);
    begun.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let error = block_on(server.accept_timeout(Duration::from_millis(50))).unwrap_err();
    assert!(matches!(error, Error::TimedOut(Phase::Call)), "{error}");
    assert_eq!(server.connections(), 1);
    server.close();
    assert_eq!(server.connections(), 0);
    assert!(read_to_end(&mut begun));
}

#[test]
fn connections_above_the_limit_wait_for_a_seat() {
    let server = bind(ServerOptions::default().max_connections(2));
    block_on(async {
        let connecting = join_all((0..2).map(|_| connect(client(&server))));
        let accepting = async {
            let first = server.accept().await.unwrap().unwrap();
            (first, server.accept().await.unwrap().unwrap())
        };
        let ((first, second), near) = join(accepting, connecting).await;
        assert!(near.iter().all(Result::is_ok));
        let mut third = pin!(connect(client(&server)));
        for _ in 0..3 {
            let accepted = pin!(server.accept_timeout(Duration::from_millis(20)));
            let waiting = select(accepted, third.as_mut()).await;
            assert!(matches!(waiting, Either::Left((Err(Error::TimedOut(Phase::Call)), _))));
        }
        assert_eq!(server.connections(), 2);
        // A connection counts until both of its halves are gone.
        let (_, read, write) = first;
        drop(read);
        assert_eq!(server.connections(), 2);
        let freeing = async {
            async_io::Timer::after(Duration::from_millis(10)).await;
            drop(write);
        };
        let (accepted, connected, ()) = futures::join!(server.accept(), third, freeing);
        assert!(accepted.unwrap().is_some() && connected.is_ok());
        drop(second);
    });
}

#[test]
fn handshakes_above_the_limit_wait_for_a_seat() {
    let timeout = Duration::from_millis(200);
    let server = bind(ServerOptions::default().max_handshakes(1).timeout(timeout));
    let silent = raw(&server);
    block_on(async {
        let first = server.incoming().await.unwrap().unwrap();
        // There is no seat until the first one is through.
        let since = Instant::now();
        let mut good = pin!(async { join(server.accept(), connect(client(&server))).await });
        let failed = match select(first, good.as_mut()).await {
            Either::Left((failed, _)) => failed.map(drop).unwrap_err(),
            Either::Right(_) => panic!("accepted above the limit"),
        };
        assert!(matches!(failed, Error::TimedOut(Phase::Handshake)), "{failed}");
        assert!(since.elapsed() < 10 * timeout);
        let (accepted, connected) = good.await;
        assert!(accepted.unwrap().is_some() && connected.is_ok());
    });
    assert!(answer(silent).starts_with("HTTP/1.1 408 "));
}

#[test]
fn hook_sees_and_changes_request_and_answer() {
    let server = bind(ServerOptions::default().subprotocols(["a", "b"]));
    server.set_proxy_handshake(|_, _| Err(Reply::new(500)));
    // The last one counts.
    server.set_proxy_handshake(|request, accept| {
        if request.path() == "/secret" {
            return Err(Reply::text(401, "who are you?").header("WWW-Authenticate", "Basic"));
        }
        request.headers_mut().append("X-User", "7");
        request.headers_mut().remove("cookie");
        Ok(accept.header("X-Served-By", "us").subprotocol("b"))
    });
    block_on(async {
        let options = client(&server).header("Cookie", "id=1").subprotocols(["a", "b"]);
        let (accepted, connected) = join(server.accept(), connect(options)).await;
        let (request, ..) = accepted.unwrap().unwrap();
        let (response, ..) = connected.unwrap();
        assert_eq!((request.header("x-user"), request.cookie("id")), (Some("7"), None));
        assert_eq!((response.header("x-served-by"), response.subprotocol()), (Some("us"), Some("b")));

        let refused = beside(&server, connect(client(&server).pathname("/secret"))).await;
        let error = refused.map(drop).unwrap_err();
        let response = error.response().unwrap();
        assert_eq!((response.code(), response.body()), (401, &b"who are you?"[..]));
        assert_eq!(response.header("www-authenticate"), Some("Basic"));
        // What is no request for a WebSocket is no business of the hook.
        let refused = beside(&server, connect(client(&server).header("Origin", "http://evil"))).await;
        assert_eq!(refused.map(drop).unwrap_err().response().unwrap().code(), 403);
    });
}

#[test]
fn subprotocol_is_chosen_by_list_or_function() {
    let chosen = |options: ServerOptions, offered: &[&str]| {
        let server = bind(options);
        let offer = client(&server).subprotocols(offered.iter().copied());
        let (response, accepted) = block_on(join(connect(offer), server.accept()));
        let (request, ..) = accepted.unwrap().unwrap();
        let chosen = response.unwrap().0.subprotocol().map(str::to_owned);
        assert_eq!(request.subprotocol(), chosen.as_deref(), "both know it");
        assert!(request.subprotocols().eq(offered.iter().copied()));
        chosen
    };
    let list = || ServerOptions::default().subprotocols(["b", "a"]);
    assert_eq!(chosen(list(), &["a", "b"]), Some("b".to_owned()));
    assert_eq!(chosen(list(), &["c"]), None);
    assert_eq!(chosen(list(), &[]), None);
    let last = || list().choose_subprotocol(|offered| offered.last().map(|&name| name.to_owned()));
    assert_eq!(chosen(last(), &["a", "c"]), Some("c".to_owned()));
    assert_eq!(chosen(last(), &[]), None);
    let none = list().choose_subprotocol(|_| None);
    assert_eq!(chosen(none, &["a"]), None);
    let asked = list().choose_subprotocol(|offered| panic!("{offered:?}"));
    assert_eq!(chosen(asked, &[]), None);
}

#[test]
fn client_without_a_subprotocol_that_is_required_is_told_which() {
    let answer = |options: ServerOptions, offered: &[&str]| {
        let server = bind(options.require_subprotocol(true));
        let offer = client(&server).subprotocols(offered.iter().copied());
        match block_on(beside(&server, connect(offer))) {
            Ok((response, ..)) => (101, response.subprotocol().unwrap().to_owned()),
            Err(error) => {
                let response = error.response().unwrap();
                (response.code(), String::from_utf8(response.body().to_vec()).unwrap())
            }
        }
    };
    let list = || ServerOptions::default().subprotocols(["b", "a"]);
    let told = |offered, supported| {
        (400, format!("the client offers no supported subprotocol; offered: {offered}{supported}\n"))
    };
    assert_eq!(answer(list(), &["c", "a"]), (101, "a".to_owned()));
    assert_eq!(answer(list(), &["c"]), told("\"c\"", "; supported: \"b\", \"a\""));
    assert_eq!(answer(list(), &[]), told("none", "; supported: \"b\", \"a\""));
    assert_eq!(answer(ServerOptions::default().choose_subprotocol(|_| None), &["c"]), told("\"c\"", ""));
}

#[test]
fn origin_is_that_of_the_host_unless_said_otherwise() {
    let code = |options: ServerOptions, origin: &str| {
        let server = bind(options);
        let origin = origin.replace("HERE", &address(&server).to_string());
        let connected = block_on(beside(&server, connect(client(&server).header("Origin", origin))));
        connected.map_or_else(|error| error.response().unwrap().code(), |(response, ..)| response.code())
    };
    assert_eq!(code(ServerOptions::default(), "http://HERE"), 101);
    assert_eq!(code(ServerOptions::default(), "http://evil.example"), 403);
    assert_eq!(code(ServerOptions::default().origins(Origins::any()), "http://evil.example"), 101);
}

#[test]
fn page_and_socket_are_on_one_port() {
    let server = bind(ServerOptions::default());
    let at = address(&server);
    let browser = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        answer(stream)
    });
    block_on(async {
        let connecting = server.incoming().await.unwrap().unwrap();
        assert_eq!(connecting.peer_addr().map(|peer| peer.ip()), Some(at.ip()));
        let upgrade = connecting.await.unwrap();
        assert_eq!(upgrade.request().path(), "/");
        upgrade.respond(Reply::new(200).body("<h1>hi</h1>")).await.unwrap();
    });
    let answer = browser.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n<h1>hi</h1>"), "{answer}");
    block_on(async {
        let socket = async {
            let upgrade = server.incoming().await.unwrap().unwrap().await.unwrap();
            let (request, read, write) = upgrade.accept(coro_websocket::Accept::default()).await.unwrap();
            echo(request, read, write).await
        };
        let (served, done) = join(socket, exchange(client(&server))).await;
        served.and(done).unwrap();
    });
}

#[test]
fn client_that_nobody_awaits_is_dropped() {
    let server = bind(ServerOptions::default());
    let mut stream = raw(&server);
    let connecting = block_on(server.incoming()).unwrap().unwrap();
    assert_eq!(server.connections(), 1);
    drop(connecting);
    assert_eq!(server.connections(), 0);
    assert!(read_to_end(&mut stream));
}

#[test]
fn handler_that_is_done_leaves_a_clean_end() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = bind(ServerOptions::default().on_failure(move |_, error| {
        log.lock().unwrap().push(error.to_string());
    }));
    let handler = async |request: Request, mut read: Read, mut write: Write| {
        match request.path() {
            "/fail" => return Err(Error::Lost),
            "/panic" => panic!("this is part of the test"),
            "/own" => write.close_with(4000, "mine").await?,
            _ => drop(write.text("bye").await?),
        }
        // The client has nothing more to say.
        let _ = read.next_timeout(Duration::ZERO).await;
        Ok(())
    };
    let end = async |path: &str| {
        let (_, mut read, _write) = connect(client(&server).pathname(path)).await.unwrap();
        let mut last = None;
        while let Some(Ok(message)) = read.next().await {
            last = Some(message);
        }
        let close = last.unwrap().as_close().unwrap().unwrap();
        (close.code, close.reason.to_string())
    };
    block_on(async {
        let clients = async {
            assert_eq!(end("/").await, (CloseCode::NORMAL, String::new()));
            assert_eq!(end("/own").await, (CloseCode::from(4000), "mine".to_owned()));
            // Nothing of what went wrong is told.
            assert_eq!(end("/fail").await, (CloseCode::INTERNAL_ERROR, String::new()));
            assert_eq!(end("/panic").await, (CloseCode::INTERNAL_ERROR, String::new()));
            assert_eq!(end("/").await, (CloseCode::NORMAL, String::new()));
            server.close();
        };
        let (served, ()) = join(serve(&server, handler), clients).await;
        served.unwrap();
    });
    assert_eq!(*seen.lock().unwrap(), [Error::Lost.to_string()]);
}

/// `Server` does the same as the caller who accepts by himself.
#[test]
fn accept_io_takes_sockets_as_well() {
    block_on(async {
        let listener = async_net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = net::options(listener.local_addr().unwrap());
        let served = async {
            let (stream, _) = listener.accept().await.unwrap();
            let upgrade = accept_io(stream.clone(), stream, Default::default()).await.unwrap();
            assert_eq!((upgrade.request().peer_addr(), upgrade.request().socket()), (None, None));
            let (_, mut read, mut write) = upgrade.accept(Default::default()).await.unwrap();
            write.send(Message::text("hi")).await.unwrap();
            while read.next().await.is_some() {}
        };
        let ((), near) = join(served, async {
            let (_, mut read, mut write) = connect(options).await.unwrap();
            let greeting = read.next().await.unwrap().unwrap();
            write.close().await.unwrap();
            while read.next().await.is_some() {}
            greeting
        })
        .await;
        assert_eq!(near.as_text(), Some("hi"));
    });
}
