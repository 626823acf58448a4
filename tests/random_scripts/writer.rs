//! A writer that does random things.

use std::{pin::Pin, rc::Rc};

use coro_websocket::{Error, IoWrite, Message, Opcode, PreparedFrame, SinkExt, TryFeedError};
use fastrand::Rng;
use futures::{Sink, future::poll_fn};

use super::{
    executor::{Task, give_up_after, pause},
    ledger::{Ledger, State},
    script::length,
    transport::WriteEnd,
};

type Write = IoWrite<WriteEnd>;

struct Writer {
    write: Write,
    ledger: Rc<Ledger>,
    side: usize,
    clone: usize,
    rng: Rng,
    /// It is to be dropped in the middle of its message.
    deserted: bool,
}

/// Runs one clone of this side's writer for this number of operations.
pub(crate) fn writer(
    write: Write,
    ledger: Rc<Ledger>,
    side: usize,
    clone: usize,
    rng: Rng,
    operations: usize,
) -> Task {
    Box::pin(async move {
        let mut writer = Writer { write, ledger, side, clone, rng, deserted: false };
        for _ in 0..operations {
            if writer.ledger.over.get() || !writer.operate().await {
                break;
            }
        }
        let Writer { write, ledger, mut rng, deserted, .. } = writer;
        if rng.u8(0..3) == 0 && !deserted {
            ledger.sides[side].kept.borrow_mut().push(write);
        }
    })
}

fn message(text: bool, bytes: Vec<u8>) -> Message {
    if text { Message::text(String::from_utf8(bytes).unwrap()) } else { Message::binary(bytes) }
}

impl Writer {
    fn set(&self, number: usize, state: State) {
        self.ledger.set(self.side, self.clone, number, state);
        if state == State::Flushed {
            self.ledger.flushed(self.side, self.clone);
        }
    }

    fn on_error(&self, error: &Error) {
        self.ledger.on_error(self.side, self.clone, error);
    }

    fn check<T>(&self, result: Result<T, Error>) {
        if let Err(error) = result {
            self.on_error(&error);
        }
    }

    fn polls(&mut self, one_in: u8, most: usize) -> Option<usize> {
        (self.rng.u8(0..one_in) == 0).then(|| self.rng.usize(0..most))
    }

    /// Does one thing. `false`: this writer is done.
    async fn operate(&mut self) -> bool {
        let Self { side, clone, .. } = *self;
        let ledger = Rc::clone(&self.ledger);
        let settings = &ledger.settings;
        ledger.operations.set(ledger.operations.get() + 1);
        let what = self.rng.u8(0..40);
        ledger.log(|| format!("writer {side}.{clone} does {what}"));
        match what {
            0..=15 => return self.send_whole().await,
            16..=22 => return self.send_fragments().await,
            23 | 24 if settings.pings => {
                let someone_left = ledger.sides.iter().any(|side| side.reader_gone.get());
                if settings.auto_pong && !settings.raw() && !someone_left {
                    let polls = self.polls(2, 6);
                    if let Some(result) = give_up_after(polls, self.write.ping()).await {
                        self.check(result);
                    }
                }
            }
            // Next to pings that are awaited, too: their Pongs may answer both.
            25 => {
                let ping = Message::ping(vec![b'p'; self.rng.usize(0..=125)]);
                let result = self.write.send(ping).await;
                self.check(result);
            }
            26 => {
                let result = self.write.pong(vec![b'q'; self.rng.usize(0..=125)]).await;
                self.check(result);
            }
            27..=29 => {
                let polls = self.polls(3, 3);
                match give_up_after(polls, self.write.flush()).await {
                    Some(Ok(())) => ledger.flushed(side, clone),
                    Some(Err(error)) => self.on_error(&error),
                    None => {}
                }
            }
            30 | 31 => self.write.set_compression(self.rng.bool()),
            32 => drop(self.write.clone()),
            33 if !settings.raw() && ledger.sides[side].sent.borrow().len() < 50 => {
                let other = ledger.add_clone(side);
                let (rng, operations) = (self.rng.fork(), self.rng.usize(1..8));
                let task = writer(self.write.clone(), Rc::clone(&ledger), side, other, rng, operations);
                ledger.spawn(format!("writer {side}.{other}"), task);
            }
            34..=36 => pause(self.rng.usize(0..6)).await,
            37 => {
                let write = &self.write;
                let _ = (write.buffered(), write.stats(), write.is_closed(), write.close_frames());
            }
            38 if settings.closes && self.rng.u8(0..6) == 0 => {
                ledger.closed.set(true);
                ledger.log(|| format!("writer {side}.{clone} closes"));
                let result = match self.rng.u8(0..3) {
                    0 => self.write.close().await,
                    1 => self.write.close_with(1000, "bye").await,
                    _ => self.write.send(Message::close(4000, "x")).await,
                };
                self.check(result);
            }
            39 if settings.aborts && self.rng.u8(0..10) == 0 => {
                ledger.closed.set(true);
                ledger.broken.set(true);
                self.write.abort();
                self.write.abort();
            }
            _ => {}
        }
        true
    }

    /// Sends a whole message in one of the many ways. Shorter ones than six bytes could not be told apart.
    async fn send_whole(&mut self) -> bool {
        let text = self.rng.bool();
        let len = match length(&mut self.rng, &self.ledger.settings) {
            len @ 1..6 => len + 5,
            len => len,
        };
        let (number, bytes) = self.ledger.new_message(self.side, self.clone, len, text);
        let message = message(text, bytes);
        let polls = self.polls(5, 4);
        let way = self.rng.u8(0..9);
        self.ledger
            .log(|| format!("writer {}.{} sends {number}: {len} bytes, way {way}", self.side, self.clone));
        let write = &mut self.write;
        let accepted = |result: Option<Result<(), Error>>| result.map(|result| result.map(|()| State::Ok));
        let flushed =
            |result: Option<Result<(), Error>>| result.map(|result| result.map(|()| State::Flushed));
        let result = match way {
            0 | 1 => flushed(give_up_after(polls, write.send(message)).await),
            2 => {
                let written = give_up_after(polls, write.write(message)).await;
                written.map(|result| result.map(|_| State::Flushed))
            }
            3 | 4 => accepted(give_up_after(polls, write.feed(message)).await),
            5 | 6 => match write.try_feed(message) {
                Ok(()) => Some(Ok(State::Ok)),
                Err(TryFeedError::Full(message)) => {
                    assert_eq!(message.payload.len(), len);
                    Some(Ok(State::No))
                }
                Err(TryFeedError::Refused { message, error }) => {
                    assert_eq!(message.payload.len(), len);
                    Some(Err(error))
                }
                Err(_) => unreachable!(),
            },
            7 => flushed(give_up_after(polls, SinkExt::send(write, message)).await),
            _ => {
                let prepared = PreparedFrame::new(message);
                let message = write.prepared(&prepared);
                flushed(give_up_after(polls, write.send(message)).await)
            }
        };
        match result {
            None => self.set(number, State::Maybe),
            Some(Ok(state)) => self.set(number, state),
            Some(Err(error)) => {
                self.set(number, State::Maybe);
                self.on_error(&error);
                return self.rng.bool();
            }
        }
        true
    }

    async fn send_fragments(&mut self) -> bool {
        let text = self.rng.bool();
        let len = length(&mut self.rng, &self.ledger.settings);
        let len = if (1..6).contains(&len) { len + 5 } else { len };
        let (number, bytes) = self.ledger.new_message(self.side, self.clone, len, text);
        let mut cuts: Vec<usize> = (0..self.rng.usize(1..6)).map(|_| self.rng.usize(0..=len)).collect();
        cuts.sort_unstable();
        cuts.push(len);
        self.ledger.log(|| format!("writer {}.{} sends {number} as {cuts:?}", self.side, self.clone));
        let deserts = self.ledger.settings.drops && self.rng.u8(0..30) == 0;
        let (mut start, mut state) = (0, State::Ok);
        for (index, &end) in cuts.iter().enumerate() {
            if deserts && index > 0 {
                self.ledger.closed.set(true);
                self.ledger.broken.set(true);
                self.set(number, State::Maybe);
                self.deserted = true;
                return false;
            }
            let fin = index + 1 == cuts.len();
            let payload = bytes[start..end].to_vec();
            start = end;
            let opcode = match (index, text) {
                (0, true) => Opcode::TEXT,
                (0, false) => Opcode::BINARY,
                _ => Opcode::CONTINUATION,
            };
            let mut fragment = Message { fin, opcode, ..Message::binary(payload) };
            let result = match self.rng.u8(0..4) {
                0 => self.write.feed(fragment).await.map(|()| State::Ok),
                1 => loop {
                    match self.write.try_feed(fragment) {
                        Ok(()) => break Ok(State::Ok),
                        Err(TryFeedError::Full(message)) => fragment = message,
                        Err(TryFeedError::Refused { error, .. }) => break Err(error),
                        Err(_) => unreachable!(),
                    }
                    // Once this clone is ready and the transport has been offered the buffered bytes, there is room, or
                    // will be: nothing else has to read.
                    let ready = poll_fn(|cx| Pin::new(&mut self.write).poll_ready(cx)).await;
                    if let Err(error) = ready {
                        break Err(error);
                    }
                    if self.rng.u8(0..8) == 0 {
                        break self.write.feed(fragment).await.map(|()| State::Ok);
                    }
                    pause(1).await;
                },
                _ => self.write.send(fragment).await.map(|()| State::Flushed),
            };
            match result {
                Ok(reached) => state = reached,
                Err(error) => {
                    self.set(number, State::Maybe);
                    self.on_error(&error);
                    return false;
                }
            }
            if !fin {
                pause(self.rng.usize(0..4)).await;
                if self.rng.u8(0..4) == 0
                    && let Err(error) = self.write.feed(Message::pong("mid")).await
                {
                    self.set(number, State::Maybe);
                    self.on_error(&error);
                    return false;
                }
            }
        }
        self.set(number, state);
        true
    }
}
