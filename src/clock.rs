//! The one place where the clock is read and waited for.

use std::{
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns how far the wall clock is ahead of the monotonic clock, plus a constant. The value grows when the machine is
/// suspended, because the monotonic clock may stop then, and changes when the wall clock is set.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn wall_ahead() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let running = START.get_or_init(now).elapsed();
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(running)
}

/// A timer that is registered only once it is needed, and only where its deadline changes.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    armed: Option<(Instant, async_io::Timer)>,
}

impl Alarm {
    /// Whether `deadline` has passed. If not, the task is woken then.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        // The model checker has no time.
        if cfg!(coro_websocket_loom) {
            return Poll::Pending;
        }
        let timer = match &mut self.armed {
            Some((at, timer)) => {
                if *at != deadline {
                    *at = deadline;
                    timer.set_at(deadline);
                }
                timer
            }
            None => &mut self.armed.insert((deadline, async_io::Timer::at(deadline))).1,
        };
        let polled = std::pin::Pin::new(timer).poll(cx);
        if polled.is_ready() {
            self.armed = None;
        }
        polled.map(drop)
    }

    pub(crate) fn disarm(&mut self) {
        self.armed = None;
    }
}
