//! The client under test of the conformance suite Autobahn|Testsuite (`.ci/conformance`): asks its server how
//! many cases there are, echoes in each of them, and asks for the report.
//!
//! ```text
//! cargo run --release --example autobahn_client -- [--agent NAME] ws://127.0.0.1:9001
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::error::Error;

use async_net::TcpStream;
use coro_websocket::{IoRead, IoWrite, Options, StreamExt, connect_io, parse_url};

const USAGE: &str = "usage: autobahn_client [--agent NAME] URL";

fn main() -> Result<(), Box<dyn Error>> {
    let mut agent = String::from("testee");
    let mut url = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--agent" => agent = args.next().ok_or(USAGE)?,
            _ if arg.starts_with('-') || url.is_some() => return Err(USAGE.into()),
            _ => url = Some(arg),
        }
    }
    let url = url.ok_or(USAGE)?;
    let url = url.trim_end_matches('/');
    // It drives sockets and timers on this thread, not on one of their own.
    async_io::block_on(async {
        let count = case_count(&format!("{url}/getCaseCount")).await?;
        println!("{count} cases");
        for case in 1..=count {
            // Some cases are there to fail.
            if let Err(error) = echo(&format!("{url}/runCase?case={case}&agent={agent}")).await {
                eprintln!("case {case}: {error}");
            }
        }
        echo(&format!("{url}/updateReports?agent={agent}")).await?;
        Ok(())
    })
}

async fn case_count(url: &str) -> Result<u32, Box<dyn Error>> {
    let (mut read, _write) = connect(url).await?;
    let mut count = None;
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            count = Some(message.as_text().ok_or("the number of cases is not text")?.parse()?);
        }
    }
    count.ok_or_else(|| "the server did not say how many cases there are".into())
}

/// Sends every message back as it came, until the connection is closed.
async fn echo(url: &str) -> Result<(), coro_websocket::Error> {
    let (mut read, mut write) = connect(url).await?;
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            // Only buffered: it goes out when the reader has nothing more to read.
            write.feed(message).await?;
        }
    }
    Ok(())
}

type Connection = (IoRead<TcpStream, TcpStream>, IoWrite<TcpStream>);

async fn connect(url: &str) -> Result<Connection, coro_websocket::Error> {
    let address = parse_url(url)?;
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
    socket.set_nodelay(true)?;
    let (_response, read, write) = connect_io(socket.clone(), socket, Options::from_url(url)?).await?;
    Ok((read, write))
}
