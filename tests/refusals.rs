//! Responses that refuse the opening handshake: the time limit for the rest, and the client's result for heads that are
//! not as they should be.
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
#[cfg(feature = "tls")]
#[path = "common/tls.rs"]
mod tls;

use std::{
    io::{Read as _, Write as _},
    pin::pin,
    sync::mpsc,
    time::{Duration, Instant},
};

use coro_websocket::{Error, HandshakeError, Options, Response, connect, connect_io};
use futures::{executor::block_on, future::join_all, join};

use common::{read_head, write};

/// The time limit for a refusal after its head has arrived.
const SOON: Duration = Duration::from_secs(1);

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::Handshake { error: HandshakeError::Status(status), response: Some(response), .. } => {
            assert_eq!(response.code(), *status);
            Some(*status)
        }
        _ => None,
    }
}

/// Connects to a server that sends this answer and then ends. Returns the client's result.
fn answered(options: Options, answer: &[u8]) -> Result<Response, Error> {
    let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
    let server = async {
        read_head(&mut from_client).await;
        write(&mut to_client, answer).await;
        drop(to_client);
    };
    block_on(async { join!(connect_io(read, to_server, options), server).0.map(|(response, ..)| response) })
}

fn refused(answer: &[u8]) -> Error {
    answered(Options::default(), answer).map(drop).unwrap_err()
}

/// Connects to a server that sends this answer, then nothing more, without ending. Returns the client's result, and
/// after how long.
async fn refused_by_silence(answer: &str, timeout: Option<Duration>) -> (Error, Duration) {
    let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
    let client = async {
        let result = connect_io(read, to_server, Options::default().timeout(timeout)).await;
        (result.map(drop).unwrap_err(), Instant::now())
    };
    let server = async {
        read_head(&mut from_client).await;
        write(&mut to_client, answer).await;
        Instant::now()
    };
    let ((error, until), since) = join!(client, server);
    (error, until - since)
}

#[test]
fn refusal_is_given_within_a_second_though_its_body_does_not_end() {
    let many = "X: y\r\n".repeat(70);
    let silent = [
        ("", "", ""),
        (&many, "why", "why"),
        ("no colon\r\n", "why", "why"),
        ("X: a\0b\r\n", "why", "why"),
        ("", "why", "why"),
        ("Content-Length: 100\r\n", "why", "why"),
        ("Content-Length: x\r\n", "why", "why"),
        ("Transfer-Encoding: chunked\r\n", "3\r\nwhy\r\n", "why"),
        ("Transfer-Encoding: chunked\r\n", "9\r\nwhy", "why"),
        ("Connection: keep-alive\r\n", "why", "why"),
    ];
    block_on(join_all(silent.map(async |(headers, sent, body)| {
        let answer = format!("HTTP/1.1 403 Forbidden\r\n{headers}\r\n{sent}");
        for timeout in [None, Some(Duration::from_secs(100))] {
            let (error, waited) = refused_by_silence(&answer, timeout).await;
            assert_eq!(status(&error), Some(403), "{error:?}");
            assert_eq!(error.response().unwrap().body(), body.as_bytes());
            assert!(waited < SOON, "{headers:?} {waited:?}");
        }
    })));
}

#[test]
fn body_that_ends_is_not_waited_for_any_longer() {
    for answer in [
        "HTTP/1.1 401 x\r\nContent-Length: 3\r\n\r\nwhy",
        "HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwhy\r\n0\r\n\r\n",
        "HTTP/1.1 204 x\r\n\r\n",
        "HTTP/1.1 304 x\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
    ] {
        // No timer runs out: there is none that could wake the task.
        let mut client = pin!(refused_by_silence(answer, None));
        let (error, _) = common::drive::drive(&mut client);
        assert!(status(&error).is_some(), "{error:?}");
    }
}

#[test]
fn body_that_drips_is_given_as_far_as_it_came() {
    let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
    let client = async {
        let result = connect_io(read, to_server, Options::default().timeout(None)).await;
        (result.map(drop).unwrap_err(), Instant::now())
    };
    let server = async {
        read_head(&mut from_client).await;
        write(&mut to_client, "HTTP/1.1 503 Busy\r\nContent-Length: 100000\r\n\r\n").await;
        let since = Instant::now();
        // Until the client has gone.
        for _ in 0..200 {
            write(&mut to_client, "x").await;
            async_io::Timer::after(Duration::from_millis(10)).await;
        }
        since
    };
    let ((error, until), since) = block_on(async { join!(client, server) });
    assert_eq!(status(&error), Some(503));
    assert!(until - since < SOON, "{:?}", until - since);
    let len = error.response().unwrap().body().len();
    assert!((2..150).contains(&len), "{len}");
}

#[test]
fn deadline_that_comes_before_the_second_still_counts() {
    let answer = "HTTP/1.1 403 x\r\n\r\nwhy";
    let (error, waited) = block_on(refused_by_silence(answer, Some(Duration::from_millis(30))));
    assert_eq!(status(&error), Some(403));
    assert!(waited < SOON / 2, "{waited:?}");
}

/// The same over sockets of our own.
#[test]
fn server_that_keeps_its_socket_open_does_not_delay_the_refusal() {
    let (done, wait) = mpsc::channel::<()>();
    let (address, server) = net::serve(move |mut stream| {
        net::read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\nsign in").unwrap();
        let since = Instant::now();
        let _ = wait.recv();
        since
    });
    let error = block_on(connect(net::options(address).timeout(None))).map(drop).unwrap_err();
    let until = Instant::now();
    drop(done);
    assert!(until - server.join().unwrap() < SOON);
    assert_eq!(status(&error), Some(401));
    assert_eq!(error.response().unwrap().body(), b"sign in");
}

/// The same over TLS, of either version.
#[cfg(feature = "tls")]
#[test]
fn server_that_keeps_its_tls_open_does_not_delay_the_refusal() {
    let authority = tls::Authority::new("refusals");
    let identity = authority.sign(tls::server_params(&["localhost"]));
    for version in tls::VERSIONS {
        let config = tls::server_config(&identity, version, None, &[]);
        let (done, wait) = mpsc::channel::<()>();
        let (address, server) = net::serve(move |stream| {
            let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), stream);
            net::read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nwhy").unwrap();
            let since = Instant::now();
            let _ = wait.recv();
            since
        });
        let options = net::options(address).host("localhost").tls(tls::trusting(&authority)).timeout(None);
        let error = block_on(connect(options)).map(drop).unwrap_err();
        let until = Instant::now();
        drop(done);
        assert!(until - server.join().unwrap() < SOON);
        assert_eq!(status(&error), Some(403), "{error:?}");
        assert_eq!(error.response().unwrap().body(), b"why");
    }
}

/// A server that refuses a request for its size, or for its first line, reads no more of it.
#[test]
fn refusal_is_read_while_the_request_cannot_be_sent() {
    for capacity in [0, 1, 100] {
        let (_from_client, to_server) = {
            let (write, read) = common::pipe(capacity);
            (read, write)
        };
        let (mut to_client, read) = common::pipe(usize::MAX);
        let options = Options::default().timeout(None).header("X", "x".repeat(10_000));
        block_on(async {
            write(&mut to_client, "HTTP/1.1 431 Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
            let error = connect_io(read, to_server, options).await.map(drop).unwrap_err();
            assert_eq!(status(&error), Some(431), "{error:?}");
            assert_eq!(error.response().unwrap().body(), b"big");
        });
    }
}

#[test]
fn status_of_a_refusal_is_told_whatever_is_wrong_with_the_rest_of_its_head() {
    let many = "X: y\r\n".repeat(65);
    let large = format!("X: {}\r\n", "y".repeat(16 << 10));
    for rest in [
        &many,
        &"X: y\r\n".repeat(10_000),
        &large,
        "no colon\r\n",
        "A B: c\r\n",
        ": c\r\n",
        "X : y\r\n",
        "X: a\u{1}b\r\n",
        "X: a\0b\r\n",
        "X: a\nY: b\r\n",
        "X: a\rb\r\n",
        "\u{e9}: a\r\n",
    ] {
        for status_line in
            ["HTTP/1.1 403 Forbidden", "HTTP/1.0 429", "HTTP/1.1 302 \u{e9}", "HTTP/1.1 200 OK"]
        {
            let answer = format!("{status_line}\r\nX-First: 1\r\n{rest}X-Last: 2\r\n\r\nbody");
            let error = refused(answer.as_bytes());
            assert_eq!(
                status(&error).map(|code| code.to_string()).as_deref(),
                status_line.get(9..12),
                "{rest:?} {error:?}"
            );
            let response = error.response().unwrap();
            assert_eq!(response.header("x-first"), Some("1"), "{rest:?}");
            assert!(response.headers().len() <= 64);
            let is_bounded = rest.len() < 1000;
            assert!(response.body() == b"body" || !is_bounded, "{rest:?} {:?}", response.body());
        }
        // Without a refusal, the malformed head is the error.
        for status_line in ["HTTP/1.1 101 Switching Protocols", "HTTP/1.1 103 Early Hints"] {
            let error = refused(format!("{status_line}\r\nX-First: 1\r\n{rest}\r\n").as_bytes());
            assert!(
                matches!(
                    error,
                    Error::Handshake {
                        error: HandshakeError::Malformed
                            | HandshakeError::TooManyHeaders
                            | HandshakeError::HeadTooLarge,
                        ..
                    }
                ),
                "{rest:?} {error:?}"
            );
        }
    }
    for no_status_line in
        ["HTTP/1.1 403", "HTTP/1.1 4x3 x\r\n\r\n", "HTTP/2 403 x\r\n\r\n", "ICY 403 x\r\n\r\n", "403\r\n\r\n"]
    {
        assert_eq!(status(&refused(no_status_line.as_bytes())), None, "{no_status_line:?}");
    }
}

#[test]
fn refusal_with_any_byte_of_its_headers_changed_keeps_its_status() {
    let line = "HTTP/1.1 403 Forbidden\r\n";
    let answer = format!("{line}X-A: 1\r\nX-B: b\r\n c\r\nContent-Length: 3\r\n\r\nwhy");
    for index in line.len()..answer.len() {
        for byte in *b"\0\t\n\r \"%,-.0129:;=AGaz\x7f\x80\xff" {
            let mut answer = answer.clone().into_bytes();
            answer[index] = byte;
            assert_eq!(status(&refused(&answer)), Some(403), "{:?}", String::from_utf8_lossy(&answer));
        }
    }
}

#[test]
fn text_shows_at_most_200_bytes_of_the_body_whatever_they_are() {
    for (body, shown) in [
        ("x".repeat(200), "x".repeat(200)),
        ("x".repeat(201), "x".repeat(200) + "…"),
        ("é".repeat(100), "é".repeat(100)),
        ("é".repeat(1000), "é".repeat(100) + "…"),
        (format!("x{}", "é".repeat(1000)), format!("x{}…", "é".repeat(99))),
        ("🦀 ".repeat(1000), "🦀 ".repeat(40) + "…"),
    ] {
        let answer = format!("HTTP/1.1 403 no\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let text = refused(answer.as_bytes()).to_string();
        assert!(text.ends_with(&format!("; body: \"{shown}\"")), "{text}");
    }
}

#[test]
fn text_shows_where_a_refusal_leads_without_user_query_and_fragment() {
    for (location, shown) in [
        ("/sign-in", "/sign-in"),
        ("/sign-in?token=secret", "/sign-in?…"),
        ("/sign-in#token=secret?a", "/sign-in#…"),
        ("https://joe:secret@example.com/a#token=secret", "https://…@example.com/a#…"),
    ] {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let text = refused(answer.as_bytes()).to_string();
        assert!(text.ends_with(&format!("; Location: \"{shown}\"")), "{text}");
    }
}

#[test]
fn headers_and_body_are_there_but_for_the_malformed_line() {
    let error = refused(
        b"HTTP/1.1 403 x\r\nA: 1\r\n 2\r\nno colon\r\nContent-Length: 3\r\nB: 2\r\n\r\nwhy, and more",
    );
    let response = error.response().unwrap();
    let headers: Vec<_> = response.headers().iter().collect();
    assert_eq!(headers, [("A", "1 2"), ("Content-Length", "3"), ("B", "2")]);
    assert_eq!(response.body(), b"why");
}

#[test]
fn status_of_a_refusal_is_told_though_the_head_is_cut_off() {
    let head = "HTTP/1.1 403 Forbidden\r\nX-First: 1\r\nX-Last: 2\r\n";
    for len in 0..=head.len() {
        let error = refused(&head.as_bytes()[..len]);
        let expected = (len >= "HTTP/1.1 403 Forbidden\r\n".len()).then_some(403);
        assert_eq!(status(&error), expected, "{len} {error:?}");
    }
    // Some servers end lines with LF.
    assert_eq!(status(&refused(b"HTTP/1.1 403 Forbidden\nContent-Length: 0\n\n")), Some(403));
}

/// A server that resets the connection in the middle of its refusal.
#[test]
fn status_of_a_refusal_is_told_though_the_connection_breaks() {
    let (address, server) = net::serve(|mut stream| {
        stream.read_exact(&mut [0; 10]).unwrap();
        stream.write_all(b"HTTP/1.1 503 Busy\r\nX-First: 1\r\nX-L").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let error = block_on(connect(net::options(address))).map(drop).unwrap_err();
    assert_eq!(status(&error), Some(503), "{error:?}");
    server.join().unwrap();
}

/// RFC 9112 §5.2: "A user agent that receives an obs-fold in a response message that is not within a "message/http"
/// container MUST replace each received obs-fold with one or more SP octets prior to interpreting the field value."
#[test]
fn folded_header_lines_of_a_response_are_one_value() {
    let switching = |upgrade: &str, lines: &str| {
        let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
        let server = async {
            let request = read_head(&mut from_client).await;
            let answer = net::switching(&request).replace("Upgrade: websocket\r\n", upgrade);
            write(&mut to_client, answer.replace("\r\n\r\n", &format!("\r\n{lines}\r\n"))).await;
            drop(to_client);
        };
        let client = connect_io(read, to_server, Options::default().subprotocol("chat"));
        block_on(async { join!(client, server).0 }).map(|(response, ..)| response)
    };
    for (lines, value) in [
        ("X: a\r\n b\r\n", "a b"),
        ("X: a\r\n\tb\r\n", "a b"),
        ("X: a \t\r\n  \t b \r\n c\r\nY: z\r\n", "a b c"),
        ("X:\r\n a\r\n", "a"),
        ("X: a\r\n b: c\r\n", "a b: c"),
        ("X: a\r\n \r\n", "a"),
    ] {
        let response = switching("Upgrade: websocket\r\n", lines).unwrap();
        assert_eq!(response.header("x"), Some(value), "{lines:?}");
        assert_eq!(response.header("y").is_some(), lines.contains('Y'));
    }
    assert!(switching("Upgrade:\r\n websocket\r\n", "Sec-WebSocket-Protocol:\r\n\tchat\r\n").is_ok());
    assert!(switching("Upgrade: web\r\n socket\r\n", "").is_err());
    // No value precedes the first header that could be continued.
    let error =
        answered(Options::default(), b"HTTP/1.1 101 x\r\n Upgrade: websocket\r\n\r\n").map(drop).unwrap_err();
    assert!(matches!(error, Error::Handshake { error: HandshakeError::Malformed, .. }), "{error:?}");
    let error = refused(b"HTTP/1.1 403 x\r\nX: a\r\n b\r\nContent-Length:\r\n 3\r\n\r\nwhy, and more");
    assert_eq!((status(&error), error.response().unwrap().header("x")), (Some(403), Some("a b")));
    assert_eq!(error.response().unwrap().body(), b"why");
}
