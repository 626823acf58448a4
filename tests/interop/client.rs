//! The client that `tests/interop/run` sends to other people's servers.
//!
//! ```text
//! cargo run --example interop_client -- [--ca FILE] URL
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::{error::Error, process::ExitCode, time::Duration};

use coro_websocket::{
    CloseFrame, Data, Message, Opcode, Options, Read, Response, StreamExt, Tls, Write, connect, shutdown,
};
use futures::{future::try_join_all, try_join};

const USAGE: &str = "usage: interop_client [--ca FILE] URL";

const LENGTHS: [usize; 7] = [0, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20];

/// How many connections are open at once.
const CONNECTIONS: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interop_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut ca, mut url) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--ca" => ca = Some(args.next().ok_or(USAGE)?),
            _ if arg.starts_with('-') || url.is_some() => return Err(USAGE.into()),
            _ => url = Some(arg),
        }
    }
    let server = Server { url: url.ok_or(USAGE)?, ca };
    async_io::block_on(server.check())
}

struct Server {
    url: String,
    ca: Option<String>,
}

impl Server {
    async fn check(&self) -> Result<()> {
        self.messages().await?;
        self.fragments().await?;
        self.pings().await?;
        self.closes().await?;
        self.subprotocols().await?;
        self.many().await?;
        println!("{}: all of it works", self.url);
        Ok(())
    }

    fn options(&self, path: &str) -> Result<Options> {
        let options = Options::from_url(&format!("{}{path}", self.url))?;
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

        let answer = async { Ok::<_, Box<dyn Error>>(write.ping().await?) };
        let reading = async {
            let pong = read.next().await.ok_or("no pong")??;
            expect(pong.opcode == Opcode::PONG, "pong in")
        };
        try_join!(answer, reading)?;
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

async fn close(mut read: Read, mut write: Write) -> Result<()> {
    let frames = shutdown(&mut read, &mut write, 1000, "", Duration::from_secs(5)).await?;
    expect(frames.is_clean(), "clean close")
}
