//! What can be chosen for TLS.

use std::{fmt, path::PathBuf};

/// How a connection is encrypted, and whom it trusts. The default trusts Mozilla's list of certificate authorities
/// and demands the name of the host ([RFC 6455 §10.6](https://www.rfc-editor.org/rfc/rfc6455#section-10.6)).
///
/// Files are read, and texts understood, when a connection is made: an error there is
/// [`Error::Tls`](crate::Error::Tls). `Debug` does not show keys.
///
/// # Examples
///
/// ```
/// use coro_websocket::{Options, Tls, TlsVersion};
///
/// let tls = Tls::default()
///     .web_roots(false)
///     .ca_file("ca.pem")
///     .client_cert_file("client.pem", "client.key")
///     .versions([TlsVersion::Tls13]);
/// let options = Options::default().host("localhost").port(8443).tls(tls);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub(crate) off: bool,
    pub(crate) web_roots: bool,
    pub(crate) system_roots: bool,
    pub(crate) ca: Vec<Pem>,
    /// The chain and its key.
    pub(crate) identity: Option<(Pem, Pem)>,
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) versions: Vec<TlsVersion>,
    pub(crate) trust_anybody: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            off: false,
            web_roots: true,
            system_roots: false,
            ca: Vec::new(),
            identity: None,
            server_name: None,
            alpn: Vec::new(),
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            trust_anybody: false,
        }
    }
}

impl From<bool> for Tls {
    /// `true`: the default. `false`: no TLS at all.
    fn from(on: bool) -> Self {
        Self { off: !on, ..Self::default() }
    }
}

impl Tls {
    /// Whether Mozilla's list of certificate authorities is trusted, as it was when this crate's dependencies were
    /// chosen. Default: `true`. With `false` only [`ca_file`](Self::ca_file), [`ca_pem`](Self::ca_pem) and
    /// [`system_roots`](Self::system_roots) count.
    #[must_use]
    pub fn web_roots(mut self, trusted: bool) -> Self {
        self.web_roots = trusted;
        self
    }

    /// Whether the certificate authorities of the operating system are trusted. Default: `false`. They are read once
    /// for the whole process; `SSL_CERT_FILE` and `SSL_CERT_DIR` say where, if set. Self-signed certificates among them
    /// are treated as in [`ca_file`](Self::ca_file).
    #[must_use]
    pub fn system_roots(mut self, trusted: bool) -> Self {
        self.system_roots = trusted;
        self
    }

    /// Trusts the certificate authorities in this PEM file as well. Default: none.
    ///
    /// A self-signed certificate in the file is trusted for itself, whether or not it is marked as an authority (as
    /// `openssl req -x509` does): a server that presents this certificate and has its key is trusted for the names in
    /// the certificate's `subjectAltName`, while the certificate is valid. A certificate that may not sign others (by
    /// its basic constraints or key usage) is not treated as an authority.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca.push(Pem::File(path.into()));
        self
    }

    /// Trusts the certificate authorities and self-signed certificates in this PEM text as well, as
    /// [`ca_file`](Self::ca_file) does. Default: none.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca.push(Pem::Text(pem.into()));
        self
    }

    /// Shows a certificate to servers that ask for one: PEM files with the chain, the client's own certificate
    /// first, and with its key in PKCS#8, PKCS#1 or SEC1 form, not encrypted. Default: none. The server is verified
    /// all the same.
    #[must_use]
    pub fn client_cert_file(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Pem::File(chain.into()), Pem::File(key.into())));
        self
    }

    /// Shows a certificate to servers that ask for one, from PEM texts; otherwise as
    /// [`client_cert_file`](Self::client_cert_file). Default: none.
    #[must_use]
    pub fn client_cert_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Pem::Text(chain.into()), Pem::Text(key.into())));
        self
    }

    /// The name or address that the server's certificate must have, and that it is asked for
    /// ([RFC 6066 §3](https://www.rfc-editor.org/rfc/rfc6066#section-3)). Default: the host, or `localhost` with a
    /// unix socket.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The protocols to offer, the preferred ones first ([RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)), such as
    /// `http/1.1`. Default: none, nothing is negotiated. The connection fails if the server chooses another one.
    /// [`TlsInfo::alpn`](crate::TlsInfo::alpn) reports the choice only with TLS 1.2.
    #[must_use]
    pub fn alpn<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator<Item: Into<Vec<u8>>>,
    {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// The versions to offer. Default: both. None of them: every connection fails.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.versions = versions.into_iter().collect();
        self
    }

    /// Whether any certificate at all is accepted, whoever made it, for whatever name, expired or not. Default:
    /// `false`. **With `true` anybody on the way can read and change everything**: it is for tests against servers
    /// that have no proper certificate. Nothing else switches verification off.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self, accept: bool) -> Self {
        self.trust_anybody = accept;
        self
    }
}

/// The certificate that a server shows, and whom it lets in.
///
/// Files are read, and texts understood, by [`Server::bind`](crate::Server::bind): an error there is
/// [`Error::Tls`](crate::Error::Tls). `Debug` does not show keys.
///
/// # Examples
///
/// ```
/// use coro_websocket::{ServerOptions, ServerTls};
///
/// let tls = ServerTls::files("fullchain.pem", "privkey.pem").client_ca_file("staff.pem");
/// let options = ServerOptions::default().tls(tls);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    pub(crate) chain: Pem,
    pub(crate) key: Pem,
    pub(crate) client_ca: Vec<Pem>,
    pub(crate) client_may_be_anonymous: bool,
    pub(crate) versions: Vec<TlsVersion>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// Every text or file that is to be read.
    pub(crate) fn pems(&self) -> impl Iterator<Item = &Pem> {
        self.ca.iter().chain(self.identity.iter().flat_map(|(chain, key)| [chain, key]))
    }
}

#[cfg(feature = "tls")]
impl ServerTls {
    /// Every text or file that is to be read.
    pub(crate) fn pems(&self) -> impl Iterator<Item = &Pem> {
        [&self.chain, &self.key].into_iter().chain(&self.client_ca)
    }
}

impl ServerTls {
    /// PEM files with the chain, the server's own certificate first, and with its key in PKCS#8, PKCS#1 or SEC1
    /// form, not encrypted. They may be the same file.
    #[must_use]
    pub fn files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self::new(Pem::File(chain.into()), Pem::File(key.into()))
    }

    /// PEM texts instead of files; otherwise as [`files`](Self::files).
    #[must_use]
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self::new(Pem::Text(chain.into()), Pem::Text(key.into()))
    }

    fn new(chain: Pem, key: Pem) -> Self {
        let versions = Tls::default().versions;
        Self { chain, key, client_ca: Vec::new(), client_may_be_anonymous: false, versions }
    }

    /// Demands a certificate of each client: one signed by an authority in this PEM file, or a self-signed certificate
    /// that is itself in the file, as with [`Tls::ca_file`]. Default: no certificate is requested. The client's
    /// certificates are in [`TlsInfo::client_certificates`](crate::TlsInfo::client_certificates).
    #[must_use]
    pub fn client_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_ca.push(Pem::File(path.into()));
        self
    }

    /// Demands a certificate of each client, like [`client_ca_file`](Self::client_ca_file), with the PEM text itself.
    #[must_use]
    pub fn client_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.client_ca.push(Pem::Text(pem.into()));
        self
    }

    /// Whether clients may come without a certificate where one is asked for. Default: `false`. A wrong one is
    /// refused all the same.
    #[must_use]
    pub fn client_may_be_anonymous(mut self, may: bool) -> Self {
        self.client_may_be_anonymous = may;
        self
    }

    /// The versions to speak. Default: both. None of them cannot be bound.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.versions = versions.into_iter().collect();
        self
    }
}

/// A version of TLS. There are no older ones here: they are not safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 ([RFC 5246](https://www.rfc-editor.org/rfc/rfc5246)).
    Tls12,
    /// TLS 1.3 ([RFC 8446](https://www.rfc-editor.org/rfc/rfc8446)).
    Tls13,
}

/// Where certificates or a key come from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Text(text) => write!(f, "{} bytes", text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let tls = Tls::default().client_cert_pem("chain", "secret").ca_pem("ca");
        assert!(!format!("{tls:?}").contains("secret"));
        assert!(!format!("{tls:?}").contains("115"));
        let tls = ServerTls::pem("chain", "secret");
        assert!(!format!("{tls:?}").contains("secret") && !format!("{tls:?}").contains("115"));
    }
}
