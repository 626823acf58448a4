//! Options to what the TLS library takes.

use std::{
    borrow::Cow,
    fs,
    sync::{Arc, LazyLock, OnceLock},
    time::SystemTime,
};

use rustls::{
    Certificate, CertificateError, ClientConfig, ClientConnection, DistinguishedName, OwnedTrustAnchor,
    PrivateKey, RootCertStore, ServerConfig, ServerConnection, ServerName, SignatureScheme,
    SupportedProtocolVersion,
    client::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier, WebPkiVerifier},
    server::{
        AllowAnyAnonymousOrAuthenticatedClient, AllowAnyAuthenticatedClient, ClientCertVerified,
        ClientCertVerifier, ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert,
    },
    sign::{self, CertifiedKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::trust::{Listed, Trusted};
use crate::{
    error::{Quoted, TlsError},
    net::lane::Lane,
    options::{Pem, ServerTls, Tls, TlsVersion},
    sync::{Mutex, lock},
};

/// The name in the form that certificates and servers know: no dot at the end, no brackets around an address.
pub(super) fn server_name(name: &str) -> Result<String, TlsError> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    match ServerName::try_from(bare) {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => {
            let ascii = url::Host::parse(bare).ok().map(|host| host.to_string());
            let advice = match ascii
                .filter(|ascii| !bare.is_ascii() && ServerName::try_from(ascii.as_str()).is_ok())
            {
                Some(ascii) => format!("; write it in ASCII, as {ascii:?}"),
                None => String::new(),
            };
            Err(unusable(format!("no certificate can have the name {}{advice}", Quoted(name.as_bytes()))))
        }
    }
}

/// Returns the configuration for these options. The configuration for the default options is made once, so that
/// sessions are resumed. Any other one is made for one connection.
pub(super) async fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    static USUAL: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if *tls != Tls::default() {
        let owned = tls.clone();
        return with_files(tls.pems(), move || build(&owned)).await;
    }
    if let Some(config) = USUAL.get() {
        return Ok(Arc::clone(config));
    }
    let config = build(tls)?;
    Ok(Arc::clone(USUAL.get_or_init(|| config)))
}

/// Loads PEM texts and files and passes them to `make`. Regular files are read on this thread, because all threads of
/// the shared pool may be busy. Anything else with a path, such as a FIFO, may block for ever and is read on another
/// thread.
async fn with_files<T: Send + 'static>(
    mut pems: impl Iterator<Item = &Pem>,
    make: impl FnOnce() -> Result<T, TlsError> + Send + 'static,
) -> Result<T, TlsError> {
    static OTHERS: LazyLock<Lane> = LazyLock::new(|| Lane::new(64));
    if pems.all(is_at_hand) {
        return make();
    }
    OTHERS.run(make).await.unwrap_or_else(|error| Err(unusable(error.to_string())))
}

fn is_at_hand(pem: &Pem) -> bool {
    match pem {
        Pem::Text(_) => true,
        // A missing file is noticed at once, too.
        Pem::File(path) => fs::metadata(path).map_or(true, |found| found.is_file() || found.is_dir()),
    }
}

fn build(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder()
        .with_safe_default_cipher_suites()
        .with_safe_default_kx_groups()
        .with_protocol_versions(&supported(&tls.versions))
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

fn supported(versions: &[TlsVersion]) -> Vec<&'static SupportedProtocolVersion> {
    [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| versions.contains(version))
        .map(|(_, version)| version)
        .collect()
}

/// The configurations of a server: one for all clients; or, where they are asked for certificates, one for each, so
/// that it is known who has shown which.
pub(super) struct ServerConfigs {
    versions: Vec<&'static SupportedProtocolVersion>,
    key: Arc<OnlyKey>,
    /// Who judges the certificates of clients, if they are asked for any.
    judge: Option<Arc<dyn ClientCertVerifier>>,
    common: Arc<ServerConfig>,
}

impl ServerConfigs {
    pub(super) async fn new(tls: &ServerTls) -> Result<Self, TlsError> {
        let owned = tls.clone();
        with_files(tls.pems(), move || Self::build(&owned)).await
    }

    fn build(tls: &ServerTls) -> Result<Self, TlsError> {
        let chain: Vec<_> = certificates(&tls.chain)?.into_iter().map(Certificate).collect();
        let key = sign::any_supported_type(&private_key(&tls.key)?)
            .map_err(|error| unusable(format!("{}: {error}", place(&tls.key))))?;
        let versions = supported(&tls.versions);
        let judge = if tls.client_ca.is_empty() {
            None
        } else {
            let (roots, listed) = authorities(RootCertStore::empty(), &tls.client_ca)?;
            let authorities = if tls.client_may_be_anonymous {
                AllowAnyAnonymousOrAuthenticatedClient::new(roots).boxed()
            } else {
                AllowAnyAuthenticatedClient::new(roots).boxed()
            };
            let judge: Arc<dyn ClientCertVerifier> = Arc::new(Trusted { authorities, listed, system: &[] });
            Some(judge)
        };
        let key = Arc::new(OnlyKey(Arc::new(CertifiedKey::new(chain, key))));
        let common = Arc::new(server_config(&versions, NoClientAuth::boxed(), &key)?);
        check_pair(&versions, &common)
            .map_err(|why| unusable(format!("{} with {}: {why}", place(&tls.chain), place(&tls.key))))?;
        Ok(Self { versions, key, judge, common })
    }

    /// The configuration for the next client, and where its certificates will be.
    pub(super) fn for_one_client(&self) -> Result<(Arc<ServerConfig>, Shown), TlsError> {
        let shown = Shown::default();
        let Some(judge) = &self.judge else {
            return Ok((Arc::clone(&self.common), shown));
        };
        let witness = Arc::new(Witness { judge: Arc::clone(judge), shown: shown.clone() });
        let mut config = server_config(&self.versions, witness, &self.key)?;
        // A session that is resumed shows no certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((Arc::new(config), shown))
    }
}

fn server_config(
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<dyn ClientCertVerifier>,
    key: &Arc<OnlyKey>,
) -> Result<ServerConfig, TlsError> {
    let key: Arc<OnlyKey> = Arc::clone(key);
    Ok(ServerConfig::builder()
        .with_safe_default_cipher_suites()
        .with_safe_default_kx_groups()
        .with_protocol_versions(versions)
        .map_err(|_| unusable("no version is offered"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(key))
}

/// Whether the key is that of the certificate: a client that trusts anybody, but only believes what is signed, shakes
/// hands with the server here.
fn check_pair(
    versions: &[&'static SupportedProtocolVersion],
    config: &Arc<ServerConfig>,
) -> Result<(), rustls::Error> {
    let client = ClientConfig::builder()
        .with_safe_default_cipher_suites()
        .with_safe_default_kx_groups()
        .with_protocol_versions(versions)?
        .with_custom_certificate_verifier(Arc::new(TrustSigned))
        .with_no_client_auth();
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(config))?;
    let mut flight = Vec::new();
    while client.is_handshaking() && client.wants_write() {
        for from_client in [true, false] {
            flight.clear();
            // Neither end has more than this to do with what is in memory.
            let moved = if from_client {
                client.write_tls(&mut flight).and_then(|_| server.read_tls(&mut flight.as_slice()))
            } else {
                server.write_tls(&mut flight).and_then(|_| client.read_tls(&mut flight.as_slice()))
            };
            moved.map_err(|error| rustls::Error::General(error.to_string()))?;
            if from_client {
                server.process_new_packets()?;
            } else if let Err(error) = client.process_new_packets() {
                // Others may read what we cannot.
                let unreadable = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
                return if error == unreadable { Ok(()) } else { Err(error) };
            }
        }
    }
    Ok(())
}

/// Trusts any certificate, if its key has signed the handshake.
struct TrustSigned;

impl ServerCertVerifier for TrustSigned {
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
}

/// The one certificate of a server, by whatever name it is called.
struct OnlyKey(Arc<CertifiedKey>);

impl ResolvesServerCert for OnlyKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// The certificates that a client has shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Vec<Vec<u8>>>>);

impl Shown {
    /// They are what they seem only once the handshake is done.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.0))
    }
}

/// Judges as the other does, and remembers what was shown.
struct Witness {
    judge: Arc<dyn ClientCertVerifier>,
    shown: Shown,
}

impl ClientCertVerifier for Witness {
    fn offer_client_auth(&self) -> bool {
        self.judge.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.judge.client_auth_mandatory()
    }

    fn client_auth_root_subjects(&self) -> &[DistinguishedName] {
        self.judge.client_auth_root_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        now: SystemTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.judge.verify_client_cert(end_entity, intermediates, now)?;
        let chain = std::iter::once(end_entity).chain(intermediates);
        *lock(&self.shown.0) = chain.map(|certificate| certificate.0.clone()).collect();
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &Certificate,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &Certificate,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
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
    let mut system: &[Certificate] = &[];
    if tls.system_roots {
        let found = system_roots()?;
        roots.add_trust_anchors(found.authorities.iter().cloned());
        system = &found.certificates;
    }
    let (roots, listed) = authorities(roots, &tls.ca)?;
    Ok(Arc::new(Trusted { authorities: WebPkiVerifier::new(roots, None), listed, system }))
}

/// Adds the authorities in these files and texts to the trusted ones, and returns the certificates listed there.
fn authorities(mut roots: RootCertStore, pems: &[Pem]) -> Result<(RootCertStore, Listed), TlsError> {
    let mut listed = Listed::default();
    for pem in pems {
        for certificate in certificates(pem)? {
            let added = listed.add(Certificate(certificate));
            added.map_err(|error| unusable(format!("{}: {error}", place(pem))))?;
        }
    }
    roots.add_trust_anchors(listed.authorities.drain(..));
    if roots.is_empty() && listed.certificates.is_empty() {
        return Err(unusable("no certificate authority is trusted"));
    }
    Ok((roots, listed))
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

/// Reads the certificates of the system. Unreadable ones are left out; if none is readable, this fails.
fn system_roots() -> Result<&'static Listed, TlsError> {
    static SYSTEM: OnceLock<Listed> = OnceLock::new();
    if let Some(listed) = SYSTEM.get() {
        return Ok(listed);
    }
    let found = rustls_native_certs::load_native_certs();
    let mut listed = Listed::default();
    for certificate in found.certs {
        let _ = listed.add(Certificate(certificate.to_vec()));
    }
    let is_empty = listed.authorities.is_empty() && listed.certificates.is_empty();
    match found.errors.first() {
        Some(error) if is_empty => Err(unusable(format!("the system's certificates: {error}"))),
        _ if is_empty => Err(unusable("the system has no certificates")),
        _ => Ok(SYSTEM.get_or_init(|| listed)),
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
        let common = system.authorities.iter().filter(|root| web.contains(&show(root))).count();
        let all = system.authorities.len();
        assert!(common * 2 > all, "{common} of {all}");
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
