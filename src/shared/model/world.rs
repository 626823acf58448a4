//! The world around one connection: a transport that takes whole parts, a peer, and a script of what it sends.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::{
    error::Error,
    frame::{FrameView, Message, Opcode},
    options::{Role, Settings},
    read::Read,
    reader::{self, Source},
    shared::Shared,
    sync::{Mutex, lock},
    write::Write,
    writer::{self, Outlet},
};

/// Each frame has two parts on the wire, whatever it carries, so that it could be torn.
pub(super) const PARTS: usize = 2;

/// What is between our end and the peer.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) parts: Vec<Message>,
    /// How many parts more the transport takes now.
    room: usize,
    pub(super) shut: bool,
    sender: Option<Waker>,
    peer: Option<Waker>,
}

/// The peer's end: it takes what is sent, when it likes.
#[derive(Clone)]
pub(super) struct Peer(pub(super) Arc<Mutex<Wire>>);

/// Our end, writing.
pub(super) struct Line {
    wire: Arc<Mutex<Wire>>,
    queue: VecDeque<Message>,
    accepted: u64,
    written: u64,
    flushed: u64,
}

impl Outlet for Line {}

impl writer::sealed::Outlet for Line {
    fn push(&mut self, message: &mut Message) -> Result<usize, Error> {
        self.queue.extend(std::iter::repeat_n(message.clone(), PARTS));
        self.accepted += PARTS as u64;
        Ok(PARTS)
    }

    fn buffered(&self) -> usize {
        // Something that others touch too, so that they come in between while the lock is held.
        drop(lock(&self.wire));
        self.queue.len()
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn flushed(&self) -> u64 {
        self.flushed
    }

    fn poll_flush_to(&mut self, cx: &mut Context<'_>, target: u64) -> Poll<Result<(), Error>> {
        let mut peer = None;
        let polled = {
            let mut wire = lock(&self.wire);
            while self.written < target && wire.room > 0 {
                let Some(part) = self.queue.pop_front() else { break };
                wire.room -= 1;
                wire.parts.push(part);
                self.written += 1;
                peer = wire.peer.take().or(peer);
            }
            if self.written < target {
                wire.sender = Some(cx.waker().clone());
                Poll::Pending
            } else {
                self.flushed = self.written;
                Poll::Ready(Ok(()))
            }
        };
        if let Some(peer) = peer {
            peer.wake();
        }
        polled
    }

    fn poll_shut(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        lock(&self.wire).shut = true;
        Poll::Ready(Ok(()))
    }
}

impl Peer {
    /// Makes room, and says so as a transport does.
    pub(super) fn take(&self, parts: usize) {
        let mut wire = lock(&self.0);
        wire.room += parts;
        let sender = wire.sender.take();
        drop(wire);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    pub(super) fn poll_received(&self, cx: &Context<'_>, frames: usize) -> Poll<()> {
        let mut wire = lock(&self.0);
        if wire.parts.len() >= frames * PARTS {
            return Poll::Ready(());
        }
        wire.peer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What was received. No frame is torn, and nothing comes after a Close frame.
    pub(super) fn frames(&self) -> Vec<Message> {
        let wire = lock(&self.0);
        let (frames, rest) = wire.parts.as_chunks::<PARTS>();
        assert!(rest.is_empty(), "a frame is torn");
        let frames: Vec<Message> = frames
            .iter()
            .map(|[head, tail]| {
                assert_eq!(head, tail, "frames are interleaved");
                head.clone()
            })
            .collect();
        let close = frames.iter().position(|frame| frame.opcode == Opcode::CLOSE);
        assert!(close.is_none_or(|place| place + 1 == frames.len()), "after Close: {frames:?}");
        frames
    }

    pub(super) fn said(&self) -> String {
        let texts: Vec<String> = self
            .frames()
            .iter()
            .map(|frame| match frame.opcode {
                Opcode::CLOSE => "close".to_owned(),
                _ => frame.as_text().unwrap_or_default().to_owned(),
            })
            .collect();
        texts.join(" ")
    }
}

/// What the peer sends: these frames, and then nothing more, nor the end.
pub(super) struct Script {
    frames: VecDeque<Message>,
    staged: Option<Message>,
    current: Message,
}

impl Source for Script {}

impl reader::sealed::Source for Script {
    fn advance(&mut self) -> Option<Result<(), Error>> {
        self.current = self.staged.take()?;
        Some(Ok(()))
    }

    fn poll_fill(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        self.staged = self.frames.pop_front();
        if self.staged.is_some() { Poll::Ready(Ok(true)) } else { Poll::Pending }
    }

    fn view(&self) -> FrameView<'_> {
        FrameView::from(&self.current)
    }

    fn take(&mut self) -> Message {
        std::mem::take(&mut self.current)
    }

    fn is_torn(&self) -> bool {
        false
    }

    fn poll_discard(&mut self, _: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(0)
    }

    fn received(&self) -> u64 {
        0
    }
}

pub(super) type Reading = Read<Script, Line>;
pub(super) type Writing = Write<Line>;

/// A server's halves, with a mark of `high_water` parts, over a transport that takes `room` parts for now.
pub(super) fn connection(room: usize, high_water: usize, script: &[Message]) -> (Reading, Writing, Peer) {
    let wire = Arc::new(Mutex::new(Wire { room, ..Wire::default() }));
    let line = Line { wire: Arc::clone(&wire), queue: VecDeque::new(), accepted: 0, written: 0, flushed: 0 };
    let mut settings = Settings::new(Role::Server);
    settings.write_buffer_len = high_water;
    let shared = Shared::new(line, &settings);
    let write = Write::new(Arc::clone(&shared));
    let source =
        Script { frames: script.iter().cloned().collect(), staged: None, current: Message::default() };
    (Read::new(source, shared, &settings), write, Peer(wire))
}
