//! How the async side and a client's own thread wake each other.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::errors::lock;

/// A bell for one thread: rung once or often, it is heard once.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Wakes the thread, or keeps it from falling asleep the next time.
    pub(super) fn ring(&self) {
        *lock(&self.rung) = true;
        self.heard.notify_one();
    }

    /// Sleeps until the bell has been rung, `at_most` so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let rung = lock(&self.rung);
        let (mut rung, _) =
            self.heard.wait_timeout_while(rung, at_most, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}
