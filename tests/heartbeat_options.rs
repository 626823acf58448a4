//! Heartbeats that cannot be used are refused by every constructor; short ones harm no other half.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a panic fails the test, and what may hang runs on a thread"
)]

mod common;

use std::{
    io,
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use common::{
    alone,
    drive::{drive, now},
};
use coro_websocket::{
    Accept, AcceptOptions, Checks, Error, Heartbeat, Message, Options, OptionsError, Role, Server,
    ServerOptions, SinkExt, StreamExt, WrapOptions, accept_io, connect, connect_io, wrap_frames, wrap_io,
};
use futures::{
    executor::block_on,
    future::join,
    io::{AsyncRead, AsyncWrite},
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const NS: Duration = Duration::from_nanos(1);

fn unusable() -> [Heartbeat; 4] {
    let second = Duration::from_secs(1);
    [
        Heartbeat::pong(Duration::ZERO),
        Heartbeat::ping(Duration::ZERO),
        Heartbeat::ping(second).timeout(Duration::ZERO),
        Heartbeat::ping(Duration::ZERO).timeout(second),
    ]
}

fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Options { error: OptionsError::Heartbeat, .. }))
}

/// A transport that must not be polled.
struct Untouched;

impl AsyncRead for Untouched {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        panic!("read")
    }
}

impl AsyncWrite for Untouched {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        panic!("written to")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("flushed")
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("closed")
    }
}

#[test]
fn heartbeat_of_zero_is_refused_by_every_handshake_before_anything_is_polled() {
    for heartbeat in unusable() {
        let options = Options::from_url("ws://127.0.0.1:9/").unwrap().heartbeat(heartbeat);
        assert!(is_refused(drive(connect(options.clone()))), "{heartbeat:?}");
        assert!(is_refused(drive(connect_io(Untouched, Untouched, options))), "{heartbeat:?}");
        let options = AcceptOptions::default().heartbeat(heartbeat);
        assert!(is_refused(drive(accept_io(Untouched, Untouched, options))), "{heartbeat:?}");
        let options = ServerOptions::default().heartbeat(heartbeat);
        assert!(is_refused(drive(Server::bind("127.0.0.1:0", options))), "{heartbeat:?}");
    }
}

#[test]
fn heartbeat_of_zero_is_refused_when_an_upgrade_is_accepted() {
    let request = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for heartbeat in unusable() {
        let upgrade = drive(accept_io(request.as_bytes(), Untouched, AcceptOptions::default())).unwrap();
        let refused = drive(upgrade.accept(Accept::default().heartbeat(heartbeat)));
        assert!(is_refused(refused.map_err(|refused| refused.error)), "{heartbeat:?}");
    }
}

#[test]
fn halves_with_a_heartbeat_of_zero_give_the_error_and_then_the_end_and_poll_nothing() {
    for heartbeat in unusable() {
        for role in ROLES {
            for checks in [Checks::Strict, Checks::Report, Checks::Off] {
                let options = WrapOptions::new(role).checks(checks).heartbeat(heartbeat);
                let (mut read, mut write) = wrap_io(Untouched, Untouched, options);
                assert!(write.is_closed());
                assert!(is_refused(drive(write.text("never"))), "{heartbeat:?} {role:?} {checks:?}");
                assert!(is_refused(drive(SinkExt::send(&mut write, Message::text("never")))));
                assert!(is_refused(drive(write.feed(Message::text("never")))));
                assert!(is_refused(drive(write.ping())));
                assert!(is_refused(drive(write.clone().text("never"))));
                assert!(is_refused(drive(read.next()).unwrap()), "{heartbeat:?} {role:?} {checks:?}");
                assert!(drive(read.next()).is_none());
            }
        }
    }
}

#[test]
fn decoded_frames_with_a_heartbeat_of_zero_give_the_error_too() {
    for heartbeat in unusable() {
        let stream = futures::stream::poll_fn(|_| -> Poll<Option<Result<Message, Error>>> { panic!("read") });
        let sink =
            futures::sink::unfold((), |(), _: Message| async { Err::<(), Error>(Error::Closed(None)) });
        let (mut read, mut write) =
            wrap_frames(stream, Box::pin(sink), WrapOptions::client().heartbeat(heartbeat));
        assert!(is_refused(drive(write.text("never"))), "{heartbeat:?}");
        assert!(is_refused(drive(read.next()).unwrap()), "{heartbeat:?}");
        assert!(drive(read.next()).is_none());
    }
}

fn tiny() -> [Heartbeat; 4] {
    let second = Duration::from_secs(1);
    [
        Heartbeat::pong(NS),
        Heartbeat::ping(NS),
        Heartbeat::ping(second).timeout(NS),
        Heartbeat::ping(NS).timeout(second),
    ]
}

/// Fails instead of hanging.
fn returns(what: &str, test: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    let returned = wait.recv_timeout(Duration::from_secs(10));
    assert!(returned.is_ok() || running.is_finished(), "{what}: a poll never returned");
    running.join().unwrap();
}

#[test]
fn polls_return_with_an_interval_of_a_nanosecond() {
    for heartbeat in tiny() {
        for role in ROLES {
            returns(&format!("{heartbeat:?} {role:?}"), move || {
                let start = Instant::now();
                let ((mut read, mut write), mut far) =
                    alone(1 << 20, WrapOptions::new(role).heartbeat(heartbeat));
                for _ in 0..20 {
                    let _ = now(read.next());
                    let _ = now(write.flush());
                    thread::sleep(Duration::from_millis(1));
                }
                let beats = far.frames().len() as u128;
                assert!(beats <= start.elapsed().as_millis() + 2, "{beats} heartbeats");
            });
        }
    }
}

#[test]
fn at_most_one_heartbeat_waits_for_a_transport_without_room() {
    for heartbeat in tiny() {
        for role in ROLES {
            returns(&format!("{heartbeat:?} {role:?}"), move || {
                let options = WrapOptions::new(role).heartbeat(heartbeat);
                let ((mut read, write), _far) = alone(0, options);
                for _ in 0..20 {
                    let _ = now(read.next());
                    assert!(write.buffered() <= 6 + 12 + 24, "{} bytes wait", write.buffered());
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
    }
}

#[test]
fn decoded_frames_with_an_interval_of_a_nanosecond_do_not_pile_up() {
    for heartbeat in tiny() {
        returns(&format!("{heartbeat:?}"), move || {
            let (sink, mut far) = futures::channel::mpsc::channel(0);
            let stream = futures::stream::pending::<Result<Message, Error>>();
            let (mut read, mut write) = wrap_frames(stream, sink, WrapOptions::server().heartbeat(heartbeat));
            for _ in 0..20 {
                let _ = now(read.next());
                let _ = now(write.flush());
                assert!(write.buffered() <= 2 + 30, "{} bytes wait", write.buffered());
                thread::sleep(Duration::from_millis(1));
            }
            drop((read, write));
            let mut beats = 0;
            while far.try_recv().is_ok() {
                beats += 1;
            }
            assert!(beats <= 4, "{beats}");
        });
    }
}

#[test]
fn connections_over_sockets_work_with_an_interval_of_a_nanosecond() {
    for heartbeat in [Heartbeat::pong(NS), Heartbeat::ping(NS).timeout(Duration::from_secs(10))] {
        returns(&format!("{heartbeat:?}"), move || {
            block_on(async {
                let options = ServerOptions::default().heartbeat(heartbeat);
                let server = Server::bind("127.0.0.1:0", options).await.unwrap();
                let port = server.local_addr().unwrap().port();
                let options = Options::default().host("127.0.0.1").port(port).heartbeat(heartbeat);
                let (accepted, connected) = join(server.accept(), connect(options)).await;
                let (_, mut far_read, mut far_write) = accepted.unwrap().unwrap();
                let (_, mut read, mut write) = connected.unwrap();
                let near = async {
                    for _ in 0..100 {
                        write.text("hello").await.unwrap();
                        while !read.next().await.unwrap().unwrap().is_data() {}
                    }
                    write.close_with(1000, "").await.unwrap();
                    read.drive().await.unwrap();
                };
                let far = async {
                    while let Some(message) = far_read.next().await {
                        let message = message.unwrap();
                        if message.is_data() {
                            far_write.send(message).await.unwrap();
                        }
                    }
                };
                join(near, far).await;
            });
        });
    }
}
