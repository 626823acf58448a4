//! A write to a peer that has gone is an error at every length, in every role and over every socket. It never raises
//! SIGPIPE, which ends a program that does not ignore it.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

use std::{
    io::{ErrorKind, IoSlice, Write as _},
    net::{Shutdown, TcpListener},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use coro_websocket::{
    Accept, Error, Message, Options, Read, Reply, Server, ServerOptions, SinkExt, Socket, StreamExt, Write,
    connect,
};
use futures::{executor::block_on, future::join};
use signal_hook::consts::SIGPIPE;

/// On both sides of the lengths from which payloads are sent from where they lie, and more than a socket takes at once.
const LENS: [usize; 7] = [0, 10, 200, 4096, 20_000, 100_000, 1_000_000];

/// Notices the signal. The tests of this file run one after the other, since each process has one handler for it.
struct Watch {
    come: Arc<AtomicBool>,
    id: signal_hook::SigId,
    _alone: MutexGuard<'static, ()>,
}

impl Watch {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let come = Arc::new(AtomicBool::new(false));
        // This also ends that the standard library ignores the signal.
        let id = signal_hook::flag::register(SIGPIPE, Arc::clone(&come)).unwrap();
        Self { come, id, _alone: alone }
    }

    /// Returns whether the signal has arrived since the last call.
    fn take(&self) -> bool {
        self.come.swap(false, Ordering::SeqCst)
    }

    /// The signal comes to the thread that writes, before the write returns.
    fn assert_silent(&self, case: &str) {
        assert!(!self.take(), "SIGPIPE: {case}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}

/// A path for a unix socket that no other test has.
fn path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("coro-websocket-sigpipe-{}-{count}", std::process::id()))
}

/// The transport of a connection.
#[derive(Debug, Clone, Copy)]
enum Over {
    Tcp,
    Unix,
    #[cfg(feature = "tls")]
    Tls,
}

const ALL: &[Over] = &[
    Over::Tcp,
    Over::Unix,
    #[cfg(feature = "tls")]
    Over::Tls,
];

/// A side of a connection.
type Side = (Read, Write, Socket);

/// A client and a server of ours, connected.
fn connected(over: Over) -> (Side, Side) {
    block_on(async {
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "only TLS changes both"))]
        let (mut client, mut server) = (Options::default(), ServerOptions::default());
        let path = path();
        #[cfg(feature = "tls")]
        if matches!(over, Over::Tls) {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            client = client.tls(coro_websocket::Tls::default().web_roots(false).ca_pem(certificate.clone()));
            server = server.tls(coro_websocket::ServerTls::pem(certificate, key));
        }
        let server = match over {
            Over::Unix => Server::bind(&*path, server).await.unwrap(),
            _ => Server::bind("127.0.0.1:0", server).await.unwrap(),
        };
        client = match server.local_addr() {
            None => client.path(&path),
            Some(address) => client.host("localhost").port(address.port()),
        };
        let (accepted, connected) = join(server.accept(), connect(client)).await;
        let (request, read, write) = accepted.unwrap().unwrap();
        let near = (read, write, request.socket().unwrap().clone());
        let (response, read, write) = connected.unwrap();
        ((read, write, response.socket().unwrap().clone()), near)
    })
}

fn is_broken_pipe(sent: &Result<impl Sized, Error>) -> bool {
    sent.as_ref().is_err_and(|error| error.io_kind() == Some(ErrorKind::BrokenPipe))
}

#[test]
fn a_plain_write_of_slices_to_a_peer_that_has_gone_raises_the_signal() {
    let watch = Watch::new();
    let (mut near, far) = UnixStream::pair().unwrap();
    drop(far);
    let written = near.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"b")]);
    assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(watch.take(), "so that the other tests of this file would notice it");
}

/// The ways of sending a message.
async fn send(write: &mut Write, way: usize, len: usize) -> Result<(), Error> {
    let message = Message::binary(vec![1; len]);
    match way {
        0 => write.send(message).await,
        1 => SinkExt::send(write, message).await,
        _ => {
            // Several in the queue, headers and payloads in slices of their own.
            for _ in 0..3 {
                write.feed(message.clone()).await?;
            }
            write.flush().await
        }
    }
}

#[test]
fn a_message_of_any_length_to_a_socket_that_is_shut_is_a_broken_pipe_and_no_signal() {
    let watch = Watch::new();
    for over in ALL {
        for (way, len) in (0..3).flat_map(|way| LENS.map(|len| (way, len))) {
            let (client, server) = connected(*over);
            for (role, (_read, mut write, socket)) in [("client", client), ("server", server)] {
                let case = format!("{role} over {over:?}, {len} bytes, way {way}");
                socket.shutdown(Shutdown::Write).unwrap();
                let sent = block_on(send(&mut write, way, len));
                assert!(is_broken_pipe(&sent), "{case}: {sent:?}");
                watch.assert_silent(&case);
            }
        }
    }
}

#[test]
fn a_message_of_any_length_to_a_peer_that_has_gone_is_an_error_and_no_signal() {
    let watch = Watch::new();
    for over in ALL {
        for len in LENS {
            for role in ["client", "server"] {
                let case = format!("{role} over {over:?}, {len} bytes");
                let (client, server) = connected(*over);
                let ((_read, mut write, _), gone) =
                    if role == "client" { (client, server) } else { (server, client) };
                drop(gone);
                // Over TCP the first message draws the reset that the next one meets.
                let error = block_on(async {
                    loop {
                        if let Err(error) = write.binary(vec![1; len]).await {
                            return error;
                        }
                    }
                });
                let kind = error.io_kind();
                assert!(
                    matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)),
                    "{case}: {error:?}"
                );
                watch.assert_silent(&case);
            }
        }
    }
}

#[test]
fn control_frames_to_a_socket_that_is_shut_are_an_error_and_no_signal() {
    let watch = Watch::new();
    for over in ALL {
        for message in [Message::ping("ping"), Message::pong(""), Message::close(1000, "done")] {
            let (client, server) = connected(*over);
            for (role, (_read, mut write, socket)) in [("client", client), ("server", server)] {
                let case = format!("{role} over {over:?}: {message}");
                socket.shutdown(Shutdown::Write).unwrap();
                let sent = block_on(write.send(message.clone()));
                assert!(is_broken_pipe(&sent), "{case}: {sent:?}");
                drop(write);
                watch.assert_silent(&case);
            }
        }
    }
}

#[test]
fn answers_of_the_reader_to_a_socket_that_is_shut_raise_no_signal() {
    let watch = Watch::new();
    for over in ALL {
        for question in [Message::ping("ping"), Message::close(1000, "done")] {
            for role in ["client", "server"] {
                let (client, server) = connected(*over);
                let ((mut read, write, socket), mut far) =
                    if role == "client" { (client, server) } else { (server, client) };
                socket.shutdown(Shutdown::Write).unwrap();
                block_on(async {
                    far.1.send(question.clone()).await.unwrap();
                    drop(far);
                    while let Some(Ok(_)) = read.next().await {}
                });
                drop((read, write));
                watch.assert_silent(&format!("{role} over {over:?}: the answer to {question}"));
            }
        }
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

#[test]
fn answers_of_a_server_to_a_client_that_has_gone_raise_no_signal() {
    let watch = Watch::new();
    let path = path();
    let server = block_on(Server::bind(&*path, ServerOptions::default())).unwrap();
    // The last one is refused before the caller sees it.
    for (answer, request) in [(0, REQUEST), (1, REQUEST), (2, REQUEST), (3, "GET / HTTP/1.0\r\n\r\n")] {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        drop(client);
        let answered = block_on(async {
            let upgrade = server.incoming().await.unwrap().unwrap().await?;
            match answer {
                0 => upgrade.accept(Accept::default()).await.map(drop).map_err(Error::from),
                1 => upgrade.reject(403, "no").await,
                _ => upgrade.respond(Reply::text(200, "long".repeat(100_000))).await,
            }
        });
        assert!(answered.is_err(), "answer {answer}");
        watch.assert_silent(&format!("answer {answer}"));
    }
}

#[test]
fn requests_to_a_server_that_hangs_up_raise_no_signal() {
    let watch = Watch::new();
    let path = path();
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    // Too long to be taken at once.
    let long = "x".repeat(1 << 20);
    let options = || Options::default().header("X-Long", long.as_str());
    for round in 0..20 {
        for (over, options) in [
            ("TCP", options().host("127.0.0.1").port(port)),
            ("a unix socket", options().path(&path)),
            #[cfg(feature = "tls")]
            ("TLS", options().host("127.0.0.1").port(port).tls(true)),
        ] {
            let failed = std::thread::scope(|threads| {
                let hangs_up = || {
                    if over == "a unix socket" {
                        drop(unix.accept().unwrap());
                    } else {
                        drop(tcp.accept().unwrap());
                    }
                };
                threads.spawn(hangs_up);
                block_on(connect(options))
            });
            assert!(failed.is_err());
            watch.assert_silent(&format!("{over}, round {round}"));
        }
    }
    std::fs::remove_file(path).unwrap();
}
