//! Writers send random frames in random ways into a random transport: the accepted frames must go out in order.
//!
//! `WRITER_SCRIPTS` says how many random scripts are run, `WRITER_SEED` which ones:
//!
//! ```sh
//! CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true WRITER_SCRIPTS=1000000 \
//!     cargo test --release --test writer_scripts -- --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

#[path = "scripts/script.rs"]
mod script;

use std::cell::Cell;

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use script::{
    Script,
    decoder::{Decoder, Inflater},
};

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn scripts() -> impl Strategy<Value = Script> {
    let numbers = (any::<[u8; 6]>(), vec(any::<[u8; 2]>(), 0..10), vec(any::<u8>(), 0..8));
    // The first three steps are frames that are accepted.
    let frame = (0..194_u8, any::<u8>(), any::<u8>(), 0..220_u8, any::<u8>())
        .prop_map(|(kind, len, jitter, how, fin)| [kind, len, jitter, how, 0, fin]);
    (numbers, vec(frame, 3), vec(any::<[u8; 6]>(), 0..9)).prop_map(
        |((settings, takes, schedule), mut steps, more)| {
            steps.extend(more);
            Script { settings, takes, schedule, steps }
        },
    )
}

#[test]
fn what_goes_out_is_what_was_accepted_in_order() {
    let cases = number_from("WRITER_SCRIPTS").unwrap_or(2000);
    let seed = number_from("WRITER_SEED").unwrap_or(1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (run, failed) = (Cell::new(0), Cell::new(false));
    let tried = runner.run(&scripts(), |script| {
        run.set(run.get() + u64::from(!failed.get()));
        script.run(|_| ()).map_err(|error| {
            failed.set(true);
            TestCaseError::fail(error)
        })
    });
    match tried {
        Ok(()) => assert_eq!(run.get(), cases),
        Err(TestError::Fail(error, script)) => {
            panic!("script {} of seed {seed} fails; in its shortest form: {error}\n{script:?}", run.get())
        }
        Err(error) => panic!("{error}"),
    }
}

/// A few whole messages and a Ping, by a client.
fn simple() -> Script {
    let steps = [[0, 0, 16, 0, 0, 0], [130, 30, 0, 0, 0, 0], [170, 0, 10, 0, 0, 0], [0, 0, 4, 0, 0, 0]];
    Script { steps: steps.to_vec(), ..Script::default() }
}

#[test]
fn every_changed_missing_or_additional_byte_is_noticed() {
    let mut len = 0;
    simple().run(|bytes| len = bytes.len()).unwrap();
    assert_eq!(len, 4 * 6 + 16 + 125 + 10 + 4);
    for index in 0..len {
        for bit in 0..8 {
            simple().run(|bytes| bytes[index] ^= 1 << bit).unwrap_err();
        }
        simple().run(|bytes| _ = bytes.remove(index)).unwrap_err();
        simple().run(|bytes| bytes.insert(index, 0)).unwrap_err();
        simple().run(|bytes| bytes.truncate(index)).unwrap_err();
    }
    simple().run(|bytes| bytes.extend([0x89, 0x80, 1, 2, 3, 4])).unwrap_err();
}

/// The payloads of frames, and whether each is masked.
fn decoded(bytes: &[u8]) -> Result<Vec<(u8, bool, Vec<u8>)>, String> {
    let mut decoder = Decoder::new(bytes, false);
    let (mut frames, mut payload) = (Vec::new(), Vec::new());
    while let Some(frame) = decoder.next(&mut payload)? {
        frames.push((frame.opcode, frame.masked, payload.clone()));
    }
    Ok(frames)
}

/// RFC 6455 §5.7.
#[test]
fn decoder_reads_the_examples_of_the_rfc() {
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(decoded(&hello).unwrap(), [(1, false, b"Hello".to_vec())]);
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decoded(&masked).unwrap(), [(1, true, b"Hello".to_vec())]);
    let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(decoded(&fragments).unwrap(), [(1, false, b"Hel".to_vec()), (0, false, b"lo".to_vec())]);
    for (head, len) in [(&[0x82, 0x7E, 0x01, 0x00][..], 256), (&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0], 65_536)]
    {
        assert_eq!(decoded(&[head, &vec![7; len]].concat()).unwrap(), [(2, false, vec![7; len])]);
    }
}

#[test]
fn decoder_refuses_what_no_writer_may_send() {
    for bytes in [
        &[0x83, 0x00][..],
        &[0xA1, 0x00],
        &[0x91, 0x00],
        &[0xC9, 0x00],
        &[0x80, 0x00],
        &[0x01, 0x00],
        &[0x01, 0x00, 0x81, 0x00],
        &[0x01, 0x00, 0xC0, 0x00],
        &[0x09, 0x00],
        &[&[0x89, 0x7E, 0x00, 0x7E][..], &[0; 126]].concat(),
        &[0x82, 0x7E, 0x00, 0x01, 0x00],
        &[0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255],
    ] {
        decoded(bytes).unwrap_err();
    }
}

/// RFC 7692 §7.2.3.1 and §7.2.3.2: the second message refers to the first.
#[test]
fn inflater_reads_the_examples_of_the_rfc() {
    let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let mut inflater = Inflater::new(true);
    for message in [&first[..], &second] {
        let mut inflated = Vec::new();
        inflater.push(message, true, &mut inflated).unwrap();
        assert_eq!(inflated, b"Hello");
    }
    let (mut inflater, mut inflated) = (Inflater::new(false), Vec::new());
    inflater.push(&first[..3], false, &mut inflated).unwrap();
    inflater.push(&first[3..], true, &mut inflated).unwrap();
    assert_eq!(inflated, b"Hello");
    inflater.push(&second, true, &mut inflated).unwrap();
    assert_ne!(inflated, b"HelloHello", "the first message is forgotten");
}
