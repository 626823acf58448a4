//! The response: what a server writes (RFC 6455 §4.2.2) and what a client reads and checks (§4.1).

use std::fmt;

use crate::{
    error::{Error, HandshakeError},
    options::DeflateParams,
    redact::BodyBytes,
    socket::{Socket, Timings},
};

use super::{
    extension::parse_extensions,
    head::Head,
    headers::{Headers, check_headers, parse_value},
};

/// The answer of a server: 101, or a refusal with its body. `Debug` shows the first 200 bytes of the body as text, and
/// not the values of `Set-Cookie`, `Cookie`, `Authorization` and `Proxy-Authorization`.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    code: u16,
    reason: String,
    version: (u8, u8),
    headers: Headers,
    body: BodyBytes,
    deflate: Option<DeflateParams>,
    socket: Option<Socket>,
    timings: Timings,
}

impl Response {
    /// The status code, 101 once a connection is open
    /// ([RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2)).
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The reason phrase, which may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The version of HTTP, `(1, 1)` once a connection is open.
    #[must_use]
    pub const fn version(&self) -> (u8, u8) {
        self.version
    }

    /// The headers, in order.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The value of the first header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Whether HTTP could go on after this response; never after 101. This crate does not: it closes.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.code != 101 && self.headers.keep_alive(self.version)
    }

    /// The subprotocol that the server chose
    /// ([RFC 6455 §1.9](https://www.rfc-editor.org/rfc/rfc6455#section-1.9)), one of those that were offered.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.header("sec-websocket-protocol").filter(|_| self.code == 101)
    }

    /// What compression was agreed on; `None`: there is none.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn deflate(&self) -> Option<DeflateParams> {
        self.deflate
    }

    /// Returns the start of the body of a refusal: the bytes that arrived within a second after the head, at most the
    /// size limit of a head (16 KiB by default).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body.0
    }

    /// The socket under the connection. `None` for a transport that the caller has connected, and for a refusal.
    #[must_use]
    pub const fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    /// Returns the duration of each step of connecting.
    #[must_use]
    pub const fn timings(&self) -> Timings {
        self.timings
    }

    pub(crate) fn with_body(self, body: Vec<u8>) -> Self {
        Self { body: BodyBytes(body), ..self }
    }

    pub(crate) fn with_deflate(self, deflate: Option<DeflateParams>) -> Self {
        Self { deflate, ..self }
    }

    pub(crate) const fn set_timings(&mut self, timings: Timings) {
        self.timings = timings;
    }

    pub(crate) fn with_connection(self, socket: Option<Socket>, timings: Timings) -> Self {
        Self { socket, timings, ..self }
    }

    /// Whether another response follows, and this one means nothing
    /// ([RFC 9110 §15.2](https://www.rfc-editor.org/rfc/rfc9110#section-15.2)).
    pub(crate) const fn is_interim(&self) -> bool {
        matches!(self.code, 100 | 102..200)
    }

    /// Reads a whole head.
    pub(crate) fn parse(head: &Head) -> Result<Self, HandshakeError> {
        Self::parse_bytes(&head.bytes, head.headers, false)
    }

    fn parse_bytes(bytes: &[u8], headers: usize, skips_malformed: bool) -> Result<Self, HandshakeError> {
        let mut room = vec![httparse::EMPTY_HEADER; headers];
        let mut parsed = httparse::Response::new(&mut room);
        // RFC 9112 §5.2: "A user agent that receives an obs-fold in a response message [...] MUST replace each
        // received obs-fold with one or more SP octets prior to interpreting the field value."
        let mut config = httparse::ParserConfig::default();
        config.allow_obsolete_multiline_headers_in_responses(true);
        config.ignore_invalid_headers_in_responses(skips_malformed);
        let Ok(httparse::Status::Complete(_)) = config.parse_response(&mut parsed, bytes) else {
            return Err(HandshakeError::Malformed);
        };
        let (Some(code @ 100..), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(HandshakeError::Malformed);
        };
        // The parser drops a reason phrase that is not ASCII, although RFC 9112 §4 allows it.
        let reason = parsed.reason.filter(|reason| !reason.is_empty()).map_or_else(
            || {
                let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
                parse_value(line.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default().trim_ascii_end())
            },
            str::to_owned,
        );
        Ok(Self {
            code,
            reason,
            version: (1, minor),
            headers: Headers::from_parsed(parsed.headers),
            body: BodyBytes::default(),
            deflate: None,
            socket: None,
            timings: Timings::default(),
        })
    }

    /// Recovers a refusal from a malformed head: its status line and its well-formed header lines, within the limit.
    /// Returns `None` if there is no status line, or if its status is no refusal.
    #[cold]
    pub(crate) fn salvage(head: &Head, max_headers: usize) -> Option<Self> {
        let lines = head.bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let whole: Vec<_> = lines.take(max_headers.saturating_add(1)).chain([&b"\r\n"[..]]).collect();
        let response = Self::parse_bytes(&whole.concat(), whole.len(), true).ok()?;
        (response.code >= 200).then_some(response)
    }
}

impl fmt::Debug for Response {
    /// Prints one line, which [`Error`](crate::Error) contains too. Fields that a refusal never has are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, reason, version, headers, body, deflate, socket, timings } = self;
        let mut shown = f.debug_struct("Response");
        shown.field("code", code).field("reason", reason).field("version", version).field("headers", headers);
        if *code == 101 {
            shown.field("deflate", deflate).field("socket", socket).field("timings", timings);
        } else {
            shown.field("body", body);
        }
        shown.finish()
    }
}

/// What a client asked for, which is all that a server may choose from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    /// What the server must answer to the key.
    pub(crate) accept: &'a str,
    pub(crate) subprotocols: &'a [String],
    /// The names of the extensions.
    pub(crate) extensions: &'a [&'a str],
}

/// Whether the server opened the connection that was asked for
/// ([RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1)).
pub(crate) fn check_response(response: &Response, offer: Offer<'_>) -> Result<(), HandshakeError> {
    let headers = &response.headers;
    // §4.1: "If the status code received from the server is not 101, the client handles the response per
    // HTTP".
    if response.code != 101 {
        return Err(HandshakeError::Status(response.code));
    }
    if response.version != (1, 1) {
        return Err(HandshakeError::HttpVersion);
    }
    // §4.1: "If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value
    // that is not an ASCII case-insensitive match for the value "websocket", the client MUST _Fail the
    // WebSocket Connection_."
    if !headers.get_only("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(HandshakeError::Upgrade);
    }
    // §4.1: "If the response lacks a |Connection| header field or the |Connection| header field doesn't
    // contain a token that is an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail
    // the WebSocket Connection_."
    if !headers.has_token("connection", "upgrade") {
        return Err(HandshakeError::Connection);
    }
    // §4.1: "If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept|
    // contains a value other than the base64-encoded SHA-1 [...] the client MUST _Fail the WebSocket
    // Connection_."
    if headers.get_only("sec-websocket-accept") != Some(offer.accept) {
        return Err(HandshakeError::Accept);
    }
    // §4.1: "If the response includes a |Sec-WebSocket-Extensions| header field and this header field
    // indicates the use of an extension that was not present in the client's handshake [...], the client MUST
    // _Fail the WebSocket Connection_."
    let chosen = parse_extensions(headers)?;
    if !chosen.iter().all(|extension| offer.extensions.contains(&extension.name.as_str())) {
        return Err(HandshakeError::Extension);
    }
    // §4.1: "If the response includes a |Sec-WebSocket-Protocol| header field and this header field indicates
    // the use of a subprotocol that was not present in the client's handshake [...], the client MUST _Fail
    // the WebSocket Connection_."
    if headers.contains("sec-websocket-protocol") {
        let chosen = headers.get_only("sec-websocket-protocol");
        if !chosen.is_some_and(|chosen| offer.subprotocols.iter().any(|offered| offered == chosen)) {
            return Err(HandshakeError::Subprotocol);
        }
    }
    Ok(())
}

/// The answer of a server that opens a connection
/// ([RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2)).
pub(crate) fn encode_switching(
    accept: &str,
    subprotocol: Option<&str>,
    extensions: Option<&str>,
    headers: &[(String, String)],
) -> Result<Vec<u8>, Error> {
    check_headers(headers)?;
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    let subprotocol = subprotocol.map(|subprotocol| ("Sec-WebSocket-Protocol", subprotocol));
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let extensions = extensions.map(|extensions| ("Sec-WebSocket-Extensions", extensions));
    for (name, value) in subprotocol.into_iter().chain(extensions).chain(headers) {
        for part in [name, ": ", value, "\r\n"] {
            response.push_str(part);
        }
    }
    response.push_str("\r\n");
    Ok(response.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::OptionsError;

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const VALID: [&str; 4] = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];

    fn parse(lines: &[&str]) -> Result<Response, HandshakeError> {
        Response::parse(&Head::of(&format!("{}\r\n\r\n", lines.join("\r\n"))))
    }

    fn check(lines: &[&str]) -> Result<(), HandshakeError> {
        let subprotocols = ["chat".to_owned(), "superchat".to_owned()];
        let offer = Offer { accept: ACCEPT, subprotocols: &subprotocols, extensions: &["x-known"] };
        check_response(&parse(lines)?, offer)
    }

    fn check_with(index: usize, line: &str) -> Result<(), HandshakeError> {
        let mut lines = VALID;
        lines[index] = line;
        check(&lines)
    }

    fn check_and(line: &str) -> Result<(), HandshakeError> {
        check(&[&VALID[..], &[line]].concat())
    }

    fn check_without(index: usize) -> Result<(), HandshakeError> {
        let mut lines = VALID.to_vec();
        lines.remove(index);
        check(&lines)
    }

    /// §4.1: "If the status code received from the server is not 101, the client handles the response per
    /// HTTP".
    #[test]
    fn only_101_opens() {
        assert_eq!(check(&VALID), Ok(()));
        for status in [100, 102, 200, 204, 301, 401, 404, 500, 999] {
            let line = format!("HTTP/1.1 {status} x");
            assert_eq!(check_with(0, &line), Err(HandshakeError::Status(status)));
        }
        for line in ["HTTP/1.1 101", "HTTP/1.1 101 ", "HTTP/1.1 101 \u{e9}"] {
            assert_eq!(check_with(0, line), Ok(()), "{line}");
        }
        assert_eq!(check_with(0, "HTTP/1.0 101 Switching Protocols"), Err(HandshakeError::HttpVersion));
        for line in
            ["HTTP/1.1 99 x", "HTTP/1.1 099 x", "HTTP/1.1 1010", "HTTP/2.0 101 x", "HTTP/1.1  101 x", "x"]
        {
            assert_eq!(check_with(0, line), Err(HandshakeError::Malformed), "{line}");
        }
    }

    /// §4.1: "If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value
    /// that is not an ASCII case-insensitive match for the value "websocket", the client MUST _Fail the
    /// WebSocket Connection_."
    #[test]
    fn upgrade_is_websocket() {
        assert_eq!(check_with(1, "upgrade: WebSocket "), Ok(()));
        assert_eq!(check_without(1), Err(HandshakeError::Upgrade));
        for value in ["", "h2c", "websocket, h2c", "websocket/13"] {
            assert_eq!(check_with(1, &format!("Upgrade: {value}")), Err(HandshakeError::Upgrade), "{value}");
        }
        assert_eq!(check_and("Upgrade: websocket"), Err(HandshakeError::Upgrade));
    }

    /// §4.1: "If the response lacks a |Connection| header field or the |Connection| header field doesn't
    /// contain a token that is an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail
    /// the WebSocket Connection_."
    #[test]
    fn connection_names_upgrade() {
        for value in ["upgrade", "keep-alive, UPGRADE", "a ,upgrade"] {
            assert_eq!(check_with(2, &format!("Connection: {value}")), Ok(()), "{value}");
        }
        assert_eq!(check_without(2), Err(HandshakeError::Connection));
        for value in ["", "close", "keep-alive", "up grade"] {
            assert_eq!(
                check_with(2, &format!("Connection: {value}")),
                Err(HandshakeError::Connection),
                "{value}"
            );
        }
    }

    /// §4.1: "If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept|
    /// contains a value other than the base64-encoded SHA-1 [...] but ignoring any leading and trailing
    /// whitespace, the client MUST _Fail the WebSocket Connection_."
    #[test]
    fn accept_answers_the_key() {
        assert_eq!(check_with(3, &format!("sec-websocket-accept: \t {ACCEPT} \t")), Ok(()));
        assert_eq!(check_without(3), Err(HandshakeError::Accept));
        for value in ["", "x", &ACCEPT.to_lowercase(), &ACCEPT[..27], &format!("{ACCEPT}, {ACCEPT}")] {
            let line = format!("Sec-WebSocket-Accept: {value}");
            assert_eq!(check_with(3, &line), Err(HandshakeError::Accept), "{value}");
        }
        assert_eq!(check_and(VALID[3]), Err(HandshakeError::Accept));
    }

    /// §4.1: "If the response includes a |Sec-WebSocket-Extensions| header field and this header field
    /// indicates the use of an extension that was not present in the client's handshake [...], the client
    /// MUST _Fail the WebSocket Connection_."
    #[test]
    fn extensions_were_offered() {
        assert_eq!(check_and("Sec-WebSocket-Extensions: x-known; a=1"), Ok(()));
        for value in ["permessage-deflate", "x-known, x-other", "X-KNOWN", ";", "x-known; a=\""] {
            let line = format!("Sec-WebSocket-Extensions: {value}");
            assert_eq!(check_and(&line), Err(HandshakeError::Extension), "{value}");
        }
    }

    /// §4.1: "If the response includes a |Sec-WebSocket-Protocol| header field and this header field
    /// indicates the use of a subprotocol that was not present in the client's handshake [...], the client
    /// MUST _Fail the WebSocket Connection_."
    #[test]
    fn subprotocol_was_offered() {
        assert_eq!(check_and("Sec-WebSocket-Protocol: superchat"), Ok(()));
        for value in ["", "other", "Chat", "chat, superchat", "chat,", "\"chat\""] {
            let line = format!("Sec-WebSocket-Protocol: {value}");
            assert_eq!(check_and(&line), Err(HandshakeError::Subprotocol), "{value}");
        }
        let twice = [&VALID[..], &["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"]].concat();
        assert_eq!(check(&twice), Err(HandshakeError::Subprotocol));
    }

    #[test]
    fn response_tells_what_came() {
        let response =
            parse(&["HTTP/1.0 404 Not  Found", "A: 1", "a: 2", "Sec-WebSocket-Protocol: chat"]).unwrap();
        assert_eq!((response.code(), response.reason(), response.version()), (404, "Not  Found", (1, 0)));
        for (line, reason) in
            [("HTTP/1.1 403 déjà vu", "déjà vu"), ("HTTP/1.1 403 ", ""), ("HTTP/1.1 403", "")]
        {
            assert_eq!(parse(&[line]).unwrap().reason(), reason);
        }
        assert_eq!(response.headers().get_all("A").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (response.header("a"), response.subprotocol(), response.body()),
            (Some("1"), None, &[][..])
        );
        for (lines, keep_alive) in [
            (&["HTTP/1.1 404 x"][..], true),
            (&["HTTP/1.1 404 x", "Connection: Close"], false),
            (&["HTTP/1.0 404 x"], false),
            (&["HTTP/1.0 404 x", "Connection: keep-alive"], true),
            (&VALID, false),
        ] {
            assert_eq!(parse(lines).unwrap().keep_alive(), keep_alive, "{lines:?}");
        }
    }

    #[test]
    fn written_response_is_that_of_the_rfc() {
        let headers = [("Set-Cookie".to_owned(), "a=b".to_owned())];
        let response = encode_switching(ACCEPT, Some("chat"), None, &headers).unwrap();
        assert_eq!(
            str::from_utf8(&response).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
             Set-Cookie: a=b\r\n\r\n"
        );
        let bad = [("A".to_owned(), "b\r\nC: d".to_owned())];
        let refused = encode_switching(ACCEPT, None, None, &bad).map_err(Error::options_kind);
        assert_eq!(refused, Err(OptionsError::Header));
    }
}
