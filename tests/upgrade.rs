//! The server's side of the opening handshake (RFC 6455 §4.2).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::Duration;

use coro_websocket::{
    Accept, AcceptOptions, Error, HandshakeError, OptionsError, Origins, Phase, Reply, Request, StreamExt,
    Upgrade, accept_io,
};
use futures::{executor::block_on, join};

use common::{PipeReader as Reader, PipeWriter as Writer, read_to_end, write, yield_now};

const VALID: [&str; 6] = [
    "GET /chat HTTP/1.1",
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn request(lines: &[&str]) -> String {
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

fn valid_and(lines: &[&str]) -> String {
    request(&[&VALID, lines].concat())
}

/// What the server does with a client that sends this and reads until the end, and what that client gets.
fn serve<T>(sent: impl AsRef<[u8]>, server: impl AsyncFnOnce(Reader, Writer) -> T) -> (T, String) {
    let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
    let client = async {
        write(&mut to_server, sent).await;
        let answer = read_to_end(&mut from_server).await;
        drop(to_server);
        answer
    };
    block_on(async { join!(server(read, to_client), client) })
}

/// What comes of a request that the server would accept.
fn accept(
    sent: impl AsRef<[u8]>,
    options: AcceptOptions,
    accept: Accept,
) -> (Result<Request, Error>, String) {
    serve(sent, async |read, to_client| {
        let upgrade = accept_io(read, to_client, options).await?;
        match upgrade.accept(accept).await {
            Ok((request, ..)) => Ok(request),
            Err(refused) => {
                let error = refused.error.clone();
                refused.answer().await?;
                Err(error)
            }
        }
    })
}

/// What a complete answer has: it says that it is the last, and how long it is.
fn check_answer(answer: &str, status: u16) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    assert!(header("Connection").unwrap().starts_with("close"), "{answer}");
    assert_eq!(header("Content-Length"), Some(body.len().to_string().as_str()), "{answer}");
    assert_eq!(
        header("Sec-WebSocket-Version").is_some(),
        status == 426 || body.contains("header \"Sec-WebSocket-Version\""),
        "{answer}"
    );
}

fn handshake_error(result: Result<Request, Error>) -> HandshakeError {
    match result {
        Err(Error::Handshake { error, response: None, .. }) => error,
        other => panic!("{other:?}"),
    }
}

/// §4.2.2: "A Status-Line with a 101 response code", "An |Upgrade| header field with value "websocket"", "A
/// |Connection| header field with value "Upgrade"", "A |Sec-WebSocket-Accept| header field."
#[test]
fn answer_is_that_of_the_rfc() {
    let (result, answer) = accept(request(&VALID), AcceptOptions::default(), Accept::default());
    assert_eq!(result.unwrap().pathname(), "/chat");
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

/// The bytes after the blank line are the first frames.
#[test]
fn frame_in_the_packet_of_the_request_is_read() {
    let ((_from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
    block_on(async {
        let packet = [request(&VALID).as_bytes(), b"\x81\x82\0\0\0\0hi"].concat();
        write(&mut to_server, packet).await;
        let upgrade = accept_io(read, to_client, AcceptOptions::default()).await.unwrap();
        let (_, mut read, _write) = upgrade.accept(Accept::default()).await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hi"));
    });
}

#[test]
fn settings_of_one_connection_take_the_place_of_the_servers() {
    for (accept, is_ok) in [
        (Accept::default(), true),
        (Accept::default().auto_pong(false), true),
        (Accept::default().max_frame_len(1), false),
    ] {
        let ((_from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
        block_on(async {
            write(&mut to_server, [request(&VALID).as_bytes(), b"\x81\x82\0\0\0\0hi"].concat()).await;
            drop(to_server);
            let options = AcceptOptions::default().max_frame_len(2).no_heartbeat();
            let upgrade = accept_io(read, to_client, options).await.unwrap();
            let (_, mut read, _write) = upgrade.accept(accept).await.unwrap();
            assert_eq!(read.next().await.unwrap().is_ok(), is_ok);
        });
    }
}

/// §4.2.1: "If the server [...] finds that the client did not send a handshake that matches the description
/// below [...], the server MUST stop processing the client's handshake and return an HTTP response with an
/// appropriate error code".
#[test]
fn each_broken_rule_has_its_status() {
    for (index, line, expected, status) in [
        (0, "POST / HTTP/1.1", HandshakeError::Method, 405),
        (0, "GET * HTTP/1.1", HandshakeError::Target, 400),
        (0, "GET ftp://example.com/ HTTP/1.1", HandshakeError::Target, 400),
        (0, "GET /a b HTTP/1.1", HandshakeError::TargetSpace, 400),
        (0, "GET / HTTP/1.0", HandshakeError::HttpVersion, 400),
        (1, "X: y", HandshakeError::Host, 400),
        (2, "X: y", HandshakeError::Upgrade, 426),
        (3, "X: y", HandshakeError::Connection, 426),
        (4, "X: y", HandshakeError::VersionMissing, 400),
        (4, "Sec-WebSocket-Version: 8", HandshakeError::Version, 426),
        (5, "X: y", HandshakeError::Key, 400),
        (3, "Connection: Upgrade\r\nContent-Length: 5", HandshakeError::Body, 400),
        (3, "Connection: Upgrade\r\nOrigin: http://evil", HandshakeError::Origin, 403),
        (3, "Connection: Upgrade\r\nSec-WebSocket-Protocol: ;", HandshakeError::Subprotocol, 400),
        (3, "Connection: Upgrade\r\nSec-WebSocket-Extensions: ;", HandshakeError::Extension, 400),
    ] {
        let mut lines = VALID;
        lines[index] = line;
        let (result, answer) = accept(request(&lines), AcceptOptions::default(), Accept::default());
        assert_eq!(handshake_error(result), expected);
        assert_eq!(expected.status(), Some(status));
        check_answer(&answer, status);
        assert_eq!(answer.contains("\r\nAllow: GET\r\n"), status == 405);
        assert_eq!(answer.contains("\r\nUpgrade: websocket\r\n"), status == 426);
    }
}

/// §4.4: "the server MUST respond with [...] |Sec-WebSocket-Version| header fields that include all versions
/// the server is willing to use".
#[test]
fn wrong_version_is_told_the_right_one() {
    for (line, status) in [("Sec-WebSocket-Version: 25", 426), ("X: y", 400)] {
        let mut lines = VALID;
        lines[4] = line;
        let (_, answer) = accept(request(&lines), AcceptOptions::default(), Accept::default());
        check_answer(&answer, status);
        assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }
}

#[test]
fn what_is_no_request_is_answered_and_closed() {
    let many = "X: y\r\n".repeat(65);
    let large = format!("X: {}\r\n", "y".repeat(16 << 10));
    for (sent, expected, status) in [
        ("GET / HTTP/1.1\nHost: h\n\n", HandshakeError::Malformed, 400),
        ("GET / HTTP/1.1\r\nHost: h\0\r\n\r\n", HandshakeError::Malformed, 400),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", HandshakeError::Malformed, 400),
        ("\x16\x03\x01\x02\0", HandshakeError::Malformed, 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HandshakeError::HttpVersion, 400),
        (&format!("GET / HTTP/1.1\r\n{many}\r\n"), HandshakeError::TooManyHeaders, 431),
        (&format!("GET / HTTP/1.1\r\n{large}\r\n"), HandshakeError::HeadTooLarge, 431),
        (&format!("GET /{}", "x".repeat(1 << 20)), HandshakeError::HeadTooLarge, 431),
    ] {
        let (result, answer) = accept(sent, AcceptOptions::default(), Accept::default());
        assert_eq!(handshake_error(result), expected);
        check_answer(&answer, status);
    }
}

/// CVE-2024-37890: many headers, of which the mandatory ones were not seen.
#[test]
fn headers_are_counted_up_to_the_limit() {
    for (count, expected) in [
        (0, None),
        (1, None),
        (59, None),
        (60, Some(HandshakeError::TooManyHeaders)),
        (10_000, Some(HandshakeError::TooManyHeaders)),
    ] {
        let sent = valid_and(&vec!["X: y"; count]);
        let options = AcceptOptions::default().max_head_len(1 << 20);
        let (result, _) = accept(sent, options, Accept::default());
        assert_eq!(result.err().map(|error| handshake_error(Err(error))), expected, "{count}");
    }
    for (max, is_ok) in [(5, true), (4, false), (0, false)] {
        let options = AcceptOptions::default().max_headers(max);
        assert_eq!(accept(request(&VALID), options, Accept::default()).0.is_ok(), is_ok);
    }
    for (max, is_ok) in [(request(&VALID).len(), true), (request(&VALID).len() - 1, false), (0, false)] {
        let options = AcceptOptions::default().max_head_len(max);
        assert_eq!(accept(request(&VALID), options, Accept::default()).0.is_ok(), is_ok);
    }
}

/// CVE-2021-32640 and CVE-2020-7662: 16 KiB of what made patterns backtrack.
#[test]
fn hostile_lists_are_refused_or_ignored() {
    for name in
        ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Connection", "Upgrade", "Origin", "Cookie"]
    {
        for text in [" ", "\\", "\"", ",", ";", "a,", "a;", "\"\\"] {
            let line = format!("{name}: {}", text.repeat(15_000 / text.len()));
            let (result, answer) = accept(valid_and(&[&line]), AcceptOptions::default(), Accept::default());
            match result {
                Ok(_) => assert!(answer.starts_with("HTTP/1.1 101 ")),
                Err(error) => check_answer(&answer, handshake_error(Err(error)).status().unwrap()),
            }
        }
    }
}

#[test]
fn request_cut_at_every_index_gives_the_same_result() {
    let sent = format!("{}\u{1}frames", valid_and(&["Sec-WebSocket-Protocol: chat"]));
    for index in 0..=sent.len() {
        let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
        let client = async {
            write(&mut to_server, &sent[..index]).await;
            yield_now().await;
            write(&mut to_server, &sent[index..]).await;
            read_to_end(&mut from_server).await
        };
        let server = async {
            let options = AcceptOptions::default().subprotocol("chat");
            let upgrade = accept_io(read.by(11), to_client, options).await?;
            upgrade.accept(Accept::default()).await.map(|(request, ..)| request).map_err(Error::from)
        };
        let (request, answer) = block_on(async { join!(server, client) });
        assert_eq!(request.unwrap().headers().len(), 6, "{index}");
        assert!(answer.contains("Protocol: chat\r\n\r\n"), "{index}");
    }
}

#[test]
fn request_that_ends_early_is_not_answered() {
    let sent = request(&VALID);
    for len in 0..sent.len() {
        let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
        let (result, answer) = block_on(async {
            write(&mut to_server, &sent[..len]).await;
            drop(to_server);
            join!(accept_io(read, to_client, AcceptOptions::default()), read_to_end(&mut from_server))
        });
        assert!(matches!(result, Err(Error::Handshake { error: HandshakeError::NoHead, .. })), "{len}");
        assert_eq!(answer, "");
    }
}

/// RUSTSEC-2023-0065: a slow head must not outlive the deadline.
#[test]
fn deadline_fires_while_bytes_trickle_in_and_is_answered() {
    let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
    let options = AcceptOptions::default().timeout(Duration::from_millis(30));
    let client = async {
        let trickle = async {
            loop {
                write(&mut to_server, "G").await;
                async_io::Timer::after(Duration::from_millis(2)).await;
            }
        };
        let answer = {
            let (answer, trickle) = (std::pin::pin!(read_to_end(&mut from_server)), std::pin::pin!(trickle));
            match futures::future::select(answer, trickle).await {
                futures::future::Either::Left((answer, _)) => answer,
                futures::future::Either::Right(((), _)) => unreachable!(),
            }
        };
        drop(to_server);
        answer
    };
    let (result, answer) = block_on(async { join!(accept_io(read, to_client, options), client) });
    assert!(matches!(result, Err(Error::TimedOut(Phase::Handshake))));
    check_answer(&answer, 408);
}

#[test]
fn deadline_may_be_now_or_never() {
    for timeout in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
        let ((from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
        let options = AcceptOptions::default().timeout(timeout);
        block_on(async {
            write(&mut to_server, request(&VALID)).await;
            let upgrade = accept_io(read, to_client, options).await.unwrap();
            assert!(upgrade.accept(Accept::default()).await.is_ok(), "{timeout:?}");
        });
        drop(from_server);
    }
    let ((from_server, to_server), (read, to_client)) = common::duplex(usize::MAX);
    drop(from_server);
    let result = block_on(accept_io(read, to_client, AcceptOptions::default().timeout(Duration::ZERO)));
    assert!(matches!(result, Err(Error::TimedOut(Phase::Handshake))));
    drop(to_server);
}

/// CVE-2026-61666 and its like: no byte anywhere in the head may do more than have it refused.
#[test]
fn head_with_any_byte_changed_is_accepted_or_refused() {
    let sent =
        valid_and(&["Origin: http://example.com", "Sec-WebSocket-Extensions: a; b=\"c\""]).into_bytes();
    for index in 0..sent.len() {
        for byte in *b"\0\t\n\r \"#%*+,-./09:;=?@AGZ[\\]az{\x7f\x80\xc3\xff" {
            let mut sent = sent.clone();
            sent[index] = byte;
            let ((mut from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
            let server = async {
                match accept_io(read, to_client, AcceptOptions::default()).await {
                    Ok(upgrade) => match upgrade.accept(Accept::default()).await {
                        Ok(_) => None,
                        Err(refused) => {
                            let error = refused.error.clone();
                            refused.answer().await.unwrap();
                            Some(error)
                        }
                    },
                    Err(error) => Some(error),
                }
            };
            let (error, answer) = block_on(async {
                write(&mut to_server, sent).await;
                drop(to_server);
                join!(server, read_to_end(&mut from_server))
            });
            match error {
                None => assert!(answer.starts_with("HTTP/1.1 101 ")),
                Some(Error::Handshake { error: HandshakeError::NoHead, .. }) => assert_eq!(answer, ""),
                Some(Error::Handshake { error, .. }) => check_answer(&answer, error.status().unwrap()),
                Some(other) => panic!("{other:?}"),
            }
        }
    }
}

fn with_upgrade<T>(sent: String, options: AcceptOptions, check: impl Fn(&Upgrade<Reader, Writer>) -> T) -> T {
    serve(sent, async |read, to_client| check(&accept_io(read, to_client, options).await.unwrap())).0
}

/// CVE-2018-14732 and many others: a page of anybody's spoke with the user's cookies.
#[test]
fn pages_of_other_origins_are_refused() {
    let allows = |origins: Origins, host: &str, origin: &str| {
        let mut lines = VALID.to_vec();
        let (host, origin) = (format!("Host: {host}"), format!("Origin: {origin}"));
        lines[1] = &host;
        lines.push(&origin);
        match with_upgrade(request(&lines), AcceptOptions::default().origins(origins), Upgrade::check) {
            Ok(()) => true,
            Err(HandshakeError::Origin) => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(allows(Origins::same(), "example.com", "https://example.com"));
    assert!(allows(Origins::default(), "example.com:8080", "http://example.com:8080"));
    for origin in [
        "https://evil.com",
        "null",
        "",
        "example.com",
        "https://example.com.evil.com",
        "http://example.com:81",
    ] {
        assert!(!allows(Origins::same(), "example.com", origin), "{origin}");
        assert!(allows(Origins::any(), "example.com", origin), "{origin}");
    }
    let list = || Origins::list(["https://a.com", "http://B.com:8080"]);
    for origin in ["https://a.com", "HTTPS://A.COM:443", "http://b.com:8080"] {
        assert!(allows(list(), "example.com", origin), "{origin}");
    }
    for origin in ["https://example.com", "http://a.com", "https://a.com:8443", "http://b.com", "null"] {
        assert!(!allows(list(), "example.com", origin), "{origin}");
    }
    let predicate = || Origins::predicate(|origin, host| origin == "null" && host == "example.com");
    assert!(allows(predicate(), "example.com", "null") && !allows(predicate(), "other", "null"));
    for origins in [Origins::same(), list(), predicate()] {
        let options = AcceptOptions::default().origins(origins.clone());
        assert_eq!(with_upgrade(request(&VALID), options.clone(), Upgrade::check), Ok(()));
        let twice = valid_and(&["Origin: https://example.com", "Origin: https://example.com"]);
        assert_eq!(with_upgrade(twice, options, Upgrade::check), Err(HandshakeError::Origin));
    }
}

#[test]
fn refused_origin_is_told_what_was_compared() {
    let sent = valid_and(&["Origin: https://evil.com"]);
    let (result, answer) = accept(sent, AcceptOptions::default(), Accept::default());
    assert_eq!(handshake_error(result), HandshakeError::Origin);
    check_answer(&answer, 403);
    assert!(answer.contains("https://evil.com") && answer.contains("example.com"));
}

/// §4.2.2: "The value chosen MUST be derived from the client's handshake, specifically by selecting one of
/// the values from the |Sec-WebSocket-Protocol| field that the server is willing to use for this connection
/// (if any)."
#[test]
fn subprotocol_is_one_that_both_speak() {
    for (offered, spoken, chosen, expected) in [
        (Some("a, b"), &["b", "a"][..], None, Ok(Some("b"))),
        (Some("a, b"), &["c"], None, Ok(None)),
        (Some("a, b"), &[], None, Ok(None)),
        (None, &["a"], None, Ok(None)),
        (Some("a, b"), &["b"], Some("a"), Ok(Some("a"))),
        (Some("a, b"), &[], Some("B"), Err(HandshakeError::Subprotocol)),
        (None, &["a"], Some("a"), Err(HandshakeError::Subprotocol)),
    ] {
        let line = format!("Sec-WebSocket-Protocol: {}", offered.unwrap_or(""));
        let options = AcceptOptions::default().subprotocols(spoken.iter().copied());
        let chosen = chosen.map_or_else(Accept::default, |chosen| Accept::default().subprotocol(chosen));
        let (result, answer) = accept(valid_and(&[&line]), options, chosen);
        match expected {
            Ok(expected) => {
                assert!(result.is_ok());
                let found = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
                assert_eq!(found, expected, "{offered:?} {spoken:?}");
            }
            Err(expected) => {
                assert_eq!(handshake_error(result), expected);
                check_answer(&answer, 400);
            }
        }
    }
}

#[test]
fn refused_request_can_get_another_answer() {
    let (result, answer) = serve(request(&["GET / HTTP/1.1", "Host: h"]), async |read, to_client| {
        let upgrade = accept_io(read, to_client, AcceptOptions::default()).await.unwrap();
        assert_eq!(upgrade.check(), Err(HandshakeError::Upgrade));
        let refused = upgrade.accept(Accept::default()).await.map(|_| ()).unwrap_err();
        let text = refused.to_string();
        assert!(text.starts_with("not accepted: ") && text.contains("Upgrade"), "{text}");
        assert!(refused.upgrade.request().header("host").is_some());
        refused.upgrade.respond(Reply::new(200).header("X", "y").body("a page")).await
    });
    result.unwrap();
    check_answer(&answer, 200);
    assert!(answer.ends_with("\r\n\r\na page") && answer.contains("\r\nX: y\r\n"));
}

#[test]
fn rejection_is_a_whole_answer() {
    let (result, answer) = serve(request(&VALID), async |read, to_client| {
        accept_io(read, to_client, AcceptOptions::default()).await?.reject(401, "who are you?").await
    });
    result.unwrap();
    check_answer(&answer, 401);
    assert!(answer.ends_with("\r\n\r\nwho are you?"));
    let head = request(&["HEAD / HTTP/1.1", "Host: h"]);
    let (result, answer) = serve(head, async |read, to_client| {
        accept_io(read, to_client, AcceptOptions::default()).await?.reject(404, "nothing").await
    });
    result.unwrap();
    assert!(answer.contains("\r\nContent-Length: 7\r\n") && answer.ends_with("\r\n\r\n"));
}

#[test]
fn body_of_a_plain_request_does_not_hinder_the_answer() {
    let sent = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let (result, answer) = serve(sent, async |read, to_client| {
        accept_io(read, to_client, AcceptOptions::default()).await?.respond(Reply::new(200).body("ok")).await
    });
    result.unwrap();
    check_answer(&answer, 200);
}

#[test]
fn unanswered_request_is_closed() {
    let (result, answer) = serve(request(&VALID), async |read, to_client| {
        accept_io(read, to_client, AcceptOptions::default()).await.map(drop)
    });
    assert!(result.is_ok());
    assert_eq!(answer, "");
}

/// RUSTSEC-2017-0002, RUSTSEC-2024-0009, RUSTSEC-2021-0081 (hyper, trillium, actix-http): no string of the server's splits
/// its answer.
#[test]
fn strings_of_the_server_cannot_split_the_answer() {
    for bad in ["\r", "\n", "\0", "\u{80}", "\r\nX: y"] {
        for (accept, expected) in [
            (Accept::default().header("X", bad), OptionsError::Header),
            (Accept::default().header(bad, "x"), OptionsError::Header),
            (Accept::default().subprotocol(bad), OptionsError::Subprotocol),
            (Accept::default().header("Upgrade", "x"), OptionsError::HeaderReserved),
            (Accept::default().heartbeat(Duration::ZERO), OptionsError::Heartbeat),
        ] {
            let (error, answer) = serve(request(&VALID), async |read, to_client| {
                let upgrade = accept_io(read, to_client, AcceptOptions::default()).await.unwrap();
                Error::from(upgrade.accept(accept).await.map(|_| ()).unwrap_err())
            });
            assert!(matches!(error, Error::Options { error, .. } if error == expected), "{bad:?} {error:?}");
            assert_eq!(answer, "");
        }
        let (result, answer) = serve(request(&VALID), async |read, to_client| {
            let reply = Reply::new(200).header("X", bad);
            accept_io(read, to_client, AcceptOptions::default()).await?.respond(reply).await
        });
        assert!(matches!(result, Err(Error::Options { error: OptionsError::Header, .. })));
        assert_eq!(answer, "");
    }
    let (result, answer) =
        accept(request(&VALID), AcceptOptions::default(), Accept::default().header("X", "\r\n"));
    assert!(matches!(result, Err(Error::Options { error: OptionsError::Header, .. })));
    check_answer(&answer, 500);
}

#[test]
fn options_of_the_server_are_checked_first() {
    for (options, expected) in [
        (AcceptOptions::default().heartbeat(Duration::ZERO), OptionsError::Heartbeat),
        (AcceptOptions::default().origins(Origins::list(["example.com"])), OptionsError::Origin),
        (AcceptOptions::default().origins(Origins::list(["https://*"])), OptionsError::Origin),
        (AcceptOptions::default().subprotocols(["a", "a"]), OptionsError::Subprotocol),
        (AcceptOptions::default().subprotocol("a b"), OptionsError::Subprotocol),
    ] {
        let (result, answer) = accept(request(&VALID), options, Accept::default());
        assert!(matches!(result, Err(Error::Options { error, .. }) if error == expected), "{result:?}");
        assert_eq!(answer, "");
    }
}

#[test]
fn answer_is_given_once() {
    let ((from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
    block_on(async {
        write(&mut to_server, request(&VALID)).await;
        let upgrade = accept_io(read, to_client, AcceptOptions::default()).await.unwrap();
        drop(from_server);
        let refused = upgrade.accept(Accept::default()).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.error.io_kind(), Some(std::io::ErrorKind::BrokenPipe));
        let refused = refused.upgrade.accept(Accept::default()).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused.error, Error::Closed(_)));
        assert!(matches!(refused.answer().await, Err(Error::Closed(_))));
    });
}
