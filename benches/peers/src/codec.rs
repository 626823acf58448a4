//! Decoding and encoding in memory.

use std::{process::Command, time::Duration};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Effort,
    grid::{Grid, Kind, short, size},
    memory::{self, Memory},
    peers::{DECODERS, Decode, ENCODERS, Encode, Role, Seen, Work},
    wire::{BINARY, Head, KEY, TEXT, put_frame},
};

pub(crate) const DECODE_SIZES: [usize; 5] = [16, 125, 1 << 10, 16 << 10, 1 << 20];
pub(crate) const ENCODE_SIZES: [usize; 3] = [125, 16 << 10, 1 << 20];

/// A contender and a workload.
struct Case {
    row: usize,
    column: usize,
    work: Work,
    /// How many frames make a sample.
    frames: u64,
}

/// What a column measures.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Task {
    /// Masked frames, as a server gets them.
    Decode(usize),
    /// lem-websocket's workload: 4003 frames, 20 MB. Those with a mask are read by a server, the others by a client,
    /// so that every library can check what it has to.
    DecodeLem,
    Encode(usize, Role),
}

impl Task {
    fn name(self) -> String {
        match self {
            Self::Decode(len) => format!("decode masked {}", size(len)),
            Self::DecodeLem => "decode lem's frames".to_owned(),
            Self::Encode(len, Role::Server) => format!("encode {}", size(len)),
            Self::Encode(len, Role::Client) => format!("encode masked {}", size(len)),
        }
    }

    fn decodes(self) -> bool {
        !matches!(self, Self::Encode(..))
    }

    /// How many frames a [`Work`] has to be asked for at once, at least.
    fn step(self) -> u64 {
        if self == Self::DecodeLem { lem::FRAMES } else { 1 }
    }
}

fn decode_tasks() -> Vec<Task> {
    DECODE_SIZES.into_iter().map(Task::Decode).chain([Task::DecodeLem]).collect()
}

fn encode_tasks() -> Vec<Task> {
    let roles = [Role::Server, Role::Client];
    roles.into_iter().flat_map(|role| ENCODE_SIZES.map(|len| Task::Encode(len, role))).collect()
}

/// Both tables: decoding and encoding.
pub(crate) fn run(effort: Effort) -> [Grid; 2] {
    println!(
        "\n## Codec in memory\n\nCPU time per frame in ns; medians of {} rounds.",
        effort.codec_rounds()
    );
    let grids = [
        measure(decode_tasks(), &DECODERS.map(|(name, kind, _)| (name, kind)), effort),
        measure(encode_tasks(), &ENCODERS.map(|(name, kind, _)| (name, kind)), effort),
    ];
    grids[0].print("Decode", short);
    grids[1].print("Encode, flushed each time", short);
    grids
}

/// In each round every contender has its turn at each task.
fn measure(tasks: Vec<Task>, rows: &[(&'static str, Kind)], effort: Effort) -> Grid {
    let mut grid = Grid::new(rows.to_vec(), tasks.iter().map(|task| task.name()).collect());
    for (column, task) in tasks.into_iter().enumerate() {
        let mut cases: Vec<Case> = (0..rows.len())
            .map(|row| {
                verify(task, row);
                let mut work = work(task, row, false);
                let frames = calibrate(task, &mut work, effort.codec_sample());
                Case { row, column, work, frames }
            })
            .collect();
        for round in 0..effort.codec_rounds() {
            let count = cases.len();
            for turn in 0..count {
                let case = &mut cases[(turn + round) % count];
                let time = sample(task, &mut case.work, case.frames);
                grid.add(case.row, case.column, time.as_nanos() as f64 / case.frames as f64);
            }
        }
    }
    grid
}

fn work(task: Task, row: usize, captures: bool) -> Work {
    match task {
        Task::Decode(len) => DECODERS[row].2(Memory::reading(tape(len)), Role::Server),
        Task::DecodeLem => lem::decode(DECODERS[row].2),
        Task::Encode(len, role) => {
            let encode: Encode = ENCODERS[row].2;
            encode(Memory::writing(captures), role, Bytes::from_static(payload(len)))
        }
    }
}

/// So many frames that a sample takes about this time.
fn calibrate(task: Task, work: &mut Work, time: Duration) -> u64 {
    let step = task.step();
    let mut frames = step;
    loop {
        let took = sample(task, work, frames);
        if took * 4 > time || frames > 1 << 24 {
            let frames = time.as_secs_f64() / took.as_secs_f64() * frames as f64;
            return (frames as u64).next_multiple_of(step).max(step);
        }
        frames *= 2;
    }
}

/// The CPU time of this thread for so many frames. No byte of them may be missing.
fn sample(task: Task, work: &mut Work, frames: u64) -> Duration {
    memory::take_written();
    let mut seen = Seen::default();
    let start = thread_time();
    work(frames, &mut seen);
    let time = thread_time() - start;
    let written = memory::take_written();
    match task {
        Task::Decode(len) => assert_eq!((seen.frames, seen.bytes), (frames, frames * len as u64)),
        Task::DecodeLem => assert_eq!((seen.frames, seen.bytes), (frames, frames / lem::FRAMES * lem::BYTES)),
        Task::Encode(len, role) => {
            let mut frame = Vec::new();
            put_frame(&mut frame, BINARY, &payload(len)[..len], (role == Role::Client).then_some(KEY));
            assert_eq!(written, frames * frame.len() as u64);
        }
    }
    time
}

/// Whether contents are right; outside of what is measured.
fn verify(task: Task, row: usize) {
    let mut work = work(task, row, true);
    if task.decodes() {
        let check: fn(&[u8]) = match task {
            Task::DecodeLem => lem::check,
            _ => |seen| assert!(seen == &payload(seen.len())[..seen.len()]),
        };
        let mut seen = Seen { check: Some(check), ..Seen::default() };
        work(2 * task.step() + 1, &mut seen);
        return;
    }
    let Task::Encode(len, role) = task else { return };
    memory::take_captured();
    work(1, &mut Seen::default());
    let mut bytes = memory::take_captured();
    let head = Head::parse(&bytes).unwrap();
    assert_eq!((head.first, head.len, head.key.is_some()), (BINARY, len, role == Role::Client));
    let mut unmasked = bytes.split_off(head.size);
    let key = head.key.unwrap_or_default();
    unmasked.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    assert!(unmasked == payload(len), "{} sends something else", ENCODERS[row].0);
}

/// Bytes that repeat nowhere near a power of two.
fn payload(len: usize) -> &'static [u8] {
    static LONGEST: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..1_u32 << 20).map(|i| (i % 251) as u8).collect());
    &LONGEST[..len]
}

/// About 256 KiB of masked frames, two at least.
fn tape(len: usize) -> &'static [u8] {
    let mut tape = Vec::new();
    for _ in 0..((256 << 10) / len.max(128)).max(2) {
        put_frame(&mut tape, BINARY, payload(len), Some(KEY));
    }
    tape.leak()
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

mod lem {
    //! The frames of lem-websocket's decoding benchmark. Its first frame is an unfinished fragment; here it is whole.

    use super::{Decode, KEY, Memory, Role, Seen, TEXT, Work, put_frame};

    pub(super) const FRAMES: u64 = 4003;
    pub(super) const BYTES: u64 = 20_026_035;
    const MASKED: u64 = 2002;

    pub(super) fn decode(decode: Decode) -> Work {
        let (masked, unmasked) = tapes();
        let mut server = decode(Memory::reading(masked), Role::Server);
        let mut client = decode(Memory::reading(unmasked), Role::Client);
        Box::new(move |frames, seen: &mut Seen| {
            for _ in 0..frames / FRAMES {
                server(MASKED, seen);
                client(FRAMES - MASKED, seen);
            }
        })
    }

    pub(super) fn check(payload: &[u8]) {
        assert!(payload.iter().all(|byte| *byte == b'a'));
    }

    fn tapes() -> (&'static [u8], &'static [u8]) {
        let text = vec![b'a'; 26_000];
        let (mut masked, mut unmasked) = (Vec::new(), Vec::new());
        put_frame(&mut unmasked, TEXT, &text[..3], None);
        for _ in 0..2 {
            put_frame(&mut masked, TEXT, &text[..5], Some(KEY));
        }
        for i in 1..=2000 {
            put_frame(&mut unmasked, TEXT, &text[..3 * i], None);
            put_frame(&mut masked, TEXT, &text[..i * (i % 13 + 1)], Some(KEY));
        }
        assert_eq!(masked.len() + unmasked.len(), 20_049_907);
        (masked.leak(), unmasked.leak())
    }
}

/// Instructions per frame, as callgrind counts them: the difference of two lengths of a run.
pub(crate) fn run_instructions() {
    println!(
        "\n## Instructions per frame\n\nUser space, by callgrind, the difference of two lengths of a run."
    );
    for (title, tasks, rows) in [
        ("Decode", decode_tasks(), DECODERS.map(|(name, kind, _)| (name, kind)).to_vec()),
        ("Encode, flushed each time", encode_tasks(), ENCODERS.map(|(name, kind, _)| (name, kind)).to_vec()),
    ] {
        let mut grid = Grid::new(rows.clone(), tasks.iter().map(|task| task.name()).collect());
        for (column, task) in tasks.iter().enumerate() {
            for row in 0..rows.len() {
                let frames = match task {
                    Task::Decode(len) | Task::Encode(len, _) => ((1 << 20) / len).clamp(4, 2000) as u64,
                    Task::DecodeLem => lem::FRAMES,
                };
                let count = |frames| count_instructions(task.decodes(), column, row, frames);
                if let (Some(more), Some(less)) = (count(3 * frames), count(frames)) {
                    grid.add(row, column, (more - less) / (2 * frames) as f64);
                }
            }
        }
        grid.print(title, short);
    }
}

fn count_instructions(decodes: bool, column: usize, row: usize, frames: u64) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*codec::watched*"])
        .arg(std::env::current_exe().ok()?)
        .args(["one", if decodes { "decode" } else { "encode" }])
        .args([column as u64, row as u64, frames].map(|number| number.to_string()))
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let report = String::from_utf8_lossy(&output.stderr);
    let line = report.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// What callgrind watches.
pub(crate) fn run_one(args: &[String]) -> Option<()> {
    let [which, column, row, frames] = args else { return None };
    let tasks = if which == "decode" { decode_tasks() } else { encode_tasks() };
    let task = *tasks.get(column.parse::<usize>().ok()?)?;
    let mut work = work(task, row.parse().ok()?, false);
    work(task.step(), &mut Seen::default());
    watched(&mut work, frames.parse().ok()?);
    Some(())
}

#[inline(never)]
fn watched(work: &mut Work, frames: u64) {
    work(frames, &mut Seen::default());
}
