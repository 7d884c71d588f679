//! Which day a change belongs to. Pure.

use chrono::{DateTime, Days as Calendar, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use pipeline::snapshot::Earlier;

/// How days are counted back from the nominal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayRule {
    /// 24 hours each.
    Rolling,
    /// Calendar days of a zone; depth 1 begins with the day before the nominal time's.
    Calendar(Tz),
}

/// Where the windows 1 to `max_depth` begin: `k` days before the nominal time, or at the nominal time of the generation `k`
/// runs back where that is earlier, or at that of the newest generation that is `k` x 24 hours old: whoever reads once a day had
/// that one the last time, however many were made in between. None begins later than the one before.
pub(super) fn begins(nominal: DateTime<Utc>, rule: DayRule, max_depth: u32, history: &[Earlier]) -> Vec<DateTime<Utc>> {
    let mut begins: Vec<DateTime<Utc>> = Vec::with_capacity(max_depth as usize);
    let mut last = nominal;
    for depth in 1..=max_depth {
        let by_days = days_before(nominal, rule, depth);
        let by_runs = history.get(depth as usize - 1).map_or(nominal, |earlier| earlier.nominal);
        let a_day_ago = nominal - TimeDelta::days(i64::from(depth));
        let had = history.iter().map(|earlier| earlier.nominal).filter(|earlier| *earlier <= a_day_ago).max();
        last = last.min(by_days).min(by_runs).min(had.unwrap_or(by_days));
        begins.push(last);
    }
    begins
}

fn days_before(nominal: DateTime<Utc>, rule: DayRule, days: u32) -> DateTime<Utc> {
    match rule {
        DayRule::Rolling => nominal - TimeDelta::days(i64::from(days)),
        DayRule::Calendar(zone) => {
            let today = nominal.with_timezone(&zone).date_naive();
            let day = today.checked_sub_days(Calendar::new(u64::from(days))).unwrap_or(today);
            let midnight = day.and_time(NaiveTime::MIN);
            // A spring gap may swallow midnight, autumn may have it twice: the day begins when it is over, or the first time.
            (0..=4)
                .find_map(|hours| zone.from_local_datetime(&(midnight + TimeDelta::hours(hours))).earliest())
                .map_or(nominal - TimeDelta::days(i64::from(days)), |begin| begin.to_utc())
        }
    }
}

/// The place in `begins` (microseconds) of the window that a change at this moment lies in; `None`: before all of them.
pub(super) fn window_of(begins: &[i64], changed: i64) -> Option<usize> {
    let at = begins.partition_point(|begin| *begin > changed);
    (at < begins.len()).then_some(at)
}

/// What decides a change's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangeRule {
    /// The record's own time alone, as the original has it.
    pub strict: bool,
    /// Nothing that is read now changed earlier, as far as readers are concerned: they have the generation of that time. In
    /// microseconds.
    pub floor: Option<i64>,
    /// Nothing changed later than this, whatever it says: a clock was ahead. In microseconds.
    pub latest: i64,
}

impl ChangeRule {
    /// When a record changed, in microseconds. `own`: by its own fields.
    pub fn time(self, own: Option<i64>, captured: i64, initial: bool) -> i64 {
        if self.strict {
            return own.unwrap_or(captured);
        }
        // Nothing can be read before it has changed: a row that is dated in the future would be news until then.
        let captured = captured.min(self.latest);
        let time = match own {
            // All of a table comes with the first load: when it was read says nothing.
            Some(own) if initial => own.min(captured),
            _ => captured,
        };
        self.floor.map_or(time, |floor| time.max(floor))
    }

    /// The time of a row of the previous generation, whose clock may have been ahead.
    pub fn held(self, changed: i64) -> i64 {
        if self.strict { changed } else { changed.min(self.latest) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use pipeline::snapshot::Generation;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn earlier(times: &[&str]) -> Vec<Earlier> {
        times.iter().map(|time| Earlier { generation: Generation(1), nominal: at(time) }).collect()
    }

    #[test]
    fn a_day_is_24_hours_or_goes_back_to_the_run_before() {
        let nominal = at("2024-03-10T02:00:00Z");
        let rolling = begins(nominal, DayRule::Rolling, 3, &[]);
        assert_eq!(rolling, [at("2024-03-09T02:00:00Z"), at("2024-03-08T02:00:00Z"), at("2024-03-07T02:00:00Z")]);
        // The process was down on the 9th: whoever reads depth 1 each time would miss a day.
        let history = earlier(&["2024-03-08T02:00:00Z", "2024-03-07T02:00:00Z"]);
        let after_a_gap = begins(nominal, DayRule::Rolling, 3, &history);
        assert_eq!(after_a_gap, [at("2024-03-08T02:00:00Z"), at("2024-03-07T02:00:00Z"), at("2024-03-07T02:00:00Z")]);
    }

    #[test]
    fn a_generation_in_between_takes_nothing_from_who_reads_once_a_day() {
        // Nightly at two; one more was made at three in the afternoon. Who read the first night's at four, and reads this
        // one at four, needs what came since that night.
        let history = earlier(&["2024-03-10T02:00:00Z", "2024-03-09T02:00:00Z"]);
        let begins = begins(at("2024-03-10T15:00:00Z"), DayRule::Rolling, 1, &history);
        assert_eq!(begins, [at("2024-03-09T02:00:00Z")]);
    }

    #[test]
    fn calendar_days_are_those_of_the_zone_also_when_the_clock_changes() {
        let rule = DayRule::Calendar(chrono_tz::Europe::Kyiv);
        // Summer time began on 31 March, 03:00.
        let spring = begins(at("2024-04-01T05:00:00Z"), rule, 2, &[]);
        assert_eq!(spring, [at("2024-03-30T22:00:00Z"), at("2024-03-29T22:00:00Z")]);
        // In Beirut midnight itself is skipped.
        let swallowed = begins(at("2024-04-01T05:00:00Z"), DayRule::Calendar(chrono_tz::Asia::Beirut), 1, &[]);
        assert_eq!(swallowed, [at("2024-03-30T22:00:00Z")]);
    }

    #[test]
    fn windows_are_disjoint_and_the_newest_has_no_end() {
        let begins = [300, 200, 200, 100];
        let found: Vec<_> = [99, 100, 199, 200, 299, 300, 9_999].map(|t| window_of(&begins, t)).to_vec();
        assert_eq!(found, [None, Some(3), Some(3), Some(1), Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn when_it_was_read_counts_but_the_first_load_goes_by_its_own() {
        let rule = ChangeRule { strict: false, floor: None, latest: 30 };
        assert_eq!(rule.time(Some(5), 9, false), 9);
        assert_eq!(rule.time(Some(12), 9, false), 9, "nothing is read before it has changed");
        assert_eq!(rule.time(Some(12), 9, true), 9);
        assert_eq!((rule.time(None, 99, false), rule.held(99)), (30, 30), "the clock was ahead");
        assert_eq!(rule.time(Some(5), 9, true), 5);
        assert_eq!(rule.time(None, 9, true), 9);
        let later = ChangeRule { floor: Some(20), ..rule };
        assert_eq!(later.time(Some(5), 9, true), 20);
        let strict = ChangeRule { strict: true, ..later };
        assert_eq!((strict.time(Some(5), 9, false), strict.held(99)), (5, 99));
    }
}
