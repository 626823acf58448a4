//! Masking (RFC 6455 §5.3), in words of eight bytes that the compiler makes vectors of.

/// How many bytes are copied and masked at a time: they stay in registers and in the first cache, so that the
/// payload is passed over once.
const BLOCK: usize = 256;

fn word(key: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001
}

/// The key for the byte that comes `offset` bytes later.
pub(crate) fn rotate(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
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

/// Appends a masked (or unmasked) copy, in one pass.
pub(crate) fn extend_masked(target: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    let wide = word(key);
    target.reserve(payload.len());
    let (blocks, rest) = payload.as_chunks::<BLOCK>();
    for block in blocks {
        let mut masked = [0; BLOCK];
        for (to, from) in masked.as_chunks_mut::<8>().0.iter_mut().zip(block.as_chunks::<8>().0) {
            *to = (u64::from_ne_bytes(*from) ^ wide).to_ne_bytes();
        }
        target.extend_from_slice(&masked);
    }
    let start = target.len();
    target.extend_from_slice(rest);
    if let Some(tail) = target.get_mut(start..) {
        mask(tail, key);
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
        let bytes: Vec<u8> = (0..1100_u32).map(|i| (i * 7 % 251) as u8).collect();
        let lengths = (0..300).chain([511, 512, 513, 1023, 1024, 1025]);
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
