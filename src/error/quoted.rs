//! Bytes of a peer or of the caller inside an error text.

use std::fmt::{self, Write as _};

/// The maximum number of characters shown.
const MAX_CHARS: usize = 80;

/// Shows bytes between quotes, as text: control and other invisible characters are escaped, bytes that are not UTF-8
/// are `\xNN`, and the text ends after 80 characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

/// Like [`Quoted`], with another maximum length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotedUpTo<'a> {
    bytes: &'a [u8],
    max_chars: usize,
}

impl<'a> Quoted<'a> {
    pub(crate) const fn up_to(self, max_chars: usize) -> QuotedUpTo<'a> {
        QuotedUpTo { bytes: self.0, max_chars }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.up_to(MAX_CHARS).fmt(f)
    }
}

impl fmt::Display for QuotedUpTo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.max_chars;
        f.write_char('"')?;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_str("…\"");
                }
                left -= 1;
                match c {
                    '\'' => f.write_char(c)?,
                    c => write!(f, "{}", c.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return f.write_str("…\"");
                }
                left -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_bytes_cannot_control_a_terminal_and_are_cut() {
        for (bytes, expected) in [
            (&b"plain 'text'"[..], "\"plain 'text'\""),
            (b"\x1b[2J\r\n\0\x7f\"\\", r#""\u{1b}[2J\r\n\0\u{7f}\"\\""#),
            (b"caf\xe9 \xff", r#""caf\xe9 \xff""#),
            ("Montréal".as_bytes(), "\"Montréal\""),
            ("a\u{202e}b\u{2028}\u{85}".as_bytes(), r#""a\u{202e}b\u{2028}\u{85}""#),
        ] {
            assert_eq!(Quoted(bytes).to_string(), expected);
        }
        assert_eq!(Quoted(&[b'x'; 80]).to_string(), format!("\"{}\"", "x".repeat(80)));
        assert_eq!(Quoted(&[b'x'; 1 << 20]).to_string(), format!("\"{}…\"", "x".repeat(80)));
        assert_eq!(Quoted(&[0xff; 1 << 20]).to_string(), format!("\"{}…\"", "\\xff".repeat(80)));
    }
}
