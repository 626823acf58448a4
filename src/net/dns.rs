//! Names to addresses.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::LazyLock,
};

use super::lane::Lane;
use crate::error::{Error, Quoted};

/// Blocking lookups by the system, at most 64 at once: an eighth of the default size of the shared thread pool.
static LOOKUPS: LazyLock<Lane> = LazyLock::new(|| Lane::new(64));

/// A separate lane for `localhost`, which needs no name server and so does not wait behind lookups that may hang.
static LOCAL_LOOKUPS: LazyLock<Lane> = LazyLock::new(|| Lane::new(4));

#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) addresses: Vec<SocketAddr>,
    /// `true` if the host is a name, which was looked up.
    pub(super) asked: bool,
}

/// Returns all addresses of the host, in the order in which to try them. An address needs no lookup. A name is looked
/// up on another thread; a lookup that has begun continues after the future is dropped.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Lookup, Error> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Ok(Lookup { addresses: vec![SocketAddr::new(address, port)], asked: false });
    }
    let failed = |error: io::Error| {
        let why = format!("the host {} has no address: {error}", Quoted(host.as_bytes()));
        Error::Resolve(io::Error::new(error.kind(), why).into())
    };
    let name = host.to_owned();
    let lane = if bare.eq_ignore_ascii_case("localhost") { &LOCAL_LOOKUPS } else { &LOOKUPS };
    let looked_up = lane.run(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    let found = looked_up.await.and_then(|found| found).map_err(failed)?;
    if found.is_empty() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    Ok(Lookup { addresses: interleave(found), asked: true })
}

/// The families take turns, so that one that does not work costs one attempt, not all of them
/// ([RFC 8305 §4](https://www.rfc-editor.org/rfc/rfc8305#section-4)). The system knows which is to be first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return addresses };
    let like_first = first.is_ipv4();
    let (these, those): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == like_first);
    let (mut these, mut those) = (these.into_iter(), those.into_iter());
    let mut turns = Vec::with_capacity(these.len() + those.len());
    loop {
        let (this, that) = (these.next(), those.next());
        if this.is_none() && that.is_none() {
            return turns;
        }
        turns.extend(this.into_iter().chain(that));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Mutex, lock};
    use futures::{
        executor::block_on,
        future::{FutureExt, join_all},
    };
    use std::sync::Arc;

    #[test]
    fn address_is_not_looked_up() {
        for (host, port) in [("127.0.0.1", 80), ("::1", 0), ("[::1]", 443)] {
            let found = resolve(host, port).now_or_never().unwrap().unwrap();
            assert!(!found.asked && found.addresses.len() == 1, "{host}");
            assert!(found.addresses[0].ip().is_loopback() && found.addresses[0].port() == port);
        }
    }

    #[test]
    fn name_server_that_never_answers_does_not_hold_up_localhost() {
        let silence = Arc::new(Mutex::new(()));
        let held = lock(&silence);
        let lookups = || {
            let silence = Arc::clone(&silence);
            let mut lookup = Box::pin(LOOKUPS.run(move || drop(lock(&silence))));
            assert!((&mut lookup).now_or_never().is_none());
            lookup
        };
        let lookups: Vec<_> = (0..100).map(|_| lookups()).collect();
        let local = ["localhost", "LocalHost"].map(|host| Box::pin(resolve(host, 80)));
        for found in block_on(join_all(local)) {
            assert!(found.unwrap().addresses.iter().all(|address| address.ip().is_loopback()));
        }
        drop(held);
        block_on(join_all(lookups));
    }

    #[test]
    fn families_take_turns_and_lose_nobody() {
        let v4 = |last| SocketAddr::from(([10, 0, 0, last], 80));
        let v6 = |last| SocketAddr::from(([1, 0, 0, 0, 0, 0, 0, last], 80));
        for (given, expected) in [
            (vec![], vec![]),
            (vec![v4(1)], vec![v4(1)]),
            (vec![v4(1), v4(2)], vec![v4(1), v4(2)]),
            (vec![v6(1), v6(2), v6(3), v4(1), v4(2)], vec![v6(1), v4(1), v6(2), v4(2), v6(3)]),
            (vec![v4(1), v6(1), v6(2), v6(3)], vec![v4(1), v6(1), v6(2), v6(3)]),
        ] {
            assert_eq!(interleave(given), expected);
        }
    }
}
