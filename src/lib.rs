//! WebSocket connections as two halves, a reader and a writer of raw frames.

mod error;
mod options;

mod clock;
mod entropy;
mod pool;
mod sync;

mod connect;
mod deadline;
mod exchange;
mod handshake;
mod server;
mod url;

mod frame;
mod session;

mod reader;
mod writer;

mod messages;
mod read;
mod shared;
mod wrap;
mod write;

pub mod codec;

pub use connect::connect_io;
pub use error::{Error, HandshakeError, OptionsError, Phase, ProtocolError, UrlError};
pub use frame::{CloseCode, CloseFrame, FrameView, Message, Opcode};
pub use futures::{SinkExt, StreamExt};
pub use handshake::{Headers, Reply, Request, Response};
pub use messages::{Data, Messages};
pub use options::{Accept, AcceptOptions, Checks, Heartbeat, Options, Origins, Role, WrapOptions};
pub use read::{Read, shutdown};
pub use reader::{FrameReader, Source};
pub use server::{Refused, Upgrade, accept_io};
pub use session::closing::CloseFrames;
pub use shared::Stats;
pub use url::{WsUrl, parse_url};
pub use wrap::{
    FrameSink, FrameSinkWrite, FrameStream, FrameStreamRead, IoRead, IoWrite, wrap_frames, wrap_io,
};
pub use write::{TryFeedError, Write};
pub use writer::{FrameWriter, Outlet};
