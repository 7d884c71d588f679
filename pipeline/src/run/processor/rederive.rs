//! Derives all groups of a partition again: the processor, a reference table or a topic's life has changed.
//!
//! Only the latest record of each key may be derived, or downstream would see older states again. So the inputs are
//! read twice: once to find each key's last offset, once to derive.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::Key;

use super::Loop;
use crate::emitter::EmitError;
use crate::log::{Offset, Record, Subscription, TopicPartition, scan};
use crate::run::RunError;

/// Records that are derived together.
const AT_ONCE: usize = 1_000;

/// Memory keys that are looked at together.
const KEYS_AT_ONCE: usize = 4_096;

/// Keys by their 128-bit hash: 24 bytes a key, whatever its length.
type LastOffsets = HashMap<u128, Offset>;

impl Loop<'_> {
    /// Derives all groups of these partitions, deletes what has no inputs any more, and goes on behind what was read.
    pub(super) async fn rederive(
        &mut self,
        subscription: &mut dyn Subscription,
        numbers: &[u32],
    ) -> Result<(), RunError> {
        for &number in numbers {
            let at = self.inputs_of(number);
            subscription.pause(&at).await?;
            let mark = self.present_mark(number).await?;
            let ends = self.rederive_partition(number).await?;
            if let Some(partition) = self.partitions.get_mut(&number) {
                partition.mark = mark.clone();
                partition.next = ends.iter().map(|(at, end)| (Arc::clone(&at.topic), *end)).collect();
            }
            self.runtime.state.positions.save_mark(self.processor.name(), number, &mark).await?;
            for emitter in self.outputs.values() {
                emitter.restated(&[number]).await?;
            }
            for (at, end) in ends {
                subscription.start(&at, end).await?;
            }
        }
        if !numbers.is_empty() {
            self.commit(subscription).await?;
            tracing::info!(processor = self.processor.name(), partitions = numbers.len(), "all groups derived anew");
        }
        Ok(())
    }

    async fn rederive_partition(&mut self, number: u32) -> Result<Vec<(TopicPartition, Offset)>, RunError> {
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.rows.clear();
        }
        let from: Vec<(TopicPartition, Offset)> =
            self.inputs_of(number).into_iter().map(|at| (at, Offset::START)).collect();
        let mut last = LastOffsets::new();
        let ends = scan(self.runtime.log.as_ref(), &from, |record| {
            let key = record_key(&record);
            if record.value.is_some() {
                last.insert(key, record.offset);
            } else {
                last.remove(&key);
            }
        })
        .await?;
        self.derive_latest(&from, &ends, &last).await?;
        self.derive_orphans(number, &last).await?;
        Ok(ends)
    }

    async fn derive_latest(
        &mut self,
        from: &[(TopicPartition, Offset)],
        ends: &[(TopicPartition, Offset)],
        last: &LastOffsets,
    ) -> Result<(), RunError> {
        let mut left: HashMap<TopicPartition, Offset> =
            ends.iter().filter(|(_, end)| *end > Offset::START).cloned().collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut open = Vec::new();
        for (at, from) in from.iter().filter(|(at, _)| left.contains_key(at)) {
            // What retention has taken, if somebody set it, isn't there to be read.
            let bounds = self.runtime.log.ends(&at.topic).await?;
            let start = bounds.get(at.partition as usize).map_or(*from, |bounds| bounds.start);
            open.push((at.clone(), start.max(*from)));
        }
        let ends = left.clone();
        let mut reader = self.runtime.log.read(&open).await?;
        let mut waiting: Vec<Record> = Vec::with_capacity(AT_ONCE);
        while !left.is_empty() {
            let chunk = reader.next().await?;
            for record in chunk.records {
                let end = ends.get(&record.at).copied().unwrap_or_default();
                if record.offset.next() >= end {
                    left.remove(&record.at);
                }
                if record.offset < end && last.get(&record_key(&record)) == Some(&record.offset) {
                    waiting.push(record);
                }
                if waiting.len() >= AT_ONCE && !self.processor.one_group() {
                    self.derive_records(std::mem::take(&mut waiting)).await?;
                    self.runtime.health.progressed(self.processor.name(), self.runtime.clock.now());
                }
            }
            for (at, reached) in chunk.at_end {
                if ends.get(&at).is_some_and(|end| reached >= *end) {
                    left.remove(&at);
                }
            }
        }
        self.derive_records(waiting).await
    }

    /// Outputs whose group has no input any more: the group is derived as empty.
    async fn derive_orphans(&mut self, number: u32, last: &LastOffsets) -> Result<(), RunError> {
        if self.processor.one_group() {
            if last.is_empty() {
                let mut changes = Vec::new();
                self.difference(number, None, Vec::new(), None, &mut changes)?;
                let stamp = self.stamp();
                let aside = self.emit(changes, &[], &stamp).await?;
                self.write_letters(aside, 0).await?;
            }
            return Ok(());
        }
        let inputs = self.processor.inputs();
        let mut orphans: Vec<Key> = Vec::new();
        for emitter in self.outputs.values_mut() {
            let group_fields = emitter.topic().entity().map_or(1, |entity| entity.group_fields);
            let Some(memory) = emitter.memory(number) else { continue };
            let mut after: Option<Key> = None;
            loop {
                let page = memory.keys(after.as_ref(), KEYS_AT_ONCE).map_err(EmitError::from)?;
                let Some((key, _)) = page.last() else { break };
                after = Some(key.clone());
                for (key, _) in page {
                    let group = key.prefix(group_fields);
                    let there = inputs.iter().any(|topic| last.contains_key(&hash_of(topic, group.as_bytes())));
                    if !there && orphans.last().is_none_or(|last| last.as_str() != group) {
                        orphans.extend(Key::from_bytes(group.as_bytes()));
                    }
                }
            }
        }
        for groups in orphans.chunks(AT_ONCE) {
            let mut changes = Vec::new();
            for group in groups {
                self.difference(number, Some(group), Vec::new(), None, &mut changes)?;
            }
            let stamp = self.stamp();
            let aside = self.emit(changes, &[], &stamp).await?;
            self.write_letters(aside, groups.len() as u64).await?;
        }
        Ok(())
    }
}

fn record_key(record: &Record) -> u128 {
    hash_of(&record.at.topic, record.key.as_deref().unwrap_or_default())
}

fn hash_of(topic: &str, key: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(topic.as_bytes());
    hasher.update(&[0]);
    hasher.update(key);
    hasher.digest128()
}
