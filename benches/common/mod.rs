//! What is measured: frames of every size through the public API, over transports in memory that are always ready.
#![allow(clippy::mod_module_files, reason = "cargo would take benches/common.rs for a bench")]

use std::{
    hint::black_box,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use coro_websocket::{
    Checks, FrameReader, FrameWriter, Message, Opcode, SinkExt, StreamExt, WrapOptions, codec, wrap_io,
};
use futures::{FutureExt, io::AsyncRead, io::AsyncWrite};

mod around;

/// The lengths of the payloads. 32, 64 and 128 are those of lem-websocket's benchmark.
const SIZES: [usize; 10] = [0, 16, 32, 64, 125, 128, 1 << 10, 16 << 10, 64 << 10, 1 << 20];

/// Something that handles so many frames each time it is run.
pub(crate) struct Case {
    pub(crate) frames: usize,
    pub(crate) run: Box<dyn FnMut()>,
}

impl Case {
    fn new(frames: usize, run: impl FnMut() + 'static) -> Self {
        Self { frames, run: Box::new(run) }
    }
}

/// Makes a case for frames of a size, masked or not.
type Make = fn(usize, bool) -> Case;

type MakeLem = fn() -> Case;

const DECODE: [(&str, Make); 4] = [
    ("FrameReader::frame", |len, masked| {
        let (tape, frames) = Tape::of(len, masked);
        let mut reader = FrameReader::new(tape, receiving(masked));
        Case::new(frames, move || {
            for _ in 0..frames {
                black_box(now(reader.frame()).unwrap().unwrap());
            }
        })
    }),
    ("FrameReader::next", |len, masked| {
        let (tape, frames) = Tape::of(len, masked);
        let mut reader = FrameReader::new(tape, receiving(masked));
        Case::new(frames, move || {
            for _ in 0..frames {
                black_box(now(reader.next()).unwrap().unwrap());
            }
        })
    }),
    ("Read::frame", |len, masked| {
        let (tape, frames) = Tape::of(len, masked);
        let (mut read, write) = wrap_io(tape, Void, receiving(masked));
        Case::new(frames, move || {
            let _both_live = &write;
            for _ in 0..frames {
                black_box(now(read.frame()).unwrap().unwrap());
            }
        })
    }),
    ("Read::next", |len, masked| {
        let (tape, frames) = Tape::of(len, masked);
        let (mut read, write) = wrap_io(tape, Void, receiving(masked));
        Case::new(frames, move || {
            let _both_live = &write;
            for _ in 0..frames {
                black_box(now(read.next()).unwrap().unwrap());
            }
        })
    }),
];

const ENCODE: [(&str, Make); 4] = [
    ("codec::encode", |len, masked| {
        let message = message(len);
        let key = masked.then_some([0x37, 0xfa, 0x21, 0x3d]);
        let mut bytes = Vec::new();
        let frames = batch(len);
        Case::new(frames, move || {
            for _ in 0..frames {
                bytes.clear();
                codec::encode(black_box(&message), key, &mut bytes);
            }
        })
    }),
    ("FrameWriter::send", |len, masked| {
        let message = message(len);
        let mut writer = FrameWriter::new(Void, sending(masked));
        let frames = batch(len);
        Case::new(frames, move || {
            for _ in 0..frames {
                now(writer.send(message.clone())).unwrap();
            }
        })
    }),
    ("Write::send", |len, masked| {
        let message = message(len);
        let (read, mut write) = wrap_io(Tape::default(), Void, sending(masked));
        let frames = batch(len);
        Case::new(frames, move || {
            let _both_live = &read;
            for _ in 0..frames {
                now(write.send(message.clone())).unwrap();
            }
        })
    }),
    // As in a read loop: many are buffered, then flushed at once.
    ("Write::feed", |len, masked| {
        let message = message(len);
        let (read, mut write) = wrap_io(Tape::default(), Void, sending(masked));
        let frames = batch(len);
        Case::new(frames, move || {
            let _both_live = &read;
            for _ in 0..frames {
                now(write.feed(message.clone())).unwrap();
            }
            now(write.flush()).unwrap();
        })
    }),
];

/// lem-websocket's decoding benchmark, on a relay's reader, since frames with and without a mask are mixed.
const LEM: [(&str, MakeLem); 3] = [
    ("FrameReader::frame", || {
        let (tape, frames) = Tape::of_lem();
        let mut reader = FrameReader::new(tape, WrapOptions::client().checks(Checks::Off));
        Case::new(frames, move || {
            for _ in 0..frames {
                black_box(now(reader.frame()).unwrap().unwrap());
            }
        })
    }),
    ("FrameReader::next", || {
        let (tape, frames) = Tape::of_lem();
        let mut reader = FrameReader::new(tape, WrapOptions::client().checks(Checks::Off));
        Case::new(frames, move || {
            for _ in 0..frames {
                black_box(now(reader.next()).unwrap().unwrap());
            }
        })
    }),
    ("Read::next", || {
        let (tape, frames) = Tape::of_lem();
        let (mut read, write) = wrap_io(tape, Void, WrapOptions::client().checks(Checks::Off));
        Case::new(frames, move || {
            let _both_live = &write;
            for _ in 0..frames {
                black_box(now(read.next()).unwrap().unwrap());
            }
        })
    }),
];

fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("the transport is always ready")
}

/// A server gets masked frames, a client others.
fn receiving(masked: bool) -> WrapOptions {
    if masked { WrapOptions::server() } else { WrapOptions::client() }
}

/// A client sends masked frames, a server others.
fn sending(masked: bool) -> WrapOptions {
    receiving(!masked)
}

/// How many frames make about 256 KiB.
fn batch(len: usize) -> usize {
    ((256 << 10) / len.max(128)).max(2)
}

/// A frame whose payload is static: cloning it counts no reference.
fn message(len: usize) -> Message {
    Message::binary(Bytes::from_static(vec![b'a'; len].leak()))
}

/// A transport that gives the same frames over and over.
#[derive(Default)]
struct Tape {
    bytes: Vec<u8>,
    position: usize,
}

impl Tape {
    fn of(len: usize, masked: bool) -> (Self, usize) {
        Self::repeat(&message(len), masked.then_some([0x37, 0xfa, 0x21, 0x3d]))
    }

    fn repeat(message: &Message, key: Option<[u8; 4]>) -> (Self, usize) {
        let mut tape = Self::default();
        let frames = batch(message.payload.len());
        for _ in 0..frames {
            codec::encode(message, key, &mut tape.bytes);
        }
        (tape, frames)
    }

    /// 4003 frames: three short ones, 2000 of text from 3 to 6000 bytes, and 2000 masked ones of up to 26 KB.
    fn of_lem() -> (Self, usize) {
        let key = Some([0x6e, 0x53, 0x78, 0xf4]);
        let text = |len| Message::text("a".repeat(len));
        let fragment = Message { fin: false, opcode: Opcode::BINARY, ..text(3) };
        let mut frames = vec![(fragment, None), (text(5), key), (text(5), key)];
        frames.extend((1..=2000).map(|i| (text(3 * i), None)));
        frames.extend((1..=2000).map(|i| (text(i * (i % 13 + 1)), key)));

        let mut tape = Self::default();
        for (message, key) in &frames {
            codec::encode(message, *key, &mut tape.bytes);
        }
        let masked = frames.iter().filter(|(_, key)| key.is_some());
        let masked_len: usize = masked.clone().map(|(message, _)| message.payload.len()).sum();
        assert_eq!((frames.len(), tape.bytes.len()), (4003, 20_049_907));
        assert_eq!((masked.count(), masked_len), (2002, 14_023_032));
        (tape, frames.len())
    }
}

impl AsyncRead for Tape {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let part = &self.bytes[self.position..];
        let count = part.len().min(buf.len());
        buf[..count].copy_from_slice(&part[..count]);
        self.position = (self.position + count) % self.bytes.len();
        Poll::Ready(Ok(count))
    }
}

/// A transport that takes everything.
struct Void;

impl AsyncWrite for Void {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(buf).len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bufs).iter().map(|buf| buf.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Prints a table of all cases whose name has the filter in it: a row for each way, a column for each size. What is
/// in the cells is for the caller to say.
pub(crate) fn print_tables(filter: &str, cell: impl Fn(Case) -> String) {
    for (title, makes) in [("decode", DECODE), ("encode", ENCODE)] {
        for masked in [false, true] {
            let name = format!("{title} {}", if masked { "masked" } else { "unmasked" });
            let row = |make: Make| SIZES.map(|len| cell(make(len, masked)));
            print_table(&name, &SIZES.map(size), filter, makes.map(|(way, make)| (way, move || row(make))));
        }
    }
    let row = |make: MakeLem| [cell(make())];
    let rows = LEM.map(|(way, make)| (way, move || row(make)));
    print_table("decode lem", &["4003 frames".to_owned()], filter, rows);

    let sized = |make: around::MakeSized| SIZES.map(|len| cell(make(len)));
    let rows = around::PARTS.map(|(way, make)| (way, move || sized(make)));
    print_table("parts", &SIZES.map(size), filter, rows);
    #[cfg(feature = "deflate")]
    {
        let rows = around::DEFLATE.map(|(way, make)| (way, move || sized(make)));
        print_table("compression", &SIZES.map(size), filter, rows);
    }
    let rows = around::HANDSHAKE.map(|(way, make)| (way, move || row(make)));
    print_table("handshake", &["each".to_owned()], filter, rows);
}

fn print_table<const C: usize, const R: usize>(
    name: &str,
    columns: &[String; C],
    filter: &str,
    rows: [(&str, impl Fn() -> [String; C]); R],
) {
    let line = |first: &str, cells: &[String; C]| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>9}")).collect();
        println!("{first:24}{cells}");
    };
    let rows: Vec<_> = rows.iter().filter(|(way, _)| format!("{name} {way}").contains(filter)).collect();
    if !rows.is_empty() {
        line(name, columns);
        for (way, row) in rows {
            line(way, &row());
        }
        println!();
    }
}

fn size(len: usize) -> String {
    match len {
        0x10_0000.. => format!("{} MiB", len >> 20),
        0x400.. => format!("{} KiB", len >> 10),
        _ => format!("{len} B"),
    }
}
