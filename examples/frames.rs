//! Prints every frame of a live connection, one line each.
//!
//! ```text
//! cargo run --example frames -- [--hex] [--text] [--send TEXT]… URL
//! ```
//!
//! `--hex` and `--text` add the payload in that form; `--send` sends a text message first, to have something to look at.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{error::Error, fmt::Write as _};

use coro_websocket::{FrameView, Options, connect};

const USAGE: &str = "usage: frames [--hex] [--text] [--send TEXT]… URL";

fn main() -> Result<(), Box<dyn Error>> {
    let (mut hex, mut text, mut messages, mut url) = (false, false, Vec::new(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--hex" => hex = true,
            "--text" => text = true,
            "--send" => messages.push(args.next().ok_or(USAGE)?),
            _ if arg.starts_with('-') || url.is_some() => return Err(USAGE.into()),
            _ => url = Some(arg),
        }
    }
    async_io::block_on(async {
        let (_response, mut read, mut write) = connect(Options::from_url(&url.ok_or(USAGE)?)?).await?;
        for message in messages {
            write.text(message).await?;
        }
        while let Some(frame) = read.frame().await {
            println!("{}", line(&frame?, hex, text));
        }
        Ok(())
    })
}

/// The header in full, then the payload in the forms that were asked for.
fn line(frame: &FrameView<'_>, hex: bool, text: bool) -> String {
    let FrameView { fin, rsv1, rsv2, rsv3, opcode, mask, len, payload, .. } = *frame;
    let mut line = format!("{opcode} {len} bytes");
    for (flag, name) in [(fin, "fin"), (rsv1, "rsv1"), (rsv2, "rsv2"), (rsv3, "rsv3"), (mask, "mask")] {
        if flag {
            line.extend([" ", name]);
        }
    }
    if hex {
        line.push(' ');
        for byte in payload {
            // A String takes anything.
            let _ = write!(line, "{byte:02x}");
        }
    }
    if text {
        let _ = write!(line, " {:?}", String::from_utf8_lossy(payload));
    }
    line
}
