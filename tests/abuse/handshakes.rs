//! Many handshakes, slow ones, and those for which there is no descriptor.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use async_io::{Async, Timer};
use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{Either, join_all, select},
};

use crate::{
    Report, Times,
    clients::{Good, REQUEST, close, connect, echo, masked, open, read_answer, read_echo, reset},
    server::Server,
};

/// What `echo_server` allows for a handshake.
const DEADLINE: Duration = Duration::from_secs(10);

/// One after the other.
pub(crate) fn sequence(report: &mut Report) {
    let server = Server::start(&report.program, 20_000, &[]);
    let count = report.either(2_000, 10_000);
    let (mut times, mut lost) = (Times::default(), 0);
    for _ in 0..count {
        let since = Instant::now();
        match open(server.address).and_then(|mut stream| echo(&mut stream, 125).map(|()| stream)) {
            Ok(stream) => {
                times.0.push(since.elapsed());
                lost += usize::from(close(stream).is_err());
            }
            Err(_) => lost += 1,
        }
    }
    report.check(&format!("lost of {count} handshakes, each with an echo and a Close"), lost, lost == 0);
    report.note("from connecting to the echo", times);
}

/// All at the same time.
pub(crate) fn at_once(report: &mut Report) {
    let server = Server::start(&report.program, 20_000, &[]);
    for _ in 0..report.either(1, 5) {
        let count = 2_000;
        let since = Instant::now();
        let message = masked(&coro_websocket::Message::binary(vec![7; 125]));
        let mut streams: Vec<_> = (0..count).filter_map(|_| connect(server.address).ok()).collect();
        streams.retain_mut(|stream| stream.write_all(REQUEST).is_ok());
        streams.retain_mut(|stream| read_answer(stream).is_ok());
        streams.retain_mut(|stream| stream.write_all(&message).is_ok());
        streams.retain_mut(|stream| read_echo(stream, 125).is_ok());
        let lost = count - streams.len();
        report.check(&format!("lost of {count} handshakes at once, each with an echo"), lost, lost == 0);
        report.note("took", format_args!("{:.1?}", since.elapsed()));
    }
}

/// One byte of a head every second, by many.
pub(crate) fn slow(report: &mut Report) {
    for count in report.either(&[1_000][..], &[1_000, 10_000]) {
        let server = Server::start(&report.program, 20_000, &[]);
        drop(open(server.address));
        let (descriptors, memory) = (server.settle(9), server.memory());
        let good = Good::start(server.address);
        let (streams, peak, load) = thread::scope(|scope| {
            let watched = scope.spawn(|| {
                thread::sleep(Duration::from_secs(3));
                let load = server.load(Duration::from_secs(4));
                (server.memory(), load)
            });
            let slow = |(stream, since): (TcpStream, Instant)| async move {
                let mut stream = Async::new(stream).unwrap();
                let mut answer = Vec::new();
                for byte in REQUEST {
                    let _ = stream.write_all(&[*byte]).await;
                    let second = Timer::after(Duration::from_secs(1));
                    match select(pin!(stream.read_to_end(&mut answer)), second).await {
                        Either::Left((Ok(_), _)) => break,
                        Either::Left((Err(_), _)) => answer.clear(),
                        Either::Right(_) => {}
                    }
                }
                (since.elapsed(), answer.starts_with(b"HTTP/1.1 408 "))
            };
            let streams = (0..*count).map(|_| (connect(server.address).unwrap(), Instant::now()));
            let streams = async_io::block_on(join_all(streams.map(slow)));
            let (peak, load) = watched.join().unwrap();
            (streams, peak, load)
        });
        let seen = good.stop();
        let told = streams.iter().filter(|(_, told)| *told).count();
        let times = Times(streams.into_iter().map(|(time, _)| time).collect());
        let second = Duration::from_secs(1);
        let in_time =
            times.part(0.0) + second >= DEADLINE && times.part(1.0) <= DEADLINE + report.bound(second);
        report.check(&format!("{count} sockets of one byte a second are closed after"), times, in_time);
        report.check("told 408", told, told == *count);
        let most = report.bound(Duration::from_millis(100));
        // Ten times as many overflow the backlog when they come, and whoever comes then has to try again.
        let share = if *count > 1_000 { 0.99 } else { 1.0 };
        let served = seen.failures == 0 && seen.handshakes.part(share) < most;
        report.check("handshakes of a good client meanwhile", &seen.handshakes, served);
        report.note("echoes of a good client meanwhile", &seen.echoes);
        report.note("processor time of the server meanwhile", format_args!("{load:.1} %"));
        report.note("memory for each", format_args!("{} bytes", peak.saturating_sub(memory) / count));
        report.check_descriptors(&server, descriptors);
        report.note("memory more than before", format_args!("{} KiB", kib(&server, memory)));
    }
}

fn kib(server: &Server, before: usize) -> usize {
    server.memory().saturating_sub(before) / 1024
}

/// No descriptors left.
pub(crate) fn descriptors(report: &mut Report) {
    let server = Server::start(&report.program, 64, &[]);
    let mut waiting: Vec<_> = (0..1_000).map(|_| connect(server.address).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(REQUEST).unwrap();
    }
    let mut full = 0;
    while read_answer_now(&mut waiting[full]) {
        full += 1;
    }
    report.note("connections of 1000 that a server with 64 descriptors has accepted", full);
    report.note("descriptors", server.descriptors());
    let load = server.load(Duration::from_secs(report.either(5, 20)));
    report.check("processor time while there are none left", format_args!("{load:.1} %"), load < 5.0);
    let most = report.bound(Duration::from_secs(2));
    let mut others = waiting.split_off(full);
    drop(waiting);
    let since = Instant::now();
    let served = read_answer(&mut others[0]).is_ok();
    let time = since.elapsed();
    report.check(
        "serving again, descriptors being free, after",
        format_args!("{time:.1?}"),
        served && time < most,
    );
    drop(others);
    let since = Instant::now();
    let served = open(server.address).and_then(|mut stream| echo(&mut stream, 125)).is_ok();
    let time = since.elapsed();
    report.check(
        "a good client, when all have gone, after",
        format_args!("{time:.1?}"),
        served && time < most,
    );
}

/// Whether the answer comes soon.
fn read_answer_now(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let answered = read_answer(stream).is_ok();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    answered
}

/// Coming and going, in whatever way. CVE-2021-42340 (Tomcat): something leaked with each connection.
pub(crate) fn churn(report: &mut Report) {
    let count = report.either(2_000, 20_000);
    let server = Server::start(&report.program, 20_000, &[]);
    type Way = fn(TcpStream);
    let ways: [(&str, Way); 6] = [
        ("connect, close", drop),
        ("connect, reset", reset),
        ("half a head, reset", |mut stream| {
            let _ = stream.write_all(&REQUEST[..40]);
            reset(stream);
        }),
        ("handshake, Close", |mut stream| {
            stream.write_all(REQUEST).unwrap();
            read_answer(&mut stream).unwrap();
            close(stream).unwrap();
        }),
        ("handshake, reset", |mut stream| {
            stream.write_all(REQUEST).unwrap();
            read_answer(&mut stream).unwrap();
            reset(stream);
        }),
        ("handshake, reset in the middle of a frame", |mut stream| {
            stream.write_all(REQUEST).unwrap();
            read_answer(&mut stream).unwrap();
            let frame = masked(&coro_websocket::Message::binary(vec![7; 16 << 10]));
            stream.write_all(&frame[..9 << 10]).unwrap();
            reset(stream);
        }),
    ];
    for _ in 0..1_000 {
        for (_, way) in ways {
            connect(server.address).map(way).unwrap();
        }
    }
    let descriptors = server.settle(10);
    let memory = server.memory();
    for (name, way) in ways {
        let since = Instant::now();
        for _ in 0..count {
            connect(server.address).map(way).unwrap();
        }
        let took = since.elapsed();
        let left = server.settle(descriptors);
        let more = kib(&server, memory);
        report.check(
            &format!("{count} times: {name}"),
            format_args!("{took:.1?}, descriptors {descriptors}, {left}, memory more than before {more} KiB"),
            left <= descriptors && more <= 1024,
        );
    }
    let mut good = open(server.address).unwrap();
    report.check("echo afterwards", "", echo(&mut good, 125).is_ok());
    good.set_nonblocking(true).unwrap();
    let quiet = good.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    report.check("and nothing else", "", quiet);
}
