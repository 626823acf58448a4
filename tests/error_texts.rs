//! The texts of all errors, as people read them. They are in `error_texts.txt`, each below the input that causes it;
//! after a change of a text, `UPDATE_TEXTS=1 cargo test --all-features --test error_texts` writes that file.
#![cfg(all(feature = "tls", feature = "deflate", target_os = "linux"))]
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

use std::{collections::BTreeSet, io::Write as _, sync::Arc, time::Duration};

use coro_websocket::{
    Accept, AcceptOptions, Checks, CloseCode, Deflate, Error, FrameReader, Heartbeat, Message, Opcode,
    Options, OptionsError, Origins, Phase, Server, ServerOptions, StreamExt, Tls, TlsError, TlsVersion,
    WrapOptions, accept_io, connect, connect_io, parse_url, wrap_frames, wrap_io,
};
use futures::{
    executor::block_on,
    io::{Cursor, empty, sink},
};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use tls::{Authority, Identity, server_config, server_params, trusting};

/// Each text below the input that causes it.
#[derive(Default)]
struct Texts {
    file: String,
    /// Names of variants, such as `UrlError::Port`.
    seen: BTreeSet<String>,
}

impl Texts {
    fn part(&mut self, title: &str) {
        self.file.push_str(&format!("== {title}\n\n"));
    }

    fn add(&mut self, input: &str, error: &Error) {
        let names = names(error);
        let text = error.to_string();
        assert!(!text.contains("secret"), "{text}");
        assert!(!text.chars().any(char::is_control) && text.len() < 700 && !text.ends_with('.'), "{text}");
        if let Some(source) = std::error::Error::source(error) {
            assert!(!text.contains(&source.to_string()), "{text} repeats {source}");
        }
        // The accept key differs from run to run.
        let is_accept = |part: &str| part.len() == 28 && part.ends_with('=');
        let parts = text.split('"').map(|part| if is_accept(part) { "ACCEPT" } else { part });
        let text = parts.collect::<Vec<_>>().join("\"");
        self.file.push_str(&format!("{}: {input}\n    {text}\n\n", names.join(" ")));
        self.seen.extend(names);
    }

    /// Like [`add`](Self::add), for a text with an address or a value that differs from run to run.
    fn add_without(&mut self, input: &str, error: &Error, value: &str, name: &str) {
        self.add(input, error);
        let at = self.file.rfind("\n    ").unwrap();
        let text = self.file.split_off(at).replace(value, name);
        self.file.push_str(&text);
    }
}

/// The variants of an error, from the outside in.
fn names(error: &Error) -> Vec<String> {
    let name = |kind: &str, error: &dyn std::fmt::Debug| {
        let debug = format!("{error:?}");
        let end = debug.find(|c: char| !c.is_alphanumeric()).unwrap_or(debug.len());
        format!("{kind}::{}", &debug[..end])
    };
    let inner = match error {
        Error::Url { error, .. } => Some(name("UrlError", error)),
        Error::Options { error, .. } => Some(name("OptionsError", error)),
        Error::Handshake { error, .. } => Some(name("HandshakeError", error)),
        Error::Invalid { error, .. }
        | Error::Protocol { error, .. }
        | Error::Limit { error, .. }
        | Error::Reported { error, .. } => Some(name("ProtocolError", error)),
        Error::Tls(error) => Some(name("TlsError", error)),
        Error::TimedOut(phase) => Some(name("Phase", phase)),
        _ => None,
    };
    std::iter::once(name("Error", error)).chain(inner).collect()
}

/// The variants of the public enums in the source.
fn variants() -> BTreeSet<String> {
    let mut variants = BTreeSet::new();
    let mut name = None;
    for line in include_str!("../src/error.rs").lines() {
        if let Some(rest) = line.strip_prefix("pub enum ") {
            name = rest.split(' ').next();
        } else if line == "}" {
            name = None;
        } else if let (Some(name), Some(rest)) = (name, line.strip_prefix("    "))
            && rest.starts_with(|c: char| c.is_ascii_uppercase())
        {
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            variants.insert(format!("{name}::{}", &rest[..end]));
        }
    }
    variants
}

#[test]
fn every_error_has_its_text_in_the_file() {
    let mut texts = Texts::default();
    urls(&mut texts);
    places(&mut texts);
    options(&mut texts);
    answers(&mut texts);
    requests(&mut texts);
    received_frames(&mut texts);
    sent_frames(&mut texts);
    connections(&mut texts);
    certificates(&mut texts);
    for (input, error) in [
        ("a build without the feature", Error::from(OptionsError::NoTls)),
        ("an alert of the peer", TlsError::Alert("CertificateRequired".into()).into()),
        ("an end without close_notify", TlsError::Truncated.into()),
        (
            "a reset in the TLS handshake",
            TlsError::Io(Arc::new(std::io::ErrorKind::ConnectionReset.into())).into(),
        ),
    ] {
        texts.add(input, &error);
    }
    let phases = [
        Phase::Dns,
        Phase::Connect,
        Phase::Files,
        Phase::Tls,
        Phase::Handshake,
        Phase::Heartbeat,
        Phase::Call,
    ];
    for phase in phases {
        texts.add("a deadline", &Error::TimedOut(phase));
    }
    let missing: Vec<_> = variants().difference(&texts.seen).cloned().collect();
    assert!(variants().len() > 60 && missing.is_empty(), "without a text: {missing:?}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/error_texts.txt");
    if std::env::var_os("UPDATE_TEXTS").is_some() {
        std::fs::write(path, &texts.file).unwrap();
    }
    let file = std::fs::read_to_string(path).unwrap();
    for (found, expected) in texts.file.split("\n\n").zip(file.split("\n\n")) {
        assert_eq!(found, expected);
    }
    assert_eq!(texts.file.len(), file.len());
}

fn urls(texts: &mut Texts) {
    texts.part("URLs");
    for url in [
        "http://h/chat",
        "https://joe:secret@h:8443/chat?token=secret",
        "ftp://h/",
        "h:80/chat",
        "example.com/chat",
        "",
        "ws:/h/",
        "ws:h",
        "ws://",
        "ws:///chat",
        "ws://:80/",
        "ws://h:99999/",
        "ws://h:0/",
        "ws://h:port/",
        "ws://::1/",
        "ws://::1:80/",
        "ws://[::1]80/",
        "ws://[::g]/",
        "ws://[fe80::1%25eth0]/",
        "ws://1.2.3.400/",
        "ws://a^b/",
        "ws://h/a b",
        " ws://h/",
        "ws://h/\r\nHost: x",
        "ws://h\\chat",
        "ws://h/#part",
        "ws://joe:sec#ret@h/",
        "ws://joe:secret/x@h/",
        "ws://joe@example.com:secret@h/",
        "ws://joe:secret%@h/",
        "ws://joe:secret%ff@h/",
        "ws://j%3Ae:secret@h/",
        "ws://joe:secret%0A@h/",
        "ws://@h/",
        "::1",
        "wss//h/",
        "ws+unix:///run/chat.socket",
        "unix:/run/chat.socket",
    ] {
        texts.add(&format!("{url:?}"), &parse_url(url).unwrap_err());
    }
}

fn places(texts: &mut Texts) {
    texts.part("addresses to listen on");
    for place in [
        "*:9121",
        ":9122",
        "9122",
        "*",
        "",
        "ws://*:9121",
        "[fe80::1%eth0]:80",
        "/run/chat.socket",
        "example.com",
        "[::1]",
        "localhost:",
        "localhost:x",
        "localhost:99999",
        "::1:80",
        "http://localhost:80",
        "ws://localhost:80/?a=b",
        "ws://joe@localhost:80",
        "localhost:80/chat",
        "wss://127.0.0.1:0",
    ] {
        let bound = block_on(Server::bind(place, ServerOptions::default()));
        texts.add(&format!("{place:?}"), &bound.map(drop).unwrap_err());
    }
    for place in [("*", 9121), ("", 9122), ("fe80::1%eth0", 80), ("localhost:80", 80), ("ws://localhost", 80)]
    {
        let bound = block_on(Server::bind(place, ServerOptions::default()));
        texts.add(&format!("{place:?}"), &bound.map(drop).unwrap_err());
    }
    let nowhere: [&str; 0] = [];
    let bound = block_on(Server::bind(nowhere, ServerOptions::default()));
    texts.add("none", &bound.map(drop).unwrap_err());
}

fn options(texts: &mut Texts) {
    texts.part("options");
    let host = || Options::default().host("h");
    for (input, options) in [
        ("neither host nor path", Options::default()),
        ("host \"a b\"", Options::default().host("a b")),
        ("host \"\"", Options::default().host("")),
        ("host \"h:80\"", Options::default().host("h:80")),
        ("host \"ws://h/\"", Options::default().host("ws://joe:secret@h/")),
        ("header \"Authorization: Bearer secret\"", host().header("Authorization: Bearer secret", "x")),
        ("host \"fe80::1%eth0\"", Options::default().host("fe80::1%eth0")),
        ("port 0", host().port(0)),
        ("pathname \"/a b\"", host().pathname("/a b")),
        ("pathname \"/?secret#\"", host().pathname("/?secret#")),
        ("header \"X-City: Montréal\"", host().header("X-City", "Montréal")),
        ("header \"X Y: 1\"", host().header("X Y", "1")),
        ("header \": 1\"", host().header("", "1")),
        ("header \"Cookie: …\\r\\n\"", host().header("Cookie", "secret\r\n")),
        ("header \"Sec-WebSocket-Protocol: a\"", host().header("Sec-WebSocket-Protocol", "a")),
        ("header \"Sec-WebSocket-Extensions: a\"", host().header("Sec-WebSocket-Extensions", "a")),
        ("header \"Connection: close\"", host().header("Connection", "close")),
        ("header \"Host: a/b\"", host().header("Host", "a/b")),
        ("header \"Host\" twice", host().header("Host", "a").header("Host", "b")),
        ("subprotocol \"chat v2\"", host().subprotocol("chat v2")),
        ("subprotocol \"a,b\"", host().subprotocol("a,b")),
        ("subprotocol \"\"", host().subprotocol("")),
        ("subprotocol \"a\" twice", host().subprotocols(["a", "a"])),
        ("user name with a colon", host().basic_auth("a:b", "secret")),
        ("password with a line break", host().basic_auth("a", "secret\n")),
        ("heartbeat every 0 s", host().heartbeat(Heartbeat::ping(Duration::ZERO))),
        ("deflate with level 10", host().deflate(Deflate::default().level(10))),
        ("deflate with window bits 8", host().deflate(Deflate::default().server_max_window_bits(8))),
        ("authorities in a file that is not there", host().tls(Tls::default().ca_file("does/not/exist.pem"))),
        ("authorities in a text without any", host().tls(Tls::default().ca_pem("x"))),
        ("no authority", host().tls(Tls::default().web_roots(false))),
        ("server name \"bücher.de\"", host().tls(Tls::default().server_name("bücher.de"))),
        ("server name \"a b\"", host().tls(Tls::default().server_name("a b"))),
    ] {
        texts.add(input, &block_on(connect(options)).map(drop).unwrap_err());
    }
    let encrypted = Options::from_url("wss://h/").unwrap();
    texts.add(
        "connect_io with wss://",
        &block_on(connect_io(empty(), sink(), encrypted)).map(drop).unwrap_err(),
    );
    for text in ["x", "level", "level=a", "level=99999", "level=1;level=2", "server_no_context_takeover=1"] {
        texts.add(&format!("deflate {text:?}"), &text.parse::<Deflate>().unwrap_err());
    }
    let origins = AcceptOptions::default().origins(Origins::list(["example.com"]));
    texts
        .add("origin \"example.com\"", &block_on(accept_io(empty(), sink(), origins)).map(drop).unwrap_err());
    let status = block_on(async {
        accept_io(Cursor::new(&b"GET / HTTP/1.1\r\n\r\n"[..]), sink(), AcceptOptions::default())
            .await?
            .reject(99, "")
            .await
    });
    texts.add("status 99", &status.unwrap_err());
}

/// The error of a client that gets this answer; `ACCEPT` in it stands for what answers the key.
fn answered(answer: &[u8], change: impl FnOnce(Options) -> Options) -> Error {
    let answer = answer.to_vec();
    let (address, server) = net::serve(move |mut stream| {
        let request = net::read_head(&mut stream);
        let switching = net::switching(&request);
        let accept = switching.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Accept: ")).unwrap();
        let answer = match str::from_utf8(&answer) {
            Ok(answer) => answer.replace("ACCEPT", accept).into_bytes(),
            Err(_) => answer,
        };
        stream.write_all(&answer).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        net::read_to_end(&mut stream);
    });
    let error = block_on(connect(change(net::options(address)))).map(drop).unwrap_err();
    server.join().unwrap();
    error
}

fn answers(texts: &mut Texts) {
    texts.part("answers of servers");
    const VALID: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: ACCEPT\r\n";
    let valid_but = |from: &str, to: &str| format!("{}\r\n", VALID.replace(from, to)).into_bytes();
    let valid_and = |line: &str| format!("{VALID}{line}\r\n\r\n").into_bytes();
    let refusal = |rest: &str| format!("HTTP/1.1 {rest}").into_bytes();
    let many: String = (0..70).map(|number| format!("X-{number}: x\r\n")).collect();
    for (input, answer) in [
        ("nothing", Vec::new()),
        ("half a head", b"HTTP/1.1 101 Switching".to_vec()),
        ("an alert of TLS", b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("SMTP", b"220 mail.example ESMTP\r\n".to_vec()),
        ("Redis", b"-ERR unknown command\r\n".to_vec()),
        ("HTML", b"<html>use https</html>\r\n".to_vec()),
        ("HTTP/2", b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80".to_vec()),
        ("anything", b"\x1b[2J\xff\xfe hello\r\n".to_vec()),
        ("a malformed header", valid_and("no header")),
        ("a head that is too large", valid_and(&format!("X: {}", "x".repeat(20_000)))),
        ("too many headers", valid_and(&many)),
        ("HTTP/1.0", valid_but("HTTP/1.1", "HTTP/1.0")),
        ("no Upgrade", valid_but("Upgrade: websocket\r\n", "")),
        ("another Upgrade", valid_but("Upgrade: websocket", "Upgrade: h2c")),
        ("Upgrade twice", valid_and("Upgrade: websocket")),
        ("no Connection", valid_but("Connection: Upgrade\r\n", "")),
        ("another Connection", valid_but("Connection: Upgrade", "Connection: keep-alive")),
        ("Sec-WebSocket-Accept twice", valid_and("Sec-WebSocket-Accept: x")),
        ("another subprotocol", valid_and("Sec-WebSocket-Protocol: other")),
        ("an empty subprotocol", valid_and("Sec-WebSocket-Protocol: ")),
        ("two subprotocols", valid_and("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b")),
        ("an extension", valid_and("Sec-WebSocket-Extensions: permessage-deflate")),
        ("a malformed extension", valid_and("Sec-WebSocket-Extensions: a; b=\"")),
        ("nine interim responses", b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9)),
        ("404", refusal("404 Not Found\r\nContent-Length: 0\r\n\r\n")),
        (
            "a redirect",
            refusal(
                "302 Found\r\nLocation: https://joe:secret@other/a?token=secret\r\nSet-Cookie: id=secret\r\n\
                 Content-Length: 0\r\n\r\n",
            ),
        ),
        ("a page", refusal("400 Bad Request\r\n\r\n<html>\r\n  <h1>No\tupgrade</h1>\r\n")),
        ("a long page", refusal(&format!("503 \r\n\r\n{}", "busy \"now\" ".repeat(100)))),
        ("a body that is no text", refusal("500 Oops\r\n\r\n\0\x01\x02")),
        ("a reason that controls the terminal", refusal("403 \x1b[2J\r\nContent-Length: 0\r\n\r\n")),
    ] {
        texts.add(input, &answered(&answer, |options| options.subprotocols(["a", "b"])));
    }
    let error = answered(&valid_and("Sec-WebSocket-Protocol: a"), |options| options);
    texts.add("a subprotocol without an offer", &error);
    let error = answered(&valid_but("ACCEPT", "x"), |options| options);
    texts.add("another Sec-WebSocket-Accept", &error);
}

fn requests(texts: &mut Texts) {
    texts.part("requests of clients");
    const LINES: [&str; 6] = [
        "GET /chat?token=secret HTTP/1.1",
        "Host: example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let lines = |lines: &[&str]| format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    let with = |index: usize, line: &str| {
        let mut changed = LINES.to_vec();
        changed[index] = line;
        lines(&changed)
    };
    let and = |line: &str| lines(&[&LINES[..], &[line]].concat());
    let many = (0..70).map(|number| format!("X-{number}: x")).collect::<Vec<_>>().join("\r\n");
    for (input, request) in [
        ("nothing", Vec::new()),
        ("half a head", b"GET / HTTP/1.1\r\nHost: h".to_vec()),
        ("a hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("the PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec()),
        ("SOCKS", b"\x05\x01\x00\n".to_vec()),
        ("a malformed header", and("no header")),
        ("a head that is too large", and(&format!("X: {}", "x".repeat(20_000)))),
        ("too many headers", and(&many)),
        ("POST", with(0, "POST / HTTP/1.1")),
        ("HTTP/1.0", with(0, "GET / HTTP/1.0")),
        ("a space in the target", with(0, "GET /a b HTTP/1.1")),
        ("another target", with(0, "GET *?token=secret HTTP/1.1")),
        ("another Host", with(1, "Host: a/b")),
        ("Host twice", and("Host: other")),
        ("another Upgrade", with(2, "Upgrade: h2c")),
        ("another Connection", with(3, "Connection: keep-alive")),
        ("no version", with(4, "X: y")),
        ("another version", with(4, "Sec-WebSocket-Version: 8")),
        ("another key", with(5, "Sec-WebSocket-Key: dGhl")),
        ("a body", and("Content-Length: 5")),
        ("a chunked body", and("Transfer-Encoding: chunked")),
        ("a malformed subprotocol", and("Sec-WebSocket-Protocol: a b")),
        ("a malformed extension", and("Sec-WebSocket-Extensions: permessage-deflate; =")),
        ("another origin", and("Origin: https://evil.example")),
        ("another subprotocol", and("Sec-WebSocket-Protocol: chat.v3")),
    ] {
        let options = AcceptOptions::default().subprotocols(["chat.v2", "chat.v1"]).require_subprotocol(true);
        let result = block_on(async {
            let upgrade = accept_io(Cursor::new(request), sink(), options).await?;
            upgrade.accept(Accept::default()).await.map(drop).map_err(Error::from)
        });
        texts.add(input, &result.unwrap_err());
    }
    let chosen = block_on(async {
        let upgrade = accept_io(Cursor::new(lines(&LINES)), sink(), AcceptOptions::default()).await?;
        upgrade.accept(Accept::default().subprotocol("x")).await.map(drop).map_err(Error::from)
    });
    texts.add("a choice that was not offered", &chosen.unwrap_err());
}

fn received_frames(texts: &mut Texts) {
    texts.part("frames that come");
    let client = WrapOptions::client;
    let small = || client().max_frame_len(100).max_message_len(200);
    let close = |code: u16, reason: &[u8]| {
        let len = u8::try_from(reason.len() + 2).unwrap();
        [&[0x88, len][..], &code.to_be_bytes(), reason].concat()
    };
    let large = [&[0x82, 127][..], &36_008_153_u64.to_be_bytes(), b"x"].concat();
    for (input, options, bytes) in [
        ("RSV2 and RSV3", client(), vec![0xb1, 0]),
        ("a compressed message", client(), vec![0xc1, 0]),
        ("opcode 3", client(), vec![0x83, 0]),
        ("opcode 11", client(), vec![0x8b, 0]),
        ("a masked frame", client(), vec![0x81, 0x80, 0, 0, 0, 0]),
        ("an unmasked frame", WrapOptions::server(), vec![0x81, 0]),
        ("a length that is too long", client(), vec![0x81, 126, 0, 5]),
        ("a length with its highest bit", client(), [&[0x82, 127][..], &[0xff; 8]].concat()),
        ("a long Ping", client(), vec![0x89, 126, 0, 200]),
        ("a fragmented Ping", client(), vec![0x09, 0]),
        ("a lone continuation", client(), vec![0x80, 0]),
        ("a message in a message", client(), vec![0x01, 0, 0x82, 0]),
        ("text that is no text", client(), vec![0x81, 1, 0xff]),
        ("a Close of one byte", client(), vec![0x88, 1, 3]),
        ("Close 1006", client(), close(1006, b"overloaded now")),
        ("Close 1004", client(), close(1004, b"")),
        ("Close 99", client(), close(99, b"\x1b[2J")),
        ("a Close whose reason is no text", client(), close(1000, b"\xff")),
        ("a frame of 36 MB", client(), large),
        ("a frame of 101 bytes", small(), vec![0x82, 101]),
        ("a message of 150 bytes", client().max_message_len(149), vec![0x82, 126, 0, 150]),
        ("a message of four fragments", small(), [&[0x02, 0][..], &[0, 0].repeat(3)].concat()),
        ("what cannot be inflated", client().deflate(Deflate::default()), vec![0xc1, 1, 0xff]),
        ("a frame that is cut", client(), vec![0x81, 5, b'x']),
        ("a reserved opcode, reported", client().checks(Checks::Report), vec![0x83, 0]),
    ] {
        let mut reader = FrameReader::new(&*bytes, options);
        let error = block_on(async {
            loop {
                if let Err(error) = reader.next().await.unwrap() {
                    return error;
                }
            }
        });
        texts.add(input, &error);
    }
}

fn sent_frames(texts: &mut Texts) {
    texts.part("frames that are sent");
    let (_read, mut write) = wrap_io(empty(), sink(), WrapOptions::client());
    for (input, message) in [
        ("a reason of 124 bytes", Message::close(1000, &"x".repeat(124))),
        ("Close 1006", Message::close(1006, "")),
        ("Close 1005 with a reason", Message::close(CloseCode::NO_STATUS, "x")),
        ("a Ping of 126 bytes", Message::ping(vec![0; 126])),
        ("RSV1", Message { rsv1: true, ..Message::text("x") }),
        ("opcode 3", Message { opcode: Opcode::new(3), ..Message::default() }),
        ("a lone continuation", Message::continuation("x", true)),
        ("text that is no text", Message { opcode: Opcode::TEXT, ..Message::binary(vec![0xff]) }),
    ] {
        texts.add(input, &block_on(write.send(message)).map(drop).unwrap_err());
    }
    block_on(write.close_with(1000, "")).unwrap();
    texts.add("text behind a Close", &block_on(write.text("x")).map(drop).unwrap_err());
}

fn connections(texts: &mut Texts) {
    texts.part("connections");
    let (mut read, mut write) = wrap_io(&b"\x88\x09\x03\xf4restart"[..], sink(), WrapOptions::client());
    while block_on(read.next()).is_some() {}
    texts.add("text behind the peer's Close", &block_on(write.text("x")).map(drop).unwrap_err());
    let (mut read, write) = wrap_io(empty(), sink(), WrapOptions::client());
    let mut clone = write.clone();
    block_on(clone.send(Message { fin: false, ..Message::text("x") })).unwrap();
    drop(clone);
    texts.add("a writer dropped in a message", &block_on(read.next()).unwrap().unwrap_err());
    let (read, mut write) = wrap_io(empty(), sink(), WrapOptions::client());
    drop(read);
    let pong = block_on(write.ping());
    texts.add("a Ping without a reader", &pong.map(drop).unwrap_err());
    let (mut read, _write) = wrap_io(empty(), sink(), WrapOptions::client());
    texts.add("an end without a Close", &block_on(read.next()).unwrap().unwrap_err());
    let reset = futures::stream::iter([Err::<&[u8], _>(std::io::Error::from_raw_os_error(104))]);
    let (mut read, _write) =
        wrap_io(futures::TryStreamExt::into_async_read(reset), sink(), WrapOptions::client());
    texts.add("a reset", &block_on(read.next()).unwrap().unwrap_err());
    let frames = futures::stream::iter([Err::<Message, _>("the channel is closed")]);
    let (mut read, _write) = wrap_frames(frames, futures::sink::drain::<Message>(), WrapOptions::client());
    texts.add("a channel that fails", &block_on(read.next()).unwrap().unwrap_err());

    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = block_on(connect(net::options(refusing))).map(drop).unwrap_err();
    texts.add_without("a port that refuses", &error, &refusing.to_string(), "ADDRESS");
    let error = block_on(connect(Options::default().path("/does/not/exist"))).map(drop).unwrap_err();
    texts.add("a socket file that is not there", &error);
    let error = block_on(connect(Options::default().host("nosuch.invalid"))).map(drop).unwrap_err();
    let text = error.to_string();
    let (_, reason) = text.split_once("has no address: ").unwrap();
    texts.add_without("a host that does not exist", &error, reason, "REASON");
    let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = bound.local_addr().unwrap();
    let error = block_on(Server::bind(address, ServerOptions::default())).map(drop).unwrap_err();
    texts.add_without("a port that is taken", &error, &address.to_string(), "ADDRESS");
}

/// The error of a client that this server greets in the TLS handshake.
fn tls_answered(bytes: &'static [u8]) -> Error {
    let (address, server) = net::serve(move |mut stream| {
        let mut hello = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut hello).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        net::read_to_end(&mut stream);
    });
    let error = block_on(connect(net::options(address).tls(true))).map(drop).unwrap_err();
    server.join().unwrap();
    error
}

fn certificates(texts: &mut Texts) {
    texts.part("TLS");
    texts.add("a plain HTTP server", &tls_answered(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    texts.add("an SSH server", &tls_answered(b"SSH-2.0-OpenSSH_9.6\r\n"));
    texts.add("a server that hangs up", &tls_answered(b""));
    let authority = Authority::new("known");
    let with = |names: &[&str], change: fn(&mut rcgen::CertificateParams)| {
        let mut params = server_params(names);
        change(&mut params);
        params
    };
    for (input, identity) in [
        ("another name", authority.sign(with(&["example.com", "127.0.0.2"], |_| ()))),
        ("no name", authority.sign(with(&[], |_| ()))),
        ("an unknown authority", Authority::new("unknown").sign(with(&["localhost"], |_| ()))),
        ("a self-signed certificate", Identity::self_signed(with(&["localhost"], |_| ()))),
        (
            "an authority's certificate",
            authority.sign(with(&["localhost"], |params| {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            })),
        ),
        (
            "an expired certificate",
            authority.sign(with(&["localhost"], |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            })),
        ),
        (
            "a client's certificate",
            authority.sign(with(&["localhost"], |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })),
        ),
    ] {
        let config = server_config(&identity, TlsVersion::Tls13, None, &[]);
        let (address, server) = net::serve(move |mut stream| {
            let mut tls = rustls::ServerConnection::new(config).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        });
        let tls = trusting(&authority).server_name("localhost");
        texts.add(input, &block_on(connect(net::options(address).tls(tls))).map(drop).unwrap_err());
        server.join().unwrap();
    }
}
