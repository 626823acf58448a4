//! Peers that send whatever they can.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use coro_websocket::Message;

use crate::{
    Report,
    clients::{Good, masked, open},
    server::Server,
};

/// How many attack at once.
const ATTACKERS: usize = 8;

/// What they send, again and again.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    again: Vec<u8>,
    /// Whether they take what comes back.
    reads: bool,
    /// How much the server may hold for each of them, in KiB.
    most: usize,
}

fn all() -> Vec<Flood> {
    let fragment = |first: Message, fin| masked(&Message { fin, ..first });
    let ping = masked(&Message::ping("0123456789"));
    let start = |payload: &str| fragment(Message::text(payload.to_owned()), false);
    let next = |payload: &str| fragment(Message::continuation(payload.to_owned(), false), false);
    let small = masked(&Message::binary(vec![7; 125]));
    let large = masked(&Message::binary(vec![7; 16 << 10]));
    let huge = masked(&Message::binary(vec![7; 900 << 10]));
    let mut unfinished = masked(&Message::binary(vec![7; 1 << 20]));
    unfinished.pop();
    let flood = |name, first: &[u8], again: &[u8], reads, most| Flood {
        name,
        first: first.to_vec(),
        again: again.repeat(((64 << 10) / again.len().max(1)).max(1)),
        reads,
        most,
    };
    vec![
        flood("pings, nothing read", &[], &ping, false, 512),
        flood("pings, everything read", &[], &ping, true, 512),
        flood("pongs", &[], &masked(&Message::pong("")), false, 512),
        flood("messages of 125 bytes, nothing read", &[], &small, false, 512),
        flood("messages of 125 bytes, everything read", &[], &small, true, 512),
        flood("messages of 16 KiB, nothing read", &[], &large, false, 512),
        flood("messages of 16 KiB, everything read", &[], &large, true, 512),
        flood("messages of 900 KiB, nothing read", &[], &huge, false, 4096),
        flood("endless empty fragments", &start(""), &next(""), false, 512),
        flood("endless empty fragments, everything read", &start(""), &next(""), true, 512),
        flood("fragments of one byte, everything read", &start("x"), &next("x"), true, 512),
        flood("a message that lacks its last byte", &unfinished, &[], false, 2048),
        flood("what is no frame", &[], &[0xff; 64], false, 512),
    ]
}

/// Every flood, one after the other, with a good client beside it; each twice, as what is kept from the first time must
/// do for the second.
pub(crate) fn floods(report: &mut Report) {
    for flood in all() {
        let server = Server::start(&report.program, 20_000, &["--max-message", "1048576"]);
        drop(open(server.address));
        let (memory, descriptors) = (server.memory(), server.settle(9));
        let kib = |now: usize| now.saturating_sub(memory) / 1024;
        let first = round(report, &flood, &server, memory);
        report.check_descriptors(&server, descriptors);
        let kept = kib(server.memory());
        let second = round(report, &flood, &server, memory);
        report.check_descriptors(&server, descriptors);
        let left = kib(server.memory());
        let most = ATTACKERS * flood.most + 2048;
        report.check(
            "KiB more than before: at most, then afterwards, in both rounds",
            format_args!("{first}, {kept}; {second}, {left}"),
            first.max(second) <= most && left <= kept + most / 4,
        );
    }
}

/// One round. Gives how many KiB more than before the server had at most.
fn round(report: &mut Report, flood: &Flood, server: &Server, memory: usize) -> usize {
    let good = Good::start(server.address);
    let during = Duration::from_millis(report.either(500, 5_000));
    let (stop, sent, opened) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let peak = thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    opened.fetch_add(1, Ordering::Relaxed);
                    let _ = attack(server.address, flood, &stop, &sent);
                }
            });
        }
        let since = Instant::now();
        let mut peak = 0;
        while since.elapsed() < during {
            peak = peak.max(server.memory());
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        peak
    });
    let seen = good.stop();
    let mib = sent.load(Ordering::Relaxed) >> 20;
    report.note(flood.name, format_args!("{mib} MiB on {} connections", opened.load(Ordering::Relaxed)));
    let most = report.bound(Duration::from_secs(1));
    let served = seen.failures == 0 && seen.echoes.part(1.0) < most;
    report.check("echoes of a good client meanwhile", &seen.echoes, served);
    report.note("handshakes of a good client meanwhile", &seen.handshakes);
    peak.saturating_sub(memory) / 1024
}

/// Sends until the server has had enough, or it is time to stop.
fn attack(address: SocketAddr, flood: &Flood, stop: &AtomicBool, sent: &AtomicU64) -> io::Result<()> {
    let stream = open(address)?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    thread::scope(|scope| {
        if flood.reads {
            let mut from = stream.try_clone()?;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if io::copy(&mut from, &mut io::sink()).is_ok() {
                        break;
                    }
                }
            });
        }
        let ended = send(&stream, &flood.first, stop, sent).and_then(|()| {
            if flood.again.is_empty() {
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
            }
            while !stop.load(Ordering::Relaxed) {
                send(&stream, &flood.again, stop, sent)?;
            }
            Ok(())
        });
        // Whoever reads ends as well.
        let _ = stream.shutdown(std::net::Shutdown::Both);
        ended
    })
}

fn send(mut stream: &TcpStream, mut bytes: &[u8], stop: &AtomicBool, sent: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() && !stop.load(Ordering::Relaxed) {
        match stream.write(bytes) {
            Ok(len) => {
                sent.fetch_add(len as u64, Ordering::Relaxed);
                bytes = &bytes[len..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
