//! The client under test of the conformance suite Autobahn|Testsuite (`.ci/conformance`): asks its server how
//! many cases there are, echoes in each of them, and asks for the report.
//!
//! ```text
//! cargo run --release --example autobahn_client -- [--agent NAME] [--deflate[=PARAMS]] ws://127.0.0.1:9001
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::error::Error;

use coro_websocket::{Options, Read, StreamExt, Write, connect};
use deflate::Compressed as _;

#[path = "args/deflate.rs"]
mod deflate;

const USAGE: &str = "usage: autobahn_client [--agent NAME] [--deflate[=PARAMS]] URL";

fn main() -> Result<(), Box<dyn Error>> {
    let (mut agent, mut url, mut deflate) = (String::from("testee"), None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--agent" => agent = args.next().ok_or(USAGE)?,
            _ if let Some(params) = deflate::params(&arg) => deflate = Some(params.to_owned()),
            _ if arg.starts_with('-') || url.is_some() => return Err(USAGE.into()),
            _ => url = Some(arg),
        }
    }
    let url = url.ok_or(USAGE)?;
    let server = Server { url: url.trim_end_matches('/'), deflate };
    // It drives sockets and timers on this thread, not on one of their own.
    async_io::block_on(async {
        let count = server.case_count().await?;
        println!("{count} cases");
        for case in 1..=count {
            // Some cases are there to fail.
            if let Err(error) = server.echo(&format!("/runCase?case={case}&agent={agent}")).await {
                eprintln!("case {case}: {error}");
            }
        }
        server.echo(&format!("/updateReports?agent={agent}")).await
    })
}

/// The conformance suite.
struct Server<'a> {
    url: &'a str,
    deflate: Option<String>,
}

impl Server<'_> {
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
                // Only buffered: it goes out when the reader has nothing more to read.
                write.feed(message).await?;
            }
        }
        Ok(())
    }
}
