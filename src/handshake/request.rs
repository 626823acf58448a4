//! The request: what a client writes (RFC 6455 §4.1) and what a server reads and checks (§4.2.1).

use std::{borrow::Cow, fmt, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    error::{Error, HandshakeError, OptionsError, Quoted},
    options::{Credentials, DeflateParams, Options, encode_offers},
    redact::{hide_userinfo, is_token},
    socket::Socket,
};

use super::{
    extension::parse_extensions,
    head::Head,
    headers::{Headers, check_headers, check_subprotocols, describe_char, trim},
    key::is_key,
    origin::is_authority,
};

/// The HTTP request of a client, for a WebSocket or anything else. `Debug` does not show the values of `Authorization`,
/// `Proxy-Authorization`, `Cookie` and `Set-Cookie`.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// In a box, since futures of handshakes and of handlers hold it several times.
    parts: Box<Parts>,
}

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    method: String,
    version: (u8, u8),
    target: String,
    pathname: String,
    headers: Headers,
    subprotocol: Option<String>,
    deflate: Option<DeflateParams>,
    socket: Option<Socket>,
}

impl Request {
    /// The method, which is `GET` in a request for a WebSocket.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.parts.method
    }

    /// The version of HTTP, `(1, 1)` in a request for a WebSocket.
    #[must_use]
    pub const fn version(&self) -> (u8, u8) {
        self.parts.version
    }

    /// The resource name: the path with the query, if there is one
    /// ([RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3)). It is never decoded. It starts with
    /// `/`, but in a request that [`Upgrade::check`](crate::Upgrade::check) refuses.
    #[must_use]
    pub fn pathname(&self) -> &str {
        &self.parts.pathname
    }

    /// The resource name without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.parts.pathname.split_once('?').map_or(self.parts.pathname.as_str(), |(path, _)| path)
    }

    /// What follows the first `?` of the resource name, as it came.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.parts.pathname.split_once('?').map(|(_, query)| query)
    }

    /// The names and values of the query, decoded as those of a form.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        url::form_urlencoded::parse(self.query().unwrap_or("").as_bytes())
    }

    /// The first value that the query has for this name, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// The headers, in order.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// The headers, to change what those who look at the request later see of it.
    #[must_use]
    pub const fn headers_mut(&mut self) -> &mut Headers {
        &mut self.parts.headers
    }

    /// The value of the first header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)
    }

    /// Returns the host that the request is for, with its port if there is one, as received: from an absolute URL as
    /// the target, as proxies write it, otherwise from `Host` ([RFC 9112
    /// §3.2.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2)). `None`: there is no `Host`, or several.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match split_absolute(&self.parts.target) {
            Some((authority, _)) => Some(authority),
            None => self.parts.headers.get_only("host"),
        }
    }

    /// The names and values of the cookies
    /// ([RFC 6265 §4.2](https://www.rfc-editor.org/rfc/rfc6265#section-4.2)), in order, as they came.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts
            .headers
            .get_all("cookie")
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (trim(name), trim(value)))
    }

    /// The value of the first cookie with this name, in this case.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|&(other, _)| other == name).map(|(_, value)| value)
    }

    /// The subprotocols that the client offers, the preferred ones first
    /// ([RFC 6455 §11.3.4](https://www.rfc-editor.org/rfc/rfc6455#section-11.3.4)).
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.parts.headers.elements("sec-websocket-protocol")
    }

    /// The subprotocol that was agreed on, one of those; `None`: there is none, or the request was not accepted yet.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.parts.subprotocol.as_deref()
    }

    /// The names of the extensions that the client offers, the preferred ones first
    /// ([RFC 6455 §11.3.2](https://www.rfc-editor.org/rfc/rfc6455#section-11.3.2)). None, where the list is
    /// malformed.
    #[must_use]
    pub fn extensions(&self) -> Vec<String> {
        parse_extensions(&self.parts.headers)
            .map(|extensions| extensions.into_iter().map(|extension| extension.name).collect())
            .unwrap_or_default()
    }

    /// What compression was agreed on; `None`: there is none, or the request was not accepted yet.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn deflate(&self) -> Option<DeflateParams> {
        self.parts.deflate
    }

    /// The socket that the request came by, which never keeps the connection open. `None`, where the transport is the
    /// caller's.
    #[must_use]
    pub const fn socket(&self) -> Option<&Socket> {
        self.parts.socket.as_ref()
    }

    /// The address of the client. `None`, where it came by a unix socket or the transport is the caller's. Behind a
    /// proxy it is the proxy's.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.parts.socket {
            Some(socket) => socket.peer_addr(),
            None => None,
        }
    }

    pub(crate) fn set_socket(&mut self, socket: Option<Socket>) {
        self.parts.socket = socket;
    }

    /// What was agreed on.
    pub(crate) fn set_agreed(&mut self, subprotocol: Option<String>, deflate: Option<DeflateParams>) {
        (self.parts.subprotocol, self.parts.deflate) = (subprotocol, deflate);
    }

    /// Whether the client would send another request if this one got a plain answer.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.parts.headers.keep_alive(self.parts.version)
    }

    /// Reads a whole head.
    pub(crate) fn parse(head: &Head) -> Result<Self, HandshakeError> {
        let mut room = vec![httparse::EMPTY_HEADER; head.headers];
        let mut parsed = httparse::Request::new(&mut room);
        match parsed.parse(&head.bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::Version) if has_space_in_target(&head.bytes) => {
                return Err(HandshakeError::TargetSpace);
            }
            Err(httparse::Error::Version) => return Err(HandshakeError::HttpVersion),
            _ => return Err(HandshakeError::Malformed),
        }
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HandshakeError::Malformed);
        };
        let pathname = match split_absolute(target) {
            Some((_, pathname)) if pathname.starts_with('/') => pathname.to_owned(),
            Some((_, query)) => format!("/{query}"),
            None => target.to_owned(),
        };
        let parts = Parts {
            method: method.to_owned(),
            version: (1, minor),
            target: target.to_owned(),
            pathname,
            headers: Headers::from_parsed(parsed.headers),
            subprotocol: None,
            deflate: None,
            socket: None,
        };
        Ok(Self { parts: Box::new(parts) })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.parts.method)
            .field("version", &self.parts.version)
            .field("target", &hide_userinfo(&self.parts.target))
            .field("headers", &self.parts.headers)
            .field("subprotocol", &self.parts.subprotocol)
            .field("deflate", &self.parts.deflate)
            .field("socket", &self.parts.socket)
            .finish()
    }
}

/// Splits an absolute `http`, `https`, `ws` or `wss` URL into its authority and the rest.
fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let is_known = ["ws", "wss", "http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    is_known.then(|| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// Returns whether there is more than one word between the method and the HTTP version.
fn has_space_in_target(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    matches!(*words, [_, _, _, .., version] if version.starts_with(b"HTTP/"))
}

/// Returns whether this is the start of the PROXY protocol, textual or binary.
pub(crate) fn is_proxy_protocol(received: &[u8]) -> bool {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let start = received.get(..SIGNATURE.len()).unwrap_or(received);
    [&b"PROXY TCP"[..], b"PROXY UNKNOWN"].iter().any(|line| received.starts_with(line))
        || start.len() > 4 && SIGNATURE.starts_with(start)
}

/// Whether this is the opening handshake of a client
/// ([RFC 6455 §4.2.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1)). What the RFC leaves to HTTP is
/// checked as well, since whoever stands in between may see another request in a doubtful one.
pub(crate) fn check_request(request: &Request) -> Result<(), HandshakeError> {
    let headers = &request.parts.headers;
    // §4.1: "The method of the request MUST be GET, and the HTTP version MUST be at least 1.1."
    if request.parts.method != "GET" {
        return Err(HandshakeError::Method);
    }
    if request.parts.version != (1, 1) {
        return Err(HandshakeError::HttpVersion);
    }
    // §4.2.1: "A |Host| header field containing the server's authority."
    if !headers.get_only("host").is_some_and(is_authority) {
        return Err(HandshakeError::Host);
    }
    // §4.1: "The "Request-URI" part of the request MUST match the /resource name/ defined in Section 3 (a
    // relative URI) or be an absolute http/https URI". RFC 9112 §3.2.2: the host of an absolute one counts, not |Host|.
    let is_target = match split_absolute(&request.parts.target) {
        Some((authority, _)) => is_authority(authority),
        None => request.parts.target.starts_with('/'),
    };
    if !is_target || !request.parts.target.is_ascii() || request.parts.target.contains('#') {
        return Err(HandshakeError::Target);
    }
    // §4.2.1: "An |Upgrade| header field containing the value "websocket", treated as an ASCII
    // case-insensitive value."
    if !headers.has_token("upgrade", "websocket") {
        return Err(HandshakeError::Upgrade);
    }
    // §4.2.1: "A |Connection| header field that includes the token "Upgrade", treated as an ASCII
    // case-insensitive value."
    if !headers.has_token("connection", "upgrade") {
        return Err(HandshakeError::Connection);
    }
    // §4.2.1: "A |Sec-WebSocket-Version| header field, with a value of 13."
    if !headers.contains("sec-websocket-version") {
        return Err(HandshakeError::VersionMissing);
    }
    if headers.get_only("sec-websocket-version") != Some("13") {
        return Err(HandshakeError::Version);
    }
    // §4.2.1: "A |Sec-WebSocket-Key| header field with a base64-encoded (see Section 4 of [RFC4648]) value
    // that, when decoded, is 16 bytes in length."
    if !headers.get_only("sec-websocket-key").is_some_and(is_key) {
        return Err(HandshakeError::Key);
    }
    // The body of a GET has no meaning, but its bytes would be taken for frames, or the other way round.
    let has_length = headers.contains("content-length") && headers.get_only("content-length") != Some("0");
    if has_length || headers.contains("transfer-encoding") {
        return Err(HandshakeError::Body);
    }
    // §4.1: "The elements that comprise this value MUST be non-empty strings with characters in the range
    // U+0021 to U+007E not including separator characters".
    if !request.subprotocols().all(is_token) {
        return Err(HandshakeError::Subprotocol);
    }
    parse_extensions(headers).map(drop)
}

/// The request of a client, with what was asked for in the options, or the first of them that cannot be sent.
pub(crate) fn encode_request(options: &Options, authority: &str, key: &str) -> Result<Vec<u8>, Error> {
    let pathname = check_pathname(&options.pathname)?;
    check_headers(&options.headers)?;
    check_subprotocols(&options.subprotocols)?;
    let named = |wanted: &'static str| {
        options
            .headers
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let mut hosts = named("host");
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => authority,
        (Some(host), None) if is_authority(host) => host,
        (Some(host), None) => {
            let text = format!("the header \"Host\" has the malformed value {}", Quoted(host.as_bytes()));
            return Err(Error::options(OptionsError::Host, text));
        }
        _ => return Err(Error::options(OptionsError::Host, "the header \"Host\" is set twice")),
    };
    let mut request = format!(
        "GET {pathname} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    let mut line = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            request.push_str(part);
        }
    };
    if !options.subprotocols.is_empty() {
        line("Sec-WebSocket-Protocol", &options.subprotocols.join(", "));
    }
    if let Some(offers) = encode_offers(&options.deflate) {
        line("Sec-WebSocket-Extensions", &offers);
    }
    if let Some(credentials) = &options.credentials
        && named("authorization").next().is_none()
    {
        if let Some(why) = Credentials::find_fault(&credentials.username, &credentials.password) {
            return Err(Error::options(OptionsError::Credentials, why));
        }
        let pair = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
        line("Authorization", &format!("Basic {pair}"));
    }
    for (name, value) in options.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        line(name, value);
    }
    request.push_str("\r\n");
    Ok(request.into_bytes())
}

/// The pathname with a slash at the start, if nothing in it would end it early or change on the way.
fn check_pathname(pathname: &str) -> Result<Cow<'_, str>, Error> {
    let wrong = |c: &char| !matches!(c, '!'..='~') || matches!(c, '#' | '\\');
    if let Some(c) = pathname.chars().find(wrong) {
        // The query may contain a secret.
        let (path, query) = pathname.split_once('?').map_or((pathname, ""), |(path, _)| (path, "?…"));
        let shown = format!("{path}{query}");
        let what = describe_char(Some(c));
        let text = format!("the pathname {} {what}, which must be percent-encoded", Quoted(shown.as_bytes()));
        return Err(Error::options(OptionsError::Pathname, text));
    }
    Ok(if pathname.starts_with('/') { pathname.into() } else { format!("/{pathname}").into() })
}

#[cfg(test)]
mod tests;
