//! The example `cat`, run as a program.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[path = "common/program.rs"]
mod program;
#[path = "common/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "other test files use the rest")]
mod wire;

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use net::{PATIENCE, read_head, serve};
use program::{Program, peer, run};
use wire::{BINARY, FIRST_TEXT, LAST, PING, PONG, TEXT};

/// Longer than a test may take: what ends by this limit is found to hang.
const NEVER: &str = "3600";

/// A short time, for a peer that does not do its part.
const SOON: &str = "2";

const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

#[test]
fn each_line_is_sent_as_text_and_each_message_is_printed_as_a_line() {
    let (url, server) = peer(|mut peer| {
        for expected in ["one", "zw\u{f6}lf", "", "the last one has no line end"] {
            let frame = peer.next().unwrap();
            assert_eq!((frame.first, frame.payload.as_slice()), (TEXT, expected.as_bytes()));
            peer.put(TEXT, frame.payload);
        }
        assert_eq!(peer.up_to_close(), (vec![], NORMAL.to_vec()));
        peer.close(1000, "");
    });
    let input = "one\r\nzw\u{f6}lf\n\nthe last one has no line end";
    let ran = run("cat", &["--wait", NEVER, &url], input.as_bytes());
    assert_eq!(ran.text(), "one\nzw\u{f6}lf\n\nthe last one has no line end\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    server.join().unwrap();
}

#[test]
fn close_is_sent_at_once_after_input_without_a_line() {
    let (url, server) = peer(|mut peer| {
        assert_eq!(peer.up_to_close(), (vec![], NORMAL.to_vec()));
        peer.close(1000, "");
    });
    assert_eq!(run("cat", &["--wait", NEVER, &url], b"").code, Some(0));
    server.join().unwrap();
}

/// Many servers answer a Close before their handler has seen the messages in front of it.
#[test]
fn close_is_sent_only_after_each_line_has_an_answer() {
    let (url, server) = peer(|mut peer| {
        assert_eq!(peer.next().unwrap().payload, b"one");
        assert_eq!(peer.next().unwrap().payload, b"two");
        peer.put(TEXT, "first answer");
        peer.put(PING, "not an answer");
        assert_eq!(peer.next().unwrap().first, PONG);
        peer.put(FIRST_TEXT, "not a whole");
        peer.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(peer.stream.peek(&mut [0]).is_err(), "a Close before the second answer");
        peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.put(LAST, " answer");
        assert_eq!(peer.up_to_close().1, NORMAL);
        peer.close(1000, "");
    });
    let ran = run("cat", &["--wait", NEVER, &url], b"one\ntwo\n");
    assert_eq!((ran.text(), ran.code), ("first answer\nnot a whole answer\n", Some(0)));
    server.join().unwrap();
}

#[test]
fn server_that_does_not_answer_lines_gets_the_close_after_the_wait() {
    let (url, server) = peer(|mut peer| {
        let (lines, close) = peer.up_to_close();
        assert_eq!((lines.len(), close), (2, NORMAL.to_vec()));
        peer.close(1000, "");
    });
    assert_eq!(run("cat", &[&url], b"one\ntwo\n").code, Some(0));
    server.join().unwrap();
}

#[test]
fn answers_behind_the_close_are_printed() {
    let (url, server) = peer(|mut peer| {
        let (lines, _) = peer.up_to_close();
        for line in lines {
            peer.put(TEXT, [b"late ", line.as_slice()].concat());
        }
        peer.put(BINARY, vec![b'x'; 300_000]);
        peer.close(1000, "");
    });
    let ran = run("cat", &["--wait", "0", &url], b"one\ntwo\n");
    assert_eq!(ran.text(), format!("late one\nlate two\n{}\n", "x".repeat(300_000)));
    assert_eq!(ran.code, Some(0));
    server.join().unwrap();
}

#[test]
fn program_ends_at_the_servers_close_though_the_socket_stays_open() {
    for (input, is_closed_first) in [(&b""[..], true), (b"line\n", false)] {
        let (url, server) = peer(move |mut peer| {
            if is_closed_first {
                peer.up_to_close();
            }
            peer.close(1000, "");
            peer.outlast();
        });
        let mut program = Program::start("cat", &["--timeout", NEVER, "--wait", NEVER, &url]);
        program.input.as_mut().unwrap().write_all(input).unwrap();
        if is_closed_first {
            drop(program.input.take());
        }
        let ran = program.end();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        server.join().unwrap();
    }
}

#[test]
fn server_that_never_answers_the_close_is_given_up_after_the_timeout() {
    let (url, server) = peer(|mut peer| {
        peer.up_to_close();
        peer.outlast();
    });
    let ran = run("cat", &["--timeout", SOON, &url], b"");
    assert_eq!(ran.err, "cat: the server did not answer the Close\n");
    assert_eq!(ran.code, Some(1));
    server.join().unwrap();
}

#[test]
fn server_that_sends_for_ever_is_given_up_after_the_timeout() {
    let (url, _) = peer(|peer| peer.flood(TEXT, b"tick"));
    let ran = run("cat", &["--timeout", SOON, &url], b"line\n");
    assert!(ran.text().starts_with("tick\ntick\n"));
    assert_eq!(ran.code, Some(1), "{}", ran.err);
}

#[cfg(unix)]
#[test]
fn server_that_takes_nothing_is_given_up_after_the_timeout() {
    let (url, server) = peer(|peer| peer);
    let mut program = Program::start("cat", &["--timeout", SOON, &url]);
    let idle = server.join().unwrap();
    program.give(&[b'x'; 16 << 20]);
    program.signal("INT");
    assert_eq!(program.end().code, Some(1));
    drop(idle);
}

#[test]
fn codes_from_1002_to_1015_give_a_failure() {
    for code in [1000, 1001, 3000, 4999] {
        let (url, server) = peer(move |mut peer| peer.close(code, "so long"));
        let program = Program::start("cat", &[&url]);
        let ran = program.end();
        assert!(ran.err.contains(&format!("{code} so long")), "{ran:?}");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        server.join().unwrap();
    }
    for code in 1002..=1015 {
        let (url, server) = peer(move |mut peer| peer.close(code, "so long"));
        let ran = Program::start("cat", &[&url]).end();
        assert_eq!(ran.code, Some(1), "{ran:?}");
        if !matches!(code, 1004..=1006 | 1015) {
            assert!(ran.err.contains(&format!("{code} so long")), "{ran:?}");
        }
        server.join().unwrap();
    }
}

#[test]
fn close_without_a_code_is_a_clean_one() {
    let (url, server) = peer(|mut peer| peer.put(wire::CLOSE, ""));
    let ran = Program::start("cat", &[&url]).end();
    assert_eq!((ran.err.as_str(), ran.code), ("cat: Close from the server: without a code\n", Some(0)));
    server.join().unwrap();
}

#[test]
fn close_reason_cannot_control_the_terminal() {
    let (url, server) = peer(|mut peer| peer.close(1000, "\u{1b}[31mred\n\u{9b}"));
    let ran = Program::start("cat", &[&url]).end();
    assert_eq!(ran.err, "cat: Close from the server: 1000 \\u{1b}[31mred\\n\\u{9b}\n");
    server.join().unwrap();
}

#[test]
fn connection_that_is_cut_is_an_error() {
    let (url, server) = peer(|mut peer| peer.put(TEXT, "the last word"));
    let ran = Program::start("cat", &[&url]).end();
    assert_eq!((ran.text(), ran.code), ("the last word\n", Some(1)));
    assert!(ran.err.starts_with("cat: "), "{ran:?}");
    server.join().unwrap();
}

#[cfg(unix)]
#[test]
fn interrupt_sends_a_close_and_prints_what_is_still_to_come() {
    for signal in ["INT", "TERM"] {
        let (url, server) = peer(|mut peer| {
            peer.put(TEXT, "ready");
            assert_eq!(peer.up_to_close(), (vec![], GOING_AWAY.to_vec()));
            peer.put(TEXT, "last");
            peer.close(1001, "");
        });
        let mut program = Program::start("cat", &[&url]);
        let mut ready = [0; 6];
        program.output.as_mut().unwrap().read_exact(&mut ready).unwrap();
        program.signal(signal);
        let ran = program.end();
        assert_eq!((ran.text(), ran.code), ("last\n", Some(0)), "{ran:?}");
        server.join().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn second_interrupt_ends_the_program_at_once() {
    let (closing, closed) = std::sync::mpsc::channel();
    let (url, server) = peer(move |mut peer| {
        peer.put(TEXT, "ready");
        peer.up_to_close();
        closing.send(()).unwrap();
        peer.outlast();
    });
    let mut program = Program::start("cat", &["--timeout", NEVER, &url]);
    program.output.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    program.signal("INT");
    closed.recv_timeout(PATIENCE).unwrap();
    program.signal("INT");
    assert_eq!(program.end().code, Some(130));
    server.join().unwrap();
}

#[cfg(unix)]
#[test]
fn second_interrupt_ends_a_program_whose_output_is_blocked() {
    let (url, _) = peer(|peer| peer.flood(BINARY, &[b'x'; 4096]));
    let mut program = Program::start("cat", &["--timeout", NEVER, &url]);
    let mut output = program.output.take().unwrap();
    output.read_exact(&mut [0; 4097]).unwrap();
    // Two that come at the same time count as one.
    while program.is_running() {
        program.signal("INT");
    }
    assert_eq!(program.end().code, Some(130));
}

#[test]
fn input_that_is_not_utf8_ends_with_a_close_and_an_error() {
    let (url, server) = peer(|mut peer| {
        let (lines, close) = peer.up_to_close();
        peer.close(1001, "");
        (lines, close)
    });
    let ran = run("cat", &[&url], b"good\nbad \xFF\nnever sent\n");
    assert!(
        ran.err.contains("line 2") && ran.err.contains("UTF-8") && ran.err.contains("--binary"),
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(1));
    assert_eq!(server.join().unwrap(), (vec![b"good".to_vec()], GOING_AWAY.to_vec()));
}

#[test]
fn binary_passes_bytes_unchanged_both_ways() {
    let input = wire::Dice::new(7).bytes(300_000);
    let expected = input.clone();
    let (url, server) = peer(move |mut peer| {
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let frame = peer.next().unwrap();
            assert_eq!(frame.first, BINARY);
            peer.put(BINARY, &frame.payload);
            received.extend(frame.payload);
        }
        assert!(received == expected);
        peer.put(TEXT, "text\n");
        peer.up_to_close();
        peer.close(1000, "");
    });
    let ran = run("cat", &["--binary", "--wait", NEVER, &url], &input);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out == [&input[..], b"text\n"].concat());
    server.join().unwrap();
}

#[test]
fn headers_are_sent_and_the_body_of_a_refusal_is_printed() {
    let (address, server) = serve(|mut stream| {
        let request = read_head(&mut stream);
        let body = "\u{1b}[31mFirst get a key.\nThen come back.\n";
        let length = body.len();
        write!(stream, "HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        request
    });
    let args = ["-H", "X-One: a:b", "--header", "X-Two:2", &format!("ws://{address}/")];
    let ran = run("cat", &args, b"");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("cat: ") && ran.err.contains("403"), "{ran:?}");
    assert!(
        ran.err.contains("First get a key.\nThen come back.\n") && !ran.err.contains('\u{1b}'),
        "{ran:?}"
    );
    let request = server.join().unwrap();
    assert!(request.contains("\r\nX-One: a:b\r\n") && request.contains("\r\nX-Two: 2\r\n"), "{request}");
}

#[test]
fn server_gets_a_close_when_standard_output_is_closed() {
    let (url, server) = peer(|mut peer| {
        peer.put(TEXT, "for nothing");
        let (_, close) = peer.up_to_close();
        peer.close(1001, "");
        close
    });
    let mut program = Program::start("cat", &[&url]);
    drop(program.output.take());
    let ran = program.end();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("standard output"), "{ran:?}");
    assert_eq!(server.join().unwrap(), GOING_AWAY);
}
