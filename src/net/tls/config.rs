//! Options to what the TLS library takes.

use std::{
    borrow::Cow,
    fs,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use blocking::unblock;
use rustls::{
    Certificate, ClientConfig, OwnedTrustAnchor, PrivateKey, RootCertStore, ServerName,
    SupportedProtocolVersion,
    client::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier, WebPkiVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::{
    error::TlsError,
    options::{Pem, Tls, TlsVersion},
};

/// The name in the form that certificates and servers know: no dot at the end, no brackets around an address.
pub(super) fn server_name(name: &str) -> Result<String, TlsError> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    match ServerName::try_from(bare) {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(unusable(format!("no certificate can have the name {name:?}"))),
    }
}

/// The configuration for these options. The usual one is made once, so that sessions are resumed; any other is made
/// where files may be read.
pub(super) async fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    static USUAL: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if *tls != Tls::default() {
        let tls = tls.clone();
        return unblock(move || build(&tls)).await;
    }
    if let Some(config) = USUAL.get() {
        return Ok(Arc::clone(config));
    }
    let config = build(tls)?;
    Ok(Arc::clone(USUAL.get_or_init(|| config)))
}

fn build(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let versions: Vec<&SupportedProtocolVersion> = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| tls.versions.contains(version))
        .map(|(_, version)| version)
        .collect();
    let builder = ClientConfig::builder()
        .with_safe_default_cipher_suites()
        .with_safe_default_kx_groups()
        .with_protocol_versions(&versions)
        .map_err(|_| unusable("no version is offered"))?
        .with_custom_certificate_verifier(verifier(tls)?);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(
                certificates(chain)?.into_iter().map(Certificate).collect(),
                private_key(key)?,
            )
            .map_err(|error| unusable(format!("{}: {error}", place(key))))?,
    };
    config.alpn_protocols.clone_from(&tls.alpn);
    Ok(Arc::new(config))
}

fn verifier(tls: &Tls) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    // Asked for by its frightening name, and by nothing else.
    if tls.trust_anybody {
        return Ok(Arc::new(TrustAnybody));
    }
    let mut roots = RootCertStore::empty();
    if tls.web_roots {
        roots.add_trust_anchors(web_roots());
    }
    if tls.system_roots {
        roots.add_trust_anchors(system_roots()?.iter().cloned());
    }
    for pem in &tls.ca {
        for certificate in certificates(pem)? {
            roots
                .add(&Certificate(certificate))
                .map_err(|error| unusable(format!("{}: {error}", place(pem))))?;
        }
    }
    if roots.is_empty() {
        return Err(unusable("no certificate authority is trusted"));
    }
    Ok(Arc::new(WebPkiVerifier::new(roots, None)))
}

fn web_roots() -> impl Iterator<Item = OwnedTrustAnchor> {
    webpki_roots::TLS_SERVER_ROOTS.iter().map(|root| {
        OwnedTrustAnchor::from_subject_spki_name_constraints(
            root.subject.as_ref(),
            root.subject_public_key_info.as_ref(),
            root.name_constraints.as_ref().map(|constraints| constraints.as_ref()),
        )
    })
}

/// What cannot be read of the system's certificates is left out, unless that is all.
fn system_roots() -> Result<&'static [OwnedTrustAnchor], TlsError> {
    static SYSTEM: OnceLock<Vec<OwnedTrustAnchor>> = OnceLock::new();
    if let Some(roots) = SYSTEM.get() {
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(&found.certs);
    match found.errors.first() {
        Some(error) if store.is_empty() => Err(unusable(format!("the system's certificates: {error}"))),
        _ if store.is_empty() => Err(unusable("the system has no certificates")),
        _ => Ok(SYSTEM.get_or_init(|| store.roots)),
    }
}

fn certificates(pem: &Pem) -> Result<Vec<Vec<u8>>, TlsError> {
    let text = read(pem)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(format!("{}: no certificate", place(pem)))),
        Ok(found) => Ok(found.into_iter().map(|certificate| certificate.to_vec()).collect()),
        Err(error) => Err(unusable(format!("{}: {error}", place(pem)))),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKey, TlsError> {
    match PrivateKeyDer::from_pem_slice(&read(pem)?) {
        Ok(key) => Ok(PrivateKey(key.secret_der().to_vec())),
        Err(pem::Error::NoItemsFound) => {
            Err(unusable(format!("{}: no key, or one that is encrypted", place(pem))))
        }
        Err(error) => Err(unusable(format!("{}: {error}", place(pem)))),
    }
}

fn read(pem: &Pem) -> Result<Cow<'_, [u8]>, TlsError> {
    match pem {
        Pem::Text(text) => Ok(text.into()),
        Pem::File(path) => match fs::read(path) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(unusable(format!("{}: {error}", place(pem)))),
        },
    }
}

fn place(pem: &Pem) -> Cow<'_, str> {
    match pem {
        Pem::Text(_) => "PEM text".into(),
        Pem::File(path) => path.to_string_lossy(),
    }
}

fn unusable(why: impl Into<Arc<str>>) -> TlsError {
    TlsError::Options(why.into())
}

struct TrustAnybody;

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &Certificate,
        _: &[Certificate],
        _: &ServerName,
        _: &mut dyn Iterator<Item = &[u8]>,
        _: &[u8],
        _: SystemTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Old certificates, which the library would not even read, are some of those that this is for.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &Certificate,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &Certificate,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_brackets_and_the_last_dot() {
        for (name, expected) in [
            ("example.com", "example.com"),
            ("example.com.", "example.com"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("xn--bcher-kva.de", "xn--bcher-kva.de"),
        ] {
            assert_eq!(server_name(name).unwrap(), expected);
        }
        for name in ["", ".", "a b", "bücher.de", "[::1", "*.example.com", "a..b"] {
            assert!(matches!(server_name(name), Err(TlsError::Options(_))), "{name:?}");
        }
    }

    /// The two libraries must mean the same by the parts of an authority.
    #[test]
    fn web_roots_are_those_that_the_library_reads_from_certificates() {
        let Ok(system) = system_roots() else { return };
        let show = |root: &OwnedTrustAnchor| format!("{root:?}");
        let web: std::collections::HashSet<_> = web_roots().map(|root| show(&root)).collect();
        assert!(web.len() > 100, "{}", web.len());
        let common = system.iter().filter(|root| web.contains(&show(root))).count();
        assert!(common * 2 > system.len(), "{common} of {}", system.len());
    }

    #[test]
    fn usual_configuration_is_made_once() {
        futures::executor::block_on(async {
            let first = client_config(&Tls::default()).await.unwrap();
            let second = client_config(&Tls::default()).await.unwrap();
            assert!(Arc::ptr_eq(&first, &second));
            let other = client_config(&Tls::default().alpn(["http/1.1"])).await.unwrap();
            assert_eq!(other.alpn_protocols, [b"http/1.1"]);
        });
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (tls, why) in [
            (Tls::default().versions([]), "no version"),
            (Tls::default().web_roots(false), "no certificate authority"),
            (Tls::default().ca_file("does/not/exist.pem"), "does/not/exist.pem: "),
            (Tls::default().ca_pem("not PEM"), "no certificate"),
            (
                Tls::default().ca_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "PEM text: ",
            ),
            (Tls::default().client_cert_pem("x", "y"), "no certificate"),
        ] {
            let error = build(&tls).map(drop).unwrap_err();
            assert!(matches!(error, TlsError::Options(_)) && error.to_string().contains(why), "{error}");
        }
    }
}
