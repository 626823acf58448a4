//! What `Read` and `Write` share: one outgoing side under a lock, and the rules for who may touch it when.
//!
//! 1. A frame is accepted whole, synchronously, under the lock, however much of it the transport takes at once. No lock
//!    is held across an await.
//! 2. `Read` never waits for the lock. What it has to send goes into slots outside ([`Slots`]); it says so in the
//!    flags and tries the lock. If that is taken, its holder sees the flags when it lets go ([`Shared::settle`]).
//!    Both do so by a read-modify-write of one atomic, so that one of the two always sees the other.
//! 3. The transport and the timer are polled with wakers that wake every task that waits ([`Signals`]). Wakers run
//!    outside the lock.
//! 4. All memory is bounded: one frame staged per writer above the mark, a few Pongs, one Close.
//! 5. Of the caller's code only the transport runs under a lock. Wakers are run, cloned and dropped outside, and
//!    payloads are dropped outside. If one panics, the others still run, and so does the task that ran it.

use std::{collections::VecDeque, sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;
use slab::Slab;

use crate::{
    clock::Alarm,
    deflate,
    error::Error,
    frame::{CloseCode, CloseFrame, Message},
    options::{Checks, Settings},
    session::{closing::CloseFrames, timers::Timers},
    sync::{AtomicU64, Mutex, Ordering, drop_all, lock, try_lock},
    writer::Outlet,
};

mod accept;
mod drain;
#[cfg(all(test, coro_websocket_loom))]
mod model;
mod pings;
mod push;
mod signals;

pub(crate) use accept::{Outgoing, Refusal, Sender};
pub(crate) use pings::Pings;
pub(crate) use signals::{Flags, Signals, TimerWaker};

use pings::Sent;

/// How many Pongs wait outside the lock; beyond that the latest replaces the one before.
const PONGS: usize = 32;

#[derive(Debug)]
pub(crate) struct Shared<K> {
    pub(crate) signals: Arc<Signals>,
    transport_waker: Waker,
    timer_waker: Waker,
    sending: Mutex<Sending<K>>,
    slots: Mutex<Slots>,
    pub(crate) pings: Pings,
    pub(crate) counts: Counts,
    high_water: usize,
    close_timeout: Duration,
    masks: bool,
    pub(crate) checks: Checks,
    /// How messages are compressed, if that was agreed on.
    pub(crate) compressing: Option<deflate::Sending>,
}

/// What has been counted so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) frames_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) payload_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
    payload_out: AtomicU64,
    /// How many bytes had come when the peer was found silent.
    silent_at: AtomicU64,
    /// The number of times that the reader has found no input.
    pub(crate) looks: AtomicU64,
    /// The position of the last answered heartbeat: the bytes accepted before it.
    pub(crate) answered: AtomicU64,
}

/// How much went through a connection, in both directions, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received, control frames included.
    pub frames_in: u64,
    /// Bytes received after the opening handshake, including headers and bytes thrown away at the end.
    pub bytes_in: u64,
    /// Bytes of the payloads of those frames, after inflating.
    pub payload_in: u64,
    /// Frames accepted for sending, Pongs and heartbeats included.
    pub frames_out: u64,
    /// Bytes of those frames, headers included.
    pub bytes_out: u64,
    /// Bytes of the payloads of those frames, before compressing.
    pub payload_out: u64,
}

/// What stops a reader from the other side.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// The end: aborted, or the closing handshake took too long.
    Quiet,
    /// The connection fails with this error; a Close frame has been queued.
    Failed(Error),
}

/// What the reader leaves for whoever has the lock, and what it must learn without it.
#[derive(Debug, Default)]
struct Slots {
    pongs: VecDeque<Bytes>,
    /// The transport is to be shut once everything is flushed.
    shut: bool,
    /// Nothing follows any more: the transport is gone.
    over: bool,
    /// In a box, since most connections are open most of the time.
    ending: Option<Box<Ending>>,
}

/// How it ends.
#[derive(Debug, Default)]
struct Ending {
    /// The echo of a Close, or ours after a violation, to be sent.
    close: Option<Message>,
    /// The error for frames after that Close, or after ours if it was sent before.
    refused: Option<Error>,
    /// The error that `Read` is to fail the connection with; a Close frame has been queued.
    failing: Option<Error>,
    write_error: Option<Error>,
    close_frames: CloseFrames,
}

impl Slots {
    fn ending(&mut self) -> &mut Ending {
        self.ending.get_or_insert_default()
    }
}

/// The outgoing side.
#[derive(Debug)]
struct Sending<K> {
    /// `None` once the connection is over.
    outlet: Option<K>,
    writers: Slab<Writer>,
    /// The writer whose fragmented message is open: data of others waits.
    open: Option<usize>,
    /// The writers whose frames wait for the end of that message, in order.
    waiting: VecDeque<usize>,
    /// Up to where everything must be flushed for our Close frame to be out.
    close_end: Option<u64>,
    /// How far everything was flushed when the connection ended.
    flushed: u64,
    shut: Shut,
    /// Why the transport takes nothing any more.
    failed: Option<Error>,
    /// Why nothing more is accepted, while what was accepted still goes out.
    refused: Option<Error>,
    /// The count of the transport's wake-ups when it last had no room.
    blocked_at: Option<usize>,
    /// The bytes that the transport had taken when it became full; `None`: it is not full.
    full: Option<u64>,
    /// Whether a Pong is held back until the buffer is below its mark.
    pong_held: bool,
    timers: Timers,
    alarm: Alarm,
}

#[derive(Debug, Default)]
struct Writer {
    /// Up to where everything must be flushed for this writer's frames to be out.
    target: u64,
    /// A frame of this writer that waits for the end of another writer's message.
    waiting: Option<Box<Waiting>>,
    /// Its waiting frame was dropped since the connection closed first.
    lost: bool,
    /// `true` if the writer was dropped. Its number stays in use while it is in line.
    gone: bool,
}

/// An accepted frame that waits for the end of another writer's message.
#[derive(Debug)]
struct Waiting {
    message: Message,
    /// The compression setting of its writer when the frame was accepted.
    compress: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shut {
    No,
    Wanted,
    Done,
}

/// What is to be done once the lock has been let go.
#[derive(Debug)]
struct After<K> {
    wake_read: bool,
    wake_writers: bool,
    /// Something was buffered.
    unflushed: bool,
    /// The transport has no room, and wakes everybody when it has: the count of its wake-ups then.
    blocked: Option<usize>,
    /// `true` if no more Pongs will be read: the peer's Close has arrived, or the connection has failed or ended.
    ends_pings: bool,
    /// Seldom there is any, so that most of the time this costs nothing.
    dropped: Option<Box<Dropped<K>>>,
}

/// Values to drop without the lock, because each destructor may be the caller's.
#[derive(Debug)]
struct Dropped<K> {
    transport: Option<K>,
    payloads: Vec<Bytes>,
    pings: Vec<Sent>,
}

impl<K> Default for After<K> {
    #[inline]
    fn default() -> Self {
        Self {
            wake_read: false,
            wake_writers: false,
            unflushed: false,
            blocked: None,
            ends_pings: false,
            dropped: None,
        }
    }
}

impl<K> After<K> {
    fn dropped(&mut self) -> &mut Dropped<K> {
        self.dropped.get_or_insert_with(|| {
            Box::new(Dropped { transport: None, payloads: Vec::new(), pings: Vec::new() })
        })
    }

    /// Takes the payloads that the outlet has finished with.
    #[cold]
    fn take_spent(&mut self, outlet: &mut K)
    where
        K: Outlet,
    {
        self.dropped().payloads.extend(outlet.take_spent());
    }

    /// Returns whether anything remains to be done without the lock, given these flags.
    #[inline]
    fn is_due(&self, flags: u32) -> bool {
        self.ends_pings
            || self.wake_read
            || self.dropped.is_some()
            || (self.unflushed && flags & Flags::PARKED != 0)
            || (self.wake_writers && flags & Flags::WAITERS != 0)
    }
}

impl<K: Outlet> Sending<K> {
    /// Fails if frames of the caller can no longer be accepted.
    #[inline]
    fn check_open(&self) -> Result<(), Error> {
        if self.refused.is_none() && self.failed.is_none() && self.close_end.is_none() {
            return Ok(());
        }
        Err(self.why_not_open())
    }

    #[cold]
    fn why_not_open(&self) -> Error {
        // What was refused first is why the rest has failed.
        self.refused.as_ref().or(self.failed.as_ref()).cloned().unwrap_or(Error::Closed(None))
    }

    /// Returns whether the transport failed. A closed connection has not failed.
    fn has_failed(&self) -> bool {
        self.failed.as_ref().is_some_and(|error| !matches!(error, Error::Closed(_)))
    }

    /// Returns whether Pings are still answered: also after our own Close, until the peer's Close has been read or the
    /// connection fails.
    fn is_answering(&self) -> bool {
        self.refused.is_none() && self.failed.is_none()
    }

    /// How many bytes of frames the transport has taken and flushed.
    fn flushed(&self) -> u64 {
        self.outlet.as_ref().map_or(self.flushed, |outlet| outlet.flushed())
    }

    /// How many bytes of frames the transport has taken.
    fn written(&self) -> u64 {
        self.outlet.as_ref().map_or(0, |outlet| outlet.accepted() - outlet.buffered() as u64)
    }

    /// Returns a count that grows when the transport takes bytes, including bytes that leave a buffer of its own.
    fn taken(&self) -> u64 {
        self.written() + self.flushed()
    }

    /// How many bytes of frames wait for the transport.
    #[inline]
    fn buffered(&self) -> usize {
        self.outlet.as_ref().map_or(0, |outlet| outlet.buffered())
    }

    /// Returns whether all frames accepted from this writer went out.
    fn is_out(&self, id: usize) -> bool {
        let is_out =
            |writer: &Writer| !writer.lost && writer.waiting.is_none() && writer.target <= self.flushed();
        self.writers.get(id).is_some_and(is_out)
    }

    /// Drops the frames that wait for the end of a message, because they will never go out.
    fn lose_waiting(&mut self, after: &mut After<K>) {
        for id in std::mem::take(&mut self.waiting) {
            let Some(writer) = self.writers.get_mut(id) else { continue };
            if let Some(frame) = writer.waiting.take() {
                writer.lost = true;
                after.dropped().payloads.push(frame.message.payload);
            }
            if writer.gone {
                self.writers.try_remove(id);
            }
        }
    }

    /// Whether the buffer is below its mark.
    #[inline]
    fn has_room(&self, high_water: usize) -> bool {
        self.buffered() < high_water
    }
}

impl<K: Outlet> Shared<K> {
    pub(crate) fn new(outlet: K, settings: &Settings) -> Arc<Self> {
        // Nothing is added to the frames of others.
        let timers = Timers::new(settings.heartbeat.filter(|_| settings.checks != Checks::Off));
        let signals = Arc::new(Signals::default());
        if timers.has_heartbeat() {
            signals.raise(Flags::TIMER);
        }
        Arc::new(Self {
            transport_waker: Arc::clone(&signals).into(),
            timer_waker: Arc::new(TimerWaker(Arc::clone(&signals))).into(),
            signals,
            sending: Mutex::new(Sending {
                outlet: Some(outlet),
                writers: Slab::with_capacity(1),
                open: None,
                waiting: VecDeque::new(),
                close_end: None,
                flushed: 0,
                shut: Shut::No,
                failed: None,
                refused: None,
                blocked_at: None,
                full: None,
                pong_held: false,
                timers,
                alarm: Alarm::default(),
            }),
            slots: Mutex::default(),
            pings: Pings::default(),
            counts: Counts::default(),
            // A mark of zero means: whether the buffer is empty.
            high_water: settings.write_buffer_len.max(1),
            close_timeout: settings.close_timeout,
            masks: settings.masks(),
            checks: settings.checks,
            compressing: deflate::Sending::of(settings),
        })
    }

    /// Whether frames are the caller's.
    #[inline]
    fn is_raw(&self) -> bool {
        self.checks == Checks::Off
    }

    pub(crate) fn stats(&self) -> Stats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { frames_in, bytes_in, payload_in, frames_out, bytes_out, payload_out, .. } = &self.counts;
        Stats {
            frames_in: load(frames_in),
            bytes_in: load(bytes_in),
            payload_in: load(payload_in),
            frames_out: load(frames_out),
            bytes_out: load(bytes_out),
            payload_out: load(payload_out),
        }
    }

    pub(crate) fn close_frames(&self) -> CloseFrames {
        lock(&self.slots).ending.as_ref().map(|ending| ending.close_frames.clone()).unwrap_or_default()
    }

    /// Locks the outgoing side, does something, lets go, and does what has come up meanwhile.
    #[inline]
    fn with<T>(&self, work: impl FnOnce(&mut Sending<K>, &mut After<K>) -> T) -> T {
        let mut after = After::default();
        let done = work(&mut lock(&self.sending), &mut after);
        let flags = self.look(&after);
        if flags & Flags::WORK != 0 || after.is_due(flags) {
            self.finish(after, flags);
        }
        done
    }

    /// Does what the flags ask for, unless somebody else has the lock and so will do it.
    ///
    /// To be called after every unlock and after raising a flag of [`Flags::WORK`].
    pub(crate) fn settle(&self) {
        let flags = self.signals.look();
        if flags & Flags::WORK != 0 {
            self.finish(After::default(), flags);
        }
    }

    /// Reads the flags after the unlock, with the read-modify-write that must follow every unlock.
    #[inline]
    fn look(&self, after: &After<K>) -> u32 {
        if after.unflushed { self.signals.raise(Flags::UNFLUSHED) } else { self.signals.look() }
    }

    /// Does the work that must not happen under the lock, then the work that the flags ask for, until no flag is left
    /// or another task has the lock.
    #[cold]
    fn finish(&self, mut after: After<K>, mut flags: u32) {
        loop {
            self.wake(&mut after, flags);
            if flags & Flags::WORK == 0 {
                break;
            }
            after = After::default();
            {
                let Some(mut sending) = try_lock(&self.sending) else { break };
                self.tend(&mut sending, &mut after);
            }
            flags = self.look(&after);
        }
    }

    fn wake(&self, after: &mut After<K>, flags: u32) {
        if let Some(dropped) = after.dropped.take() {
            let Dropped { transport, payloads, pings } = *dropped;
            drop_all(transport);
            drop_all(payloads);
            drop_all(pings);
        }
        if after.ends_pings {
            self.pings.clear();
        }
        // Where the transport is still to wake everybody, `Read` is woken then. It may just have done so, before
        // `Read` waited.
        let parked = after.unflushed && flags & Flags::PARKED != 0;
        if after.wake_read || (parked && after.blocked != Some(self.signals.transport_wakes())) {
            self.signals.wake_read();
        }
        if after.wake_writers {
            self.signals.wake_writers();
        }
    }

    fn tend(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        let work = self.signals.clear(Flags::WORK);
        if work & Flags::REPLIES != 0 {
            self.place_replies(sending, after);
        }
        if work & Flags::TIMER != 0 {
            // Bytes that the transport takes now count as a sign of life.
            let _ = self.drain(sending, after, u64::MAX);
            self.on_time(sending, after);
        }
        if work & (Flags::FLUSH | Flags::TIMER) != 0 {
            let _ = self.drain(sending, after, u64::MAX);
        }
        // After the others, so that a last Close frame has its chance.
        if work & Flags::END != 0 {
            self.end(sending, after);
        }
    }

    /// Everything that is buffered is to go out. Called by `Read` before it waits.
    pub(crate) fn pump(&self) {
        self.signals.raise(Flags::FLUSH);
        self.settle();
    }
}

/// What `Read` asks for. None of it waits for the lock.
impl<K: Outlet> Shared<K> {
    pub(crate) fn post_pong(&self, payload: Bytes) {
        {
            let mut slots = lock(&self.slots);
            if slots.pongs.len() >= PONGS {
                slots.pongs.pop_back();
            }
            slots.pongs.push_back(payload);
        }
        self.signals.raise(Flags::REPLIES);
        self.settle();
    }

    /// Fails the connection: this Close is the last frame that goes out.
    pub(crate) fn post_close(&self, close: Message) {
        {
            let mut slots = lock(&self.slots);
            let ending = slots.ending();
            ending.close = Some(close);
            ending.refused.get_or_insert(Error::Closed(None));
        }
        self.signals.raise(Flags::REPLIES);
        self.settle();
    }

    /// The transport is to be shut as soon as everything is flushed.
    pub(crate) fn post_shut(&self) {
        lock(&self.slots).shut = true;
        self.signals.raise(Flags::REPLIES | Flags::FLUSH);
        self.settle();
    }

    /// Notes the peer's Close. `echo` is the answer, unless our own Close was sent before.
    pub(crate) fn on_close_received(&self, received: Option<CloseFrame>, echo: Option<Message>) {
        {
            let mut slots = lock(&self.slots);
            let ending = slots.ending();
            ending.close = echo;
            ending.refused = Some(Error::Closed(received.clone().map(Arc::new)));
            ending.close_frames.received = received;
        }
        self.signals.raise(Flags::REPLIES);
        self.settle();
    }

    /// Returns the error for a caller that waits for something that the end of the connection has made impossible.
    pub(crate) fn closed(&self) -> Error {
        let refused = self.with(|sending, _| sending.refused.clone());
        refused.unwrap_or_else(|| Error::Closed(self.close_frames().received.map(Arc::new)))
    }

    /// The connection is over: both Closes are through, or it failed.
    pub(crate) fn post_end(&self) {
        self.signals.raise(Flags::END);
        self.settle();
    }

    pub(crate) fn take_stop(&self) -> Option<Stop> {
        let mut slots = lock(&self.slots);
        let failed = slots.ending.as_mut().and_then(|ending| ending.failing.take()).map(Stop::Failed);
        if slots.over {
            // The flag stays up, so that nobody waits for a transport that is gone.
            return failed.or(Some(Stop::Quiet));
        }
        self.signals.clear(Flags::STOP);
        failed
    }

    pub(crate) fn write_error(&self) -> Option<Error> {
        lock(&self.slots).ending.as_ref().and_then(|ending| ending.write_error.clone())
    }

    /// Whether the peer is still as silent as when the deadline passed.
    pub(crate) fn is_silent(&self, received: u64) -> bool {
        self.signals.clear(Flags::SILENT) & Flags::SILENT != 0
            && self.counts.silent_at.load(Ordering::Relaxed) == received
    }
}

/// What both halves may do, waiting for the lock if they must.
impl<K: Outlet> Shared<K> {
    /// Ends the connection with this error before anything is read or written.
    pub(crate) fn refuse(&self, why: Error) {
        self.with(|sending, after| {
            sending.refused = Some(why);
            self.end(sending, after);
        });
    }

    /// The connection is over at once: what is buffered is lost, the transport is dropped.
    pub(crate) fn abort(&self) {
        self.with(|sending, after| self.end(sending, after));
    }

    /// The closing handshake may take this long from now, whatever was said before.
    pub(crate) fn close_within(&self, timeout: Duration) {
        self.with(|sending, _| {
            sending.timers.forget_close();
            self.start_closing(sending, timeout);
        });
    }
}

/// What `Write` asks for.
impl<K: Outlet> Shared<K> {
    pub(crate) fn add_writer(&self, compress: bool) -> Sender {
        let id = self.with(|sending, _| sending.writers.insert(Writer::default()));
        Sender::new(id, self, compress)
    }

    pub(crate) fn remove_writer(&self, sender: &Sender) {
        self.signals.forget_writer(&sender.seat);
        let (id, mid_message) = (sender.id, sender.rules.is_open());
        self.with(|sending, after| {
            if mid_message && sending.open == Some(id) && sending.check_open().is_ok() {
                self.abandon(sending, after);
            }
            let Some(writer) = sending.writers.get_mut(id) else { return };
            if writer.waiting.is_none() {
                sending.writers.try_remove(id);
                return;
            }
            // A whole message still goes out; the start of a message would never be finished.
            writer.gone = true;
            if let Some(frame) = writer.waiting.take_if(|_| mid_message) {
                after.dropped().payloads.push(frame.message.payload);
            }
        });
    }

    /// Fails writing, because the writer with the open message was dropped: its message cannot be finished, and no
    /// other data may precede the end of a message.
    #[cold]
    fn abandon(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        let mut close = Message::close(CloseCode::INTERNAL_ERROR, "message abandoned");
        let _ = self.push_close(sending, after, &mut close);
        let _ = self.drain(sending, after, u64::MAX);
        sending.refused.get_or_insert(Error::Abandoned);
        lock(&self.slots).ending().failing.get_or_insert(Error::Abandoned);
        self.signals.raise(Flags::STOP);
        after.wake_read = true;
        after.wake_writers = true;
    }

    pub(crate) fn buffered(&self) -> usize {
        self.with(|sending, _| sending.buffered())
    }
}
