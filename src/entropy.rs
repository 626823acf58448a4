//! The one place where randomness is drawn: from the operating system, in thread-local pools, since a draw for
//! each masking key would cost more than the frame.

use std::cell::RefCell;

use crate::error::Error;

/// How many keys are drawn at once: 4 KiB.
const KEYS: usize = 1024;

struct Pool {
    keys: [[u8; 4]; KEYS],
    /// How many are left.
    left: usize,
}

thread_local! {
    // All zero, with nothing to drop: no memory is taken before it is used, and nothing is to be checked when it is.
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { keys: [[0; 4]; KEYS], left: 0 }) };
}

/// A masking key: bytes that nobody can predict and nobody else got.
#[inline]
pub(crate) fn draw_key() -> Result<[u8; 4], Error> {
    POOL.with_borrow_mut(|pool| {
        if pool.left == 0 {
            pool.refill()?;
        }
        pool.left -= 1;
        // What is given out is wiped: no key can be read from memory later, and none comes twice.
        Ok(pool.keys.get_mut(pool.left).map(std::mem::take).unwrap_or_default())
    })
}

/// The nonce of a handshake, likewise.
pub(crate) fn draw_nonce() -> Result<[u8; 16], Error> {
    let mut nonce = [[0; 4]; 4];
    for part in &mut nonce {
        *part = draw_key()?;
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(nonce.as_flattened());
    Ok(bytes)
}

impl Pool {
    #[cold]
    fn refill(&mut self) -> Result<(), Error> {
        fill(self.keys.as_flattened_mut())?;
        self.left = KEYS;
        Ok(())
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
        let drawn: HashSet<[u8; 16]> = (0..10_000).map(|_| draw_nonce().unwrap()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn threads_draw_from_pools_of_their_own() {
        let draws = || (0..1000).map(|_| draw_nonce().unwrap()).collect::<Vec<_>>();
        let other = std::thread::scope(|scope| scope.spawn(draws).join().unwrap());
        let here: HashSet<_> = draws().into_iter().collect();
        assert!(other.iter().all(|bytes| !here.contains(bytes)));
    }
}
