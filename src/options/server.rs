//! What a server can choose: for all connections, and for one.

use std::{fmt, sync::Arc, time::Duration};

use crate::redact::HeaderLines;

use super::{Checks, Deflate, HANDSHAKE_TIMEOUT, HeadLimits, Heartbeat, Role, Settings, connection_setters};

/// Setters of what holds for each opening handshake and connection of a server. The argument is the field that has
/// the [`AcceptOptions`], if it is not they themselves.
macro_rules! accept_setters {
    ($($accept:ident)?) => {
        /// How long the whole opening handshake may take. Default: 10 seconds. `None`: for ever. Zero: only what
        /// needs no waiting succeeds.
        #[must_use]
        pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
            self.$($accept.)?timeout = timeout.into();
            self
        }

        /// The most bytes that the head of a request may have. Default: 16 KiB. Zero: every request is too large.
        #[must_use]
        pub fn max_head_len(mut self, bytes: usize) -> Self {
            self.$($accept.)?limits.max_len = bytes;
            self
        }

        /// The most headers that a request may have; those with the same name count one by one. Default: 64.
        /// Zero: every request has too many.
        #[must_use]
        pub fn max_headers(mut self, headers: usize) -> Self {
            self.$($accept.)?limits.max_headers = headers;
            self
        }

        /// Which pages may connect. Default: [`Origins::same`].
        #[must_use]
        pub fn origins(mut self, origins: Origins) -> Self {
            self.$($accept.)?origins = origins;
            self
        }

        /// Adds a subprotocol that the server speaks
        /// ([RFC 6455 §1.9](https://www.rfc-editor.org/rfc/rfc6455#section-1.9)). Default: none, and whatever a
        /// client offers, none is chosen.
        #[must_use]
        pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
            self.$($accept.)?subprotocols.push(subprotocol.into());
            self
        }

        /// Adds subprotocols that the server speaks. The first one that the client offers too is chosen, unless
        /// [`Accept::subprotocol`](crate::Accept::subprotocol) chooses another.
        #[must_use]
        pub fn subprotocols<I>(mut self, subprotocols: I) -> Self
        where
            I: IntoIterator<Item: Into<String>>,
        {
            self.$($accept.)?subprotocols.extend(subprotocols.into_iter().map(Into::into));
            self
        }

        /// Whether a client with which no subprotocol is agreed on is refused, with 400 and the names of those that are
        /// spoken here. Default: `false`, the connection opens without one.
        #[must_use]
        pub fn require_subprotocol(mut self, required: bool) -> Self {
            self.$($accept.)?require_subprotocol = required;
            self
        }

        /// Chooses the subprotocol by a function instead: it gets those that the client offers, the preferred ones
        /// first, and gives one of them, or none. It is asked where the client offers any and [`Accept::subprotocol`](crate::Accept::subprotocol)
        /// has not chosen. Default: the first of the list.
        #[must_use]
        pub fn choose_subprotocol(
            mut self,
            choose: impl Fn(&[&str]) -> Option<String> + Send + Sync + 'static,
        ) -> Self {
            self.$($accept.)?choose_subprotocol = SubprotocolChoice(Some(Arc::new(choose)));
            self
        }

        /// Accepts compression ([RFC 7692](https://www.rfc-editor.org/rfc/rfc7692)) where the client offers it.
        /// Default: none is accepted. With [`Checks::Off`] frames pass as they are, compressed or not.
        #[cfg(feature = "deflate")]
        #[must_use]
        pub fn deflate(mut self, deflate: Deflate) -> Self {
            self.$($accept.)?settings.deflate = Some(deflate);
            self
        }

        $crate::options::connection_setters!($($accept.)?settings);
    };
}
pub(crate) use accept_setters;

/// How a server reads requests and what holds for the connections that it accepts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coro_websocket::{AcceptOptions, Origins};
///
/// let options = AcceptOptions::default()
///     .timeout(Duration::from_secs(5))
///     .origins(Origins::list(["https://example.com"]))
///     .subprotocols(["chat.v2", "chat.v1"]);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: HeadLimits,
    pub(crate) origins: Origins,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) choose_subprotocol: SubprotocolChoice,
    pub(crate) require_subprotocol: bool,
    pub(crate) settings: Settings,
}

impl Default for AcceptOptions {
    /// As each setter says; the heartbeat is a Ping every 120 seconds.
    fn default() -> Self {
        let heartbeat = Some(Heartbeat::ping(Duration::from_secs(120)));
        Self {
            timeout: Some(HANDSHAKE_TIMEOUT),
            limits: HeadLimits::default(),
            origins: Origins::default(),
            subprotocols: Vec::new(),
            choose_subprotocol: SubprotocolChoice::default(),
            require_subprotocol: false,
            settings: Settings { heartbeat, ..Settings::new(Role::Server) },
        }
    }
}

impl AcceptOptions {
    accept_setters!();
}

type ChooseSubprotocol = dyn Fn(&[&str]) -> Option<String> + Send + Sync;

/// A function that chooses among the subprotocols that a client offers, if there is one.
#[derive(Clone, Default)]
pub(crate) struct SubprotocolChoice(pub(crate) Option<Arc<ChooseSubprotocol>>);

impl fmt::Debug for SubprotocolChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(_)" } else { "None" })
    }
}

/// Which pages may connect from a browser, by the `Origin` of the request
/// ([RFC 6455 §10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2)).
///
/// A browser lets any page open a WebSocket to any server, with the cookies of that server: who does not look
/// at `Origin` lets other pages act as the user. A request without `Origin` does not come from a page and
/// passes.
///
/// # Examples
///
/// ```
/// use coro_websocket::Origins;
///
/// let listed = Origins::list(["https://example.com", "https://example.com:8443"]);
/// let ours = Origins::predicate(|origin, _| origin == "https://a.example.com");
/// # let _ = (listed, ours);
/// ```
#[derive(Clone, Default)]
pub struct Origins(Policy);

#[derive(Clone, Default)]
pub(crate) enum Policy {
    #[default]
    Same,
    Any,
    List(Vec<String>),
    Predicate(Predicate),
}

type Predicate = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

impl Origins {
    /// Allows pages of the server itself: the host and port of `Origin` must equal those of
    /// [`Request::host`](crate::Request::host); a default port may be left out. This is the default. Forwarded headers
    /// are never trusted, so a proxy must pass `Host` on.
    #[must_use]
    pub fn same() -> Self {
        Self(Policy::Same)
    }

    /// Every page. Only for servers that do not know their users by cookies, client certificates or network.
    #[must_use]
    pub fn any() -> Self {
        Self(Policy::Any)
    }

    /// Allows only these pages:
    ///
    /// | entry | pages |
    /// | --- | --- |
    /// | `https://example.com`, `http://[::1]:8080` | of this scheme, host and port; without a port: the default one |
    /// | `https://*.example.com` | of every subdomain, however deep, but not of `example.com` itself; with a port after it or without, as above |
    /// | `http://localhost:*` | at every port; also with `*.` in front |
    /// | `null` | whose origin is opaque: sandboxed frames, files in most browsers. **Any page can make such a frame**, so allow it only where users are not known by cookies |
    /// | `file://` | that are files, in `WebView`s; likewise for other schemes without a host |
    ///
    /// An entry of another form, such as one with a path or a `*` elsewhere, is
    /// [`OptionsError::Origin`](crate::OptionsError::Origin), with that entry, when the server is bound.
    #[must_use]
    pub fn list<I>(origins: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        Self(Policy::List(origins.into_iter().map(Into::into).collect()))
    }

    /// Allows the pages for which the function returns `true`. Its arguments are the value of `Origin` and
    /// [`Request::host`](crate::Request::host).
    #[must_use]
    pub fn predicate(allows: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Policy::Predicate(Arc::new(allows)))
    }

    pub(crate) const fn policy(&self) -> &Policy {
        &self.0
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Policy::Same => f.write_str("Origins::same()"),
            Policy::Any => f.write_str("Origins::any()"),
            Policy::List(origins) => write!(f, "Origins::list({origins:?})"),
            Policy::Predicate(_) => f.write_str("Origins::predicate(_)"),
        }
    }
}

/// How one connection is accepted, by [`Upgrade::accept`](crate::Upgrade::accept). Every setting that is not
/// made here stays as in [`AcceptOptions`], whose defaults are those named below. `Debug` does not show the values of
/// `Set-Cookie`, `Cookie`, `Authorization` and `Proxy-Authorization`.
///
/// # Examples
///
/// ```
/// use coro_websocket::Accept;
/// let accept = Accept::default().subprotocol("chat").header("Set-Cookie", "id=1").max_message_len(1 << 20);
/// # let _ = accept;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Accept {
    pub(crate) subprotocol: Option<String>,
    pub(crate) headers: HeaderLines,
    settings: Overrides,
}

impl Accept {
    /// The subprotocol to speak, one of those that the client offers
    /// ([RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2)). Default: the first of
    /// [`AcceptOptions::subprotocols`] that the client offers.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
        self.subprotocol = Some(subprotocol.into());
        self
    }

    /// Adds a header to the answer; order and duplicates are kept. What the handshake itself is made of
    /// (`Connection`, `Upgrade`, `Sec-WebSocket-*`, `Content-Length`, `Transfer-Encoding`) is an error.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds headers to the answer, as [`header`](Self::header) does.
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

    /// Accepts compression as [`AcceptOptions::deflate`] does, or, with `None`, not.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.settings.deflate = Some(deflate.into());
        self
    }

    connection_setters!(settings, Some);

    /// The settings of the server with those of this connection in their place.
    pub(crate) fn settings(&self, server: &Settings) -> Settings {
        let own = &self.settings;
        Settings {
            role: server.role,
            mask: server.mask,
            checks: own.checks.unwrap_or(server.checks),
            auto_pong: own.auto_pong.unwrap_or(server.auto_pong),
            max_frame_len: own.max_frame_len.unwrap_or(server.max_frame_len),
            max_message_len: own.max_message_len.unwrap_or(server.max_message_len),
            write_buffer_len: own.write_buffer_len.unwrap_or(server.write_buffer_len),
            close_timeout: own.close_timeout.unwrap_or(server.close_timeout),
            heartbeat: own.heartbeat.unwrap_or(server.heartbeat),
            deflate: own.deflate.unwrap_or(server.deflate),
        }
    }
}

/// The settings that one connection has of its own.
#[derive(Debug, Clone, Default)]
struct Overrides {
    checks: Option<Checks>,
    auto_pong: Option<bool>,
    max_frame_len: Option<usize>,
    max_message_len: Option<usize>,
    write_buffer_len: Option<usize>,
    close_timeout: Option<Duration>,
    heartbeat: Option<Option<Heartbeat>>,
    deflate: Option<Option<Deflate>>,
}
