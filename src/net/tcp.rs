//! TCP, to whichever address of a host answers first.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use async_io::Async;
use futures::{
    future::poll_fn,
    stream::{FuturesUnordered, StreamExt},
};
use socket2::SockRef;

use crate::{
    clock::{Alarm, now},
    error::Error,
    socket::Handle,
};

/// How long an address has before the next one is tried as well
/// ([RFC 8305 §5](https://www.rfc-editor.org/rfc/rfc8305#section-5)).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first address that answers ("Happy Eyeballs",
/// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)). An address is tried when the one before it has failed, or
/// has had its time; the others are then dropped.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> Result<Arc<Async<TcpStream>>, Error> {
    let mut untried = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    let mut alarm = Alarm::default();
    let mut next_at = now();
    let stream = poll_fn(|cx| {
        loop {
            match attempts.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(stream))) => return Poll::Ready(Ok(stream)),
                Poll::Ready(Some(Err(failure))) => failures.push(failure),
                Poll::Ready(None) if untried.len() == 0 => return Poll::Ready(Err(summary(&failures))),
                Poll::Ready(None) => {}
                Poll::Pending if untried.len() == 0 => return Poll::Pending,
                Poll::Pending => ready!(alarm.poll_at(cx, next_at)),
            }
            if let Some(address) = untried.next() {
                attempts.push(attempt(address));
                next_at = now() + STAGGER;
            }
        }
    })
    .await?;
    // It may have gone again; whoever reads or writes will see.
    let _ = stream.get_ref().set_nodelay(true);
    Ok(stream)
}

type Failure = (SocketAddr, io::Error);

async fn attempt(address: SocketAddr) -> Result<Arc<Async<TcpStream>>, Failure> {
    let connected = async_net::TcpStream::connect(address).await;
    let stream = Arc::<Async<TcpStream>>::from(connected.map_err(|error| (address, error))?);
    // On one machine, a socket whose own port happens to be the one it asks for connects to itself.
    match (stream.get_ref().local_addr(), stream.get_ref().peer_addr()) {
        (Ok(local), Ok(peer)) if local == peer => Err((address, io::ErrorKind::ConnectionRefused.into())),
        _ => Ok(stream),
    }
}

/// One error out of all: the kind of the one that says most, the text of each.
fn summary(failures: &[Failure]) -> Error {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    let says_little = |kind| matches!(kind, NetworkUnreachable | HostUnreachable | AddrNotAvailable);
    let mut kinds = failures.iter().map(|(_, error)| error.kind());
    let kind =
        kinds.clone().find(|kind| !says_little(*kind)).or(kinds.next()).unwrap_or(io::ErrorKind::Other);
    let texts: Vec<_> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    Error::Connect(io::Error::new(kind, texts.join("; ")).into())
}

impl Handle for Async<TcpStream> {
    fn as_socket(&self) -> SockRef<'_> {
        SockRef::from(self.get_ref())
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.get_ref().peer_addr().ok()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.get_ref().local_addr().ok()
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.get_ref().shutdown(how)
    }

    fn nodelay(&self) -> io::Result<bool> {
        self.get_ref().nodelay()
    }

    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.get_ref().set_nodelay(nodelay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::tests::black_hole,
        options::{Checks, Heartbeat, Role, Settings},
        socket::Socket,
    };
    use futures::executor::block_on;
    use std::net::TcpListener;

    fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn refusing() -> SocketAddr {
        listening().1
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn system_keeps_little_in_front_of_a_ping_only_where_the_peer_is_judged_by_its_pong() {
        let limit_for = |checks, heartbeat| {
            let (listener, address) = listening();
            let stream = Arc::new(Async::<TcpStream>::new(TcpStream::connect(address).unwrap()).unwrap());
            let settings = Settings { checks, heartbeat, ..Settings::new(Role::Client) };
            Socket::new(&stream).prepare_for(&settings);
            drop(listener);
            SockRef::from(stream.get_ref()).tcp_notsent_lowat().unwrap()
        };
        let (ping, pong) = (Heartbeat::ping(STAGGER), Heartbeat::pong(STAGGER));
        let unlimited = limit_for(Checks::Strict, None);
        assert_eq!(limit_for(Checks::Strict, Some(ping)), 128 << 10);
        assert_eq!(limit_for(Checks::Strict, Some(pong)), unlimited);
        assert_eq!(limit_for(Checks::Off, Some(ping)), unlimited);
    }

    #[test]
    fn address_that_refuses_costs_no_time() {
        let (listener, good) = listening();
        let since = now();
        let stream = block_on(connect(vec![refusing(), refusing(), good])).unwrap();
        assert!(now() - since < STAGGER);
        assert_eq!(stream.peer_addr(), Some(good));
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn address_that_does_not_answer_costs_a_quarter_of_a_second_and_is_given_up() {
        let (full, dead) = black_hole();
        let (_listener, good) = listening();
        let since = now();
        let stream = block_on(connect(vec![dead, good])).unwrap();
        assert!((STAGGER..4 * STAGGER).contains(&(now() - since)));
        assert_eq!(stream.peer_addr(), Some(good));
        drop(full);
    }

    #[test]
    fn address_that_refuses_while_another_is_silent_brings_on_the_next_at_once() {
        let (full, dead) = black_hole();
        let (_listener, good) = listening();
        let since = now();
        let stream = block_on(connect(vec![dead, refusing(), good])).unwrap();
        assert!((STAGGER..2 * STAGGER).contains(&(now() - since)));
        assert_eq!(stream.peer_addr(), Some(good));
        drop(full);
    }

    #[test]
    fn failure_of_all_tells_why_of_each() {
        let (first, second) = (refusing(), refusing());
        let error = block_on(connect(vec![first, second])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&first.to_string()) && text.contains(&second.to_string()), "{text}");
        assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn network_that_is_not_there_is_not_the_reason_where_another_is() {
        let failure = |kind: io::ErrorKind| (refusing(), io::Error::from(kind));
        let (missing, refused) = (io::ErrorKind::NetworkUnreachable, io::ErrorKind::ConnectionRefused);
        assert_eq!(summary(&[failure(missing), failure(refused)]).io_kind(), Some(refused));
        assert_eq!(summary(&[failure(missing)]).io_kind(), Some(missing));
    }
}
