//! The errors of this crate, and which side caused each.

use std::{fmt, io, sync::Arc};

use crate::{
    frame::{CloseFrame, Message},
    handshake::Response,
    socket::Timings,
};

mod guess;
mod quoted;

pub(crate) use guess::guess_protocol;
pub(crate) use quoted::Quoted;

/// Everything that can go wrong. The variant says whose fault it is.
///
/// In variants with both, `error` is the kind, for programs, and `text` is the explanation that
/// [`Display`](fmt::Display) prints: it names the header, the number, the limit and its setter. Bytes of the peer in it
/// are quoted, escaped and shortened; passwords are left out.
///
/// A clean closing handshake is never an error: it is the end of the stream. The value is small (32 bytes at
/// most) and cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The caller: the text is not the URL of a WebSocket.
    Url {
        /// The part of the URL that is wrong.
        error: UrlError,
        /// The explanation, with the URL but without its password.
        text: Arc<str>,
    },
    /// The caller: options that cannot be used. Nothing was sent.
    Options {
        /// The option that is wrong.
        error: OptionsError,
        /// The explanation, with the value.
        text: Arc<str>,
    },
    /// The caller: a frame that would break the protocol. Nothing was sent and the connection goes on.
    Invalid {
        /// The rule that the frame would break.
        error: ProtocolError,
        /// The explanation, with the value.
        text: Arc<str>,
    },
    /// The caller: the connection is closing or closed, nothing more can be sent. With the Close frame of the peer, if
    /// one has been read: the peer closed the connection, for that reason.
    Closed(Option<Arc<CloseFrame>>),
    /// The caller: a [`Write`](crate::Write) was dropped in the middle of a fragmented message, which nobody
    /// can finish. The connection has failed for all its holders.
    Abandoned,
    /// The caller: [`Write::ping`](crate::Write::ping) waits for a Pong that nobody will read, since the
    /// [`Read`](crate::Read) was dropped.
    ReaderGone,
    /// The peer: it broke the protocol. It was told so with a Close frame and the connection has failed.
    Protocol {
        /// The rule that was broken.
        error: ProtocolError,
        /// The explanation, with the value.
        text: Arc<str>,
    },
    /// A limit of this side: the peer's frame or message is larger than `max_frame_len` or `max_message_len` allows.
    /// The peer was told so with a Close frame (1009) and the connection has failed.
    Limit {
        /// [`ProtocolError::FrameTooLarge`] or [`ProtocolError::MessageTooLarge`].
        error: ProtocolError,
        /// The explanation, with the size, the limit and its setter.
        text: Arc<str>,
    },
    /// The peer: it broke the protocol, and the reader was asked to go on ([`Checks::Report`](crate::Checks)).
    Reported {
        /// The rule that was broken.
        error: ProtocolError,
        /// The frame that broke it, inflated if it could be. It is not yielded in any other way.
        frame: Arc<Message>,
    },
    /// The network: the host's name has no address, or could not be looked up.
    Resolve(Arc<io::Error>),
    /// The network: no connection to any of the addresses. The text has the reason for each.
    Connect(Arc<io::Error>),
    /// The system: a server cannot listen on an address. The text has the address and the reason.
    Listen(Arc<io::Error>),
    /// TLS: the peer is not trusted, or does not trust this side, in the handshake or later; or options for TLS cannot
    /// be used.
    Tls(TlsError),
    /// The peer: the opening handshake was not one, or was refused.
    Handshake {
        /// The rule that was broken, or the status of a refusal.
        error: HandshakeError,
        /// The explanation, with the header or the answer.
        text: Arc<str>,
        /// The whole answer with as much of its body as was read, where a server sent one.
        response: Option<Arc<Response>>,
    },
    /// The peer or the network: a deadline has passed.
    TimedOut(Phase),
    /// The network: the transport ended without a Close frame, the status code 1006 of RFC 6455 §7.4.1.
    Lost,
    /// The network: reading or writing failed.
    Io(Arc<io::Error>),
    /// The network: the stream or sink under [`wrap_frames`](crate::wrap_frames) failed.
    Transport(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn url(error: UrlError, text: impl Into<Arc<str>>) -> Self {
        Self::Url { error, text: text.into() }
    }

    pub(crate) fn options(error: OptionsError, text: impl Into<Arc<str>>) -> Self {
        Self::Options { error, text: text.into() }
    }

    pub(crate) fn handshake(error: HandshakeError, text: impl Into<Arc<str>>) -> Self {
        Self::Handshake { error, text: text.into(), response: None }
    }

    /// Makes the error for a peer that broke a rule or exceeded a limit of this side.
    #[cold]
    pub(crate) fn violation(error: ProtocolError, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if error.is_limit() { Self::Limit { error, text } } else { Self::Protocol { error, text } }
    }

    /// Adds the durations of the earlier steps to a refusal.
    pub(crate) fn with_timings(mut self, timings: Timings) -> Self {
        if let Self::Handshake { response: Some(response), .. } = &mut self
            && let Some(response) = Arc::get_mut(response)
        {
            response.set_timings(timings);
        }
        self
    }

    /// The kind of an error about options, for tests that compare it.
    #[cfg(test)]
    pub(crate) fn options_kind(self) -> OptionsError {
        match self {
            Self::Options { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    #[cold]
    pub(crate) fn invalid(error: ProtocolError, text: impl Into<Arc<str>>) -> Self {
        Self::Invalid { error, text: text.into() }
    }

    /// The number that `turbo.websocket` gives to this kind of error, or `None` where it has no such kind.
    ///
    /// | number | kind |
    /// | --- | --- |
    /// | -1 | invalid URL |
    /// | -2 | scheme other than `ws` and `wss` |
    /// | -3 | could not connect |
    /// | -4 | response head that is not HTTP, or too large |
    /// | -5 | no connection in time |
    /// | -6 | deadline of the opening handshake passed |
    /// | -7 | the connection ended before a response |
    /// | -10 | socket error, connection lost or closed |
    /// | -11 | TLS |
    /// | -15 | status other than 101 |
    /// | -16 | WebSocket protocol error |
    ///
    /// # Examples
    ///
    /// ```
    /// use coro_websocket::parse_url;
    /// assert_eq!(parse_url("http://host/").unwrap_err().code(), Some(-2));
    /// ```
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        Some(match self {
            Self::Url { error: UrlError::Scheme, .. } => -2,
            Self::Url { .. } => -1,
            Self::Handshake { error, .. } => match error {
                HandshakeError::Status(_) => -15,
                HandshakeError::Malformed | HandshakeError::HeadTooLarge | HandshakeError::TooManyHeaders => {
                    -4
                }
                HandshakeError::NoHead => -7,
                _ => -16,
            },
            Self::Resolve(_) | Self::Connect(_) => -3,
            Self::TimedOut(Phase::Dns | Phase::Connect) => -5,
            Self::TimedOut(Phase::Tls | Phase::Handshake) => -6,
            Self::Tls(_) | Self::TimedOut(Phase::Files) => -11,
            Self::TimedOut(_)
            | Self::Io(_)
            | Self::Listen(_)
            | Self::Transport(_)
            | Self::Lost
            | Self::Closed(_) => -10,
            Self::Protocol { .. } | Self::Limit { .. } | Self::Reported { .. } | Self::Invalid { .. } => -16,
            Self::Options { .. } | Self::Abandoned | Self::ReaderGone => return None,
        })
    }

    /// The Close frame that the peer sent, if this error says that the peer closed the connection.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        match self {
            Self::Closed(received) => received.as_deref(),
            _ => None,
        }
    }

    /// The server's answer, when it refused the opening handshake.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Handshake { response, .. } => response.as_deref(),
            _ => None,
        }
    }

    /// The kind of the input or output error underneath, if there is one.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io(error)
            | Self::Resolve(error)
            | Self::Connect(error)
            | Self::Listen(error)
            | Self::Tls(TlsError::Io(error)) => Some(error.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { text, .. } | Self::Options { text, .. } => f.write_str(text),
            Self::Invalid { text, .. } => write!(f, "this frame cannot be sent: {text}"),
            Self::Closed(None) => f.write_str("the connection is closed for sending"),
            Self::Closed(Some(close)) => {
                write!(f, "the peer closed the connection: {}", close.code)?;
                if let Some(meaning) = close.code.meaning() {
                    write!(f, " ({meaning})")?;
                }
                if close.reason.is_empty() { Ok(()) } else { write!(f, ", reason {:?}", close.reason) }
            }
            Self::Abandoned => f.write_str(
                "a writer was dropped before the last fragment of its message, so the connection has failed",
            ),
            Self::ReaderGone => f.write_str("the reader was dropped, so no Pong can be received"),
            Self::Protocol { text, .. } => write!(f, "the peer broke the protocol: {text}"),
            Self::Limit { text, .. } => write!(f, "limit exceeded: {text}"),
            Self::Reported { error, frame } => {
                write!(f, "the peer broke the protocol (reported only): {}", frame.describe(*error))
            }
            Self::Resolve(error) => error.fmt(f),
            Self::Connect(error) => write!(f, "no connection to {error}"),
            Self::Listen(error) => write!(f, "cannot listen on {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Handshake { text, .. } => write!(f, "the opening handshake failed: {text}"),
            Self::TimedOut(phase) => write!(f, "timed out: {phase}"),
            Self::Lost => f.write_str("the connection ended without a Close frame (1006)"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Transport(error) => write!(f, "the transport of frames failed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    /// Returns the cause below the one that [`Display`](fmt::Display) already prints.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => error.source(),
            Self::Io(error) | Self::Resolve(error) | Self::Connect(error) | Self::Listen(error) => {
                error.source()
            }
            Self::Transport(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    /// What TLS reports through a transport is told apart.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Io(Arc::new(error)),
        }
    }
}

impl From<TlsError> for Error {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<UrlError> for Error {
    fn from(error: UrlError) -> Self {
        Self::url(error, error.to_string())
    }
}

impl From<OptionsError> for Error {
    fn from(error: OptionsError) -> Self {
        Self::options(error, error.to_string())
    }
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Self {
        Self::handshake(error, error.to_string())
    }
}

/// What was going on when a deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Reading files with certificates and keys for TLS.
    Files,
    /// The lookup of the host's addresses.
    Dns,
    /// The connection of the socket.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The opening handshake: request and response.
    Handshake,
    /// The heartbeat: the peer gave no sign of life for longer than [`Heartbeat::ping`](crate::Heartbeat::ping)
    /// allows.
    Heartbeat,
    /// A call with a time limit of its own, such as [`Read::next_timeout`](crate::Read::next_timeout) or
    /// [`Write::ping`](crate::Write::ping).
    Call,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "the files with certificates and keys were not read in time (option \"timeout\")",
            Self::Dns => "the address of the host was not found in time (option \"timeout\")",
            Self::Connect => {
                "no address of the server answered in time (options \"timeout\" and \"connect_timeout\")"
            }
            Self::Tls => "the TLS handshake was not complete in time (option \"timeout\")",
            Self::Handshake => "the opening handshake was not complete in time (option \"timeout\")",
            Self::Heartbeat => "the peer was silent for longer than Heartbeat::timeout allows",
            Self::Call => "the time limit of the call passed before its result came",
        })
    }
}

/// A rule of RFC 6455 for frames and messages, broken by the peer ([`Error::Protocol`], [`Error::Reported`]) or
/// by the caller ([`Error::Invalid`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set and no extension gives it a meaning
    /// ([§5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
    ReservedBits,
    /// An opcode that is not defined ([§5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
    ReservedOpcode,
    /// A client's frame is not masked ([§5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.1)).
    Unmasked,
    /// A server's frame is masked ([§5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.1)).
    Masked,
    /// The payload length is not written in the fewest bytes
    /// ([§5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
    LengthNotMinimal,
    /// The most significant bit of a 64-bit payload length is set
    /// ([§5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
    LengthTooLarge,
    /// A control frame has more than 125 bytes ([§5.5](https://www.rfc-editor.org/rfc/rfc6455#section-5.5)).
    ControlTooLong,
    /// A control frame is fragmented ([§5.5](https://www.rfc-editor.org/rfc/rfc6455#section-5.5)).
    ControlFragmented,
    /// A continuation frame without a message to continue
    /// ([§5.4](https://www.rfc-editor.org/rfc/rfc6455#section-5.4)).
    UnexpectedContinuation,
    /// A text or binary frame in the middle of a fragmented message
    /// ([§5.4](https://www.rfc-editor.org/rfc/rfc6455#section-5.4)).
    MessageInterleaved,
    /// Text that is not UTF-8 ([§8.1](https://www.rfc-editor.org/rfc/rfc6455#section-8.1)).
    InvalidUtf8,
    /// A Close payload of one byte ([§5.5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.1)).
    ClosePayload,
    /// A status code that may not be sent ([§7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4)).
    CloseCode,
    /// A close reason that is not UTF-8 ([§5.5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.1)).
    CloseReason,
    /// A frame above the limit for one frame.
    FrameTooLarge,
    /// A message above the limit for one message.
    MessageTooLarge,
    /// A compressed message that cannot be inflated
    /// ([RFC 7692 §7.2.2](https://www.rfc-editor.org/rfc/rfc7692#section-7.2.2)).
    Deflate,
}

impl ProtocolError {
    /// Returns whether this is a limit of the receiver rather than a rule of the protocol.
    pub(crate) const fn is_limit(self) -> bool {
        matches!(self, Self::FrameTooLarge | Self::MessageTooLarge)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "a reserved bit is set",
            Self::ReservedOpcode => "the opcode is reserved",
            Self::Unmasked => "the frame of the client is not masked",
            Self::Masked => "the frame of the server is masked",
            Self::LengthNotMinimal => "the payload length is not written in the fewest bytes",
            Self::LengthTooLarge => "the payload length has its highest bit set",
            Self::ControlTooLong => "the control frame has more than 125 bytes",
            Self::ControlFragmented => "the control frame is fragmented",
            Self::UnexpectedContinuation => "the continuation frame has no message to continue",
            Self::MessageInterleaved => "a new message begins before the last fragment of the one before",
            Self::InvalidUtf8 => "the text message is not UTF-8",
            Self::ClosePayload => "the Close frame has one byte of payload; a code has two",
            Self::CloseCode => "the Close frame has a code that is never sent",
            Self::CloseReason => "the reason of the Close frame is not UTF-8",
            Self::FrameTooLarge => "the frame is larger than max_frame_len allows",
            Self::MessageTooLarge => "the message is larger than max_message_len allows",
            Self::Deflate => "the compressed message cannot be inflated",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// Why a text is not a WebSocket URL ([RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UrlError {
    /// The scheme is neither `ws` nor `wss`.
    Scheme,
    /// The text is not a URL: a part is missing or cannot be read.
    Syntax,
    /// The host is missing or is not one.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A control character, a space or a backslash.
    Character,
    /// The user name or password is empty, doubled, or has bytes that Basic authentication cannot carry.
    Userinfo,
    /// A fragment, which a WebSocket URL never has.
    Fragment,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the scheme is neither ws:// nor wss://",
            Self::Syntax => "the URL is malformed",
            Self::Host => "the host is missing or malformed",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::Character => "the URL contains a control character, a space or a backslash",
            Self::Userinfo => "the user name or password is malformed",
            Self::Fragment => "a WebSocket URL has no fragment",
        })
    }
}

impl std::error::Error for UrlError {}

/// What went wrong in TLS ([RFC 8446](https://www.rfc-editor.org/rfc/rfc8446)).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TlsError {
    /// The caller: a file cannot be read, a certificate or key is malformed, or no authority is trusted.
    Options(Arc<str>),
    /// The peer: its certificate is not trusted, for this reason.
    Certificate(Arc<str>),
    /// The peer: it ended the connection with this alert ([RFC 8446
    /// §6](https://www.rfc-editor.org/rfc/rfc8446#section-6)). With TLS 1.3 the refusal of a client's certificate comes
    /// after the handshake, when the response is awaited.
    Alert(Arc<str>),
    /// The peer: it does not speak TLS, breaks its rules, or supports no version and algorithm that we support.
    Protocol(Arc<str>),
    /// The network: the stream ended without the alert that closes it, so it may have been cut by an attacker ([RFC
    /// 8446 §6.1](https://www.rfc-editor.org/rfc/rfc8446#section-6.1)).
    Truncated,
    /// The network: reading or writing failed during the TLS handshake.
    Io(Arc<io::Error>),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(why) => write!(f, "the options cannot be used: {why}"),
            Self::Certificate(why) => write!(f, "the peer's certificate is not trusted: {why}"),
            Self::Alert(alert) => write!(f, "the peer ended the connection with the alert {alert}"),
            Self::Protocol(why) => f.write_str(why),
            Self::Truncated => {
                f.write_str("the connection ended without the alert that ends TLS (close_notify)")
            }
            Self::Io(error) => write!(f, "the connection failed in the handshake: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

/// Why options cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OptionsError {
    /// Neither host, nor port, nor the path of a unix socket is given; or a server has no address to listen on.
    NoAddress,
    /// The host is not one.
    Host,
    /// The port is zero.
    Port,
    /// The pathname has a character that may not stand in a request.
    Pathname,
    /// A header name is not a token, or a value has a control character.
    Header,
    /// A header that the handshake itself writes.
    HeaderReserved,
    /// A subprotocol is not a token, or is named twice.
    Subprotocol,
    /// A user name with a colon, or a control character in it or in the password.
    Credentials,
    /// An allowed origin has none of the forms that [`Origins::list`](crate::Origins::list) takes.
    Origin,
    /// An HTTP answer whose status is not from 200 to 599.
    Status,
    /// The interval or the limit of a heartbeat is zero.
    Heartbeat,
    /// A level or a window of the compression is out of its range.
    Deflate,
    /// A parameter of the compression is unknown, malformed or named twice.
    DeflateParam,
    /// TLS is wanted, but this is a build without the feature `tls`.
    NoTls,
    /// A server is to listen on a `wss` URL and has no certificate.
    NoCertificate,
    /// [`connect_io`](crate::connect_io) has a `wss` URL or [`Options::tls`](crate::Options::tls), but does not
    /// encrypt, and [`Options::already_encrypted`](crate::Options::already_encrypted) was not called.
    NotEncrypted,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "no address: set a host, a port or a path",
            Self::Host => "the host is malformed",
            Self::Port => "the port is 0; it must be from 1 to 65535",
            Self::Pathname => "the pathname contains a character that must be percent-encoded",
            Self::Header => "a header contains a character that cannot be sent",
            Self::HeaderReserved => "the header is written by the handshake itself",
            Self::Subprotocol => "a subprotocol is not a token or is named twice",
            Self::Credentials => "the user name or password cannot be sent",
            Self::Origin => "an allowed origin is malformed",
            Self::NotEncrypted => {
                "TLS is asked for, by a wss URL or Options::tls, but connect_io does not encrypt: use connect, or call \
                 Options::already_encrypted() if the transport is encrypted"
            }
            Self::Status => "the status is not from 200 to 599",
            Self::NoTls => "TLS is asked for, but this build lacks the feature \"tls\"",
            Self::NoCertificate => "a server on a wss:// URL needs a certificate: set ServerOptions::tls",
            Self::Heartbeat => "the interval and the limit of a heartbeat must be above zero",
            Self::Deflate => "a level or window of the compression is out of range",
            Self::DeflateParam => "a parameter of the compression is unknown, malformed or named twice",
        })
    }
}

impl std::error::Error for OptionsError {}

/// A rule of the opening handshake that was broken, or the refusal of one
/// ([RFC 6455 §4](https://www.rfc-editor.org/rfc/rfc6455#section-4)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The transport ended before the head was complete.
    NoHead,
    /// The head is not HTTP/1.1.
    Malformed,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// The head has more headers than allowed.
    TooManyHeaders,
    /// The server answered with this status instead of 101.
    Status(u16),
    /// `Upgrade` is missing or does not name `websocket`.
    Upgrade,
    /// `Connection` is missing or does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` is missing, doubled or wrong.
    Accept,
    /// The server chose a subprotocol that was not offered, or several; or a list of them is malformed.
    Subprotocol,
    /// The client and the server have [no subprotocol in common](crate::AcceptOptions::require_subprotocol).
    SubprotocolMissing,
    /// The server chose an extension that was not offered, or not as it was; or a list of them is malformed.
    Extension,
    /// The request's method is not GET.
    Method,
    /// The request, or the answer 101, is not HTTP/1.1.
    HttpVersion,
    /// The request's target is neither a path nor a `ws`, `wss`, `http` or `https` URL.
    Target,
    /// The request's target contains a space, which must be written as `%20`.
    TargetSpace,
    /// A load balancer has sent the PROXY protocol, version 1 or 2, which is not supported.
    ProxyProtocol,
    /// `Host` is missing, doubled or malformed.
    Host,
    /// `Sec-WebSocket-Key` is missing, doubled or not 16 bytes in base64.
    Key,
    /// `Sec-WebSocket-Version` is missing.
    VersionMissing,
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// The request has a body.
    Body,
    /// The request comes from a page of another origin.
    Origin,
}

impl HandshakeError {
    /// The HTTP status that a server refuses such a request with; `None` for what only a client can find, and
    /// where nobody is left to answer
    /// ([RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use coro_websocket::HandshakeError;
    /// assert_eq!(HandshakeError::Version.status(), Some(426));
    /// ```
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        Some(match self {
            Self::NoHead | Self::Status(_) | Self::Accept => return None,
            Self::Malformed
            | Self::Subprotocol
            | Self::SubprotocolMissing
            | Self::Extension
            | Self::HttpVersion
            | Self::Target
            | Self::TargetSpace
            | Self::ProxyProtocol
            | Self::Host
            | Self::Key
            | Self::VersionMissing
            | Self::Body => 400,
            Self::Origin => 403,
            Self::Method => 405,
            Self::Upgrade | Self::Connection | Self::Version => 426,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
        })
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHead => "the peer closed the connection before its head was complete",
            Self::Malformed => "the peer did not send a head of HTTP/1.1",
            Self::HeadTooLarge => "the head is larger than max_head_len allows",
            Self::TooManyHeaders => "the head has more headers than max_headers allows",
            Self::Status(code) => return write!(f, "the server answered {code} instead of 101"),
            Self::Upgrade => "the header \"Upgrade\" is not \"websocket\"",
            Self::Connection => "the header \"Connection\" does not contain \"Upgrade\"",
            Self::Accept => "the header \"Sec-WebSocket-Accept\" is missing or does not answer the key",
            Self::Subprotocol => "the subprotocol was not offered, or the offer is malformed",
            Self::SubprotocolMissing => "the client offers no supported subprotocol",
            Self::Extension => "the extension was not offered, or the offer is malformed",
            Self::Method => "the method is not GET",
            Self::HttpVersion => "the version of HTTP is not 1.1",
            Self::Target => "the target is neither a path nor a ws, wss, http or https URL",
            Self::TargetSpace => "the target contains a space: it must be written as %20",
            Self::ProxyProtocol => {
                "the client sent a PROXY protocol header, which is not supported: switch it off in the load balancer"
            }
            Self::Host => "the header \"Host\" is missing, malformed or occurs twice",
            Self::Key => "the header \"Sec-WebSocket-Key\" is missing, malformed or occurs twice",
            Self::VersionMissing => "the header \"Sec-WebSocket-Version\" is missing",
            Self::Version => "the header \"Sec-WebSocket-Version\" is not \"13\"",
            Self::Body => "the request announces a body; an upgrade request has none",
            Self::Origin => "the origin may not connect",
        })
    }
}

impl std::error::Error for HandshakeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_small_and_shareable() {
        fn shareable<T: Send + Sync + Clone + 'static>() {}
        shareable::<Error>();
        assert!(size_of::<Error>() <= 32, "{}", size_of::<Error>());
    }
}
