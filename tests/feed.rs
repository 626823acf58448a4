//! What is only buffered goes out when `Read` is about to wait, and wakes it when it waits already.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use common::{
    Count, Far, PipeWriter, Trickle, alone,
    drive::{Later, drive, drive_with, now, pause},
    fault::{FaultyRead, FaultyWrite, Pace},
    pipe, poll_once,
    wire::{self, Dice},
};
use coro_websocket::{IoWrite, Message, Role, SinkExt, StreamExt, WrapOptions, wrap_io};
use futures::{
    executor::LocalPool,
    task::{LocalSpawn, LocalSpawnExt},
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn spawn(spawner: &impl LocalSpawn, task: impl Future<Output = ()> + 'static) {
    spawner.spawn_local(task).unwrap();
}

#[test]
fn a_frame_fed_by_another_task_goes_out_though_read_is_parked() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        let mut pool = LocalPool::new();
        spawn(&pool.spawner(), async move {
            read.next().await;
        });
        pool.run_until_stalled();
        // Each in a task of its own, which ends at once: only the reader's is left to send it.
        let feeds: [&dyn Fn() -> Message; 2] = [&|| Message::text("fed"), &|| Message::ping("fed")];
        for feed in feeds {
            let message = feed();
            let mut clone = write.clone();
            spawn(&pool.spawner(), async move { clone.feed(message).await.unwrap() });
            pool.run_until_stalled();
            assert_eq!(far.frames().len(), 1);
        }
        write.try_feed("tried").unwrap();
        pool.run_until_stalled();
        assert_eq!(far.frames().len(), 1);
    }
}

#[test]
fn what_does_not_fit_now_goes_out_when_there_is_room() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role));
        let mut pool = LocalPool::new();
        spawn(&pool.spawner(), async move {
            read.next().await;
        });
        pool.run_until_stalled();
        write.try_feed(Message::binary(vec![1; 1000])).unwrap();
        write.try_feed("behind").unwrap();
        let mut sent = Vec::new();
        loop {
            pool.run_until_stalled();
            let part = far.input.take_all();
            if part.is_empty() {
                break;
            }
            sent.extend(part);
        }
        assert_eq!(wire::frames(&sent).len(), 2, "whoever takes wakes the reader");
        assert_eq!(write.buffered(), 0);
    }
}

#[test]
fn a_feed_wakes_a_parked_read_once() {
    let ((mut read, mut write), _far) = alone(1024, WrapOptions::client());
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(Pin::new(&mut read.next()).poll(&mut Context::from_waker(&waker)).is_pending());
    for _ in 0..10 {
        write.try_feed("fed").unwrap();
    }
    assert_eq!(wakes.get(), 1);
}

#[test]
fn read_that_was_polled_by_another_task_wakes_that_task() {
    let ((mut read, mut write), mut far) = alone(1024, WrapOptions::client());
    let wakers = [(); 2].map(|()| Arc::new(Count::default()));
    for wakes in &wakers {
        let waker = Waker::from(Arc::clone(wakes));
        assert!(Pin::new(&mut read.next()).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    write.try_feed("fed").unwrap();
    assert_eq!([wakers[0].get(), wakers[1].get()], [0, 1]);
    assert!(poll_once(&mut read.next()).is_pending());
    assert_eq!(far.frames().len(), 1);
}

#[test]
fn a_feed_in_a_read_loop_batches_by_itself() {
    for role in ROLES {
        for count in [1, 10, 300] {
            let later = Later::default();
            let bytes = wire::to(role, wire::TEXT, "echo me").repeat(count);
            let input = FaultyRead::new(bytes, Pace::FAST, None, &later);
            let (output, taken) = FaultyWrite::new(Pace::FAST, None, &later);
            let (mut read, mut write) = wrap_io(input, output, WrapOptions::new(role));
            drive_with(
                async {
                    while let Some(Ok(message)) = read.next().await {
                        write.feed(message).await.unwrap();
                    }
                },
                &later,
            );
            assert_eq!(wire::frames(&taken.bytes()).len(), count);
            assert_eq!((taken.calls(), taken.flushes()), (1, 1), "{count} replies to what came at once");
        }
    }
}

#[test]
fn pongs_to_pings_that_came_at_once_go_out_at_once() {
    let later = Later::default();
    let bytes = wire::to(Role::Server, wire::PING, "ping").repeat(200);
    let input = FaultyRead::new(bytes, Pace::FAST, None, &later);
    let (output, taken) = FaultyWrite::new(Pace::FAST, None, &later);
    let (mut read, _write) = wrap_io(input, output, WrapOptions::server());
    drive_with(async { while let Some(Ok(_)) = read.next().await {} }, &later);
    assert_eq!(wire::frames(&taken.bytes()).len(), 200);
    assert_eq!(taken.calls(), 1);
}

/// No reply waits for a peer that never pauses.
#[test]
fn replies_go_out_before_more_is_read() {
    for role in ROLES {
        let frame = wire::to(role, wire::TEXT, "question");
        let later = Later::default();
        let pace = Pace { chunk: frame.len(), pauses: false };
        let input = FaultyRead::new(frame.repeat(50), pace, None, &later);
        let (output, taken) = FaultyWrite::new(Pace::FAST, None, &later);
        let (mut read, mut write) = wrap_io(input, output, WrapOptions::new(role));
        for turn in 0..50 {
            let message = drive(read.next()).unwrap().unwrap();
            assert_eq!(wire::frames(&taken.bytes()).len(), turn, "all replies but the last");
            write.try_feed(message).unwrap();
        }
    }
}

#[test]
fn a_feed_while_read_is_busy_goes_out_at_its_next_poll() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::to(role, wire::TEXT, "busy with this"));
        drive(read.next()).unwrap().unwrap();
        write.try_feed("meanwhile").unwrap();
        assert_eq!(far.input.take_all(), []);
        assert!(poll_once(&mut read.next()).is_pending());
        assert_eq!(far.frames().len(), 1);
        // The same with a lent frame.
        far.put(&wire::to(role, wire::TEXT, "busy with this"));
        drive(read.frame()).unwrap().unwrap();
        write.try_feed("meanwhile").unwrap();
        assert!(now(read.frame()).is_pending());
        assert_eq!(far.frames().len(), 1);
    }
}

#[test]
fn without_read_what_was_fed_goes_out_by_flush_and_not_before() {
    for role in ROLES {
        for gone in [false, true] {
            let ((read, mut write), mut far) = alone(1024, WrapOptions::new(role));
            let read = Some(read).filter(|_| !gone);
            drive(write.feed("1")).unwrap();
            drive(SinkExt::feed(&mut write, Message::text("2"))).unwrap();
            write.try_feed("3").unwrap();
            assert_eq!(far.input.take_all(), []);
            assert!(write.buffered() > 0);
            drive(write.flush()).unwrap();
            assert_eq!(far.frames().len(), 3);
            assert_eq!(write.buffered(), 0);
            drop(read);
        }
    }
}

#[test]
fn without_read_a_feed_above_the_mark_makes_room_itself() {
    let ((_read, mut write), mut far) = alone(1 << 20, WrapOptions::server().write_buffer_len(100));
    for _ in 0..1000 {
        drive(write.feed("twenty bytes of text")).unwrap();
        assert!(write.buffered() < 122);
    }
    drive(write.flush()).unwrap();
    assert_eq!(far.frames().len(), 1000);
}

#[test]
fn many_tasks_feed_and_every_frame_goes_out_once_in_the_order_of_its_task() {
    for (role, capacity, mark) in
        [(Role::Client, 7, 50), (Role::Server, 1000, 0), (Role::Server, 3, 64 << 10)]
    {
        let ((mut read, write), Far { input, output }) =
            alone(capacity, WrapOptions::new(role).write_buffer_len(mark));
        let mut pool = LocalPool::new();
        let spawner = pool.spawner();
        let writers = 10;
        let done = Rc::new(Cell::new(0));
        for number in 0..writers {
            let mut write = write.clone();
            let done = Rc::clone(&done);
            spawn(&spawner, async move {
                for turn in 0..100 {
                    let text = format!("{number} {turn}");
                    match turn % 4 {
                        0 => write.send(text.as_str()).await.unwrap(),
                        1 => SinkExt::feed(&mut write, Message::text(text)).await.unwrap(),
                        _ => write.feed(text.as_str()).await.unwrap(),
                    }
                }
                done.set(done.get() + 1);
            });
        }
        spawn(&spawner, async move {
            read.next().await;
        });
        let far = input;
        let mut far = Box::pin(far);
        let received = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&received);
        spawn(&spawner, async move {
            let mut part = [0; 5];
            while let Ok(count @ 1..) = futures::AsyncReadExt::read(&mut far, &mut part).await {
                sink.borrow_mut().extend_from_slice(&part[..count]);
            }
        });
        pool.run_until_stalled();
        assert_eq!(done.get(), writers, "a writer waits for ever");
        let frames = wire::frames(&received.borrow());
        let mut next = vec![0; writers];
        for frame in &frames {
            let text = str::from_utf8(&frame.payload).unwrap();
            let (number, turn) = text.split_once(' ').unwrap();
            let number: usize = number.parse().unwrap();
            assert_eq!(turn.parse(), Ok(next[number]));
            next[number] += 1;
        }
        assert_eq!(next, vec![100; writers]);
        drop((output, write));
    }
}

/// Two connections, each echoing what the other says, with hardly any room between them: neither stops reading
/// because it has to write.
#[test]
fn two_echoing_ends_with_a_tiny_transport_do_not_block_each_other() {
    let (near_out, far_in) = pipe(3);
    let (far_out, near_in) = pipe(3);
    let (mut near_read, mut near) =
        wrap_io(near_in, near_out, WrapOptions::client().write_buffer_len(1 << 20));
    let (mut far_read, mut far) = wrap_io(far_in, far_out, WrapOptions::server().write_buffer_len(1 << 20));
    for number in 0..20 {
        near.try_feed(format!("near {number} {}", "x".repeat(100))).unwrap();
        far.try_feed(format!("far {number} {}", "y".repeat(100))).unwrap();
    }
    let mut pool = LocalPool::new();
    let ended = Rc::new(Cell::new(0));
    let near_ended = Rc::clone(&ended);
    spawn(&pool.spawner(), async move {
        for _ in 0..200 {
            let message = near_read.next().await.unwrap().unwrap();
            near.feed(message).await.unwrap();
        }
        near.close_with(1000, "").await.unwrap();
        while near_read.next().await.transpose().unwrap().is_some() {}
        near_ended.set(near_ended.get() + 1);
    });
    let far_ended = Rc::clone(&ended);
    spawn(&pool.spawner(), async move {
        while let Some(message) = far_read.next().await.transpose().unwrap() {
            if message.is_data() {
                far.feed(message).await.unwrap();
            }
        }
        far_ended.set(far_ended.get() + 1);
    });
    pool.run_until_stalled();
    assert_eq!(ended.get(), 2);
}

/// What one of several writers does, as its dice say. Every message tells whose it is and which.
async fn write_anything(mut write: IoWrite<Trickle<PipeWriter>>, number: usize, seed: u64) {
    let mut dice = Dice::new(seed);
    for turn in 0..15 {
        let text = format!("{number} {turn} {}", "x".repeat(dice.up_to(40)));
        match dice.up_to(7) {
            0 => write.send(text).await.unwrap(),
            1 => write.feed(text).await.unwrap(),
            2 => drop(write.write(text).await.unwrap()),
            3 => {
                write.feed(text).await.unwrap();
                write.flush().await.unwrap();
            }
            4 => {
                let (first, rest) = text.split_at(dice.up_to(3));
                write.send(wire::message(wire::FIRST_TEXT, false, first.as_bytes())).await.unwrap();
                if dice.up_to(2) == 0 {
                    pause().await;
                    write.feed(Message::continuation("", false)).await.unwrap();
                }
                write.feed(Message::continuation(rest.to_owned(), true)).await.unwrap();
            }
            5 => {
                let _ = write.ping().await.unwrap();
                write.clone().send(text).await.unwrap();
            }
            _ => {
                // A clone that is gone before its frame is.
                write.flush().await.unwrap();
                write.clone().feed(text).await.unwrap();
            }
        }
        if dice.up_to(3) == 0 {
            pause().await;
        }
    }
    write.flush().await.unwrap();
}

/// Tasks for every half and every clone, transports of a few bytes, marks of any height: nobody is left waiting, no
/// message is lost, and the end is clean.
#[test]
fn many_tasks_doing_anything_come_to_a_clean_end() {
    const WRITERS: usize = 4;
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let capacity = 1 + dice.up_to(60);
        let mut mark = || [0, 1, 30, 300, 64 << 10][dice.up_to(5)];
        let (client, server) =
            (WrapOptions::client().write_buffer_len(mark()), WrapOptions::server().write_buffer_len(mark()));
        let (near_out, far_in) = pipe(capacity);
        let (far_out, near_in) = pipe(capacity);
        let (mut near_read, near) = wrap_io(Trickle::new(near_in), Trickle::new(near_out), client);
        let (mut far_read, mut far) = wrap_io(far_in, far_out, server);
        let mut pool = LocalPool::new();
        let spawner = pool.spawner();
        let ended = Rc::new(Cell::new(0));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let writing = Rc::new(Cell::new(WRITERS));
        for number in 0..WRITERS {
            let (writing, write) = (Rc::clone(&writing), near.clone());
            let mut last = near.clone();
            spawn(&spawner, async move {
                write_anything(write, number, seed * 10 + number as u64).await;
                writing.set(writing.get() - 1);
                if writing.get() == 0 {
                    last.close_with(1000, "").await.unwrap();
                }
            });
        }
        let near_ended = Rc::clone(&ended);
        spawn(&spawner, async move {
            while near_read.next().await.transpose().unwrap().is_some() {}
            near_ended.set(near_ended.get() + u32::from(near_read.close_frames().is_clean()));
        });
        let (far_ended, far_seen) = (Rc::clone(&ended), Rc::clone(&seen));
        spawn(&spawner, async move {
            while let Some(data) = far_read.messages().next().await.transpose().unwrap() {
                far_seen.borrow_mut().push(data.as_text().unwrap().to_owned());
                if far_seen.borrow().len() % 5 == 0 {
                    far.feed(data).await.unwrap();
                }
            }
            far_ended.set(far_ended.get() + 1);
        });
        pool.run_until_stalled();
        assert_eq!(ended.get(), 2, "somebody waits for ever, seed {seed}");
        let mut counts = vec![Vec::new(); WRITERS];
        for text in seen.borrow().iter() {
            let mut parts = text.split(' ');
            let number: usize = parts.next().unwrap().parse().unwrap();
            counts[number].push(parts.next().unwrap().parse::<usize>().unwrap());
        }
        for mut turns in counts {
            // Clones of one writer may overtake it while somebody's message is open.
            turns.sort_unstable();
            assert!(turns.into_iter().eq(0..15), "seed {seed}");
        }
    }
}
