//! A request that waits for its answer.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    deadline::Deadline,
    deflate::choose_offer,
    error::{Error, HandshakeError},
    exchange::{send, send_last},
    handshake::{
        Reply, Request,
        explain::{explain_no_subprotocol, explain_request},
        extension::parse_extensions,
        headers::check_subprotocol,
        key::accept_key,
        origin::check_origin,
        request::check_request,
        response::encode_switching,
    },
    net::{SocketReader, SocketWriter},
    options::{Accept, AcceptOptions, Deflate, Settings},
    wrap::{IoRead, IoWrite, assemble},
};

/// How long a plain answer may take to be sent, counted from when it is given.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn answer_deadline() -> Deadline {
    Deadline::after(ANSWER_TIMEOUT)
}

/// A request that was read and waits for its answer, from [`Connecting`](crate::Connecting) or
/// [`accept_io`](crate::accept_io).
///
/// # Drop
///
/// Dropped without an answer, the transport is dropped with it: the client sees the connection end.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Accept, Error, Reply, Upgrade};
/// use futures::io::{AsyncRead, AsyncWrite};
///
/// # async fn answer<R, W>(upgrade: Upgrade<R, W>) -> Result<(), Error>
/// # where R: AsyncRead + Unpin, W: AsyncWrite + Unpin {
/// if upgrade.request().path() == "/" {
///     return upgrade.respond(Reply::new(200).body("It works")).await;
/// }
/// match upgrade.accept(Accept::default()).await {
///     Ok((request, read, write)) => println!("{} connected", request.pathname()),
///     Err(refused) => refused.answer().await?,
/// }
/// # Ok(())
/// # }
/// ```
pub struct Upgrade<R = SocketReader, W = SocketWriter> {
    read: R,
    write: W,
    request: Request,
    leftover: Vec<u8>,
    deadline: Deadline,
    options: Arc<AcceptOptions>,
    /// Whether bytes of an answer may be out, so that no other can follow.
    answered: bool,
}

/// The settings of a connection, and its subprotocol.
pub(super) type Agreed = (Settings, Option<String>);

impl<R, W> Upgrade<R, W> {
    pub(crate) fn new(
        read: R,
        write: W,
        request: Request,
        leftover: Vec<u8>,
        deadline: Deadline,
        options: Arc<AcceptOptions>,
    ) -> Self {
        Self { read, write, request, leftover, deadline, options, answered: false }
    }

    /// What the client asked for.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// The request, to change what those who look at it later see of it.
    #[must_use]
    pub const fn request_mut(&mut self) -> &mut Request {
        &mut self.request
    }

    /// Whether the request is a whole opening handshake
    /// ([RFC 6455 §4.2.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1)) from a page that may connect
    /// ([`AcceptOptions::origins`]). [`accept`](Self::accept) checks the same.
    ///
    /// # Errors
    ///
    /// The first rule that is broken; [`HandshakeError::status`] is what to answer.
    pub fn check(&self) -> Result<(), HandshakeError> {
        check_request(&self.request)?;
        check_origin(&self.request, &self.options.origins)
    }
}

impl<R, W> Upgrade<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Opens the connection: answers 101
    /// ([RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2)).
    ///
    /// # Errors
    ///
    /// [`Refused`] gives the request back with the reason. [`Error::Handshake`]: the request is not one for a
    /// WebSocket, or not from where it may come, or does not offer the subprotocol. [`Error::Options`]: the
    /// answer cannot be written. In these cases nothing was sent and another answer can be given.
    /// [`Error::TimedOut`], [`Error::Io`]: sending failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the transport, and the client may have got a part of the answer.
    #[expect(clippy::type_complexity, reason = "what comes of it has three parts")]
    pub fn accept(
        mut self,
        accept: Accept,
    ) -> impl Future<Output = Result<(Request, IoRead<R, W>, IoWrite<W>), Refused<R, W>>> {
        Box::pin(async move {
            match self.switch(&accept).await {
                Ok(agreed) => Ok(self.open(agreed)),
                Err(error) => Err(Refused::new(self, error)),
            }
        })
    }

    /// Makes the connection after the answer was sent.
    pub(super) fn open(self, (settings, subprotocol): Agreed) -> (Request, IoRead<R, W>, IoWrite<W>) {
        let Self { read, write, mut request, leftover, .. } = self;
        if let Some(socket) = request.socket() {
            socket.prepare_for(&settings);
        }
        request.set_agreed(subprotocol, settings.deflate.as_ref().map(Deflate::params));
        let (read, write) = assemble(read, leftover, write, &settings);
        (request, read, write)
    }

    /// Sends the answer 101, after everything that can be wrong with it was looked at. Gives what holds from now on,
    /// and the subprotocol.
    pub(super) async fn switch(&mut self, accept: &Accept) -> Result<Agreed, Error> {
        if self.answered {
            return Err(Error::Closed(None));
        }
        self.check().map_err(|error| Error::handshake(error, explain_request(error, &self.request)))?;
        let mut settings = accept.settings(&self.options.settings);
        settings.check()?;
        let subprotocol = self.choose_subprotocol(accept)?;
        let key = self.request.header("sec-websocket-key").ok_or(HandshakeError::Key)?;
        let chosen = match &settings.deflate {
            Some(own) => choose_offer(own, &parse_extensions(self.request.headers())?),
            None => None,
        };
        let (deflate, extensions) = chosen.unzip();
        settings.deflate = deflate;
        let answer = encode_switching(
            &accept_key(key),
            subprotocol.as_deref(),
            extensions.as_deref(),
            &accept.headers,
        )?;
        self.answered = true;
        self.deadline.within(pin!(send(&mut self.write, &answer))).await?;
        Ok((settings, subprotocol))
    }

    fn choose_subprotocol(&self, accept: &Accept) -> Result<Option<String>, Error> {
        let offered: Vec<&str> = self.request.subprotocols().collect();
        let chosen = match (&accept.subprotocol, &self.options.choose_subprotocol.0) {
            (Some(chosen), _) => Some(chosen.clone()),
            (None, Some(choose)) if !offered.is_empty() => choose(&offered),
            (None, Some(_)) => None,
            (None, None) => {
                let ours = &self.options.subprotocols;
                ours.iter().find(|chosen| offered.contains(&chosen.as_str())).cloned()
            }
        };
        // §4.2.2: "The value chosen MUST be derived from the client's handshake".
        match chosen {
            Some(chosen) => {
                check_subprotocol(&chosen)?;
                if !offered.contains(&chosen.as_str()) {
                    let chosen =
                        format!("the subprotocol {chosen:?} was chosen, which the client does not offer");
                    return Err(Error::handshake(HandshakeError::Subprotocol, chosen));
                }
                Ok(Some(chosen))
            }
            None if self.options.require_subprotocol => {
                let error = HandshakeError::SubprotocolMissing;
                let text = explain_no_subprotocol(&self.request, &self.options.subprotocols);
                Err(Error::handshake(error, text))
            }
            None => Ok(None),
        }
    }

    /// Refuses with this status, from 200 to 599, and a body of plain text.
    ///
    /// # Errors
    ///
    /// As [`respond`](Self::respond).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the transport, and the client may have got a part of the answer.
    pub async fn reject(self, status: u16, body: impl Into<String>) -> Result<(), Error> {
        self.respond(Reply::text(status, body)).await
    }

    /// Gives a plain HTTP answer and closes the transport. The whole answer is sent, then what the client may
    /// still be sending is thrown away for a second at most, since closing before could take the answer back.
    ///
    /// # Errors
    ///
    /// [`Error::Options`]: the answer cannot be written, nothing was sent. [`Error::TimedOut`]: the client
    /// did not take it within 5 seconds. [`Error::Io`]: the transport failed. [`Error::Closed`]: there was an
    /// answer already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the transport, and the client may have got a part of the answer.
    pub async fn respond(mut self, reply: Reply) -> Result<(), Error> {
        if self.answered {
            return Err(Error::Closed(None));
        }
        let bytes = reply.encode(self.request.method() == "HEAD")?;
        self.answered = true;
        send_last(&mut self.read, &mut self.write, &bytes, answer_deadline()).await
    }
}

impl<R, W> fmt::Debug for Upgrade<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("request", &self.request).finish_non_exhaustive()
    }
}

/// A request that [`Upgrade::accept`] did not accept, and why. It converts into its error, and the transport
/// is dropped; to tell the client, use [`answer`](Self::answer).
#[non_exhaustive]
pub struct Refused<R = SocketReader, W = SocketWriter> {
    /// The request, to give it another answer.
    pub upgrade: Box<Upgrade<R, W>>,
    /// Why it was not accepted.
    pub error: Error,
}

impl<R, W> Refused<R, W> {
    pub(super) fn new(upgrade: Upgrade<R, W>, error: Error) -> Self {
        Self { upgrade: Box::new(upgrade), error }
    }
}

impl<R, W> Refused<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Tells the client why, with the status that belongs to the rule that it broke, or 500 where the fault
    /// is ours, and closes the transport.
    ///
    /// # Errors
    ///
    /// As [`Upgrade::respond`]; [`Error::Closed`], where sending the answer 101 failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the transport, and the client may have got a part of the answer.
    pub async fn answer(self) -> Result<(), Error> {
        let Self { upgrade, error } = self;
        let reply = match error {
            Error::Handshake { error, text, .. } => Reply::refusal(error, &text),
            _ => None,
        };
        upgrade.respond(reply.unwrap_or_else(Reply::at_fault)).await
    }
}

impl<R, W> fmt::Debug for Refused<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).field("upgrade", &self.upgrade).finish()
    }
}

impl<R, W> fmt::Display for Refused<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not accepted: {}", self.error)
    }
}

impl<R, W> std::error::Error for Refused<R, W> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<R, W> From<Refused<R, W>> for Error {
    /// The error alone. The client gets no answer.
    fn from(refused: Refused<R, W>) -> Self {
        refused.error
    }
}
