//! What a client costs a server while its handshake lasts, and while it is idle. Allocations are counted in the one
//! thread of each test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use coro_websocket::{
    AcceptOptions, Error, Message, Read, Request, Server, ServerOptions, StreamExt, Write, accept_io, codec,
    serve,
};
use futures::{
    executor::block_on,
    io::{AsyncRead, sink},
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn echo(_: Request, mut read: Read, mut write: Write) -> Result<(), Error> {
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_data() {
            write.feed(message).await?;
        }
    }
    Ok(())
}

/// Polls until it is so.
fn until(mut future: Pin<&mut impl Future>, mut is_so: impl FnMut() -> bool) {
    block_on(async {
        while !is_so() {
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            // The reactor tells what has come.
            async_io::Timer::after(Duration::from_millis(1)).await;
        }
    });
}

/// Whether so many bytes have come, which are not looked at.
fn has(mut stream: &TcpStream, len: usize) -> bool {
    let mut bytes = vec![0; len];
    stream.peek(&mut bytes).is_ok_and(|there| there == len) && stream.read_exact(&mut bytes).is_ok()
}

#[test]
fn client_costs_little_at_every_stage() {
    const COUNT: usize = 200;
    let server = block_on(Server::bind("127.0.0.1:0", ServerOptions::default())).unwrap();
    let address = server.local_addr().unwrap();
    let connect = |count: usize| -> Vec<_> {
        let streams = (0..count).map(|_| TcpStream::connect(address).unwrap());
        streams.inspect(|stream| stream.set_nonblocking(true).unwrap()).collect()
    };
    let mut serving = pin!(serve(&server, echo));
    let answered = 129;
    let mut message = Vec::new();
    codec::encode(&Message::binary(vec![7; 16 << 10]), Some([1, 2, 3, 4]), &mut message);
    // The first ones make the pools of the thread and tables that grow by steps.
    let mut all = |streams: &[TcpStream], base: usize| {
        let arrived = measure(|| until(serving.as_mut(), || server.connections() == base + streams.len()));
        let begun = measure(|| {
            for mut stream in streams {
                stream.write_all(&REQUEST[..50]).unwrap();
            }
            let mut turns = 0;
            until(serving.as_mut(), || {
                turns += 1;
                turns > 50
            });
        });
        let opened = measure(|| {
            for mut stream in streams {
                stream.write_all(&REQUEST[50..]).unwrap();
            }
            for stream in streams {
                until(serving.as_mut(), || has(stream, answered));
            }
        });
        let echoed = measure(|| {
            for mut stream in streams {
                stream.set_nonblocking(false).unwrap();
                stream.write_all(&message).unwrap();
                stream.set_nonblocking(true).unwrap();
                until(serving.as_mut(), || has(stream, (16 << 10) + 4));
            }
        });
        [arrived, begun, opened, echoed].map(|memory| memory.bytes_current)
    };
    let warm = connect(COUNT);
    all(&warm, 0);
    let streams = connect(COUNT);
    let mut held = 0;
    let stages = all(&streams, COUNT).map(|bytes| {
        held += bytes;
        held / COUNT as i64
    });
    println!("arrived, half a head, open, after an echo: {stages:?} bytes");
    assert!(stages.iter().all(|each| *each < 4 << 10), "{stages:?}");
    assert!(stages[3] - stages[2] < 256, "{stages:?}");
}

/// Gives so many bytes at a time, and counts how often it is asked.
struct Packets<'a> {
    bytes: &'a [u8],
    len: usize,
    asked: usize,
}

impl AsyncRead for &mut Packets<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.asked += 1;
        if self.asked % 2 == 1 {
            // Each packet is waited for.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = self.len.min(self.bytes.len()).min(buf.len());
        buf[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes = &self.bytes[len..];
        Poll::Ready(Ok(len))
    }
}

/// RUSTSEC-2023-0065 / CVE-2023-43669 (tungstenite): a head that was read again with every packet. The work of looking
/// at its bytes is counted beside the code that does it.
#[test]
fn head_of_one_byte_per_packet_allocates_and_asks_no_more_than_one_packet() {
    let mut head = REQUEST.to_vec();
    head.truncate(head.len() - 2);
    head.extend(format!("X: {}\r\n\r\n", "x".repeat((16 << 10) - head.len() - 7)).bytes());
    assert_eq!(head.len(), 16 << 10);
    let accepted = |len: usize| {
        let mut packets = Packets { bytes: &head, len, asked: 0 };
        let memory = measure(|| {
            let upgrade = block_on(accept_io(&mut packets, sink(), AcceptOptions::default())).unwrap();
            upgrade.check().unwrap();
        });
        (memory.count_total, memory.bytes_total, packets.asked)
    };
    accepted(usize::MAX);
    let (count, bytes, asked) = accepted(usize::MAX);
    let (slow_count, slow_bytes, slow_asked) = accepted(1);
    println!(
        "{count} allocations, {bytes} bytes, {asked} calls; one by one {slow_count}, {slow_bytes}, {slow_asked}"
    );
    assert!(slow_count <= 2 * count && slow_bytes <= 2 * bytes);
    assert_eq!(slow_asked, 2 * head.len());
}
