//! Makes records of changes: what differs from what the memory knows, with version and headers.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::{ContentHash, Key};

use super::headers::{ChangeHeaders, Common};
use super::memory::Known;
use super::{EmitError, Emitted, Emitter, Stamp};
use crate::change::{Change, Version};
use crate::log::{Append, Offset};
use crate::reject::Reject;

/// What was made of some changes.
#[derive(Default)]
pub(super) struct Made {
    pub appends: Vec<Append>,
    /// Beside `appends`, one for one.
    pub entries: Vec<Entry>,
    pub unchanged: u64,
    pub rejects: Vec<Reject>,
}

/// What the memory is to know of a key once its record is in the log.
pub(super) struct Entry {
    pub partition: u32,
    pub key: Key,
    /// But for the offset.
    pub known: Known,
    pub kind: Kind,
}

/// What a change does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Created,
    Updated,
    Deleted,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

impl Made {
    /// Counts what became of the changes, now that what is left of them is in the log.
    pub fn count(&mut self, emitted: &mut Emitted) {
        emitted.counts.unchanged += self.unchanged;
        emitted.counts.delivered += self.entries.len() as u64;
        emitted.rejects.append(&mut self.rejects);
        for entry in &self.entries {
            match entry.kind {
                Kind::Created => emitted.created += 1,
                Kind::Updated => emitted.updated += 1,
                Kind::Deleted => emitted.deleted += 1,
            }
        }
    }
}

impl Emitter {
    /// Makes records of changes of different keys. `floors`: by partition, the highest version that was given in this call
    /// to a key that wasn't known, for it may not be in the memory yet.
    pub(super) fn make(
        &self,
        changes: &[Change],
        original: Option<ContentHash>,
        stamp: &Stamp,
        floors: &mut BTreeMap<u32, Version>,
    ) -> Result<Made, EmitError> {
        let mut made = Made::default();
        let mut by_partition: BTreeMap<u32, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_partition.entry(self.partition_of(change.key())).or_default().push(change);
        }
        let common = Common::of(&self.component, stamp);
        let now = self.context.clock.now();
        for (partition, changes) in by_partition {
            let Some(owned) = self.owned.get(&partition) else {
                return Err(EmitError::NotOwned { at: self.at(partition) });
            };
            if !owned.claim.held() {
                return Err(EmitError::Fenced { at: self.at(partition) });
            }
            let keys: Vec<&str> = changes.iter().map(|change| change.key().as_str()).collect();
            let known = owned.memory.get(&keys)?;
            // A key that was never there, or went with its tombstone, begins above everything in the partition.
            let floor = floors.entry(partition).or_insert(Version(0));
            *floor = owned.memory.highest().max(*floor);
            let at = self.at(partition);
            for (change, known) in changes.into_iter().zip(known) {
                let hash = match change {
                    Change::Delete { .. } => None,
                    Change::Put { key, body, .. } => match self.hash(body) {
                        Ok(hash) => Some(hash),
                        Err(reason) => {
                            made.rejects.push(Reject::new(Some(key.clone()), reason, body.clone()));
                            continue;
                        }
                    },
                };
                let edited = original.and(hash);
                let hash = if hash.is_some() { original.or(hash) } else { hash };
                let held = known.and_then(|known| known.hash);
                if held == hash && original.is_none() {
                    made.unchanged += 1;
                    continue;
                }
                let version = match known {
                    Some(known) => known.highest.next(now),
                    None => {
                        *floor = floor.next(now);
                        *floor
                    }
                };
                let kind = match (held, hash) {
                    (None, _) => Kind::Created,
                    (Some(_), Some(_)) => Kind::Updated,
                    (Some(_), None) => Kind::Deleted,
                };
                let headers = ChangeHeaders {
                    topic: &self.name,
                    key: change.key(),
                    kind: kind.as_str(),
                    version,
                    hash,
                    edited,
                    time: change.time(),
                    writer: owned.writer,
                    common: &common,
                };
                let headers = headers.build();
                let key = change.key().clone();
                let value = match change {
                    Change::Put { body, .. } => Some(Bytes::from(schemas::frame(self.schema_id, body))),
                    Change::Delete { .. } => None,
                };
                let key_bytes = Bytes::copy_from_slice(key.as_str().as_bytes());
                made.appends.push(Append { at: at.clone(), key: key_bytes, value, headers });
                let (writer, offset) = (owned.writer, Offset(-1));
                let known = Known { version, writer, offset, hash, highest: version, last: offset };
                made.entries.push(Entry { partition, key, known, kind });
            }
        }
        Ok(made)
    }
}
