//! Once the peer's Close has been read, the errors of writers carry its code and reason.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::task::Poll;

use common::{
    PipeWrite, alone,
    drive::{drive, now, settle},
    wire,
};
use coro_websocket::{
    CloseCode, Error, Message, PreparedFrame, Role, SinkExt, StreamExt, TryFeedError, WrapOptions,
    wrap_frames,
};
use futures::{channel::mpsc, sink};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[track_caller]
fn assert_carries(error: &Error) {
    let close = error.close_frame().unwrap_or_else(|| panic!("{error:?} carries no Close"));
    assert_eq!((close.code, &*close.reason), (CloseCode::GOING_AWAY, "restart"));
    assert_eq!(error.to_string(), "the peer closed the connection: 1001 (going away), reason \"restart\"");
}

/// Returns the result of each way to send.
fn errors(write: &mut PipeWrite) -> Vec<Error> {
    let prepared = PreparedFrame::new(Message::text("late"));
    let prepared = write.prepared(&prepared);
    let Err(TryFeedError::Refused { error: fed, .. }) = write.try_feed("late") else { panic!("fed") };
    vec![
        fed,
        drive(write.send(Message::text("late"))).unwrap_err(),
        drive(write.feed(Message::text("late"))).unwrap_err(),
        drive(write.write(Message::text("late"))).unwrap_err(),
        drive(write.text("late")).unwrap_err(),
        drive(write.binary("late")).unwrap_err(),
        drive(write.pong("")).unwrap_err(),
        drive(write.ping()).unwrap_err(),
        drive(write.send(Message::ping(""))).unwrap_err(),
        drive(write.send(prepared)).unwrap_err(),
        drive(SinkExt::send(write, Message::text("late"))).unwrap_err(),
    ]
}

#[test]
fn every_way_to_send_gives_the_close_of_the_peer() {
    for role in ROLES {
        for closed_before in [false, true] {
            let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
            let mut clone = write.clone();
            if closed_before {
                drive(write.close_with(1000, "")).unwrap();
                assert!(matches!(drive(write.text("late")), Err(Error::Closed(None))), "only we have closed");
            }
            far.put(&wire::close_to(role, 1001, "restart"));
            drop(far.output);
            for moment in ["the Close is yielded", "the connection is over"] {
                let next = drive(read.next()).transpose().unwrap();
                assert_eq!(next.is_some(), moment == "the Close is yielded");
                errors(&mut write).iter().for_each(assert_carries);
                errors(&mut clone).iter().for_each(assert_carries);
            }
            drop(read);
            errors(&mut write).iter().for_each(assert_carries);
            drive(SinkExt::close(&mut write)).expect("closed is what was asked for");
        }
    }
}

#[test]
fn a_transport_that_fails_behind_the_close_of_the_peer_does_not_hide_it() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role));
        let mut clone = write.clone();
        let mut sending = Box::pin(write.binary(vec![7; 100]));
        assert!(settle(&mut sending).is_pending());
        drive(clone.feed(Message::binary("accepted"))).unwrap();
        far.put(&wire::close_to(role, 1001, "restart"));
        assert!(settle(&mut read.next()).is_pending(), "the echo waits behind what was accepted");
        drop(far.input);
        assert_carries(&drive(&mut sending).unwrap_err());
        drop(sending);
        assert_carries(&drive(clone.flush()).unwrap_err());
        assert_carries(&drive(SinkExt::close(&mut clone)).unwrap_err());
        errors(&mut clone).iter().for_each(assert_carries);
        errors(&mut write).iter().for_each(assert_carries);
    }
}

#[test]
fn a_transport_that_has_failed_before_the_close_is_read_does_not_hide_it() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
        far.put(&wire::close_to(role, 1001, "restart"));
        drop(far);
        assert!(matches!(drive(write.text("late")), Err(Error::Io(_))), "the Close has not been read yet");
        assert!(drive(read.next()).unwrap().is_ok());
        errors(&mut write).iter().for_each(assert_carries);
    }
}

#[test]
fn writers_that_wait_when_the_close_comes_get_it() {
    for role in ROLES {
        let ((mut read, mut write), mut far) = alone(10, WrapOptions::new(role).write_buffer_len(1));
        let mut waiting = write.clone();
        let mut pinging = write.clone();
        drive(write.send(Message { fin: false, ..Message::binary("") })).unwrap();
        let mut behind = Box::pin(waiting.text("behind the open message"));
        assert!(now(&mut behind).is_pending());
        drop(far.input.take_all());
        let mut ping = Box::pin(pinging.ping());
        assert!(settle(&mut ping).is_pending());
        let mut full = Box::pin(async {
            write.send(Message::continuation(vec![7; 100], false)).await?;
            write.send(Message::continuation("", true)).await
        });
        assert!(settle(&mut full).is_pending());
        far.put(&wire::close_to(role, 1001, "restart"));
        assert!(settle(&mut read.next()).is_pending());
        let mut refused = None;
        while refused.is_none() {
            drop(far.input.take_all());
            if let Poll::Ready(sent) = now(&mut full) {
                refused = Some(sent.unwrap_err());
            }
        }
        assert_carries(&refused.unwrap());
        assert_carries(&drive(behind).unwrap_err());
        drop(far);
        drive(read.next()).unwrap().unwrap();
        assert!(drive(read.next()).is_none());
        assert_carries(&drive(ping).unwrap_err());
    }
}

#[test]
fn ping_that_is_under_way_gets_the_close_at_once_though_no_task_reads_on() {
    for role in ROLES {
        for closed_before in [false, true] {
            let ((mut read, mut write), mut far) = alone(1024, WrapOptions::new(role));
            let mut closing = write.clone();
            let mut ping = Box::pin(write.ping_timeout(None));
            assert!(settle(&mut ping).is_pending());
            if closed_before {
                drive(closing.close_with(1000, "")).unwrap();
                assert!(settle(&mut ping).is_pending(), "the peer may still answer");
            }
            far.put(&wire::close_to(role, 1001, "restart"));
            drive(read.next()).unwrap().unwrap();
            assert_carries(&drive(&mut ping).unwrap_err());
        }
    }
}

#[test]
fn over_decoded_frames_the_close_of_the_peer_is_carried_too() {
    let (mut put, stream) = mpsc::channel(8);
    let ok = |message| Ok::<Message, Error>(message);
    let broken = sink::unfold((), |(), message: Message| async move {
        if message.opcode.is_control() { Err(Error::Lost) } else { Ok(()) }
    });
    let (mut read, mut write) = wrap_frames(stream.map(ok), Box::pin(broken), WrapOptions::server());
    put.try_send(Message::close(1001, "restart")).unwrap();
    drive(async {
        assert!(read.next().await.unwrap().is_ok());
        assert_carries(&write.text("late").await.unwrap_err());
        assert_carries(&write.ping().await.unwrap_err());
    });
}

#[test]
fn the_text_names_code_and_reason_and_shows_no_control_characters() {
    for (code, reason, expected) in [
        (1000, "", "1000 (normal closure)"),
        (1008, "a \"quote\"\r\n", r#"1008 (policy violation), reason "a \"quote\"\r\n""#),
        (4321, "Grüße", "4321, reason \"Grüße\""),
        (0, "", "1005 (no status code)"),
    ] {
        let ((mut read, mut write), mut far) = alone(1024, WrapOptions::client());
        if code == 0 {
            far.put(&wire::to(Role::Client, wire::CLOSE, ""));
        } else {
            far.put(&wire::close_to(Role::Client, code, reason));
        }
        drop(far);
        while drive(read.next()).is_some() {}
        let error = drive(write.text("late")).unwrap_err();
        assert_eq!(error.to_string(), format!("the peer closed the connection: {expected}"));
    }
}
