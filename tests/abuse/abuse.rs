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
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
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

#[path = "../../examples/common/program.rs"]
mod program;

const USAGE: &str = "\
usage: abuse [--quick] SERVER [CASE]...

Measures what hostile clients do to SERVER, the path of the built echo_server.
The cases are sequence, at-once, slow, descriptors, churn, idle, floods and
half-open (default: all of them).

      --quick  Use smaller numbers, and limits in time that a busy machine keeps
               (default: the full numbers, which take a quarter of an hour)
  -h, --help   Print this text
";

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
    let parse = |arguments: &mut program::Arguments| {
        let mut quick = false;
        while let Some(option) = arguments.option()? {
            match option.as_str() {
                "--quick" => quick = true,
                _ => return Err(arguments.unexpected()),
            }
        }
        let program = arguments.required("SERVER")?;
        let mut cases = Vec::new();
        while let Some(case) = arguments.operand()? {
            if CASES.iter().all(|(name, _)| *name != case) {
                return Err(format!("there is no case '{case}'").into());
            }
            cases.push(case);
        }
        Ok((Report { quick, program, case: "", failed: Vec::new() }, cases))
    };
    program::run(USAGE, parse, |(mut report, cases)| {
        for (name, case) in CASES {
            if cases.is_empty() || cases.iter().any(|case| case == name) {
                println!("{name}");
                report.case = name;
                let since = Instant::now();
                case(&mut report);
                report.note("took", format_args!("{:.1?}", since.elapsed()));
            }
        }
        for failed in &report.failed {
            program::say(format_args!("not as it must be: {failed}"));
        }
        if report.failed.is_empty() { Ok(()) } else { Err(format!("{} checks failed", report.failed.len())) }
    })
}
