//! Two endpoints that do random things over a random transport: nothing is lost, doubled, torn or mixed up, everything
//! that waits is woken, and what is on the wire keeps the rules.
//!
//! `RANDOM_SCRIPTS_FROM` is the first seed, `RANDOM_SCRIPTS` how many there are of each kind. The failing seed is
//! printed; with `RANDOM_SCRIPTS=1` its log is, too:
//!
//! ```sh
//! CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true RANDOM_SCRIPTS=100000 \
//!     cargo test --release --test random_scripts -- --nocapture
//! ```
#![cfg(feature = "deflate")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "functions of tests may fail like tests"
)]

mod common;

mod random_scripts {
    mod executor;
    mod judge;
    mod ledger;
    mod reader;
    pub(crate) mod script;
    mod transport;
    mod tungstenite_peer;
    mod writer;
}

use random_scripts::script::{Done, Peer, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn run_all(peer: Peer, scripts: u64) {
    let from = number("RANDOM_SCRIPTS_FROM").unwrap_or(0);
    let scripts = number("RANDOM_SCRIPTS").unwrap_or(scripts);
    let (mut all, mut failed) = (Done::default(), Vec::new());
    for seed in from..from + scripts {
        match run(seed, peer, scripts == 1) {
            Ok(done) => {
                all.operations += done.operations;
                all.polls += done.polls;
            }
            Err(error) => {
                println!("RANDOM_SCRIPTS_FROM={seed} RANDOM_SCRIPTS=1: {error}");
                failed.push(seed);
            }
        }
        if failed.len() >= 10 {
            break;
        }
    }
    println!("{peer:?}: {scripts} scripts from {from}, {} operations, {} polls", all.operations, all.polls);
    assert!(failed.is_empty(), "scripts against {peer:?} that failed: {failed:?}");
}

#[test]
fn two_endpoints_lose_double_and_mix_up_nothing() {
    run_all(Peer::Ours, 2000);
}

#[test]
fn nothing_is_lost_or_doubled_between_this_crate_and_tungstenite() {
    run_all(Peer::Tungstenite, 300);
}
