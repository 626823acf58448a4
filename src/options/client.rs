//! What a client can choose.

use std::{fmt, path::PathBuf, time::Duration};

use crate::redact::HeaderLines;

use super::{
    Checks, Deflate, HANDSHAKE_TIMEOUT, HeadLimits, Heartbeat, Role, Settings, Tls, connection_setters,
};

/// Where a client connects to, what it asks for and how. Names are those of coro-websocket.
///
/// Nothing is checked before it is used: [`connect`](crate::connect) and [`connect_io`](crate::connect_io) give
/// [`Error::Options`](crate::Error::Options) before a byte is sent. `Debug` does not show passwords, nor the values of
/// `Authorization`, `Proxy-Authorization`, `Cookie` and `Set-Cookie`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coro_websocket::Options;
///
/// let options = Options::default()
///     .host("example.com")
///     .tls(true)
///     .pathname("/chat?room=1")
///     .subprotocols(["chat.v2", "chat.v1"])
///     .header("Authorization", "Bearer token")
///     .timeout(Duration::from_secs(5));
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) path: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) already_encrypted: bool,
    pub(crate) pathname: String,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) headers: HeaderLines,
    pub(crate) timeout: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) limits: HeadLimits,
    /// What is offered, the preferred first.
    pub(crate) deflate: Vec<Deflate>,
    pub(crate) settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            host: None,
            port: None,
            tls: None,
            already_encrypted: false,
            pathname: String::from("/"),
            credentials: None,
            subprotocols: Vec::new(),
            headers: HeaderLines::default(),
            timeout: Some(HANDSHAKE_TIMEOUT),
            connect_timeout: None,
            limits: HeadLimits::default(),
            deflate: Vec::new(),
            settings: Settings::new(Role::Client),
        }
    }
}

impl Options {
    /// The path of a unix socket, used only when neither host nor port is set. Default: none.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The host: a name, an IPv4 address, or an IPv6 address with or without brackets. Default: `127.0.0.1`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The port, from 1. Default: 80, or 443 with TLS.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Whether the connection is encrypted, and how: `true` is [`Tls::default`], the usual verification. Default:
    /// `false`, but for `wss` URLs.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro_websocket::{Options, Tls};
    ///
    /// let options = Options::from_url("wss://localhost/")?.tls(Tls::default().ca_file("ca.pem"));
    /// # let _ = options;
    /// # Ok::<(), coro_websocket::Error>(())
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into()).filter(|tls| !tls.off).map(Box::new);
        self
    }

    /// States that the transport given to [`connect_io`](crate::connect_io) is encrypted already. Without this,
    /// `connect_io` rejects a `wss` URL and [`tls`](Self::tls) with
    /// [`OptionsError::NotEncrypted`](crate::OptionsError::NotEncrypted), because it does not encrypt. With this, it
    /// ignores the settings of `tls`. [`connect`](crate::connect) ignores this and encrypts as `tls` says.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro_websocket::{Error, Options, connect_io};
    /// use futures::io::{AsyncRead, AsyncWrite};
    ///
    /// // `tls` is a stream of a TLS library, after its handshake with example.com.
    /// async fn open(tls: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
    ///     let (read, write) = futures::io::AsyncReadExt::split(tls);
    ///     let options = Options::from_url("wss://example.com/chat")?.already_encrypted();
    ///     let (response, read, write) = connect_io(read, write, options).await?;
    ///     # let _ = (response, read, write);
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn already_encrypted(mut self) -> Self {
        self.already_encrypted = true;
        self
    }

    /// The resource name: the path with the query, as it stands in the request
    /// ([RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3)). Default: `/`, which is also added
    /// where it is missing at the start. What may not stand there must be percent-encoded already.
    #[must_use]
    pub fn pathname(mut self, pathname: impl Into<String>) -> Self {
        self.pathname = pathname.into();
        self
    }

    /// A user name without a colon and a password, sent as Basic authentication ([RFC
    /// 7617](https://www.rfc-editor.org/rfc/rfc7617)) unless there is an `Authorization` among the headers.
    /// Default: none. `Debug` does not show the password.
    #[must_use]
    pub fn basic_auth(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials { username: username.into(), password: password.into() });
        self
    }

    /// Offers one more subprotocol ([RFC 6455 §1.9](https://www.rfc-editor.org/rfc/rfc6455#section-1.9)).
    /// Default: none is offered. A server need not choose any.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
        self.subprotocols.push(subprotocol.into());
        self
    }

    /// Offers more subprotocols, the preferred ones first.
    #[must_use]
    pub fn subprotocols<I>(mut self, subprotocols: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.subprotocols.extend(subprotocols.into_iter().map(Into::into));
        self
    }

    /// Adds a header to the request; order and duplicates are kept. `Host` and `Authorization` replace ours;
    /// what the handshake itself is made of (`Connection`, `Upgrade`, `Sec-WebSocket-*`, `Content-Length`,
    /// `Transfer-Encoding`) is an error.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds headers to the request, as [`header`](Self::header) does.
    #[must_use]
    pub fn headers<I, N, V>(mut self, headers: I) -> Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: Into<String>,
        V: Into<String>,
    {
        self.headers.extend(headers.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// How long it may take until the connection is open, all steps together. Default: 10 seconds. `None`:
    /// for ever. Zero: only what needs no waiting succeeds.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How long it may take until the socket is connected, all addresses together, within
    /// [`timeout`](Self::timeout): from when the addresses are known to when one of them has answered. Default:
    /// `None`, as long as the whole. Zero: only what needs no waiting succeeds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = timeout.into();
        self
    }

    /// The most bytes that the head of the response may have, and as many again of the body of a refusal are
    /// kept. Default: 16 KiB. Zero: every response is too large.
    #[must_use]
    pub fn max_head_len(mut self, bytes: usize) -> Self {
        self.limits.max_len = bytes;
        self
    }

    /// The most headers that the response may have; those with the same name count one by one. Default: 64.
    /// Zero: every response has too many.
    #[must_use]
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.limits.max_headers = headers;
        self
    }

    /// Offers compression ([RFC 7692](https://www.rfc-editor.org/rfc/rfc7692)), whose server decides. Default:
    /// none is offered. Called again, it makes another offer, for a server that declines those before. With
    /// [`Checks::Off`] frames pass as they are, compressed or not.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate.push(deflate);
        self
    }

    connection_setters!(settings);
}

/// A user name and a password for Basic authentication.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Describes which part breaks RFC 7617 §2 (no colon in the user name, no control characters in either), without
    /// showing it.
    pub(crate) fn find_fault(username: &str, password: &str) -> Option<&'static str> {
        if username.contains(':') {
            Some("the user name contains a colon, which Basic authentication cannot carry")
        } else if username.chars().any(char::is_control) {
            Some("the user name contains a control character")
        } else if password.chars().any(char::is_control) {
            Some("the password contains a control character")
        } else {
            None
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A user name without a password is often a token.
        if self.password.is_empty() {
            f.write_str("…")
        } else {
            write!(f, "{:?} with a password", self.username)
        }
    }
}
