//! Heartbeats, and what is taken for a dead peer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test, also in what the tests have in common"
)]

mod common;

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use async_io::Timer;
use common::{PipeRead, PipeReader, PipeWrite, PipeWriter, duplex};
use coro_websocket::{
    CloseCode, Error, Heartbeat, Message, Opcode, Phase, Role, SinkExt, StreamExt, WrapOptions, codec,
    wrap_io,
};
use futures::{
    executor::block_on,
    future::{Either, join, pending, select},
};

/// One interval. Nothing here says how long something takes, only what comes before what.
const TICK: Duration = Duration::from_millis(20);

/// A server's halves, and the bare ends of its peer.
fn server(capacity: usize, options: WrapOptions) -> (PipeRead, PipeWrite, PipeReader, PipeWriter) {
    let ((read, write), (far_read, far_write)) = duplex(capacity);
    let (read, write) = wrap_io(read, write, options);
    (read, write, far_read, far_write)
}

fn with_heartbeat(heartbeat: impl Into<Heartbeat>) -> (PipeRead, PipeWrite, PipeReader, PipeWriter) {
    server(64 << 10, WrapOptions::server().heartbeat(heartbeat))
}

fn frames(far: &mut PipeReader) -> Vec<Message> {
    let mut bytes = far.take_all();
    let mut rest = &mut bytes[..];
    let mut frames = Vec::new();
    while let Some((frame, len)) = codec::decode(rest) {
        frames.push(frame.to_message());
        rest = &mut rest[len..];
    }
    frames
}

fn masked(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, Some([1, 2, 3, 4]), &mut bytes);
    bytes
}

#[expect(clippy::disallowed_methods, reason = "what is measured is the heartbeat")]
fn now() -> Instant {
    Instant::now()
}

/// How many intervals have passed, so many heartbeats there may be.
fn intervals(start: Instant) -> usize {
    usize::try_from(start.elapsed().as_nanos() / TICK.as_nanos()).unwrap()
}

/// Polls the reading half for so long; nothing may come.
async fn idle(read: &mut PipeRead, time: Duration) {
    let next = read.next_timeout(time).await;
    assert!(matches!(next, Err(Error::TimedOut(Phase::Call))), "{next:?}");
}

#[test]
fn pongs_go_out_every_interval_while_read_waits() {
    let start = now();
    let (mut read, _write, mut far, _far_write) = with_heartbeat(TICK);
    block_on(idle(&mut read, 10 * TICK));
    let beats = frames(&mut far);
    assert!(beats.len() >= 2 && beats.len() <= intervals(start), "{beats:?}");
    assert!(beats.iter().all(|beat| beat.opcode == Opcode::PONG && beat.payload.is_empty()));
}

#[test]
fn pongs_go_out_while_only_the_writer_is_polled() {
    let start = now();
    let (_read, mut write, mut far, _far_write) = with_heartbeat(TICK);
    block_on(async {
        for _ in 0..20 {
            SinkExt::flush(&mut write).await.unwrap();
            Timer::after(TICK / 2).await;
        }
    });
    let beats = frames(&mut far);
    assert!(beats.len() >= 2 && beats.len() <= intervals(start), "{beats:?}");
}

#[test]
fn a_waiting_writer_sends_heartbeats_where_read_is_gone() {
    let (read, mut write, mut far, _far_write) = server(100, WrapOptions::server().heartbeat(TICK));
    drop(read);
    let sending =
        thread::Builder::new().spawn(move || block_on(write.send(Message::binary(vec![0; 1000])))).unwrap();
    let mut bytes = Vec::new();
    while !sending.is_finished() {
        bytes.extend(far.take_all());
        thread::sleep(TICK / 4);
    }
    sending.join().unwrap().unwrap();
    bytes.extend(far.take_all());
    // The buffer is above its mark at first, so a heartbeat may come late, but never inside the message.
    assert!(bytes.len() >= 1004);
    assert!(bytes[4..1004].iter().all(|&byte| byte == 0));
}

#[test]
fn a_peer_that_answers_pings_lives() {
    let (mut read, _write, far, far_write) = with_heartbeat(Heartbeat::ping(TICK).timeout(3 * TICK));
    let (mut far_read, _far) = wrap_io(far, far_write, WrapOptions::client());
    block_on(async {
        let peer = Box::pin(async {
            while let Some(ping) = far_read.next().await {
                assert_eq!(ping.unwrap().opcode, Opcode::PING);
            }
        });
        let us = Box::pin(async {
            for _ in 0..10 {
                let pong = read.next().await.unwrap().unwrap();
                assert_eq!(pong.opcode, Opcode::PONG);
            }
        });
        assert!(matches!(select(us, peer).await, Either::Left(_)));
    });
}

#[test]
fn silence_after_a_ping_is_an_error_and_then_the_end() {
    let (mut read, mut write, mut far, _far_write) = with_heartbeat(Heartbeat::ping(TICK).timeout(2 * TICK));
    block_on(async {
        let next = read.next().await;
        assert!(matches!(next, Some(Err(Error::TimedOut(Phase::Heartbeat)))), "{next:?}");
        assert!(read.next().await.is_none());
        assert!(matches!(write.text("late").await, Err(Error::Closed(_))));
    });
    let sent = frames(&mut far);
    let (close, pings) = sent.split_last().unwrap();
    assert!(!pings.is_empty() && pings.iter().all(|ping| ping.opcode == Opcode::PING));
    let close = close.as_close().unwrap().unwrap();
    assert_eq!(close.code, CloseCode::INTERNAL_ERROR);
    assert!(far.is_ended(), "the transport is let go");
}

#[test]
fn pongs_judge_nobody() {
    let (mut read, _write, _far, _far_write) = with_heartbeat(Heartbeat::pong(TICK / 4));
    block_on(idle(&mut read, 10 * TICK));
}

#[test]
fn any_byte_is_life() {
    let (mut read, _write, _far, mut far_write) = with_heartbeat(Heartbeat::ping(TICK).timeout(3 * TICK));
    let message = masked(&Message::binary(vec![0; 40]));
    let (last, start) = message.split_last().unwrap();
    block_on(async {
        for byte in start {
            far_write.put(&[*byte]);
            idle(&mut read, TICK / 2).await;
        }
        far_write.put(&[*last]);
        assert_eq!(read.next().await.unwrap().unwrap().len, 40);
    });
}

#[test]
fn bytes_that_wait_in_the_transport_at_a_late_poll_are_life() {
    let heartbeat = Heartbeat::ping(TICK).timeout(10 * TICK);
    let (mut read, mut write, mut far, mut far_write) = with_heartbeat(heartbeat);
    block_on(async {
        idle(&mut read, 2 * TICK).await;
        assert!(frames(&mut far).iter().any(|frame| frame.opcode == Opcode::PING));
        far_write.put(&masked(&Message::text("here")));
        // The writer is polled, past the deadline, and does not judge. The reader is late.
        for _ in 0..24 {
            write.send(Message::pong("")).await.unwrap();
            Timer::after(TICK / 2).await;
        }
        let message = read.next().await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some("here"));
        idle(&mut read, TICK).await;
    });
}

#[test]
fn halves_that_nobody_polls_judge_nobody() {
    let (mut read, _write, mut far, _far_write) = with_heartbeat(Heartbeat::ping(TICK).timeout(2 * TICK));
    block_on(async {
        idle(&mut read, TICK + TICK / 2).await;
        // Nobody polls, as if the machine slept: afterwards the peer has the whole time again.
        Timer::after(20 * TICK).await;
        far.take_all();
        let polled = futures::poll!(read.next());
        assert!(polled.is_pending(), "{polled:?}");
        assert!(frames(&mut far).iter().any(|frame| frame.opcode == Opcode::PING), "a new Ping first");
        let next = read.next().await;
        assert!(matches!(next, Some(Err(Error::TimedOut(Phase::Heartbeat)))));
    });
}

/// An echo to a peer that only asks: nobody reads while the answer waits, so nobody would see that it is dead.
#[test]
fn a_writer_that_waits_in_vain_is_told_where_nobody_reads() {
    let options = WrapOptions::server().heartbeat(Heartbeat::ping(TICK)).write_buffer_len(100);
    let (mut read, mut write, _far, mut far_write) = server(1000, options);
    block_on(async {
        far_write.put(&masked(&Message::binary(vec![7; 800])));
        let echo = read.next().await.unwrap().unwrap();
        far_write.put(&masked(&Message::text("unread")));
        write.send(echo.clone()).await.unwrap();
        let sent = write.send(echo.clone()).await;
        assert!(matches!(sent, Err(Error::TimedOut(Phase::Heartbeat))), "{sent:?}");
        assert!(matches!(write.send(echo).await, Err(Error::TimedOut(Phase::Heartbeat))));
        // What it said before is still there to be read; then nobody is.
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("unread"));
        assert!(matches!(read.next().await, Some(Err(Error::TimedOut(Phase::Heartbeat)))));
        assert!(read.next().await.is_none());
    });
}

/// A peer that reads nothing but speaks is alive where somebody hears it.
#[test]
fn a_writer_waits_as_long_as_the_peer_is_heard() {
    let options = WrapOptions::server().heartbeat(Heartbeat::ping(TICK).timeout(3 * TICK));
    let (mut read, mut write, mut far, mut far_write) = server(100, options);
    block_on(async {
        let mut sending = Box::pin(write.send(Message::binary(vec![7; 1000])));
        for _ in 0..20 {
            far_write.put(&masked(&Message::pong("")));
            let heard = Box::pin(async {
                Timer::after(TICK).await;
                read.next().await
            });
            match select(sending, heard).await {
                Either::Left((sent, _)) => panic!("{sent:?}"),
                Either::Right((heard, waits)) => {
                    assert_eq!(heard.unwrap().unwrap().opcode, Opcode::PONG);
                    sending = waits;
                }
            }
        }
        let drained = async {
            loop {
                far.take_all();
                Timer::after(TICK / 8).await;
            }
        };
        match select(sending, Box::pin(drained)).await {
            Either::Left((sent, _)) => sent.unwrap(),
            Either::Right(_) => panic!("it does not end"),
        }
    });
}

/// A Ping behind many unanswered bytes carries a payload, so that its Pong tells how far the peer has read.
#[test]
fn ping_carries_a_payload_once_much_was_sent_since_the_last_answer() {
    let (mut read, mut write, mut far, mut far_write) =
        server(1 << 20, WrapOptions::server().heartbeat(Heartbeat::ping(TICK).timeout(50 * TICK)));
    block_on(async {
        idle(&mut read, 2 * TICK).await;
        let pings = frames(&mut far);
        assert!(!pings.is_empty() && pings.iter().all(|ping| ping.payload.is_empty()));
        write.binary(vec![7; 100_000]).await.unwrap();
        idle(&mut read, 3 * TICK).await;
        let sent = frames(&mut far);
        let marked: Vec<_> = sent.iter().filter(|frame| frame.opcode == Opcode::PING).collect();
        assert!(!marked.is_empty() && marked.iter().all(|ping| !ping.payload.is_empty()));
        // After this answer the next Pings are empty again.
        let answer = marked.last().unwrap().payload.clone();
        far_write.put(&masked(&Message::pong(answer.clone())));
        assert_eq!(read.next().await.unwrap().unwrap().payload, answer);
        idle(&mut read, 3 * TICK).await;
        // A Ping may have been due before the answer was read.
        let pings = frames(&mut far);
        assert!(pings.last().unwrap().payload.is_empty(), "{pings:?}");
    });
}

/// A link that is cut: the kernel takes megabytes, and nothing comes back.
#[test]
fn bytes_that_a_roomy_transport_takes_do_not_keep_a_dead_peer_alive() {
    for role in [Role::Client, Role::Server] {
        let options = WrapOptions::new(role).heartbeat(Heartbeat::ping(TICK).timeout(2 * TICK));
        let (mut read, mut write, far, _far_write) = server(1 << 30, options);
        let sending = async {
            while write.send(Message::binary(vec![7; 100])).await.is_ok() {
                Timer::after(TICK / 8).await;
            }
        };
        let (next, ()) = block_on(join(read.drive(), sending));
        assert!(matches!(next, Err(Error::TimedOut(Phase::Heartbeat))), "{role:?} {next:?}");
        drop(far);
    }
}

/// The peer reads slowly, so that its Pong comes long after the limit.
#[test]
fn peer_lives_while_a_transport_that_was_full_takes_bytes() {
    let test = |role, reads| {
        let options =
            WrapOptions::new(role).heartbeat(Heartbeat::ping(TICK).timeout(4 * TICK)).write_buffer_len(100);
        let (mut read, mut write, mut far, _far_write) = server(1000, options);
        // The peer needs 8 times the limit to read the bytes in the transport.
        let peer = pin!(async {
            for _ in 0..50 {
                far.take(30);
                Timer::after(TICK).await;
            }
        });
        let sending = async {
            loop {
                if let Err(error) = write.send(Message::binary(vec![7; 50])).await {
                    break Err(error);
                }
            }
        };
        let driving = async { if reads { read.drive().await } else { pending().await } };
        let failing = pin!(async { select(pin!(sending), pin!(driving)).await.factor_first().0 });
        match block_on(select(peer, failing)) {
            Either::Left(((), _)) => {}
            Either::Right((ended, _)) => panic!("{role:?} {reads}: {ended:?}"),
        }
    };
    thread::scope(|scope| {
        for (role, reads) in
            [Role::Client, Role::Server].into_iter().flat_map(|role| [(role, true), (role, false)])
        {
            scope.spawn(move || test(role, reads));
        }
    });
}

/// No task reads, so that no sign of life is heard; what counts for the writer is how long the transport is full.
#[test]
fn writer_that_is_blocked_for_a_moment_is_not_told_of_a_dead_peer() {
    let test = |role| {
        let heartbeat = Heartbeat::ping(TICK).timeout(10 * TICK);
        let options = WrapOptions::new(role).heartbeat(heartbeat).write_buffer_len(100);
        let (_read, mut write, mut far, _far_write) = server(1000, options);
        block_on(async {
            for round in 0..4 {
                far.take_all();
                for _ in 0..14 {
                    write.text("tick").await.unwrap();
                    Timer::after(TICK).await;
                }
                let sending = pin!(write.send(Message::binary(vec![7; 1100])));
                let peer = pin!(async {
                    Timer::after(5 * TICK).await;
                    loop {
                        far.take_all();
                        Timer::after(TICK / 4).await;
                    }
                });
                match select(sending, peer).await {
                    Either::Left((sent, _)) => assert!(sent.is_ok(), "{role:?} {round}: {sent:?}"),
                    Either::Right(_) => panic!("it does not end"),
                }
            }
        });
    };
    thread::scope(|scope| [Role::Client, Role::Server].map(|role| scope.spawn(move || test(role))).map(drop));
}

#[test]
fn heartbeats_end_with_our_close() {
    let options = WrapOptions::server().heartbeat(TICK).close_timeout(Duration::from_secs(60));
    let (mut read, mut write, mut far, _far_write) = server(64 << 10, options);
    block_on(async {
        idle(&mut read, 3 * TICK).await;
        write.close_with(1000, "").await.unwrap();
        idle(&mut read, 5 * TICK).await;
    });
    let sent = frames(&mut far);
    let close = sent.iter().position(|frame| frame.opcode == Opcode::CLOSE);
    assert_eq!(close, Some(sent.len() - 1), "{sent:?}");
}

#[test]
fn heartbeats_do_not_pile_up_before_a_transport_without_room() {
    let options = WrapOptions::server().heartbeat(TICK / 4).write_buffer_len(100);
    let (mut read, mut write, mut far, _far_write) = server(10, options);
    block_on(async {
        write.feed(Message::binary(vec![0; 200])).await.unwrap();
        idle(&mut read, 10 * TICK).await;
        assert_eq!(write.buffered(), 204 - 10, "nothing but the message, less what the pipe holds");
        // With room again they go on.
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(far.take_all());
            idle(&mut read, TICK / 8).await;
        }
        assert!(bytes.len() > 204, "{}", bytes.len());
        assert_eq!(bytes[204..206], [0x8A, 0]);
    });
}

/// A stream that is polled, and only then.
#[test]
fn a_silent_peer_is_found_by_polling_alone() {
    let (mut read, _write, _far, _far_write) = with_heartbeat(Heartbeat::ping(TICK).timeout(4 * TICK));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    loop {
        match Pin::new(&mut read).poll_next_unpin(&mut cx) {
            Poll::Pending => thread::sleep(TICK / 8),
            Poll::Ready(next) => {
                assert!(matches!(next, Some(Err(Error::TimedOut(Phase::Heartbeat)))));
                break;
            }
        }
    }
}

#[test]
fn peer_that_takes_its_time_to_close_is_not_judged_by_a_ping_that_is_not_sent() {
    for role in [Role::Client, Role::Server] {
        for close_timeout in [Duration::MAX, 1000 * TICK] {
            let options = WrapOptions::new(role).close_timeout(close_timeout);
            let (mut read, mut write, mut far, _far_write) =
                server(64 << 10, options.heartbeat(Heartbeat::ping(TICK).timeout(TICK)));
            block_on(async {
                write.close_with(1000, "").await.unwrap();
                idle(&mut read, 10 * TICK).await;
            });
            assert!(matches!(&frames(&mut far)[..], [close] if close.opcode == Opcode::CLOSE));
        }
    }
}

#[test]
fn dead_peer_is_found_by_a_program_that_is_always_late() {
    let (mut read, _write, _far, _far_write) = with_heartbeat(Heartbeat::ping(TICK).timeout(TICK));
    let found = (0..20).find_map(|_| {
        let next = block_on(read.next_timeout(Duration::ZERO));
        // Busy for longer than the interval and the limit.
        thread::sleep(3 * TICK);
        (!matches!(next, Err(Error::TimedOut(Phase::Call)))).then_some(next)
    });
    assert!(matches!(found, Some(Err(Error::TimedOut(Phase::Heartbeat)))), "{found:?}");
}

#[test]
fn silence_of_a_peer_that_could_be_sent_no_ping_has_the_error_of_the_transport() {
    for role in [Role::Client, Role::Server] {
        let options = WrapOptions::new(role).heartbeat(Heartbeat::ping(TICK).timeout(2 * TICK));
        let (mut read, _write, far, _far_write) = server(64 << 10, options);
        drop(far);
        let next = block_on(read.next());
        assert!(matches!(next, Some(Err(Error::Io(_)))), "{next:?}");
        assert!(block_on(read.next()).is_none());
    }
}
