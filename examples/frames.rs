//! Prints every frame of a live connection, one line each: those that come with `<`, those that go out with `>`, also
//! the Pongs and the Close that nobody here asks for.
//!
//! ```text
//! cargo run --example frames -- [--hex] [--text] [--send TEXT]… [--ca FILE] [--deflate[=PARAMS]] URL
//! ```
//!
//! `--hex` and `--text` add the payload in that form; `--send` sends a text message, to have something to look at. With
//! `--deflate`, compressed frames are shown as they are on the wire.
//!
//! The frames are looked at between two connections: an outer one to the server that passes all frames as they are,
//! and an inner one that obeys the protocol, compresses and inflates.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::{error::Error, fmt::Write as _, process::ExitCode};

use async_net::unix::UnixStream;
use coro_websocket::{
    Checks, IoRead, IoWrite, Message, Options, Read, Response, SinkExt, StreamExt, Tls, WrapOptions, Write,
    connect, wrap_io,
};
use deflate::Compressed as _;
use futures::{TryStreamExt, future::select, try_join};

#[path = "args/deflate.rs"]
mod deflate;

const USAGE: &str = "usage: frames [--hex] [--text] [--send TEXT]… [--ca FILE] [--deflate[=PARAMS]] URL";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match Arguments::read().and_then(|arguments| async_io::block_on(show(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frames: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    options: Options,
    deflate: Option<String>,
    messages: Vec<String>,
    form: Form,
}

/// How the payload is shown.
#[derive(Clone, Copy, Default)]
struct Form {
    hex: bool,
    text: bool,
}

impl Arguments {
    fn read() -> Result<Self> {
        let (mut form, mut messages) = (Form::default(), Vec::new());
        let (mut ca, mut deflate, mut url) = (None, None, None);
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--hex" => form.hex = true,
                "--text" => form.text = true,
                "--send" => messages.push(args.next().ok_or(USAGE)?),
                "--ca" => ca = Some(args.next().ok_or(USAGE)?),
                _ if let Some(params) = deflate::params(&arg) => deflate = Some(params.to_owned()),
                _ if arg.starts_with('-') || url.is_some() => return Err(USAGE.into()),
                _ => url = Some(arg),
            }
        }
        let mut options = Options::from_url(&url.ok_or(USAGE)?)?;
        if let Some(ca) = ca {
            options = options.tls(Tls::default().web_roots(false).ca_file(ca));
        }
        if let Some(params) = &deflate {
            options = options.compressed(params)?;
        }
        Ok(Self { options, deflate, messages, form })
    }
}

async fn show(Arguments { options, deflate, messages, form }: Arguments) -> Result<()> {
    let (response, outer_read, outer_write) = connect(options.checks(Checks::Off)).await?;
    let (near, far) = UnixStream::pair()?;
    let options = agreed(&response, deflate.as_deref())?;
    let (mut read, mut write) = wrap_io(near.clone(), near, options);
    let (inner_read, inner_write) = wrap_io(far.clone(), far, WrapOptions::server().checks(Checks::Off));

    let sending = async {
        for message in messages {
            write.text(message).await?;
        }
        Ok(())
    };
    let reading = async {
        while let Some(message) = read.next().await {
            message?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    try_join!(sending, reading, pass(outer_read, outer_write, inner_read, inner_write, form))?;
    Ok(())
}

/// Passes frames in both directions and prints them, until one side ends; both ends are closed then.
async fn pass(
    outer_read: Read,
    mut outer_write: Write,
    inner_read: IoRead<UnixStream, UnixStream>,
    mut inner_write: IoWrite<UnixStream>,
    form: Form,
) -> Result<()> {
    let mut coming = outer_read.inspect_ok(|frame| println!("< {}", form.line(frame)));
    let mut going = inner_read.inspect_ok(|frame| println!("> {}", form.line(frame)));
    let (done, _) =
        select(inner_write.send_all(&mut coming), outer_write.send_all(&mut going)).await.factor_first();
    Ok(done?)
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
