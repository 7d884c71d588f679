//! Dates and times as records hold them: the raw Avro integer in a type that says what it counts.

use std::{fmt, ops::RangeInclusive};

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

/// 0001-01-01 to 9999-12-31, which every database and every ISO text can hold.
pub(crate) const DAY_RANGE: RangeInclusive<i32> = -719_162..=2_932_896;
/// The same range in microseconds.
pub(crate) const MICRO_RANGE: RangeInclusive<i64> = -719_162 * MICROS_PER_DAY..=2_932_897 * MICROS_PER_DAY - 1;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days since 1970-01-01 (Avro `date`). Displays as `2023-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date(pub i32);

/// Microseconds since 1970-01-01T00:00:00Z (Avro `timestamp-micros`). Displays as `2023-01-31T07:00:00.000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Microseconds since 1970-01-01T00:00:00 on a wall clock of no particular zone (Avro `local-timestamp-micros`).
/// Displays as `2023-01-31T07:00:00.000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocalTimestamp(pub i64);

impl Date {
    /// The calendar day; `None` outside what chrono can hold.
    pub fn to_chrono(self) -> Option<NaiveDate> {
        let days = Days::new(u64::from(self.0.unsigned_abs()));
        let epoch = NaiveDate::default();
        if self.0 < 0 { epoch.checked_sub_days(days) } else { epoch.checked_add_days(days) }
    }
}

impl From<NaiveDate> for Date {
    fn from(day: NaiveDate) -> Date {
        // chrono's years are few enough for an i32 of days.
        Date((day - NaiveDate::default()).num_days() as i32)
    }
}

impl Timestamp {
    /// The moment; `None` outside what chrono can hold.
    pub fn to_chrono(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    /// Cuts off what is finer than a microsecond.
    fn from(moment: DateTime<Utc>) -> Timestamp {
        Timestamp(moment.timestamp_micros())
    }
}

impl LocalTimestamp {
    /// The wall-clock time; `None` outside what chrono can hold.
    pub fn to_chrono(self) -> Option<NaiveDateTime> {
        DateTime::from_timestamp_micros(self.0).map(|moment| moment.naive_utc())
    }

    /// The day it falls on.
    pub fn date(self) -> Date {
        // Every i64 of microseconds is fewer than 2^31 days.
        Date(self.0.div_euclid(MICROS_PER_DAY) as i32)
    }
}

impl From<NaiveDateTime> for LocalTimestamp {
    /// Cuts off what is finer than a microsecond.
    fn from(time: NaiveDateTime) -> LocalTimestamp {
        LocalTimestamp(time.and_utc().timestamp_micros())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_chrono() {
            Some(day) => write!(f, "{}", day.format("%Y-%m-%d")),
            None => write!(f, "day {}", self.0),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_chrono() {
            Some(moment) => write!(f, "{}", moment.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
            None => write!(f, "microsecond {}", self.0),
        }
    }
}

impl fmt::Display for LocalTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_chrono() {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
            None => write!(f, "local microsecond {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_range_is_the_years_1_to_9999() {
        let day = |y, m, d| Date::from(NaiveDate::from_ymd_opt(y, m, d).unwrap()).0;
        assert_eq!(DAY_RANGE, day(1, 1, 1)..=day(9999, 12, 31));
        assert_eq!(Timestamp(*MICRO_RANGE.start()).to_string(), "0001-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp(*MICRO_RANGE.end()).to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn dates_before_the_epoch_come_back() {
        let day = NaiveDate::from_ymd_opt(1912, 6, 23).unwrap();
        assert_eq!(Date::from(day).to_chrono(), Some(day));
        assert_eq!(Date::from(day).to_string(), "1912-06-23");
        assert!(Date::from(day) < Date(0));
    }

    #[test]
    fn a_local_time_falls_on_its_own_day() {
        let late = NaiveDate::from_ymd_opt(1969, 12, 31).unwrap().and_hms_opt(23, 59, 59).unwrap();
        let late = LocalTimestamp::from(late);
        assert_eq!(late.date(), Date(-1));
        assert_eq!(late.to_string(), "1969-12-31T23:59:59.000000");
    }
}
