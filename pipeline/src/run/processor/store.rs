//! The latest inputs of the groups of one partition number, for a processor with several input topics.
//!
//! The topics are the memory; this store is a disposable, ordered copy of their latest records on local disk, of which a
//! bounded part is in RAM. It is saved with the lives of its topics, the offsets it is caught up to and the last records
//! below, and thrown away when they don't fit. It is never behind what was derived: whoever derives puts the records here first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use schemas::Key;
use serde::{Deserialize, Serialize};

use super::derive::Origin;
use crate::blocking;
use crate::change::{Incarnation, Version, header};
use crate::emitter::disk::{self, Place};
use crate::emitter::memory::{MemoryError, cache_bytes};
use crate::emitter::version_of;
use crate::log::{Offset, Record, TopicPartition};
use crate::state::{Landmark, Reached};

/// By group, then topic, then key: a group's inputs stand together, in the order in which they are derived.
const INPUTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("inputs");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// A store that isn't saved is read again from the topics after a crash, as memories are: values are larger than what
/// those keep.
const UNSAVED_RECORDS: usize = 5_000;
const UNSAVED_MS: i64 = 30_000;

/// Offset, version, whether the source gave a time, and that time: before the value itself.
const HEAD: usize = 25;

/// What holds for the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    /// By topic: the life it is of. Everything below the offset is in the store.
    topics: BTreeMap<String, (Incarnation, Offset)>,
    /// By topic: the last record below. Earlier versions kept none.
    #[serde(default)]
    landmarks: BTreeMap<String, Landmark>,
    /// How many leading fields of a key make the group.
    group_fields: usize,
    /// When it was saved last, in ms since 1970.
    saved_ms: i64,
}

/// One input as the store has it.
pub(super) struct Stored {
    pub origin: Origin,
    /// When the source says it changed.
    pub time: Option<DateTime<Utc>>,
}

/// The store of one partition number.
pub(super) struct Store {
    name: String,
    partition: u32,
    /// In the order of a group's inputs.
    topics: Vec<Arc<str>>,
    db: Database,
    meta: Meta,
    unsaved: usize,
}

/// Whose store it is.
pub(super) struct Of<'a> {
    pub processor: &'a str,
    pub partition: u32,
    pub partitions: u32,
    pub inputs: &'a [&'static str],
    pub group_fields: usize,
}

impl Store {
    /// Opens the store at `place`, or in RAM where there is none. One of other lives or other groups, or saved longer
    /// ago than `usable_for_ms` (tombstones may have gone since), begins anew; so does a damaged file.
    pub fn open(
        place: Option<&Place>,
        of: &Of<'_>,
        lives: &BTreeMap<String, Incarnation>,
        now_ms: i64,
        usable_for_ms: i64,
    ) -> Result<Self, MemoryError> {
        let name = format!("inputs-of-{}|{}", of.processor, of.partition);
        let (db, saved) = match place {
            Some(place) => blocking::run(|| place.open_whole(&name, cache_bytes(of.partitions), prepare)),
            None => {
                let made = Database::builder().create_with_backend(InMemoryBackend::new()).map_err(redb::Error::from);
                made.and_then(|db| prepare(&db).map(|_| (db, None)))
            }
        }
        .map_err(|error| MemoryError::new(&name, error))?;
        let mut topics: Vec<Arc<str>> = of.inputs.iter().map(|topic| Arc::from(*topic)).collect();
        topics.sort_unstable();
        let landmarks = BTreeMap::new();
        let fresh = Meta { topics: beginnings(lives), landmarks, group_fields: of.group_fields, saved_ms: now_ms };
        let mut store = Self { name, partition: of.partition, topics, db, meta: fresh, unsaved: 0 };
        let usable = saved.filter(|meta: &Meta| {
            let young = (now_ms - meta.saved_ms).saturating_abs() < usable_for_ms;
            young && meta.group_fields == of.group_fields && is_of(meta, lives)
        });
        match usable {
            Some(meta) => store.meta = meta,
            None => store.clear(lives)?,
        }
        Ok(store)
    }

    /// Whether it is of these lives.
    pub fn is_of(&self, lives: &BTreeMap<String, Incarnation>) -> bool {
        is_of(&self.meta, lives)
    }

    /// Forgets everything: the topics, whose lives are these, are read again.
    pub fn clear(&mut self, lives: &BTreeMap<String, Incarnation>) -> Result<(), MemoryError> {
        self.meta.topics = beginnings(lives);
        self.meta.landmarks.clear();
        self.writing(|txn| {
            txn.delete_table(INPUTS)?;
            txn.delete_table(META)?;
            txn.open_table(INPUTS)?;
            txn.open_table(META)?;
            Ok(())
        })
    }

    /// Everything of the topic below is in the store.
    pub fn next(&self, topic: &str) -> Offset {
        self.meta.topics.get(topic).map_or(Offset::START, |(_, next)| *next)
    }

    /// The last record below [`Self::next`], by topic.
    pub fn landmarks(&self) -> BTreeMap<Arc<str>, Landmark> {
        self.meta.landmarks.iter().map(|(topic, landmark)| (Arc::from(topic.as_str()), *landmark)).collect()
    }

    /// How far it knows its topics.
    pub fn kept(&self) -> Vec<Reached> {
        let each = self.meta.topics.iter().map(|(topic, (incarnation, end))| Reached {
            at: TopicPartition::new(topic.as_str(), self.partition),
            incarnation: incarnation.clone(),
            end: *end,
            landmark: self.meta.landmarks.get(topic).copied(),
        });
        each.collect()
    }

    /// The group of a key.
    pub fn group_of<'k>(&self, key: &'k Key) -> &'k str {
        key.prefix(self.meta.group_fields)
    }

    /// Takes records in, in the order of their offsets. What is in the store already, perhaps in a newer state, stays.
    pub fn put(&mut self, records: &[Record]) -> Result<(), MemoryError> {
        let mut meta = self.meta.clone();
        let mut latest: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
        for record in records {
            let Some((_, next)) = meta.topics.get_mut(&*record.at.topic) else { continue };
            if record.offset < *next {
                continue;
            }
            *next = record.offset.next();
            last.insert(&record.at.topic, record);
            // One whose key isn't text belongs to no group.
            let Some(key) = record.key.as_deref().and_then(|key| Key::from_bytes(key).ok()) else { continue };
            let Some(topic) = self.topics.iter().position(|topic| *topic == record.at.topic) else { continue };
            let place = place(key.prefix(meta.group_fields), Some((topic, key.as_str())));
            latest.insert(place, record.value.as_ref().map(|value| row(record, value)));
        }
        if !latest.is_empty() {
            self.writing(|txn| {
                let mut inputs = txn.open_table(INPUTS)?;
                for (place, row) in &latest {
                    match row {
                        Some(row) => inputs.insert(place.as_slice(), row.as_slice())?,
                        None => inputs.remove(place.as_slice())?,
                    };
                }
                Ok(())
            })?;
        }
        meta.landmarks.extend(last.into_iter().map(|(topic, record)| (topic.to_owned(), Landmark::of_record(record))));
        self.unsaved += latest.len();
        self.meta = meta;
        Ok(())
    }

    /// Everything of the topic below `end` has been put, whatever compaction has taken of it.
    pub fn reached(&mut self, topic: &str, end: Offset) {
        if let Some((_, next)) = self.meta.topics.get_mut(topic) {
            *next = (*next).max(end);
        }
    }

    /// The inputs of a group, in the order of (topic, key).
    pub fn inputs(&self, group: &str) -> Result<Vec<Stored>, MemoryError> {
        let (from, to) = bounds(group);
        self.reading(|table| {
            let mut found = Vec::new();
            for row in table.range(from.as_slice()..to.as_slice())? {
                let (place, row) = row?;
                found.extend(self.stored(&place.value()[from.len()..], row.value()));
            }
            Ok(found)
        })
    }

    /// Whether a group has any input.
    pub fn has(&self, group: &str) -> Result<bool, MemoryError> {
        let (from, to) = bounds(group);
        self.reading(|table| Ok(table.range(from.as_slice()..to.as_slice())?.next().transpose()?.is_some()))
    }

    /// Groups behind `after`, in an order of the store's own; at most `limit`.
    pub fn groups(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, MemoryError> {
        let mut from = after.map_or_else(Vec::new, |group| bounds(group.as_str()).1);
        self.reading(|table| {
            let mut found = Vec::new();
            while found.len() < limit {
                let Some(first) = table.range(from.as_slice()..)?.next().transpose()? else { break };
                let Some(group) = group_in(first.0.value()) else { break };
                from = bounds(group.as_str()).1;
                found.push(group);
            }
            Ok(found)
        })
    }

    /// Makes what it holds durable, so that a restart need not read it again.
    pub fn save(&mut self, now_ms: i64) -> Result<(), MemoryError> {
        self.meta.saved_ms = now_ms;
        let meta = serde_json::to_vec(&self.meta).unwrap_or_default();
        let write = || -> Result<(), redb::Error> {
            let mut txn = self.db.begin_write()?;
            // Else a file that a crash left open is walked whole when it is opened again.
            txn.set_quick_repair(true);
            txn.open_table(META)?.insert("meta", meta.as_slice())?;
            txn.commit()?;
            Ok(())
        };
        blocking::run(write).map_err(|error| MemoryError::new(&self.name, error))?;
        self.unsaved = 0;
        Ok(())
    }

    /// Saves it when a crash would cost much reading.
    pub fn save_in_time(&mut self, now_ms: i64) -> Result<(), MemoryError> {
        let long_ago = (now_ms - self.meta.saved_ms).saturating_abs() >= UNSAVED_MS;
        if self.unsaved >= UNSAVED_RECORDS || (self.unsaved > 0 && long_ago) { self.save(now_ms) } else { Ok(()) }
    }

    /// `None`: the file is damaged in a way that its checksums didn't show.
    fn stored(&self, place: &[u8], row: &[u8]) -> Option<Stored> {
        let (topic, key) = place.split_first()?;
        let (head, value) = row.split_at_checked(HEAD)?;
        let number = |at: usize| Some(i64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let origin = Origin {
            topic: Arc::clone(self.topics.get(usize::from(*topic))?),
            key: Key::from_bytes(key).ok()?,
            place: (self.partition, Offset(number(0)?)),
            version: Version(number(8)?),
            raw: Bytes::copy_from_slice(value),
        };
        let time = if head[16] == 1 { DateTime::from_timestamp_micros(number(17)?) } else { None };
        Some(Stored { origin, time })
    }

    fn reading<T>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<&[u8], &[u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, MemoryError> {
        let run = || read(&self.db.begin_read()?.open_table(INPUTS)?);
        run().map_err(|error| MemoryError::new(&self.name, error))
    }

    /// Changes are kept in order but reach the disk with [`Self::save`]: what is lost with a crash is read again.
    fn writing(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), MemoryError> {
        disk::write(&self.db, write).map_err(|error| MemoryError::new(&self.name, error))
    }
}

fn prepare(db: &Database) -> Result<Option<Meta>, redb::Error> {
    let txn = db.begin_write()?;
    txn.open_table(INPUTS)?;
    let saved = txn.open_table(META)?.get("meta")?.and_then(|row| serde_json::from_slice(row.value()).ok());
    txn.commit()?;
    Ok(saved)
}

fn beginnings(lives: &BTreeMap<String, Incarnation>) -> BTreeMap<String, (Incarnation, Offset)> {
    lives.iter().map(|(topic, life)| (topic.clone(), (life.clone(), Offset::START))).collect()
}

fn is_of(meta: &Meta, lives: &BTreeMap<String, Incarnation>) -> bool {
    let topics: BTreeSet<_> = meta.topics.iter().map(|(topic, (life, _))| (topic, life)).collect();
    topics == lives.iter().collect()
}

/// Where a group's inputs begin, or one of them stands. With its length before it, no group is another one's beginning.
fn place(group: &str, input: Option<(usize, &str)>) -> Vec<u8> {
    let length = u32::try_from(group.len()).unwrap_or(u32::MAX);
    let mut place = Vec::with_capacity(group.len() + 8);
    place.extend_from_slice(&length.to_be_bytes());
    place.extend_from_slice(group.as_bytes());
    if let Some((topic, key)) = input {
        place.push(u8::try_from(topic).unwrap_or(u8::MAX));
        place.extend_from_slice(key.as_bytes());
    }
    place
}

/// A group's inputs stand from the first place up to the second one: no processor has 255 input topics.
fn bounds(group: &str) -> (Vec<u8>, Vec<u8>) {
    let from = place(group, None);
    let mut to = from.clone();
    to.push(u8::MAX);
    (from, to)
}

fn group_in(place: &[u8]) -> Option<Key> {
    let (length, rest) = place.split_first_chunk::<4>()?;
    Key::from_bytes(rest.get(..u32::from_be_bytes(*length) as usize)?).ok()
}

fn row(record: &Record, value: &Bytes) -> Vec<u8> {
    let time = record.headers.text(header::CE_TIME).and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let mut row = Vec::with_capacity(HEAD + value.len());
    row.extend_from_slice(&record.offset.0.to_le_bytes());
    row.extend_from_slice(&version_of(record).unwrap_or_default().0.to_le_bytes());
    row.push(u8::from(time.is_some()));
    row.extend_from_slice(&time.map_or(0, |time| time.timestamp_micros()).to_le_bytes());
    row.extend_from_slice(value);
    row
}

#[cfg(test)]
mod tests;
