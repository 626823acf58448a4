//! `Debug` and error texts show no password, no `Authorization`, `Proxy-Authorization`, `Cookie` and `Set-Cookie`, and
//! only the start of a body.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
#[path = "common/net.rs"]
mod net;

use std::{
    fmt::Debug,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
    thread,
};

use coro_websocket::{
    Accept, AcceptOptions, Addresses, Error, Options, Reply, Server, ServerOptions, Tls, accept_io, connect,
    connect_io, parse_url,
};
use futures::executor::block_on;

use common::{read_head, write};

const SECRET: &str = "hunter2";
/// `user:hunter2`.
const BASE64: &str = "dXNlcjpodW50ZXIy";
const NAMES: [&str; 6] =
    ["Authorization", "AUTHORIZATION", "Proxy-Authorization", "cookie", "Set-Cookie", "set-cookie"];

fn lines() -> Vec<(String, String)> {
    let mut lines: Vec<_> = NAMES.iter().map(|&name| (name.to_owned(), format!("a={SECRET}"))).collect();
    lines.push(("Location".to_owned(), format!("https://user:{SECRET}@host/")));
    lines.push(("X-Shown".to_owned(), "shown".to_owned()));
    lines
}

fn assert_hidden(what: &str, value: &impl Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains(SECRET) && !text.contains(BASE64), "{what}: {text}");
    }
}

/// Like [`assert_hidden`], for everything that a report of the error prints.
fn assert_error_hidden(error: &Error) {
    assert_hidden("error", error);
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        assert!(!error.to_string().contains(SECRET), "{error}");
        assert_hidden("source", &error);
        source = error.source();
    }
}

#[test]
fn options_of_both_sides_hide_what_is_secret() {
    let options = Options::default().headers(lines()).basic_auth("user", SECRET);
    assert_hidden("options", &options);
    assert!(format!("{options:?}").contains(r#"("X-Shown", "shown")"#));
    assert_hidden("token as a user name", &Options::default().basic_auth(SECRET, ""));
    let url = format!("wss://user:{SECRET}@host/");
    assert_hidden("options of a URL", &Options::from_url(&url).unwrap());
    assert_hidden("URL", &parse_url(&url).unwrap());
    assert_hidden("URL with a token", &parse_url(&format!("ws://{SECRET}@host/")).unwrap());
    assert_hidden("addresses", &Addresses::from(url.as_str()));
    assert_hidden("addresses", &Addresses::from([format!("user:{SECRET}@host:80")]));
    assert_hidden("accept", &Accept::default().headers(lines()));
    assert_hidden("reply", &Reply::new(401).header("Set-Cookie", SECRET).header("set-cookie", SECRET));
    assert_hidden("tls", &Tls::default().client_cert_pem("chain", SECRET).ca_pem(SECRET));
    assert_hidden("tls of a server", &coro_websocket::ServerTls::pem("chain", SECRET));
}

#[test]
fn url_that_is_refused_is_not_quoted_with_its_password() {
    for url in [
        format!("http://user:{SECRET}@host/"),
        format!("ws://user:{SECRET}@host:0/"),
        format!("ws://user:{SECRET}@host/#f"),
        format!("ws:/user:{SECRET}@host/"),
        format!("user:{SECRET}@host"),
        format!("ws://user:{SECRET}/@host"),
        format!("ws://user:{SECRET}@ho st/"),
    ] {
        assert_error_hidden(&parse_url(&url).unwrap_err());
        assert_error_hidden(&Options::from_url(&url).map(drop).unwrap_err());
        assert_error_hidden(
            &block_on(Server::bind(url.as_str(), ServerOptions::default())).map(drop).unwrap_err(),
        );
    }
}

#[test]
fn request_upgrade_and_refusal_hide_what_is_secret() {
    for valid in [true, false] {
        let ((from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
        let options = Options::default().headers(lines());
        block_on(async {
            let method = if valid { "GET" } else { "POST" };
            let mut request = format!("{method} http://user:{SECRET}@h/ HTTP/1.1\r\nHost: h\r\n");
            for (name, value) in lines() {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
            write(&mut to_server, request + "\r\n").await;
            let upgrade = accept_io(read, to_client, AcceptOptions::default()).await.unwrap();
            assert_eq!(upgrade.request().header("cookie"), Some("a=hunter2"));
            assert_hidden("request", upgrade.request());
            assert_hidden("headers", upgrade.request().headers());
            assert_hidden("upgrade", &upgrade);
            let refused = upgrade.accept(Accept::default().headers(lines())).await.map(drop).unwrap_err();
            assert!(!refused.to_string().contains(SECRET));
            assert_hidden("refused", &refused);
            assert_error_hidden(&refused.into());
        });
        drop((from_server, options));
    }
}

#[test]
fn request_that_cannot_be_read_hides_what_is_secret() {
    for request in [
        "GET / HTTP/1.1\r\nCookie: hunter2",
        "GET http://user:hunter2@h/ HTTP/1.1\r\n",
        "GET http://user:hunter2@h/a b HTTP/1.1\r\n\r\n",
        "GET http://user:hunter2@h/ HTTP/1.1\nCookie: hunter2",
        "GET / HTTP/9\r\nCookie: hunter2\r\n\r\n",
        "hello\r\nAuthorization: hunter2\r\n\r\n",
    ] {
        let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
        block_on(async {
            write(&mut to_server, request).await;
            drop(to_server);
            let error = accept_io(read, to_client, AcceptOptions::default()).await.map(drop).unwrap_err();
            assert_error_hidden(&error);
            let answer = common::read_to_end(&mut from_server).await;
            assert!(!answer.contains(SECRET), "{answer}");
        });
    }
}

/// The error of a client whose server answers with this.
fn refused(answer: &str) -> Error {
    let ((read, to_server), (mut from_client, mut to_client)) = common::duplex(usize::MAX);
    let options = Options::default().basic_auth("user", SECRET);
    block_on(async {
        let server = async {
            read_head(&mut from_client).await;
            write(&mut to_client, answer).await;
            drop(to_client);
        };
        futures::join!(connect_io(read, to_server, options), server).0.map(drop).unwrap_err()
    })
}

#[test]
fn error_with_a_response_hides_what_is_secret_there() {
    let mut head = String::from("HTTP/1.1 401 Unauthorized\r\n");
    for (name, value) in lines() {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let error = refused(&format!("{head}\r\nsign in first"));
    assert_eq!(error.response().unwrap().header("set-cookie"), Some("a=hunter2"));
    assert_error_hidden(&error);
    assert_hidden("response", error.response().unwrap());
    assert!(format!("{error:?}").contains(r#"body: "sign in first""#), "{error:?}");
    // Malformed header lines are not quoted with their values.
    for line in [
        format!("Set-Cookie: {SECRET}\u{1}"),
        format!("Set-Cookie : {SECRET}"),
        format!("Set-Cookie: a\r\n\u{1}{SECRET}"),
        format!("Set-Cookie: {SECRET}\0"),
        format!("Set-Cookie: {SECRET}\nX: y"),
        format!("Set-Cookie {SECRET}"),
    ] {
        for status in ["101 Switching Protocols", "403 Forbidden"] {
            assert_error_hidden(&refused(&format!("HTTP/1.1 {status}\r\nX: y\r\n{line}\r\n\r\n")));
        }
    }
    for head in ["HTTP/1.1 101 x\r\nSet-Cookie: hunter2", "SSH-2.0-x\r\nCookie: hunter2\r\n\r\n"] {
        assert_error_hidden(&refused(head));
    }
    let switched = head.replace("401 Unauthorized", "101 Switching Protocols");
    assert_error_hidden(&refused(&format!("{switched}\r\n")));
}

/// Returns the text that `fn main() -> Result<(), Error>` prints.
#[test]
fn debug_of_a_refusal_has_at_most_ten_lines_and_200_bytes_of_its_body() {
    for body in ["<p>not here</p>\r\n".repeat(1200), "\u{1}\u{0}é".repeat(5000), "\n".repeat(20_000)] {
        let error = refused(&format!("HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n{body}"));
        assert!(error.response().unwrap().body().len() > 10_000);
        let shown = format!("Error: {error:?}");
        assert!(shown.lines().count() <= 10 && shown.len() < 2_000, "{} {shown}", shown.len());
        assert!(shown.contains("404") && shown.contains("Not Found"), "{shown}");
        let whole = format!("{error:#?}");
        assert!(whole.len() < 3_000, "{} {whole}", whole.len());
    }
    let reply = Reply::new(200).body(vec![b'x'; 20_000]);
    assert!(format!("{reply:?}").len() < 500, "{reply:?}");
}

#[test]
fn failures_that_a_server_reports_hide_what_is_secret() {
    let (tell, told) = mpsc::channel();
    let server = block_on(Server::bind(
        "127.0.0.1:0",
        ServerOptions::default().on_failure(move |_, error| tell.send(error.clone()).unwrap()),
    ))
    .unwrap();
    let address = server.local_addr().unwrap();
    let mut client = Some(thread::spawn(move || {
        for start in [
            "POST / HTTP/1.1\r\nHost: h",
            "GET / HTTP/1.1\r\nHost: a b",
            "GET / HTTP/1.1\r\nA B: c",
            "GET / HTTP/1.1\r\nHost: h\r\nCookie : hunter2",
            "GET / HTTP/1.1\r\nHost: h\r\nCookie: hunter2\u{1}",
            "GET / HTTP/1.1\r\nHost: h\r\nAuthorization hunter2",
            "GET / HTTP/1.1\r\nHost: h\r\nCookie: hunter2\0",
            "GET / HTTP/1.1\r\nHost: h\r\n Cookie: hunter2",
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(net::PATIENCE)).unwrap();
            let request = format!("{start}\r\nCookie: {SECRET}\r\nAuthorization: {SECRET}\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains(SECRET), "{answer}");
        }
    }));
    let errors = block_on(async {
        let mut errors = Vec::new();
        let mut accept = std::pin::pin!(server.accept());
        futures::future::poll_fn(|cx| {
            assert!(accept.as_mut().poll(cx).is_pending());
            errors.extend(told.try_iter());
            if let Some(client) = client.take_if(|client| client.is_finished()) {
                client.join().unwrap();
            }
            cx.waker().wake_by_ref();
            if errors.len() < 8 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
        errors
    });
    errors.iter().for_each(assert_error_hidden);
    assert_hidden("server", &server);
}

#[test]
fn connection_that_is_open_hides_what_is_secret() {
    let (address, server) = net::serve(|mut stream| {
        let request = net::read_head(&mut stream);
        let answer =
            net::switching(&request).replace("\r\n\r\n", &format!("\r\nSet-Cookie: {SECRET}\r\n\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
        stream
    });
    let options = net::options(address).headers([("Cookie", SECRET)]);
    let (response, read, write) = block_on(connect(options)).unwrap();
    assert_eq!(response.header("set-cookie"), Some(SECRET));
    assert_hidden("response", &response);
    assert_hidden("read", &read);
    assert_hidden("write", &write);
    drop(server.join().unwrap());
}
