//! Heads and answers on a byte transport: what the opening handshakes of both sides wait for.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{
    deadline::Deadline,
    error::{Error, HandshakeError},
    handshake::{body::Body, head::HeadBuffer},
};

/// How long and how many bytes a server waits for a client that got an answer to hang up.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_LEN: usize = 256 << 10;

/// Reads until the head in the buffer is complete. The buffer may already hold a part of it.
pub(crate) async fn read_head<R>(read: &mut R, buffer: &mut HeadBuffer) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
{
    let mut len = 0;
    while !buffer.advance(len).map_err(|error| buffer.refuse(error))? {
        len = read_some(read, buffer.space()).await?;
        if len == 0 {
            return Err(buffer.refuse(HandshakeError::NoHead));
        }
    }
    Ok(())
}

/// Reads a body until it is whole, or nothing more comes.
pub(crate) async fn read_body<R>(read: &mut R, body: &mut Body) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
{
    while !body.is_done() {
        if read_scrap(read, |bytes| body.push(bytes)).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Writes all of the bytes and flushes them.
pub(crate) async fn send<W>(write: &mut W, mut bytes: &[u8]) -> Result<(), Error>
where
    W: AsyncWrite + Unpin,
{
    while !bytes.is_empty() {
        let len = poll_fn(|cx| retried(Pin::new(&mut *write).poll_write(cx, bytes), cx)).await?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = bytes.get(len..).unwrap_or_default();
    }
    poll_fn(|cx| retried(Pin::new(&mut *write).poll_flush(cx), cx)).await?;
    Ok(())
}

/// Writes the last bytes of a connection, and closes it such that they arrive: with unread input, closing
/// would take them back.
pub(crate) async fn send_last<R, W>(
    read: &mut R,
    write: &mut W,
    bytes: &[u8],
    by: Deadline,
) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    by.within(pin!(send(write, bytes))).await?;
    // The answer is out. Whatever happens from here on, there is nothing more to tell anybody.
    let hang_up = async {
        poll_fn(|cx| retried(Pin::new(&mut *write).poll_close(cx), cx)).await?;
        let mut left = LINGER_LEN;
        while left > 0 {
            match read_scrap(read, |_| ()).await? {
                0 => break,
                len => left = left.saturating_sub(len),
            }
        }
        Ok(())
    };
    let _ = Deadline::after(LINGER).within(pin!(hang_up)).await;
    Ok(())
}

async fn read_some<R>(read: &mut R, bytes: &mut [u8]) -> io::Result<usize>
where
    R: AsyncRead + Unpin,
{
    poll_fn(|cx| retried(Pin::new(&mut *read).poll_read(cx, bytes), cx)).await
}

/// Reads into a buffer that is there only while it is read into: none is kept by whoever waits.
async fn read_scrap<R>(read: &mut R, mut take: impl FnMut(&[u8])) -> io::Result<usize>
where
    R: AsyncRead + Unpin,
{
    poll_fn(|cx| {
        let mut bytes = [0; 4096];
        let polled = retried(Pin::new(&mut *read).poll_read(cx, &mut bytes), cx);
        if let Poll::Ready(Ok(len)) = polled {
            take(bytes.get(..len).unwrap_or(&bytes));
        }
        polled
    })
    .await
}

/// An interrupted call is tried again, but after others had their turn, so that a deadline is noticed.
fn retried<T>(polled: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        polled => polled,
    }
}
