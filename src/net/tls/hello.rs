//! What a server says in the clear when a TLS handshake begins. The library does not tell what was agreed on, to
//! neither side.

use rustls::CipherSuite;

use crate::{options::TlsVersion, socket::TlsInfo};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const ENCRYPTED: u8 = 23;
const SERVER_HELLO: usize = 2;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;

/// Where records end ([RFC 8446 §5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)), and the first message
/// in them. Bytes come in any portions; each is looked at once.
#[derive(Debug, Default)]
pub(super) struct Records {
    header: Vec<u8>,
    kind: u8,
    /// How much of the payload has not come.
    missing: usize,
    message: Vec<u8>,
    /// Whether the first message has come, or cannot come any more.
    done: bool,
    hello: Option<Hello>,
    /// The first bytes, up to the length of a record header.
    first: Vec<u8>,
}

/// What the server has chosen.
#[derive(Debug)]
struct Hello {
    version: TlsVersion,
    cipher_suite: CipherSuite,
    alpn: Option<Vec<u8>>,
}

impl Records {
    const HEADER_LEN: usize = 5;

    /// How many bytes may be read before more is known.
    pub(super) fn missing(&self) -> usize {
        if self.missing > 0 { self.missing } else { Self::HEADER_LEN - self.header.len() }
    }

    /// Returns the first bytes if they do not begin a TLS record.
    pub(super) fn stranger(&self) -> Option<&[u8]> {
        match self.first.first() {
            None | Some(CHANGE_CIPHER_SPEC..=ENCRYPTED) => None,
            Some(_) => Some(&self.first),
        }
    }

    /// Returns whether no byte has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// At most as many bytes as were missing have come. Says whether a record begins with them.
    pub(super) fn put(&mut self, bytes: &[u8]) -> bool {
        let room = Self::HEADER_LEN - self.first.len();
        self.first.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if self.missing == 0 {
            self.header.extend_from_slice(bytes);
            if let [kind, _, _, high, low] = *self.header {
                self.kind = kind;
                self.missing = u16::from_be_bytes([high, low]).into();
                self.header.clear();
                // A warning, such as that the server has another name, may come first.
                self.done |= !matches!(kind, ALERT | HANDSHAKE);
                return true;
            }
            return false;
        }
        self.missing = self.missing.saturating_sub(bytes.len());
        if self.kind == HANDSHAKE && !self.done {
            self.message.extend_from_slice(bytes);
            let mut message = Cursor(&self.message);
            if let (Some(kind), Some(body)) = (message.number(1), message.vector(3)) {
                self.done = true;
                self.hello = if kind == SERVER_HELLO { parse_hello(body) } else { None };
                self.message = Vec::new();
            }
        }
        false
    }

    /// Any number of bytes has come.
    pub(super) fn put_all(&mut self, mut bytes: &[u8]) {
        while !self.done && !bytes.is_empty() {
            let (part, rest) = bytes.split_at(self.missing().min(bytes.len()));
            self.put(part);
            bytes = rest;
        }
    }

    /// What was agreed on, once the handshake is done.
    pub(super) fn into_info(self) -> Option<TlsInfo> {
        let Hello { version, cipher_suite, alpn } = self.hello?;
        let cipher_suite = format!("{cipher_suite:?}");
        Some(TlsInfo { version, cipher_suite, alpn, client_certificates: Vec::new() })
    }
}

/// A reader of the integers and vectors that TLS is made of ([RFC 8446
/// §3](https://www.rfc-editor.org/rfc/rfc8446#section-3)).
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.number(2)?).ok()
    }

    /// What the extension of this kind among these says.
    fn extension(&self, wanted: u16) -> Option<Self> {
        let mut rest = Cursor(self.0);
        while let Some(kind) = rest.u16() {
            let extension = rest.vector(2)?;
            if kind == wanted {
                return Some(extension);
            }
        }
        None
    }

    /// A vector whose length stands before it in so many bytes.
    fn vector(&mut self, len: usize) -> Option<Self> {
        let len = self.number(len)?;
        self.take(len).map(Cursor)
    }
}

/// [RFC 8446 §4.1.3](https://www.rfc-editor.org/rfc/rfc8446#section-4.1.3).
fn parse_hello(mut hello: Cursor<'_>) -> Option<Hello> {
    let _legacy_version_and_random = hello.take(2 + 32)?;
    let _session = hello.vector(1)?;
    let cipher_suite = CipherSuite::from(hello.u16()?);
    let _compression = hello.take(1)?;
    // Before TLS 1.3 there need not be any.
    let extensions = hello.vector(2).unwrap_or(Cursor(&[]));
    let tls13 = extensions.extension(EXTENSION_SUPPORTED_VERSIONS).is_some_and(|version| version.0 == [3, 4]);
    Some(Hello {
        version: if tls13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 },
        cipher_suite,
        alpn: chosen_protocol(extensions),
    })
}

/// The protocol among a server's extensions ([RFC 7301 §3.1](https://www.rfc-editor.org/rfc/rfc7301#section-3.1)). TLS
/// 1.3 encrypts it, so only a TLS 1.2 server shows it here.
fn chosen_protocol(extensions: Cursor<'_>) -> Option<Vec<u8>> {
    Some(extensions.extension(EXTENSION_ALPN)?.vector(2)?.vector(1)?.0.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &len, payload].concat()
    }

    fn hello(suite: [u8; 2], extensions: &[u8]) -> Vec<u8> {
        let mut body = [&[3, 3][..], &[7; 32], &[2, 0xaa, 0xbb], &suite, &[0]].concat();
        if !extensions.is_empty() {
            body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
            body.extend(extensions);
        }
        [&[2, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat()
    }

    fn put(chunks: &[&[u8]]) -> Option<TlsInfo> {
        let mut records = Records::default();
        for chunk in chunks {
            records.put_all(chunk);
        }
        records.into_info()
    }

    #[test]
    fn hello_tells_version_suite_and_protocol() {
        let tls13 = hello([0x13, 0x02], &[0, 51, 0, 1, 9, 0, 43, 0, 2, 3, 4]);
        let info = put(&[&record(HANDSHAKE, &tls13)]).unwrap();
        assert_eq!(
            (info.version, info.cipher_suite.as_str()),
            (TlsVersion::Tls13, "TLS13_AES_256_GCM_SHA384")
        );
        let tls12 = hello([0xc0, 0x2f], b"\0\x10\0\x05\0\x03\x02h2");
        let info = put(&[&record(HANDSHAKE, &tls12)]).unwrap();
        assert_eq!(info.version, TlsVersion::Tls12);
        assert_eq!(info.cipher_suite, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(info.alpn.as_deref(), Some(&b"h2"[..]));
        let bare = put(&[&record(HANDSHAKE, &hello([0, 0x9c], &[]))]).unwrap();
        assert_eq!((bare.version, bare.alpn), (TlsVersion::Tls12, None));
    }

    #[test]
    fn hello_may_come_in_any_records_and_portions() {
        let whole = hello([0x13, 0x01], &[0, 43, 0, 2, 3, 4]);
        let (first, rest) = whole.split_at(3);
        let bytes = [record(ALERT, &[1, 112]), record(HANDSHAKE, first), record(HANDSHAKE, rest)].concat();
        let expected = put(&[&bytes]);
        assert_eq!(expected.as_ref().unwrap().version, TlsVersion::Tls13);
        for cut in 0..bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(put(&[left]), None, "{cut}");
            assert_eq!(put(&[left, right]), expected, "{cut}");
        }
        assert_eq!(put(&[&record(23, &whole)]), None);
        assert_eq!(put(&[&record(HANDSHAKE, &[1, 0, 0, 0])]), None);
        assert_eq!(put(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]), None);
    }
}
