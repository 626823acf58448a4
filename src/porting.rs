//! The same job for users of tarantool's websocket, lem-websocket and coro-websocket: their calls, and ours.
//!
//! What they do with one object is done with two here: everything that reads is on [`Read`], everything that sends on
//! [`Write`]. `read` and `write` below are those two.
//!
//! # coro-websocket (luvit)
//!
//! | there | here |
//! | --- | --- |
//! | `res, read, write = connect(options)` | `let (res, mut read, mut write) = connect(options).await?` |
//! | `parseUrl(url)` | `parse_url(url)?` |
//! | `wrapIo(rawRead, rawWrite, { mask = true })` | `wrap_frames(stream, sink, WrapOptions::client())` |
//! | `for message in read do … end` | `while let Some(message) = read.next().await { … }` |
//! | `write({ payload = text })` | `write.binary(text).await?`: 2 is the default opcode there |
//! | `write({ opcode = 1, payload = text })` | `write.text(text).await?` |
//! | `write()` | `write.close().await?` |
//! | `res.socket:shutdown()` | `res.socket()` with [`Socket::shutdown`] |
//!
//! # tarantool, client and server
//!
//! | there | here |
//! | --- | --- |
//! | `ws, err = websocket.connect(url, nil, { timeout = 3 })` | `connect(Options::from_url(url)?.timeout(Duration::from_secs(3))).await?` |
//! | `websocket.server(url, handler, { ping_frequency = 30 })` | `serve(&Server::bind(url, options).await?, handler).await?` |
//! | `ssl.ctx_use_certificate_file(ctx, c)`, `…private_key_file(ctx, k)` | `ServerTls::files(c, k)` |
//! | `ws:read()` | `read.next().await` |
//! | `ws:read(5)` | `read.next_timeout(Duration::from_secs(5)).await?` |
//! | `message.opcode == nil`: the end | `None`; then [`Read::close_frames`] says who closed, and why |
//! | `ws:write("text")` | `write.text("text").await?`, which gives the bytes on the wire too |
//! | `ws:write({ opcode = o, fin = f, data = d })` | `write.write(Message { opcode, fin, payload, ..Message::default() }).await?` |
//! | `ws:shutdown(1000, "OK", 5)` | `shutdown(&mut read, &mut write, 1000, "OK", Duration::from_secs(5)).await?` |
//! | `ws:close()` | `write.abort()` |
//! | `ws:is_closed()` | `write.is_closed()` |
//!
//! A whole echo server:
//!
//! ```
//! # use coro_websocket::{connect, Options};
//! use std::time::Duration;
//! use coro_websocket::{Error, Heartbeat, Server, ServerOptions, StreamExt, serve};
//!
//! # futures::executor::block_on(async {
//! let options = ServerOptions::default().heartbeat(Heartbeat::ping(Duration::from_secs(30)));
//! let server = Server::bind("ws://127.0.0.1:0/", options).await?;
//! # let url = format!("ws://{}/", server.local_addr().unwrap());
//! # let client = async {
//! #     let (_, mut read, mut write) = connect(Options::from_url(&url)?).await?;
//! #     write.text("hello").await?;
//! #     assert_eq!(read.next().await.unwrap()?.as_text(), Some("hello"));
//! #     write.close_with(1000, "").await?;
//! #     while let Some(message) = read.next().await { message?; }
//! #     server.close();
//! #     Ok::<_, Error>(())
//! # };
//! # let serving =
//! serve(&server, async |_request, mut read, mut write| {
//!     while let Some(message) = read.next().await {
//!         let message = message?;
//!         if message.is_data() {
//!             write.write(message).await?;
//!         }
//!     }
//!     Ok(())
//! })
//! # ;
//! # let (served, done) = futures::join!(serving, client);
//! # served.and(done)
//! # }).unwrap();
//! ```
//!
//! # tarantool, the older server
//!
//! | there | here |
//! | --- | --- |
//! | `wsd = websocket.new(host, port, { backlog = 1024 })`, `wsd:listen()` | `Server::bind((host, port), ServerOptions::default().backlog(1024)).await?` |
//! | `wsd:is_listen()` | `server.is_listening()` |
//! | `wsd:set_proxy_handshake(hook)` | `server.set_proxy_handshake(hook)` |
//! | `channel = wsd:accept()` | `server.accept().await?` |
//! | `wsd:accept(60)` | `server.accept_timeout(Duration::from_secs(60)).await?` |
//! | `channel:read()`, `write`, `shutdown`, `close`, `is_closed` | as above |
//! | `wsd:close()` | `server.close()` |
//!
//! The example `accept_loop` has all of it.
//!
//! # lem-websocket
//!
//! | there | here |
//! | --- | --- |
//! | `err, why = websocket.serverHandler(req, res)` | `upgrade.accept(Accept::default()).await`; what is refused is handed back for another answer |
//! | `res:sendText(text)`, `res:sendBinary(bytes)` | `write.text(text).await?`, `write.binary(bytes).await?` |
//! | `res:close()` | `write.close_with(1000, "normal closure").await?` |
//! | `err, payload = res:getFrame(1)` | `read.messages().next().await`, with [`Checks::Strict`] |
//! | `err, payload = res:getFrame(0)` | the same with [`Checks::Report`], chosen once: `Accept::default().checks(Checks::Report)` |
//!
//! What `getFrame` gives, and what comes here instead:
//!
//! | there | here |
//! | --- | --- |
//! | `nil, payload` | `Some(Ok(Data::Text(text)))` or `Some(Ok(Data::Binary(bytes)))` |
//! | `8, { "disconnect", payload }` | `None`; then [`Read::close_frames`] |
//! | `-2, { … }` | [`ProtocolError::UnexpectedContinuation`] |
//! | `-3, { … }` | [`ProtocolError::MessageInterleaved`] |
//! | `-4, payload` | [`ProtocolError::Unmasked`] or [`ProtocolError::Masked`] |
//! | `-1, message` | any other error |
//!
//! With `strict` the errors are in [`Error::Protocol`] and the last thing that comes. Without, they are in
//! [`Error::Reported`], with the frame, and reading goes on:
//!
//! ```
//! # futures::executor::block_on(async {
//! use coro_websocket::{Checks, Data, Error, ProtocolError, StreamExt, WrapOptions, wrap_io};
//!
//! // A text without a mask, a continuation of nothing, then a text as it should be.
//! let received: &[u8] = b"\x81\x02no\x80\x80\0\0\0\0\x81\x82\0\0\0\0hi";
//! let options = WrapOptions::server().checks(Checks::Report);
//! let (mut read, _write) = wrap_io(received, Vec::new(), options);
//! let mut seen = Vec::new();
//! while let Some(data) = read.messages().next().await {
//!     seen.push(match data {
//!         Ok(Data::Text(text)) => text,
//!         Ok(Data::Binary(bytes)) => format!("{} bytes", bytes.len()),
//!         Err(Error::Reported { error: ProtocolError::UnexpectedContinuation, .. }) => "-2".into(),
//!         Err(Error::Reported { error: ProtocolError::MessageInterleaved, .. }) => "-3".into(),
//!         Err(Error::Reported { error: ProtocolError::Unmasked, frame }) => format!("-4 {frame}"),
//!         Err(error) => format!("-1 {error}"),
//!     });
//! }
//! assert_eq!(seen[1..3], ["-2", "hi"]);
//! assert!(seen[0].starts_with("-4 text"));
//! # });
//! ```
//!
//! The example `http_hook` answers plain requests and WebSockets on one port.

#[cfg(doc)]
use crate::{
    error::{Error, ProtocolError},
    options::Checks,
    read::Read,
    socket::Socket,
    write::Write,
};
