//! Trust decisions of client and server, and explanations of refused certificates.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{
    Certificate, CertificateError, DigitallySignedStruct, DistinguishedName, OwnedTrustAnchor, RootCertStore,
    ServerName,
    client::{
        HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier, WebPkiVerifier, verify_server_name,
    },
    server::{ClientCertVerified, ClientCertVerifier, ParsedCertificate},
};

use super::x509::Facts;
use crate::options::Role;

/// Trusts peers whose certificate is signed by an authority, or is one of the listed certificates itself.
pub(super) struct Trusted<Authorities> {
    pub(super) authorities: Authorities,
    /// The list of the caller.
    pub(super) listed: Listed,
    /// The self-signed certificates of the system, if they count.
    pub(super) system: &'static [Certificate],
}

impl<Authorities> Trusted<Authorities> {
    fn lists(&self, certificate: &Certificate) -> bool {
        self.listed.certificates.contains(certificate) || self.system.contains(certificate)
    }
}

/// A list of certificates that are trusted.
#[derive(Default)]
pub(super) struct Listed {
    /// The certificates that may sign others. The library does not check that for the roots that it is given.
    pub(super) authorities: Vec<OwnedTrustAnchor>,
    /// The self-signed certificates.
    pub(super) certificates: Vec<Certificate>,
    /// Their subjects.
    pub(super) subjects: Vec<DistinguishedName>,
}

impl Listed {
    pub(super) fn add(&mut self, certificate: Certificate) -> Result<(), rustls::Error> {
        let mut store = RootCertStore::empty();
        store.add(&certificate)?;
        let facts = Facts::parse(&certificate.0);
        let is_self_issued = facts.as_ref().is_some_and(|facts| facts.is_self_issued);
        let is_authority = facts.is_none_or(|facts| facts.is_authority);
        if is_self_issued || is_authority {
            self.subjects.extend(store.roots.iter().map(|root| root.subject().clone()));
        }
        if is_authority {
            self.authorities.extend(store.roots);
        }
        if is_self_issued {
            self.certificates.push(certificate);
        }
        Ok(())
    }

    /// Checks that a listed certificate is valid now and for this kind of peer. The library refuses a server
    /// certificate that is marked as an authority, as `openssl req -x509` makes it. Here it is trusted for itself;
    /// certificates that it has signed gain no trust from this.
    fn check(certificate: &Certificate, peer: Role, now: SystemTime) -> Result<(), rustls::Error> {
        let facts = Facts::parse(&certificate.0).ok_or(CertificateError::BadEncoding)?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.ok().and_then(|now| i64::try_from(now.as_secs()).ok());
        let now = now.ok_or(rustls::Error::FailedToGetCurrentTime)?;
        if now < facts.validity.0 {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > facts.validity.1 {
            return Err(CertificateError::Expired.into());
        }
        let is_for_peer = match peer {
            Role::Server => facts.is_for_servers,
            Role::Client => facts.is_for_clients,
        };
        if !is_for_peer {
            return Err(CertificateError::InvalidPurpose.into());
        }
        // Refuses unknown critical extensions.
        ParsedCertificate::try_from(certificate).map(drop)
    }
}

impl ServerCertVerifier for Trusted<WebPkiVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        name: &ServerName,
        scts: &mut dyn Iterator<Item = &[u8]>,
        ocsp: &[u8],
        now: SystemTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = if self.lists(end_entity) {
            Listed::check(end_entity, Role::Server, now)
                .and_then(|()| verify_server_name(&ParsedCertificate::try_from(end_entity)?, name))
                .map(|()| ServerCertVerified::assertion())
        } else {
            self.authorities.verify_server_cert(end_entity, intermediates, name, scts, ocsp, now)
        };
        verified.map_err(|error| explain(error, end_entity, name))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &Certificate,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self.authorities.verify_tls12_signature(message, certificate, signature);
        verified.map_err(|error| explain_key(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &Certificate,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self.authorities.verify_tls13_signature(message, certificate, signature);
        verified.map_err(|error| explain_key(error, certificate))
    }
}

impl ClientCertVerifier for Trusted<Arc<dyn ClientCertVerifier>> {
    fn client_auth_mandatory(&self) -> bool {
        self.authorities.client_auth_mandatory()
    }

    fn client_auth_root_subjects(&self) -> &[DistinguishedName] {
        &self.listed.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        now: SystemTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.lists(end_entity) {
            return Listed::check(end_entity, Role::Client, now).map(|()| ClientCertVerified::assertion());
        }
        self.authorities.verify_client_cert(end_entity, intermediates, now)
    }
}

/// The reason for refusing a certificate, for cases where the library's own text says too little.
#[derive(Debug)]
struct Reason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

fn reason(text: impl Into<String>) -> rustls::Error {
    CertificateError::Other(Arc::new(Reason(text.into()))).into()
}

/// Adds the facts of the certificate that made the library refuse it.
fn explain(error: rustls::Error, certificate: &Certificate, name: &ServerName) -> rustls::Error {
    let rustls::Error::InvalidCertificate(why) = &error else { return error };
    let Some(facts) = Facts::parse(&certificate.0) else { return error };
    if facts.version < 3 {
        return reason(format!(
            "it is of X.509 version {}, which cannot name a host; make one of version 3, with subjectAltName",
            facts.version
        ));
    }
    match why {
        CertificateError::NotValidForName => reason(describe_names(facts.names.as_deref(), name)),
        // The library says the same for a certificate of the caller's list and for others.
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => reason(
            "it is for an authority, not for a server; to trust exactly this certificate, give it to Tls::ca_file",
        ),
        CertificateError::UnknownIssuer if facts.is_self_issued => reason(
            "it is self-signed, and not one of those that are trusted; to trust it, give it to Tls::ca_file",
        ),
        _ => explain_key(error, certificate),
    }
}

/// Explains the refusal if the key is the reason.
fn explain_key(error: rustls::Error, certificate: &Certificate) -> rustls::Error {
    match Facts::parse(&certificate.0).and_then(|facts| facts.rsa_bits) {
        Some(bits @ 0..2048) if error == CertificateError::BadSignature.into() => {
            reason(format!("its RSA key has {bits} bits, which is too short to be safe; 2048 are needed"))
        }
        _ => error,
    }
}

fn describe_names(names: Option<&[String]>, wanted: &ServerName) -> String {
    const SHOWN: usize = 5;
    let wanted = match wanted {
        ServerName::DnsName(name) => name.as_ref().to_owned(),
        ServerName::IpAddress(address) => address.to_string(),
        _ => "it".to_owned(),
    };
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        return format!(
            "it is not for this name, {wanted}: it has no subjectAltName, and a name in its subject (CN) does not count"
        );
    };
    let shown: Vec<_> =
        names.iter().take(SHOWN).map(|name| crate::error::Quoted(name.as_bytes()).to_string()).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("it is not for this name, {wanted}, but for {}{more}", shown.join(", "))
}
