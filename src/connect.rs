//! The client's way to a connection: URL, socket, TLS, opening handshake, halves.

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    clock,
    deadline::Deadline,
    deflate::{check_answer, offered_names},
    entropy,
    error::{Error, HandshakeError, OptionsError, TlsError},
    exchange::{read_body, read_head, send},
    handshake::{
        Response,
        body::Body,
        explain::{explain_answer, explain_head},
        extension::parse_extensions,
        head::HeadBuffer,
        key::{accept_key, encode_key},
        request::encode_request,
        response::{Offer, check_response},
    },
    net::{Address, DEFAULT_HOST},
    options::{Deflate, HeadLimits, Options, Role, Settings},
    read::Read,
    socket::Timings,
    url::{Authority, default_port, parse_host},
    wrap::{IoRead, IoWrite, assemble},
    write::Write,
};

/// How many interim responses a server may send before the one that counts.
const MAX_INTERIM: usize = 8;

/// The time limit for the body of a refusal. A refusal is returned within one second after its head; the remaining 100
/// ms are for the caller's executor.
const BODY_TIMEOUT: Duration = Duration::from_millis(900);

/// Connects to a server and opens a WebSocket connection
/// ([RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1)): looks the host up, tries each of its
/// addresses until one answers ("Happy Eyeballs", [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)), or takes
/// the [unix socket](Options::path); encrypts the connection if [`tls`](Options::tls) says so; sends the request and checks the response. The response is 101 and
/// everything about it is as it must be.
///
/// # Errors
///
/// The variant says which step failed. [`Error::Options`]: the options cannot be used, nothing was done.
/// [`Error::Resolve`]: the host has no address. [`Error::Connect`]: no address answered, with the reason of each.
/// [`Error::Tls`]: the server is not to be trusted, or does not trust us, or the options for TLS cannot be used.
/// [`Error::Handshake`]: the server refused, with its response and the part of the body that arrived within a second
/// after the head; or its answer was not that of a WebSocket server. [`Error::Io`]: the connection failed between
/// request and response. [`Error::TimedOut`]: all of it together took longer than [`timeout`](Options::timeout), or
/// connecting the socket longer than [`connect_timeout`](Options::connect_timeout); its phase is the step that was
/// going on.
///
/// When the process runs out of file descriptors, a step fails with [`Error::Resolve`] or [`Error::Connect`]. The first
/// use of async-io in a process is an exception: it panics if it cannot open the three descriptors of its reactor.
///
/// # Cancel safety
///
/// Dropping the future closes every socket that it has opened.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Error, Options, StreamExt, connect};
///
/// # async fn run() -> Result<(), Error> {
/// let (response, mut read, mut write) = connect(Options::from_url("ws://localhost:8080/chat")?).await?;
/// println!("{} in {:?}", response.code(), response.timings());
/// write.text("hello").await?;
/// while let Some(message) = read.next().await {
///     println!("{}", message?);
/// }
/// # Ok(())
/// # }
/// ```
pub fn connect(options: Options) -> impl Future<Output = Result<(Response, Read, Write), Error>> {
    // In a box: a task has room for the largest of what it ever awaits, as long as it lives.
    Box::pin(async move {
        let deadline = Deadline::after(options.timeout);
        let opening = Opening::new(&options)?;
        let address = Address::new(&options)?;
        let mut timings = Timings::default();
        let mut connected = address.connect(deadline, &options, &mut timings).await?;
        let since = clock::now();
        let opened = opening.perform(&mut connected.reader, &mut connected.writer, &options, deadline).await;
        timings.handshake = Some(clock::now() - since);
        let (response, settings, leftover) = opened.map_err(|error| error.with_timings(timings))?;
        connected.socket.prepare_for(&settings);
        let response = response.with_connection(Some(connected.socket), timings);
        let (read, write) = assemble(connected.reader, leftover, connected.writer, &settings);
        Ok((response, read, write))
    })
}

/// Opens a connection over a transport that the caller has connected
/// ([RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1)). Of the options that say where to
/// connect to, only `Host` is made: `127.0.0.1` without a host, `localhost` where there is only a
/// [`path`](Options::path). The response is 101 and everything about it is as it must be.
///
/// `connect_io` does not encrypt. With a `wss` URL or [`tls`](Options::tls) it sends nothing and fails with
/// [`OptionsError::NotEncrypted`], unless [`Options::already_encrypted`] says that the transport encrypts.
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
#[expect(clippy::type_complexity, reason = "what comes of it has three parts")]
pub fn connect_io<R, W>(
    mut read: R,
    mut write: W,
    options: Options,
) -> impl Future<Output = Result<(Response, IoRead<R, W>, IoWrite<W>), Error>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    Box::pin(async move {
        if options.tls.is_some() && !options.already_encrypted {
            return Err(OptionsError::NotEncrypted.into());
        }
        let deadline = Deadline::after(options.timeout);
        let opening = Opening::new(&options)?;
        let since = clock::now();
        let opened = opening.perform(&mut read, &mut write, &options, deadline).await;
        let timings = Timings { handshake: Some(clock::now() - since), ..Timings::default() };
        let (response, settings, leftover) = opened.map_err(|error| error.with_timings(timings))?;
        let (read, write) = assemble(read, leftover, write, &settings);
        Ok((response.with_connection(None, timings), read, write))
    })
}

/// An opening handshake whose options have been checked.
struct Opening {
    request: Vec<u8>,
    /// What the server must answer.
    accept: String,
}

impl Opening {
    fn new(options: &Options) -> Result<Self, Error> {
        options.settings.check()?;
        options.deflate.iter().try_for_each(Deflate::check)?;
        let key = encode_key(entropy::draw_nonce()?);
        let request = encode_request(options, &authority(options)?, &key)?;
        Ok(Self { request, accept: accept_key(&key) })
    }

    /// The response that opened the connection, what holds for that, and the bytes of the first frames.
    async fn perform<R, W>(
        self,
        read: &mut R,
        write: &mut W,
        options: &Options,
        deadline: Deadline,
    ) -> Result<(Response, Settings, Vec<u8>), Error>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let exchange = exchange(read, write, &self.request, options.limits);
        let Answer { response, rest, unfinished } = deadline.within(pin!(exchange)).await?;
        let extensions = offered_names(&options.deflate);
        let offer = Offer { accept: &self.accept, subprotocols: &options.subprotocols, extensions };
        let checked = check_response(&response, offer)
            .and_then(|()| check_answer(&options.deflate, &parse_extensions(response.headers())?));
        let error = match checked {
            Ok(deflate) => {
                let response = response.with_deflate(deflate.as_ref().map(Deflate::params));
                return Ok((response, Settings { deflate, ..options.settings }, rest));
            }
            Err(error) => error,
        };
        let mut body = Body::new(&response, options.limits.max_len);
        if let Some(head) = unfinished {
            body.skip_head(&head);
        }
        body.push(&rest);
        // The refusal is what counts; a body that does not come to its end does not change it.
        let by = deadline.or_before(Deadline::after(BODY_TIMEOUT));
        let _ = by.within(pin!(read_body(read, &mut body))).await;
        let response = response.with_body(body.finish());
        let text = explain_answer(error, &response, offer).into();
        Err(Error::Handshake { error, text, response: Some(Arc::new(response)) })
    }
}

/// What the client tells the server that it is called.
fn authority(options: &Options) -> Result<String, Error> {
    if options.port == Some(0) {
        return Err(OptionsError::Port.into());
    }
    if options.path.is_some() && options.host.is_none() && options.port.is_none() {
        return Ok(String::from("localhost"));
    }
    let host = parse_host(options.host.as_deref().unwrap_or(DEFAULT_HOST))?;
    let tls = options.tls.is_some();
    Ok(Authority { host: &host, port: options.port.unwrap_or(default_port(tls)), tls }.to_string())
}

/// A response, and the bytes received after its head.
struct Answer {
    response: Response,
    rest: Vec<u8>,
    /// The start of the head, if its end has not arrived.
    unfinished: Option<Vec<u8>>,
}

/// Sends the request and reads the final response, both at once: a server may refuse before it has read the whole
/// request, and then read no more of it.
async fn exchange<R, W>(
    read: &mut R,
    write: &mut W,
    request: &[u8],
    limits: HeadLimits,
) -> Result<Answer, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut sending = pin!(send(write, request));
    let mut sent = None;
    let mut answering = pin!(read_answer(read, limits));
    let answered = poll_fn(|cx| {
        if sent.is_none()
            && let Poll::Ready(done) = sending.as_mut().poll(cx)
        {
            match done {
                Err(error) if !hung_up(&error) => return Poll::Ready(Err(error)),
                done => sent = Some(done),
            }
        }
        answering.as_mut().poll(cx)
    })
    .await;
    match (answered, sent) {
        // The request must be out before the first frame.
        (Ok(answer), None) if answer.response.code() == 101 => sending.await.map(|()| answer),
        // The server closed the connection without a reason, so the write error is reported.
        (Err(error), Some(Err(sent))) if !matches!(error, Error::Tls(TlsError::Alert(_))) => Err(sent),
        (answered, _) => answered,
    }
}

/// Reads the final response and skips interim ones.
async fn read_answer<R>(read: &mut R, limits: HeadLimits) -> Result<Answer, Error>
where
    R: AsyncRead + Unpin,
{
    let mut received = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let answer = read_response(read, limits, received).await?;
        if !answer.response.is_interim() {
            return Ok(answer);
        }
        received = answer.rest;
    }
    let text = format!("the server sent more than {MAX_INTERIM} interim responses (1xx)");
    Err(Error::handshake(HandshakeError::Malformed, text))
}

/// Reads one response. Once the status line of a refusal has arrived, a fault in the rest of the head does not hide it.
async fn read_response<R>(read: &mut R, limits: HeadLimits, received: Vec<u8>) -> Result<Answer, Error>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = HeadBuffer::new(limits, received).of_server();
    let whole = read_head(read, &mut buffer).await;
    let head = buffer.finish();
    let is_whole = whole.is_ok();
    let parsed = whole.and_then(|()| {
        Response::parse(&head)
            .map_err(|error| Error::handshake(error, explain_head(error, &head.bytes, limits, Role::Server)))
    });
    match parsed {
        Ok(response) => Ok(Answer { response, rest: head.leftover, unfinished: None }),
        Err(error) => match Response::salvage(&head, limits.max_headers) {
            Some(response) => {
                let unfinished = (!is_whole).then_some(head.bytes);
                Ok(Answer { response, rest: head.leftover, unfinished })
            }
            None => Err(error),
        },
    }
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
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    fn exchanged(response: &str) -> Result<(Response, Vec<u8>), Error> {
        let mut sent = Vec::new();
        let answer =
            block_on(exchange(&mut Cursor::new(response), &mut sent, b"request", HeadLimits::default()));
        assert_eq!(sent, b"request");
        answer.map(|answer| (answer.response, answer.rest))
    }

    #[test]
    fn frames_in_the_packet_of_the_response_are_kept() {
        let (response, leftover) = exchanged("HTTP/1.1 101 x\r\n\r\n\u{1}\u{2}frames\r\n\r\n").unwrap();
        assert_eq!((response.code(), leftover.as_slice()), (101, &b"\x01\x02frames\r\n\r\n"[..]));
    }

    /// Takes nothing and says that the other end is gone.
    struct Gone;

    impl AsyncWrite for Gone {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Gives an alert of TLS, as a server that refuses a certificate after the handshake does.
    struct Alerting;

    impl AsyncRead for Alerting {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            let alert = TlsError::Alert("CertificateRequired".into());
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    #[test]
    fn what_a_server_says_before_it_hangs_up_is_the_reason() {
        let reason = |read: &mut (dyn AsyncRead + Unpin)| {
            block_on(exchange(&mut &mut *read, &mut Gone, b"request", HeadLimits::default()))
        };
        let answer = reason(&mut Cursor::new("HTTP/1.1 431 x\r\n\r\n"));
        assert_eq!(answer.unwrap().response.code(), 431);
        assert!(matches!(reason(&mut Alerting), Err(Error::Tls(TlsError::Alert(_)))));
        let nothing = reason(&mut Cursor::new(""));
        assert_eq!(nothing.map(drop).unwrap_err().io_kind(), Some(io::ErrorKind::BrokenPipe));
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
            assert_eq!(authority(&options).unwrap(), expected, "{options:?}");
        }
        assert_eq!(
            authority(&Options::default().port(0)).map_err(Error::options_kind),
            Err(OptionsError::Port)
        );
        assert_eq!(
            authority(&Options::default().host("a b")).map_err(Error::options_kind),
            Err(OptionsError::Host)
        );
    }
}
