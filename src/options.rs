//! What can be chosen for a connection: unit, default, meaning of zero and `None`.

use std::time::Duration;

use crate::error::{Error, OptionsError};

mod client;
#[cfg_attr(not(feature = "deflate"), path = "options/no_deflate.rs")]
mod deflate;
mod listen;
mod server;
mod tls;

pub(crate) use client::Credentials;
pub use client::Options;
pub(crate) use deflate::encode_offers;
#[cfg(feature = "deflate")]
pub(crate) use deflate::names as deflate_names;
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::{Deflate, DeflateParams};
#[cfg(feature = "deflate")]
pub use deflate::{Deflate, DeflateParams};
pub use listen::{Addresses, ServerOptions};
pub(crate) use listen::{OnFailure, Place};
pub(crate) use server::Policy;
pub use server::{Accept, AcceptOptions, Origins};
#[cfg(feature = "tls")]
pub(crate) use tls::Pem;
pub use tls::{ServerTls, Tls, TlsVersion};

/// How much of an HTTP head is taken in before it is refused, on both sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Bytes, with the blank line that ends the head.
    pub(crate) max_len: usize,
    /// Header lines; those with the same name count one by one.
    pub(crate) max_headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_len: 16 << 10, max_headers: 64 }
    }
}

/// How long an opening handshake may take unless the caller says otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The end of a connection that one speaks for: a client masks its frames, a server does not
/// ([RFC 6455 §5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Role {
    /// The end that asked for the connection.
    Client,
    /// The end that accepted it.
    Server,
}

/// What happens when the peer breaks a rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Checks {
    /// The connection fails, as RFC 6455 demands: the peer gets a Close frame with the reason, the reader gets
    /// [`Error::Protocol`](crate::Error::Protocol), then the end.
    #[default]
    Strict,
    /// A violation that leaves the framing intact is yielded as [`Error::Reported`](crate::Error::Reported) with its
    /// frame, nothing is sent, and reading goes on. The frame remains part of its message, so that the message ends
    /// with its last fragment and later compressed messages can be inflated. If that is impossible, because fragments
    /// of several messages are mixed up or a compressed message is unreadable, the frames that depend on it are
    /// reported too. Frames are never yielded with content that the peer did not send.
    Report,
    /// Nothing is checked but the limit for one frame, nothing is answered and nothing is added, no heartbeat
    /// either: frames pass as they are, in both directions, for relays and inspection.
    Off,
}

/// A frame sent from time to time to keep a connection alive, and to notice that it is dead.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coro_websocket::Heartbeat;
///
/// let pong = Heartbeat::from(Duration::from_secs(30));
/// let ping = Heartbeat::ping(Duration::from_secs(30)).timeout(Duration::from_secs(10));
/// # let _ = (pong, ping);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    pub(crate) every: Duration,
    /// `Some` for Pings, which are answered; `None` for unsolicited Pongs, which are not.
    pub(crate) timeout: Option<Duration>,
}

impl Heartbeat {
    /// Sends an unsolicited Pong every interval, as coro-websocket does. It keeps middleboxes from dropping the
    /// connection, but no answer comes, so a dead peer is not noticed.
    #[must_use]
    pub const fn pong(every: Duration) -> Self {
        Self { every, timeout: None }
    }

    /// Sends a Ping every interval. A peer is dead if it gives no sign of life within the limit (the interval, unless
    /// [`timeout`](Self::timeout) sets another) plus an allowance: [`Read`](crate::Read) returns
    /// [`Error::TimedOut`](crate::Error::TimedOut).
    ///
    /// Signs of life are received bytes, and bytes that the transport takes after it had been full. The allowance is
    /// the time in which a peer reads, at 128 KiB a second, the bytes that were sent since the last answered Ping. At
    /// most 8 MiB count, the largest receive buffer expected in front of the Ping. A dead peer is found within
    /// interval, limit and allowance. After the machine was suspended, or when no half was polled for long, the peer
    /// gets one more interval.
    ///
    /// A Ping that follows 1 KiB or more of unanswered bytes carries 12 bytes: `beat`, and the number of bytes sent
    /// before it. Its Pong then tells how far the peer has read, even if the peer skips other Pings. Other Pings are
    /// empty. Their Pongs are yielded like all others.
    ///
    /// Only `Read` hears the peer, so only `Read` declares it dead, after a read that finds nothing. If no task reads,
    /// a writer that is blocked for the same time gets the error. A program that only writes should call
    /// [`Read::drive`](crate::Read::drive).
    #[must_use]
    pub const fn ping(every: Duration) -> Self {
        Self { every, timeout: Some(every) }
    }

    /// Sets how long the peer may be silent after a Ping; the allowance that [`ping`](Self::ping) describes is added.
    /// Only Pings are answered, so this turns a [`Heartbeat::pong`] into a [`Heartbeat::ping`].
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl From<Duration> for Heartbeat {
    /// The same as [`Heartbeat::pong`].
    fn from(every: Duration) -> Self {
        Self::pong(every)
    }
}

/// What holds for a connection once its opening handshake is done.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    pub(crate) checks: Checks,
    pub(crate) mask: Option<bool>,
    pub(crate) auto_pong: bool,
    pub(crate) max_frame_len: usize,
    pub(crate) max_message_len: usize,
    pub(crate) write_buffer_len: usize,
    pub(crate) close_timeout: Duration,
    pub(crate) heartbeat: Option<Heartbeat>,
    /// What was agreed on; before the opening handshake, what a server accepts.
    pub(crate) deflate: Option<Deflate>,
}

impl Settings {
    pub(crate) const fn new(role: Role) -> Self {
        Self {
            role,
            checks: Checks::Strict,
            mask: None,
            auto_pong: true,
            max_frame_len: 16 << 20,
            max_message_len: 64 << 20,
            write_buffer_len: 64 << 10,
            close_timeout: Duration::from_secs(5),
            heartbeat: None,
            deflate: None,
        }
    }

    /// Rejects a heartbeat whose interval or limit is zero, and compression that cannot be offered.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_heartbeat()?;
        self.deflate.as_ref().map_or(Ok(()), Deflate::check)
    }

    /// Rejects a heartbeat whose interval or limit is zero.
    pub(crate) fn check_heartbeat(&self) -> Result<(), Error> {
        match self.heartbeat {
            Some(beat) if beat.every.is_zero() || beat.timeout.is_some_and(|timeout| timeout.is_zero()) => {
                Err(OptionsError::Heartbeat.into())
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a peer without signs of life is declared dead.
    pub(crate) fn judges_peer(&self) -> bool {
        self.checks != Checks::Off && self.heartbeat.is_some_and(|heartbeat| heartbeat.timeout.is_some())
    }

    /// Whether frames are masked on the way out
    /// ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)).
    pub(crate) fn masks(&self) -> bool {
        self.mask.unwrap_or(self.role == Role::Client)
    }
}

/// Setters that every kind of options has, since each of them ends in a connection. The arguments are the field
/// that has the settings, and what turns a value into one of them: `Some`, where a setting that was not chosen must
/// be told from one that was.
macro_rules! connection_setters {
    ($($settings:ident).+) => {
        $crate::options::connection_setters!($($settings).+, std::convert::identity);
    };
    ($($settings:ident).+, $field:path) => {
        /// What happens when the peer breaks the protocol. Default: [`Checks::Strict`].
        #[must_use]
        pub fn checks(mut self, checks: Checks) -> Self {
            self.$($settings).+.checks = $field(checks);
            self
        }

        /// Whether Pings are answered by the reader. Default: `true`. With `false` each Ping is only yielded,
        /// and the caller sends the Pong.
        #[must_use]
        pub fn auto_pong(mut self, auto_pong: bool) -> Self {
            self.$($settings).+.auto_pong = $field(auto_pong);
            self
        }

        /// The most bytes that one frame may carry. Default: 16 MiB. A larger frame is refused when its header
        /// is read, before any of it is stored.
        #[must_use]
        pub fn max_frame_len(mut self, bytes: usize) -> Self {
            self.$($settings).+.max_frame_len = $field(bytes);
            self
        }

        /// The most bytes that one message may have in all its fragments, each of which counts for at least 64.
        /// Default: 64 MiB.
        #[must_use]
        pub fn max_message_len(mut self, bytes: usize) -> Self {
            self.$($settings).+.max_message_len = $field(bytes);
            self
        }

        /// The mark above which sending waits for the transport, in bytes of frames that are buffered. Default:
        /// 64 KiB. Zero: each frame waits until those before it are written.
        #[must_use]
        pub fn write_buffer_len(mut self, bytes: usize) -> Self {
            self.$($settings).+.write_buffer_len = $field(bytes);
            self
        }

        /// How long the closing handshake may take, from our Close frame to the end of the transport. Default:
        /// 5 seconds. Zero: the peer's answer is not awaited.
        #[must_use]
        pub fn close_timeout(mut self, timeout: Duration) -> Self {
            self.$($settings).+.close_timeout = $field(timeout);
            self
        }

        /// Keeps the connection alive. A plain [`Duration`] is a [`Heartbeat::pong`]. An interval or limit of
        /// zero is refused with [`OptionsError::Heartbeat`](crate::OptionsError::Heartbeat); one below a
        /// millisecond counts as one.
        #[must_use]
        pub fn heartbeat(mut self, heartbeat: impl Into<Heartbeat>) -> Self {
            self.$($settings).+.heartbeat = $field(Some(heartbeat.into()));
            self
        }

        /// Switches the heartbeat off.
        #[must_use]
        pub fn no_heartbeat(mut self) -> Self {
            self.$($settings).+.heartbeat = $field(None);
            self
        }
    };
}
pub(crate) use connection_setters;

/// What [`wrap_io`](crate::wrap_io) and [`wrap_frames`](crate::wrap_frames) make of a transport. There is no
/// default, since the role must be chosen.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coro_websocket::WrapOptions;
///
/// let options = WrapOptions::server().heartbeat(Duration::from_secs(30)).max_message_len(1 << 20);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct WrapOptions {
    pub(crate) settings: Settings,
}

impl WrapOptions {
    /// The client's end: frames go out masked and come in unmasked.
    #[must_use]
    pub fn client() -> Self {
        Self::new(Role::Client)
    }

    /// The server's end: frames go out unmasked and come in masked.
    #[must_use]
    pub fn server() -> Self {
        Self::new(Role::Server)
    }

    /// The end of the given role.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self { settings: Settings::new(role) }
    }

    /// Whether outgoing frames are masked. Default: as the role demands. A strict peer accepts nothing else. With
    /// [`Checks::Off`] each frame's own `mask` decides instead.
    #[must_use]
    pub fn mask(mut self, mask: bool) -> Self {
        self.settings.mask = Some(mask);
        self
    }

    /// Compresses messages, as was agreed on in the opening handshake. Default: off. A window outside of 9 to 15
    /// bits is taken for the nearest that can be, but that with 8 bits for the own side nothing is compressed.
    /// With [`Checks::Off`] frames pass as they are, compressed or not.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.settings.deflate = Some(deflate);
        self
    }

    connection_setters!(settings);
}
