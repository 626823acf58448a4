//! Step 1, the URL (RFC 6455 §3): text in, the parts of an address out.

use std::{fmt, str::FromStr};

use url::{Host, ParseError, Url};

use crate::{
    error::{Error, OptionsError, UrlError},
    options::{Credentials, Options},
};

/// Takes a `ws` or `wss` URL apart ([RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3)).
///
/// The scheme and the host may be in any case; an international host becomes punycode; the path loses `.` and
/// `..` as in a browser, and what may not stand in a request is percent-encoded. Nothing else is repaired: a
/// control character, white space, a backslash, or slashes too few or too many are errors.
///
/// # Errors
///
/// [`Error::Url`], which says what part is not as it should be.
///
/// # Examples
///
/// ```
/// use coro_websocket::parse_url;
///
/// let url = parse_url("wss://example.com?x=1")?;
/// assert_eq!((url.tls, url.host.as_str(), url.port), (true, "example.com", 443));
/// assert_eq!(url.pathname, "/?x=1");
/// assert_eq!(url.to_string(), "wss://example.com/?x=1");
/// # Ok::<(), coro_websocket::Error>(())
/// ```
pub fn parse_url(url: &str) -> Result<WsUrl, Error> {
    Ok(parse(url, 1)?)
}

/// The parts of a `ws` or `wss` URL, from [`parse_url`]. [`Display`](fmt::Display) gives a URL that parses
/// into the same parts, the password too. `Debug` does not show the password, nor a user name without one.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WsUrl {
    /// Whether the scheme is `wss`.
    pub tls: bool,
    /// The user name, decoded. `None`: the URL has no user information.
    pub username: Option<String>,
    /// The password, decoded. `None`: the URL has none.
    pub password: Option<String>,
    /// The host: a name in lower case and punycode, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port. Default: 80, or 443 with TLS. Never zero.
    pub port: u16,
    /// The resource name: the path, with the query if there is one. It starts with `/` and is never empty.
    pub pathname: String,
}

/// Where a server is to listen: a URL without user information and query, or only `host:port`. Port 0 means any.
/// Says whether it was a URL.
pub(crate) fn parse_place(text: &str) -> Result<(WsUrl, bool), UrlError> {
    if text.contains("://") {
        let url = parse(text, 0)?;
        return match (&url.username, url.pathname.contains('?')) {
            (None, false) => Ok((url, true)),
            (Some(_), _) => Err(UrlError::Userinfo),
            (None, true) => Err(UrlError::Syntax),
        };
    }
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    if port.is_empty() || port.contains(']') {
        return Err(UrlError::Port);
    }
    if text.contains(['/', '?', '@']) {
        return Err(UrlError::Host);
    }
    Ok((parse(&format!("ws://{text}"), 0)?, false))
}

fn parse(text: &str, lowest_port: u16) -> Result<WsUrl, UrlError> {
    // The url crate strips, converts or skips all of these without a word, so the raw text is looked at
    // first.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(UrlError::Character);
    }
    // §3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
    if text.contains('#') {
        return Err(UrlError::Fragment);
    }
    let (tls, rest) = split_scheme(text)?;
    let (authority, _) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (userinfo, hostport) = match authority.rsplit_once('@') {
        Some((userinfo, hostport)) => (Some(userinfo), hostport),
        None => (None, authority),
    };
    check_port(hostport, lowest_port)?;
    let (username, password) = match userinfo.map(parse_userinfo).transpose()? {
        Some((username, password)) => (Some(username), password),
        None => (None, None),
    };
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::InvalidPort => UrlError::Port,
        ParseError::EmptyHost
        | ParseError::IdnaError
        | ParseError::InvalidIpv4Address
        | ParseError::InvalidIpv6Address
        | ParseError::InvalidDomainCharacter => UrlError::Host,
        _ => UrlError::Syntax,
    })?;
    let host = url.host().map(bare).ok_or(UrlError::Host)?;
    let port = url.port().unwrap_or_else(|| default_port(tls));
    let mut pathname = url.path().to_owned();
    if let Some(query) = url.query() {
        pathname.push('?');
        pathname.push_str(query);
    }
    Ok(WsUrl { tls, username, password, host, port, pathname })
}

/// Whether the scheme is `wss`, and what follows the two slashes.
fn split_scheme(text: &str) -> Result<(bool, &str), UrlError> {
    let (scheme, rest) = text.split_once(':').ok_or(UrlError::Syntax)?;
    let tls = if scheme.eq_ignore_ascii_case("wss") {
        true
    } else if scheme.eq_ignore_ascii_case("ws") {
        false
    } else if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    {
        return Err(UrlError::Scheme);
    } else {
        return Err(UrlError::Syntax);
    };
    rest.strip_prefix("//").map(|rest| (tls, rest)).ok_or(UrlError::Syntax)
}

/// The host is there and the port, if given, is a number from the lowest to 65535. An empty port is none (RFC 3986
/// §3.2.3).
fn check_port(hostport: &str, lowest: u16) -> Result<(), UrlError> {
    let (host, port) = match hostport.rfind(']') {
        Some(end) if hostport.starts_with('[') => {
            let (host, rest) = hostport.split_at(end + 1);
            (host, if rest.is_empty() { "" } else { rest.strip_prefix(':').ok_or(UrlError::Host)? })
        }
        _ => hostport.split_once(':').unwrap_or((hostport, "")),
    };
    if host.is_empty() || port.contains(':') {
        return Err(UrlError::Host);
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    if !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port >= lowest) {
        return Err(UrlError::Port);
    }
    Ok(())
}

fn parse_userinfo(userinfo: &str) -> Result<(String, Option<String>), UrlError> {
    let (username, password) = match userinfo.split_once(':') {
        Some((username, password)) => (username, Some(password)),
        None => (userinfo, None),
    };
    if userinfo.is_empty() || userinfo.contains('@') {
        return Err(UrlError::Userinfo);
    }
    let username = decode(username)?;
    let password = password.map(decode).transpose()?;
    if Credentials::are_valid(&username, password.as_deref().unwrap_or("")) {
        Ok((username, password))
    } else {
        Err(UrlError::Userinfo)
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let hex = |bytes: &mut std::str::Bytes<'_>| {
        bytes.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (hex(&mut bytes), hex(&mut bytes)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(UrlError::Userinfo),
            },
            _ => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| UrlError::Userinfo)
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                fmt::Write::write_char(f, char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// The host without the brackets of an IPv6 address.
fn bare<S: AsRef<str>>(host: Host<S>) -> String {
    match host {
        Host::Domain(name) => name.as_ref().to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

/// The host that a caller names, with or without brackets, in the form that a URL would give it.
pub(crate) fn parse_host(host: &str) -> Result<String, OptionsError> {
    let parsed = match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => return Ok(address.to_string()),
        Err(_) if host.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            return Err(OptionsError::Host);
        }
        Err(_) => Host::parse(host),
    };
    parsed.map(bare).map_err(|_| OptionsError::Host)
}

pub(crate) const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// What stands in `Host`: brackets around an IPv6 address, and the port when it is not the default.
pub(crate) struct Authority<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Authority { host, port, tls } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{host}{close}")?;
        if port == default_port(tls) { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl fmt::Display for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, username, password, host, port, pathname } = self;
        f.write_str(if *tls { "wss://" } else { "ws://" })?;
        if username.is_some() || password.is_some() {
            write!(f, "{}", Encoded(username.as_deref().unwrap_or("")))?;
            if let Some(password) = password {
                write!(f, ":{}", Encoded(password))?;
            }
            f.write_str("@")?;
        }
        write!(f, "{}{pathname}", Authority { host, port: *port, tls: *tls })
    }
}

impl fmt::Debug for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, username, password, host, port, pathname } = self;
        // A user name without a password is often a token.
        let has_password = password.as_ref().is_some_and(|password| !password.is_empty());
        f.debug_struct("WsUrl")
            .field("tls", tls)
            .field("username", &username.as_deref().map(|username| if has_password { username } else { "…" }))
            .field("password", &password.as_ref().map(|_| "…"))
            .field("host", host)
            .field("port", port)
            .field("pathname", pathname)
            .finish()
    }
}

impl FromStr for WsUrl {
    type Err = Error;

    /// The same as [`parse_url`].
    fn from_str(url: &str) -> Result<Self, Error> {
        parse_url(url)
    }
}

impl From<WsUrl> for Options {
    /// Host, port, TLS and pathname, and Basic authentication where the URL has a user name.
    fn from(url: WsUrl) -> Self {
        let WsUrl { tls, username, password, host, port, pathname } = url;
        let options = Self::default().host(host).port(port).tls(tls).pathname(pathname);
        if username.is_none() && password.is_none() {
            return options;
        }
        options.basic_auth(username.unwrap_or_default(), password.unwrap_or_default())
    }
}

impl Options {
    /// The options for a `ws` or `wss` URL; a user name in it becomes Basic authentication
    /// ([RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3)).
    ///
    /// # Errors
    ///
    /// [`Error::Url`], as [`parse_url`].
    ///
    /// # Examples
    ///
    /// ```
    /// use coro_websocket::Options;
    /// let options = Options::from_url("ws://127.0.0.1:8080/chat?room=1")?.subprotocol("chat");
    /// # let _ = options;
    /// # Ok::<(), coro_websocket::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, Error> {
        parse_url(url).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_options_are_read_like_those_of_urls() {
        for (host, expected) in [
            ("Example.COM", "example.com"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("0:0::1", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("bücher.de", "xn--bcher-kva.de"),
        ] {
            assert_eq!(parse_host(host).as_deref(), Ok(expected), "{host}");
        }
        for host in [
            "", " ", "a b", "a\r\nb", "a\0", "a\tb", "a/b", "a?b", "a#b", "a@b", "a:80", "[::1", "::1]", "[]",
        ] {
            assert_eq!(parse_host(host), Err(OptionsError::Host), "{host:?}");
        }
    }

    #[test]
    fn authority_has_the_port_only_when_it_is_not_the_default() {
        for (host, port, tls, expected) in [
            ("h", 80, false, "h"),
            ("h", 443, true, "h"),
            ("h", 443, false, "h:443"),
            ("h", 80, true, "h:80"),
            ("::1", 80, false, "[::1]"),
            ("::1", 8080, false, "[::1]:8080"),
        ] {
            assert_eq!(Authority { host, port, tls }.to_string(), expected);
        }
    }
}
