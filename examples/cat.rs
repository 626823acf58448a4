//! Sends each line of standard input as a text message and prints each message that comes as a line. After the end of
//! the input it waits for replies, up to a second of silence, and closes. The exit status is 0 only after a clean close.
//!
//! ```text
//! cargo run --example cat -- [--ca FILE] [--insecure] [--protocol NAME]… [--header 'N: V']… [--timeout SECS]
//!     [--deflate[=PARAMS]] URL
//! ```
//!
//! `--ca` trusts the authorities in a PEM file and no others; `--insecure` trusts anybody. `--deflate` offers
//! compression, with parameters such as `server_no_context_takeover,client_max_window_bits=10`.
#![expect(clippy::print_stderr, reason = "errors are told there")]
#![expect(clippy::disallowed_methods, reason = "standard input is read on a thread of its own")]

use std::{
    error::Error,
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use async_io::Timer;
use coro_websocket::{Data, Options, Read, StreamExt, Tls, Write, connect, shutdown};
use deflate::Compressed as _;
use futures::{
    channel::mpsc,
    future::{Either, select},
    stream::{BoxStream, iter},
};

#[path = "args/deflate.rs"]
mod deflate;

const USAGE: &str = "usage: cat [--ca FILE] [--insecure] [--protocol NAME]… [--header 'N: V']… [--timeout SECS] \
                     [--deflate[=PARAMS]] URL";

/// How long nothing may come after the end of the input.
const SILENCE: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let done = arguments().and_then(|options| async_io::block_on(run(options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Options> {
    let (mut url, mut tls, mut headers, mut protocols) = (None, None, Vec::new(), Vec::new());
    let (mut timeout, mut deflate) = (Duration::from_secs(10), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(USAGE);
        match arg.as_str() {
            "--ca" => tls = Some(Tls::default().web_roots(false).ca_file(value()?)),
            "--insecure" => tls = Some(Tls::default().danger_accept_any_certificate(true)),
            "--protocol" => protocols.push(value()?),
            "--header" => {
                let header = value()?;
                let (name, content) = header.split_once(':').ok_or(USAGE)?;
                headers.push((name.to_owned(), content.trim().to_owned()));
            }
            "--timeout" => {
                let seconds = value()?.parse().map_err(|error| format!("--timeout: {error}"))?;
                timeout = Duration::try_from_secs_f64(seconds)?;
            }
            _ if let Some(params) = deflate::params(&arg) => deflate = Some(params.to_owned()),
            _ if arg.starts_with('-') || url.is_some() => return Err(USAGE.into()),
            _ => url = Some(arg),
        }
    }
    let url = url.ok_or(USAGE)?;
    let mut options = Options::from_url(&url)?.subprotocols(protocols).headers(headers).timeout(timeout);
    if let Some(params) = deflate {
        options = options.compressed(&params)?;
    }
    Ok(match tls {
        Some(tls) if url.to_ascii_lowercase().starts_with("wss:") => options.tls(tls),
        _ => options,
    })
}

async fn run(options: Options) -> Result<()> {
    let (_response, mut read, mut write) = connect(options).await?;
    // Both at once: a peer that waits for us to read would never take all that we write.
    let ended = match select(pin!(send(lines(), &mut write)), pin!(print(&mut read, None))).await {
        Either::Left((sent, _)) => {
            sent?;
            false
        }
        Either::Right((printed, _)) => printed?,
    };
    if !ended && !print(&mut read, Some(SILENCE)).await? {
        shutdown(&mut read, &mut write, 1000, "", Duration::from_secs(5)).await?;
    }
    if read.close_frames().is_clean() { Ok(()) } else { Err("the connection was not closed cleanly".into()) }
}

/// The lines of standard input.
fn lines() -> BoxStream<'static, io::Result<String>> {
    let (mut sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        async_io::block_on(async {
            let _ = iter(io::stdin().lines()).map(Ok).forward(&mut sender).await;
        });
    });
    receiver.boxed()
}

async fn send(mut lines: BoxStream<'_, io::Result<String>>, write: &mut Write) -> Result<()> {
    while let Some(line) = lines.next().await {
        match write.text(line?).await {
            // What the peer still has to say is read all the same.
            Err(coro_websocket::Error::Closed(_)) => break,
            sent => sent?,
        };
    }
    Ok(())
}

/// Prints what comes. Says whether that was all: it ends before only when nothing comes for this long.
async fn print(read: &mut Read, silence: Option<Duration>) -> Result<bool> {
    let mut out = io::stdout();
    loop {
        let pause = async {
            match silence {
                Some(silence) => Timer::after(silence).await,
                None => std::future::pending().await,
            }
        };
        let data = match select(pin!(read.messages().next()), pin!(pause)).await {
            Either::Left((Some(data), _)) => data?,
            Either::Left((None, _)) => return Ok(true),
            Either::Right(_) => return Ok(false),
        };
        match data {
            Data::Text(text) => out.write_all(text.as_bytes())?,
            Data::Binary(bytes) => out.write_all(&bytes)?,
        }
        out.write_all(b"\n")?;
        out.flush()?;
    }
}
