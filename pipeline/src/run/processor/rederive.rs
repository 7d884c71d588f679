//! Derives all groups of a partition again: the processor, a reference table or a topic's life has changed.
//!
//! Only the latest record of each key may be derived, or downstream would see older states again. So the inputs are
//! read twice: once to find each key's last offset, once to derive.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::Key;
use tokio_util::sync::CancellationToken;

use super::Loop;
use super::read::{Read, last_of};
use crate::blocking;
use crate::emitter::EmitError;
use crate::log::{Event, Offset, Record, Scan, Subscription, TopicPartition};
use crate::run::RunError;

/// Records that are derived together.
const AT_ONCE: usize = 1_000;

/// Memory keys that are looked at together.
const KEYS_AT_ONCE: usize = 4_096;

/// Keys by their 128-bit hash: 24 bytes a key, whatever its length.
type LastOffsets = HashMap<u128, Offset>;

impl Loop<'_> {
    /// Derives all groups of the partitions that need it, deletes what has no inputs any more, and goes on behind what was
    /// read. It leaves off where the group has something to say or the process is to stop; what is left to do then stays
    /// to be done, here or by the next owner.
    pub(super) async fn rederive(
        &mut self,
        subscription: &mut dyn Subscription,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        if self.anew.is_empty() && !self.halted {
            return Ok(());
        }
        // Whatever the group says meanwhile is about the group. Records that were on their way are read again afterwards.
        let all: Vec<TopicPartition> = self.partitions.keys().flat_map(|number| self.inputs_of(*number)).collect();
        self.halted = true;
        subscription.pause(&all).await?;
        let mut derived = 0;
        while let Some(number) = self.anew.first().copied() {
            let Some(mark) = self.present_marks(&[number]).await?.remove(&number) else { return Ok(()) };
            let read = match self.gathers() {
                true => self.rederive_groups(number, &mark.inputs, subscription, stop).await?,
                false => self.rederive_partition(number, subscription, stop).await?,
            };
            let Some(read) = read else { return Ok(()) };
            if let Some(partition) = self.partitions.get_mut(&number) {
                partition.mark = mark.clone();
                partition.read = read;
            }
            self.runtime.state.positions.save_mark(self.processor.name(), number, &mark).await?;
            for emitter in self.outputs.values() {
                emitter.restated(&[number]).await?;
            }
            self.anew.remove(&number);
            derived += 1;
        }
        for (number, partition) in &self.partitions {
            for (topic, next) in &partition.read.next {
                let at = TopicPartition { topic: Arc::clone(topic), partition: *number };
                subscription.start(&at, *next).await?;
            }
        }
        self.halted = false;
        if derived > 0 {
            self.commit(subscription).await?;
            tracing::info!(processor = self.processor.name(), partitions = derived, "all groups derived anew");
        }
        Ok(())
    }

    /// Whether to leave off: the process is to stop, or the group has something to say, which waits in `pending`.
    pub(super) async fn interrupted(
        &mut self,
        subscription: &mut dyn Subscription,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        self.runtime.health.progressed(self.processor.name(), self.runtime.clock.now());
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(true),
                event = subscription.next() => event?,
                () = tokio::task::yield_now() => return Ok(false),
            };
            if !matches!(event, Event::Records(_)) {
                self.pending = Some(event);
                return Ok(true);
            }
        }
    }

    /// `None`: it left off.
    async fn rederive_partition(
        &mut self,
        number: u32,
        subscription: &mut dyn Subscription,
        stop: &CancellationToken,
    ) -> Result<Option<Read>, RunError> {
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.rows.clear();
        }
        let from: Vec<(TopicPartition, Offset)> =
            self.inputs_of(number).into_iter().map(|at| (at, Offset::START)).collect();
        let mut last = LastOffsets::new();
        let mut read = Read::default();
        let mut scan = Scan::begin(self.runtime.log.as_ref(), &from).await?;
        while let Some(records) = scan.next().await? {
            last_of(&records).into_iter().for_each(|(at, landmark)| read.passed(&at.topic, landmark));
            for record in records {
                let key = record_key(&record);
                if record.value.is_some() {
                    last.insert(key, record.offset);
                } else {
                    last.remove(&key);
                }
            }
            if self.interrupted(subscription, stop).await? {
                return Ok(None);
            }
        }
        let ends: Vec<(TopicPartition, Offset)> = from.iter().map(|(at, _)| (at.clone(), scan.end(at))).collect();
        read.next.extend(ends.iter().map(|(at, end)| (Arc::clone(&at.topic), *end)));
        let again = Scan::begin(self.runtime.log.as_ref(), &from).await?.until(&ends);
        if !self.derive_latest(again, &last, subscription, stop).await? {
            return Ok(None);
        }
        let done = self.derive_orphans(number, Some(&last), subscription, stop).await?;
        Ok(done.then_some(read))
    }

    /// `false`: it left off.
    async fn derive_latest(
        &mut self,
        mut scan: Scan,
        last: &LastOffsets,
        subscription: &mut dyn Subscription,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        let mut waiting: Vec<Record> = Vec::with_capacity(AT_ONCE);
        while let Some(records) = scan.next().await? {
            for record in records {
                if last.get(&record_key(&record)) == Some(&record.offset) {
                    waiting.push(record);
                }
                if waiting.len() >= AT_ONCE && !self.processor.one_group() {
                    self.derive_records(std::mem::take(&mut waiting)).await?;
                }
            }
            if self.interrupted(subscription, stop).await? {
                return Ok(false);
            }
        }
        self.derive_records(waiting).await?;
        Ok(true)
    }

    /// Outputs whose group has no input any more, among the `last` records of each key, else in the store: the group is
    /// derived as empty. `false`: it left off.
    pub(super) async fn derive_orphans(
        &mut self,
        number: u32,
        last: Option<&LastOffsets>,
        subscription: &mut dyn Subscription,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        if self.processor.one_group() {
            if last.is_some_and(HashMap::is_empty) {
                let mut changes = Vec::new();
                self.difference(number, None, Vec::new(), None, &mut changes)?;
                let stamp = self.stamp();
                let aside = self.emit(changes, &[], &stamp).await?;
                self.write_letters(aside, 0).await?;
            }
            return Ok(true);
        }
        let inputs = self.processor.inputs();
        let store = self.partitions.get(&number).and_then(|partition| partition.store.as_ref());
        let is_there = |group: &str| match (last, store) {
            (Some(last), _) => Ok(inputs.iter().any(|topic| last.contains_key(&hash_of(topic, group.as_bytes())))),
            (None, Some(store)) => store.has(group),
            (None, None) => Ok(true),
        };
        let mut orphans: Vec<Key> = Vec::new();
        for emitter in self.outputs.values_mut() {
            let group_fields = emitter.topic().entity().map_or(1, |entity| entity.group_fields);
            let Some(memory) = emitter.memory(number) else { continue };
            let mut after: Option<Key> = None;
            loop {
                let page = blocking::run(|| memory.keys(after.as_ref(), KEYS_AT_ONCE)).map_err(EmitError::from)?;
                let Some((key, _)) = page.last() else { break };
                after = Some(key.clone());
                for (key, _) in page {
                    let group = key.prefix(group_fields);
                    let looked_at = orphans.last().is_some_and(|last| last.as_str() == group);
                    if !looked_at && !is_there(group).map_err(EmitError::from)? {
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
            if self.interrupted(subscription, stop).await? {
                return Ok(false);
            }
        }
        Ok(true)
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
