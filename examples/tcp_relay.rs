//! A TCP service tunnelled through WebSockets: the bytes of each TCP connection go through a WebSocket of its own.
//!
//! ```text
//! cargo run --example tcp_relay
//! cargo run --example tcp_relay -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{error::Error, pin::pin, process::ExitCode, time::Duration};

use async_net::{TcpListener, TcpStream};
use coro_websocket::{
    Accept, AcceptOptions, Options, Outlet, Read, Source, StreamExt, Write, accept_io, connect, shutdown,
};
use futures::{
    FutureExt,
    future::{join3, select},
    io::{AsyncReadExt, AsyncWriteExt},
    try_join,
};

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: tcp_relay [entry ADDRESS URL | exit ADDRESS SERVICE]

Tunnels a TCP service through WebSockets. Without arguments it starts both ends
and a service, and uses it once.

  entry ADDRESS URL     Accept TCP connections, and pass each on to the exit at
                        this URL
  exit ADDRESS SERVICE  Accept WebSockets, and connect each to the service at
                        this host and port
  -h, --help            Print this text
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

enum Mode {
    Demonstrate,
    Entry { address: String, url: String },
    Exit { address: String, service: String },
}

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| {
        Ok(match arguments.operand()?.as_deref() {
            None => Mode::Demonstrate,
            Some("entry") => {
                Mode::Entry { address: arguments.required("ADDRESS")?, url: arguments.required("URL")? }
            }
            Some("exit") => Mode::Exit {
                address: arguments.required("ADDRESS")?,
                service: arguments.required("SERVICE")?,
            },
            Some(other) => return Err(format!("'{other}' is neither 'entry' nor 'exit'").into()),
        })
    };
    program::run(USAGE, parse, |mode| async_io::block_on(run(mode)))
}

async fn run(mode: Mode) -> Result<()> {
    match mode {
        Mode::Demonstrate => demonstrate().await,
        Mode::Entry { address, url } => serve(&address, async |socket| entry(socket, &url).await).await,
        Mode::Exit { address, service } => serve(&address, async |socket| exit(socket, &service).await).await,
    }
}

async fn serve(address: &str, tunnel: impl AsyncFn(TcpStream) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    tunnels(listener, tunnel).await;
    Ok(())
}

/// Serves all connections at the same time, for ever.
async fn tunnels(listener: TcpListener, tunnel: impl AsyncFn(TcpStream) -> Result<()>) {
    let one = async |socket| {
        if let Err(error) = tunnel(socket).await {
            program::say(error);
        }
    };
    listener.incoming().filter_map(async |socket| socket.ok()).for_each_concurrent(None, one).await;
}

async fn entry(socket: TcpStream, url: &str) -> Result<()> {
    let (_response, read, write) = connect(Options::from_url(url)?).await?;
    join_up(socket, read, write).await
}

async fn exit(socket: TcpStream, service: &str) -> Result<()> {
    socket.set_nodelay(true)?;
    let upgrade = accept_io(socket.clone(), socket, AcceptOptions::default()).await?;
    // No client is accepted before the service is connected.
    let service = match TcpStream::connect(service).await {
        Ok(service) => service,
        Err(error) => return Ok(upgrade.reject(502, error.to_string()).await?),
    };
    let (_request, read, write) = upgrade.accept(Accept::default()).await?;
    join_up(service, read, write).await
}

/// Turns bytes into binary messages, and messages into bytes. An empty message stands for the end of one direction,
/// because a Close ends both.
async fn join_up<S: Source, K: Outlet>(
    socket: TcpStream,
    mut read: Read<S, K>,
    mut write: Write<K>,
) -> Result<()> {
    socket.set_nodelay(true)?;
    let (mut from, mut to) = (socket.clone(), socket);
    let there = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from.read(&mut buffer).await?;
            write.binary(buffer.get(..count).unwrap_or_default().to_vec()).await?;
            if count == 0 {
                return Result::Ok(());
            }
        }
    };
    let back = async {
        while let Some(message) = read.next().await {
            let message = message?;
            if message.is_data() && message.payload.is_empty() {
                return Ok(to.close().await?);
            }
            if message.is_data() {
                to.write_all(&message.payload).await?;
            }
        }
        Err("the tunnel ended early".into())
    };
    try_join!(there, back)?;
    shutdown(&mut read, &mut write, 1000, "", Duration::from_secs(5)).await?;
    Ok(())
}

/// Runs a service that answers in capitals, both ends of the tunnel, and a client of the service.
async fn demonstrate() -> Result<()> {
    let service = TcpListener::bind("127.0.0.1:0").await?;
    let exit_end = TcpListener::bind("127.0.0.1:0").await?;
    let entry_end = TcpListener::bind("127.0.0.1:0").await?;
    let service_address = service.local_addr()?.to_string();
    let url = format!("ws://{}", exit_end.local_addr()?);
    let address = entry_end.local_addr()?;

    let shout = tunnels(service, async |mut socket| {
        let mut text = String::new();
        socket.read_to_string(&mut text).await?;
        socket.write_all(text.to_uppercase().as_bytes()).await?;
        Ok(socket.close().await?)
    });
    let exits = tunnels(exit_end, async |socket| exit(socket, &service_address).await);
    let entries = tunnels(entry_end, async |socket| entry(socket, &url).await);
    let user = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(b"hello through the tunnel\n").await?;
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await?;
        print!("{text}");
        Ok(())
    };
    let others = join3(shout, exits, entries).map(|_| Ok(()));
    select(pin!(user), pin!(others)).await.factor_first().0
}
