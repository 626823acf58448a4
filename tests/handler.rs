//! A server that calls back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "common/net.rs"]
mod net;

use std::sync::{Arc, Mutex};

use coro_websocket::{
    CloseCode, CloseFrame, Data, Error, Handler, Options, Reply, Request, Response, Server, ServerOptions,
    StreamExt, Write, connect, serve_handler,
};
use futures::{executor::block_on, future::join};

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what is called.
struct Logged(Log);

impl Logged {
    fn log(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
}

impl Handler for Logged {
    fn subprotocol(&mut self, offered: &[&str]) -> Option<String> {
        self.log(format!("subprotocol {offered:?}"));
        offered.last().map(|chosen| (*chosen).to_owned())
    }

    async fn prepare(&mut self, request: &Request) -> Result<(), Reply> {
        self.log(format!("prepare {}", request.path()));
        if request.path() == "/no" { Err(Reply::text(403, "no\n")) } else { Ok(()) }
    }

    async fn open(&mut self, write: &mut Write, request: &Request) -> Result<(), Error> {
        self.log(format!("open {:?}", request.query()));
        write.text("welcome").await?;
        Ok(())
    }

    async fn on_message(&mut self, write: &mut Write, message: Data) -> Result<(), Error> {
        self.log(format!("on_message {message:?}"));
        match message.as_text() {
            Some("fail") => Err(Error::Lost),
            Some("panic") => panic!("part of the test"),
            Some("close") => write.close_with(4000, "enough").await,
            _ => write.feed(message).await,
        }
    }

    async fn on_error(&mut self, error: &Error) {
        self.log(format!("on_error {error}"));
    }

    async fn on_close(&mut self, said: Option<CloseFrame>) {
        self.log(format!("on_close {:?}", said.map(|said| (said.code, said.reason.to_string()))));
    }
}

/// Says something, takes an answer, and closes; or takes what comes instead. Gives the handshake's answer and how the
/// server closed.
async fn talk(options: Options, text: &str) -> Result<(Response, Option<CloseCode>), Error> {
    let (response, mut read, mut write) = connect(options).await?;
    assert_eq!(read.next().await.unwrap()?.as_text(), Some("welcome"));
    write.text(text).await?;
    if read.next().await.unwrap()?.as_text() == Some(text) {
        write.close_with(1000, "bye").await?;
        while let Some(message) = read.next().await {
            message?;
        }
    }
    Ok((response, read.close_frames().received.map(|close| close.code)))
}

/// Serves while the clients do what they do. Gives what was called, and what the server says went wrong.
fn called(clients: impl AsyncFnOnce(Options)) -> (Vec<String>, Vec<String>) {
    let (log, failures) = (Log::default(), Log::default());
    let failed = Arc::clone(&failures);
    let options =
        ServerOptions::default().on_failure(move |_, error| failed.lock().unwrap().push(error.to_string()));
    block_on(async {
        let server = Server::bind("127.0.0.1:0", options).await.unwrap();
        server.set_proxy_handshake(|request, accept| match request.path() {
            "/hook" => Err(Reply::text(418, "no\n")),
            _ => Ok(accept.header("X-Seen", "yes")),
        });
        let done = async {
            clients(net::options(server.local_addr().unwrap())).await;
            server.close();
        };
        let (served, ()) = join(serve_handler(&server, || Logged(Arc::clone(&log))), done).await;
        served.unwrap();
        assert_eq!(server.connections(), 0);
    });
    let take = |log: Log| std::mem::take(&mut *log.lock().unwrap());
    (take(log), take(failures))
}

#[test]
fn callbacks_come_in_the_order_of_turbo() {
    let (calls, failures) = called(async |options| {
        let offers = options.pathname("/chat?room=1").subprotocols(["a", "b"]);
        let (response, close) = talk(offers, "hello").await.unwrap();
        assert_eq!((response.subprotocol(), response.header("x-seen")), (Some("b"), Some("yes")));
        assert_eq!(close, Some(CloseCode::NORMAL));
    });
    let expected = [
        r#"subprotocol ["a", "b"]"#,
        "prepare /chat",
        r#"open Some("room=1")"#,
        r#"on_message Text("hello")"#,
        r#"on_close Some((CloseCode(1000), "bye"))"#,
    ];
    assert_eq!(calls, expected);
    assert!(failures.is_empty());
}

#[test]
fn whom_prepare_refuses_is_not_opened() {
    let (calls, failures) = called(async |options| {
        for (path, status) in [("/no", 403), ("/hook", 418)] {
            let refused = connect(options.clone().pathname(path)).await.unwrap_err();
            assert_eq!(refused.response().unwrap().code(), status);
        }
    });
    assert_eq!(calls, ["prepare /no"], "what the hook has answered is not asked again");
    assert!(failures.is_empty());
}

#[test]
fn what_fails_closes_with_1011_and_is_over_once() {
    for (text, error) in [("fail", true), ("panic", false)] {
        let (calls, failures) = called(async |options| {
            let (_, close) = talk(options.clone(), text).await.unwrap();
            assert_eq!(close, Some(CloseCode::INTERNAL_ERROR));
            // Others do not notice.
            let (_, close) = talk(options, "hello").await.unwrap();
            assert_eq!(close, Some(CloseCode::NORMAL));
        });
        let on_error = format!("on_error {}", Error::Lost);
        let first: Vec<_> = calls.iter().take_while(|call| !call.starts_with("on_close")).collect();
        assert_eq!(first.contains(&&on_error), error, "{calls:?}");
        assert_eq!(calls.iter().filter(|call| call.starts_with("on_close")).count(), 2, "{calls:?}");
        assert_eq!(failures.len(), usize::from(error));
    }
}

#[test]
fn a_client_that_vanishes_is_an_error_and_the_end() {
    let (calls, failures) = called(async |options| {
        let (_, mut read, mut write) = connect(options).await.unwrap();
        assert!(read.next().await.unwrap().is_ok());
        write.abort();
    });
    let end: Vec<_> = calls.iter().map(|call| call.split(' ').next().unwrap()).collect();
    assert_eq!(end, ["prepare", "open", "on_error", "on_close"], "{calls:?}");
    assert_eq!((calls[3].as_str(), failures.len()), ("on_close None", 1));
}

#[test]
fn a_handler_that_closes_has_the_last_word() {
    let (calls, failures) = called(async |options| {
        let (_, close) = talk(options, "close").await.unwrap();
        assert_eq!(close, Some(CloseCode::from(4000)));
    });
    assert_eq!(calls.iter().filter(|call| call.starts_with("on_close")).count(), 1, "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("on_error")) && failures.is_empty(), "{calls:?}");
}

#[test]
fn the_future_of_all_handlers_can_be_sent() {
    const fn send<T: Send>(_: &T) {}
    block_on(async {
        let server = Server::bind("127.0.0.1:0", ServerOptions::default()).await.unwrap();
        send(&serve_handler(&server, || Logged(Log::default())));
    });
}
