//! Wakers that use the connection at once, as executors in callbacks and event loops do, over TLS and without.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[path = "common/tls.rs"]
mod tls;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, ThreadId},
};

use async_io::block_on;
use coro_websocket::{Message, Read, Server, ServerOptions, ServerTls, StreamExt, Write, connect};
use futures::{Sink, Stream, future::join};
use net::PATIENCE;
use tls::{Authority, server_params, trusting};

/// Sends when it is woken by the thread that polls. The system's event queue may keep the waker of a reader that is
/// dropped, so the test takes the writer out at its end.
struct Inline {
    write: Mutex<Option<Write>>,
    thread: ThreadId,
    woken: mpsc::Sender<()>,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if thread::current().id() == self.thread {
            if let Some(write) = &mut *self.write.lock().unwrap() {
                let _ = Pin::new(&mut *write).start_send(Message::text("woken"));
                let _ = Pin::new(write).poll_flush(&mut Context::from_waker(Waker::noop()));
            }
            let _ = self.woken.send(());
        }
    }
}

/// A client's and a server's halves.
fn connected(encrypted: bool) -> [(Read, Write); 2] {
    let authority = Authority::new("wakers");
    let identity = authority.sign(server_params(&["localhost"]));
    let options = ServerOptions::default();
    let options = if encrypted {
        options.tls(ServerTls::pem(identity.certificate_pem, identity.key_pem))
    } else {
        options
    };
    block_on(async {
        let server = Server::bind("127.0.0.1:0", options).await.unwrap();
        let client = net::options(server.local_addr().unwrap());
        let client = if encrypted { client.host("localhost").tls(trusting(&authority)) } else { client };
        let (near, far) = join(connect(client), server.accept()).await;
        let ((_, read, write), (_, far_read, far_write)) = (near.unwrap(), far.unwrap().unwrap());
        [(read, write), (far_read, far_write)]
    })
}

/// Runs the test on its own thread, because it would wait for ever if a lock were held.
fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    let ended = wait.recv_timeout(PATIENCE);
    assert!(!matches!(ended, Err(mpsc::RecvTimeoutError::Timeout)), "a waker ran under a lock");
    thread.join().unwrap();
}

/// The system's event queue wakes the waker whose place another one takes.
#[test]
fn waker_that_another_one_replaces_may_send() {
    for encrypted in [false, true] {
        for server_reads in [false, true] {
            ends(move || {
                let [client, server] = connected(encrypted);
                let ((mut read, write), _far) =
                    if server_reads { (server, client) } else { (client, server) };
                let (woken, wait) = mpsc::channel();
                let thread = thread::current().id();
                let inline = Arc::new(Inline { write: Mutex::new(Some(write)), thread, woken });
                let waker = Waker::from(Arc::clone(&inline));
                for waker in [&waker, Waker::noop(), &waker, Waker::noop()] {
                    let next = Pin::new(&mut read).poll_next(&mut Context::from_waker(waker));
                    assert!(next.is_pending());
                }
                let write = inline.write.lock().unwrap().take();
                drop((wait, write));
            });
        }
    }
}

/// A reader yields to other tasks after many bytes, and then wakes its task from inside the poll.
#[test]
fn waker_of_a_reader_that_gives_way_may_send() {
    const COUNT: usize = 200;
    for encrypted in [false, true] {
        ends(move || {
            let [(mut read, write), (mut far_read, mut far_write)] = connected(encrypted);
            let sending = thread::spawn(move || {
                block_on(async {
                    for _ in 0..COUNT {
                        far_write.send(Message::binary(vec![7; 64 << 10])).await.unwrap();
                    }
                    // Reads the bytes that the waker sends, until the other end is gone.
                    while let Some(Ok(_)) = far_read.next().await {}
                });
            });
            let (woken, _wait) = mpsc::channel();
            let thread = thread::current().id();
            let inline = Arc::new(Inline { write: Mutex::new(Some(write)), thread, woken });
            let waker = Waker::from(Arc::clone(&inline));
            let mut cx = Context::from_waker(&waker);
            let mut frames = 0;
            while frames < COUNT {
                match Pin::new(&mut read).poll_next(&mut cx) {
                    Poll::Ready(Some(Ok(_))) => frames += 1,
                    Poll::Ready(end) => panic!("{end:?}"),
                    Poll::Pending => thread::yield_now(),
                }
            }
            let write = inline.write.lock().unwrap().take();
            drop((read, write));
            sending.join().unwrap();
        });
    }
}
