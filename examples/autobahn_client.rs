//! The client under test of the conformance suite Autobahn|Testsuite (`.ci/conformance`): asks its server how
//! many cases there are, echoes in each of them, and asks for the report.
//!
//! ```text
//! cargo run --release --example autobahn_client -- ws://127.0.0.1:9001
//! cargo run --release --example autobahn_client -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{error::Error, process::ExitCode};

use coro_websocket::{Options, Read, StreamExt, Write, connect};
use deflate::Compressed as _;

#[path = "common/deflate.rs"]
mod deflate;
#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: autobahn_client [OPTIONS] URL

Runs the cases of the conformance suite Autobahn|Testsuite, whose server is at
URL, such as ws://127.0.0.1:9001.

      --agent NAME  The name in the report (default: testee)
      --deflate[=PARAMS]
                    Offer compression, with parameters such as
                    server_no_context_takeover,client_max_window_bits=10
                    (default: no compression)
  -h, --help        Print this text
";

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| {
        let (mut agent, mut deflate) = (String::from("testee"), None);
        while let Some(option) = arguments.option()? {
            match option.as_str() {
                "--agent" => agent = arguments.value()?,
                "--deflate" => deflate = Some(arguments.optional_value()?.unwrap_or_default()),
                _ => return Err(arguments.unexpected()),
            }
        }
        Ok((agent, Server { url: arguments.required("URL")?.trim_end_matches('/').to_owned(), deflate }))
    };
    // Sockets and timers are driven on this thread, not on one of their own.
    program::run(USAGE, parse, |(agent, server)| async_io::block_on(run(&agent, &server)))
}

async fn run(agent: &str, server: &Server) -> Result<(), Box<dyn Error>> {
    let count = server.case_count().await?;
    println!("{count} cases");
    for case in 1..=count {
        // Some cases are there to fail.
        if let Err(error) = server.echo(&format!("/runCase?case={case}&agent={agent}")).await {
            program::say(format_args!("case {case}: {error}"));
        }
    }
    server.echo(&format!("/updateReports?agent={agent}")).await
}

/// The conformance suite.
struct Server {
    url: String,
    deflate: Option<String>,
}

impl Server {
    async fn open(&self, path: &str) -> Result<(Read, Write), Box<dyn Error>> {
        let mut options = Options::from_url(&format!("{}{path}", self.url))?;
        if let Some(params) = &self.deflate {
            options = options.compressed(params)?;
        }
        let (_response, read, write) = connect(options).await?;
        Ok((read, write))
    }

    async fn case_count(&self) -> Result<u32, Box<dyn Error>> {
        let (mut read, _write) = self.open("/getCaseCount").await?;
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
    async fn echo(&self, path: &str) -> Result<(), Box<dyn Error>> {
        let (mut read, mut write) = self.open(path).await?;
        while let Some(message) = read.next().await {
            let message = message?;
            if message.is_data() {
                // Only buffered: it is sent when the reader has nothing more to read.
                write.feed(message).await?;
            }
        }
        Ok(())
    }
}
