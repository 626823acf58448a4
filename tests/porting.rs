//! What users of the older libraries do with one object, done with the halves: one test for each of their calls.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use coro_websocket::{
    Accept, Checks, CloseCode, Data, Error, Message, Opcode, Options, Phase, ProtocolError, Read, Reply,
    Server, ServerOptions, SinkExt, StreamExt, WrapOptions, Write, connect, shutdown, wrap_io,
};
use futures::{executor::block_on, join};

const SOON: Duration = Duration::from_secs(5);

/// Both ends of a connection.
async fn connected(server: &Server) -> ((Read, Write), (Read, Write)) {
    let url = format!("ws://{}/", server.local_addr().unwrap());
    let (near, far) = join!(server.accept(), connect(Options::from_url(&url).unwrap().timeout(SOON)));
    let ((_, near_read, near_write), (_, far_read, far_write)) = (near.unwrap().unwrap(), far.unwrap());
    ((near_read, near_write), (far_read, far_write))
}

async fn bound() -> Server {
    Server::bind(("127.0.0.1", 0), ServerOptions::default().backlog(1024)).await.unwrap()
}

// tarantool

#[test]
fn tarantool_read_with_a_timeout_loses_nothing() {
    block_on(async {
        let ((mut read, _write), (_, mut far)) = connected(&bound().await).await;
        let error = read.next_timeout(Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut(Phase::Call)));
        far.text("HELLO").await.unwrap();
        let message = read.next_timeout(SOON).await.unwrap().unwrap();
        assert_eq!((message.opcode, message.fin, message.as_text()), (Opcode::TEXT, true, Some("HELLO")));
        far.close_with(1000, "OK").await.unwrap();
        // The Close is a frame as well, and then comes the end: `nil` there.
        assert_eq!(read.next_timeout(SOON).await.unwrap().unwrap().opcode, Opcode::CLOSE);
        assert!(read.next_timeout(SOON).await.unwrap().is_none());
        assert_eq!(read.close_frames().received.unwrap().reason, "OK");
    });
}

#[test]
fn tarantool_write_takes_text_or_a_frame_and_gives_its_bytes_on_the_wire() {
    block_on(async {
        let ((_read, mut write), (mut far, _)) = connected(&bound().await).await;
        assert_eq!(write.text("HELLO").await.unwrap(), 7);
        let fragment =
            Message { opcode: Opcode::BINARY, fin: false, payload: b"da"[..].into(), ..Message::default() };
        assert_eq!(write.write(fragment).await.unwrap(), 4);
        assert_eq!(write.write(Message::continuation("ta", true)).await.unwrap(), 4);
        assert_eq!(far.next().await.unwrap().unwrap().as_text(), Some("HELLO"));
        assert_eq!(far.messages().next().await.unwrap().unwrap(), Data::Binary(b"data"[..].into()));
    });
}

#[test]
fn tarantool_shutdown_is_the_whole_closing_handshake() {
    block_on(async {
        let ((mut read, mut write), (mut far, _far_write)) = connected(&bound().await).await;
        let reading = async { while far.next().await.is_some() {} };
        let (frames, ()) = join!(shutdown(&mut read, &mut write, 1000, "OK", SOON), reading);
        assert!(frames.unwrap().is_clean());
        assert!(write.is_closed());
        assert!(matches!(write.text("more").await, Err(Error::Closed(_))));
        let close = far.close_frames().received.unwrap();
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::NORMAL, "OK"));
    });
}

#[test]
fn tarantool_close_ends_at_once() {
    block_on(async {
        let ((mut read, mut write), (mut far, _far_write)) = connected(&bound().await).await;
        assert!(!write.is_closed());
        write.abort();
        // A second time does nothing.
        write.abort();
        assert!(write.is_closed());
        while let Some(Ok(_)) = read.next().await {}
        assert!(matches!(far.next().await, Some(Err(Error::Lost | Error::Io(_)))));
        assert!(write.text("more").await.is_err());
    });
}

// The older tarantool server

#[test]
fn old_tarantool_server_listens_accepts_and_closes() {
    block_on(async {
        let server = bound().await;
        assert!(server.is_listening());
        server.set_proxy_handshake(|request, accept| match request.header("origin") {
            None => Ok(accept.header("X-Served-By", "us")),
            Some(_) => Err(Reply::new(403)),
        });
        let nobody = server.accept_timeout(Duration::from_millis(1)).await;
        assert!(matches!(nobody, Err(Error::TimedOut(Phase::Call))));
        let ((mut read, mut write), (mut far_read, mut far_write)) = connected(&server).await;
        server.close();
        assert!(!server.is_listening() && server.accept().await.unwrap().is_none());
        // Its channels stay.
        far_write.text("hello").await.unwrap();
        let message = read.next().await.unwrap().unwrap();
        write.write(message).await.unwrap();
        assert_eq!(far_read.next().await.unwrap().unwrap().as_text(), Some("hello"));
        write.close_with(1000, "Goodbye").await.unwrap();
        assert_eq!(far_read.next().await.unwrap().unwrap().as_close().unwrap().unwrap().reason, "Goodbye");
    });
}

// lem

#[test]
fn lem_server_handler_hands_back_what_it_does_not_accept() {
    block_on(async {
        let server = bound().await;
        let address = server.local_addr().unwrap();
        let hook = async {
            let upgrade = server.incoming().await.unwrap().unwrap().await.unwrap();
            let refused = upgrade.accept(Accept::default()).await.unwrap_err();
            let page = format!("Websocket failure: {}\n", refused.error);
            refused.upgrade.respond(Reply::text(400, page)).await
        };
        let asking = async {
            use futures::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = async_net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (hooked, answer) = join!(hook, asking);
        hooked.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\n\r\nWebsocket failure: "),
            "{answer}"
        );
    });
}

#[test]
fn lem_sends_text_and_binary_and_closes() {
    block_on(async {
        let ((mut read, mut write), (mut far, _far_write)) = connected(&bound().await).await;
        write.text("text").await.unwrap();
        write.binary(vec![1, 2]).await.unwrap();
        write.close_with(1000, "normal closure").await.unwrap();
        write.close().await.unwrap();
        assert_eq!(far.messages().next().await.unwrap().unwrap(), Data::Text("text".into()));
        assert_eq!(far.messages().next().await.unwrap().unwrap(), Data::Binary(vec![1, 2].into()));
        let (end, last) = join!(far.next(), async {
            while read.next().await.is_some() {}
            read.close_frames()
        });
        assert!(end.unwrap().unwrap().as_close().is_ok() && last.is_clean());
        assert!(far.messages().next().await.is_none());
        let close = far.close_frames().received.unwrap();
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::NORMAL, "normal closure"));
    });
}

/// What `getFrame` would have given, as the text of its first result or the payload.
fn get_frame(received: &'static [u8], checks: Checks) -> Vec<String> {
    let (mut read, _write) = wrap_io(received, Vec::new(), WrapOptions::server().checks(checks));
    let number = |error| match error {
        ProtocolError::UnexpectedContinuation => "-2",
        ProtocolError::MessageInterleaved => "-3",
        ProtocolError::Unmasked | ProtocolError::Masked => "-4",
        _ => "-1",
    };
    block_on(async {
        let mut results = Vec::new();
        loop {
            results.push(match read.messages().next().await {
                Some(Ok(Data::Text(text))) => text,
                Some(Ok(Data::Binary(bytes))) => format!("{} bytes", bytes.len()),
                Some(Err(
                    Error::Protocol { error, .. }
                    | Error::Limit { error, .. }
                    | Error::Reported { error, .. },
                )) => number(error).into(),
                Some(Err(_)) => "-1".into(),
                None => "8".into(),
            });
            if results.last().unwrap() == "8" {
                return results;
            }
        }
    })
}

#[test]
fn lem_get_frame_joins_fragments_and_skips_control_frames() {
    let received = b"\x01\x81\0\0\0\0a\x89\x80\0\0\0\0\x8a\x80\0\0\0\0\x80\x81\0\0\0\0b\
                     \x82\x82\0\0\0\0xy\x88\x82\0\0\0\0\x03\xe8";
    assert_eq!(get_frame(received, Checks::Strict), ["ab", "2 bytes", "8"]);
    assert_eq!(get_frame(received, Checks::Report), ["ab", "2 bytes", "8"]);
}

#[test]
fn lem_get_frame_has_a_number_for_each_violation() {
    const HI: &[u8] = b"\x81\x82\0\0\0\0hi\x88\x80\0\0\0\0";
    let cases: [(&[u8], &str); 3] = [
        (b"\x80\x81\0\0\0\0a", "-2"),
        // The message that was open is never finished.
        (b"\x01\x81\0\0\0\0a\x82\x81\0\0\0\0b\x80\x81\0\0\0\0c", "-3"),
        (b"\x81\x01a", "-4"),
    ];
    for (violation, number) in cases {
        let received: &'static [u8] = Vec::leak([violation, HI].concat());
        // Strict: the connection fails.
        assert_eq!(get_frame(received, Checks::Strict), [number, "8"]);
        let going_on = get_frame(received, Checks::Report);
        assert_eq!(going_on[0], number);
        assert_eq!(going_on[going_on.len() - 2..], ["hi", "8"], "{going_on:?}");
    }
    // Cut off: not the disconnect of a peer that says goodbye.
    assert_eq!(get_frame(b"\x81\x82\0\0", Checks::Strict), ["-1", "8"]);
}
