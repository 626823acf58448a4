//! Prints every frame of a live connection, one line each: those that arrive with `<`, those that are sent with `>`,
//! also the Pongs and the Close that the library sends by itself.
//!
//! ```text
//! cargo run --example frames -- --text --send hello ws://127.0.0.1:9001/
//! cargo run --example frames -- --help
//! ```
//!
//! The frames are seen between two connections: an outer one to the server that passes all frames as they are, and an
//! inner one that obeys the protocol, compresses and inflates.

use std::{
    cell::Cell,
    error::Error,
    fmt::Write as _,
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use async_net::unix::UnixStream;
use connection::Connection;
use coro_websocket::{
    Checks, CloseCode, Message, Opcode, Outlet, Response, StreamExt, WrapOptions, Write, connect, wrap_io,
};
use futures::{
    Stream,
    future::{Either, select},
    try_join,
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
usage: frames [OPTIONS] URL

Prints every frame of a connection, one line each: those that arrive with '<',
those that are sent with '>'. It ends when the server closes the connection. It
sends a Close itself when no frame has been seen for a while, and on Ctrl-C.

      --hex            Add the payload in hexadecimal (default: no payload)
      --text           Add the payload as text (default: no payload)
      --send TEXT      Send a text message; may be repeated (default: none)
      --close[=CODE[:REASON]]
                       Send the Close as soon as the messages are sent, with
                       this code and reason (default: 1000 without a reason)
      --wait SECS      Without --close: send a Close with code 1000 when no
                       frame has been seen for this long (default: 1)
  -H, --header 'NAME: VALUE'
                       Add a header to the request; may be repeated
      --protocol NAME  Offer a subprotocol; may be repeated, the preferred one
                       first (default: none)
      --ca FILE        Trust the authorities in this PEM file and no others
                       (default: Mozilla's list)
      --insecure       Accept any certificate
      --deflate[=PARAMS]
                       Offer compression, with parameters such as
                       server_no_context_takeover,client_max_window_bits=10;
                       frames are shown as they are on the wire (default: no
                       compression)
      --timeout SECS   Limit for the opening handshake (default: 10) and for
                       the closing handshake (default: 5)
  -h, --help           Print this text

Exit code: 0 after a clean close, whatever its code; 1 after an error; 2 for
unknown arguments; 130 after a second Ctrl-C.
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Settings {
    connection: Connection,
    messages: Vec<String>,
    close: Option<Close>,
    wait: Option<Duration>,
    form: Form,
}

/// The Close to send.
struct Close {
    code: CloseCode,
    reason: String,
}

impl Close {
    fn normal() -> Self {
        Self { code: CloseCode::NORMAL, reason: String::new() }
    }

    /// Reads `CODE[:REASON]`.
    fn parse(text: &str) -> Option<Self> {
        let (code, reason) = text.split_once(':').unwrap_or((text, ""));
        let code = CloseCode::new(code.parse().ok()?);
        code.is_sendable().then(|| Self { code, reason: reason.to_owned() })
    }
}

/// The forms in which a payload is shown.
#[derive(Clone, Copy, Default)]
struct Form {
    hex: bool,
    text: bool,
}

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| {
        let mut settings = Settings::default();
        while let Some(option) = arguments.option()? {
            match option.as_str() {
                "--hex" => settings.form.hex = true,
                "--text" => settings.form.text = true,
                "--send" => settings.messages.push(arguments.value()?),
                "--close" => {
                    settings.close = Some(match arguments.optional_value()? {
                        Some(text) => Close::parse(&text).ok_or_else(|| {
                            format!("--close: '{text}' does not begin with a code that may be sent (such as 1000 or 3000)")
                        })?,
                        None => Close::normal(),
                    });
                }
                "--wait" => settings.wait = Some(arguments.seconds()?),
                _ => settings.connection.take(&option, arguments)?,
            }
        }
        settings.connection.take_url(arguments)?;
        Ok(settings)
    };
    program::run(USAGE, parse, |settings| async_io::block_on(show(settings)))
}

async fn show(Settings { connection, messages, close, wait, form }: Settings) -> Result<()> {
    let options = connection.options()?.checks(Checks::Off);
    let (response, mut outer_read, mut outer_write) =
        connect(options).await.map_err(connection::with_body)?;
    let interrupted = pace::interrupted()?;
    let (near, far) = UnixStream::pair()?;
    let options = agreed(&response, connection.deflate.as_deref())?.close_timeout(connection.close_timeout());
    let (mut read, mut write) = wrap_io(near.clone(), near, options);
    let (mut inner_read, mut inner_write) =
        wrap_io(far.clone(), far, WrapOptions::server().checks(Checks::Off));

    let shown = &Cell::new(0);
    // It owns its halves, so that they are dropped when it is done.
    let passing = pin!(async move {
        let arriving = pass('<', form, &mut outer_read, &mut inner_write, shown);
        let leaving = pass('>', form, &mut inner_read, &mut outer_write, shown);
        try_join!(arriving, leaving).map(drop)
    });
    let sending = pin!(async {
        for message in messages {
            write.text(message).await?;
        }
        let close = match close {
            Some(close) => close,
            None => {
                let settled = pin!(pace::settled(shown, u64::MAX, wait.unwrap_or(Duration::from_secs(1))));
                match select(settled, interrupted).await {
                    Either::Left(_) => Close::normal(),
                    Either::Right(_) => Close { code: CloseCode::GOING_AWAY, reason: String::new() },
                }
            }
        };
        write.close_with(close.code, &close.reason).await
    });
    let reading = pin!(async {
        while let Some(frame) = read.next().await {
            frame?;
        }
        Ok(())
    });
    let inner = pin!(async {
        match select(sending, reading).await {
            // No Close has gone out, so nothing would end the reader.
            Either::Left((Err(error @ coro_websocket::Error::Invalid { .. }), _)) => Err(error),
            Either::Left((_, reading)) => reading.await,
            Either::Right((read, _)) => read,
        }
    });
    match select(passing, inner).await {
        Either::Left((passed, inner)) => {
            // The error of the inner connection explains more than that of the outer one.
            inner.await?;
            passed
        }
        Either::Right((read, _)) => {
            read?;
            Err("the server did not answer the Close".into())
        }
    }
}

/// Prints all frames of one direction and passes them on, up to the Close.
async fn pass<K: Outlet>(
    mark: char,
    form: Form,
    from: &mut (impl Stream<Item = std::result::Result<Message, coro_websocket::Error>> + Unpin),
    to: &mut Write<K>,
    shown: &Cell<u64>,
) -> Result<()> {
    while let Some(frame) = from.next().await {
        let frame = frame?;
        writeln!(io::stdout(), "{mark} {}", form.line(&frame))
            .map_err(|error| format!("standard output: {error}"))?;
        shown.set(shown.get() + 1);
        let is_close = frame.opcode == Opcode::CLOSE;
        to.send(frame).await?;
        if is_close {
            return Ok(());
        }
    }
    Err("the connection ended without a Close frame".into())
}

impl Form {
    /// The header in full, then the payload in the forms that were asked for.
    fn line(self, message: &Message) -> String {
        let Message { fin, rsv1, rsv2, rsv3, opcode, mask, len, ref payload } = *message;
        let mut line = format!("{opcode} {len} bytes");
        for (flag, name) in [(fin, "fin"), (rsv1, "rsv1"), (rsv2, "rsv2"), (rsv3, "rsv3"), (mask, "mask")] {
            if flag {
                line.extend([" ", name]);
            }
        }
        if self.hex {
            line.push(' ');
            for byte in payload {
                // A String takes anything.
                let _ = write!(line, "{byte:02x}");
            }
        }
        if self.text {
            let _ = write!(line, " {:?}", String::from_utf8_lossy(payload));
        }
        line
    }
}

/// What holds for the inner connection, after the server has answered.
#[cfg(feature = "deflate")]
fn agreed(response: &Response, params: Option<&str>) -> Result<WrapOptions> {
    let options = WrapOptions::client();
    Ok(match (response.deflate(), params) {
        (Some(agreed), Some(params)) => {
            options.deflate(params.parse::<coro_websocket::Deflate>()?.with_params(agreed))
        }
        _ => options,
    })
}

#[cfg(not(feature = "deflate"))]
fn agreed(_: &Response, _: Option<&str>) -> Result<WrapOptions> {
    Ok(WrapOptions::client())
}
