//! The two halves: what they are, what dropping and aborting them does, what they count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use common::{
    Count, Far, PipeReader, PipeWriter, alone, connected,
    drive::{drive, now},
    poll_once, wire,
};
use coro_websocket::{
    Error, FrameReader, FrameSinkWrite, FrameStreamRead, FrameWriter, IoRead, IoWrite, Message, Messages,
    Opcode, Phase, Role, SinkExt, StreamExt, WrapOptions, shutdown, wrap_io,
};
use futures::{channel::mpsc, executor::block_on, join, stream::FusedStream};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_unpin<T: Unpin>() {}
fn is_clone<T: Clone>() {}

type Source = mpsc::Receiver<Result<Message, Error>>;
type Outlet = mpsc::Sender<Message>;

/// Compiled is passed.
#[test]
fn halves_are_send_and_unpin_and_write_is_sync_whenever_the_transport_is() {
    is_send::<IoRead<PipeReader, PipeWriter>>();
    is_unpin::<IoRead<PipeReader, PipeWriter>>();
    is_send::<IoWrite<PipeWriter>>();
    is_sync::<IoWrite<PipeWriter>>();
    is_unpin::<IoWrite<PipeWriter>>();
    is_clone::<IoWrite<PipeWriter>>();
    is_send::<FrameStreamRead<Source, Outlet>>();
    is_unpin::<FrameStreamRead<Source, Outlet>>();
    is_send::<FrameSinkWrite<Outlet>>();
    is_sync::<FrameSinkWrite<Outlet>>();
    is_unpin::<FrameSinkWrite<Outlet>>();
    is_send::<FrameReader<PipeReader>>();
    is_send::<FrameWriter<PipeWriter>>();
    is_send::<Messages<'static, FrameReader<PipeReader>, FrameWriter<PipeWriter>>>();
    // Of a transport, Send is enough.
    type Box<T> = std::boxed::Box<T>;
    is_send::<IoRead<Box<dyn futures::AsyncRead + Send + Unpin>, Box<dyn futures::AsyncWrite + Send + Unpin>>>(
    );
    is_sync::<IoWrite<Box<dyn futures::AsyncWrite + Send + Unpin>>>();
}

#[test]
fn the_futures_of_both_halves_are_send() {
    fn check<F: Future + Send>(_: F) {}
    let ((mut read, mut write), _far) = alone(10, WrapOptions::client());
    check(read.next());
    check(read.frame());
    check(read.next_timeout(Duration::ZERO));
    check(read.messages().next());
    check(write.send("x"));
    check(write.feed("x"));
    check(write.ping());
    check(write.close_with(1000, ""));
    check(SinkExt::close(&mut write));
    check(shutdown(&mut read, &mut write, 1000, "", Duration::ZERO));
}

#[test]
fn what_is_shown_of_the_halves_holds_no_payload() {
    let ((read, mut write), _far) = alone(0, WrapOptions::client());
    write.try_feed("secret").unwrap();
    let shown = format!("{read:?} {write:?}");
    assert!(shown.contains("Read") && shown.contains("Write") && !shown.contains("secret"));
}

#[test]
fn without_read_nothing_is_answered_and_writing_goes_on() {
    for role in ROLES {
        let ((read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::PING, "anybody?"));
        drop(read);
        far.put(&wire::close_to(role, 1000, ""));
        drive(write.text("still writing")).unwrap();
        drive(write.feed("buffered")).unwrap();
        drive(write.flush()).unwrap();
        let firsts: Vec<u8> = far.frames().iter().map(|frame| frame.first).collect();
        assert_eq!(firsts, [wire::TEXT, wire::TEXT], "no Pong and no echo");
        assert!(!write.is_closed());
        drive(write.close_with(1000, "")).unwrap();
        assert_eq!(far.frames().len(), 1);
        assert!(!far.input.is_ended(), "no half ends the transport before both Closes are through");
        drop(write);
        assert!(far.input.is_ended());
    }
}

#[test]
fn without_write_nothing_is_sent_and_read_goes_on_and_answers() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        write.try_feed("fed").unwrap();
        let clone = write.clone();
        drop(write);
        assert_eq!(far.input.take_all(), []);
        drop(clone);
        assert_eq!(far.input.take_all(), []);
        far.put(&wire::to(role, wire::PING, "anybody?"));
        far.put(&wire::to(role, wire::TEXT, "hello"));
        far.put(&wire::close_to(role, 1000, ""));
        for opcode in [Opcode::PING, Opcode::TEXT, Opcode::CLOSE] {
            assert_eq!(drive(read.next()).unwrap().unwrap().opcode, opcode);
        }
        let Far { mut input, output } = far;
        drop(output);
        assert!(drive(read.next()).is_none());
        let firsts: Vec<u8> = wire::frames(&input.take_all()).iter().map(|frame| frame.first).collect();
        assert_eq!(firsts, [wire::TEXT, wire::PONG, wire::CLOSE], "what was fed goes out too");
        assert!(input.is_ended() && read.close_frames().is_clean());
    }
}

#[test]
fn without_both_the_transport_is_closed_and_what_was_only_fed_is_lost() {
    for role in ROLES {
        for read_first in [false, true] {
            let ((read, mut write), mut far) = alone(1024, WrapOptions::new(role));
            drive(write.text("sent")).unwrap();
            write.try_feed("fed").unwrap();
            let clone = write.clone();
            if read_first {
                drop(read);
                drop(write);
                assert!(!far.input.is_ended());
                drop(clone);
            } else {
                drop((clone, write));
                assert!(!far.input.is_ended());
                drop(read);
            }
            assert!(far.input.is_ended(), "closed");
            assert_eq!(far.frames().len(), 1, "without a Close frame, and without what was fed");
        }
    }
}

#[test]
fn the_transport_for_reading_goes_with_read_and_is_let_go_at_the_end() {
    let ((read, _write), far) = alone(1024, WrapOptions::client());
    drop(read);
    let mut output = far.output;
    let refused = drive(futures::AsyncWriteExt::write(&mut output, b"x"));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);

    let ((mut read, _write), mut far) = alone(1024, WrapOptions::server());
    far.put(&wire::close_to(Role::Server, 1000, ""));
    drive(async { while read.next().await.is_some() {} });
    let refused = drive(futures::AsyncWriteExt::write(&mut far.output, b"x"));
    assert!(refused.is_err(), "nothing is held once the connection is over");
}

#[test]
fn abort_ends_both_halves_at_once_and_loses_what_is_buffered() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::TEXT, "never read"));
        write.try_feed("never sent").unwrap();
        write.abort();
        write.abort();
        assert!(far.input.is_ended(), "the transport is dropped");
        assert_eq!(far.input.take_all(), []);
        assert!(write.is_closed());
        assert_eq!(write.buffered(), 0);
        assert!(drive(read.next()).is_none(), "what was asked for is no error");
        assert!(drive(read.next()).is_none() && read.is_terminated());
        assert!(matches!(drive(write.text("late")), Err(Error::Closed(_))));
        assert!(matches!(drive(write.ping()), Err(Error::Closed(_))));
        assert!(!read.close_frames().is_clean());
    }
}

#[test]
fn abort_wakes_a_parked_read_and_a_blocked_writer() {
    let ((mut read, mut write), _far) = alone(0, WrapOptions::client());
    let (mut blocked, mut pinging) = (write.clone(), write.clone());
    drive(async {
        let reading = async { assert!(read.next().await.is_none()) };
        let sending = async { assert!(matches!(blocked.text("stuck").await, Err(Error::Closed(_)))) };
        let pinging = async { assert!(matches!(pinging.ping().await, Err(Error::Closed(_)))) };
        let aborting = async {
            for _ in 0..5 {
                common::drive::pause().await;
            }
            write.abort();
        };
        join!(reading, sending, pinging, aborting);
    });
}

#[test]
fn abort_in_the_middle_of_closing_is_the_end() {
    for role in ROLES {
        let ((mut read, mut write), far) = alone(1024, WrapOptions::new(role));
        drive(write.close_with(1000, "")).unwrap();
        assert!(poll_once(&mut read.next()).is_pending());
        write.abort();
        assert!(drive(read.next()).is_none());
        assert!(far.input.is_ended());
        drive(write.close_with(1000, "")).unwrap();
    }
}

#[test]
fn next_timeout_loses_nothing() {
    for role in ROLES {
        let bytes =
            [wire::to(role, wire::TEXT, "late but whole"), wire::to(role, wire::BINARY, [1; 300])].concat();
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        let mut seen = Vec::new();
        for byte in bytes.chunks(100) {
            while let Ok(Some(message)) = block_on(read.next_timeout(Duration::from_millis(3))) {
                seen.push(message.payload);
            }
            let late = block_on(read.next_timeout(Duration::ZERO));
            assert!(matches!(late, Err(Error::TimedOut(Phase::Call))));
            far.put(byte);
        }
        seen.push(block_on(read.next_timeout(Duration::from_secs(60))).unwrap().unwrap().payload);
        assert_eq!(seen, [&b"late but whole"[..], &[1; 300]]);
    }
}

#[test]
fn next_timeout_gives_what_is_there_however_short_it_is_and_tells_the_end() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client());
    far.put(&wire::to(Role::Client, wire::TEXT, "there"));
    let message = drive(read.next_timeout(Duration::ZERO)).unwrap().unwrap();
    assert_eq!(message.as_text(), Some("there"));
    far.put(&wire::close_to(Role::Client, 1000, ""));
    drop(far);
    assert_eq!(drive(read.next_timeout(Duration::MAX)).unwrap().unwrap().opcode, Opcode::CLOSE);
    assert!(matches!(drive(read.next_timeout(Duration::MAX)), Ok(None)));
    assert!(matches!(drive(read.next_timeout(Duration::ZERO)), Ok(None)));
}

/// nats-server#8029: a header that never becomes whole was waited for without end.
#[test]
fn next_timeout_ends_the_wait_for_the_rest_of_a_header() {
    let header = wire::header(wire::BINARY, wire::Form::Bits64, 70_000, Some(wire::KEY));
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::server());
    for byte in header {
        far.put(&[byte]);
        let late = block_on(read.next_timeout(Duration::from_millis(1)));
        assert!(matches!(late, Err(Error::TimedOut(Phase::Call))));
    }
    far.put(&[0; 70_000]);
    assert_eq!(drive(read.next()).unwrap().unwrap().len, 70_000);
}

/// CVE-2024-23672: a peer that never answers Close kept the connection open.
#[test]
fn cve_2024_23672_at_the_close_deadline_both_halves_are_closed_and_woken() {
    for role in ROLES {
        let options = WrapOptions::new(role).close_timeout(Duration::from_millis(30));
        let ((mut read, mut write), far) = alone(0, options);
        let mut blocked = write.clone();
        block_on(async {
            let stuck = async { assert!(blocked.text("stuck").await.is_err()) };
            let closing = async { assert!(write.close_with(1000, "").await.is_err()) };
            let reading = async { assert!(read.next().await.is_none()) };
            join!(stuck, closing, reading);
        });
        assert!(far.input.is_ended(), "the transport is let go");
        assert!(write.is_closed() && read.is_terminated() && !read.close_frames().is_clean());
    }
}

#[test]
fn read_is_terminated_once_its_end_was_given() {
    for role in ROLES {
        let ((mut read, _write), mut far) = alone(1024, WrapOptions::new(role));
        assert!(!read.is_terminated());
        far.put(&wire::close_to(role, 1000, ""));
        drop(far);
        assert!(drive(read.next()).unwrap().is_ok());
        assert!(!read.is_terminated());
        assert!(drive(read.next()).is_none());
        assert!(read.is_terminated());
        let ((mut read, _write), far) = alone(1024, WrapOptions::new(role));
        drop(far);
        assert!(!read.is_terminated());
        assert!(drive(read.next()).unwrap().is_err());
        assert!(read.is_terminated() && drive(read.next()).is_none());
    }
}

#[test]
fn read_can_be_selected_with_something_else() {
    let ((mut read, _write), mut far) = alone(1024, WrapOptions::client());
    far.put(&wire::to(Role::Client, wire::TEXT, "one"));
    let mut seen = 0;
    drive(async {
        let mut other = futures::stream::iter(0..3).fuse();
        loop {
            futures::select! {
                message = read.next() => match message {
                    Some(message) => seen += usize::from(message.is_ok()),
                    None => break,
                },
                turn = other.select_next_some() => if turn == 2 {
                    far.put(&wire::close_to(Role::Client, 1000, ""));
                    drop(std::mem::replace(&mut far.output, common::pipe(0).0));
                },
                complete => break,
            }
        }
    });
    assert_eq!(seen, 2);
}

#[test]
fn stats_count_every_frame_and_every_byte_of_it() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1 << 20, WrapOptions::new(role));
        let mut clone = write.clone();
        let incoming = wire::mixed(9, 100, 400);
        let mut bytes_in = 0;
        let mut pings = 0;
        for (place, (first, payload)) in incoming.iter().enumerate() {
            let bytes = wire::to(role, *first, payload);
            bytes_in += bytes.len() as u64;
            pings += u64::from(*first == wire::PING);
            far.put(&bytes);
            drive(read.next()).unwrap().unwrap();
            assert_eq!((read.stats().frames_in, read.stats().bytes_in), (place as u64 + 1, bytes_in));
        }
        assert!(now(read.next()).is_pending());
        drive(async {
            write.text("one").await.unwrap();
            clone.binary(vec![0; 70_000]).await.unwrap();
            clone.feed(Message::ping("three")).await.unwrap();
            assert!(write.send(wire::message(0xC1, false, b"")).await.is_err());
            assert!(now(write.ping()).is_pending());
            write.close_with(1000, "").await.unwrap();
            write.close_with(1000, "").await.unwrap();
        });
        let bytes_out = far.input.take_all();
        let stats = read.stats();
        assert_eq!(stats.frames_out, pings + 5);
        assert_eq!(stats.frames_out, wire::frames(&bytes_out).len() as u64);
        assert_eq!(stats.bytes_out, bytes_out.len() as u64);
        assert_eq!((stats, stats), (write.stats(), clone.stats()));
        // Bytes of a frame that is not whole count, the frame does not.
        far.put(&wire::to(role, wire::BINARY, [0; 100])[..50]);
        assert!(now(read.next()).is_pending());
        assert_eq!((read.stats().frames_in, read.stats().bytes_in), (100, bytes_in + 50));
    }
}

#[test]
fn stats_of_two_ends_agree() {
    let ((mut near_read, mut near), (mut far_read, mut far)) =
        connected(100, WrapOptions::client(), WrapOptions::server());
    drive(async {
        let talking = async {
            for number in 0..50 {
                near.feed(format!("{number}")).await.unwrap();
                near.send(Message::ping("")).await.unwrap();
            }
            near.close_with(1000, "").await.unwrap();
        };
        let near_reads = async { while near_read.next().await.transpose().unwrap().is_some() {} };
        let far_reads = async {
            while let Some(message) = far_read.next().await.transpose().unwrap() {
                if message.is_data() {
                    far.feed(message).await.unwrap();
                }
            }
        };
        join!(talking, near_reads, far_reads);
    });
    let (near, far) = (near.stats(), far.stats());
    assert_eq!((near.frames_out, near.bytes_out), (far.frames_in, far.bytes_in));
    assert_eq!((far.frames_out, far.bytes_out), (near.frames_in, near.bytes_in));
    assert_eq!(near.frames_out, 101);
}

#[test]
fn both_halves_tell_the_same_of_the_closing_handshake() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        assert_eq!(read.close_frames(), write.close_frames());
        assert!(read.close_frames().sent.is_none() && !write.is_closed());
        drive(write.close_with(1001, "ours")).unwrap();
        assert_eq!(write.close_frames().sent.unwrap().reason, "ours");
        far.put(&wire::close_to(role, 1000, "theirs"));
        drive(read.next()).unwrap().unwrap();
        let frames = read.close_frames();
        assert_eq!(frames, write.close_frames());
        assert_eq!(frames.received.as_ref().unwrap().to_string(), "1000 theirs");
        assert!(frames.is_clean());
    }
}

#[test]
fn a_read_dropped_while_parked_is_not_woken_any_more() {
    let ((mut read, mut write), _far) = alone(1024, WrapOptions::client());
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(Pin::new(&mut read.next()).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(read);
    write.try_feed("fed").unwrap();
    assert_eq!(wakes.get(), 0);
}

#[test]
fn a_writer_whose_future_was_dropped_does_not_keep_its_task() {
    let ((_read, mut write), _far) = alone(0, WrapOptions::client());
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    {
        let mut clone = write.clone();
        let mut sending = pin!(clone.text("stuck"));
        assert!(sending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&wakes), 2, "the clone has forgotten it");
    assert!(now(write.text("stuck too")).is_pending());
}

#[test]
fn wrapping_reads_and_writes_nothing() {
    let (read, write) = wrap_io(&[0x81, 0x00][..], Vec::new(), WrapOptions::client());
    assert_eq!(read.stats(), write.stats());
    assert_eq!((read.stats().bytes_in, write.buffered()), (0, 0));
}
