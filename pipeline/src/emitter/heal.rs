//! Heals what a former owner appended late: the right record of a key is appended again, above all others.
//!
//! Which keys are ill is the memory's to know; it is told by [`super::absorb`].

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::Key;

use super::memory::{Known, NOT_KNOWN};
use super::{EmitError, Emitter, headers};
use crate::log::{Append, Headers, Offset, Record, scan};

/// Records healed with one append.
const HEAL_AT_ONCE: usize = 500;

impl Emitter {
    /// Appends the right record again, above all others, for every key where somebody else's lies on top of it.
    pub(super) async fn heal(&mut self, partition: u32, why: &str) -> Result<(), EmitError> {
        loop {
            let Some(owned) = self.owned.get(&partition) else { return Ok(()) };
            let keys = owned.memory.ill(HEAL_AT_ONCE)?;
            if keys.is_empty() {
                return Ok(());
            }
            let texts: Vec<&str> = keys.iter().map(Key::as_str).collect();
            let known = owned.memory.get(&texts)?;
            let wanted: BTreeMap<Offset, (Key, Known)> =
                keys.into_iter().zip(known).filter_map(|(key, known)| Some((known?.offset, (key, known?)))).collect();
            tracing::warn!(topic = %self.name, partition, keys = wanted.len(), "{why}");
            let right = self.find(partition, &wanted).await?;
            self.append_again(partition, wanted, right).await?;
            if self.owned.get(&partition).is_some_and(|owned| owned.behind) {
                // Somebody appended meanwhile: that is read first.
                return Ok(());
            }
        }
    }

    async fn find(
        &self,
        partition: u32,
        wanted: &BTreeMap<Offset, (Key, Known)>,
    ) -> Result<BTreeMap<Offset, Record>, EmitError> {
        // What never stood there needs no looking for.
        let mut there = wanted.keys().filter(|offset| **offset >= Offset::START);
        let Some(first) = there.next().copied() else { return Ok(BTreeMap::new()) };
        let mut right = BTreeMap::new();
        scan(self.context.log.as_ref(), &[(self.at(partition), first)], |record| {
            if wanted.contains_key(&record.offset) {
                right.insert(record.offset, record);
            }
        })
        .await?;
        Ok(right)
    }

    async fn append_again(
        &mut self,
        partition: u32,
        wanted: BTreeMap<Offset, (Key, Known)>,
        mut right: BTreeMap<Offset, Record>,
    ) -> Result<(), EmitError> {
        let now = self.context.clock.now();
        let at = self.at(partition);
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        let mut appends = Vec::new();
        let mut entries = Vec::new();
        let mut lost = Vec::new();
        for (offset, (key, known)) in wanted {
            let version = known.highest.next(now);
            let (value, headers) = match (right.remove(&offset), known.hash) {
                (Some(record), _) => (record.value, record.headers),
                // A tombstone that compaction took needs nothing else to be written again.
                (None, None) => (None, Headers::default()),
                (None, Some(_)) => {
                    let last = Known { hash: Some(NOT_KNOWN), offset: known.last, version: known.highest, ..known };
                    lost.push((key, last));
                    continue;
                }
            };
            let headers = headers::healed(&self.name, &key, headers, version, owned.writer);
            let bytes = Bytes::copy_from_slice(key.as_str().as_bytes());
            appends.push(Append { at: at.clone(), key: bytes, value, headers });
            entries.push((key, Known { version, writer: owned.writer, highest: version, ..known }));
        }
        if !lost.is_empty() {
            // Before anything hides it: a process that dies here leaves it to the next owner.
            self.context.state.incarnations.set_incomplete(&at, &owned.incarnation, true).await?;
        }
        let offsets = self.context.log.append(appends.clone()).await?;
        let entries: Vec<(Key, Known)> = entries
            .into_iter()
            .zip(&offsets)
            .map(|((key, known), offset)| (key, Known { offset: *offset, last: *offset, ..known }))
            .collect();
        let next = offsets.iter().map(|offset| offset.next()).max().unwrap_or(owned.end);
        // What lies between the end we knew and our first append is somebody else's again: it is read on.
        let contiguous = offsets.first().is_none_or(|first| *first == owned.end)
            && next.0 - owned.end.0 == i64::try_from(offsets.len()).unwrap_or(i64::MAX);
        if contiguous {
            owned.memory.put(&entries, next, false)?;
            owned.end = next;
            owned.memory.passed(super::landmarks(&appends, &offsets).remove(&partition));
        } else {
            owned.behind = true;
        }
        owned.memory.put(&lost, owned.end, false)?;
        self.forgotten += lost.len() as u64;
        Ok(())
    }
}
