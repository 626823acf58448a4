//! The client that `tests/interop/run` sends to other people's servers.
//!
//! ```text
//! cargo run --release --example interop_client -- --help
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{error::Error, pin::pin, process::ExitCode, time::Duration};

use coro_websocket::{
    CloseFrame, Data, Deflate, DeflateParams, Message, Opcode, Options, Read, Response, StreamExt, Tls,
    Write, connect, shutdown,
};
use futures::{
    future::{Either, select, try_join_all},
    try_join,
};

#[path = "../../examples/common/program.rs"]
mod program;

const USAGE: &str = "\
usage: interop_client [--ca FILE] [--deflate | --every-deflate] URL

Checks our client against the server of the interop tests at URL.

      --ca FILE        Trust the authorities in this PEM file and no others
                       (default: Mozilla's list)
      --deflate        Do the same with compression (default: without)
      --every-deflate  Check every choice of the parameters of compression
                       instead
  -h, --help           Print this text
";

const LENGTHS: [usize; 7] = [0, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20];

/// How far a compressor may look back, as a power of two.
const BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// How many connections are open at once.
const CONNECTIONS: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let parse = |arguments: &mut program::Arguments| {
        let (mut ca, mut deflate, mut every) = (None, None, false);
        while let Some(option) = arguments.option()? {
            match option.as_str() {
                "--ca" => ca = Some(arguments.value()?),
                "--deflate" => deflate = Some(Deflate::default()),
                "--every-deflate" => every = true,
                _ => return Err(arguments.unexpected()),
            }
        }
        Ok((Server { url: arguments.required("URL")?, ca, deflate }, every))
    };
    program::run(USAGE, parse, |(server, every)| {
        async_io::block_on(async {
            if every { server.check_every_deflate().await } else { server.check().await }
        })
    })
}

struct Server {
    url: String,
    ca: Option<String>,
    deflate: Option<Deflate>,
}

impl Server {
    async fn check(&self) -> Result<()> {
        self.messages().await?;
        self.fragments().await?;
        self.pings().await?;
        self.closes().await?;
        self.subprotocols().await?;
        self.many().await?;
        let how = if self.deflate.is_some() { ", compressed" } else { "" };
        println!("{}{how}: all of it works", self.url);
        Ok(())
    }

    /// Who keeps its context and how large the windows are: each as the client asks for it, and as the server wants
    /// it.
    async fn check_every_deflate(&self) -> Result<()> {
        let takeover = [(false, false), (false, true), (true, false), (true, true)];
        let windows = BITS.flat_map(|server| BITS.map(move |client| (server, client)));
        let mut count = 0;
        for ((server, client), (server_fresh, client_fresh)) in
            windows.flat_map(|bits| takeover.map(|fresh| (bits, fresh)))
        {
            let mut params = DeflateParams::default();
            params.server_no_context_takeover = server_fresh;
            params.client_no_context_takeover = client_fresh;
            params.server_max_window_bits = server;
            params.client_max_window_bits = client;
            let asked = Deflate::default().threshold(0).with_params(params);
            let open = Deflate::default().threshold(0);
            let wanted = params.to_string().split("; ").skip(1).collect::<Vec<_>>().join(",");
            // Long messages take other people's servers so long that not every pair of windows gets them.
            let long = if server == client { 1 << 20 } else { 65_536 };
            let longest = if server == client && matches!(server, 9 | 15) { 16 << 20 } else { long };
            for (deflate, query, most) in
                [(asked, String::new(), longest), (open, format!("?deflate={wanted}"), long)]
            {
                let path = format!("/echo{query}");
                let done = self.deflated(&path, deflate, params, most).await;
                done.map_err(|error| format!("{path}, {params}: {error}"))?;
                count += 1;
            }
        }
        println!("{}: {count} ways to compress work", self.url);
        Ok(())
    }

    /// Messages of up to so many bytes, compressed both ways.
    async fn deflated(&self, path: &str, own: Deflate, agreed: DeflateParams, most: usize) -> Result<()> {
        let (response, mut read, mut write) = connect(self.options(path)?.deflate(own)).await?;
        expect(response.deflate() == Some(agreed), &format!("agreed on {:?}", response.deflate()))?;
        let mut random = fastrand::Rng::with_seed(7);
        for len in LENGTHS.into_iter().filter(|len| *len <= most) {
            let bytes = repetitive(&mut random, len);
            let text: String = bytes.iter().map(|byte| char::from(b' ' + byte % 64)).collect();
            echoed(&mut read, &mut write, Message::text(text)).await?;
            echoed(&mut read, &mut write, Message::binary(bytes)).await?;
        }
        let stats = read.stats();
        close(read, write).await?;
        let compressed = stats.bytes_out < stats.payload_out && stats.bytes_in < stats.payload_in;
        expect(compressed, &format!("compressed: {stats:?}"))
    }

    fn options(&self, path: &str) -> Result<Options> {
        let mut options = Options::from_url(&format!("{}{path}", self.url))?;
        if let Some(deflate) = self.deflate {
            options = options.deflate(deflate);
        }
        Ok(match &self.ca {
            Some(ca) => options.tls(Tls::default().web_roots(false).ca_file(ca)),
            None => options,
        })
    }

    async fn open(&self, path: &str) -> Result<(Response, Read, Write)> {
        Ok(connect(self.options(path)?).await?)
    }

    async fn messages(&self) -> Result<()> {
        let (response, mut read, mut write) = self.open("/echo").await?;
        let encrypted = response.socket().is_some_and(|socket| socket.tls().is_some());
        expect(encrypted == self.url.starts_with("wss:"), "encryption is as the URL says")?;
        expect(response.deflate().is_some() == self.deflate.is_some(), "compression is as it was asked for")?;
        for len in LENGTHS {
            let text: String = ('a'..='z').cycle().take(len).collect();
            echoed(&mut read, &mut write, Message::text(text)).await?;
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            echoed(&mut read, &mut write, Message::binary(bytes)).await?;
        }
        close(read, write).await
    }

    async fn fragments(&self) -> Result<()> {
        let (_, mut read, mut write) = self.open("/echo").await?;
        for (index, text) in ["grüße ", "", "in ", "parts"].into_iter().enumerate() {
            let part = if index == 0 { Message::text(text) } else { Message::continuation(text, index == 3) };
            write.send(Message { fin: index == 3, ..part }).await?;
            // A control frame may come between.
            write.send(Message::ping("between")).await?;
        }
        expect(next(&mut read).await? == Data::Text("grüße in parts".into()), "fragments out")?;
        close(read, write).await?;

        let (_, mut read, write) = self.open("/fragments").await?;
        expect(next(&mut read).await? == Data::Text("one two three".into()), "fragments of text in")?;
        expect(next(&mut read).await? == Data::Binary(vec![0, 1, 2].into()), "fragments of bytes in")?;
        close(read, write).await
    }

    async fn pings(&self) -> Result<()> {
        let (_, mut read, mut write) = self.open("/ping").await?;
        let ping = read.next().await.ok_or("no ping")??;
        expect(ping.opcode == Opcode::PING && ping.payload == "from the server", "ping in")?;
        expect(next(&mut read).await? == Data::Text("answered".into()), "pong out")?;

        // The Pong of `Write::ping` is not yielded.
        let answered = match select(pin!(write.ping()), pin!(read.next())).await {
            Either::Left((answered, _)) => answered?,
            Either::Right((frame, _)) => return Err(format!("{frame:?} instead of a pong").into()),
        };
        expect(answered < Duration::from_secs(5), "pong in")?;
        close(read, write).await
    }

    async fn closes(&self) -> Result<()> {
        for (code, reason) in [(1000, ""), (1000, "done"), (1001, "going away"), (3000, "grüße"), (4999, "x")]
        {
            let (_, mut read, mut write) = self.open("/echo").await?;
            let frames = shutdown(&mut read, &mut write, code, reason, Duration::from_secs(5)).await?;
            expect(frames.is_clean() && said(&frames.received) == Some(code), "our close is answered")?;

            let path = format!(
                "/close?code={code}&reason={}",
                reason.replace(' ', "+").replace("üß", "%C3%BC%C3%9F")
            );
            let (_, mut read, _write) = self.open(&path).await?;
            while let Some(message) = read.next().await {
                message?;
            }
            let frames = read.close_frames();
            let theirs = frames.received.clone().ok_or("no close")?;
            expect(
                frames.is_clean() && theirs.code.number() == code && theirs.reason == reason,
                "their close",
            )?;
            expect(said(&frames.sent) == Some(code), "their close is answered")?;
        }
        Ok(())
    }

    async fn subprotocols(&self) -> Result<()> {
        let options = self.options("/echo")?.subprotocols(["chat.v3", "chat.v2"]);
        let (response, read, write) = connect(options).await?;
        expect(response.subprotocol() == Some("chat.v2"), "subprotocol")?;
        close(read, write).await?;
        let (response, read, write) = self.open("/echo").await?;
        expect(response.subprotocol().is_none(), "no subprotocol")?;
        close(read, write).await
    }

    async fn many(&self) -> Result<()> {
        let all = try_join_all((0..CONNECTIONS).map(|_| self.open("/echo"))).await?;
        let echoes = all.into_iter().enumerate().map(async |(index, (_, mut read, mut write))| {
            echoed(&mut read, &mut write, Message::text(index.to_string())).await?;
            close(read, write).await
        });
        try_join_all(echoes).await.map(drop)
    }
}

fn expect(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn said(close: &Option<CloseFrame>) -> Option<u16> {
    close.as_ref().map(|close| close.code.number())
}

async fn next(read: &mut Read) -> Result<Data> {
    Ok(read.messages().next().await.ok_or("the connection ended")??)
}

/// Sends a message and waits for the same. Both at once: it may be larger than what fits on the way.
async fn echoed(read: &mut Read, write: &mut Write, message: Message) -> Result<()> {
    let what = message.to_string();
    let expected = match message.opcode {
        Opcode::TEXT => Data::Text(message.as_text().ok_or("not text")?.to_owned()),
        _ => Data::Binary(message.payload.clone()),
    };
    let sending = async { Ok(write.send(message).await?) };
    let (_, data) = try_join!(sending, next(read))?;
    expect(data == expected, &format!("echo of {what}"))
}

/// Bytes that repeat what came before, up to 40,000 bytes back, more often than not: something to find in every window
/// and beyond.
fn repetitive(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        let back = random.usize(64..40_000);
        match bytes.len().checked_sub(back) {
            Some(start) if random.u8(..) < 200 => bytes.extend_from_within(start..start + 64),
            _ => bytes.extend((0..64).map(|_| random.u8(..))),
        }
    }
    bytes.truncate(len);
    bytes
}

async fn close(mut read: Read, mut write: Write) -> Result<()> {
    let frames = shutdown(&mut read, &mut write, 1000, "", Duration::from_secs(5)).await?;
    expect(frames.is_clean(), "clean close")
}
