//! `Stats`: every byte behind the opening handshake is counted, whenever it was read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{
    alone,
    drive::{drive, settle},
    duplex, wire,
};
use coro_websocket::{
    Accept, AcceptOptions, Message, Options, Role, StreamExt, WrapOptions, accept_io, connect_io, wrap_frames,
};
use futures::{join, stream};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn bytes_that_came_with_the_answer_of_the_handshake_are_counted() {
    for len in [0, 7, 70_000] {
        let ((client_in, client_out), (server_in, server_out)) = duplex(1 << 20);
        let client = connect_io(client_in, client_out, Options::from_url("ws://host/").unwrap());
        let server = async {
            let upgrade = accept_io(server_in, server_out, AcceptOptions::default()).await.unwrap();
            let (_, read, mut write) = upgrade.accept(Accept::default()).await.unwrap();
            write.binary(vec![1; len]).await.unwrap();
            (read, write)
        };
        drive(async {
            let (client, (_server_read, server_write)) = join!(client, server);
            let (_, mut read, write) = client.unwrap();
            assert_eq!(read.next().await.unwrap().unwrap().payload, vec![1; len]);
            assert_eq!(read.stats().frames_in, 1);
            assert_eq!(read.stats().bytes_in, server_write.stats().bytes_out);
            assert_eq!(write.stats(), read.stats());
        });
    }
}

#[test]
fn bytes_that_came_with_the_request_are_counted() {
    let ((server_in, server_out), (_far_in, mut far)) = duplex(1 << 20);
    far.put(
        b"GET / HTTP/1.1\r\nHost: host\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let frames =
        [wire::to(Role::Server, wire::TEXT, "early"), wire::to(Role::Server, wire::PING, "")].concat();
    far.put(&frames);
    drive(async {
        let upgrade = accept_io(server_in, server_out, AcceptOptions::default()).await.unwrap();
        let (_, mut read, _write) = upgrade.accept(Accept::default()).await.unwrap();
        assert_eq!(read.stats().bytes_in, frames.len() as u64, "they have been received");
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("early"));
        assert!(read.next().await.unwrap().is_ok());
        assert_eq!((read.stats().frames_in, read.stats().bytes_in), (2, frames.len() as u64));
    });
}

#[test]
fn bytes_that_are_thrown_away_at_the_end_are_counted() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1 << 20, WrapOptions::new(role));
        let violation = wire::to(role, 0x83, "");
        far.put(&violation);
        assert!(settle(&mut read.next()).is_pending());
        far.put(&[7; 1000]);
        assert!(settle(&mut read.next()).is_pending());
        assert_eq!(read.stats().bytes_in, violation.len() as u64 + 1000);
    }
}

#[test]
fn decoded_frames_are_counted_by_their_length_on_the_wire() {
    let frames = [Message::binary(vec![1; 200]), Message::close(1000, ""), Message::text("behind")];
    let stream = stream::iter(frames.map(Ok::<_, coro_websocket::Error>));
    let (mut read, _write) = wrap_frames(stream, futures::sink::drain(), WrapOptions::client());
    while drive(read.next()).is_some() {}
    assert_eq!((read.stats().frames_in, read.stats().bytes_in), (2, 204 + 4 + 8));
}
