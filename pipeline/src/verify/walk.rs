//! Reads partitions up to given ends, in batches of the records that are wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::VerifyError;
use crate::log::{Log, Offset, Reader, Record, TopicPartition};

/// A walk under way.
pub(super) struct Walk {
    reader: Option<Box<dyn Reader>>,
    ends: BTreeMap<u32, Offset>,
    left: BTreeSet<u32>,
    waiting: Vec<Record>,
    at_once: usize,
}

impl Walk {
    /// From these offsets (or what is still there behind them) to these ends of one topic's partitions.
    pub async fn new(
        log: &dyn Log,
        from: &BTreeMap<u32, Offset>,
        ends: &[(TopicPartition, Offset)],
        at_once: usize,
    ) -> Result<Self, VerifyError> {
        let mut open = Vec::new();
        for (at, end) in ends {
            let Some(from) = from.get(&at.partition) else { continue };
            let bounds = log.ends(&at.topic).await?;
            let start = bounds.get(at.partition as usize).map_or(*from, |bounds| bounds.start.max(*from));
            if start < *end {
                open.push((at.clone(), start));
            }
        }
        let left = open.iter().map(|(at, _)| at.partition).collect();
        let reader = if open.is_empty() { None } else { Some(log.read(&open).await?) };
        let ends = ends.iter().map(|(at, end)| (at.partition, *end)).collect();
        Ok(Self { reader, ends, left, waiting: Vec::with_capacity(at_once), at_once })
    }

    /// The next wanted records; `None`: the ends are reached.
    pub async fn next(
        &mut self,
        mut wanted: impl FnMut(&Record) -> bool + Send,
    ) -> Result<Option<Vec<Record>>, VerifyError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        while !self.left.is_empty() && self.waiting.len() < self.at_once {
            let chunk = reader.next().await?;
            for record in chunk.records {
                let end = self.ends.get(&record.at.partition).copied().unwrap_or_default();
                if record.offset.next() >= end {
                    self.left.remove(&record.at.partition);
                }
                if record.offset < end && wanted(&record) {
                    self.waiting.push(record);
                }
            }
            for (at, reached) in chunk.at_end {
                if self.ends.get(&at.partition).is_some_and(|end| reached >= *end) {
                    self.left.remove(&at.partition);
                }
            }
        }
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let rest = self.waiting.split_off(self.waiting.len().min(self.at_once));
        Ok(Some(std::mem::replace(&mut self.waiting, rest)))
    }
}
