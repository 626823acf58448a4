//! A server in a process of its own, pinned to core 0, and what it costs.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
    thread::{CpuSet, sched_setaffinity},
};

const CORE: usize = 0;

/// Where servers listen; the system chooses the port.
pub(crate) const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What [listens](listen) or [says where](announce) it does, and serves connections for ever.
pub(crate) type Serve = fn() -> !;

#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts this program again, to be the server of this name.
    pub(crate) fn start(name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["serve", name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().unwrap() }
    }

    /// User and system time of all of its threads so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        // What runs now is counted when it has stopped.
        thread::sleep(Duration::from_millis(1));
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let times = tasks.filter_map(|task| {
            let line = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let report = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id())).unwrap();
        let line = report.lines().find(|line| line.starts_with("Rss:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes << 10
    }

    /// How many system calls it makes meanwhile, as perf counts them, or else strace; `None` if neither may.
    pub(crate) fn system_calls(&self, meanwhile: impl FnOnce()) -> Option<u64> {
        let pid = self.process.id().to_string();
        let with_perf = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid];
        let with_strace = ["strace", "-c", "-f", "-p", &pid];
        let (mut watcher, is_perf) = match watch(&with_perf) {
            Some(perf) => (perf, true),
            None => (watch(&with_strace)?, false),
        };
        meanwhile();
        thread::sleep(Duration::from_millis(5));
        let report = stop_and_read(&mut watcher)?;
        if is_perf {
            report.lines().find(|line| line.contains("sys_enter"))?.split(',').next()?.parse().ok()
        } else {
            let total = report.lines().rfind(|line| line.ends_with("total"))?;
            total.split_whitespace().nth(3)?.parse().ok()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a command that watches a process, if it can be started and goes on.
fn watch(command: &[&str]) -> Option<Child> {
    let (program, args) = command.split_first()?;
    let mut watcher = Command::new(program).args(args).stderr(Stdio::piped()).spawn().ok()?;
    thread::sleep(Duration::from_millis(150));
    match watcher.try_wait() {
        Ok(None) => Some(watcher),
        _ => None,
    }
}

fn stop_and_read(watcher: &mut Child) -> Option<String> {
    kill_process(Pid::from_raw(watcher.id() as i32)?, Signal::INT).ok()?;
    let report = io::read_to_string(watcher.stderr.take()?).ok()?;
    watcher.wait().ok()?;
    Some(report)
}

/// The server's side.
pub(crate) fn run(serve: Serve) -> ! {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    pin(CORE);
    serve()
}

pub(crate) fn listen() -> TcpListener {
    let listener = TcpListener::bind(ANYWHERE).unwrap();
    announce(listener.local_addr().unwrap());
    listener
}

/// Tells the process that measures where to connect to.
pub(crate) fn announce(address: SocketAddr) {
    println!("{address}");
    io::stdout().flush().unwrap();
}

/// Keeps this thread, and those that it starts, on a core; where there is only one, on that.
pub(crate) fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    let _ = sched_setaffinity(None, &cores);
}
