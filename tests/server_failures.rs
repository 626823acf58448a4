//! Clients that leave before they are connected, and code of the caller that panics: the report to the log, the answer
//! to the client, and that the server continues.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[cfg(feature = "tls")]
#[path = "common/tls.rs"]
mod tls;

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_io::{Timer, block_on};
use coro_websocket::{
    Data, Error, Handler, HandshakeError, Options, Origins, Reply, Request, Server, ServerOptions, StreamExt,
    Write, connect, serve, serve_handler,
};
use futures::future::{Either, select};
use net::PATIENCE;

type Log = Arc<Mutex<Vec<(Option<SocketAddr>, Error)>>>;

fn logging(options: ServerOptions) -> (ServerOptions, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    (options.on_failure(move |peer, error| seen.lock().unwrap().push((peer, error.clone()))), log)
}

/// The ways to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Accept,
    Serve,
    Handler,
}

const WAYS: [Way; 3] = [Way::Accept, Way::Serve, Way::Handler];

struct Quiet;

impl Handler for Quiet {
    async fn on_message(&mut self, _: &mut Write, _: Data) -> Result<(), Error> {
        Ok(())
    }
}

/// Serves while the clients run.
fn served<T>(server: &Server, way: Way, clients: impl Future<Output = T>) -> T {
    let serving = async {
        match way {
            Way::Accept => {
                let mut connections = Vec::new();
                while let Some(connection) = server.accept().await? {
                    connections.push(connection);
                }
                Ok(())
            }
            Way::Serve => {
                serve(server, async |_, mut read, _| {
                    while read.next().await.is_some() {}
                    Ok(())
                })
                .await
            }
            Way::Handler => serve_handler(server, || Quiet).await,
        }
    };
    beside(serving, clients)
}

fn beside<T>(serving: impl Future<Output = Result<(), Error>>, clients: impl Future<Output = T>) -> T {
    let clients = pin!(clients);
    let in_time = select(clients, Timer::after(PATIENCE));
    match block_on(select(pin!(serving), in_time)) {
        Either::Left((ended, _)) => panic!("{ended:?}"),
        Either::Right((Either::Left((output, _)), _)) => output,
        Either::Right(_) => panic!("not in time"),
    }
}

/// Ends the connection, by a reset or in order.
fn hang_up(stream: TcpStream, reset: bool) {
    if reset {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
}

/// Waits until the server has looked at all clients.
async fn settled(server: &Server, open: usize) {
    // The clients may not have been accepted yet: one that comes last shows that they were.
    while server.connections() > open {
        Timer::after(Duration::from_millis(1)).await;
    }
}

/// Runs clients that send this and hang up, then one that is accepted. Returns the log.
fn seen(options: ServerOptions, good: impl Fn(Options) -> Options, way: Way, sent: &[u8]) -> Vec<Error> {
    let (options, log) = logging(options);
    let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
    let at = server.local_addr().unwrap();
    served(&server, way, async {
        // They are there to the end, since serving them must not fail.
        let mut connections = Vec::new();
        for reset in [false, true] {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(sent).unwrap();
            if reset && !sent.is_empty() {
                // A reset discards the bytes that the server has not read yet.
                Timer::after(Duration::from_millis(50)).await;
            }
            hang_up(stream, reset);
            connections.push(connect(good(net::options(at))).await.unwrap());
            settled(&server, connections.len()).await;
        }
    });
    let log = log.lock().unwrap();
    log.iter()
        .map(|(peer, error)| {
            assert!(peer.is_some());
            error.clone()
        })
        .collect()
}

#[test]
fn connection_that_ends_before_its_first_byte_is_no_failure() {
    for way in WAYS {
        let seen = seen(ServerOptions::default(), |options| options, way, b"");
        assert!(seen.is_empty(), "{way:?} {seen:?}");
    }
}

#[test]
fn request_that_ends_in_the_middle_is_a_failure_with_its_own_error() {
    for way in WAYS {
        for sent in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: h\r\n"] {
            let seen = seen(ServerOptions::default(), |options| options, way, sent.as_bytes());
            let [ended, reset] = &seen[..] else { panic!("{way:?} {sent:?} {seen:?}") };
            assert!(
                matches!(ended, Error::Handshake { error: HandshakeError::NoHead, .. }),
                "{way:?} {ended}"
            );
            assert_eq!(reset.io_kind(), Some(std::io::ErrorKind::ConnectionReset), "{way:?} {reset}");
        }
    }
}

#[test]
fn client_that_stays_silent_until_the_deadline_is_a_failure() {
    for way in WAYS {
        let (options, log) = logging(ServerOptions::default().timeout(Duration::from_millis(20)));
        let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
        let silent = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        served(&server, way, async {
            while log.lock().unwrap().is_empty() {
                Timer::after(Duration::from_millis(1)).await;
            }
        });
        assert!(matches!(log.lock().unwrap()[..], [(Some(_), Error::TimedOut(_))]), "{way:?}");
        drop(silent);
    }
}

#[cfg(feature = "tls")]
mod encrypted {
    use super::*;
    use coro_websocket::{ServerTls, TlsError};
    use rustls::{ClientConfig, ClientConnection, StreamOwned};
    use tls::{Authority, server_params, trusting};

    fn options(authority: &Authority) -> ServerOptions {
        let identity = authority.sign(server_params(&["localhost"]));
        ServerOptions::default().tls(ServerTls::pem(identity.certificate_pem, identity.key_pem))
    }

    #[test]
    fn connection_that_ends_before_its_first_byte_is_no_failure() {
        let authority = Authority::new("probes");
        for way in WAYS {
            let good = |options: Options| options.host("localhost").tls(trusting(&authority));
            let seen = seen(options(&authority), good, way, b"");
            assert!(seen.is_empty(), "{way:?} {seen:?}");
        }
    }

    #[test]
    fn tls_handshake_that_ends_in_the_middle_is_a_failure() {
        let authority = Authority::new("cut");
        for way in WAYS {
            let good = |options: Options| options.host("localhost").tls(trusting(&authority));
            let seen = seen(options(&authority), good, way, b"\x16\x03\x01\x02\x00\x01");
            let [ended, reset] = &seen[..] else { panic!("{way:?} {seen:?}") };
            assert!(matches!(ended, Error::Tls(TlsError::Truncated)), "{way:?} {ended}");
            assert!(matches!(reset, Error::Tls(_)), "{way:?} {reset}");
        }
    }

    /// The TLS alert that a client sends before it closes.
    #[derive(Debug, Clone, Copy)]
    enum Last {
        Nothing,
        CloseNotify,
        HalfARequest,
    }

    #[test]
    fn client_that_ends_after_the_tls_handshake_is_a_failure_only_in_the_middle_of_a_request() {
        let authority = Authority::new("after");
        let config = ClientConfig::builder()
            .with_safe_defaults()
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let config = Arc::new(config);
        for way in WAYS {
            for last in [Last::Nothing, Last::CloseNotify, Last::HalfARequest] {
                let (options, log) = logging(options(&authority));
                let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
                let at = server.local_addr().unwrap();
                let config = Arc::clone(&config);
                let client = std::thread::spawn(move || {
                    let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
                    let mut stream = StreamOwned::new(connection, TcpStream::connect(at).unwrap());
                    while stream.conn.is_handshaking() {
                        stream.conn.complete_io(&mut stream.sock).unwrap();
                    }
                    match last {
                        Last::Nothing => {}
                        Last::CloseNotify => stream.conn.send_close_notify(),
                        Last::HalfARequest => stream.write_all(b"GET / HTTP/1.1\r\n").unwrap(),
                    }
                    stream.flush().unwrap();
                    // In order, though the server's session tickets may not have been read.
                    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
                    net::read_to_end(&mut stream.sock);
                });
                served(&server, way, async {
                    while !client.is_finished() {
                        Timer::after(Duration::from_millis(1)).await;
                    }
                    settled(&server, 0).await;
                });
                client.join().unwrap();
                let log = log.lock().unwrap();
                assert_eq!(
                    log.len(),
                    usize::from(matches!(last, Last::HalfARequest)),
                    "{way:?} {last:?} {log:?}"
                );
            }
        }
    }
}

/// The status that a client is refused with.
async fn status(options: Options) -> u16 {
    match connect(options).await {
        Ok(_) => 101,
        Err(error) => error.response().unwrap_or_else(|| panic!("no answer: {error}")).code(),
    }
}

#[test]
fn hook_that_panics_is_answered_with_500_and_the_server_goes_on() {
    for way in WAYS {
        let server = block_on(Server::bind("127.0.0.1:0", ServerOptions::default())).unwrap();
        server.set_proxy_handshake(|request, accept| {
            assert_ne!(request.path(), "/panic", "this is part of the test");
            Ok(accept)
        });
        let options = net::options(server.local_addr().unwrap());
        served(&server, way, async {
            for (path, expected) in [("/", 101), ("/panic", 500), ("/panic", 500), ("/", 101)] {
                assert_eq!(status(options.clone().pathname(path)).await, expected, "{way:?}");
            }
        });
    }
}

#[test]
fn choice_of_a_subprotocol_or_an_origin_that_panics_is_answered_with_500() {
    for way in WAYS {
        let options = ServerOptions::default()
            .origins(Origins::predicate(|_, _| panic!("this is part of the test")))
            .choose_subprotocol(|offered| panic!("part of the test: {offered:?}"));
        let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
        let options = net::options(server.local_addr().unwrap());
        served(&server, way, async {
            assert_eq!(status(options.clone().subprotocols(["a"])).await, 500, "{way:?}");
            assert_eq!(status(options.clone().header("Origin", "http://page")).await, 500, "{way:?}");
            assert_eq!(status(options.clone()).await, 101, "{way:?}");
        });
    }
}

/// Panics where the path says so.
struct Panics;

impl Handler for Panics {
    fn subprotocol(&mut self, _: &[&str]) -> Option<String> {
        panic!("this is part of the test");
    }

    fn prepare(&mut self, request: &Request) -> impl Future<Output = Result<(), Reply>> + Send {
        assert_ne!(request.path(), "/before", "this is part of the test");
        let path = request.path().to_owned();
        async move {
            Timer::after(Duration::from_millis(1)).await;
            assert_ne!(path, "/after", "this is part of the test");
            Ok(())
        }
    }

    async fn on_message(&mut self, _: &mut Write, _: Data) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn handler_that_panics_before_it_has_accepted_is_answered_with_500() {
    let (options, log) = logging(ServerOptions::default());
    let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
    let options = net::options(server.local_addr().unwrap());
    beside(serve_handler(&server, || Panics), async {
        for (path, expected) in [("/before", 500), ("/after", 500), ("/", 101)] {
            assert_eq!(status(options.clone().pathname(path)).await, expected, "{path}");
        }
        assert_eq!(status(options.clone().subprotocols(["a"])).await, 500);
        settled(&server, 0).await;
    });
    beside(serve_handler(&server, || -> Quiet { panic!("this is part of the test") }), async {
        assert_eq!(status(options.clone()).await, 500);
        settled(&server, 0).await;
    });
    let log = log.lock().unwrap();
    assert!(log.iter().all(|(_, error)| matches!(error, Error::Lost | Error::Io(_))), "{log:?}");
}
