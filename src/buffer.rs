//! [`Buffer`]: bytes in a vector that is initialised beyond their end, so that safe code reads and copies into it
//! without filling it first, as long as it is used again.

/// Bytes with room behind them.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// All that was ever in use.
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The bytes from here on.
    #[inline]
    pub(crate) fn tail_mut(&mut self, start: usize) -> &mut [u8] {
        self.bytes.get_mut(start..self.len).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes room for so many bytes more, and no more than that.
    pub(crate) fn reserve_exact(&mut self, additional: usize) {
        self.bytes.reserve_exact((self.len + additional).saturating_sub(self.bytes.len()));
    }

    /// Makes room for so many bytes more, most likely for some beyond.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.bytes.reserve((self.len + additional).saturating_sub(self.bytes.len()));
    }

    /// The next so many bytes, whatever they hold. They are in use after [`advance`](Self::advance).
    #[inline]
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.len..end).unwrap_or_default()
    }

    /// As much of the [`room`](Self::room) as is initialised already.
    #[inline]
    pub(crate) fn initialised_room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }

    /// So much of the room has been written to.
    #[inline]
    pub(crate) fn advance(&mut self, written: usize) {
        self.len = (self.len + written).min(self.bytes.len());
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let room = self.initialised_room();
        let (fitting, rest) = bytes.split_at(bytes.len().min(room.len()));
        if let Some(place) = room.get_mut(..fitting.len()) {
            place.copy_from_slice(fitting);
        }
        if !rest.is_empty() {
            self.bytes.extend_from_slice(rest);
        }
        self.len += bytes.len();
    }

    /// Appends by something that knows vectors only. Nothing is initialised beyond the end.
    pub(crate) fn extend_with(&mut self, extend: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.len);
        extend(&mut self.bytes);
        self.len = self.bytes.len();
    }

    /// The first so many bytes go.
    pub(crate) fn remove_first(&mut self, count: usize) {
        self.bytes.copy_within(count.min(self.len)..self.len, 0);
        self.len = self.len.saturating_sub(count);
    }

    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    /// All of the vector is in use.
    fn from(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len(), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_whatever_was_there_before() {
        let mut buffer = Buffer::default();
        for len in [0, 3, 10, 5, 40, 1, 39] {
            buffer.extend(b"start");
            buffer.extend(&vec![len; usize::from(len)]);
            buffer.room(3).copy_from_slice(b"end");
            assert_eq!(buffer.len(), 5 + usize::from(len), "room is not in use yet");
            buffer.advance(3);
            let expected = [b"start", &vec![len; usize::from(len)][..], b"end"].concat();
            assert_eq!(buffer.as_slice(), expected);
            buffer.remove_first(5);
            assert_eq!(buffer.as_slice(), &expected[5..]);
            buffer.clear();
            assert!(buffer.is_empty());
        }
        buffer.extend(b"all");
        assert_eq!(buffer.into_vec(), b"all");
    }

    #[test]
    fn used_again_it_does_not_grow() {
        let mut buffer = Buffer::default();
        buffer.reserve_exact(8);
        for _ in 0..3 {
            buffer.room(8).fill(7);
            buffer.advance(8);
            assert_eq!((buffer.len(), buffer.capacity()), (8, 8));
            buffer.clear();
            assert_eq!(buffer.initialised_room().len(), 8);
        }
    }
}
