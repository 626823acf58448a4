//! How frames of several writers get into the one buffer.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{After, Sending, Shared, Shut, Writer};
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

impl<K: Outlet> Sending<K> {
    /// Whether this writer may stage a frame: there is room, and its last one does not wait.
    #[inline]
    fn is_ready(&self, id: usize, high_water: usize) -> bool {
        self.has_room(high_water) && self.writers.get(id).is_some_and(|writer| !writer.waiting)
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
    fn check(&self, sending: &Sending<K>, rules: &mut Outbound, message: &Message) -> Result<(), Error> {
        // A second Close is fine, and changes nothing.
        if message.opcode != Opcode::CLOSE || sending.close_end.is_none() {
            sending.check_open()?;
        }
        rules.on_message(message).map_err(|error| refuse(error, message))
    }

    /// Accepts a frame that was checked: into the buffer, or into the line behind another writer's message. Gives
    /// its length on the wire. What is left of the message has no meaning.
    #[inline]
    fn accept(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        message: &mut Message,
    ) -> Result<usize, Error> {
        if self.is_addition(sending, id, message) {
            return self.place(sending, after, id, message, |writer| writer.plain);
        }
        self.accept_other(sending, after, id, message)
    }

    /// Whether all that happens where this frame is accepted is that it comes behind what is buffered.
    #[inline]
    fn is_addition(&self, sending: &Sending<K>, id: usize, message: &Message) -> bool {
        let waits = sending.must_wait(id, message) || !sending.waiting.is_empty();
        !waits && message.opcode != Opcode::CLOSE && !self.is_raw()
    }

    /// Accepts a frame that is a mere addition to the buffer while the transport is polled, so that it need not be
    /// kept.
    #[inline]
    fn send_through(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        outgoing: &mut Outgoing,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Error>> {
        let wakes = self.signals.transport_wakes();
        let Outgoing { message, wire_len } = outgoing;
        let (data, fin, payload_len) = (message.opcode.is_data(), message.fin, message.payload.len());
        self.choose_compression(sending, id, |writer| writer.plain);
        after.unflushed = true;
        let polled = self.poll_outlet(sending, after, |outlet, cx| outlet.poll_send(cx, message, wire_len));
        if let Some(len) = *wire_len {
            self.count(len, payload_len);
            if data {
                sending.open = (!fin).then_some(id);
            }
            sending.aim(id, len);
        }
        match (self.on_polled(sending, after, wakes, polled), *wire_len) {
            (Some(Poll::Ready(Ok(()))), Some(len)) => Poll::Ready(Ok(len)),
            (_, Some(len)) => self.poll_flushed(sending, after, id, cx).map_ok(|()| len),
            (_, None) => Poll::Ready(Err(sending.why_not_open())),
        }
    }

    /// Whether the message that begins now is compressed is up to its writer.
    #[inline]
    fn choose_compression(
        &self,
        sending: &mut Sending<K>,
        id: usize,
        is_plain: impl FnOnce(&Writer) -> bool,
    ) {
        if self.compressing.is_some()
            && let Some(outlet) = &mut sending.outlet
        {
            outlet.set_compression(!sending.writers.get(id).is_some_and(is_plain));
        }
    }

    /// Accepts a frame that is no mere addition to the buffer.
    #[cold]
    fn accept_other(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        message: &mut Message,
    ) -> Result<usize, Error> {
        if self.is_raw() {
            let wire_len = self.push(sending, after, message)?;
            return Ok(sending.aim(id, wire_len));
        }
        if message.opcode == Opcode::CLOSE {
            let wire_len = self.push_close(sending, after, std::mem::take(message))?;
            return Ok(sending.aim(id, wire_len));
        }
        if sending.must_wait(id, message) {
            let masking_key = self.masks.then_some([0; 4]);
            let wire_len = Header::of(message, masking_key).wire_len() + message.payload.len();
            sending.waiting.push_back((id, std::mem::take(message)));
            if let Some(writer) = sending.writers.get_mut(id) {
                writer.waiting = true;
                writer.waiting_plain = writer.plain;
            }
            return Ok(wire_len);
        }
        let wire_len = self.place(sending, after, id, message, |writer| writer.plain)?;
        self.release_waiting(sending, after);
        Ok(wire_len)
    }

    #[inline]
    fn place(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        message: &mut Message,
        is_plain: impl FnOnce(&Writer) -> bool,
    ) -> Result<usize, Error> {
        let (data, fin) = (message.opcode.is_data(), message.fin);
        self.choose_compression(sending, id, is_plain);
        let wire_len = self.push(sending, after, message)?;
        if data {
            sending.open = (!fin).then_some(id);
        }
        Ok(sending.aim(id, wire_len))
    }

    /// A message has ended: those that waited for it go on, until one of them begins another.
    fn release_waiting(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        while sending.open.is_none()
            && let Some((id, mut message)) = sending.waiting.pop_front()
        {
            let placed = self.place(sending, after, id, &mut message, |writer| writer.waiting_plain);
            if let Some(writer) = sending.writers.get_mut(id) {
                writer.waiting = false;
                writer.lost = placed.is_err();
            }
            after.wake_writers = true;
        }
    }

    fn park(&self, after: &mut After<K>, id: usize, cx: &Context<'_>) {
        if let Some(replaced) = self.signals.park_writer(id, cx.waker()) {
            after.dropped().wakers.push(replaced);
        }
    }

    /// Everything before `target` is to be flushed; if that takes a while, the writer is woken.
    #[inline]
    fn poll_drain(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        target: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let drained = self.drain(sending, after, target);
        if drained.is_ready() {
            return drained;
        }
        self.park_draining(sending, after, id, target, cx)
    }

    #[cold]
    fn park_draining(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        target: u64,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.park(after, id, cx);
        // The transport may have woken everybody before we were in the list.
        self.drain(sending, after, target)
    }

    #[inline]
    fn poll_room(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if sending.is_ready(id, self.high_water) {
            return Poll::Ready(Ok(()));
        }
        self.wait_for_room(sending, after, id, cx)
    }

    #[cold]
    fn wait_for_room(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        while !sending.is_ready(id, self.high_water) {
            let drained = self.poll_drain(sending, after, id, u64::MAX, cx);
            if sending.is_ready(id, self.high_water) {
                // There is room, even if not all that is buffered went out.
                break;
            }
            ready!(drained)?;
            if sending.writers.get(id).is_some_and(|writer| writer.waiting) {
                self.park(after, id, cx);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_flushed(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        id: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let Some(writer) = sending.writers.get(id) else {
            return Poll::Ready(Err(sending.why_not_open()));
        };
        if writer.lost {
            return Poll::Ready(Err(sending.why_not_open()));
        }
        if writer.waiting {
            ready!(self.poll_drain(sending, after, id, u64::MAX, cx))?;
            self.park(after, id, cx);
            return Poll::Pending;
        }
        let target = writer.target;
        if sending.flushed() >= target {
            // Also where the connection has ended since.
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(sending, after, id, target, cx)
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
    pub(crate) fn poll_ready(&self, id: usize, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.with(|sending, after| {
            if sending.close_end.is_some() {
                // A second Close is fine; whatever else comes now is refused when it comes.
                return Poll::Ready(Ok(()));
            }
            sending.check_open()?;
            self.poll_room(sending, after, id, cx)
        })
    }

    pub(crate) fn start_send(
        &self,
        id: usize,
        rules: &mut Outbound,
        mut message: Message,
    ) -> Result<usize, Error> {
        self.with(|sending, after| {
            self.check(sending, rules, &message)?;
            self.accept(sending, after, id, &mut message)
        })
    }

    /// Accepts the frame if that needs no waiting. Where it may not be sent, or not now, it is left as it is.
    pub(crate) fn try_feed(
        &self,
        id: usize,
        rules: &mut Outbound,
        message: &mut Message,
    ) -> Result<(), Refusal> {
        self.with(|sending, after| {
            if (!sending.is_ready(id, self.high_water) || sending.must_wait(id, message))
                && message.opcode != Opcode::CLOSE
                && sending.check_open().is_ok()
            {
                return Err(Refusal::Full);
            }
            self.check(sending, rules, message).map_err(Refusal::Error)?;
            self.accept(sending, after, id, message).map(drop).map_err(Refusal::Error)
        })
    }

    /// Accepts the frame once there is room, and, with `flush`, waits until it is out: all under one lock where
    /// nothing has to wait. Gives its length on the wire.
    #[inline]
    pub(crate) fn poll_send(
        &self,
        id: usize,
        rules: &mut Outbound,
        outgoing: &mut Outgoing,
        flush: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Error>> {
        let sent = self.with(|sending, after| {
            let Outgoing { message, wire_len } = outgoing;
            if let Some(len) = *wire_len {
                return self.poll_flushed(sending, after, id, cx).map_ok(|()| len);
            }
            if message.opcode != Opcode::CLOSE && !sending.is_ready(id, self.high_water) {
                sending.check_open()?;
                ready!(self.wait_for_room(sending, after, id, cx))?;
            }
            // Only now: what made room may also have placed the echo of a Close, which nothing may follow.
            self.check(sending, rules, message)?;
            if message.opcode == Opcode::CLOSE && sending.is_closed() {
                return Poll::Ready(Ok(0));
            }
            if flush
                && self.is_addition(sending, id, message)
                && sending.may_poll(self.signals.transport_wakes())
            {
                return self.send_through(sending, after, id, outgoing, cx);
            }
            let len = self.accept(sending, after, id, message)?;
            *wire_len = Some(len);
            if !flush {
                return Poll::Ready(Ok(len));
            }
            self.poll_flushed(sending, after, id, cx).map_ok(|()| len)
        });
        if sent.is_pending() && outgoing.wire_len.is_some() {
            // Nothing is kept twice while this waits. Dropped outside the lock.
            outgoing.message.payload = Bytes::new();
        }
        sent
    }

    /// Sends a Ping that is waited for, which it is from the moment that it is accepted: Pings are answered in the
    /// order of the wire.
    pub(crate) fn poll_ping(
        &self,
        id: usize,
        rules: &mut Outbound,
        pong: &mut Option<oneshot::Receiver<Duration>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.with(|sending, after| {
            if pong.is_none() {
                sending.check_open()?;
                ready!(self.poll_room(sending, after, id, cx))?;
                let (payload, receiver) = self.pings.register(clock::now());
                let mut ping = Message::ping(payload.to_vec());
                self.check(sending, rules, &ping)?;
                self.accept(sending, after, id, &mut ping)?;
                *pong = Some(receiver);
            }
            self.poll_flushed(sending, after, id, cx)
        })
    }

    pub(crate) fn poll_flush(&self, id: usize, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.with(|sending, after| self.poll_flushed(sending, after, id, cx))
    }

    /// Sends an empty Close, unless one was sent; in raw mode, where frames are the caller's, ends the transport.
    pub(crate) fn poll_close(&self, id: usize, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.with(|sending, after| {
            if self.is_raw() {
                if sending.shut == Shut::No {
                    sending.shut = Shut::Wanted;
                }
                return self.poll_drain(sending, after, id, u64::MAX, cx);
            }
            if sending.close_end.is_none() {
                let mut close = Message { opcode: Opcode::CLOSE, ..Message::default() };
                match sending.check_open() {
                    // Closed is what was asked for.
                    Err(Error::Closed(_)) if !sending.has_failed() => return Poll::Ready(Ok(())),
                    open => open?,
                }
                self.accept(sending, after, id, &mut close)?;
            }
            let target = sending.close_end.unwrap_or(u64::MAX);
            match self.poll_drain(sending, after, id, target, cx) {
                Poll::Ready(Err(Error::Closed(_))) if !sending.has_failed() => Poll::Ready(Ok(())),
                flushed => flushed,
            }
        })
    }
}
