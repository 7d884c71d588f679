//! Memory for bytes on their way from the store to the network. All answers share it: where it is plentiful, pieces are large;
//! the more of it is held by clients that don't read, the smaller they get. So a thousand stuck clients hold no more than a few
//! large ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Larger pieces don't get faster.
const LARGEST: usize = 512 * 1024;

/// Every piece may be so large, however little is left; a connection gathers three of them at most.
const SMALLEST: usize = 8 * 1024;

/// One answer takes at most this part of what is left.
const PART: usize = 16;

/// So many reads are under way at the same time on a local disk: each takes a thread.
const TURNS: usize = 32;

/// What is shared.
#[derive(Debug)]
pub(super) struct Buffers {
    most: usize,
    held: AtomicUsize,
    turns: Semaphore,
}

impl Buffers {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: AtomicUsize::new(0), turns: Semaphore::new(TURNS) })
    }

    /// Room for a piece of at most this size; smaller the less is left.
    pub(super) fn room(self: &Arc<Self>, most: usize) -> Room {
        let size = self.size().min(most);
        self.held.fetch_add(size, Ordering::Relaxed);
        Room { size, buffers: Arc::clone(self) }
    }

    /// Whether an answer may hold more than it is sending.
    pub(super) fn plenty(&self) -> bool {
        self.size() == LARGEST
    }

    /// Waits for a turn to read from a disk.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.turns.acquire().await.ok()
    }

    fn size(&self) -> usize {
        let left = self.most.saturating_sub(self.held.load(Ordering::Relaxed));
        (left / PART).clamp(SMALLEST, LARGEST)
    }

    /// How much is held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Room for a piece: taken from when it is asked for until nobody holds the bytes any more.
pub(super) struct Room {
    size: usize,
    buffers: Arc<Buffers>,
}

impl Room {
    /// How large the piece may be.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The piece.
    pub(super) fn hold(mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        let size = bytes.as_ref().len();
        self.buffers.held.fetch_add(size, Ordering::Relaxed);
        self.buffers.held.fetch_sub(self.size, Ordering::Relaxed);
        self.size = size;
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffers.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

struct Held<T> {
    bytes: T,
    _room: Room,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_that_never_let_go_hold_little_more_than_the_bound() {
        let buffers = Buffers::new(24 << 20);
        assert_eq!(buffers.size(), LARGEST);
        let rooms: Vec<Room> = (0..1_000).map(|_| buffers.room(usize::MAX)).collect();
        let held: Vec<Bytes> = rooms
            .into_iter()
            .map(|room| {
                let bytes = vec![0; room.size()];
                room.hold(bytes)
            })
            .collect();
        assert!(buffers.held() <= (24 << 20) + 1_000 * SMALLEST, "{}", buffers.held());
        assert_eq!(buffers.size(), SMALLEST);
        drop(held);
        assert_eq!((buffers.held(), buffers.size()), (0, LARGEST));
    }
}
