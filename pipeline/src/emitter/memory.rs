//! What an emitter remembers of one topic partition: per key the hash and version of its last change.
//!
//! The topic is the memory; this store is a disposable, ordered copy of its headers on local disk. It is saved with
//! the incarnation, the offset it is caught up to and the last record below, and thrown away when one of these doesn't fit.

use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use schemas::{ContentHash, Key};
use serde::{Deserialize, Serialize};

use super::disk::{self, Place};
use crate::blocking;
use crate::change::{Epoch, Incarnation, Version};
use crate::log::Offset;
use crate::state::Landmark;

/// Keys are compared as bytes: that is their order as text, and nothing need be checked.
const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
/// The number of the last complete pass in which a key was there.
const SEEN: TableDefinition<&[u8], u64> = TableDefinition::new("seen");
/// Keys that are gone for comparisons: the number of the complete comparison that said so first, and of the last one, or
/// [`NOT_BROUGHT`].
const GONE: TableDefinition<&[u8], (u64, u64)> = TableDefinition::new("gone");
/// A pass that brings every record hasn't brought the key. Comparisons don't name it: they don't know of it. It is gone
/// until a record of it comes.
const NOT_BROUGHT: u64 = u64::MAX;
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Keys whose right record isn't the last one: they are to be healed.
const ILL: TableDefinition<&[u8], ()> = TableDefinition::new("ill");
/// Raw records that were rejected before, by the hash of their bytes: they aren't rejected twice.
const REJECTED: TableDefinition<&[u8], u64> = TableDefinition::new("rejected");

/// Pages of a topic's memories that are kept in RAM, shared among its partitions; the system caches the rest.
const CACHE_BYTES: usize = 12 << 20;

/// With less, a partition's tables would be read over and over again for one batch.
const LEAST_CACHE_BYTES: usize = 1 << 20;

/// A memory that isn't saved is read again from the topic after a crash: so many keys at most, and as many as come in
/// this time. Until it is saved the store can't use the pages again that it has replaced, some 8 KiB a key.
const UNSAVED_KEYS: usize = 10_000;
const UNSAVED_MS: i64 = 30_000;

/// The hash of a value whose contents aren't known: it is there, to be deleted or stated again, and equals nothing.
pub(super) const NOT_KNOWN: ContentHash = ContentHash([0xff; 16]);

/// What is known of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The version of the record that is right.
    pub version: Version,
    /// Who wrote it.
    pub writer: Epoch,
    /// Where it stands.
    pub offset: Offset,
    /// `None`: deleted.
    pub hash: Option<ContentHash>,
    /// The highest version of the key, right or not.
    pub highest: Version,
    /// The last offset of the key, right or not.
    pub last: Offset,
}

impl Known {
    /// Whether compaction would keep another record than the right one, or readers would take another for it.
    pub fn needs_healing(&self) -> bool {
        self.last != self.offset || self.highest != self.version
    }

    fn to_bytes(self) -> [u8; 57] {
        let mut bytes = [0; 57];
        let numbers = [self.version.0, self.writer.0, self.offset.0, self.highest.0, self.last.0];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        if let Some(hash) = self.hash {
            bytes[40] = 1;
            bytes[41..].copy_from_slice(&hash.0);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 57] = bytes.try_into().ok()?;
        let number = |i: usize| -> Option<i64> { Some(i64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().ok()?)) };
        let hash = if bytes[40] == 1 { Some(ContentHash(bytes[41..].try_into().ok()?)) } else { None };
        Some(Self {
            version: Version(number(0)?),
            writer: Epoch(number(1)?),
            offset: Offset(number(2)?),
            highest: Version(number(3)?),
            last: Offset(number(4)?),
            hash,
        })
    }
}

/// What holds for the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    incarnation: Incarnation,
    /// Everything below is in the store.
    next: Offset,
    /// The last record below. Earlier versions kept none.
    #[serde(default)]
    landmark: Option<Landmark>,
    /// The highest version in the partition.
    highest: Version,
    /// The highest epoch that wrote to the partition.
    writer: Epoch,
    /// Keys that aren't deleted.
    live: u64,
    /// Complete passes over everything.
    passes: u64,
    /// Complete comparisons: passes over everything that bring only what differs.
    #[serde(default)]
    comparisons: u64,
    /// When it was saved last, in ms since 1970.
    saved_ms: i64,
}

/// The disposable store can't be used. Its file may be deleted: it is rebuilt from the topic.
#[derive(Debug, thiserror::Error)]
#[error("the local memory of {name} can't be used: {source} (its file may be deleted, it is rebuilt from the topic)")]
pub struct MemoryError {
    name: String,
    source: Box<redb::Error>,
}

impl MemoryError {
    /// What befell the store of `name`.
    pub(crate) fn new(name: &str, source: redb::Error) -> Self {
        Self { name: name.to_owned(), source: Box::new(source) }
    }
}

/// The store of one partition.
pub struct Memory {
    name: String,
    db: Arc<Database>,
    meta: Meta,
    /// Keys put since it was saved.
    unsaved: usize,
}

impl Memory {
    /// Opens the store of `name` at `place`, or in RAM where there is none. A store of another incarnation, or one
    /// saved longer ago than `usable_for_ms` (tombstones may have gone since), begins anew; so does a damaged file.
    /// `of`: how many partitions the topic has, which share the RAM.
    pub fn open(
        place: Option<&Place>,
        name: &str,
        of: u32,
        incarnation: &Incarnation,
        now_ms: i64,
        usable_for_ms: i64,
    ) -> Result<Self, MemoryError> {
        let failed = |source: redb::Error| MemoryError::new(name, source);
        let (db, saved) = match place {
            Some(place) => blocking::run(|| place.open_whole(name, cache_bytes(of), prepare)).map_err(failed)?,
            None => {
                let db = Database::builder().create_with_backend(InMemoryBackend::new());
                (db.map_err(|e| failed(e.into()))?, None)
            }
        };
        let fresh = Meta {
            incarnation: incarnation.clone(),
            next: Offset::START,
            landmark: None,
            highest: Version(0),
            writer: Epoch(-1),
            live: 0,
            passes: 0,
            comparisons: 0,
            saved_ms: now_ms,
        };
        let mut memory = Self { name: name.to_owned(), db: Arc::new(db), meta: fresh, unsaved: 0 };
        match saved {
            Some(meta)
                if meta.incarnation == *incarnation && (now_ms - meta.saved_ms).saturating_abs() < usable_for_ms =>
            {
                memory.meta = meta
            }
            saved => {
                memory.clear().map_err(failed)?;
                if saved.is_some_and(|meta| meta.incarnation != *incarnation) {
                    // Where the topic was made anew, the letters may have gone with it.
                    memory.forget_rejected().map_err(failed)?;
                }
            }
        }
        Ok(memory)
    }

    /// Everything below is known.
    pub fn next(&self) -> Offset {
        self.meta.next
    }

    /// The last record below [`Self::next`], of whoever wrote it; `None` where none was seen.
    pub fn landmark(&self) -> Option<Landmark> {
        self.meta.landmark
    }

    /// The last record that was put, or left out, is this one; `None`: there was none.
    pub fn passed(&mut self, landmark: Option<Landmark>) {
        self.meta.landmark = landmark.or(self.meta.landmark);
    }

    /// The highest version in the partition.
    pub fn highest(&self) -> Version {
        self.meta.highest
    }

    /// The highest epoch that wrote to the partition.
    pub fn writer(&self) -> Epoch {
        self.meta.writer
    }

    /// Keys that aren't deleted.
    pub fn live(&self) -> u64 {
        self.meta.live
    }

    /// Looks keys up, in their order.
    pub fn get(&self, keys: &[&str]) -> Result<Vec<Option<Known>>, MemoryError> {
        self.reading(|table| {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(table.get(key.as_bytes())?.and_then(|row| Known::from_bytes(row.value())));
            }
            Ok(found)
        })
    }

    /// The keys of a group that aren't deleted: the group's own key, and those that begin with it.
    pub fn under(&self, group: &str) -> Result<Vec<(Key, Known)>, MemoryError> {
        let (from, to) = (format!("{group}|"), format!("{group}}}"));
        self.reading(|table| {
            let mut found = Vec::new();
            if let Some(known) = table.get(group.as_bytes())?.and_then(|row| Known::from_bytes(row.value())) {
                found.push((group.as_bytes().to_vec(), known));
            }
            for row in table.range(from.as_bytes()..to.as_bytes())? {
                let (key, known) = row?;
                if let Some(known) = Known::from_bytes(known.value()) {
                    found.push((key.value().to_vec(), known));
                }
            }
            Ok(live_keys(found))
        })
    }

    /// Keys behind `after` that aren't deleted, in key order; at most `limit`.
    pub fn keys(&self, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Known)>, MemoryError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |key| Excluded(key.as_str().as_bytes()));
        self.reading(|table| {
            let mut found = Vec::with_capacity(limit.min(1024));
            for row in table.range::<&[u8]>((from, Unbounded))? {
                let (key, known) = row?;
                match Known::from_bytes(known.value()) {
                    Some(known) if known.hash.is_some() => found.push((key.value().to_vec(), known)),
                    _ => continue,
                }
                if found.len() == limit {
                    break;
                }
            }
            Ok(live_keys(found))
        })
    }

    /// Some of the keys that are to be healed.
    pub fn ill(&self, limit: usize) -> Result<Vec<Key>, MemoryError> {
        let read = || -> Result<Vec<Key>, redb::Error> {
            let table = self.db.begin_read()?.open_table(ILL)?;
            let mut found = Vec::new();
            for row in table.iter()?.take(limit) {
                found.extend(Key::from_bytes(row?.0.value()));
            }
            Ok(found)
        };
        read().map_err(|source| self.failed(source))
    }

    /// Forgets everything that was read from the topic: it is scanned again.
    pub fn forget(&mut self) -> Result<(), MemoryError> {
        self.clear().map_err(|source| self.failed(source))?;
        let (next, highest, writer) = (Offset::START, Version(0), Epoch(-1));
        self.meta = Meta { next, landmark: None, highest, writer, live: 0, ..self.meta.clone() };
        Ok(())
    }

    /// Remembers keys, and that everything below `next` is known. `seen`: the keys are there in the system.
    pub fn put(&mut self, keys: &[(Key, Known)], next: Offset, seen: bool) -> Result<(), MemoryError> {
        let mut meta = self.meta.clone();
        meta.next = meta.next.max(next);
        let passes = meta.passes;
        self.writing(|txn| {
            let mut table = txn.open_table(KEYS)?;
            let mut seen_table = txn.open_table(SEEN)?;
            let mut ill = txn.open_table(ILL)?;
            let (mut some_are_ill, some_were_seen) = (!ill.is_empty()?, !seen_table.is_empty()?);
            for (key, known) in keys {
                if known.needs_healing() {
                    ill.insert(key.as_str().as_bytes(), ())?;
                    some_are_ill = true;
                } else if some_are_ill {
                    ill.remove(key.as_str().as_bytes())?;
                }
                let before = table.insert(key.as_str().as_bytes(), known.to_bytes().as_slice())?;
                let was_live = before.and_then(|row| Known::from_bytes(row.value())).is_some_and(|k| k.hash.is_some());
                match (was_live, known.hash.is_some()) {
                    (false, true) => meta.live += 1,
                    (true, false) => meta.live = meta.live.saturating_sub(1),
                    _ => {}
                }
                meta.highest = meta.highest.max(known.highest);
                meta.writer = meta.writer.max(known.writer);
                if seen && some_were_seen {
                    // The pass under way may have seen it already, which says more. One that none has seen was there now:
                    // that needs no note.
                    let before = seen_table.get(key.as_str().as_bytes())?.map(|row| row.value());
                    if before.is_some_and(|before| before < passes) {
                        seen_table.insert(key.as_str().as_bytes(), passes)?;
                    }
                }
            }
            Ok(())
        })?;
        self.meta = meta;
        self.unsaved += keys.len();
        Ok(())
    }

    /// Notes that these keys were there in the pass over everything that is under way.
    pub fn mark_seen(&mut self, keys: &[Key]) -> Result<(), MemoryError> {
        let pass = self.meta.passes + 1;
        self.writing(|txn| {
            let mut seen = txn.open_table(SEEN)?;
            for key in keys {
                seen.insert(key.as_str().as_bytes(), pass)?;
            }
            Ok(())
        })
    }

    /// Ends a complete pass over everything. Answers the keys that were absent from this pass and the one before it.
    pub fn complete_pass(&mut self) -> Result<Vec<Key>, MemoryError> {
        blocking::run(|| self.look_for_absent())
    }

    fn look_for_absent(&mut self) -> Result<Vec<Key>, MemoryError> {
        let (pass, comparisons) = (self.meta.passes + 1, self.meta.comparisons);
        self.meta.passes = pass;
        let mut absent = Vec::new();
        let mut unknown = Vec::new();
        let mut not_brought = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.keys(after.as_ref(), 4096)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let seen = self.seen(&page)?;
            for ((key, _), seen) in page.into_iter().zip(seen) {
                if seen.is_none_or(|seen| seen < pass) {
                    not_brought.push(key.clone());
                }
                match seen {
                    Some(seen) if seen + 2 <= pass => absent.push(key),
                    Some(_) => {}
                    // The store was rebuilt, or the key is new, since it was last there: the count of passes begins now.
                    None => unknown.push(key),
                }
            }
        }
        self.writing(|txn| {
            let mut seen = txn.open_table(SEEN)?;
            for key in &unknown {
                seen.insert(key.as_str().as_bytes(), pass - 1)?;
            }
            txn.delete_table(GONE)?;
            let mut gone = txn.open_table(GONE)?;
            for key in &not_brought {
                gone.insert(key.as_str().as_bytes(), (comparisons, NOT_BROUGHT))?;
            }
            Ok(())
        })?;
        self.save_now(self.meta.saved_ms)?;
        Ok(absent)
    }

    /// Records of these keys have come, whatever was asked: they aren't gone.
    pub fn back(&mut self, keys: &[Key]) -> Result<(), MemoryError> {
        let none_is_gone = || -> Result<bool, redb::Error> { Ok(self.db.begin_read()?.open_table(GONE)?.is_empty()?) };
        if none_is_gone().map_err(|source| self.failed(source))? {
            return Ok(());
        }
        self.writing(|txn| {
            let mut gone = txn.open_table(GONE)?;
            for key in keys {
                gone.remove(key.as_str().as_bytes())?;
            }
            Ok(())
        })
    }

    /// Ends a complete comparison, which has found these keys gone, and no others that it knows of. Answers the keys that
    /// were gone before, too: for the comparison before it, or for a pass that brought every record.
    pub fn complete_comparison(&mut self, found_gone: &[Key]) -> Result<Vec<Key>, MemoryError> {
        let pass = self.meta.comparisons + 1;
        let mut absent = Vec::new();
        self.writing(|txn| {
            let keys = txn.open_table(KEYS)?;
            let is_live = |key: &[u8]| -> Result<bool, redb::Error> {
                let known = keys.get(key)?.and_then(|row| Known::from_bytes(row.value()));
                Ok(known.is_some_and(|known| known.hash.is_some()))
            };
            let mut gone = txn.open_table(GONE)?;
            for key in found_gone {
                let before = gone.get(key.as_str().as_bytes())?.map(|row| row.value());
                let (first, last) = before.unwrap_or((pass, pass));
                let last = if last == NOT_BROUGHT { last } else { pass };
                gone.insert(key.as_str().as_bytes(), (first, last))?;
            }
            // What was found gone and isn't any more has come back.
            gone.retain(|_, (_, last)| last == pass || last == NOT_BROUGHT)?;
            let mut deleted = Vec::new();
            for row in gone.iter()? {
                let (key, first) = row.map(|(key, row)| (key.value().to_vec(), row.value().0))?;
                match is_live(&key)? {
                    true if first < pass => absent.extend(Key::from_bytes(&key)),
                    true => {}
                    false => deleted.push(key),
                }
            }
            for key in deleted {
                gone.remove(key.as_slice())?;
            }
            Ok(())
        })?;
        self.meta.comparisons = pass;
        blocking::run(|| self.save_now(self.meta.saved_ms))?;
        Ok(absent)
    }

    fn seen(&self, page: &[(Key, Known)]) -> Result<Vec<Option<u64>>, MemoryError> {
        let read = || -> Result<Vec<Option<u64>>, redb::Error> {
            let table = self.db.begin_read()?.open_table(SEEN)?;
            let mut found = Vec::with_capacity(page.len());
            for (key, _) in page {
                found.push(table.get(key.as_str().as_bytes())?.map(|row| row.value()));
            }
            Ok(found)
        };
        read().map_err(|source| self.failed(source))
    }

    /// Which of these raw records were rejected before, by the hash of their bytes.
    pub fn rejected_before(&self, hashes: &[[u8; 16]]) -> Result<Vec<bool>, MemoryError> {
        let read = || -> Result<Vec<bool>, redb::Error> {
            let table = self.db.begin_read()?.open_table(REJECTED)?;
            let mut found = Vec::with_capacity(hashes.len());
            for hash in hashes {
                found.push(table.get(hash.as_slice())?.is_some());
            }
            Ok(found)
        };
        read().map_err(|source| self.failed(source))
    }

    /// Notes that these raw records are in the dead letters.
    pub fn note_rejected(&mut self, hashes: &[[u8; 16]]) -> Result<(), MemoryError> {
        let pass = self.meta.passes;
        self.writing(|txn| {
            let mut rejected = txn.open_table(REJECTED)?;
            for hash in hashes {
                rejected.insert(hash.as_slice(), pass)?;
            }
            Ok(())
        })
    }

    /// Makes what is known durable, so that a restart need not scan it again.
    pub fn save(&mut self, now_ms: i64) -> Result<(), MemoryError> {
        // It waits for the disk.
        blocking::run(|| self.save_now(now_ms))
    }

    /// Whether a crash would cost much reading.
    pub fn wants_saving(&self, now_ms: i64) -> bool {
        let long_ago = (now_ms - self.meta.saved_ms).saturating_abs() >= UNSAVED_MS;
        self.unsaved >= UNSAVED_KEYS || (self.unsaved > 0 && long_ago)
    }

    fn save_now(&mut self, now_ms: i64) -> Result<(), MemoryError> {
        self.meta.saved_ms = now_ms;
        let meta = serde_json::to_vec(&self.meta).unwrap_or_default();
        let write = || -> Result<(), redb::Error> {
            let mut txn = self.db.begin_write()?;
            // Else a file that a crash left open is walked whole when it is opened again: seconds for a million keys.
            txn.set_quick_repair(true);
            txn.open_table(META)?.insert("meta", meta.as_slice())?;
            txn.commit()?;
            Ok(())
        };
        write().map_err(|source| self.failed(source))?;
        self.unsaved = 0;
        Ok(())
    }

    fn forget_rejected(&mut self) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        txn.delete_table(REJECTED)?;
        txn.open_table(REJECTED)?;
        txn.commit()?;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        txn.delete_table(KEYS)?;
        txn.delete_table(SEEN)?;
        txn.delete_table(ILL)?;
        txn.delete_table(GONE)?;
        txn.delete_table(META)?;
        txn.open_table(GONE)?;
        txn.open_table(KEYS)?;
        txn.open_table(SEEN)?;
        txn.open_table(ILL)?;
        txn.open_table(REJECTED)?;
        txn.commit()?;
        Ok(())
    }

    fn reading<T>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<&[u8], &[u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, MemoryError> {
        let run = || read(&self.db.begin_read()?.open_table(KEYS)?);
        run().map_err(|source| self.failed(source))
    }

    /// Changes are kept in order but reach the disk with [`Self::save`]: what is lost with a crash is scanned again.
    fn writing(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), MemoryError> {
        disk::write(&self.db, write).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: redb::Error) -> MemoryError {
        MemoryError::new(&self.name, source)
    }
}

/// What each partition of a topic may keep in RAM of its store.
pub(crate) fn cache_bytes(partitions: u32) -> usize {
    (CACHE_BYTES / partitions.max(1) as usize).max(LEAST_CACHE_BYTES)
}

/// Makes the tables that are missing, and answers what was saved.
fn prepare(db: &Database) -> Result<Option<Meta>, redb::Error> {
    let saved = {
        let txn = db.begin_read()?;
        match txn.open_table(META) {
            Ok(table) => table.get("meta")?.and_then(|row| serde_json::from_slice(row.value()).ok()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        }
    };
    // A file of an earlier version lacks tables.
    let txn = db.begin_write()?;
    txn.open_table(KEYS)?;
    txn.open_table(SEEN)?;
    txn.open_table(ILL)?;
    txn.open_table(GONE)?;
    txn.open_table(REJECTED)?;
    txn.commit()?;
    Ok(saved)
}

fn live_keys(rows: Vec<(Vec<u8>, Known)>) -> Vec<(Key, Known)> {
    let live = rows.into_iter().filter(|(_, known)| known.hash.is_some());
    live.filter_map(|(key, known)| Some((Key::from_bytes(&key).ok()?, known))).collect()
}

#[cfg(test)]
mod tests;
