//! The client's side of the opening handshake (RFC 6455 §4.1), and both sides together.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use coro_websocket::{
    Accept, AcceptOptions, Error, HandshakeError, Options, OptionsError, Phase, Response, StreamExt,
    accept_io, connect_io,
};
use futures::{
    executor::block_on,
    io::{AsyncRead, AsyncWrite},
    join,
};
use sha1::{Digest, Sha1};

use common::{PipeReader as Reader, PipeWriter as Writer, read_head, read_to_end, write, yield_now};

/// A pipe that is never full.
fn pipe() -> (Reader, Writer) {
    let (writer, reader) = common::pipe(usize::MAX);
    (reader, writer)
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The answer to the key of this request, computed without the crate.
fn accept_of(request: &str) -> String {
    let key = header(request, "Sec-WebSocket-Key").unwrap();
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

/// A right response with these lines added.
fn switching(request: &str, lines: &str) -> String {
    let accept = accept_of(request);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    )
}

/// How long a right response is, whatever the key.
fn response_len() -> usize {
    switching("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "").len()
}

/// What the client makes of a server that answers the request so and closes, and the request.
fn connect_with(options: Options, answer: impl Fn(&str) -> String) -> (Result<Response, Error>, String) {
    let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
    let client = async move { connect_io(read, to_server, options).await.map(|(response, ..)| response) };
    let server = async move {
        let request = read_head(&mut from_client).await;
        write(&mut to_client, answer(&request)).await;
        drop(to_client);
        // A client that has failed sends nothing more.
        assert_eq!(read_to_end(&mut from_client).await, "");
        request
    };
    block_on(async { join!(client, server) })
}

fn refused(result: Result<Response, Error>) -> (HandshakeError, Option<Response>) {
    match result {
        Err(Error::Handshake { error, response, .. }) => {
            (error, response.map(|response| (*response).clone()))
        }
        other => panic!("{other:?}"),
    }
}

/// §4.1: "The method of the request MUST be GET", "The request MUST contain a |Host| header field", "an
/// |Upgrade| header field whose value MUST include the "websocket" keyword", "a |Connection| header field
/// whose value MUST include the "Upgrade" token", "a header field with the name |Sec-WebSocket-Key|",
/// "|Sec-WebSocket-Version|. The value of this header field MUST be 13."
#[test]
fn request_has_all_that_it_must_have() {
    let options = Options::from_url("ws://example.com:8080/chat?x=1").unwrap();
    let (result, request) = connect_with(options, |request| switching(request, ""));
    assert_eq!(result.unwrap().code(), 101);
    assert!(request.starts_with("GET /chat?x=1 HTTP/1.1\r\n"));
    assert_eq!(header(&request, "Host"), Some("example.com:8080"));
    assert_eq!(header(&request, "Upgrade"), Some("websocket"));
    assert_eq!(header(&request, "Connection"), Some("Upgrade"));
    assert_eq!(header(&request, "Sec-WebSocket-Version"), Some("13"));
}

/// §4.1: "a nonce consisting of a randomly selected 16-byte value that has been base64-encoded [...]. The
/// nonce MUST be selected randomly for each connection."
#[test]
fn key_is_16_bytes_and_another_one_each_time() {
    let keys: HashSet<String> = (0..20)
        .map(|_| {
            let (_, request) = connect_with(Options::default(), |request| switching(request, ""));
            let key = header(&request, "Sec-WebSocket-Key").unwrap().to_owned();
            assert_eq!(STANDARD.decode(&key).unwrap().len(), 16);
            key
        })
        .collect();
    assert_eq!(keys.len(), 20);
}

#[test]
fn both_sides_agree_on_an_opening_handshake() {
    let ((client_read, client_write), (server_read, server_write)) = common::duplex(usize::MAX);
    let options = Options::from_url("ws://user:secret@[::1]:8080/a?b=c")
        .unwrap()
        .subprotocols(["v3", "v2", "v1"])
        .header("Origin", "http://[::1]:8080")
        .header("Cookie", "id=7");
    let server_options = AcceptOptions::default().subprotocols(["v1", "v2"]);
    let (client, server) = block_on(async {
        join!(connect_io(client_read, client_write, options), async {
            let upgrade = accept_io(server_read, server_write, server_options).await?;
            upgrade.accept(Accept::default().header("Set-Cookie", "id=8")).await.map_err(Error::from)
        })
    });
    let (response, ..) = client.unwrap();
    let (request, ..) = server.unwrap();
    assert_eq!((request.pathname(), request.header("host")), ("/a?b=c", Some("[::1]:8080")));
    assert_eq!((request.cookie("id"), response.header("set-cookie")), (Some("7"), Some("id=8")));
    assert_eq!(request.header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["v3", "v2", "v1"]);
    assert_eq!(response.subprotocol(), Some("v1"));
    assert_eq!(
        (response.code(), response.reason(), response.version()),
        (101, "Switching Protocols", (1, 1))
    );
    assert!(!response.keep_alive());
}

#[test]
fn connection_carries_messages_after_the_handshake() {
    let ((client_read, client_write), (server_read, server_write)) = common::duplex(usize::MAX);
    let client = async {
        let (_, mut read, mut write) = connect_io(client_read, client_write, Options::default()).await?;
        write.text("hello").await?;
        Ok::<_, Error>(read.next().await.unwrap()?.as_text().map(str::to_owned))
    };
    let server = async {
        let upgrade = accept_io(server_read, server_write, AcceptOptions::default()).await?;
        let (_, mut read, mut write) = upgrade.accept(Accept::default()).await?;
        let message = read.next().await.unwrap()?;
        write.text(message.as_text().unwrap().to_uppercase()).await?;
        Ok::<_, Error>(())
    };
    let (client, server) = block_on(async { join!(client, server) });
    server.unwrap();
    assert_eq!(client.unwrap().as_deref(), Some("HELLO"));
}

/// The bytes after the blank line are the first frames.
#[test]
fn frame_in_the_packet_of_the_response_is_read() {
    let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
    let server = async {
        let mut packet = switching(&read_head(&mut from_client).await, "").into_bytes();
        packet.extend(b"\x81\x02hi");
        write(&mut to_client, packet).await;
    };
    block_on(async {
        let (client, ()) = join!(connect_io(read, to_server, Options::default()), server);
        let (_, mut read, _write) = client.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
    });
}

#[test]
fn wrong_responses_fail_the_connection() {
    for (lines, expected) in [
        ("Upgrade: websocket\r\n", HandshakeError::Upgrade),
        ("Sec-WebSocket-Accept: x\r\n", HandshakeError::Accept),
        ("Sec-WebSocket-Protocol: other\r\n", HandshakeError::Subprotocol),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", HandshakeError::Extension),
    ] {
        let options = Options::default().subprotocol("chat");
        let (error, response) = refused(connect_with(options, |request| switching(request, lines)).0);
        assert_eq!((error, response.unwrap().code()), (expected, 101));
    }
    let (result, _) =
        connect_with(Options::default(), |request| switching(request, "").replace("101", "200"));
    assert_eq!(refused(result).0, HandshakeError::Status(200));
    let (result, _) = connect_with(Options::default(), |_| "SSH-2.0-x\r\n\r\n".into());
    assert!(matches!(refused(result), (HandshakeError::Malformed, None)));
}

#[test]
fn refusal_comes_with_its_response_and_body() {
    for (headers, body, expected) in [
        ("Content-Length: 5\r\n", "hello, more", "hello"),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
        ("", "hello", "hello"),
        ("Content-Length: 50\r\n", "hel", "hel"),
    ] {
        let answer = format!("HTTP/1.1 404 Not Found\r\nX-A: 1\r\nX-A: 2\r\n{headers}\r\n{body}");
        let (result, _) = connect_with(Options::default(), |_| answer.clone());
        assert_eq!(result.as_ref().unwrap_err().code(), Some(-15));
        let (error, response) = refused(result);
        let response = response.unwrap();
        assert_eq!(
            (error, response.code(), response.reason()),
            (HandshakeError::Status(404), 404, "Not Found")
        );
        assert_eq!(response.headers().get_all("x-a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(response.body(), expected.as_bytes());
    }
    let endless = format!("HTTP/1.1 500 \r\n\r\n{}", "x".repeat(1 << 20));
    let (_, response) = refused(connect_with(Options::default(), |_| endless.clone()).0);
    assert_eq!(response.unwrap().body().len(), 16 << 10);
}

#[test]
fn body_that_does_not_end_does_not_hide_the_refusal() {
    let (read, mut to_client) = pipe();
    let (_from_client, to_server) = pipe();
    let options = Options::default().timeout(Duration::from_millis(20));
    block_on(async {
        write(&mut to_client, "HTTP/1.1 403 Forbidden\r\n\r\nno").await;
        match connect_io(read, to_server, options).await.map(|_| ()) {
            Err(Error::Handshake {
                error: HandshakeError::Status(403), response: Some(response), ..
            }) => {
                assert_eq!(response.body(), b"no");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn response_cut_at_every_index_gives_the_same_result() {
    let len = response_len();
    for index in 0..=len {
        let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
        let server = async {
            let response = switching(&read_head(&mut from_client).await, "");
            assert_eq!(response.len(), len);
            write(&mut to_client, &response[..index]).await;
            yield_now().await;
            write(&mut to_client, &response[index..]).await;
        };
        let (client, ()) =
            block_on(async { join!(connect_io(read.by(7), to_server, Options::default()), server) });
        assert_eq!(client.unwrap().0.code(), 101, "{index}");
    }
}

#[test]
fn response_with_any_byte_changed_opens_or_fails() {
    let len = response_len();
    for index in 0..len {
        for byte in *b"\0\t\n\r \"%,-.0129:;=AGaz\x7f" {
            let change = |request: &str| {
                let mut response = switching(request, "").into_bytes();
                response[index] = byte;
                String::from_utf8(response).unwrap()
            };
            match connect_with(Options::default(), change).0 {
                Ok(response) => assert_eq!(response.code(), 101),
                Err(error) => assert!(matches!(error, Error::Handshake { .. }), "{error:?}"),
            }
        }
    }
}

#[test]
fn response_that_ends_early_is_none() {
    for len in [0, 1, 20, 60] {
        let (result, _) =
            connect_with(Options::default(), |request| switching(request, "")[..len].to_owned());
        assert_eq!(result.as_ref().unwrap_err().code(), Some(-7));
        assert_eq!(refused(result), (HandshakeError::NoHead, None));
    }
}

/// CVE-2026-54465: a head without an end; CVE-2026-65624: headers of the same name.
#[test]
fn response_heads_are_bounded() {
    let answer =
        |lines: String| connect_with(Options::default(), move |request| switching(request, &lines)).0;
    assert_eq!(answer("X: y\r\n".repeat(61)).unwrap().headers().len(), 64);
    assert_eq!(refused(answer("X: y\r\n".repeat(62))).0, HandshakeError::TooManyHeaders);
    assert_eq!(refused(answer(format!("X: {}\r\n", "y".repeat(16 << 10)))).0, HandshakeError::HeadTooLarge);
    let options = Options::default().max_headers(3).max_head_len(200);
    assert!(connect_with(options.clone(), |request| switching(request, "")).0.is_ok());
    let (result, _) = connect_with(options.clone(), |request| switching(request, "X: y\r\n"));
    assert_eq!(refused(result).0, HandshakeError::TooManyHeaders);
    let (result, _) =
        connect_with(options.max_headers(20), |request| switching(request, &"X: y\r\n".repeat(15)));
    assert_eq!(refused(result).0, HandshakeError::HeadTooLarge);
}

/// RUSTSEC-2023-0065: a slow head must not outlive the deadline.
#[test]
fn deadline_fires_while_bytes_trickle_in() {
    let (read, mut to_client) = pipe();
    let (_from_client, to_server) = pipe();
    let options = Options::default().timeout(Duration::from_millis(30));
    let trickle = async {
        write(&mut to_client, "HTTP/1.1 ").await;
        loop {
            write(&mut to_client, "1").await;
            async_io::Timer::after(Duration::from_millis(2)).await;
        }
    };
    let result = block_on(async {
        futures::select! {
            result = Box::pin(futures::FutureExt::fuse(connect_io(read, to_server, options))) => result,
            () = Box::pin(futures::FutureExt::fuse(trickle)) => unreachable!(),
        }
    });
    let error = result.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::TimedOut(Phase::Handshake)), "{error:?}");
    assert_eq!(error.code(), Some(-6));
}

/// RUSTSEC-2017-0002, CVE-2026-1527: no string of the caller splits the request.
#[test]
fn strings_of_the_caller_cannot_split_the_request() {
    for bad in ["\r", "\n", "\0", " ", "\u{80}", "\r\nX: y"] {
        let text = format!("a{bad}b");
        let mut all = vec![
            (Options::default().host(&text), OptionsError::Host),
            (Options::default().pathname(&text), OptionsError::Pathname),
            (Options::default().pathname(format!("/?{text}")), OptionsError::Pathname),
            (Options::default().subprotocol(&text), OptionsError::Subprotocol),
            (Options::default().header(&text, "x"), OptionsError::Header),
            (Options::default().header("Host", &text), OptionsError::Host),
        ];
        // A space is part of many a value, and does not end it.
        if bad != " " {
            all.push((Options::default().header("X", &text), OptionsError::Header));
            all.push((Options::default().header("Origin", &text), OptionsError::Header));
            all.push((Options::default().header("Host", &text), OptionsError::Header));
            all.push((Options::default().basic_auth(&text, ""), OptionsError::Credentials));
            all.push((Options::default().basic_auth("", &text), OptionsError::Credentials));
        }
        for (options, expected) in all {
            let (read, _to_client) = pipe();
            let (mut from_client, to_server) = pipe();
            let result = block_on(connect_io(read, to_server, options.clone()));
            let error = result.map(|_| ()).unwrap_err();
            let is_expected = matches!(error, Error::Options { error, .. } if error == expected)
                || matches!(error, Error::Options { error: OptionsError::Header, .. })
                    && expected == OptionsError::Host;
            assert!(is_expected, "{bad:?} {error:?} {options:?}");
            assert_eq!(block_on(read_to_end(&mut from_client)), "", "something was written");
        }
    }
}

#[test]
fn options_are_checked_before_anything_is_sent() {
    for (options, expected) in [
        (Options::default().heartbeat(Duration::ZERO), OptionsError::Heartbeat),
        (Options::default().port(0), OptionsError::Port),
        (Options::default().host(""), OptionsError::Host),
        (Options::default().header("Upgrade", "x"), OptionsError::HeaderReserved),
        (Options::default().subprotocols(["a", "a"]), OptionsError::Subprotocol),
    ] {
        let (read, _to_client) = pipe();
        let (mut from_client, to_server) = pipe();
        let error = block_on(connect_io(read, to_server, options)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Options { error, .. } if error == expected), "{error:?}");
        assert_eq!(block_on(read_to_end(&mut from_client)), "");
    }
    let options = Options::default().heartbeat(Duration::ZERO).no_heartbeat();
    assert!(connect_with(options, |request| switching(request, "")).0.is_ok());
}

/// A transport that is interrupted before every call, and takes and gives one byte at a time.
struct Interrupted<T>(T, bool);

impl<T> Interrupted<T> {
    fn turn<O>(&mut self, call: impl FnOnce(&mut T) -> Poll<io::Result<O>>) -> Poll<io::Result<O>> {
        self.1 = !self.1;
        if self.1 { Poll::Ready(Err(io::ErrorKind::Interrupted.into())) } else { call(&mut self.0) }
    }
}

impl AsyncRead for Interrupted<Reader> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.turn(|reader| Pin::new(reader).poll_read(cx, &mut buf[..1]))
    }
}

impl AsyncWrite for Interrupted<Writer> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.turn(|writer| Pin::new(writer).poll_write(cx, &bytes[..1]))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn(|writer| Pin::new(writer).poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn(|writer| Pin::new(writer).poll_close(cx))
    }
}

#[test]
fn interrupted_calls_are_tried_again() {
    let ((client_read, client_write), (server_read, server_write)) = common::duplex(usize::MAX);
    let client =
        connect_io(Interrupted(client_read, false), Interrupted(client_write, false), Options::default());
    let server = async {
        let (read, write) = (Interrupted(server_read, false), Interrupted(server_write, false));
        accept_io(read, write, AcceptOptions::default())
            .await?
            .accept(Accept::default())
            .await
            .map_err(Error::from)
    };
    let (client, server) = block_on(async { join!(client, server) });
    assert!(client.is_ok() && server.is_ok());
}

/// A transport that takes nothing, or breaks.
struct Broken(Option<io::ErrorKind>);

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.map_or(Ok(0), |kind| Err(kind.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn transport_that_takes_nothing_is_an_error() {
    for (kind, expected) in [
        (None, io::ErrorKind::WriteZero),
        (Some(io::ErrorKind::PermissionDenied), io::ErrorKind::PermissionDenied),
        (Some(io::ErrorKind::BrokenPipe), io::ErrorKind::BrokenPipe),
    ] {
        let (read, _) = pipe();
        let error = block_on(connect_io(read, Broken(kind), Options::default())).map(|_| ()).unwrap_err();
        assert_eq!(error.io_kind(), Some(expected));
    }
}

#[test]
fn refusal_is_read_although_the_server_has_hung_up() {
    let (read, mut to_client) = pipe();
    block_on(async {
        write(&mut to_client, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
        let result = connect_io(read, Broken(Some(io::ErrorKind::ConnectionReset)), Options::default()).await;
        assert!(matches!(result, Err(Error::Handshake { error: HandshakeError::Status(503), .. })));
    });
}

#[test]
fn futures_of_the_handshake_are_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let ((read, write), (server_read, server_write)) = common::duplex(usize::MAX);
    drop(send(connect_io(read, write, Options::default())));
    drop(send(async {
        let upgrade = send(accept_io(server_read, server_write, AcceptOptions::default()).await?);
        match upgrade.accept(Accept::default()).await {
            Ok(_) => Ok(()),
            Err(refused) => send(refused).answer().await,
        }
    }));
}
