//! Sends each line of standard input as a text message, and prints each message that arrives as a line.
//!
//! ```text
//! cargo run --example cat -- ws://127.0.0.1:9001/
//! cargo run --example cat -- --help
//! ```
#![expect(clippy::disallowed_methods, reason = "standard input is read on a thread of its own")]

use std::{
    cell::Cell,
    error::Error,
    io::{self, BufRead as _, Read as _, Write as _},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use connection::Connection;
use coro_websocket::{
    CloseCode, CloseFrame, Message, Opcode, Read, StreamExt as _, Write, connect, shutdown,
};
use futures::{
    channel::mpsc,
    future::{Either, select},
    stream::{BoxStream, iter},
};

#[path = "common/connection.rs"]
mod connection;
#[path = "common/deflate.rs"]
mod deflate;
#[path = "common/pace.rs"]
mod pace;
#[path = "common/program.rs"]
mod program;

const USAGE: &str = "\
usage: cat [OPTIONS] URL

Sends each line of standard input as a text message, and prints each message
that arrives as a line. At the end of the input it sends a Close as soon as
there are as many answers as lines, and prints what arrives before the server's
Close. Ctrl-C sends a Close, too; a second Ctrl-C ends the program at once.

  -b, --binary         Send the bytes of the input in binary messages, one for
                       each read, and print messages without line ends
                       (default: lines of text)
      --wait SECS      If there are fewer answers than lines, send the Close
                       after this time without one (default: 0.5)
  -H, --header 'NAME: VALUE'
                       Add a header to the request; may be repeated
      --protocol NAME  Offer a subprotocol; may be repeated, the preferred one
                       first (default: none)
      --ca FILE        Trust the authorities in this PEM file and no others
                       (default: Mozilla's list)
      --insecure       Accept any certificate
      --deflate[=PARAMS]
                       Offer compression, with parameters such as
                       server_no_context_takeover,client_max_window_bits=10
                       (default: no compression)
      --timeout SECS   Limit for the opening handshake (default: 10) and for
                       the closing handshake (default: 5)
  -h, --help           Print this text

Exit code: 0 after a clean close; 1 after an error, or if the server closes
with a code from 1002 to 1015; 2 for unknown arguments; 130 after a second
Ctrl-C.
";

/// The number of bytes that one read of the input takes with `--binary`.
const CHUNK: usize = 64 << 10;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Settings {
    connection: Connection,
    binary: bool,
    wait: Option<Duration>,
}

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| {
        let mut settings = Settings::default();
        while let Some(option) = arguments.option()? {
            match option.as_str() {
                "-b" | "--binary" => settings.binary = true,
                "--wait" => settings.wait = Some(arguments.seconds()?),
                _ => settings.connection.take(&option, arguments)?,
            }
        }
        settings.connection.take_url(arguments)?;
        Ok(settings)
    };
    program::run(USAGE, parse, |settings| async_io::block_on(run(&settings)))
}

async fn run(settings: &Settings) -> Result<()> {
    let connection = &settings.connection;
    let (_response, mut read, mut write) =
        connect(connection.options()?).await.map_err(connection::with_body)?;
    let done = converse(settings, &mut read, &mut write).await;
    if done.is_err() {
        // The connection may still be open, because standard output has failed.
        let _ = shutdown(&mut read, &mut write, CloseCode::GOING_AWAY, "", connection.close_timeout()).await;
    }
    let close = read.close_frames().received;
    if let Some(close) = &close {
        program::say(Said(close));
    }
    done?;
    match close {
        // A Close without a code (1005) is a clean one.
        Some(close) if matches!(close.code.number(), 1002..=1015) && close.code != CloseCode::NO_STATUS => {
            Err(format!("close code {} stands for an error", close.code).into())
        }
        Some(_) => Ok(()),
        None => Err("the server did not answer the Close".into()),
    }
}

/// Describes a Close for a terminal.
struct Said<'a>(&'a CloseFrame);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CloseFrame { code, reason, .. } = self.0;
        match (*code, reason.as_str()) {
            (CloseCode::NO_STATUS, _) => f.write_str("Close from the server: without a code"),
            (code, "") => write!(f, "Close from the server: {code}"),
            (code, reason) => write!(f, "Close from the server: {code} {}", reason.escape_debug()),
        }
    }
}

/// Sends the input and prints what arrives, up to the server's Close.
async fn converse(settings: &Settings, read: &mut Read, write: &mut Write) -> Result<()> {
    let interrupted = pace::interrupted()?;
    let answers = Cell::new(0);
    // Both at once: a server that waits for us to read would never take all that we write.
    let printing = pin!(print(read, settings.binary, &answers));
    let sending = pin!(async {
        let (code, sent) = {
            let input = pin!(async {
                let messages = send(input(settings.binary), write).await?;
                pace::settled(&answers, messages, settings.wait.unwrap_or(Duration::from_millis(500))).await;
                Ok(())
            });
            match select(input, interrupted).await {
                Either::Left((Ok(()), _)) => (CloseCode::NORMAL, Ok(())),
                Either::Left((Err(error), _)) => (CloseCode::GOING_AWAY, Err(error)),
                Either::Right(_) => (CloseCode::GOING_AWAY, Ok(())),
            }
        };
        // If it fails, the reader tells why.
        let _ = write.close_with(code, "").await;
        sent
    });
    match select(printing, sending).await {
        Either::Left((printed, _)) => printed,
        Either::Right((sent, printing)) => {
            printing.await?;
            sent
        }
    }
}

/// Sends all messages, and returns how many they were.
async fn send(mut messages: BoxStream<'_, Result<Message>>, write: &mut Write) -> Result<u64> {
    let mut count = 0;
    while let Some(message) = messages.next().await {
        match write.send(message?).await {
            // The reader gives what the server has said before, and why it is over.
            Err(coro_websocket::Error::Closed(_)) => break,
            sent => sent?,
        }
        count += 1;
    }
    Ok(count)
}

/// Prints what arrives, up to the server's Close, and counts the messages.
async fn print(read: &mut Read, binary: bool, messages: &Cell<u64>) -> Result<()> {
    let mut out = io::stdout();
    while let Some(frame) = read.next().await {
        let frame = frame?;
        if frame.opcode == Opcode::CLOSE {
            break;
        }
        if frame.is_data() {
            let end: &[u8] = if frame.fin && !binary { b"\n" } else { b"" };
            let written = out.write_all(&frame.payload).and_then(|()| out.write_all(end));
            written.and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))?;
            messages.set(messages.get() + u64::from(frame.fin));
        }
    }
    Ok(())
}

/// Reads standard input on a thread of its own, because it may block.
fn input(binary: bool) -> BoxStream<'static, Result<Message>> {
    let (mut sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let messages: &mut dyn Iterator<Item = _> = if binary { &mut chunks() } else { &mut lines() };
        async_io::block_on(async {
            let _ = iter(messages).map(Ok).forward(&mut sender).await;
        });
    });
    receiver.map(|message: std::result::Result<_, String>| message.map_err(Into::into)).boxed()
}

fn lines() -> impl Iterator<Item = std::result::Result<Message, String>> {
    io::stdin().lock().lines().zip(1..).map(|(line, number)| match line {
        Ok(line) => Ok(Message::text(line)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(format!("line {number} of the input is not UTF-8; --binary sends any bytes"))
        }
        Err(error) => Err(format!("standard input: {error}")),
    })
}

fn chunks() -> impl Iterator<Item = std::result::Result<Message, String>> {
    let mut stdin = io::stdin().lock();
    std::iter::from_fn(move || {
        let mut chunk = vec![0; CHUNK];
        match stdin.read(&mut chunk) {
            Ok(0) => None,
            Ok(len) => {
                chunk.truncate(len);
                Some(Ok(Message::binary(chunk)))
            }
            Err(error) => Some(Err(format!("standard input: {error}"))),
        }
    })
}
