//! Whoever reads depth 1 every day misses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use pipeline::schedule::Schedule;
use pipeline::snapshot::Manifest;
use serde_json::Value;
use sinks::snapshot::DayRule;

use super::site::{Site, read, records};

/// A reader that took the full set once, and since then every generation's depth 1 and deletions.
#[derive(Default)]
struct Reader {
    table: BTreeMap<String, Value>,
    has_begun: bool,
}

impl Reader {
    async fn take(&mut self, site: &Site, manifest: &Manifest) {
        let dataset = &manifest.datasets["employees"];
        let depth = self.has_begun.then_some(1);
        for deleted in records(&site.store, &dataset.deleted).await {
            self.table.remove(deleted["key"].as_str().unwrap());
        }
        self.table.extend(read(&site.store, dataset, depth).await);
        self.has_begun = true;
    }
}

/// Sixty days around the change to summer time: late commits, pages that are read for hours, deletions, a clock that is set back,
/// nights on which the process is down. Without the floor in `ChangeRule::time`, without the look at earlier generations in
/// `begins`, or with a window that excludes its own beginning, the reader ends with another table (each was tried).
#[tokio::test]
async fn a_daily_reader_of_depth_1_has_the_whole_table_after_sixty_days() {
    for (seed, days) in [(1, DayRule::Rolling), (2, DayRule::Calendar(chrono_tz::Europe::Kyiv)), (3, DayRule::Rolling)]
    {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut site = Site::new().await;
        site.settings.days = days;
        site.settings.max_depth = 3;
        site.settings.codings.truncate(1);
        let schedule = Schedule::cron("0 4 * * *", chrono_tz::Europe::Kyiv).unwrap();
        let mut reader = Reader::default();
        for n in 0..30 {
            site.put(n, "P1", None).await;
        }
        let mut missed = 0;
        for day in 0..60 {
            for _ in 0..random.u32(1..8) {
                let step = Duration::from_secs(random.u64(60..4 * 3600));
                site.clock.advance(step).await;
                change(&mut site, &mut random, day).await;
                if random.u32(..10) == 0 {
                    // The machine's clock is corrected.
                    let back = site.now() - TimeDelta::minutes(random.i64(1..40));
                    site.clock.set(back);
                }
            }
            let latest = site.store.latest(None).await.unwrap();
            let due = due(&schedule, latest.as_ref(), site.now());
            let is_down = random.u32(..7) == 0;
            if let (Some(nominal), false) = (due, is_down) {
                site.complete().await;
                site.job().make(&site.runtime, nominal).await.unwrap();
                reader.take(&site, &site.latest().await).await;
                assert_eq!(reader.table, site.read(None).await, "seed {seed}, day {day}");
                assert_eq!(reader.table, site.table, "seed {seed}, day {day}");
            } else {
                missed += 1;
            }
        }
        assert!(reader.has_begun && missed < 45, "{missed} runs of 60 didn't take place");
        site.verified().await;
    }
}

/// A bucket that is away, a large table, a process that is down: snapshots come when they come, and the reader comes at four.
/// Where windows look back to what generations stand for, whenever they were published, the reader misses rows.
#[tokio::test]
async fn who_reads_at_the_same_hour_misses_nothing_however_late_snapshots_are() {
    for seed in 1..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut site = Site::new().await;
        site.settings.max_depth = 3;
        site.settings.codings.truncate(1);
        let mut reader = Reader::default();
        let midnight = site.now().duration_trunc(TimeDelta::days(1)).unwrap() + TimeDelta::days(1);
        for day in 0..30 {
            let midnight = midnight + TimeDelta::days(day);
            let due = midnight + TimeDelta::hours(2);
            let late = if random.u32(..3) == 0 { random.i64(60..21 * 60) } else { random.i64(0..50) };
            let made = due + TimeDelta::minutes(late);
            for hour in 0..24 {
                site.clock.set(midnight + TimeDelta::hours(hour));
                if hour == 4
                    && let Some(latest) = site.store.latest(None).await.unwrap()
                {
                    reader.take(&site, &latest).await;
                    assert_eq!(
                        reader.table,
                        read(&site.store, &latest.datasets["employees"], None).await,
                        "{seed}, {day}"
                    );
                }
                if random.u32(..3) == 0 {
                    let (n, position) = (random.u32(..40), format!("P{day}-{hour}"));
                    site.put(n, &position, Some(site.now())).await;
                }
                if made < midnight + TimeDelta::hours(hour + 1) && made >= midnight + TimeDelta::hours(hour) {
                    site.clock.set(made);
                    site.complete().await;
                    site.job().make(&site.runtime, due).await.unwrap();
                }
            }
        }
        assert!(reader.has_begun);
    }
}

fn due(schedule: &Schedule, latest: Option<&Manifest>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match latest {
        None => Some(now),
        Some(latest) => schedule.missed(latest.nominal, now),
    }
}

async fn change(site: &mut Site, random: &mut fastrand::Rng, day: u32) {
    let n = random.u32(..40);
    // Committed late: by its own account it changed up to three days ago.
    let updated = site.now() - TimeDelta::seconds(random.i64(0..3 * 24 * 3600));
    // Read by a request that was sent up to five hours ago.
    site.captured_before = TimeDelta::seconds(random.i64(0..5 * 3600));
    match random.u32(..5) {
        0 => site.delete(n).await,
        1 => site.put_as(n, &format!("P{day}"), updated, None, "initial").await,
        _ => site.put(n, &format!("P{day}"), Some(updated)).await,
    }
    site.captured_before = TimeDelta::zero();
}
