//! TLS in the server's role: whom it lets in, what it shows, and what clients cannot do to it.
#![cfg(feature = "tls")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "common/net.rs"]
mod net;
#[path = "common/tls.rs"]
mod tls;

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    pin::pin,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use coro_websocket::{
    Connecting, Error, Message, Options, OptionsError, Phase, Request, Response, Server, ServerOptions,
    ServerTls, StreamExt, Tls, TlsError, TlsVersion, Upgrade, connect,
};
use futures::{
    executor::block_on,
    future::{Either, join, select},
};
use rcgen::{KeyPair, date_time_ymd};
use rustls::{ClientConfig, ClientConnection};
use tls::{Authority, Identity, VERSIONS, client_params, cut_short, server_params, trusting};

fn server_tls(identity: &Identity) -> ServerTls {
    ServerTls::pem(identity.certificate_pem.clone(), identity.key_pem.clone())
}

fn bind(tls: ServerTls) -> Server {
    bind_with(ServerOptions::default().tls(tls))
}

fn bind_with(options: ServerOptions) -> Server {
    block_on(Server::bind("127.0.0.1:0", options)).unwrap()
}

fn client(server: &Server, tls: Tls) -> Options {
    net::options(server.local_addr().unwrap()).host("localhost").tls(tls)
}

/// An exchange of messages and the closing handshake. Gives what both have seen of the opening one; the server's
/// end has none where it refused.
fn exchange(server: &Server, options: Options) -> (Result<Response, Error>, Option<Request>) {
    block_on(async {
        let mut request = None;
        let serving = async {
            loop {
                let (accepted, mut read, mut write) = server.accept().await.unwrap().unwrap();
                request = Some(accepted);
                while let Some(message) = read.next().await {
                    let message = message.unwrap();
                    if message.is_data() {
                        write.feed(message).await.unwrap();
                    }
                }
            }
        };
        let asking = async {
            let (response, mut read, mut write) = connect(options).await?;
            write.send(Message::binary(vec![7; 100_000])).await?;
            assert_eq!(read.next().await.unwrap()?.payload, vec![7; 100_000]);
            write.close_with(1000, "").await?;
            while let Some(message) = read.next().await {
                message?;
            }
            assert!(read.close_frames().is_clean());
            Ok(response)
        };
        let response = match select(pin!(serving), pin!(asking)).await {
            Either::Left((never, _)) => never,
            Either::Right((response, _)) => response,
        };
        (response, request)
    })
}

#[test]
fn connection_is_encrypted_and_tells_what_was_agreed_on() {
    let authority = Authority::new("right");
    let identity = authority.sign(server_params(&["localhost"]));
    for version in VERSIONS {
        let server = bind(server_tls(&identity).versions([version]));
        let (response, request) = exchange(&server, client(&server, trusting(&authority)));
        let (response, request) = (response.unwrap(), request.unwrap());
        let socket = request.socket().unwrap();
        assert_eq!(socket.peer_addr(), response.socket().unwrap().local_addr());
        let (near, far) = (socket.tls().unwrap(), response.socket().unwrap().tls().unwrap());
        assert_eq!((near.version, &near.cipher_suite), (version, &far.cipher_suite));
        assert!(near.client_certificates.is_empty() && far.client_certificates.is_empty());
    }
}

#[test]
fn certificates_and_keys_come_from_files_in_every_form() {
    let authority = Authority::new("files");
    let identity = authority.sign(server_params(&["localhost"]));
    let folder = std::env::temp_dir().join(format!("coro-websocket-server-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (chain, key, both) = (folder.join("chain.pem"), folder.join("key.pem"), folder.join("both.pem"));
    // The server's own certificate is the first.
    std::fs::write(&chain, identity.certificate_pem.clone() + &authority.pem()).unwrap();
    std::fs::write(&key, &identity.key_pem).unwrap();
    std::fs::write(&both, identity.certificate_pem.clone() + &identity.key_pem).unwrap();
    for tls in [ServerTls::files(&chain, &key), ServerTls::files(&both, &both)] {
        let server = bind(tls);
        exchange(&server, client(&server, trusting(&authority))).0.unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let rsa = KeyPair::from_pem_and_sign_algo(include_str!("data/rsa.pem"), &rcgen::PKCS_RSA_SHA256).unwrap();
    let server = bind(server_tls(&authority.sign_key(server_params(&["localhost"]), rsa)));
    exchange(&server, client(&server, trusting(&authority))).0.unwrap();
}

#[test]
fn what_cannot_serve_is_told_when_it_is_bound() {
    let authority = Authority::new("unusable");
    let identity = authority.sign(server_params(&["localhost"]));
    let other = authority.sign(server_params(&["localhost"]));
    let pem = |chain: &str, key: &str| ServerTls::pem(chain, key);
    let (chain, key) = (identity.certificate_pem.as_str(), identity.key_pem.as_str());
    for (tls, why) in [
        (pem(chain, &other.key_pem), "PEM text with PEM text: "),
        (pem(chain, &other.key_pem).versions([TlsVersion::Tls12]), "PEM text with PEM text: "),
        (pem("", key), "no certificate"),
        (pem(key, key), "no certificate"),
        (pem(chain, ""), "no key"),
        (pem(chain, chain), "no key"),
        (ServerTls::files("does/not/exist.pem", "x"), "does/not/exist.pem: "),
        (pem(chain, key).client_ca_pem("x"), "no certificate"),
        (pem(chain, key).versions([]), "no version"),
    ] {
        let options = ServerOptions::default().tls(tls);
        let error = block_on(Server::bind("127.0.0.1:0", options)).unwrap_err();
        assert!(matches!(error, Error::Tls(TlsError::Options(_))), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn url_says_whether_a_place_is_encrypted() {
    let authority = Authority::new("schemes");
    let identity = authority.sign(server_params(&["localhost"]));
    let options = ServerOptions::default().tls(server_tls(&identity));
    let places = ["ws://127.0.0.1:0", "wss://127.0.0.1:0", "127.0.0.1:0"];
    let server = block_on(Server::bind(places, options)).unwrap();
    for (address, encrypted) in server.local_addrs().into_iter().zip([false, true, true]) {
        let plain = net::options(address);
        let options = if encrypted { plain.host("localhost").tls(trusting(&authority)) } else { plain };
        let (response, request) = exchange(&server, options);
        response.unwrap();
        assert_eq!(request.unwrap().socket().unwrap().tls().is_some(), encrypted);
    }
    let error = block_on(Server::bind("wss://127.0.0.1:0", ServerOptions::default())).unwrap_err();
    assert!(matches!(error, Error::Options { error: OptionsError::NoCertificate, .. }));
}

/// What a server thinks of a client's certificate, and what the client is told.
fn judged(server_tls: ServerTls, client_tls: Tls) -> (Result<Response, Error>, Result<Request, Error>) {
    let seen = Arc::new(Mutex::new(None));
    let log = Arc::clone(&seen);
    let options = ServerOptions::default().tls(server_tls).on_failure(move |peer, error| {
        assert!(peer.is_some());
        *log.lock().unwrap() = Some(error.clone());
    });
    let server = bind_with(options);
    let (response, request) = exchange(&server, client(&server, client_tls));
    (response, request.ok_or_else(|| seen.lock().unwrap().take().unwrap()))
}

#[test]
fn clients_must_show_a_certificate_where_one_is_asked_for() {
    let authority = Authority::new("of servers");
    let staff = Authority::new("of clients");
    let others = Authority::new("of others");
    let identity = authority.sign(server_params(&["localhost"]));
    let right = staff.sign(client_params());
    let mut expired = client_params();
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = staff.sign(expired);
    let of_a_server = staff.sign(server_params(&["localhost"]));
    let showing = |identity: &Identity| {
        trusting(&authority).client_cert_pem(identity.certificate_pem.clone(), identity.key_pem.clone())
    };
    for version in VERSIONS {
        let demanding = || server_tls(&identity).client_ca_pem(staff.pem()).versions([version]);
        // Once more with a session that could be resumed: the certificate is seen all the same.
        let server = bind(demanding());
        for _ in 0..2 {
            let (response, request) = exchange(&server, client(&server, showing(&right)));
            response.unwrap();
            let request = request.unwrap();
            let info = request.socket().unwrap().tls().unwrap();
            assert_eq!(info.client_certificates, std::slice::from_ref(&right.certificate));
            let shown = format!("{info:?}");
            assert!(
                shown.ends_with(&format!("client_certificates: [{}] bytes }}", right.certificate.len())),
                "{shown}"
            );
        }
        for (identity, why) in [
            (others.sign(client_params()), "no trusted authority has signed it"),
            (expired.clone(), "it has expired"),
            (of_a_server.clone(), "it is for another purpose"),
        ] {
            let (response, request) = judged(demanding(), showing(&identity));
            let error = request.unwrap_err();
            assert!(matches!(error, Error::Tls(TlsError::Certificate(_))), "{error}");
            assert!(error.to_string().contains(why), "{error}");
            assert!(matches!(response, Err(Error::Tls(_) | Error::Io(_))), "{response:?}");
        }
        let (response, request) = judged(demanding(), trusting(&authority));
        assert!(matches!(request, Err(Error::Tls(TlsError::Certificate(_)))), "{request:?}");
        assert!(matches!(response, Err(Error::Tls(_) | Error::Io(_))), "{response:?}");

        let asking = || demanding().client_may_be_anonymous(true);
        let (response, request) = judged(asking(), trusting(&authority));
        response.unwrap();
        assert!(request.unwrap().socket().unwrap().tls().unwrap().client_certificates.is_empty());
        let (_, request) = judged(asking(), showing(&others.sign(client_params())));
        assert!(matches!(request, Err(Error::Tls(TlsError::Certificate(_)))), "{request:?}");
    }
}

fn next(server: &Server) -> Connecting {
    block_on(server.incoming()).unwrap().unwrap()
}

/// What comes of a client, and how often that was polled.
fn counted(connecting: Connecting) -> (Result<Upgrade, Error>, usize) {
    let mut connecting = pin!(connecting);
    let mut polls = 0;
    let output = block_on(poll_fn(|cx| {
        polls += 1;
        connecting.as_mut().poll(cx)
    }));
    (output, polls)
}

#[test]
fn client_that_does_not_speak_tls_is_turned_away() {
    let authority = Authority::new("plain");
    let server = bind(server_tls(&authority.sign(server_params(&["localhost"]))));
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (result, polls) = counted(next(&server));
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Tls(TlsError::Protocol(_))) && polls < 100, "{error} {polls}");
    net::read_to_end(&mut stream);
    assert_eq!(server.connections(), 0);
}

#[test]
fn proxy_protocol_before_tls_is_named_as_such() {
    let authority = Authority::new("proxied");
    let server = bind(server_tls(&authority.sign(server_params(&["localhost"]))));
    for head in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        stream.write_all(head).unwrap();
        let error = counted(next(&server)).0.map(drop).unwrap_err();
        assert!(error.to_string().contains("PROXY protocol"), "{error}");
        net::read_to_end(&mut stream);
    }
}

#[test]
fn silent_client_has_until_the_deadline() {
    let authority = Authority::new("silent");
    let tls = server_tls(&authority.sign(server_params(&["localhost"])));
    let server = bind_with(ServerOptions::default().tls(tls).timeout(Duration::from_millis(100)));
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let (result, polls) = counted(next(&server));
    assert!(matches!(result, Err(Error::TimedOut(Phase::Tls))), "{result:?}");
    assert!(polls < 10, "{polls}");
    assert!(net::read_to_end(&mut stream));
}

/// A client of another library, that resumes nothing.
fn client_config(authority: &Authority) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder()
        .with_safe_defaults()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// A client that stops after so many bytes of its handshake, does what was asked for, and hangs up. Gives whether the
/// handshake was done.
fn cut(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    len: usize,
    then: &'static [u8],
    reset: bool,
) -> JoinHandle<bool> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        cut_short(&mut stream, client, len, then, reset)
    })
}

/// RUSTSEC-2024-0336: a library went round for ever when a client closed in the middle of the handshake.
#[test]
fn end_of_a_client_at_each_byte_of_the_handshake_is_an_error_in_few_polls() {
    let authority = Authority::new("cut");
    let identity = authority.sign(server_params(&["localhost"]));
    let config = client_config(&authority);
    let ends: [(&[u8], bool, usize); 4] = [
        (b"", false, 1),
        // close_notify, as a warning and as a fatal alert.
        (b"\x15\x03\x03\x00\x02\x01\x00", false, 7),
        (b"\x15\x03\x03\x00\x02\x02\x00", false, 7),
        (b"", true, 7),
    ];
    for version in VERSIONS {
        let server = bind(server_tls(&identity).versions([version]));
        for (then, reset, step) in ends {
            for len in (0..).step_by(step) {
                let client = cut(server.local_addr().unwrap(), Arc::clone(&config), len, then, reset);
                let (result, polls) = counted(next(&server));
                assert!(polls < 100, "{version:?} after {len}: {polls} polls");
                let error = result.map(drop).unwrap_err();
                if client.join().unwrap() {
                    // The handshake was done; what ended is the stream, before a request.
                    assert!(len > 200, "{len}");
                    break;
                }
                let expected = matches!(error, Error::Tls(_)) || reset && matches!(error, Error::Io(_));
                assert!(expected, "{version:?} after {len}: {error}");
            }
        }
        assert_eq!(server.connections(), 0);
    }
}

/// RUSTSEC-2020-0019: what nobody read was buffered without end. Here it waits in the system's buffers.
#[test]
fn both_halves_go_on_in_tasks_of_their_own_whatever_the_other_does() {
    const COUNT: usize = 4;
    const LEN: usize = 8 << 20;
    let authority = Authority::new("split");
    let identity = authority.sign(server_params(&["localhost"]));
    for version in VERSIONS {
        let server = bind(server_tls(&identity).versions([version]));
        let (near, far) = block_on(join(server.accept(), connect(client(&server, trusting(&authority)))));
        let ((_, near_read, near_write), (_, far_read, far_write)) = (near.unwrap().unwrap(), far.unwrap());
        let reading = [near_read, far_read].map(|mut read| {
            std::thread::spawn(move || {
                for _ in 0..COUNT {
                    assert_eq!(block_on(read.next()).unwrap().unwrap().payload.len(), LEN);
                }
                read
            })
        });
        let writing = [near_write, far_write].map(|mut write| {
            std::thread::spawn(move || {
                for _ in 0..COUNT {
                    block_on(write.send(Message::binary(vec![1; LEN]))).unwrap();
                }
                write
            })
        });
        // Nobody goes before all are done.
        let writers = writing.map(|thread| thread.join().unwrap());
        drop((reading.map(|thread| thread.join().unwrap()), writers));
    }
}

/// The server's end of a stream that is cut off, and of one that is closed.
#[test]
fn stream_that_a_client_cuts_off_is_told_from_one_that_it_closes() {
    let authority = Authority::new("truncated");
    let identity = authority.sign(server_params(&["localhost"]));
    for version in VERSIONS {
        for notify in [false, true] {
            let tls = server_tls(&identity).versions([version]);
            let options = ServerOptions::default().tls(tls).checks(coro_websocket::Checks::Off);
            let server = bind_with(options);
            let address = server.local_addr().unwrap();
            let config = client_config(&authority);
            let client = std::thread::spawn(move || {
                let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap());
                stream
                    .write_all(
                        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
                          \x81\x82\0\0\0\0hi",
                    )
                    .unwrap();
                let mut head = [0; 12];
                stream.read_exact(&mut head).unwrap();
                if notify {
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                }
                stream.sock.shutdown(Shutdown::Write).unwrap();
                net::read_to_end(&mut stream.sock);
            });
            block_on(async {
                let (_, mut read, write) = server.accept().await.unwrap().unwrap();
                assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
                match read.next().await {
                    None => assert!(notify),
                    Some(Err(Error::Tls(TlsError::Truncated))) => assert!(!notify),
                    other => panic!("{other:?}"),
                }
                drop((read, write));
            });
            client.join().unwrap();
        }
    }
}
