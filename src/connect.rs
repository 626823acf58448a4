//! The client's way from a transport to a connection.

use std::{io, sync::Arc};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    deadline::Deadline,
    deflate::{check_answer, offered_names},
    entropy,
    error::{Error, HandshakeError, OptionsError},
    exchange::{read_body, read_head, send},
    handshake::{
        Response,
        body::Body,
        extension::parse_extensions,
        key::{accept_key, encode_key},
        request::encode_request,
        response::{Offer, check_response},
    },
    options::{Deflate, HeadLimits, Options, Settings},
    url::{Authority, default_port, parse_host},
    wrap::{IoRead, IoWrite, assemble},
};

/// How many interim responses a server may send before the one that counts.
const MAX_INTERIM: usize = 8;

/// What `Host` says when there is nothing to take it from.
const DEFAULT_HOST: &str = "127.0.0.1";

/// Opens a connection over a transport that the caller has connected
/// ([RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1)). Of the options that say where to
/// connect to, only `Host` is made: `127.0.0.1` without a host, `localhost` where there is only a
/// [`path`](Options::path). The response is 101 and everything about it is as it must be.
///
/// # Errors
///
/// [`Error::Options`]: the options cannot be used, nothing was sent. [`Error::Handshake`]: the server
/// refused, with its response and the start of its body, or did not answer as a WebSocket server does.
/// [`Error::TimedOut`]: it did not answer in [time](Options::timeout). [`Error::Io`]: the transport failed.
///
/// # Cancel safety
///
/// Dropping the future drops the transport, in whatever state the handshake is.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Error, Options, connect_io};
/// use futures::io::AsyncReadExt;
///
/// # async fn run() -> Result<(), Error> {
/// let (read, write) = async_net::TcpStream::connect("127.0.0.1:8080").await?.split();
/// let (response, read, write) = connect_io(read, write, Options::from_url("ws://127.0.0.1:8080/")?).await?;
/// assert_eq!(response.code(), 101);
/// # let _ = (read, write);
/// # Ok(())
/// # }
/// ```
pub async fn connect_io<R, W>(
    mut read: R,
    mut write: W,
    options: Options,
) -> Result<(Response, IoRead<R, W>, IoWrite<W>), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let deadline = Deadline::after(options.timeout);
    let (response, settings, leftover) = open(&mut read, &mut write, &options, deadline).await?;
    let (read, write) = assemble(read, leftover, write, &settings);
    Ok((response, read, write))
}

/// The opening handshake: the response that opened the connection, what holds for that, and the bytes of the
/// first frames.
pub(crate) async fn open<R, W>(
    read: &mut R,
    write: &mut W,
    options: &Options,
    deadline: Deadline,
) -> Result<(Response, Settings, Vec<u8>), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    options.settings.check()?;
    options.deflate.iter().try_for_each(Deflate::check)?;
    let key = encode_key(entropy::draw()?);
    let request = encode_request(options, &authority(options)?, &key)?;
    let (response, leftover) = deadline.within(exchange(read, write, &request, options.limits)).await?;
    let extensions = offered_names(&options.deflate);
    let offer = Offer { accept: &accept_key(&key), subprotocols: &options.subprotocols, extensions };
    let checked = check_response(&response, offer)
        .and_then(|()| check_answer(&options.deflate, &parse_extensions(response.headers())?));
    let error = match checked {
        Ok(deflate) => {
            let response = response.with_deflate(deflate.as_ref().map(Deflate::params));
            return Ok((response, Settings { deflate, ..options.settings }, leftover));
        }
        Err(error) => error,
    };
    let mut body = Body::new(&response, options.limits.max_len);
    body.push(&leftover);
    // The refusal is what counts; a body that does not come to its end does not change it.
    let _ = deadline.within(read_body(read, &mut body)).await;
    let response = response.with_body(body.finish());
    Err(Error::Handshake { error, response: Some(Arc::new(response)) })
}

/// What the client tells the server that it is called.
fn authority(options: &Options) -> Result<String, OptionsError> {
    if options.port == Some(0) {
        return Err(OptionsError::Port);
    }
    if options.path.is_some() && options.host.is_none() && options.port.is_none() {
        return Ok(String::from("localhost"));
    }
    let host = parse_host(options.host.as_deref().unwrap_or(DEFAULT_HOST))?;
    let tls = options.tls;
    Ok(Authority { host: &host, port: options.port.unwrap_or(default_port(tls)), tls }.to_string())
}

/// Sends the request and waits for the response that is not an interim one.
async fn exchange<R, W>(
    read: &mut R,
    write: &mut W,
    request: &[u8],
    limits: HeadLimits,
) -> Result<(Response, Vec<u8>), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let sent = match send(write, request).await {
        Err(error) if !hung_up(&error) => return Err(error),
        sent => sent,
    };
    let mut received = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let head = match read_head(read, limits, received).await {
            Ok(head) => head,
            Err(error) => return Err(sent.err().unwrap_or(error)),
        };
        let response = Response::parse(&head)?;
        if !response.is_interim() {
            return Ok((response, head.leftover));
        }
        received = head.leftover;
    }
    Err(HandshakeError::Malformed.into())
}

/// Whether a server may have refused before it had read the whole request: then its refusal can still be
/// read.
fn hung_up(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.io_kind(), Some(BrokenPipe | ConnectionAborted | ConnectionReset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, io::Cursor};

    fn exchanged(response: &str) -> Result<(Response, Vec<u8>), Error> {
        let mut sent = Vec::new();
        let response =
            block_on(exchange(&mut Cursor::new(response), &mut sent, b"request", HeadLimits::default()));
        assert_eq!(sent, b"request");
        response
    }

    #[test]
    fn frames_in_the_packet_of_the_response_are_kept() {
        let (response, leftover) = exchanged("HTTP/1.1 101 x\r\n\r\n\u{1}\u{2}frames\r\n\r\n").unwrap();
        assert_eq!((response.code(), leftover.as_slice()), (101, &b"\x01\x02frames\r\n\r\n"[..]));
    }

    #[test]
    fn interim_responses_are_skipped_but_not_for_ever() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let (response, leftover) = exchanged(&format!("{interim}HTTP/1.1 101 x\r\n\r\nframes")).unwrap();
        assert_eq!((response.code(), leftover.as_slice()), (101, &b"frames"[..]));
        let endless = exchanged(&interim.repeat(100));
        assert!(matches!(endless, Err(Error::Handshake { error: HandshakeError::Malformed, .. })));
        let cut = exchanged(interim);
        assert!(matches!(cut, Err(Error::Handshake { error: HandshakeError::NoHead, .. })));
    }

    #[test]
    fn host_is_what_the_server_is_called() {
        for (options, expected) in [
            (Options::default(), "127.0.0.1"),
            (Options::default().port(8080), "127.0.0.1:8080"),
            (Options::default().host("::1").port(8080), "[::1]:8080"),
            (Options::default().host("[::1]").tls(true), "[::1]"),
            (Options::default().host("h").port(443).tls(true), "h"),
            (Options::default().host("h").port(443), "h:443"),
            (Options::default().path("/run/socket"), "localhost"),
            (Options::default().path("/run/socket").host("h"), "h"),
        ] {
            assert_eq!(authority(&options).as_deref(), Ok(expected), "{options:?}");
        }
        assert_eq!(authority(&Options::default().port(0)), Err(OptionsError::Port));
        assert_eq!(authority(&Options::default().host("a b")), Err(OptionsError::Host));
    }
}
