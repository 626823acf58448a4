//! Files with certificates and keys: files that give no data, and busy threads.
#![cfg(all(unix, feature = "tls"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[path = "common/tls.rs"]
mod tls;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_io::block_on;
use coro_websocket::{Error, Options, Phase, Server, ServerOptions, ServerTls, Tls, connect};
use futures::{
    FutureExt,
    future::{join, join_all},
};
use tls::{Authority, server_params};

/// The tests share the threads of the process, so one runs after the other.
static TURN: Mutex<()> = Mutex::new(());

/// A folder with an authority's certificate, a server's certificate and key, and a FIFO that nothing is written to.
struct Folder(PathBuf, #[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

impl Folder {
    fn new(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("coro-websocket-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Authority::new(name);
        let identity = authority.sign(server_params(&["localhost"]));
        std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(folder.join("chain.pem"), &identity.certificate_pem).unwrap();
        std::fs::write(folder.join("key.pem"), &identity.key_pem).unwrap();
        assert!(Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
        Self(folder, turn)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn server(&self) -> ServerTls {
        ServerTls::files(self.file("chain.pem"), self.file("key.pem"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Whatever still waits for the FIFO reads its end.
        let fifo = std::fs::OpenOptions::new().read(true).write(true).open(self.file("fifo"));
        let _ = std::fs::remove_dir_all(&self.0);
        drop(fifo);
    }
}

fn bind(tls: ServerTls) -> Server {
    block_on(Server::bind("127.0.0.1:0", ServerOptions::default().tls(tls))).unwrap()
}

fn trusting(file: impl AsRef<Path>) -> Tls {
    Tls::default().web_roots(false).ca_file(file.as_ref()).server_name("localhost")
}

fn client(server: &Server, tls: Tls) -> Options {
    net::options(server.local_addr().unwrap()).tls(tls)
}

fn connects(server: &Server, options: Options) {
    let (accepted, connected) = block_on(join(server.accept(), connect(options)));
    assert!(accepted.unwrap().is_some());
    connected.unwrap();
}

#[test]
fn file_that_cannot_be_read_in_time_is_not_taken_for_a_slow_handshake() {
    let folder = Folder::new("phase");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let fifo = folder.file("fifo");
    for tls in [
        trusting(&fifo),
        trusting(folder.file("ca.pem")).client_cert_file(&fifo, folder.file("key.pem")),
        trusting(folder.file("ca.pem")).client_cert_file(folder.file("chain.pem"), &fifo),
    ] {
        let options = net::options(listener.local_addr().unwrap()).tls(tls);
        let error = block_on(connect(options.timeout(Duration::from_millis(20)))).unwrap_err();
        assert!(matches!(error, Error::TimedOut(Phase::Files)), "{error:?}");
        assert!(error.to_string().contains("files"), "{error}");
    }
    assert!(listener.accept().is_err(), "nothing was connected");
}

/// A FIFO, as a shell makes it for `<(command)`.
#[test]
fn certificates_may_come_from_a_fifo() {
    let folder = Folder::new("fifo");
    let server = bind(folder.server());
    let (fifo, ca) = (folder.file("fifo"), std::fs::read(folder.file("ca.pem")).unwrap());
    let writing = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::write(fifo, ca).unwrap()
    });
    connects(&server, client(&server, trusting(fifo)));
    writing.join().unwrap();
}

/// Holds even after more reads were given up than the process has threads for.
#[test]
fn files_that_give_nothing_hold_up_neither_other_files_nor_lookups() {
    let folder = Folder::new("many");
    let options = Options::default().host("127.0.0.1").port(1).tls(trusting(folder.file("fifo")));
    let options = options.timeout(Duration::from_millis(100));
    for given_up in block_on(join_all((0..600).map(|_| connect(options.clone())))) {
        assert!(given_up.is_err());
    }
    let server = bind(folder.server());
    connects(&server, client(&server, trusting(folder.file("ca.pem"))));
    // A thread of the pool is there for this.
    let server = block_on(Server::bind("localhost:0", ServerOptions::default())).unwrap();
    connects(&server, net::options(server.local_addr().unwrap()).host("localhost"));
}

/// The threads that the process shares are all busy with other work, such as lookups of another library.
#[test]
fn neither_addresses_nor_files_on_disk_wait_for_the_threads_that_the_process_shares() {
    let folder = Folder::new("busy");
    let door = Arc::new((Mutex::new(false), Condvar::new()));
    let busy: Vec<_> = (0..1000)
        .map(|_| {
            let door = Arc::clone(&door);
            blocking::unblock(move || {
                let (open, opened) = &*door;
                drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            })
        })
        .collect();
    let server = Server::bind("127.0.0.1:0", ServerOptions::default().tls(folder.server()));
    let server = server.now_or_never().expect("at once").unwrap();
    let identity =
        trusting(folder.file("ca.pem")).client_cert_file(folder.file("chain.pem"), folder.file("key.pem"));
    for tls in [trusting(folder.file("ca.pem")), identity] {
        connects(&server, client(&server, tls));
    }
    *door.0.lock().unwrap() = true;
    door.1.notify_all();
    block_on(join_all(busy));
}
