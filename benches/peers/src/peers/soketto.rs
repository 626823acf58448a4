//! Through the buffers of its examples.

use bytes::Bytes;
use futures::io::{BufReader, BufWriter};
use soketto::{Mode, connection::Builder};

use super::{Role, Seen, Work, now};
use crate::memory::Memory;

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
