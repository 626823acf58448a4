//! How what is buffered gets out, when something is due, and how it all ends.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::{After, Flags, Sending, Shared, Shut};
use crate::{
    clock,
    error::{Error, Phase},
    frame::Message,
    session::timers::{self, Traffic},
    sync::{AtomicU64, Ordering, lock},
    writer::Outlet,
};

impl<K: Outlet> Shared<K> {
    /// Moves bytes to the transport until everything before `target` is flushed.
    pub(super) fn drain(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        target: u64,
    ) -> Poll<Result<(), Error>> {
        loop {
            let Some(outlet) = sending.outlet.as_ref().filter(|_| sending.failed.is_none()) else {
                return Poll::Ready(Err(sending.why_not_open()));
            };
            let target = target.min(outlet.accepted());
            if outlet.flushed() >= target && sending.shut != Shut::Wanted {
                return Poll::Ready(Ok(()));
            }
            let wakes = self.signals.transport_wakes();
            if sending.blocked_at == Some(wakes) {
                // Nothing has changed since it had no room.
                after.blocked = Some(wakes);
                return Poll::Pending;
            }
            let polled = self.poll_outlet(sending, after, |outlet, cx| outlet.poll_flush_to(cx, target));
            if let Some(drained) = self.on_polled(sending, after, wakes, polled) {
                return drained;
            }
        }
    }

    /// Polls the transport once, for one of the writers, and notes what has become of what others wait for.
    #[inline]
    pub(super) fn poll_outlet(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        poll: impl FnOnce(&mut K, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>> {
        let signals = &*self.signals;
        let Some(outlet) = &mut sending.outlet else {
            return Poll::Ready(Err(sending.why_not_open()));
        };
        let (wakes, flushed) = (signals.transport_wakes(), outlet.flushed());
        let mut cx = Context::from_waker(&self.transport_waker);
        let polling = signals.begin_poll();
        let mut polled = poll(outlet, &mut cx);
        if sending.shut == Shut::Wanted && polled.is_ready() && outlet.flushed() == outlet.accepted() {
            // A transport that cannot be shut any more is as good as shut.
            match outlet.poll_shut(&mut cx) {
                Poll::Ready(_) => {
                    sending.shut = Shut::Done;
                    signals.raise(Flags::SHUT);
                    after.wake_read = true;
                }
                Poll::Pending => polled = Poll::Pending,
            }
        }
        drop(polling);
        if signals.transport_wakes() != wakes {
            after.wake_read = true;
            after.wake_writers = true;
        }
        if outlet.has_spent() {
            after.take_spent(outlet);
        }
        let flushed_now = outlet.flushed();
        if flushed_now != flushed {
            after.wake_writers = true;
        }
        if flushed_now == outlet.accepted() {
            after.unflushed = false;
            if signals.has(Flags::UNFLUSHED) {
                signals.clear(Flags::UNFLUSHED);
            }
        }
        if sending.close_end.is_some_and(|end| flushed_now >= end)
            && signals.raise(Flags::CLOSE_FLUSHED) & Flags::CLOSE_FLUSHED == 0
        {
            after.wake_read = true;
        }
        if let Some(before) = sending.full {
            self.on_full_polled(sending, before, polled.is_ready());
        }
        polled
    }

    /// What a poll of the transport has come to, before which it had woken so many times. `None`: there is more to do.
    #[inline]
    pub(super) fn on_polled(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        wakes: usize,
        polled: Poll<Result<(), Error>>,
    ) -> Option<Poll<Result<(), Error>>> {
        match polled {
            // Where the transport has woken us meanwhile, those who wait are woken and poll it again. Not here:
            // it may go on like that until the task has yielded.
            Poll::Pending => {
                sending.blocked_at = Some(wakes);
                after.blocked = Some(wakes);
                // A transport that has woken us at once only yields to other tasks.
                if sending.full.is_none() && self.signals.transport_wakes() == wakes {
                    self.on_full(sending);
                }
                if sending.pong_held && sending.has_room(self.high_water) {
                    self.place_replies(sending, after);
                }
                Some(Poll::Pending)
            }
            Poll::Ready(Ok(())) if sending.pong_held && sending.has_room(self.high_water) => {
                self.place_replies(sending, after);
                None
            }
            Poll::Ready(Ok(())) => Some(Poll::Ready(Ok(()))),
            Poll::Ready(Err(error)) => {
                self.fail_writing(sending, after, error);
                None
            }
        }
    }

    /// The transport takes no more. `Read` goes on: the peer's Close may still be in what it sent.
    pub(super) fn fail_writing(&self, sending: &mut Sending<K>, after: &mut After<K>, error: Error) {
        lock(&self.slots).ending().write_error = Some(error.clone());
        sending.failed = Some(error);
        sending.lose_waiting(after);
        self.signals.raise(Flags::WRITE_FAILED | Flags::CLOSED);
        after.wake_read = true;
        after.wake_writers = true;
    }

    /// Handles all events that are due. Each passed deadline moves on by at least a millisecond, so the loop ends.
    pub(super) fn on_time(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        let mut cx = Context::from_waker(&self.timer_waker);
        while sending.outlet.is_some() {
            let traffic = self.traffic(sending);
            let due = sending.timers.due(clock::now(), clock::wall_ahead(), traffic);
            if due.rested {
                self.signals.clear(Flags::SILENT);
            }
            if let Some(ping) = due.beat
                && sending.check_open().is_ok()
                && (sending.has_room(self.high_water) || sending.timers.lacks_ping())
            {
                self.push_beat(sending, after, ping, traffic);
            }
            after.wake_read |= due.awaits;
            if due.silence {
                self.counts.silent_at.store(traffic.received, Ordering::Relaxed);
                self.signals.raise(Flags::SILENT);
                after.wake_read = true;
            }
            if due.stuck && sending.failed.is_none() && sending.full.is_some() {
                // No task reads, so none else would notice.
                self.fail_writing(sending, after, Error::TimedOut(Phase::Heartbeat));
            }
            if due.close {
                let _ = self.drain(sending, after, u64::MAX);
                return self.end(sending, after);
            }
            let Some(next) = sending.timers.next() else {
                return sending.alarm.disarm();
            };
            if sending.alarm.poll_at(&mut cx, next).is_pending() {
                return;
            }
        }
    }

    fn traffic(&self, sending: &Sending<K>) -> Traffic {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            received: load(&self.counts.bytes_in),
            written: sending.written(),
            answered: load(&self.counts.answered),
            looks: load(&self.counts.looks),
        }
    }

    fn push_beat(&self, sending: &mut Sending<K>, after: &mut After<K>, ping: bool, traffic: Traffic) {
        let position = sending.outlet.as_ref().map_or(0, |outlet| outlet.accepted());
        let mut beat = if ping {
            Message::ping(timers::mark(position, traffic.answered))
        } else {
            Message::pong(Bytes::new())
        };
        self.enter_ping(after, &beat);
        let _ = self.push(sending, after, &mut beat);
        if let Some(outlet) = &sending.outlet {
            sending.timers.on_beat(outlet.accepted());
        }
    }

    /// Notes that the transport has become full.
    #[cold]
    fn on_full(&self, sending: &mut Sending<K>) {
        sending.full = Some(sending.taken());
        if sending.timers.is_waiting() {
            sending.timers.on_full(clock::now());
        }
    }

    /// Notes that a full transport was polled again.
    #[cold]
    fn on_full_polled(&self, sending: &mut Sending<K>, before: u64, has_room: bool) {
        let taken = sending.taken();
        if taken > before && sending.timers.is_waiting() {
            sending.timers.on_progress(clock::now());
            self.signals.clear(Flags::SILENT);
        }
        sending.full = (!has_room).then_some(taken);
    }

    /// The connection is over, for both halves.
    pub(super) fn end(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        if let Some(outlet) = sending.outlet.take() {
            sending.flushed = outlet.flushed();
            after.dropped().transport = Some(outlet);
        }
        sending.failed.get_or_insert(Error::Closed(None));
        sending.lose_waiting(after);
        sending.alarm.disarm();
        lock(&self.slots).over = true;
        self.signals.raise(Flags::STOP | Flags::CLOSED);
        after.ends_pings = true;
        after.wake_read = true;
        after.wake_writers = true;
    }
}
