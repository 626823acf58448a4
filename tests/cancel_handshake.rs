//! Opening handshakes that are given up at every point: what was sent is the start of what would have been sent,
//! the transport is let go, and nobody who goes on is harmed.

mod common;

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use common::{PipeReader, PipeWriter, Trickle, duplex};
use coro_websocket::{Accept, AcceptOptions, Options, StreamExt, accept_io, connect_io};
use futures::executor::block_on;

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// More polls than any handshake here takes.
const MANY: usize = 10_000;

/// Polls up to `polls` times, then drops the future.
fn give_up_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
    }
    None
}

fn trickle((read, write): (PipeReader, PipeWriter)) -> (Trickle<PipeReader>, Trickle<PipeWriter>) {
    (Trickle::new(read), Trickle::new(write))
}

#[test]
fn connect_io_dropped_at_every_poll_leaves_the_start_of_a_request_and_closes() {
    let mut completed = false;
    for polls in 0..MANY {
        let (near, (mut far_read, mut far_write)) = duplex(1 << 20);
        // A refusal, so that the answer does not depend on the key; longer than the request, since the rest of a
        // request that was refused already is not sent.
        let padding = "x".repeat(2 * REQUEST.len());
        far_write.put(
            format!("HTTP/1.1 403 Forbidden\r\nX: {padding}\r\nContent-Length: 4\r\n\r\nnope").as_bytes(),
        );
        let (read, write) = trickle(near);
        let options = Options::from_url("ws://server.example.com/chat").unwrap();
        let connected = give_up_after(connect_io(read, write, options), polls);
        let sent = far_read.take_all();
        assert!(far_read.is_ended(), "given up after {polls} polls, the transport is closed");
        let full = b"GET /chat HTTP/1.1\r\n";
        let shared = sent.len().min(full.len());
        assert_eq!(sent[..shared], full[..shared]);
        if let Some(result) = connected {
            let Err(error) = result else { panic!("the server refused") };
            assert_eq!(
                error.response().map(|response| (response.code(), response.body())),
                Some((403, &b"nope"[..]))
            );
            assert!(sent.ends_with(b"\r\n\r\n"));
            completed = true;
            break;
        }
    }
    assert!(completed, "the handshake ends within {MANY} polls");
}

#[test]
fn accept_io_dropped_at_every_poll_sends_nothing_and_closes() {
    let mut completed = false;
    for polls in 0..MANY {
        let (near, (mut far_read, mut far_write)) = duplex(1 << 20);
        far_write.put(REQUEST);
        let (read, write) = trickle(near);
        let upgrade = give_up_after(accept_io(read, write, AcceptOptions::default()), polls);
        let done = upgrade.is_some();
        // An upgrade that nobody answers is a connection that nobody wants.
        drop(upgrade);
        assert!(far_read.is_ended());
        assert_eq!(far_read.take_all(), b"");
        if done {
            completed = true;
            break;
        }
    }
    assert!(completed, "the request is read within {MANY} polls");
}

#[test]
fn accept_dropped_at_every_poll_leaves_the_start_of_the_answer_and_closes() {
    let whole = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let mut lengths = Vec::new();
    for polls in 0..MANY {
        let (near, (mut far_read, mut far_write)) = duplex(1 << 20);
        far_write.put(REQUEST);
        let (read, write) = trickle(near);
        let upgrade = block_on(accept_io(read, write, AcceptOptions::default())).unwrap();
        let accepted = give_up_after(upgrade.accept(Accept::default()), polls);
        let sent = far_read.take_all();
        assert!(whole.starts_with(&sent));
        lengths.push(sent.len());
        if let Some(result) = accepted {
            let (_request, mut read, _write) = result.map_err(|refused| refused.error).unwrap();
            assert_eq!(sent, whole);
            // The connection is whole: a frame that follows is read.
            far_write.put(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
            assert_eq!(block_on(read.next()).unwrap().unwrap().as_text(), Some("hi"));
            break;
        }
        assert!(far_read.is_ended());
    }
    assert!(lengths.is_sorted() && lengths.last() == Some(&whole.len()), "every point was reached");
}

#[test]
fn a_head_is_read_on_after_any_number_of_spurious_polls() {
    let (near, (_far_read, mut far_write)) = duplex(1 << 20);
    let (read, write) = trickle(near);
    let mut accept = pin!(accept_io(read, write, AcceptOptions::default()));
    let poll = |accept: Pin<&mut dyn Future<Output = Result<_, _>>>| {
        accept.poll(&mut Context::from_waker(Waker::noop()))
    };
    for byte in REQUEST {
        for _ in 0..3 {
            assert!(poll(accept.as_mut()).is_pending());
        }
        far_write.put(&[*byte]);
    }
    let upgrade = block_on(accept).unwrap();
    assert_eq!(upgrade.request().pathname(), "/chat");
}
