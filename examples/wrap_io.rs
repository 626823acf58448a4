//! Connections without an opening handshake, around transports that a program has already: a pair of unix sockets
//! with `wrap_io`, and a pair of channels that carry decoded frames with `wrap_frames`.
//!
//! ```text
//! cargo run --example wrap_io
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::process::ExitCode;

use coro_websocket::{Error, Message, SinkExt, StreamExt, WrapOptions, wrap_frames};
use futures::{channel::mpsc, executor::block_on, try_join};

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: wrap_io

Connects a client and a server without an opening handshake, first over a pair
of unix sockets, then over channels of frames, and prints what they receive.

  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run_plain(USAGE, run)
}

fn run() -> Result<(), Error> {
    #[cfg(unix)]
    block_on(unix_sockets())?;
    block_on(channels())
}

/// Bytes: frames are encoded, the client's are masked.
#[cfg(unix)]
async fn unix_sockets() -> Result<(), Error> {
    use async_net::unix::UnixStream;
    use coro_websocket::wrap_io;

    let (near, far) = UnixStream::pair()?;
    let (mut near_read, mut near_write) = wrap_io(near.clone(), near, WrapOptions::client());
    let (mut far_read, mut far_write) = wrap_io(far.clone(), far, WrapOptions::server());

    let client = async {
        let sent = near_write.text("over a unix socket").await?;
        println!("client: {sent} bytes on the wire");
        while let Some(message) = near_read.next().await {
            let message = message?;
            println!("client: {message}");
            if message.is_data() {
                near_write.close_with(1000, "").await?;
            }
        }
        Ok::<_, Error>(())
    };
    let server = async {
        while let Some(message) = far_read.next().await {
            let message = message?;
            println!("server: {message}");
            if message.is_data() {
                far_write.feed(message).await?;
            }
        }
        Ok(())
    };
    try_join!(client, server)?;
    Ok(())
}

/// Frames: nothing is encoded, a frame comes out of one channel as it went into the other. Pings and the closing
/// handshake are answered all the same.
async fn channels() -> Result<(), Error> {
    let (near_sink, far_stream) = mpsc::channel(8);
    let (far_sink, near_stream) = mpsc::channel(8);
    let received = Ok::<Message, Error>;
    let (mut near_read, mut near_write) =
        wrap_frames(near_stream.map(received), near_sink, WrapOptions::client());
    let (mut far_read, _far_write) = wrap_frames(far_stream.map(received), far_sink, WrapOptions::server());

    let client = async {
        near_write.send(Message::text("through a channel")).await?;
        near_write.send(Message::ping("are you there?")).await?;
        near_write.close().await?;
        while let Some(message) = near_read.next().await {
            println!("client: {}", message?);
        }
        Ok::<_, Error>(())
    };
    let server = async {
        while let Some(message) = far_read.next().await {
            println!("server: {}", message?);
        }
        Ok(())
    };
    try_join!(client, server)?;
    Ok(())
}
