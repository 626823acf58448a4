//! Certificates made on the spot, and servers that have them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    io::Write as _,
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

use coro_websocket::{Tls, TlsVersion};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    Certificate, Connection, PrivateKey, RootCertStore, ServerConfig,
    server::{AllowAnyAuthenticatedClient, NoClientAuth},
    version::{TLS12, TLS13},
};

use crate::net::read_to_end;

pub const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    pub certificate: Vec<u8>,
    pub certificate_pem: String,
    pub key: Vec<u8>,
    pub key_pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(&Certificate(self.0.der().to_vec())).unwrap();
        roots
    }

    /// Signs whatever is asked for.
    pub fn sign(&self, params: CertificateParams) -> Identity {
        self.sign_key(params, KeyPair::generate().unwrap())
    }

    pub fn sign_key(&self, params: CertificateParams, key: KeyPair) -> Identity {
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity::new(&certificate, &key)
    }
}

impl Identity {
    pub fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().to_vec(),
            certificate_pem: certificate.pem(),
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        }
    }

    pub fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::new(&params.self_signed(&key).unwrap(), &key)
    }
}

/// For a server with these names and addresses.
pub fn server_params(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// For a client.
pub fn client_params() -> CertificateParams {
    let mut params = server_params(&["a-client"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A server of one version; with an authority for clients, it demands their certificates.
pub fn server_config(
    identity: &Identity,
    version: TlsVersion,
    clients: Option<&Authority>,
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let version = if version == TlsVersion::Tls12 { &TLS12 } else { &TLS13 };
    let verifier = match clients {
        None => NoClientAuth::boxed(),
        Some(clients) => Arc::new(AllowAnyAuthenticatedClient::new(clients.roots())),
    };
    let mut config = ServerConfig::builder()
        .with_safe_default_cipher_suites()
        .with_safe_default_kx_groups()
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![Certificate(identity.certificate.clone())], PrivateKey(identity.key.clone()))
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client that trusts this authority and nobody else.
pub fn trusting(authority: &Authority) -> Tls {
    Tls::default().web_roots(false).ca_pem(authority.pem())
}

/// Sends on what one end of a TLS connection says up to some byte, then what was asked for instead. Gives whether its
/// handshake was over before.
pub fn cut_short(
    stream: &mut TcpStream,
    tls: impl Into<Connection>,
    len: usize,
    then: &[u8],
    reset: bool,
) -> bool {
    stream.set_nodelay(true).unwrap();
    let mut tls = tls.into();
    let mut left = len;
    let mut whole = false;
    loop {
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).unwrap();
        }
        let part = &bytes[..bytes.len().min(left)];
        left -= part.len();
        stream.write_all(part).unwrap();
        if part.len() < bytes.len() || left == 0 {
            break;
        }
        if !tls.is_handshaking() {
            whole = true;
            break;
        }
        match tls.read_tls(stream) {
            Ok(1..) if tls.process_new_packets().is_ok() => {}
            _ => break,
        }
    }
    let _ = stream.write_all(then);
    if reset {
        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
    } else {
        let _ = stream.shutdown(Shutdown::Write);
        read_to_end(stream);
    }
    whole
}
