//! A relay between a client and a server that prints each frame and passes it on as it is. Masked frames stay masked;
//! nothing is checked, answered or added.
//!
//! ```text
//! cargo run --example relay
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{net::SocketAddr, process::ExitCode};

use async_net::{TcpListener, TcpStream};
use coro_websocket::{
    Accept, AcceptOptions, Checks, Error, Message, Options, StreamExt, accept_io, connect_io,
};
use futures::{TryStreamExt, executor::block_on, try_join};

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: relay

Connects a client and a server through a relay, which prints the frames:
those to the server with '->', those to the client with '<-'.

  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run_plain(USAGE, || block_on(run()))
}

async fn run() -> Result<(), Error> {
    let front = TcpListener::bind("127.0.0.1:0").await?;
    let back = TcpListener::bind("127.0.0.1:0").await?;
    let (front_address, back_address) = (front.local_addr()?, back.local_addr()?);
    try_join!(client(front_address), relay(front, back_address), server(back))?;
    Ok(())
}

async fn relay(front: TcpListener, back: SocketAddr) -> Result<(), Error> {
    let (socket, _) = front.accept().await?;
    let options = AcceptOptions::default().checks(Checks::Off);
    let upgrade = accept_io(socket.clone(), socket, options).await?;

    // The same is asked of the server as the client asks of us.
    let socket = TcpStream::connect(back).await?;
    let url = format!("ws://{back}{}", upgrade.request().pathname());
    let options = Options::from_url(&url)?.checks(Checks::Off);
    let (_response, back_read, back_write) = connect_io(socket.clone(), socket, options).await?;
    let (_request, front_read, front_write) = upgrade.accept(Accept::default()).await?;

    let there = front_read.inspect_ok(|frame| println!("-> {frame}")).forward(back_write);
    let back = back_read.inspect_ok(|frame| println!("<- {frame}")).forward(front_write);
    try_join!(there, back)?;
    Ok(())
}

async fn client(address: SocketAddr) -> Result<(), Error> {
    let socket = TcpStream::connect(address).await?;
    let options = Options::from_url(&format!("ws://{address}/room?x=1"))?;
    let (_response, mut read, mut write) = connect_io(socket.clone(), socket, options).await?;
    write.send(Message::ping("are you there?")).await?;
    write.text("hello").await?;
    while let Some(message) = read.next().await {
        if message?.is_data() {
            write.close_with(1000, "that was all").await?;
        }
    }
    Ok(())
}

async fn server(listener: TcpListener) -> Result<(), Error> {
    let (socket, _) = listener.accept().await?;
    let upgrade = accept_io(socket.clone(), socket, AcceptOptions::default()).await?;
    let (_request, mut read, mut write) = upgrade.accept(Accept::default()).await?;
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    Ok(())
}
