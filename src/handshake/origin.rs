//! Which pages may connect (RFC 6455 §10.2): `Origin` against `Host` or against what the server allows.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    error::{Error, HandshakeError, OptionsError, Quoted},
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
        address.parse::<Ipv6Addr>().ok()?;
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

/// Returns whether these are the same name, or two spellings of the same IPv6 address.
fn is_same_host(one: &str, other: &str) -> bool {
    let address = |host: &str| host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    one.eq_ignore_ascii_case(other)
        || address(one).zip(address(other)).is_some_and(|(one, other)| one == other)
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

/// An origin of a page that has a host ([RFC 6454 §7](https://www.rfc-editor.org/rfc/rfc6454#section-7)).
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = split_scheme(text)?;
        Some(Self { scheme, authority: parse_authority(authority)? })
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(self.scheme))
    }

    /// Whether a page of this origin was loaded from the server that is addressed so. A `Host` without a port
    /// is at the default port of whatever scheme the page was loaded by.
    fn is_at(&self, host: Authority<'_>) -> bool {
        is_same_host(self.authority.host, host.host)
            && match host.port {
                Some(port) => self.port() == Some(port),
                None => self.port() == default_port(self.scheme),
            }
    }
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(is_scheme);
    is_one.then_some((scheme, rest))
}

/// An entry of [`Origins::list`]: one origin, or the origins that match a pattern.
#[derive(Debug, Clone, Copy)]
enum Allowed<'a> {
    /// An origin without a host: `null`, or a scheme such as `file://`.
    Hostless(&'a str),
    Pattern {
        /// The scheme, the port, and the host, or the domain whose subdomains match.
        origin: Origin<'a>,
        subdomains: bool,
        any_port: bool,
    },
}

impl<'a> Allowed<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Hostless(text));
        }
        let (scheme, authority) = split_scheme(text)?;
        if authority.is_empty() {
            // An `http` or `https` origin needs a host.
            return default_port(scheme).is_none().then_some(Self::Hostless(text));
        }
        let (authority, any_port) = match authority.strip_suffix(":*") {
            Some(host) => (host, true),
            None => (authority, false),
        };
        let (authority, subdomains) = match authority.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (authority, false),
        };
        let origin = Origin { scheme, authority: parse_authority(authority)? };
        let host = origin.authority.host;
        let is_domain = are_labels(host) && host.parse::<Ipv4Addr>().is_err();
        let has_port = origin.authority.port.is_some() || authority.ends_with(':');
        let is_allowed = (is_domain || !subdomains) && !(has_port && any_port);
        is_allowed.then_some(Self::Pattern { origin, subdomains, any_port })
    }

    fn allows(&self, text: &str) -> bool {
        let (allowed, subdomains, any_port) = match *self {
            Self::Hostless(allowed) => return text.eq_ignore_ascii_case(allowed),
            Self::Pattern { origin, subdomains, any_port } => (origin, subdomains, any_port),
        };
        let Some(origin) = Origin::parse(text) else { return false };
        let (host, domain) = (origin.authority.host, allowed.authority.host);
        let is_host = if subdomains {
            // The labels of the subdomain, with the dot behind them.
            let start = host.len().checked_sub(domain.len()).and_then(|len| host.split_at_checked(len));
            start.is_some_and(|(labels, end)| {
                end.eq_ignore_ascii_case(domain) && labels.strip_suffix('.').is_some_and(are_labels)
            })
        } else {
            is_same_host(host, domain)
        };
        is_host
            && origin.scheme.eq_ignore_ascii_case(allowed.scheme)
            && (any_port || origin.port() == allowed.port())
    }
}

/// Returns whether these are non-empty labels of a host name.
fn are_labels(text: &str) -> bool {
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label))
}

/// Checks that each entry has one of the forms of [`Origins::list`].
pub(crate) fn check_origins(origins: &Origins) -> Result<(), Error> {
    let Policy::List(list) = origins.policy() else { return Ok(()) };
    match list.iter().find(|origin| Allowed::parse(origin).is_none()) {
        None => Ok(()),
        Some(malformed) => {
            let malformed = Quoted(malformed.as_bytes());
            let text = format!(
                "the allowed origin {malformed} is malformed: expected scheme://host, scheme://host:port, \
                 scheme://host:*, scheme://*.domain, null or file://, without a path"
            );
            Err(Error::options(OptionsError::Origin, text))
        }
    }
}

/// Whether the page that the request comes from, if any, may connect. Two origins are none.
pub(crate) fn check_origin(request: &Request, origins: &Origins) -> Result<(), HandshakeError> {
    let headers: &Headers = request.headers();
    if matches!(origins.policy(), Policy::Any) || !headers.contains("origin") {
        return Ok(());
    }
    let (Some(origin), Some(host)) = (headers.get_only("origin"), request.host()) else {
        return Err(HandshakeError::Origin);
    };
    let allowed = match origins.policy() {
        Policy::Any => true,
        Policy::Same => {
            let both = Origin::parse(origin).zip(parse_authority(host));
            both.is_some_and(|(origin, host)| origin.is_at(host))
        }
        Policy::List(list) => {
            list.iter().filter_map(|allowed| Allowed::parse(allowed)).any(|allowed| allowed.allows(origin))
        }
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
            ("http://[::1]", "[0:0:0:0:0:0:0:1]:80"),
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
            ("http://[::1]", "[::2]"),
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
