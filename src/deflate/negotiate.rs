//! Who may refer back how far (RFC 7692 §7.1): offers and answers.

use crate::{
    error::HandshakeError,
    handshake::extension::Extension,
    options::{Deflate, DeflateParams, deflate_names as names},
};

use names::{
    CLIENT_MAX_WINDOW_BITS, CLIENT_NO_CONTEXT_TAKEOVER, MAX_BITS, NAME, SERVER_MAX_WINDOW_BITS,
    SERVER_NO_CONTEXT_TAKEOVER,
};

/// The parameters of one offer or answer, as they came.
#[derive(Debug, Default)]
struct Named {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: named without a value.
    client_max_window_bits: Option<Option<u8>>,
}

impl Named {
    /// `None`, where something is not as it must be.
    ///
    /// §7.1: "A server MUST decline an extension negotiation offer [...] if the negotiation offer contains an
    /// extension parameter not defined for use in an offer", "with an invalid value", or "multiple extension
    /// parameters with the same name".
    fn read(extension: &Extension) -> Option<Self> {
        let mut named = Self::default();
        for (name, value) in &extension.params {
            let repeated = match (name.as_str(), value.as_deref()) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => {
                    std::mem::replace(&mut named.server_no_context_takeover, true)
                }
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => {
                    std::mem::replace(&mut named.client_no_context_takeover, true)
                }
                (SERVER_MAX_WINDOW_BITS, Some(bits)) => {
                    named.server_max_window_bits.replace(parse_bits(bits)?).is_some()
                }
                (CLIENT_MAX_WINDOW_BITS, bits) => {
                    let bits = bits.map(|bits| parse_bits(bits).ok_or(())).transpose().ok()?;
                    named.client_max_window_bits.replace(bits).is_some()
                }
                _ => return None,
            };
            if repeated {
                return None;
            }
        }
        Some(named)
    }
}

/// §7.1.2: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
fn parse_bits(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The names of the extensions in a request.
pub(crate) fn offered_names(offers: &[Deflate]) -> &'static [&'static str] {
    if offers.is_empty() { &[] } else { &[NAME] }
}

/// What the server makes of the first offer that it can accept, with the value of `Sec-WebSocket-Extensions`
/// that says so.
pub(crate) fn choose_offer(own: &Deflate, offered: &[Extension]) -> Option<(Deflate, String)> {
    offered.iter().filter(|extension| extension.name == NAME).find_map(|offer| accept_offer(own, offer))
}

fn accept_offer(own: &Deflate, offer: &Extension) -> Option<(Deflate, String)> {
    let offered = Named::read(offer)?;
    let wanted = offered.server_max_window_bits.unwrap_or(MAX_BITS);
    // We cannot compress with a window of 256 bytes.
    if wanted < 9 {
        return None;
    }
    let client_bits = offered.client_max_window_bits.map(|bits| bits.unwrap_or(MAX_BITS));
    let params = DeflateParams {
        server_no_context_takeover: own.params.server_no_context_takeover
            || offered.server_no_context_takeover,
        client_no_context_takeover: own.params.client_no_context_takeover
            || offered.client_no_context_takeover,
        server_max_window_bits: own.params.server_max_window_bits.min(wanted),
        // §7.1.2.2: a server must not limit a client that did not say that it can be.
        client_max_window_bits: client_bits
            .map_or(MAX_BITS, |bits| bits.min(own.params.client_max_window_bits)),
    };
    let mut answer = params.to_string();
    if offered.server_max_window_bits == Some(MAX_BITS) && params.server_max_window_bits == MAX_BITS {
        // §7.1.2.1: "A server accepts an extension negotiation offer that includes the
        // "server_max_window_bits" extension parameter by including the [...] parameter".
        answer.push_str("; server_max_window_bits=15");
    }
    Some((Deflate { params, ..*own }, answer))
}

/// What the client makes of the answer. `None`: the server declined.
///
/// §5.1: "If [the client] received [...] a response that is not valid for any of the offers, the client MUST
/// _Fail the WebSocket Connection_."
pub(crate) fn check_answer(
    offers: &[Deflate],
    answer: &[Extension],
) -> Result<Option<Deflate>, HandshakeError> {
    let Some((answer, others)) = answer.split_first() else {
        return Ok(None);
    };
    // §7.1: "A client MUST _Fail the WebSocket Connection_ if the peer server accepted [...] with" parameters that
    // are unknown, malformed or repeated.
    let named = Named::read(answer).filter(|_| answer.name == NAME && others.is_empty());
    let named = named.ok_or(HandshakeError::Extension)?;
    let agreed = offers
        .iter()
        .find_map(|offer| agree(&offer.params, &named).map(|params| Deflate { params, ..*offer }));
    agreed.map(Some).ok_or(HandshakeError::Extension)
}

/// What holds, if this is an answer to this offer.
fn agree(offer: &DeflateParams, answer: &Named) -> Option<DeflateParams> {
    if offer.server_no_context_takeover && !answer.server_no_context_takeover {
        return None;
    }
    let server_max_window_bits = answer.server_max_window_bits.unwrap_or(MAX_BITS);
    let client_max_window_bits = match answer.client_max_window_bits {
        None => offer.client_max_window_bits,
        // §7.1.2.2: in an answer the parameter has a value.
        Some(bits) => bits?,
    };
    if server_max_window_bits > offer.server_max_window_bits
        || client_max_window_bits > offer.client_max_window_bits
    {
        return None;
    }
    Some(DeflateParams {
        server_no_context_takeover: answer.server_no_context_takeover,
        client_no_context_takeover: offer.client_no_context_takeover || answer.client_no_context_takeover,
        server_max_window_bits,
        client_max_window_bits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{extension::parse_extensions, headers::Headers};

    fn parse(value: &str) -> Vec<Extension> {
        let parsed = [httparse::Header { name: "Sec-WebSocket-Extensions", value: value.as_bytes() }];
        parse_extensions(&Headers::from_parsed(&parsed)).unwrap()
    }

    fn choose(own: Deflate, offers: &str) -> Option<String> {
        let (deflate, answer) = choose_offer(&own, &parse(offers))?;
        let accepted = check_answer(&[deflate], &parse(&answer)).unwrap().unwrap();
        assert_eq!(accepted.params.to_string(), deflate.params.to_string(), "{answer}");
        Some(answer)
    }

    fn check(offers: &[Deflate], answer: &str) -> Result<Option<String>, HandshakeError> {
        check_answer(offers, &parse(answer)).map(|deflate| deflate.map(|deflate| deflate.params.to_string()))
    }

    const OWN: fn() -> Deflate = Deflate::default;

    #[test]
    fn the_first_acceptable_offer_is_answered() {
        let pd = "permessage-deflate";
        let small = OWN().server_max_window_bits(10).client_max_window_bits(11);
        let afresh = OWN().server_no_context_takeover(true).client_no_context_takeover(true);
        for (own, offers, expected) in [
            (OWN(), "", None),
            (OWN(), "x-other; a=1", None),
            (OWN(), "Permessage-Deflate", None),
            (OWN(), "permessage-deflate", Some("")),
            (OWN(), "x-other, permessage-deflate", Some("")),
            (OWN(), "permessage-deflate; client_max_window_bits", Some("")),
            (OWN(), "permessage-deflate; client_max_window_bits=15", Some("")),
            (OWN(), "permessage-deflate; client_max_window_bits=\"9\"", Some("; client_max_window_bits=9")),
            (OWN(), "permessage-deflate; client_max_window_bits=8", Some("; client_max_window_bits=8")),
            (OWN(), "permessage-deflate; server_max_window_bits=15", Some("; server_max_window_bits=15")),
            (
                OWN(),
                "permessage-deflate; server_max_window_bits=\"1\\0\"",
                Some("; server_max_window_bits=10"),
            ),
            (OWN(), "permessage-deflate; server_no_context_takeover", Some("; server_no_context_takeover")),
            (OWN(), "permessage-deflate; client_no_context_takeover", Some("; client_no_context_takeover")),
            // §7.1.2.1: a window of 8 bits for our own sending is declined; the next offer may do.
            (OWN(), "permessage-deflate; server_max_window_bits=8", None),
            (OWN(), "permessage-deflate; server_max_window_bits=8, permessage-deflate", Some("")),
            (
                OWN(),
                "permessage-deflate; x, permessage-deflate; server_max_window_bits=9, permessage-deflate",
                Some("; server_max_window_bits=9"),
            ),
            (small, "permessage-deflate", Some("; server_max_window_bits=10")),
            (small, "permessage-deflate; server_max_window_bits=9", Some("; server_max_window_bits=9")),
            (small, "permessage-deflate; server_max_window_bits=15", Some("; server_max_window_bits=10")),
            (
                small,
                "permessage-deflate; client_max_window_bits",
                Some("; server_max_window_bits=10; client_max_window_bits=11"),
            ),
            (
                small,
                "permessage-deflate; client_max_window_bits=12",
                Some("; server_max_window_bits=10; client_max_window_bits=11"),
            ),
            (
                afresh,
                "permessage-deflate; client_max_window_bits",
                Some("; server_no_context_takeover; client_no_context_takeover"),
            ),
        ] {
            let expected = expected.map(|params| format!("{pd}{params}"));
            assert_eq!(choose(own, offers), expected, "{offers}");
        }
    }

    const MALFORMED: [&str; 26] = [
        "server_max_window_bits=0",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=99999999999999999999",
        "server_max_window_bits=08",
        "server_max_window_bits=010",
        "server_max_window_bits=+9",
        "server_max_window_bits=9x",
        "server_max_window_bits=1",
        "server_max_window_bits",
        "client_max_window_bits=0",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=09",
        "client_max_window_bits=x",
        "server_no_context_takeover=1",
        "server_no_context_takeover=true",
        "client_no_context_takeover=0",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=10; client_max_window_bits=10",
        "client_max_window_bits=10; client_max_window_bits",
        "unknown",
        "unknown=1",
        "SERVER_NO_CONTEXT_TAKEOVER",
    ];

    /// §7.1: "A server MUST decline an extension negotiation offer for this extension if" it has parameters
    /// that are not defined, not valid, or named twice. CVE-2026-2229: such a number of bits crashed the peer.
    #[test]
    fn an_offer_with_a_malformed_parameter_is_declined() {
        for params in MALFORMED {
            assert_eq!(choose(OWN(), &format!("permessage-deflate; {params}")), None, "{params}");
            let next = format!("permessage-deflate; {params}, permessage-deflate");
            assert_eq!(choose(OWN(), &next).as_deref(), Some("permessage-deflate"), "{params}");
        }
    }

    /// §7.1: "A client MUST _Fail the WebSocket Connection_ if the peer server accepted an extension negotiation
    /// offer for this extension with an extension negotiation response" that has such parameters. CVE-2026-2229.
    #[test]
    fn an_answer_with_a_malformed_parameter_fails() {
        for params in MALFORMED.into_iter().chain(["client_max_window_bits"]) {
            let answer = format!("permessage-deflate; {params}");
            assert_eq!(check(&[OWN()], &answer), Err(HandshakeError::Extension), "{params}");
        }
    }

    #[test]
    fn an_answer_must_be_one_to_an_offer() {
        let limited = OWN().server_max_window_bits(10).client_max_window_bits(11);
        let afresh = OWN().server_no_context_takeover(true);
        let failed = Err(HandshakeError::Extension);
        let agreed = |params: &str| Ok(Some(format!("permessage-deflate{params}")));
        for (offers, answer, expected) in [
            (&[][..], "", Ok(None)),
            (&[], "permessage-deflate", failed.clone()),
            (&[OWN()], "", Ok(None)),
            (&[OWN()], "x-other", failed.clone()),
            (&[OWN()], "permessage-deflate, permessage-deflate", failed.clone()),
            (&[OWN()], "permessage-deflate, x-other", failed.clone()),
            (&[OWN()], "permessage-deflate", agreed("")),
            (&[OWN()], "permessage-deflate; client_max_window_bits=8", agreed("; client_max_window_bits=8")),
            (&[OWN()], "permessage-deflate; server_max_window_bits=8", agreed("; server_max_window_bits=8")),
            (&[OWN()], "permessage-deflate; server_max_window_bits=15", agreed("")),
            (
                &[OWN()],
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                agreed("; server_no_context_takeover; client_no_context_takeover"),
            ),
            (&[limited], "permessage-deflate", failed.clone()),
            (&[limited], "permessage-deflate; server_max_window_bits=11", failed.clone()),
            (
                &[limited],
                "permessage-deflate; server_max_window_bits=9",
                agreed("; server_max_window_bits=9; client_max_window_bits=11"),
            ),
            (
                &[limited],
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=12",
                failed.clone(),
            ),
            (&[limited, OWN()], "permessage-deflate", agreed("")),
            (&[afresh], "permessage-deflate", failed.clone()),
            (
                &[afresh],
                "permessage-deflate; server_no_context_takeover",
                agreed("; server_no_context_takeover"),
            ),
            (&[afresh, OWN()], "permessage-deflate", agreed("")),
        ] {
            assert_eq!(check(offers, answer), expected, "{answer}");
        }
    }

    /// CVE-2021-32640, CVE-2020-7662 and CVE-2020-7663: lists that took more than linear time. Each parameter of
    /// each offer is looked at once, in the order in which they came, and the first that is wrong ends it.
    #[test]
    fn hostile_offers_are_declined_parameter_by_parameter() {
        for text in
            ["permessage-deflate,", "permessage-deflate; x,", "permessage-deflate; server_max_window_bits=8,"]
        {
            let value = text.repeat((16 << 10) / text.len());
            let _ = choose_offer(&OWN(), &parse(&value));
        }
        let many = format!("permessage-deflate{}", "; client_max_window_bits".repeat(600));
        assert_eq!(choose(OWN(), &many), None);
    }
}
