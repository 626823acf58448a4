//! TLS: whom a client trusts, and what it does when the other end breaks off.
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
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use coro_websocket::{
    Error, HandshakeError, Options, Phase, Response, SinkExt, StreamExt, Tls, TlsError, TlsVersion, connect,
};
use futures::executor::block_on;
use net::{options, read_head, serve, switching};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::{Certificate, PrivateKey, ServerConfig, ServerConnection, StreamOwned, kx_group::SECP384R1};
use tls::{Authority, Identity, VERSIONS, client_params, cut_short, server_config, server_params, trusting};

type Secured = StreamOwned<ServerConnection, TcpStream>;

fn secured(config: Arc<ServerConfig>, stream: TcpStream) -> Secured {
    StreamOwned::new(ServerConnection::new(config).unwrap(), stream)
}

/// A server that opens the connection, says "hi", closes, and reads to the end.
fn greeting(config: Arc<ServerConfig>) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    serve(move |stream| {
        let mut stream = secured(config, stream);
        let request = {
            let mut bytes = Vec::new();
            let mut byte = [0];
            while !bytes.ends_with(b"\r\n\r\n") {
                if stream.read(&mut byte)? == 0 {
                    return Ok(());
                }
                bytes.extend(byte);
            }
            String::from_utf8(bytes).unwrap()
        };
        stream.write_all(switching(&request).as_bytes())?;
        stream.write_all(b"\x81\x02hi\x88\x02\x03\xe8")?;
        stream.read_exact(&mut [0; 8])?;
        stream.conn.send_close_notify();
        stream.flush()?;
        // The end must be announced.
        assert_eq!(stream.read(&mut [0])?, 0);
        Ok(())
    })
}

/// A whole connection to a server that greets.
fn greeted(options: Options) -> Result<Response, Error> {
    block_on(async {
        let (response, mut read, _write) = connect(options).await?;
        assert_eq!(read.next().await.unwrap()?.as_text(), Some("hi"));
        assert!(read.next().await.unwrap()?.as_close().is_ok_and(|close| close.is_some()));
        assert!(read.next().await.is_none());
        assert!(read.close_frames().is_clean());
        Ok(response)
    })
}

fn certificate_error(result: Result<Response, Error>) -> String {
    match result {
        Err(error @ Error::Tls(TlsError::Certificate(_))) => {
            assert_eq!(error.code(), Some(-11));
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn right_certificate_opens_and_tells_what_was_agreed_on() {
    let authority = Authority::new("right");
    let identity = authority.sign(server_params(&["localhost"]));
    for version in VERSIONS {
        let (address, server) = greeting(server_config(&identity, version, None, &["http/1.1"]));
        let options = options(address).host("localhost").tls(trusting(&authority).alpn(["http/1.1"]));
        let response = greeted(options).unwrap();
        assert!(response.timings().tls.is_some());
        let socket = response.socket().unwrap();
        let info = socket.tls().unwrap();
        assert_eq!((info.version, socket.peer_addr()), (version, Some(address)));
        let reported = (version == TlsVersion::Tls12).then_some(&b"http/1.1"[..]);
        assert_eq!(info.alpn.as_deref(), reported);
        assert!(info.cipher_suite.starts_with("TLS"), "{}", info.cipher_suite);
        server.join().unwrap().unwrap();
    }
}

/// A server of TLS 1.3 encrypts its choice, and async-tls does not report it. A server that asks for another key sends
/// its hello twice.
#[test]
fn chosen_protocol_is_reported_with_every_suite_of_tls_1_2() {
    let authority = Authority::new("alpn");
    let identity = authority.sign(server_params(&["localhost"]));
    let certificates = vec![Certificate(identity.certificate.clone())];
    // The certificate is for another kind of signature than RSA.
    let suites = rustls::ALL_CIPHER_SUITES.iter().filter(|suite| !format!("{suite:?}").contains("_RSA_"));
    for suite in suites {
        for groups in [&rustls::ALL_KX_GROUPS[..], &[&SECP384R1]] {
            for chosen in [Some(b"http/1.1".to_vec()), None] {
                let mut config = ServerConfig::builder()
                    .with_cipher_suites(&[*suite])
                    .with_kx_groups(groups)
                    .with_protocol_versions(&[suite.version()])
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(certificates.clone(), PrivateKey(identity.key.clone()))
                    .unwrap();
                config.alpn_protocols = chosen.iter().cloned().collect();
                let (address, server) = greeting(Arc::new(config));
                let tls = trusting(&authority).alpn(["spdy/1", "http/1.1"]);
                let response = greeted(options(address).host("localhost").tls(tls)).unwrap();
                let info = response.socket().unwrap().tls().unwrap();
                assert_eq!(info.cipher_suite, format!("{:?}", suite.suite()));
                let reported = chosen.filter(|_| info.version == TlsVersion::Tls12);
                assert_eq!(info.alpn, reported, "{suite:?}");
                server.join().unwrap().unwrap();
            }
        }
    }
}

#[test]
fn certificates_that_are_not_to_be_trusted_are_refused() {
    let authority = Authority::new("ours");
    let other = Authority::new("another's");
    let expired = |mut params: CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        params
    };
    let not_yet = |mut params: CertificateParams| {
        params.not_before = date_time_ymd(2100, 1, 1);
        params.not_after = date_time_ymd(2101, 1, 1);
        params
    };
    let common_name_only = |mut params: CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params
    };
    let for_clients = |mut params: CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    };
    let cases = [
        ("not for this name", authority.sign(server_params(&["example.com"]))),
        ("not for this name", authority.sign(server_params(&["127.0.0.1"]))),
        ("not for this name", authority.sign(server_params(&["*.localhost"]))),
        ("not for this name", authority.sign(common_name_only(server_params(&[])))),
        ("no trusted authority", other.sign(server_params(&["localhost"]))),
        ("self-signed", Identity::self_signed(server_params(&["localhost"]))),
        ("expired", authority.sign(expired(server_params(&["localhost"])))),
        ("not valid yet", authority.sign(not_yet(server_params(&["localhost"])))),
        ("for another purpose", authority.sign(for_clients(server_params(&["localhost"])))),
    ];
    let client = authority.sign(client_params());
    for version in VERSIONS {
        for (why, identity) in &cases {
            let config = server_config(identity, version, None, &[]);
            // A client key does not switch verification off.
            let with_key = trusting(&authority).client_cert_pem(&*client.certificate_pem, &*client.key_pem);
            for tls in [trusting(&authority), with_key] {
                let (address, server) = greeting(config.clone());
                let text = certificate_error(greeted(options(address).host("localhost").tls(tls)));
                assert!(text.contains(why), "{why}: {text}");
                let told = server.join().unwrap().unwrap_err();
                assert!(told.to_string().contains("alert"), "{told}");
            }
            // The frightening switch does.
            let (address, server) = greeting(config);
            let anybody = Tls::default().danger_accept_any_certificate(true);
            greeted(options(address).host("localhost").tls(anybody)).unwrap();
            server.join().unwrap().unwrap();
        }
        let (address, _) = greeting(server_config(&cases[0].1, version, None, &[]));
        // The usual authorities have not signed it either.
        certificate_error(greeted(options(address).host("localhost").tls(true)));
    }
}

#[test]
fn self_signed_certificate_is_no_authority() {
    let identity = Identity::self_signed(server_params(&["localhost"]));
    let (address, _) = greeting(server_config(&identity, TlsVersion::Tls13, None, &[]));
    let tls = Tls::default().ca_pem(&*identity.certificate_pem);
    assert!(greeted(options(address).host("localhost").tls(tls)).is_ok(), "unless it is named as one");
}

#[test]
fn address_as_host_needs_a_certificate_with_that_address() {
    let authority = Authority::new("addresses");
    let identity = authority.sign(server_params(&["127.0.0.1", "::1"]));
    for version in VERSIONS {
        let config = server_config(&identity, version, None, &[]);
        let (address, server) = greeting(config.clone());
        greeted(options(address).tls(trusting(&authority))).unwrap();
        server.join().unwrap().unwrap();
        let (address, server) = greeting(config.clone());
        greeted(options(address).tls(trusting(&authority).server_name("[::1]"))).unwrap();
        server.join().unwrap().unwrap();
        let (address, _) = greeting(config.clone());
        certificate_error(greeted(options(address).tls(trusting(&authority).server_name("127.0.0.2"))));
        let (address, _) = greeting(config);
        certificate_error(greeted(options(address).host("localhost").tls(trusting(&authority))));
    }
}

#[test]
fn server_name_replaces_the_host_and_loses_its_last_dot() {
    let authority = Authority::new("names");
    let identity = authority.sign(server_params(&["example.com"]));
    for name in ["example.com", "example.com.", "EXAMPLE.com"] {
        let (address, server) = greeting(server_config(&identity, TlsVersion::Tls13, None, &[]));
        greeted(options(address).tls(trusting(&authority).server_name(name))).unwrap();
        server.join().unwrap().unwrap();
    }
    let error = greeted(Options::default().host("localhost").port(1).tls(Tls::default().server_name("a b")));
    assert!(matches!(error, Err(Error::Tls(TlsError::Options(_)))), "{error:?}");
}

#[test]
fn authorities_come_from_files_too_and_are_added_to_others() {
    let directory = std::env::temp_dir().join(format!("coro-websocket-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let authority = Authority::new("in a file");
    let path = directory.join("ca.pem");
    std::fs::write(&path, [authority.pem(), Authority::new("second").pem()].concat()).unwrap();
    let identity = authority.sign(server_params(&["localhost"]));
    for tls in [Tls::default().ca_file(&path), Tls::default().web_roots(false).ca_file(&path)] {
        let (address, server) = greeting(server_config(&identity, TlsVersion::Tls13, None, &[]));
        greeted(options(address).host("localhost").tls(tls)).unwrap();
        server.join().unwrap().unwrap();
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let error = greeted(Options::default().port(1).tls(Tls::default().ca_file(&path))).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}

/// The key as it is inside of PKCS#8 (RFC 5208 §5): PKCS#1 for RSA, SEC1 for elliptic curves.
fn bare_key(identity: &Identity, label: &str) -> String {
    let der = &identity.key;
    let start = (0..der.len())
        .find(|&at| {
            der[at] == 4
                && match der[at + 1] {
                    0x82 => at + 4 + (usize::from(der[at + 2]) << 8 | usize::from(der[at + 3])) == der.len(),
                    len => at + 2 + usize::from(len) == der.len(),
                }
        })
        .unwrap();
    let inner = &der[start + if der[start + 1] == 0x82 { 4 } else { 2 }..];
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, inner);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn client_certificate_is_shown_in_whatever_form_its_key_is() {
    let authority = Authority::new("servers");
    let clients = Authority::new("clients");
    let identity = authority.sign(server_params(&["localhost"]));
    let elliptic = clients.sign(client_params());
    let rsa = KeyPair::from_pem(include_str!("data/rsa.pem")).unwrap();
    let rsa = clients.sign_key(client_params(), rsa);
    let forms = [
        (&elliptic, elliptic.key_pem.clone()),
        (&elliptic, bare_key(&elliptic, "EC PRIVATE KEY")),
        (&rsa, rsa.key_pem.clone()),
        (&rsa, bare_key(&rsa, "RSA PRIVATE KEY")),
    ];
    for version in VERSIONS {
        for (client, key) in &forms {
            let (address, server) = greeting(server_config(&identity, version, Some(&clients), &[]));
            let tls = trusting(&authority).client_cert_pem(&*client.certificate_pem, &**key);
            let greeted = greeted(options(address).host("localhost").tls(tls));
            assert!(greeted.is_ok(), "{version:?} {}: {greeted:?}", &key[..40]);
            server.join().unwrap().unwrap();
        }
    }
}

#[test]
fn client_certificate_that_is_missing_or_wrong_is_an_alert() {
    let authority = Authority::new("servers");
    let clients = Authority::new("clients");
    let identity = authority.sign(server_params(&["localhost"]));
    let stranger = Authority::new("strangers").sign(client_params());
    let other_key = clients.sign(client_params());
    let wrong = trusting(&authority).client_cert_pem(&*stranger.certificate_pem, &*stranger.key_pem);
    let mismatched = trusting(&authority)
        .client_cert_pem(&*clients.sign(client_params()).certificate_pem, &*other_key.key_pem);
    for version in VERSIONS {
        for tls in [trusting(&authority), wrong.clone(), mismatched.clone()] {
            let (address, server) = greeting(server_config(&identity, version, Some(&clients), &[]));
            let error = greeted(options(address).host("localhost").tls(tls)).unwrap_err();
            assert!(matches!(error, Error::Tls(TlsError::Alert(_))), "{version:?}: {error}");
            assert!(server.join().unwrap().is_err());
        }
    }
}

#[test]
fn nothing_in_common_is_an_alert_or_an_error_of_the_protocol() {
    let authority = Authority::new("versions");
    let identity = authority.sign(server_params(&["localhost"]));
    for (server_version, client_version) in
        [(TlsVersion::Tls12, TlsVersion::Tls13), (TlsVersion::Tls13, TlsVersion::Tls12)]
    {
        let (address, server) = greeting(server_config(&identity, server_version, None, &[]));
        let tls = trusting(&authority).versions([client_version]);
        let error = greeted(options(address).host("localhost").tls(tls)).unwrap_err();
        assert!(matches!(error, Error::Tls(TlsError::Alert(_) | TlsError::Protocol(_))), "{error}");
        assert!(server.join().unwrap().is_err());
    }
    let (address, _) = greeting(server_config(&identity, TlsVersion::Tls13, None, &["h2"]));
    let tls = trusting(&authority).alpn(["http/1.1"]);
    let error = greeted(options(address).host("localhost").tls(tls)).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn server_without_tls_is_an_error_of_the_protocol() {
    let (address, server) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = greeted(options(address).tls(true)).unwrap_err();
    assert!(matches!(error, Error::Tls(TlsError::Protocol(_))), "{error}");
    server.join().unwrap();
}

#[test]
fn server_that_says_nothing_is_given_up_in_the_phase_of_tls() {
    let (address, server) = serve(|mut stream| net::read_to_end(&mut stream));
    let error = greeted(options(address).tls(true).timeout(Duration::from_millis(150))).unwrap_err();
    assert!(matches!(error, Error::TimedOut(Phase::Tls)), "{error}");
    assert!(server.join().unwrap(), "the socket is closed");
}

#[test]
fn server_that_never_ends_its_handshake_is_given_up_in_few_polls() {
    // Warnings, which TLS 1.2 ignores, as fast as they are taken.
    let (address, server) = serve(|mut stream| {
        let warnings = [0x15, 3, 3, 0, 2, 1, 90].repeat(10_000);
        while stream.write_all(&warnings).is_ok() {}
    });
    let (result, polls) = counted(connect(options(address).tls(true)));
    assert!(matches!(result, Err(Error::Tls(_))), "{result:?}");
    assert!(polls < 1000, "{polls}");
    server.join().unwrap();
}

/// Counts how often a future is polled.
fn counted<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut future = pin!(future);
    let mut polls = 0;
    let output = block_on(poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    }));
    (output, polls)
}

/// Sends on what a server says up to some byte, then what was asked for instead.
fn cut(
    config: Arc<ServerConfig>,
    len: usize,
    then: &'static [u8],
    reset: bool,
) -> (SocketAddr, JoinHandle<bool>) {
    serve(move |mut client| {
        client.peek(&mut [0]).unwrap();
        cut_short(&mut client, ServerConnection::new(config).unwrap(), len, then, reset)
    })
}

/// RUSTSEC-2024-0336: a library went round for ever.
#[test]
fn end_at_each_byte_of_the_handshake_is_an_error_in_few_polls() {
    for version in VERSIONS {
        cut_everywhere(version, b"", false, 1);
    }
}

/// RUSTSEC-2024-0336, with the alert that set it off, as a warning and as a fatal one.
#[test]
fn close_notify_in_the_handshake_is_an_error_in_few_polls() {
    for version in VERSIONS {
        cut_everywhere(version, b"\x15\x03\x03\x00\x02\x01\x00", false, 7);
        cut_everywhere(version, b"\x15\x03\x03\x00\x02\x02\x00", false, 7);
    }
}

#[test]
fn reset_in_the_handshake_is_an_error_in_few_polls() {
    for version in VERSIONS {
        cut_everywhere(version, b"", true, 7);
    }
}

/// Breaks the handshake off after each so many bytes.
fn cut_everywhere(version: TlsVersion, then: &'static [u8], reset: bool, step: usize) {
    let authority = Authority::new("cut");
    let identity = authority.sign(server_params(&["localhost"]));
    // Sessions are not resumed with a configuration of its own each time.
    let tls = trusting(&authority);
    let config = server_config(&identity, version, None, &[]);
    for len in (0..).step_by(step) {
        let (address, server) = cut(config.clone(), len, then, reset);
        let options = options(address).host("localhost").tls(tls.clone());
        let (result, polls) = counted(connect(options));
        assert!(polls < 100, "{version:?} after {len}: {polls} polls");
        let error = result.map(drop).unwrap_err();
        if server.join().unwrap() {
            // The handshake was done; what ended is the stream, before an answer.
            assert!(len > 500, "{len}");
            break;
        }
        // With TLS 1.3 the last flight leaves the client on its way to the request.
        let expected = matches!(error, Error::Tls(_)) || reset && matches!(error, Error::Io(_));
        assert!(expected, "{version:?} after {len}: {error}");
    }
}

#[test]
fn stream_that_is_cut_off_is_an_error_and_one_that_is_closed_is_not() {
    let authority = Authority::new("truncated");
    let identity = authority.sign(server_params(&["localhost"]));
    for version in VERSIONS {
        for notify in [false, true] {
            let config = server_config(&identity, version, None, &[]);
            let (address, server) = serve(move |stream| {
                let mut stream = secured(config, stream);
                let request = read_head(&mut stream);
                stream.write_all(switching(&request).as_bytes()).unwrap();
                stream.write_all(b"\x81\x02hi").unwrap();
                if notify {
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                }
                stream.sock.shutdown(Shutdown::Write).unwrap();
                net::read_to_end(&mut stream.sock);
            });
            block_on(async {
                let options = options(address).host("localhost").tls(trusting(&authority));
                let options = options.checks(coro_websocket::Checks::Off);
                let (_, mut read, write) = connect(options).await.unwrap();
                assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
                match read.next().await {
                    None => assert!(notify),
                    Some(Err(Error::Tls(TlsError::Truncated))) => assert!(!notify),
                    other => panic!("{other:?}"),
                }
                drop((read, write));
            });
            server.join().unwrap();
        }
    }
}

#[test]
fn end_before_the_answer_is_told_from_a_cut() {
    let authority = Authority::new("early");
    let identity = authority.sign(server_params(&["localhost"]));
    let config = server_config(&identity, TlsVersion::Tls13, None, &[]);
    let (address, server) = serve(move |stream| {
        let mut stream = secured(config, stream);
        read_head(&mut stream);
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let error = greeted(options(address).host("localhost").tls(trusting(&authority))).unwrap_err();
    assert!(matches!(error, Error::Handshake { error: HandshakeError::NoHead, .. }), "{error}");
    server.join().unwrap();
}

#[test]
fn garbage_on_an_open_connection_is_answered_with_an_alert() {
    let authority = Authority::new("garbage");
    let identity = authority.sign(server_params(&["localhost"]));
    for version in VERSIONS {
        let config = server_config(&identity, version, None, &[]);
        let (address, server) = serve(move |stream| {
            let mut stream = secured(config, stream);
            let request = read_head(&mut stream);
            stream.write_all(switching(&request).as_bytes()).unwrap();
            // What came before is not lost, though it may be read together with what is wrong.
            stream.write_all(b"\x81\x02hi").unwrap();
            stream.sock.write_all(&[0x17, 3, 3, 0, 32]).unwrap();
            stream.sock.write_all(&[7; 32]).unwrap();
            stream.read(&mut [0; 16]).unwrap_err().to_string()
        });
        block_on(async {
            let options = options(address).host("localhost").tls(trusting(&authority));
            let (_, mut read, mut write) = connect(options).await.unwrap();
            assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
            let error = read.next().await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Tls(TlsError::Protocol(_))), "{error}");
            assert!(read.next().await.is_none());
            assert!(write.close().await.is_ok());
        });
        let told = server.join().unwrap();
        assert!(told.contains("BadRecordMac") || told.contains("DecryptError"), "{told}");
    }
}

#[test]
fn tls_over_a_unix_socket_is_for_localhost() {
    let authority = Authority::new("unix");
    let identity = authority.sign(server_params(&["localhost"]));
    let config = server_config(&identity, TlsVersion::Tls13, None, &[]);
    let path = std::env::temp_dir().join(format!("coro-websocket-tls-{}.socket", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let request = read_head(&mut stream);
        stream.write_all(switching(&request).as_bytes()).unwrap();
        stream.write_all(b"\x81\x02hi\x88\x02\x03\xe8").unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
    });
    // The end of the socket without a word from TLS comes after both Closes, and is none of our business.
    greeted(Options::default().path(&path).tls(trusting(&authority))).unwrap();
    server.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}
