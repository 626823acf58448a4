//! Connections on which nothing goes on.

use std::{
    io::{self, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use coro_websocket::{Message, Options, StreamExt, Tls, connect as connect_secure};
use futures::stream;

use crate::{
    Report,
    clients::{REQUEST, connect, echo, masked, open, read_answer, read_echo},
    server::Server,
};

/// The memory of a connection.
pub(crate) fn idle(report: &mut Report) {
    one_by_one(report);
    plain(report);
    secure(report);
}

/// As they come in most servers: the handshake of one is over before many others come.
fn one_by_one(report: &mut Report) {
    let count = report.either(2_000, 10_000);
    let server = Server::start(&report.program, 20_000, &[]);
    let first = open(server.address).unwrap();
    let before = server.memory();
    let each = |now: usize| now.saturating_sub(before) / count;
    let mut streams: Vec<_> = (0..count).map(|_| open(server.address).unwrap()).collect();
    let open = each(server.memory());
    report.check(&format!("bytes for each of {count} that came one by one"), open, open <= 4 << 10);
    for stream in &mut streams {
        echo(stream, 16 << 10).unwrap();
    }
    let spoken = each(server.memory());
    report.check("bytes for each after one echo of 16 KiB", spoken, spoken <= 4 << 10);
    drop(first);
}

/// As they come after a restart: all at once, and what their handshakes took is not given back to the system.
fn plain(report: &mut Report) {
    let count = report.either(2_000, 10_000);
    let server = Server::start(&report.program, 20_000, &[]);
    let mut first = open(server.address).unwrap();
    echo(&mut first, 16 << 10).unwrap();
    let (before, descriptors) = (server.memory(), server.descriptors());
    let each = |now: usize| now.saturating_sub(before) / count;
    let mut streams: Vec<_> = (0..count).map(|_| connect(server.address).unwrap()).collect();
    wait_for(&server, descriptors + count);
    let silent = each(server.memory());
    report.note(&format!("bytes for each of {count} that have only connected"), silent);
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
        read_answer(stream).unwrap();
    }
    let silent = each(server.memory());
    report.check(&format!("bytes for each of {count} that never spoke"), silent, silent <= 5 << 10);
    for stream in &mut streams {
        echo(stream, 16 << 10).unwrap();
    }
    let spoken = each(server.memory());
    report.check("bytes for each after one echo of 16 KiB", spoken, spoken <= 5 << 10);
    let message = masked(&Message::binary(vec![7; 16 << 10]));
    for half in streams.chunks_mut(count / 4) {
        for stream in half.iter_mut() {
            stream.write_all(&message).unwrap();
        }
        for stream in half {
            read_echo(stream, 16 << 10).unwrap();
        }
    }
    report.note("bytes for each after one of 16 KiB by many at once", each(server.memory()));
    let load = server.load(Duration::from_secs(2));
    report.check("processor time of the server", format_args!("{load:.1} %"), load < 5.0);
    let most = server.memory();
    drop(streams);
    report.check_descriptors(&server, descriptors);
    report.note("KiB more than before, in all", server.memory().saturating_sub(before) / 1024);
    let streams: Vec<_> = (0..count).map(|_| open(server.address).unwrap()).collect();
    let again = server.memory();
    report.check(
        "KiB with as many as before, and with as many others",
        format_args!("{}, {}", most / 1024, again / 1024),
        again <= most + most / 16,
    );
    drop(streams);
}

fn wait_for(server: &Server, descriptors: usize) {
    while server.descriptors() < descriptors {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn secure(report: &mut Report) {
    let count = report.either(200, 1_000);
    let folder = std::env::temp_dir().join(format!("coro-websocket-abuse-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, identity.cert.pem()).unwrap();
    std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    let args = ["--tls", certificate.to_str().unwrap(), key.to_str().unwrap()];
    let server = Server::start(&report.program, 20_000, &args);
    std::fs::remove_dir_all(&folder).unwrap();
    let options = Options::default()
        .host("127.0.0.1")
        .port(server.address.port())
        .tls(Tls::default().danger_accept_any_certificate(true));
    async_io::block_on(async {
        let first = connect_secure(options.clone()).await.unwrap();
        let (before, descriptors) = (server.memory(), server.descriptors());
        let each = |now: usize| now.saturating_sub(before) / count;
        let mut connections: Vec<_> = stream::iter(0..count)
            .map(|_| connect_secure(options.clone()))
            .buffer_unordered(50)
            .map(Result::unwrap)
            .collect()
            .await;
        let open = each(server.memory());
        report.note(&format!("bytes for each of {count} with TLS that never spoke"), open);
        for (_, read, write) in &mut connections {
            write.write(Message::binary(vec![7; 16 << 10])).await.unwrap();
            read.next().await.unwrap().unwrap();
        }
        let spoken = each(server.memory());
        report.note("bytes for each with TLS after one echo of 16 KiB", spoken);
        drop(connections);
        report.check_descriptors(&server, descriptors);
        drop(first);
    });
}

/// Peers whose system answers while they do not: the heartbeat finds them out.
pub(crate) fn half_open(report: &mut Report) {
    let args: &[&str] = if report.quick { &["--heartbeat", "2"] } else { &[] };
    // The default, when there is no other.
    let heartbeat = Duration::from_secs(report.either(2, 120));
    let server = Server::start(&report.program, 20_000, args);
    drop(open(server.address));
    let (descriptors, memory) = (server.settle(9), server.memory());
    let many = report.either(100, 1_000);
    type Begin = fn(&mut TcpStream);
    let mut kinds: [(&str, usize, Begin); 3] = [
        ("ask for more than they read", 20, |stream| {
            let message = masked(&Message::binary(vec![7; 16 << 10]));
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            while stream.write_all(&message).is_ok() {}
        }),
        ("never speak", many, |_| {}),
        ("stop in the middle of a frame", many, |stream| {
            let message = masked(&Message::binary(vec![7; 16 << 10]));
            stream.write_all(&message[..9 << 10]).unwrap();
        }),
    ];
    let (mut streams, mut since) = (Vec::new(), Instant::now());
    for (_, count, begin) in &mut kinds {
        since = Instant::now();
        let mut kind: Vec<_> = (0..*count).map(|_| open(server.address).unwrap()).collect();
        kind.iter_mut().for_each(begin);
        streams.push(kind);
    }
    let mut wait = |what: &str, left: usize, intervals: u32| {
        let most = heartbeat * intervals + report.bound(Duration::from_secs(2));
        while server.descriptors() > descriptors + left && since.elapsed() < most {
            std::thread::sleep(Duration::from_millis(10));
        }
        let time = since.elapsed();
        report.check(what, format_args!("{time:.1?}"), time < most);
    };
    // Whoever is open is pinged after one interval, and given up after the next; after one more where the server
    // waits for room, and so does not read.
    wait("those who are silent are given up after", kinds[0].1, 2);
    wait("those who only ask are given up after", 0, 3);
    for ((name, count, _), kind) in kinds.into_iter().zip(streams) {
        let open = kind.into_iter().filter(|stream| !has_ended(stream)).count();
        report.check(&format!("open of {count} that {name}"), open, open == 0);
    }
    report.check_descriptors(&server, descriptors);
    report.note("KiB more than before, in all", server.memory().saturating_sub(memory) / 1024);
}

/// Whether there is an end, behind whatever has come.
fn has_ended(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match io::copy(&mut stream, &mut io::sink()) {
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        Ok(_) => true,
    }
}
