//! `try_feed` says that there is no room only where the transport takes no more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "functions of tests may fail like tests"
)]

mod common;
#[path = "common/net.rs"]
mod net;

use std::{
    io::{self, Read as _},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use common::{
    Count, alone,
    drive::{Later, drive, now},
    fault::{FaultyWrite, Pace},
    poll_once, wire,
};
use coro_websocket::{
    Error, Message, Options, PreparedFrame, Role, Server, ServerOptions, SinkExt, StreamExt, TryFeedError,
    WrapOptions, connect, wrap_frames, wrap_io,
};
use futures::{AsyncWrite, FutureExt, channel::mpsc, executor::block_on};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn is_full(tried: &Result<(), TryFeedError>) -> bool {
    matches!(tried, Err(TryFeedError::Full(_)))
}

#[test]
fn a_burst_above_the_mark_is_taken_as_long_as_the_transport_takes_it() {
    for role in ROLES {
        for mark in [0, 1000, 64 << 10] {
            for len in [0, 100, 4000, 70 << 10] {
                let (sink, taken) = FaultyWrite::new(Pace::FAST, None, &Later::default());
                let options = WrapOptions::new(role).write_buffer_len(mark);
                let (_read, mut write) = wrap_io(&b""[..], sink, options);
                for _ in 0..200 {
                    write.try_feed(Message::binary(vec![7; len])).unwrap();
                    assert!(write.buffered() <= mark.max(1) + len + 14, "one frame above the mark at most");
                }
                drive(write.flush()).unwrap();
                assert_eq!(wire::frames(&taken.bytes()).len(), 200);
            }
        }
    }
}

#[test]
fn a_transport_that_takes_nothing_makes_try_feed_full_and_one_that_takes_enough_does_not() {
    for role in ROLES {
        let ((_read, mut write), mut far) = alone(0, WrapOptions::new(role).write_buffer_len(1000));
        write.try_feed(Message::binary(vec![7; 1000])).unwrap();
        let buffered = write.buffered();
        assert!(is_full(&write.try_feed("more")));
        assert_eq!(write.buffered(), buffered);
        far.grow(buffered - 1000);
        assert!(is_full(&write.try_feed("more")), "as much as the mark is left");
        assert_eq!(write.buffered(), 1000);
        far.grow(1);
        write.try_feed("more").unwrap();
        assert_eq!(write.buffered(), 999 + 6 + if role == Role::Client { 4 } else { 0 });
    }
}

/// A transport that takes as many bytes as it is told to, and wakes no task when that changes: as a socket whose room
/// is noticed by a thread that has not run since.
#[derive(Clone, Default)]
struct Quiet(Arc<Room>);

#[derive(Default)]
struct Room {
    bytes: AtomicUsize,
    asked: AtomicUsize,
}

impl AsyncWrite for Quiet {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let room = self.0.bytes.load(Ordering::SeqCst);
        let count = buf.len().min(room);
        self.0.bytes.store(room - count, Ordering::SeqCst);
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn try_feed_asks_the_transport_once_each_time_though_no_task_was_woken() {
    for role in ROLES {
        for mark in [0, 100] {
            let quiet = Quiet::default();
            let (_read, mut write) =
                wrap_io(&b""[..], quiet.clone(), WrapOptions::new(role).write_buffer_len(mark));
            let mut other = write.clone();
            write.try_feed(Message::binary(vec![7; 100])).unwrap();
            for asked in 1..=3 {
                assert!(is_full(&write.try_feed("more")));
                assert_eq!(quiet.0.asked.load(Ordering::SeqCst), asked);
            }
            quiet.0.bytes.store(1000, Ordering::SeqCst);
            write.try_feed("more").unwrap();
            quiet.0.bytes.store(0, Ordering::SeqCst);
            while write.try_feed("more").is_ok() {}
            quiet.0.bytes.store(1000, Ordering::SeqCst);
            other.try_feed("of a clone").unwrap();
        }
    }
}

/// A transport polled by `try_feed`, with no waiting task, wakes the tasks that wait later.
#[test]
fn a_writer_that_waits_after_a_full_try_feed_is_woken_by_the_transport() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(0, WrapOptions::new(role).write_buffer_len(10));
        let mut other = write.clone();
        write.try_feed(Message::binary(vec![7; 10])).unwrap();
        assert!(is_full(&write.try_feed("more")));
        let count = Arc::new(Count::default());
        let waker = std::task::Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut feeding = Box::pin(other.feed("more"));
        assert!(feeding.as_mut().poll(&mut cx).is_pending());
        far.grow(1000);
        assert_eq!(count.get(), 1);
        assert!(feeding.as_mut().poll(&mut cx).is_ready());
        drop(feeding);
        assert!(poll_once(&mut read.next()).is_pending());
        assert_eq!(far.frames().len(), 2);
    }
}

#[test]
fn try_feed_of_a_clone_is_not_full_where_that_clone_could_flush_and_feed() {
    for role in ROLES {
        let ((_read, mut write), _far) = alone(1 << 20, WrapOptions::new(role).write_buffer_len(100));
        let mut other = write.clone();
        drive(other.feed(Message::binary(vec![7; 200]))).unwrap();
        assert!(matches!(now(write.flush()), Poll::Ready(Ok(()))), "it has sent nothing");
        write.try_feed("no task reads").unwrap();
    }
}

#[test]
fn a_sink_of_frames_is_offered_the_buffered_frames_too() {
    let (sink, far) = mpsc::channel(100);
    let stream = futures::stream::pending::<Result<Message, Error>>();
    let (_read, mut write) = wrap_frames(stream, sink, WrapOptions::server().write_buffer_len(10));
    let taken = (0..1000).take_while(|_| write.try_feed("ten bytes").is_ok()).count();
    assert!((101..=103).contains(&taken), "the channel's room, and one above the mark: {taken}");
    let received = far.take(50).count();
    assert_eq!(drive(received), 50);
}

#[test]
fn a_transport_that_fails_while_it_is_offered_bytes_refuses_the_frame_with_its_error() {
    let ((_read, mut write), far) = alone(0, WrapOptions::server().write_buffer_len(1));
    write.try_feed("first").unwrap();
    drop(far);
    match write.try_feed("second") {
        Err(TryFeedError::Refused { message, error: Error::Io(_) }) => {
            assert_eq!(message.as_text(), Some("second"));
        }
        other => panic!("{other:?}"),
    }
}

/// Broadcasts like the example of `PreparedFrame`: a member that does not read is dropped, a member that reads is kept.
#[test]
fn a_client_that_reads_gets_a_whole_burst_of_prepared_frames() {
    for len in [4000, 40_000] {
        let (address, client) = net::serve(move |stream| {
            let mut stream = net::accept(stream);
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            wire::frames(&bytes).len()
        });
        block_on(async {
            let (_, _read, mut write) = connect(net::options(address)).await.unwrap();
            let news = PreparedFrame::new(Message::binary(vec![7; len]));
            for _ in 0..20 {
                let message = write.prepared(&news);
                write.try_feed(message).unwrap();
            }
            write.flush().await.unwrap();
        });
        assert_eq!(client.join().unwrap(), 20);
    }
}

#[test]
fn a_server_keeps_the_members_that_read_through_a_burst() {
    block_on(async {
        let server = Server::bind("127.0.0.1:0", ServerOptions::default()).await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let url = url.clone();
                thread::spawn(move || {
                    block_on(async {
                        let (_, mut read, _write) = connect(Options::from_url(&url).unwrap()).await.unwrap();
                        let mut count = 0;
                        while let Some(Ok(message)) = read.next().await {
                            count += usize::from(message.is_data());
                        }
                        count
                    })
                })
            })
            .collect();
        let mut members = Vec::new();
        while members.len() < clients.len() {
            members.push(server.accept().await.unwrap().unwrap());
        }
        let news = PreparedFrame::new(Message::binary(vec![7; 4000]));
        for _ in 0..20 {
            for (_, _, write) in &mut members {
                let message = write.prepared(&news);
                write.try_feed(message).unwrap();
            }
        }
        for (_, _, write) in &mut members {
            write.close_with(1000, "").await.unwrap();
        }
        for (_, read, _) in &mut members {
            assert!(read.next().now_or_never().is_none_or(|next| next.is_some()));
            while read.next().await.is_some() {}
        }
        for client in clients {
            assert_eq!(client.join().unwrap(), 20);
        }
    });
}
