//! Step 2, the socket: TCP or a unix socket, with or without TLS, in two halves that two tasks may poll at once.

use std::{
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};

use crate::{
    clock,
    deadline::Deadline,
    error::{Error, OptionsError, Phase},
    options::Options,
    seats::Seat,
    socket::{Socket, Timings},
    url::{default_port, parse_host},
};

mod dns;
mod halves;
mod lane;
pub(crate) mod listen;
#[cfg(unix)]
mod socket_file;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;

use halves::{Receiving, Sending};
#[cfg(feature = "tls")]
use tls::Secure;

/// What a client calls the server where nothing else is said.
pub(crate) const DEFAULT_HOST: &str = "127.0.0.1";

/// A connected transport, in halves.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) reader: SocketReader,
    pub(crate) writer: SocketWriter,
    pub(crate) socket: Socket,
}

impl Connected {
    fn new(reader: Reader, writer: Writer, socket: Socket) -> Self {
        Self { reader: SocketReader(reader), writer: SocketWriter { io: writer, seat: None }, socket }
    }
}

/// The failure of a client that has arrived.
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// `true` if the client closed the connection before it sent a byte, as health checks do.
    pub(crate) is_probe: bool,
}

impl Failure {
    /// Returns the error to report; `None` for a probe, which is no failure.
    pub(crate) fn into_error(self) -> Option<Error> {
        (!self.is_probe).then_some(self.error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, is_probe: false }
    }
}

/// Where to connect to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    Unix(&'a std::path::Path),
    Host(String, u16),
}

impl<'a> Address<'a> {
    pub(crate) fn new(options: &'a Options) -> Result<Self, Error> {
        match (&options.path, options.host.as_deref(), options.port) {
            (Some(path), None, None) => Ok(Self::Unix(path)),
            (None, None, None) => Err(OptionsError::NoAddress.into()),
            (_, _, Some(0)) => Err(OptionsError::Port.into()),
            (_, host, port) => {
                let host = parse_host(host.unwrap_or(DEFAULT_HOST))?;
                Ok(Self::Host(host, port.unwrap_or(default_port(options.tls.is_some()))))
            }
        }
    }

    /// What the server is called in its certificate.
    fn name(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Host(host, _) => host,
        }
    }

    /// Connects, and notes how long each step took.
    pub(crate) async fn connect(
        &self,
        deadline: Deadline,
        options: &Options,
        timings: &mut Timings,
    ) -> Result<Connected, Error> {
        let Some(tls) = &options.tls else {
            return self.connect_plain(deadline, options, timings).await;
        };
        let secure = Secure::new(tls, self.name(), deadline).await?;
        let connected = self.connect_plain(deadline, options, timings).await?;
        let since = clock::now();
        let connected = deadline.within_phase(Phase::Tls, pin!(secure.connect(connected))).await?;
        timings.tls = Some(clock::now() - since);
        Ok(connected)
    }

    async fn connect_plain(
        &self,
        deadline: Deadline,
        options: &Options,
        timings: &mut Timings,
    ) -> Result<Connected, Error> {
        match self {
            Self::Unix(path) => {
                let deadline = deadline.or_before(Deadline::after(options.connect_timeout));
                let since = clock::now();
                let connected = deadline.within_phase(Phase::Connect, pin!(connect_unix(path))).await?;
                timings.connect = Some(clock::now() - since);
                Ok(connected)
            }
            Self::Host(host, port) => {
                let since = clock::now();
                let lookup = deadline.within_phase(Phase::Dns, pin!(dns::resolve(host, *port))).await?;
                timings.dns = lookup.asked.then(|| clock::now() - since);
                let deadline = deadline.or_before(Deadline::after(options.connect_timeout));
                let since = clock::now();
                let stream =
                    deadline.within_phase(Phase::Connect, pin!(tcp::connect(lookup.addresses))).await?;
                timings.connect = Some(clock::now() - since);
                let socket = Socket::new(&stream);
                let (reader, writer) = halves::split(stream, halves::Next::Wait);
                Ok(Connected::new(Reader::Tcp(reader), Writer::Tcp(writer), socket))
            }
        }
    }
}

#[cfg(unix)]
async fn connect_unix(path: &std::path::Path) -> Result<Connected, Error> {
    let stream = unix::connect(path).await?;
    let socket = Socket::new(&stream);
    let (reader, writer) = halves::split(stream, halves::Next::Wait);
    Ok(Connected::new(Reader::Unix(reader), Writer::Unix(writer), socket))
}

#[cfg(not(unix))]
async fn connect_unix(_: &std::path::Path) -> Result<Connected, Error> {
    Err(Error::Connect(io::Error::from(io::ErrorKind::Unsupported).into()))
}

#[cfg(not(feature = "tls"))]
enum Secure {}

#[cfg(not(feature = "tls"))]
impl Secure {
    async fn new(_: &crate::options::Tls, _: &str, _: Deadline) -> Result<Self, Error> {
        Err(OptionsError::NoTls.into())
    }

    async fn connect(self, _: Connected) -> Result<Connected, Error> {
        match self {}
    }
}

/// The reading half of a socket that [`connect`](crate::connect) has connected, or a [`Server`](crate::Server) has
/// accepted.
pub struct SocketReader(Reader);

enum Reader {
    Tcp(Receiving<std::net::TcpStream>),
    #[cfg(unix)]
    Unix(Receiving<std::os::unix::net::UnixStream>),
    #[cfg(feature = "tls")]
    Tls(tls::Reader),
}

/// The writing half of a socket that [`connect`](crate::connect) has connected, or a [`Server`](crate::Server) has
/// accepted.
///
/// # Drop
///
/// The socket is shut down in both directions.
pub struct SocketWriter {
    io: Writer,
    /// What it takes of a server's limits.
    seat: Option<Seat>,
}

enum Writer {
    Tcp(Sending<std::net::TcpStream>),
    #[cfg(unix)]
    Unix(Sending<std::os::unix::net::UnixStream>),
    #[cfg(feature = "tls")]
    Tls(tls::Writer),
}

impl AsyncRead for SocketReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Reader::Tcp(reader) => reader.poll_read(cx, buf),
            #[cfg(unix)]
            Reader::Unix(reader) => reader.poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Reader::Tls(reader) => reader.poll_read(cx, buf),
        }
    }
}

impl SocketWriter {
    #[cfg(feature = "tls")]
    fn shutdown(&self, how: std::net::Shutdown) {
        // Whoever it was meant for may have gone already.
        let _ = match &self.io {
            Writer::Tcp(writer) => writer.shutdown(how),
            #[cfg(unix)]
            Writer::Unix(writer) => writer.shutdown(how),
            Writer::Tls(_) => Ok(()),
        };
    }

    fn io(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match &mut self.io {
            Writer::Tcp(writer) => Pin::new(writer),
            #[cfg(unix)]
            Writer::Unix(writer) => Pin::new(writer),
            #[cfg(feature = "tls")]
            Writer::Tls(writer) => Pin::new(writer),
        }
    }
}

impl AsyncWrite for SocketWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_close(cx)
    }
}

impl fmt::Debug for SocketReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketReader").finish_non_exhaustive()
    }
}

impl fmt::Debug for SocketWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketWriter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// A listener whose queue is full: it answers nobody.
    pub(super) fn black_hole() -> (Vec<socket2::Socket>, SocketAddr) {
        use socket2::{Domain, Socket, Type};
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = vec![listener];
        for _ in 0..4 {
            let stream = socket();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.connect(&address);
            held.push(stream);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        (held, address.as_socket().unwrap())
    }

    #[test]
    fn address_is_the_path_only_where_there_is_neither_host_nor_port() {
        let host = |host: &str, port| Ok(Address::Host(host.to_owned(), port));
        for (options, expected) in [
            (Options::default(), Err(OptionsError::NoAddress)),
            (Options::default().tls(true), Err(OptionsError::NoAddress)),
            (Options::default().path("/s"), Ok(Address::Unix("/s".as_ref()))),
            (Options::default().path("/s").port(8080), host("127.0.0.1", 8080)),
            (Options::default().path("/s").host("h"), host("h", 80)),
            (Options::default().host("h").tls(true), host("h", 443)),
            (Options::default().host("Bücher.de").port(1), host("xn--bcher-kva.de", 1)),
            (Options::default().host("[::1]"), host("::1", 80)),
            (Options::default().host("h").port(0), Err(OptionsError::Port)),
            (Options::default().host("a\r\nb"), Err(OptionsError::Host)),
        ] {
            assert_eq!(Address::new(&options).map_err(Error::options_kind), expected, "{options:?}");
        }
    }
}
