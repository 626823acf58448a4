//! Through the buffers of its examples.

use std::net::TcpListener;

use bytes::Bytes;
use futures::io::{BufReader, BufWriter};
use soketto::{
    Data, Mode,
    connection::Builder,
    handshake::{Server, server::Response},
};

use super::{Role, Seen, Work, now};
use crate::{memory::Memory, runtimes::on_smol};

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
pub(crate) fn serve(listener: TcpListener) -> ! {
    on_smol(listener, |socket| async {
        let mut server = Server::new(buffered(socket));
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
    })
}
