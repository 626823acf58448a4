//! The writer's queue is bytes in order: whatever part of it the transport has taken, the frames behind it go out
//! whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions of tests may fail like tests"
)]

mod common;

use common::{
    alone,
    drive::{drive, now},
    pipe,
    wire::Dice,
};
use coro_websocket::{
    Checks, FrameReader, FrameWriter, Message, Options, Server, ServerOptions, SinkExt, StreamExt,
    WrapOptions, connect,
};
use futures::executor::block_on;

const KIB: usize = 1 << 10;

/// Lengths of the last frame: several that are copied into the queue, and one that is not copied.
const LAST_LENS: [usize; 6] = [KIB, 2 * KIB, 7514, 32 * KIB, 64 * KIB - 1, 64 * KIB];

/// Every way of writing masked frames and one of writing unmasked ones, each with the options of a reader for them.
fn writers() -> Vec<(&'static str, WrapOptions, WrapOptions)> {
    let (client, server) = (WrapOptions::client, WrapOptions::server);
    vec![
        ("client", client(), server()),
        ("server that masks", server().mask(true), server()),
        ("client that reports", client().checks(Checks::Report), server()),
        ("raw frames with the mask bit", server().checks(Checks::Off), server()),
        ("server", server(), client()),
        #[cfg(feature = "deflate")]
        (
            "client that compresses",
            client().deflate(coro_websocket::Deflate::default()),
            server().deflate(coro_websocket::Deflate::default()),
        ),
    ]
}

/// A frame that compressing makes no shorter. Its mask bit counts for raw frames only.
fn frame(dice: &mut Dice, len: usize) -> Message {
    Message { mask: true, ..Message::binary(dice.bytes(len)) }
}

/// 30 small frames, then one of 100 KiB.
fn first_frames(dice: &mut Dice) -> Vec<Message> {
    let lens = [KIB; 30].into_iter().chain([100 * KIB]);
    lens.map(|len| frame(dice, len)).collect()
}

/// These bytes are these frames, one after the other.
fn assert_wire(bytes: &[u8], reader: WrapOptions, sent: &[Message], case: &str) {
    let mut reader = FrameReader::new(bytes, reader);
    for (index, expected) in sent.iter().enumerate() {
        let arrived = drive(reader.next()).unwrap_or_else(|| panic!("{case}: frame {index} is missing"));
        let arrived = arrived.unwrap_or_else(|error| panic!("{case}: frame {index}: {error}"));
        assert!(arrived.payload == expected.payload, "{case}: frame {index} differs: {arrived}");
    }
    assert!(drive(reader.next()).is_none(), "{case}: nothing follows the last frame");
}

#[test]
fn frame_behind_a_partly_written_large_one_arrives_whole() {
    for (name, options, reader) in writers() {
        for last_len in LAST_LENS {
            let case = format!("{name}, {last_len} bytes behind 100 KiB");
            let mut dice = Dice::new(1);
            let mut sent = first_frames(&mut dice);
            let ((_read, mut write), mut far) = alone(100 * KIB, options.clone());
            for frame in &sent {
                drive(write.feed(frame.clone())).unwrap();
            }
            // The transport takes the small frames and a part of the large one.
            assert!(now(write.flush()).is_pending());
            assert!(write.buffered() < 64 * KIB, "{case}: there is room for another frame");
            sent.push(frame(&mut dice, last_len));
            drive(write.feed(sent[31].clone())).unwrap();
            far.grow(1 << 20);
            drive(write.flush()).unwrap();
            assert_wire(&far.input.take_all(), reader.clone(), &sent, &case);
        }
    }
}

#[test]
fn frame_of_a_clone_behind_a_partly_written_large_one_arrives_whole() {
    for (name, options, reader) in writers() {
        let mut dice = Dice::new(2);
        let mut sent = first_frames(&mut dice);
        let ((_read, mut write), mut far) = alone(100 * KIB, options);
        let mut clone = write.clone();
        for frame in &sent {
            drive(write.feed(frame.clone())).unwrap();
        }
        assert!(now(write.flush()).is_pending());
        sent.push(frame(&mut dice, 2 * KIB));
        // Dropping the future does not withdraw the frame.
        assert!(now(clone.send(sent[31].clone())).is_pending());
        far.grow(1 << 20);
        drive(clone.flush()).unwrap();
        assert_wire(&far.input.take_all(), reader, &sent, name);
    }
}

#[test]
fn frames_fed_to_a_frame_writer_arrive_whole() {
    for (name, options, reader) in writers() {
        for last_len in LAST_LENS {
            let case = format!("{name}, {last_len} bytes behind 127,288");
            let mut dice = Dice::new(3);
            let sent = [32 * KIB, 127_288, last_len].map(|len| frame(&mut dice, len));
            // A vector takes everything. The queue is left with the start of the second frame when the third is fed.
            let mut writer = FrameWriter::new(Vec::new(), options.clone());
            for frame in &sent {
                drive(writer.feed(frame.clone())).unwrap();
            }
            drive(writer.flush()).unwrap();
            assert_wire(&writer.into_inner(), reader.clone(), &sent, &case);
        }
    }
}

#[test]
fn frame_behind_several_partly_written_large_ones_arrives_whole() {
    for (name, options, reader) in writers() {
        let mut dice = Dice::new(4);
        let mut sent = first_frames(&mut dice);
        // A mark above all of it, so that several large payloads are in the queue at once.
        let options = options.write_buffer_len(1 << 20);
        let (io, mut far) = pipe(60 * KIB);
        let mut writer = FrameWriter::new(io, options);
        sent.extend([70, 80, 90].map(|kib| frame(&mut dice, kib * KIB)));
        for frame in &sent {
            drive(writer.feed(frame.clone())).unwrap();
        }
        let mut arrived = Vec::new();
        while now(writer.flush()).is_pending() {
            arrived.extend(far.take_all());
            sent.push(frame(&mut dice, 3 * KIB));
            drive(writer.feed(sent[sent.len() - 1].clone())).unwrap();
        }
        arrived.extend(far.take_all());
        assert_wire(&arrived, reader, &sent, name);
    }
}

#[test]
fn messages_of_mixed_sizes_over_tcp_arrive_whole_at_a_slow_server() {
    let server = block_on(Server::bind("127.0.0.1:0", ServerOptions::default())).unwrap();
    let address = server.local_addr().unwrap();
    let sender = std::thread::Builder::new().spawn(move || {
        block_on(async {
            let options = Options::from_url(&format!("ws://{address}/")).unwrap();
            let (_, _read, mut write) = connect(options).await.unwrap();
            for round in 0..=255_u8 {
                for len in [1500; 20].into_iter().chain([100 * KIB, 2000]) {
                    write.feed(Message::binary(vec![round; len])).await?;
                }
            }
            write.close_with(1000, "").await
        })
    });
    let arrived: Result<usize, String> = block_on(async {
        let (_request, mut read, _write) = server.accept().await.unwrap().unwrap();
        let mut whole = 0;
        while let Some(message) = read.next().await {
            let message = message.map_err(|error| format!("after {whole} messages: {error}"))?;
            if message.is_data() {
                let first = message.payload[0];
                if message.payload.iter().any(|byte| *byte != first) {
                    return Err(format!("the content of message {whole} is not what was sent"));
                }
                whole += 1;
                if whole % 16 == 0 {
                    // The server is the slower one, so that the client's socket is full again and again.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        }
        Ok(whole)
    });
    assert_eq!(arrived, Ok(256 * 22));
    sender.unwrap().join().unwrap().unwrap();
}
