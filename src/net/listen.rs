//! Sockets that listen, and what they accept.

use std::{
    fmt, io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::Arc,
};

use async_io::Async;
use socket2::{Domain, Protocol, SockRef, Type};

use crate::{
    deadline::Deadline,
    error::{Error, OptionsError, Phase},
    options::{Addresses, Place, ServerOptions},
    seats::Seat,
    socket::Socket,
    url::parse_place,
};

#[cfg(feature = "tls")]
use super::tls::Acceptor;
use super::{Connected, Failure, Reader, Writer, halves};
#[cfg(not(feature = "tls"))]
use NoAcceptor as Acceptor;

/// A place where clients arrive.
pub(crate) struct Listener {
    io: Io,
    tls: Option<Arc<Acceptor>>,
    nodelay: bool,
    /// The only path that is served, if it is not any.
    pathname: Option<String>,
}

enum Io {
    Tcp(Async<TcpListener>),
    #[cfg(unix)]
    Unix(Async<std::os::unix::net::UnixListener>, SocketFile),
}

/// Listens in all of these places, or in none.
pub(crate) async fn bind(
    addresses: &Addresses,
    options: &ServerOptions,
) -> Result<Vec<Arc<Listener>>, Error> {
    let acceptor = match &options.tls {
        Some(tls) => Some(Arc::new(Acceptor::new(tls).await?)),
        None => None,
    };
    let mut listeners = Vec::with_capacity(addresses.0.len());
    for place in &addresses.0 {
        let mut tls = acceptor.clone();
        let mut pathname = None;
        let io = match place {
            Place::Unix(path) => bind_unix(path, options)?,
            Place::Socket(address) => bind_tcp(&[*address], &address.to_string(), options)?,
            Place::Name(host, port) => bind_name(host, *port, options).await?,
            Place::Text(text) => {
                let (url, is_url) = parse_place(text)?;
                match (is_url, url.tls) {
                    (true, true) if tls.is_none() => return Err(OptionsError::NoCertificate.into()),
                    (true, false) => tls = None,
                    _ => {}
                }
                pathname = (url.pathname != "/").then_some(url.pathname);
                bind_name(&url.host, url.port, options).await?
            }
        };
        listeners.push(Arc::new(Listener { io, tls, nodelay: options.nodelay, pathname }));
    }
    if listeners.is_empty() {
        return Err(OptionsError::NoAddress.into());
    }
    Ok(listeners)
}

async fn bind_name(host: &str, port: u16, options: &ServerOptions) -> Result<Io, Error> {
    let lookup = super::dns::resolve(host, port).await?;
    bind_tcp(&lookup.addresses, &format!("{host}:{port}"), options)
}

/// Listens on the first of the addresses that can be.
fn bind_tcp(addresses: &[SocketAddr], place: &str, options: &ServerOptions) -> Result<Io, Error> {
    let mut failure = None;
    for address in addresses {
        match listen(*address, options) {
            Ok(listener) => return Ok(Io::Tcp(listener)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(cannot_listen(place, &failure.unwrap_or_else(|| io::ErrorKind::NotFound.into())))
}

fn cannot_listen(place: &str, error: &io::Error) -> Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}")).into()
}

fn listen(address: SocketAddr, options: &ServerOptions) -> io::Result<Async<TcpListener>> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows it would let another program take the address over.
    socket.set_reuse_address(options.reuse_address && !cfg!(windows))?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Async::new(socket.into())
}

fn backlog(options: &ServerOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

#[cfg(unix)]
fn bind_unix(path: &std::path::Path, options: &ServerOptions) -> Result<Io, Error> {
    let listen = || {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = socket2::SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && options.reuse_address => {
                SocketFile::remove_abandoned(path, error)?;
                socket.bind(&address)?;
            }
            bound => bound?,
        }
        socket.listen(backlog(options))?;
        Ok(Io::Unix(Async::new(socket.into())?, SocketFile::at(path)?))
    };
    listen().map_err(|error: io::Error| cannot_listen(&path.to_string_lossy(), &error))
}

#[cfg(not(unix))]
fn bind_unix(path: &std::path::Path, _: &ServerOptions) -> Result<Io, Error> {
    Err(cannot_listen(&path.to_string_lossy(), &io::ErrorKind::Unsupported.into()))
}

/// The file by which a unix socket is found. Dropped, it is removed, if it is still ours.
#[cfg(unix)]
struct SocketFile {
    path: std::path::PathBuf,
    /// Which file it was: the device and the number on it.
    identity: (u64, u64),
}

#[cfg(unix)]
impl SocketFile {
    fn at(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self { path: std::path::absolute(path)?, identity: Self::identity(path)? })
    }

    fn identity(path: &std::path::Path) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::symlink_metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Removes a socket that nobody listens on, or gives back the error.
    fn remove_abandoned(path: &std::path::Path, in_use: io::Error) -> io::Result<()> {
        use std::os::unix::fs::FileTypeExt;
        if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(in_use);
        }
        let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A listener whose queue is full must not hold us up.
        probe.set_nonblocking(true)?;
        match probe.connect(&socket2::SockAddr::unix(path)?) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            _ => Err(in_use),
        }
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Takes a client that has arrived, or [`io::ErrorKind::WouldBlock`]. The inner error is one of the connection
    /// that was accepted: it says nothing about the listener.
    pub(crate) fn accept(&self) -> io::Result<io::Result<Connected>> {
        Ok(match &self.io {
            Io::Tcp(listener) => listener.get_ref().accept().map(|(stream, _)| self.accepted_tcp(stream))?,
            #[cfg(unix)]
            Io::Unix(listener, _) => listener.get_ref().accept().map(|(stream, _)| accepted_unix(stream))?,
        })
    }

    fn accepted_tcp(&self, stream: TcpStream) -> io::Result<Connected> {
        let stream = Arc::new(Async::new(stream)?);
        // It may have gone again; whoever reads or writes will see.
        let _ = stream.get_ref().set_nodelay(self.nodelay);
        let socket = Socket::new(&stream);
        let (reader, writer) = halves::split(stream, halves::Next::Read);
        Ok(Connected::new(Reader::Tcp(reader), Writer::Tcp(writer), socket))
    }

    /// Waits for a client. It may be waited for by many at once.
    pub(crate) fn arrival(&self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        match &self.io {
            Io::Tcp(listener) => Box::pin(listener.readable()),
            #[cfg(unix)]
            Io::Unix(listener, _) => Box::pin(listener.readable()),
        }
    }

    /// Encrypts the connection, where that is what this is for.
    pub(crate) async fn secure(&self, plain: Connected, deadline: Deadline) -> Result<Connected, Failure> {
        let Some(acceptor) = &self.tls else { return Ok(plain) };
        let mut is_probe = false;
        // In a box, so that who is without TLS need not have room for it.
        let secured =
            deadline.within_phase(Phase::Tls, Box::pin(acceptor.accept(plain, &mut is_probe))).await;
        secured.map_err(|error| Failure { error, is_probe })
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.io {
            Io::Tcp(listener) => listener.get_ref().local_addr().ok(),
            #[cfg(unix)]
            Io::Unix(..) => None,
        }
    }

    /// Whether requests for this path are served.
    pub(crate) fn serves(&self, path: &str) -> bool {
        self.pathname.as_ref().is_none_or(|only| only == path)
    }

    /// Takes nobody in any more, whoever still waits for arrivals.
    pub(crate) fn shut(&self) {
        // Some systems know no such thing; then the last of those who wait ends it.
        let _ = match &self.io {
            Io::Tcp(listener) => SockRef::from(listener.get_ref()).shutdown(Shutdown::Both),
            #[cfg(unix)]
            Io::Unix(listener, _) => SockRef::from(listener.get_ref()).shutdown(Shutdown::Both),
        };
    }
}

/// The place, as in an error.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.io {
            Io::Tcp(listener) => match listener.get_ref().local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a TCP socket"),
            },
            #[cfg(unix)]
            Io::Unix(_, file) => file.path.display().fmt(f),
        }
    }
}

#[cfg(unix)]
fn accepted_unix(stream: std::os::unix::net::UnixStream) -> io::Result<Connected> {
    let stream = Arc::new(Async::new(stream)?);
    let socket = Socket::new(&stream);
    let (reader, writer) = halves::split(stream, halves::Next::Read);
    Ok(Connected::new(Reader::Unix(reader), Writer::Unix(writer), socket))
}

/// The connection counts until its writer is dropped.
pub(crate) fn occupy(connected: &mut Connected, seat: Seat) {
    connected.writer.seat = Some(seat);
}

#[cfg(not(feature = "tls"))]
enum NoAcceptor {}

#[cfg(not(feature = "tls"))]
impl NoAcceptor {
    #[expect(clippy::unused_async, reason = "the other one reads files")]
    async fn new(_: &crate::options::ServerTls) -> Result<Self, Error> {
        Err(OptionsError::NoTls.into())
    }

    async fn accept(&self, _: Connected, _: &mut bool) -> Result<Connected, Error> {
        match *self {}
    }
}
