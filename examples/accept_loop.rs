//! A server in the style of the old tarantool library: a hook that sees each opening handshake, a loop that accepts, and
//! for each connection reads with a timeout, a write, and a closing handshake.
//!
//! ```text
//! cargo run --example accept_loop
//! cargo run --example accept_loop -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(clippy::disallowed_methods, reason = "a program may start threads")]

use std::{error::Error, process::ExitCode, sync::Arc, thread, time::Duration};

use coro_websocket::{
    Options, Phase, Read, Reply, Server, ServerOptions, StreamExt, Write, connect, shutdown,
};
use futures::executor::block_on;

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: accept_loop [ADDRESS]

Sends every message back, and says goodbye to a client that has sent nothing for
half a second.

  ADDRESS     A host and a port (default: a free port of 127.0.0.1, and it ends
              when a client of its own has been served)
  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run(USAGE, program::Arguments::operand, run)
}

fn run(given: Option<String>) -> Result<(), Box<dyn Error>> {
    let address = given.as_deref().unwrap_or("127.0.0.1:0");
    let server = Arc::new(block_on(Server::bind(address, ServerOptions::default().backlog(1024)))?);
    let url = format!("ws://{}/", server.local_addr().ok_or("the server has no address")?);
    println!("{url}");

    server.set_proxy_handshake(|request, accept| {
        println!("a client asks {} for {}", request.header("host").unwrap_or("us"), request.pathname());
        if request.path() == "/secret" {
            return Err(Reply::text(403, "not for you\n"));
        }
        Ok(accept.header("X-Served-By", "accept_loop"))
    });

    if given.is_none() {
        let server = Arc::clone(&server);
        thread::spawn(move || {
            if let Err(error) = block_on(client(&url)) {
                program::say(format_args!("client: {error}"));
            }
            server.close();
        });
    }

    let mut channels = Vec::new();
    while server.is_listening() {
        match block_on(server.accept_timeout(Duration::from_secs(60))) {
            Ok(Some((_request, read, write))) => {
                // The halves can go to any thread.
                channels.push(thread::spawn(|| block_on(channel(read, write))));
            }
            Ok(None) => println!("the server is closed"),
            Err(coro_websocket::Error::TimedOut(Phase::Call)) => {
                println!("no client has connected for a minute");
            }
            Err(error) => return Err(error.into()),
        }
        channels.retain(|channel| !channel.is_finished());
    }
    // Connections live on when the server is closed.
    for channel in channels {
        channel.join().map_err(|_| "the thread of a channel has panicked")??;
    }
    Ok(())
}

/// Sends every message back until none has arrived for a while, then says goodbye.
async fn channel(mut read: Read, mut write: Write) -> Result<(), coro_websocket::Error> {
    loop {
        match read.next_timeout(Duration::from_millis(500)).await {
            Ok(Some(message)) if message.is_data() => drop(write.write(message).await?),
            Ok(Some(_)) => {}
            Ok(None) => println!("the client has closed the channel"),
            Err(coro_websocket::Error::TimedOut(Phase::Call)) => break,
            Err(error) => return Err(error),
        }
        if write.is_closed() {
            return Ok(());
        }
    }
    write.text(r#"{"key": "value"}"#).await?;
    let frames = shutdown(&mut read, &mut write, 1000, "Goodbye", Duration::from_secs(5)).await?;
    println!("the channel is closed, {}", if frames.is_clean() { "cleanly" } else { "not cleanly" });
    Ok(())
}

async fn client(url: &str) -> Result<(), coro_websocket::Error> {
    let (response, mut read, mut write) = connect(Options::from_url(url)?).await?;
    println!("client: served by {}", response.header("x-served-by").unwrap_or("an unnamed server"));
    write.text("hello").await?;
    while let Some(message) = read.next().await {
        println!("client: {}", message?);
    }
    let secret = connect(Options::from_url(&format!("{url}secret"))?).await;
    if let Err(error) = secret {
        println!("client: {error}");
    }
    Ok(())
}
