//! The body of a refused handshake (RFC 9112 §6): as much of it as is worth keeping for an error message.

use super::response::Response;

/// A body that is coming in, up to a limit.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    limit: usize,
    /// What may still come in, with everything that only frames it.
    budget: usize,
    framing: Framing,
    /// The framing of the body, while the rest of the head is skipped.
    behind_head: Framing,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    /// The rest of an unreadable head, up to the blank line. `true`: the next byte begins a line.
    Head(bool),
    /// So many bytes are missing.
    Length(usize),
    /// The transport ends with the body.
    UntilEnd,
    Chunked(Chunk),
}

/// Where in a chunked body (RFC 9112 §7.1) the next byte stands.
#[derive(Debug, Clone, Copy)]
enum Chunk {
    Size(usize),
    /// The rest of the line, which nobody needs.
    Extension(usize),
    Data(usize),
    /// The line end after the data.
    Gap,
}

impl Body {
    /// The body that this response announces; it keeps as many bytes as the limit says.
    pub(crate) fn new(response: &Response, limit: usize) -> Self {
        let headers = response.headers();
        let length = headers.get_only("content-length").and_then(|length| length.parse().ok());
        let framing = if matches!(response.code(), ..200 | 204 | 304) {
            Framing::Length(0)
        } else if headers
            .elements("transfer-encoding")
            .last()
            .is_some_and(|last| last.eq_ignore_ascii_case("chunked"))
        {
            Framing::Chunked(Chunk::Size(0))
        } else if let (Some(length), false) = (length, headers.contains("transfer-encoding")) {
            Framing::Length(length)
        } else {
            Framing::UntilEnd
        };
        Self { bytes: Vec::new(), limit, budget: limit.saturating_mul(2), framing, behind_head: framing }
    }

    /// Skips the rest of a head that could only be read up to here.
    pub(crate) fn skip_head(&mut self, head: &[u8]) {
        if !self.is_done() {
            self.framing = Framing::Head(head.ends_with(b"\n"));
        }
    }

    /// Whether no more is needed.
    pub(crate) fn is_done(&self) -> bool {
        self.bytes.len() >= self.limit || self.budget == 0 || matches!(self.framing, Framing::Length(0))
    }

    /// Takes in the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !self.is_done()
            && let Some((&byte, rest)) = bytes.split_first()
        {
            let room = (self.limit - self.bytes.len()).min(self.budget);
            let (data, after) = match self.framing {
                Framing::Length(len) | Framing::Chunked(Chunk::Data(len)) => {
                    bytes.split_at(len.min(room).min(bytes.len()))
                }
                Framing::UntilEnd => bytes.split_at(room.min(bytes.len())),
                Framing::Chunked(_) | Framing::Head(_) => (&[][..], rest),
            };
            self.bytes.extend_from_slice(data);
            self.budget -= data.len().max(1);
            bytes = after;
            self.framing = match self.framing {
                Framing::Head(true) if byte == b'\n' => self.behind_head,
                Framing::Head(begins) => Framing::Head(byte == b'\n' || begins && byte == b'\r'),
                Framing::UntilEnd => Framing::UntilEnd,
                Framing::Length(len) => Framing::Length(len - data.len()),
                Framing::Chunked(Chunk::Data(len)) if len == data.len() => Framing::Chunked(Chunk::Gap),
                Framing::Chunked(Chunk::Data(len)) => Framing::Chunked(Chunk::Data(len - data.len())),
                Framing::Chunked(chunk) => next(chunk, byte).map_or(Framing::Length(0), Framing::Chunked),
            };
        }
    }

    /// What came, once all of it did or nothing more will.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Where a byte of the framing leads; `None`: to the end of the body, or of its sense.
fn next(chunk: Chunk, byte: u8) -> Option<Chunk> {
    let digit = char::from(byte).to_digit(16).and_then(|digit| usize::try_from(digit).ok());
    match (chunk, byte, digit) {
        (Chunk::Size(len), _, Some(digit)) => len.checked_mul(16)?.checked_add(digit).map(Chunk::Size),
        (Chunk::Size(0) | Chunk::Extension(0), b'\n', _) => None,
        (Chunk::Size(len) | Chunk::Extension(len), b'\n', _) => Some(Chunk::Data(len)),
        (Chunk::Size(len) | Chunk::Extension(len), ..) => Some(Chunk::Extension(len)),
        (Chunk::Gap, b'\n', _) => Some(Chunk::Size(0)),
        (Chunk::Gap, b'\r', _) => Some(Chunk::Gap),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::head::Head;

    /// The body, and whether it is whole, when it comes in portions of the given size.
    fn body(text: &str, limit: usize, portion: usize) -> (String, bool) {
        let head = Head::of(text);
        let mut body = Body::new(&Response::parse(&head).unwrap(), limit);
        for bytes in head.leftover.chunks(portion) {
            body.push(bytes);
        }
        let done = body.is_done();
        (String::from_utf8(body.finish()).unwrap(), done)
    }

    #[test]
    fn body_ends_where_its_framing_says_whatever_the_portions() {
        for (headers, bytes, expected, whole) in [
            ("Content-Length: 5\r\n", "hello, and more", "hello", true),
            ("Content-Length: 5\r\n", "hel", "hel", false),
            ("Content-Length: 0\r\n", "hel", "", true),
            ("Content-Length: x\r\n", "hello", "hello", false),
            ("", "hello", "hello", false),
            ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n003;a=b\r\nllo\r\n0\r\n\r\nmore", "hello", true),
            ("Transfer-Encoding: gzip, chunked\r\n", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", true),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "5\r\nhel", "hel", false),
            ("Transfer-Encoding: chunked\r\n", "2\r\nheXX", "he", true),
            ("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nhe", "", true),
        ] {
            for portion in 1..=bytes.len() {
                let text = format!("HTTP/1.1 404 Not Found\r\n{headers}\r\n{bytes}");
                assert_eq!(
                    body(&text, 100, portion),
                    (expected.to_owned(), whole),
                    "{headers} {bytes} {portion}"
                );
            }
        }
    }

    #[test]
    fn body_and_its_framing_are_bounded() {
        for portion in [1, 3, 1000] {
            let endless = format!("HTTP/1.1 500 \r\n\r\n{}", "x".repeat(1000));
            assert_eq!(body(&endless, 10, portion), ("x".repeat(10), true));
            let framed = format!("HTTP/1.1 500 \r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(1000));
            assert_eq!(body(&framed, 10, portion), (String::new(), true));
            let huge = format!("HTTP/1.1 500 \r\nContent-Length: {}\r\n\r\n{}", u64::MAX, "x".repeat(1000));
            assert_eq!(body(&huge, 10, portion), ("x".repeat(10), true));
        }
    }

    #[test]
    fn body_begins_behind_the_blank_line_of_a_head_that_was_given_up() {
        for (head, rest, headers, expected) in [
            ("A: 1\r\n", "B: 2\r\n\r\nwhy", "", "why"),
            ("A: 1\r\n", "\r\nwhy", "", "why"),
            ("A: 1\r\nB", ": 2\r\n\r\nwhy", "", "why"),
            ("A: 1\n", "B: 2\n\nwhy", "", "why"),
            ("A: 1\r\n", "B: 2\r\n\r\nwhy, and more", "Content-Length: 3\r\n", "why"),
            ("A: 1\r\n", "B: 2\r\n\r\n3\r\nwhy\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n", "why"),
            ("A: 1\r\n", "B: 2\r\n", "", ""),
        ] {
            for portion in 1..=rest.len() {
                let response = Head::of(&format!("HTTP/1.1 403 x\r\n{headers}\r\n"));
                let mut body = Body::new(&Response::parse(&response).unwrap(), 100);
                body.skip_head(head.as_bytes());
                rest.as_bytes().chunks(portion).for_each(|bytes| body.push(bytes));
                assert_eq!(str::from_utf8(&body.finish()).unwrap(), expected, "{rest:?} {portion}");
            }
        }
        let mut endless = Body::new(&Response::parse(&Head::of("HTTP/1.1 403 x\r\n\r\n")).unwrap(), 10);
        endless.skip_head(b"A: 1");
        endless.push(&[b'x'; 1000]);
        assert!(endless.is_done());
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        for status in [100, 101, 204, 304] {
            assert_eq!(body(&format!("HTTP/1.1 {status} \r\n\r\nbody"), 10, 1), (String::new(), true));
        }
    }
}
