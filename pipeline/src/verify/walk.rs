//! Reads partitions up to given ends, in batches of the records that are wanted.

use std::collections::BTreeMap;

use super::VerifyError;
use crate::log::{Log, Offset, Record, Scan, TopicPartition};

/// A walk under way.
pub(super) struct Walk {
    scan: Scan,
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
        let begins = |(at, end): &(TopicPartition, Offset)| {
            from.get(&at.partition).filter(|from| *from < end).map(|from| (at.clone(), *from))
        };
        let begins: Vec<(TopicPartition, Offset)> = ends.iter().filter_map(begins).collect();
        let scan = Scan::begin(log, &begins).await?.until(ends);
        Ok(Self { scan, waiting: Vec::with_capacity(at_once), at_once })
    }

    /// The next wanted records; `None`: the ends are reached.
    pub async fn next(
        &mut self,
        mut wanted: impl FnMut(&Record) -> bool + Send,
    ) -> Result<Option<Vec<Record>>, VerifyError> {
        while self.waiting.len() < self.at_once {
            let Some(records) = self.scan.next().await? else { break };
            self.waiting.extend(records.into_iter().filter(|record| wanted(record)));
        }
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let rest = self.waiting.split_off(self.waiting.len().min(self.at_once));
        Ok(Some(std::mem::replace(&mut self.waiting, rest)))
    }
}
