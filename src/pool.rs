//! Buffers lent to connections while they work, so that an idle one holds none: a few per thread, kept warm.

use std::cell::RefCell;

/// How much one read takes at most.
pub(crate) const CHUNK_LEN: usize = 64 << 10;

/// How many buffers of each kind a thread keeps.
const KEPT: usize = 4;

/// How many compressors a thread keeps: each takes some 100 KiB.
#[cfg(feature = "deflate")]
const KEPT_COMPRESSORS: usize = 2;

/// A vector above this capacity is not kept.
const MAX_KEPT_CAPACITY: usize = 256 << 10;

struct Pool {
    chunks: Vec<Box<[u8]>>,
    vectors: Vec<Vec<u8>>,
    #[cfg(feature = "deflate")]
    inflaters: Vec<zlib_rs::Inflate>,
    /// Each with what it was made for.
    #[cfg(feature = "deflate")]
    compressors: Vec<([u8; 3], zlib_rs::Deflate)>,
}

impl Pool {
    const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            vectors: Vec::new(),
            #[cfg(feature = "deflate")]
            inflaters: Vec::new(),
            #[cfg(feature = "deflate")]
            compressors: Vec::new(),
        }
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// An initialised buffer to read into, of [`CHUNK_LEN`] bytes. What it holds is old.
pub(crate) fn take_chunk() -> Box<[u8]> {
    let kept = POOL.try_with(|pool| pool.borrow_mut().chunks.pop());
    kept.ok().flatten().unwrap_or_else(|| vec![0; CHUNK_LEN].into_boxed_slice())
}

pub(crate) fn give_chunk(chunk: Box<[u8]>) {
    if chunk.len() != CHUNK_LEN {
        return;
    }
    // Where the thread is ending, the buffer is dropped.
    let _ = POOL.try_with(|pool| {
        let chunks = &mut pool.borrow_mut().chunks;
        if chunks.len() < KEPT {
            chunks.push(chunk);
        }
    });
}

/// An empty vector, most likely with a capacity.
pub(crate) fn take_vector() -> Vec<u8> {
    POOL.try_with(|pool| pool.borrow_mut().vectors.pop()).ok().flatten().unwrap_or_default()
}

pub(crate) fn give_vector(mut vector: Vec<u8>) {
    if vector.capacity() == 0 || vector.capacity() > MAX_KEPT_CAPACITY {
        return;
    }
    vector.clear();
    let _ = POOL.try_with(|pool| {
        let vectors = &mut pool.borrow_mut().vectors;
        if vectors.len() < KEPT {
            vectors.push(vector);
        }
    });
}

/// An inflater, to be reset first.
#[cfg(feature = "deflate")]
pub(crate) fn take_inflater() -> Option<zlib_rs::Inflate> {
    POOL.try_with(|pool| pool.borrow_mut().inflaters.pop()).ok().flatten()
}

#[cfg(feature = "deflate")]
pub(crate) fn give_inflater(inflater: zlib_rs::Inflate) {
    let _ = POOL.try_with(|pool| {
        let inflaters = &mut pool.borrow_mut().inflaters;
        if inflaters.len() < KEPT {
            inflaters.push(inflater);
        }
    });
}

/// A compressor that was made for this and has been reset.
#[cfg(feature = "deflate")]
pub(crate) fn take_compressor(made_for: [u8; 3]) -> Option<zlib_rs::Deflate> {
    let kept = POOL.try_with(|pool| {
        let compressors = &mut pool.borrow_mut().compressors;
        let index = compressors.iter().position(|(other, _)| *other == made_for)?;
        Some(compressors.swap_remove(index).1)
    });
    kept.ok().flatten()
}

#[cfg(feature = "deflate")]
pub(crate) fn give_compressor(made_for: [u8; 3], compressor: zlib_rs::Deflate) {
    let _ = POOL.try_with(|pool| {
        let compressors = &mut pool.borrow_mut().compressors;
        if compressors.len() >= KEPT_COMPRESSORS {
            compressors.remove(0);
        }
        compressors.push((made_for, compressor));
    });
}
