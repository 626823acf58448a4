//! How frames of several writers get into the one buffer.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{After, Flags, Sending, Shared, Shut, Waiting, signals::Seat};
use crate::{
    clock,
    error::Error,
    frame::{Message, Opcode, explain::refuse, header::Header},
    session::Outbound,
    writer::Outlet,
};

/// Why a frame was not accepted.
pub(crate) enum Refusal {
    /// There is no room now. Nothing has happened.
    Full,
    /// It may not be sent.
    Error(Error),
}

/// A frame to be sent.
pub(crate) struct Outgoing {
    /// Has no meaning once it was accepted.
    message: Message,
    /// Its length on the wire, once it was accepted.
    wire_len: Option<usize>,
}

impl From<Message> for Outgoing {
    #[inline]
    fn from(message: Message) -> Self {
        Self { message, wire_len: None }
    }
}

/// The state of one clone of [`Write`](crate::Write).
#[derive(Debug)]
pub(crate) struct Sender {
    pub(super) id: usize,
    pub(super) rules: Outbound,
    pub(super) seat: Seat,
    /// `true` if messages that it begins from now on are compressed.
    pub(crate) compress: bool,
}

impl Sender {
    pub(super) fn new<K: Outlet>(id: usize, shared: &Shared<K>, compress: bool) -> Self {
        let rules = Outbound::new(shared.checks, shared.compressing.is_some());
        Self { id, rules, seat: Seat::default(), compress }
    }
}

impl<K: Outlet> Sending<K> {
    /// Whether this writer may stage a frame: there is room, and its last one does not wait.
    #[inline]
    fn is_ready(&self, id: usize, high_water: usize) -> bool {
        self.has_room(high_water) && self.writers.get(id).is_some_and(|writer| writer.waiting.is_none())
    }

    /// Whether the connection is over and a Close frame of ours was accepted before: another changes nothing.
    fn is_closed(&self) -> bool {
        self.outlet.is_none() && self.close_end.is_some()
    }

    /// Whether the transport may be polled by somebody who sends, so many of its wake-ups after the first.
    #[inline]
    fn may_poll(&self, wakes: usize) -> bool {
        self.failed.is_none() && self.blocked_at != Some(wakes) && self.shut != Shut::Wanted
    }

    /// Whether this frame would wait for the end of another writer's message.
    fn must_wait(&self, id: usize, message: &Message) -> bool {
        message.opcode.is_data() && self.open.is_some_and(|open| open != id)
    }
}

impl<K: Outlet> Shared<K> {
    /// Whether this frame may be sent now, by the state of the connection and the rules of its writer.
    #[inline]
    fn check(&self, sending: &Sending<K>, sender: &mut Sender, message: &Message) -> Result<(), Error> {
        // A second Close is fine, and changes nothing.
        if message.opcode != Opcode::CLOSE || sending.close_end.is_none() {
            sending.check_open()?;
        }
        sender.rules.on_message(message).map_err(|error| refuse(error, message))
    }

    /// Accepts a frame that was checked: into the buffer, or into the line behind another writer's message. Gives
    /// its length on the wire. What is left of the message has no meaning.
    #[inline]
    fn accept(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        sender: &Sender,
        message: &mut Message,
    ) -> Result<usize, Error> {
        if !message.opcode.is_data() {
            self.enter_ping(after, message);
        }
        if self.is_addition(sending, sender.id, message) {
            return self.place(sending, after, sender.id, sender.compress, message);
        }
        self.accept_other(sending, after, sender, message)
    }

    /// Notes a control frame that goes out. If it is a Ping, its Pong may answer awaited Pings.
    #[cold]
    pub(super) fn enter_ping(&self, after: &mut After<K>, message: &Message) {
        if message.opcode != Opcode::PING {
            return;
        }
        self.signals.raise(Flags::PINGED);
        if !self.pings.is_empty() {
            let forgotten = self.pings.enter(&message.payload);
            if !forgotten.is_empty() {
                after.dropped().pings.extend(forgotten);
            }
        }
    }

    /// Whether all that happens where this frame is accepted is that it comes behind what is buffered.
    #[inline]
    fn is_addition(&self, sending: &Sending<K>, id: usize, message: &Message) -> bool {
        // Frames only wait while a message is open.
        let passes =
            sending.open.is_none() || (sending.waiting.is_empty() && !sending.must_wait(id, message));
        passes && message.opcode != Opcode::CLOSE && !self.is_raw()
    }

    /// Accepts a frame that is a mere addition to the buffer while the transport is polled, so that it need not be
    /// kept.
    #[inline]
    fn send_through(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        sender: &Sender,
        outgoing: &mut Outgoing,
    ) -> Poll<Result<usize, Error>> {
        let wakes = self.signals.transport_wakes();
        let Outgoing { message, wire_len } = outgoing;
        let (data, fin, payload_len) = (message.opcode.is_data(), message.fin, message.payload.len());
        if !data {
            self.enter_ping(after, message);
        }
        self.choose_compression(sending, sender.compress);
        after.unflushed = true;
        let polled = self.poll_outlet(sending, after, |outlet, cx| outlet.poll_send(cx, message, wire_len));
        if let Some(len) = *wire_len {
            self.count(len, payload_len);
            if data {
                sending.open = (!fin).then_some(sender.id);
            }
            sending.aim(sender.id, len);
        }
        match (self.on_polled(sending, after, wakes, polled), *wire_len) {
            (Some(Poll::Ready(Ok(()))), Some(len)) => Poll::Ready(Ok(len)),
            (_, Some(len)) => self.poll_flushed(sending, after, sender.id).map_ok(|()| len),
            (_, None) => Poll::Ready(Err(sending.why_not_open())),
        }
    }

    /// Sets whether the message that begins with this frame, if one does, is compressed.
    #[inline]
    fn choose_compression(&self, sending: &mut Sending<K>, compress: bool) {
        if self.compressing.is_some()
            && let Some(outlet) = &mut sending.outlet
        {
            outlet.set_compression(compress);
        }
    }

    /// Accepts a frame that is no mere addition to the buffer.
    #[cold]
    fn accept_other(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        sender: &Sender,
        message: &mut Message,
    ) -> Result<usize, Error> {
        let (id, compress) = (sender.id, sender.compress);
        if self.is_raw() {
            let wire_len = self.push(sending, after, message)?;
            return Ok(sending.aim(id, wire_len));
        }
        if message.opcode == Opcode::CLOSE {
            let wire_len = self.push_close(sending, after, message)?;
            return Ok(sending.aim(id, wire_len));
        }
        if sending.must_wait(id, message)
            && let Some(writer) = sending.writers.get_mut(id)
        {
            let masking_key = self.masks.then_some([0; 4]);
            let wire_len = Header::of(message, masking_key).wire_len() + message.payload.len();
            let message = std::mem::take(message);
            writer.waiting = Some(Box::new(Waiting { message, compress }));
            sending.waiting.push_back(id);
            return Ok(wire_len);
        }
        let wire_len = self.place(sending, after, id, compress, message)?;
        self.release_waiting(sending, after);
        Ok(wire_len)
    }

    #[inline]
    fn place(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        compress: bool,
        message: &mut Message,
    ) -> Result<usize, Error> {
        let (data, fin) = (message.opcode.is_data(), message.fin);
        self.choose_compression(sending, compress);
        let wire_len = self.push(sending, after, message)?;
        if data {
            sending.open = (!fin).then_some(id);
        }
        Ok(sending.aim(id, wire_len))
    }

    /// A message has ended: those that waited for it go on, until one of them begins another.
    fn release_waiting(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        while sending.open.is_none()
            && let Some(id) = sending.waiting.pop_front()
        {
            let Some(writer) = sending.writers.get_mut(id) else { continue };
            let waiting = writer.waiting.take();
            if writer.gone {
                sending.writers.try_remove(id);
            }
            if let Some(Waiting { mut message, compress }) = waiting.map(|waiting| *waiting) {
                let placed = self.place(sending, after, id, compress, &mut message);
                after.dropped().payloads.push(message.payload);
                if let Some(writer) = sending.writers.get_mut(id) {
                    writer.lost = placed.is_err();
                }
                after.wake_writers = true;
            }
        }
    }

    /// Makes an attempt. If it must wait, parks the writer and makes a second attempt, because the awaited event may
    /// have happened before the writer was in the list. Parking happens without the lock, because wakers are the
    /// caller's code.
    #[inline]
    fn poll<T>(
        &self,
        sender: &mut Sender,
        cx: &Context<'_>,
        mut attempt: impl FnMut(&mut Sending<K>, &mut After<K>, &mut Sender) -> Poll<T>,
    ) -> Poll<T> {
        let attempted = self.with(|sending, after| attempt(sending, after, sender));
        if attempted.is_ready() {
            return attempted;
        }
        self.signals.park_writer(&mut sender.seat, cx.waker());
        self.with(|sending, after| attempt(sending, after, sender))
    }

    #[inline]
    fn poll_room(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
    ) -> Poll<Result<(), Error>> {
        if sending.is_ready(id, self.high_water) {
            return Poll::Ready(Ok(()));
        }
        self.make_room(sending, after, id)
    }

    /// Offers the buffered bytes to the transport, so that this writer may stage a frame.
    #[cold]
    fn make_room(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
    ) -> Poll<Result<(), Error>> {
        let drained = self.drain(sending, after, u64::MAX);
        if sending.is_ready(id, self.high_water) {
            // There is room, even if some buffered bytes remain.
            return Poll::Ready(Ok(()));
        }
        ready!(drained)?;
        // The writer's last frame waits for the end of another writer's message.
        Poll::Pending
    }

    #[inline]
    fn poll_flushed(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
    ) -> Poll<Result<(), Error>> {
        let Some(writer) = sending.writers.get(id) else {
            return Poll::Ready(Err(sending.why_not_open()));
        };
        if writer.lost {
            return Poll::Ready(Err(sending.why_not_open()));
        }
        if writer.waiting.is_some() {
            ready!(self.drain(sending, after, u64::MAX))?;
            return Poll::Pending;
        }
        let target = writer.target;
        if sending.flushed() >= target {
            // Also where the connection has ended since.
            return Poll::Ready(Ok(()));
        }
        self.drain(sending, after, target)
    }
}

impl<K> Sending<K> {
    /// Notes that what has just been accepted must be flushed before this writer's flush is done.
    fn aim(&mut self, id: usize, wire_len: usize) -> usize
    where
        K: Outlet,
    {
        if let (Some(writer), Some(outlet)) = (self.writers.get_mut(id), &self.outlet) {
            writer.target = outlet.accepted();
        }
        wire_len
    }
}

/// What [`Write`](crate::Write) polls.
impl<K: Outlet> Shared<K> {
    pub(crate) fn poll_ready(&self, sender: &mut Sender, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(sender, cx, |sending, after, sender| {
            if sending.close_end.is_some() {
                // A second Close is fine; whatever else comes now is refused when it comes.
                return Poll::Ready(Ok(()));
            }
            sending.check_open()?;
            self.poll_room(sending, after, sender.id)
        })
    }

    pub(crate) fn start_send(&self, sender: &mut Sender, mut message: Message) -> Result<usize, Error> {
        self.with(|sending, after| {
            self.check(sending, sender, &message)?;
            self.accept(sending, after, sender, &mut message)
        })
    }

    /// Accepts the frame if that needs no waiting. Where it may not be sent, or not now, it is left as it is.
    pub(crate) fn try_feed(&self, sender: &mut Sender, message: &mut Message) -> Result<(), Refusal> {
        self.with(|sending, after| {
            if message.opcode != Opcode::CLOSE
                && (!sending.is_ready(sender.id, self.high_water) || sending.must_wait(sender.id, message))
            {
                self.try_room(sending, after, sender.id, message)?;
            }
            self.check(sending, sender, message).map_err(Refusal::Error)?;
            self.accept(sending, after, sender, message).map(drop).map_err(Refusal::Error)
        })
    }

    /// Offers the buffered bytes to the transport once, so that a frame can be taken without waiting. The transport is
    /// polled even if it has not woken us since it was full: it may have room, and the thread that would wake us may be
    /// waiting for this one. A transport that takes nothing gets the waker that wakes all waiting tasks, of which there
    /// may be none.
    #[cold]
    fn try_room(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        message: &Message,
    ) -> Result<(), Refusal> {
        sending.check_open().map_err(Refusal::Error)?;
        sending.blocked_at = None;
        let has_room = self.make_room(sending, after, id).map_err(Refusal::Error)?.is_ready();
        if has_room && !sending.must_wait(id, message) { Ok(()) } else { Err(Refusal::Full) }
    }

    /// Accepts the frame once there is room, and, with `flush`, waits until it is out: all under one lock where
    /// nothing has to wait. Gives its length on the wire.
    #[inline]
    pub(crate) fn poll_send(
        &self,
        sender: &mut Sender,
        outgoing: &mut Outgoing,
        flush: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Error>> {
        let sent = self.with(|sending, after| self.advance(sending, after, sender, outgoing, flush));
        if sent.is_pending() { self.poll_send_parked(sender, outgoing, flush, cx) } else { sent }
    }

    /// Does the same as [`poll`](Self::poll), but with two calls, so that the first is inlined into its caller
    /// (measured: 40 instructions fewer).
    #[cold]
    fn poll_send_parked(
        &self,
        sender: &mut Sender,
        outgoing: &mut Outgoing,
        flush: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Error>> {
        self.signals.park_writer(&mut sender.seat, cx.waker());
        let sent = self.with(|sending, after| self.advance(sending, after, sender, outgoing, flush));
        if sent.is_pending() && outgoing.wire_len.is_some() {
            // Nothing is kept twice while this waits. Dropped outside the lock.
            outgoing.message.payload = Bytes::new();
        }
        sent
    }

    #[inline(always)]
    fn advance(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        sender: &mut Sender,
        outgoing: &mut Outgoing,
        flush: bool,
    ) -> Poll<Result<usize, Error>> {
        let Outgoing { message, wire_len } = &mut *outgoing;
        if let Some(len) = *wire_len {
            return self.poll_flushed(sending, after, sender.id).map_ok(|()| len);
        }
        if message.opcode != Opcode::CLOSE && !sending.is_ready(sender.id, self.high_water) {
            sending.check_open()?;
            ready!(self.make_room(sending, after, sender.id))?;
        }
        // Checked only now, because making room may also have queued the echo of a Close, which no frame may follow.
        self.check(sending, sender, message)?;
        if message.opcode == Opcode::CLOSE && sending.is_closed() {
            return Poll::Ready(Ok(0));
        }
        if flush
            && self.is_addition(sending, sender.id, message)
            && sending.may_poll(self.signals.transport_wakes())
        {
            return self.send_through(sending, after, sender, outgoing);
        }
        let len = self.accept(sending, after, sender, message)?;
        *wire_len = Some(len);
        if !flush {
            return Poll::Ready(Ok(len));
        }
        self.poll_flushed(sending, after, sender.id).map_ok(|()| len)
    }

    /// Sends a Ping that is waited for, which it is from the moment that it is accepted: Pings are answered in the
    /// order of the wire.
    pub(crate) fn poll_ping(
        &self,
        sender: &mut Sender,
        pong: &mut Option<oneshot::Receiver<Duration>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll(sender, cx, |sending, after, sender| {
            if pong.is_none() {
                sending.check_open()?;
                ready!(self.poll_room(sending, after, sender.id))?;
                // Checked again, because making room may also have queued the echo of a Close.
                sending.check_open()?;
                let (payload, receiver, forgotten) = self.pings.register(clock::now())?;
                if !forgotten.is_empty() {
                    after.dropped().pings.extend(forgotten);
                }
                self.signals.raise(Flags::PINGED);
                let wire_len = self.push(sending, after, &mut Message::ping(payload.to_vec()))?;
                sending.aim(sender.id, wire_len);
                *pong = Some(receiver);
            }
            self.poll_flushed(sending, after, sender.id)
        })
    }

    pub(crate) fn poll_flush(&self, sender: &mut Sender, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(sender, cx, |sending, after, sender| self.poll_flushed(sending, after, sender.id))
    }

    /// Sends an empty Close, unless one was sent; in raw mode, where frames are the caller's, ends the transport. Fails
    /// if a frame of this writer was lost.
    pub(crate) fn poll_close(&self, sender: &mut Sender, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(sender, cx, |sending, after, sender| {
            let closed = ready!(self.poll_closed(sending, after, sender));
            Poll::Ready(match closed {
                // A closed connection is the requested result.
                Ok(()) | Err(Error::Closed(_)) if !sending.has_failed() && sending.is_out(sender.id) => {
                    Ok(())
                }
                Ok(()) => Err(sending.why_not_open()),
                lost => lost,
            })
        })
    }

    fn poll_closed(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        sender: &Sender,
    ) -> Poll<Result<(), Error>> {
        if self.is_raw() {
            if sending.shut == Shut::No {
                sending.shut = Shut::Wanted;
                sending.refused.get_or_insert(Error::Closed(None));
                self.signals.raise(Flags::CLOSED);
                after.wake_writers = true;
            }
            let ended = self.drain(sending, after, u64::MAX);
            // The caller asked for the end, so `Closed` is not an error here.
            return ended.map_err(|error| sending.failed.clone().unwrap_or(error));
        }
        if sending.close_end.is_none() {
            sending.check_open()?;
            let mut close = Message { opcode: Opcode::CLOSE, ..Message::default() };
            self.accept(sending, after, sender, &mut close)?;
        }
        self.drain(sending, after, sending.close_end.unwrap_or(u64::MAX))
    }
}
