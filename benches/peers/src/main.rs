//! The same work through this library and others; see README.md next to it.

mod codec;
mod echo;
mod grid;
mod limits;
mod load;
mod memory;
mod peers;
mod runtimes;
mod server;
mod stats;
mod targets;
mod wire;

use std::time::Duration;

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

    fn echo_rounds(self) -> usize {
        if self == Self::Quick { 3 } else { 15 }
    }

    fn echo_round(self) -> Duration {
        Duration::from_millis(if self == Self::Quick { 30 } else { 250 })
    }
}

const USAGE: &str = "usage: [codec|echo|all] [--quick] [--instructions]";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == "serve" => {
            let serve = peers::SERVERS.iter().find(|(name, ..)| rest == [*name]).expect("no such server").2;
            server::run(serve);
        }
        Some((first, rest)) if first == "one" => with_tokio(|| codec::run_one(rest).expect("no such case")),
        _ => measure(&args),
    }
}

fn measure(args: &[String]) {
    let has = |name| args.iter().any(|arg| arg == name);
    let effort = if has("--quick") { Effort::Quick } else { Effort::Full };
    let what: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).map(String::as_str).collect();
    let what = match what[..] {
        [] => "all",
        [what @ ("codec" | "echo" | "all")] => what,
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    let is = |which| what == which || what == "all";
    server::pin(1);
    if is("codec") && has("--instructions") {
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
}

/// Some libraries want a runtime of tokio around them, whatever they are used on.
fn with_tokio<T>(run: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    run()
}
