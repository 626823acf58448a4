//! Servers on real sockets, as well-behaved or as broken as a test needs them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "servers run on threads")]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use coro_websocket::{Accept, AcceptOptions, Error, IoRead, IoWrite, Options, SinkExt, StreamExt, accept_io};
use futures::io::{AsyncRead, AsyncWrite};

/// Longer than any test takes that is not stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a server on a thread of its own, for one client.
pub fn serve<T: Send + 'static>(
    server: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        server(stream)
    });
    (address, thread)
}

/// Options for a server at this address, impatient enough for a test.
pub fn options(address: SocketAddr) -> Options {
    Options::default().host(address.ip().to_string()).port(address.port()).timeout(PATIENCE)
}

/// Reads up to the blank line after a head.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.extend(byte);
    }
    String::from_utf8(bytes).unwrap()
}

/// The answer that opens the connection that is asked for.
pub fn switching(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        coro_websocket::codec::accept_key(key)
    )
}

/// Reads until the other end has gone. Says whether it ended in order.
pub fn read_to_end(stream: &mut impl Read) -> bool {
    io::copy(stream, &mut io::sink()).is_ok()
}

/// Opens a connection as a server and hands it over.
pub fn accept(mut stream: TcpStream) -> TcpStream {
    let request = read_head(&mut stream);
    stream.write_all(switching(&request).as_bytes()).unwrap();
    stream
}

/// A server's halves, for a request of any kind.
pub async fn accepted<R, W>(read: R, write: W) -> Result<(IoRead<R, W>, IoWrite<W>), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let upgrade = accept_io(read, write, AcceptOptions::default()).await?;
    let (_, read, write) = upgrade.accept(Accept::default()).await?;
    Ok((read, write))
}

/// Sends every message back, until the client closes.
pub async fn echo<R, W>(mut read: IoRead<R, W>, mut write: IoWrite<W>) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    write.close().await
}

/// How many file descriptors this process has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
