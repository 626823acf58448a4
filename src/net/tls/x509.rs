//! The few fields of a certificate ([RFC 5280 §4.1](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)) that the TLS
//! library does not tell. Anything malformed makes the whole certificate unreadable.

use std::net::{Ipv4Addr, Ipv6Addr};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// The bit of the first byte of a key's usage that lets it sign certificates.
const KEY_CERT_SIGN: u8 = 1 << 2;

/// The fields of a certificate that this crate uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The version: 1, 2 or 3.
    pub(super) version: u8,
    /// `true` if issuer and subject are the same.
    pub(super) is_self_issued: bool,
    /// The first and last second of its validity, since 1970.
    pub(super) validity: (i64, i64),
    /// The size of its key. `None`: the key is not RSA.
    pub(super) rsa_bits: Option<usize>,
    /// Its alternative names: host names and addresses. `None`: it has no such extension.
    pub(super) names: Option<Vec<String>>,
    /// `true` if it may identify a server.
    pub(super) is_for_servers: bool,
    /// `true` if it may identify a client.
    pub(super) is_for_clients: bool,
    /// `true` if it may sign other certificates.
    pub(super) is_authority: bool,
}

impl Facts {
    pub(super) fn parse(certificate: &[u8]) -> Option<Self> {
        let mut tbs = Der(certificate).only(SEQUENCE)?.take(SEQUENCE)?;
        let version = match tbs.take_if(VERSION) {
            Some(version) => match version.only(INTEGER)?.0 {
                [number @ 0..=2] => number + 1,
                _ => return None,
            },
            None => 1,
        };
        let _serial = tbs.take(INTEGER)?;
        let _signature = tbs.take(SEQUENCE)?;
        let issuer = tbs.take(SEQUENCE)?;
        let mut validity = tbs.take(SEQUENCE)?;
        let validity = (validity.time()?, validity.time()?);
        let subject = tbs.take(SEQUENCE)?;
        let rsa_bits = rsa_bits(tbs.take(SEQUENCE)?)?;
        let mut facts = Self {
            version,
            is_self_issued: issuer.0 == subject.0,
            validity,
            rsa_bits,
            names: None,
            is_for_servers: true,
            is_for_clients: true,
            // Version 1 has no such field: a self-issued certificate counts as an authority.
            is_authority: version == 1 && issuer.0 == subject.0,
        };
        // Unique identifiers may precede the extensions.
        while !tbs.0.is_empty() {
            let (tag, content) = tbs.next()?;
            if tag == EXTENSIONS {
                facts.read_extensions(content.only(SEQUENCE)?)?;
            }
        }
        Some(facts)
    }

    fn read_extensions(&mut self, mut extensions: Der<'_>) -> Option<()> {
        let mut may_sign = true;
        while !extensions.0.is_empty() {
            let mut extension = extensions.take(SEQUENCE)?;
            let kind = extension.take(OBJECT_IDENTIFIER)?;
            // The `critical` flag may precede the value.
            let value = loop {
                if let (OCTET_STRING, value) = extension.next()? {
                    break value;
                }
            };
            match kind.0 {
                SUBJECT_ALT_NAME => self.names = Some(alternative_names(value.only(SEQUENCE)?)?),
                EXTENDED_KEY_USAGE => {
                    let mut usages = value.only(SEQUENCE)?;
                    (self.is_for_servers, self.is_for_clients) = (false, false);
                    while !usages.0.is_empty() {
                        let usage = usages.take(OBJECT_IDENTIFIER)?.0;
                        self.is_for_servers |= usage == SERVER_AUTH || usage == ANY_USAGE;
                        self.is_for_clients |= usage == CLIENT_AUTH || usage == ANY_USAGE;
                    }
                }
                BASIC_CONSTRAINTS => {
                    let is_authority = value.only(SEQUENCE)?.take_if(BOOLEAN);
                    self.is_authority = is_authority.is_some_and(|value| value.0 != [0]);
                }
                KEY_USAGE => {
                    let (_unused_bits, usages) = value.only(BIT_STRING)?.0.split_first()?;
                    may_sign = usages.first().is_some_and(|bits| bits & KEY_CERT_SIGN != 0);
                }
                _ => {}
            }
        }
        self.is_authority &= may_sign;
        Some(())
    }
}

/// Reads the size of an RSA key. The inner `None`: not RSA. The outer `None`: malformed.
fn rsa_bits(mut key: Der<'_>) -> Option<Option<usize>> {
    if key.take(SEQUENCE)?.take(OBJECT_IDENTIFIER)?.0 != RSA {
        return Some(None);
    }
    let (_unused_bits, key) = key.take(BIT_STRING)?.0.split_first()?;
    let modulus = Der(key).only(SEQUENCE)?.take(INTEGER)?.0;
    let zeros: usize = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(zeros..)?;
    let leading = modulus.first()?.leading_zeros();
    Some(Some(modulus.len() * 8 - usize::try_from(leading).ok()?))
}

fn alternative_names(mut names: Der<'_>) -> Option<Vec<String>> {
    let mut found = Vec::new();
    while !names.0.is_empty() {
        match names.next()? {
            (DNS_NAME, name) => found.push(String::from_utf8_lossy(name.0).into_owned()),
            (IP_ADDRESS, address) => found.push(if let Ok(address) = <[u8; 4]>::try_from(address.0) {
                Ipv4Addr::from(address).to_string()
            } else {
                Ipv6Addr::from(<[u8; 16]>::try_from(address.0).ok()?).to_string()
            }),
            _ => {}
        }
    }
    Some(found)
}

/// A reader of DER ([X.690](https://www.itu.int/rec/T-REC-X.690)).
#[derive(Debug, Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl Der<'_> {
    /// Reads the next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, Self)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, Self(content)))
    }

    /// Reads the next element, which must have this tag, and returns its content.
    fn take(&mut self, tag: u8) -> Option<Self> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn take_if(&mut self, tag: u8) -> Option<Self> {
        if self.0.first() == Some(&tag) { self.take(tag) } else { None }
    }

    /// Reads the only element, which must have this tag, and returns its content.
    fn only(mut self, tag: u8) -> Option<Self> {
        let content = self.take(tag)?;
        self.0.is_empty().then_some(content)
    }

    /// Reads a time of [RFC 5280 §4.1.2.5](https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.5), in seconds since
    /// 1970.
    fn time(&mut self) -> Option<i64> {
        let (tag, Self(text)) = self.next()?;
        let mut digits = text.strip_suffix(b"Z")?;
        let mut number = |len: usize| {
            let (number, rest) = digits.split_at_checked(len)?;
            digits = rest;
            number.iter().try_fold(0, |number, digit| match digit {
                b'0'..=b'9' => Some(number * 10 + i64::from(digit - b'0')),
                _ => None,
            })
        };
        let year = match tag {
            UTC_TIME => match number(2)? {
                year @ 50.. => 1900 + year,
                year => 2000 + year,
            },
            GENERALIZED_TIME => number(4)?,
            _ => return None,
        };
        let (month, day, hour, minute, second) = (number(2)?, number(2)?, number(2)?, number(2)?, number(2)?);
        let is_valid = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        if !is_valid || !digits.is_empty() {
            return None;
        }
        // The days since 1970, computed with years that begin in March, so that the leap day is the last day.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
        Some(((days * 24 + hour) * 60 + minute) * 60 + second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<i64> {
        Der(&[&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()).time()
    }

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "000229235959Z", 951_868_799),
            (UTC_TIME, "000301000000Z", 951_868_800),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(time(tag, text), Some(expected), "{text}");
        }
        for (tag, text) in [
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "700100000000Z"),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "70010100000000Z"),
            (UTC_TIME, "7001010000+0Z"),
            (GENERALIZED_TIME, "20500101000000.5Z"),
            (GENERALIZED_TIME, "20500101246000Z"),
            (SEQUENCE, "700101000000Z"),
        ] {
            assert_eq!(time(tag, text), None, "{text}");
        }
    }

    #[test]
    fn facts_are_those_of_the_certificate() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned(), "::1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 3, 1);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let facts = Facts::parse(certificate.der()).unwrap();
        let expected = Facts {
            version: 3,
            is_self_issued: true,
            validity: (1_582_934_400, 2_561_241_600),
            rsa_bits: None,
            names: Some(vec!["localhost".into(), "::1".into()]),
            is_for_servers: false,
            is_for_clients: true,
            is_authority: false,
        };
        assert_eq!(facts, expected);
        for len in 0..certificate.der().len() {
            assert_eq!(Facts::parse(&certificate.der()[..len]), None, "{len}");
        }
    }
}
