//! A server that sends every message back as it came, fragment by fragment, to many clients at once. It is also
//! the server under test of the conformance suite (`.ci/conformance`).
//!
//! ```text
//! cargo run --release --example echo_server -- [--tls CERTIFICATE KEY] [--protocol NAME]... [--max-message BYTES]
//!     [--heartbeat SECONDS] [--deflate[=PARAMS]] ADDRESS
//! ```
//!
//! `ADDRESS` is a host and a port, such as `127.0.0.1:9001`, or a `ws` or `wss` URL; with port 0 the system chooses
//! one. The first line of output is the URL to connect to. `--tls` encrypts, with PEM files; `--protocol` is a
//! subprotocol to speak, the preferred one first; `--heartbeat` is the time between Pings, and until a client that is
//! silent is given up; `--deflate` accepts compression, with parameters such as
//! `server_no_context_takeover,client_max_window_bits=10`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::{error::Error, time::Duration};

use coro_websocket::{Heartbeat, Origins, Read, Server, ServerOptions, ServerTls, StreamExt, Write, serve};
use deflate::Compressed as _;

#[path = "args/deflate.rs"]
mod deflate;

const USAGE: &str = "usage: echo_server [--tls CERTIFICATE KEY] [--protocol NAME]... [--max-message BYTES] \
                     [--heartbeat SECONDS] [--deflate[=PARAMS]] ADDRESS";

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = ServerOptions::default()
        // It knows nobody, so there is nobody whom a page could act for.
        .origins(Origins::any())
        .on_failure(|peer, error| {
            eprintln!("{}: {error}", peer.map(|peer| peer.to_string()).unwrap_or_default());
        });
    let (mut address, mut scheme) = (None, "ws");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(USAGE);
        match arg.as_str() {
            "--tls" => {
                options = options.tls(ServerTls::files(value()?, value()?));
                scheme = "wss";
            }
            "--protocol" => options = options.subprotocol(value()?),
            "--max-message" => {
                let bytes = value()?.parse()?;
                options = options.max_message_len(bytes).max_frame_len(bytes);
            }
            "--heartbeat" => {
                let every = Duration::from_secs(value()?.parse()?);
                options = options.heartbeat(Heartbeat::ping(every));
            }
            _ if let Some(params) = deflate::params(&arg) => options = options.compressed(params)?,
            _ if arg.starts_with('-') || address.is_some() => return Err(USAGE.into()),
            _ => address = Some(arg),
        }
    }
    let address = address.ok_or(USAGE)?;
    // It drives sockets and timers on this thread, not on one of their own.
    async_io::block_on(async {
        let server = Server::bind(address, options).await?;
        if let Some(address) = server.local_addr() {
            println!("{scheme}://{address}");
        }
        Ok(serve(&server, echo).await?)
    })
}

async fn echo(
    request: coro_websocket::Request,
    mut read: Read,
    mut write: Write,
) -> Result<(), coro_websocket::Error> {
    // Many connections may be idle for long: none need keep what it began with.
    drop(request);
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            // Only buffered: it goes out when the reader has nothing more to read.
            write.feed(message).await?;
        }
    }
    Ok(())
}
