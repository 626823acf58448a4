//! What must not come back with another version of what the crate is built on.
#![allow(clippy::unwrap_used, reason = "it is a test")]

/// RUSTSEC-2026-0007 (bytes), RUSTSEC-2025-0047 (slab), RUSTSEC-2026-0221 (event-listener): the first versions without the
/// fault are the oldest that may be chosen.
#[test]
fn versions_with_known_faults_cannot_be_chosen() {
    let manifest = include_str!("../Cargo.toml");
    for (name, fixed) in [("bytes", [1, 11, 1]), ("slab", [0, 4, 11]), ("event-listener", [5, 4, 2])] {
        let line = manifest.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")).unwrap();
        let version = line.split('"').nth(1).unwrap();
        let parts: Vec<u64> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert!(parts >= fixed.to_vec(), "{name} {version}");
    }
}
