//! Only for compression. Neither side keeps its context, and the level is 1: so are its defaults.

use bytes::BytesMut;
use ratchet_rs::{
    Message, PayloadType, SubprotocolRegistry, WebSocketConfig, accept_with, deflate::DeflateExtProvider,
};
use tokio::io::{BufReader, BufWriter};

use crate::runtimes::on_tokio;

/// The loop of its examples.
pub(crate) fn serve_deflate() -> ! {
    on_tokio(|socket| async {
        let upgrader = accept_with(
            BufReader::new(BufWriter::new(socket)),
            WebSocketConfig::default(),
            DeflateExtProvider::default(),
            SubprotocolRegistry::default(),
        );
        let mut socket = upgrader.await?.upgrade().await?.websocket;
        let mut buf = BytesMut::new();
        loop {
            match socket.read(&mut buf).await? {
                Message::Text => {
                    std::str::from_utf8(&buf)?;
                    socket.write(&mut buf, PayloadType::Text).await?;
                }
                Message::Binary => socket.write(&mut buf, PayloadType::Binary).await?,
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => return Ok(()),
            }
            socket.flush().await?;
            buf.clear();
        }
    })
}
