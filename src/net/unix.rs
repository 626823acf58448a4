//! Unix sockets.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_io::{Async, Timer};
use socket2::SockRef;

use crate::{error::Error, socket::Handle};

/// How long to wait before a server whose queue is full is asked again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

pub(super) async fn connect(path: &Path) -> Result<Arc<Async<UnixStream>>, Error> {
    let (mut pause, longest) = RETRY;
    loop {
        match async_net::unix::UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream.into()),
            // The queue of the listener is full. Unlike TCP, a socket that does not block cannot stand in line.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Timer::after(pause).await;
                pause = longest.min(pause * 2);
            }
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                return Err(Error::Connect(io::Error::new(error.kind(), text).into()));
            }
        }
    }
}

impl Handle for Async<UnixStream> {
    fn as_socket(&self) -> SockRef<'_> {
        SockRef::from(self.get_ref())
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.get_ref().shutdown(how)
    }

    fn nodelay(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}
