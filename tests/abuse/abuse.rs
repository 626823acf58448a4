//! What hostile clients do to a server, measured: `examples/echo_server` in a process of its own, on loopback.
//! `tests/abuse/run` builds both and starts this.
//!
//! ```text
//! tests/abuse/run [--quick] [CASE]...
//! ```
//!
//! Without a `CASE` all are run, which takes a quarter of an hour and wants a machine that does nothing else. `--quick`
//! is for everyday: smaller numbers, less than a minute, and bounds in time that a busy machine keeps too. Exit: 0
//! everything was as it must be, else not. Needs `/proc`, and 10,000 file descriptors and more.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failure like any other")]
#![expect(clippy::disallowed_methods, reason = "it measures time, and clients are threads")]

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

mod clients;
mod floods;
mod handshakes;
mod idle;
mod server;

use server::Server;

const USAGE: &str = "usage: abuse [--quick] SERVER [CASE]...";

/// What is measured, and what it must be.
pub(crate) struct Report {
    pub(crate) quick: bool,
    pub(crate) program: String,
    case: &'static str,
    failed: Vec<String>,
}

impl Report {
    /// A figure that must be so, and whether it is.
    pub(crate) fn check(&mut self, what: &str, measured: impl fmt::Display, is_so: bool) {
        println!("  {} {what}: {measured}", if is_so { "ok " } else { "BAD" });
        if !is_so {
            self.failed.push(format!("{}: {what}: {measured}", self.case));
        }
    }

    /// A figure to know.
    pub(crate) fn note(&self, what: &str, measured: impl fmt::Display) {
        println!("      {what}: {measured}");
    }

    /// The number to use: the first one when it must be quick.
    pub(crate) fn either<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A bound in time: as it is on a calm machine, or what a busy one keeps as well.
    pub(crate) fn bound(&self, calm: Duration) -> Duration {
        self.either(calm * 10, calm)
    }

    /// Everything that was open is closed again.
    pub(crate) fn check_descriptors(&mut self, server: &Server, before: usize) {
        let left = server.settle(before);
        self.check("descriptors before and after", format_args!("{before}, {left}"), left <= before);
    }
}

/// How long something took, many times.
#[derive(Default)]
pub(crate) struct Times(pub(crate) Vec<Duration>);

impl Times {
    pub(crate) fn part(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (last as f64 * share).round() as usize;
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |share| self.part(share);
        let (least, half, most, max) = (of(0.0), of(0.5), of(0.99), of(1.0));
        write!(f, "{} times, min {least:.1?}, p50 {half:.1?}, p99 {most:.1?}, max {max:.1?}", self.0.len())
    }
}

type Case = fn(&mut Report);

const CASES: [(&str, Case); 8] = [
    ("sequence", handshakes::sequence),
    ("at-once", handshakes::at_once),
    ("slow", handshakes::slow),
    ("descriptors", handshakes::descriptors),
    ("churn", handshakes::churn),
    ("idle", idle::idle),
    ("floods", floods::floods),
    ("half-open", idle::half_open),
];

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    let all = args.len();
    args.retain(|arg| arg != "--quick");
    let quick = args.len() < all;
    let unknown = |arg: &String| CASES.iter().all(|(name, _)| name != arg);
    if args.is_empty() || args.iter().skip(1).any(unknown) {
        let names: Vec<_> = CASES.iter().map(|(name, _)| *name).collect();
        eprintln!("{USAGE}\ncases: {}", names.join(" "));
        return ExitCode::FAILURE;
    }
    let mut report = Report { quick, program: args.remove(0), case: "", failed: Vec::new() };
    for (name, case) in CASES {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            println!("{name}");
            report.case = name;
            let since = Instant::now();
            case(&mut report);
            report.note("took", format_args!("{:.1?}", since.elapsed()));
        }
    }
    for failed in &report.failed {
        eprintln!("abuse: not as it must be: {failed}");
    }
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
