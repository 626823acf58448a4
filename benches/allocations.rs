//! Allocations per frame, growing ones included, once everything is warm.
//!
//! ```text
//! cargo bench --bench allocations -- [FILTER]
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it is no library"
)]

mod common;

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    println!("allocations per frame\n");
    common::print_tables(filter.as_deref().unwrap_or_default(), |mut case| {
        (0..3).for_each(|_| (case.run)());
        let counted = allocation_counter::measure(&mut case.run);
        format!("{:.2}", counted.count_total as f64 / case.frames as f64)
    });
}
