//! The same work through this library and others; see README.md next to it.

mod codec;
mod context;
mod deflate;
mod echo;
mod grid;
mod growth;
mod idle;
mod limits;
mod load;
mod memory;
mod peers;
mod plot;
mod runtimes;
mod server;
mod stats;
mod targets;
mod wire;

use std::{path::PathBuf, time::Duration};

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Only to see that all of it works.
    Quick,
    Full,
}

impl Effort {
    fn codec_rounds(self) -> usize {
        if self == Self::Quick { 9 } else { 41 }
    }

    fn codec_sample(self) -> Duration {
        Duration::from_millis(if self == Self::Quick { 1 } else { 4 })
    }

    fn idle_connections(self) -> usize {
        if self == Self::Quick { 200 } else { 2000 }
    }

    fn idle_rounds(self) -> usize {
        if self == Self::Quick { 1 } else { 3 }
    }

    fn growth_rounds(self) -> usize {
        if self == Self::Quick { 1 } else { 5 }
    }

    /// How far work grows: the last steps take their time.
    fn growth(self, steps: &[usize; 6]) -> &[usize] {
        if self == Self::Quick { &steps[..4] } else { steps }
    }

    fn echo_rounds(self) -> usize {
        if self == Self::Quick { 3 } else { 15 }
    }

    fn echo_round(self) -> Duration {
        Duration::from_millis(if self == Self::Quick { 30 } else { 250 })
    }
}

const USAGE: &str = "usage: [codec|echo|deflate|idle|growth|all] [--quick] [--instructions] [--plots FOLDER]";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == "serve" => {
            server::run(peers::find(&rest[0]).expect("no such server"));
        }
        Some((first, rest)) if first == "one" => with_tokio(|| codec::run_one(rest).expect("no such case")),
        _ => measure(&args),
    }
}

fn measure(args: &[String]) {
    let (mut what, mut effort, mut instructions, mut plots) = (None, Effort::Full, false, None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--quick" => effort = Effort::Quick,
            "--instructions" => instructions = true,
            "--plots" => plots = Some(PathBuf::from(rest.next().unwrap_or_else(|| refuse()))),
            "codec" | "echo" | "deflate" | "idle" | "growth" | "all" if what.is_none() => what = Some(arg),
            _ => refuse(),
        }
    }
    let is = |which| what.is_none_or(|what| what == which || what == "all");
    context::print();
    server::pin(1);
    if is("codec") && instructions {
        codec::run_instructions();
    } else if is("codec") {
        let grids = with_tokio(|| codec::run(effort));
        targets::print("Ratios", targets::CODEC, &[&grids[0], &grids[1]]);
    }
    if is("echo") {
        let [times, calls] = echo::run(effort);
        targets::print("Ratios of CPU time", targets::ECHO, &[&times]);
        targets::print("Ratios of system calls", targets::CALLS, &[&calls]);
    }
    if is("deflate") {
        targets::print("Ratios", targets::DEFLATE, &[&deflate::run(effort)]);
    }
    if is("idle") {
        targets::print("Targets, in bytes", targets::IDLE, &[&idle::run(effort)]);
    }
    if is("growth") {
        growth::run(effort, plots.as_deref());
    }
}

fn refuse() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2)
}

/// Some libraries want a runtime of tokio around them, whatever they are used on.
fn with_tokio<T>(run: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    run()
}
