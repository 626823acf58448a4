//! Writers send random frames in random ways into a random transport: the accepted frames must go out in order. The
//! scripts are those of `tests/writer_scripts.rs`.
#![no_main]

#[path = "../../tests/scripts/script.rs"]
mod script;

use libfuzzer_sys::fuzz_target;
use script::Script;

/// So that a script does not take long.
const MAX_STEPS: usize = 24;

fuzz_target!(|numbers: ([u8; 6], Vec<[u8; 2]>, Vec<u8>, Vec<[u8; 6]>)| {
    let (settings, takes, schedule, mut steps) = numbers;
    steps.truncate(MAX_STEPS);
    let script = Script { settings, takes, schedule, steps };
    if let Err(error) = script.run(|_| ()) {
        panic!("{error}\n{script:?}");
    }
});
