//! A self-signed certificate among those that a client or a server trusts: it identifies its owner, and nothing else.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[path = "common/tls.rs"]
mod tls;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::Command,
    sync::Arc,
};

use coro_websocket::{Error, Server, ServerOptions, ServerTls, Tls, TlsError, TlsVersion, connect};
use futures::{executor::block_on, future::join};
use net::{options, serve, switching};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    Certificate, PrivateKey, ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
    server::{ClientHello, ResolvesServerCert},
    sign::{self, CertifiedKey, Signer, SigningKey},
};
use tls::{Authority, Identity, VERSIONS, client_params, server_config, server_params};

/// Makes a server certificate that is marked as an authority, like `openssl req -x509`.
fn authority_params(names: &[&str]) -> CertificateParams {
    let mut params = server_params(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = Vec::new();
    params
}

fn trusting(identity: &Identity) -> Tls {
    Tls::default().web_roots(false).ca_pem(&*identity.certificate_pem)
}

/// A server that opens one connection.
fn opening(config: Arc<ServerConfig>) -> SocketAddr {
    let (address, _) = serve(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            request.extend(byte);
        }
        stream.write_all(switching(&String::from_utf8(request).unwrap()).as_bytes())?;
        stream.flush()
    });
    address
}

fn open(config: Arc<ServerConfig>, host: &str, tls: Tls) -> Result<(), Error> {
    block_on(connect(options(opening(config)).host(host).tls(tls))).map(drop)
}

fn refusal(config: Arc<ServerConfig>, host: &str, tls: Tls) -> String {
    // The socket goes to 127.0.0.1; the name is asked for in TLS.
    match open(config, "127.0.0.1", tls.server_name(host)) {
        Err(error @ Error::Tls(TlsError::Certificate(_))) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn self_signed_certificate_is_trusted_as_itself_whether_it_is_marked_as_an_authority_or_not() {
    for params in [authority_params(&["localhost", "127.0.0.1"]), server_params(&["localhost", "127.0.0.1"])]
    {
        let identity = Identity::self_signed(params);
        for version in VERSIONS {
            let config = server_config(&identity, version, None, &[]);
            open(config.clone(), "localhost", trusting(&identity)).unwrap();
            open(config.clone(), "127.0.0.1", trusting(&identity)).unwrap();
            // Beside others, and beside Mozilla's list.
            let others = Tls::default().ca_pem(Authority::new("other").pem());
            open(config.clone(), "localhost", others.ca_pem(&*identity.certificate_pem)).unwrap();
            open(config, "127.0.0.1", trusting(&identity).server_name("localhost")).unwrap();
        }
    }
}

#[test]
fn self_signed_certificate_may_come_from_a_file() {
    let identity = Identity::self_signed(authority_params(&["localhost"]));
    let path = std::env::temp_dir().join(format!("coro-websocket-own-{}.pem", std::process::id()));
    std::fs::write(&path, &identity.certificate_pem).unwrap();
    let config = server_config(&identity, TlsVersion::Tls13, None, &[]);
    let opened = open(config, "localhost", Tls::default().web_roots(false).ca_file(&path));
    std::fs::remove_file(&path).unwrap();
    opened.unwrap();
}

#[test]
fn self_signed_certificate_must_have_the_name_and_be_valid_now_and_for_servers() {
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = authority_params(&["localhost"]);
        change(&mut params);
        Identity::self_signed(params)
    };
    let expired = with(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = with(|params| {
        params.not_before = date_time_ymd(2100, 1, 1);
        params.not_after = date_time_ymd(2101, 1, 1);
    });
    let for_clients = with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let valid = with(|_| ());
    for version in VERSIONS {
        for (identity, host, why) in [
            (&expired, "localhost", "it has expired"),
            (&early, "localhost", "it is not valid yet"),
            (&for_clients, "localhost", "for another purpose"),
            (&valid, "example.com", "not for this name, example.com, but for \"localhost\""),
            (&valid, "127.0.0.1", "not for this name, 127.0.0.1, but for \"localhost\""),
        ] {
            let text = refusal(server_config(identity, version, None, &[]), host, trusting(identity));
            assert!(text.contains(why), "{why}: {text}");
        }
    }
}

#[test]
fn other_certificate_with_the_same_name_or_key_is_refused() {
    let key = KeyPair::generate().unwrap();
    let params = authority_params(&["localhost"]);
    let certificate = params.self_signed(&key).unwrap();
    let identity =
        |params: &CertificateParams, key: &KeyPair| Identity::new(&params.self_signed(key).unwrap(), key);
    let trusted = Tls::default().web_roots(false).ca_pem(certificate.pem());
    let same_name = identity(&params, &KeyPair::generate().unwrap());
    let same_key = identity(&authority_params(&["localhost", "other"]), &key);
    // Signed by the trusted certificate, but marked as an authority itself.
    let issuer = Issuer::from_params(&params, &key);
    let signed_key = KeyPair::generate().unwrap();
    let signed = authority_params(&["localhost"]).signed_by(&signed_key, &issuer).unwrap();
    let signed = Identity::new(&signed, &signed_key);
    for version in VERSIONS {
        for other in [&same_name, &same_key, &signed] {
            refusal(server_config(other, version, None, &[]), "localhost", trusted.clone());
        }
        // Not listed at all, it is refused with advice.
        let other = Tls::default().web_roots(false).ca_pem(Authority::new("other").pem());
        let text = refusal(server_config(&same_name, version, None, &[]), "localhost", other);
        assert!(text.contains("Tls::ca_file"), "{text}");
    }
}

/// A self-signed certificate, and one for the same kind of peer that its key has signed.
fn self_signed_and_signed(params: &CertificateParams, signed: &CertificateParams) -> (Identity, Identity) {
    let (key, signed_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = params.clone();
    params.distinguished_name.push(DnType::CommonName, "own");
    let certificate = params.self_signed(&key).unwrap();
    let signed = signed.signed_by(&signed_key, &Issuer::from_params(&params, &key)).unwrap();
    (Identity::new(&certificate, &key), Identity::new(&signed, &signed_key))
}

/// Certificates that may not sign others: not marked as an authority, marked as none, or with a key for other purposes.
fn no_authorities(params: &CertificateParams) -> [CertificateParams; 3] {
    let mut marked = params.clone();
    marked.is_ca = IsCa::ExplicitNoCa;
    let mut key_usage = params.clone();
    key_usage.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    key_usage.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    [params.clone(), marked, key_usage]
}

#[test]
fn self_signed_certificate_that_is_no_authority_is_trusted_and_signs_for_no_other_server() {
    for params in no_authorities(&server_params(&["localhost"])) {
        let (own, signed) = self_signed_and_signed(&params, &server_params(&["localhost"]));
        for version in VERSIONS {
            open(server_config(&own, version, None, &[]), "localhost", trusting(&own)).unwrap();
            let text = refusal(server_config(&signed, version, None, &[]), "localhost", trusting(&own));
            assert!(text.contains("no trusted authority"), "{text}");
        }
    }
}

#[test]
fn certificate_that_is_neither_self_signed_nor_an_authority_is_trusted_for_nothing() {
    let identity = Authority::new("not listed").sign(server_params(&["localhost"]));
    let config = server_config(&identity, TlsVersion::Tls13, None, &[]);
    let alone = open(config.clone(), "localhost", trusting(&identity)).unwrap_err().to_string();
    assert!(alone.contains("no certificate authority is trusted"), "{alone}");
    refusal(config, "localhost", trusting(&identity).ca_pem(Authority::new("other").pem()));
}

/// The system's certificates are read once for a process, so this runs in one of its own, which has the file.
#[test]
fn self_signed_certificate_among_those_of_the_system_is_trusted_for_exactly_itself() {
    const KEYS: &str = "CORO_WEBSOCKET_TEST_KEYS";
    if let Ok(keys) = std::env::var(KEYS) {
        let trusting = Tls::default().web_roots(false).system_roots(true);
        let mut found = keys.split_terminator(',').map(|key| {
            let mut bytes = key.split('.').map(|hex| {
                let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
                digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect::<Vec<_>>()
            });
            let (certificate, key) = (bytes.next().unwrap(), bytes.next().unwrap());
            Identity { certificate, certificate_pem: String::new(), key, key_pem: String::new() }
        });
        let mut next = || server_config(&found.next().unwrap(), TlsVersion::Tls13, None, &[]);
        for _ in 0..2 {
            open(next(), "localhost", trusting.clone()).unwrap();
            refusal(next(), "localhost", trusting.clone());
        }
        return;
    }
    let (own, signed) =
        self_signed_and_signed(&server_params(&["localhost"]), &server_params(&["localhost"]));
    let marked = Identity::self_signed(authority_params(&["localhost"]));
    let other = Identity::self_signed(authority_params(&["localhost"]));
    let path = std::env::temp_dir().join(format!("coro-websocket-system-{}.pem", std::process::id()));
    std::fs::write(&path, format!("{}{}", own.certificate_pem, marked.certificate_pem)).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let keys = [&own, &signed, &marked, &other];
    let keys =
        keys.map(|identity| format!("{}.{}", hex(&identity.certificate), hex(&identity.key))).join(",");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "self_signed_certificate_among_those_of_the_system_is_trusted_for_exactly_itself"])
        .env("SSL_CERT_FILE", &path)
        .env_remove("SSL_CERT_DIR")
        .env(KEYS, keys)
        .output();
    std::fs::remove_file(&path).unwrap();
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

/// Returns whether a server that trusts these certificates accepts this client.
fn lets_in(listed: &str, client: &Identity, version: TlsVersion) -> bool {
    let authority = Authority::new("of the server");
    let own = authority.sign(server_params(&["localhost"]));
    let tls = ServerTls::pem(&*own.certificate_pem, &*own.key_pem).client_ca_pem(listed).versions([version]);
    block_on(async {
        let server = Server::bind("127.0.0.1:0", ServerOptions::default().tls(tls)).await.unwrap();
        let tls = tls::trusting(&authority).client_cert_pem(&*client.certificate_pem, &*client.key_pem);
        let options = options(server.local_addr().unwrap()).host("localhost").tls(tls);
        let client = async {
            // In TLS 1.3 a client hears of its refusal after the handshake.
            let opened = connect(options).await.is_ok();
            server.close();
            opened
        };
        let (accepted, opened) = join(server.accept(), client).await;
        accepted.unwrap().is_some() && opened
    })
}

#[test]
fn self_signed_certificate_of_a_client_is_trusted_for_exactly_itself_too() {
    let mut authority = client_params();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut for_servers = authority.clone();
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let for_servers = Identity::self_signed(for_servers);
    let (own, _) = self_signed_and_signed(&authority, &client_params());
    let beside = format!("{}{}", Authority::new("other").pem(), own.certificate_pem);
    for version in VERSIONS {
        assert!(lets_in(&own.certificate_pem, &own, version));
        assert!(lets_in(&beside, &own, version));
        assert!(!lets_in(&own.certificate_pem, &Identity::self_signed(authority.clone()), version));
        assert!(!lets_in(&for_servers.certificate_pem, &for_servers, version));
    }
    for params in no_authorities(&client_params()) {
        let (own, signed) = self_signed_and_signed(&params, &client_params());
        for version in VERSIONS {
            assert!(lets_in(&own.certificate_pem, &own, version));
            assert!(!lets_in(&own.certificate_pem, &signed, version));
        }
    }
}

/// A key that signs for a certificate that it does not belong to.
struct Thief(Arc<CertifiedKey>);

impl ResolvesServerCert for Thief {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Signs with one key, whatever the certificate says.
struct Foreign(Arc<dyn SigningKey>);

impl SigningKey for Foreign {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered)
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[test]
fn server_with_the_trusted_certificate_but_without_its_key_is_refused() {
    let identity = Identity::self_signed(authority_params(&["localhost"]));
    let thief = KeyPair::generate().unwrap().serialize_der();
    let key = sign::any_supported_type(&PrivateKey(thief)).unwrap();
    let chain = vec![Certificate(identity.certificate.clone())];
    let certified = Arc::new(CertifiedKey::new(chain, Arc::new(Foreign(key))));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ServerConfig::builder()
            .with_safe_default_cipher_suites()
            .with_safe_default_kx_groups()
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Thief(certified.clone())));
        let text = refusal(Arc::new(config), "localhost", trusting(&identity));
        assert!(text.contains("signature"), "{text}");
    }
}

#[test]
fn certificate_of_an_authority_signs_for_other_servers_as_before() {
    let authority = Authority::new("as before");
    let identity = authority.sign(server_params(&["localhost"]));
    let trusted = tls::trusting(&authority);
    for version in VERSIONS {
        open(server_config(&identity, version, None, &[]), "localhost", trusted.clone()).unwrap();
    }
}
