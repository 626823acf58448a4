//! Echo servers without a library: what the system, and the runtimes, allow.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::TcpStream,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_io::Async;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use rustix::event::epoll;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{
    runtimes::{Ended, answer, on_smol, on_tokio, response_to},
    server::listen,
    wire::Echo,
};

thread_local! {
    /// All connections read into it.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
}

/// Reads once. Answers are kept in `echo`; `false` is the end. How full the buffer was is the other result.
fn read_once(mut socket: impl Read, echo: &mut Echo) -> io::Result<(bool, bool)> {
    SCRATCH.with_borrow_mut(|scratch| {
        let count = socket.read(scratch)?;
        echo.put(&scratch[..count]);
        Ok((count > 0, count == scratch.len()))
    })
}

pub(crate) fn tokio() -> ! {
    on_tokio(|socket| echo(socket.compat()))
}

pub(crate) fn smol() -> ! {
    on_smol(echo)
}

async fn echo<S>(mut socket: S) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    answer(&mut socket, None).await?;
    let mut echo = Echo::default();
    loop {
        if !poll_fn(|cx| poll_read_once(&mut socket, &mut echo, cx)).await? {
            return Ok(());
        }
        while !echo.due().is_empty() {
            let count = socket.write(echo.due()).await?;
            echo.wrote(count);
        }
    }
}

fn poll_read_once<S>(socket: &mut S, echo: &mut Echo, cx: &mut Context<'_>) -> Poll<io::Result<bool>>
where
    S: AsyncRead + Unpin,
{
    SCRATCH.with_borrow_mut(|scratch| {
        let count = ready!(Pin::new(socket).poll_read(cx, scratch))?;
        echo.put(&scratch[..count]);
        Poll::Ready(Ok(count > 0))
    })
}

/// After a read that left room in the buffer, readiness is awaited before the next.
pub(crate) fn smol_awaiting() -> ! {
    on_smol(|mut socket| async move {
        answer(&mut socket, None).await?;
        let socket: std::sync::Arc<Async<TcpStream>> = socket.into();
        let mut echo = Echo::default();
        let mut full = false;
        loop {
            if !full {
                poll_fn(|cx| socket.poll_readable(cx)).await?;
            }
            match read_once(socket.get_ref(), &mut echo) {
                Ok((true, was_full)) => full = was_full,
                Ok((false, _)) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => full = false,
                Err(error) => return Err(error.into()),
            }
            while !echo.due().is_empty() {
                let count = (&*socket).write(echo.due()).await?;
                echo.wrote(count);
            }
        }
    })
}

/// A connection of the server on bare epoll.
struct Connection {
    socket: TcpStream,
    /// `None` until the handshake is done.
    echo: Option<Echo>,
    /// It waits to be able to write, and does not read meanwhile.
    blocked: bool,
}

pub(crate) fn epoll() -> ! {
    epoll_with(false)
}

/// What comes goes to everybody.
pub(crate) fn epoll_broadcast() -> ! {
    epoll_with(true)
}

fn epoll_with(broadcasts: bool) -> ! {
    let listener = listen();
    let poll = epoll::create(epoll::CreateFlags::empty()).unwrap();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let listens = epoll::EventData::new_u64(u64::MAX);
    epoll::add(&poll, &listener, listens, epoll::EventFlags::IN).unwrap();
    let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 256];
    loop {
        // Whoever watches system calls interrupts them.
        let Ok((events, _)) = epoll::wait(&poll, &mut events[..], None) else { continue };
        for event in events {
            let data = event.data;
            if data == listens {
                let (socket, _) = listener.accept().unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.set_nodelay(true).unwrap();
                let free = connections.iter().position(Option::is_none).unwrap_or(connections.len());
                let data = epoll::EventData::new_u64(free as u64);
                epoll::add(&poll, &socket, data, epoll::EventFlags::IN).unwrap();
                connections.resize_with(connections.len().max(free + 1), || None);
                connections[free] = Some(Connection { socket, echo: None, blocked: false });
                continue;
            }
            let place = data.u64() as usize;
            let Some(connection) = &mut connections[place] else { continue };
            let was_blocked = connection.blocked;
            if broadcasts && connection.echo.is_some() {
                broadcast(&mut connections, place);
            } else if !connection.on_event().unwrap_or(false) {
                connections[place] = None;
            } else if connection.blocked != was_blocked {
                let flags = if was_blocked { epoll::EventFlags::IN } else { epoll::EventFlags::OUT };
                epoll::modify(&poll, &connection.socket, data, flags).unwrap();
            }
        }
    }
}

/// Messages are few and small, so that nobody has to wait to write.
fn broadcast(connections: &mut [Option<Connection>], from: usize) {
    let Some(Connection { socket, echo: Some(echo), .. }) = &mut connections[from] else { return };
    let mut echo = std::mem::take(echo);
    if !read_once(&*socket, &mut echo).is_ok_and(|(goes_on, _)| goes_on) {
        connections[from] = None;
        return;
    }
    for connection in connections.iter().flatten() {
        (&connection.socket).write_all(echo.due()).unwrap();
    }
    echo.wrote(echo.due().len());
    if let Some(connection) = &mut connections[from] {
        connection.echo = Some(echo);
    }
}

impl Connection {
    /// Does what can be done; `false` is the end.
    fn on_event(&mut self) -> io::Result<bool> {
        let Some(echo) = &mut self.echo else {
            let mut request = [0; 4096];
            let count = self.socket.read(&mut request)?;
            let Some(response) = response_to(&request[..count], None) else { return Ok(false) };
            self.socket.write_all(response.as_bytes())?;
            self.echo = Some(Echo::default());
            return Ok(true);
        };
        // It is asked once for each event: whatever is left causes another.
        if !self.blocked && !read_once(&self.socket, echo)?.0 {
            return Ok(false);
        }
        self.blocked = false;
        while !echo.due().is_empty() {
            match self.socket.write(echo.due()) {
                Ok(count) => echo.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
