//! Buffers lent to connections while they work, so that an idle one holds none: a few per thread, kept warm.

use std::cell::RefCell;

use bytes::Bytes;

use crate::buffer::Buffer;

/// How much one read takes at most.
pub(crate) const CHUNK_LEN: usize = 20 << 10;

/// How many buffers of each kind a thread keeps.
const KEPT: usize = 4;

/// How many compressors a thread keeps: each takes some hundred KiB.
#[cfg(feature = "deflate")]
const KEPT_COMPRESSORS: usize = 2;

/// A buffer above this capacity is not kept.
const MAX_KEPT_CAPACITY: usize = 256 << 10;

/// How much room the payloads that a thread keeps have together at most.
const MAX_KEPT_PAYLOADS: usize = 2 << 20;

/// From this capacity on, the room of a payload is kept: taking smaller ones from the system's allocator costs less.
const KEPT_PAYLOADS_FROM: usize = 32 << 10;

struct Pool {
    chunks: Shelf<Box<[u8]>>,
    buffers: Shelf<Buffer>,
    /// The room of large payloads that nobody has any more; what came last is last.
    payloads: Vec<Buffer>,
    #[cfg(feature = "deflate")]
    inflaters: Shelf<zlib_rs::Inflate>,
    /// Each with what it was made for.
    #[cfg(feature = "deflate")]
    compressors: Vec<([u8; 3], zlib_rs::Deflate)>,
}

/// A few of a kind, of which one is as good as another.
struct Shelf<T>(Vec<T>);

impl<T> Shelf<T> {
    fn give(&mut self, item: T) {
        if self.0.len() < KEPT {
            self.0.push(item);
        }
    }
}

impl Pool {
    const fn new() -> Self {
        Self {
            chunks: Shelf(Vec::new()),
            buffers: Shelf(Vec::new()),
            payloads: Vec::new(),
            #[cfg(feature = "deflate")]
            inflaters: Shelf(Vec::new()),
            #[cfg(feature = "deflate")]
            compressors: Vec::new(),
        }
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// Where the thread is ending there is no pool any more: nothing is found, and what is given is dropped.
fn with<T>(work: impl FnOnce(&mut Pool) -> T) -> Option<T> {
    POOL.try_with(|pool| work(&mut pool.borrow_mut())).ok()
}

/// An initialised buffer to read into, of [`CHUNK_LEN`] bytes. What it holds is old.
pub(crate) fn take_chunk() -> Box<[u8]> {
    let kept = with(|pool| pool.chunks.0.pop());
    kept.flatten().unwrap_or_else(|| vec![0; CHUNK_LEN].into_boxed_slice())
}

pub(crate) fn give_chunk(chunk: Box<[u8]>) {
    if chunk.len() == CHUNK_LEN {
        with(|pool| pool.chunks.give(chunk));
    }
}

/// An empty buffer, most likely with a capacity.
pub(crate) fn take_buffer() -> Buffer {
    with(|pool| pool.buffers.0.pop()).flatten().unwrap_or_default()
}

pub(crate) fn give_buffer(mut buffer: Buffer) {
    if buffer.capacity() > 0 && buffer.capacity() <= MAX_KEPT_CAPACITY {
        buffer.clear();
        with(|pool| pool.buffers.give(buffer));
    }
}

/// Kept room for a payload of this length, and for little more.
pub(crate) fn take_payload(len: usize) -> Option<Buffer> {
    if len < KEPT_PAYLOADS_FROM {
        return None;
    }
    with(|pool| {
        let fits = |buffer: &Buffer| (len..=len.saturating_add(len / 3)).contains(&buffer.capacity());
        let index = pool.payloads.iter().rposition(fits)?;
        Some(pool.payloads.remove(index))
    })
    .flatten()
}

/// A payload is needed no more. If nobody else has it, its room is kept; otherwise it is left as it is.
#[inline]
pub(crate) fn recycle(payload: &mut Bytes) {
    // Where it is not at the start of its memory, it is moved there, which would be in vain for what is too long.
    if (KEPT_PAYLOADS_FROM..=MAX_KEPT_PAYLOADS).contains(&payload.len()) && payload.is_unique() {
        give_payload(Buffer::from(Vec::from(std::mem::take(payload))));
    }
}

/// Takes back a payload buffer that is not needed now.
pub(crate) fn give_payload(mut buffer: Buffer) {
    if !(KEPT_PAYLOADS_FROM..=MAX_KEPT_PAYLOADS).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    with(|pool| {
        pool.payloads.push(buffer);
        let room = |payloads: &[Buffer]| payloads.iter().map(Buffer::capacity).sum::<usize>();
        while pool.payloads.len() > 2 * KEPT || room(&pool.payloads) > MAX_KEPT_PAYLOADS {
            pool.payloads.remove(0);
        }
    });
}

/// A connection is over. What was kept for payloads is let go: it may be all that keeps the allocator from giving much
/// more back to the system.
pub(crate) fn forget_payloads() {
    with(|pool| pool.payloads.clear());
}

/// An inflater, to be reset first.
#[cfg(feature = "deflate")]
pub(crate) fn take_inflater() -> Option<zlib_rs::Inflate> {
    with(|pool| pool.inflaters.0.pop()).flatten()
}

#[cfg(feature = "deflate")]
pub(crate) fn give_inflater(inflater: zlib_rs::Inflate) {
    with(|pool| pool.inflaters.give(inflater));
}

/// A compressor that was made for this and has been reset.
#[cfg(feature = "deflate")]
pub(crate) fn take_compressor(made_for: [u8; 3]) -> Option<zlib_rs::Deflate> {
    with(|pool| {
        let compressors = &mut pool.compressors;
        let index = compressors.iter().position(|(other, _)| *other == made_for)?;
        Some(compressors.swap_remove(index).1)
    })
    .flatten()
}

#[cfg(feature = "deflate")]
pub(crate) fn give_compressor(made_for: [u8; 3], compressor: zlib_rs::Deflate) {
    with(|pool| {
        let compressors = &mut pool.compressors;
        if compressors.len() >= KEPT_COMPRESSORS {
            compressors.remove(0);
        }
        compressors.push((made_for, compressor));
    });
}
