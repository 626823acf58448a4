//! A reader that reads in all ways by turns, pauses, and gives up in the middle.

use std::{rc::Rc, time::Duration};

use coro_websocket::{Data, Error, IoRead, Message, Opcode, StreamExt};
use fastrand::Rng;

use super::{
    executor::{Task, give_up_after, pause},
    ledger::Ledger,
    transport::{ReadEnd, WriteEnd},
};

type Read = IoRead<ReadEnd, WriteEnd>;

/// The result of one call.
enum Item {
    Frame(Message),
    Whole(Data),
    Failed(Error),
    End,
}

fn frame(item: Option<Result<Message, Error>>) -> Item {
    match item {
        None => Item::End,
        Some(Ok(message)) => Item::Frame(message),
        Some(Err(error)) => Item::Failed(error),
    }
}

/// Reads once. `None`: it was given up. Frames and whole messages are not mixed within a message.
async fn read_once(read: &mut Read, way: u8, polls: Option<usize>) -> Option<Item> {
    Some(match way {
        0 => frame(give_up_after(polls, read.next()).await?),
        1 => {
            let view = give_up_after(polls, read.frame()).await?;
            frame(view.map(|view| view.map(|view| view.to_message())))
        }
        2 => frame(give_up_after(polls, read.next_timeout(Duration::from_secs(3000))).await?.transpose()),
        _ => match give_up_after(polls, read.messages().next()).await? {
            None => Item::End,
            Some(Ok(data)) => Item::Whole(data),
            Some(Err(error)) => Item::Failed(error),
        },
    })
}

pub(crate) fn reader(mut read: Read, ledger: Rc<Ledger>, side: usize, mut rng: Rng) -> Task {
    Box::pin(async move {
        let settings = &ledger.settings;
        let drops = settings.drops && rng.u8(0..6) == 0;
        let mut reads_left = if drops { rng.usize(0..60) } else { usize::MAX };
        let mut open: Option<(Vec<u8>, bool)> = None;
        let (mut inside_messages, mut used_messages) = (false, false);
        let (mut frames, mut payloads) = (0, 0);
        loop {
            if reads_left == 0 {
                ledger.sides[side].reader_gone.set(true);
                ledger.broken.set(true);
                ledger.log(|| format!("reader {side} is dropped"));
                return;
            }
            reads_left -= 1;
            if rng.u8(0..20) == 0 {
                pause(rng.usize(0..60)).await;
            }
            let polls = (rng.u8(0..4) == 0).then(|| rng.usize(0..3));
            let way = match &open {
                _ if inside_messages => 3,
                Some(_) => rng.u8(0..3),
                None => rng.u8(0..5),
            };
            inside_messages = way >= 3;
            used_messages |= inside_messages;
            let Some(item) = read_once(&mut read, way, polls).await else { continue };
            inside_messages = false;
            match item {
                Item::End => break,
                Item::Failed(error) => on_error(&ledger, side, &error),
                Item::Whole(data) => {
                    ledger.on_arrival(1 - side, data.as_bytes(), matches!(data, Data::Text(_)));
                }
                Item::Frame(message) => {
                    frames += 1;
                    payloads += message.payload.len() as u64;
                    let stats = read.stats();
                    // The answers to `ping()`, of 16 bytes each, are counted and not yielded.
                    let hidden = if settings.pings { stats.frames_in.saturating_sub(frames) } else { 0 };
                    let expected = (frames + hidden, payloads + 16 * hidden);
                    if !used_messages && (stats.frames_in, stats.payload_in) != expected {
                        ledger.fault(format!(
                            "reader {side}: {frames} frames, {payloads} bytes, but {stats:?}"
                        ));
                    }
                    on_frame(&ledger, side, message, &mut open);
                }
            }
        }
        ledger.log(|| format!("reader {side} is at the end"));
        ledger.sides[side].ended.set(true);
        assert!(read.next().await.is_none());
        pause(rng.usize(0..20)).await;
    })
}

fn on_error(ledger: &Ledger, side: usize, error: &Error) {
    ledger.log(|| format!("reader {side}: {error:?}"));
    let excused = ledger.broken.get() || ledger.over.get() || ledger.settings.raw();
    match error {
        Error::Lost | Error::Io(_) | Error::Abandoned | Error::Closed(_) if excused => {}
        error => ledger.fault(format!("reader {side}: {error:?} without a cause")),
    }
}

fn on_frame(ledger: &Ledger, side: usize, message: Message, open: &mut Option<(Vec<u8>, bool)>) {
    if !ledger.settings.deflate && message.len != message.payload.len() as u64 {
        ledger.fault(format!("reader {side}: {message} has the length {}", message.len));
    }
    match message.opcode {
        Opcode::CLOSE => ledger.closed.set(true),
        opcode if opcode.is_control() => {}
        Opcode::CONTINUATION => {
            let Some((bytes, _)) = open else { return ledger.fault(format!("reader {side}: {message}")) };
            bytes.extend_from_slice(&message.payload);
        }
        opcode => {
            if open.is_some() {
                ledger.fault(format!("reader {side}: {message} inside a message"));
            }
            *open = Some((message.payload.to_vec(), opcode == Opcode::TEXT));
        }
    }
    if message.opcode.is_data()
        && message.fin
        && let Some((bytes, text)) = open.take()
    {
        ledger.on_arrival(1 - side, &bytes, text);
    }
}
