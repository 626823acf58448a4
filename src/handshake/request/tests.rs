//! Requests, written and checked.

use super::*;

const VALID: [&str; 6] = [
    "GET /chat?room=1 HTTP/1.1",
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn parse(lines: &[&str]) -> Result<Request, HandshakeError> {
    Request::parse(&Head::of(&format!("{}\r\n\r\n", lines.join("\r\n"))))
}

fn check(lines: &[&str]) -> Result<(), HandshakeError> {
    check_request(&parse(lines)?)
}

/// The outcome with this line in place of the one that starts alike.
fn check_with(line: &str) -> Result<(), HandshakeError> {
    let start = |line: &str| line.split_once(':').map_or(String::new(), |(name, _)| name.to_lowercase());
    let found = VALID.iter().position(|other| start(other) == start(line)).unwrap_or(0);
    let mut lines = VALID;
    lines[found] = line;
    check(&lines)
}

/// The outcome with one more line.
fn check_and(line: &str) -> Result<(), HandshakeError> {
    check(&[&VALID[..], &[line]].concat())
}

fn check_without(index: usize) -> Result<(), HandshakeError> {
    let mut lines = VALID.to_vec();
    lines.remove(index);
    check(&lines)
}

/// CVE-2024-37890: a mandatory header was missing and nobody had looked.
#[test]
fn each_mandatory_header_is_missed() {
    assert_eq!(check(&VALID), Ok(()));
    let errors = (1..VALID.len()).map(check_without).collect::<Vec<_>>();
    assert_eq!(
        errors,
        [
            Err(HandshakeError::Host),
            Err(HandshakeError::Upgrade),
            Err(HandshakeError::Connection),
            Err(HandshakeError::VersionMissing),
            Err(HandshakeError::Key),
        ]
    );
    assert_eq!(check(&VALID[..1]), Err(HandshakeError::Host));
}

/// §4.1: "The method of the request MUST be GET, and the HTTP version MUST be at least 1.1."
#[test]
fn method_is_get_and_version_is_at_least_1_1() {
    for method in ["POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "get"] {
        assert_eq!(check_with(&format!("{method} / HTTP/1.1")), Err(HandshakeError::Method), "{method}");
    }
    for version in ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "http/1.1"] {
        assert_eq!(check_with(&format!("GET / {version}")), Err(HandshakeError::HttpVersion), "{version}");
    }
}

/// §4.2.1: "a "Request-URI" that should be interpreted as a /resource name/ defined in Section 3 (or an
/// absolute HTTP/HTTPS URI containing the /resource name/)". RFC 9112 §3.2.2: "When an origin server receives a request
/// with an absolute-form of request-target, the origin server MUST ignore the received Host header field (if any)".
#[test]
fn target_is_a_path_or_a_url_whose_host_takes_the_place_of_host() {
    for (target, pathname, host) in [
        ("/", "/", "example.com"),
        ("/a?b", "/a?b", "example.com"),
        ("//a", "//a", "example.com"),
        ("/http://other/", "/http://other/", "example.com"),
        ("/ws://other/", "/ws://other/", "example.com"),
        ("http://example.com", "/", "example.com"),
        ("http://example.com/a?b", "/a?b", "example.com"),
        ("https://EXAMPLE.com?b", "/?b", "EXAMPLE.com"),
        ("HTTPS://example.com:443/", "/", "example.com:443"),
        ("ws://example.com/chat", "/chat", "example.com"),
        ("WSS://[::1]:8080?b", "/?b", "[::1]:8080"),
        ("http://other/", "/", "other"),
        ("http://example.com:81/", "/", "example.com:81"),
    ] {
        let line = format!("GET {target} HTTP/1.1");
        assert_eq!(check_with(&line), Ok(()), "{target}");
        let request = parse(&[&line, VALID[1]]).unwrap();
        assert_eq!((request.pathname(), request.host()), (pathname, Some(host)));
    }
    for target in [
        "*",
        "example.com:80",
        "example.com",
        "a",
        "?a",
        "http:///",
        "ws://",
        "wss:///chat",
        "http://u@example.com/",
        "ws://u:p@example.com/",
        "ws://example.com:99999/",
        "ftp://example.com/",
        "wsx://example.com/",
        "http:/example.com",
        "/a#b",
        "/é",
        "#",
        "http://example.com#/",
        "\\",
    ] {
        assert_eq!(check_with(&format!("GET {target} HTTP/1.1")), Err(HandshakeError::Target), "{target}");
    }
}

/// §4.2.1: "A |Host| header field containing the server's authority."
#[test]
fn there_is_one_host_and_it_is_one() {
    for host in ["example.com", "EXAMPLE.com:8080", "[::1]:1", "127.0.0.1"] {
        assert_eq!(check_with(&format!("Host: {host}")), Ok(()));
    }
    // CVE-2026-61666: a malformed Host raised.
    for host in ["", "a b", "a,b", "a/", "u@a", "a:b", "a:99999", "[", "[::1", "::1", "é", "\"", "a:80:80"] {
        assert_eq!(check_with(&format!("Host: {host}")), Err(HandshakeError::Host), "{host}");
    }
    assert_eq!(check_and("Host: example.com"), Err(HandshakeError::Host));
    assert_eq!(check_and("host: other"), Err(HandshakeError::Host));
}

/// §4.2.1: "An |Upgrade| header field containing the value "websocket", treated as an ASCII
/// case-insensitive value."
#[test]
fn upgrade_names_websocket() {
    for value in ["websocket", "WebSocket", "h2c, WEBSOCKET", ",\twebsocket ,"] {
        assert_eq!(check_with(&format!("Upgrade: {value}")), Ok(()), "{value}");
    }
    for value in ["", "h2c", "web", "websocket2", "websocket/13", "\"websocket\"", "web socket", "websocket;"]
    {
        assert_eq!(check_with(&format!("Upgrade: {value}")), Err(HandshakeError::Upgrade), "{value}");
    }
}

/// §4.2.1: "A |Connection| header field that includes the token "Upgrade", treated as an ASCII
/// case-insensitive value."
#[test]
fn connection_names_upgrade() {
    for value in ["Upgrade", "upgrade", "keep-alive, UPGRADE", "a,upgrade,b"] {
        assert_eq!(check_with(&format!("Connection: {value}")), Ok(()), "{value}");
    }
    for value in ["", "keep-alive", "close", "upgraded", "keep-alive Upgrade", "Upgrade;"] {
        assert_eq!(check_with(&format!("Connection: {value}")), Err(HandshakeError::Connection), "{value}");
    }
    let mut lines = VALID.to_vec();
    lines[3] = "Connection: keep-alive";
    lines.push("connection: upgrade");
    assert_eq!(check(&lines), Ok(()));
}

/// §4.2.1: "A |Sec-WebSocket-Version| header field, with a value of 13."
#[test]
fn version_is_13_and_named_once() {
    for value in ["", "0", "8", "12", "14", "013", "13, 8", "13.0", "+13", "1 3"] {
        assert_eq!(
            check_with(&format!("Sec-WebSocket-Version: {value}")),
            Err(HandshakeError::Version),
            "{value}"
        );
    }
    assert_eq!(check_and("Sec-WebSocket-Version: 13"), Err(HandshakeError::Version));
}

/// §4.2.1: "A |Sec-WebSocket-Key| header field with a base64-encoded [...] value that, when decoded, is
/// 16 bytes in length."
#[test]
fn key_is_16_bytes_and_named_once() {
    for value in
        ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR==", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="]
    {
        assert_eq!(check_with(&format!("Sec-WebSocket-Key: {value}")), Err(HandshakeError::Key), "{value}");
    }
    assert_eq!(check_and(VALID[5]), Err(HandshakeError::Key));
}

/// RUSTSEC-2021-0078: what one takes for a body, another takes for a request.
#[test]
fn request_with_a_body_is_refused() {
    for line in [
        "Content-Length: 1",
        "Content-Length: 00",
        "Content-Length: +0",
        "Content-Length: -0",
        "Content-Length:",
        "Content-Length: 0, 0",
        "content-length: 18446744073709551616",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "transfer-encoding:",
    ] {
        assert_eq!(check_and(line), Err(HandshakeError::Body), "{line}");
    }
    assert_eq!(check_and("Content-Length: 0"), Ok(()));
    let twice = [&VALID[..], &["Content-Length: 0", "Content-Length: 0"]].concat();
    assert_eq!(check(&twice), Err(HandshakeError::Body));
}

/// RUSTSEC-2021-0078: leniency of the parser is what smuggling is made of.
#[test]
fn malformed_headers_are_refused() {
    for line in
        ["Host : a", " folded", "\tfolded", "no colon", ": a", "a b: c", "A: b\x01", "A: b\x7f", "é: a"]
    {
        assert_eq!(check_and(line), Err(HandshakeError::Malformed), "{line:?}");
    }
    for line in ["GET", "GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET / a HTTP/1.1"]
    {
        assert!(check_with(line).is_err(), "{line:?}");
    }
}

/// §4.1: "The elements that comprise this value MUST be non-empty strings with characters in the range
/// U+0021 to U+007E not including separator characters". CVE-2026-45541: a list without elements crashed.
#[test]
fn offered_subprotocols_are_tokens() {
    for (value, offered) in [
        ("chat", &["chat"][..]),
        ("chat, superchat", &["chat", "superchat"]),
        ("Chat,chat", &["Chat", "chat"]),
        ("", &[]),
        (",", &[]),
        (" , ,\t, a", &["a"]),
    ] {
        let line = format!("Sec-WebSocket-Protocol: {value}");
        assert_eq!(check_and(&line), Ok(()), "{value}");
        let request = parse(&[VALID[0], &line]).unwrap();
        assert_eq!(request.subprotocols().collect::<Vec<_>>(), offered);
    }
    for value in [";", "a;b", "a b", "a, \"b\"", "(", "a/b", "a=b", "é", "\u{80}", "a, {"] {
        let line = format!("Sec-WebSocket-Protocol: {value}");
        assert_eq!(check_and(&line), Err(HandshakeError::Subprotocol), "{value}");
    }
}

#[test]
fn offered_extensions_are_named() {
    let line = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other;a=\"1\"";
    assert_eq!(check_and(line), Ok(()));
    assert_eq!(parse(&[VALID[0], line]).unwrap().extensions(), ["permessage-deflate", "x-other"]);
    assert_eq!(check_and("Sec-WebSocket-Extensions: a; =b"), Err(HandshakeError::Extension));
    assert_eq!(parse(&[VALID[0], "Sec-WebSocket-Extensions: a; =b"]).unwrap().extensions(), [""; 0]);
}

#[test]
fn request_tells_path_query_and_cookies() {
    let request = parse(&[
        "GET /a%20b?token=x+y%21&a&token=z?#? HTTP/1.1",
        "Cookie: id=1; name = \"a=b\" ;; flag; =x",
        "cookie: id=2",
    ])
    .unwrap();
    assert_eq!((request.method(), request.version(), request.path()), ("GET", (1, 1), "/a%20b"));
    assert_eq!(request.query(), Some("token=x+y%21&a&token=z?#?"));
    assert_eq!(request.query_value("token").as_deref(), Some("x y!"));
    assert_eq!((request.query_value("a").as_deref(), request.query_value("b")), (Some(""), None));
    assert_eq!(
        (request.cookie("id"), request.cookie("name"), request.cookie("flag")),
        (Some("1"), Some("\"a=b\""), None)
    );
    assert_eq!(request.cookies().count(), 4);
    assert_eq!(request.header("COOKIE"), request.headers().get("cookie"));
    assert_eq!(parse(&["GET /? HTTP/1.1"]).unwrap().query(), Some(""));
    assert_eq!(parse(&["GET / HTTP/1.1"]).unwrap().query(), None);
}

fn encode(options: Options) -> Result<String, OptionsError> {
    let request = encode_request(&options, "example.com", "KEY").map_err(Error::options_kind)?;
    Ok(String::from_utf8(request).unwrap())
}

#[test]
fn written_request_is_that_of_the_rfc() {
    let options = Options::default().pathname("/chat").subprotocols(["chat", "superchat"]).headers([
        ("Origin", "http://example.com"),
        ("X-A", "1"),
        ("X-A", "2"),
    ]);
    assert_eq!(
        encode(options).unwrap(),
        "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: KEY\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
         Origin: http://example.com\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
    );
}

#[test]
fn written_pathname_starts_with_a_slash() {
    for (pathname, expected) in [("", "/"), ("a", "/a"), ("?x=1", "/?x=1"), ("/a?b", "/a?b"), ("//", "//")] {
        let request = encode(Options::default().pathname(pathname)).unwrap();
        assert!(request.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{request}");
    }
}

#[test]
fn host_of_the_user_replaces_ours() {
    let request = encode(Options::default().header("HOST", "other:81")).unwrap();
    assert!(request.starts_with("GET / HTTP/1.1\r\nHost: other:81\r\nUpgrade"));
    assert_eq!(request.to_lowercase().matches("host:").count(), 1);
    assert_eq!(encode(Options::default().header("Host", "a/b")), Err(OptionsError::Host));
    assert_eq!(encode(Options::default().header("Host", "a").header("host", "a")), Err(OptionsError::Host));
}

#[test]
fn credentials_become_basic_authentication() {
    let options = Options::default().basic_auth("Aladdin", "open sesame");
    let request = encode(options.clone()).unwrap();
    assert!(request.contains("\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
    let request = encode(options.header("authorization", "Bearer x")).unwrap();
    assert!(request.contains("\r\nauthorization: Bearer x\r\n") && !request.contains("Basic"));
    for (username, password) in [("a:b", ""), ("a\n", ""), ("", "\0"), ("", "a\u{80}")] {
        let options = Options::default().basic_auth(username, password);
        assert_eq!(encode(options), Err(OptionsError::Credentials));
    }
}

/// §4.1: "all of which MUST be unique strings".
#[test]
fn written_subprotocols_are_tokens_and_unique() {
    for subprotocols in [&["a", "a"][..], &["a", "b", "a"], &[""], &["a", ""], &["a b"], &["a,b"], &["\"a\""]]
    {
        let options = Options::default().subprotocols(subprotocols.iter().copied());
        assert_eq!(encode(options), Err(OptionsError::Subprotocol), "{subprotocols:?}");
    }
}

#[test]
fn headers_of_the_handshake_are_not_the_users() {
    for name in [
        "Connection",
        "upgrade",
        "SEC-WEBSOCKET-KEY",
        "Sec-WebSocket-X",
        "Content-Length",
        "Transfer-Encoding",
    ] {
        assert_eq!(encode(Options::default().header(name, "x")), Err(OptionsError::HeaderReserved), "{name}");
    }
}
