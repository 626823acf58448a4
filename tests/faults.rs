//! An error, an end, an interruption and a wake-up for nothing at every byte of fifty conversations, in either
//! direction: no panic, no future that waits for ever, no frame twice, torn or made up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use common::{
    drive::{Later, drive, drive_nervously, drive_with},
    fault::{Fault, FaultyRead, FaultyWrite, Pace, Taken},
    wire::{self, Dice},
};
use coro_websocket::{
    Error, FrameReader, FrameWriter, Message, Opcode, Role, SinkExt, StreamExt, WrapOptions, wrap_io,
};
use futures::{
    future::poll_fn,
    io::{AsyncRead, AsyncWrite},
    join,
};

/// How the peer's side of a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Close,
    Nothing,
    Violation,
    BytesBehindClose,
}

#[derive(Clone)]
struct Script {
    role: Role,
    incoming: Vec<u8>,
    outgoing: Vec<Message>,
    closes: bool,
    ending: Ending,
    pace: Pace,
}

fn script(number: usize) -> Script {
    let mut dice = Dice::new(number as u64 + 1000);
    let role = [Role::Client, Role::Server][number % 2];
    let count = 2 + dice.up_to(6);
    let frames = wire::mixed(number as u64, count, [5, 20, 40, 130][number % 4]);
    let mut incoming: Vec<u8> =
        frames.iter().flat_map(|(first, payload)| wire::to(role, *first, payload)).collect();
    let ending = [Ending::Close, Ending::Nothing, Ending::Violation, Ending::BytesBehindClose][dice.up_to(4)];
    match ending {
        Ending::Nothing => {}
        Ending::Violation => incoming.extend(wire::to(role, 0xB3, b"?")),
        Ending::Close => incoming.extend(wire::close_to(role, 1001, "bye")),
        Ending::BytesBehindClose => {
            incoming.extend(wire::close_to(role, 4000, ""));
            incoming.extend(wire::to(role, wire::TEXT, "never seen"));
        }
    }
    let count = 1 + dice.up_to(4);
    let outgoing = wire::mixed(number as u64 + 500, count, 30)
        .into_iter()
        .map(|(first, payload)| wire::message(first, false, &payload))
        .collect();
    let pace = [Pace::FAST, Pace { chunk: 1 + number % 7, pauses: false }, Pace { chunk: 3, pauses: true }]
        [number % 3];
    Script { role, incoming, outgoing, closes: dice.up_to(2) == 0, ending, pace }
}

/// What a conversation gave.
struct Outcome {
    items: Vec<Result<Message, Error>>,
    sent: Vec<bool>,
    taken: Taken,
}

impl Outcome {
    fn messages(&self) -> Vec<&Message> {
        self.items.iter().filter_map(|item| item.as_ref().ok()).collect()
    }

    fn error(&self) -> Option<&Error> {
        self.items.last().and_then(|item| item.as_ref().err())
    }
}

type At = Option<(usize, Fault)>;

fn run(script: &Script, reading: At, writing: At, nervous: bool) -> Outcome {
    let later = Later::default();
    let input = FaultyRead::new(script.incoming.clone(), script.pace, reading, &later);
    let (output, taken) = FaultyWrite::new(script.pace, writing, &later);
    let options = WrapOptions::new(script.role).write_buffer_len(64);
    let (mut read, mut write) = wrap_io(input, output, options);
    let mut items = Vec::new();
    let mut sent = Vec::new();
    let conversation = async {
        let receiving = async {
            while let Some(item) = read.next().await {
                items.push(item);
            }
            for _ in 0..3 {
                assert!(read.next().await.is_none() && read.frame().await.is_none(), "the end is for ever");
            }
        };
        let sending = async {
            for message in &script.outgoing {
                sent.push(write.send(message.clone()).await.is_ok());
            }
            if script.closes {
                sent.push(write.close_with(1000, "").await.is_ok());
            }
        };
        join!(receiving, sending);
        // The connection is over: every way to send says so, and none waits.
        assert!(write.is_closed());
        assert!(write.text("late").await.is_err());
        assert!(write.feed("late").await.is_err());
        assert!(write.try_feed("late").is_err());
        assert!(write.ping().await.is_err());
        let _ = write.close_with(1000, "").await;
        let _ = SinkExt::flush(&mut write).await;
        let _ = SinkExt::close(&mut write).await;
        assert_eq!(write.buffered(), 0);
    };
    if nervous {
        drive_nervously(conversation, &later);
    } else {
        drive_with(conversation, &later);
    }
    Outcome { items, sent, taken }
}

/// What must hold whatever happened.
fn check(script: &Script, outcome: &Outcome, whole: &Outcome, label: &str) {
    let all = whole.messages();
    let messages = outcome.messages();
    assert_eq!(messages[..], all[..messages.len()], "{label}: received what was sent");
    let errors = outcome.items.iter().filter(|item| item.is_err()).count();
    assert!(errors == 0 || (errors == 1 && outcome.error().is_some()), "{label}: one error, at the end");
    let (frames, _) = wire::split(&outcome.taken.bytes());
    let is_data = |opcode: Opcode| opcode.is_data();
    let data = frames.iter().filter(|frame| is_data(frame.opcode()));
    let expected = script.outgoing.iter().filter(|message| message.is_data());
    for (frame, message) in data.zip(expected) {
        assert_eq!((frame.opcode(), &frame.payload[..]), (message.opcode, &message.payload[..]), "{label}");
    }
    assert!(frames.iter().all(|frame| frame.key.is_some() == (script.role == Role::Client)), "{label}");
    let behind = frames.iter().skip_while(|frame| frame.opcode() != Opcode::CLOSE).skip(1);
    // §5.5.2: Pings are answered until the peer's Close.
    assert!(behind.map(|frame| frame.opcode()).all(|opcode| opcode == Opcode::PONG), "{label}: only Pongs");
}

/// Where the peer says that it closes, or is told so, all that was accepted before goes out.
fn check_whole(script: &Script, outcome: &Outcome, label: &str) {
    let (_, left) = wire::split(&outcome.taken.bytes());
    assert!(left == 0 || script.ending == Ending::Nothing, "{label}: a torn frame");
}

/// Nothing is missing, and the end is the same. When the peer just ends, that depends on who was first.
fn check_same(script: &Script, outcome: &Outcome, whole: &Outcome, label: &str) {
    assert_eq!(outcome.messages(), whole.messages(), "{label}");
    if script.ending != Ending::Nothing {
        assert_eq!(outcome.error().is_some(), whole.error().is_some(), "{label}");
    }
    check_whole(script, outcome, label);
}

const SCRIPTS: usize = 50;

#[test]
fn every_script_without_a_fault_gives_what_it_should() {
    for number in 0..SCRIPTS {
        let script = script(number);
        let outcome = run(&script, None, None, false);
        check(&script, &outcome, &outcome, &format!("script {number}"));
        match script.ending {
            Ending::Close | Ending::BytesBehindClose => assert!(outcome.error().is_none()),
            Ending::Violation => assert!(matches!(outcome.error(), Some(Error::Protocol { .. }))),
            Ending::Nothing => assert!(script.closes || matches!(outcome.error(), Some(Error::Lost))),
        }
        check_whole(&script, &outcome, &format!("script {number}"));
    }
}

fn at_every_byte_read(fault: Fault, judge: impl Fn(&Script, &Outcome, &Outcome, &str)) {
    for number in 0..SCRIPTS {
        let script = script(number);
        let whole = run(&script, None, None, false);
        for at in 0..=script.incoming.len() {
            let label = format!("{fault:?} at byte {at} that script {number} reads");
            let outcome = run(&script, Some((at, fault)), None, at % 2 == 0);
            check(&script, &outcome, &whole, &label);
            judge(&script, &outcome, &whole, &label);
        }
    }
}

fn at_every_byte_written(fault: Fault, judge: impl Fn(&Script, &Outcome, &Outcome, &str)) {
    for number in 0..SCRIPTS {
        let script = script(number);
        let whole = run(&script, None, None, false);
        for at in 0..=whole.taken.bytes().len() {
            let label = format!("{fault:?} at byte {at} that script {number} writes");
            let outcome = run(&script, None, Some((at, fault)), at % 2 == 0);
            check(&script, &outcome, &whole, &label);
            judge(&script, &outcome, &whole, &label);
        }
    }
}

#[test]
fn a_reading_error_at_every_byte_ends_both_halves() {
    at_every_byte_read(Fault::Error, |_, outcome, _, label| {
        if let Some(error) = outcome.error() {
            let known = matches!(error, Error::Io(_) | Error::Protocol { .. });
            assert!(known, "{label}: {error:?}");
        }
    });
}

#[test]
fn the_end_at_every_byte_ends_both_halves() {
    at_every_byte_read(Fault::End, |_, outcome, _, label| {
        if let Some(error) = outcome.error() {
            assert!(matches!(error, Error::Lost | Error::Protocol { .. }), "{label}: {error:?}");
        }
    });
}

#[test]
fn wake_ups_for_nothing_and_interruptions_at_every_byte_read_change_nothing() {
    for fault in [Fault::Stall(3), Fault::Interrupted(3)] {
        at_every_byte_read(fault, |script, outcome, whole, label| {
            check_same(script, outcome, whole, label);
        });
    }
}

#[test]
fn a_writing_error_and_a_transport_that_takes_nothing_at_every_byte_are_told_once_input_has_ended() {
    for (fault, kind) in
        [(Fault::Error, io::ErrorKind::ConnectionReset), (Fault::End, io::ErrorKind::WriteZero)]
    {
        at_every_byte_written(fault, |_, outcome, whole, label| {
            assert_eq!(outcome.messages(), whole.messages(), "{label}: all that came is given");
            if let Some(Error::Io(error)) = outcome.error() {
                assert_eq!(error.kind(), kind, "{label}");
            }
        });
    }
}

#[test]
fn wake_ups_for_nothing_and_interruptions_at_every_byte_written_change_nothing() {
    for fault in [Fault::Stall(3), Fault::Interrupted(3)] {
        at_every_byte_written(fault, |script, outcome, whole, label| {
            check_same(script, outcome, whole, label);
        });
    }
}

#[test]
fn every_send_that_said_ok_is_on_the_wire_whole() {
    for number in 0..SCRIPTS {
        let script = script(number);
        let whole = run(&script, None, None, false).taken.bytes().len();
        for at in 0..=whole {
            let outcome = run(&script, None, Some((at, Fault::Error)), false);
            let (frames, _) = wire::split(&outcome.taken.bytes());
            let sent = script.outgoing.iter().zip(&outcome.sent).filter(|(_, sent)| **sent);
            for (message, _) in sent {
                let found = frames.iter().any(|frame| frame.payload == message.payload);
                assert!(found, "script {number}, error at {at}: {message}");
            }
        }
    }
}

#[test]
fn short_reads_and_writes_of_every_size_change_nothing() {
    for number in 0..SCRIPTS {
        let mut script = script(number);
        let whole = run(&script, None, None, false);
        for chunk in 1..=40 {
            for pauses in [false, true] {
                script.pace = Pace { chunk, pauses };
                let outcome = run(&script, None, None, chunk % 2 == 0);
                let label = format!("script {number} in parts of {chunk}");
                check_same(&script, &outcome, &whole, &label);
                check(&script, &outcome, &whole, &label);
            }
        }
    }
}

#[test]
fn the_codec_alone_ends_after_a_fault_at_every_byte() {
    for number in 0..SCRIPTS {
        let script = script(number);
        for at in 0..=script.incoming.len() {
            for fault in [Fault::Error, Fault::End, Fault::Stall(2), Fault::Interrupted(2)] {
                let later = Later::default();
                let input = FaultyRead::new(script.incoming.clone(), script.pace, Some((at, fault)), &later);
                let mut reader = FrameReader::new(input, WrapOptions::new(script.role));
                drive_with(
                    async {
                        let mut failed = false;
                        while let Some(frame) = reader.next().await {
                            assert!(!failed, "one error and then the end");
                            failed = frame.is_err();
                        }
                        assert!(reader.next().await.is_none() && reader.frame().await.is_none());
                    },
                    &later,
                );
                let (output, taken) = FaultyWrite::new(script.pace, Some((at, fault)), &later);
                let mut writer = FrameWriter::new(output, WrapOptions::new(script.role).write_buffer_len(16));
                drive_with(
                    async {
                        let mut failed = false;
                        for message in &script.outgoing {
                            let sent = writer.send(message.clone()).await;
                            assert!(!failed || sent.is_err(), "what has failed stays failed");
                            failed = sent.is_err();
                        }
                        assert_eq!(writer.close().await.is_err(), failed || taken_all(&taken, at, fault));
                    },
                    &later,
                );
                let (frames, left) = wire::split(&taken.bytes());
                assert!(left == 0 || matches!(fault, Fault::Error | Fault::End));
                for (frame, message) in frames.iter().zip(&script.outgoing) {
                    assert_eq!(frame.payload, message.payload);
                }
            }
        }
    }
}

/// Whether the fault comes only when all has been taken, so that only closing meets it.
fn taken_all(taken: &Taken, at: usize, fault: Fault) -> bool {
    fault == Fault::Error && taken.bytes().len() == at
}

/// A transport that lets its task do so much and then wants it to return, as cooperative schedulers do: it says
/// Pending and wakes at once, until the task is polled anew.
struct Yielding<T> {
    io: T,
    budget: Arc<AtomicUsize>,
    /// How often it was asked although the budget was used up.
    refused: Arc<AtomicUsize>,
}

impl<T> Yielding<T> {
    fn proceed(&self, cx: &Context<'_>) -> bool {
        let spend = |left: usize| left.checked_sub(1);
        if self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok() {
            return true;
        }
        let refused = self.refused.fetch_add(1, Ordering::SeqCst);
        assert!(refused < 10, "asked again and again, without returning to the scheduler");
        cx.waker().wake_by_ref();
        false
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Yielding<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.proceed(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Yielding<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.proceed(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[test]
fn a_transport_that_yields_is_asked_again_only_after_the_task_has_returned() {
    for budget_len in [0, 1, 3] {
        let budget = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let later = Later::default();
        let pace = Pace { chunk: 2, pauses: false };
        let input = wire::mixed(3, 20, 30)
            .iter()
            .flat_map(|(first, payload)| wire::to(Role::Client, *first, payload))
            .chain(wire::close_to(Role::Client, 1000, ""))
            .collect();
        let (output, taken) = FaultyWrite::new(pace, None, &later);
        let yielding = |refused: &Arc<AtomicUsize>| (Arc::clone(&budget), Arc::clone(refused));
        let ((read_budget, read_refused), (write_budget, write_refused)) =
            (yielding(&refused), yielding(&refused));
        let (mut read, mut write) = wrap_io(
            Yielding {
                io: FaultyRead::new(input, pace, None, &later),
                budget: read_budget,
                refused: read_refused,
            },
            Yielding { io: output, budget: write_budget, refused: write_refused },
            WrapOptions::client(),
        );
        let mut conversation = Box::pin(async {
            let sending = async {
                for turn in 0..10 {
                    write.text(format!("message {turn}")).await.unwrap();
                }
            };
            let receiving = async { while read.next().await.transpose().unwrap().is_some() {} };
            join!(sending, receiving);
        });
        let mut polls = 0;
        drive(poll_fn(|cx| {
            polls += 1;
            assert!(polls < 100_000);
            refused.store(0, Ordering::SeqCst);
            // Where the budget is nothing at first, the first poll gets nowhere at all.
            budget.store(if polls == 1 { budget_len } else { budget_len.max(1) }, Ordering::SeqCst);
            conversation.as_mut().poll(cx)
        }));
        drop(conversation);
        let frames = wire::frames(&taken.bytes());
        let texts = frames.iter().filter(|frame| frame.opcode() == Opcode::TEXT).count();
        assert_eq!(texts, 10);
    }
}

/// Has room for so many bytes, and forgets who waits for more when it is flushed, as async-net's `TcpStream` does.
#[derive(Clone, Default)]
struct Forgetful(Arc<Mutex<(usize, Option<Waker>)>>);

impl AsyncWrite for Forgetful {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (room, waiting) = &mut *self.0.lock().unwrap();
        if *room == 0 {
            *waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buf.len().min(*room);
        *room -= count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().1 = None;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_transport_that_forgets_who_waits_when_it_is_flushed_is_asked_again() {
    let transport = Forgetful::default();
    transport.0.lock().unwrap().0 = 50;
    let (_read, mut write) = wrap_io(futures::io::empty(), transport.clone(), WrapOptions::server());
    let mut sending = Box::pin(write.binary(vec![7; 100]));
    let mut poll = || sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending(), "there was room for a half of it");
    let waiting = {
        let (room, waiting) = &mut *transport.0.lock().unwrap();
        *room = 100;
        waiting.take()
    };
    waiting.expect("the transport knows whom to wake").wake();
    assert!(matches!(poll(), Poll::Ready(Ok(102))));
}
