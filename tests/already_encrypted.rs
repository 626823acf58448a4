//! `connect_io` does not encrypt, so it sends nothing where TLS is asked for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use coro_websocket::{Error, Options, OptionsError, Tls, connect_io};
use futures::executor::block_on;

use common::{read_head, read_to_end};

/// Connects with these options. Returns the result and the bytes sent.
fn sent(options: Options) -> (Error, String) {
    let ((read, to_server), (mut from_client, to_client)) = common::duplex(usize::MAX);
    let options = options.header("Cookie", "secret").timeout(Duration::from_millis(50));
    let error = block_on(connect_io(read, to_server, options)).map(drop).unwrap_err();
    drop(to_client);
    (error, block_on(read_to_end(&mut from_client)))
}

/// Ways to ask for TLS.
fn all_ways() -> Vec<Options> {
    let url = |url| Options::from_url(url).unwrap();
    vec![
        url("wss://example.com/"),
        url("WSS://example.com:8443/"),
        url("wss://user:secret@[::1]:80/"),
        url("ws://example.com/").tls(true),
        url("wss://example.com/").tls(Tls::default().danger_accept_any_certificate(true)),
        url("ws://example.com/").tls(false).tls(Tls::default().ca_file("ca.pem")),
        Options::default().tls(true),
        Options::default().host("example.com").port(443).tls(Tls::default()),
        Options::default().path("/run/socket").tls(true),
        Options::from(coro_websocket::parse_url("wss://example.com/").unwrap()).pathname("/a"),
    ]
}

#[test]
fn nothing_is_sent_in_the_clear_where_tls_is_asked_for() {
    for options in all_ways() {
        let (error, sent) = sent(options.clone());
        assert!(
            matches!(error, Error::Options { error: OptionsError::NotEncrypted, .. }),
            "{options:?}: {error:?}"
        );
        assert!(error.to_string().contains("already_encrypted()"), "{error}");
        assert_eq!(sent, "", "{options:?}");
    }
}

#[test]
fn transport_that_is_encrypted_already_carries_the_request_with_the_host_of_tls() {
    for options in all_ways() {
        let ((read, to_server), (mut from_client, to_client)) = common::duplex(usize::MAX);
        let client = connect_io(read, to_server, options.clone().already_encrypted());
        let request = block_on(async {
            let server = async {
                let request = read_head(&mut from_client).await;
                drop(to_client);
                request
            };
            futures::join!(client, server).1
        });
        assert!(request.starts_with("GET /"), "{options:?}: {request}");
        assert!(!request.contains(":443\r\n"), "{request}");
    }
}

#[test]
fn url_without_tls_and_tls_that_is_switched_off_need_no_promise() {
    for options in [
        Options::from_url("ws://example.com/").unwrap(),
        Options::from_url("wss://example.com/").unwrap().tls(false),
        Options::default(),
    ] {
        let (error, sent) = sent(options);
        assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
        assert!(sent.starts_with("GET / HTTP/1.1\r\n"));
    }
}
