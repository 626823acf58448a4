//! The load generator: many connections on one thread that knows nothing of any library, and compares every byte.

use std::{
    fmt,
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
    net::sockopt::set_socket_linger,
};

use crate::{
    grid::size,
    wire::{BINARY, KEY, put_frame},
};

/// Requests ask for no extension, or for one.
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// So many connections, each with so many messages of a length under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) connections: usize,
    pub(crate) len: usize,
    pub(crate) in_flight: usize,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.connections, size(self.len))?;
        if self.in_flight > 1 {
            write!(f, ", {} in flight", self.in_flight)?;
        }
        Ok(())
    }
}

/// What is said on a connection.
pub(crate) trait Dialogue {
    /// So many messages more are to be sent.
    fn send(&mut self, count: usize);

    /// What is to be written; not necessarily all of it.
    fn due(&self) -> &[u8];

    fn wrote(&mut self, count: usize);

    /// How many answers these bytes complete. Wrong ones panic.
    fn got(&mut self, bytes: &[u8]) -> usize;
}

/// The same message again and again: what is sent, and what must come back, repeat themselves.
struct Repeated {
    frame_len: usize,
    /// As many frames as are in flight.
    frames: Vec<u8>,
    echo_len: usize,
    echoes: Vec<u8>,
}

impl Repeated {
    fn new(workload: Workload) -> Self {
        let payload: Vec<u8> = (0..workload.len).map(|i| (i % 251) as u8).collect();
        let repeated = |key| {
            let mut frame = Vec::new();
            put_frame(&mut frame, BINARY, &payload, key);
            (frame.len(), frame.repeat(workload.in_flight))
        };
        let ((frame_len, frames), (echo_len, echoes)) = (repeated(Some(KEY)), repeated(None));
        Self { frame_len, frames, echo_len, echoes }
    }
}

struct Repeating {
    repeated: Rc<Repeated>,
    /// Where in `frames` what is due begins, and how long it is.
    position: usize,
    due: usize,
    /// Where in `echoes` the next byte is expected.
    expected: usize,
}

impl Dialogue for Repeating {
    fn send(&mut self, count: usize) {
        self.due += count * self.repeated.frame_len;
    }

    fn due(&self) -> &[u8] {
        let rest = &self.repeated.frames[self.position..];
        &rest[..rest.len().min(self.due)]
    }

    fn wrote(&mut self, count: usize) {
        self.position = (self.position + count) % self.repeated.frames.len();
        self.due -= count;
    }

    fn got(&mut self, mut bytes: &[u8]) -> usize {
        let Repeated { echo_len, echoes, .. } = &*self.repeated;
        let complete = (self.expected % echo_len + bytes.len()) / echo_len;
        while !bytes.is_empty() {
            let rest = &echoes[self.expected..];
            let (part, more) = bytes.split_at(bytes.len().min(rest.len()));
            assert!(part == &rest[..part.len()], "an echo is not what was sent");
            self.expected = (self.expected + part.len()) % echoes.len();
            bytes = more;
        }
        complete
    }
}

struct Connection {
    socket: TcpStream,
    dialogue: Box<dyn Dialogue>,
    /// It waits to be able to write.
    blocked: bool,
    under_way: usize,
}

/// Connections to one server.
pub(crate) struct Load {
    poll: OwnedFd,
    connections: Vec<Connection>,
    in_flight: usize,
    buf: Vec<u8>,
}

impl Load {
    pub(crate) fn connect(address: SocketAddr, workload: Workload) -> Self {
        let repeated = Rc::new(Repeated::new(workload));
        Self::connect_with(address, workload, None, |_| {
            let repeated = Rc::clone(&repeated);
            Box::new(Repeating { repeated, position: 0, due: 0, expected: 0 })
        })
    }

    /// Each dialogue is made with what was agreed on of the extensions that were offered.
    pub(crate) fn connect_with(
        address: SocketAddr,
        workload: Workload,
        extensions: Option<&str>,
        mut dialogue: impl FnMut(Option<&str>) -> Box<dyn Dialogue>,
    ) -> Self {
        let poll = epoll::create(epoll::CreateFlags::empty()).unwrap();
        let connections = (0..workload.connections).map(|place| {
            let (socket, agreed) = open(address, extensions).unwrap();
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&poll, &socket, data, epoll::EventFlags::IN).unwrap();
            let dialogue = dialogue(agreed.as_deref());
            Connection { socket, dialogue, blocked: false, under_way: 0 }
        });
        let connections = connections.collect();
        Self { poll, connections, in_flight: workload.in_flight, buf: vec![0; 256 << 10] }
    }

    /// Keeps messages under way for this time, then waits until all answers are there. How many there were is the result.
    pub(crate) fn run(&mut self, time: Duration) -> u64 {
        let start = Instant::now();
        let Self { poll, connections, in_flight, buf } = self;
        for (place, connection) in connections.iter_mut().enumerate() {
            connection.send(*in_flight);
            connection.write(poll, place);
        }
        let (mut done, mut under_way) = (0, connections.len() * *in_flight);
        while under_way > 0 {
            let places = wait(poll);
            let goes_on = start.elapsed() < time;
            for place in places {
                let connection = &mut connections[place];
                let answers = connection.read(buf);
                done += answers as u64;
                if goes_on {
                    connection.send(answers);
                } else {
                    under_way -= answers;
                }
                connection.write(poll, place);
            }
        }
        done
    }

    /// Where the server sends to everybody what it gets: so for this time, one message after the other. How many were
    /// delivered is the result.
    pub(crate) fn run_broadcasts(&mut self, time: Duration) -> u64 {
        let start = Instant::now();
        let mut deliveries = 0;
        while start.elapsed() < time {
            for connection in &mut self.connections {
                connection.under_way = 1;
            }
            let Self { poll, connections, buf, .. } = self;
            connections[0].dialogue.send(1);
            connections[0].write(poll, 0);
            let mut missing = connections.len();
            while missing > 0 {
                for place in wait(poll) {
                    missing -= connections[place].read(buf);
                }
            }
            deliveries += connections.len() as u64;
        }
        deliveries
    }

    /// One message on each connection, one after the other.
    pub(crate) fn visit_each(&mut self) {
        for connection in &mut self.connections {
            connection.socket.set_nonblocking(false).unwrap();
            connection.dialogue.send(1);
            let mut answers = 0;
            while answers == 0 {
                while !connection.dialogue.due().is_empty() {
                    let count = connection.socket.write(connection.dialogue.due()).unwrap();
                    connection.dialogue.wrote(count);
                }
                let count = connection.socket.read(&mut self.buf).unwrap();
                assert!(count > 0, "the server has closed a connection");
                answers += connection.dialogue.got(&self.buf[..count]);
            }
            connection.socket.set_nonblocking(true).unwrap();
        }
    }
}

/// The places of connections for which there is something to do.
fn wait(poll: &OwnedFd) -> impl Iterator<Item = usize> {
    let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 256];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    let (happened, _) = epoll::wait(poll, &mut events[..], Some(&patience)).unwrap();
    assert!(!happened.is_empty(), "no answer for 10 s");
    let count = happened.len();
    let places: [usize; 256] =
        std::array::from_fn(|i| happened.get(i).map_or(0, |event| event.data.u64() as usize));
    places.into_iter().take(count)
}

impl Connection {
    fn send(&mut self, count: usize) {
        self.under_way += count;
        self.dialogue.send(count);
    }

    /// One read for an event: whatever is left causes another.
    fn read(&mut self, buf: &mut [u8]) -> usize {
        match self.socket.read(buf) {
            Ok(0) => panic!("the server has closed a connection"),
            Ok(count) => {
                let answers = self.dialogue.got(&buf[..count]);
                self.under_way -= answers;
                answers
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, poll: &OwnedFd, place: usize) {
        let was_blocked = std::mem::take(&mut self.blocked);
        while !self.dialogue.due().is_empty() {
            match self.socket.write(self.dialogue.due()) {
                Ok(count) => self.dialogue.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        if self.blocked != was_blocked {
            let out = if self.blocked { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(place as u64);
            epoll::modify(poll, &self.socket, data, epoll::EventFlags::IN | out).unwrap();
        }
    }
}

/// A connection whose handshake is done, and what of the offered extensions was agreed on.
fn open(address: SocketAddr, extensions: Option<&str>) -> io::Result<(TcpStream, Option<String>)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    // Closed, it is gone, and its port is free.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let offer = extensions.map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n")).unwrap_or_default();
    socket.write_all(format!("{REQUEST}{offer}\r\n").as_bytes())?;
    // Nobody but us speaks after the answer.
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        let mut buf = [0; 1024];
        let count = socket.read(&mut buf)?;
        assert!(count > 0, "no answer to a handshake");
        response.extend_from_slice(&buf[..count]);
    }
    let response = String::from_utf8_lossy(&response);
    assert!(response.starts_with("HTTP/1.1 101") && response.contains(ACCEPT), "{response}");
    let mut headers = response.lines().filter_map(|line| line.split_once(':'));
    let agreed = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
    socket.set_nonblocking(true)?;
    Ok((socket, agreed.map(|(_, agreed)| agreed.trim().to_owned())))
}
