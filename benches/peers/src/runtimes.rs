//! How every server accepts, and answers handshakes where its library leaves that to the caller.

use std::io;

use async_executor::LocalExecutor;
use futures::{AsyncReadExt, AsyncWriteExt, future::pending};

use crate::server::listen;

/// What ends a connection. Nobody is told: the load generator sees that it is gone, and complains. Only where the
/// environment has `PEERS_LOG`, the reason is printed, too.
pub(crate) type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn logged(connection: impl Future<Output = Ended>) {
    if let Err(error) = connection.await
        && std::env::var_os("PEERS_LOG").is_some()
    {
        eprintln!("{error}");
    }
}

/// On one thread of tokio. Tasks yield when they have nothing to do, and not earlier: so do the examples of several
/// libraries.
pub(crate) fn on_tokio<F>(mut connection: impl FnMut(tokio::net::TcpStream) -> F) -> !
where
    F: Future<Output = Ended> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = listen();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            tokio::spawn(tokio::task::unconstrained(logged(connection(socket))));
        }
    })
}

/// On one thread that runs tasks and the reactor of async-io. Accepting is a task like the others: as the executor's
/// main future it would be polled each time that anything happens.
pub(crate) fn on_smol<F>(mut connection: impl FnMut(async_net::TcpStream) -> F + 'static) -> !
where
    F: Future<Output = Ended> + 'static,
{
    let listener = async_net::TcpListener::try_from(listen()).unwrap();
    on_executor(|executor| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            executor.spawn(logged(connection(socket))).detach();
        }
    })
}

/// Runs what accepts, and what that spawns.
pub(crate) fn on_executor<F>(accept: impl FnOnce(&'static LocalExecutor<'static>) -> F) -> !
where
    F: Future<Output = ()> + 'static,
{
    let executor = Box::leak(Box::new(LocalExecutor::new()));
    executor.spawn(accept(executor)).detach();
    async_io::block_on(executor.run(pending()))
}

/// Reads a request, and agrees to be a WebSocket; `extensions` is what of them is agreed on.
pub(crate) async fn answer<S>(socket: &mut S, extensions: Option<&str>) -> io::Result<()>
where
    S: futures::AsyncRead + futures::AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    let mut buf = [0; 1024];
    loop {
        let count = socket.read(&mut buf).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buf[..count]);
        if let Some(response) = response_to(&request, extensions) {
            return socket.write_all(response.as_bytes()).await;
        }
    }
}

/// Once the request is complete. (The load generator waits for the answer before it sends more.)
pub(crate) fn response_to(request: &[u8], extensions: Option<&str>) -> Option<String> {
    let request = std::str::from_utf8(request).ok()?.strip_suffix("\r\n\r\n")?;
    let mut headers = request.lines().filter_map(|line| line.split_once(": "));
    let (_, key) = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let extensions =
        extensions.map(|agreed| format!("Sec-WebSocket-Extensions: {agreed}\r\n")).unwrap_or_default();
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extensions}\r\n"
    ))
}
