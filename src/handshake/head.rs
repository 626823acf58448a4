//! Where the head of a request or response ends. Bytes come in any portions; each is looked at once.

use crate::{
    error::{Error, HandshakeError},
    options::{HeadLimits, Role},
};

use super::explain::explain_head;

/// The first bytes of every answer.
const HTTP: &[u8] = b"HTTP/";

use super::request::is_proxy_protocol;

/// How much room a head gets at a time.
const STEP: usize = 1024;

/// A whole head: lines that end in CR LF, then a blank one.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    /// How many lines there are after the first.
    pub(crate) headers: usize,
    /// What came after the head.
    pub(crate) leftover: Vec<u8>,
    /// How many bytes were zeroed and looked at.
    #[cfg(test)]
    pub(crate) work: usize,
}

/// A head that is coming in.
#[derive(Debug)]
pub(crate) struct HeadBuffer {
    bytes: Vec<u8>,
    filled: usize,
    scanned: usize,
    previous: u8,
    /// How many lines have ended, and how long the one that has not is.
    lines: usize,
    line_len: usize,
    /// `true` if empty lines may precede the first line.
    skips_empty_lines: bool,
    start: usize,
    limits: HeadLimits,
    /// The role of the endpoint that sends the head.
    peer: Role,
    #[cfg(test)]
    work: usize,
}

impl HeadBuffer {
    /// Starts with what was received before, which [`advance`](Self::advance) has yet to look at.
    pub(crate) fn new(limits: HeadLimits, received: Vec<u8>) -> Self {
        Self {
            filled: received.len(),
            bytes: received,
            scanned: 0,
            previous: 0,
            lines: 0,
            line_len: 0,
            skips_empty_lines: false,
            start: 0,
            limits,
            peer: Role::Client,
            #[cfg(test)]
            work: 0,
        }
    }

    /// Expects the answer of a server. Another protocol is detected at its first differing byte, because its server may
    /// send nothing more.
    pub(crate) const fn of_server(mut self) -> Self {
        self.peer = Role::Server;
        self
    }

    /// Makes the error that says why the received bytes are not a head.
    #[cold]
    pub(crate) fn refuse(&self, error: HandshakeError) -> Error {
        Error::handshake(error, explain_head(error, self.received(), self.limits, self.peer))
    }

    /// Ignores empty lines before the head ([RFC 9112 §2.2](https://www.rfc-editor.org/rfc/rfc9112#section-2.2)). They
    /// count towards its size limit.
    pub(crate) const fn skip_empty_lines(mut self) -> Self {
        self.skips_empty_lines = true;
        self
    }

    /// Returns all received bytes, even if they are not a head.
    pub(crate) fn received(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Room for more bytes, never empty. It is zeroed once, however few bytes arrive at a time.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.filled >= self.bytes.len() {
            self.bytes.resize(self.filled + STEP, 0);
            #[cfg(test)]
            {
                self.work += STEP;
            }
        }
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes in what was put into [`space`](Self::space). `true`: the head is whole.
    pub(crate) fn advance(&mut self, len: usize) -> Result<bool, HandshakeError> {
        self.filled = self.filled.saturating_add(len).min(self.bytes.len());
        if self.peer == Role::Server
            && self.scanned < HTTP.len()
            && self.received().iter().zip(HTTP).any(|(received, expected)| received != expected)
        {
            return Err(HandshakeError::Malformed);
        }
        let fresh = self.bytes.get(self.scanned..self.filled).unwrap_or_default();
        for &byte in fresh {
            self.scanned += 1;
            #[cfg(test)]
            {
                self.work += 1;
            }
            match (self.previous, byte) {
                (b'\r', b'\n') if self.line_len > 0 => {
                    self.lines += 1;
                    self.line_len = 0;
                    // The client must not send another request before the answer.
                    if self.lines == 1 && self.skips_empty_lines && is_proxy_protocol(self.received()) {
                        return Err(HandshakeError::ProxyProtocol);
                    }
                    if self.lines > self.limits.max_headers.saturating_add(1) {
                        return Err(HandshakeError::TooManyHeaders);
                    }
                }
                (b'\r', b'\n') if self.lines > 0 => return Ok(true),
                (b'\r', b'\n') if self.skips_empty_lines => self.start = self.scanned,
                // A line that ends in anything but CR LF ends elsewhere for whoever stands in between.
                (b'\r', _) | (_, b'\n' | b'\0') => return Err(HandshakeError::Malformed),
                (_, b'\r') => {}
                _ => self.line_len += 1,
            }
            self.previous = byte;
            if self.scanned >= self.limits.max_len {
                return Err(HandshakeError::HeadTooLarge);
            }
        }
        Ok(false)
    }

    /// Returns the complete head and the bytes after it; of a malformed head, the part before the fault.
    pub(crate) fn finish(mut self) -> Head {
        self.bytes.truncate(self.filled);
        let leftover = self.bytes.split_off(self.scanned.min(self.filled));
        self.bytes.drain(..self.start.min(self.bytes.len()));
        Head {
            bytes: self.bytes,
            headers: self.lines.saturating_sub(1),
            leftover,
            #[cfg(test)]
            work: self.work,
        }
    }
}

#[cfg(test)]
impl Head {
    /// The head of this text, which must have one.
    pub(crate) fn of(text: &str) -> Self {
        let limits = HeadLimits { max_len: usize::MAX, max_headers: usize::MAX };
        let mut buffer = HeadBuffer::new(limits, text.as_bytes().to_vec());
        assert!(buffer.advance(0).unwrap(), "{text:?}");
        buffer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { max_len: 16 << 10, max_headers: 64 };

    #[test]
    fn answer_in_another_protocol_is_noticed_at_its_first_byte_that_differs() {
        for (bytes, read) in [
            (&b"\xff\xfd\x18"[..], 1),
            (b"S", 1),
            (b"HELO", 2),
            (b"HTT\0", 4),
            (b"HTTPS", 5),
            (b"ICY 200", 1),
        ] {
            let mut buffer = HeadBuffer::new(LIMITS, Vec::new()).of_server();
            for (index, &byte) in bytes.iter().enumerate().take(read) {
                buffer.space()[0] = byte;
                let expected = if index + 1 < read { Ok(false) } else { Err(HandshakeError::Malformed) };
                assert_eq!(buffer.advance(1), expected, "{bytes:?} {index}");
            }
        }
    }

    /// Feeds the bytes in portions of the given size; `None`: more are needed.
    fn feed(
        bytes: &[u8],
        portion: usize,
        limits: HeadLimits,
    ) -> (Result<Option<Head>, HandshakeError>, usize) {
        let mut buffer = HeadBuffer::new(limits, Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let space = buffer.space();
            let len = portion.min(space.len()).min(rest.len());
            space[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            match buffer.advance(len) {
                Ok(false) => {}
                Ok(true) => {
                    let work = buffer.work;
                    let mut head = buffer.finish();
                    head.leftover.extend_from_slice(rest);
                    return (Ok(Some(head)), work);
                }
                Err(error) => return (Err(error), buffer.work),
            }
        }
        (Ok(None), buffer.work)
    }

    fn outcome(bytes: &[u8], portion: usize, limits: HeadLimits) -> Result<Option<Head>, HandshakeError> {
        feed(bytes, portion, limits).0
    }

    /// A head of exactly this many bytes, with one long header.
    fn head_of(len: usize) -> Vec<u8> {
        let mut head = b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec();
        head.resize(len - 4, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        head
    }

    #[test]
    fn head_ends_at_the_blank_line_and_the_rest_is_left() {
        for portion in 1..60 {
            let head = outcome(b"GET / HTTP/1.1\r\nHost: h\r\nA:\r\n\r\n\x81\x85rest\r\n", portion, LIMITS);
            let head = head.unwrap().unwrap();
            assert_eq!(head.bytes, b"GET / HTTP/1.1\r\nHost: h\r\nA:\r\n\r\n");
            assert_eq!(head.leftover, b"\x81\x85rest\r\n");
            assert_eq!(head.headers, 2);
        }
    }

    #[test]
    fn every_truncated_head_waits_for_more() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for len in 0..head.len() {
            assert!(matches!(outcome(&head[..len], 1, LIMITS), Ok(None)), "{len}");
        }
    }

    #[test]
    fn line_ends_other_than_crlf_and_nul_are_malformed() {
        for head in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "GET / HTTP/1.1\rHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\0\r\n\r\n",
            "\0",
            "\n",
            "\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            for portion in 1..=head.len() {
                let outcome = outcome(head.as_bytes(), portion, LIMITS);
                assert!(matches!(outcome, Err(HandshakeError::Malformed)), "{head:?}");
            }
        }
    }

    /// RUSTSEC-2023-0065: a head that is parsed again with every read takes quadratic time.
    #[test]
    fn head_of_16_kib_byte_by_byte_takes_no_more_work_than_at_once() {
        let head = head_of(16 << 10);
        let (at_once, work_at_once) = feed(&head, usize::MAX, LIMITS);
        let (by_bytes, work_by_bytes) = feed(&head, 1, LIMITS);
        assert_eq!(at_once.unwrap().unwrap().bytes, by_bytes.unwrap().unwrap().bytes);
        assert!(work_by_bytes <= 2 * work_at_once, "{work_by_bytes} {work_at_once}");
        assert!(work_by_bytes <= 3 * head.len());
    }

    #[test]
    fn head_of_the_limit_passes_and_one_byte_more_does_not() {
        for portion in [1, 7, 1024, usize::MAX] {
            assert!(matches!(outcome(&head_of(16 << 10), portion, LIMITS), Ok(Some(_))));
            let larger = outcome(&head_of((16 << 10) + 1), portion, LIMITS);
            assert!(matches!(larger, Err(HandshakeError::HeadTooLarge)));
            let none = HeadLimits { max_len: 0, ..LIMITS };
            assert!(matches!(outcome(b"G", portion, none), Err(HandshakeError::HeadTooLarge)));
        }
    }

    /// CVE-2024-37890 and CVE-2026-65624: headers are counted one by one, whatever their names.
    #[test]
    fn headers_are_counted_with_duplicates() {
        for (count, allowed) in [(0, true), (1, true), (64, true), (65, false), (10_000, false)] {
            let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
            for portion in [1, 1000, usize::MAX] {
                match outcome(head.as_bytes(), portion, HeadLimits { max_len: 1 << 20, ..LIMITS }) {
                    Ok(Some(head)) => assert!(allowed && head.headers == count, "{count}"),
                    Err(HandshakeError::TooManyHeaders) => assert!(!allowed, "{count}"),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// CVE-2026-54465: headers that never end.
    #[test]
    fn endless_head_is_refused_at_the_limit() {
        let line = "GET / HTTP/1.1\r\nA: ".bytes();
        let endless: Vec<u8> = line.chain(std::iter::repeat(b'a')).take(1 << 20).collect();
        for portion in [1, 1000] {
            let (outcome, work) = feed(&endless, portion, LIMITS);
            assert!(matches!(outcome, Err(HandshakeError::HeadTooLarge)));
            assert!(work <= 3 * LIMITS.max_len, "{work}");
        }
    }
}
