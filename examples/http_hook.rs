//! A page and a socket on one port, as with a hook of lem's HTTP server: each request is looked at, and gets a page, a
//! WebSocket or a refusal.
//!
//! ```text
//! cargo run --example http_hook
//! cargo run --example http_hook -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::process::ExitCode;

use coro_websocket::{Accept, Connecting, Data, Error, Reply, Server, ServerOptions, StreamExt};

const PAGE: &str = include_str!("http_hook.html");

#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: http_hook [ADDRESS]

Serves a page and a WebSocket on one port. Open the URL that it prints in a
browser.

  ADDRESS     A host and a port (default: 127.0.0.1:8080)
  -h, --help  Print this text
";

fn main() -> ExitCode {
    program::run(USAGE, program::Arguments::operand, |address| {
        async_io::block_on(run(address.as_deref().unwrap_or("127.0.0.1:8080")))
    })
}

async fn run(address: &str) -> Result<(), Error> {
    let server = Server::bind(address, ServerOptions::default()).await?;
    if let Some(address) = server.local_addr() {
        println!("http://{address}/");
    }
    let clients = futures::stream::unfold(&server, async |server| match server.incoming().await {
        Ok(Some(client)) => Some((client, server)),
        Ok(None) => None,
        Err(error) => {
            program::say(error);
            None
        }
    });
    clients
        .for_each_concurrent(None, async |client| {
            let peer = client.peer_addr();
            match (hook(client).await, peer) {
                (Ok(()), _) => {}
                (Err(error), Some(peer)) => program::say(format_args!("{peer}: {error}")),
                (Err(error), None) => program::say(error),
            }
        })
        .await;
    Ok(())
}

async fn hook(client: Connecting) -> Result<(), Error> {
    let upgrade = client.await?;
    match (upgrade.request().method(), upgrade.request().path()) {
        ("GET" | "HEAD", "/") => {
            let page = Reply::new(200).header("Content-Type", "text/html; charset=utf-8").body(PAGE);
            upgrade.respond(page).await
        }
        (_, "/socket") => {
            let (_, mut read, mut write) = match upgrade.accept(Accept::default()).await {
                Ok(connection) => connection,
                // Not a WebSocket: the request is handed back, and another answer could be given.
                Err(refused) => return refused.answer().await,
            };
            write.text("welcome").await?;
            while let Some(data) = read.messages().next().await {
                match data? {
                    Data::Text(text) => write.text(format!("you said: {text}")).await?,
                    Data::Binary(bytes) => write.binary(bytes).await?,
                };
            }
            Ok(())
        }
        _ => upgrade.reject(404, "there is nothing here\n").await,
    }
}
