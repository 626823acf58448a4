//! A script: settings drawn from a seed, two ends, their tasks, and the checks at rest.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    thread::sleep,
    time::Duration,
};

use coro_websocket::{
    Accept, AcceptOptions, Checks, Deflate, Heartbeat, IoRead, IoWrite, Options, Role, WrapOptions,
    accept_io, connect_io, wrap_io,
};
use fastrand::Rng;

use super::{
    executor::Executor,
    judge::Wires,
    ledger::Ledger,
    reader::reader,
    transport::{Manners, Promised, ReadEnd, SharedPipe, WriteEnd},
    tungstenite_peer,
    writer::writer,
};

/// The implementation at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Ours,
    Tungstenite,
}

/// The settings drawn once for a script, so that settings that exclude each other do not meet.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) checks: Checks,
    pub(crate) deflate: bool,
    pub(crate) parameters: Option<Deflate>,
    pub(crate) beats: bool,
    pub(crate) auto_pong: bool,
    pub(crate) writers: [usize; 2],
    pub(crate) mark: usize,
    pub(crate) closes: bool,
    pub(crate) aborts: bool,
    pub(crate) errors: bool,
    pub(crate) drops: bool,
    pub(crate) large: bool,
    pub(crate) pings: bool,
    pub(crate) limited: bool,
    pub(crate) logs: bool,
}

impl Settings {
    pub(crate) fn raw(&self) -> bool {
        self.checks == Checks::Off
    }

    fn draw(rng: &mut Rng, peer: Peer, logs: bool) -> Self {
        let ours = peer == Peer::Ours;
        let checks = match rng.u8(0..8) {
            0 if ours => Checks::Off,
            1 | 2 => Checks::Report,
            _ => Checks::Strict,
        };
        let raw = checks == Checks::Off;
        let deflate = rng.bool() && !raw && ours;
        let beats = rng.u8(0..6) == 0 && !raw && ours;
        let drops = rng.u8(0..3) == 0;
        Self {
            checks,
            deflate,
            parameters: deflate.then(|| parameters(rng)),
            beats,
            auto_pong: rng.u8(0..4) != 0,
            writers: if raw { [1, 1] } else { [rng.usize(0..5), rng.usize(0..4)] },
            mark: [0, 1, 100, 4096, 20_000, 1 << 16, 1 << 17, 1 << 20][rng.usize(0..8)],
            closes: rng.bool(),
            aborts: rng.u8(0..4) == 0,
            errors: rng.u8(0..5) == 0,
            drops,
            large: rng.u8(0..4) == 0,
            // A Ping to a peer whose reader was dropped waits, as it should.
            pings: rng.bool() && !drops,
            limited: rng.bool(),
            logs,
        }
    }

    fn wrap(&self, role: Role, rng: &mut Rng) -> WrapOptions {
        let options = WrapOptions::new(role).checks(self.checks).auto_pong(self.auto_pong);
        let mut options = options.write_buffer_len(self.mark).close_timeout(NEVER).no_heartbeat();
        if self.raw() {
            options = options.mask(role == Role::Client);
        }
        if let Some(deflate) = self.parameters {
            options = options.deflate(deflate);
        } else if self.limited {
            let most = if self.large { 1 << 20 } else { 70_000 };
            options = options.max_frame_len(most).max_message_len(most);
        }
        if self.beats {
            let every = Duration::from_millis(1);
            let beat =
                if rng.bool() { Heartbeat::ping(every).timeout(NEVER) } else { Heartbeat::pong(every) };
            options = options.heartbeat(beat);
        }
        options
    }

    fn pipe(&self, rng: &mut Rng, promised: &Promised) -> SharedPipe {
        let least = |most: usize, large: usize| if self.large { most.max(large) } else { most };
        let fails_at = |rng: &mut Rng| {
            if self.errors && rng.bool() { rng.usize(0..50_000) } else { usize::MAX }
        };
        let manners = Manners {
            capacity: least([37, 500, 4096, 65_536, 1 << 18, 1 << 22][rng.usize(0..6)], 4096),
            most: least([usize::MAX, usize::MAX, 100, 5000][rng.usize(0..4)], 5000),
            hesitates: [0, 20, 60, 120][rng.usize(0..4)],
            vectored: rng.bool(),
            read_fails_at: fails_at(rng),
            write_fails_at: fails_at(rng),
        };
        SharedPipe::new(manners, rng.fork(), promised)
    }
}

/// No timer hides what would never end.
const NEVER: Duration = Duration::from_secs(3600);

fn parameters(rng: &mut Rng) -> Deflate {
    Deflate::default()
        .level(rng.u8(0..=9))
        .memory_level(rng.u8(1..=9))
        .threshold([0, 64, 1000][rng.usize(0..3)])
        .server_no_context_takeover(rng.bool())
        .client_no_context_takeover(rng.bool())
        .server_max_window_bits(rng.u8(9..=15))
        .client_max_window_bits(rng.u8(9..=15))
}

/// Around the lengths where something changes.
pub(crate) fn length(rng: &mut Rng, settings: &Settings) -> usize {
    const EDGES: [usize; 34] = [
        0, 1, 2, 5, 20, 63, 64, 111, 112, 113, 125, 126, 127, 200, 1000, 1023, 1024, 4087, 4095, 4096, 4097,
        8192, 16_383, 16_384, 20_470, 20_480, 20_490, 32_754, 32_768, 32_769, 65_521, 65_535, 65_536, 65_537,
    ];
    const LARGE: [usize; 6] = [131_058, 131_071, 131_072, 131_073, 262_144, 1 << 20];
    match rng.u8(0..20) {
        0..=11 => EDGES[rng.usize(..EDGES.len())],
        12..=15 => rng.usize(0..300),
        16 | 17 => rng.usize(0..9000),
        18 => rng.usize(0..70_000),
        _ if settings.large => LARGE[rng.usize(..LARGE.len())],
        _ => 20_480,
    }
}

/// The amount of work that a script did.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) polls: u64,
}

/// Starts reader and writers of one end.
fn start(
    ledger: &Rc<Ledger>,
    side: usize,
    read: IoRead<ReadEnd, WriteEnd>,
    write: IoWrite<WriteEnd>,
    rng: &mut Rng,
) {
    for _ in 0..ledger.settings.writers[side] {
        let clone = ledger.add_clone(side);
        let operations = rng.usize(1..40);
        let task = writer(write.clone(), Rc::clone(ledger), side, clone, rng.fork(), operations);
        ledger.spawn(format!("writer {side}.{clone}"), task);
    }
    if ledger.settings.raw() || rng.bool() {
        ledger.sides[side].kept.borrow_mut().push(write);
    }
    ledger.spawn(format!("reader {side}"), reader(read, Rc::clone(ledger), side, rng.fork()));
}

/// The two ends begin with an opening handshake.
fn shake_hands(ledger: &Rc<Ledger>, executor: &mut Executor, pipes: &[SharedPipe; 2], rng: &mut Rng) {
    let settings = &ledger.settings;
    let client = Options::from_url("ws://host/x").unwrap().timeout(None).no_heartbeat().close_timeout(NEVER);
    let client = client.write_buffer_len(settings.mark).auto_pong(settings.auto_pong).checks(settings.checks);
    let server = AcceptOptions::default().timeout(None).no_heartbeat().close_timeout(NEVER);
    let server = server.write_buffer_len(settings.mark).auto_pong(settings.auto_pong).checks(settings.checks);
    let (client, server) = match settings.parameters {
        Some(deflate) => (client.deflate(deflate), server.deflate(deflate)),
        None => (client, server),
    };
    let failed = |ledger: &Ledger, error: String| {
        if !ledger.broken.get() {
            ledger.fault(error);
        }
    };
    let (r, w) = (ReadEnd(pipes[1].clone()), WriteEnd(pipes[0].clone()));
    let (here, mut draws) = (Rc::clone(ledger), rng.fork());
    executor.spawn(
        "connect",
        Box::pin(async move {
            match connect_io(r, w, client).await {
                Ok((_, read, write)) => start(&here, 0, read, write, &mut draws),
                Err(error) => failed(&here, format!("connect: {error:?}")),
            }
        }),
    );
    let (r, w) = (ReadEnd(pipes[0].clone()), WriteEnd(pipes[1].clone()));
    let (here, mut draws) = (Rc::clone(ledger), rng.fork());
    executor.spawn(
        "accept",
        Box::pin(async move {
            let upgrade = match accept_io(r, w, server).await {
                Ok(upgrade) => upgrade,
                Err(error) => return failed(&here, format!("accept: {error:?}")),
            };
            match upgrade.accept(Accept::default()).await {
                Ok((_, read, write)) => start(&here, 1, read, write, &mut draws),
                Err(error) => failed(&here, format!("answer: {error:?}")),
            }
        }),
    );
}

/// Runs the script of this seed. The error describes the fault.
pub(crate) fn run(seed: u64, peer: Peer, logs: bool) -> Result<Done, String> {
    let mut rng = Rng::with_seed(seed);
    let settings = Settings::draw(&mut rng, peer, logs);
    let promised = Promised::default();
    let pipes = [settings.pipe(&mut rng, &promised), settings.pipe(&mut rng, &promised)];
    let ledger = Rc::new(Ledger::new(settings.clone()));
    let mut executor = Executor::new(rng.fork(), promised);
    let mut ours = [true; 2];
    let ends = |side: usize| (ReadEnd(pipes[1 - side].clone()), WriteEnd(pipes[side].clone()));
    if peer == Peer::Tungstenite {
        let near = rng.usize(0..2);
        ours[1 - near] = false;
        let role = [Role::Client, Role::Server][near];
        let (r, w) = ends(near);
        let (read, write) = wrap_io(r, w, settings.wrap(role, &mut rng));
        start(&ledger, near, read, write, &mut rng);
        let (r, w) = ends(1 - near);
        executor.spawn(
            "reader of tungstenite",
            tungstenite_peer::task(r, w, Rc::clone(&ledger), 1 - near, rng.fork()),
        );
    } else if !settings.raw() && rng.u8(0..3) == 0 {
        shake_hands(&ledger, &mut executor, &pipes, &mut rng);
    } else {
        for (side, role) in [Role::Client, Role::Server].into_iter().enumerate() {
            let (r, w) = ends(side);
            let (read, write) = wrap_io(r, w, settings.wrap(role, &mut rng));
            start(&ledger, side, read, write, &mut rng);
        }
    }
    let wires = Wires { pipes: [&pipes[0], &pipes[1]], ours };
    let judged = catch_unwind(AssertUnwindSafe(|| judge(&ledger, &mut executor, &wires)));
    let done = Done { operations: ledger.operations.get(), polls: executor.polls };
    let judged = judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    judged.map(|()| done).map_err(|error| format!("{error}\n{settings:?}\n{}", ledger.logged()))
}

fn judge(ledger: &Rc<Ledger>, executor: &mut Executor, wires: &Wires<'_>) -> Result<(), String> {
    executor.run(ledger)?;
    if ledger.settings.beats {
        for _ in 0..3 {
            sleep(Duration::from_millis(2));
            executor.run(ledger)?;
        }
    }
    wires.judge_rest(ledger, &executor.names())?;
    // Then the transport ends, and with it every task.
    ledger.over.set(true);
    wires.pipes.iter().for_each(|pipe| pipe.kill());
    executor.run(ledger)?;
    let left = executor.names();
    if !left.is_empty() {
        return Err(format!("the transport has ended, and these wait: {left:?}"));
    }
    ledger.check_faults()?;
    wires.check(ledger)
}
