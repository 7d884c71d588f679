//! What ranges of a table came to when they were last read: bounds, count, hashes and keys, in a file that can be lost.
//!
//! A pass writes a generation of its own beside the one it compares with; it reaches the disk when the pass ends, and a
//! pass that was broken off by a crash begins again. Beside the ranges stand the keys that changes have brought since (`touched`), of which no range
//! knows, and those that were found gone. A file that doesn't go with the position, or isn't whole, is no file: the next
//! pass over everything reads every row and begins anew.

use std::collections::{BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use schemas::Key;
use serde::{Deserialize, Serialize};

/// By generation and place.
const RANGES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("ranges");
const TOUCHED: TableDefinition<&str, ()> = TableDefinition::new("touched");
const GONE: TableDefinition<&str, ()> = TableDefinition::new("gone");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Pages of the file that are kept in RAM.
const CACHE_BYTES: usize = 4 << 20;

/// A file beside the process, which may be deleted at any time.
pub struct Ranges {
    db: Database,
    meta: Meta,
}

/// What holds for the file as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Meta {
    /// Positions name it: this file, and no other, has what they rest on.
    id: String,
    /// What was read of each row.
    shape: String,
    /// The generation that is whole.
    generation: u64,
    /// When whole rows were compared last.
    rows_at: Option<DateTime<Utc>>,
}

/// One range of the key: behind the one before it, up to its own last key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The last key, as the database takes it back; `None`: it has no end.
    pub up_to: Option<Vec<String>>,
    /// How many rows it has.
    pub rows: u64,
    /// What the hashes of key and change column come to.
    pub change: i64,
    /// What the hashes of whole rows come to.
    pub row: i64,
    /// A row in it has no key that could be read.
    pub keyless: bool,
    /// The keys in it.
    pub keys: Vec<String>,
}

/// What is remembered of a range but for its keys, which are most of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bound {
    /// As in [`Range`].
    pub up_to: Option<Vec<String>>,
    /// As in [`Range`].
    pub rows: u64,
}

/// Why the file can't be used. It may be deleted.
pub type RangesError = redb::Error;

type Done<T> = Result<T, RangesError>;

impl Ranges {
    /// Where the file of a topic is.
    pub fn path(folder: &Path, topic: &str) -> PathBuf {
        folder.join("tables").join(format!("{topic}.ranges.redb"))
    }

    /// Opens the file. One that is damaged is made anew.
    pub fn open(path: &Path) -> Done<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(redb::Error::Io)?;
        }
        // The store asserts on a file that was cut off, which is damage like any other here.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| Self::open_whole(path)));
        match opened {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(file = %path.display(), "what was remembered of a table is damaged, beginning anew");
                std::fs::remove_file(path).map_err(redb::Error::Io)?;
                Self::open_whole(path)
            }
        }
    }

    fn open_whole(path: &Path) -> Done<Self> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let txn = db.begin_write()?;
        txn.open_table(RANGES)?;
        txn.open_table(TOUCHED)?;
        txn.open_table(GONE)?;
        let meta = txn.open_table(META)?.get("meta")?.and_then(|row| serde_json::from_slice(row.value()).ok());
        txn.commit()?;
        Ok(Self { db, meta: meta.unwrap_or_default() })
    }

    /// Whether it goes with a position that names `id`, and holds rows of this shape.
    pub fn goes_with(&self, id: Option<&str>, shape: &str) -> bool {
        !self.meta.id.is_empty() && id == Some(self.meta.id.as_str()) && self.meta.shape == shape
    }

    /// Whether it is the file that a position names.
    pub fn is(&self, id: Option<&str>) -> bool {
        !self.meta.id.is_empty() && id == Some(self.meta.id.as_str())
    }

    /// Forgets everything and begins with a new name.
    pub fn begin(&mut self, id: &str, shape: &str) -> Done<()> {
        let txn = self.db.begin_write()?;
        txn.delete_table(RANGES)?;
        txn.delete_table(TOUCHED)?;
        txn.delete_table(GONE)?;
        txn.open_table(RANGES)?;
        txn.open_table(TOUCHED)?;
        txn.open_table(GONE)?;
        self.meta = Meta { id: id.to_owned(), shape: shape.to_owned(), ..Meta::default() };
        Self::save(&txn, &self.meta)?;
        txn.commit()?;
        Ok(())
    }

    /// When whole rows were compared last.
    pub fn rows_at(&self) -> Option<DateTime<Utc>> {
        self.meta.rows_at
    }

    /// The range at this place of the whole generation.
    pub fn get(&self, at: u64) -> Done<Option<Range>> {
        let table = self.db.begin_read()?.open_table(RANGES)?;
        let found = table.get((self.meta.generation, at))?;
        Ok(found.and_then(|row| serde_json::from_slice(row.value()).ok()))
    }

    /// The bounds of all ranges of the whole generation, in their order; `None`: there are more than `most`.
    pub fn bounds(&self, most: usize) -> Done<Option<Vec<Bound>>> {
        let table = self.db.begin_read()?.open_table(RANGES)?;
        let mut found = Vec::new();
        for row in table.range((self.meta.generation, 0)..(self.meta.generation + 1, 0))? {
            let Ok(bound) = serde_json::from_slice(row?.1.value()) else { return Ok(None) };
            if found.len() == most {
                return Ok(None);
            }
            found.push(bound);
        }
        Ok(Some(found))
    }

    /// Notes a range of the next generation, at this place; what was noted there and behind it before is forgotten.
    pub fn put(&self, at: u64, range: &Range) -> Done<()> {
        let next = self.meta.generation + 1;
        let txn = self.in_passing()?;
        {
            let mut table = txn.open_table(RANGES)?;
            table.retain_in((next, at).., |_, _| false)?;
            let bytes = serde_json::to_vec(range).unwrap_or_default();
            table.insert((next, at), bytes.as_slice())?;
        }
        txn.commit()?;
        Ok(())
    }

    /// The range at `before` of the whole generation has become those `now` of the next one: notes which keys have gone,
    /// and which have come back.
    pub fn settle(&self, before: u64, now: std::ops::Range<u64>) -> Done<()> {
        let before = self.get(before)?.map(|range| range.keys).unwrap_or_default();
        let next = self.meta.generation + 1;
        let txn = self.in_passing()?;
        {
            let table = txn.open_table(RANGES)?;
            let mut there = HashSet::new();
            for row in table.range((next, now.start)..(next, now.end))? {
                let range: Option<Range> = serde_json::from_slice(row?.1.value()).ok();
                there.extend(range.unwrap_or_default().keys);
            }
            let mut gone = txn.open_table(GONE)?;
            for key in before.iter().filter(|key| !there.contains(*key)) {
                gone.insert(key.as_str(), ())?;
            }
            let mut touched = txn.open_table(TOUCHED)?;
            for key in &there {
                // Until the pass has ended, no range vouches for it.
                if gone.remove(key.as_str())?.is_some() {
                    touched.insert(key.as_str(), ())?;
                }
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Notes keys that changes have brought, durably.
    pub fn touch<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Done<()> {
        let txn = self.db.begin_write()?;
        {
            let mut touched = txn.open_table(TOUCHED)?;
            for key in keys {
                touched.insert(key.as_str(), ())?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Keys, behind `after`, that no range vouches for: touched ones, and those found gone.
    pub fn doubtful(&self, after: Option<&str>, limit: usize) -> Done<Vec<String>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = (after.map_or(Unbounded, Excluded), Unbounded);
        let txn = self.db.begin_read()?;
        let mut found = BTreeSet::new();
        for table in [txn.open_table(TOUCHED)?, txn.open_table(GONE)?] {
            for row in table.range::<&str>(from)?.take(limit) {
                found.insert(row?.0.value().to_owned());
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// Notes of doubtful keys which of them are there.
    pub fn judge(&self, keys: &[String], is_there: impl Fn(&str) -> bool) -> Done<()> {
        let txn = self.in_passing()?;
        {
            let (mut gone, mut touched) = (txn.open_table(GONE)?, txn.open_table(TOUCHED)?);
            for key in keys {
                // One that is there may have come after its range was compared: it is touched until a range has it.
                if is_there(key) {
                    touched.insert(key.as_str(), ())?;
                    gone.remove(key.as_str())?;
                } else {
                    touched.remove(key.as_str())?;
                    gone.insert(key.as_str(), ())?;
                }
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// The pass has reached its end: its generation is the whole one. Answers the keys that are gone; `None`: there are
    /// more than `most`.
    pub fn finish(&mut self, rows_at: Option<DateTime<Utc>>, most: usize) -> Done<Option<Vec<Key>>> {
        let mut meta = self.meta.clone();
        meta.generation += 1;
        meta.rows_at = rows_at.or(meta.rows_at);
        let txn = self.db.begin_write()?;
        {
            let mut ranges = txn.open_table(RANGES)?;
            ranges.retain_in(..(meta.generation, 0), |_, _| false)?;
            let mut touched = txn.open_table(TOUCHED)?;
            if !touched.is_empty()? {
                for row in ranges.iter()? {
                    let range: Range = serde_json::from_slice(row?.1.value()).unwrap_or_default();
                    for key in range.keys {
                        touched.remove(key.as_str())?;
                    }
                }
            }
        }
        Self::save(&txn, &meta)?;
        txn.commit()?;
        self.meta = meta;
        let gone = self.db.begin_read()?.open_table(GONE)?;
        let mut keys = Vec::new();
        for row in gone.iter()? {
            if keys.len() == most {
                return Ok(None);
            }
            keys.push(Key::from(row?.0.value()));
        }
        Ok(Some(keys))
    }

    /// What is written like this is lost with a crash, unless the pass has ended before.
    fn in_passing(&self) -> Done<redb::WriteTransaction> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(redb::Durability::None)?;
        Ok(txn)
    }

    fn save(txn: &redb::WriteTransaction, meta: &Meta) -> Done<()> {
        let bytes = serde_json::to_vec(meta).unwrap_or_default();
        txn.open_table(META)?.insert("meta", bytes.as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn range(keys: &[&str]) -> Range {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Range { up_to: keys.last().map(|key| vec![key.clone()]), rows: keys.len() as u64, keys, ..Range::default() }
    }

    fn gone(ranges: &mut Ranges) -> Vec<Key> {
        ranges.finish(None, 9).unwrap().unwrap()
    }

    fn new() -> (tempfile::TempDir, Ranges) {
        let folder = tempfile::tempdir().unwrap();
        let mut ranges = Ranges::open(&Ranges::path(folder.path(), "rota.nurse")).unwrap();
        ranges.begin("one", "id name").unwrap();
        ranges.put(0, &range(&["a", "b"])).unwrap();
        ranges.put(1, &range(&["c", "d"])).unwrap();
        assert!(gone(&mut ranges).is_empty());
        (folder, ranges)
    }

    #[test]
    fn what_a_range_has_lost_is_gone_until_it_comes_back() {
        let (_folder, mut ranges) = new();
        ranges.put(0, &range(&["a"])).unwrap();
        ranges.put(1, &range(&["aa"])).unwrap();
        ranges.settle(0, 0..2).unwrap();
        ranges.put(2, &ranges.get(1).unwrap().unwrap()).unwrap();
        assert_eq!(gone(&mut ranges), [Key::from("b")]);
        assert_eq!(ranges.get(2).unwrap().unwrap().keys, ["c", "d"]);
        assert_eq!(ranges.get(3).unwrap(), None);
        ranges.judge(&["b".to_owned()], |key| key == "b").unwrap();
        assert!(gone(&mut ranges).is_empty());
    }

    #[test]
    fn of_more_keys_than_are_wanted_none_is_named() {
        let (_folder, mut ranges) = new();
        ranges.put(0, &range(&["a"])).unwrap();
        ranges.settle(0, 0..1).unwrap();
        ranges.settle(1, 0..1).unwrap();
        assert_eq!(ranges.finish(None, 2).unwrap(), None);
        assert_eq!(ranges.finish(None, 3).unwrap().unwrap(), ["b", "c", "d"].map(Key::from));
    }

    #[test]
    fn a_part_done_again_takes_the_place_of_what_was_noted_from_there_on() {
        let (_folder, mut ranges) = new();
        ranges.put(0, &range(&["a"])).unwrap();
        ranges.put(1, &range(&["b"])).unwrap();
        ranges.put(0, &range(&["a", "b"])).unwrap();
        ranges.settle(0, 0..1).unwrap();
        assert!(gone(&mut ranges).is_empty());
        assert_eq!((ranges.get(0).unwrap().unwrap().keys.len(), ranges.get(1).unwrap()), (2, None));
    }

    #[test]
    fn touched_keys_are_doubtful_until_a_range_has_them() {
        let (_folder, mut ranges) = new();
        ranges.touch([Key::from("x"), Key::from("y")].iter()).unwrap();
        assert_eq!(ranges.doubtful(None, 1).unwrap(), ["x"]);
        assert_eq!(ranges.doubtful(Some("x"), 9).unwrap(), ["y"]);
        ranges.judge(&["x".to_owned(), "y".to_owned()], |key| key == "x").unwrap();
        assert_eq!(gone(&mut ranges), [Key::from("y")]);
        assert_eq!(ranges.doubtful(None, 9).unwrap(), ["x", "y"], "x is there, but no range has it");
        ranges.put(0, &range(&["a", "x"])).unwrap();
        assert_eq!(ranges.doubtful(None, 9).unwrap(), ["x", "y"], "the pass may be broken off");
        gone(&mut ranges);
        assert_eq!(ranges.doubtful(None, 9).unwrap(), ["y"], "it is looked for each time");
    }

    #[test]
    fn a_file_goes_with_one_position_and_one_shape_and_a_damaged_one_with_none() {
        let (folder, ranges) = new();
        assert!(ranges.goes_with(Some("one"), "id name") && ranges.is(Some("one")));
        assert!(!ranges.goes_with(Some("one"), "id") && !ranges.goes_with(None, "id name"));
        drop(ranges);
        let path = Ranges::path(folder.path(), "rota.nurse");
        assert!(Ranges::open(&path).unwrap().is(Some("one")));
        std::fs::write(&path, b"garbage").unwrap();
        assert!(!Ranges::open(&path).unwrap().is(Some("one")));
    }
}
