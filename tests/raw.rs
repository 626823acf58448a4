//! Connections that nothing is checked on: a relay's.

mod common;

use std::time::Duration;

use common::connected;
use coro_websocket::{Checks, Error, Heartbeat, Phase, WrapOptions};
use futures::executor::block_on;

#[test]
fn nothing_is_added_with_the_checks_off() {
    let options =
        WrapOptions::client().checks(Checks::Off).heartbeat(Heartbeat::ping(Duration::from_millis(5)));
    let ((mut read, _write), (mut far_read, _far_write)) = connected(64 << 10, options.clone(), options);
    block_on(async {
        let nothing = read.next_timeout(Duration::from_millis(50)).await;
        assert!(matches!(nothing, Err(Error::TimedOut(Phase::Call))));
        let nothing = far_read.next_timeout(Duration::from_millis(1)).await;
        assert!(matches!(nothing, Err(Error::TimedOut(Phase::Call))));
    });
    assert_eq!(read.stats().frames_out, 0);
}
