//! What the memory log holds: topics with their records, groups with their offsets. Locked by [`super::Shared`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::super::{Append, Ends, Headers, LogError, NewTopic, Offset, Record, TopicInfo, TopicPartition, settings};
use super::group::Group;

pub(super) type Topics = BTreeMap<Arc<str>, Topic>;

#[derive(Default)]
pub(super) struct State {
    pub topics: Topics,
    pub groups: BTreeMap<Arc<str>, Group>,
    pub next_member: u64,
}

impl State {
    pub fn partition(&self, at: &TopicPartition) -> Result<&Partition, LogError> {
        let partition = self.topics.get(&at.topic).and_then(|topic| topic.partitions.get(at.partition as usize));
        partition.ok_or_else(|| unknown(&self.topics, at))
    }

    pub fn partition_mut(&mut self, at: &TopicPartition) -> Result<&mut Partition, LogError> {
        let unknown = unknown(&self.topics, at);
        let partition = self.topics.get_mut(&at.topic).and_then(|t| t.partitions.get_mut(at.partition as usize));
        partition.ok_or(unknown)
    }

    /// Whether the record, the `index`th of its call, could be appended.
    pub fn check(&self, record: &Append, index: usize) -> Result<(), LogError> {
        self.partition(&record.at)?;
        let limit = self.topics[&record.at.topic].limit;
        let bytes = record.size();
        if bytes > limit {
            return Err(LogError::TooLarge { at: record.at.clone(), bytes, limit, index });
        }
        Ok(())
    }
}

/// Names the partition only where the topic itself is there.
fn unknown(topics: &Topics, at: &TopicPartition) -> LogError {
    let topic = if topics.contains_key(&at.topic) { at.to_string() } else { at.topic.to_string() };
    LogError::UnknownTopic { topic }
}

pub(super) struct Topic {
    pub info: TopicInfo,
    pub limit: usize,
    pub partitions: Vec<Partition>,
}

impl Topic {
    pub fn new(topic: &NewTopic) -> Self {
        let info = TopicInfo {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication: 1,
            settings: topic.settings.clone(),
        };
        let partitions = (0..topic.partitions).map(|_| Partition::default()).collect();
        Self { info, limit: settings::max_message_bytes(&topic.settings), partitions }
    }

    pub fn recreate(&mut self, partitions: u32) {
        self.info.partitions = partitions;
        self.partitions.resize_with(partitions as usize, Partition::default);
        for partition in &mut self.partitions {
            partition.truncate(Offset::START);
            partition.start = Offset::START;
        }
    }
}

struct Entry {
    timestamp: DateTime<Utc>,
    key: Bytes,
    value: Option<Bytes>,
    headers: Headers,
}

#[derive(Default)]
pub(super) struct Partition {
    records: BTreeMap<Offset, Entry>,
    pub start: Offset,
    end: Offset,
    /// Where the tail was cut off, each time it was. A reader remembers how many cuts it knows of.
    cuts: Vec<Offset>,
}

impl Partition {
    pub fn ends(&self) -> Ends {
        Ends { start: self.start, end: self.end }
    }

    pub fn append(&mut self, record: Append, timestamp: DateTime<Utc>) -> Offset {
        let offset = self.end;
        let Append { key, value, headers, .. } = record;
        self.records.insert(offset, Entry { timestamp, key, value, headers });
        self.end = offset.next();
        offset
    }

    pub fn truncate(&mut self, end: Offset) {
        self.records.split_off(&end);
        self.end = self.end.min(end);
        self.cuts.push(end);
    }

    pub fn delete_before(&mut self, start: Offset) {
        self.start = self.start.max(start.min(self.end));
        self.records = self.records.split_off(&self.start);
    }

    pub fn compact(&mut self, now: DateTime<Utc>, tombstones_older_than: Duration) -> usize {
        let before = self.records.len();
        let mut latest: HashMap<Bytes, Offset> = HashMap::new();
        for (offset, entry) in &self.records {
            latest.insert(entry.key.clone(), *offset);
        }
        self.records.retain(|offset, entry| {
            let age = (now - entry.timestamp).to_std().unwrap_or_default();
            let expired = entry.value.is_none() && age >= tombstones_older_than;
            latest[&entry.key] == *offset && !expired
        });
        before - self.records.len()
    }

    /// How many cuts there were: what a reader that starts now knows of.
    pub fn life(&self) -> usize {
        self.cuts.len()
    }

    /// Whether a reader that knew of `life` cuts and is to read `next` has missed nothing.
    pub fn reaches(&self, life: usize, next: Offset) -> bool {
        let cut_off = self.cuts.iter().skip(life).any(|cut| next > *cut);
        !cut_off && self.start <= next && next <= self.end
    }

    /// The first record at or behind `from`.
    pub fn first_from(&self, at: &TopicPartition, from: Offset) -> Option<Record> {
        let (offset, entry) = self.records.range(from..).next()?;
        Some(Record {
            at: at.clone(),
            offset: *offset,
            timestamp: entry.timestamp,
            key: Some(entry.key.clone()),
            value: entry.value.clone(),
            headers: entry.headers.clone(),
        })
    }
}
