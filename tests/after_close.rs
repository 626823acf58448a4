//! `Sink::close`: its result for frames accepted before it, and the frames accepted after it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "functions of tests may fail like tests"
)]

mod common;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use common::{
    PipeWrite, alone,
    drive::{drive, now},
    poll_once, wire,
};
use coro_websocket::{
    Checks, Error, FrameWriter, Message, PreparedFrame, Role, SinkExt, StreamExt, TryFeedError, WrapOptions,
    wrap_frames, wrap_io,
};
use futures::{AsyncWrite, Sink};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn begins() -> Message {
    Message { fin: false, ..Message::text("begins") }
}

#[test]
fn close_of_a_clone_fails_where_a_frame_of_that_clone_was_lost() {
    type End = fn(&mut PipeWrite);
    let ends: [(&str, End); 3] = [
        ("by its own Close", |_| ()),
        ("by the Close of another", |other| drive(other.close()).unwrap()),
        ("by an abort", PipeWrite::abort),
    ];
    for role in ROLES {
        for (how, end) in ends {
            let ((_read, mut open), mut far) = alone(1 << 10, WrapOptions::new(role));
            let (mut write, mut third) = (open.clone(), open.clone());
            drive(open.send(begins())).unwrap();
            drive(write.feed("accepted")).unwrap();
            end(&mut open);
            let closed = drive(write.close());
            assert!(matches!(closed, Err(Error::Closed(_))), "{role:?} {how}: {closed:?}");
            assert!(matches!(drive(write.close()), Err(Error::Closed(_))), "it says so each time");
            assert!(matches!(drive(write.flush()), Err(Error::Closed(_))));
            drive(third.close()).unwrap();
            let sent = far.frames();
            assert!(sent.iter().all(|frame| frame.payload != b"accepted"));
        }
    }
}

#[test]
fn close_of_a_clone_fails_where_its_fed_frames_were_dropped_with_the_transport() {
    for role in ROLES {
        let ((_read, mut write), _far) = alone(0, WrapOptions::new(role));
        let mut other = write.clone();
        drive(write.feed("buffered")).unwrap();
        other.abort();
        assert!(matches!(drive(write.close()), Err(Error::Closed(_))));
        drive(other.close()).unwrap();
    }
}

#[test]
fn close_that_waits_fails_where_its_close_frame_never_went_out() {
    for role in ROLES {
        let ((_read, mut write), _far) = alone(0, WrapOptions::new(role));
        let mut other = write.clone();
        let mut closing = Box::pin(write.close());
        assert!(poll_once(&mut closing).is_pending());
        other.abort();
        assert!(matches!(drive(closing), Err(Error::Closed(_))));
    }
}

#[test]
fn close_of_a_clone_is_fine_where_all_its_frames_went_out() {
    for role in ROLES {
        let ((mut read, mut open), mut far) = alone(1 << 10, WrapOptions::new(role));
        let mut write = open.clone();
        drive(open.send(begins())).unwrap();
        drive(write.feed("waits")).unwrap();
        drive(open.send(Message::continuation("ends", true))).unwrap();
        drive(write.close()).unwrap();
        drive(open.close()).unwrap();
        let sent = far.frames();
        assert_eq!(
            sent.iter().map(|frame| &frame.payload[..]).collect::<Vec<_>>(),
            [&b"begins"[..], b"ends", b"waits", b""]
        );
        far.put(&wire::close_to(role, 1000, ""));
        far.output.put(&[]);
        drop(far);
        while drive(read.next()).is_some() {}
        drive(write.close()).unwrap();
    }
}

#[test]
fn close_over_a_sink_of_frames_fails_where_a_frame_was_lost() {
    let (sink, _far) = futures::channel::mpsc::channel(8);
    let stream = futures::stream::pending::<Result<Message, Error>>();
    let (_read, mut open) = wrap_frames(stream, sink, WrapOptions::server());
    let mut write = open.clone();
    drive(open.send(begins())).unwrap();
    drive(write.feed("accepted")).unwrap();
    assert!(matches!(drive(write.close()), Err(Error::Closed(_))));
    drive(open.close()).unwrap();
}

/// A transport that records the calls made to it, and may be full.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<(Vec<&'static str>, bool)>>);

impl Notes {
    fn note(&self, what: &'static str) -> Poll<io::Result<()>> {
        let mut notes = self.0.lock().unwrap();
        if notes.1 {
            return Poll::Pending;
        }
        notes.0.push(what);
        Poll::Ready(Ok(()))
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }
}

impl AsyncWrite for Notes {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.note("write").map_ok(|()| buf.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note("close")
    }
}

impl Sink<Message> for Notes {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Message) -> io::Result<()> {
        assert!(self.note("write").is_ready());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note("close")
    }
}

/// Every way to send fails, in every clone.
macro_rules! assert_closed {
    ($write:expr) => {{
        let mut clone = $write.clone();
        for write in [&mut $write, &mut clone] {
            assert!(write.is_closed());
            let news = write.prepared(&PreparedFrame::new(Message::text("x")));
            for message in [Message::text("x"), Message::ping("x"), Message::close(1000, ""), news] {
                assert!(matches!(drive(write.send(message.clone())), Err(Error::Closed(_))));
                assert!(matches!(drive(write.feed(message.clone())), Err(Error::Closed(_))));
                assert!(matches!(drive(write.write(message.clone())), Err(Error::Closed(_))));
                assert!(matches!(
                    write.try_feed(message.clone()),
                    Err(TryFeedError::Refused { error: Error::Closed(_), .. })
                ));
                assert!(Sink::start_send(Pin::new(&mut *write), message).is_err());
            }
            assert!(matches!(drive(write.ping()), Err(Error::Closed(_))));
            assert!(matches!(drive(write.close_with(1000, "")), Err(Error::Closed(_))));
            drive(write.flush()).unwrap();
            drive(write.close()).unwrap();
        }
    }};
}

#[test]
fn nothing_is_accepted_after_the_close_of_a_raw_sink_and_the_transport_is_closed_once() {
    for role in ROLES {
        let notes = Notes::default();
        let (_read, mut write) = wrap_io(&b""[..], notes.clone(), WrapOptions::new(role).checks(Checks::Off));
        drive(write.send("before")).unwrap();
        drive(write.close()).unwrap();
        assert_closed!(write);
        assert_eq!(notes.take(), ["write", "close"]);

        let stream = futures::stream::pending::<Result<Message, Error>>();
        let options = WrapOptions::new(role).checks(Checks::Off);
        let (_read, mut write) = wrap_frames(stream, notes.clone(), options);
        drive(write.send("before")).unwrap();
        drive(write.close()).unwrap();
        assert_closed!(write);
        assert_eq!(notes.take(), ["write", "close"]);
    }
}

#[test]
fn nothing_is_accepted_while_the_close_of_a_raw_sink_waits() {
    let notes = Notes::default();
    notes.0.lock().unwrap().1 = true;
    let (_read, mut write) = wrap_io(&b""[..], notes.clone(), WrapOptions::server().checks(Checks::Off));
    let mut other = write.clone();
    drive(other.feed("fed")).unwrap();
    assert!(now(write.close()).is_pending());
    assert!(write.is_closed());
    assert!(matches!(now(other.send("late")), Poll::Ready(Err(Error::Closed(_)))));
    notes.0.lock().unwrap().1 = false;
    drop((write, other));
    assert!(notes.take().is_empty(), "nothing went out for the late frame");
}

#[test]
fn the_close_of_a_raw_sink_lets_those_go_that_wait_for_room() {
    let ((_read, mut write), mut far) =
        alone(0, WrapOptions::server().checks(Checks::Off).write_buffer_len(1));
    let (mut other, mut third) = (write.clone(), write.clone());
    drive(third.feed("fed")).unwrap();
    drive(async {
        let sending = async { assert!(matches!(other.send("waits").await, Err(Error::Closed(_)))) };
        let closing = async {
            assert!(poll_once(&mut write.close()).is_pending());
        };
        futures::join!(sending, closing);
    });
    far.grow(100);
    drive(write.close()).unwrap();
    assert_eq!(far.frames().len(), 1);
    assert!(far.input.is_ended());
}

#[test]
fn without_checks_a_close_frame_of_the_caller_ends_nothing_but_sink_close_does() {
    let ((_read, mut write), mut far) = alone(1 << 10, WrapOptions::server().checks(Checks::Off));
    drive(write.send(Message::close(1000, ""))).unwrap();
    drive(write.send("a relay passes what comes")).unwrap();
    drive(write.close()).unwrap();
    assert!(matches!(drive(write.send("late")), Err(Error::Closed(_))));
    assert_eq!(far.frames().len(), 2);
}

#[test]
fn a_frame_writer_alone_sends_no_data_behind_a_close_frame() {
    for role in ROLES {
        for checks in [Checks::Strict, Checks::Report] {
            let mut writer = FrameWriter::new(Vec::new(), WrapOptions::new(role).checks(checks));
            drive(writer.send(Message::close(1000, ""))).unwrap();
            for message in [Message::text("late"), Message::binary("late"), begins()] {
                assert!(matches!(drive(writer.send(message.clone())), Err(Error::Closed(None))));
                assert!(matches!(drive(writer.feed(message)), Err(Error::Closed(None))));
            }
            // The peer's Pings are answered until its Close comes.
            drive(writer.send(Message::pong(""))).unwrap();
            drive(writer.close()).unwrap();
            assert!(matches!(drive(writer.send(Message::pong(""))), Err(Error::Closed(None))));
            assert_eq!(wire::frames(&writer.into_inner()).len(), 2);
        }
    }
}

#[test]
fn a_frame_writer_alone_accepts_nothing_after_its_close_and_closes_the_transport_once() {
    for checks in [Checks::Strict, Checks::Report, Checks::Off] {
        for role in ROLES {
            let notes = Notes::default();
            let mut writer = FrameWriter::new(notes.clone(), WrapOptions::new(role).checks(checks));
            drive(writer.feed("fed".into())).unwrap();
            drive(writer.close()).unwrap();
            assert!(matches!(drive(writer.send("late")), Err(Error::Closed(_))));
            assert!(matches!(drive(SinkExt::send(&mut writer, "late".into())), Err(Error::Closed(_))));
            assert!(matches!(drive(writer.feed("late".into())), Err(Error::Closed(_))));
            drive(writer.flush()).unwrap();
            drive(writer.close()).unwrap();
            assert_eq!(notes.take(), ["write", "close"], "{checks:?}");
        }
    }
}

#[test]
fn a_frame_writer_whose_close_waits_accepts_nothing_either() {
    let notes = Notes::default();
    notes.0.lock().unwrap().1 = true;
    let mut writer = FrameWriter::new(notes.clone(), WrapOptions::server());
    drive(writer.feed("fed".into())).unwrap();
    assert!(now(writer.close()).is_pending());
    assert!(matches!(drive(writer.feed("late".into())), Err(Error::Closed(_))));
    notes.0.lock().unwrap().1 = false;
    drive(writer.close()).unwrap();
    assert_eq!(notes.take(), ["write", "close"]);
}
