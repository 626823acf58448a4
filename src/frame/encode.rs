//! Frames on their way out: headers and small payloads in one buffer, large payloads as they are.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use super::{
    header::{self, Header},
    mask::{extend_masked, mask, rotate},
};
use crate::pool;

/// Below this, an unmasked payload is copied behind its header: one more slice in a vectored write costs more.
const COPY_BELOW: usize = 1 << 10;

/// The same where the transport takes one slice at a time, so that a header would go out alone: copying costs less than
/// a second write.
const COPY_BELOW_UNVECTORED: usize = 64 << 10;

/// After so many vectored writes in a row of which only the first slice went out, that is what the transport does.
const UNVECTORED_AFTER: u8 = 2;

/// Below this, a payload is masked when it is accepted; from here on, when it is written, so that a large
/// message is not held twice.
const MASK_LATE_FROM: usize = 64 << 10;

/// How much is masked at a time.
const MASK_CHUNK: usize = 64 << 10;

/// Up to this capacity the buffer is kept while it is empty.
const KEPT: usize = 128;

/// For so many large payloads as well.
const KEPT_LARGE: usize = 1;

/// How many slices go into one vectored write at most.
pub(crate) const SLICES: usize = 16;

/// A payload up to this length makes a [`short_frame`].
pub(crate) const SHORT: usize = 128;

/// A whole frame, masked where there is a key, and its length. The payload is not longer than [`SHORT`].
#[inline]
pub(crate) fn short_frame(header: &Header, payload: &[u8]) -> ([u8; header::ROOM + SHORT], usize) {
    let mut frame = [0; header::ROOM + SHORT];
    let (head, head_len) = header.bytes();
    if let Some(start) = frame.first_chunk_mut() {
        *start = head;
    }
    if let Some(rest) = frame.get_mut(head_len..head_len + SHORT) {
        if let Some(place) = rest.get_mut(..payload.len()) {
            place.copy_from_slice(payload);
        }
        if let Some(key) = header.masking_key() {
            // All of it: one length that is known.
            mask(rest, key);
        }
    }
    (frame, head_len + payload.len())
}

/// Encoded frames that the transport has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Headers and small payloads, of which the first `taken` bytes are gone.
    small: Vec<u8>,
    taken: usize,
    /// Payloads that stand between bytes of `small`.
    large: VecDeque<Large>,
    /// The next part of the first large payload, masked.
    masked: Vec<u8>,
    masked_taken: usize,
    len: usize,
    /// How many vectored writes in a row wrote only their first slice.
    unvectored: u8,
}

#[derive(Debug)]
struct Large {
    /// The payload comes after this many bytes of `small`.
    after: usize,
    /// What is left of it (and not yet in `masked`).
    payload: Bytes,
    masking_key: Option<[u8; 4]>,
}

impl Queue {
    /// How many bytes wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Accepts one frame, whole. The payload is not masked yet, whatever the header says; it is taken where it is
    /// not copied.
    #[inline]
    pub(crate) fn push(&mut self, header: &Header, payload: &mut Bytes) -> usize {
        let payload_len = payload.len();
        let copied = if header.is_masked() { payload_len < MASK_LATE_FROM } else { self.copies(payload_len) };
        let needed = header::ROOM + if copied { payload_len } else { 0 };
        if self.small.capacity() - self.small.len() < needed {
            self.make_room(needed);
        }
        let start = self.small.len();
        header.encode(&mut self.small);
        let wire_len = self.small.len() - start + payload_len;
        self.len += wire_len;
        match header.masking_key() {
            masking_key if !copied => self.push_large(std::mem::take(payload), masking_key),
            Some(key) => extend_masked(&mut self.small, payload, key),
            None => self.small.extend_from_slice(payload),
        }
        wire_len
    }

    /// Whether an unmasked payload of this length is copied behind its header.
    #[inline]
    pub(crate) fn copies(&self, payload_len: usize) -> bool {
        payload_len < if self.unvectored < UNVECTORED_AFTER { COPY_BELOW } else { COPY_BELOW_UNVECTORED }
    }

    /// Several slices were to be written, the first of which has this length, and so many bytes were.
    #[inline]
    pub(crate) fn on_vectored(&mut self, first_len: usize, written: usize) {
        if written > first_len {
            self.unvectored = 0;
        } else if written == first_len {
            self.unvectored = self.unvectored.saturating_add(1);
        }
    }

    fn push_large(&mut self, payload: Bytes, masking_key: Option<[u8; 4]>) {
        if self.large.capacity() == 0 {
            // Most go out alone; room for one is kept, as it costs little.
            self.large.reserve_exact(KEPT_LARGE);
        }
        self.large.push_back(Large { after: self.small.len(), payload, masking_key });
    }

    /// A buffer of one's own is small. What outgrows it goes into one of the pool, which is given back when it is
    /// empty, so that in the long run nothing is allocated and an idle connection holds next to nothing.
    #[cold]
    fn make_room(&mut self, needed: usize) {
        if self.small.capacity() > KEPT {
            self.small.reserve(needed);
        } else if self.small.len() + needed <= KEPT {
            self.small.reserve_exact(KEPT - self.small.len());
        } else {
            let mut larger = pool::take_vector();
            larger.reserve(self.small.len() + needed);
            larger.extend_from_slice(&self.small);
            self.small = larger;
        }
    }

    /// Everything that waits, where it is in one piece.
    #[inline]
    pub(crate) fn in_one_piece(&self) -> Option<&[u8]> {
        if self.large.is_empty() && self.masked.is_empty() { self.small.get(self.taken..) } else { None }
    }

    /// Everything that waits, where it is one frame whose payload goes out as it is.
    #[inline]
    pub(crate) fn in_two_pieces(&self) -> Option<[&[u8]; 2]> {
        let head = self.small.get(self.taken..).filter(|head| !head.is_empty())?;
        match self.large.front()? {
            Large { after, payload, masking_key: None }
                if self.large.len() == 1 && *after == self.small.len() && self.masked.is_empty() =>
            {
                Some([head, payload])
            }
            _ => None,
        }
    }

    /// What to write next, in order: the first of the slices, as many as it says.
    pub(crate) fn next<'a>(&'a mut self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        self.mask_next();
        self.fill(slices)
    }

    /// Where the next thing to write is a payload to be masked, masks a part of it.
    fn mask_next(&mut self) {
        if self.masked_taken < self.masked.len() {
            return;
        }
        let taken = self.taken;
        let Some(Large { after, payload, masking_key: Some(key) }) = self.large.front_mut() else {
            return;
        };
        if *after > taken {
            return;
        }
        if self.masked.capacity() == 0 {
            self.masked = pool::take_vector();
        }
        self.masked.clear();
        self.masked_taken = 0;
        let part = payload.split_to(payload.len().min(MASK_CHUNK));
        extend_masked(&mut self.masked, &part, *key);
        *key = rotate(*key, part.len());
    }

    /// What is still to be masked ends it.
    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        let mut add = |bytes: &'a [u8]| {
            if let Some(slice) = slices.get_mut(count).filter(|_| !bytes.is_empty()) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        };
        let mut from = self.taken;
        add(self.masked.get(self.masked_taken..).unwrap_or_default());
        for large in self.large.iter().take(SLICES) {
            add(self.small.get(from..large.after).unwrap_or_default());
            from = large.after;
            if large.masking_key.is_some() && !large.payload.is_empty() {
                return count;
            }
            add(&large.payload);
        }
        add(self.small.get(from..).unwrap_or_default());
        count
    }

    /// So much of it has been written.
    #[inline]
    pub(crate) fn consume(&mut self, written: usize) {
        if written < self.len {
            return self.consume_part(written);
        }
        self.len = 0;
        self.taken = 0;
        self.small.clear();
        while self.large.pop_front().is_some() {}
        if self.small.capacity() > KEPT || self.masked.capacity() > 0 || self.large.capacity() > KEPT_LARGE {
            self.give_back();
        }
    }

    /// So much of it has been written, and something is left.
    #[cold]
    fn consume_part(&mut self, written: usize) {
        let mut left = written;
        self.len -= written;
        let part = left.min(self.masked.len() - self.masked_taken);
        self.masked_taken += part;
        left -= part;
        while let Some(large) = self.large.front_mut() {
            let part = left.min(large.after - self.taken);
            self.taken += part;
            left -= part;
            if self.taken < large.after {
                break;
            }
            let part = left.min(large.payload.len());
            drop(large.payload.split_to(part));
            left -= part;
            if !large.payload.is_empty() || self.masked_taken < self.masked.len() {
                break;
            }
            self.large.pop_front();
        }
        self.taken += left;
        if self.taken >= pool::CHUNK_LEN && self.taken > self.small.len() / 2 {
            self.small.drain(..self.taken);
            for large in &mut self.large {
                large.after -= self.taken;
            }
            self.taken = 0;
        }
    }

    /// Gives back what is not needed while nothing waits.
    fn give_back(&mut self) {
        self.masked_taken = 0;
        if self.small.capacity() > KEPT {
            pool::give_vector(std::mem::take(&mut self.small));
        }
        if self.masked.capacity() > 0 {
            pool::give_vector(std::mem::take(&mut self.masked));
        }
        if self.large.capacity() > KEPT_LARGE {
            self.large = VecDeque::new();
        }
    }
}
