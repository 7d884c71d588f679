//! The keys of a topic with their latest records, in a disposable ordered file: bounded RAM, however many there are.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;

use redb::backends::InMemoryBackend;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use schemas::{ContentHash, Topic};

use super::VerifyError;
use crate::change::{Version, header};
use crate::emitter::{hash_of, version_of};
use crate::log::{Log, Offset, Record, TopicPartition, scan};

const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// The last pass over a system that has met a key.
const SEEN: TableDefinition<&str, u64> = TableDefinition::new("seen");

/// Pages that are kept in RAM.
const CACHE_BYTES: usize = 32 << 20;

/// Records that are taken in at once.
const AT_ONCE: usize = 10_000;

/// The disposable file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the scratch file of {topic} can't be used: {source}")]
pub struct IndexError {
    topic: String,
    source: Box<redb::Error>,
}

/// The latest record of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub partition: u32,
    pub offset: Offset,
    pub version: Version,
    /// Of what its writer was told.
    pub stated: Option<ContentHash>,
    /// Of what it holds instead, since a person has repaired it.
    pub edited: Option<ContentHash>,
    /// Not a tombstone.
    pub live: bool,
}

/// What an entry takes.
const BYTES: usize = 55;

impl Entry {
    fn of(record: &Record) -> Self {
        Self {
            partition: record.at.partition,
            offset: record.offset,
            version: version_of(record).unwrap_or_default(),
            stated: hash_of(record),
            edited: record.headers.text(header::EDITED).and_then(|text| text.parse().ok()),
            live: record.value.is_some(),
        }
    }

    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&self.partition.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[20] = u8::from(self.live);
        for (place, hash) in [(21, self.stated), (38, self.edited)] {
            if let Some(hash) = hash {
                bytes[place] = 1;
                bytes[place + 1..place + 17].copy_from_slice(&hash.0);
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let hash = |place: usize| -> Option<ContentHash> {
            if bytes[place] == 1 { Some(ContentHash(bytes[place + 1..place + 17].try_into().ok()?)) } else { None }
        };
        Some(Self {
            partition: u32::from_le_bytes(bytes[..4].try_into().ok()?),
            offset: Offset(i64::from_le_bytes(bytes[4..12].try_into().ok()?)),
            version: Version(i64::from_le_bytes(bytes[12..20].try_into().ok()?)),
            live: bytes[20] == 1,
            stated: hash(21),
            edited: hash(38),
        })
    }
}

/// Some live keys in key order, and whether a pass has met them.
pub(crate) struct Keys {
    pub keys: Vec<(String, bool)>,
    /// Where to go on; `None`: that was all.
    pub last: Option<String>,
}

/// A topic's keys, up to the ends it had when they were read.
pub(crate) struct Index {
    topic: String,
    db: Database,
    next: Vec<(TopicPartition, Offset)>,
}

impl Index {
    /// An index of nothing yet.
    pub async fn open(log: &dyn Log, topic: &Topic, folder: Option<&Path>) -> Result<Self, VerifyError> {
        let bounds = log.ends(&topic.name).await?;
        let next = (0u32..).zip(bounds);
        let next = next.map(|(n, bounds)| (TopicPartition::new(topic.name.as_str(), n), bounds.start)).collect();
        let db = database(folder).map_err(|source| failed(&topic.name, source))?;
        Ok(Self { topic: topic.name.clone(), db, next })
    }

    /// Where each partition ends, as far as the index knows.
    pub fn ends(&self) -> &[(TopicPartition, Offset)] {
        &self.next
    }

    /// Takes in what has come since, to the topic's present ends.
    pub async fn catch_up(&mut self, log: &dyn Log, mut each: impl FnMut(usize) + Send) -> Result<(), VerifyError> {
        let mut waiting: BTreeMap<String, Entry> = BTreeMap::new();
        let mut wrong = Ok(());
        let (db, topic) = (&self.db, &self.topic);
        let ends = scan(log, &self.next, |record| {
            // What has no text key is nobody's entity.
            let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
            waiting.insert(key.to_owned(), Entry::of(&record));
            if waiting.len() >= AT_ONCE {
                each(waiting.len());
                if wrong.is_ok() {
                    wrong = write(db, &waiting);
                }
                waiting.clear();
            }
        })
        .await?;
        wrong.and_then(|()| write(db, &waiting)).map_err(|source| failed(topic, source))?;
        each(waiting.len());
        self.next = ends;
        Ok(())
    }

    /// Looks keys up, in their order.
    pub fn get<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Result<Vec<Option<Entry>>, VerifyError> {
        let read = || -> Result<Vec<Option<Entry>>, redb::Error> {
            let table = self.db.begin_read()?.open_table(KEYS)?;
            let mut found = Vec::new();
            for key in keys {
                found.push(table.get(key)?.and_then(|row| Entry::from_bytes(row.value())));
            }
            Ok(found)
        };
        Ok(read().map_err(|source| failed(&self.topic, source))?)
    }

    /// Notes that the pass `number` has met these keys.
    pub fn see<'k>(&self, keys: impl Iterator<Item = &'k str>, number: u64) -> Result<(), VerifyError> {
        let write = || -> Result<(), redb::Error> {
            let mut txn = self.db.begin_write()?;
            txn.set_durability(Durability::None)?;
            {
                let mut table = txn.open_table(SEEN)?;
                for key in keys {
                    table.insert(key, number)?;
                }
            }
            txn.commit()?;
            Ok(())
        };
        Ok(write().map_err(|source| failed(&self.topic, source))?)
    }

    /// Live keys behind `after`, of at most `limit` keys, and whether the pass `number` has met them.
    pub fn live_keys(&self, after: Option<&str>, limit: usize, number: u64) -> Result<Keys, VerifyError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let read = || -> Result<Keys, redb::Error> {
            let txn = self.db.begin_read()?;
            let (table, seen) = (txn.open_table(KEYS)?, txn.open_table(SEEN)?);
            let mut found = Keys { keys: Vec::new(), last: None };
            for row in table.range::<&str>((from, Unbounded))?.take(limit) {
                let (key, entry) = row?;
                found.last = Some(key.value().to_owned());
                if Entry::from_bytes(entry.value()).is_some_and(|entry| entry.live) {
                    let met = seen.get(key.value())?.is_some_and(|row| row.value() == number);
                    found.keys.push((key.value().to_owned(), met));
                }
            }
            Ok(found)
        };
        Ok(read().map_err(|source| failed(&self.topic, source))?)
    }
}

fn failed(topic: &str, source: redb::Error) -> IndexError {
    IndexError { topic: topic.to_owned(), source: Box::new(source) }
}

/// The file has no name any more when it is used: it goes with the process, however that ends.
fn database(folder: Option<&Path>) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let db = match folder {
        None => builder.create_with_backend(InMemoryBackend::new())?,
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            let path = folder.join(format!("verify-{}.redb", uuid::Uuid::new_v4()));
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            builder.create_file(file)?
        }
    };
    write(&db, &BTreeMap::new())?;
    Ok(db)
}

fn write(db: &Database, entries: &BTreeMap<String, Entry>) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    // Nobody opens it a second time.
    txn.set_durability(Durability::None)?;
    {
        txn.open_table(SEEN)?;
        let mut table = txn.open_table(KEYS)?;
        for (key, entry) in entries {
            table.insert(key.as_str(), entry.to_bytes().as_slice())?;
        }
    }
    txn.commit()?;
    Ok(())
}
