//! A listening server.

use std::{
    fmt,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};

use crate::{
    deadline::Deadline,
    error::{Error, Phase},
    handshake::{Reply, Request},
    net::{
        Failure,
        listen::{self, Listener},
    },
    options::{Accept, AcceptOptions, Addresses, ServerOptions},
    read::Read,
    sync::{Mutex, lock},
    write::Write,
};

use super::{
    Refused, Upgrade,
    arrivals::{Arrival, Arrivals},
    check_options,
    handshakes::Handshakes,
    read_upgrade,
};

/// A listening server.
///
/// [`accept`](Self::accept) gives connections that are ready; [`incoming`](Self::incoming) gives clients as they
/// arrive, to look at each request and answer it as one likes, in tasks of one's own. No task is started: handshakes go
/// on while `accept` is polled, or whatever `incoming` gave.
///
/// Failures to accept, such as for want of file descriptors, never end it: it pauses and tries again.
///
/// # Drop
///
/// It stops listening. Connections live on.
///
/// # Examples
///
/// ```no_run
/// use coro_websocket::{Error, Server, ServerOptions, StreamExt};
///
/// # async fn run() -> Result<(), Error> {
/// let server = Server::bind("127.0.0.1:8080", ServerOptions::default()).await?;
/// while let Some((request, mut read, mut write)) = server.accept().await? {
///     println!("{} from {:?}", request.pathname(), request.peer_addr());
///     // To serve several at once, give this to a task: see `serve`.
///     while let Some(message) = read.next().await {
///         let message = message?;
///         if message.is_data() {
///             write.feed(message).await?;
///         }
///     }
/// }
/// # Ok(())
/// # }
/// # use coro_websocket::SinkExt;
/// ```
pub struct Server {
    shared: Arc<Shared>,
    handshakes: Handshakes,
}

pub(super) struct Shared {
    pub(super) arrivals: Arrivals,
    hook: Mutex<Option<Hook>>,
}

type Hook = Arc<dyn Fn(&mut Request, Accept) -> Result<Accept, Reply> + Send + Sync>;

pub(crate) type Connection = (Request, Read, Write);

impl Server {
    /// Starts to listen, in all places or in none.
    ///
    /// # Errors
    ///
    /// [`Error::Options`], [`Error::Url`]: options or addresses that cannot be used. [`Error::Tls`]: a certificate or
    /// key that cannot be, or that do not belong together. [`Error::Resolve`]: a name has no address.
    /// [`Error::Listen`]: the system refuses to listen on an address; the text has the address and the reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops listening.
    pub async fn bind(addresses: impl Into<Addresses>, options: ServerOptions) -> Result<Self, Error> {
        let addresses = addresses.into();
        check_options(&options.accept)?;
        let listeners = listen::bind(&addresses, &options).await?;
        let arrivals = Arrivals::new(listeners, options);
        let shared = Arc::new(Shared { arrivals, hook: Mutex::new(None) });
        Ok(Self { shared, handshakes: Handshakes::default() })
    }

    /// Waits for the next client. What it gives is to be awaited for the request, best in a task of its own. `None`:
    /// the server is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: no socket listens any more; the server is closed from then on. Every other failure to accept goes
    /// to [`ServerOptions::on_failure`] only. A socket that has stopped listening is given up while others listen;
    /// after another failure, accepting is retried after a pause of 5 ms to one second.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use coro_websocket::{Accept, Connecting, Error, Reply, Server};
    ///
    /// # fn spawn(_: impl Future) {}
    /// async fn serve(server: Server) -> Result<(), Error> {
    ///     while let Some(connecting) = server.incoming().await? {
    ///         spawn(answer(connecting));
    ///     }
    ///     Ok(())
    /// }
    ///
    /// async fn answer(connecting: Connecting) -> Result<(), Error> {
    ///     let upgrade = connecting.await?;
    ///     match upgrade.request().path() {
    ///         "/" => upgrade.respond(Reply::new(200).body("It works")).await,
    ///         "/chat" => match upgrade.accept(Accept::default()).await {
    ///             Ok((request, read, write)) => chat(read, write).await,
    ///             Err(refused) => refused.answer().await,
    ///         },
    ///         _ => upgrade.reject(404, "there is nothing here\n").await,
    ///     }
    /// }
    /// # async fn chat(_: coro_websocket::Read, _: coro_websocket::Write) -> Result<(), Error> { Ok(()) }
    /// ```
    pub async fn incoming(&self) -> Result<Option<Connecting>, Error> {
        self.shared.incoming().await
    }

    /// Waits for the next connection whose opening handshake is done. Handshakes go on side by side while this is
    /// polled, each until its [deadline](ServerOptions::timeout). What is no request for a WebSocket is refused with a
    /// whole HTTP answer. `None`: the server is closed.
    ///
    /// # Errors
    ///
    /// The same as [`incoming`](Self::incoming).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no client: handshakes that have begun go on in the next call. Any number of tasks can
    /// call this at once: each call that is polled performs the handshakes of all, so no call depends on another.
    pub async fn accept(&self) -> Result<Option<Connection>, Error> {
        self.handshakes.next(&self.shared).await
    }

    /// As [`accept`](Self::accept), but for no longer than this.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] with [`Phase::Call`] when nobody came in time: nothing is lost, the next call goes on.
    /// Otherwise as [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](Self::accept).
    pub async fn accept_timeout(&self, timeout: Duration) -> Result<Option<Connection>, Error> {
        Deadline::after(timeout).within_phase(Phase::Call, pin!(self.accept())).await
    }

    /// Sets a hook that sees each request that [`accept`](Self::accept) is about to accept, with its settings. The hook
    /// may change both, or return a plain HTTP answer instead. It replaces an earlier hook. If it panics, its client
    /// gets 500, and others are not affected. Name and place are those of the old tarantool server.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use coro_websocket::{Reply, Server};
    /// # fn example(server: &Server) {
    /// server.set_proxy_handshake(|request, accept| {
    ///     if request.cookie("session").is_none() {
    ///         return Err(Reply::text(401, "sign in first\n"));
    ///     }
    ///     request.headers_mut().append("X-Seen", "yes");
    ///     Ok(accept.header("X-Served-By", "us"))
    /// });
    /// # }
    /// ```
    pub fn set_proxy_handshake(
        &self,
        hook: impl Fn(&mut Request, Accept) -> Result<Accept, Reply> + Send + Sync + 'static,
    ) {
        *lock(&self.shared.hook) = Some(Arc::new(hook));
    }

    /// The first address that it listens on, with the port that the system chose. `None`: there are only unix sockets,
    /// or it is closed.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().first().copied()
    }

    /// All addresses that it listens on, in the order in which they were given; unix sockets have none.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.shared.arrivals.listeners().iter().filter_map(|listener| listener.local_addr()).collect()
    }

    /// Whether clients are still taken in.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        !self.shared.arrivals.is_closed()
    }

    /// How many connections there are, those in the opening handshake too. One counts until both of its halves are
    /// dropped.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.arrivals.connections()
    }

    /// Returns the request of a client that [`accept`](Self::accept) would accept, with its settings. Returns `None` if
    /// the client got another answer or cannot be answered.
    pub(crate) async fn admit(&self, connecting: Connecting) -> Result<Option<(Upgrade, Accept)>, Error> {
        let Connecting { listener, future, .. } = connecting;
        match future.await {
            Ok(upgrade) => self.shared.admit(upgrade, &listener).await,
            Err(failure) => failure.into_error().map_or(Ok(None), Err),
        }
    }

    /// Makes accepting from one of the sockets fail from now on, as if the system had ended it.
    #[cfg(test)]
    pub(crate) fn break_listener(&self, index: usize) {
        if let Some(listener) = self.shared.arrivals.listeners().get(index) {
            listener.shut();
        }
    }

    /// Something went wrong that nobody else sees.
    pub(crate) fn report(&self, peer: Option<SocketAddr>, error: &Error) {
        self.shared.arrivals.on_failure.call(peer, error);
    }

    /// Stops listening. Whoever waits for clients gets `None`; clients that `accept` has not given yet are dropped, and
    /// established connections live on. Further calls do nothing.
    pub fn close(&self) {
        self.shared.arrivals.close();
        self.handshakes.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    pub(super) async fn incoming(&self) -> Result<Option<Connecting>, Error> {
        let arrival = self.arrivals.next().await?;
        Ok(arrival.map(|arrival| Connecting::new(arrival, Arc::clone(&self.arrivals.accept))))
    }

    /// Accepts the client, or tells it why not.
    pub(super) async fn answer(&self, connecting: Connecting) -> Option<Connection> {
        let peer = connecting.peer_addr();
        let Connecting { listener, future, .. } = connecting;
        let connection = match future.await {
            // In a box, as it is rarely waited for: whoever has yet to send a request needs no room for it.
            Ok(upgrade) => Box::pin(self.accept(upgrade, &listener)).await,
            Err(failure) => failure.into_error().map_or(Ok(None), Err),
        };
        connection.unwrap_or_else(|error| {
            self.arrivals.on_failure.call(peer, &error);
            None
        })
    }

    async fn accept(&self, upgrade: Upgrade, listener: &Listener) -> Result<Option<Connection>, Error> {
        match self.admit(upgrade, listener).await? {
            Some((upgrade, accept)) => finish(upgrade, accept).await,
            None => Ok(None),
        }
    }

    /// Lets the address and the hook decide on a request. Returns `None` if they have answered it.
    async fn admit(
        &self,
        mut upgrade: Upgrade,
        listener: &Listener,
    ) -> Result<Option<(Upgrade, Accept)>, Error> {
        let accept = if listener.serves(upgrade.request().path()) {
            let hook = lock(&self.hook).clone();
            decide(|| match hook {
                Some(hook) if upgrade.check().is_ok() => hook(upgrade.request_mut(), Accept::default()),
                _ => Ok(Accept::default()),
            })
        } else {
            Err(Reply::text(404, "there is nothing here\n"))
        };
        match accept {
            Ok(accept) => Ok(Some((upgrade, accept))),
            Err(reply) => {
                Box::pin(upgrade.respond(reply)).await?;
                Ok(None)
            }
        }
    }
}

/// Runs code of the caller that decides on a request. If it panics, the answer is 500.
fn decide<T>(decide: impl FnOnce() -> Result<T, Reply>) -> Result<T, Reply> {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|_| Err(Reply::at_fault()))
}

/// Runs asynchronous code of the caller that decides on a request. If it panics, the answer is 500.
pub(crate) async fn decide_later<T>(decide: impl Future<Output = Result<T, Reply>>) -> Result<T, Reply> {
    AssertUnwindSafe(decide).catch_unwind().await.unwrap_or_else(|_| Err(Reply::at_fault()))
}

/// Accepts the request, or tells the client why not. `None`: code of the caller has panicked.
pub(crate) async fn finish(mut upgrade: Upgrade, accept: Accept) -> Result<Option<Connection>, Error> {
    let agreed = AssertUnwindSafe(upgrade.switch(&accept)).catch_unwind().await;
    match agreed {
        Ok(Ok(agreed)) => Ok(Some(upgrade.open(agreed))),
        Ok(Err(error)) => {
            // The first error is the one to tell.
            let _ = Box::pin(Refused::new(upgrade, error.clone()).answer()).await;
            Err(error)
        }
        Err(_) => {
            Box::pin(upgrade.respond(Reply::at_fault())).await?;
            Ok(None)
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_addrs", &self.local_addrs())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// A client that has arrived, from [`Server::incoming`]: a future for its request. It can be given to a task. TLS and
/// the request must be done by the [deadline](ServerOptions::timeout), which counts from the arrival.
///
/// # Errors
///
/// [`Error::Tls`]: the TLS handshake failed. [`Error::Handshake`]: what came is no HTTP request, or too large.
/// [`Error::TimedOut`]: it did not come in time. [`Error::Io`]: the connection failed. A client that is still there was
/// told with a whole answer (400, 431 or 408).
///
/// # Drop
///
/// The connection is closed.
#[must_use = "the client waits for it to be awaited"]
pub struct Connecting {
    peer: Option<SocketAddr>,
    listener: Arc<Listener>,
    future: BoxFuture<'static, Result<Upgrade, Failure>>,
}

impl Connecting {
    fn new(arrival: Arrival, options: Arc<AcceptOptions>) -> Self {
        let Arrival { connected, listener, deadline, handshake } = arrival;
        let peer = connected.socket.peer_addr();
        let at = Arc::clone(&listener);
        let future = Box::pin(async move {
            let connected = at.secure(connected, deadline).await?;
            let socket = Some(connected.socket);
            let upgrade = read_upgrade(connected.reader, connected.writer, socket, deadline, options).await;
            drop(handshake);
            upgrade
        });
        Self { peer, listener, future }
    }

    /// The address of the client; `None` for a unix socket.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl Future for Connecting {
    type Output = Result<Upgrade, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx).map_err(|failure| failure.error)
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").field("peer", &self.peer).finish_non_exhaustive()
    }
}
