//! Reads the dates of the ATS: local times without a zone, 0 to 7 fraction digits, in the configured zone. No I/O.

use chrono::{DateTime, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// A date as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Without a zone: what a clock on the wall showed.
    Local(NaiveDateTime),
    /// With `Z` or an offset.
    Zoned(DateTime<FixedOffset>),
}

impl Written {
    /// The moment. In the hour that a clock skips, the first moment after it; in the hour that comes twice, the earlier.
    pub(crate) fn moment(self, zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Zoned(at) => at.to_utc(),
            Self::Local(at) => moment_of(at, zone),
        }
    }

    /// What a clock on the wall shows in the zone.
    pub(crate) fn local(self, zone: Tz) -> NaiveDateTime {
        match self {
            Self::Zoned(at) => at.with_timezone(&zone).naive_local(),
            Self::Local(at) => at,
        }
    }
}

/// Reads `2022-06-28`, `2022-06-28T17:57`, `2022-06-28T17:57:43.6` or one of them with `Z` or an offset such as `-07:00`.
/// The space of SQL is taken for `T`. Digits past microseconds are cut off. `None`: it is something else.
pub(crate) fn parse(text: &str) -> Option<Written> {
    let (day, rest) = text.trim_ascii().as_bytes().split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *day else { return None };
    let year = number(&[y1, y2, y3, y4])?;
    if year == 0 {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, number(&[m1, m2])?, number(&[d1, d2])?)?;
    let Some((separator, time)) = rest.split_first() else { return Some(Written::Local(date.and_hms_opt(0, 0, 0)?)) };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let [h1, h2, b':', i1, i2, rest @ ..] = time else { return None };
    let (seconds, rest) = match rest {
        [b':', s1, s2, rest @ ..] => (number(&[*s1, *s2])?, rest),
        rest => (0, rest),
    };
    let (micros, rest) = match rest {
        [b'.' | b',', rest @ ..] => fraction(rest)?,
        rest => (0, rest),
    };
    let at = date.and_hms_micro_opt(number(&[*h1, *h2])?, number(&[*i1, *i2])?, seconds, micros)?;
    match rest {
        [] => Some(Written::Local(at)),
        [b'Z' | b'z'] => zoned(at, 0),
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let minutes = match rest {
                [] => 0,
                [b':', i1, i2] | [i1, i2] => number(&[*i1, *i2])?,
                _ => return None,
            };
            let offset = i32::try_from(number(&[*h1, *h2])? * 3600 + minutes * 60).ok()?;
            zoned(at, if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn zoned(at: NaiveDateTime, offset_seconds: i32) -> Option<Written> {
    FixedOffset::east_opt(offset_seconds)?.from_local_datetime(&at).single().map(Written::Zoned)
}

/// One to nine digits as microseconds, and what follows them.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let (digits, rest) = text.split_at_checked(length)?;
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + u32::from(digits.get(place).map_or(0, |digit| digit - b'0'));
    }
    Some((micros, rest))
}

fn number(digits: &[u8]) -> Option<u32> {
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u32::from(digit - b'0');
    }
    Some(number)
}

fn moment_of(at: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match zone.from_local_datetime(&at) {
        LocalResult::Single(moment) => moment.to_utc(),
        LocalResult::Ambiguous(earlier, _) => earlier.to_utc(),
        LocalResult::None => end_of_gap(at, zone),
    }
}

/// The first moment whose local time is past `at`, which the zone's clock skips.
fn end_of_gap(at: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    // No offset is 26 h, so the gap lies between these two; it is found to the second in 18 steps.
    const FARTHEST: TimeDelta = TimeDelta::hours(26);
    let shows = |moment: NaiveDateTime| zone.from_utc_datetime(&moment).naive_local();
    let (Some(mut before), Some(mut after)) = (at.checked_sub_signed(FARTHEST), at.checked_add_signed(FARTHEST)) else {
        return at.and_utc();
    };
    // Offsets change on whole seconds: the search must too.
    before -= TimeDelta::nanoseconds(i64::from(before.and_utc().timestamp_subsec_nanos()));
    after -= TimeDelta::nanoseconds(i64::from(after.and_utc().timestamp_subsec_nanos()));
    while after - before > TimeDelta::seconds(1) {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if shows(middle) > at { after = middle } else { before = middle }
    }
    after.and_utc()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use chrono::SecondsFormat;
    use chrono_tz::America::Vancouver;
    use chrono_tz::Pacific::Apia;
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str, zone: Tz) -> Option<String> {
        parse(text).map(|written| written.moment(zone).to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    #[test]
    fn local_times_are_read_in_the_zone() {
        assert_eq!(utc("2022-06-28T17:57:43.6", Vancouver).unwrap(), "2022-06-29T00:57:43.600Z");
        assert_eq!(utc("2022-01-28T17:57:43", Vancouver).unwrap(), "2022-01-29T01:57:43Z");
        assert_eq!(utc("2022-01-28T17:57:43.1234567", Vancouver).unwrap(), "2022-01-29T01:57:43.123456Z");
        assert_eq!(utc("2022-01-28", Vancouver).unwrap(), "2022-01-28T08:00:00Z");
        assert_eq!(utc("2022-01-28 17:57", Vancouver).unwrap(), "2022-01-29T01:57:00Z");
    }

    #[test]
    fn a_zone_in_the_text_wins() {
        assert_eq!(utc("2022-06-28T17:57:43.6Z", Vancouver).unwrap(), "2022-06-28T17:57:43.600Z");
        assert_eq!(utc("2022-06-28T17:57:43+02:00", Vancouver).unwrap(), "2022-06-28T15:57:43Z");
        assert_eq!(utc("2022-06-28T17:57:43-0230", Vancouver).unwrap(), "2022-06-28T20:27:43Z");
        let local = parse("2022-06-28T03:00:00Z").unwrap().local(Vancouver);
        assert_eq!(local.to_string(), "2022-06-27 20:00:00");
    }

    #[test]
    fn in_the_hour_that_is_skipped_the_first_moment_after_it_counts() {
        let gap_ends = "2024-03-10T10:00:00Z";
        assert_eq!(utc("2024-03-10T02:00:00", Vancouver).unwrap(), gap_ends);
        assert_eq!(utc("2024-03-10T02:59:59.999", Vancouver).unwrap(), gap_ends);
        assert_eq!(utc("2024-03-10T03:00:00", Vancouver).unwrap(), gap_ends);
        // Samoa had no 30 December 2011.
        assert_eq!(utc("2011-12-30T12:00:00", Apia).unwrap(), "2011-12-30T10:00:00Z");
    }

    #[test]
    fn in_the_hour_that_comes_twice_the_earlier_counts() {
        assert_eq!(utc("2024-11-03T01:30:00", Vancouver).unwrap(), "2024-11-03T08:30:00Z");
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "now",
            "28/06/2022",
            "2022-6-28",
            "2022-02-30",
            "2022-13-01",
            "0000-01-01",
            "2022-06-28T",
            "2022-06-28T24:00:00",
            "2022-06-28T17:57:60",
            "2022-06-28T17:57:43.",
            "2022-06-28T17:57:43.1234567890",
            "2022-06-28T17:57:43+25:00",
            "2022-06-28T17:57:43 PST",
            "2022-06-28Z",
            "+002022-06-28",
            "２０22-06-28",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_looks_like_a_date_is_survived(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(\\.[0-9]{0,10})?(Z|[+-][0-9]{2}:?[0-9]{2})?") {
            if let Some(written) = parse(&text) {
                for zone in [Vancouver, Apia, chrono_tz::UTC, chrono_tz::Africa::Monrovia] {
                    written.moment(zone);
                    written.local(zone);
                }
            }
        }

        #[test]
        fn a_moment_comes_back_from_what_the_wall_shows(seconds in 0_i64..4_000_000_000, micros in 0_u32..1_000_000) {
            let moment = DateTime::from_timestamp(seconds, micros * 1000).unwrap();
            let shown = moment.with_timezone(&Vancouver).naive_local();
            let read = parse(&shown.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()).unwrap();
            prop_assert_eq!(read.local(Vancouver), shown);
            // In the hour that comes twice, the earlier may be an hour off.
            let off = moment - read.moment(Vancouver);
            prop_assert!(off.is_zero() || off == TimeDelta::hours(1));
        }
    }
}
