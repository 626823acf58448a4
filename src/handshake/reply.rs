//! Plain HTTP answers: refusals, and whatever a server has to say to who does not want a WebSocket.

use crate::{
    error::{Error, HandshakeError, OptionsError},
    redact::{BodyBytes, HeaderLines},
};

use super::headers::check_headers;

/// A plain HTTP answer, for [`Upgrade::respond`](crate::Upgrade::respond). It says how long it is and that
/// the connection ends with it. `Debug` shows the start of the body, and not the values of `Set-Cookie`, `Cookie`,
/// `Authorization` and `Proxy-Authorization`.
///
/// # Examples
///
/// ```
/// use coro_websocket::Reply;
/// let page = Reply::new(200).header("Content-Type", "text/html").body("<h1>It works</h1>");
/// # let _ = page;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: HeaderLines,
    body: BodyBytes,
    /// Whether the answer names the version that the server speaks.
    names_version: bool,
}

impl Reply {
    /// An answer with this status, from 200 to 599, and nothing else. With 426 it names the version of the
    /// protocol ([RFC 6455 §4.4](https://www.rfc-editor.org/rfc/rfc6455#section-4.4)).
    #[must_use]
    pub fn new(status: u16) -> Self {
        let (headers, body) = (HeaderLines::default(), BodyBytes::default());
        Self { status, headers, body, names_version: status == 426 }
    }

    /// An answer with this status and a body of plain text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status)
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("X-Content-Type-Options", "nosniff")
            .body(body.into())
    }

    /// Adds a header; order and duplicates are kept. What the answer itself is made of (`Connection`,
    /// `Upgrade`, `Sec-WebSocket-*`, `Content-Length`, `Transfer-Encoding`) is an error.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body. It is not sent with a status that has none (204, 304), nor to a HEAD request.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = BodyBytes(body.into());
        self
    }

    /// The answer to a request that breaks a rule; `None`, where it is not a server's to answer.
    pub(crate) fn refusal(error: HandshakeError, text: &str) -> Option<Self> {
        let mut reply = Self::text(error.status()?, format!("{text}\n"));
        reply.names_version |= error == HandshakeError::VersionMissing;
        Some(if error == HandshakeError::Method { reply.header("Allow", "GET") } else { reply })
    }

    /// Makes the answer for a fault of the server (500), without details.
    pub(crate) fn at_fault() -> Self {
        Self::text(500, "the server is at fault\n")
    }

    /// The answer to a request that did not come in time.
    pub(crate) fn timeout() -> Self {
        Self::text(408, "the request took too long\n")
    }

    /// The whole answer, or why it cannot be written. To a HEAD request it has no body.
    pub(crate) fn encode(&self, to_head: bool) -> Result<Vec<u8>, Error> {
        let &Self { status, ref headers, body: BodyBytes(ref body), names_version } = self;
        if !(200..=599).contains(&status) {
            let text = format!("the status {status} is not from 200 to 599");
            return Err(Error::options(OptionsError::Status, text));
        }
        check_headers(headers)?;
        let mut reply = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers.iter() {
            for part in [name, ": ", value, "\r\n"] {
                reply.push_str(part);
            }
        }
        if names_version {
            reply.push_str("Sec-WebSocket-Version: 13\r\n");
        }
        // RFC 9110 §15.5.22: "The server MUST send an Upgrade header field in a 426 response".
        reply.push_str(if status == 426 {
            "Upgrade: websocket\r\nConnection: close, Upgrade\r\n"
        } else {
            "Connection: close\r\n"
        });
        let has_body = !matches!(status, 204 | 304);
        if has_body {
            reply.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        reply.push_str("\r\n");
        let mut reply = reply.into_bytes();
        if has_body && !to_head {
            reply.extend_from_slice(body);
        }
        Ok(reply)
    }
}

/// The reason phrase of a status that a server is likely to answer with; the others go without.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &Reply, to_head: bool) -> String {
        String::from_utf8(reply.encode(to_head).unwrap()).unwrap()
    }

    #[test]
    fn reply_is_a_whole_answer_that_ends_the_connection() {
        let reply = Reply::new(200).header("A", "1").header("A", "2").body("hello");
        let head = "HTTP/1.1 200 OK\r\nA: 1\r\nA: 2\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(text(&reply, false), format!("{head}hello"));
        assert_eq!(text(&reply, true), head);
        assert_eq!(
            text(&Reply::new(204).body("x"), false),
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        );
        assert!(text(&Reply::new(299), false).starts_with("HTTP/1.1 299 \r\n"));
    }

    #[test]
    fn reply_has_a_final_status() {
        for status in [0, 99, 100, 101, 199, 600, 999, u16::MAX] {
            assert_eq!(
                Reply::new(status).encode(false).map_err(Error::options_kind),
                Err(OptionsError::Status)
            );
        }
    }

    #[test]
    fn headers_of_a_reply_cannot_split_it() {
        for bad in ["\r", "\n", "\0", "\u{80}"] {
            assert_eq!(
                Reply::new(200).header("A", bad).encode(false).map_err(Error::options_kind),
                Err(OptionsError::Header)
            );
            assert_eq!(
                Reply::new(200).header(bad, "a").encode(false).map_err(Error::options_kind),
                Err(OptionsError::Header)
            );
        }
        assert_eq!(
            Reply::new(200).header("A ", "a").encode(false).map_err(Error::options_kind),
            Err(OptionsError::Header)
        );
        assert_eq!(
            Reply::new(200).header("Connection", "x").encode(false).map_err(Error::options_kind),
            Err(OptionsError::HeaderReserved)
        );
    }
}
