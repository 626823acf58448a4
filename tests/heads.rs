//! Requests that are unusual and right, or wrong in a way that the answer must name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod common;
#[path = "common/net.rs"]
mod net;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
};

use coro_websocket::{
    Accept, AcceptOptions, Error, HandshakeError, Origins, Request, Server, ServerOptions, accept_io,
};
use futures::{executor::block_on, join};

use common::{read_to_end, write, yield_now};

const KEYED: &str = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Sends these bytes to a server in two parts. Returns its result and its answer.
fn serve(
    sent: &[u8],
    at: usize,
    options: AcceptOptions,
) -> (Result<(Request, HandshakeError), Error>, String) {
    let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
    let client = async {
        write(&mut to_server, &sent[..at]).await;
        yield_now().await;
        write(&mut to_server, &sent[at..]).await;
        let answer = read_to_end(&mut from_server).await;
        drop(to_server);
        answer
    };
    let server = async {
        let upgrade = accept_io(read, to_client, options).await?;
        match upgrade.accept(Accept::default()).await {
            Ok((request, ..)) => Ok((request, HandshakeError::Status(101))),
            Err(refused) => {
                let request = refused.upgrade.request().clone();
                let Error::Handshake { error, .. } = refused.error else { panic!("{refused:?}") };
                refused.answer().await?;
                Ok((request, error))
            }
        }
    };
    block_on(async { join!(server, client) })
}

fn served(sent: &str) -> (Request, HandshakeError, String) {
    let (result, answer) = serve(sent.as_bytes(), 0, AcceptOptions::default());
    let (request, error) = result.unwrap();
    (request, error, answer)
}

/// RFC 9112 §2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line
/// (CRLF) received prior to the request-line."
#[test]
fn empty_lines_before_a_request_are_ignored_wherever_they_are_cut() {
    for lines in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n"] {
        let sent = format!("{lines}GET /a HTTP/1.1\r\n{KEYED}");
        for at in 0..lines.len() + 3 {
            let (result, answer) = serve(sent.as_bytes(), at, AcceptOptions::default());
            assert_eq!(result.unwrap().0.pathname(), "/a", "{at}");
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        }
    }
}

#[test]
fn empty_lines_count_as_bytes_of_the_head_and_not_as_headers() {
    let head = format!("GET / HTTP/1.1\r\n{KEYED}");
    for (lines, max_len, expected) in [
        (1, head.len() + 2, None),
        (1, head.len() + 1, Some(HandshakeError::HeadTooLarge)),
        (8, head.len() + 16, None),
        (1 << 20, 16 << 10, Some(HandshakeError::HeadTooLarge)),
    ] {
        let options = AcceptOptions::default().max_head_len(max_len).max_headers(5);
        let (result, answer) = serve(format!("{}{head}", "\r\n".repeat(lines)).as_bytes(), 0, options);
        match (result, expected) {
            (Ok(_), None) => assert!(answer.starts_with("HTTP/1.1 101 ")),
            (Err(Error::Handshake { error, .. }), Some(expected)) => {
                assert_eq!(error, expected);
                assert!(answer.starts_with("HTTP/1.1 431 "));
            }
            other => panic!("{other:?}"),
        }
    }
    for start in ["\n", "\r", " \r\n", "\r\n \r\n", "\r\n\n"] {
        let (result, answer) = serve(format!("{start}{head}").as_bytes(), 0, AcceptOptions::default());
        assert!(
            matches!(result, Err(Error::Handshake { error: HandshakeError::Malformed, .. })),
            "{start:?}"
        );
        assert!(answer.starts_with("HTTP/1.1 400 "));
    }
}

/// RFC 9112 §3.2.2: "When an origin server receives a request with an absolute-form of request-target, the origin
/// server MUST ignore the received Host header field (if any) and instead use the host information of the
/// request-target."
#[test]
fn absolute_target_is_served_and_its_host_is_the_one_that_counts() {
    for scheme in ["ws", "wss", "http", "https", "WS"] {
        for (rest, pathname, host) in [
            ("h/x?y=z", "/x?y=z", "h"),
            ("h", "/", "h"),
            ("other:8080?q", "/?q", "other:8080"),
            ("[::1]/", "/", "[::1]"),
        ] {
            let (request, error, answer) = served(&format!("GET {scheme}://{rest} HTTP/1.1\r\n{KEYED}"));
            assert_eq!(error, HandshakeError::Status(101), "{scheme} {rest}");
            assert_eq!(
                (request.pathname(), request.host(), request.header("host")),
                (pathname, Some(host), Some("h"))
            );
            assert!(answer.starts_with("HTTP/1.1 101 "));
        }
    }
    // §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a
    // Host header field and to any request message that contains more than one Host header field line or a Host header
    // field with an invalid field value."
    for host in ["", "Host: h\r\nHost: h\r\n", "Host: a b\r\n"] {
        let sent = format!("GET ws://h/ HTTP/1.1\r\n{KEYED}").replace("Host: h\r\n", host);
        assert_eq!(served(&sent).1, HandshakeError::Host, "{host:?}");
    }
}

#[test]
fn origin_is_compared_with_the_host_of_an_absolute_target() {
    let check = |target: &str, origin: &str, origins: Origins| {
        let sent = format!("GET {target} HTTP/1.1\r\nOrigin: {origin}\r\n{KEYED}");
        let (result, answer) = serve(sent.as_bytes(), 0, AcceptOptions::default().origins(origins));
        let error = result.unwrap().1;
        assert!(
            error == HandshakeError::Status(101) || answer.contains("may not connect to \"other\""),
            "{answer}"
        );
        error
    };
    assert_eq!(check("ws://other/", "http://other", Origins::same()), HandshakeError::Status(101));
    assert_eq!(check("ws://other/", "http://h", Origins::same()), HandshakeError::Origin);
    let seen = || Origins::predicate(|_, host| host == "other:81");
    assert_eq!(check("http://other:81/", "null", seen()), HandshakeError::Status(101));
}

/// RFC 9110 §15.5.22: "The server MUST send an Upgrade header field in a 426 response to indicate the required
/// protocol(s)".
#[test]
fn request_that_asks_for_no_websocket_is_told_to_upgrade() {
    let with = |from: &str, to: &str| format!("GET / HTTP/1.1\r\n{KEYED}").replace(from, to);
    for (sent, expected) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), HandshakeError::Upgrade),
        (
            "GET /favicon.ico HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n".to_owned(),
            HandshakeError::Upgrade,
        ),
        (with("Upgrade: websocket", "Upgrade: h2c"), HandshakeError::Upgrade),
        (with("Connection: Upgrade", "Connection: keep-alive"), HandshakeError::Connection),
    ] {
        let (_, error, answer) = served(&sent);
        assert_eq!((error, error.status()), (expected, Some(426)));
        assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
        for line in ["Upgrade: websocket", "Connection: close, Upgrade", "Sec-WebSocket-Version: 13"] {
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{answer}");
        }
    }
}

#[test]
fn target_with_a_space_is_named_as_such() {
    for (line, expected) in [
        ("GET /a b HTTP/1.1", HandshakeError::TargetSpace),
        ("GET /a b c HTTP/1.1", HandshakeError::TargetSpace),
        ("GET ws://h/a b HTTP/1.1", HandshakeError::TargetSpace),
        ("GET / HTTP/1.0", HandshakeError::HttpVersion),
        ("GET / HTTP/3", HandshakeError::HttpVersion),
        ("GET /a b", HandshakeError::HttpVersion),
    ] {
        let (result, answer) = serve(format!("{line}\r\n{KEYED}").as_bytes(), 0, AcceptOptions::default());
        let error = match result {
            Ok((_, error)) | Err(Error::Handshake { error, .. }) => error,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(error, expected, "{line}");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(answer.contains("space"), expected == HandshakeError::TargetSpace, "{answer}");
    }
}

#[test]
fn proxy_protocol_is_named_as_such_wherever_it_is_cut() {
    let request = format!("GET / HTTP/1.1\r\n{KEYED}");
    let heads: [&[u8]; 6] = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
        b"PROXY TCP6 ::1 ::1 5 6\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x05\0\x06",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0cabcdefghijkl",
    ];
    for head in heads {
        for at in 0..=head.len() {
            let sent = [head, request.as_bytes()].concat();
            let (result, answer) = serve(&sent, at, AcceptOptions::default());
            let error = result.map(drop).unwrap_err();
            assert!(
                matches!(error, Error::Handshake { error: HandshakeError::ProxyProtocol, .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("PROXY"), "{error}");
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("PROXY"), "{answer}");
        }
        // The server waits for no more bytes.
        let (result, answer) = serve(head, 0, AcceptOptions::default().timeout(None));
        assert!(matches!(result, Err(Error::Handshake { error: HandshakeError::ProxyProtocol, .. })));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    for sent in [
        "\r\n\r\n\0",
        "\r\n\r\n\0\r\nGET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "PROXY / HTTP/1.1\r\n",
        "PROXYTCP4 / HTTP/1.1\r\n",
    ] {
        let (result, _) = serve(format!("{sent}{KEYED}").as_bytes(), 0, AcceptOptions::default());
        let error = match result {
            Ok((_, error)) | Err(Error::Handshake { error, .. }) => error,
            Err(other) => panic!("{other:?}"),
        };
        assert_ne!(error, HandshakeError::ProxyProtocol, "{sent:?}");
    }
}

/// The same heads over sockets, with the server's reports.
#[test]
fn listening_server_answers_and_reports_unusual_heads() {
    let cases = [
        ("\r\n\r\nGET / HTTP/1.1\r\n", "101", None),
        ("GET ws://h/x HTTP/1.1\r\n", "101", None),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\nGET / HTTP/1.1\r\n",
            "400",
            Some(HandshakeError::ProxyProtocol),
        ),
        ("GET /a b HTTP/1.1\r\n", "400", Some(HandshakeError::TargetSpace)),
        ("GET / HTTP/1.1\r\nUpgrade: h2c\r\nHost: h\r\n\r\n", "426", Some(HandshakeError::Upgrade)),
    ];
    let (tell, told) = mpsc::channel();
    let options = ServerOptions::default().on_failure(move |_, error| tell.send(error.clone()).unwrap());
    let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
    let address = server.local_addr().unwrap();
    let mut client = Some(thread::spawn(move || {
        for (start, status, _) in cases {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(net::PATIENCE)).unwrap();
            stream.write_all(format!("{start}{KEYED}").as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start}: {answer}");
        }
    }));
    let expected: Vec<_> = cases.iter().filter_map(|(_, _, error)| *error).collect();
    let mut seen = Vec::new();
    block_on(async {
        while seen.len() < expected.len() {
            let accepted = async_io::Timer::after(std::time::Duration::from_millis(1));
            futures::future::select(std::pin::pin!(server.accept()), accepted).await;
            seen.extend(told.try_iter());
            if let Some(client) = client.take_if(|client| client.is_finished()) {
                client.join().unwrap();
            }
        }
    });
    for (error, expected) in seen.iter().zip(&expected) {
        assert!(
            matches!(error, Error::Handshake { error, .. } if error == expected),
            "{error:?} {expected:?}"
        );
    }
}
