//! The one place where randomness is drawn: from the operating system, in thread-local pools, since a draw for
//! each masking key would cost more than the frame.

use std::cell::RefCell;

use crate::error::Error;

const POOL_LEN: usize = 4096;

struct Pool {
    bytes: Box<[u8; POOL_LEN]>,
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::new(Pool { bytes: Box::new([0; POOL_LEN]), used: POOL_LEN });
}

/// `N` bytes (16 at most) that nobody can predict and nobody else got.
pub(crate) fn draw<const N: usize>() -> Result<[u8; N], Error> {
    POOL.try_with(|pool| pool.borrow_mut().draw()).unwrap_or_else(|_| {
        // The thread is ending and its pool is gone.
        let mut bytes = [0; N];
        fill(&mut bytes)?;
        Ok(bytes)
    })
}

impl Pool {
    fn draw<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        const { assert!(N <= POOL_LEN) }
        if POOL_LEN - self.used < N {
            fill(self.bytes.as_mut_slice())?;
            self.used = 0;
        }
        let drawn = self.bytes.get_mut(self.used..).and_then(|rest| rest.first_chunk_mut::<N>());
        self.used += N;
        // What was given out is wiped: no key can be read from memory later, and none comes twice.
        Ok(drawn.map_or([0; N], |bytes| std::mem::replace(bytes, [0; N])))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::from(std::io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn draws_do_not_repeat() {
        let drawn: HashSet<[u8; 16]> = (0..10_000).map(|_| draw().unwrap()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn threads_draw_from_pools_of_their_own() {
        let draws = || (0..1000).map(|_| draw::<8>().unwrap()).collect::<Vec<_>>();
        let other = std::thread::scope(|scope| scope.spawn(draws).join().unwrap());
        let here: HashSet<_> = draws().into_iter().collect();
        assert!(other.iter().all(|bytes| !here.contains(bytes)));
    }
}
