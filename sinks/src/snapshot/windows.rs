//! Which day a change belongs to. Pure.

use chrono::{DateTime, Days as Calendar, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use pipeline::snapshot::{Earlier, Manifest};

/// How days are counted back from the nominal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayRule {
    /// 24 hours each.
    Rolling,
    /// Calendar days of a zone; depth 1 begins with the day before the nominal time's.
    Calendar(Tz),
}

/// Generations come somewhat after their time. One that came no later than this counts as there at its time: by the moment it
/// came, every other day would be two. Where less than a day lies between two, the same share of it.
const LATE: TimeDelta = TimeDelta::hours(1);
const SHARE_OF_A_DAY: i32 = 24;

/// Where the windows 1 to `max_depth` begin: `k` days before the nominal time, or at the nominal time of the generation `k`
/// runs back where that is earlier, or at that of the newest generation that was there `k` x 24 hours before `now`: whoever reads
/// once a day had that one the last time, however many were made in between, and however late they came. None begins later than
/// the one before.
pub(super) fn begins(
    nominal: DateTime<Utc>,
    now: DateTime<Utc>,
    rule: DayRule,
    max_depth: u32,
    history: &[Earlier],
) -> Vec<DateTime<Utc>> {
    let mut begins: Vec<DateTime<Utc>> = Vec::with_capacity(max_depth as usize);
    let mut last = nominal;
    // By the last two times from one to the next: behind a gap it would be long.
    let times: Vec<DateTime<Utc>> = std::iter::once(nominal).chain(history.iter().map(|e| e.nominal)).take(3).collect();
    let between = times.windows(2).map(|two| two[0] - two[1]).min().unwrap_or(TimeDelta::days(1));
    let late = (between / SHARE_OF_A_DAY).clamp(TimeDelta::zero(), LATE);
    let was_there = |earlier: &Earlier, then: DateTime<Utc>| match earlier.published() <= earlier.nominal + late {
        true => earlier.nominal <= then,
        false => earlier.published() <= then,
    };
    for depth in 1..=max_depth {
        let by_days = days_before(nominal, rule, depth);
        let by_runs = history.get(depth as usize - 1).map_or(nominal, |earlier| earlier.nominal);
        let read = now - TimeDelta::days(i64::from(depth));
        // Where all came later than that, readers who come later still had the oldest at least.
        let newest = history.iter().position(|earlier| was_there(earlier, read)).or(history.len().checked_sub(1));
        // Those before it may stand for later times, by a clock that was ahead.
        let had = newest.and_then(|newest| history[..=newest].iter().map(|earlier| earlier.nominal).min());
        last = last.min(by_days).min(by_runs).min(had.unwrap_or(by_days));
        begins.push(last);
    }
    begins
}

/// What the generation after `latest` knows of those before it, newest first: those that windows may reach back to, down to the
/// first that is older than the deepest window. They are the newest `max_depth`, and beyond them so many that the next older one
/// is no further away than a twenty-fourth of its age, by which a window then begins too early.
pub(super) fn remembered(latest: &Manifest, now: DateTime<Utc>, max_depth: u32) -> Vec<Earlier> {
    let newest = latest.published.min(now);
    let latest_one = Earlier { generation: latest.generation, nominal: latest.nominal, published: Some(newest) };
    // What a clock that was ahead has stamped is there now.
    let was_there = |earlier: &Earlier| Earlier { published: earlier.published.map(|at| at.min(now)), ..*earlier };
    let history: Vec<Earlier> = std::iter::once(latest_one).chain(latest.history.iter().map(was_there)).collect();
    let mut kept: Vec<Earlier> = Vec::new();
    for (at, earlier) in history.iter().enumerate() {
        if let Some(last) = kept.last().filter(|_| kept.len() >= max_depth as usize) {
            if newest - last.published() > TimeDelta::days(i64::from(max_depth)) {
                break;
            }
            if let Some(next) = history.get(at + 1)
                && last.published() - next.published() < (newest - next.published()) / SHARE_OF_A_DAY
            {
                continue;
            }
        }
        kept.push(*earlier);
    }
    kept
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

    use std::collections::BTreeMap;

    use pipeline::snapshot::{Days, Generation};

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn earlier(times: &[&str]) -> Vec<Earlier> {
        let earlier = |time: &&str| Earlier { generation: Generation(1), nominal: at(time), published: None };
        times.iter().map(earlier).collect()
    }

    fn published(nominal: &str, published: &str) -> Earlier {
        Earlier { generation: Generation(1), nominal: at(nominal), published: Some(at(published)) }
    }

    fn manifest(nominal: DateTime<Utc>, history: Vec<Earlier>) -> Manifest {
        let (format, generation, days) = (pipeline::snapshot::manifest::FORMAT, Generation(1), Days::Rolling);
        let (published, datasets) = (nominal, BTreeMap::new());
        Manifest { format, generation, nominal, published, days, max_depth: 1, datasets, history }
    }

    #[test]
    fn a_day_is_24_hours_or_goes_back_to_the_run_before() {
        let nominal = at("2024-03-10T02:00:00Z");
        let rolling = begins(nominal, nominal, DayRule::Rolling, 3, &[]);
        assert_eq!(rolling, [at("2024-03-09T02:00:00Z"), at("2024-03-08T02:00:00Z"), at("2024-03-07T02:00:00Z")]);
        // The process was down on the 9th: whoever reads depth 1 each time would miss a day.
        let history = earlier(&["2024-03-08T02:00:00Z", "2024-03-07T02:00:00Z"]);
        let after_a_gap = begins(nominal, nominal, DayRule::Rolling, 3, &history);
        assert_eq!(after_a_gap, [at("2024-03-08T02:00:00Z"), at("2024-03-07T02:00:00Z"), at("2024-03-07T02:00:00Z")]);
    }

    #[test]
    fn a_generation_in_between_takes_nothing_from_who_reads_once_a_day() {
        // Nightly at two; one more was made at three in the afternoon. Who read the first night's at four, and reads this
        // one at four, needs what came since that night.
        let history = earlier(&["2024-03-10T02:00:00Z", "2024-03-09T02:00:00Z"]);
        let three = at("2024-03-10T15:00:00Z");
        assert_eq!(begins(three, three, DayRule::Rolling, 1, &history), [at("2024-03-09T02:00:00Z")]);
    }

    #[test]
    fn a_generation_that_came_late_is_not_what_a_reader_had() {
        let nominal = at("2024-03-10T02:00:00Z");
        let before = published("2024-03-08T02:00:00Z", "2024-03-08T02:05:00Z");
        for (came, begin) in [
            // Who reads at four read yesterday's.
            ("2024-03-09T02:20:00Z", "2024-03-09T02:00:00Z"),
            // The bucket was away until nine: at four it was the one of the day before.
            ("2024-03-09T09:00:00Z", "2024-03-08T02:00:00Z"),
        ] {
            let history = [published("2024-03-09T02:00:00Z", came), before];
            assert_eq!(begins(nominal, nominal, DayRule::Rolling, 1, &history), [at(begin)], "{came}");
        }
        // This one comes late itself.
        let history = [published("2024-03-09T02:00:00Z", "2024-03-09T09:00:00Z"), before];
        let noon = at("2024-03-10T12:00:00Z");
        assert_eq!(begins(nominal, noon, DayRule::Rolling, 1, &history), [at("2024-03-09T02:00:00Z")]);
    }

    #[test]
    fn a_generation_that_came_hours_late_two_days_in_a_row_is_not_what_a_reader_had() {
        // Who reads at four had the one before yesterday's, which came ten minutes past; today's comes at half past three.
        let history = [
            published("2024-03-09T02:00:00Z", "2024-03-09T04:10:00Z"),
            published("2024-03-08T02:00:00Z", "2024-03-08T02:05:00Z"),
        ];
        let begins = begins(at("2024-03-10T02:00:00Z"), at("2024-03-10T03:15:00Z"), DayRule::Rolling, 1, &history);
        assert_eq!(begins, [at("2024-03-08T02:00:00Z")]);
    }

    #[test]
    fn the_first_generation_of_all_is_what_late_readers_had() {
        // Made from ten to one, for the table is large; a nightly one; and one by hand at noon. Who reads at two had the first.
        let history = [
            published("2024-03-10T02:00:00Z", "2024-03-10T02:05:00Z"),
            published("2024-03-09T10:00:00Z", "2024-03-09T13:00:00Z"),
        ];
        let noon = at("2024-03-10T12:00:00Z");
        assert_eq!(begins(noon, noon, DayRule::Rolling, 1, &history), [at("2024-03-09T10:00:00Z")]);
    }

    #[test]
    fn what_a_clock_that_was_ahead_has_made_is_not_what_a_reader_had_for_its_time_has_come() {
        // Made at two by a clock that said it was two in the afternoon; one by hand at one, one at night, and one by hand.
        let history = [
            published("2024-03-10T02:00:00Z", "2024-03-10T02:05:00Z"),
            published("2024-03-09T13:00:00Z", "2024-03-09T13:02:00Z"),
            published("2024-03-09T14:00:00Z", "2024-03-09T13:00:00Z"),
            published("2024-03-08T02:00:00Z", "2024-03-08T02:05:00Z"),
        ];
        let now = at("2024-03-10T14:12:00Z");
        assert_eq!(begins(now, now, DayRule::Rolling, 1, &history), [at("2024-03-09T13:00:00Z")]);
    }

    #[test]
    fn behind_a_gap_what_came_late_is_no_sooner_what_a_reader_had() {
        // Every hour; yesterday's of noon came at a quarter past, and from six on none today.
        let hours = (6..=29).map(|hour| at("2024-03-09T00:00:00Z") + TimeDelta::hours(hour));
        let history: Vec<Earlier> = hours
            .rev()
            .map(|nominal| {
                let late = if nominal == at("2024-03-09T12:00:00Z") { 15 } else { 1 };
                let published = Some(nominal + TimeDelta::minutes(late));
                Earlier { generation: Generation(1), nominal, published }
            })
            .collect();
        let noon = at("2024-03-10T12:00:00Z");
        assert_eq!(begins(noon, noon, DayRule::Rolling, 1, &history), [at("2024-03-09T11:00:00Z")]);
    }

    /// Each is all that the next one knows. Now and then one is missed, one is made by hand, one comes from a clock that is years
    /// ahead.
    #[test]
    fn however_often_generations_are_made_their_history_stays_short_and_windows_reach_just_far_enough() {
        for (minutes, max_depth) in [(15, 30), (60, 30), (60, 7), (720, 30), (1440, 30), (1440, 1), (60, 366)] {
            let mut random = fastrand::Rng::with_seed(7);
            let every = TimeDelta::minutes(minutes);
            let punctual = TimeDelta::seconds(every.num_seconds() / 50);
            let (mut history, mut all, mut now) = (Vec::new(), Vec::<Earlier>::new(), at("2024-03-10T12:00:00Z"));
            let mut latest: Option<Manifest> = None;
            for n in 0..(45 * 1440 / minutes) {
                now += every;
                if random.u32(..20) == 0 {
                    continue;
                }
                let nominal = if random.u32(..30) == 0 { now + every / 3 } else { now };
                history = latest.map_or(history, |latest| remembered(&latest, nominal, max_depth));
                assert!(history.len() < max_depth as usize + 200, "{minutes}, {max_depth}: {}", history.len());
                // A debug build takes its time.
                let begins = match n % 8 {
                    0 => begins(nominal, nominal, DayRule::Rolling, max_depth, &history),
                    _ => Vec::new(),
                };
                for (depth, begin) in (1..).zip(&begins) {
                    // Who reads well after the time at which one comes.
                    let read = nominal + every / 12 - TimeDelta::days(depth);
                    let had = all.iter().rev().find(|earlier: &&Earlier| earlier.published() <= read);
                    let had = had.map_or(*begin, |had| had.nominal);
                    assert!(*begin <= had, "{minutes}, {max_depth}: depth {depth} of {n} begins too late");
                    let days = TimeDelta::days(depth).max(every * i32::try_from(depth).unwrap());
                    let early = nominal - days - *begin;
                    let most = every * 3 + TimeDelta::hours(depth + 1);
                    assert!(early <= most, "{minutes}, {max_depth}: depth {depth} of {n} begins {early} too early");
                }
                let ahead = if [40, 41].contains(&n) { TimeDelta::days(2000) } else { TimeDelta::zero() };
                let published = nominal + punctual;
                all.push(Earlier { generation: Generation(1), nominal, published: Some(published) });
                latest = Some(Manifest { published: published + ahead, ..manifest(nominal, history.clone()) });
            }
        }
    }

    #[test]
    fn calendar_days_are_those_of_the_zone_also_when_the_clock_changes() {
        let rule = DayRule::Calendar(chrono_tz::Europe::Kyiv);
        let april = at("2024-04-01T05:00:00Z");
        // Summer time began on 31 March, 03:00.
        let spring = begins(april, april, rule, 2, &[]);
        assert_eq!(spring, [at("2024-03-30T22:00:00Z"), at("2024-03-29T22:00:00Z")]);
        // In Beirut midnight itself is skipped.
        let swallowed = begins(april, april, DayRule::Calendar(chrono_tz::Asia::Beirut), 1, &[]);
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
