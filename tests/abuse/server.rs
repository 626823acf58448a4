//! The server under attack, and what the system says of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How often the system counts processor time, in a second.
const TICKS: f64 = 100.0;

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it with these arguments, and so many file descriptors at most.
    pub(crate) fn start(program: &str, descriptors: usize, args: &[&str]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""), program])
            .args(args)
            .arg("127.0.0.1:0")
            // What is freed of large payloads is given back at once, so that what is left is what the server keeps. By
            // default glibc raises this as it goes, and then keeps what it pleases.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let address = url.trim().rsplit('/').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default()
    }

    /// Resident memory that is its own, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// How long it has been computing.
    pub(crate) fn computed(&self) -> Duration {
        let stat = self.file("stat");
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        Duration::from_secs_f64(ticks / TICKS)
    }

    /// The share of one processor that it takes for so long, in percent.
    pub(crate) fn load(&self, during: Duration) -> f64 {
        let (since, before) = (Instant::now(), self.computed());
        std::thread::sleep(during);
        (self.computed() - before).as_secs_f64() / since.elapsed().as_secs_f64() * 100.0
    }

    /// How many file descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Waits until it has had no more descriptors than this for some time, since clients may still wait to be accepted,
    /// but not for ever. Gives how many it has.
    pub(crate) fn settle(&self, descriptors: usize) -> usize {
        let since = Instant::now();
        let mut calm = 0;
        loop {
            let now = self.descriptors();
            calm = if now > descriptors { 0 } else { calm + 1 };
            if calm == 10 || since.elapsed() > Duration::from_secs(15) {
                return now;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
