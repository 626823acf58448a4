//! `serve`: what a handler may do with the halves, and when its connection is closed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "common/net.rs"]
mod net;
#[cfg(feature = "tls")]
#[path = "common/tls.rs"]
mod tls;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_io::{Timer, block_on};
use coro_websocket::{
    CloseCode, CloseFrame, Data, Error, Handler, Message, Options, Read, Request, Server, ServerOptions,
    StreamExt, Write, connect, serve, serve_handler,
};
use futures::{
    channel::mpsc,
    future::{Either, pending, select},
};
use net::PATIENCE;

/// Awaits the future with a time limit.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    match select(pin!(future), Timer::after(PATIENCE)).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("not in time"),
    }
}

/// Serves with this handler while the client runs.
fn served<T>(
    options: ServerOptions,
    handler: impl AsyncFn(Request, Read, Write) -> Result<(), Error>,
    client: impl AsyncFnOnce(&Server, Options) -> T,
) -> T {
    block_on(async {
        let server = Server::bind("127.0.0.1:0", options).await.unwrap();
        let options = net::options(server.local_addr().unwrap());
        match select(pin!(serve(&server, handler)), pin!(in_time(client(&server, options)))).await {
            Either::Left((ended, _)) => panic!("{ended:?}"),
            Either::Right((output, _)) => output,
        }
    })
}

/// The last message before the end, and whether the end was an error.
async fn end(read: &mut Read) -> (Option<Message>, Option<Error>) {
    let mut last = None;
    while let Some(message) = read.next().await {
        match message {
            Ok(message) => last = Some(message),
            Err(error) => return (last, Some(error)),
        }
    }
    (last, None)
}

async fn until_gone(server: &Server) {
    while server.connections() > 0 {
        Timer::after(Duration::from_millis(1)).await;
    }
}

#[test]
fn dropping_both_halves_closes_the_connection_while_the_handler_is_pending() {
    let handler = async |request: Request, mut read: Read, write: Write| {
        match request.path() {
            "/read-first" => {
                drop(read);
                drop(write);
            }
            "/write-first" => {
                drop(write);
                drop(read);
            }
            "/clones" => {
                let clones = vec![write.clone(); 3];
                drop((read, write, clones));
            }
            "/after-a-while" => {
                let _ = read.next().await;
                drop((read, write));
            }
            other => panic!("{other}"),
        }
        pending().await
    };
    for path in ["/read-first", "/write-first", "/clones", "/after-a-while"] {
        served(ServerOptions::default(), handler, async |server, options| {
            let (_, mut read, mut write) = connect(options.pathname(path)).await.unwrap();
            if path == "/after-a-while" {
                write.text("hello").await.unwrap();
            }
            let (last, error) = end(&mut read).await;
            assert!(last.is_none() && matches!(error, Some(Error::Lost | Error::Io(_))), "{path} {error:?}");
            until_gone(server).await;
        });
    }
}

/// The handler is not polled meanwhile.
#[test]
fn halves_that_are_dropped_elsewhere_close_the_connection_at_once() {
    let (send, receive) = mpsc::unbounded();
    let handler = async |_: Request, read: Read, write: Write| {
        send.unbounded_send((read, write)).unwrap();
        pending().await
    };
    served(ServerOptions::default(), handler, async |server, options| {
        let mut receive = receive;
        let (_, mut near, _write) = connect(options).await.unwrap();
        let (read, write) = receive.next().await.unwrap();
        let clone = write.clone();
        drop((read, write));
        assert_eq!(server.connections(), 1);
        drop(clone);
        assert_eq!(server.connections(), 0);
        let (last, error) = end(&mut near).await;
        assert!(last.is_none() && error.is_some());
    });
}

/// A clone that is kept elsewhere, such as in a room of a chat.
#[test]
fn clone_that_is_kept_elsewhere_keeps_the_connection_until_the_handler_is_done() {
    let (send, receive) = mpsc::unbounded();
    let (finish, finished) = async_channel();
    let handler = async |_: Request, mut read: Read, write: Write| {
        send.unbounded_send(write.clone()).unwrap();
        assert_eq!(read.next().await.unwrap()?.as_text(), Some("hello"));
        drop((read, write));
        finished.recv().await;
        Ok(())
    };
    served(ServerOptions::default(), handler, async |server, options| {
        let mut receive = receive;
        let (_, mut near, mut near_write) = connect(options).await.unwrap();
        let mut clone = receive.next().await.unwrap();
        near_write.text("hello").await.unwrap();
        clone.text("still open").await.unwrap();
        assert_eq!(near.next().await.unwrap().unwrap().as_text(), Some("still open"));
        assert_eq!(server.connections(), 1);
        finish.send();
        let close = near.next().await.unwrap().unwrap();
        assert_eq!(close.as_close().unwrap().unwrap().code, CloseCode::NORMAL);
        drop(clone);
        until_gone(server).await;
    });
}

#[test]
fn one_half_works_on_while_the_other_one_is_dropped() {
    let handler = async |request: Request, mut read: Read, mut write: Write| {
        if request.path() == "/writes" {
            drop(read);
            write.text("one").await?;
            Timer::after(Duration::from_millis(5)).await;
            write.text("two").await?;
        } else {
            drop(write);
            // Pings are answered, and messages are read.
            while read.next().await.unwrap()?.as_text().is_none() {}
        }
        Ok(())
    };
    served(ServerOptions::default(), handler, async |server, options| {
        let (_, mut read, _write) = connect(options.clone().pathname("/writes")).await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("one"));
        assert_eq!(read.next().await.unwrap().unwrap().as_text(), Some("two"));
        assert_eq!(read.next().await.unwrap().unwrap().as_close().unwrap().unwrap().code, CloseCode::NORMAL);
        let (_, mut read, mut write) = connect(options.pathname("/reads")).await.unwrap();
        write.send(Message::ping("?")).await.unwrap();
        assert!(read.next().await.unwrap().unwrap().opcode == coro_websocket::Opcode::PONG);
        write.text("hello").await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().as_close().unwrap().unwrap().code, CloseCode::NORMAL);
        drop((read, write));
        until_gone(server).await;
    });
}

#[cfg(feature = "tls")]
#[test]
fn dropping_both_halves_closes_an_encrypted_connection_while_the_handler_is_pending() {
    let authority = tls::Authority::new("serve");
    let identity = authority.sign(tls::server_params(&["localhost"]));
    let options = ServerOptions::default()
        .tls(coro_websocket::ServerTls::pem(identity.certificate_pem, identity.key_pem));
    let handler = async |_: Request, read: Read, write: Write| {
        drop((read, write));
        pending().await
    };
    served(options, handler, async |server, options| {
        let options = options.host("localhost").tls(tls::trusting(&authority));
        let (_, mut read, _write) = connect(options).await.unwrap();
        let (last, error) = end(&mut read).await;
        assert!(last.is_none() && error.is_some());
        until_gone(server).await;
    });
}

/// A handler's future of the caller's own that is done while it still has the halves.
struct Done(Option<(Read, Write)>);

impl Future for Done {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.0.is_some());
        Poll::Ready(Ok(()))
    }
}

#[test]
fn handler_that_is_done_at_once_leaves_a_close() {
    let check = async |_: &Server, options: Options| {
        let (_, mut read, _write) = connect(options).await.unwrap();
        let (last, _) = end(&mut read).await;
        assert_eq!(last.unwrap().as_close().unwrap().unwrap().code, CloseCode::NORMAL);
    };
    served(ServerOptions::default(), async |_, _, _| Ok(()), check);
    served(ServerOptions::default(), async |_, read, write| Done(Some((read, write))).await, check);
}

/// A channel of one signal, for handlers that are called by reference.
struct Signal(event_listener::Event, AtomicUsize);

fn async_channel() -> (Arc<Signal>, Arc<Signal>) {
    let signal = Arc::new(Signal(event_listener::Event::new(), AtomicUsize::new(0)));
    (Arc::clone(&signal), signal)
}

impl Signal {
    fn send(&self) {
        self.1.store(1, Ordering::SeqCst);
        self.0.notify(usize::MAX);
    }

    async fn recv(&self) {
        let listening = self.0.listen();
        if self.1.load(Ordering::SeqCst) == 0 {
            listening.await;
        }
    }
}

/// Callbacks that take their time, or panic, once the connection is over.
struct Slow {
    calls: Arc<Mutex<Vec<&'static str>>>,
    finish: Arc<Signal>,
    panics: bool,
}

impl Handler for Slow {
    async fn on_message(&mut self, _: &mut Write, _: Data) -> Result<(), Error> {
        Err(Error::Lost)
    }

    async fn on_error(&mut self, _: &Error) {
        self.calls.lock().unwrap().push("on_error");
        assert!(!self.panics, "this is part of the test");
        self.finish.recv().await;
    }

    async fn on_close(&mut self, _: Option<CloseFrame>) {
        self.calls.lock().unwrap().push("on_close");
        assert!(!self.panics, "this is part of the test");
    }
}

fn called_back(panics: bool) -> (Vec<&'static str>, usize) {
    let calls = Arc::<Mutex<Vec<_>>>::default();
    let failures = Arc::<AtomicUsize>::default();
    let failed = Arc::clone(&failures);
    let options = ServerOptions::default().on_failure(move |_, _| {
        failed.fetch_add(1, Ordering::SeqCst);
    });
    let (finish, finished) = async_channel();
    block_on(async {
        let server = Server::bind("127.0.0.1:0", options).await.unwrap();
        let options = net::options(server.local_addr().unwrap());
        let make = || Slow { calls: Arc::clone(&calls), finish: Arc::clone(&finished), panics };
        let client = async {
            let (_, mut read, mut write) = connect(options).await.unwrap();
            write.text("fail").await.unwrap();
            let (last, _) = end(&mut read).await;
            assert_eq!(last.unwrap().as_close().unwrap().unwrap().code, CloseCode::INTERNAL_ERROR);
            // Also while the callback is pending.
            until_gone(&server).await;
            finish.send();
            server.close();
        };
        let (served, ()) = futures::join!(serve_handler(&server, make), in_time(client));
        served.unwrap();
    });
    (calls.lock().unwrap().clone(), failures.load(Ordering::SeqCst))
}

#[test]
fn connection_is_closed_before_the_last_callbacks_are_done() {
    assert_eq!(called_back(false), (vec!["on_error", "on_close"], 1));
}

#[test]
fn callback_that_panics_at_the_end_takes_neither_the_next_one_nor_the_error_along() {
    assert_eq!(called_back(true), (vec!["on_error", "on_close"], 1));
}
