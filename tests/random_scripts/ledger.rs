//! The record that the tasks of a script keep: messages sent, messages received, events of the connection.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use coro_websocket::{Error, IoWrite};
use fastrand::Rng;

use super::{executor::Task, script::Settings, transport::WriteEnd};

/// The record of a message that was given to a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Tried,
    /// It was accepted.
    Ok,
    /// It was flushed.
    Flushed,
    /// The future was dropped, or gave an error: it may arrive.
    Maybe,
    /// It was handed back.
    No,
}

pub(crate) struct Entry {
    pub(crate) len: usize,
    pub(crate) text: bool,
    pub(crate) state: State,
}

/// Messages of no bytes cannot be told apart, so they are counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Empties {
    pub(crate) accepted: usize,
    pub(crate) maybe: usize,
    pub(crate) arrived: usize,
}

/// The record of one end of the connection. Received messages are noted at the end that sent them.
#[derive(Default)]
pub(crate) struct Side {
    /// Of each clone of the writer.
    pub(crate) sent: RefCell<Vec<Vec<Entry>>>,
    /// Up to which message of each clone everything has arrived.
    pub(crate) arrived: RefCell<HashMap<usize, usize>>,
    pub(crate) empties: Cell<Empties>,
    pub(crate) reader_gone: Cell<bool>,
    pub(crate) ended: Cell<bool>,
    /// Writers that live on.
    pub(crate) kept: RefCell<Vec<IoWrite<WriteEnd>>>,
}

pub(crate) struct Ledger {
    pub(crate) settings: Settings,
    pub(crate) sides: [Side; 2],
    /// A Close was sent.
    pub(crate) closed: Cell<bool>,
    /// Something happened after which messages may be lost.
    pub(crate) broken: Cell<bool>,
    /// Everything is over.
    pub(crate) over: Cell<bool>,
    pub(crate) operations: Cell<u64>,
    faults: RefCell<Vec<String>>,
    spawned: RefCell<Vec<(String, Task)>>,
    log: RefCell<Vec<String>>,
}

/// The bytes of a message: six that say which it is, then repetitions or noise.
pub(crate) fn content(side: usize, clone: usize, number: usize, len: usize, text: bool) -> Vec<u8> {
    let letter = |base: u8, at: usize| base + u8::try_from(at).unwrap();
    let mut bytes = vec![letter(b'A', clone)];
    let mut rest = number;
    for _ in 0..4 {
        bytes.push(letter(b'a', rest % 26));
        rest /= 26;
    }
    bytes.push(letter(b'0', side));
    let mut rng = Rng::with_seed((side * 1_000_003 + clone * 7919 + number) as u64);
    if rng.bool() {
        while bytes.len() < len {
            let byte = u8::try_from(rng.alphanumeric()).unwrap();
            bytes.resize(bytes.len() + rng.usize(1..200), byte);
        }
    } else {
        let start = bytes.len();
        bytes.resize(len.max(start), 0);
        rng.fill(&mut bytes[start..]);
        if text {
            bytes[start..].iter_mut().for_each(|byte| *byte &= 0x7F);
        }
    }
    bytes.truncate(len);
    bytes
}

impl Ledger {
    pub(crate) fn new(settings: Settings) -> Self {
        let broken = Cell::new(settings.errors);
        Self {
            settings,
            sides: Default::default(),
            closed: Cell::default(),
            broken,
            over: Cell::default(),
            operations: Cell::default(),
            faults: RefCell::default(),
            spawned: RefCell::default(),
            log: RefCell::default(),
        }
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.settings.logs {
            self.log.borrow_mut().push(text());
        }
    }

    pub(crate) fn logged(&self) -> String {
        self.log.borrow().join("\n")
    }

    pub(crate) fn fault(&self, text: String) {
        self.faults.borrow_mut().push(text);
    }

    pub(crate) fn check_faults(&self) -> Result<(), String> {
        let faults = self.faults.borrow();
        if faults.is_empty() { Ok(()) } else { Err(faults[..faults.len().min(4)].join("; ")) }
    }

    pub(crate) fn spawn(&self, name: String, task: Task) {
        self.spawned.borrow_mut().push((name, task));
    }

    pub(crate) fn take_spawned(&self) -> Vec<(String, Task)> {
        std::mem::take(&mut *self.spawned.borrow_mut())
    }

    /// Another clone of the writer. Gives its number.
    pub(crate) fn add_clone(&self, side: usize) -> usize {
        let mut sent = self.sides[side].sent.borrow_mut();
        sent.push(Vec::new());
        sent.len() - 1
    }

    /// A message that is going to be sent. Gives its number and its bytes.
    pub(crate) fn new_message(&self, side: usize, clone: usize, len: usize, text: bool) -> (usize, Vec<u8>) {
        let list = &mut self.sides[side].sent.borrow_mut()[clone];
        list.push(Entry { len, text, state: State::Tried });
        (list.len() - 1, content(side, clone, list.len() - 1, len, text))
    }

    pub(crate) fn set(&self, side: usize, clone: usize, number: usize, state: State) {
        let entry = &mut self.sides[side].sent.borrow_mut()[clone][number];
        if entry.len == 0 && entry.state == State::Tried {
            let mut empties = self.sides[side].empties.get();
            empties.accepted += usize::from(matches!(state, State::Ok | State::Flushed));
            empties.maybe += usize::from(state == State::Maybe);
            self.sides[side].empties.set(empties);
        }
        entry.state = state;
    }

    /// A flush of this clone has resolved.
    pub(crate) fn flushed(&self, side: usize, clone: usize) {
        let list = &mut self.sides[side].sent.borrow_mut()[clone];
        list.iter_mut()
            .filter(|entry| entry.state == State::Ok)
            .for_each(|entry| entry.state = State::Flushed);
    }

    /// A writer got this error.
    pub(crate) fn on_error(&self, side: usize, clone: usize, error: &Error) {
        self.log(|| format!("writer {side}.{clone}: {error:?}"));
        let ended = self.closed.get() || self.broken.get() || self.over.get();
        match error {
            Error::ReaderGone => {}
            Error::Closed(_) | Error::Io(_) | Error::Abandoned | Error::Lost if ended => {}
            error => self.fault(format!("writer {side}.{clone}: {error:?}, though nothing ended")),
        }
    }

    /// A message has arrived at the other side of this one.
    pub(crate) fn on_arrival(&self, from: usize, bytes: &[u8], text: bool) {
        if bytes.is_empty() {
            let mut empties = self.sides[from].empties.get();
            empties.arrived += 1;
            return self.sides[from].empties.set(empties);
        }
        let clone = usize::from(bytes[0].wrapping_sub(b'A'));
        let sent = self.sides[from].sent.borrow();
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let Some(list) = sent.get(clone) else {
            return self.fault(format!("{} bytes {start:?} of no writer of {from}", bytes.len()));
        };
        let mut arrived = self.sides[from].arrived.borrow_mut();
        let next = arrived.entry(clone).or_insert(0);
        for (number, entry) in list.iter().enumerate().skip(*next) {
            let is_this = entry.len == bytes.len()
                && entry.text == text
                && content(from, clone, number, entry.len, text) == bytes;
            if is_this {
                if entry.state == State::No {
                    self.fault(format!("message {number} of {from}.{clone} was handed back and arrived"));
                }
                *next = number + 1;
                return self.log(|| format!("message {number} of {from}.{clone} has arrived"));
            }
            if entry.len > 0 && matches!(entry.state, State::Ok | State::Flushed) {
                let (state, len) = (entry.state, entry.len);
                return self.fault(format!(
                    "message {number} of {from}.{clone} ({state:?}, {len} bytes) was left out: {} bytes {start:?} came",
                    bytes.len()
                ));
            }
        }
        self.fault(format!("{} bytes {start:?} that {from}.{clone} has not sent", bytes.len()));
    }

    /// The first message that has not arrived and must have.
    pub(crate) fn missing(&self, from: usize, must_arrive: impl Fn(State) -> bool) -> Option<String> {
        let arrived = self.sides[from].arrived.borrow();
        for (clone, list) in self.sides[from].sent.borrow().iter().enumerate() {
            let next = arrived.get(&clone).copied().unwrap_or(0);
            for (number, entry) in list.iter().enumerate().skip(next) {
                if entry.len > 0 && must_arrive(entry.state) {
                    let (state, len) = (entry.state, entry.len);
                    return Some(format!(
                        "message {number} of {from}.{clone} ({state:?}, {len} bytes) is lost"
                    ));
                }
            }
        }
        None
    }
}
