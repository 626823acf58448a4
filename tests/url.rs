//! URLs (RFC 6455 §3).
#![allow(clippy::unwrap_used, reason = "tests")]

use coro_websocket::{Error, UrlError, WsUrl, parse_url};

fn error(url: &str) -> Option<UrlError> {
    match parse_url(url) {
        Err(Error::Url { error, .. }) => Some(error),
        _ => None,
    }
}

#[test]
fn url_has_its_parts() {
    for (url, tls, host, port, pathname) in [
        ("ws://h", false, "h", 80, "/"),
        ("wss://h", true, "h", 443, "/"),
        ("ws://h/", false, "h", 80, "/"),
        ("WS://H/A", false, "h", 80, "/A"),
        ("wSs://Example.COM", true, "example.com", 443, "/"),
        ("ws://h:8080/a/b?x=1&y=2", false, "h", 8080, "/a/b?x=1&y=2"),
        ("ws://h?x=1", false, "h", 80, "/?x=1"),
        ("ws://h:81?x=1", false, "h", 81, "/?x=1"),
        ("ws://h/?", false, "h", 80, "/?"),
        ("ws://h/?a?b/c:d@e", false, "h", 80, "/?a?b/c:d@e"),
        ("ws://h/a:b@c", false, "h", 80, "/a:b@c"),
        ("ws://h//a", false, "h", 80, "//a"),
        ("ws://h:/x", false, "h", 80, "/x"),
        ("wss://h:/x", true, "h", 443, "/x"),
        ("ws://h:443/", false, "h", 443, "/"),
        ("wss://h:80/", true, "h", 80, "/"),
        ("ws://h:00080/", false, "h", 80, "/"),
        ("ws://h:65535/", false, "h", 65535, "/"),
        ("ws://127.0.0.1:9001", false, "127.0.0.1", 9001, "/"),
        ("ws://[::1]:8080/x", false, "::1", 8080, "/x"),
        ("ws://[0:0:0:0:0:0:0:1]", false, "::1", 80, "/"),
        ("wss://[2001:DB8::1]?a", true, "2001:db8::1", 443, "/?a"),
        ("ws://bücher.example/ü?ü", false, "xn--bcher-kva.example", 80, "/%C3%BC?%C3%BC"),
        ("ws://h/a/./b/../c", false, "h", 80, "/a/c"),
        ("ws://h/%0d%0a%20", false, "h", 80, "/%0d%0a%20"),
        ("ws://a_b.c/", false, "a_b.c", 80, "/"),
    ] {
        let parsed = parse_url(url).unwrap();
        let parts = (parsed.tls, parsed.host.as_str(), parsed.port, parsed.pathname.as_str());
        assert_eq!(parts, (tls, host, port, pathname), "{url}");
        assert_eq!((parsed.username, parsed.password), (None, None), "{url}");
    }
}

#[test]
fn userinfo_is_decoded() {
    for (url, username, password) in [
        ("ws://u@h/", "u", None),
        ("ws://u:p@h/", "u", Some("p")),
        ("ws://u:@h/", "u", Some("")),
        ("ws://:p@h/", "", Some("p")),
        ("ws://u:a:b@h/", "u", Some("a:b")),
        ("ws://%C3%BC%40:%2F%25%20@h/", "ü@", Some("/% ")),
        ("ws://ü:+@h/", "ü", Some("+")),
    ] {
        let parsed = parse_url(url).unwrap();
        assert_eq!(
            (parsed.username.as_deref(), parsed.password.as_deref()),
            (Some(username), password),
            "{url}"
        );
        assert_eq!((parsed.host.as_str(), parsed.pathname.as_str()), ("h", "/"), "{url}");
        assert!(!format!("{parsed:?}").contains("a:b"), "{parsed:?}");
    }
    for url in [
        "ws://@h/",
        "ws://a@b@h/",
        "ws://a%3Ab@h/",
        "ws://a%0d@h/",
        "ws://a:%00@h/",
        "ws://%@h/",
        "ws://%4@h/",
        "ws://%zz@h/",
        "ws://%ff@h/",
    ] {
        assert_eq!(error(url), Some(UrlError::Userinfo), "{url}");
    }
}

#[test]
fn url_is_displayed_such_that_it_parses_the_same() {
    for (url, displayed) in [
        ("ws://h", "ws://h/"),
        ("WSS://H:443?x", "wss://h/?x"),
        ("ws://[::1]:80", "ws://[::1]/"),
        ("wss://[::1]:80/a?b", "wss://[::1]:80/a?b"),
        ("ws://u:p@h:8080/", "ws://u:p@h:8080/"),
        ("ws://:@h", "ws://:@h/"),
        ("ws://%C3%BC%40:%2f%25%20:@h", "ws://%C3%BC%40:%2F%25%20%3A@h/"),
        ("ws://bücher.example/ü", "ws://xn--bcher-kva.example/%C3%BC"),
        ("ws://h//", "ws://h//"),
    ] {
        let parsed = parse_url(url).unwrap();
        assert_eq!(parsed.to_string(), displayed);
        assert_eq!(displayed.parse::<WsUrl>().unwrap(), parsed);
    }
}

#[test]
fn only_ws_and_wss_are_schemes() {
    for url in [
        "http://h/",
        "https://h/",
        "ftp://h",
        "wsss://h",
        "w://h",
        "localhost:8080/x",
        "mailto:a",
        "ws+unix://h",
    ] {
        assert_eq!(error(url), Some(UrlError::Scheme), "{url}");
    }
    assert_eq!(parse_url("http://h").unwrap_err().code(), Some(-2));
    assert_eq!(parse_url("ws:/h").unwrap_err().code(), Some(-1));
}

#[test]
fn what_is_no_url_is_not_repaired() {
    for url in ["", "h", "/x", "//h/x", "ws", "ws:", "ws:h", "ws:/h", "://h", ":", "1ws://h", "?ws://h"] {
        assert_eq!(error(url), Some(UrlError::Syntax), "{url}");
    }
    for url in ["ws://", "ws:///", "ws:///x", "ws:////h", "ws://?x", "ws://:80", "ws://u@", "ws://u@:80/"] {
        assert_eq!(error(url), Some(UrlError::Host), "{url}");
    }
}

#[test]
fn host_is_one() {
    for url in [
        "ws://[::1/",
        "ws://::1/",
        "ws://[]/",
        "ws://[h]/",
        "ws://[::1]x/",
        "ws://[::1%25eth0]/",
        "ws://1.2.3.256/",
        "ws://a<b/",
        "ws://a%0db/",
        "ws://a%2fb/",
        "ws://a^b/",
        "ws://a|b/",
        "ws://xn--a/",
        "ws://[fe80::1]:80:80/",
        "ws://a:80:80/",
    ] {
        assert!(matches!(error(url), Some(UrlError::Host)), "{url} {:?}", parse_url(url));
    }
}

#[test]
fn port_is_a_number_from_1_to_65535() {
    for port in ["0", "00", "65536", "123456", "8a", "a", "-1", "+1", "1.5", "٣", "99999999999999999999"] {
        for url in [format!("ws://h:{port}/x"), format!("wss://[::1]:{port}"), format!("ws://h:{port}?a")] {
            assert_eq!(error(&url), Some(UrlError::Port), "{url}");
        }
    }
}

/// §3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used on these
/// URIs."
#[test]
fn fragment_is_refused() {
    for url in ["ws://h#", "ws://h/#a", "ws://h/?x#a", "ws://u:p#@h/", "ws://#"] {
        assert_eq!(error(url), Some(UrlError::Fragment), "{url}");
    }
    assert_eq!(parse_url("ws://h/%23a").unwrap().pathname, "/%23a");
}

/// RUSTSEC-2017-0002: a string from elsewhere must not split the request.
#[test]
fn controls_spaces_and_backslashes_are_refused_wherever_they_stand() {
    let url = "ws://u:p@host:80/path?query";
    for bad in [
        "\r", "\n", "\t", "\0", " ", "\\", "\x7f", "\u{80}", "\u{85}", "\u{a0}", "\u{2028}", "\u{3000}",
        "\x0b",
    ] {
        for index in 0..=url.len() {
            let url = format!("{}{bad}{}", &url[..index], &url[index..]);
            assert_eq!(error(&url), Some(UrlError::Character), "{url:?}");
        }
    }
}
