//! Derives the groups of a batch and emits the difference to their last outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemas::Key;

use super::Loop;
use super::tables::row;
use crate::change::{Asked, Change, Version};
use crate::emitter::{EmitError, Stamp, version_of};
use crate::ledger::Counts;
use crate::log::{Offset, Record};
use crate::processor::Row;
use crate::reject::{Reason, Reject};
use crate::run::RunError;
use crate::telemetry;

/// An input that a group is derived from, with what a letter needs of it.
pub(super) struct Taken {
    pub row: Option<Row>,
    pub key: Key,
    pub partition: u32,
    pub offset: Offset,
    pub version: Version,
}

/// A letter to be written before offsets move.
pub(super) struct SetAside {
    topic: Arc<str>,
    place: (u32, Offset),
    version: Version,
    reject: Reject,
}

impl SetAside {
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
        self.write_letters(aside, counts.read).await?;
        self.account.book(&counts)?;
        for (topic, keys) in &overtaking {
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
        let (taken, mut aside) = self.take(records, counts).await?;
        let stamp = self.stamp();
        let derived = if self.processor.one_group() {
            self.derive_all_rows(taken, &mut aside, counts)?
        } else {
            self.derive_each(&taken, &mut aside, counts)?
        };
        aside.extend(self.emit(derived, &stamp).await?);
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
        let mut latest: BTreeMap<(Arc<str>, bytes::Bytes), Record> = BTreeMap::new();
        for record in records {
            let key = record.key.clone().unwrap_or_default();
            if latest.insert((Arc::clone(&record.at.topic), key), record).is_some() {
                counts.superseded += 1;
            }
        }
        let (mut taken, mut aside) = (Vec::with_capacity(latest.len()), Vec::new());
        for record in latest.into_values() {
            let (partition, offset) = (record.at.partition, record.offset);
            let version = version_of(&record).unwrap_or_default();
            let key = record.key.as_deref().and_then(|key| Key::from_bytes(key).ok());
            match (row(self.runtime, &record).await?, key) {
                (Ok(row), Some(key)) => taken.push(Taken { row, key, partition, offset, version }),
                (Ok(_), None) => counts.rejected += 1,
                (Err(reject), _) => {
                    counts.rejected += 1;
                    aside.push(SetAside { topic: record.at.topic, place: (partition, offset), version, reject });
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
            let rows: Vec<&Row> = input.row.iter().collect();
            let topic = self.processor.inputs()[0];
            let set_aside = |mut reject: Reject| {
                // A letter holds what a person can repair: the input, also when only a part of it is set aside.
                if reject.raw.is_empty()
                    && let Some(row) = &input.row
                {
                    reject.raw = row.payload.body.clone();
                }
                let place = (input.partition, input.offset);
                SetAside { topic: Arc::from(topic), place, version: input.version, reject }
            };
            match self.processor.derive(&input.key, &rows, tables.as_ref()) {
                Ok(mut outputs) => {
                    counts.delivered += 1;
                    telemetry::count_parts(self.processor.name(), &outputs);
                    aside.extend(std::mem::take(&mut outputs.rejects).into_iter().map(set_aside));
                    let time = input.row.as_ref().and_then(|row| row.time);
                    self.difference(input.partition, Some(&input.key), outputs.changes, time, &mut changes)?;
                }
                Err(reject) => {
                    // Its last outputs stay.
                    counts.rejected += 1;
                    aside.push(set_aside(reject));
                }
            }
        }
        Ok(changes)
    }

    /// All inputs are one group: takes the new ones in and derives it.
    pub(super) fn derive_all_rows(
        &mut self,
        taken: Vec<Taken>,
        aside: &mut Vec<SetAside>,
        counts: &mut Counts,
    ) -> Result<Vec<(&'static str, Change)>, RunError> {
        let mut changes = Vec::new();
        let mut touched: BTreeSet<u32> = BTreeSet::new();
        let last = taken.iter().map(|input| (input.partition, input.offset, input.version)).max_by_key(|last| last.1);
        for input in taken {
            counts.delivered += 1;
            touched.insert(input.partition);
            let Some(partition) = self.partitions.get_mut(&input.partition) else { continue };
            let topic: Arc<str> = Arc::from(self.processor.inputs()[0]);
            match input.row {
                Some(row) => partition.rows.insert((Arc::clone(&row.topic), input.key), row),
                None => partition.rows.remove(&(topic, input.key)),
            };
        }
        let tables = self.tables.arranged();
        for number in touched {
            let Some(partition) = self.partitions.get(&number) else { continue };
            let rows: Vec<&Row> = partition.rows.values().collect();
            let time = rows.iter().filter_map(|row| row.time).max();
            let (place, version) = last.map_or(((number, Offset::START), Version(0)), |(p, o, v)| ((p, o), v));
            let topic: Arc<str> = Arc::from(self.processor.inputs()[0]);
            match self.processor.derive(&Key::of(&[]), &rows, tables.as_ref()) {
                Ok(mut outputs) => {
                    telemetry::count_parts(self.processor.name(), &outputs);
                    let rejects = std::mem::take(&mut outputs.rejects).into_iter();
                    aside.extend(rejects.map(|reject| SetAside { topic: Arc::clone(&topic), place, version, reject }));
                    self.difference(number, None, outputs.changes, time, &mut changes)?;
                }
                Err(reject) => aside.push(SetAside { topic, place, version, reject }),
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

    /// Emits to every output; what a topic can't take is answered to be set aside.
    pub(super) async fn emit(
        &mut self,
        changes: Vec<(&'static str, Change)>,
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
            let rejects = emitted.rejects.into_iter();
            let place = (0, Offset::START);
            let topic: Arc<str> = Arc::from(topic);
            aside.extend(rejects.map(|reject| SetAside {
                topic: Arc::clone(&topic),
                place,
                version: Version(0),
                reject,
            }));
        }
        Ok(aside)
    }

    pub(super) async fn write_letters(&self, aside: Vec<SetAside>, of: u64) -> Result<(), RunError> {
        if aside.is_empty() {
            return Ok(());
        }
        let name = self.processor.name();
        self.runtime.rejects.check(name, of, aside.iter().map(|a| a.reject.reason.code))?;
        let letters: Vec<_> = aside
            .iter()
            .map(|a| self.runtime.letters.of_record(name, &a.topic, Some(a.place), &a.reject, a.version))
            .collect();
        self.runtime.letters.write(&letters).await?;
        tracing::warn!(processor = name, rejected = letters.len(), "records were set aside in the dead letters");
        Ok(())
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
