//! How far the inputs of one partition number have been read.

use std::collections::BTreeMap;
use std::sync::Arc;

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
