//! The same work through this library and others; see README.md next to it.

mod codec;
mod grid;
mod memory;
mod peers;
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
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Some libraries want a runtime of tokio around them, whatever they are used on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let effort = if args.iter().any(|arg| arg == "--quick") { Effort::Quick } else { Effort::Full };
    match args.first().map(String::as_str) {
        Some("one") => codec::run_one(&args[1..]).unwrap(),
        Some("--instructions") => codec::run_instructions(),
        _ => {
            let grids = codec::run(effort);
            targets::print("Ratios", targets::CODEC, &[&grids[0], &grids[1]]);
        }
    }
}
