//! Step 1, the URL (RFC 6455 §3): text in, the parts of an address out.

use std::{borrow::Cow, fmt, str::FromStr};

use url::{Host, ParseError, Url};

use crate::{
    error::{Error, OptionsError, Quoted, UrlError},
    options::{Credentials, Options},
    redact::hide_secrets,
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
    parse(url)
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

/// Reads the address that a server listens on: a URL without user information and query, or only `host:port`. Port 0
/// means any. Returns whether the text was a URL, too.
pub(crate) fn parse_place(text: &str) -> Result<(WsUrl, bool), Error> {
    parse_listening(text).map_err(|(error, why)| {
        Error::url(
            error,
            format!("invalid address {} to listen on: {why}", Quoted(hide_secrets(text).as_bytes())),
        )
    })
}

fn parse_listening(text: &str) -> Result<(WsUrl, bool), Fault> {
    if text.contains("://") {
        let url = parse_parts(text, 0)?;
        check_listening_host(&url.host, url.port)?;
        return match (&url.username, url.pathname.contains('?')) {
            (None, false) => Ok((url, true)),
            (Some(_), _) => fault(UrlError::Userinfo, "it cannot have a user name"),
            (None, true) => fault(UrlError::Syntax, "it cannot have a query"),
        };
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if text.contains(['/', '?', '@']) {
        let why = "it is neither \"host:port\" nor a ws:// or wss:// URL; a unix socket is written as a Path";
        return fault(UrlError::Host, why);
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if host.is_empty() || host == "*" || port.is_empty() && is_number(text) {
        let port = [port, text].into_iter().find(|port| is_number(port)).unwrap_or("8080");
        return fault(UrlError::Host, describe_all_interfaces(port));
    }
    if port.is_empty() || port.contains(']') {
        let host = if port.is_empty() { host } else { text };
        return fault(
            UrlError::Port,
            format!("it has no port; write {}", Quoted(format!("{host}:8080").as_bytes())),
        );
    }
    check_listening_host(host, port)?;
    Ok((parse_parts(&format!("ws://{text}"), 0)?, false))
}

/// Reads the name or address of a host that a server listens on.
pub(crate) fn parse_listening_host(host: &str, port: u16) -> Result<String, Error> {
    let checked = check_listening_host(host, port);
    checked.map_err(|(error, why)| {
        let place = format!("invalid address {} to listen on", Quoted(format!("{host}:{port}").as_bytes()));
        Error::url(error, format!("{place}: {why}"))
    })?;
    parse_host(host)
}

fn check_listening_host(host: &str, port: impl fmt::Display) -> Result<(), Fault> {
    if host.is_empty() || host == "*" {
        return fault(UrlError::Host, describe_all_interfaces(port));
    }
    if host.contains(':') && host.contains('%') {
        let why = "an IPv6 address with a zone is written as a SocketAddrV6 with this scope";
        return fault(UrlError::Host, why);
    }
    let has_port = host.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port && host.parse::<std::net::Ipv6Addr>().is_err() {
        return fault(UrlError::Host, "the host has a port of its own");
    }
    if host.contains("://") {
        return fault(UrlError::Host, "a URL is given as one text, with its port in it");
    }
    Ok(())
}

fn describe_all_interfaces(port: impl fmt::Display) -> String {
    format!("for all interfaces write \"0.0.0.0:{port}\" (IPv4) or \"[::]:{port}\" (IPv6)")
}

/// The part of a URL that is wrong, and the explanation without the URL.
type Fault = (UrlError, Cow<'static, str>);

fn fault<T>(error: UrlError, why: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
    Err((error, why.into()))
}

fn parse(text: &str) -> Result<WsUrl, Error> {
    parse_parts(text, 1).map_err(|(error, why)| {
        Error::url(error, format!("invalid URL {}: {why}", Quoted(hide_secrets(text).as_bytes())))
    })
}

fn parse_parts(text: &str, lowest_port: u16) -> Result<WsUrl, Fault> {
    // The url crate strips, converts or skips all of these without a word, so the raw text is looked at
    // first.
    if let Some((at, c)) =
        text.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() || *c == '\\')
    {
        return fault(UrlError::Character, describe_character(text, at, c));
    }
    // §3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
    if let Some((_, fragment)) = text.split_once('#') {
        return fault(
            UrlError::Fragment,
            if fragment.contains('@') {
                "\"#\" in a user name or password must be percent-encoded as %23"
            } else {
                "a WebSocket URL has no fragment; remove \"#\" and the text behind it, or write it as %23"
            },
        );
    }
    let (tls, rest) = split_scheme(text)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (userinfo, hostport) = match authority.rsplit_once('@') {
        Some((userinfo, hostport)) => (Some(userinfo), hostport),
        None => (None, authority),
    };
    if let Err(wrong) = check_port(hostport, lowest_port) {
        // The text may be a part of a password.
        return if userinfo.is_none() && path.contains('@') {
            let why = "the text between the host and its port is malformed; \"/\" and \"?\" in a user name or \
                       password must be percent-encoded as %2F and %3F";
            fault(wrong.0, why)
        } else {
            Err(wrong)
        };
    }
    let (username, password) = match userinfo.map(parse_userinfo).transpose()? {
        Some((username, password)) => (Some(username), password),
        None => (None, None),
    };
    let url = Url::parse(text).or_else(|error| match error {
        ParseError::InvalidPort => fault(UrlError::Port, "the port is not a number from 1 to 65535"),
        ParseError::EmptyHost
        | ParseError::IdnaError
        | ParseError::InvalidIpv4Address
        | ParseError::InvalidIpv6Address
        | ParseError::InvalidDomainCharacter => fault(UrlError::Host, describe_host(hostport, error)),
        error => fault(UrlError::Syntax, error.to_string()),
    })?;
    let Some(host) = url.host().map(bare) else { return fault(UrlError::Host, "it has no host") };
    let port = url.port().unwrap_or_else(|| default_port(tls));
    let mut pathname = url.path().to_owned();
    if let Some(query) = url.query() {
        pathname.push('?');
        pathname.push_str(query);
    }
    Ok(WsUrl { tls, username, password, host, port, pathname })
}

fn describe_character(text: &str, at: usize, c: char) -> String {
    let name = match c {
        ' ' => "a space".to_owned(),
        '\n' | '\r' => "a line break".to_owned(),
        '\t' => "a tab".to_owned(),
        '\\' => "a backslash".to_owned(),
        c => format!("the character U+{:04X}", u32::from(c)),
    };
    let advice = match c {
        '\\' => "; write \"/\", or %5C",
        _ if text.trim().len() < text.len() => "; remove it at the beginning or end",
        ' ' => "; write %20",
        _ => "",
    };
    format!("it contains {name} at byte {at}{advice}")
}

/// Describes why a text is not a host.
fn describe_host(host: &str, error: ParseError) -> String {
    let host = host.strip_prefix('[').map_or(host, |host| host.split(']').next().unwrap_or(host));
    if host.contains(':') && host.contains('%') {
        return format!(
            "the IPv6 address {} has a zone, which is not supported; connect a socket with this zone yourself and \
             pass it to connect_io",
            Quoted(host.as_bytes())
        );
    }
    if error == ParseError::InvalidDomainCharacter && host.matches(':').count() > 1 {
        return String::from("an IPv6 address must be in brackets, as in \"[::1]:8080\"");
    }
    format!("the host {} is malformed ({error})", Quoted(host.as_bytes()))
}

/// Whether the scheme is `wss`, and what follows the two slashes.
fn split_scheme(text: &str) -> Result<(bool, &str), Fault> {
    let meant = |rest: &str, tls: bool| {
        let scheme = if tls { "wss" } else { "ws" };
        let rest = rest.trim_start_matches('/');
        let url = match rest.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("{scheme}://[{address}]"),
            Err(_) => format!("{scheme}://{}", hide_secrets(rest)),
        };
        format!("did you mean {}?", Quoted(url.as_bytes()))
    };
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    if text.is_empty() {
        return fault(UrlError::Syntax, "it is empty");
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        for (start, tls) in [("ws//", false), ("wss//", true)] {
            if let Some(rest) = text.strip_prefix(start) {
                return fault(UrlError::Syntax, format!("it has no colon; {}", meant(rest, tls)));
            }
        }
        return fault(UrlError::Syntax, format!("it has no scheme; {}", meant(text, false)));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "wss" => true,
        "ws" => false,
        scheme @ ("http" | "https") => {
            let why = format!("the scheme is \"{scheme}\"; {}", meant(rest, scheme == "https"));
            return fault(UrlError::Scheme, why);
        }
        "unix" | "ws+unix" | "wss+unix" | "http+unix" => {
            return fault(UrlError::Scheme, "the path of a unix socket is no URL; use Options::path");
        }
        _ if !is_scheme(scheme) => {
            return fault(UrlError::Syntax, format!("it has no scheme; {}", meant(text, false)));
        }
        _ if !rest.starts_with("//") => {
            return fault(
                UrlError::Scheme,
                format!("it has no scheme ws:// or wss://; {}", meant(text, false)),
            );
        }
        scheme => {
            let why = format!("the scheme is {}; use ws:// or wss://", Quoted(scheme.as_bytes()));
            return fault(UrlError::Scheme, why);
        }
    };
    match rest.strip_prefix("//") {
        Some(rest) => Ok((tls, rest)),
        None => {
            fault(UrlError::Syntax, format!("the scheme must be followed by \"//\"; {}", meant(rest, tls)))
        }
    }
}

/// The host is there and the port, if given, is a number from the lowest to 65535. An empty port is none (RFC 3986
/// §3.2.3).
fn check_port(hostport: &str, lowest: u16) -> Result<(), Fault> {
    let (host, port) = match hostport.rfind(']') {
        Some(end) if hostport.starts_with('[') => {
            let (host, rest) = hostport.split_at(end + 1);
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => {
                    return fault(UrlError::Host, "only a port can follow the brackets of an IPv6 address");
                }
            }
        }
        _ => hostport.split_once(':').unwrap_or((hostport, "")),
    };
    if port.contains(':') {
        return fault(UrlError::Host, describe_host(hostport, ParseError::InvalidDomainCharacter));
    }
    if host.is_empty() {
        return fault(UrlError::Host, "it has no host");
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port >= lowest) {
        let port = Quoted(port.as_bytes());
        return fault(UrlError::Port, format!("the port {port} is not a number from {lowest} to 65535"));
    }
    Ok(())
}

fn parse_userinfo(userinfo: &str) -> Result<(String, Option<String>), Fault> {
    let (username, password) = match userinfo.split_once(':') {
        Some((username, password)) => (username, Some(password)),
        None => (userinfo, None),
    };
    if userinfo.is_empty() {
        return fault(UrlError::Userinfo, "there is no user name before \"@\"");
    }
    if userinfo.contains('@') {
        let why = "\"@\" in a user name or password must be percent-encoded as %40";
        return fault(UrlError::Userinfo, why);
    }
    let username = decode(username, "user name")?;
    let password = password.map(|password| decode(password, "password")).transpose()?;
    match Credentials::find_fault(&username, password.as_deref().unwrap_or("")) {
        None => Ok((username, password)),
        Some(why) => fault(UrlError::Userinfo, why),
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decode(text: &str, part: &str) -> Result<String, Fault> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let hex = |bytes: &mut std::str::Bytes<'_>| {
        bytes.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (hex(&mut bytes), hex(&mut bytes)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => {
                    let why = format!("\"%\" in the {part} must be percent-encoded as %25");
                    return fault(UrlError::Userinfo, why);
                }
            },
            _ => byte,
        });
    }
    String::from_utf8(decoded).or_else(|_| {
        fault(UrlError::Userinfo, format!("the {part} is not UTF-8 once percent-encoding is undone"))
    })
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
pub(crate) fn parse_host(host: &str) -> Result<String, Error> {
    let parsed = match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => return Ok(address.to_string()),
        Err(_) if host.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err(ParseError::InvalidDomainCharacter)
        }
        Err(_) => Host::parse(host),
    };
    parsed.map(bare).map_err(|error| {
        let why = if host.contains("://") {
            format!("the host {} is a URL; use Options::from_url", Quoted(hide_secrets(host).as_bytes()))
        } else if host.is_empty() {
            "the host is empty".to_owned()
        } else if host.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            format!("the host {} has a port; set it with Options::port", Quoted(host.as_bytes()))
        } else {
            describe_host(host, error)
        };
        Error::options(OptionsError::Host, why)
    })
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
            assert_eq!(parse_host(host).unwrap(), expected, "{host}");
        }
        for host in [
            "", " ", "a b", "a\r\nb", "a\0", "a\tb", "a/b", "a?b", "a#b", "a@b", "a:80", "[::1", "::1]", "[]",
        ] {
            let error = parse_host(host).unwrap_err();
            assert!(matches!(error, Error::Options { error: OptionsError::Host, .. }), "{host:?}");
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
