//! The examples, run as programs of their own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "output is read on threads")]

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
};

use crate::{
    net::{self, PATIENCE},
    wire::{self, CLOSE, Frame},
};

/// The result of a program.
#[derive(Debug)]
pub struct Ran {
    /// `None` if a signal has ended it.
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

/// A program that runs.
pub struct Program {
    child: Child,
    pub input: Option<ChildStdin>,
    pub output: Option<ChildStdout>,
    errors: Receiver<Vec<u8>>,
}

/// The path of a built example. `cargo test` builds them all, `cargo test --test NAME` does not.
fn path(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let path = target.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --examples` with the same features",
        path.display()
    );
    path
}

/// Reads to the end on a thread of its own.
fn read_all(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        let _ = sender.send(bytes);
    });
    receiver
}

impl Program {
    pub fn start(name: &str, args: &[&str]) -> Self {
        let mut command = Command::new(path(name));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let errors = read_all(child.stderr.take().unwrap());
        Self { child, input, output, errors }
    }

    /// Writes the whole input and closes it.
    pub fn give(&mut self, input: &[u8]) {
        // It may end before it has read everything.
        let _ = self.input.take().unwrap().write_all(input);
    }

    /// Sends it a signal, such as `INT`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Returns whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let output = self.output.take().map(read_all);
        // Both pipes are closed when it ends.
        let errors = self.errors.recv_timeout(PATIENCE);
        if errors.is_err() {
            self.child.kill().unwrap();
        }
        let out = output.map(|output| output.recv_timeout(PATIENCE).unwrap()).unwrap_or_default();
        let Ok(errors) = errors else { panic!("it does not end, and has printed {}", out.escape_ascii()) };
        let code = self.child.wait().unwrap().code();
        Ran { code, out, err: String::from_utf8(errors).unwrap() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs an example to its end, with this input.
pub fn run(name: &str, args: &[&str], input: &[u8]) -> Ran {
    let mut program = Program::start(name, args);
    program.give(input);
    program.end()
}

/// The server that an example is connected to, by hand.
pub struct Peer {
    pub stream: TcpStream,
    bytes: Vec<u8>,
}

/// Runs a server for one example; gives the URL to connect to.
pub fn peer<T: Send + 'static>(server: impl FnOnce(Peer) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let (address, thread) =
        net::serve(|stream| server(Peer { stream: net::accept(stream), bytes: Vec::new() }));
    (format!("ws://{address}/"), thread)
}

impl Peer {
    /// Reads one frame; `None` at the end of the connection.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = wire::split(&self.bytes).0.into_iter().next() {
                self.bytes.drain(..frame.wire_len);
                return Some(frame);
            }
            let mut more = [0; 4096];
            let len = self.stream.read(&mut more).unwrap();
            if len == 0 {
                return None;
            }
            self.bytes.extend(&more[..len]);
        }
    }

    /// Reads up to the client's Close; gives the payloads before it, and the payload of the Close.
    pub fn up_to_close(&mut self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut payloads = Vec::new();
        loop {
            let frame = self.next().unwrap();
            if frame.first == CLOSE {
                return (payloads, frame.payload);
            }
            payloads.push(frame.payload);
        }
    }

    pub fn put(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        self.stream.write_all(&wire::frame(first, None, payload.as_ref())).unwrap();
    }

    pub fn close(&mut self, code: u16, reason: &str) {
        self.put(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat());
    }

    /// Sends a frame again and again. Not to be waited for: the socket of a client that has gone may take a minute to
    /// say so when its window was closed.
    pub fn flood(mut self, first: u8, payload: &[u8]) {
        let frame = wire::frame(first, None, payload);
        while self.stream.write_all(&frame).is_ok() {}
    }

    /// Waits until the client has gone, without closing first.
    pub fn outlast(mut self) {
        if let Err(error) = io::copy(&mut self.stream, &mut io::sink()) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "the client stays");
        }
    }
}
