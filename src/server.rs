//! The server's way to a connection: a socket that has arrived, or a transport of the caller; then the request; then
//! what to make of it.

use std::{pin::pin, sync::Arc};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    deadline::Deadline,
    error::{Error, HandshakeError, TlsError},
    exchange::{read_head, send_last},
    handshake::{
        Reply, Request, explain::explain_head, head::HeadBuffer, headers::check_subprotocols,
        origin::check_origins, request::is_proxy_protocol,
    },
    net::Failure,
    options::{AcceptOptions, HeadLimits, Role},
    socket::Socket,
};

mod arrivals;
mod handshakes;
mod listening;
mod upgrade;

pub use listening::{Connecting, Server};
pub(crate) use listening::{Connection, decide_later, finish};
pub use upgrade::{Refused, Upgrade};

/// Reads the request of a client over a transport that the caller has accepted
/// ([RFC 6455 §4.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2)). Any HTTP request will do; whether
/// it asks for a WebSocket is for [`Upgrade::check`] and [`Upgrade::accept`] to say.
///
/// # Errors
///
/// [`Error::Options`]: the options cannot be used. [`Error::Handshake`]: what came is no request, or too
/// large. [`Error::TimedOut`]: it did not come in [time](AcceptOptions::timeout). [`Error::Io`]: the
/// transport failed. A client that is still there was told with a whole answer (400, 431 or 408), and the
/// transport is closed.
///
/// # Cancel safety
///
/// Dropping the future drops the transport and what was read of the request.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Accept, AcceptOptions, Error, accept_io};
/// use futures::io::AsyncReadExt;
///
/// # async fn run() -> Result<(), Error> {
/// let listener = async_net::TcpListener::bind("127.0.0.1:8080").await?;
/// let (stream, _) = listener.accept().await?;
/// let (read, write) = stream.split();
/// let upgrade = accept_io(read, write, AcceptOptions::default()).await?;
/// let (request, read, write) = upgrade.accept(Accept::default()).await?;
/// # let _ = (request, read, write);
/// # Ok(())
/// # }
/// ```
pub fn accept_io<R, W>(
    read: R,
    write: W,
    options: AcceptOptions,
) -> impl Future<Output = Result<Upgrade<R, W>, Error>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // In a box, here and elsewhere in handshakes: a task has room for the largest of what it ever awaits, as long as it
    // lives.
    Box::pin(async move {
        check_options(&options)?;
        let deadline = Deadline::after(options.timeout);
        let upgrade = read_upgrade(read, write, None, deadline, Arc::new(options)).await;
        upgrade.map_err(|failure| failure.error)
    })
}

fn check_options(options: &AcceptOptions) -> Result<(), Error> {
    options.settings.check()?;
    check_origins(&options.origins)?;
    check_subprotocols(&options.subprotocols)
}

/// Reads a request, or tells the client why it is none.
async fn read_upgrade<R, W>(
    mut read: R,
    mut write: W,
    socket: Option<Socket>,
    deadline: Deadline,
    options: Arc<AcceptOptions>,
) -> Result<Upgrade<R, W>, Failure>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut is_probe = false;
    let request = deadline.within(pin!(read_request(&mut read, options.limits, &mut is_probe))).await;
    match request {
        Ok((mut request, leftover)) => {
            request.set_socket(socket);
            Ok(Upgrade::new(read, write, request, leftover, deadline, options))
        }
        Err(error) => {
            let reply = match &error {
                Error::Handshake { error, text, .. } => Reply::refusal(*error, text),
                Error::TimedOut(_) => Some(Reply::timeout()),
                _ => None,
            };
            if let Some(reply) = reply {
                let reply = reply.encode(false)?;
                let answer = send_last(&mut read, &mut write, &reply, upgrade::answer_deadline());
                // The first error is the one to tell; the answer is a courtesy. In a box: most need no room for it.
                let _ = Box::pin(answer).await;
            }
            Err(Failure { error, is_probe })
        }
    }
}

/// Reads the request and the bytes after it. Sets `is_probe` if the connection ended before its first byte.
async fn read_request<R>(
    read: &mut R,
    limits: HeadLimits,
    is_probe: &mut bool,
) -> Result<(Request, Vec<u8>), Error>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = HeadBuffer::new(limits, Vec::new()).skip_empty_lines();
    let whole = read_head(read, &mut buffer).await;
    // A client that sends a TLS alert is no probe.
    let has_ended = matches!(
        whole,
        Err(Error::Handshake { error: HandshakeError::NoHead, .. }
            | Error::Io(_)
            | Error::Tls(TlsError::Truncated))
    );
    *is_probe = has_ended && buffer.received().is_empty();
    let is_proxy = is_proxy_protocol(buffer.received());
    let head = buffer.finish();
    let parsed = whole.and_then(|()| {
        Request::parse(&head)
            .map_err(|error| Error::handshake(error, explain_head(error, &head.bytes, limits, Role::Client)))
    });
    match parsed {
        Err(Error::Handshake { .. }) if is_proxy => Err(HandshakeError::ProxyProtocol.into()),
        request => Ok((request?, head.leftover)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, io::Cursor};
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    /// Gives so many bytes at a time.
    struct Packets<'a>(&'a [u8], usize);

    impl AsyncRead for Packets<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let (packet, rest) = self.0.split_at(self.1.min(self.0.len()).min(buf.len()));
            buf[..packet.len()].copy_from_slice(packet);
            self.0 = rest;
            Poll::Ready(Ok(packet.len()))
        }
    }

    #[test]
    fn frames_in_the_packet_of_the_request_are_kept() {
        let mut read = Cursor::new("GET / HTTP/1.1\r\nHost: h\r\n\r\n\u{1}frames");
        let (request, leftover) =
            block_on(read_request(&mut read, HeadLimits::default(), &mut false)).unwrap();
        assert_eq!((request.header("host"), leftover.as_slice()), (Some("h"), &b"\x01frames"[..]));
    }

    /// RUSTSEC-2023-0065: a head that is parsed again with every packet takes quadratic time. It is looked at once, as
    /// it comes, and parsed once, when it is whole.
    #[test]
    fn head_of_one_byte_per_packet_takes_no_more_than_twice_the_work_of_one_packet() {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(16_000));
        let work = |len: usize| {
            let mut packets = Packets(head.as_bytes(), len);
            let mut buffer = HeadBuffer::new(HeadLimits::default(), Vec::new());
            block_on(read_head(&mut packets, &mut buffer)).unwrap();
            let head = buffer.finish();
            assert_eq!(Request::parse(&head).unwrap().header("host"), Some("h"));
            head.work
        };
        assert!(work(1) <= 2 * work(usize::MAX), "{} {}", work(1), work(usize::MAX));
    }
}
