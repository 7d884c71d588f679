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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_at_rest_moves_only_when_it_is_moved() {
        let start = DateTime::<Utc>::UNIX_EPOCH;
        let mut clock = Clock::starting(start, false);
        clock.advance(TimeDelta::days(2));
        clock.advance(TimeDelta::days(-1));
        assert_eq!(clock.now(), start + TimeDelta::days(1));
        clock.advance(TimeDelta::MAX);
        assert_eq!(clock.now(), start + TimeDelta::days(1), "the calendar ends before");
    }

    #[test]
    fn a_ticking_clock_goes_on_from_where_it_was_put() {
        let start = DateTime::<Utc>::UNIX_EPOCH;
        let mut clock = Clock::starting(start, true);
        clock.set(start + TimeDelta::days(10));
        let first = clock.now();
        assert!(first >= start + TimeDelta::days(10));
        while clock.now() == first {
            std::hint::spin_loop();
        }
        assert!(clock.now() > first);
    }
}
