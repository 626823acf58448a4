//! Explanations of invalid requests and answers: the header and its value, the limit, the protocol that the other end
//! seems to speak.

use std::fmt::Write as _;

use crate::{
    error::{HandshakeError, Quoted, guess_protocol},
    options::{HeadLimits, Role},
    redact::{hide_in_head, hide_parameters, hide_userinfo, is_token},
};

use super::{
    headers::Headers,
    request::Request,
    response::{Offer, Response},
};

/// Describes why these received bytes are not a head.
#[cold]
pub(crate) fn explain_head(error: HandshakeError, received: &[u8], limits: HeadLimits, peer: Role) -> String {
    let (peer, head) = match peer {
        Role::Client => ("client", "request"),
        Role::Server => ("server", "answer"),
    };
    match error {
        HandshakeError::NoHead if received.is_empty() && head == "answer" => {
            "the server closed the connection before it answered".to_owned()
        }
        HandshakeError::NoHead if received.is_empty() => {
            "the client closed the connection before it sent a request".to_owned()
        }
        HandshakeError::HeadTooLarge => {
            format!(
                "the head of the {peer}'s {head} is larger than max_head_len allows ({} bytes)",
                limits.max_len
            )
        }
        HandshakeError::TooManyHeaders => format!(
            "the head of the {peer}'s {head} has more headers than max_headers allows ({})",
            limits.max_headers
        ),
        HandshakeError::NoHead | HandshakeError::Malformed | HandshakeError::HttpVersion => {
            let lines = hide_in_head(received);
            let sent = lines.concat();
            let sent = Quoted(&sent);
            let is_http = || begins_http(error, received, head == "answer").then_some("HTTP");
            match guess_protocol(received).or_else(is_http) {
                Some("TLS") if head == "answer" => {
                    format!("the server speaks TLS on this port, use a wss:// URL; it sent {sent}")
                }
                Some("TLS") => format!("the client speaks TLS, but this port does not; it sent {sent}"),
                Some("HTTP/2") => {
                    format!("the {peer} speaks HTTP/2, only HTTP/1.1 is supported; it sent {sent}")
                }
                Some("HTTP") if error == HandshakeError::NoHead => {
                    format!("the {peer} closed the connection in the middle of its {head}: {sent}")
                }
                Some("HTTP") => match malformed_line(received).and_then(|index| lines.get(index)) {
                    Some(line) => format!("the {peer}'s {head} has the malformed line {}", Quoted(line)),
                    None => format!("the {peer}'s {head} has a malformed head: {sent}"),
                },
                Some(protocol) => format!(
                    "the {peer} does not speak HTTP on this port, it sent {sent}; it seems to speak {protocol}"
                ),
                None => format!("the {peer} did not send HTTP, but {sent}"),
            }
        }
        other => other.to_string(),
    }
}

/// Returns whether these bytes can be the start of an HTTP answer or request.
fn begins_http(error: HandshakeError, received: &[u8], is_answer: bool) -> bool {
    if is_answer {
        return b"HTTP/".starts_with(received);
    }
    let received = received.trim_ascii_start();
    let method_len = received.iter().position(|&byte| byte == b' ').unwrap_or(received.len());
    let (method, target) = received.split_at(method_len);
    method.iter().all(u8::is_ascii_uppercase)
        && (error == HandshakeError::NoHead
            || target.starts_with(b" /")
            || target.windows(5).any(|part| part == b"HTTP/"))
}

/// Finds the first malformed header line of a head whose first line is well-formed.
fn malformed_line(head: &[u8]) -> Option<usize> {
    let mut lines = head.split_inclusive(|&byte| byte == b'\n');
    let is_start = |line: &[u8]| line.ends_with(b"\r\n") && line.windows(5).any(|part| part == b"HTTP/");
    let start = lines.next()?;
    if !is_start(start) {
        return Some(0);
    }
    let at = lines.take_while(|line| *line != b"\r\n").position(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        !line.ends_with(b"\r\n")
            || !line.contains(&b':')
            || !str::from_utf8(name).is_ok_and(is_token)
            || line.contains(&0)
    });
    at.map(|at| at + 1)
}

/// Describes why the answer of a server did not open the connection.
#[cold]
pub(crate) fn explain_answer(error: HandshakeError, response: &Response, offer: Offer<'_>) -> String {
    let headers = response.headers();
    match error {
        HandshakeError::Status(code) => describe_refusal(code, response),
        HandshakeError::HttpVersion => {
            let (major, minor) = response.version();
            format!("the server answered in HTTP/{major}.{minor}; a WebSocket needs HTTP/1.1")
        }
        HandshakeError::Upgrade => describe_header("server", headers, "Upgrade", "\"websocket\""),
        HandshakeError::Connection => describe_header("server", headers, "Connection", "\"Upgrade\""),
        HandshakeError::Accept => {
            let expected = format!("{}, which answers our key", Quoted(offer.accept.as_bytes()));
            describe_header("server", headers, "Sec-WebSocket-Accept", &expected)
        }
        HandshakeError::Subprotocol => {
            let offered = match offer.subprotocols {
                [] => "none was offered".to_owned(),
                offered => format!("offered: {}", list(offered)),
            };
            match headers.get_only("sec-websocket-protocol") {
                Some("") => format!("the server's header \"Sec-WebSocket-Protocol\" is empty; {offered}"),
                Some(chosen) => {
                    let chosen = Quoted(chosen.as_bytes());
                    format!("the server chose the subprotocol {chosen}, which was not offered; {offered}")
                }
                None => describe_header("server", headers, "Sec-WebSocket-Protocol", "one value"),
            }
        }
        HandshakeError::Extension => {
            let offered = match offer.extensions {
                [] => "none was offered".to_owned(),
                offered => format!("offered: {}", offered.join(", ")),
            };
            format!(
                "the server's answer to the offered extensions is not acceptable: \"Sec-WebSocket-Extensions\" is {}; \
                 {offered}",
                values(headers, "sec-websocket-extensions")
            )
        }
        other => other.to_string(),
    }
}

/// Describes a refusal: status, reason phrase, `Location`, start of the body.
fn describe_refusal(code: u16, response: &Response) -> String {
    let mut text = format!("the server answered {code}");
    if !response.reason().is_empty() {
        let quoted = Quoted(response.reason().as_bytes()).to_string();
        let _ = write!(text, " {}", quoted.trim_matches('"'));
    }
    text.push_str(" instead of 101");
    if let Some(location) = response.header("location") {
        let _ = write!(text, "; Location: {}", Quoted(hide_parameters(&hide_userinfo(location)).as_bytes()));
    }
    let body = response.body();
    let start = body.get(..400).unwrap_or(body);
    let is_text = |start: &[u8]| {
        let strange = start.iter().filter(|byte| matches!(byte, 0..=8 | 14..=31 | 127)).count();
        strange == 0 && String::from_utf8_lossy(start).matches('\u{fffd}').count() <= 1
    };
    if !body.is_empty() && response.header("content-encoding").is_none() && is_text(start) {
        let one_line = String::from_utf8_lossy(start).split_whitespace().collect::<Vec<_>>().join(" ");
        let (start, rest) = one_line.split_at(one_line.floor_char_boundary(200));
        let more = if rest.is_empty() { "" } else { "…" };
        let _ = write!(text, "; body: {}", Quoted(format!("{start}{more}").as_bytes()).up_to(usize::MAX));
    }
    text
}

/// Describes why a request is not an acceptable opening handshake.
#[cold]
pub(crate) fn explain_request(error: HandshakeError, request: &Request) -> String {
    let headers = request.headers();
    let header = |name, expected| describe_header("client", headers, name, expected);
    match error {
        HandshakeError::Method => {
            format!("the method is {}; a WebSocket is opened with GET", Quoted(request.method().as_bytes()))
        }
        HandshakeError::HttpVersion => {
            let (major, minor) = request.version();
            format!("the request is HTTP/{major}.{minor}; a WebSocket needs HTTP/1.1")
        }
        HandshakeError::Target => {
            let target = request.pathname();
            let path = target.split_once('?').map_or(target, |(path, _)| path);
            format!("{error}: {}", Quoted(path.as_bytes()))
        }
        HandshakeError::Upgrade => header("Upgrade", "\"websocket\""),
        HandshakeError::Connection => header("Connection", "\"Upgrade\""),
        HandshakeError::Host => header("Host", "a host, and a port if it is not the default"),
        HandshakeError::Key => header("Sec-WebSocket-Key", "16 bytes in base64"),
        HandshakeError::VersionMissing | HandshakeError::Version => header("Sec-WebSocket-Version", "\"13\""),
        HandshakeError::Body if headers.contains("transfer-encoding") => {
            "the request announces a body (\"Transfer-Encoding\"); an upgrade request has none".to_owned()
        }
        HandshakeError::Body => format!(
            "the request announces a body (\"Content-Length\" is {}); an upgrade request has none",
            values(headers, "content-length")
        ),
        HandshakeError::Subprotocol => format!(
            "the client's offer of subprotocols is malformed: \"Sec-WebSocket-Protocol\" is {}",
            values(headers, "sec-websocket-protocol")
        ),
        HandshakeError::Extension => format!(
            "the client's offer of extensions is malformed: \"Sec-WebSocket-Extensions\" is {}",
            values(headers, "sec-websocket-extensions")
        ),
        HandshakeError::Origin => format!(
            "the origin {} may not connect to {}; AcceptOptions::origins allows others",
            values(headers, "origin"),
            Quoted(request.host().unwrap_or("").as_bytes())
        ),
        other => other.to_string(),
    }
}

/// Describes that the client offers no subprotocol that the server supports.
#[cold]
pub(crate) fn explain_no_subprotocol(request: &Request, supported: &[String]) -> String {
    let offered: Vec<_> = request.subprotocols().map(str::to_owned).collect();
    let offered = if offered.is_empty() { "none".to_owned() } else { list(&offered) };
    let supported =
        if supported.is_empty() { String::new() } else { format!("; supported: {}", list(supported)) };
    format!("the client offers no supported subprotocol; offered: {offered}{supported}")
}

/// Describes a header that is missing, occurs more than once, or has the wrong value.
fn describe_header(peer: &str, headers: &Headers, name: &str, expected: &str) -> String {
    match headers.get_all(name).count() {
        0 => format!("the {peer} sent no header \"{name}\"; expected: {expected}"),
        1 => format!("the {peer}'s header \"{name}\" is {}; expected: {expected}", values(headers, name)),
        count => format!(
            "the {peer} sent the header \"{name}\" {count} times: {}; expected once: {expected}",
            values(headers, name)
        ),
    }
}

/// Quotes the values of the first few headers with this name.
fn values(headers: &Headers, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).map(str::to_owned).collect();
    list(&values)
}

fn list(texts: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = texts.iter().take(SHOWN).map(|text| Quoted(text.as_bytes()).to_string()).collect();
    let more = if texts.len() > SHOWN { format!(" and {} more", texts.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_that_ends_anywhere_in_the_middle_is_no_other_protocol() {
        let limits = HeadLimits { max_len: 1 << 10, max_headers: 10 };
        for (peer, head) in [
            (Role::Client, "GET / HTTP/1.1\r\nHost: h\r\n"),
            (Role::Client, "\r\nDELETE /chat HTTP/1.1\r\nHost: h\r\n"),
            (Role::Client, "GET ws://h/ HTTP/1.1\r\nHost: h\r\n"),
            (Role::Server, "HTTP/1.1 404 Not Found\r\nDate: x\r\n"),
        ] {
            for len in 1..=head.len() {
                let text = explain_head(HandshakeError::NoHead, &head.as_bytes()[..len], limits, peer);
                assert!(text.contains("closed the connection in the middle of its"), "{text}");
            }
        }
        let malformed = |head: &[u8]| explain_head(HandshakeError::Malformed, head, limits, Role::Client);
        let text = malformed(b"PATCH /chat HTTP/1.1\r\nno header\r\n");
        assert!(text.contains("malformed line \"no header"), "{text}");
        for strange in [&b"EHLO client\r\n"[..], b"\0\0\0", b"quit\r\n"] {
            let text = malformed(strange);
            assert!(text.contains("did not send HTTP"), "{text}");
        }
    }
}
