//! One generation of all datasets: made, published, and what is old deleted. The job that [`pipeline::run`] drives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use pipeline::job::{Done, Job, JobError};
use pipeline::ledger::Counts;
use pipeline::run::Runtime;
use pipeline::snapshot::manifest::FORMAT;
use pipeline::snapshot::{Dataset, Days, Generation, Manifest, Published, Store, StoreError};
use pipeline::telemetry;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::SnapshotError;
use super::config::{NAME, SnapshotSettings};
use super::dataset::{Context, Made, Reading, make};
use super::lease::Lease;
use super::retention::{Pruned, prune};
use super::scratch::Scratch;
use super::windows::{DayRule, remembered};

/// Others may publish first; so often it is begun again from what they published.
const OVERTAKEN: u32 = 3;

/// An answer that was lost is asked for again so often, with a wait in between.
const PUBLISHED_AGAIN: u32 = 4;
const WAIT: Duration = Duration::from_millis(500);

/// A clock may be ahead of another by so much. Whoever stands for a later time is wrong.
const AHEAD: TimeDelta = TimeDelta::minutes(10);

/// The job.
pub struct Snapshots {
    settings: SnapshotSettings,
    store: Store,
    scratch: PathBuf,
    /// Datasets that this process has tried to make.
    tried: Mutex<BTreeSet<String>>,
}

/// What became of a dataset.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetReport {
    /// How its topic was read; `None`: it wasn't.
    pub reading: Option<Reading>,
    /// Its date; `None`: it isn't in the snapshot.
    pub date: Option<DateTime<Utc>>,
    /// How many records it has.
    pub records: u64,
    /// What became of the records that were read.
    pub counts: Counts,
    /// Why it isn't new, or isn't there.
    pub reason: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The generation.
    pub generation: Generation,
    /// The time it stands for.
    pub nominal: DateTime<Utc>,
    /// By name.
    pub datasets: BTreeMap<String, DatasetReport>,
    /// What went.
    pub pruned: Pruned,
}

impl Snapshots {
    /// Files lie below `scratch` while one is made, in a folder of each run's own.
    pub fn new(settings: SnapshotSettings, store: Store, scratch: PathBuf) -> Self {
        let scratch = settings.scratch_below(&scratch);
        Self { settings, store, scratch, tried: Mutex::default() }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes and publishes a generation that stands for this time.
    pub async fn make(&self, runtime: &Runtime, nominal: DateTime<Utc>) -> Result<Report, SnapshotError> {
        let now = runtime.clock.now();
        if nominal > now + AHEAD {
            return Err(SnapshotError::Dataset {
                reason: format!("a snapshot can't stand for {nominal}, which is yet to come: it is {now}"),
                hint: "set the clocks".into(),
            });
        }
        let lease = Lease::take(&self.store, &runtime.process, &runtime.clock).await?;
        let made = tokio::select! {
            biased;
            made = self.try_make(runtime, nominal) => made,
            () = lease.lost() => Err(StoreError::Unavailable {
                reason: "somebody else has taken the lease, and makes a snapshot now".into(),
            }.into()),
        };
        if let Err(error) = lease.give_up().await {
            tracing::debug!(error = %error, "the lease isn't given up; it ends by itself");
        }
        made
    }

    async fn try_make(&self, runtime: &Runtime, nominal: DateTime<Utc>) -> Result<Report, SnapshotError> {
        for _ in 0..OVERTAKEN {
            let latest = self.store.latest(None).await?;
            let (manifest, datasets) = self.generation(runtime, nominal, latest.as_ref()).await?;
            match self.publish(runtime, &manifest).await? {
                Published::Ours => return self.report(runtime, &manifest, datasets).await,
                Published::Taken => {
                    tracing::warn!(generation = %manifest.generation, "somebody else published this generation, beginning again");
                }
            }
        }
        Err(SnapshotError::Overtaken { times: OVERTAKEN })
    }

    /// Writes all objects of the generation after `latest`.
    async fn generation(
        &self,
        runtime: &Runtime,
        nominal: DateTime<Utc>,
        latest: Option<&Manifest>,
    ) -> Result<(Manifest, BTreeMap<String, DatasetReport>), SnapshotError> {
        let generation = latest.map_or(Generation(1), |latest| latest.generation.next());
        // A clock that was set back doesn't make a generation older than the one before.
        let nominal = latest.map_or(nominal, |latest| match latest.nominal {
            former if former <= runtime.clock.now() + AHEAD => nominal.max(former),
            former => {
                tracing::warn!(generation = %latest.generation, nominal = %former,
                    "the last generation stands for a time that is yet to come, going on with the right one");
                nominal
            }
        });
        let nominal = nominal.trunc_subsecs(3);
        let now = runtime.clock.now();
        let history = latest.map(|latest| remembered(latest, now, self.settings.max_depth)).unwrap_or_default();
        let folder = format!("data/{generation}-{:08x}", fastrand::u32(..));
        let scratch = Scratch::below(&self.scratch).map_err(|source| SnapshotError::Scratch { source })?;
        let scratch = Arc::new(scratch);
        let stop = CancellationToken::new();
        // Whoever drops this future doesn't want the threads to go on.
        let _stops = stop.clone().drop_guard();
        let context = Context {
            runtime,
            settings: &self.settings,
            store: &self.store,
            nominal,
            now,
            history: &history,
            folder: &folder,
            scratch: &scratch,
            stop: &stop,
        };
        let (mut datasets, mut reports) = (BTreeMap::new(), BTreeMap::new());
        let mut made_any = false;
        for (name, settings) in &self.settings.datasets {
            let previous = latest.and_then(|latest| latest.datasets.get(name));
            if is_loaded(runtime, &settings.topic)? {
                self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
            }
            match make(&context, name, settings, previous).await {
                Ok(made) => {
                    made_any = true;
                    reports.insert(name.clone(), self.of_made(&made, nominal));
                    datasets.insert(name.clone(), made.dataset);
                }
                Err(error) if error.is_of_one_dataset() => {
                    tracing::error!(dataset = name, error = %error, "the dataset can't be read, the others go on");
                    reports.insert(name.clone(), of_kept(previous, &error));
                    datasets.extend(previous.map(|previous| (name.clone(), previous.clone())));
                }
                Err(error) => return Err(error),
            }
        }
        if !made_any {
            let reasons: Vec<String> = reports
                .iter()
                .filter_map(|(name, report)| Some(format!("{name}: {}", report.reason.as_ref()?)))
                .collect();
            return Err(SnapshotError::Dataset {
                reason: format!("no dataset can be read: {}", reasons.join("; ")),
                hint: "the last snapshot stays as it is".into(),
            });
        }
        let manifest = Manifest {
            format: FORMAT,
            generation,
            nominal,
            published: runtime.clock.now().trunc_subsecs(3),
            days: match self.settings.days {
                DayRule::Rolling => Days::Rolling,
                DayRule::Calendar(zone) => Days::Calendar { zone: zone.name().to_owned() },
            },
            max_depth: self.settings.max_depth,
            datasets,
            history,
        };
        Ok((manifest, reports))
    }

    /// Publishes; an answer that was lost is found out.
    async fn publish(&self, runtime: &Runtime, manifest: &Manifest) -> Result<Published, SnapshotError> {
        let mut tries = 1;
        loop {
            match self.store.publish(manifest).await {
                Err(StoreError::Unavailable { reason }) if tries < PUBLISHED_AGAIN => {
                    tracing::warn!(generation = %manifest.generation, reason, "publishing failed, trying again");
                    tries += 1;
                    runtime.clock.sleep(WAIT).await;
                }
                published => return Ok(published?),
            }
        }
    }

    async fn report(
        &self,
        runtime: &Runtime,
        manifest: &Manifest,
        datasets: BTreeMap<String, DatasetReport>,
    ) -> Result<Report, SnapshotError> {
        let (generation, nominal) = (manifest.generation, manifest.nominal);
        tracing::info!(generation = %generation, nominal = %nominal, datasets = datasets.len(), "snapshot published");
        tell(manifest);
        // What is published is published: what is old can go next time.
        let pruned = match prune(&self.store, self.settings.keep, self.settings.grace, runtime.clock.now()).await {
            Ok(pruned) => pruned,
            Err(error) => {
                tracing::warn!(error = %error, "old generations aren't deleted");
                Pruned::default()
            }
        };
        Ok(Report { generation, nominal, datasets, pruned })
    }

    /// Whether a table has been loaded that no generation has yet, and that wasn't tried: nobody waits for it until tomorrow.
    fn has_news(&self, runtime: &Runtime, latest: Option<&Manifest>) -> Result<bool, SnapshotError> {
        let Some(latest) = latest else { return Ok(true) };
        for (name, settings) in &self.settings.datasets {
            let was_tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
            if !was_tried && !latest.datasets.contains_key(name) && is_loaded(runtime, &settings.topic)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why a person should look at a dataset whose date lies so far behind.
    fn stale(&self, date: DateTime<Utc>, nominal: DateTime<Utc>) -> Option<String> {
        let behind = nominal - date;
        let stale = behind > TimeDelta::from_std(self.settings.stale_after).unwrap_or(TimeDelta::MAX);
        let hours = behind.num_hours();
        stale.then(|| format!("its topic is complete up to {date} only, {hours} hours before the snapshot's time"))
    }

    fn of_made(&self, made: &Made, nominal: DateTime<Utc>) -> DatasetReport {
        let Made { dataset, reading, read, superseded, tally } = made;
        let reason = self.stale(dataset.date, nominal);
        let counts = Counts {
            read: *read,
            delivered: tally.written + tally.deleted,
            unchanged: tally.unchanged,
            superseded: *superseded,
            stale: tally.stale,
            ..Counts::default()
        };
        let (date, records) = (Some(dataset.date), dataset.full.records);
        DatasetReport { reading: Some(*reading), date, records, counts, reason }
    }
}

/// Whether the source has read all of the table once.
fn is_loaded(runtime: &Runtime, topic: &str) -> Result<bool, SnapshotError> {
    Ok(runtime.state.positions.progress(topic)?.is_some())
}

/// For those who watch how old snapshots are.
fn tell(manifest: &Manifest) {
    for (name, dataset) in &manifest.datasets {
        metrics::gauge!(telemetry::SNAPSHOT_DATE, "dataset" => name.clone()).set(dataset.date.timestamp() as f64);
        metrics::gauge!(telemetry::SNAPSHOT_RECORDS, "dataset" => name.clone()).set(dataset.full.records as f64);
    }
}

fn of_kept(previous: Option<&Dataset>, error: &SnapshotError) -> DatasetReport {
    DatasetReport {
        reading: None,
        date: previous.map(|previous| previous.date),
        records: previous.map_or(0, |previous| previous.full.records),
        counts: Counts::default(),
        reason: Some(error.to_string()),
    }
}

impl Report {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("generation {} for {}", self.generation, self.nominal);
        for (name, dataset) in &self.datasets {
            let _ = match (&dataset.date, &dataset.reason) {
                (Some(date), None) => write!(text, "\n  {name}: {} records as of {date}", dataset.records),
                (Some(date), Some(why)) => write!(text, "\n  {name}: {} records as of {date}: {why}", dataset.records),
                (None, why) => write!(text, "\n  {name}: not in it: {}", why.as_deref().unwrap_or("no reason")),
            };
        }
        text
    }
}

#[async_trait]
impl Job for Snapshots {
    fn name(&self) -> &str {
        NAME
    }

    async fn last(&self, runtime: &Runtime) -> Result<Option<DateTime<Utc>>, JobError> {
        let latest = self.store.latest(None).await.map_err(SnapshotError::from)?;
        if self.has_news(runtime, latest.as_ref())? {
            return Ok(None);
        }
        latest.iter().for_each(tell);
        Ok(latest.map(|latest| latest.nominal))
    }

    async fn complaints(&self, _: &Runtime) -> Result<Vec<String>, JobError> {
        let Some(latest) = self.store.latest(None).await.map_err(SnapshotError::from)? else { return Ok(Vec::new()) };
        let complaint = |name: &String| match latest.datasets.get(name) {
            None => Some(format!("{name}: it isn't in the newest snapshot")),
            Some(dataset) => Some(format!("{name}: {}", self.stale(dataset.date, latest.nominal)?)),
        };
        Ok(self.settings.datasets.keys().filter_map(complaint).collect())
    }

    async fn run(&self, runtime: &Runtime, nominal: DateTime<Utc>) -> Result<Done, JobError> {
        let report = self.make(runtime, nominal).await?;
        let mut counts = Counts::default();
        let mut reasons = Vec::new();
        for (name, dataset) in &report.datasets {
            counts += dataset.counts;
            reasons.extend(dataset.reason.as_ref().map(|reason| format!("{name}: {reason}")));
        }
        let details = serde_json::to_value(&report).unwrap_or_default();
        Ok(Done { text: report.text(), details, counts, complaints: reasons })
    }
}
