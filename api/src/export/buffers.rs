//! Memory for bytes on their way from the store to the network. All answers share it: where it is plentiful, pieces are large;
//! the more of it is held by clients that don't read, the smaller they get. So a thousand stuck clients hold no more than a few
//! large ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Larger pieces don't get faster.
const LARGEST: usize = 512 * 1024;

/// Every piece may be so large, however little is left; a connection gathers three of them at most.
const SMALLEST: usize = 8 * 1024;

/// One answer takes at most this part of what is left.
const PART: usize = 16;

/// What is shared.
#[derive(Debug)]
pub(super) struct Buffers {
    most: usize,
    held: AtomicUsize,
}

impl Buffers {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: AtomicUsize::new(0) })
    }

    /// How large a piece may be.
    pub(super) fn room(&self) -> usize {
        let left = self.most.saturating_sub(self.held.load(Ordering::Relaxed));
        (left / PART).clamp(SMALLEST, LARGEST)
    }

    /// Whether an answer may hold more than it is sending.
    pub(super) fn plenty(&self) -> bool {
        self.room() == LARGEST
    }

    /// The bytes, counted for as long as somebody holds them.
    pub(super) fn hold(self: &Arc<Self>, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        let size = bytes.as_ref().len();
        self.held.fetch_add(size, Ordering::Relaxed);
        Bytes::from_owner(Held { bytes, size, buffers: Arc::clone(self) })
    }

    /// How much is held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

struct Held<T> {
    bytes: T,
    size: usize,
    buffers: Arc<Buffers>,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.buffers.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_that_never_let_go_hold_little_more_than_the_bound() {
        let buffers = Buffers::new(24 << 20);
        assert_eq!(buffers.room(), LARGEST);
        let held: Vec<Bytes> = (0..1_000).map(|_| buffers.hold(vec![0; buffers.room()])).collect();
        assert!(buffers.held() <= (24 << 20) + 1_000 * SMALLEST, "{}", buffers.held());
        assert_eq!(buffers.room(), SMALLEST);
        drop(held);
        assert_eq!((buffers.held(), buffers.room()), (0, LARGEST));
    }
}
