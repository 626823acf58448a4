//! A server that sends every message back as it came, fragment by fragment, to many clients at once. It is also
//! the server under test of the conformance suite (`.ci/conformance`).
//!
//! ```text
//! cargo run --release --example echo_server -- [--max-message BYTES] [--deflate[=PARAMS]] ADDRESS
//! ```
//!
//! `ADDRESS` is a host and a port, such as `127.0.0.1:9001`; with port 0 the system chooses one. The first line of
//! output is the URL to connect to. `--deflate` accepts compression, with parameters such as
//! `server_no_context_takeover,client_max_window_bits=10`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::{error::Error, io, time::Duration};

use async_io::Timer;
use async_net::{TcpListener, TcpStream};
use coro_websocket::{Accept, AcceptOptions, StreamExt, accept_io};
use deflate::Compressed as _;

#[path = "args/deflate.rs"]
mod deflate;

const USAGE: &str = "usage: echo_server [--max-message BYTES] [--deflate[=PARAMS]] ADDRESS";

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = AcceptOptions::default();
    let mut address = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--max-message" => {
                let bytes = args.next().ok_or(USAGE)?.parse()?;
                options = options.max_message_len(bytes).max_frame_len(bytes);
            }
            _ if let Some(params) = deflate::params(&arg) => options = options.compressed(params)?,
            _ if arg.starts_with('-') || address.is_some() => return Err(USAGE.into()),
            _ => address = Some(arg),
        }
    }
    // It drives sockets and timers on this thread, not on one of their own.
    async_io::block_on(serve(&address.ok_or(USAGE)?, options))
}

/// Accepts connections for ever, and echoes on all of them at the same time.
async fn serve(address: &str, options: AcceptOptions) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    println!("ws://{}", listener.local_addr()?);
    listener
        .incoming()
        .then(pause_after_error)
        .for_each_concurrent(None, |socket| async {
            if let Err(error) = echo(socket, options.clone()).await {
                eprintln!("{error}");
            }
        })
        .await;
    Ok(())
}

/// Where no more sockets can be opened, some time passes before the next attempt.
async fn pause_after_error(socket: io::Result<TcpStream>) -> io::Result<TcpStream> {
    if socket.is_err() {
        Timer::after(Duration::from_millis(100)).await;
    }
    socket
}

async fn echo(socket: io::Result<TcpStream>, options: AcceptOptions) -> Result<(), coro_websocket::Error> {
    let socket = socket?;
    socket.set_nodelay(true)?;
    let upgrade = accept_io(socket.clone(), socket, options).await?;
    let (_request, mut read, mut write) = match upgrade.accept(Accept::default()).await {
        Ok(connection) => connection,
        Err(refused) => return refused.answer().await,
    };
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            // Only buffered: it goes out when the reader has nothing more to read.
            write.feed(message).await?;
        }
    }
    Ok(())
}
