//! A server that sends every message back as it came, fragment by fragment, to many clients at once. It is also
//! the server under test of the conformance suite (`.ci/conformance`).
//!
//! ```text
//! cargo run --release --example echo_server -- 127.0.0.1:9001
//! cargo run --release --example echo_server -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::process::ExitCode;

use coro_websocket::{
    Error, Heartbeat, Origins, Read, Request, Server, ServerOptions, ServerTls, StreamExt, Write, serve,
};
use deflate::Compressed as _;

#[path = "common/deflate.rs"]
mod deflate;
#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: echo_server [OPTIONS] ADDRESS

Sends every message back as it came, fragment by fragment. ADDRESS is a host and
a port, such as 127.0.0.1:9001, or a ws or wss URL; with port 0 the system
chooses one. The first line of output is the URL to connect to.

      --tls CERTIFICATE KEY
                       Encrypt, with these two PEM files (default: no TLS)
      --protocol NAME  Speak a subprotocol; may be repeated, the preferred one
                       first (default: none)
      --max-message BYTES
                       The most bytes of a frame and of a message (default:
                       16 MiB for a frame, 64 MiB for a message)
      --heartbeat SECS The time between Pings, and until a silent client is
                       given up (default: 120)
      --deflate[=PARAMS]
                       Accept compression, with parameters such as
                       server_no_context_takeover,client_max_window_bits=10
                       (default: no compression)
  -h, --help           Print this text
";

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| {
        let (mut options, mut scheme) = (ServerOptions::default(), "ws");
        while let Some(option) = arguments.option()? {
            match option.as_str() {
                "--tls" => {
                    options = options.tls(ServerTls::files(arguments.raw_value()?, arguments.raw_value()?));
                    scheme = "wss";
                }
                "--protocol" => options = options.subprotocol(arguments.value()?),
                "--max-message" => {
                    let bytes = arguments.number()?;
                    options = options.max_message_len(bytes).max_frame_len(bytes);
                }
                "--heartbeat" => options = options.heartbeat(Heartbeat::ping(arguments.seconds()?)),
                "--deflate" => {
                    options = options.compressed(&arguments.optional_value()?.unwrap_or_default())?;
                }
                _ => return Err(arguments.unexpected()),
            }
        }
        Ok((arguments.required("ADDRESS")?, scheme, options))
    };
    // Sockets and timers are driven on this thread, not on one of their own.
    program::run(USAGE, parse, |(address, scheme, options)| {
        async_io::block_on(run(&address, scheme, options))
    })
}

async fn run(address: &str, scheme: &str, options: ServerOptions) -> Result<(), Error> {
    let options = options
        // It serves pages of all origins alike, because it keeps nothing that one of them could steal.
        .origins(Origins::any())
        .on_failure(|peer, error| match peer {
            Some(peer) => program::say(format_args!("{peer}: {error}")),
            None => program::say(error),
        });
    let server = Server::bind(address, options).await?;
    if let Some(address) = server.local_addr() {
        println!("{scheme}://{address}");
    }
    serve(&server, echo).await
}

async fn echo(request: Request, mut read: Read, mut write: Write) -> Result<(), Error> {
    // Saves memory: many connections may be idle for long, and none needs its request any more.
    drop(request);
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            // Only buffered: it is sent when the reader has nothing more to read.
            write.feed(message).await?;
        }
    }
    Ok(())
}
