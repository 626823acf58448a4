//! TLS over a socket. Nothing outside of this folder knows who does it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
};

use async_tls::{TlsAcceptor, TlsConnector};
use rustls::{CertificateError, ClientConfig};

use crate::{
    deadline::Deadline,
    error::{Error, Phase, TlsError},
    options::{Role, ServerTls, Tls},
    socket::{Socket, TlsInfo},
};

use super::Connected;

mod config;
mod gate;
mod halves;
mod hello;
mod trust;
mod wakers;
mod x509;

use gate::Gate;
pub(super) use halves::{Reader, Writer};
use wakers::Relay;

/// Everything that a TLS handshake needs but the socket.
pub(super) struct Secure {
    config: Arc<ClientConfig>,
    name: String,
}

impl Secure {
    pub(super) async fn new(tls: &Tls, host: &str, deadline: Deadline) -> Result<Self, Error> {
        let name = config::server_name(tls.server_name.as_deref().unwrap_or(host))?;
        let config = async { Ok(config::client_config(tls).await?) };
        let config = deadline.within_phase(Phase::Files, pin!(config)).await?;
        Ok(Self { config, name })
    }

    pub(super) async fn connect(self, plain: Connected) -> Result<Connected, Error> {
        let Connected { reader, writer, socket } = plain;
        let gate = Gate::new(Role::Client, reader, writer);
        let relay = Relay::new();
        let connecting = pin!(TlsConnector::from(self.config).connect(self.name, gate.clone()));
        let stream = handshake(connecting, &relay, &gate).await?;
        encrypted(Box::new(stream), gate, relay, socket, Vec::new())
    }
}

/// Everything that a server needs for TLS handshakes.
pub(super) struct Acceptor(config::ServerConfigs);

impl Acceptor {
    pub(super) async fn new(tls: &ServerTls) -> Result<Self, Error> {
        Ok(Self(config::ServerConfigs::new(tls).await?))
    }

    /// Performs the TLS handshake with a client. Sets `is_probe` if the client closed the connection before it sent a
    /// byte.
    pub(super) async fn accept(&self, plain: Connected, is_probe: &mut bool) -> Result<Connected, Error> {
        let Connected { reader, writer, socket } = plain;
        let gate = Gate::new(Role::Server, reader, writer);
        let (config, shown) = self.0.for_one_client()?;
        let relay = Relay::new();
        let accepting = pin!(TlsAcceptor::from(config).accept(gate.clone()));
        let shaken = handshake(accepting, &relay, &gate).await;
        let stream = shaken.inspect_err(|_| *is_probe = gate.is_silent())?;
        encrypted(Box::new(stream), gate, relay, socket, shown.take())
    }
}

/// Runs a handshake. The gate polls the socket under its lock, so the socket must not get the caller's waker.
async fn handshake<T>(
    mut stream: Pin<&mut impl Future<Output = io::Result<T>>>,
    relay: &Relay,
    gate: &Gate,
) -> Result<T, TlsError> {
    let done = poll_fn(|cx| relay.poll_with(cx, |cx| stream.as_mut().poll(cx))).await;
    done.map_err(|error| handshake_error(error, gate))
}

/// The connection once its TLS handshake is done.
fn encrypted(
    stream: Box<dyn halves::Stream>,
    gate: Gate,
    relay: Relay,
    socket: Socket,
    client_certificates: Vec<Vec<u8>>,
) -> Result<Connected, Error> {
    let info = gate.end_handshake();
    let info = info.ok_or_else(|| TlsError::Protocol("the server sent no ServerHello".into()))?;
    let (reader, writer) = halves::split(stream, gate, relay);
    let socket = socket.with_tls(TlsInfo { client_certificates, ..info });
    Ok(Connected::new(super::Reader::Tls(reader), super::Writer::Tls(writer), socket))
}

/// What TLS found wrong, if that is what the error is about.
fn tls_error(error: &io::Error) -> Option<TlsError> {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Some(TlsError::Truncated);
    }
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(why) => TlsError::Certificate(describe(why).into()),
        rustls::Error::NoCertificatesPresented => TlsError::Certificate("the peer showed none".into()),
        rustls::Error::AlertReceived(alert) => TlsError::Alert(format!("{alert:?}").into()),
        rustls::Error::PeerIncompatible(why) => TlsError::Protocol(
            format!("no TLS version or algorithm in common with the peer ({why:?})").into(),
        ),
        error => TlsError::Protocol(error.to_string().into()),
    })
}

/// Converts an error of the handshake. The other end may speak another protocol.
fn handshake_error(error: io::Error, gate: &Gate) -> TlsError {
    if let Some(stranger) = gate.describe_stranger() {
        return TlsError::Protocol(stranger.into());
    }
    match tls_error(&error) {
        Some(TlsError::Truncated) if gate.heard_nothing() => TlsError::Protocol(
            "the peer closed the connection before it answered; it may not speak TLS on this port".into(),
        ),
        Some(error) => error,
        None => TlsError::Io(error.into()),
    }
}

/// On an open connection, the transport may fail as well. The error goes through a transport of bytes.
fn stream_error(error: io::Error) -> io::Error {
    match tls_error(&error) {
        Some(tls) => io::Error::new(error.kind(), tls),
        None => error,
    }
}

fn describe(error: &CertificateError) -> String {
    let known = match error {
        CertificateError::Expired => "it has expired",
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownIssuer => "no trusted authority has signed it",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::NotValidForName => "it is not for this name",
        CertificateError::InvalidPurpose => "it is for another purpose",
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::Other(error) => match error.to_string().as_str() {
            "RequiredEkuNotFound" => "it is for another purpose",
            "CaUsedAsEndEntity" => "it is for an authority",
            other => return other.to_owned(),
        },
        other => return format!("{other:?}"),
    };
    known.to_owned()
}
