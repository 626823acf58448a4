//! Nanoseconds per frame.
//!
//! ```text
//! cargo bench --bench frame -- [--quick] [FILTER]       e.g.  FILTER = "decode masked Read::next"
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it is no library"
)]

mod common;

use std::time::{Duration, Instant};

const SAMPLES: u32 = 15;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name| args.iter().any(|arg| arg == name);
    let per_case = match (has("--bench"), has("--quick")) {
        (true, false) => Duration::from_millis(600),
        (true, true) => Duration::from_millis(90),
        // Somebody only wants to know whether it works.
        (false, _) => Duration::ZERO,
    };
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    println!("nanoseconds per frame, the fastest of {SAMPLES} samples\n");
    common::print_tables(filter, |case| format!("{:.1}", measure(case, per_case)));
}

fn measure(mut case: common::Case, time: Duration) -> f64 {
    let mut run = |times: u32| {
        #[expect(clippy::disallowed_methods, reason = "that is what is measured")]
        let start = Instant::now();
        (0..times).for_each(|_| (case.run)());
        start.elapsed()
    };
    // The first run fills pools and caches.
    run(1);
    let once = run(1).max(Duration::from_nanos(1));
    let times = ((time / SAMPLES).as_nanos() / once.as_nanos()).clamp(1, 1 << 20) as u32;
    // Whatever else the machine does only adds.
    let fastest = (0..SAMPLES).map(|_| run(times)).min().unwrap_or(once);
    fastest.as_nanos() as f64 / f64::from(times) / case.frames as f64
}
