//! A socket of the operating system in two halves, each of which one task may poll.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::Async;
use futures::io::AsyncWrite;
use socket2::SockRef;

use crate::socket::Handle;

/// Makes a write to a peer that has gone fail instead of raising SIGPIPE, which ends a process that does not ignore it.
/// `writev` takes no flags, so all data is sent by `send` and `sendmsg`.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: std::ffi::c_int = libc::MSG_NOSIGNAL;

/// Apple's systems have the option `SO_NOSIGPIPE` instead of the flag: async-io sets it on connecting, socket2 and the
/// standard library on listening, and accepted sockets inherit it. Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: std::ffi::c_int = 0;

/// How much is read without waiting before others have their turn: a peer that sends faster than it is read must not
/// be all that the task, and whoever shares its thread, are occupied with.
const TURN_LEN: usize = 256 << 10;

/// The half that reads.
pub(super) struct Receiving<T> {
    io: Arc<Async<T>>,
    next: Next,
    /// How much was read since it last waited.
    in_turn: usize,
}

/// What to do when more is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The last read filled its buffer, so there may be more.
    Read,
    /// The last read left room in its buffer, so there is most likely nothing: to wait at once saves asking in
    /// vain. The reactor reports what has come since, the end and errors too.
    Wait,
    /// The reactor was asked to wake the task, so being polled most likely means that something came.
    ReadOrWait,
}

/// The half that writes. Dropped, it shuts the socket down: the connection is over, whoever has the other half.
pub(super) struct Sending<T>
where
    Async<T>: Handle,
{
    io: Arc<Async<T>>,
}

/// The halves; `next` is what the reader begins with: to wait, where one's own side speaks first.
pub(super) fn split<T>(io: Arc<Async<T>>, next: Next) -> (Receiving<T>, Sending<T>)
where
    Async<T>: Handle,
{
    (Receiving { io: Arc::clone(&io), next, in_turn: 0 }, Sending { io })
}

impl<T> Receiving<T>
where
    for<'a> &'a T: io::Read,
{
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut armed = false;
        if self.next != Next::Read {
            self.in_turn = 0;
            // The reactor does not count what it hears in the round in which it was asked, so that this may be
            // pending for ever though the task was woken each time. It is asked, but not believed: who was woken
            // reads.
            armed = self.io.poll_readable(cx)?.is_pending();
            if armed && self.next == Next::Wait {
                self.next = Next::ReadOrWait;
                return Poll::Pending;
            }
        } else if self.in_turn >= TURN_LEN {
            self.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match io::Read::read(&mut self.io.get_ref(), buf) {
                Ok(count) => {
                    let more = count == buf.len() || count == 0;
                    self.next = if more { Next::Read } else { Next::Wait };
                    self.in_turn += count;
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) => {
                    armed = armed || self.io.poll_readable(cx)?.is_pending();
                    if armed {
                        self.next = Next::ReadOrWait;
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<T> Sending<T>
where
    Async<T>: Handle,
{
    #[cfg(feature = "tls")]
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
    }

    /// Sends with the given call once the socket has room.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match send(self.io.as_socket()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.io.poll_writable(cx))?,
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl<T> AsyncWrite for Sending<T>
where
    Async<T>: Handle,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_with_flags(buf, SEND_FLAGS))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_vectored_with_flags(bufs, SEND_FLAGS))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.io.shutdown(Shutdown::Write) {
            // Whoever it was meant for has gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        })
    }
}

impl<T> Drop for Sending<T>
where
    Async<T>: Handle,
{
    fn drop(&mut self) {
        // The last holder closes it anyway.
        if Arc::strong_count(&self.io) > 1 {
            let _ = self.io.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, future::poll_fn};
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    fn pair() -> (Arc<Async<TcpStream>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(Async::new(near).unwrap()), listener.accept().unwrap().0)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the other end is a thread")]
    fn few_polls_are_needed_however_bytes_come() {
        let (near, mut far) = pair();
        let echo = std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(far.read(&mut byte), Ok(1)) {
                far.write_all(&byte).unwrap();
            }
        });
        let (mut reader, mut writer) = split(near, Next::Wait);
        let (mut polls, mut buf) = (0, [0; 16]);
        block_on(async {
            for round in 0..2000_u32 {
                let byte = round.to_be_bytes()[3];
                poll_fn(|cx| Pin::new(&mut writer).poll_write(cx, &[byte])).await.unwrap();
                let count = poll_fn(|cx| {
                    polls += 1;
                    reader.poll_read(cx, &mut buf)
                });
                assert_eq!((count.await.unwrap(), buf[0]), (1, byte));
            }
            poll_fn(|cx| Pin::new(&mut writer).poll_close(cx)).await.unwrap();
            // The end comes once, then again whenever it is asked for.
            for _ in 0..3 {
                assert_eq!(poll_fn(|cx| reader.poll_read(cx, &mut buf)).await.unwrap(), 0);
            }
        });
        echo.join().unwrap();
        assert!(polls < 3 * 2000, "{polls}");
    }

    #[test]
    fn more_than_the_buffer_is_read_without_waiting() {
        let (near, mut far) = pair();
        far.write_all(&[7; 10]).unwrap();
        drop(far);
        let (mut reader, _writer) = split(near, Next::Wait);
        let mut buf = [0; 4];
        let counts: Vec<_> =
            (0..4).map(|_| block_on(poll_fn(|cx| reader.poll_read(cx, &mut buf))).unwrap()).collect();
        assert_eq!(counts, [4, 4, 2, 0]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the other end is a thread")]
    fn others_have_their_turn_however_much_comes() {
        let (near, mut far) = pair();
        let (mut reader, writer) = split(near, Next::Read);
        let flood = std::thread::spawn(move || while far.write_all(&[7; 64 << 10]).is_ok() {});
        let mut buf = [0; 16 << 10];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..20 {
            let mut read = 0;
            while let Poll::Ready(count) = reader.poll_read(&mut cx, &mut buf) {
                read += count.unwrap();
            }
            assert!(read < TURN_LEN + buf.len(), "{read}");
        }
        drop(writer);
        drop(reader);
        flood.join().unwrap();
    }

    #[test]
    fn dropped_writer_ends_the_reader() {
        let (near, far) = pair();
        let (mut reader, writer) = split(near, Next::Wait);
        drop(writer);
        assert_eq!(block_on(poll_fn(|cx| reader.poll_read(cx, &mut [0; 4]))).unwrap(), 0);
        drop(far);
    }
}
