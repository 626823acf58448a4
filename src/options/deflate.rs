//! What can be chosen about compression.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, OptionsError, Quoted},
    options::Role,
};

/// The words of the negotiation (RFC 7692 §7.1).
pub(crate) mod names {
    pub(crate) const NAME: &str = "permessage-deflate";
    pub(crate) const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
    pub(crate) const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
    pub(crate) const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
    pub(crate) const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";
    pub(crate) const MAX_BITS: u8 = 15;
}

use names::{
    CLIENT_MAX_WINDOW_BITS, CLIENT_NO_CONTEXT_TAKEOVER, MAX_BITS, NAME, SERVER_MAX_WINDOW_BITS,
    SERVER_NO_CONTEXT_TAKEOVER,
};

/// Compression of messages, permessage-deflate ([RFC 7692](https://www.rfc-editor.org/rfc/rfc7692)).
///
/// Whether it is used is for both sides to say: a client offers it and a server accepts that, or not. Then
/// messages go out compressed, and arrive inflated with `rsv1` cleared; `len` stays the length on the wire.
///
/// **Who can see the length of encrypted messages learns something about what is compressed together.** Where a
/// message holds a secret next to what a stranger has chosen, send it uncompressed
/// ([`Write::set_compression`](crate::Write::set_compression)), or leave compression off.
///
/// # Memory
///
/// Where the own side keeps its context, its compressor stays: 371 KiB with the defaults, from 134 KiB (9 bits,
/// memory level 1) to 483 KiB. Where the peer keeps its context, what it may refer to stays: its window of 512
/// bytes (9 bits) to 32 KiB, as far as that was filled. All else is shared by the connections of a thread.
///
/// # Examples
///
/// ```
/// use coro_websocket::{AcceptOptions, Deflate, Options};
///
/// let client = Options::default().deflate(Deflate::default());
/// let small = Deflate::default().server_no_context_takeover(true).client_max_window_bits(10);
/// let server = AcceptOptions::default().deflate(small);
/// # let _ = (client, server);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    pub(crate) level: u8,
    pub(crate) memory_level: u8,
    pub(crate) threshold: usize,
    pub(crate) params: DeflateParams,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { level: 2, memory_level: 8, threshold: 64, params: DeflateParams::default() }
    }
}

impl Deflate {
    /// How hard to compress, from 0 (not at all) and 1 (fast) to 9 (small). Default: 2. Against that, 6 takes up
    /// to three times as long for a tenth fewer bytes, and 1 a quarter to the half for a fifth to a third more.
    #[must_use]
    pub const fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// How much memory the compressor takes besides its window, from 1 (about 4 KiB) to 9 (about 230 KiB), and
    /// 128 KiB in any case. Default: 8.
    #[must_use]
    pub const fn memory_level(mut self, level: u8) -> Self {
        self.memory_level = level;
        self
    }

    /// The shortest message that is compressed, in bytes; fragmented messages always are. Default: 64, since what
    /// is shorter does not get shorter by itself; with the context of similar ones it does, by less than the
    /// headers of a packet. Zero: everything is.
    #[must_use]
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Whether the server starts each message afresh, instead of referring to those before
    /// ([RFC 7692 §7.1.1.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1.1.1)): messages become longer,
    /// memory is given back between them. Default: `false`. As a client: the server must agree, or there is no
    /// compression.
    #[must_use]
    pub const fn server_no_context_takeover(mut self, no_takeover: bool) -> Self {
        self.params.server_no_context_takeover = no_takeover;
        self
    }

    /// Whether the client starts each message afresh
    /// ([RFC 7692 §7.1.1.2](https://www.rfc-editor.org/rfc/rfc7692#section-7.1.1.2)). Default: `false`.
    #[must_use]
    pub const fn client_no_context_takeover(mut self, no_takeover: bool) -> Self {
        self.params.client_no_context_takeover = no_takeover;
        self
    }

    /// How far back the server refers at most, as a power of two, from 9 (512 bytes) to 15 (32 KiB)
    /// ([RFC 7692 §7.1.2.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1.2.1)). Default: 15. As a client:
    /// below 15 the server must agree, or there is no compression.
    #[must_use]
    pub const fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.params.server_max_window_bits = bits;
        self
    }

    /// How far back the client refers at most, as a power of two, from 9 (512 bytes) to 15 (32 KiB)
    /// ([RFC 7692 §7.1.2.2](https://www.rfc-editor.org/rfc/rfc7692#section-7.1.2.2)). Default: 15. As a server:
    /// a client that does not offer to be limited is not.
    #[must_use]
    pub const fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.params.client_max_window_bits = bits;
        self
    }

    /// The same choices with the parameters that a client and a server agreed on, for
    /// [`WrapOptions::deflate`](crate::WrapOptions::deflate): what compresses is not always what opened the
    /// connection.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use coro_websocket::{Checks, Deflate, Error, Options, WrapOptions, connect};
    ///
    /// # async fn run() -> Result<(), Error> {
    /// // Compressed frames pass through these halves as they are.
    /// let options = Options::from_url("ws://localhost/")?.checks(Checks::Off).deflate(Deflate::default());
    /// let (response, _read, _write) = connect(options).await?;
    /// // Whoever is behind them needs to know what was agreed on.
    /// let inner = match response.deflate() {
    ///     Some(params) => WrapOptions::client().deflate(Deflate::default().with_params(params)),
    ///     None => WrapOptions::client(),
    /// };
    /// # let _ = inner;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn with_params(mut self, params: DeflateParams) -> Self {
        self.params = params;
        self
    }

    pub(crate) const fn params(&self) -> DeflateParams {
        self.params
    }

    /// Returns whether the messages that this role receives may refer to earlier ones.
    pub(crate) fn is_taken_over(&self, role: Role) -> bool {
        match role {
            Role::Client => !self.params.server_no_context_takeover,
            Role::Server => !self.params.client_no_context_takeover,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let DeflateParams { server_max_window_bits, client_max_window_bits, .. } = self.params;
        for (name, value, lowest, highest) in [
            ("level", self.level, 0, 9),
            ("memory_level", self.memory_level, 1, 9),
            (SERVER_MAX_WINDOW_BITS, server_max_window_bits, 9, 15),
            (CLIENT_MAX_WINDOW_BITS, client_max_window_bits, 9, 15),
        ] {
            if !(lowest..=highest).contains(&value) {
                return Err(out_of_range(name, &value.to_string(), lowest, highest));
            }
        }
        Ok(())
    }
}

#[cold]
fn out_of_range(name: &str, value: &str, lowest: u8, highest: u8) -> Error {
    let value = Quoted(value.as_bytes());
    let text = format!("the compression's {name} {value} is not from {lowest} to {highest}");
    Error::options(OptionsError::Deflate, text)
}

impl FromStr for Deflate {
    type Err = Error;

    /// Reads parameters by name, for command lines and configuration files: those of [RFC 7692
    /// §7.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1), and `level`, `memory_level` and `threshold`,
    /// separated by commas or semicolons. What is not named has its default; nothing at all is
    /// [`Deflate::default`].
    ///
    /// # Errors
    ///
    /// [`OptionsError::DeflateParam`] where a parameter is unknown, malformed or named twice, and
    /// [`OptionsError::Deflate`] where a number is out of its range.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro_websocket::Deflate;
    ///
    /// let deflate: Deflate = "server_no_context_takeover, client_max_window_bits=10".parse()?;
    /// assert_eq!(deflate, Deflate::default().server_no_context_takeover(true).client_max_window_bits(10));
    /// # Ok::<(), coro_websocket::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |param: &str, why: &str| {
            let text = format!("the parameter {} of the compression {why}", Quoted(param.as_bytes()));
            Error::options(OptionsError::DeflateParam, text)
        };
        let mut named = Vec::new();
        let mut deflate = Self::default();
        for param in text.split([',', ';']).map(str::trim).filter(|param| !param.is_empty()) {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
                None => (param, None),
            };
            if named.contains(&name) {
                return Err(wrong(name, "is named twice"));
            }
            named.push(name);
            // What does not fit into a byte is out of every range.
            let number = |value: &str| value.parse::<usize>().map_err(|_| wrong(param, "needs a number"));
            let small = |value: &str, lowest, highest| {
                u8::try_from(number(value)?).map_err(|_| out_of_range(name, value, lowest, highest))
            };
            deflate = match (name, value) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => deflate.server_no_context_takeover(true),
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => deflate.client_no_context_takeover(true),
                (SERVER_MAX_WINDOW_BITS, Some(bits)) => deflate.server_max_window_bits(small(bits, 9, 15)?),
                // §7.1.2.2: without a value it says no more than what a client says in any case.
                (CLIENT_MAX_WINDOW_BITS, None) => deflate,
                (CLIENT_MAX_WINDOW_BITS, Some(bits)) => deflate.client_max_window_bits(small(bits, 9, 15)?),
                ("level", Some(level)) => deflate.level(small(level, 0, 9)?),
                ("memory_level", Some(level)) => deflate.memory_level(small(level, 1, 9)?),
                ("threshold", Some(bytes)) => deflate.threshold(number(bytes)?),
                (SERVER_NO_CONTEXT_TAKEOVER | CLIENT_NO_CONTEXT_TAKEOVER, Some(_)) => {
                    return Err(wrong(param, "has no value"));
                }
                (SERVER_MAX_WINDOW_BITS | "level" | "memory_level" | "threshold", None) => {
                    return Err(wrong(param, "needs a value"));
                }
                _ => return Err(wrong(param, "is unknown")),
            };
        }
        deflate.check()?;
        Ok(deflate)
    }
}

/// What a client and a server agreed on ([RFC 7692 §7.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1)), from
/// [`Response::deflate`](crate::Response::deflate) or [`Request::deflate`](crate::Request::deflate).
///
/// # Examples
///
/// ```
/// let params = coro_websocket::DeflateParams::default();
/// assert_eq!(params.server_max_window_bits, 15);
/// assert_eq!(params.to_string(), "permessage-deflate");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateParams {
    /// Whether the server starts each message afresh.
    pub server_no_context_takeover: bool,
    /// Whether the client starts each message afresh.
    pub client_no_context_takeover: bool,
    /// How far back the server refers at most, as a power of two, from 8 to 15.
    pub server_max_window_bits: u8,
    /// How far back the client refers at most, as a power of two, from 8 to 15.
    pub client_max_window_bits: u8,
}

impl Default for DeflateParams {
    /// What holds where nothing is said: both sides keep their context, and windows of 15 bits.
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: MAX_BITS,
            client_max_window_bits: MAX_BITS,
        }
    }
}

impl fmt::Display for DeflateParams {
    /// As it stands in `Sec-WebSocket-Extensions`, without what need not be said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        for (set, name) in [
            (self.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER),
            (self.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
        ] {
            if set {
                write!(f, "; {name}")?;
            }
        }
        for (bits, name) in [
            (self.server_max_window_bits, SERVER_MAX_WINDOW_BITS),
            (self.client_max_window_bits, CLIENT_MAX_WINDOW_BITS),
        ] {
            if bits < MAX_BITS {
                write!(f, "; {name}={bits}")?;
            }
        }
        Ok(())
    }
}

/// The value of `Sec-WebSocket-Extensions` in a request, if there is anything to offer.
pub(crate) fn encode_offers(offers: &[Deflate]) -> Option<String> {
    let offers = offers.iter().map(|offer| {
        let mut text = offer.params.to_string();
        if offer.params.client_max_window_bits == MAX_BITS {
            // §7.1.2.2: without a value it says that the server may limit us.
            text.push_str("; ");
            text.push_str(CLIENT_MAX_WINDOW_BITS);
        }
        text
    });
    Some(offers.collect::<Vec<_>>().join(", ")).filter(|offers| !offers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: fn() -> Deflate = Deflate::default;

    #[test]
    fn offers_are_those_of_the_rfc() {
        assert_eq!(encode_offers(&[]), None);
        for (offers, expected) in [
            (&[OWN()][..], "permessage-deflate; client_max_window_bits"),
            (
                &[OWN().server_max_window_bits(10), OWN()],
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits, \
                 permessage-deflate; client_max_window_bits",
            ),
            (
                &[OWN()
                    .server_no_context_takeover(true)
                    .client_no_context_takeover(true)
                    .client_max_window_bits(9)],
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 client_max_window_bits=9",
            ),
        ] {
            assert_eq!(encode_offers(offers).as_deref(), Some(expected));
        }
    }

    #[test]
    fn parameters_are_read_by_name() {
        for (text, expected) in [
            ("", OWN()),
            (" ; , ", OWN()),
            ("client_max_window_bits", OWN()),
            (
                "server_no_context_takeover;client_no_context_takeover",
                OWN().server_no_context_takeover(true).client_no_context_takeover(true),
            ),
            (
                "server_max_window_bits=9, client_max_window_bits = 15",
                OWN().server_max_window_bits(9).client_max_window_bits(15),
            ),
            ("level=0,memory_level=9,threshold=70000", OWN().level(0).memory_level(9).threshold(70_000)),
        ] {
            assert_eq!(text.parse::<Deflate>().unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn parameters_that_cannot_be_are_refused() {
        for text in [
            "server_no_context_takeover=1",
            "server_max_window_bits",
            "server_max_window_bits=",
            "client_max_window_bits=ten",
            "client_max_window_bits=-9",
            "client_max_window_bits=10;client_max_window_bits=10",
            "level",
            "Level=1",
            "permessage-deflate",
            "=9",
        ] {
            let refused = text.parse::<Deflate>();
            assert!(
                matches!(refused, Err(Error::Options { error: OptionsError::DeflateParam, .. })),
                "{text:?}: {refused:?}"
            );
        }
        for text in [
            "server_max_window_bits=8",
            "client_max_window_bits=16",
            "client_max_window_bits=271",
            "level=10",
            "memory_level=0",
        ] {
            let refused = text.parse::<Deflate>();
            assert!(
                matches!(refused, Err(Error::Options { error: OptionsError::Deflate, .. })),
                "{text:?}: {refused:?}"
            );
        }
    }
}
