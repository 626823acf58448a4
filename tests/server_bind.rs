//! Addresses and files that a server listens on: both families on one port, and whose file a unix socket's is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[path = "common/net.rs"]
mod net;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    pin::pin,
};

use async_io::block_on;
use coro_websocket::{Addresses, Error, Options, Server, ServerOptions, connect};
use futures::future::{Either, join, select};

/// A port that is free in both families.
fn free_port() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn bind(places: impl Into<Addresses>) -> Result<Server, Error> {
    block_on(Server::bind(places, ServerOptions::default()))
}

/// The client's address as the server sees it.
fn seen(server: &Server, options: Options) -> Option<IpAddr> {
    block_on(async {
        let (accepted, connected) = join(server.accept(), connect(options)).await;
        connected.unwrap();
        accepted.unwrap().unwrap().0.peer_addr().map(|peer| peer.ip())
    })
}

fn at(host: impl Into<IpAddr>, port: u16) -> Options {
    net::options((host.into(), port).into())
}

#[test]
fn both_families_listen_on_one_port_in_any_order_and_form() {
    let port = free_port();
    let (v4, v6) = (SocketAddr::from(([0; 4], port)), SocketAddr::from(([0_u16; 8], port)));
    let pairs: [[Addresses; 2]; 6] = [
        [v4.into(), v6.into()],
        [v4.to_string().into(), v6.to_string().into()],
        [("0.0.0.0", port).into(), ("::", port).into()],
        [(v4.ip(), port).into(), (v6.ip(), port).into()],
        [format!("ws://0.0.0.0:{port}").into(), format!("ws://[::]:{port}").into()],
        [("127.0.0.1", port).into(), ("::", port).into()],
    ];
    for [first, second] in pairs {
        for places in [[first.clone(), second.clone()], [second.clone(), first.clone()]] {
            let server = bind(places).unwrap();
            assert_eq!(server.local_addrs().len(), 2);
            // Each family has the socket of its own.
            assert_eq!(seen(&server, at(Ipv4Addr::LOCALHOST, port)), Some(Ipv4Addr::LOCALHOST.into()));
            assert_eq!(seen(&server, at(Ipv6Addr::LOCALHOST, port)), Some(Ipv6Addr::LOCALHOST.into()));
        }
    }
}

#[test]
fn unspecified_ipv6_address_alone_takes_both_families() {
    // Another port with IPv4 changes nothing.
    for places in [vec!["[::]:0"], vec!["[::]:0", "127.0.0.1:0"]] {
        let server = bind(places).unwrap();
        let port = server.local_addr().unwrap().port();
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        assert_eq!(seen(&server, at(Ipv4Addr::LOCALHOST, port)), Some(mapped.into()));
        assert_eq!(seen(&server, at(Ipv6Addr::LOCALHOST, port)), Some(Ipv6Addr::LOCALHOST.into()));
    }
}

#[test]
fn error_names_an_ipv6_address_in_brackets() {
    let busy = TcpListener::bind("[::1]:0").unwrap();
    let address = busy.local_addr().unwrap();
    let places: [Addresses; 5] = [
        address.into(),
        address.to_string().into(),
        ("::1", address.port()).into(),
        (address.ip(), address.port()).into(),
        format!("ws://{address}").into(),
    ];
    for place in places {
        let error = bind(place).unwrap_err();
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::AddrInUse));
        assert!(error.to_string().contains(&format!("[::1]:{}", address.port())), "{error}");
    }
}

#[cfg(unix)]
mod files {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::{
        io::ErrorKind,
        os::unix::net::{UnixListener, UnixStream},
        path::PathBuf,
        sync::{Arc, Barrier},
        thread,
    };

    /// A folder of its own for each test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("coro-websocket-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("socket")
        }

        /// A socket whose process was killed.
        fn abandon(&self) {
            drop(UnixListener::bind(self.path()).unwrap());
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn is_in_use(bound: &Result<Server, Error>) -> bool {
        matches!(bound, Err(error) if error.io_kind() == Some(ErrorKind::AddrInUse))
    }

    #[test]
    fn socket_that_is_bound_is_left_alone_whether_or_not_it_listens() {
        let folder = Folder::new("bound");
        let path = folder.path();
        for r#type in [Type::STREAM, Type::DGRAM, Type::SEQPACKET] {
            let socket = Socket::new(Domain::UNIX, r#type, None).unwrap();
            socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
            assert!(is_in_use(&bind(path.clone())), "{type:?}");
            if r#type == Type::STREAM {
                socket.listen(1).unwrap();
                assert!(is_in_use(&bind(path.clone())));
                // The socket is still found by its path, and has accepted only this client.
                socket.set_nonblocking(true).unwrap();
                assert_eq!(socket.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
                let _client = UnixStream::connect(&path).unwrap();
                socket.accept().unwrap();
            }
            drop(socket);
            // Now it is abandoned.
            drop(bind(path.clone()).unwrap());
            assert!(!path.exists());
        }
    }

    #[test]
    fn abandoned_socket_is_replaced_only_where_addresses_are_reused() {
        let folder = Folder::new("reuse");
        folder.abandon();
        let options = ServerOptions::default().reuse_address(false);
        assert!(is_in_use(&block_on(Server::bind(folder.path(), options))));
        assert!(folder.path().exists());
        bind(folder.path()).unwrap();
    }

    #[test]
    fn of_servers_that_replace_an_abandoned_socket_at_once_one_has_it() {
        let folder = Folder::new("race");
        for _ in 0..500 {
            folder.abandon();
            let barrier = Arc::new(Barrier::new(4));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (barrier, path) = (Arc::clone(&barrier), folder.path());
                    thread::spawn(move || {
                        barrier.wait();
                        bind(path)
                    })
                })
                .collect();
            let bound: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let servers: Vec<_> = bound.into_iter().filter(|bound| !is_in_use(bound)).collect();
            let [Ok(server)] = &servers[..] else { panic!("{servers:?}") };
            assert_eq!(seen(server, Options::default().path(folder.path())), None);
        }
    }

    #[test]
    fn folder_that_another_process_keeps_locked_is_an_error_and_nothing_is_replaced() {
        let folder = Folder::new("locked");
        folder.abandon();
        let lock = std::fs::File::open(&folder.0).unwrap();
        lock.lock().unwrap();
        assert!(is_in_use(&bind(folder.path())));
        assert!(folder.path().exists());
        drop(lock);
        bind(folder.path()).unwrap();
    }

    #[test]
    fn file_is_removed_when_the_server_is_closed_whatever_of_it_lives_on() {
        let folder = Folder::new("closed");
        let path = folder.path();
        let server = bind(path.clone()).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let connecting = block_on(server.incoming()).unwrap().unwrap();
        let mut waiting = pin!(server.accept());
        assert!(futures::FutureExt::now_or_never(&mut waiting).is_none());
        server.close();
        assert!(!path.exists());
        // The file that takes its place is not removed by the remaining handshakes.
        let next = bind(path.clone()).unwrap();
        drop(connecting);
        assert!(path.exists());
        assert_eq!(seen(&next, Options::default().path(&path)), None);
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn file_that_another_has_put_in_its_place_is_left_alone_by_close() {
        let folder = Folder::new("replaced");
        let path = folder.path();
        let server = bind(path.clone()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        server.close();
        drop(server);
        assert!(path.exists());
        let _client = UnixStream::connect(&path).unwrap();
        other.accept().unwrap();
    }

    #[test]
    fn file_is_removed_when_another_place_of_the_list_cannot_be_bound() {
        let folder = Folder::new("list");
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let places: [Addresses; 2] = [folder.path().into(), busy.local_addr().unwrap().into()];
        assert!(is_in_use(&bind(places)));
        assert!(!folder.path().exists());
    }

    /// A client that is in the handshake does not end with the server; `select` drops the rest.
    #[test]
    fn connecting_client_goes_on_after_the_server_is_closed() {
        let folder = Folder::new("goes-on");
        let server = bind(folder.path()).unwrap();
        block_on(async {
            let near = pin!(connect(Options::default().path(folder.path())));
            let arriving = pin!(server.incoming());
            let (connecting, near) = match select(arriving, near).await {
                Either::Left((arrived, near)) => (arrived.unwrap().unwrap(), near),
                Either::Right(_) => panic!("nothing was accepted"),
            };
            server.close();
            let accepted = async { connecting.await.unwrap().accept(Default::default()).await };
            let (accepted, connected) = join(accepted, near).await;
            assert!(accepted.is_ok() && connected.is_ok());
        });
    }
}
