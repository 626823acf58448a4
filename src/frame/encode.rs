//! Frames on their way out: headers and small payloads in one buffer, large payloads as they are.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use super::{
    header::{self, Header},
    mask::{append_masked, mask, rotate},
};
use crate::{buffer::Buffer, pool, sync::isolate};

/// Below this, an unmasked payload is copied behind its header: one more slice in a vectored write costs more.
const COPY_BELOW: usize = 4 << 10;

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

/// From this length on, a masked payload is put where vectors do not lie across cache lines.
const ALIGNED_FROM: usize = 1 << 10;

/// Up to this capacity the buffer is kept while it is empty.
const KEPT: usize = 128;

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
    small: Buffer,
    taken: usize,
    /// Payloads that stand between bytes of `small`.
    large: VecDeque<Large>,
    /// The next part of the first large payload, if that is to be masked. In a box, since it seldom is.
    masked: Option<Box<Masked>>,
    len: usize,
    /// How many vectored writes in a row wrote only their first slice.
    unvectored: u8,
    recycles: bool,
    /// Boxed, because it is usually absent.
    spent: Option<Box<Spent>>,
}

/// Written payloads, to be dropped while no lock is held because their destructors may be the caller's.
#[derive(Debug, Default)]
struct Spent(Vec<Bytes>);

#[derive(Debug)]
struct Masked {
    bytes: Buffer,
    taken: usize,
}

impl Masked {
    fn rest(&self) -> &[u8] {
        self.bytes.as_slice().get(self.taken..).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Large {
    /// The payload comes after this many bytes of `small`.
    after: usize,
    /// Whole, so that its room can be used again.
    payload: Bytes,
    /// How much of it is gone, or in `masked`.
    taken: usize,
    masking_key: Option<[u8; 4]>,
}

impl Drop for Large {
    /// Drops the unsent payloads. If a destructor panics, the others still run, and a second panic does not abort the
    /// process.
    fn drop(&mut self) {
        isolate(|| drop(std::mem::take(&mut self.payload)));
    }
}

impl Large {
    fn rest(&self) -> &[u8] {
        self.payload.get(self.taken..).unwrap_or_default()
    }
}

impl Queue {
    /// `recycles`: the room of large payloads is kept for those that come in, some of which will be as long.
    pub(crate) fn new(recycles: bool) -> Self {
        Self { recycles, ..Self::default() }
    }

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
        let (head, head_len) = header.bytes();
        if self.len == 0 && copied && header.is_masked() && payload_len >= ALIGNED_FROM {
            // The bytes before the header count as taken. An empty `small` does not prove that the queue is empty: a
            // large payload may wait behind bytes of `small` that were written and removed.
            self.taken = head.len() - head_len;
            self.small.extend(head.get(..self.taken).unwrap_or_default());
        }
        self.small.extend(head.get(..head_len).unwrap_or_default());
        self.len += head_len + payload_len;
        match header.masking_key() {
            masking_key if !copied => {
                let payload = std::mem::take(payload);
                self.large.push_back(Large { after: self.small.len(), payload, taken: 0, masking_key });
            }
            Some(key) => append_masked(&mut self.small, payload, key),
            None => self.small.extend(payload),
        }
        self.let_go(payload);
        self.assert_agreement();
        head_len + payload_len
    }

    /// Asserts that the cursors agree: the remaining parts add up to `len`, and no payload precedes removed bytes.
    #[inline]
    fn assert_agreement(&self) {
        debug_assert!(self.taken <= self.small.len());
        debug_assert!(self.large.front().is_none_or(|first| self.taken <= first.after));
        debug_assert!(self.large.back().is_none_or(|last| last.after <= self.small.len()));
        debug_assert!(self.large.front().is_none_or(|first| first.taken <= first.payload.len()));
        debug_assert_eq!(self.len, {
            let masked = self.masked.as_ref().map_or(0, |masked| masked.rest().len());
            self.small().len() + masked + self.large.iter().map(|large| large.rest().len()).sum::<usize>()
        });
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

    /// A buffer of one's own is small. What outgrows it goes into one of the pool, which is given back when it is
    /// empty, so that in the long run nothing is allocated and an idle connection holds next to nothing.
    #[cold]
    fn make_room(&mut self, needed: usize) {
        if self.small.capacity() > KEPT {
            self.small.reserve(needed);
        } else if self.small.len() + needed <= KEPT {
            self.small.reserve_exact(KEPT - self.small.len());
        } else {
            let mut larger = pool::take_buffer();
            larger.reserve(self.small.len() + needed);
            larger.extend(self.small.as_slice());
            self.small = larger;
        }
    }

    /// What of the small bytes waits.
    #[inline]
    fn small(&self) -> &[u8] {
        self.small.as_slice().get(self.taken..).unwrap_or_default()
    }

    /// Everything that waits, where it is in one piece.
    #[inline]
    pub(crate) fn in_one_piece(&self) -> Option<&[u8]> {
        if self.large.is_empty() { Some(self.small()) } else { None }
    }

    /// Everything that waits, where it is one frame whose payload goes out as it is.
    #[inline]
    pub(crate) fn in_two_pieces(&self) -> Option<[&[u8]; 2]> {
        let head = Some(self.small()).filter(|head| !head.is_empty())?;
        match self.large.front()? {
            large @ Large { after, masking_key: None, .. }
                if self.large.len() == 1 && *after == self.small.len() =>
            {
                Some([head, large.rest()])
            }
            _ => None,
        }
    }

    /// What to write next, in order: the first of the slices, as many as it says.
    pub(crate) fn next<'a>(&'a mut self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        self.mask_next();
        self.fill(slices)
    }

    /// Where the first large payload is to be masked and none of it waits, masks a part of it.
    fn mask_next(&mut self) {
        let Some(large @ Large { masking_key: Some(_), .. }) = self.large.front_mut() else {
            return;
        };
        let masked =
            self.masked.get_or_insert_with(|| Box::new(Masked { bytes: pool::take_buffer(), taken: 0 }));
        if masked.taken < masked.bytes.len() {
            return;
        }
        masked.bytes.clear();
        masked.taken = 0;
        let rest = large.rest();
        let part = rest.get(..MASK_CHUNK).unwrap_or(rest);
        append_masked(&mut masked.bytes, part, rotate(large.masking_key.unwrap_or_default(), large.taken));
        large.taken += part.len();
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
        let mut masked = self.masked.as_ref().map(|masked| masked.rest());
        for large in self.large.iter().take(SLICES) {
            add(self.small.as_slice().get(from..large.after).unwrap_or_default());
            from = large.after;
            add(masked.take().unwrap_or_default());
            if large.masking_key.is_some() && !large.rest().is_empty() {
                return count;
            }
            add(large.rest());
        }
        add(self.small.as_slice().get(from..).unwrap_or_default());
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
        if self.small.capacity() > KEPT || self.large.capacity() > 0 {
            self.give_back();
        }
        self.assert_agreement();
    }

    /// So much of it has been written, and something is left.
    #[cold]
    fn consume_part(&mut self, written: usize) {
        let mut left = written;
        self.len -= written;
        while let Some(large) = self.large.front_mut() {
            let part = left.min(large.after - self.taken);
            self.taken += part;
            left -= part;
            if self.taken < large.after {
                break;
            }
            if let Some(masked) = &mut self.masked {
                let part = left.min(masked.bytes.len() - masked.taken);
                masked.taken += part;
                left -= part;
                if masked.taken < masked.bytes.len() {
                    break;
                }
            }
            let part = left.min(large.rest().len());
            large.taken += part;
            left -= part;
            if !large.rest().is_empty() {
                break;
            }
            if let Some(mut large) = self.large.pop_front() {
                self.spend(std::mem::take(&mut large.payload));
            }
        }
        self.taken += left;
        if self.taken >= pool::CHUNK_LEN && self.taken > self.small.len() / 2 {
            self.small.remove_first(self.taken);
            for large in &mut self.large {
                large.after -= self.taken;
            }
            self.taken = 0;
        }
        self.assert_agreement();
    }

    /// Gives back what is not needed while nothing waits.
    fn give_back(&mut self) {
        if self.small.capacity() > KEPT {
            pool::give_buffer(std::mem::take(&mut self.small));
        }
        if let Some(masked) = self.masked.take() {
            pool::give_buffer(masked.bytes);
        }
        for mut large in std::mem::take(&mut self.large) {
            self.spend(std::mem::take(&mut large.payload));
        }
    }

    /// Discards a payload that was written or replaced by its compressed form. If dropping it may run code of the
    /// caller, keeps it for [`take_spent`](Self::take_spent).
    pub(crate) fn spend(&mut self, mut payload: Bytes) {
        self.let_go(&mut payload);
        // A `Bytes` made from an owner is never unique.
        if !payload.is_unique() {
            self.spent.get_or_insert_default().0.push(payload);
        }
    }

    #[inline]
    pub(crate) fn has_spent(&self) -> bool {
        self.spent.is_some()
    }

    /// Returns the payloads to drop.
    pub(crate) fn take_spent(&mut self) -> Vec<Bytes> {
        self.spent.take().map(|spent| spent.0).unwrap_or_default()
    }

    /// A payload has been written or copied. Unless its room is kept, it is left as it is.
    #[inline]
    pub(crate) fn let_go(&self, payload: &mut Bytes) {
        if self.recycles {
            pool::recycle(payload);
        }
    }
}
