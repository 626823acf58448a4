//! Through the buffers of its examples.

use async_net::TcpStream;
use bytes::Bytes;
use futures::io::{BufReader, BufWriter};
use soketto::{
    Data, Mode,
    connection::Builder,
    extension::deflate::Deflate,
    handshake::{Server, server::Response},
};

use super::{Role, Seen, Work, now};
use crate::{
    memory::Memory,
    runtimes::{Ended, on_smol},
};

type Buffered<T> = BufReader<BufWriter<T>>;

fn buffered<T: futures::io::AsyncRead + futures::io::AsyncWrite>(io: T) -> Buffered<T> {
    BufReader::with_capacity(8 * 1024, BufWriter::with_capacity(16 * 1024, io))
}

fn builder(io: Memory, role: Role) -> Builder<Buffered<Memory>> {
    Builder::new(buffered(io), if role == Role::Server { Mode::Server } else { Mode::Client })
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    let (_sender, mut receiver) = builder(io, role).finish();
    let mut message = Vec::new();
    Box::new(move |frames, seen: &mut Seen| {
        now(async {
            for _ in 0..frames {
                message.clear();
                receiver.receive_data(&mut message).await.unwrap();
                seen.payload(&message);
            }
        });
    })
}

pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let (mut sender, receiver) = builder(io, role).finish();
    Box::new(move |frames, _| {
        let _both_live = &receiver;
        now(async {
            for _ in 0..frames {
                sender.send_binary(&payload).await.unwrap();
                sender.flush().await.unwrap();
            }
        });
    })
}

/// The loop of its examples.
pub(crate) fn serve() -> ! {
    on_smol(|socket| echo(Server::new(buffered(socket))))
}

/// At level 1; no other can be chosen.
pub(crate) fn serve_deflate() -> ! {
    on_smol(|socket| {
        let mut server = Server::new(buffered(socket));
        server.add_extension(Box::new(Deflate::new(Mode::Server)));
        echo(server)
    })
}

async fn echo(mut server: Server<'_, Buffered<TcpStream>>) -> Ended {
    let key = server.receive_request().await?.key();
    server.send_response(&Response::Accept { key, protocol: None }).await?;
    let (mut sender, mut receiver) = server.into_builder().finish();
    let mut message = Vec::new();
    loop {
        message.clear();
        match receiver.receive_data(&mut message).await? {
            Data::Binary(_) => sender.send_binary_mut(&mut message).await?,
            Data::Text(_) => sender.send_text(std::str::from_utf8(&message)?).await?,
        }
        sender.flush().await?;
    }
}
