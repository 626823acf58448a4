//! WebSocket connections as two halves, a reader and a writer of raw frames.

#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    unnameable_types,
    reason = "what uses it follows"
)]

mod clock;
pub mod codec;
mod entropy;
mod error;
mod frame;
mod handshake;
mod options;
mod pool;
mod reader;
mod session;
mod sync;
mod url;
mod writer;
pub use error::{Error, HandshakeError, OptionsError, Phase, ProtocolError, UrlError};
pub use frame::{CloseCode, CloseFrame, FrameView, Message, Opcode};
pub use futures::{SinkExt, StreamExt};
pub use handshake::{Headers, Reply, Request, Response};
pub use options::{Accept, AcceptOptions, Checks, Heartbeat, Options, Origins, Role, WrapOptions};
pub use reader::{FrameReader, Source};
pub use session::closing::CloseFrames;
pub use url::{WsUrl, parse_url};
pub use writer::{FrameWriter, Outlet};
