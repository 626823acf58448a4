//! Header lines: kept as they came, looked up by name, read as lists of tokens, checked before they are
//! written.

use std::fmt;

use crate::{
    error::{Error, OptionsError, Quoted},
    redact::{HeaderLines, hide_in_name, is_token},
};

/// The headers of a request or response, in order, with duplicates, and with names in the case that they had
/// on the wire. Looking up a name ignores case.
///
/// Bytes of a value that are not UTF-8 are read as ISO 8859-1. `Debug` does not show the values of `Authorization`,
/// `Proxy-Authorization`, `Cookie` and `Set-Cookie`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    list: HeaderLines,
}

impl Headers {
    pub(crate) fn from_parsed(parsed: &[httparse::Header<'_>]) -> Self {
        let lines = parsed.iter().map(|header| (header.name.to_owned(), parse_value(header.value)));
        Self { list: HeaderLines(lines.collect()) }
    }

    /// The value of the first header with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// The values of all headers with this name, in order.
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many headers there are; those with the same name count one by one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a header at the end.
    pub fn append(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.list.push((name.into(), value.into()));
    }

    /// Removes all headers with this name. Gives their values, in order.
    pub fn remove(&mut self, name: &str) -> Vec<String> {
        let removed = self.list.extract_if(.., |(other, _)| other.eq_ignore_ascii_case(name));
        removed.map(|(_, value)| value).collect()
    }

    /// The value, if exactly one header has this name.
    pub(crate) fn get_only(&self, name: &str) -> Option<&str> {
        let mut values = self.get_all(name);
        match (values.next(), values.next()) {
            (only, None) => only,
            _ => None,
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The elements of a comma-separated list that may go over several lines
    /// ([RFC 9110 §5.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1)). Empty ones are none.
    pub(crate) fn elements<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.get_all(name).flat_map(|value| value.split(',')).map(trim).filter(|element| !element.is_empty())
    }

    /// Whether such a list has this token, in whatever case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.elements(name).any(|element| element.eq_ignore_ascii_case(token))
    }

    /// Whether the connection can carry another exchange after this one
    /// ([RFC 9112 §9.3](https://www.rfc-editor.org/rfc/rfc9112#section-9.3)).
    pub(crate) fn keep_alive(&self, version: (u8, u8)) -> bool {
        let has = |token| self.has_token("connection", token);
        !has("close") && !has("upgrade") && (version >= (1, 1) || has("keep-alive"))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

/// Decodes a value or a reason phrase. Folded lines become one, with a space for each line end ([RFC 9112
/// §5.2](https://www.rfc-editor.org/rfc/rfc9112#section-5.2)).
pub(super) fn parse_value(bytes: &[u8]) -> String {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    };
    if text.contains('\n') {
        text.split('\n').map(|line| trim(line.trim_end_matches('\r'))).collect::<Vec<_>>().join(" ")
    } else {
        text
    }
}

/// Without the white space that HTTP allows around a value: spaces and tabs, nothing else.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether this can be written as a value and is read as the same value: visible ASCII, spaces, tabs.
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Whether the handshake itself, or the framing of its answer, is made of this header.
fn is_reserved(name: &str) -> bool {
    const PREFIX: &str = "sec-websocket-";
    ["connection", "upgrade", "content-length", "transfer-encoding"]
        .iter()
        .any(|reserved| name.eq_ignore_ascii_case(reserved))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether the caller may have these headers written.
pub(crate) fn check_headers(headers: &[(String, String)]) -> Result<(), Error> {
    headers.iter().try_for_each(|(name, value)| {
        let quoted = Quoted(name.as_bytes());
        if !is_token(name) {
            let what = describe_char(name.chars().find(|c| !is_token(c.encode_utf8(&mut [0; 4]))));
            let text = format!(
                "the header name {} {what}; a name has letters, digits and !#$%&'*+-.^_`|~",
                Quoted(hide_in_name(name).as_bytes())
            );
            Err(Error::options(OptionsError::Header, text))
        } else if !is_value(value) {
            let what = describe_char(value.chars().find(|c| !is_value(c.encode_utf8(&mut [0; 4]))));
            let text = format!(
                "the value of the header {quoted} {what}; a value has visible ASCII, spaces and tabs"
            );
            Err(Error::options(OptionsError::Header, text))
        } else if is_reserved(name) {
            let instead = match name.to_ascii_lowercase().as_str() {
                "sec-websocket-protocol" => "; use the setter \"subprotocol\"",
                "sec-websocket-extensions" => "; use the setter \"deflate\"",
                _ => "",
            };
            let text = format!("the header {quoted} is written by the handshake itself{instead}");
            Err(Error::options(OptionsError::HeaderReserved, text))
        } else {
            Ok(())
        }
    })
}

/// Describes what is wrong with a text that contains this character.
pub(crate) fn describe_char(c: Option<char>) -> String {
    match c {
        None => "is empty".to_owned(),
        Some(' ') => "contains a space".to_owned(),
        Some('\r' | '\n') => "contains a line break".to_owned(),
        // One character of a secret may be shown: it reveals nothing about the others.
        Some(c) => format!(
            "contains the character {} (U+{:04X})",
            Quoted(c.encode_utf8(&mut [0; 4]).as_bytes()),
            u32::from(c)
        ),
    }
}

/// Whether these can be named in `Sec-WebSocket-Protocol`: tokens, each once
/// ([RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1), 10).
pub(crate) fn check_subprotocols(subprotocols: &[String]) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    subprotocols.iter().try_for_each(|subprotocol| {
        check_subprotocol(subprotocol)?;
        if seen.insert(subprotocol) {
            return Ok(());
        }
        let text = format!("the subprotocol {} is named twice", Quoted(subprotocol.as_bytes()));
        Err(Error::options(OptionsError::Subprotocol, text))
    })
}

/// Checks that this name can stand in `Sec-WebSocket-Protocol`.
pub(crate) fn check_subprotocol(subprotocol: &str) -> Result<(), Error> {
    if is_token(subprotocol) {
        return Ok(());
    }
    let quoted = Quoted(subprotocol.as_bytes());
    let what = describe_char(subprotocol.chars().find(|c| !is_token(c.encode_utf8(&mut [0; 4]))));
    let text = format!("the subprotocol {quoted} {what}; it is one token, and each is set on its own");
    Err(Error::options(OptionsError::Subprotocol, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let parsed: Vec<_> =
            lines.iter().map(|&(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        Headers::from_parsed(&parsed)
    }

    #[test]
    fn headers_keep_order_case_and_duplicates() {
        let headers = headers(&[("B", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("B", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(headers.get("b"), Some("1"));
        assert_eq!(headers.get_all("B").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(
            (headers.get_only("A"), headers.get_only("b"), headers.get_only("c")),
            (Some("2"), None, None)
        );
        assert_eq!((headers.len(), headers.is_empty()), (3, false));
    }

    #[test]
    fn tokens_are_found_in_any_case_and_line() {
        let headers = headers(&[("Connection", "keep-alive, Upgrade"), ("connection", " ,,\tx ,")]);
        for token in ["upgrade", "UPGRADE", "Keep-Alive", "x"] {
            assert!(headers.has_token("CONNECTION", token));
        }
        for token in ["up", "keep", "", "keep-alive, Upgrade"] {
            assert!(!headers.has_token("connection", token));
        }
    }

    #[test]
    fn values_that_are_not_utf8_are_latin1() {
        let parsed = [httparse::Header { name: "A", value: b"caf\xe9" }];
        assert_eq!(Headers::from_parsed(&parsed).get("a"), Some("café"));
    }

    #[test]
    fn written_headers_are_tokens_and_visible_text() {
        let check = |name: &str, value: &str| {
            check_headers(&[(name.into(), value.into())]).map_err(Error::options_kind)
        };
        assert_eq!(check("X-Any", "a b\tc \"d\""), Ok(()));
        for bad in ["", "a b", "a:", "a\r", "a\n", "a\0", "é", "(", "a\u{80}"] {
            assert_eq!(check(bad, ""), Err(OptionsError::Header), "{bad:?}");
        }
        for bad in ["\r", "\n", "\0", "\x7f", "é", "\u{80}", "a\r\nB: c"] {
            assert_eq!(check("A", bad), Err(OptionsError::Header), "{bad:?}");
        }
        for reserved in
            ["connection", "UPGRADE", "Sec-WebSocket-Anything", "Content-Length", "transfer-encoding"]
        {
            assert_eq!(check(reserved, "x"), Err(OptionsError::HeaderReserved), "{reserved}");
        }
    }
}
