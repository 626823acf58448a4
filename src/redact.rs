//! Redaction: the parts of secret or long texts that `Debug` and error texts show.

use std::{
    borrow::Cow,
    fmt,
    ops::{Deref, DerefMut},
};

/// The maximum number of bytes shown of a body or a header's value.
const SHOWN: usize = 200;

/// Replaces hidden text.
const HIDDEN: &str = "…";

/// Headers whose values are never shown.
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];

/// Header lines, names with values. `Debug` hides the values of `Authorization`, `Proxy-Authorization`, `Cookie` and
/// `Set-Cookie`, and user information in URLs.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct HeaderLines(pub(crate) Vec<(String, String)>);

impl Deref for HeaderLines {
    type Target = Vec<(String, String)>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for HeaderLines {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for HeaderLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.iter().map(|(name, value)| (Name(name), Value { name, value }));
        f.debug_list().entries(lines).finish()
    }
}

/// The name of a header. A caller may have put the value into it by mistake.
struct Name<'a>(&'a str);

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hide_in_name(self.0).fmt(f)
    }
}

/// Returns the name of a header. If it is malformed and contains the name of a secret header, hides the text after
/// that.
pub(crate) fn hide_in_name(name: &str) -> Cow<'_, str> {
    match find_secret_in(name).and_then(|end| name.get(..end)) {
        Some(start) => format!("{start}{HIDDEN}").into(),
        None => name.into(),
    }
}

/// Returns whether this is a token ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
pub(crate) fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Finds the end of a secret header's name in a malformed name.
fn find_secret_in(name: &str) -> Option<usize> {
    if is_token(name.trim()) { None } else { find_secret_name(name.as_bytes()) }
}

/// The value of a header with this name.
struct Value<'a> {
    name: &'a str,
    value: &'a str,
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A caller may have put white space or a colon into the name.
        let is_secret = SECRET.iter().any(|secret| self.name.trim().eq_ignore_ascii_case(secret));
        if is_secret || find_secret_in(self.name).is_some() {
            return f.write_str(HIDDEN);
        }
        Excerpt(hide_userinfo(self.value).as_bytes()).fmt(f)
    }
}

/// The body of a request or an answer. `Debug` shows its start as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct BodyBytes(pub(crate) Vec<u8>);

impl fmt::Debug for BodyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Excerpt(&self.0).fmt(f)
    }
}

/// Shows bytes as quoted text: the first 200, and the whole length if there are more.
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(start) = self.0.get(..SHOWN).filter(|start| start.len() < self.0.len()) else {
            return String::from_utf8_lossy(self.0).fmt(f);
        };
        // A character is not cut in half.
        let whole = match str::from_utf8(start) {
            Err(error) if error.error_len().is_none() => start.get(..error.valid_up_to()).unwrap_or(start),
            _ => start,
        };
        String::from_utf8_lossy(whole).fmt(f)?;
        write!(f, "… ({} bytes)", self.0.len())
    }
}

/// Hides the user name and password in a URL of the peer.
pub(crate) fn hide_userinfo(url: &str) -> Cow<'_, str> {
    let Some(start) = url.find("//").map(|slashes| slashes + 2) else { return url.into() };
    let (before, rest) = url.split_at(start);
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{before}{HIDDEN}@{host}{path}").into(),
        None => url.into(),
    }
}

/// Hides the possibly secret parts of a text that the caller passed as a URL: user name, password, query and fragment.
/// A password may contain any character, so everything before the last `@` is hidden.
pub(crate) fn hide_secrets(text: &str) -> String {
    let start = text.find("//").map_or(0, |slashes| slashes + 2);
    let (scheme, rest) = text.split_at(start);
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    format!("{scheme}{user}{}", hide_parameters(rest))
}

/// Hides the query and fragment of a URL, which may be secret.
pub(crate) fn hide_parameters(url: &str) -> String {
    let (shown, hidden) = url.split_at(url.find(['?', '#']).map_or(url.len(), |mark| mark + 1));
    let hidden = if hidden.is_empty() { "" } else { HIDDEN };
    format!("{shown}{hidden}")
}

/// Returns the lines of an unreadable head for an error text. Hides values of secret headers and user information,
/// wherever in a line they stand.
#[cold]
pub(crate) fn hide_in_head(head: &[u8]) -> Vec<Vec<u8>> {
    let mut secret = false;
    let lines = head.split_inclusive(|&byte| byte == b'\n').map(|line| {
        if let Some(end) = find_secret_name(line) {
            secret = true;
            return [line.get(..end).unwrap_or_default(), b": ", HIDDEN.as_bytes()].concat();
        }
        // A line that is no header may belong to the value before.
        secret &= !line.contains(&b':') || line.first().is_some_and(|&byte| byte <= b' ');
        match str::from_utf8(line) {
            _ if secret => HIDDEN.as_bytes().to_vec(),
            Ok(line) => hide_userinfo(line).as_bytes().to_vec(),
            Err(_) => line.to_vec(),
        }
    });
    lines.collect()
}

/// Finds the end of a secret header's name in this line.
fn find_secret_name(line: &[u8]) -> Option<usize> {
    // The name must not be part of a longer name or a path. Invalid bytes may precede it.
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~%/?&=.".contains(&byte);
    let is_start = |at: usize| at == 0 || line.get(at - 1).is_some_and(|&byte| !is_inside(byte));
    (0..line.len()).filter(|&at| is_start(at)).find_map(|at| {
        let rest = line.get(at..)?;
        let is_named = |name: &&&str| {
            rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        SECRET.iter().find(is_named).map(|name| at + name.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_of_a_url_is_hidden_and_nothing_else() {
        for (url, shown) in [
            ("ws://user:secret@host/a?b", "ws://…@host/a?b"),
            ("ws://secret@host", "ws://…@host"),
            ("WSS://a:b@c:d@[::1]:8/", "WSS://…@[::1]:8/"),
            ("//user:secret@host/", "//…@host/"),
            ("ws://host/@name", "ws://host/@name"),
            ("ws://host/?mail=a@b", "ws://host/?mail=a@b"),
            ("/chat?mail=a@b", "/chat?mail=a@b"),
            ("", ""),
        ] {
            assert_eq!(hide_userinfo(url), shown, "{url}");
        }
    }

    #[test]
    fn nothing_before_the_last_at_sign_of_a_malformed_url_is_shown() {
        for (text, shown) in [
            ("ws://user:secret@host/a?b", "ws://…@host/a?…"),
            ("ws:/user:secret@host/", "…@host/"),
            ("user:secret@host:80", "…@host:80"),
            ("ws://user:se/cr?e#t@host/", "ws://…@host/"),
            ("ws://host:80/chat", "ws://host:80/chat"),
            ("ws://host/#token=secret?a", "ws://host/#…"),
            ("ws://host/?a#token=secret", "ws://host/?…"),
            ("ws://host/#", "ws://host/#"),
            ("", ""),
        ] {
            assert_eq!(hide_secrets(text), shown, "{text}");
        }
    }

    #[test]
    fn values_of_secret_headers_are_hidden_in_any_case() {
        for name in [
            "Authorization",
            "PROXY-AUTHORIZATION",
            "cookie",
            "Set-Cookie",
            " Cookie\t",
            "Cookie:",
            "Authorization: Bearer secret",
        ] {
            let lines = HeaderLines(vec![(name.to_owned(), "secret".to_owned())]);
            assert!(!format!("{lines:?}{lines:#?}").contains("secret"), "{lines:?}");
        }
        let lines = HeaderLines(vec![
            ("Location".to_owned(), "https://user:secret@host/".to_owned()),
            ("X".to_owned(), "a@b".to_owned()),
            ("Cookie-Policy".to_owned(), "c".to_owned()),
        ]);
        let shown = r#"[("Location", "https://…@host/"), ("X", "a@b"), ("Cookie-Policy", "c")]"#;
        assert_eq!(format!("{lines:?}"), shown);
    }

    #[test]
    fn secrets_of_a_malformed_head_are_hidden_wherever_they_stand() {
        for (head, shown) in [
            ("GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\nA: b\r\n"),
            ("GET ws://user:secret@h HTTP/1.1\r\n", "GET ws://…@h HTTP/1.1\r\n"),
            ("A: b\r\ncookie : secret\0", "A: b\r\ncookie: …"),
            ("Cookie: secret\nA: b\r\n", "Cookie: …A: b\r\n"),
            ("A: b\rSet-Cookie: secret", "A: b\rSet-Cookie: …"),
            (" Authorization secret", " Authorization: …"),
            ("A: b\r:Cookie: secret\r\n", "A: b\r:Cookie: …"),
            ("A: b\u{7f}Cookie: secret\r\n", "A: b\u{7f}Cookie: …"),
            ("GET /?cookie=a&cookie=b HTTP/1.1\r\n", "GET /?cookie=a&cookie=b HTTP/1.1\r\n"),
            ("Cookie: a\r\n secret: b\r\n\u{1}secret\r\nA: b", "Cookie: ………A: b"),
            ("GET /cookie HTTP/1.1\r\nX-Cookie: a", "GET /cookie HTTP/1.1\r\nX-Cookie: a"),
        ] {
            assert_eq!(str::from_utf8(&hide_in_head(head.as_bytes()).concat()).unwrap(), shown);
        }
        assert_eq!(hide_in_head(b"\xff\xfe").concat(), b"\xff\xfe");
        assert_eq!(
            hide_in_head(b"\xffCookie: secret").concat(),
            [b"\xffCookie: ", HIDDEN.as_bytes()].concat()
        );
    }

    #[test]
    fn body_is_shown_as_text_of_at_most_200_bytes() {
        let shown = |bytes: &[u8]| format!("{:?}", Excerpt(bytes));
        assert_eq!(shown(b"a \"page\"\n"), r#""a \"page\"\n""#);
        assert_eq!(shown(&[b'x'; 200]), format!("\"{}\"", "x".repeat(200)));
        assert_eq!(shown(&[b'x'; 201]), format!("\"{}\"… (201 bytes)", "x".repeat(200)));
        assert_eq!(shown("é".repeat(100_000).as_bytes()), format!("\"{}\"… (200000 bytes)", "é".repeat(100)));
        assert_eq!(shown("xé".repeat(100).as_bytes()), format!("\"{}\"… (300 bytes)", "xé".repeat(66) + "x"));
        assert_eq!(shown(b"\xff"), "\"\u{fffd}\"");
    }
}
