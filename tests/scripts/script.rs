//! Scripts for the writers of one connection: their frames and calls, the behaviour of the transport, and the order of
//! polls. A run sends everything, then decodes the bytes that the transport has taken: they must be the accepted
//! frames, in order.
//!
//! A script is made of numbers, each of which means something whatever it is, so that neither a generator nor a
//! shrinker nor a fuzzer needs rules. Zeros are the simplest: a whole binary message without payload, fed by a lone
//! writer into a transport that takes everything.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use coro_websocket::{Checks, FrameWriter, WrapOptions, wrap_io};

pub(crate) mod decoder;
mod expected;
mod tasks;
mod transport;

use tasks::{Leaky, Running, Task, World};
use transport::Transport;

/// Numbers that make a script.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// The connection and the transport, see [`Settings`].
    pub(crate) settings: [u8; 6],
    /// The transport's behaviour for each write, repeated; see [`Taking`].
    pub(crate) takes: Vec<[u8; 2]>,
    /// The order in which tasks are polled, repeated.
    pub(crate) schedule: Vec<u8>,
    /// The steps of the writers; see [`Step`].
    pub(crate) steps: Vec<[u8; 6]>,
}

/// The settings encoded in the first numbers of a script.
#[derive(Debug)]
struct Settings {
    /// Clones of a `Write`, or a `FrameWriter`.
    writers: Option<usize>,
    checks: Checks,
    /// `true` if frames are masked; each raw frame has a setting of its own.
    masked: bool,
    compression: Option<Compression>,
    /// The length at which a buffer is full.
    mark: usize,
    slices: Slices,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is compressed without the feature"))]
struct Compression {
    window_bits: u8,
    keeps_context: bool,
    threshold: usize,
}

/// `true` if the transport takes all slices of a vectored write.
#[derive(Debug, Clone, Copy, Default)]
enum Slices {
    #[default]
    All,
    First,
    /// The first one at every second write.
    Mixed,
}

impl Settings {
    fn new([writers, kind, masked, compression, mark, transport]: [u8; 6]) -> Self {
        let checks = match kind {
            0..=199 => Checks::Strict,
            200..=224 => Checks::Report,
            225..=255 => Checks::Off,
        };
        let compression = (compression >= 200 && checks != Checks::Off).then(|| Compression {
            window_bits: 9 + compression % 7,
            keeps_context: compression % 2 == 0,
            threshold: if compression % 3 == 0 { 0 } else { 64 },
        });
        Self {
            writers: (writers >= 100).then(|| 1 + usize::from(writers) % 4),
            checks,
            masked: masked < 180,
            compression: compression.filter(|_| cfg!(feature = "deflate")),
            mark: match mark {
                0..=159 => 64 << 10,
                160..=179 => 0,
                180..=199 => 1000,
                200..=219 => 16 << 10,
                220..=255 => 1 << 20,
            },
            slices: match transport {
                0..=159 => Slices::All,
                160..=215 => Slices::First,
                216..=255 => Slices::Mixed,
            },
        }
    }

    fn options(&self) -> WrapOptions {
        let options = WrapOptions::client().mask(self.masked).checks(self.checks);
        let options = options.write_buffer_len(self.mark);
        #[cfg(feature = "deflate")]
        if let Some(Compression { window_bits, keeps_context, threshold }) = self.compression {
            let deflate = coro_websocket::Deflate::default().threshold(threshold).level(1);
            let deflate = deflate.client_max_window_bits(window_bits);
            return options.deflate(deflate.client_no_context_takeover(!keeps_context));
        }
        options
    }
}

/// The transport's behaviour for one write or flush.
#[derive(Debug, Clone, Copy)]
enum Taking {
    /// Takes at most this many bytes.
    Bytes(usize),
    /// Is pending, and wakes the task when nothing else can happen.
    Later,
    /// Is pending, and has woken the task already.
    Again,
    Interrupted,
}

impl Taking {
    fn new([kind, amount]: [u8; 2]) -> Self {
        let amount = usize::from(amount);
        match kind {
            0..=79 => Self::Bytes(usize::MAX),
            80..=99 => Self::Bytes(1 + amount % 16),
            100..=129 => Self::Bytes(1 + amount * 20),
            130..=169 => Self::Bytes(1 + amount * 400),
            170..=189 => Self::Bytes(near(64 << 10, amount)),
            190..=199 => Self::Bytes(near(20 << 10, amount)),
            200..=229 => Self::Later,
            230..=245 => Self::Again,
            246..=255 => Self::Interrupted,
        }
    }
}

/// A length at most 16 bytes from this one; the same one where `jitter` is 0.
fn near(len: usize, jitter: usize) -> usize {
    match jitter % 33 {
        more @ 0..=16 => len + more,
        less => len.saturating_sub(less - 16),
    }
}

/// A step of a writer.
#[derive(Debug, Clone, Copy)]
enum Step {
    Send(Frame, Way, Patience),
    Flush(Patience),
    /// Sets whether messages that begin from now on are compressed.
    Compress(bool),
    /// The writer is replaced by a clone of it, where it has no message open.
    Renew,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    len: usize,
    content: Content,
    /// Ends the message, where one is open or begins.
    fin: bool,
    mask: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Binary,
    Text,
    Ping,
    Pong,
    /// A Ping that is too long.
    Refused,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Random,
    /// Bytes with a single owner.
    OwnRandom,
    Letters,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Feed,
    Send,
    /// `poll_ready`, `start_send` and `poll_flush` of the sink.
    Sink,
    TryFeed,
}

/// The number of polls of a future before it is dropped.
#[derive(Debug, Clone, Copy)]
struct Patience(Option<u8>);

impl Patience {
    fn new(number: u8) -> Self {
        Self((number >= 170).then_some(number % 4))
    }
}

impl Step {
    /// The writer and its step.
    fn new([kind, len, jitter, how, patience, fin]: [u8; 6]) -> (usize, Self) {
        let patience = Patience::new(patience);
        let writer = usize::from(fin / 16);
        let step = match kind {
            220..=239 => Self::Flush(patience),
            240..=249 => Self::Compress(jitter % 2 == 0),
            250..=255 => Self::Renew,
            _ => {
                let (kind, content) = match kind {
                    0..=79 => (Kind::Binary, Content::Random),
                    80..=99 => (Kind::Binary, Content::OwnRandom),
                    100..=129 => (Kind::Binary, Content::Letters),
                    130..=169 => (Kind::Text, Content::Letters),
                    170..=193 => (Kind::Ping, Content::Random),
                    194..=216 => (Kind::Pong, Content::Letters),
                    _ => (Kind::Refused, Content::Random),
                };
                let jitter = usize::from(jitter);
                let len = match kind {
                    Kind::Refused => near(143, jitter),
                    Kind::Ping | Kind::Pong => jitter % 126,
                    Kind::Binary | Kind::Text => match len {
                        0..=29 => near(0, jitter),
                        30..=54 => near(125, jitter),
                        55..=79 => near(126, jitter),
                        80..=124 => near(4 << 10, jitter),
                        125..=169 => near(32 << 10, jitter),
                        170..=204 => near(64 << 10, jitter),
                        205..=222 => near(128 << 10, jitter),
                        223..=225 => near(1 << 20, jitter),
                        226..=255 => jitter * 257,
                    },
                };
                let way = match how {
                    0..=119 => Way::Feed,
                    120..=179 => Way::Send,
                    180..=219 => Way::Sink,
                    220..=255 => Way::TryFeed,
                };
                // Every fourth frame does not end its message.
                let frame = Frame { kind, len, content, fin: fin % 4 != 3, mask: fin % 8 < 5 };
                Self::Send(frame, way, patience)
            }
        };
        (writer, step)
    }
}

impl Script {
    fn steps(&self) -> Vec<(usize, Step)> {
        let writers = Settings::new(self.settings).writers.unwrap_or(1);
        let steps = self.steps.iter().copied().map(Step::new);
        steps.map(|(writer, step)| (writer % writers, step)).collect()
    }

    fn takes(&self) -> Vec<Taking> {
        self.takes.iter().copied().map(Taking::new).collect()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", Settings::new(self.settings))?;
        writeln!(f, "transport: {:?}", self.takes())?;
        writeln!(f, "schedule: {:?}", self.schedule)?;
        for (writer, step) in self.steps() {
            writeln!(f, "writer {writer}: {step:?}")?;
        }
        let Self { settings, takes, schedule, steps } = self;
        write!(f, "numbers: {settings:?} {takes:?} {schedule:?} {steps:?}")
    }
}

impl Script {
    /// Runs it, and changes the bytes before they are decoded. An error says what is wrong with them, or how the
    /// writers failed.
    pub(crate) fn run(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), String> {
        let run = catch_unwind(AssertUnwindSafe(|| self.send_all()?.check(change)));
        run.unwrap_or_else(|_| Err("the code panics".to_owned()))
    }

    fn send_all(&self) -> Result<World, String> {
        let settings = Settings::new(self.settings);
        let (writers, options) = (settings.writers, settings.options());
        let transport = Transport::new(self.takes(), settings.slices);
        let world = World::new(settings, transport.clone());
        let Some(writers) = writers else {
            let steps = self.steps().into_iter().map(|(_, step)| step).collect();
            let task = Task::new(&world, FrameWriter::new(transport, options));
            world.drive(vec![Box::pin(task.run(steps))], &self.schedule)?;
            return Ok(world);
        };
        let (read, write) = wrap_io(futures::io::empty(), transport, options);
        let (_read, write) = (Leaky::new(read), Leaky::new(write));
        let mut steps = vec![Vec::new(); writers];
        for (writer, step) in self.steps() {
            steps[writer].push(step);
        }
        let tasks = steps.into_iter().map(|steps| {
            let task = Task::new(&world, write.clone());
            Box::pin(task.run(steps)) as Running<'_>
        });
        world.drive(tasks.collect(), &self.schedule)?;
        // Frames that the others have only fed go out with this one.
        let last = Frame { kind: Kind::Pong, len: 3, content: Content::Random, fin: true, mask: true };
        let steps = vec![Step::Send(last, Way::Send, Patience(None))];
        world.drive(vec![Box::pin(Task::new(&world, write.clone()).run(steps))], &self.schedule)?;
        Ok(world)
    }
}
