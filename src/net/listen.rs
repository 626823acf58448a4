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
    url::{parse_listening_host, parse_place},
};

#[cfg(unix)]
use super::socket_file::SocketFile;
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
    Unix(SocketFile, Async<std::os::unix::net::UnixListener>),
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
    let mut places = Vec::with_capacity(addresses.0.len());
    for place in &addresses.0 {
        let mut tls = acceptor.clone();
        let mut pathname = None;
        let target = match place {
            Place::Unix(path) => Target::Unix(path),
            Place::Socket(address) => Target::Tcp(address.to_string(), vec![*address]),
            Place::Name(host, port) => look_up(&parse_listening_host(host, *port)?, *port).await?,
            Place::Text(text) => {
                let (url, is_url) = parse_place(text)?;
                match (is_url, url.tls) {
                    (true, true) if tls.is_none() => return Err(OptionsError::NoCertificate.into()),
                    (true, false) => tls = None,
                    _ => {}
                }
                pathname = (url.pathname != "/").then_some(url.pathname);
                look_up(&url.host, url.port).await?
            }
        };
        places.push((target, tls, pathname));
    }
    if places.is_empty() {
        return Err(Error::options(
            OptionsError::NoAddress,
            "a server needs at least one address to listen on",
        ));
    }
    let v4_ports: Vec<_> = places.iter().flat_map(|(target, ..)| target.v4_ports()).collect();
    let mut listeners = Vec::with_capacity(places.len());
    for (target, tls, pathname) in places {
        let io = match target {
            Target::Unix(path) => bind_unix(path, options).await?,
            Target::Tcp(name, addresses) => bind_tcp(&addresses, &name, &v4_ports, options)?,
        };
        listeners.push(Arc::new(Listener { io, tls, nodelay: options.nodelay, pathname }));
    }
    Ok(listeners)
}

/// A place to listen on, with its addresses resolved.
enum Target<'a> {
    Unix(&'a std::path::Path),
    /// The name for errors, and the addresses, of which the first usable one is bound.
    Tcp(String, Vec<SocketAddr>),
}

impl Target<'_> {
    fn v4_ports(&self) -> impl Iterator<Item = u16> {
        let addresses: &[SocketAddr] = match self {
            Self::Unix(_) => &[],
            Self::Tcp(_, addresses) => addresses,
        };
        addresses.iter().filter(|address| address.is_ipv4()).map(SocketAddr::port)
    }
}

async fn look_up(host: &str, port: u16) -> Result<Target<'static>, Error> {
    let lookup = super::dns::resolve(host, port).await?;
    let name = match lookup.addresses.first() {
        // An IPv6 address gets brackets.
        Some(address) if !lookup.asked => address.to_string(),
        _ => format!("{host}:{port}"),
    };
    Ok(Target::Tcp(name, lookup.addresses))
}

/// Listens on the first of the addresses that can be.
fn bind_tcp(
    addresses: &[SocketAddr],
    place: &str,
    v4_ports: &[u16],
    options: &ServerOptions,
) -> Result<Io, Error> {
    let mut failure = None;
    for address in addresses {
        match listen(*address, v4_ports, options) {
            Ok(listener) => return Ok(Io::Tcp(listener)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(cannot_listen(place, &failure.unwrap_or_else(|| io::ErrorKind::NotFound.into())))
}

fn cannot_listen(place: &str, error: &io::Error) -> Error {
    Error::Listen(io::Error::new(error.kind(), format!("{place}: {error}")).into())
}

/// Listens on one address. `v4_ports` are the ports of the IPv4 addresses in the same list.
fn listen(address: SocketAddr, v4_ports: &[u16], options: &ServerOptions) -> io::Result<Async<TcpListener>> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows it would let another program take the address over.
    socket.set_reuse_address(options.reuse_address && !cfg!(windows))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` accepts both families whatever the system's default is, except if IPv4 has its own socket for this
        // port: two sockets cannot listen on the same address. Some systems have no sockets for both families.
        let v6_only = address.port() != 0 && v4_ports.contains(&address.port());
        let set = socket.set_only_v6(v6_only);
        if v6_only {
            set?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Async::new(socket.into())
}

fn backlog(options: &ServerOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

#[cfg(unix)]
async fn bind_unix(path: &std::path::Path, options: &ServerOptions) -> Result<Io, Error> {
    let listen = async {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let file = SocketFile::bind(&socket, path, options.reuse_address).await?;
        socket.listen(backlog(options))?;
        Ok(Io::Unix(file, Async::new(socket.into())?))
    };
    listen.await.map_err(|error: io::Error| cannot_listen(&path.to_string_lossy(), &error))
}

#[cfg(not(unix))]
#[expect(clippy::unused_async, reason = "the other one waits for a lock")]
async fn bind_unix(path: &std::path::Path, _: &ServerOptions) -> Result<Io, Error> {
    Err(cannot_listen(&path.to_string_lossy(), &io::ErrorKind::Unsupported.into()))
}

impl Listener {
    /// Accepts a client, or fails with [`io::ErrorKind::WouldBlock`] if none has arrived. The inner error belongs to
    /// the accepted connection and says nothing about the listener.
    pub(crate) fn accept(&self) -> io::Result<io::Result<Connected>> {
        Ok(match &self.io {
            Io::Tcp(listener) => listener.get_ref().accept().map(|(stream, _)| self.accepted_tcp(stream))?,
            #[cfg(unix)]
            Io::Unix(_, listener) => listener.get_ref().accept().map(|(stream, _)| accepted_unix(stream))?,
        })
    }

    fn accepted_tcp(&self, stream: TcpStream) -> io::Result<Connected> {
        let stream = Arc::new(Async::new(stream)?);
        // The client may have gone already; the next read or write reports that.
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
            Io::Unix(_, listener) => Box::pin(listener.readable()),
        }
    }

    /// Encrypts the connection, where that is what this is for.
    pub(crate) async fn secure(&self, plain: Connected, deadline: Deadline) -> Result<Connected, Failure> {
        let Some(acceptor) = &self.tls else { return Ok(plain) };
        let mut is_probe = false;
        // Boxed, so that plain connections need no room for it.
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

    /// Stops listening, even if the listener is still referenced elsewhere. Removes the file of a unix socket.
    pub(crate) fn shut(&self) {
        // Some systems know no such thing; then the last of those who wait ends it.
        let _ = match &self.io {
            Io::Tcp(listener) => SockRef::from(listener.get_ref()).shutdown(Shutdown::Both),
            #[cfg(unix)]
            Io::Unix(file, listener) => {
                file.remove();
                SockRef::from(listener.get_ref()).shutdown(Shutdown::Both)
            }
        };
    }
}

/// Prints the place as errors name it.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.io {
            Io::Tcp(listener) => match listener.get_ref().local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a TCP socket"),
            },
            #[cfg(unix)]
            Io::Unix(file, _) => file.path().display().fmt(f),
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
