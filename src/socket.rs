//! What a caller can learn of the socket under a connection, and do to it.

use std::{
    fmt, io,
    net::{Shutdown, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use socket2::SockRef;

use crate::{
    error::Error,
    options::{Settings, TlsVersion},
    redact::Excerpt,
};

/// The limit of unsent bytes in the system's buffer, where the peer is judged by its Pongs. Without it the system
/// buffers 4 MB, and a Ping reaches a peer that reads 400 KB/s 7 s late (measured).
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 128 << 10;

/// What a socket of any kind can be asked for.
pub(crate) trait Handle: fmt::Debug + Send + Sync {
    fn as_socket(&self) -> SockRef<'_>;

    fn peer_addr(&self) -> Option<SocketAddr>;

    fn local_addr(&self) -> Option<SocketAddr>;

    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    fn nodelay(&self) -> io::Result<bool>;

    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;
}

/// A handle to the socket under a connection, from [`Response::socket`](crate::Response::socket) or
/// [`Request::socket`](crate::Request::socket). It is weak: the
/// socket lives as long as the connection does, whoever has a handle. Two handles are equal when they are of the
/// same connection.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Error, Options, connect};
///
/// # async fn run() -> Result<(), Error> {
/// let (response, read, write) = connect(Options::from_url("ws://localhost:8080/")?).await?;
/// if let Some(socket) = response.socket() {
///     println!("connected to {:?}", socket.peer_addr());
/// }
/// # let _ = (read, write);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Socket {
    handle: Weak<dyn Handle>,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    tls: Option<Arc<TlsInfo>>,
}

impl Socket {
    pub(crate) fn new<H: Handle + 'static>(handle: &Arc<H>) -> Self {
        let (peer, local) = (handle.peer_addr(), handle.local_addr());
        // Not the shorter way, which would make it a strong one first.
        let handle: Weak<H> = Arc::downgrade(handle);
        Self { handle, peer, local, tls: None }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, tls: TlsInfo) -> Self {
        Self { tls: Some(tls.into()), ..self }
    }

    /// The address of the other end, also once the connection is gone. `None` for a unix socket.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The address of this end, also once the connection is gone. `None` for a unix socket.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What was agreed on in TLS. `None`: the connection is not encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_deref()
    }

    /// Whether the socket is still there. It may have been shut down.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.handle.strong_count() > 0
    }

    /// Shuts the socket down, under the halves and without a Close frame: what was sent before is still
    /// delivered, what comes afterwards is not. To end a connection in order, send a Close.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the connection is gone, [`Error::Io`] where the system refuses.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        Ok(self.handle()?.shutdown(how)?)
    }

    /// Whether small writes go out at once, which is how [`connect`](crate::connect) sets the socket up
    /// (`TCP_NODELAY`). Always so for a unix socket.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the connection is gone, [`Error::Io`] where the system refuses.
    pub fn nodelay(&self) -> Result<bool, Error> {
        Ok(self.handle()?.nodelay()?)
    }

    /// Chooses whether small writes go out at once (`TCP_NODELAY`). Nothing changes for a unix socket.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the connection is gone, [`Error::Io`] where the system refuses.
    pub fn set_nodelay(&self, nodelay: bool) -> Result<(), Error> {
        Ok(self.handle()?.set_nodelay(nodelay)?)
    }

    /// Limits the bytes that the system buffers in front of a Ping, where the peer is judged by its Pong. Unix sockets
    /// and most systems cannot do that. The rule works there too, because the allowance for a slow peer counts buffered
    /// bytes.
    pub(crate) fn prepare_for(&self, settings: &Settings) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if settings.judges_peer()
            && let Ok(handle) = self.handle()
        {
            let _ = handle.as_socket().set_tcp_notsent_lowat(MAX_UNSENT);
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (self, settings);
    }

    fn handle(&self) -> Result<Arc<dyn Handle>, Error> {
        self.handle.upgrade().ok_or(Error::Closed(None))
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.handle, &other.handle)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("alive", &self.is_alive())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// The TLS parameters of a connection, from [`Socket::tls`]. `Debug` shows how long each certificate is, not its bytes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version.
    pub version: TlsVersion,
    /// The name of the cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: String,
    /// The protocol that the server chose from [`Tls::alpn`](crate::Tls::alpn), with TLS 1.2 only. `None`: the server
    /// chose none, or the version is TLS 1.3, where the choice is encrypted and async-tls does not report it.
    pub alpn: Option<Vec<u8>>,
    /// The certificates that the client has shown and the server has verified, in DER, the client's own first. Only a
    /// server that [asks for them](crate::ServerTls::client_ca_file) knows them; empty: there are none.
    pub client_certificates: Vec<Vec<u8>>,
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cipher_suite, alpn, client_certificates } = self;
        let lengths: Vec<_> = client_certificates.iter().map(|certificate| certificate.len()).collect();
        f.debug_struct("TlsInfo")
            .field("version", version)
            .field("cipher_suite", cipher_suite)
            .field("alpn", &alpn.as_deref().map(Excerpt))
            .field("client_certificates", &format_args!("{lengths:?} bytes"))
            .finish()
    }
}

/// How long each step to a connection took, from [`Response::timings`](crate::Response::timings).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// The lookup of the host. `None`: it is an address, or there was none to look up.
    pub dns: Option<Duration>,
    /// The connection of the socket. `None`: the transport is the caller's.
    pub connect: Option<Duration>,
    /// TLS. `None`: there is none, or it is the caller's.
    pub tls: Option<Duration>,
    /// The time from the request to the response. `None`: no complete response arrived.
    pub handshake: Option<Duration>,
}
