//! permessage-deflate: texts of 1 KiB are compressed on one side, inflated, compressed again and sent back by the
//! other, inflated and compared.

use std::{cell::Cell, rc::Rc};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::{
    Effort,
    echo::measure,
    grid::{Grid, short},
    load::{Dialogue, Load, Workload},
    peers::{DEFLATE, DEFLATE_SERVERS},
    server::Server,
    wire::{Head, KEY, RSV1, TEXT, put_frame},
};

const LEN: usize = 1 << 10;
const CONNECTIONS: [usize; 2] = [1, 64];
const FRESH: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
/// What a sync flush ends with, and a message leaves out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// CPU time.
pub(crate) fn run(effort: Effort) -> Grid {
    let rows: Vec<_> = DEFLATE_SERVERS.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let workloads = CONNECTIONS.map(|connections| Workload { connections, len: LEN, in_flight: 1 });
    let columns = workloads.iter().map(|workload| format!("{workload} deflated"));
    let mut times = Grid::new(rows.clone(), columns.collect());
    let mut sizes = Grid::new(rows.clone(), vec!["bytes of a message".to_owned()]);
    let servers: Vec<_> = rows.iter().map(|(name, _)| Server::start(name)).collect();
    let texts = texts();
    for (column, workload) in workloads.into_iter().enumerate() {
        let counters: Vec<Rc<Cell<Counter>>> = servers.iter().map(|_| Rc::default()).collect();
        let loads = servers.iter().zip(&counters).zip(&rows).map(|((server, counter), (name, _))| {
            // It inflates each message alone, whatever was agreed on, so it has to be offered that.
            let offer = if name.starts_with("soketto") { Some(FRESH) } else { DEFLATE };
            Load::connect_with(server.address, workload, offer, |agreed| {
                Box::new(Compressing::new(Rc::clone(&texts), Rc::clone(counter), agreed))
            })
        });
        measure(&servers, &mut loads.collect::<Vec<_>>(), effort, |row, time| times.add(row, column, time));
        for (row, counter) in counters.iter().enumerate().filter(|_| column == 0) {
            let Counter { messages, bytes } = counter.get();
            sizes.add(row, 0, bytes as f64 / messages as f64);
        }
    }
    println!(
        "\n## permessage-deflate\n\nTexts of 1 KiB; the load generator compresses at level 6 with its context kept."
    );
    times.print("CPU time of the server per message, ns", short);
    sizes.print("What of 1 KiB is sent back", short);
    times
}

/// Records of a kind that servers send: keys repeat, values differ.
fn texts() -> Rc<Vec<String>> {
    let mut state = 1_u32;
    let mut number = |below| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut text = || {
        let mut text = String::new();
        while text.len() < LEN {
            let (id, side) = (number(1_000_000), ["buy", "sell"][number(2) as usize]);
            let (price, amount) = (f64::from(number(100_000)) / 100.0, number(5000));
            text +=
                &format!("{{\"id\":{id},\"side\":\"{side}\",\"price\":{price:.2},\"amount\":{amount}}},\n");
        }
        text.truncate(LEN);
        text
    };
    Rc::new((0..256).map(|_| text()).collect())
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    messages: u64,
    bytes: u64,
}

/// One text after the other.
struct Compressing {
    texts: Rc<Vec<String>>,
    sent: usize,
    answered: usize,
    compress: Compress,
    keeps_context: bool,
    decompress: Decompress,
    due: Vec<u8>,
    input: Vec<u8>,
    counter: Rc<Cell<Counter>>,
}

impl Compressing {
    fn new(texts: Rc<Vec<String>>, counter: Rc<Cell<Counter>>, agreed: Option<&str>) -> Self {
        let agreed = agreed.expect("the server agrees to compress");
        Self {
            texts,
            sent: 0,
            answered: 0,
            compress: Compress::new(Compression::default(), false),
            keeps_context: !agreed.contains("client_no_context_takeover"),
            decompress: Decompress::new(false),
            due: Vec::new(),
            input: Vec::new(),
            counter,
        }
    }

    fn take_answer(&mut self) -> bool {
        let Some(head) = Head::parse(&self.input) else { return false };
        let end = head.size + head.len;
        if self.input.len() < end {
            return false;
        }
        assert_eq!(head.first, TEXT | RSV1, "it does not compress");
        let mut text = Vec::with_capacity(2 * LEN);
        for part in [&self.input[head.size..end], &TAIL] {
            self.decompress.decompress_vec(part, &mut text, FlushDecompress::Sync).unwrap();
        }
        assert!(
            text == self.texts[self.answered % self.texts.len()].as_bytes(),
            "it sends something else back"
        );
        self.input.drain(..end);
        self.answered += 1;
        let Counter { messages, bytes } = self.counter.get();
        self.counter.set(Counter { messages: messages + 1, bytes: bytes + head.len as u64 });
        true
    }
}

impl Dialogue for Compressing {
    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let text = self.texts[self.sent % self.texts.len()].as_bytes();
            let mut payload = Vec::with_capacity(2 * LEN);
            self.compress.compress_vec(text, &mut payload, FlushCompress::Sync).unwrap();
            payload.truncate(payload.len() - TAIL.len());
            if !self.keeps_context {
                self.compress.reset();
            }
            put_frame(&mut self.due, TEXT | RSV1, &payload, Some(KEY));
            self.sent += 1;
        }
    }

    fn due(&self) -> &[u8] {
        &self.due
    }

    fn wrote(&mut self, count: usize) {
        self.due.drain(..count);
    }

    fn got(&mut self, bytes: &[u8]) -> usize {
        self.input.extend_from_slice(bytes);
        let before = self.answered;
        while self.take_answer() {}
        self.answered - before
    }
}
