//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1), one pass over the text.

use crate::{error::HandshakeError, redact::is_token};

use super::headers::{Headers, trim};

/// One extension with its parameters, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) params: Vec<(String, Option<String>)>,
}

/// All extensions that the header names, over all its lines, the preferred ones first.
pub(crate) fn parse_extensions(headers: &Headers) -> Result<Vec<Extension>, HandshakeError> {
    let mut extensions = Vec::new();
    for value in headers.get_all("sec-websocket-extensions") {
        for element in split(value, b',') {
            let mut parts = split(element, b';').map(trim);
            match parts.next() {
                Some("") if parts.next().is_none() => {}
                Some(name) if is_token(name) => {
                    let params = parts.map(parse_param).collect::<Result<_, _>>()?;
                    extensions.push(Extension { name: name.to_owned(), params });
                }
                _ => return Err(HandshakeError::Extension),
            }
        }
    }
    Ok(extensions)
}

/// `token`, `token=token` or `token="token"`.
fn parse_param(param: &str) -> Result<(String, Option<String>), HandshakeError> {
    let (name, value) = match param.split_once('=') {
        Some((name, value)) => (trim(name), Some(unquote(trim(value)))),
        None => (param, None),
    };
    // §9.1: "the value after quoted-string unescaping MUST conform to the 'token' ABNF".
    if is_token(name) && value.as_deref().is_none_or(is_token) {
        Ok((name.to_owned(), value))
    } else {
        Err(HandshakeError::Extension)
    }
}

/// The text of a quoted string; anything else stays as it is, and a lone quote is no token.
fn unquote(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(quoted.len());
    let mut escaped = false;
    for c in quoted.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(c);
            escaped = false;
        }
    }
    if escaped { value.to_owned() } else { text }
}

/// Splits at a separator that stands outside of quoted strings.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let (was_quoted, was_escaped) = (quoted, escaped);
        escaped = was_quoted && c == '\\' && !was_escaped;
        if c == '"' && !was_escaped {
            quoted = !was_quoted;
        }
        !was_quoted && c == char::from(separator)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Vec<Extension>, HandshakeError> {
        let parsed = [httparse::Header { name: "Sec-WebSocket-Extensions", value: value.as_bytes() }];
        parse_extensions(&Headers::from_parsed(&parsed))
    }

    fn extension(name: &str, params: &[(&str, Option<&str>)]) -> Extension {
        let params = params.iter().map(|(name, value)| ((*name).into(), value.map(Into::into))).collect();
        Extension { name: name.into(), params }
    }

    #[test]
    fn extensions_have_names_and_parameters() {
        assert_eq!(
            parse("foo, bar; a=1 ;\tb = \"2\" ; c, baz;d=\"\\3\""),
            Ok(vec![
                extension("foo", &[]),
                extension("bar", &[("a", Some("1")), ("b", Some("2")), ("c", None)]),
                extension("baz", &[("d", Some("3"))]),
            ])
        );
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse(", ,"), Ok(vec![]));
    }

    /// §9.1: "If a value is received [...] that does not conform to the ABNF below, the recipient [...] MUST
    /// immediately _Fail the WebSocket Connection_."
    #[test]
    fn extensions_that_do_not_conform_to_the_abnf_are_refused() {
        for value in [
            ";",
            "; a",
            "a;",
            "a; b=",
            "a; =b",
            "a b",
            "a; b c",
            "a; b=c d",
            "a; b=\"",
            "a; b=\"c",
            "a; b=\"c d\"",
            "a; b=\"c,d\"",
            "a; b=\"\"",
            "\"a\"",
            "a; b=\"c\"d",
            "a; \"b\"",
            "(",
            "é",
            "a; b=\"c\\\"",
        ] {
            assert_eq!(parse(value), Err(HandshakeError::Extension), "{value}");
        }
    }

    /// CVE-2021-32640 and CVE-2020-7662: text that made a pattern backtrack. The one pass looks at each
    /// character at most twice: once for commas, once for semicolons.
    #[test]
    fn hostile_lists_are_split_in_one_pass() {
        for text in [" ", "\\", "\"", "\"\\", ";", ",", "a;", "a=\"", "\\\"", ", "] {
            let value = text.repeat((16 << 10) / text.len());
            let mut visited = 0;
            for element in split(&value, b',') {
                visited += element.len() + 1;
                assert!(split(element, b';').map(|part| part.len() + 1).sum::<usize>() <= element.len() + 1);
            }
            assert_eq!(visited, value.len() + 1, "{text}");
            let _ = parse(&value);
        }
    }
}
