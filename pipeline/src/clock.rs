//! The one way to the time: whoever waits or asks for the time does it through a [`Clock`], so that tests and seeded
//! simulations decide how late it is.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

#[cfg(any(test, feature = "testing"))]
mod virtual_clock;
#[cfg(any(test, feature = "testing"))]
pub use self::virtual_clock::VirtualClock;

/// Tells the time and waits.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present time. It can step back, as clocks of machines do.
    fn now(&self) -> DateTime<Utc>;

    /// Waits this long, whatever happens to the wall clock meanwhile. Dropping the future ends the wait.
    async fn sleep(&self, length: Duration);

    /// Waits until [`Clock::now`] is at least `time`; not at all when it already is.
    async fn sleep_until(&self, time: DateTime<Utc>);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }

    async fn sleep_until(&self, time: DateTime<Utc>) {
        /// The wall clock is looked at again this often: it may have been set, or the machine suspended.
        const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(20);

        loop {
            let left = time - Utc::now();
            let Ok(wait) = left.min(LOOK_AGAIN).to_std() else { return };
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests;
