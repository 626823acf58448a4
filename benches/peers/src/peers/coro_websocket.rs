//! This project.

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use coro_websocket::{
    Accept, AcceptOptions, Deflate, Error, FrameWriter, IoRead, IoWrite, Message, Outlet, PreparedFrame,
    Read, Server, ServerOptions, Source, StreamExt, WrapOptions, Write, accept_io, wrap_io,
};
use tokio::net::{
    TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::{Role, Seen, Work, now};
use crate::{
    memory::Memory,
    runtimes::{on_executor, on_tokio},
    server::{ANYWHERE, announce},
};

fn options(role: Role) -> WrapOptions {
    match role {
        Role::Server => WrapOptions::server(),
        Role::Client => WrapOptions::client(),
    }
}

/// Frames are lent.
pub(crate) fn decode_views(io: Memory, role: Role) -> Work {
    let (mut read, write) = wrap_io(io, Memory::writing(false), options(role));
    Box::new(move |frames, seen: &mut Seen| {
        let _both_live = &write;
        now(async {
            for _ in 0..frames {
                seen.payload(read.frame().await.unwrap().unwrap().payload);
            }
        });
    })
}

pub(crate) fn decode(io: Memory, role: Role) -> Work {
    let (mut read, write) = wrap_io(io, Memory::writing(false), options(role));
    Box::new(move |frames, seen: &mut Seen| {
        let _both_live = &write;
        now(async {
            for _ in 0..frames {
                seen.payload(&read.next().await.unwrap().unwrap().payload);
            }
        });
    })
}

pub(crate) fn encode_alone(io: Memory, role: Role, payload: Bytes) -> Work {
    let mut writer = FrameWriter::new(io, options(role));
    Box::new(move |frames, _| {
        now(async {
            for _ in 0..frames {
                writer.send(Message::binary(payload.clone())).await.unwrap();
            }
        });
    })
}

pub(crate) fn encode(io: Memory, role: Role, payload: Bytes) -> Work {
    let (read, mut write) = wrap_io(Memory::reading(&[]), io, options(role));
    Box::new(move |frames, _| {
        let _both_live = &read;
        now(async {
            for _ in 0..frames {
                write.send(Message::binary(payload.clone())).await.unwrap();
            }
        });
    })
}

/// A server of its own, with its default options, on async-io.
pub(crate) fn serve() -> ! {
    serve_with(ServerOptions::default())
}

/// Compresses as its default is: at level 2.
pub(crate) fn serve_deflate() -> ! {
    serve_with(ServerOptions::default().deflate(Deflate::default()))
}

/// At the level that is the default of others.
pub(crate) fn serve_deflate_6() -> ! {
    serve_with(ServerOptions::default().deflate(Deflate::default().level(6)))
}

fn serve_with(options: ServerOptions) -> ! {
    on_executor(|executor| async move {
        let server = Server::bind(ANYWHERE, options).await.unwrap();
        announce(server.local_addr().unwrap());
        while let Some((_request, read, write)) = server.accept().await.unwrap() {
            executor.spawn(echo(read, write)).detach();
        }
    })
}

/// On tokio, over the adapters of tokio-util.
pub(crate) fn serve_on_tokio() -> ! {
    on_tokio(|socket| async {
        let (read, write) = accept(socket, AcceptOptions::default()).await?;
        Ok(echo(read, write).await?)
    })
}

pub(crate) fn serve_deflate_on_tokio() -> ! {
    on_tokio(|socket| async {
        let options = AcceptOptions::default().deflate(Deflate::default());
        let (read, write) = accept(socket, options).await?;
        Ok(echo(read, write).await?)
    })
}

type TokioRead = IoRead<Compat<OwnedReadHalf>, Compat<OwnedWriteHalf>>;
type TokioWrite = IoWrite<Compat<OwnedWriteHalf>>;

async fn accept(socket: TcpStream, options: AcceptOptions) -> Result<(TokioRead, TokioWrite), Error> {
    let (r, w) = socket.into_split();
    let upgrade = accept_io(r.compat(), w.compat_write(), options).await?;
    let (_request, read, write) = upgrade.accept(Accept::default()).await?;
    Ok((read, write))
}

/// The plain loop. What was fed goes out when there is nothing more to read.
async fn echo<S: Source, K: Outlet>(mut read: Read<S, K>, mut write: Write<K>) -> Result<(), Error> {
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    Ok(())
}

/// Whatever comes goes to everybody, encoded once. Each connection's own loop flushes it.
pub(crate) fn broadcast() -> ! {
    let members: Rc<RefCell<Vec<Write>>> = Rc::default();
    on_executor(|executor| async move {
        let server = Server::bind(ANYWHERE, ServerOptions::default()).await.unwrap();
        announce(server.local_addr().unwrap());
        while let Some((_request, mut read, write)) = server.accept().await.unwrap() {
            members.borrow_mut().push(write);
            let members = Rc::clone(&members);
            let member = async move {
                while let Some(Ok(message)) = read.next().await {
                    let news = PreparedFrame::new(message);
                    for member in members.borrow_mut().iter_mut() {
                        let message = member.prepared(&news);
                        member.try_feed(message).unwrap();
                    }
                }
            };
            executor.spawn(member).detach();
        }
    })
}
