//! The writers at work, each in a task of its own.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    ops::{Deref, DerefMut},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use coro_websocket::{Checks, Error, FrameWriter, IoWrite, Message, Opcode, SinkExt, TryFeedError};
use futures::Sink;

use super::{
    Content, Frame, Kind, Patience, Settings, Step, Way,
    expected::{Accepted, Expected, payload},
    transport::Transport,
};

/// The methods that `FrameWriter` and `Write` share.
trait Writer: Sink<Message, Error = Error> + Unpin {
    fn buffered(&self) -> usize;
    fn set_compression(&mut self, enabled: bool);
    async fn send(&mut self, message: Message) -> Result<(), Error>;
    async fn feed(&mut self, message: Message) -> Result<(), Error>;
    /// `true`: the frame was taken.
    fn try_feed(&mut self, message: Message) -> Result<bool, Error>;
    /// Another one of the same connection.
    fn another(&self) -> Option<Self>
    where
        Self: Sized;
}

impl Writer for FrameWriter<Transport> {
    fn buffered(&self) -> usize {
        self.buffered()
    }

    fn set_compression(&mut self, enabled: bool) {
        self.set_compression(enabled);
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.send(message).await
    }

    async fn feed(&mut self, message: Message) -> Result<(), Error> {
        SinkExt::feed(self, message).await
    }

    fn try_feed(&mut self, message: Message) -> Result<bool, Error> {
        Pin::new(self).start_send(message).map(|()| true)
    }

    fn another(&self) -> Option<Self> {
        None
    }
}

impl Writer for IoWrite<Transport> {
    fn buffered(&self) -> usize {
        self.buffered()
    }

    fn set_compression(&mut self, enabled: bool) {
        self.set_compression(enabled);
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.send(message).await
    }

    async fn feed(&mut self, message: Message) -> Result<(), Error> {
        self.feed(message).await
    }

    fn try_feed(&mut self, message: Message) -> Result<bool, Error> {
        match self.try_feed(message) {
            Ok(()) => Ok(true),
            Err(TryFeedError::Full(_)) => Ok(false),
            Err(TryFeedError::Refused { error, .. }) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    fn another(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// The state that the tasks of a script share.
pub(super) struct World {
    settings: Settings,
    transport: Transport,
    expected: RefCell<Expected>,
    /// The counts of frames and writers, from which each one gets a number.
    frames: Cell<usize>,
    writers: Cell<usize>,
}

impl World {
    pub(super) fn new(settings: Settings, transport: Transport) -> Self {
        let expected = Expected::new(settings.checks == Checks::Off).into();
        Self { settings, transport, expected, frames: Cell::default(), writers: Cell::default() }
    }

    /// Compares the bytes that the transport has taken with the accepted frames.
    pub(super) fn check(self, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), String> {
        self.transport.change(change);
        self.expected.into_inner().check(&self.transport.taken(), self.settings.compression)
    }
}

/// Something that is leaked when the code under test panics: to drop it could panic once more, which would abort.
pub(super) struct Leaky<T>(Option<T>);

impl<T> Leaky<T> {
    pub(super) fn new(item: T) -> Self {
        Self(Some(item))
    }
}

impl<T> Deref for Leaky<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for Leaky<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

impl<T> Drop for Leaky<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// The task of one writer.
pub(super) struct Task<'a, W> {
    world: &'a World,
    writer: Leaky<W>,
    /// Reads the buffered length while a future has the writer.
    probe: Option<Leaky<W>>,
    id: usize,
    /// The message that it has begun and not ended.
    open: Option<Open>,
    compresses: bool,
}

#[derive(Clone, Copy)]
struct Open {
    is_text: bool,
    compressed: bool,
}

fn next(counter: &Cell<usize>) -> usize {
    counter.set(counter.get() + 1);
    counter.get()
}

#[expect(private_bounds, reason = "only this module has writers")]
impl<'a, W: Writer> Task<'a, W> {
    pub(super) fn new(world: &'a World, writer: W) -> Self {
        let probe = writer.another().map(Leaky::new);
        Self {
            world,
            writer: Leaky::new(writer),
            probe,
            id: next(&world.writers),
            open: None,
            compresses: true,
        }
    }

    pub(super) async fn run(mut self, steps: Vec<Step>) -> Result<(), String> {
        for step in steps {
            self.step(step).await?;
        }
        if self.open.is_some() {
            let kind = Kind::Binary;
            let last = Frame { kind, len: 0, content: Content::Letters, fin: true, mask: true };
            self.send(last, Way::Feed, Patience(None)).await?;
        }
        // A clone may be dropped with frames that it has only fed.
        if self.probe.is_none() { self.flush(Patience(None)).await } else { Ok(()) }
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Send(frame, way, patience) => self.send(frame, way, patience).await,
            Step::Flush(patience) => self.flush(patience).await,
            Step::Compress(enabled) => {
                self.compresses = enabled;
                self.writer.set_compression(enabled);
                Ok(())
            }
            Step::Renew => {
                if self.open.is_none()
                    && let Some(another) = self.writer.another()
                {
                    self.writer = Leaky::new(another);
                    self.id = next(&self.world.writers);
                }
                Ok(())
            }
        }
    }

    async fn flush(&mut self, patience: Patience) -> Result<(), String> {
        let flushed = attempt(self.writer.flush(), patience, |poll| poll()).await;
        self.on_flushed(
            flushed.map(|flushed| flushed.map_err(|error| format!("flush: {error}"))).transpose()?,
        );
        Ok(())
    }

    fn on_flushed(&self, flushed: Option<()>) {
        if flushed.is_some() {
            self.world.expected.borrow_mut().promise(self.id, self.world.transport.flushed_len());
        }
    }

    /// The frame as it must be on the wire, and as it is given to the writer.
    fn make(&self, mut frame: Frame) -> (Accepted, Message) {
        let is_data = matches!(frame.kind, Kind::Binary | Kind::Text);
        let open = self.open.filter(|_| is_data);
        if open.is_some_and(|open| open.is_text) {
            frame.content = Content::Letters;
        }
        let opcode = match frame.kind {
            Kind::Binary | Kind::Text if open.is_some() => 0,
            Kind::Text => 1,
            Kind::Binary => 2,
            Kind::Ping | Kind::Refused => 9,
            Kind::Pong => 10,
        };
        let payload = payload(next(&self.world.frames), &frame);
        let Settings { checks, masked, .. } = self.world.settings;
        let accepted = Accepted {
            writer: self.id,
            fin: frame.fin || !is_data,
            opcode,
            payload: payload.clone(),
            masked: if checks == Checks::Off { frame.mask } else { masked },
            compressed: open.map_or(self.compresses, |open| open.compressed),
        };
        let payload =
            if matches!(frame.content, Content::OwnRandom) { payload.to_vec().into() } else { payload };
        let (fin, opcode) = (accepted.fin, Opcode::new(opcode));
        (accepted, Message { fin, opcode, payload, mask: frame.mask, ..Message::default() })
    }

    async fn send(&mut self, frame: Frame, way: Way, patience: Patience) -> Result<(), String> {
        if frame.kind == Kind::Refused && self.world.settings.checks == Checks::Off {
            return Ok(());
        }
        let (accepted, message) = self.make(frame);
        let is_data = accepted.opcode < 8;
        let begun = Open { is_text: accepted.opcode == 1, compressed: accepted.compressed };
        let mut offer = Offer { world: self.world, frame: Some(accepted) };
        let mark = self.world.settings.mark.max(1);
        let sent = match way {
            Way::TryFeed => self.writer.try_feed(message).map(|taken| taken.then(|| offer.accept())),
            Way::Feed => {
                let feeding = self.writer.feed(message);
                let fed = attempt(feeding, patience, |poll| {
                    let polled = poll();
                    if matches!(polled, Poll::Ready(Ok(()))) {
                        offer.accept();
                    }
                    polled
                });
                fed.await.transpose().map(drop).map(Some)
            }
            Way::Send => {
                // The bytes that the connection has accepted so far.
                let transport = &self.world.transport;
                let accepted_by = |writer: &W| writer.buffered() + transport.taken().len();
                let handed = |probe: &Option<Leaky<W>>| probe.as_ref().map(|probe| accepted_by(probe));
                let before = accepted_by(&self.writer);
                let probe = &self.probe;
                let sent = attempt(self.writer.send(message), patience, |poll| {
                    let before = handed(probe);
                    let polled = poll();
                    let has_room = probe.as_ref().is_some_and(|probe| probe.buffered() < mark);
                    let accepted = match &polled {
                        Poll::Ready(sent) => sent.is_ok(),
                        Poll::Pending => handed(probe) > before || (has_room && offer.can_wait()),
                    };
                    if accepted {
                        offer.accept();
                    }
                    polled
                })
                .await
                .transpose();
                if self.probe.is_none() && accepted_by(&self.writer) > before {
                    offer.accept();
                }
                sent.map(|sent| {
                    self.on_flushed(sent);
                    Some(())
                })
            }
            Way::Sink => self.send_by_sink(message, patience, &mut offer).await,
        };
        match sent {
            Err(Error::Invalid { .. }) if frame.kind == Kind::Refused => return Ok(()),
            Err(error) => return Err(format!("{error}")),
            Ok(_) if frame.kind == Kind::Refused && offer.frame.is_none() => {
                return Err("an invalid frame is accepted".to_owned());
            }
            Ok(_) => {}
        }
        if is_data && offer.frame.is_none() {
            self.open = (!frame.fin).then_some(self.open.unwrap_or(begun));
        }
        Ok(())
    }

    async fn send_by_sink(
        &mut self,
        message: Message,
        patience: Patience,
        offer: &mut Offer<'_>,
    ) -> Result<Option<()>, Error> {
        let ready = poll_fn(|cx| Pin::new(&mut *self.writer).poll_ready(cx));
        if attempt(ready, patience, |poll| poll()).await.transpose()?.is_none() {
            return Ok(None);
        }
        Pin::new(&mut *self.writer).start_send(message)?;
        offer.accept();
        let flushed = poll_fn(|cx| Pin::new(&mut *self.writer).poll_flush(cx));
        let flushed = attempt(flushed, patience, |poll| poll()).await.transpose()?;
        self.on_flushed(flushed);
        Ok(Some(()))
    }
}

/// A frame that the connection may accept.
struct Offer<'a> {
    world: &'a World,
    frame: Option<Accepted>,
}

impl Offer<'_> {
    /// Does nothing the second time.
    fn accept(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.world.expected.borrow_mut().accept(frame);
        }
    }

    /// Returns whether the frame would be kept until another writer's message has ended.
    fn can_wait(&self) -> bool {
        let expected = self.world.expected.borrow();
        let can_wait = |frame: &Accepted| {
            expected.must_wait(frame.writer, frame.opcode) && !expected.is_waiting(frame.writer)
        };
        self.frame.as_ref().is_some_and(can_wait)
    }
}

/// Polls a future until it is done, or as often as the patience goes; `watch` polls it and looks around.
async fn attempt<T>(
    future: impl Future<Output = T>,
    Patience(mut left): Patience,
    mut watch: impl FnMut(&mut dyn FnMut() -> Poll<T>) -> Poll<T>,
) -> Option<T> {
    if left == Some(0) {
        return None;
    }
    let mut future = pin!(future);
    poll_fn(|cx| match watch(&mut || future.as_mut().poll(cx)) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            left = left.map(|left| left - 1);
            if left == Some(0) { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// More polls than any script needs.
const MAX_POLLS: usize = 100_000;

pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

impl World {
    /// Polls woken tasks, and now and then one that was not woken, in the order of the schedule.
    pub(super) fn drive(&self, tasks: Vec<Running<'_>>, schedule: &[u8]) -> Result<(), String> {
        let flagged = tasks.into_iter().map(|task| {
            let flag = Arc::new(Flag(AtomicBool::new(true)));
            (task, Waker::from(Arc::clone(&flag)), flag)
        });
        let mut tasks: Vec<_> = flagged.collect();
        let mut numbers = schedule.iter().copied().cycle();
        for round in 0..MAX_POLLS {
            if tasks.is_empty() {
                return Ok(());
            }
            let number = numbers.next().unwrap_or(0);
            if number >= 230 {
                self.transport.wake();
            }
            let ready = |index: &usize| tasks[*index].2.0.load(Ordering::Relaxed);
            let ready: Vec<usize> = (0..tasks.len()).filter(ready).collect();
            let index = match ready.len() {
                0 if self.transport.wake() => continue,
                0 => return Err("all tasks wait, and nothing will wake them".to_owned()),
                // Not each time, or woken tasks would never be polled.
                _ if round % 2 == 1 && number >= 200 => usize::from(number) % tasks.len(),
                count => ready[usize::from(number) % count],
            };
            let (task, waker, flag) = &mut tasks[index];
            flag.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(done) = task.as_mut().poll(&mut Context::from_waker(waker)) {
                done?;
                drop(tasks.swap_remove(index));
            }
        }
        Err("too many polls".to_owned())
    }
}
