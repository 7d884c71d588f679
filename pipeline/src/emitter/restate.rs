//! States again what the topic holds of some keys, with a new version: who holds something else under the old one
//! writes it anew. Asked for by [`crate::verify`].

use std::collections::BTreeMap;

use schemas::Key;

use super::memory::Known;
use super::{EmitError, Emitter};
use crate::change::Version;
use crate::log::Offset;

/// A key to state again, above what somebody else holds of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restate {
    /// The key. One that the topic doesn't hold gets a tombstone.
    pub key: Key,
    /// The version that must be surpassed, where it isn't the topic's own.
    pub above: Option<Version>,
}

impl Emitter {
    /// Appends the last record of each key again, tombstones included, with a version above its own and above what is
    /// given. Contents, hash and history stay. `Ok`: all are durable; the keys must lie in owned partitions.
    pub async fn restate(&mut self, keys: &[Restate]) -> Result<u64, EmitError> {
        let mut by_partition: BTreeMap<u32, Vec<&Restate>> = BTreeMap::new();
        for wanted in keys {
            by_partition.entry(self.partition_of(&wanted.key)).or_default().push(wanted);
        }
        self.ready(by_partition.keys().copied().collect()).await?;
        for (partition, wanted) in by_partition {
            let at = self.at(partition);
            let Some(owned) = self.owned.get_mut(&partition) else { return Err(EmitError::NotOwned { at }) };
            let texts: Vec<&str> = wanted.iter().map(|wanted| wanted.key.as_str()).collect();
            let known = owned.memory.get(&texts)?;
            // A key whose right record is overtaken is healed: its record is appended again, above everything.
            let overtaken: Vec<(Key, Known)> = wanted
                .iter()
                .zip(known)
                .zip(1..)
                .map(|((wanted, known), number)| {
                    let known = known.unwrap_or(Known {
                        version: Version(0),
                        writer: owned.writer,
                        // Nothing stands there: what is stated again is that the key is gone. Each at a place of its own.
                        offset: Offset(-number),
                        hash: None,
                        highest: Version(0),
                        last: Offset(-1),
                    });
                    let above = wanted.above.unwrap_or_default().max(known.highest);
                    (wanted.key.clone(), Known { highest: Version(above.0.max(known.version.0 + 1)), ..known })
                })
                .collect();
            let next = owned.memory.next();
            owned.memory.put(&overtaken, next, false)?;
            let healed = self.heal(partition, "keys are stated again").await;
            if healed.is_err() {
                self.behind(partition);
            }
            healed?;
        }
        Ok(keys.len() as u64)
    }
}
