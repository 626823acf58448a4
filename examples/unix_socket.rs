//! A WebSocket over a unix socket: a server and a client in one program.
//!
//! ```text
//! cargo run --example unix_socket
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{path::Path, process::ExitCode};

use async_net::unix::UnixListener;
use coro_websocket::{Accept, AcceptOptions, Error, Options, StreamExt, accept_io, connect};
use futures::{executor::block_on, try_join};

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: unix_socket

Connects a server and a client over a unix socket, and prints what they see.

  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run_plain(USAGE, run)
}

fn run() -> Result<(), Error> {
    let path = std::env::temp_dir().join(format!("unix_socket-{}", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    let done = block_on(async { try_join!(client(&path), server(listener)) });
    std::fs::remove_file(&path)?;
    done.map(drop)
}

async fn client(path: &Path) -> Result<(), Error> {
    let (response, mut read, mut write) = connect(Options::default().path(path).pathname("/chat")).await?;
    println!("client: {} {}", response.code(), response.reason());
    write.text("hello").await?;
    while let Some(message) = read.next().await {
        let message = message?;
        println!("client: {message}");
        if message.is_data() {
            write.close_with(1000, "thanks").await?;
        }
    }
    Ok(())
}

async fn server(listener: UnixListener) -> Result<(), Error> {
    let (socket, _) = listener.accept().await?;
    let upgrade = accept_io(socket.clone(), socket, AcceptOptions::default()).await?;
    let host = upgrade.request().header("host").unwrap_or("no host");
    println!("server: asked for {} at {host}", upgrade.request().pathname());
    let (_request, mut read, mut write) = upgrade.accept(Accept::default()).await?;
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    Ok(())
}
