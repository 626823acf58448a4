//! Which pages may connect (RFC 6455 §10.2): `Origin` against `Host` or against what the server allows.

use crate::{
    error::{HandshakeError, OptionsError},
    options::{Origins, Policy},
};

use super::{headers::Headers, request::Request};

/// A host and a port as they stand in `Host`, in `Origin` and in the target of a request.
#[derive(Debug, Clone, Copy)]
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

/// Reads what may stand in `Host` ([RFC 9110 §7.2](https://www.rfc-editor.org/rfc/rfc9110#section-7.2)), but
/// without the punctuation that no name of a host has.
fn parse_authority(text: &str) -> Option<Authority<'_>> {
    let (host, port) = if text.starts_with('[') {
        let (host, rest) = text.split_at(text.find(']')? + 1);
        let address = host.strip_prefix('[')?.strip_suffix(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
    if host.is_empty() || !host.starts_with('[') && !host.bytes().all(is_name) {
        return None;
    }
    let port = match port {
        None | Some("") => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|&port: &u16| port > 0)?)
        }
        Some(_) => return None,
    };
    Some(Authority { host, port })
}

/// Whether this may stand in `Host`.
pub(crate) fn is_authority(text: &str) -> bool {
    parse_authority(text).is_some()
}

/// The port that a scheme has when none is named.
fn default_port(scheme: &str) -> Option<u16> {
    let is = |name| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(443)
    } else if is("http") || is("ws") {
        Some(80)
    } else {
        None
    }
}

/// An origin ([RFC 6454 §7](https://www.rfc-editor.org/rfc/rfc6454#section-7)) other than `null`.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
            return None;
        }
        Some(Self { scheme, authority: parse_authority(authority)? })
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(self.scheme))
    }

    /// Whether a page of this origin was loaded from the server that is addressed so. A `Host` without a port
    /// is at the default port of whatever scheme the page was loaded by.
    fn is_at(&self, host: Authority<'_>) -> bool {
        self.authority.host.eq_ignore_ascii_case(host.host)
            && match host.port {
                Some(port) => self.port() == Some(port),
                None => self.port() == default_port(self.scheme),
            }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.authority.host.eq_ignore_ascii_case(other.authority.host)
            && self.port() == other.port()
    }
}

/// Whether an absolute URL with this scheme and authority is at the host that `Host` names.
pub(crate) fn is_at_host(scheme: &str, authority: &str, host: &str) -> bool {
    match (parse_authority(authority), parse_authority(host)) {
        (Some(authority), Some(host)) => Origin { scheme, authority }.is_at(host),
        _ => false,
    }
}

/// Whether what the server allows can match anything at all.
pub(crate) fn check_origins(origins: &Origins) -> Result<(), OptionsError> {
    match origins.policy() {
        Policy::List(list) if !list.iter().all(|origin| Origin::parse(origin).is_some()) => {
            Err(OptionsError::Origin)
        }
        _ => Ok(()),
    }
}

/// Whether the page that the request comes from, if any, may connect. Two origins are none.
pub(crate) fn check_origin(request: &Request, origins: &Origins) -> Result<(), HandshakeError> {
    let headers: &Headers = request.headers();
    if matches!(origins.policy(), Policy::Any) || !headers.contains("origin") {
        return Ok(());
    }
    let (Some(origin), Some(host)) = (headers.get_only("origin"), headers.get_only("host")) else {
        return Err(HandshakeError::Origin);
    };
    let parsed = Origin::parse(origin);
    let allowed = match origins.policy() {
        Policy::Any => true,
        Policy::Same => parsed.zip(parse_authority(host)).is_some_and(|(origin, host)| origin.is_at(host)),
        Policy::List(list) => parsed.is_some_and(|origin| {
            list.iter().filter_map(|allowed| Origin::parse(allowed)).any(|allowed| allowed.is_same(&origin))
        }),
        Policy::Predicate(allows) => allows(origin, host),
    };
    if allowed { Ok(()) } else { Err(HandshakeError::Origin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(origin: &str, host: &str) -> bool {
        Origin::parse(origin).zip(parse_authority(host)).is_some_and(|(origin, host)| origin.is_at(host))
    }

    /// CVE-2018-14732: any page could connect.
    #[test]
    fn origin_is_that_of_host_with_default_ports_left_out() {
        for (origin, host) in [
            ("https://example.com", "example.com"),
            ("https://EXAMPLE.com", "Example.com"),
            ("https://example.com", "example.com:443"),
            ("https://example.com:443", "example.com"),
            ("http://example.com", "example.com:80"),
            ("http://example.com:8080", "example.com:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("chrome-extension://abc", "abc"),
        ] {
            assert!(same(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "example.com"),
            ("", "example.com"),
            ("example.com", "example.com"),
            ("https://evil.com", "example.com"),
            ("https://example.com.evil.com", "example.com"),
            ("https://evilexample.com", "example.com"),
            ("https://example.com:8443", "example.com"),
            ("https://example.com", "example.com:8443"),
            ("http://example.com", "example.com:443"),
            ("https://example.com/", "example.com"),
            ("https://example.com@evil.com", "evil.com"),
            ("https://example.com https://evil.com", "example.com"),
            ("https://", ""),
            ("https://example.com:", "example.com:x"),
            ("file://", "example.com"),
        ] {
            assert!(!same(origin, host), "{origin} {host}");
        }
    }

    /// CVE-2026-61666: a malformed `Host` raised.
    #[test]
    fn only_a_host_and_a_port_are_an_authority() {
        for text in ["h", "h:", "h:80", "1.2.3.4", "[::1]", "[::1]:65535", "a_b.c~d", "%41"] {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "", ":", ":80", "h:0", "h:65536", "h:-1", "h:+1", "h: 80", "h:80:80", "::1", "[", "]", "[]",
            "[::1", "[::1]80", "[::1]:", "[h]", "u@h", "h/", "h?", "h#", "a,b", "a b", "h\\", "é", "\0",
            "h\r\n", "*",
        ] {
            assert_eq!(is_authority(text), text == "[::1]:", "{text:?}");
        }
    }
}
