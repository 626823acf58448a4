//! An echo peer and a client in one program, connected over loopback TCP. The client sends text, binary, a Ping and a
//! fragmented message, prints every frame that comes back with all its fields, and closes.
//!
//! ```text
//! cargo run --example echo
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::process::ExitCode;

use async_net::{TcpListener, TcpStream};
use coro_websocket::{
    Accept, AcceptOptions, Error, Message, Opcode, Options, StreamExt, accept_io, connect_io, parse_url,
};
use futures::{executor::block_on, try_join};

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: echo

Connects an echo peer and a client over loopback TCP, and prints every frame
that comes back to the client.

  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run_plain(USAGE, || block_on(run()))
}

async fn run() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/echo", listener.local_addr()?);
    try_join!(peer(listener), client(&url))?;
    Ok(())
}

/// Accepts one connection and sends every message back as it came, fragment by fragment.
async fn peer(listener: TcpListener) -> Result<(), Error> {
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

async fn client(url: &str) -> Result<(), Error> {
    let address = parse_url(url)?;
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let (response, mut read, mut write) = connect_io(socket.clone(), socket, Options::from_url(url)?).await?;
    println!("{url} answers {} {}", response.code(), response.reason());

    write.text("Hello There!").await?;
    write.binary(vec![1, 2, 3]).await?;
    write.send(Message::ping("are you there?")).await?;
    let beginning = Message { fin: false, ..Message::text("one, ") };
    write.send(beginning).await?;
    write.send(Message::continuation("two, ", false)).await?;
    write.send(Message::continuation("three", true)).await?;

    while let Some(message) = read.next().await {
        let message = message?;
        print_frame(&message);
        if message.opcode == Opcode::CONTINUATION && message.fin {
            write.close_with(1000, "that was all").await?;
        }
    }
    println!("closed cleanly: {}", read.close_frames().is_clean());
    Ok(())
}

fn print_frame(message: &Message) {
    let Message { fin, rsv1, rsv2, rsv3, opcode, mask, len, payload } = message;
    println!(
        "{opcode}: fin {fin}, rsv1 {rsv1}, rsv2 {rsv2}, rsv3 {rsv3}, mask {mask}, len {len}, payload {payload:?}"
    );
}
