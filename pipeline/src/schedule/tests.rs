#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn utc(time: &str) -> DateTime<Utc> {
    format!("{time}:00Z").parse().unwrap()
}

/// The next runs after a time, on the wall clock of the zone.
fn runs(expression: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::cron(expression, zone).unwrap();
    let mut time = utc(after);
    let mut runs = Vec::new();
    for _ in 0..count {
        time = schedule.next_after(time).unwrap();
        runs.push(time.with_timezone(&zone).format("%m-%d %H:%M %z").to_string());
    }
    runs
}

#[test]
fn a_nightly_run_in_the_spring_gap_comes_when_the_gap_ends() {
    // Vancouver: 02:00 becomes 03:00 on 8 March 2026.
    assert_eq!(
        runs("30 2 * * *", Tz::America__Vancouver, "2026-03-07T12:00", 2),
        ["03-08 03:00 -0700", "03-09 02:30 -0700"]
    );
    // London: 01:00 becomes 02:00 on 29 March 2026.
    assert_eq!(
        runs("15 1 * * *", Tz::Europe__London, "2026-03-28T12:00", 2),
        ["03-29 02:00 +0100", "03-30 01:15 +0100"]
    );
    // Lord Howe: 02:00 becomes 02:30 on 4 October 2026.
    assert_eq!(
        runs("15 2 * * *", Tz::Australia__Lord_Howe, "2026-10-03T12:00", 2),
        ["10-04 02:30 +1100", "10-05 02:15 +1100"]
    );
}

#[test]
fn a_nightly_run_in_the_autumn_overlap_comes_once_the_first_time() {
    // Europe is a week earlier than America, and Lord Howe turns back half an hour in April.
    assert_eq!(
        runs("30 1 * * *", Tz::Europe__London, "2026-10-24T12:00", 2),
        ["10-25 01:30 +0100", "10-26 01:30 +0000"]
    );
    assert_eq!(
        runs("45 1 * * *", Tz::Australia__Lord_Howe, "2026-04-04T12:00", 2),
        ["04-05 01:45 +1100", "04-06 01:45 +1030"]
    );
    assert_eq!(
        runs("30 1 * * *", Tz::America__Vancouver, "2025-11-01T12:00", 2),
        ["11-02 01:30 -0700", "11-03 01:30 -0800"]
    );
}

#[test]
fn a_run_every_half_hour_comes_in_both_halves_of_the_overlap() {
    assert_eq!(
        runs("*/30 * * * *", Tz::America__Vancouver, "2025-11-02T07:45", 5),
        ["11-02 01:00 -0700", "11-02 01:30 -0700", "11-02 01:00 -0800", "11-02 01:30 -0800", "11-02 02:00 -0800"]
    );
    assert_eq!(
        runs("*/15 * * * *", Tz::Australia__Lord_Howe, "2026-04-04T14:20", 5),
        ["04-05 01:30 +1100", "04-05 01:45 +1100", "04-05 01:30 +1030", "04-05 01:45 +1030", "04-05 02:00 +1030"]
    );
}

#[test]
fn a_run_every_half_hour_passes_over_the_gap() {
    assert_eq!(
        runs("*/30 * * * *", Tz::America__Vancouver, "2026-03-08T09:15", 2),
        ["03-08 01:30 -0800", "03-08 03:00 -0700"]
    );
}

#[test]
fn several_times_of_day_count_as_an_interval() {
    assert_eq!(
        runs("30 2,14 * * *", Tz::America__Vancouver, "2026-03-07T23:00", 2),
        ["03-08 14:30 -0700", "03-09 02:30 -0700"]
    );
}

#[test]
fn impossible_expressions_are_refused() {
    let error = |text: &str| Schedule::cron(text, Tz::UTC).map(|_| ()).unwrap_err();
    assert_eq!(error("0 0 30 2 *"), CronError::Never);
    assert_eq!(error("0 0 31 4,6,9,11 *"), CronError::Never);
    for text in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* * * * MOO",
        "@fortnightly",
        "5 0 * * * 2020",
        ", 8 * * *",
        "0 8,, * * *",
    ] {
        assert!(matches!(error(text), CronError::Syntax(_)), "{text:?}");
    }
}

#[test]
fn the_leap_day_is_found() {
    assert_eq!(runs("0 0 29 2 *", Tz::UTC, "2026-01-01T00:00", 1), ["02-29 00:00 +0000"]);
}

#[test]
fn missed_runs_are_caught_up_once_at_the_latest_time() {
    let nightly = Schedule::cron("0 3 * * *", Tz::UTC).unwrap();
    assert_eq!(nightly.missed(utc("2026-05-01T03:00"), utc("2026-05-01T20:00")), None);
    assert_eq!(nightly.missed(utc("2026-05-01T03:00"), utc("2026-05-09T20:00")), Some(utc("2026-05-09T03:00")));
    assert_eq!(nightly.missed(utc("2026-05-01T03:00"), utc("2026-05-02T03:00")), Some(utc("2026-05-02T03:00")));
    assert_eq!(nightly.missed(utc("2026-05-01T03:00"), utc("2026-04-01T03:00")), None);

    let often = Schedule::Every(Duration::from_secs(300));
    assert_eq!(often.missed(utc("2026-05-01T03:00"), utc("2026-05-01T03:04")), None);
    assert_eq!(often.missed(utc("2026-05-01T03:00"), utc("2026-05-01T03:05")), Some(utc("2026-05-01T03:05")));
    assert_eq!(often.missed(utc("2026-05-01T03:00"), utc("2026-05-01T03:17")), Some(utc("2026-05-01T03:15")));
}

proptest! {
    /// What is missed is the last of the runs that would have come, in every zone and around every change of its clock.
    #[test]
    fn the_missed_run_is_the_last_one_due(
        expression in prop::sample::select(vec!["30 2 * * *", "*/30 * * * *", "15 1 * * *", "0 2,14 * * *", "0 0 1 * *"]),
        zone in prop::sample::select(vec![Tz::America__Vancouver, Tz::Europe__London, Tz::Australia__Lord_Howe]),
        start in 1_735_700_000i64..1_800_000_000,
        length in 0i64..400_000,
    ) {
        let schedule = Schedule::cron(expression, zone).unwrap();
        let last = DateTime::from_timestamp(start, 0).unwrap();
        let now = last + TimeDelta::seconds(length);

        let mut due = None;
        let mut time = last;
        loop {
            let next = schedule.next_after(time).unwrap();
            prop_assert!(next > time);
            if next > now {
                break;
            }
            due = Some(next);
            time = next;
        }

        prop_assert_eq!(schedule.missed(last, now), due);
    }
}
