//! How far the inputs of one partition number have been read, and what the group's commits say of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::change::Incarnation;
use crate::log::{Offset, Record, TopicPartition};
use crate::state::Landmark;

/// By input topic.
#[derive(Default)]
pub(super) struct Read {
    /// Where reading goes on.
    pub next: BTreeMap<Arc<str>, Offset>,
    /// The last record below.
    pub landmarks: BTreeMap<Arc<str>, Landmark>,
}

impl Read {
    /// On behind a record.
    pub fn passed(&mut self, topic: &Arc<str>, landmark: Landmark) {
        self.next.insert(Arc::clone(topic), landmark.offset.next());
        self.landmarks.insert(Arc::clone(topic), landmark);
    }
}

/// The last of these records, per partition.
pub(super) fn last_of(records: &[Record]) -> BTreeMap<TopicPartition, Landmark> {
    let mut last: BTreeMap<&TopicPartition, &Record> = BTreeMap::new();
    for record in records {
        let before = last.entry(&record.at).or_insert(record);
        if record.offset > before.offset {
            *before = record;
        }
    }
    last.into_iter().map(|(at, record)| (at.clone(), Landmark::of_record(record))).collect()
}

/// What a commit says beside its offset.
pub(super) struct Metadata {
    pub life: Incarnation,
    pub at_ms: i64,
    /// The last record below. Earlier versions said none.
    pub landmark: Option<Landmark>,
}

impl Metadata {
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('|');
        let life = Incarnation(parts.next().unwrap_or_default().to_owned());
        let at_ms = parts.next().and_then(|text| text.parse().ok()).unwrap_or_default();
        Self { life, at_ms, landmark: parts.next().and_then(|text| text.parse().ok()) }
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|", self.life, self.at_ms)?;
        self.landmark.map_or(Ok(()), |landmark| landmark.fmt(f))
    }
}
