//! WebSocket connections (RFC 6455) as two halves, a reader and a writer of raw frames: to a URL, from a listening server,
//! or over any transport of bytes.
//!
//! ```no_run
//! # futures::executor::block_on(async {
//! use coro_websocket::{Options, StreamExt, connect};
//!
//! let options = Options::from_url("ws://127.0.0.1:9001/")?;
//! let (_response, mut read, mut write) = connect(options).await?;
//! write.text("hello").await?;
//! while let Some(message) = read.next().await {
//!     println!("{}", message?);
//! }
//! # Ok::<_, coro_websocket::Error>(()) }).unwrap();
//! ```
//!
//! [`connect`] opens a connection to a URL, over TCP or a unix socket, with or without TLS. A [`Server`] listens, and
//! [`serve`] takes care of its connections. [`connect_io`] and [`accept_io`] perform the opening handshake over a
//! transport of the caller, [`wrap_io`] takes transports that need none, and [`wrap_frames`] takes channels of decoded
//! frames. Each gives a [`Read`] and a [`Write`]; [`FrameReader`] and [`FrameWriter`] are the codec alone. [`porting`] is
//! for users of older libraries.
//!
//! # Guarantees
//!
//! - **Polling [`Read`] drives the connection**: it answers Pings and the closing handshake, flushes what was fed
//!   before it waits, and judges whether the peer is dead; where no task reads, a blocked writer gets the error.
//!   Heartbeats and deadlines run while either half is polled. No task is started, and no thread except the one of
//!   `async-io` for sockets and timers, and those of `blocking` for name lookups (at most 64 at once) and for files
//!   that are not on disk.
//! - **If no task polls [`Read`], flush yourself**: `send` and similar methods do, `feed` does not.
//! - Everything that RFC 6455 demands of frames, messages, text and closing is checked, in both directions, unless
//!   [`Checks`] says otherwise. What the peer does wrong it is told in a Close frame; what the caller does wrong is
//!   an error, and the connection goes on.
//! - Memory is bounded by limits that are set for heads, frames, messages and what waits to be written, and never
//!   reserved because a peer announced a length.
//! - Dropping a future loses nothing: no received frame, no accepted one, and none is torn. Each `async` method
//!   says so in its section *Cancel safety*.
//! - Both halves are `Send` and `Unpin`, and [`Write`] is `Sync`, whenever the transport is `Send` and `Unpin`.
//! - No `unsafe` code. Masking keys and handshake keys are drawn from the operating system's randomness.
//!
//! # How it works
//!
//! 1. The URL is taken apart: [`parse_url`], [`Options::from_url`].
//! 2. [`connect`] opens the socket and encrypts it ([`Tls`], [`Socket`]), a [`Server`] accepts it ([`ServerTls`]), or the
//!    caller has one.
//! 3. The opening handshake: [`connect`] or [`connect_io`] sends a request and checks the [`Response`]; [`Connecting`] or
//!    [`accept_io`] reads a [`Request`], and [`Upgrade`] answers it; [`Server::accept`] does both.
//! 4. Frames are bytes and fields: [`Message`], [`FrameView`], [`codec`].
//! 5. The extension permessage-deflate: messages are compressed on their way out and inflated as they come, where
//!    both sides agreed on it.
//! 6. Rules across frames: fragments, text, limits, closing, deadlines.
//! 7. The codec on input and output: [`FrameReader`], [`FrameWriter`].
//! 8. The halves: [`Read`] and [`Write`], which share the outgoing side; [`Messages`], [`shutdown`].
//!
//! # Features
//!
//! - `deflate` (default): permessage-deflate (RFC 7692), `Deflate` and `DeflateParams`. It is off until
//!   [`Options`], [`AcceptOptions`] or [`WrapOptions`] switch it on.
//! - `tls` (default): `wss` URLs, [`Options::tls`] and [`ServerOptions::tls`]. It needs a C compiler. Without it, they are
//!   [`OptionsError::NoTls`].
//!
//! # Not supported
//!
//! Proxies and redirects; WebSockets over HTTP/2 and HTTP/3 (RFC 8441, RFC 9220). A process that has live connections must
//! not fork: both processes would draw the same masking keys.

mod error;
mod options;
mod redact;

mod url;

mod net;
mod socket;

mod handshake;

mod frame;

mod deflate;

mod session;

mod reader;
mod writer;

mod prepared;
mod shared;

mod read;
mod write;

mod messages;
mod shutdown;
mod wrap;

mod connect;
mod exchange;
mod serve;
mod server;

mod buffer;
mod callers;
mod clock;
mod deadline;
mod entropy;
mod pool;
mod seats;
mod sync;

pub mod codec;
pub mod porting;

pub use connect::{connect, connect_io};
pub use error::{Error, HandshakeError, OptionsError, Phase, ProtocolError, TlsError, UrlError};
pub use frame::{CloseCode, CloseFrame, FrameView, Message, Opcode};
pub use futures::{SinkExt, StreamExt};
pub use handshake::{Headers, Reply, Request, Response};
pub use messages::{Data, Messages};
pub use net::{SocketReader, SocketWriter};
pub use options::{
    Accept, AcceptOptions, Addresses, Checks, Heartbeat, Options, Origins, Role, ServerOptions, ServerTls,
    Tls, TlsVersion, WrapOptions,
};
#[cfg(feature = "deflate")]
pub use options::{Deflate, DeflateParams};
pub use prepared::PreparedFrame;
pub use read::Read;
pub use reader::{FrameReader, Source};
pub use serve::{Handler, serve, serve_handler};
pub use server::{Connecting, Refused, Server, Upgrade, accept_io};
pub use session::closing::CloseFrames;
pub use shared::Stats;
pub use shutdown::shutdown;
pub use socket::{Socket, Timings, TlsInfo};
pub use url::{WsUrl, parse_url};
pub use wrap::{
    FrameSink, FrameSinkWrite, FrameStream, FrameStreamRead, IoRead, IoWrite, wrap_frames, wrap_io,
};
pub use write::{TryFeedError, Write};
pub use writer::{FrameWriter, Outlet};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Whatever the transport, if it can be sent to another thread then so can the halves.
const _: () = {
    use futures::{
        Sink, Stream,
        io::{AsyncRead, AsyncWrite},
    };

    const fn can_be_sent<T: Send + Unpin>() {}
    const fn can_be_shared<T: Send + Sync + Unpin>() {}

    const fn over_bytes<R, W>()
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        can_be_sent::<FrameReader<R>>();
        can_be_sent::<FrameWriter<W>>();
        can_be_sent::<IoRead<R, W>>();
        can_be_shared::<IoWrite<W>>();
    }

    const fn over_frames<S, K>()
    where
        S: Stream<Item = Result<Message, Error>> + Unpin + Send,
        K: Sink<Message, Error = Error> + Unpin + Send,
    {
        can_be_sent::<FrameStreamRead<S, K>>();
        can_be_shared::<FrameSinkWrite<K>>();
    }

    can_be_sent::<Read>();
    can_be_shared::<Write>();
    can_be_shared::<Response>();
    can_be_shared::<Server>();
    can_be_sent::<Connecting>();
    can_be_sent::<Upgrade>();
    over_bytes::<&[u8], Vec<u8>>();
    over_frames::<FrameReader<&[u8]>, FrameWriter<Vec<u8>>>();
};
