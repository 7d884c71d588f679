//! The simulator's clock: stands still, or goes on with the machine's, and can be moved either way.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

#[derive(Debug)]
pub(crate) struct Clock {
    base: DateTime<Utc>,
    /// When `base` was true; `None`: it still is.
    since: Option<Instant>,
}

impl Clock {
    pub(crate) fn starting(now: DateTime<Utc>, ticking: bool) -> Clock {
        Clock { base: now, since: ticking.then(Instant::now) }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        let Some(since) = self.since else { return self.base };
        TimeDelta::from_std(since.elapsed())
            .ok()
            .and_then(|elapsed| self.base.checked_add_signed(elapsed))
            .unwrap_or(self.base)
    }

    pub(crate) fn set(&mut self, now: DateTime<Utc>) {
        self.base = now;
        self.since = self.since.map(|_| Instant::now());
    }

    /// Stays where it is when the calendar ends.
    pub(crate) fn advance(&mut self, by: TimeDelta) {
        if let Some(later) = self.base.checked_add_signed(by) {
            self.base = later;
        }
    }
}
