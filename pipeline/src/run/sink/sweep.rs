//! Compares a target with the whole topic, when its offset no longer says anything: keys that the topic doesn't hold
//! are deleted, guarded, and only after a complete pass.

use std::collections::{BTreeSet, HashSet};

use schemas::Key;
use tokio_util::sync::CancellationToken;

use super::Loop;
use crate::change::Version;
use crate::ledger::Counts;
use crate::log::{Offset, TopicPartition};
use crate::run::RunError;
use crate::sink::{Batch, Delivery, Held};

/// Rows that are compared at once.
const AT_ONCE: usize = 2_000;

/// A comparison under way.
pub(super) struct Sweep {
    until: Offset,
    /// 16 bytes a key; gone with the sweep.
    seen: HashSet<u128>,
    /// Keys whose latest records the target wouldn't take: what it has of them may be older than this life.
    refused: BTreeSet<Key>,
}

impl Sweep {
    /// A sweep that is complete when reading reaches `end`.
    pub fn until(end: Offset) -> Self {
        Self { until: end, seen: HashSet::new(), refused: BTreeSet::new() }
    }

    /// The topic holds these keys.
    pub fn seen<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) {
        self.seen.extend(keys.map(hash));
    }

    /// The target won't take these, or nobody can read them.
    pub fn refused<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) {
        self.refused.extend(keys.cloned());
    }

    /// The target has these, or they wait in it.
    pub fn delivered<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) {
        if !self.refused.is_empty() {
            for key in keys {
                self.refused.remove(key);
            }
        }
    }
}

fn hash(key: &Key) -> u128 {
    xxhash_rust::xxh3::xxh3_128(key.as_str().as_bytes())
}

impl Loop<'_> {
    /// Finishes the sweeps that have read up to their ends.
    pub(super) async fn finish_sweeps(&mut self, stop: &CancellationToken) -> Result<(), RunError> {
        let ready: Vec<TopicPartition> = self
            .places
            .iter()
            .filter(|(_, place)| place.sweep.as_ref().is_some_and(|sweep| place.reached() >= sweep.until))
            .map(|(at, _)| at.clone())
            .collect();
        for at in ready {
            let (gone, held) = self.not_in_topic(&at).await?;
            let percent = u64::from(self.task.limits.sweep_percent);
            if gone.len() as u64 * 100 > held * percent {
                return Err(RunError::Refused {
                    component: self.task.name.to_string(),
                    reason: format!("{} of the {held} rows the target holds of {at} aren't in the topic", gone.len()),
                    hint: format!(
                        "more than {percent} % aren't deleted unasked: if they are to go, raise `sweep_percent`"
                    ),
                });
            }
            if !self.delete(&at, gone, stop).await? {
                return Ok(());
            }
            if let Some(place) = self.places.get_mut(&at) {
                let refused: Vec<Key> = place.sweep.iter().flat_map(|sweep| &sweep.refused).cloned().collect();
                if !refused.is_empty() {
                    self.task.sink.outdate(&place.of, &refused).await?;
                }
                self.task.sink.swept(&place.of).await?;
                place.sweep = None;
            }
        }
        Ok(())
    }

    /// The rows that the topic doesn't have, and how many rows there are. What is marked as deleted already may come back.
    async fn not_in_topic(&self, at: &TopicPartition) -> Result<(Vec<Held>, u64), RunError> {
        let (mut gone, mut held) = (Vec::new(), 0);
        let Some(place) = self.places.get(at) else { return Ok((gone, held)) };
        let Some(sweep) = &place.sweep else { return Ok((gone, held)) };
        let partitions = u32::try_from(self.runtime.log.ends(&at.topic).await?.len()).unwrap_or(u32::MAX);
        let group_fields = place.of.topic.entity().map_or(1, |entity| entity.group_fields);
        let mut after: Option<Key> = None;
        while let Some(page) = self.task.sink.held(&place.of, after.as_ref(), AT_ONCE).await? {
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            let mut marked = Vec::new();
            for row in page {
                // A target lists an entity's rows whole; other partitions are others' to sweep.
                let ours = schemas::partition_of(row.key.prefix(group_fields).as_bytes(), partitions) == at.partition;
                held += u64::from(ours && !row.gone);
                if !ours || sweep.seen.contains(&hash(&row.key)) {
                    continue;
                }
                match row.gone {
                    true => marked.push(row.key),
                    false => gone.push(row),
                }
            }
            if !marked.is_empty() {
                self.task.sink.outdate(&place.of, &marked).await?;
            }
        }
        Ok((gone, held))
    }

    async fn delete(
        &mut self,
        at: &TopicPartition,
        gone: Vec<Held>,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        for rows in gone.chunks(AT_ONCE) {
            let Some(place) = self.places.get(at) else { return Ok(true) };
            let deliveries = rows
                .iter()
                .map(|row| Delivery {
                    key: row.key.clone(),
                    // Whatever the topic says of it from now on is newer. The row's version was of another life, whose
                    // clock may have been ahead: with it, a key that comes back would be taken for stale.
                    version: Version(0),
                    hash: None,
                    offset: place.next,
                    payload: None,
                })
                .collect();
            let part = place.part(deliveries, true);
            let mut counts = Counts { read: rows.len() as u64, ..Counts::default() };
            if self.apply(Batch { parts: vec![part] }, &mut counts, stop).await?.is_none() {
                return Ok(false);
            }
            self.account.book(&counts)?;
        }
        Ok(true)
    }
}
