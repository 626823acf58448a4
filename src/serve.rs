//! A server whose connections are all handled alike.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use futures::{
    future::FutureExt,
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
/// is sent. If the handler has closed the connection itself, its code stands. If both halves and all clones of `Write`
/// are dropped while the handler still runs, the connection is closed at once, without a Close frame.
///
/// # Errors
///
/// The same as [`Server::accept`], after the running handlers are done.
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

/// Serves all arriving connections. Connections that are open are served to their end, even after accepting has ended.
async fn side_by_side<T, Next, Done>(
    next: impl Fn() -> Next,
    take_care: impl Fn(T) -> Done,
) -> Result<(), Error>
where
    Next: Future<Output = Result<Option<T>, Error>>,
    Done: Future<Output = ()>,
{
    let mut running = FuturesUnordered::new();
    let ended = loop {
        let mut next = pin!(next());
        let came = poll_fn(|cx| {
            let came = next.as_mut().poll(cx);
            // However many arrive, those who are there have their turn.
            while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
            came
        });
        match came.await {
            Ok(Some(one)) => running.push(take_care(one)),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    while running.next().await.is_some() {}
    ended
}

/// Runs the handler for one connection, and closes the connection once the handler is done.
fn handle<H>(server: &Server, handler: &H, (request, read, write): Connection) -> impl Future<Output = ()>
where
    H: AsyncFn(Request, Read, Write) -> Result<(), Error>,
{
    let peer = request.peer_addr();
    // The connection is kept only while the handler is being polled, because only afterwards is it known whether the
    // handler has dropped the halves by finishing. While the handler waits, dropping the last half closes the
    // connection.
    let shared = Arc::downgrade(write.shared());
    let mut kept = Some(Arc::clone(write.shared()));
    // One that panics must not take the others with it, be it before there is a future.
    let started = catch_unwind(AssertUnwindSafe(|| Box::pin(handler(request, read, write))));
    let mut started = started.ok();
    let handled = poll_fn(move |cx| {
        let connection = kept.take().or_else(|| shared.upgrade());
        let polled =
            catch_unwind(AssertUnwindSafe(|| started.as_mut().map(|handled| handled.as_mut().poll(cx))));
        let handled = match polled {
            Ok(Some(Poll::Pending)) => return Poll::Pending,
            Ok(Some(Poll::Ready(handled))) => Some(handled),
            Ok(None) | Err(_) => None,
        };
        // A handler that has panicked is not polled again; its state is dropped.
        let dropped = started.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(dropped)));
        Poll::Ready((handled, connection))
    });
    // Boxed: most connections are open, and need no room for the state of their end.
    handled.then(move |(handled, connection)| {
        Box::pin(async move {
            if let Some(connection) = connection {
                let code =
                    if let Some(Ok(())) = handled { CloseCode::NORMAL } else { CloseCode::INTERNAL_ERROR };
                // Usually the connection is closed already.
                let _ = Write::new(connection).close_with(code, "").await;
            }
            if let Some(Err(error)) = handled {
                server.report(peer, &error);
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, ServerOptions, connect};
    use futures::{channel::oneshot, executor::block_on, future::join};
    use std::sync::{Arc, Mutex};

    /// A server with some listeners, the errors that it reports, and a client for each listener.
    fn server(listeners: usize) -> (Server, Arc<Mutex<Vec<String>>>, Vec<Options>) {
        let log = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&log);
        let options = ServerOptions::default().on_failure(move |peer, error| {
            assert_eq!(peer, None);
            seen.lock().unwrap().push(error.to_string());
        });
        let server = block_on(Server::bind(vec!["127.0.0.1:0"; listeners], options)).unwrap();
        let address =
            |address: std::net::SocketAddr| Options::default().host("127.0.0.1").port(address.port());
        let clients = server.local_addrs().into_iter().map(address).collect();
        (server, log, clients)
    }

    async fn echo(_: Request, mut read: Read, mut write: Write) -> Result<(), Error> {
        while let Some(message) = read.next().await {
            let message = message?;
            if message.is_data() {
                write.send(message).await?;
            }
        }
        Ok(())
    }

    async fn exchange((read, write): (&mut Read, &mut Write)) {
        write.text("hello").await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("hello"));
    }

    #[test]
    fn listener_that_fails_is_reported_and_ends_neither_handlers_nor_other_listeners() {
        let (server, log, clients) = server(3);
        let place = server.local_addrs()[1];
        let client = async {
            let (_, mut read, mut write) = connect(clients[1].clone()).await.unwrap();
            exchange((&mut read, &mut write)).await;
            server.break_listener(1);
            // Accepting from the others shows that the failure was noticed.
            for other in [&clients[0], &clients[2], &clients[0]] {
                let (_, mut read, mut write) = connect(other.clone()).await.unwrap();
                exchange((&mut read, &mut write)).await;
            }
            exchange((&mut read, &mut write)).await;
            assert!(connect(clients[1].clone()).await.is_err());
            assert_eq!(server.local_addrs().len(), 2);
            server.close();
        };
        let (served, ()) = block_on(join(serve(&server, echo), client));
        served.unwrap();
        let log = log.lock().unwrap();
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0].contains(&place.to_string()), "{log:?}");
    }

    #[test]
    fn failure_of_the_last_listener_is_returned_once_the_handlers_are_done() {
        for callbacks in [false, true] {
            let (server, log, clients) = server(2);
            let (done, wait) = oneshot::channel();
            let client = async {
                let (_, mut read, mut write) = connect(clients[0].clone()).await.unwrap();
                exchange((&mut read, &mut write)).await;
                server.break_listener(0);
                server.break_listener(1);
                while server.is_listening() {
                    async_io::Timer::after(std::time::Duration::from_millis(1)).await;
                }
                exchange((&mut read, &mut write)).await;
                write.close_with(1000, "").await.unwrap();
                while read.next().await.is_some() {}
                done.send(()).unwrap();
            };
            let serving = async {
                let served = if callbacks {
                    serve_handler(&server, || Echo).await
                } else {
                    serve(&server, echo).await
                };
                assert_eq!(served.unwrap_err().io_kind(), Some(std::io::ErrorKind::InvalidInput));
                wait.await.unwrap();
            };
            block_on(join(serving, client));
            assert_eq!(log.lock().unwrap().len(), 2);
        }
    }

    struct Echo;

    impl Handler for Echo {
        async fn on_message(&mut self, write: &mut Write, message: crate::Data) -> Result<(), Error> {
            write.send(message).await
        }
    }
}
