//! [`shutdown`]: the closing handshake from its start to its end, which takes both halves.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use crate::{
    error::Error, frame::CloseCode, read::Read, reader::Source, session::closing::CloseFrames, write::Write,
    writer::Outlet,
};

/// Performs the whole closing handshake
/// ([RFC 6455 §7.1.2](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.2)): sends a Close frame, reads and
/// throws away what still comes, up to the peer's Close and the end of the transport, or until `deadline` has
/// passed. Gives the Close frames of both sides; [`CloseFrames::is_clean`] says whether the peer answered.
///
/// # Errors
///
/// [`Error::Invalid`] for a code or reason that may not be sent; what [`Read`] and [`Write`] give
/// when the connection fails meanwhile.
///
/// # Cancel safety
///
/// Once the Close frame is accepted it goes out. The handshake can be continued by reading to the end.
///
/// # Examples
///
/// ```
/// # use coro_websocket::{Error, IoRead, IoWrite, shutdown};
/// # use std::time::Duration;
/// # async fn example(mut read: IoRead<&[u8], Vec<u8>>, mut write: IoWrite<Vec<u8>>) -> Result<(), Error> {
/// let frames = shutdown(&mut read, &mut write, 1000, "bye", Duration::from_secs(3)).await?;
/// println!("the peer said {:?}", frames.received);
/// # Ok(()) }
/// ```
pub async fn shutdown<S: Source, K: Outlet>(
    read: &mut Read<S, K>,
    write: &mut Write<K>,
    code: impl Into<CloseCode>,
    reason: &str,
    deadline: Duration,
) -> Result<CloseFrames, Error> {
    let mut closing = pin!(write.close_with(code, reason));
    let mut sent = None;
    let mut limited = false;
    poll_fn(|cx| {
        if sent.is_none()
            && let Poll::Ready(result) = closing.as_mut().poll(cx)
        {
            sent = Some(result);
        }
        if let Some(Err(error @ Error::Invalid { .. })) = &sent {
            return Poll::Ready(Err(error.clone()));
        }
        if !limited {
            limited = true;
            read.shared.close_within(deadline);
        }
        loop {
            match ready!(read.poll_frame(cx)) {
                Some(Ok(()) | Err(Error::Reported { .. })) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    })
    .await?;
    Ok(read.close_frames())
}
