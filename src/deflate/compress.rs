//! Messages on their way out, compressed when they are accepted (RFC 7692 §7.2.1).

use std::{fmt, io};

use bytes::Bytes;
use zlib_rs::{Deflate as Compressor, DeflateConfig, DeflateFlush};

use super::TAIL;
use crate::{
    frame::{Message, Opcode},
    options::{Checks, Deflate, Role, Settings},
    pool,
};

/// What makes one compressor as good as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Config {
    level: u8,
    memory_level: u8,
    bits: u8,
}

impl Config {
    const fn key(self) -> [u8; 3] {
        [self.level, self.memory_level, self.bits]
    }
}

/// What holds for the messages that one side of a connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sending {
    config: Config,
    threshold: usize,
    takeover: bool,
}

impl Sending {
    /// How messages are compressed, if they are.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        let deflate = settings.deflate.as_ref().filter(|_| settings.checks != Checks::Off);
        deflate.map(|deflate| Self::new(deflate, settings.role))
    }

    /// For the end of the given role.
    pub(super) fn new(deflate: &Deflate, role: Role) -> Self {
        let params = &deflate.params;
        let (bits, no_takeover) = match role {
            Role::Client => (params.client_max_window_bits, params.client_no_context_takeover),
            Role::Server => (params.server_max_window_bits, params.server_no_context_takeover),
        };
        let config = Config {
            level: deflate.level.min(9),
            memory_level: deflate.memory_level.clamp(1, 9),
            bits: bits.min(15),
        };
        Self { config, threshold: deflate.threshold, takeover: !no_takeover }
    }

    /// Whether both make the same of a message that refers to no other.
    pub(crate) fn is_like(&self, other: Self) -> bool {
        self.config == other.config
    }

    /// Returns whether to compress the message that begins with this frame: `false` if the caller has compressed it.
    pub(crate) fn compresses(&self, message: &Message) -> bool {
        // A window of 256 bytes is beyond our compressor: what it makes could refer to what is too far back.
        self.config.bits >= 9
            && matches!(message.opcode, Opcode::TEXT | Opcode::BINARY)
            && !message.rsv1
            && (!message.fin || message.payload.len() >= self.threshold)
    }
}

/// The message that is going out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// None is, or one that stays as it is.
    Plain,
    /// One that is being compressed.
    Compressed,
    /// One that the caller has compressed.
    Passed,
}

/// Compresses the messages of one direction of a connection.
pub(crate) struct Deflater {
    sending: Sending,
    enabled: bool,
    open: Open,
    /// What later messages may refer to, or `None`: nothing.
    compressor: Option<Compressor>,
}

impl Deflater {
    pub(crate) fn new(sending: Sending) -> Self {
        Self { sending, enabled: true, open: Open::Plain, compressor: None }
    }

    /// Whether messages that begin from now on are compressed.
    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Compresses the payload of a frame if its message is compressed. Returns the replaced payload, because its
    /// destructor may be the caller's and must not run under a lock.
    pub(crate) fn on_message(&mut self, message: &mut Message) -> io::Result<Option<Bytes>> {
        let mut replaced = None;
        if !message.is_data() {
            return Ok(replaced);
        }
        let first = message.opcode != Opcode::CONTINUATION;
        if first {
            self.open = if message.rsv1 {
                Open::Passed
            } else if self.enabled && self.sending.compresses(message) {
                Open::Compressed
            } else {
                Open::Plain
            };
        }
        match self.open {
            Open::Plain => {}
            // The peer's window moves on, ours does not.
            Open::Passed => self.release(),
            Open::Compressed => {
                let compressed = self.compress(&message.payload, message.fin)?;
                // Where later messages refer to this one, it must go out compressed.
                let helps = self.sending.takeover || compressed.len() < message.payload.len();
                if helps || !first || !message.fin {
                    replaced = Some(std::mem::replace(&mut message.payload, compressed));
                    message.rsv1 = first;
                }
            }
        }
        if message.fin {
            self.open = Open::Plain;
            if !self.sending.takeover {
                self.release();
            }
        }
        Ok(replaced)
    }

    fn compress(&mut self, payload: &[u8], fin: bool) -> io::Result<Bytes> {
        let config = self.sending.config;
        let compressor = self.compressor.get_or_insert_with(|| take(config));
        let compressed = compress(compressor, payload, fin);
        if compressed.is_err() {
            self.compressor = None;
        }
        compressed
    }

    fn release(&mut self) {
        if let Some(compressor) = self.compressor.take() {
            give(self.sending.config, compressor);
        }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("sending", &self.sending).finish_non_exhaustive()
    }
}

/// A whole message compressed such that it refers to no other, if that makes it shorter.
pub(crate) fn compress_alone(sending: Sending, payload: &[u8]) -> Option<Bytes> {
    let mut compressor = take(sending.config);
    let compressed = compress(&mut compressor, payload, true).ok()?;
    give(sending.config, compressor);
    Some(compressed).filter(|compressed| compressed.len() < payload.len())
}

/// Compresses a part of a message, up to the end of a block and of a byte; `fin`: the last part.
fn compress(compressor: &mut Compressor, mut payload: &[u8], fin: bool) -> io::Result<Bytes> {
    if payload.is_empty() {
        // §7.2.3.6: "the endpoint can use a single octet 0x00": the start of an empty block.
        return Ok(Bytes::from_static(if fin { &[0x00] } else { &[] }));
    }
    let mut output = pool::take_chunk();
    let mut earlier = Vec::new();
    let compressed = loop {
        let (total_in, total_out) = (compressor.total_in(), compressor.total_out());
        if let Err(error) = compressor.compress(payload, &mut output, DeflateFlush::SyncFlush) {
            break Err(io::Error::other(error.as_str()));
        }
        let taken = usize::try_from(compressor.total_in() - total_in).unwrap_or(payload.len());
        let made = usize::try_from(compressor.total_out() - total_out).unwrap_or(output.len());
        payload = payload.get(taken..).unwrap_or_default();
        let made = output.get(..made).unwrap_or(&output);
        if made.len() < output.len() && payload.is_empty() {
            break Ok(finish(earlier, made, fin));
        }
        if made.is_empty() && taken == 0 {
            break Err(io::Error::other("the compressor is stuck"));
        }
        earlier.extend_from_slice(made);
    };
    pool::give_chunk(output);
    compressed
}

/// All that the compressor has made, without the tail.
fn finish(mut earlier: Vec<u8>, latest: &[u8], fin: bool) -> Bytes {
    let cut =
        |bytes: &[u8]| if fin && bytes.ends_with(&TAIL) { bytes.len() - TAIL.len() } else { bytes.len() };
    if earlier.is_empty() {
        return Bytes::copy_from_slice(latest.get(..cut(latest)).unwrap_or(latest));
    }
    earlier.extend_from_slice(latest);
    earlier.truncate(cut(&earlier));
    earlier.shrink_to_fit();
    Bytes::from(earlier)
}

/// A compressor that remembers nothing.
fn take(config: Config) -> Compressor {
    pool::take_compressor(config.key()).unwrap_or_else(|| {
        Compressor::new_with_config(DeflateConfig {
            level: i32::from(config.level),
            mem_level: i32::from(config.memory_level),
            window_bits: -i32::from(config.bits),
            ..DeflateConfig::default()
        })
    })
}

fn give(config: Config, mut compressor: Compressor) {
    compressor.reset();
    pool::give_compressor(config.key(), compressor);
}
