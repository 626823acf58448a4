//! What can be chosen for a listening server, and where it listens.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{error::Error, redact::hide_secrets};

#[cfg(feature = "deflate")]
use super::Deflate;
use super::{
    AcceptOptions, Checks, Heartbeat, Origins, ServerTls,
    server::{SubprotocolChoice, accept_setters},
};

/// How a [`Server`](crate::Server) listens, how it reads requests, and what holds for the connections that it
/// accepts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coro_websocket::{Heartbeat, ServerOptions, ServerTls};
///
/// let options = ServerOptions::default()
///     .tls(ServerTls::files("fullchain.pem", "privkey.pem"))
///     .heartbeat(Heartbeat::ping(Duration::from_secs(30)))
///     .max_message_len(1 << 20)
///     .max_connections(10_000);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub(crate) accept: AcceptOptions,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) backlog: u32,
    pub(crate) reuse_address: bool,
    pub(crate) nodelay: bool,
    pub(crate) max_handshakes: usize,
    pub(crate) max_connections: usize,
    pub(crate) on_failure: OnFailure,
}

impl Default for ServerOptions {
    /// As each setter says; the heartbeat is a Ping every 120 seconds.
    fn default() -> Self {
        Self {
            accept: AcceptOptions::default(),
            tls: None,
            backlog: 1024,
            reuse_address: true,
            nodelay: true,
            max_handshakes: 16 << 10,
            max_connections: usize::MAX,
            on_failure: OnFailure::default(),
        }
    }
}

impl From<AcceptOptions> for ServerOptions {
    /// The default, but for what concerns opening handshakes and connections.
    fn from(accept: AcceptOptions) -> Self {
        Self { accept, ..Self::default() }
    }
}

impl ServerOptions {
    /// The certificate and key with which connections are encrypted. Default: none, they are not. An address that
    /// is a `ws` URL stays without, one that is a `wss` URL demands this.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How many connections may wait, for each address, until they are accepted; the system has a limit of its own.
    /// Default: 1024.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether an address can be bound while connections of a server that was there before linger
    /// (`SO_REUSEADDR`). Default: `true`, but on Windows, where it would mean something else and is not set.
    ///
    /// The file of a unix socket is replaced if no socket is bound to it any more. A file that a process of this
    /// machine has bound is left alone, even if that process does not listen yet. A socket of another machine, in a
    /// shared folder, looks like an abandoned one. The folder is locked (`flock`) during the replacement, so that two
    /// servers of this crate do not replace each other's file. A program that replaces the file at the same moment
    /// without this lock is not noticed.
    #[must_use]
    pub fn reuse_address(mut self, reuse: bool) -> Self {
        self.reuse_address = reuse;
        self
    }

    /// Whether small writes go out at once (`TCP_NODELAY`). Default: `true`.
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// The most connections whose TLS handshake or request is not complete. Further ones wait to be accepted.
    /// Default: 16,384. Zero: nobody is accepted.
    #[must_use]
    pub fn max_handshakes(mut self, connections: usize) -> Self {
        self.max_handshakes = connections;
        self
    }

    /// The most connections at once, those in the opening handshake too. Further ones wait to be accepted. A
    /// connection counts until both of its halves are dropped. Default: as many as the system allows. Zero: nobody
    /// is accepted.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets a callback for errors that no call returns, for a log: connections that
    /// [`Server::accept`](crate::Server::accept) took and that did not become WebSockets, with the address of the
    /// client; failures to accept, with the listening address; errors of handlers. It is not called for connections
    /// that end before their first byte, or after TLS before the first byte of a request, such as health checks. A
    /// panic in the callback ends only that call. Default: no callback.
    #[must_use]
    pub fn on_failure(mut self, see: impl Fn(Option<SocketAddr>, &Error) + Send + Sync + 'static) -> Self {
        self.on_failure = OnFailure(Some(Arc::new(see)));
        self
    }

    accept_setters!(accept);
}

type SeeFailure = dyn Fn(Option<SocketAddr>, &Error) + Send + Sync;

/// Who sees failures.
#[derive(Clone, Default)]
pub(crate) struct OnFailure(Option<Arc<SeeFailure>>);

impl OnFailure {
    pub(crate) fn call(&self, peer: Option<SocketAddr>, error: &Error) {
        if let Some(see) = &self.0 {
            // Such as of one who prints to what has been closed: nobody else is to suffer from it.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| see(peer, error)));
        }
    }
}

impl fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(_)" } else { "None" })
    }
}

/// Where a [`Server`](crate::Server) listens: one place or several.
///
/// | from | place |
/// | --- | --- |
/// | text | `host:port`; or a `ws` or `wss` URL. With a path other than `/`, [`Server::accept`](crate::Server::accept) answers other paths with 404 |
/// | [`SocketAddr`], `(IpAddr, port)`, `(host, port)` | that address; port 0: the system chooses one |
/// | [`Path`], [`PathBuf`] | a unix socket |
/// | an array or vector of these | all of them |
///
/// A name that has several addresses is bound to the first that can be.
///
/// `[::]:port` accepts IPv4 and IPv6, whatever the system's default is; IPv4 clients then have mapped addresses such as
/// `::ffff:192.0.2.1`. If the list contains an IPv4 address with the same port, as in `["0.0.0.0:443", "[::]:443"]`,
/// `[::]` accepts IPv6 only, and each family has its own socket. On systems without sockets for both families it always
/// accepts IPv6 only.
///
/// # Examples
///
/// ```no_run
/// use std::path::Path;
/// use coro_websocket::{Addresses, Error, Server, ServerOptions};
///
/// # async fn run() -> Result<(), Error> {
/// let server = Server::bind("127.0.0.1:8080", ServerOptions::default()).await?;
/// let both = Server::bind(["0.0.0.0:8081", "[::]:8082"], ServerOptions::default()).await?;
/// let local = Server::bind(Path::new("/run/chat.socket"), ServerOptions::default()).await?;
/// # let _ = (server, both, local);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub(crate) Vec<Place>);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `host:port`, or a URL.
    Text(String),
    Name(String, u16),
    Socket(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // User information is not allowed here, so an address that contains it must not show it.
            Self::Text(text) => hide_secrets(text).fmt(f),
            Self::Name(host, port) => (host, port).fmt(f),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

impl From<Place> for Addresses {
    fn from(place: Place) -> Self {
        Self(vec![place])
    }
}

impl From<&str> for Addresses {
    fn from(text: &str) -> Self {
        Place::Text(text.to_owned()).into()
    }
}

impl From<String> for Addresses {
    fn from(text: String) -> Self {
        Place::Text(text).into()
    }
}

impl From<&String> for Addresses {
    fn from(text: &String) -> Self {
        Place::Text(text.clone()).into()
    }
}

impl From<(&str, u16)> for Addresses {
    fn from((host, port): (&str, u16)) -> Self {
        Place::Name(host.to_owned(), port).into()
    }
}

impl From<(String, u16)> for Addresses {
    fn from((host, port): (String, u16)) -> Self {
        Place::Name(host, port).into()
    }
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        Place::Socket(address).into()
    }
}

impl From<(IpAddr, u16)> for Addresses {
    fn from(address: (IpAddr, u16)) -> Self {
        Place::Socket(address.into()).into()
    }
}

impl From<&Path> for Addresses {
    fn from(path: &Path) -> Self {
        Place::Unix(path.to_owned()).into()
    }
}

impl From<PathBuf> for Addresses {
    fn from(path: PathBuf) -> Self {
        Place::Unix(path).into()
    }
}

impl<T: Into<Self>> FromIterator<T> for Addresses {
    fn from_iter<I: IntoIterator<Item = T>>(places: I) -> Self {
        Self(places.into_iter().flat_map(|places| places.into().0).collect())
    }
}

impl<T: Into<Self>> From<Vec<T>> for Addresses {
    fn from(places: Vec<T>) -> Self {
        places.into_iter().collect()
    }
}

impl<T: Into<Self>, const N: usize> From<[T; N]> for Addresses {
    fn from(places: [T; N]) -> Self {
        places.into_iter().collect()
    }
}
