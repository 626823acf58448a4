//! Keeping a connection alive and noticing that its peer is dead: the server sends unsolicited Pongs, the client
//! sends Pings, and the server stops answering after a second.
//!
//! ```text
//! cargo run --example heartbeat
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{future::pending, pin::pin, process::ExitCode, time::Duration};

use async_io::Timer;
use async_net::{TcpListener, TcpStream};
use coro_websocket::{
    Accept, AcceptOptions, Error, Heartbeat, Options, Phase, StreamExt, accept_io, connect_io,
};
use futures::{executor::block_on, future::select};

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: heartbeat

Connects a client that sends Pings to a server that stops answering after a
second, and prints how the client notices.

  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run_plain(USAGE, || block_on(run()))
}

async fn run() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    let socket = TcpStream::connect(listener.local_addr()?).await?;
    // The server ends with the client.
    select(pin!(client(socket, &url)), pin!(server(listener))).await.factor_first().0
}

async fn client(socket: TcpStream, url: &str) -> Result<(), Error> {
    let heartbeat = Heartbeat::ping(Duration::from_millis(300)).timeout(Duration::from_millis(200));
    let options = Options::from_url(url)?.heartbeat(heartbeat);
    let (_response, mut read, _write) = connect_io(socket.clone(), socket, options).await?;
    // The heart beats while this polls the reader.
    while let Some(message) = read.next().await {
        match message {
            Ok(message) => println!("client: {message}"),
            Err(error @ Error::TimedOut(Phase::Heartbeat)) => println!("client: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn server(listener: TcpListener) -> Result<(), Error> {
    let (socket, _) = listener.accept().await?;
    let options = AcceptOptions::default().heartbeat(Duration::from_millis(400));
    let upgrade = accept_io(socket.clone(), socket, options).await?;
    let (_request, mut read, _write) = upgrade.accept(Accept::default()).await?;
    let reading = async {
        while let Some(Ok(message)) = read.next().await {
            println!("server: {message}");
        }
    };
    select(pin!(reading), Timer::after(Duration::from_secs(1))).await;
    println!("server: falls asleep");
    pending().await
}
