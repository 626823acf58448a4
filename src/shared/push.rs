//! How frames get into the outlet: replies that `Read` left in the slots, our Close, and all others.

use std::time::Duration;

use super::{After, Flags, Sending, Shared, Shut};
use crate::{
    clock,
    error::Error,
    frame::{CloseFrame, Message},
    sync::{AtomicU64, Ordering, lock},
    writer::Outlet,
};

impl<K: Outlet> Shared<K> {
    /// Takes what `Read` left in the slots.
    pub(super) fn place_replies(&self, sending: &mut Sending<K>, after: &mut After<K>) {
        let (mut pongs, close, refused, shut) = {
            let mut slots = lock(&self.slots);
            let ending = slots.ending.as_mut();
            let (close, refused) =
                ending.map(|end| (end.close.take(), end.refused.take())).unwrap_or_default();
            (std::mem::take(&mut slots.pongs), close, refused, std::mem::take(&mut slots.shut))
        };
        sending.pong_held = false;
        // §5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it already
        // received a Close frame."
        if sending.is_answering() {
            while !pongs.is_empty() && sending.has_room(self.high_water) {
                let Some(payload) = pongs.pop_front() else { break };
                if self.push(sending, after, &mut Message::pong(payload)).is_err() {
                    break;
                }
            }
            // Above the mark only the latest Ping is answered, when there is room again.
            if let Some(latest) = pongs.pop_back() {
                sending.pong_held = true;
                let mut slots = lock(&self.slots);
                if slots.pongs.is_empty() {
                    slots.pongs.push_back(latest);
                }
            }
        }
        if let Some(mut close) = close {
            let _ = self.push_close(sending, after, &mut close);
        }
        if let Some(refused) = refused {
            sending.refused.get_or_insert(refused);
            after.ends_pings = true;
        }
        if shut && sending.shut == Shut::No {
            sending.shut = Shut::Wanted;
            self.signals.raise(Flags::FLUSH);
        }
    }

    /// Accepts a frame, whole. What is left of the message has no meaning.
    #[inline]
    pub(super) fn push(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        message: &mut Message,
    ) -> Result<usize, Error> {
        let Some(outlet) = &mut sending.outlet else {
            return Err(sending.why_not_open());
        };
        let payload_len = message.payload.len();
        let pushed = outlet.push(message);
        if outlet.has_spent() {
            after.take_spent(outlet);
        }
        let wire_len = match pushed {
            Ok(wire_len) => wire_len,
            Err(error) => {
                // No masking key could be drawn. What would follow this frame must not go out without it.
                self.fail_writing(sending, after, error.clone());
                return Err(error);
            }
        };
        self.count(wire_len, payload_len);
        after.unflushed = true;
        Ok(wire_len)
    }

    /// A frame was accepted.
    #[inline]
    pub(super) fn count(&self, wire_len: usize, payload_len: usize) {
        let add = |count: &AtomicU64, more: u64| {
            count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        };
        add(&self.counts.frames_out, 1);
        add(&self.counts.bytes_out, wire_len as u64);
        add(&self.counts.payload_out, payload_len as u64);
    }

    /// Our Close frame: nothing but what is buffered before it goes out any more.
    pub(super) fn push_close(
        &self,
        sending: &mut Sending<K>,
        after: &mut After<K>,
        close: &mut Message,
    ) -> Result<usize, Error> {
        if sending.close_end.is_some() {
            return Ok(0);
        }
        let said = CloseFrame::parse(&close.payload).ok();
        let wire_len = self.push(sending, after, close)?;
        sending.close_end = sending.outlet.as_ref().map(|outlet| outlet.accepted());
        sending.open = None;
        sending.lose_waiting(after);
        lock(&self.slots).ending().close_frames.sent = said;
        self.start_closing(sending, self.close_timeout);
        self.signals.raise(Flags::CLOSED | Flags::CLOSING);
        after.wake_writers = true;
        Ok(wire_len)
    }

    /// From now on the closing handshake may take this long, unless that was said before.
    pub(super) fn start_closing(&self, sending: &mut Sending<K>, timeout: Duration) {
        sending.timers.close_by(clock::now().checked_add(timeout));
        self.signals.raise(Flags::TIMER);
    }
}
