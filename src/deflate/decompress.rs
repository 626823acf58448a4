//! Messages of the peer, inflated as they come (RFC 7692 §7.2.2).

use std::{collections::VecDeque, fmt};

use zlib_rs::{Inflate, InflateFlush, Status};

use super::TAIL;
use crate::{
    error::ProtocolError,
    options::{Deflate, Role},
    pool,
};

/// A last block without content. A stream that it ends was at the end of a block before.
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// How often the stream may end and start anew within one message: compressors do so once, at the end of the
/// message or of a fragment, and each time costs as much as many bytes.
const MAX_RESTARTS: usize = 1024;

/// Inflates the messages of one direction of a connection.
///
/// Between messages it holds only what the peer may refer to; the inflater itself is lent by the thread.
pub(crate) struct Inflater {
    /// `Some` while a message is open.
    stream: Option<Inflate>,
    /// The last bytes of what came out.
    history: VecDeque<u8>,
    window_len: usize,
    takeover: bool,
    /// Whether the stream has started and nothing went in.
    fresh: bool,
    restarts: usize,
    /// Whether the rest of the message cannot be read.
    broken: bool,
}

impl Inflater {
    /// For the end of the given role. A window of 8 bits is taken for one of 9, which includes it.
    pub(crate) fn new(deflate: &Deflate, role: Role) -> Self {
        let params = &deflate.params;
        let bits = match role {
            Role::Client => params.server_max_window_bits,
            Role::Server => params.client_max_window_bits,
        };
        Self {
            stream: None,
            history: VecDeque::new(),
            window_len: 1 << bits.clamp(9, 15),
            takeover: deflate.is_taken_over(role),
            fresh: true,
            restarts: 0,
            broken: false,
        }
    }

    /// Takes a part of a message and gives what comes out of it, piece by piece, before more is made. `last`: it
    /// ends the message.
    pub(crate) fn inflate(
        &mut self,
        part: &[u8],
        last: bool,
        mut keep: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let inflated = if self.broken { Err(ProtocolError::Deflate) } else { self.feed(part, &mut keep) };
        let inflated = inflated.and_then(|()| if last { self.finish(&mut keep) } else { Ok(()) });
        self.broken = inflated.is_err() && !last;
        if last || inflated.is_err() {
            self.end();
        }
        inflated
    }

    /// All of the message has come.
    fn finish(
        &mut self,
        keep: &mut impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        // A message of nothing at all is empty, and so is what follows the last block of a stream.
        if self.fresh {
            return Ok(());
        }
        self.feed(&TAIL, keep)?;
        self.feed(&LAST_BLOCK, keep)?;
        if self.fresh { Ok(()) } else { Err(ProtocolError::Deflate) }
    }

    /// Begins a message. The previous message may be unfinished.
    pub(crate) fn begin(&mut self) {
        self.end();
        self.broken = false;
    }

    /// The message is over, or the rest of it cannot be read.
    fn end(&mut self) {
        if let Some(stream) = self.stream.take() {
            pool::give_inflater(stream);
        }
        if !self.takeover {
            self.history = VecDeque::new();
        }
        self.fresh = true;
        self.restarts = 0;
    }

    fn feed(
        &mut self,
        mut input: &[u8],
        keep: &mut impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        if input.is_empty() {
            return Ok(());
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                // One for the largest window does for all.
                let mut stream = pool::take_inflater().unwrap_or_else(|| Inflate::new(false, 15));
                self.start(&mut stream)?;
                stream
            }
        };
        let mut output = pool::take_chunk();
        let inflated = loop {
            let (total_in, total_out) = (stream.total_in(), stream.total_out());
            let Ok(status) = stream.decompress(input, &mut output, InflateFlush::NoFlush) else {
                break Err(ProtocolError::Deflate);
            };
            let taken = usize::try_from(stream.total_in() - total_in).unwrap_or(input.len());
            let made = usize::try_from(stream.total_out() - total_out).unwrap_or(output.len());
            input = input.get(taken..).unwrap_or_default();
            self.fresh &= taken == 0;
            let made = output.get(..made).unwrap_or(&output);
            if !made.is_empty() {
                if let Err(error) = keep(made) {
                    break Err(error);
                }
                self.remember(made);
            }
            if status == Status::StreamEnd {
                // §7.2.3.5: a block that says that it is the last one of its stream is not that of the message,
                // and what follows may refer to what came before.
                self.restarts += 1;
                if self.restarts > MAX_RESTARTS || self.start(&mut stream).is_err() {
                    break Err(ProtocolError::Deflate);
                }
            } else if taken == 0 && made.is_empty() && !input.is_empty() {
                break Err(ProtocolError::Deflate);
            }
            // Where the output is full, there may be more of it.
            if input.is_empty() && (self.fresh || made.len() < output.len()) {
                break Ok(());
            }
        };
        pool::give_chunk(output);
        self.stream = Some(stream);
        inflated
    }

    /// A stream that begins here, and may refer to what came before.
    fn start(&mut self, stream: &mut Inflate) -> Result<(), ProtocolError> {
        stream.reset(false);
        let (older, newer) = self.history.as_slices();
        for part in [older, newer] {
            if !part.is_empty() {
                stream.set_dictionary(part).map_err(|_| ProtocolError::Deflate)?;
            }
        }
        self.fresh = true;
        Ok(())
    }

    fn remember(&mut self, made: &[u8]) {
        let made = made.get(made.len().saturating_sub(self.window_len)..).unwrap_or_default();
        let len = self.history.len() + made.len();
        self.history.drain(..len.saturating_sub(self.window_len));
        if len > self.history.capacity() {
            let target = len.next_power_of_two().min(self.window_len);
            self.history.reserve_exact(target - self.history.len());
        }
        self.history.extend(made);
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("takeover", &self.takeover)
            .field("history", &self.history.len())
            .finish_non_exhaustive()
    }
}
