//! The closing handshake (RFC 6455 §7).

mod common;

use std::time::Duration;

use common::{connected, duplex};
use coro_websocket::{
    CloseCode, Error, Message, Opcode, ProtocolError, SinkExt, StreamExt, WrapOptions, shutdown, wrap_io,
};
use futures::{executor::block_on, join};

fn pair() -> ((common::PipeRead, common::PipeWrite), (common::PipeRead, common::PipeWrite)) {
    connected(64 << 10, WrapOptions::client(), WrapOptions::server())
}

#[test]
fn close_is_echoed_and_yielded_on_both_sides_before_the_end() {
    let ((mut client_read, mut client_write), (mut server_read, _server_write)) = pair();
    block_on(async {
        client_write.close_with(4999, "bye").await.unwrap();
        let server = async {
            let close = server_read.next().await.unwrap().unwrap();
            assert_eq!(close.as_close().unwrap().unwrap().code, CloseCode::new(4999));
            assert!(server_read.next().await.is_none());
            assert!(server_read.close_frames().is_clean());
        };
        let client = async {
            let close = client_read.next().await.unwrap().unwrap();
            assert_eq!(close.as_close().unwrap().unwrap().reason, "bye");
            assert!(client_read.next().await.is_none());
            assert!(client_read.close_frames().is_clean());
        };
        join!(server, client);
    });
}

#[test]
fn sink_close_sends_an_empty_close_and_a_second_one_changes_nothing() {
    let ((mut client_read, mut client_write), (mut server_read, mut server_write)) = pair();
    block_on(async {
        SinkExt::close(&mut client_write).await.unwrap();
        SinkExt::close(&mut client_write).await.unwrap();
        client_write.close_with(1000, "again").await.unwrap();
        assert!(client_write.is_closed());
        assert!(matches!(client_write.text("late").await, Err(Error::Closed(_))));
        let server = async {
            let close = server_read.next().await.unwrap().unwrap();
            assert_eq!((close.opcode, close.len), (Opcode::CLOSE, 0));
            assert!(server_read.next().await.is_none());
            assert!(matches!(server_write.text("late").await, Err(Error::Closed(_))));
        };
        let client = async {
            assert_eq!(client_read.next().await.unwrap().unwrap().opcode, Opcode::CLOSE);
            assert!(client_read.next().await.is_none());
        };
        join!(server, client);
    });
}

#[test]
fn data_is_yielded_after_our_close_until_the_peers_close() {
    let ((mut client_read, mut client_write), (mut server_read, mut server_write)) = pair();
    block_on(async {
        server_write.feed(Message::text("under way")).await.unwrap();
        server_write.feed(Message::ping("")).await.unwrap();
        client_write.close_with(1000, "").await.unwrap();
        let server = async { while server_read.next().await.is_some() {} };
        let client = async {
            let mut seen = Vec::new();
            while let Some(message) = client_read.next().await {
                seen.push(message.unwrap().opcode);
            }
            assert_eq!(seen, [Opcode::TEXT, Opcode::PING, Opcode::CLOSE]);
        };
        join!(server, client);
        assert_eq!(server_read.stats().frames_in, 1, "nothing is read behind the Close");
    });
}

#[test]
fn eof_without_close_is_an_error_and_then_the_end() {
    let ((read, write), (far_read, far_write)) = duplex(1024);
    let (mut read, _write) = wrap_io(read, write, WrapOptions::client());
    drop((far_read, far_write));
    block_on(async {
        assert!(matches!(read.next().await, Some(Err(Error::Lost))));
        assert!(read.next().await.is_none());
        assert!(!read.close_frames().is_clean());
    });
}

#[test]
fn a_violation_is_answered_with_close_then_shut_then_the_error_comes() {
    let ((read, write), (mut far_read, mut far_write)) = duplex(1024);
    let (mut read, mut write) = wrap_io(read, write, WrapOptions::client());
    far_write.put(&[0x83, 0x00]);
    drop(far_write);
    block_on(async {
        assert!(matches!(
            read.next().await,
            Some(Err(Error::Protocol { error: ProtocolError::ReservedOpcode, .. }))
        ));
        assert!(read.next().await.is_none());
        assert!(far_read.is_ended());
        assert!(matches!(write.text("late").await, Err(Error::Closed(_))));
    });
    let mut bytes = far_read.take_all();
    let (frame, _) = coro_websocket::codec::decode(&mut bytes).unwrap();
    assert_eq!(frame.opcode, Opcode::CLOSE);
    assert_eq!(frame.payload[..2], 1002_u16.to_be_bytes());
}

#[test]
fn shutdown_performs_the_whole_handshake_and_throws_data_away() {
    let ((mut client_read, mut client_write), (mut server_read, mut server_write)) = pair();
    block_on(async {
        server_write.text("not awaited").await.unwrap();
        let server = async { while server_read.next().await.is_some() {} };
        let client = shutdown(&mut client_read, &mut client_write, 1001, "leaving", Duration::from_secs(60));
        let ((), frames) = join!(server, client);
        let frames = frames.unwrap();
        assert!(frames.is_clean());
        assert_eq!(frames.received.unwrap().code, CloseCode::GOING_AWAY);
    });
}

#[test]
fn a_peer_that_never_answers_close_is_left_at_the_deadline() {
    let ((mut client_read, mut client_write), _silent) = pair();
    block_on(async {
        let frames = shutdown(&mut client_read, &mut client_write, 1000, "", Duration::from_millis(30)).await;
        let frames = frames.unwrap();
        assert!(frames.sent.is_some() && frames.received.is_none());
        assert!(client_read.next().await.is_none());
        assert!(matches!(client_write.text("late").await, Err(Error::Closed(_))));
    });
}
