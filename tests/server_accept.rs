//! Many callers of `accept` and `incoming` at once: none of them depends on another one being polled.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[path = "common/net.rs"]
mod net;

use std::{
    io::Write as _,
    net::TcpStream,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use async_io::{Timer, block_on};
use coro_websocket::{
    Connecting, Error, Options, Read, Reply, Request, Server, ServerOptions, Write, connect,
};
use futures::future::{Either, FutureExt, join, select};
use net::PATIENCE;

type Arriving<'a> = Pin<Box<dyn Future<Output = Result<Option<Connecting>, Error>> + 'a>>;
type Accepted = Result<Option<(Request, Read, Write)>, Error>;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn bind() -> Server {
    block_on(Server::bind("127.0.0.1:0", ServerOptions::default())).unwrap()
}

fn client(server: &Server) -> Options {
    net::options(server.local_addr().unwrap())
}

fn raw(server: &Server) -> TcpStream {
    TcpStream::connect(server.local_addr().unwrap()).unwrap()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), count.into())
    }

    fn is_woken(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// Polls a caller once, which is to wait.
fn hold<F: Future>(future: Pin<&mut F>, waker: &Waker) {
    assert!(future.poll(&mut Context::from_waker(waker)).is_pending());
}

/// Awaits the future with a time limit.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    match select(pin!(future), Timer::after(PATIENCE)).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("not in time, though it was polled all the time"),
    }
}

/// Waits until it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    in_time(async {
        while !is_so() {
            Timer::after(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[test]
fn callers_that_are_not_polled_again_hold_up_no_other_caller() {
    block_on(async {
        let server = bind();
        let held: Vec<_> = (0..10)
            .map(|_| {
                let mut accept = Box::pin(server.accept());
                hold(accept.as_mut(), Waker::noop());
                accept
            })
            .collect();
        for _ in 0..3 {
            let (accepted, connected) = in_time(join(server.accept(), connect(client(&server)))).await;
            assert!(accepted.unwrap().is_some() && connected.is_ok());
        }
        drop(held);
    });
}

/// The client's request comes in pieces, so that the callers are woken several times.
#[test]
fn caller_may_be_left_alone_after_any_of_its_polls() {
    for polls in 1..8 {
        block_on(async {
            let server = bind();
            let mut first = pin!(server.accept());
            let mut stream = raw(&server);
            let mut pieces = REQUEST.chunks(40);
            let mut given = None;
            for _ in 0..polls {
                let (count, waker) = Count::new();
                match first.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(accepted) => given = Some(accepted),
                    Poll::Pending => {
                        let Some(piece) = pieces.next() else { break };
                        stream.write_all(piece).unwrap();
                        until(|| count.is_woken()).await;
                    }
                }
                if given.is_some() {
                    break;
                }
            }
            for piece in pieces {
                stream.write_all(piece).unwrap();
            }
            // The first caller has been woken most often, and is not polled any more.
            let accepted = match given {
                Some(accepted) => accepted,
                None => in_time(server.accept()).await,
            };
            assert!(accepted.unwrap().is_some(), "after {polls}");
        });
    }
}

#[test]
fn every_caller_is_woken_since_one_of_them_may_not_be_polled_again() {
    block_on(async {
        let server = bind();
        let (first, first_waker) = Count::new();
        let (second, second_waker) = Count::new();
        let mut one = pin!(server.accept());
        let mut other = pin!(server.accept());
        hold(one.as_mut(), &first_waker);
        hold(other.as_mut(), &second_waker);
        let _stream = raw(&server);
        until(|| first.is_woken() && second.is_woken()).await;
    });
}

#[test]
fn caller_that_is_dropped_after_it_was_woken_takes_no_client_along() {
    block_on(async {
        let server = bind();
        let (first, waker) = Count::new();
        let mut one = Box::pin(server.accept());
        hold(one.as_mut(), &waker);
        let other = server.accept();
        let dropped = async {
            let near = connect(client(&server));
            let dropping = async {
                until(|| first.is_woken()).await;
                drop(one);
            };
            join(near, dropping).await.0
        };
        let (accepted, connected) = in_time(join(other, dropped)).await;
        assert!(accepted.unwrap().is_some() && connected.is_ok());
    });
}

#[test]
fn each_of_many_callers_gets_one_of_as_many_clients() {
    block_on(async {
        let server = bind();
        let count = 40;
        let accepting = futures::future::join_all((0..count).map(|_| server.accept()));
        let connecting = futures::future::join_all((0..count).map(|_| connect(client(&server))));
        let (accepted, connected) = in_time(join(accepting, connecting)).await;
        assert!(accepted.iter().all(|accepted| matches!(accepted, Ok(Some(_)))));
        assert!(connected.iter().all(Result::is_ok));
        assert_eq!(server.connections(), count);
    });
}

#[test]
fn callers_of_incoming_that_are_not_polled_again_hold_up_no_other_caller() {
    block_on(async {
        let server = bind();
        let mut held: Vec<_> = (0..10).map(|_| Box::pin(server.incoming())).collect();
        for incoming in &mut held {
            hold(incoming.as_mut(), Waker::noop());
        }
        let mut accept = pin!(server.accept());
        hold(accept.as_mut(), Waker::noop());
        let _first = raw(&server);
        let arrived: Result<Option<Connecting>, Error> = in_time(server.incoming()).await;
        assert!(arrived.unwrap().is_some());
        let (accepted, connected) = in_time(join(server.accept(), connect(client(&server)))).await;
        assert!(accepted.unwrap().is_some() && connected.is_ok());
    });
}

/// While a hook runs, its caller has the handshakes. Another caller that looks for them is woken afterwards.
#[test]
fn caller_that_comes_while_a_hook_runs_on_another_thread_is_woken_afterwards() {
    let server = Arc::new(bind());
    let (entered, wait_entered) = mpsc::channel();
    let (leave, wait_leave) = mpsc::channel();
    let wait_leave = std::sync::Mutex::new(wait_leave);
    server.set_proxy_handshake(move |request, accept| {
        if request.path() == "/slow" {
            entered.send(()).unwrap();
            wait_leave.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Ok(accept)
    });
    let slow = std::thread::spawn({
        let server = Arc::clone(&server);
        move || block_on(join(server.accept(), connect(client(&server).pathname("/slow"))))
    });
    wait_entered.recv_timeout(PATIENCE).unwrap();
    block_on(async {
        let (count, waker) = Count::new();
        let mut accept = pin!(server.accept());
        hold(accept.as_mut(), &waker);
        let mut near = pin!(connect(client(&server)));
        assert!((&mut near).now_or_never().is_none());
        leave.send(()).unwrap();
        until(|| count.is_woken()).await;
        let (accepted, connected) = in_time(join(accept, near)).await;
        assert!(accepted.unwrap().is_some() && connected.is_ok());
    });
    let (accepted, connected) = slow.join().unwrap();
    assert!(accepted.unwrap().is_some() && connected.is_ok());
}

#[test]
fn hook_may_call_accept_and_close() {
    let server = Arc::new(bind());
    let weak = Arc::downgrade(&server);
    server.set_proxy_handshake(move |_, _| {
        let server = weak.upgrade().unwrap();
        assert!(server.accept().now_or_never().is_none());
        server.close();
        assert!(matches!(server.accept().now_or_never(), Some(Ok(None))));
        Err(Reply::text(503, "closing\n"))
    });
    block_on(async {
        let near = pin!(connect(client(&server)));
        let accepted: Accepted = match in_time(select(Box::pin(server.accept()), near)).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right((connected, accept)) => {
                assert!(connected.is_err());
                in_time(accept).await
            }
        };
        assert!(accepted.unwrap().is_none());
        assert_eq!(server.connections(), 0);
    });
}

/// A waker that panics, as one of an executor that is shut down does.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("this is part of the test");
    }
}

#[test]
fn waker_that_panics_keeps_no_other_caller_from_being_woken() {
    let server = bind();
    let mut first = pin!(server.accept());
    let mut second = pin!(server.accept());
    let (count, waker) = Count::new();
    hold(first.as_mut(), &Arc::new(Panics).into());
    hold(second.as_mut(), &waker);
    server.close();
    assert!(count.is_woken());
    let accepted = block_on(second).unwrap();
    assert!(accepted.is_none());
}

/// Polls a caller whose waker panics, then one whose waker counts.
fn two_incoming(server: &Server) -> ([Arriving<'_>; 2], Arc<Count>) {
    let (count, good) = Count::new();
    let mut callers: [Arriving<'_>; 2] = [Box::pin(server.incoming()), Box::pin(server.incoming())];
    for (caller, waker) in callers.iter_mut().zip([Waker::from(Arc::new(Panics)), good]) {
        assert!(caller.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    (callers, count)
}

#[test]
fn a_waker_that_panics_keeps_no_other_caller_from_learning_of_the_end() {
    let server = bind();
    let (mut callers, count) = two_incoming(&server);
    server.close();
    assert!(count.is_woken());
    for caller in &mut callers {
        assert!(matches!(caller.as_mut().now_or_never(), Some(Ok(None))));
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_caller_from_a_seat_that_is_free_again() {
    let options = ServerOptions::default().max_connections(1);
    let server = block_on(Server::bind("127.0.0.1:0", options)).unwrap();
    let (accepted, connected) = block_on(join(server.accept(), connect(client(&server))));
    let (callers, count) = two_incoming(&server);
    drop(accepted.unwrap());
    assert!(count.is_woken());
    drop((callers, connected.unwrap()));
}

/// Calls the server from inside of a wake-up.
struct Asks(Arc<Server>);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        assert!(self.0.incoming().now_or_never().is_some_and(|arrived| arrived.is_ok()));
    }
}

#[test]
fn a_waker_that_calls_the_server_causes_no_deadlock() {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let server = Arc::new(bind());
        let mut caller = Box::pin(server.incoming());
        let waker = Waker::from(Arc::new(Asks(Arc::clone(&server))));
        assert!(caller.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        server.close();
        assert!(matches!(caller.now_or_never(), Some(Ok(None))));
        let _ = done.send(());
    });
    if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("deadlock");
    }
    thread.join().unwrap();
}
