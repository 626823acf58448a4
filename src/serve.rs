//! A server whose connections are all handled alike.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use futures::{
    future::{FutureExt, OptionFuture},
    stream::{FuturesUnordered, StreamExt},
};

use crate::{
    error::Error,
    frame::CloseCode,
    handshake::Request,
    read::Read,
    server::{Connection, Server},
    write::Write,
};

mod handler;

pub use handler::{Handler, serve_handler};

/// Accepts connections until the server is closed, and has the handler take care of each, of all of them side by side
/// in the task that awaits this. To use several threads, call [`Server::accept`] and give each connection to a task.
///
/// A handler that is done leaves the connection to be closed: with 1000 where it succeeded, with 1011 where it failed
/// or panicked; what went wrong is [`ServerOptions::on_failure`](crate::ServerOptions::on_failure)'s, and nothing of it
/// is sent. A handler that has closed the connection by itself has the last word.
///
/// # Errors
///
/// As [`Server::accept`].
///
/// # Cancel safety
///
/// Dropping the future drops the handlers and their connections, none else.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Error, Server, ServerOptions, SinkExt, StreamExt, serve};
///
/// # async fn run() -> Result<(), Error> {
/// let server = Server::bind("127.0.0.1:8080", ServerOptions::default()).await?;
/// serve(&server, async |_request, mut read, mut write| {
///     while let Some(message) = read.next().await {
///         let message = message?;
///         if message.is_data() {
///             write.feed(message).await?;
///         }
///     }
///     Ok(())
/// })
/// .await
/// # }
/// ```
pub async fn serve<H>(server: &Server, handler: H) -> Result<(), Error>
where
    H: AsyncFn(Request, Read, Write) -> Result<(), Error>,
{
    side_by_side(|| server.accept(), |connection| handle(server, &handler, connection)).await
}

/// Takes care of all who come, until nobody does.
async fn side_by_side<T, Next, Done>(
    next: impl Fn() -> Next,
    take_care: impl Fn(T) -> Done,
) -> Result<(), Error>
where
    Next: Future<Output = Result<Option<T>, Error>>,
    Done: Future<Output = ()>,
{
    let mut running = FuturesUnordered::new();
    loop {
        let mut next = pin!(next());
        let came = poll_fn(|cx| {
            let came = next.as_mut().poll(cx);
            // However many arrive, those who are there have their turn.
            while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
            came
        });
        match came.await? {
            Some(one) => running.push(take_care(one)),
            None => break,
        }
    }
    while running.next().await.is_some() {}
    Ok(())
}

/// What becomes of one connection. Combinators hold the handler's future once; an `async` function would hold all that
/// it is given twice.
fn handle<H>(server: &Server, handler: &H, (request, read, write): Connection) -> impl Future<Output = ()>
where
    H: AsyncFn(Request, Read, Write) -> Result<(), Error>,
{
    let peer = request.peer_addr();
    let mut last = write.clone();
    // One that panics must not take the others with it, be it before there is a future.
    let started = catch_unwind(AssertUnwindSafe(|| handler(request, read, write)));
    let handled = AssertUnwindSafe(OptionFuture::from(started.ok())).catch_unwind();
    handled.then(async move |handled| {
        let succeeded = matches!(handled, Ok(Some(Ok(()))));
        let code = if succeeded { CloseCode::NORMAL } else { CloseCode::INTERNAL_ERROR };
        // Most often the connection is closed already.
        let _ = last.close_with(code, "").await;
        if let Ok(Some(Err(error))) = handled {
            server.report(peer, &error);
        }
    })
}
