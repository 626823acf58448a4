//! Clients on bare sockets, well-behaved and not.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use coro_websocket::{CloseCode, Message, codec};
use socket2::{Domain, Socket, Type};

use crate::Times;

pub(crate) const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects. Ports of connections that have ended are not free at once, so addresses take turns.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let turn = COUNT.fetch_add(1, Ordering::Relaxed) / 10_000 % 200;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, u8::try_from(turn).unwrap_or(0) + 1], 0)).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Reads the answer to a request and says whether the connection is open.
pub(crate) fn read_answer(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut bytes = [0; 1024];
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => answer.extend_from_slice(&bytes[..len]),
        }
    }
    if answer.starts_with(b"HTTP/1.1 101 ") { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

/// An open connection.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(address)?;
    stream.write_all(REQUEST)?;
    read_answer(&mut stream)?;
    Ok(stream)
}

pub(crate) fn masked(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, Some([1, 2, 3, 4]), &mut bytes);
    bytes
}

/// A message there and back.
pub(crate) fn echo(stream: &mut TcpStream, len: usize) -> io::Result<()> {
    stream.write_all(&masked(&Message::binary(vec![7; len])))?;
    read_echo(stream, len)
}

pub(crate) fn read_echo(stream: &mut TcpStream, len: usize) -> io::Result<()> {
    let mut expected = Vec::new();
    codec::encode(&Message::binary(vec![7; len]), None, &mut expected);
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes)?;
    if bytes == expected { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Closes in order and waits for the end.
pub(crate) fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&masked(&Message::close(CloseCode::NORMAL, "")))?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Takes everything back.
pub(crate) fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// A client that behaves, while others do not: every 100 ms a new connection, and a message on one that stays.
pub(crate) struct Good {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What it has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) handshakes: Times,
    pub(crate) echoes: Times,
    pub(crate) failures: usize,
}

impl Good {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            let mut stays = open(address).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                let since = Instant::now();
                match open(address) {
                    Ok(mut stream) => {
                        seen.handshakes.0.push(since.elapsed());
                        seen.failures += usize::from(echo(&mut stream, 16).is_err());
                    }
                    Err(_) => seen.failures += 1,
                }
                let again = Instant::now();
                seen.failures += usize::from(echo(&mut stays, 16).is_err());
                seen.echoes.0.push(again.elapsed());
                thread::sleep(Duration::from_millis(100).saturating_sub(since.elapsed()));
            }
            seen
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
