//! A server that calls back, for users of turbo.

use std::panic::AssertUnwindSafe;

use futures::{future::FutureExt, stream::StreamExt};

use super::side_by_side;
use crate::{
    error::Error,
    frame::{CloseCode, CloseFrame},
    handshake::{Reply, Request},
    messages::Data,
    options::Accept,
    read::Read,
    server::{Connecting, Connection, Server, Upgrade, decide_later, finish},
    write::Write,
};

/// What is called for one client, in this order: [`subprotocol`](Self::subprotocol), [`prepare`](Self::prepare); where
/// these let it in, [`open`](Self::open), [`on_message`](Self::on_message) for each message, [`on_error`](Self::on_error)
/// if there is any, and [`on_close`](Self::on_close), in every case and once. [`serve_handler`] does the calling. Names
/// and order are those of turbo.
///
/// While one of them is awaited nothing is read for this client; others go on. To send from elsewhere, clone the
/// [`Write`].
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{
///     CloseFrame, Data, Error, Handler, Reply, Request, Server, ServerOptions, Write, serve_handler,
/// };
///
/// #[derive(Default)]
/// struct Greeter {
///     nick: String,
/// }
///
/// impl Handler for Greeter {
///     async fn prepare(&mut self, request: &Request) -> Result<(), Reply> {
///         self.nick = request.cookie("nick").ok_or(Reply::text(400, "who are you?\n"))?.to_owned();
///         Ok(())
///     }
///
///     async fn open(&mut self, write: &mut Write, _request: &Request) -> Result<(), Error> {
///         write.text(format!("hello {}", self.nick)).await?;
///         Ok(())
///     }
///
///     async fn on_message(&mut self, write: &mut Write, message: Data) -> Result<(), Error> {
///         write.feed(message).await
///     }
///
///     async fn on_close(&mut self, _said: Option<CloseFrame>) {
///         println!("{} has gone", self.nick);
///     }
/// }
///
/// # async fn run() -> Result<(), Error> {
/// let server = Server::bind("ws://127.0.0.1:8888/chat", ServerOptions::default()).await?;
/// serve_handler(&server, Greeter::default).await
/// # }
/// ```
pub trait Handler: Send {
    /// Chooses among the subprotocols that the client offers, where it offers any. `None`, the default: as the
    /// [options](crate::ServerOptions::subprotocols) of the server say.
    fn subprotocol(&mut self, offered: &[&str]) -> Option<String> {
        let _ = offered;
        None
    }

    /// Looks at an opening handshake before it is accepted. By default all are. It has until the
    /// [deadline](crate::ServerOptions::timeout) of the handshake.
    ///
    /// # Errors
    ///
    /// The answer that the client gets instead. After a panic the client gets 500.
    fn prepare(&mut self, request: &Request) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = request;
        async { Ok(()) }
    }

    /// The connection is open.
    ///
    /// # Errors
    ///
    /// As [`on_message`](Self::on_message).
    fn open(
        &mut self,
        write: &mut Write,
        request: &Request,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (write, request);
        async { Ok(()) }
    }

    /// A whole message has come.
    ///
    /// # Errors
    ///
    /// An error closes the connection with 1011. Nothing of it is sent.
    fn on_message(
        &mut self,
        write: &mut Write,
        message: Data,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The connection has failed, or one of the others has. [`Error::code`] is turbo's number.
    fn on_error(&mut self, error: &Error) -> impl Future<Output = ()> + Send {
        let _ = error;
        async {}
    }

    /// The connection is over: what the client said when it closed, if it said anything. Called once after each
    /// [`open`](Self::open), even where that or another one has failed or panicked.
    fn on_close(&mut self, said: Option<CloseFrame>) -> impl Future<Output = ()> + Send {
        let _ = said;
        async {}
    }
}

/// Like [`serve`](crate::serve), with callbacks: `make` returns a [`Handler`] for each client whose request has
/// arrived. Requests that [`Server::accept`] refuses or that its [hook](Server::set_proxy_handshake) answers do not
/// reach a handler.
///
/// # Errors
///
/// The same as [`Server::incoming`], after the running handlers are done.
///
/// # Cancel safety
///
/// Dropping the future drops the handlers and their connections, none else.
pub async fn serve_handler<H: Handler>(server: &Server, make: impl Fn() -> H) -> Result<(), Error> {
    let attend = |connecting: Connecting| {
        let peer = connecting.peer_addr();
        let attended = async {
            if let Some((handler, connection)) = admit(server, connecting, &make).await? {
                Box::pin(converse(handler, connection)).await?;
            }
            Ok(())
        };
        // One that panics must not take the others with it.
        AssertUnwindSafe(attended).catch_unwind().map(move |attended| {
            if let Ok(Err(error)) = attended {
                server.report(peer, &error);
            }
        })
    };
    side_by_side(|| server.incoming(), attend).await
}

/// The opening handshake. `None`: the client got another answer.
async fn admit<H: Handler>(
    server: &Server,
    connecting: Connecting,
    make: &impl Fn() -> H,
) -> Result<Option<(H, Connection)>, Error> {
    let Some((upgrade, accept)) = server.admit(connecting).await? else {
        return Ok(None);
    };
    // Boxed, because this is short compared to the life of the connection.
    let prepared = Box::pin(decide_later(prepare(&upgrade, accept, make))).await;
    match prepared {
        Ok((handler, accept)) => {
            let connection = Box::pin(finish(upgrade, accept)).await?;
            Ok(connection.map(|connection| (handler, connection)))
        }
        Err(reply) => {
            Box::pin(upgrade.respond(reply)).await?;
            Ok(None)
        }
    }
}

/// Returns a handler that accepts the client, and its settings for the connection.
async fn prepare<H: Handler>(
    upgrade: &Upgrade,
    mut accept: Accept,
    make: &impl Fn() -> H,
) -> Result<(H, Accept), Reply> {
    let mut handler = make();
    // A fault in the request is found again, and answered, at the end.
    if upgrade.check().is_ok() {
        let offered: Vec<_> = upgrade.request().subprotocols().collect();
        if !offered.is_empty()
            && let Some(chosen) = handler.subprotocol(&offered)
        {
            accept = accept.subprotocol(chosen);
        }
        drop(offered);
        handler.prepare(upgrade.request()).await?;
    }
    Ok((handler, accept))
}

async fn converse<H: Handler>(
    mut handler: H,
    (request, mut read, mut write): Connection,
) -> Result<(), Error> {
    let listening = AssertUnwindSafe(listen(&mut handler, &request, &mut read, &mut write));
    let listened = listening.catch_unwind().await;
    let code = if matches!(listened, Ok(Ok(()))) { CloseCode::NORMAL } else { CloseCode::INTERNAL_ERROR };
    // Most often the connection is closed already.
    let _ = write.close_with(code, "").await;
    let said = read.close_frames().received;
    // Closes the connection before the last callbacks, which may take long.
    drop((read, write));
    let ended = listened.unwrap_or(Ok(()));
    if let Err(error) = &ended {
        // A panic here must not keep `on_close` from being called.
        let _ = AssertUnwindSafe(handler.on_error(error)).catch_unwind().await;
    }
    let _ = AssertUnwindSafe(handler.on_close(said)).catch_unwind().await;
    ended
}

async fn listen<H: Handler>(
    handler: &mut H,
    request: &Request,
    read: &mut Read,
    write: &mut Write,
) -> Result<(), Error> {
    handler.open(write, request).await?;
    let mut messages = read.messages();
    while let Some(message) = messages.next().await {
        handler.on_message(write, message?).await?;
    }
    Ok(())
}
