//! What has been read and no frame has taken yet.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::io::AsyncRead;

use crate::{
    frame::{
        decode::Body,
        header::{self, Header},
    },
    pool,
};

/// Received bytes that no frame has taken yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Empty while there is nothing to read, so that an idle connection holds no buffer.
    pub(super) chunk: Box<[u8]>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// The start of a header, while the chunk is empty.
    stash: [u8; header::MAX_LEN],
    stashed: u8,
    pub(super) received: u64,
}

impl Input {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.chunk.get(self.start..self.end).unwrap_or_default()
    }

    /// The first bytes, which somebody else has read.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut chunk = pool::take_chunk();
            match chunk.get_mut(..bytes.len()) {
                Some(place) => place.copy_from_slice(bytes),
                None => chunk = bytes.into(),
            }
            self.chunk = chunk;
            self.end = bytes.len();
            self.received = bytes.len() as u64;
        }
    }

    /// Whether some bytes of a header are here.
    pub(super) fn is_partial(&self) -> bool {
        self.start < self.end || self.stashed > 0
    }

    /// Forgets what no frame has taken.
    pub(super) fn clear(&mut self) {
        self.start = self.end;
        self.stashed = 0;
    }

    /// Takes what has come of a payload, and unmasks it.
    pub(super) fn part_of(&mut self, body: &mut Body, header: &Header) -> &mut [u8] {
        let end = self.end.min(self.start.saturating_add(body.missing()));
        let part = self.chunk.get_mut(self.start..end).unwrap_or_default();
        self.start = end;
        body.unmask(part, header.masking_key());
        part
    }

    /// Gives the buffer back, with all that is in it.
    pub(super) fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        pool::give_chunk(std::mem::take(&mut self.chunk));
    }

    /// Reads once, behind what is left. Where nothing comes, what is left is still there, to be
    /// [stashed](Self::stash) or taken.
    pub(super) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let left;
        if self.chunk.is_empty() {
            self.chunk = pool::take_chunk();
            left = usize::from(self.stashed);
            for (to, from) in self.chunk.iter_mut().zip(&self.stash).take(left) {
                *to = *from;
            }
        } else {
            left = self.end - self.start;
            if self.start > 0 {
                self.chunk.copy_within(self.start..self.end, 0);
            }
        }
        (self.start, self.end, self.stashed) = (0, left, 0);
        let room = self.chunk.get_mut(left..).unwrap_or_default();
        let room_len = room.len();
        let read = poll_read(io, cx, room).map_ok(|count| count.min(room_len));
        if let Poll::Ready(Ok(count)) = read {
            self.end = left + count;
            self.received += count as u64;
        }
        read
    }

    /// Gives the buffer back, but for the start of a header.
    pub(super) fn stash(&mut self) {
        self.stashed = 0;
        let left = self.chunk.get(self.start..self.end).unwrap_or_default();
        for (to, from) in self.stash.iter_mut().zip(left) {
            *to = *from;
            self.stashed += 1;
        }
        self.release();
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.release();
        pool::forget_payloads();
    }
}

/// Reads once.
pub(super) fn poll_read<R: AsyncRead + Unpin>(
    io: &mut R,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        match Pin::new(&mut *io).poll_read(cx, room) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
