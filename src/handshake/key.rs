//! `Sec-WebSocket-Key` and `Sec-WebSocket-Accept` (RFC 6455 §1.3).

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// What every server appends to the key, so that the answer shows that it knows the protocol.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key that a client sends: 16 random bytes in base64.
pub(crate) fn encode_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// What a server answers to a key
/// ([RFC 6455 §1.3](https://www.rfc-editor.org/rfc/rfc6455#section-1.3)).
///
/// # Examples
///
/// ```
/// let answer = coro_websocket::codec::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept_key(key: &str) -> String {
    let digest: [u8; 20] = Sha1::new().chain_update(key).chain_update(GUID).finalize().into();
    STANDARD.encode(digest)
}

/// Whether this is 16 bytes in base64, written in the one way that base64 has for them.
pub(crate) fn is_key(key: &str) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_the_rfc_is_answered_as_in_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(encode_key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn digests_are_those_of_lem() {
        for (text, digest) in [
            ("a", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
            ("ab", "da23614e02469a0d7c7bd1bdab5c9c474b1904dc"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("abcd", "81fe8bfe87576c3ecb22426f8e57847382917acf"),
            ("abcde", "03de6c570bfe24bfc328ccd7ca46b76eadaf4334"),
            ("abcdef", "1f8ac10f23c5b5bc1167bda84b833e5c057a77d2"),
            ("abcdefg", "2fb5e13419fc89246865e7a324f476ec624e8740"),
        ] {
            let found: [u8; 20] = Sha1::digest(text).into();
            assert_eq!(found.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), digest);
        }
    }

    #[test]
    fn base64_is_that_of_lem() {
        for (text, encoded) in [
            ("", ""),
            ("pleasure.", "cGxlYXN1cmUu"),
            ("leasure.", "bGVhc3VyZS4="),
            ("easure.", "ZWFzdXJlLg=="),
            ("asure.", "YXN1cmUu"),
            ("sure.", "c3VyZS4="),
        ] {
            assert_eq!(STANDARD.encode(text), encoded);
            assert_eq!(STANDARD.decode(encoded).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn only_sixteen_bytes_in_canonical_base64_are_a_key() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZTE=",
            "dGhlIHNhbXBsZSBub25jZTEy",
            "dGhlIHNhbXBsZSBub25jZQ= ",
            " dGhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25j_Q==",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "========================",
        ] {
            assert!(!is_key(key), "{key}");
        }
    }
}
