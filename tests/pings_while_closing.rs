//! Pings that arrive after our own Close are answered until the peer's Close has arrived (RFC 6455 §5.5.2), and never
//! by a connection that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    task::Poll,
    thread,
    time::Duration,
};

use async_io::Async;
use common::{
    Far, PipeRead, PipeWrite, alone,
    drive::{drive, settle},
    wire,
};
use coro_websocket::{
    Checks, Error, Message, Opcode, Role, SinkExt, StreamExt, WrapOptions, shutdown, wrap_frames, wrap_io,
};
use futures::{channel::mpsc, executor::block_on};
use socket2::{Domain, SockRef, Socket, Type};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Reads all frames that have arrived, and returns their opcodes.
fn read_all(read: &mut PipeRead) -> Vec<Opcode> {
    let mut opcodes = Vec::new();
    while let Poll::Ready(Some(message)) = settle(&mut read.next()) {
        opcodes.push(message.unwrap().opcode);
    }
    opcodes
}

fn firsts(far: &mut Far) -> Vec<u8> {
    far.frames().iter().map(|frame| frame.first).collect()
}

fn close(write: &mut PipeWrite, way: usize) {
    drive(async {
        match way {
            0 => write.close_with(1000, "done").await.unwrap(),
            1 => SinkExt::close(write).await.unwrap(),
            2 => write.send(Message::close(4000, "")).await.unwrap(),
            _ => write.feed(Message::close(1001, "")).await.unwrap(),
        }
    });
}

/// §5.5.2: "an endpoint MUST send a Pong frame in response, unless it already received a Close frame."
#[test]
fn a_ping_after_our_close_is_answered_until_the_close_of_the_peer() {
    for role in ROLES {
        for checks in [Checks::Strict, Checks::Report] {
            for way in 0..4 {
                let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role).checks(checks));
                close(&mut write, way);
                for payload in ["one", "two"] {
                    far.put(&wire::to(role, wire::PING, payload));
                    far.put(&wire::to(role, wire::TEXT, "tail"));
                    assert_eq!(read_all(&mut read), [Opcode::PING, Opcode::TEXT]);
                }
                far.put(&wire::close_to(role, 1000, ""));
                far.put(&wire::to(role, wire::PING, "too late"));
                assert_eq!(read_all(&mut read), [Opcode::CLOSE]);
                let sent = far.frames();
                assert_eq!(
                    sent.iter().map(|frame| frame.first).collect::<Vec<_>>(),
                    [wire::CLOSE, wire::PONG, wire::PONG]
                );
                assert_eq!((&sent[1].payload[..], &sent[2].payload[..]), (&b"one"[..], &b"two"[..]));
                assert!(read.close_frames().is_clean());
            }
        }
    }
}

#[test]
fn shutdown_answers_pings_while_it_waits_for_the_close_of_the_peer() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        let mut closing = Box::pin(shutdown(&mut read, &mut write, 1000, "", Duration::from_secs(60)));
        assert!(settle(&mut closing).is_pending());
        far.put(&wire::to(role, wire::PING, "still there?"));
        assert!(settle(&mut closing).is_pending());
        assert_eq!(firsts(&mut far), [wire::CLOSE, wire::PONG]);
        far.put(&wire::close_to(role, 1000, ""));
        drop(far.output);
        assert!(matches!(settle(&mut closing), Poll::Ready(Ok(frames)) if frames.is_clean()));
    }
}

#[test]
fn a_ping_inside_a_fragmented_message_is_answered_after_our_close() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::FIRST_TEXT, "a"));
        // Our own message is left open too.
        drive(write.send(Message { fin: false, ..Message::text("never ended") })).unwrap();
        close(&mut write, 0);
        far.put(&wire::to(role, wire::PING, ""));
        far.put(&wire::to(role, wire::LAST, "b"));
        assert_eq!(read_all(&mut read), [Opcode::TEXT, Opcode::PING, Opcode::CONTINUATION]);
        assert_eq!(firsts(&mut far), [wire::FIRST_TEXT, wire::CLOSE, wire::PONG]);
    }
}

#[test]
fn above_the_mark_the_latest_ping_is_answered_behind_our_close() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role).write_buffer_len(1));
        drive(write.feed(Message::binary(vec![7; 100]))).unwrap();
        let mut closing = Box::pin(write.close_with(1000, ""));
        assert!(settle(&mut closing).is_pending());
        for payload in ["first", "second", "latest"] {
            far.put(&wire::to(role, wire::PING, payload));
        }
        assert_eq!(read_all(&mut read), [Opcode::PING; 3]);
        let mut sent = Vec::new();
        for _ in 0..100 {
            sent.extend(far.input.take_all());
            let _ = settle(&mut read.next());
        }
        let sent = wire::frames(&sent);
        assert_eq!(
            sent.iter().map(|frame| frame.first).collect::<Vec<_>>(),
            [wire::BINARY, wire::CLOSE, wire::PONG]
        );
        assert_eq!(sent[2].payload, b"latest");
        assert!(settle(&mut closing).is_ready());
    }
}

#[test]
fn a_pong_that_still_waits_is_dropped_when_the_close_of_the_peer_comes() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role).write_buffer_len(1));
        drive(write.feed(Message::binary(vec![7; 100]))).unwrap();
        drive(write.feed(Message::close(1000, ""))).unwrap();
        far.put(&wire::to(role, wire::PING, ""));
        far.put(&wire::close_to(role, 1000, ""));
        assert_eq!(read_all(&mut read), [Opcode::PING, Opcode::CLOSE]);
        let mut sent = Vec::new();
        for _ in 0..100 {
            sent.extend(far.input.take_all());
            let _ = settle(&mut read.next());
        }
        assert_eq!(
            wire::frames(&sent).iter().map(|frame| frame.first).collect::<Vec<_>>(),
            [wire::BINARY, wire::CLOSE]
        );
    }
}

/// §7.1.7: a connection that fails sends its Close and nothing behind it.
#[test]
fn a_failing_connection_answers_no_pings() {
    for role in ROLES {
        for closed_before in [false, true] {
            let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role).write_buffer_len(1));
            drive(write.feed(Message::binary(vec![7; 100]))).unwrap();
            if closed_before {
                drive(write.feed(Message::close(1000, ""))).unwrap();
            }
            // The Pong has to wait, and before it can go the peer breaks the protocol.
            far.put(&wire::to(role, wire::PING, "before"));
            far.put(&wire::to(role, 0x83, ""));
            far.put(&wire::to(role, wire::PING, "behind"));
            assert_eq!(read_all(&mut read), [Opcode::PING]);
            let mut sent = Vec::new();
            for _ in 0..100 {
                sent.extend(far.input.take_all());
                let _ = settle(&mut read.next());
            }
            let sent = wire::frames(&sent);
            assert_eq!(sent.iter().map(|frame| frame.first).collect::<Vec<_>>(), [wire::BINARY, wire::CLOSE]);
            assert_eq!(sent[1].close_code(), if closed_before { 1000 } else { 1002 });
            drop(far);
            assert!(matches!(drive(read.next()), Some(Err(Error::Protocol { .. }))));
        }
    }
}

#[test]
fn an_abandoned_connection_answers_no_pings() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role).write_buffer_len(1));
        drive(write.feed(Message { fin: false, ..Message::binary(vec![7; 100]) })).unwrap();
        far.put(&wire::to(role, wire::PING, "before"));
        assert_eq!(read_all(&mut read), [Opcode::PING]);
        drop(write);
        let mut sent = Vec::new();
        for _ in 0..100 {
            sent.extend(far.input.take_all());
            let _ = settle(&mut read.next());
        }
        let sent = wire::frames(&sent);
        assert_eq!(
            sent.iter().map(|frame| frame.first).collect::<Vec<_>>(),
            [wire::FIRST_BINARY, wire::CLOSE]
        );
    }
}

#[test]
fn without_auto_pong_a_ping_after_our_close_is_only_yielded() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role).auto_pong(false));
        close(&mut write, 0);
        far.put(&wire::to(role, wire::PING, ""));
        assert_eq!(read_all(&mut read), [Opcode::PING]);
        assert_eq!(firsts(&mut far), [wire::CLOSE]);
        assert!(
            matches!(drive(write.pong("")), Err(Error::Closed(None))),
            "the caller sends nothing any more"
        );
    }
}

#[test]
fn over_decoded_frames_a_ping_after_our_close_is_answered_too() {
    let (sink, mut sent) = mpsc::channel(8);
    let (mut put, stream) = mpsc::channel(8);
    let ok = |message| Ok::<Message, Error>(message);
    let (mut read, mut write) = wrap_frames(stream.map(ok), sink, WrapOptions::server());
    drive(async {
        write.close_with(1000, "").await.unwrap();
        put.try_send(Message::ping("x")).unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().opcode, Opcode::PING);
        assert!(settle(&mut read.next()).is_pending());
        assert_eq!(sent.next().await.unwrap().opcode, Opcode::CLOSE);
        assert_eq!(sent.next().await.unwrap(), Message::pong("x"));
        put.try_send(Message::close(1000, "")).unwrap();
        put.try_send(Message::ping("y")).unwrap();
        drop(put);
        while read.next().await.transpose().unwrap().is_some() {}
        drop((read, write));
        assert_eq!(sent.next().await, None);
    });
}

/// A server whose socket is closed answers such a Pong by a reset, and then drops what the client has not read yet.
#[test]
#[allow(clippy::disallowed_methods, reason = "the server is a thread")]
fn pongs_of_a_client_that_closes_destroy_no_data_of_the_server() {
    const LEN: usize = 1 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // The data lies in the server's socket while the server closes.
    client.set_recv_buffer_size(4 << 10).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let mut client = TcpStream::from(client);
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        SockRef::from(&stream).set_send_buffer_size(4 * LEN).unwrap();
        let stream = async_net::TcpStream::from(Async::new(stream).unwrap());
        let (mut read, mut write) = wrap_io(stream.clone(), stream, WrapOptions::server());
        block_on(async {
            write.send(Message::ping("")).await.unwrap();
            write.send(Message::binary(vec![7; LEN])).await.unwrap();
            while let Some(message) = read.next().await {
                message.unwrap();
            }
        });
        read.close_frames().is_clean()
    });
    client.write_all(&wire::close_to(Role::Server, 1000, "")).unwrap();
    let (mut received, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        // The client has not seen the server's Close yet.
        let _ = client.write_all(&wire::to(Role::Server, wire::PONG, ""));
        match client.read(&mut chunk).unwrap() {
            0 => break,
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
    drop(client);
    assert!(server.join().unwrap());
    let close = wire::close_to(Role::Client, 1000, "");
    assert_eq!(received.len(), 2 + LEN + 10 + close.len());
    assert!(received.ends_with(&close));
}

#[test]
fn server_that_has_sent_pings_waits_for_the_end_of_the_client() {
    for pings in [false, true] {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::server());
        if pings {
            drive(write.send(Message::ping("x"))).unwrap();
        }
        far.put(&wire::close_to(Role::Server, 1000, ""));
        assert_eq!(read_all(&mut read), [Opcode::CLOSE]);
        assert_eq!(settle(&mut read.next()).is_pending(), pings);
        assert!(far.input.is_ended(), "the server ends its side first");
        far.put(&wire::to(Role::Server, wire::PONG, "x"));
        drop(far.output);
        assert!(drive(read.next()).is_none());
        assert!(read.close_frames().is_clean());
    }
}
