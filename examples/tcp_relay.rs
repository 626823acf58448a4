//! A TCP service tunnelled through a WebSocket: the bytes of each TCP connection go through one of its own.
//!
//! ```text
//! cargo run --example tcp_relay                             both ends and a service, to see it work
//! cargo run --example tcp_relay -- entry ADDRESS URL        takes TCP connections, and passes them on to the exit
//! cargo run --example tcp_relay -- exit ADDRESS SERVICE     takes WebSockets, and connects each to the service
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::{error::Error, pin::pin, time::Duration};

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

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: tcp_relay [entry ADDRESS URL | exit ADDRESS SERVICE]";

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    async_io::block_on(async {
        match *args {
            [] => demonstrate().await,
            ["entry", address, url] => serve(address, async |socket| entry(socket, url).await).await,
            ["exit", address, service] => serve(address, async |socket| exit(socket, service).await).await,
            _ => Err(USAGE.into()),
        }
    })
}

async fn serve(address: &str, tunnel: impl AsyncFn(TcpStream) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    tunnels(listener, tunnel).await;
    Ok(())
}

/// All connections at the same time, for ever.
async fn tunnels(listener: TcpListener, tunnel: impl AsyncFn(TcpStream) -> Result<()>) {
    let one = async |socket| {
        if let Err(error) = tunnel(socket).await {
            eprintln!("{error}");
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
    // Nobody is let in before the service is there.
    let service = match TcpStream::connect(service).await {
        Ok(service) => service,
        Err(error) => return Ok(upgrade.reject(502, error.to_string()).await?),
    };
    let (_request, read, write) = upgrade.accept(Accept::default()).await?;
    join_up(service, read, write).await
}

/// Bytes become binary messages, and messages bytes. An empty message stands for the end of one direction, since a
/// Close is the end of both.
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

/// A service that answers in capitals, both ends of the tunnel, and somebody who uses it.
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
