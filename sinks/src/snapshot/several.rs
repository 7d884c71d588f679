//! Pieces of work on a few threads.

use std::sync::{Mutex, PoisonError};

use super::SnapshotError;

/// Pieces that are worked on at once: each has buffers of its own.
const AT_ONCE: usize = 2;

/// What these come to, in no particular order; the last is begun with first. When one fails, no other is begun.
pub(super) fn several<P: Send, T: Send>(
    pieces: Vec<P>,
    work: impl Fn(P) -> Result<T, SnapshotError> + Sync,
) -> Result<Vec<T>, SnapshotError> {
    let left = Mutex::new(pieces);
    let of_one_thread = || -> Result<Vec<T>, SnapshotError> {
        let mut done = Vec::new();
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(piece) = next else { return Ok(done) };
            let worked = work(piece);
            if worked.is_err() {
                left.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            done.push(worked?);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(of_one_thread)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(joined(thread.join())?);
        }
        Ok(all)
    })
}

/// What a thread came to; a panic goes on in who waits for it.
pub(super) fn joined<T>(joined: std::thread::Result<T>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
