//! When invented rows were made and last changed.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};
use fastrand::Rng;

use super::Options;

/// A row's two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was made.
    pub inserted_at: NaiveDateTime,
    /// When it was last changed; when it was made, if never.
    pub updated_at: NaiveDateTime,
}

pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = 24 * HOUR;
pub(super) const YEAR: i64 = 365 * DAY;

/// Longer ago nothing was changed.
const DAYS: usize = 4_000;

/// Draws times. All arithmetic is on integers, or on fractions in a fixed order: the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Microseconds since 1970.
    now: i64,
    /// The share of rows that haven't changed within so many days.
    untouched: Arc<[f64]>,
}

impl History {
    pub(super) fn new(options: &Options) -> History {
        let stays = 1.0 - f64::from(options.changed_daily.min(1_000)) / 1_000.0;
        let untouched = std::iter::successors(Some(1.0), |left| Some(left * stays)).take(DAYS).collect();
        History { now: options.now.timestamp_micros(), untouched }
    }

    pub(super) fn now(&self) -> NaiveDateTime {
        at(self.now)
    }

    /// A row made between `oldest` and `newest` microseconds before now.
    pub(super) fn times(&self, rng: &mut Rng, newest: i64, oldest: i64) -> Times {
        let inserted = self.now - rng.i64(newest..oldest);
        self.since(rng, inserted)
    }

    /// A row made within an hour after that one, but not after now.
    pub(super) fn soon_after(&self, rng: &mut Rng, first: NaiveDateTime) -> Times {
        let inserted = first.and_utc().timestamp_micros() + rng.i64(0..HOUR);
        self.since(rng, inserted.min(self.now))
    }

    fn since(&self, rng: &mut Rng, inserted: i64) -> Times {
        let drawn = rng.f64();
        let days = self.untouched.partition_point(|left| *left > drawn);
        let age = i64::try_from(days).unwrap_or(i64::MAX / DAY - 1).saturating_sub(1).max(0) * DAY + rng.i64(0..DAY);
        let never = days == DAYS;
        let updated = if never { inserted } else { (self.now - age).max(inserted) };
        Times { inserted_at: at(inserted), updated_at: at(updated) }
    }
}

fn at(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().naive_utc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ats::random::stream;

    #[test]
    fn about_a_fiftieth_of_the_rows_changes_in_a_day() {
        let options = Options { changed_daily: 20, ..Options::default() };
        let history = History::new(&options);
        let changed_within = |days: i64| {
            let rows = (0..20_000).map(|i| history.times(&mut stream(7, 7, i), YEAR, 5 * YEAR));
            rows.filter(|times| times.updated_at > at(history.now - days * DAY)).count()
        };
        let (one, thirty) = (changed_within(1), changed_within(30));
        assert!((300..500).contains(&one), "{one} of 20,000 within a day");
        // 1 - 0.98^30 = 45.5 %
        assert!((8_700..9_500).contains(&thirty), "{thirty} of 20,000 within thirty days");
    }
}
