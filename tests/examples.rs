//! The examples, run as programs: their arguments, their errors, and the frames that `frames` shows. `cat` has a file
//! of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[path = "common/program.rs"]
mod program;
#[path = "common/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "other test files use the rest")]
mod wire;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
};

use net::{read_head, serve};
use program::{Program, peer, run};
use wire::{PING, PONG, TEXT};

/// Longer than a test may take: what ends by this limit is found to hang.
const NEVER: &str = "3600";

/// A short time, for a peer that does not do its part.
const SOON: &str = "2";

/// Every example of the crate.
fn all() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let files =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.filter_map(|file| file.strip_suffix(".rs").map(str::to_owned)).collect();
    assert!(names.len() >= 13, "{names:?}");
    if cfg!(feature = "deflate") {
        names.push("interop_client".to_owned());
    }
    if cfg!(feature = "tls") {
        names.push("abuse".to_owned());
    }
    names
}

#[test]
fn every_example_explains_itself() {
    for name in all() {
        for option in ["--help", "-h"] {
            let ran = run(&name, &[option], b"");
            assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{name}");
            assert!(ran.text().starts_with(&format!("usage: {name}")), "{}", ran.text());
            assert!(ran.text().contains("--help"), "{}", ran.text());
            assert!(ran.text().lines().all(|line| line.len() <= 80), "{name}: too wide for a terminal");
        }
    }
}

#[test]
fn every_example_rejects_arguments_that_it_does_not_know() {
    let too_many = ["one", "two", "three", "four", "five"];
    for name in all() {
        for args in [&["--no-such-option"][..], &["-Z"], &too_many] {
            let ran = run(&name, args, b"");
            assert_eq!((ran.code, ran.text()), (Some(2), ""), "{name} {args:?}: {ran:?}");
            assert!(ran.err.starts_with(&format!("{name}: ")), "{ran:?}");
            assert!(ran.err.contains(&format!("\nusage: {name}")), "{ran:?}");
        }
    }
}

#[test]
fn missing_and_unusable_values_are_named() {
    let url = "ws://127.0.0.1:1/";
    for (name, args, named) in [
        ("cat", &[][..], "URL"),
        ("cat", &["--timeout", "soon", url], "--timeout: 'soon'"),
        ("cat", &["--timeout", "-1", url], "--timeout"),
        ("cat", &["--wait"], "--wait"),
        ("cat", &["-H", "no colon", url], "'no colon'"),
        ("frames", &["--close=1005", url], "'1005'"),
        ("frames", &["--close=soon:bye", url], "'soon:bye'"),
        ("frames", &["--deflate=unheard_of", url], "--deflate"),
        ("echo_server", &["--tls", "only-one"], "--tls"),
        ("echo_server", &["--max-message", "much", "127.0.0.1:0"], "--max-message: 'much'"),
        ("tcp_relay", &["exit", "127.0.0.1:0"], "SERVICE"),
        ("tcp_relay", &["upwards"], "'upwards'"),
    ] {
        let ran = run(name, args, b"");
        assert_eq!(ran.code, Some(2), "{name} {args:?}: {ran:?}");
        assert!(ran.err.lines().next().unwrap().contains(named), "{name} {args:?}: {ran:?}");
    }
}

#[test]
fn errors_are_printed_in_words() {
    // Bound and not listening any more: connections are refused.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = &taken.local_addr().unwrap().to_string();
    let url = &format!("ws://{closed}/");
    for (name, args) in [
        ("cat", &[url.as_str()][..]),
        ("cat", &["not a url"]),
        ("frames", &[url]),
        ("ticker", &[url]),
        ("autobahn_client", &[url]),
        ("echo_server", &[taken]),
        ("http_hook", &[taken]),
        ("accept_loop", &[taken]),
        ("tcp_relay", &["exit", taken, "127.0.0.1:1"]),
    ] {
        let ran = run(name, args, b"");
        assert_eq!(ran.code, Some(1), "{name} {args:?}: {ran:?}");
        assert!(ran.err.starts_with(&format!("{name}: ")), "{ran:?}");
        // `Debug` output looks like `Error: Connect(Custom { kind: ConnectionRefused, …`.
        assert!(
            !ran.err.contains("Error: ") && !ran.err.contains(" { ") && !ran.err.contains("Some("),
            "{ran:?}"
        );
    }
}

#[test]
fn examples_without_arguments_end_by_themselves() {
    for name in ["echo", "wrap_io", "heartbeat", "relay", "ticker", "unix_socket", "tcp_relay", "accept_loop"]
    {
        let ran = run(name, &[], b"");
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{name}: {}", ran.text());
        assert!(!ran.out.is_empty(), "{name}");
    }
}

#[test]
fn echo_server_prints_the_url_that_cat_connects_to() {
    let mut server = Program::start("echo_server", &["127.0.0.1:0"]);
    let mut url = String::new();
    BufReader::new(server.output.take().unwrap()).read_line(&mut url).unwrap();
    let ran = run("cat", &["--wait", NEVER, url.trim_end()], b"hello\n");
    assert_eq!((ran.text(), ran.code), ("hello\n", Some(0)), "{ran:?}");
    drop(server);
}

#[test]
fn frames_closes_when_no_frame_has_been_seen_for_a_while() {
    let (url, server) = peer(|mut peer| {
        peer.put(PING, "?");
        assert_eq!(peer.next().unwrap().first, PONG);
        peer.up_to_close();
        peer.close(1000, "");
        peer.outlast();
    });
    let ran = run("frames", &["--text", "--timeout", NEVER, "--wait", "0.2", &url], b"");
    assert_eq!(
        ran.text().replace("\\u{3}\u{fffd}", ""),
        "< ping 1 bytes fin \"?\"\n\
         > pong 1 bytes fin mask \"?\"\n\
         > close 2 bytes fin mask \"\"\n\
         < close 2 bytes fin \"\"\n",
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(0));
    server.join().unwrap();
}

#[test]
fn frames_ends_when_the_server_closes() {
    let (url, server) = peer(|mut peer| {
        peer.put(TEXT, "so long");
        peer.close(3001, "bye");
        let (_, close) = peer.up_to_close();
        peer.outlast();
        close
    });
    let ran = run("frames", &["--hex", "--timeout", NEVER, "--wait", NEVER, &url], b"");
    assert_eq!(
        ran.text(),
        "< text 7 bytes fin 736f206c6f6e67\n\
         < close 5 bytes fin 0bb9627965\n\
         > close 5 bytes fin mask 0bb9627965\n",
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(0));
    assert_eq!(server.join().unwrap(), b"\x0b\xb9bye");
}

#[test]
fn frames_sends_the_close_that_is_asked_for_behind_the_messages() {
    for (close, expected) in [
        ("--close", "\u{3}\u{e8}"),
        ("--close=1001", "\u{3}\u{e9}"),
        ("--close=3001:bye: bye", "\u{b}\u{b9}bye: bye"),
    ] {
        let (url, server) = peer(|mut peer| {
            let seen = peer.up_to_close();
            peer.close(1000, "");
            seen
        });
        let ran = run("frames", &["--wait", NEVER, "--send", "one", "--send", "two", close, &url], b"");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (messages, payload) = server.join().unwrap();
        assert_eq!(messages, [b"one", b"two"]);
        assert_eq!(payload.iter().map(|&byte| char::from(byte)).collect::<String>(), expected);
    }
}

#[test]
fn frames_sends_headers_and_prints_the_body_of_a_refusal() {
    let (address, server) = serve(|mut stream| {
        let request = read_head(&mut stream);
        write!(stream, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nwho?\nyou?").unwrap();
        request
    });
    let ran = run("frames", &["-H", "X-One: 1", "--header", "X-Two: 2", &format!("ws://{address}/")], b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("401") && ran.err.contains("who?\nyou?"), "{ran:?}");
    let request = server.join().unwrap();
    assert!(request.contains("\r\nX-One: 1\r\n") && request.contains("\r\nX-Two: 2\r\n"), "{request}");
}

#[test]
fn frames_shows_a_violation_and_names_it() {
    let (url, server) = peer(|mut peer| {
        peer.put(TEXT | 0x40, "a reserved bit");
        let (_, close) = peer.up_to_close();
        peer.close(1002, "");
        close
    });
    let ran = run("frames", &["--wait", NEVER, &url], b"");
    assert!(ran.text().starts_with("< text 14 bytes fin rsv1\n> close "), "{ran:?}");
    assert!(ran.err.contains("RSV1"), "{ran:?}");
    assert_eq!(ran.code, Some(1));
    assert_eq!(server.join().unwrap()[..2], 1002_u16.to_be_bytes());
}

#[test]
fn frames_tells_that_a_connection_was_cut() {
    let (url, server) = peer(|mut peer| peer.put(TEXT, "the last word"));
    let ran = run("frames", &["--wait", NEVER, &url], b"");
    assert!(ran.text().starts_with("< text 13 bytes fin\n"), "{ran:?}");
    assert!(ran.err.contains("without a Close frame"), "{ran:?}");
    assert_eq!(ran.code, Some(1));
    server.join().unwrap();
}

#[test]
fn frames_gives_up_a_server_that_never_answers_the_close() {
    let (url, server) = peer(|mut peer| {
        peer.up_to_close();
        peer.outlast();
    });
    let ran = run("frames", &["--timeout", SOON, "--close", &url], b"");
    assert!(ran.text().starts_with("> close 2 bytes fin mask\n"), "{ran:?}");
    assert_eq!((ran.err.as_str(), ran.code), ("frames: the server did not answer the Close\n", Some(1)));
    server.join().unwrap();
}

#[cfg(unix)]
#[test]
fn frames_closes_on_an_interrupt() {
    let (url, server) = peer(|mut peer| {
        peer.put(TEXT, "ready");
        let (_, close) = peer.up_to_close();
        peer.close(1001, "");
        close
    });
    let mut program = Program::start("frames", &["--wait", NEVER, &url]);
    program.output.as_mut().unwrap().read_exact(&mut [0; 19]).unwrap();
    program.signal("INT");
    assert_eq!(program.end().code, Some(0));
    assert_eq!(server.join().unwrap(), 1001_u16.to_be_bytes());
}

#[cfg(feature = "tls")]
#[test]
fn insecure_accepts_any_certificate() {
    let folder = std::env::temp_dir().join(format!("insecure-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());

    let mut server = Program::start("echo_server", &["--tls", certificate, key, "127.0.0.1:0"]);
    let mut url = String::new();
    BufReader::new(server.output.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim_end();
    for name in ["cat", "frames"] {
        let refused = run(name, &[url], b"");
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("certificate"), "{refused:?}");
        let ran = run(name, &["--insecure", url], b"");
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
}
