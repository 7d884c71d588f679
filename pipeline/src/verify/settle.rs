//! Finds out which candidates are differences: changes in flight aren't.
//!
//! A key is compared again once its latest change has been delivered. If it differs still, and nothing was appended
//! for it up to a look at the topic *after* the comparison, then its row had its time: that is a difference.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use schemas::Key;

use super::VerifyError;
use super::index::Entry;
use super::inspect::Difference;
use super::report::{Differing, EntityReport};
use super::target::{Comparison, Delivered, text_of};
use super::walk::Walk;
use crate::change::Version;
use crate::log::{Offset, TopicPartition, end_behind_gaps};
use crate::operations::LetterRow;
use crate::run::delivery_of;
use crate::sink::Delivery;

/// How often what is on its way is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Records that are compared at once.
const AT_ONCE: usize = 500;

/// Settles the candidates of a comparison, waiting for what is on its way as long as the options say.
pub(super) async fn settle(mut comparison: Comparison<'_>) -> Result<EntityReport, VerifyError> {
    let clock = comparison.runtime.clock.clone();
    let goal = comparison.index.ends().to_vec();
    let deadline = clock.now() + comparison.options.wait;
    let mut pending = std::mem::take(&mut comparison.candidates);
    let mut settled: BTreeMap<String, Difference> = BTreeMap::new();
    let log = comparison.runtime.log.clone();
    loop {
        // Right before the comparison: what was appended since could be delivered by now, and be taken for newer.
        comparison.index.catch_up(log.as_ref(), |_| {}).await?;
        let delivered = comparison.delivered().await?;
        comparison.round(&delivered, &mut pending, &mut settled).await?;
        comparison.report.behind = !comparison.has_reached(&delivered, &goal).await?;
        let done = pending.is_empty() && !comparison.report.behind;
        if done || clock.now() >= deadline {
            break;
        }
        clock.sleep(LOOK_EVERY).await;
    }
    let delivered = comparison.delivered().await?;
    for entry in comparison.index.get(pending.keys().map(String::as_str))? {
        match entry {
            Some(entry) if !delivered.holds(&entry) => comparison.report.tally.undelivered += 1,
            _ => comparison.report.tally.in_flight += 1,
        }
    }
    comparison.set_aside(&mut settled).await?;
    comparison.account(settled)
}

impl Comparison<'_> {
    /// Compares again what has been delivered, and looks whether it was changed meanwhile.
    async fn round(
        &mut self,
        delivered: &Delivered,
        pending: &mut BTreeMap<String, Key>,
        settled: &mut BTreeMap<String, Difference>,
    ) -> Result<(), VerifyError> {
        let before = self.index.get(pending.keys().map(String::as_str))?;
        let ready: BTreeMap<String, Option<Entry>> = pending
            .keys()
            .cloned()
            .zip(before)
            .filter(|(_, entry)| entry.is_none_or(|entry| delivered.holds(&entry)))
            .collect();
        let differ = self.compare_again(&ready, pending).await?;
        let log = self.runtime.log.clone();
        self.index.catch_up(log.as_ref(), |_| {}).await?;
        let after = self.index.get(ready.keys().map(String::as_str))?;
        for ((key, before), after) in ready.into_iter().zip(after) {
            if before != after {
                continue;
            }
            pending.remove(&key);
            if let Some(difference) = differ.get(&key) {
                settled.insert(key, difference.clone());
            }
        }
        Ok(())
    }

    async fn compare_again(
        &mut self,
        ready: &BTreeMap<String, Option<Entry>>,
        pending: &BTreeMap<String, Key>,
    ) -> Result<BTreeMap<String, Difference>, VerifyError> {
        let mut differ = BTreeMap::new();
        // What the topic never held, or holds no more, mustn't be there.
        let unknown = ready.iter().filter(|(_, entry)| entry.is_none());
        let unknown: Vec<Delivery> = unknown.filter_map(|(key, _)| Some(gone(pending.get(key)?))).collect();
        for changes in unknown.chunks(AT_ONCE) {
            self.ask(changes, &mut differ).await?;
        }
        let mut from: BTreeMap<u32, Offset> = BTreeMap::new();
        let mut wanted: HashSet<(u32, Offset)> = HashSet::new();
        for entry in ready.values().flatten() {
            let first = from.entry(entry.partition).or_insert(entry.offset);
            *first = (*first).min(entry.offset);
            wanted.insert((entry.partition, entry.offset));
        }
        let ends = self.index.ends().to_vec();
        let mut walk = Walk::new(self.runtime.log.as_ref(), &from, &ends, AT_ONCE).await?;
        while let Some(records) = walk.next(|record| wanted.contains(&(record.at.partition, record.offset))).await? {
            let mut changes = Vec::with_capacity(records.len());
            for record in &records {
                if text_of(record).is_some_and(|key| ready.contains_key(key))
                    && let Ok(change) = delivery_of(self.runtime, record).await?
                {
                    changes.push(change);
                }
            }
            self.ask(&changes, &mut differ).await?;
        }
        Ok(differ)
    }

    async fn ask(&self, changes: &[Delivery], differ: &mut BTreeMap<String, Difference>) -> Result<(), VerifyError> {
        for found in self.target.compare(self.topic, changes).await? {
            if let Some(change) = changes.get(found.place) {
                differ.insert(change.key.as_str().to_owned(), found.difference);
            }
        }
        Ok(())
    }

    /// Whether the target has come to where the topic ended at the beginning; gaps count as delivered.
    async fn has_reached(&self, delivered: &Delivered, goal: &[(TopicPartition, Offset)]) -> Result<bool, VerifyError> {
        let log = self.runtime.log.as_ref();
        let bounds = log.ends(&self.topic.name).await?;
        for (at, end) in goal {
            let start = bounds.get(at.partition as usize).map_or(Offset::START, |bounds| bounds.start);
            let next = delivered.next(at.partition).unwrap_or(start);
            if next >= *end {
                continue;
            }
            if end_behind_gaps(log, at, next.max(start)).await?.is_none_or(|reached| reached < *end) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What lies in the dead letters is accounted for.
    async fn set_aside(&mut self, settled: &mut BTreeMap<String, Difference>) -> Result<(), VerifyError> {
        let keys: Vec<String> = settled
            .iter()
            .filter(|(_, difference)| matches!(difference, Difference::Missing | Difference::Stale { .. }))
            .map(|(key, _)| key.clone())
            .collect();
        for keys in keys.chunks(AT_ONCE) {
            let texts: Vec<&str> = keys.iter().map(String::as_str).collect();
            let entries = self.index.get(texts.iter().copied())?;
            let letters = self.runtime.operations.open_letters_of(self.sink, &texts).await?;
            for (key, entry) in keys.iter().zip(entries) {
                let version = entry.map(|entry| entry.version.0);
                let its = |letter: &&LetterRow| {
                    letter.key.as_deref() == Some(key)
                        && letter.topic.as_deref() == Some(&*self.topic.name)
                        && letter.version == version
                };
                if letters.iter().any(|letter| its(&letter)) {
                    settled.remove(key);
                    self.report.tally.set_aside += 1;
                }
            }
        }
        Ok(())
    }

    fn account(mut self, settled: BTreeMap<String, Difference>) -> Result<EntityReport, VerifyError> {
        let partitions = u32::try_from(self.index.ends().len()).unwrap_or(u32::MAX);
        let group_fields = self.topic.entity().map_or(1, |entity| entity.group_fields);
        for (key, difference) in settled {
            self.report.tally.count(&difference);
            if difference == Difference::Waiting {
                continue;
            }
            let partition = schemas::partition_of(Key::from(key.as_str()).prefix(group_fields).as_bytes(), partitions);
            self.report.keys.push(Differing { key, partition, difference });
        }
        Ok(self.report)
    }
}

/// Asks for a row that mustn't be there.
fn gone(key: &Key) -> Delivery {
    Delivery { key: key.clone(), version: Version(0), hash: None, offset: Offset::START, payload: None }
}
