//! Subscribes to a feed with a JSON message and prints its updates as long as they come.
//!
//! ```text
//! cargo run --example ticker
//! cargo run --example ticker -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{process::ExitCode, time::Duration};

use async_io::Timer;
use async_net::TcpListener;
use coro_websocket::{Accept, AcceptOptions, Data, Error, Heartbeat, Options, StreamExt, accept_io, connect};
use futures::try_join;

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: ticker [URL [SUBSCRIPTION]]

Sends SUBSCRIPTION to the feed at URL and prints the updates as long as they
arrive.

  URL           (default: a feed that this program starts itself, which ends
                after a few updates)
  SUBSCRIPTION  A JSON message (default: the prices of one product)
  -h, --help    Print this text
";

const SUBSCRIPTION: &str = r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker"]}"#;

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| Ok((arguments.operand()?, arguments.operand()?));
    program::run(USAGE, parse, |(url, subscription)| {
        let subscription = subscription.as_deref().unwrap_or(SUBSCRIPTION);
        async_io::block_on(run(url, subscription))
    })
}

async fn run(url: Option<String>, subscription: &str) -> Result<(), Error> {
    if let Some(url) = url {
        return follow(&url, subscription).await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    try_join!(follow(&url, subscription), feed(listener)).map(drop)
}

async fn follow(url: &str, subscription: &str) -> Result<(), Error> {
    // A feed may be quiet for long; a dead one is noticed.
    let options = Options::from_url(url)?.heartbeat(Heartbeat::ping(Duration::from_secs(30)));
    let (_response, mut read, mut write) = connect(options).await?;
    write.text(subscription).await?;
    while let Some(update) = read.messages().next().await {
        match update? {
            Data::Text(text) => println!("{text}"),
            Data::Binary(bytes) => println!("{} bytes", bytes.len()),
        }
    }
    Ok(())
}

async fn feed(listener: TcpListener) -> Result<(), Error> {
    let (socket, _) = listener.accept().await?;
    let upgrade = accept_io(socket.clone(), socket, AcceptOptions::default()).await?;
    let (_request, mut read, mut write) = upgrade.accept(Accept::default()).await?;
    let Some(Data::Text(request)) = read.messages().next().await.transpose()? else { return Ok(()) };
    write.text(format!(r#"{{"type":"subscriptions","request":{request}}}"#)).await?;
    for sequence in 1..=5 {
        Timer::after(Duration::from_millis(100)).await;
        let price = 64_000 + sequence * 37 % 11;
        write.text(format!(r#"{{"type":"ticker","sequence":{sequence},"price":"{price}.00"}}"#)).await?;
    }
    write.close_with(1000, "that was all").await?;
    while let Some(message) = read.next().await {
        message?;
    }
    Ok(())
}
