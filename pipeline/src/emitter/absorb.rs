//! Takes records that the memory hasn't seen into it; the memory notes the keys where the right record isn't the last one.
//!
//! For every key the record with the highest (writer, version) is right: a version alone comes from a clock.

use std::collections::BTreeSet;
use std::collections::HashMap;

use schemas::{Key, SchemaId};

use super::memory::{Known, Memory, MemoryError, NOT_KNOWN};
use super::{hash_of, version_of};
use crate::blocking;
use crate::change::{Epoch, Version, header};
use crate::log::{Offset, Record};
use crate::state::Landmark;

/// Records that are taken in with one write.
const AT_ONCE: usize = 2_000;

struct Seen {
    key: Key,
    known: Known,
}

pub(super) struct Absorber<'a> {
    memory: &'a mut Memory,
    waiting: Vec<Seen>,
    schemas: BTreeSet<SchemaId>,
    last: Option<Record>,
    failed: Option<MemoryError>,
}

impl<'a> Absorber<'a> {
    pub fn new(memory: &'a mut Memory) -> Self {
        Self { memory, waiting: Vec::with_capacity(AT_ONCE), schemas: BTreeSet::new(), last: None, failed: None }
    }

    /// Takes one record in. Errors are kept until [`Self::finish`].
    pub fn absorb(&mut self, record: Record) {
        let Some(key) = record.key.as_deref().and_then(|key| Key::from_bytes(key).ok()) else {
            tracing::warn!(topic = %record.at.topic, offset = %record.offset, "a foreign record without a text key is ignored");
            self.last = Some(record);
            return;
        };
        if let Some(value) = record.value.as_deref()
            && let Ok((id, _)) = schemas::unframe(value)
        {
            self.schemas.insert(id);
        }
        // A record without our headers was written by somebody else: anything of ours is above it.
        let writer = record.headers.text(header::WRITER).and_then(|text| text.parse().ok()).map_or(Epoch(-1), Epoch);
        let version = version_of(&record).unwrap_or(Version(0));
        let hash = record.value.is_some().then(|| hash_of(&record).unwrap_or(NOT_KNOWN));
        let offset = record.offset;
        self.waiting.push(Seen { key, known: Known { version, writer, offset, hash, highest: version, last: offset } });
        self.last = Some(record);
        if self.waiting.len() >= AT_ONCE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_some() {
            self.waiting.clear();
            return;
        }
        if let Err(error) = blocking::run(|| self.write()) {
            self.failed = Some(error);
        }
        self.waiting.clear();
    }

    fn write(&mut self) -> Result<(), MemoryError> {
        let keys: Vec<&str> = self.waiting.iter().map(|seen| seen.key.as_str()).collect();
        let before = self.memory.get(&keys)?;
        let mut now: HashMap<Key, Known> = HashMap::with_capacity(self.waiting.len());
        let mut next = self.memory.next();
        for (seen, before) in self.waiting.iter().zip(before) {
            next = next.max(seen.known.last.next());
            let merged = match now.get(&seen.key).copied().or(before) {
                Some(known) => merge(known, seen.known),
                None => seen.known,
            };
            now.insert(seen.key.clone(), merged);
        }
        let entries: Vec<(Key, Known)> = now.into_iter().collect();
        self.memory.put(&entries, next, true)
    }

    /// Everything below `end` has been given. Answers the schemas that values were written with.
    pub fn finish(mut self, end: Offset) -> Result<BTreeSet<SchemaId>, MemoryError> {
        self.flush();
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.memory.put(&[], end, false)?;
        self.memory.passed(self.last.as_ref().map(Landmark::of_record));
        Ok(self.schemas)
    }
}

/// What holds of a key after one more record of it.
fn merge(known: Known, record: Known) -> Known {
    if record.last <= known.last {
        return known;
    }
    let highest = known.highest.max(record.highest);
    let again = (record.writer, record.version) == (known.writer, known.version);
    if again || (record.writer, record.version) > (known.writer, known.version) {
        // A version that isn't above all others would be dropped by readers: it must be written again.
        let overtaken = !again && record.version <= known.highest;
        let highest = if overtaken { Version(known.highest.0.max(record.version.0 + 1)) } else { highest };
        Known { highest, ..record }
    } else {
        Known { highest, last: record.last, ..known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(writer: i64, version: i64, offset: i64) -> Known {
        let (version, offset) = (Version(version), Offset(offset));
        Known { version, writer: Epoch(writer), offset, hash: None, highest: version, last: offset }
    }

    #[test]
    fn a_later_owner_is_right_even_with_a_slower_clock() {
        let merged = merge(record(1, 900, 4), record(2, 500, 5));
        assert_eq!((merged.writer, merged.offset), (Epoch(2), Offset(5)));
        assert!(merged.needs_healing(), "readers would keep version 900");
    }

    #[test]
    fn what_a_former_owner_appends_late_is_wrong_and_on_top() {
        let merged = merge(record(2, 500, 4), record(1, 900, 5));
        assert_eq!((merged.offset, merged.last, merged.highest), (Offset(4), Offset(5), Version(900)));
        assert!(merged.needs_healing());
    }

    #[test]
    fn a_record_that_was_appended_twice_is_one() {
        assert!(!merge(record(2, 500, 4), record(2, 500, 5)).needs_healing());
    }
}
