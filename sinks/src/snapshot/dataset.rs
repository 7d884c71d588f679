//! One dataset of a generation: what is read, from where on, and what becomes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::change::Incarnation;
use pipeline::log::{Offset, TopicPartition};
use pipeline::run::{Health, Runtime};
use pipeline::snapshot::manifest::PartitionOffset;
use pipeline::snapshot::{Coding, Dataset, Earlier, Form, Store};
use schemas::Schema;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::SnapshotError;
use super::adapt::Adapter;
use super::base::Rows;
use super::changes::{Begin, Collected, collect, is_void};
use super::columns::{OWN, columns};
use super::config::{DatasetSettings, NAME, SnapshotSettings};
use super::lists::Names;
use super::merge::{Merge, Rule, Tally};
use super::render::Renderer;
use super::scratch::Scratch;
use super::upload::Uploads;
use super::windows::{ChangeRule, begins};
use super::write::{Pass, Written};

/// How a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Whole: there was no generation with this dataset.
    First,
    /// What came since the previous generation.
    Since,
    /// Whole, and compared with the previous generation: the offsets of that mean nothing any more.
    Sweep,
    /// Whole, and everything counts as changed since the previous generation: that can't be read any more.
    Again,
}

/// What all datasets of a generation have in common.
pub(super) struct Context<'a> {
    pub runtime: &'a Runtime,
    pub settings: &'a SnapshotSettings,
    pub store: &'a Store,
    pub nominal: DateTime<Utc>,
    /// The generations before, newest first.
    /// When it was begun.
    pub now: DateTime<Utc>,
    pub history: &'a [Earlier],
    /// As in `data/00000042-5f3c9e1a`.
    pub folder: &'a str,
    pub scratch: &'a Arc<Scratch>,
    pub stop: &'a CancellationToken,
}

/// A dataset that was made.
pub(super) struct Made {
    pub dataset: Dataset,
    pub reading: Reading,
    /// Records that were read.
    pub read: u64,
    pub superseded: u64,
    pub tally: Tally,
}

/// Makes a dataset. `previous`: what the generation before has of it.
pub(super) async fn make(
    context: &Context<'_>,
    name: &str,
    settings: &DatasetSettings,
    previous: Option<&Dataset>,
) -> Result<Made, SnapshotError> {
    let runtime = context.runtime;
    // Before the ends are asked for: everything up to it is in what is read then.
    let date = complete_to(runtime, &settings.topic).await?;
    let mut damaged = false;
    loop {
        let lives = lives(runtime, &settings.topic).await?;
        stated(runtime, &settings.topic, &lives)?;
        let reading = match previous {
            None => Reading::First,
            Some(_) if damaged => Reading::Again,
            Some(previous) => since_or_sweep(runtime, settings, previous, &lives).await?,
        };
        let made = attempt(context, name, settings, previous, reading, &lives, date).await;
        if made.is_err() {
            // Other datasets need the room. What can't be removed goes with the run's folder.
            let _ = std::fs::remove_dir_all(context.scratch.path().join(name));
        }
        match made {
            Err(SnapshotError::Damaged { path, reason }) if !damaged && reading != Reading::First => {
                tracing::error!(
                    dataset = name,
                    path,
                    reason,
                    "the previous generation can't be used, the topic is read whole"
                );
                damaged = true;
            }
            Err(error) if is_void(&error) => {
                // A life that ended while it was read: it is named anew when it is looked at again.
                return Err(SnapshotError::Dataset {
                    reason: format!("{} was recreated or truncated while it was read", settings.topic),
                    hint: "the next run reads it whole".into(),
                });
            }
            made => return made,
        }
    }
}

/// Up to when the topic is complete, as its source says.
async fn complete_to(runtime: &Runtime, topic: &str) -> Result<DateTime<Utc>, SnapshotError> {
    let progress = runtime.state.positions.progress(topic)?;
    let unknown = || SnapshotError::Dataset {
        reason: format!("{topic} isn't complete up to any moment yet"),
        hint: "its source must have read everything once".into(),
    };
    Ok(progress.ok_or_else(unknown)?.complete_to)
}

/// The partitions and their present lives.
async fn lives(runtime: &Runtime, topic: &str) -> Result<Vec<(TopicPartition, Incarnation)>, SnapshotError> {
    let count = u32::try_from(runtime.log.ends(topic).await?.len()).unwrap_or(0);
    let topic: Arc<str> = topic.into();
    let all: Vec<TopicPartition> =
        (0..count).map(|partition| TopicPartition::new(Arc::clone(&topic), partition)).collect();
    let mut present = runtime.state.incarnations.present_all(&all).await?;
    Ok(all.into_iter().filter_map(|at| Some((at.clone(), present.remove(&at)?))).collect())
}

/// What a source said of a former life says nothing of this one: a topic that was made anew is empty at first.
fn stated(runtime: &Runtime, topic: &str, lives: &[(TopicPartition, Incarnation)]) -> Result<(), SnapshotError> {
    const HINT: &str = "wait for its next run, or ask for one with `muster sync`";
    for (at, life) in lives {
        // What a stalled writer appended late has taken the place of the right record.
        if runtime.state.incarnations.incomplete(at, life)? {
            let reason = format!("{at} has lost records, and its source hasn't stated everything again yet");
            return Err(SnapshotError::Dataset { reason, hint: HINT.into() });
        }
    }
    let position = runtime.state.positions.position(topic)?;
    let same = |saved: &[Incarnation]| saved.iter().eq(lives.iter().map(|(_, life)| life));
    if position.is_some_and(|position| position.finished.is_some() && same(&position.incarnations)) {
        return Ok(());
    }
    Err(SnapshotError::Dataset {
        reason: format!("{topic} began a new life, and its source hasn't stated everything in it yet"),
        hint: HINT.into(),
    })
}

async fn since_or_sweep(
    runtime: &Runtime,
    settings: &DatasetSettings,
    previous: &Dataset,
    lives: &[(TopicPartition, Incarnation)],
) -> Result<Reading, SnapshotError> {
    let same_lives = previous.topic == settings.topic
        && previous.offsets.len() == lives.len()
        && previous.offsets.iter().zip(lives).all(|(offset, (_, life))| offset.incarnation == *life);
    if !same_lives {
        tracing::warn!(topic = settings.topic, "another life than the previous generation's: all keys are compared");
        return Ok(Reading::Sweep);
    }
    let ends = runtime.log.ends(&settings.topic).await?;
    let void = previous.offsets.iter().zip(&ends).any(|(offset, ends)| offset.next > ends.end);
    let absence = runtime.clock.now() - previous.date;
    if void || absence > tombstones_live(runtime, &settings.topic).await? {
        tracing::warn!(topic = settings.topic, "deletions may be gone from the topic: all keys are compared");
        return Ok(Reading::Sweep);
    }
    Ok(Reading::Since)
}

/// How long the topic keeps tombstones at least.
async fn tombstones_live(runtime: &Runtime, topic: &str) -> Result<TimeDelta, SnapshotError> {
    /// What the catalogue asks for.
    const USUAL: Duration = Duration::from_secs(90 * 24 * 3600);
    let topics = runtime.log.topics().await?;
    let own = runtime.log.own_name(topic);
    let info = topics.iter().find(|info| info.name == topic || info.name == own);
    let retention = info.and_then(|info| info.settings.get("delete.retention.ms")?.parse().ok());
    let retention = retention.map_or(USUAL, Duration::from_millis);
    Ok(TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX))
}

async fn attempt(
    context: &Context<'_>,
    name: &str,
    settings: &DatasetSettings,
    previous: Option<&Dataset>,
    reading: Reading,
    lives: &[(TopicPartition, Incarnation)],
    date: DateTime<Utc>,
) -> Result<Made, SnapshotError> {
    let runtime = context.runtime;
    let scratch = context.scratch.path().join(name);
    fresh_folder(&scratch)?;
    let progress = |what: &'static str| {
        let (health, name) = (Arc::clone(&runtime.health), format!("{NAME}.{name} {what}"));
        move |records: u64| {
            health.records(&name, records);
            health.step(NAME);
        }
    };
    let collected =
        collect(runtime, &starts(previous, reading, lives), &scratch, context.settings.sort_memory, &progress("read"))
            .await?;
    // A topic that was made anew in between would have been read half in one life, half in the other.
    if self::lives(runtime, &settings.topic).await? != lives {
        return Err(SnapshotError::Dataset {
            reason: format!("{} was recreated or truncated while it was read", settings.topic),
            hint: "the next run reads it whole".into(),
        });
    }
    let schema = schema(runtime, settings, previous, &collected).await?;
    if let Some(field) = schema.fields().iter().find(|field| OWN.contains(&field.name.as_str())) {
        return Err(SnapshotError::Dataset {
            reason: format!("{} has a field {}, as snapshots have themselves", settings.topic, field.name),
            hint: "leave the column out where the topic is made, or give it another name there".into(),
        });
    }
    let work = Work {
        settings: context.settings.clone(),
        dataset: settings.clone(),
        store: context.store.clone(),
        names: Names { folder: format!("{}/{name}", context.folder) },
        previous: previous.cloned(),
        reading,
        nominal: context.nominal,
        now: context.now,
        history: context.history.to_vec(),
        schema: Arc::clone(&schema),
        scratch: scratch.clone(),
        latest: runtime.clock.now().max(context.nominal),
        health: Arc::clone(&runtime.health),
        _held: Arc::clone(context.scratch),
        handle: Handle::current(),
        stop: context.stop.clone(),
    };
    let (offsets, read) = (collected.offsets.clone(), collected.read);
    let told = progress("rows");
    let done = tokio::task::spawn_blocking(move || work.run(collected, &told)).await;
    let written = done.map_err(|panicked| SnapshotError::Dataset {
        reason: panicked.to_string(),
        hint: "this is a mistake in the program".into(),
    })??;
    std::fs::remove_dir_all(&scratch).map_err(|source| SnapshotError::Scratch { source })?;
    let deepest = written.windows.last().map_or(context.nominal, |window| window.from);
    let deletions_since = match (previous, reading) {
        (Some(previous), Reading::Since | Reading::Sweep) => previous.deletions_since.max(deepest),
        _ => context.nominal,
    };
    let text = serde_json::from_str(schema.text()).map_err(|error| SnapshotError::Dataset {
        reason: format!("the schema of {} isn't JSON: {error}", settings.topic),
        hint: "this is a mistake in the program".into(),
    })?;
    let dataset = Dataset {
        topic: settings.topic.clone(),
        date,
        offsets,
        schema: text,
        full: written.full,
        windows: written.windows,
        deleted: written.deleted,
        deletions_since,
    };
    Ok(Made { dataset, reading, read, superseded: written.superseded, tally: written.tally })
}

/// An empty folder: what a run that was cut off left there is of no use.
fn fresh_folder(folder: &Path) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Scratch { source };
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::fs::create_dir_all(folder).map_err(failed)
}

fn starts(previous: Option<&Dataset>, reading: Reading, lives: &[(TopicPartition, Incarnation)]) -> Vec<Begin> {
    let known = |at: &TopicPartition| -> Option<&PartitionOffset> {
        previous?.offsets.iter().find(|offset| offset.partition == at.partition)
    };
    let begin = |(at, incarnation): &(TopicPartition, Incarnation)| {
        let from = match reading {
            Reading::Since => known(at).map_or(Offset::START, |offset| offset.next),
            Reading::First | Reading::Sweep | Reading::Again => Offset::START,
        };
        Begin { at: at.clone(), incarnation: incarnation.clone(), from }
    };
    lives.iter().map(begin).collect()
}

/// The schema of the columns: the one that was announced last for the topic, so that columns don't come and go with the values
/// that happened to be read; else that of the newest value, else the previous generation's.
async fn schema(
    runtime: &Runtime,
    settings: &DatasetSettings,
    previous: Option<&Dataset>,
    collected: &Collected,
) -> Result<Arc<Schema>, SnapshotError> {
    let announced = runtime.state.schemas.current(&runtime.log.own_name(&settings.topic)).await?;
    if let Some(schema) = announced.or_else(|| collected.newest.clone()) {
        return Ok(schema);
    }
    if let Some(schema) = previous.and_then(|previous| Schema::parse(&previous.schema.to_string()).ok()) {
        return Ok(Arc::new(schema));
    }
    let known = schemas::catalogue().entity(&settings.topic).map(|entity| Arc::clone(&entity.schema));
    known.ok_or_else(|| SnapshotError::Dataset {
        reason: format!("{} is empty, and its schema isn't known", settings.topic),
        hint: "its source must have written a record first".into(),
    })
}

/// What the blocking part of the work needs.
struct Work {
    settings: SnapshotSettings,
    dataset: DatasetSettings,
    store: Store,
    names: Names,
    previous: Option<Dataset>,
    reading: Reading,
    nominal: DateTime<Utc>,
    now: DateTime<Utc>,
    history: Vec<Earlier>,
    schema: Arc<Schema>,
    scratch: std::path::PathBuf,
    /// Nothing has changed later than this.
    latest: DateTime<Utc>,
    /// Hears of each part that the store has taken.
    health: Arc<Health>,
    /// The folder stays while the thread is at work, which nobody may be waiting for any more.
    _held: Arc<Scratch>,
    handle: Handle,
    stop: CancellationToken,
}

impl Work {
    fn run(&self, collected: Collected, told: &(dyn Fn(u64) + Send + Sync)) -> Result<Written, SnapshotError> {
        let begins = begins(self.nominal, self.now, self.settings.days, self.settings.max_depth, &self.history);
        let (base, deleted) = match (&self.previous, self.reading) {
            (Some(previous), Reading::Since | Reading::Sweep) => {
                let (base, deleted) = self.open(previous)?;
                (Some(base), Some(deleted))
            }
            _ => (None, None),
        };
        let held = base.as_ref().map_or(0, |(rows, _)| rows.count());
        let previous_time = self.previous.as_ref().and_then(|_| self.history.first()).map(|earlier| earlier.nominal);
        let micros = |time: DateTime<Utc>| time.timestamp_micros();
        let rule = Rule {
            change: ChangeRule {
                strict: self.dataset.strict,
                // What stands for a time that is yet to come keeps nothing in the newest window until then.
                floor: previous_time.map(|time| micros(time.min(self.nominal))),
                latest: micros(self.latest),
            },
            sweeping: self.reading == Reading::Sweep,
            tell_deletions: self.reading != Reading::First,
            forget_before: begins.last().copied().map_or(i64::MIN, micros),
            missed_at: micros(self.nominal),
        };
        let changed_by = &self.dataset.changed_by;
        let merge = Merge::new(&self.schema, base, deleted, collected.changes, &collected.schemas, changed_by, rule)?;
        let health = Arc::clone(&self.health);
        let uploads = Uploads::new(&self.store, &self.handle, Arc::new(move || health.step(NAME)));
        let pass = Pass {
            settings: &self.settings,
            names: self.names.clone(),
            begins,
            columns: columns(&self.schema),
            renderer: Renderer::new(&self.schema, &self.dataset)?,
            key_fields: self.key_fields(),
            scratch: &self.scratch,
            uploads: uploads.clone(),
            told,
            stop: self.stop.clone(),
        };
        let written = pass.run(merge).map_err(|error| match uploads.trouble() {
            // What the store said is the cause of whatever failed then.
            Some(trouble) => SnapshotError::Store(trouble),
            None => error,
        })?;
        self.guard(&written.tally, held)?;
        Ok(written)
    }

    fn open(&self, previous: &Dataset) -> Result<((Rows, Adapter), Rows), SnapshotError> {
        let damaged = |reason: &str| SnapshotError::Damaged { path: previous.topic.clone(), reason: reason.to_owned() };
        let parquet = |set: &pipeline::snapshot::Set| set.object(Form::Parquet, Coding::Identity).cloned();
        let full = parquet(&previous.full).ok_or_else(|| damaged("it has no Parquet file"))?;
        let gone = parquet(&previous.deleted).ok_or_else(|| damaged("it has no file of deletions"))?;
        let former = Schema::parse(&previous.schema.to_string()).map_err(|error| damaged(&error.to_string()))?;
        let adapter = Adapter::new(&former, &self.schema)
            .ok_or_else(|| damaged("its columns can't be brought into those of the newer schema"))?;
        let rows = Rows::open(&self.store, &full, &self.handle)?;
        Ok(((rows, adapter), Rows::open(&self.store, &gone, &self.handle)?))
    }

    /// A topic that lost most of its keys is more likely to be at fault than its source.
    fn guard(&self, tally: &Tally, held: u64) -> Result<(), SnapshotError> {
        let percent = u64::from(self.settings.sweep_percent);
        if u128::from(tally.missed) * 100 <= u128::from(held) * u128::from(percent) {
            return Ok(());
        }
        Err(SnapshotError::Dataset {
            reason: format!(
                "{} of {held} keys of the previous generation aren't in {}, more than {percent} percent",
                tally.missed, self.dataset.topic
            ),
            hint: "have its source state everything; if they really have gone, raise `sweep_percent` for one run"
                .into(),
        })
    }

    fn key_fields(&self) -> Vec<String> {
        let known = || schemas::catalogue().entity(&self.dataset.topic).map(|entity| entity.key_fields.clone());
        self.dataset.key_fields.clone().or_else(known).unwrap_or_default()
    }
}
