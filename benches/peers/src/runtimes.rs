//! How every server accepts, and answers handshakes where its library leaves that to the caller.

use std::{io, net::TcpListener};

use async_executor::LocalExecutor;
use futures::{AsyncReadExt, AsyncWriteExt, future::pending};

/// What ends a connection. Nobody is told: the load generator sees that it is gone, and complains.
pub(crate) type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// On one thread of tokio. Tasks yield when they have nothing to do, and not earlier: so do the examples of several
/// libraries.
pub(crate) fn on_tokio<F>(listener: TcpListener, mut connection: impl FnMut(tokio::net::TcpStream) -> F) -> !
where
    F: Future<Output = Ended> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            tokio::spawn(tokio::task::unconstrained(connection(socket)));
        }
    })
}

/// On one thread that runs tasks and the reactor of async-io. Accepting is a task like the others: as the executor's
/// main future it would be polled each time that anything happens.
pub(crate) fn on_smol<F>(
    listener: TcpListener,
    mut connection: impl FnMut(async_net::TcpStream) -> F + 'static,
) -> !
where
    F: Future<Output = Ended> + 'static,
{
    let executor: &'static LocalExecutor<'_> = Box::leak(Box::new(LocalExecutor::new()));
    let listener = async_net::TcpListener::try_from(listener).unwrap();
    let accept = async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            executor.spawn(connection(socket)).detach();
        }
    };
    executor.spawn(accept).detach();
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
