//! Masking (RFC 6455 §5.3), in words of eight bytes that the compiler makes vectors of.

use crate::buffer::Buffer;

/// To a multiple of this in memory: a vector that lies across two cache lines takes twice as long.
const ALIGN: usize = 16;

/// Shorter payloads are masked where they are.
const ALIGNED_FROM: usize = 512;

fn word(key: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001
}

/// The key for the byte that comes `offset` bytes later.
#[inline]
pub(crate) fn rotate(key: [u8; 4], offset: usize) -> [u8; 4] {
    let bytes = u32::try_from(offset % 4).unwrap_or_default();
    u32::from_le_bytes(key).rotate_right(8 * bytes).to_le_bytes()
}

/// Masks or unmasks a payload in place: j-octet = i-octet XOR key\[i MOD 4\]
/// ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)). Doing it twice changes nothing.
///
/// # Examples
///
/// ```
/// let mut payload = *b"Hello";
/// coro_websocket::codec::mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
#[inline]
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() < ALIGNED_FROM {
        return mask_here(payload, key);
    }
    let (head, rest) = payload.split_at_mut(until_aligned(payload));
    let rest_key = rotate(key, head.len());
    mask_here(head, key);
    mask_here(rest, rest_key);
}

/// How many bytes come before a multiple of [`ALIGN`].
fn until_aligned(bytes: &[u8]) -> usize {
    bytes.as_ptr().align_offset(ALIGN).min(bytes.len())
}

#[inline]
fn mask_here(payload: &mut [u8], key: [u8; 4]) {
    let wide = word(key);
    let (blocks, rest) = payload.as_chunks_mut::<64>();
    for block in blocks {
        for bytes in block.as_chunks_mut::<8>().0 {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
    }
    // What is left is short: no loop over it is worth the set-up of a vectorised one.
    let (words, rest) = rest.as_chunks_mut::<8>();
    for bytes in words.iter_mut().take(7) {
        *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
    }
    let (halves, rest) = rest.as_chunks_mut::<4>();
    for bytes in halves.iter_mut().take(1) {
        *bytes = (u32::from_ne_bytes(*bytes) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// How many bytes are copied and masked at a time where they cannot be written in place: they stay in registers and in
/// the first cache.
const BLOCK: usize = 256;

/// Appends a masked (or unmasked) copy, in one pass.
pub(crate) fn extend_masked(target: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    target.reserve(payload.len());
    let (blocks, rest) = payload.as_chunks::<BLOCK>();
    for block in blocks {
        let mut masked = [0; BLOCK];
        mask_blocks(&mut masked, block, key);
        target.extend_from_slice(&masked);
    }
    let start = target.len();
    target.extend_from_slice(rest);
    mask_here(target.get_mut(start..).unwrap_or_default(), key);
}

/// The same, where it is written in place as far as the buffer is initialised.
pub(crate) fn append_masked(target: &mut Buffer, payload: &[u8], key: [u8; 4]) {
    let room = target.initialised_room();
    let (fitting, rest) = payload.split_at(payload.len().min(room.len()));
    if let Some(place) = room.get_mut(..fitting.len()) {
        copy_masked(place, fitting, key);
    }
    target.advance(fitting.len());
    if !rest.is_empty() {
        target.extend_with(|bytes| extend_masked(bytes, rest, rotate(key, fitting.len())));
    }
}

/// A masked (or unmasked) copy in one pass. Both have the same length.
fn copy_masked(target: &mut [u8], payload: &[u8], key: [u8; 4]) {
    let head_len = if payload.len() < ALIGNED_FROM { 0 } else { until_aligned(target) };
    let (target_head, target) = target.split_at_mut(head_len);
    let (head, payload) = payload.split_at(head_len);
    for ((to, from), key) in target_head.iter_mut().zip(head).zip(key.iter().cycle()) {
        *to = from ^ key;
    }
    let key = rotate(key, head_len);
    mask_blocks(target, payload, key);
    let masked_len = payload.len() / 64 * 64;
    let (_, target_rest) = target.split_at_mut(masked_len);
    target_rest.copy_from_slice(payload.get(masked_len..).unwrap_or_default());
    mask_here(target_rest, key);
}

/// The same for as many bytes as make whole blocks of 64.
#[inline(always)]
fn mask_blocks(target: &mut [u8], payload: &[u8], key: [u8; 4]) {
    let wide = word(key);
    for (to, from) in target.as_chunks_mut::<64>().0.iter_mut().zip(payload.as_chunks::<64>().0) {
        // Read whole before it is written, so that no compiler has to ask whether the two overlap.
        let mut block = *from;
        for bytes in block.as_chunks_mut::<8>().0 {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
        *to = block;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
        payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()
    }

    #[test]
    fn every_length_at_every_offset_is_masked_like_the_naive_way() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let bytes: Vec<u8> = (0..BLOCK + 800).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let lengths = (0..300).chain([511, 512, 513, 1023, 1024, 1025, BLOCK + 700]);
        for len in lengths {
            for offset in 0..16 {
                let payload = &bytes[offset..offset + len];
                let mut in_place = bytes.clone();
                mask(&mut in_place[offset..offset + len], key);
                assert_eq!(in_place[offset..offset + len], naive(payload, key));
                assert_eq!(in_place[..offset], bytes[..offset], "bytes before the payload are left alone");
                assert_eq!(in_place[offset + len..], bytes[offset + len..]);
                let mut copied = b"before".to_vec();
                extend_masked(&mut copied, payload, key);
                assert_eq!(copied[6..], naive(payload, key));
                for initialised in [0, 1, len / 2, len, len + 100] {
                    let mut buffer = Buffer::default();
                    buffer.room(offset + initialised);
                    buffer.extend(&bytes[..offset]);
                    append_masked(&mut buffer, payload, key);
                    assert_eq!(buffer.tail_mut(offset), naive(payload, key));
                    assert_eq!(buffer.as_slice()[..offset], bytes[..offset]);
                }
            }
        }
    }

    #[test]
    fn a_payload_masked_in_parts_is_masked_like_the_whole() {
        let key = [1, 2, 3, 4];
        let payload: Vec<u8> = (0..=255).collect();
        for cut in 0..payload.len() {
            let mut parts = Vec::new();
            extend_masked(&mut parts, &payload[..cut], key);
            extend_masked(&mut parts, &payload[cut..], rotate(key, cut));
            assert_eq!(parts, naive(&payload, key));
        }
    }
}
