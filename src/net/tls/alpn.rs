//! Which protocol a server of TLS 1.3 has chosen ([RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)). It says so in
//! its first encrypted record. The library does not pass it on, but lends the secret of the handshake to whoever keeps
//! a log of keys, and with that the record is read once more.

use std::{fmt, sync::Arc};

use ring::{aead, hkdf};
use rustls::{CipherSuite, KeyLog};

use crate::sync::{Mutex, lock};

use super::hello::{Cursor, HANDSHAKE, Records, chosen_protocol};

const ENCRYPTED_EXTENSIONS: usize = 8;
const LABEL: &str = "SERVER_HANDSHAKE_TRAFFIC_SECRET";

/// What the server's part of one handshake is encrypted with. Nothing that comes later can be read with it, nor
/// anything that the client says.
#[derive(Clone, Default)]
pub(super) struct HandshakeSecret(Arc<Mutex<Vec<u8>>>);

impl fmt::Debug for HandshakeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeSecret").finish_non_exhaustive()
    }
}

impl KeyLog for HandshakeSecret {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == LABEL {
            *lock(&self.0) = secret.to_vec();
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == LABEL
    }
}

impl HandshakeSecret {
    /// The protocol in the server's first encrypted record, which this opens, header and all. The secret is gone then.
    pub(super) fn reveal(&self, suite: CipherSuite, record: &mut [u8]) -> Option<Vec<u8>> {
        let secret = std::mem::take(&mut *lock(&self.0));
        let content = decrypt(suite, &secret, record)?;
        // Its kind stands behind it, and then as many zeros as the server likes (RFC 8446 §5.2).
        let end = content.iter().rposition(|byte| *byte != 0)?;
        if content.get(end) != Some(&HANDSHAKE) {
            return None;
        }
        let mut messages = Cursor::new(content.get(..end)?);
        if messages.number(1)? != ENCRYPTED_EXTENSIONS {
            return None;
        }
        chosen_protocol(messages.vector(3)?.vector(2)?)
    }
}

/// The record is the first that is encrypted with this secret ([RFC 8446
/// §5.2](https://www.rfc-editor.org/rfc/rfc8446#section-5.2)).
fn decrypt<'a>(suite: CipherSuite, secret: &[u8], record: &'a mut [u8]) -> Option<&'a [u8]> {
    let (hash, cipher) = match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => (hkdf::HKDF_SHA256, &aead::AES_128_GCM),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => (hkdf::HKDF_SHA384, &aead::AES_256_GCM),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => (hkdf::HKDF_SHA256, &aead::CHACHA20_POLY1305),
        _ => return None,
    };
    let secret = hkdf::Prk::new_less_safe(hash, secret);
    let mut key = vec![0; cipher.key_len()];
    expand(&secret, b"key", &mut key)?;
    // Record number 0 does not change it.
    let mut nonce = [0; aead::NONCE_LEN];
    expand(&secret, b"iv", &mut nonce)?;
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(cipher, &key).ok()?);
    let (header, body) = record.split_at_mut_checked(Records::HEADER_LEN)?;
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    key.open_in_place(nonce, aead::Aad::from(header), body).ok().map(|content| &*content)
}

/// HKDF-Expand-Label without a context ([RFC 8446 §7.1](https://www.rfc-editor.org/rfc/rfc8446#section-7.1)).
fn expand(secret: &hkdf::Prk, label: &[u8], target: &mut [u8]) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let len = u16::try_from(target.len()).ok()?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let info = [&len[..], &label_len, PREFIX, label, &[0]];
    secret.expand(&info, Len(target.len())).ok()?.fill(target).ok()
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a handshake whose every byte is in [RFC 8448 §3](https://www.rfc-editor.org/rfc/rfc8448#section-3).
    #[test]
    fn keys_are_those_of_the_rfc() {
        let secret = "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38";
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &hex(secret));
        let (mut key, mut nonce) = ([0; 16], [0; 12]);
        expand(&secret, b"key", &mut key).unwrap();
        expand(&secret, b"iv", &mut nonce).unwrap();
        assert_eq!(key[..], hex("3fce516009c21727d0f2e4e86ee403bc"));
        assert_eq!(nonce[..], hex("5d313eb2671276ee13000b30"));
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn what_cannot_be_read_tells_nothing() {
        let aes = CipherSuite::TLS13_AES_128_GCM_SHA256;
        for suite in [aes, CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256] {
            for len in [0, 4, 5, 20, 21, 100] {
                let secret = HandshakeSecret::default();
                secret.log(LABEL, &[], &[1; 32]);
                assert_eq!(secret.reveal(suite, &mut vec![23; len]), None);
                assert!(lock(&secret.0).is_empty());
            }
        }
        let secret = HandshakeSecret::default();
        secret.log("CLIENT_TRAFFIC_SECRET_0", &[], &[1; 32]);
        assert!(lock(&secret.0).is_empty() && !secret.will_log("CLIENT_TRAFFIC_SECRET_0"));
    }
}
