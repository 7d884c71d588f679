//! Derives the groups of a batch and emits the difference to their last outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemas::Key;

use super::Loop;
use super::tables::{no_key, row};
use crate::blocking;
use crate::change::{Asked, Change, Version};
use crate::dead_letters::Letter;
use crate::emitter::{EmitError, Stamp, version_of};
use crate::ledger::Counts;
use crate::log::{Offset, Record};
use crate::processor::Row;
use crate::reject::{Reason, Reject};
use crate::run::RunError;
use crate::telemetry;

/// More groups than these may keep their thread for longer than it takes to make room for others.
const A_FEW: usize = 100;

/// Where an input stands: what a letter needs of it.
#[derive(Clone)]
pub(super) struct Origin {
    pub topic: Arc<str>,
    pub key: Key,
    pub place: (u32, Offset),
    pub version: Version,
    /// The value as the topic has it, frame and all.
    pub raw: Bytes,
}

/// An input that a group is derived from.
pub(super) struct Taken {
    pub origin: Origin,
    pub row: Option<Row>,
}

/// A letter to be written before offsets move.
pub(super) struct SetAside {
    topic: Arc<str>,
    place: (u32, Offset),
    version: Version,
    reject: Reject,
    /// Tells a part of an input from its other parts; `None`: the whole input, of which nothing was emitted.
    part: Option<String>,
}

impl SetAside {
    /// A letter holds what a person can repair and derive again: the input.
    pub fn whole(origin: &Origin, reason: Reason) -> Self {
        let reject = Reject::new(Some(origin.key.clone()), reason, origin.raw.clone());
        Self { topic: Arc::clone(&origin.topic), place: origin.place, version: origin.version, reject, part: None }
    }

    /// Also where only a part of it is set aside, of which each has its own letter.
    pub fn part(origin: &Origin, reject: &Reject, reason: Reason) -> Self {
        let key = reject.key.as_ref().map_or("", |key| key.as_str());
        let part = Some(format!("{key}|{}|{}", reason.code, reason.text));
        Self { part, ..Self::whole(origin, reason) }
    }

    /// A record that belongs to no group.
    pub fn without_key(record: Record) -> Self {
        let (version, place) = (version_of(&record).unwrap_or_default(), (record.at.partition, record.offset));
        let reject = no_key(record.value.unwrap_or_default());
        Self { topic: record.at.topic, place, version, reject, part: None }
    }

    /// Whether the rest of its input was emitted.
    pub fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.reject.reason
    }
}

impl Loop<'_> {
    /// Derives the groups that the records touch, from the latest record of each key.
    pub(super) async fn derive_records(&mut self, records: Vec<Record>) -> Result<(), RunError> {
        let mut counts = Counts { read: records.len() as u64, ..Counts::default() };
        let overtaking = overtaking(&records);
        let aside = self.derive_and_emit(records, &mut counts).await?;
        self.settle(aside, &counts, &overtaking).await
    }

    /// Writes the letters, books, and settles older letters of the keys that came.
    pub(super) async fn settle(
        &mut self,
        aside: Vec<SetAside>,
        counts: &Counts,
        overtaking: &BTreeMap<Arc<str>, BTreeMap<String, Version>>,
    ) -> Result<(), RunError> {
        self.write_letters(aside, counts.read).await?;
        self.account.book(counts)?;
        for (topic, keys) in overtaking {
            let keys: Vec<(&str, Version)> = keys.iter().map(|(key, version)| (key.as_str(), *version)).collect();
            self.runtime.letters.delivered(self.processor.name(), topic, &keys).await?;
        }
        Ok(())
    }

    /// Derives and emits; answers what must be set aside before offsets move.
    pub(super) async fn derive_and_emit(
        &mut self,
        records: Vec<Record>,
        counts: &mut Counts,
    ) -> Result<Vec<SetAside>, RunError> {
        if self.gathers() {
            let (touched, mut aside) = self.touch(records, counts)?;
            aside.extend(self.derive_groups(touched, counts).await?);
            return Ok(aside);
        }
        let (taken, mut aside) = self.take(records, counts).await?;
        let stamp = self.stamp();
        let origins: Vec<Origin> = taken.iter().map(|input| input.origin.clone()).collect();
        let one_group = self.processor.one_group();
        let derive = || match one_group {
            true => self.derive_all_rows(taken, &mut aside, counts),
            false => self.derive_each(&taken, &mut aside, counts),
        };
        let derived = if one_group || origins.len() > A_FEW { blocking::run(derive)? } else { derive()? };
        aside.extend(self.emit(derived, &origins, &stamp).await?);
        Ok(aside)
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { captured: self.runtime.clock.now(), asked: Asked::Changes, run: Arc::from(&*self.runtime.process) }
    }

    /// The latest record of each key, as rows; those that can't be used are set aside.
    pub(super) async fn take(
        &self,
        records: Vec<Record>,
        counts: &mut Counts,
    ) -> Result<(Vec<Taken>, Vec<SetAside>), RunError> {
        let mut latest: BTreeMap<(Arc<str>, Bytes), Record> = BTreeMap::new();
        for record in records {
            let key = record.key.clone().unwrap_or_default();
            if latest.insert((Arc::clone(&record.at.topic), key), record).is_some() {
                counts.superseded += 1;
            }
        }
        let (mut taken, mut aside) = (Vec::with_capacity(latest.len()), Vec::new());
        for record in latest.into_values() {
            let (topic, place) = (Arc::clone(&record.at.topic), (record.at.partition, record.offset));
            let version = version_of(&record).unwrap_or_default();
            match row(self.runtime, &record).await? {
                Ok((key, row)) => {
                    let raw = record.value.unwrap_or_default();
                    taken.push(Taken { origin: Origin { topic, key, place, version, raw }, row });
                }
                Err(reject) => {
                    counts.rejected += 1;
                    aside.push(SetAside { topic, place, version, reject, part: None });
                }
            }
        }
        Ok((taken, aside))
    }

    /// One group for each input key: its outputs, and tombstones for what it no longer has.
    pub(super) fn derive_each(
        &mut self,
        taken: &[Taken],
        aside: &mut Vec<SetAside>,
        counts: &mut Counts,
    ) -> Result<Vec<(&'static str, Change)>, RunError> {
        let tables = self.tables.arranged();
        let mut changes = Vec::with_capacity(taken.len() * 4);
        for input in taken {
            let (origin, rows) = (&input.origin, input.row.iter().collect::<Vec<_>>());
            match self.processor.derive(&origin.key, &rows, tables.as_ref()) {
                Ok(mut outputs) => {
                    counts.delivered += 1;
                    telemetry::count_parts(self.processor.name(), &outputs);
                    let rejects = std::mem::take(&mut outputs.rejects).into_iter();
                    aside.extend(rejects.map(|reject| SetAside::part(origin, &reject, reject.reason.clone())));
                    let time = input.row.as_ref().and_then(|row| row.time);
                    self.difference(origin.place.0, Some(&origin.key), outputs.changes, time, &mut changes)?;
                }
                Err(reject) => {
                    // Its last outputs stay.
                    counts.rejected += 1;
                    aside.push(SetAside::whole(origin, reject.reason));
                }
            }
        }
        Ok(changes)
    }

    /// All inputs are one group: takes the new ones in and derives it. An input that is set aside has a letter of its
    /// own, also when another one brought it up again.
    pub(super) fn derive_all_rows(
        &mut self,
        taken: Vec<Taken>,
        aside: &mut Vec<SetAside>,
        counts: &mut Counts,
    ) -> Result<Vec<(&'static str, Change)>, RunError> {
        let mut changes = Vec::new();
        let mut touched: BTreeMap<u32, BTreeMap<Key, Origin>> = BTreeMap::new();
        for input in taken {
            let origin = &input.origin;
            touched.entry(origin.place.0).or_default().insert(origin.key.clone(), origin.clone());
            let Some(partition) = self.partitions.get_mut(&origin.place.0) else { continue };
            let at = (Arc::clone(&origin.topic), origin.key.clone());
            match input.row {
                Some(_) => partition.rows.insert(at, input),
                None => partition.rows.remove(&at),
            };
        }
        let tables = self.tables.arranged();
        for (number, batch) in touched {
            let new = batch.len() as u64;
            let Some(partition) = self.partitions.get(&number) else {
                counts.delivered += new;
                continue;
            };
            let rows: Vec<&Row> = partition.rows.values().filter_map(|input| input.row.as_ref()).collect();
            let time = rows.iter().filter_map(|row| row.time).max();
            let last = batch.values().max_by_key(|origin| origin.place);
            let origin_of = |reject: &Reject| {
                let key = reject.key.as_ref();
                partition.rows.values().map(|input| &input.origin).find(|origin| Some(&origin.key) == key).or(last)
            };
            match self.processor.derive(&Key::of(&[]), &rows, tables.as_ref()) {
                Ok(mut outputs) => {
                    telemetry::count_parts(self.processor.name(), &outputs);
                    let mut rejected = BTreeSet::new();
                    for reject in std::mem::take(&mut outputs.rejects) {
                        let Some(origin) = origin_of(&reject) else { continue };
                        if batch.contains_key(&origin.key) {
                            rejected.insert(origin.key.clone());
                        }
                        aside.push(SetAside::part(origin, &reject, reject.reason.clone()));
                    }
                    counts.rejected += rejected.len() as u64;
                    counts.delivered += new - rejected.len() as u64;
                    self.difference(number, None, outputs.changes, time, &mut changes)?;
                }
                Err(reject) => {
                    counts.rejected += new;
                    aside.extend(origin_of(&reject).map(|origin| SetAside::whole(origin, reject.reason)));
                }
            }
        }
        Ok(changes)
    }

    /// Adds what a group has now, and deletes for what it had and has no longer.
    pub(super) fn difference(
        &mut self,
        partition: u32,
        group: Option<&Key>,
        outputs: Vec<(&'static str, Change)>,
        time: Option<DateTime<Utc>>,
        changes: &mut Vec<(&'static str, Change)>,
    ) -> Result<(), RunError> {
        let stated: BTreeSet<(&str, &str)> = outputs.iter().map(|(topic, c)| (*topic, c.key().as_str())).collect();
        let mut gone = Vec::new();
        for (&topic, emitter) in &mut self.outputs {
            let Some(memory) = emitter.memory(partition) else { continue };
            let held = match group {
                Some(group) => memory.under(group.as_str()),
                None => memory.keys(None, usize::MAX),
            };
            for (key, _) in held.map_err(EmitError::from)? {
                if !stated.contains(&(topic, key.as_str())) {
                    gone.push((topic, Change::Delete { key, time }));
                }
            }
        }
        changes.extend(outputs.into_iter().map(|(topic, change)| (topic, with_time(change, time))));
        changes.extend(gone);
        Ok(())
    }

    /// Emits to every output. What a topic can't take is answered to be set aside, as the input among `origins` that it
    /// comes of.
    pub(super) async fn emit(
        &mut self,
        changes: Vec<(&'static str, Change)>,
        origins: &[Origin],
        stamp: &Stamp,
    ) -> Result<Vec<SetAside>, RunError> {
        let mut by_topic: BTreeMap<&'static str, Vec<Change>> = BTreeMap::new();
        for (topic, change) in changes {
            by_topic.entry(topic).or_default().push(change);
        }
        let mut aside = Vec::new();
        for (topic, changes) in by_topic {
            let Some(emitter) = self.outputs.get_mut(topic) else {
                return Err(super::refused(self.processor, format!("{topic} isn't among its outputs")));
            };
            let emitted = emitter.emit(changes, stamp).await?;
            telemetry::count_changes(topic, emitted.created, emitted.updated, emitted.deleted);
            let group_fields = emitter.topic().entity().map_or(1, |entity| entity.group_fields);
            for reject in emitted.rejects {
                let group = reject.key.as_ref().map(|key| key.prefix(group_fields));
                let own = origins.iter().find(|origin| Some(origin.key.as_str()) == group);
                let own =
                    own.or_else(|| origins.iter().find(|origin| group.is_some_and(|group| origin.key.is_under(group))));
                let one_group = self.processor.one_group();
                let Some(origin) = own.or_else(|| origins.last().filter(|_| one_group)) else {
                    return Err(super::refused(
                        self.processor,
                        format!("{topic} can't take a key of no input's group"),
                    ));
                };
                let Reason { code, text } = reject.reason.clone();
                aside.push(SetAside::part(origin, &reject, Reason::new(code, format!("{topic}: {text}"))));
            }
        }
        Ok(aside)
    }

    pub(super) async fn write_letters(&self, aside: Vec<SetAside>, of: u64) -> Result<(), RunError> {
        if aside.is_empty() {
            return Ok(());
        }
        let name = self.processor.name();
        self.runtime.rejects.check(name, of, aside.iter().map(|a| a.reject.reason.code))?;
        let letters: Vec<Letter> = aside.iter().map(|aside| self.letter(aside)).collect();
        self.runtime.letters.write(&letters).await?;
        tracing::warn!(processor = name, rejected = letters.len(), "records were set aside in the dead letters");
        Ok(())
    }

    pub(super) fn letter(&self, aside: &SetAside) -> Letter {
        let SetAside { topic, place, version, reject, part } = aside;
        self.runtime.letters.of_part(self.processor.name(), topic, Some(*place), reject, *version, part.as_deref())
    }
}

/// The keys of a batch with their versions: older letters for them have nothing left to mend.
fn overtaking(records: &[Record]) -> BTreeMap<Arc<str>, BTreeMap<String, Version>> {
    let mut overtaking: BTreeMap<Arc<str>, BTreeMap<String, Version>> = BTreeMap::new();
    for record in records {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        if let (Some(key), Some(version)) = (key, version_of(record)) {
            overtaking.entry(Arc::clone(&record.at.topic)).or_default().insert(key.to_owned(), version);
        }
    }
    overtaking
}

fn with_time(change: Change, time: Option<DateTime<Utc>>) -> Change {
    match change {
        Change::Put { key, body, .. } => Change::Put { key, body, time },
        Change::Delete { key, .. } => Change::Delete { key, time },
    }
}
