//! The end of `cat` and `frames`: all lines are answered, no frame has arrived for a while, or Ctrl-C was pressed.

use std::{cell::Cell, future::poll_fn, io, task::Poll, time::Duration};

use async_io::Timer;
use coro_websocket::StreamExt as _;
#[cfg(unix)]
use futures::channel::oneshot;

/// Resolves when `arrived` has reached `expected`, or has not changed for `wait`.
///
/// `arrived` wakes no task: whatever changes it must run in the same task and be polled before this future.
pub(crate) async fn settled(arrived: &Cell<u64>, expected: u64, wait: Duration) {
    let mut seen = arrived.get();
    let mut silence = Timer::after(wait);
    poll_fn(|cx| {
        let now = arrived.get();
        if now >= expected {
            return Poll::Ready(());
        }
        if now != seen {
            seen = now;
            silence.set_after(wait);
        }
        silence.poll_next_unpin(cx).map(drop)
    })
    .await;
}

/// Resolves at the first Ctrl-C (SIGINT) or SIGTERM. A second one ends the program at once, even while standard output
/// is blocked, because a thread of its own waits for it.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "a program may start threads")]
pub(crate) fn interrupted() -> io::Result<oneshot::Receiver<()>> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
    };

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        // The program may be about to end.
        let _ = sender.send(());
        signals.next();
        // The exit code that shells use for a program ended by Ctrl-C.
        std::process::exit(130);
    });
    Ok(receiver)
}

/// Never resolves: Ctrl-C ends the program at once.
#[cfg(not(unix))]
pub(crate) fn interrupted() -> io::Result<std::future::Pending<()>> {
    Ok(std::future::pending())
}
