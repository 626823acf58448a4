//! A peer that lives is not declared dead: over real sockets, by readers that come late and peers that read slowly.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a panic fails the test, and peers run on threads"
)]

#[path = "common/net.rs"]
mod net;
#[cfg(feature = "tls")]
#[path = "common/tls.rs"]
mod tls;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use async_io::Timer;
use coro_websocket::{
    Heartbeat, Message, Opcode, Options, Read, Role, Server, ServerOptions, StreamExt, Write, codec, connect,
};
use futures::{
    executor::block_on,
    future::{join, try_join},
};

const TICK: Duration = Duration::from_millis(20);

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    #[cfg(unix)]
    Unix,
    #[cfg(feature = "tls")]
    Tls,
}

const TRANSPORTS: &[Transport] = &[
    Transport::Tcp,
    #[cfg(unix)]
    Transport::Unix,
    #[cfg(feature = "tls")]
    Transport::Tls,
];

type Halves = (Read, Write);

/// Both ends of a connection over our own sockets. The first end is tested; only it has the heartbeat.
fn open(transport: Transport, tested: Role, heartbeat: Option<Heartbeat>) -> (Halves, Halves) {
    let mut accepting = ServerOptions::default().no_heartbeat();
    let mut connecting = Options::default();
    match (heartbeat, tested) {
        (None, _) => {}
        (Some(heartbeat), Role::Server) => accepting = accepting.heartbeat(heartbeat),
        (Some(heartbeat), Role::Client) => connecting = connecting.heartbeat(heartbeat),
    }
    #[cfg(feature = "tls")]
    if transport == Transport::Tls {
        let authority = tls::Authority::new("liveness");
        let identity = authority.sign(tls::server_params(&["localhost"]));
        accepting = accepting
            .tls(coro_websocket::ServerTls::pem(identity.certificate_pem.clone(), identity.key_pem.clone()));
        connecting = connecting.tls(tls::trusting(&authority));
    }
    #[cfg(unix)]
    if transport == Transport::Unix {
        let role = if tested == Role::Client { "client" } else { "server" };
        let name = format!("coro-websocket-{}-{role}-{}.sock", std::process::id(), heartbeat.is_some());
        let path = std::env::temp_dir().join(name);
        let server = block_on(Server::bind(path.clone(), accepting)).unwrap();
        return meet(&server, connecting.path(path), tested);
    }
    let server = block_on(Server::bind("127.0.0.1:0", accepting)).unwrap();
    let port = server.local_addr().unwrap().port();
    meet(&server, connecting.host("localhost").port(port), tested)
}

fn meet(server: &Server, options: Options, tested: Role) -> (Halves, Halves) {
    let (accepted, connected) = block_on(join(server.accept(), connect(options)));
    let (_, read, write) = accepted.unwrap().unwrap();
    let accepted = (read, write);
    let (_, read, write) = connected.unwrap();
    let connected = (read, write);
    if tested == Role::Client { (connected, accepted) } else { (accepted, connected) }
}

/// Every transport in both roles.
fn everywhere(test: impl Fn(Transport, Role) + Sync) {
    thread::scope(|scope| {
        for (transport, role) in TRANSPORTS.iter().flat_map(|&transport| ROLES.map(|role| (transport, role)))
        {
            let test = &test;
            scope.spawn(move || test(transport, role));
        }
    });
}

/// Streams an answer before it reads again, as handlers do.
#[test]
fn peer_that_has_answered_every_ping_lives_though_no_task_has_read_for_long() {
    everywhere(|transport, role| {
        let heartbeat = Heartbeat::ping(2 * TICK).timeout(3 * TICK);
        let ((mut read, mut write), (mut far_read, mut far_write)) = open(transport, role, Some(heartbeat));
        let far = thread::spawn(move || {
            block_on(async {
                far_write.text("go").await.unwrap();
                let mut ticks = 0;
                while let Some(Ok(message)) = far_read.next().await {
                    ticks += u32::from(message.is_data());
                    if ticks == 10 {
                        return far_write.text("I live").await.unwrap();
                    }
                }
                panic!("{transport:?} {role:?}: the end after {ticks} messages");
            });
        });
        block_on(async {
            assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("go"));
            for _ in 0..10 {
                Timer::after(2 * TICK).await;
                write.text("tick").await.unwrap();
            }
            Timer::after(TICK).await;
            loop {
                let message = read.next().await.unwrap();
                let message = message.unwrap_or_else(|error| panic!("{transport:?} {role:?}: {error}"));
                if message.is_data() {
                    break assert_eq!(message.as_text(), Some("I live"));
                }
            }
        });
        far.join().unwrap();
    });
}

#[test]
fn frame_that_has_arrived_is_found_in_no_time() {
    everywhere(|transport, role| {
        let ((mut read, _write), (_far_read, mut far_write)) = open(transport, role, None);
        block_on(async {
            for text in ["one", "two", "three"] {
                far_write.text(text).await.unwrap();
                Timer::after(2 * TICK).await;
                let found = read.next_timeout(Duration::ZERO).await;
                let found = found.unwrap_or_else(|error| panic!("{transport:?} {role:?}: {error}"));
                assert_eq!(found.unwrap().as_text(), Some(text));
            }
            assert!(read.next_timeout(Duration::ZERO).await.is_err(), "nothing more is there");
        });
    });
}

#[test]
fn bulk_goes_out_though_the_system_is_to_keep_little() {
    everywhere(|transport, role| {
        let heartbeat = Heartbeat::ping(Duration::from_secs(1));
        let ((mut read, mut write), (mut far_read, _far_write)) = open(transport, role, Some(heartbeat));
        let far = thread::spawn(move || {
            block_on(async {
                let mut bytes = 0;
                while let Some(message) = far_read.next().await {
                    bytes += message.ok().filter(Message::is_data).map_or(0, |message| message.payload.len());
                }
                bytes
            })
        });
        let writing = async {
            for len in [1, 100_000, 3 << 20, 10] {
                write.binary(vec![7; len]).await?;
            }
            write.close_with(1000, "").await
        };
        block_on(try_join(writing, read.drive())).unwrap();
        assert_eq!(far.join().unwrap(), 100_011 + (3 << 20), "{transport:?} {role:?}");
    });
}

/// The number of bytes that the slow peer reads in a second.
const SLOW: u64 = 400_000;

/// A peer that reads slowly and without pause, answers each Ping when it comes to it, and the Close.
fn slow_peer(mut socket: TcpStream, mask: Option<[u8; 4]>) -> usize {
    let mut bytes = Vec::new();
    let mut messages = 0;
    loop {
        let mut chunk = [0; 8_000];
        let len = socket.read(&mut chunk).unwrap();
        assert_ne!(len, 0, "reset or ended after {messages} messages");
        thread::sleep(Duration::from_micros(len as u64 * 1_000_000 / SLOW));
        bytes.extend_from_slice(&chunk[..len]);
        let mut used = 0;
        while let Some((frame, len)) = codec::decode(&mut bytes[used..]) {
            used += len;
            let answer = match frame.opcode {
                Opcode::PING => Message::pong(frame.payload.to_vec()),
                Opcode::CLOSE => frame.to_message(),
                _ => {
                    messages += 1;
                    continue;
                }
            };
            let mut out = Vec::new();
            codec::encode(&answer, mask, &mut out);
            socket.write_all(&out).unwrap();
            if answer.opcode == Opcode::CLOSE {
                return messages;
            }
        }
        bytes.drain(..used);
    }
}

/// A client that opens a connection by hand.
fn raw_client(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(net::PATIENCE)).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    assert!(net::read_head(&mut socket).starts_with("HTTP/1.1 101 "));
    socket
}

/// Sends a megabyte to the slow peer, with a limit that is a fraction of the time in which that reads what the systems
/// hold.
fn send_to_slow_peer(role: Role, message_len: usize, reads: bool) {
    let heartbeat = Heartbeat::ping(5 * TICK);
    let count = 1_000_000 / message_len;
    let (far, (mut read, mut write)) = match role {
        Role::Client => {
            let (address, far) = net::serve(|socket| slow_peer(net::accept(socket), None));
            let (_, read, write) = block_on(connect(net::options(address).heartbeat(heartbeat))).unwrap();
            (far, (read, write))
        }
        Role::Server => {
            let options = ServerOptions::default().heartbeat(heartbeat);
            let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
            let address = server.local_addr().unwrap();
            let far = thread::spawn(move || slow_peer(raw_client(address), Some([1, 2, 3, 4])));
            let (_, read, write) = block_on(server.accept()).unwrap().unwrap();
            (far, (read, write))
        }
    };
    let writing = async {
        for _ in 0..count {
            write.send(Message::binary(vec![7; message_len])).await?;
        }
        if reads {
            // Until the peer has read it all: what the systems hold by now is what the allowance is for.
            write.ping().await?;
        }
        write.close_with(1000, "").await
    };
    let judged = block_on(async {
        if reads {
            return try_join(writing, read.drive()).await.map(drop);
        }
        writing.await?;
        read.drive().await
    });
    assert!(judged.is_ok(), "{role:?} {message_len} {reads}: {judged:?}");
    assert_eq!(far.join().unwrap(), count, "{role:?} {message_len} {reads}");
}

#[test]
fn slow_peer_lives_on_small_messages() {
    thread::scope(|scope| {
        for role in ROLES {
            scope.spawn(move || send_to_slow_peer(role, 100, true));
        }
    });
}

#[test]
fn slow_peer_lives_on_large_messages() {
    thread::scope(|scope| {
        for role in ROLES {
            scope.spawn(move || send_to_slow_peer(role, 300_000, true));
        }
    });
}

#[test]
fn slow_peer_lives_while_no_task_reads() {
    thread::scope(|scope| {
        for (role, message_len) in [(Role::Client, 1_000), (Role::Server, 100_000)] {
            scope.spawn(move || send_to_slow_peer(role, message_len, false));
        }
    });
}
