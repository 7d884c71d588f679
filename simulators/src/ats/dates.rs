//! Date-times as the ATS writes them: local, without zone, 0 to 3 fraction digits, never padded.
//!
//! Inside the simulator such a time is a [`LocalMs`], so that sorting and day precision are integer work.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// Milliseconds from 1970-01-01T00:00:00 on the server's wall clock.
pub(crate) type LocalMs = i64;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// What the server's wall clock shows at an instant.
pub(crate) fn local(instant: DateTime<Utc>, zone: Tz) -> LocalMs {
    instant.with_timezone(&zone).naive_local().and_utc().timestamp_millis()
}

/// The same time, or an hour later where the wall clock skipped it in spring.
pub(crate) fn existing(at: LocalMs, zone: Tz) -> LocalMs {
    let naive = DateTime::from_timestamp_millis(at).unwrap_or_default().naive_utc();
    match zone.from_local_datetime(&naive) {
        LocalResult::None => at + 3_600_000,
        LocalResult::Single(_) | LocalResult::Ambiguous(..) => at,
    }
}

/// `2022-06-28T17:57:43.6`; the nearest representable time for values beyond the calendar.
pub(crate) fn text(at: LocalMs) -> String {
    let seconds = DateTime::from_timestamp_millis(at).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S");
    let fraction = at.rem_euclid(1_000);
    if fraction == 0 {
        return seconds.to_string();
    }
    let digits = format!("{fraction:03}");
    format!("{seconds}.{}", digits.trim_end_matches('0'))
}

/// Reads what [`text`] writes, with any number of fraction digits.
pub(crate) fn parse(text: &str) -> Option<LocalMs> {
    let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(at.and_utc().timestamp_millis())
}

/// The day on the wall clock, counted from 1970-01-01.
pub(crate) fn day(at: LocalMs) -> i64 {
    at.div_euclid(DAY_MS)
}

/// A date of a query, as a day: exactly `yyyy-mm-dd`.
pub(crate) fn parse_day(text: &str) -> Option<i64> {
    if text.len() != "yyyy-mm-dd".len() {
        return None;
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn fractions_are_as_short_as_they_can_be() {
        for written in
            ["2022-06-28T17:57:43", "2022-06-28T17:57:43.6", "2022-06-28T17:57:43.06", "2022-06-28T17:57:43.006"]
        {
            assert_eq!(text(parse(written).unwrap()), written);
        }
    }

    #[test]
    fn hours_that_spring_skips_are_never_shown() {
        let vancouver = |text: &str| super::text(existing(parse(text).unwrap(), chrono_tz::America::Vancouver));
        assert_eq!(vancouver("2025-03-09T02:30:00"), "2025-03-09T03:30:00");
        assert_eq!(vancouver("2025-03-09T01:59:59.9"), "2025-03-09T01:59:59.9");
        assert_eq!(vancouver("2025-11-02T01:30:00"), "2025-11-02T01:30:00");
    }

    #[test]
    fn the_day_is_the_one_on_the_wall() {
        let new_years_eve_in_vancouver: DateTime<Utc> = "2026-01-01T07:59:59Z".parse().unwrap();
        let at = local(new_years_eve_in_vancouver, chrono_tz::America::Vancouver);
        assert_eq!(text(at), "2025-12-31T23:59:59");
        assert_eq!(day(at), parse_day("2025-12-31").unwrap());
        assert_eq!(parse_day("2025-12-1"), None);
        assert_eq!(parse_day("2025-02-30"), None);
    }
}
