//! Where and of what figures are: without that they are worth little.

use std::{fs, process::Command};

/// Whose versions are told.
const CRATES: [&str; 16] = [
    "async-tungstenite",
    "fastwebsockets",
    "ratchet_rs",
    "sockudo-ws",
    "soketto",
    "tokio-tungstenite",
    "tokio-websockets",
    "tungstenite",
    "wtx",
    "yawc",
    "async-executor",
    "async-io",
    "async-net",
    "futures",
    "tokio",
    "flate2",
];

pub(crate) fn print() {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    println!("# coro-websocket and its peers\n");
    println!("- {}, {cores} cores, Linux {}", cpu.unwrap_or("?"), read("/proc/sys/kernel/osrelease").trim());
    println!("- load before: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    println!("- {}, {}", output("date", &["-u", "+%F %H:%M UTC"]), output("rustc", &["--version"]));
    println!("- coro-websocket at {}", output("git", &["describe", "--always", "--dirty"]));
    println!("- {}", CRATES.map(|name| format!("{name} {}", version(name))).join(", "));
    println!("- `{}`", std::env::args().collect::<Vec<_>>().join(" "));
    println!(
        "\nA figure is a median; ± is half the interval that holds the true one in 95 of 100 cases. tungstenite \
         itself blocks, so that it has no echo server. The newest wtx needs Rust 1.96."
    );
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// As it was locked.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let mut packages = lock.split("[[package]]");
    let package = packages.find(|package| package.contains(&format!("name = \"{name}\"\n")));
    let line = package.and_then(|package| package.lines().find_map(|line| line.strip_prefix("version = ")));
    line.map_or("?", |version| version.trim_matches('"'))
}
