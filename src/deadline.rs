//! One moment at which several waits end, however often they make progress.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use crate::{
    clock::{Alarm, now},
    error::{Error, Phase},
};

/// The end of an opening handshake; `None`: there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now. What lies beyond the end of the clock never comes.
    pub(crate) fn after(timeout: impl Into<Option<Duration>>) -> Self {
        Self(timeout.into().and_then(|timeout| now().checked_add(timeout)))
    }

    /// The one of the two that comes first.
    pub(crate) fn or_before(self, other: Self) -> Self {
        Self(self.0.into_iter().chain(other.0).min())
    }

    /// What the future gives, if it need not wait any longer than this. It comes pinned: one that was handed over
    /// would be kept twice, where it came and where it is polled.
    pub(crate) async fn within<T>(
        self,
        future: impl Future<Output = Result<T, Error>> + Unpin,
    ) -> Result<T, Error> {
        self.within_phase(Phase::Handshake, future).await
    }

    /// The same for another step than request and response.
    pub(crate) async fn within_phase<T>(
        self,
        phase: Phase,
        mut future: impl Future<Output = Result<T, Error>> + Unpin,
    ) -> Result<T, Error> {
        let mut alarm = Alarm::default();
        poll_fn(|cx| match (Pin::new(&mut future).poll(cx), self.0) {
            (Poll::Pending, Some(end)) => {
                ready!(alarm.poll_at(cx, end));
                // The first poll of a socket may only register a waker. Data that has arrived counts even after the
                // deadline.
                let polled = Pin::new(&mut future).poll(cx);
                if polled.is_pending() { Poll::Ready(Err(Error::TimedOut(phase))) } else { polled }
            }
            (polled, _) => polled,
        })
        .await
    }
}
