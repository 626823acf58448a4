//! Which pages a list of origins lets connect (RFC 6455 §10.2), and which entries it takes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use coro_websocket::{
    AcceptOptions, Error, HandshakeError, OptionsError, Origins, Server, ServerOptions, accept_io,
};
use futures::executor::block_on;

use common::write;

/// Returns the result of `Upgrade::check` for a request from this origin.
fn check(entry: &str, origin: &str) -> Result<(), HandshakeError> {
    let ((_from_server, mut to_server), (read, to_client)) = common::duplex(usize::MAX);
    let options = AcceptOptions::default().origins(Origins::list(["https://other.example", entry]));
    block_on(async {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Origin: {origin}\r\n\r\n"
        );
        write(&mut to_server, request).await;
        accept_io(read, to_client, options).await.unwrap().check()
    })
}

fn assert_allows(entry: &str, allowed: &[&str], refused: &[&str]) {
    for origin in allowed {
        assert_eq!(check(entry, origin), Ok(()), "{entry} {origin}");
    }
    for origin in refused {
        assert_eq!(check(entry, origin), Err(HandshakeError::Origin), "{entry} {origin}");
    }
}

#[test]
fn page_without_a_host_is_allowed_by_its_own_entry_only() {
    assert_allows("null", &["null"], &["file://", "https://null", "https://h", "", "nullx"]);
    assert_allows("file://", &["file://"], &["null", "file://h", "https://", "https://h", "file:///a"]);
    assert_allows("https://h", &["https://h"], &["null", "file://", ""]);
}

#[test]
fn wildcard_stands_for_one_or_more_labels_in_front_of_the_domain() {
    let refused = [
        "https://example.com",
        "https://.example.com",
        "https://a..example.com",
        "https://evilexample.com",
        "https://example.com.evil.com",
        "https://a.example.com.evil.com",
        "https://a.example.com.",
        "https://evil.com%2f.example.com",
        "https://evil.com/.example.com",
        "https://evil.com#.example.com",
        "https://evil.com\\.example.com",
        "https://user@a.example.com",
        "https://*.example.com",
        "http://a.example.com",
        "https://a.example.com:8443",
        "https://a.example.com, https://a.example.com",
        "null",
    ];
    let allowed =
        ["https://a.example.com", "https://a-b.c_d.EXAMPLE.com", "HTTPS://xn--bcher-kva.example.com:443"];
    assert_allows("https://*.example.com", &allowed, &refused);
    let allowed = ["https://a.example.com:8443"];
    assert_allows(
        "https://*.example.com:8443",
        &allowed,
        &["https://a.example.com", "https://example.com:8443"],
    );
}

#[test]
fn star_for_the_port_allows_every_port_of_that_host() {
    let allowed = ["http://localhost", "http://localhost:80", "http://LOCALHOST:1", "http://localhost:65535"];
    let refused = [
        "https://localhost",
        "http://localhost:0",
        "http://localhost:x",
        "http://a.localhost:1",
        "http://localhost.evil.com:1",
    ];
    assert_allows("http://localhost:*", &allowed, &refused);
    assert_allows("http://[::1]:*", &["http://[::1]:3000", "http://[::1]"], &["http://[::2]:3000"]);
    assert_allows("http://[0:0::1]:*", &["http://[::1]:3000"], &["http://[::2]:3000"]);
    assert_allows("http://*.test:*", &["http://a.test:1", "http://b.a.test"], &["http://test:1"]);
}

#[test]
fn malformed_entry_is_named_before_a_request_is_read() {
    for entry in [
        "example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://",
        "http://",
        "wss://",
        "://h",
        "*",
        "https://*",
        "https://*.",
        "https://*:443",
        "https://*example.com",
        "https://a.*.com",
        "https://*.*.com",
        "https://*.a..com",
        "https://*.[::1]",
        "https://*.1.2.3.4",
        "https://h:80:*",
        "https://h::*",
        "https://h:*:80",
        "https://u@h",
        "*://h",
        "NULL ",
        "",
    ] {
        let origins = || Origins::list(["https://a.example", entry, "nor this"]);
        let bound = block_on(Server::bind("127.0.0.1:0", ServerOptions::default().origins(origins())));
        let ((from_server, _to_server), (read, write)) = common::duplex(usize::MAX);
        let accepted = block_on(accept_io(read, write, AcceptOptions::default().origins(origins())));
        drop(from_server);
        for error in [bound.map(drop).unwrap_err(), accepted.map(drop).unwrap_err()] {
            assert!(error.to_string().contains(&format!("{entry:?}")), "{entry}: {error}");
            assert!(matches!(error, Error::Options { error: OptionsError::Origin, .. }), "{error:?}");
        }
    }
}
