//! Who may import whom inside the crate, as ARCHITECTURE.md says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "it is a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every module, and those it may import. All of these stand above it, so there are no circles but [`UPWARDS`].
const LAYERS: [(&str, &[&str]); 34] = [
    // Locks, in one place.
    ("sync", &[]),
    // The pure floor.
    ("error", &[]),
    ("redact", &[]),
    ("buffer", &[]),
    ("pool", &["buffer"]),
    ("options", &["error", "redact"]),
    ("url", &["error", "options", "redact"]),
    ("socket", &["error", "options", "redact"]),
    ("handshake", &["error", "options", "redact", "socket"]),
    ("frame", &["sync", "error", "buffer", "pool"]),
    ("codec", &["handshake", "frame"]),
    ("deflate", &["error", "pool", "options", "handshake", "frame"]),
    ("session", &["error", "options", "frame"]),
    // Time and randomness, each in its one place.
    ("clock", &[]),
    ("entropy", &["error"]),
    ("deadline", &["error", "clock"]),
    ("callers", &["sync"]),
    ("seats", &["sync", "callers"]),
    // The socket.
    ("net", &["error", "pool", "options", "url", "socket", "sync", "clock", "deadline", "seats"]),
    // The codec on input and output.
    ("reader", &["error", "pool", "options", "frame", "deflate", "session"]),
    ("writer", &["error", "options", "frame", "deflate", "session", "entropy"]),
    // The halves.
    ("shared", &["error", "options", "frame", "deflate", "session", "sync", "clock", "entropy", "writer"]),
    ("prepared", &["frame", "deflate", "sync"]),
    (
        "write",
        &[
            "error", "options", "frame", "deflate", "session", "clock", "deadline", "net", "writer",
            "shared", "prepared",
        ],
    ),
    ("read", &["error", "options", "frame", "session", "sync", "clock", "net", "reader", "writer", "shared"]),
    ("messages", &["error", "options", "frame", "session", "reader", "writer", "read"]),
    ("shutdown", &["error", "frame", "session", "reader", "writer", "write", "read"]),
    (
        "wrap",
        &[
            "error", "options", "frame", "deflate", "session", "sync", "reader", "writer", "shared", "write",
            "read",
        ],
    ),
    // The opening handshake on input and output.
    ("exchange", &["error", "options", "handshake", "deadline"]),
    (
        "connect",
        &[
            "error",
            "options",
            "url",
            "socket",
            "handshake",
            "deflate",
            "clock",
            "entropy",
            "deadline",
            "net",
            "write",
            "read",
            "wrap",
            "exchange",
        ],
    ),
    (
        "server",
        &[
            "error",
            "options",
            "socket",
            "handshake",
            "deflate",
            "sync",
            "clock",
            "deadline",
            "callers",
            "seats",
            "net",
            "write",
            "read",
            "wrap",
            "exchange",
        ],
    ),
    ("serve", &["error", "options", "frame", "handshake", "write", "read", "messages", "server"]),
    ("porting", &["error", "options", "socket", "write", "read"]),
    ("lib", &[]),
];

/// Imports from further down: the plain data that errors carry, and the whole messages that the reader keeps.
const UPWARDS: [(&str, &str); 6] = [
    ("error", "frame::CloseFrame"),
    ("error", "frame::Message"),
    ("error", "handshake::Response"),
    ("error", "socket::Timings"),
    ("read", "messages::Messages"),
    ("read", "messages::Partial"),
];

/// Modules that know no input and output, no clock and no randomness.
const PURE: [&str; 9] =
    ["error", "redact", "options", "url", "handshake", "frame", "codec", "deflate", "session"];

const IMPURE: [&str; 13] = [
    "futures",
    "async_",
    "std::task",
    "TcpStream",
    "ToSocketAddrs",
    "std::fs",
    "std::thread",
    "AsyncRead",
    "AsyncWrite",
    "Instant::now",
    "SystemTime",
    "getrandom",
    "thread_local",
];

/// Tests that are files of their own.
const TESTS: [&str; 3] = ["session/timers/tests.rs", "shared/model.rs", "shared/model/world.rs"];

#[test]
fn every_module_imports_only_what_stands_above_it() {
    for (position, (module, allowed)) in LAYERS.iter().enumerate() {
        let above: Vec<_> = LAYERS[..position].iter().map(|(name, _)| *name).collect();
        assert!(allowed.iter().all(|name| above.contains(name)), "{module} is in the wrong place");
    }
    for (module, file, code) in sources() {
        let (_, allowed) = LAYERS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} is a new module: which layer is it in?"));
        for path in imports(&code) {
            let from = path.split("::").next().unwrap();
            assert!(
                from == module || allowed.contains(&from) || UPWARDS.contains(&(&*module, &*path)),
                "{} imports {path}",
                file.display()
            );
        }
    }
}

#[test]
fn the_pure_floor_is_pure() {
    for (module, file, code) in sources() {
        if PURE.contains(&&*module) {
            for word in IMPURE {
                assert!(!code.contains(word), "{} has {word}", file.display());
            }
        }
    }
}

#[test]
fn imports_are_found() {
    let code = without_comments(
        "use crate::{a::{B, c::D}, e::F as _}; // crate::comment\n use crate::g; crate::h::i(); pub(crate) fn j() {}",
    );
    assert_eq!(imports(&code), ["a::B", "a::c::D", "e::F", "g", "h::i"]);
}

/// All files of the crate, without comments and without tests, each with the top module it belongs to.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.strip_prefix(&root).unwrap().to_owned();
            if TESTS.iter().any(|test| file == Path::new(test)) {
                continue;
            }
            let module = file.with_extension("").iter().next().unwrap().to_str().unwrap().to_owned();
            let source = fs::read_to_string(path).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
            sources.push((module, file, without_comments(code)));
        }
    }
    assert!(sources.len() > 20);
    sources
}

fn without_comments(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The paths behind every `crate::`, with braces taken apart.
fn imports(code: &str) -> Vec<String> {
    code.match_indices("crate::").flat_map(|(at, found)| expand(&code[at + found.len()..])).collect()
}

fn expand(tree: &str) -> Vec<String> {
    let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tree.len());
    let (path, rest) = tree.split_at(end);
    match rest.strip_prefix('{').filter(|_| path.is_empty() || path.ends_with("::")) {
        Some(inner) => {
            branches(inner).into_iter().flat_map(expand).map(|branch| format!("{path}{branch}")).collect()
        }
        None => vec![path.to_owned()],
    }
}

/// What stands between commas, up to the brace that closes.
fn branches(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(inner[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|branch| !branch.is_empty());
    found
}
