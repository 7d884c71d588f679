//! Tells those who wait that something has happened, in the order in which they began to wait: a simulation wakes its tasks
//! in the same order each time it is played (tokio's `watch` draws lots).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
struct Shared {
    rings: AtomicU64,
    waiting: Notify,
}

/// Rings for all its listeners. Clones are the same bell.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<Shared>);

impl Bell {
    /// Something has happened.
    pub fn ring(&self) {
        self.0.rings.fetch_add(1, Ordering::SeqCst);
        self.0.waiting.notify_waiters();
    }

    /// Hears everything from now on.
    pub fn listener(&self) -> Listener {
        Listener { bell: self.clone(), heard: self.0.rings.load(Ordering::SeqCst) }
    }
}

/// Hears a bell. What rings while nobody waits is heard at the next wait.
#[derive(Clone)]
pub struct Listener {
    bell: Bell,
    heard: u64,
}

impl Listener {
    /// What has rung until now is no news: the caller looks for itself after this.
    pub fn catch_up(&mut self) {
        self.heard = self.bell.0.rings.load(Ordering::SeqCst);
    }

    /// Waits until it has rung since the last time. Cancel-safe.
    pub async fn rung(&mut self) {
        let waits = self.bell.0.waiting.notified();
        tokio::pin!(waits);
        // In the line before looking: what rings in between isn't missed.
        waits.as_mut().enable();
        if self.bell.0.rings.load(Ordering::SeqCst) == self.heard {
            waits.await;
        }
        self.heard = self.bell.0.rings.load(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_rang_before_is_heard_once() {
        let bell = Bell::default();
        let mut listener = bell.listener();
        bell.ring();
        bell.ring();
        listener.rung().await;
        let waits = listener.rung();
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        bell.ring();
        waits.await;
    }
}
