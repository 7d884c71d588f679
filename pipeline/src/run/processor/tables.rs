//! Reference tables: small topics read whole, loaded before the first input and followed.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemas::Key;
use xxhash_rust::xxh3::Xxh3;

use super::AnyProcessor;
use crate::change::header;
use crate::emitter::version_of;
use crate::log::Record;
use crate::processor::{Payload, Row};
use crate::reject::{Reason, Reject};
use crate::run::{RunError, Runtime};
use crate::state::{Followed, StateError};

/// A table that changes is taken over when it has been quiet for this long: a master comes in pages.
const QUIET: Duration = Duration::from_millis(300);

/// Pauses before a table that keeps changing is taken over: three seconds of the ten in which a partition must be given up.
const MOST_WAITS: u32 = 10;

/// The tables of one processor.
pub(super) struct ReferenceTables {
    followed: BTreeMap<&'static str, Followed>,
    arranged: Arc<dyn Any + Send + Sync>,
    contents: BTreeMap<String, String>,
}

impl ReferenceTables {
    /// Reads all tables to their present ends.
    pub async fn open(runtime: &Runtime, processor: &dyn AnyProcessor) -> Result<Self, RunError> {
        let mut followed = BTreeMap::new();
        for &name in processor.tables() {
            followed.insert(name, Followed::open(Arc::clone(&runtime.log), name).await?);
        }
        let contents = contents(&followed);
        let mut tables = Self { followed, arranged: Arc::new(()), contents };
        tables.arrange(runtime, processor).await?;
        Ok(tables)
    }

    /// As [`AnyProcessor::derive`] wants them.
    pub fn arranged(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.arranged)
    }

    /// What the tables held when they were arranged, as a mark keeps it.
    pub fn contents(&self) -> BTreeMap<String, String> {
        self.contents.clone()
    }

    /// Waits until all that the topics hold now has been taken in.
    pub async fn settled(&self) -> Result<(), RunError> {
        for table in self.followed.values() {
            table.settled().await?;
        }
        Ok(())
    }

    /// Whether what has been taken in isn't what was arranged.
    pub fn behind(&self) -> bool {
        !self.followed.is_empty() && contents(&self.followed) != self.contents
    }

    /// Arranges the tables again when their contents have changed. `true`: they have.
    pub async fn changed(&mut self, runtime: &Runtime, processor: &dyn AnyProcessor) -> Result<bool, RunError> {
        if !self.behind() {
            return Ok(false);
        }
        // One that never rests is taken over all the same, and again: the group mustn't wait for us.
        for _ in 0..MOST_WAITS {
            let before = contents(&self.followed);
            runtime.clock.sleep(QUIET).await;
            if contents(&self.followed) == before {
                break;
            }
        }
        self.contents = contents(&self.followed);
        self.arrange(runtime, processor).await?;
        Ok(true)
    }

    async fn arrange(&mut self, runtime: &Runtime, processor: &dyn AnyProcessor) -> Result<(), RunError> {
        let (mut rows, mut records, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        let letter = |record: &Record, mut reject: Reject| {
            let (place, version) = ((record.at.partition, record.offset), version_of(record).unwrap_or_default());
            // As the topic has it, frame and all.
            reject.raw = record.value.clone().unwrap_or_default();
            runtime.letters.of_record(processor.name(), &record.at.topic, Some(place), &reject, version)
        };
        for table in self.followed.values() {
            for (_, record) in table.list("") {
                match row(runtime, &record).await? {
                    Ok((_, Some(row))) => {
                        rows.push(row);
                        records.push(record);
                    }
                    Ok((_, None)) => {}
                    Err(reject) => letters.push(letter(&record, reject)),
                }
            }
        }
        let mut unusable = Vec::new();
        self.arranged = processor.arrange(&rows, &mut unusable);
        for reject in unusable {
            // Two tables may hold the same key, but hardly with the same contents.
            let same_key = |row: &Row| reject.key.as_ref() == Some(&row.key);
            let exact = rows.iter().position(|row| same_key(row) && row.payload.body == reject.raw);
            let Some(found) = exact.or_else(|| rows.iter().position(same_key)) else {
                let reason = format!("a row was rejected that is in no table: {}", reject.reason);
                return Err(super::refused(processor, reason));
            };
            letters.push(letter(&records[found], reject));
        }
        runtime.letters.write(&letters).await?;
        for &name in self.followed.keys() {
            let in_table = records.iter().filter(|record| *record.at.topic == *name);
            let keys = in_table.filter_map(|r| Some((std::str::from_utf8(r.key.as_deref()?).ok()?, version_of(r)?)));
            runtime.letters.delivered(processor.name(), name, &keys.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }
}

/// A table's contents, told apart by their hashes.
fn contents(followed: &BTreeMap<&'static str, Followed>) -> BTreeMap<String, String> {
    let hash = |table: &Followed| {
        let mut hasher = Xxh3::new();
        for (key, record) in table.list("") {
            hasher.update(key.as_bytes());
            hasher.update(record.headers.get(header::EDITED).or(record.headers.get(header::HASH)).unwrap_or_default());
        }
        format!("{:032x}", hasher.digest128())
    };
    followed.iter().map(|(name, table)| ((*name).to_owned(), hash(table))).collect()
}

/// A record's key and row; no row is a tombstone. `Err`: it can't be used.
pub(super) async fn row(runtime: &Runtime, record: &Record) -> Result<Result<(Key, Option<Row>), Reject>, RunError> {
    let Some(key) = record.key.as_deref().and_then(|key| Key::from_bytes(key).ok()) else {
        return Ok(Err(no_key(record.value.clone().unwrap_or_default())));
    };
    let Some(value) = &record.value else { return Ok(Ok((key, None))) };
    let payload = match payload(runtime, &key, value).await? {
        Ok(payload) => payload,
        Err(reject) => return Ok(Err(reject)),
    };
    let time = record.headers.text(header::CE_TIME).and_then(|text| text.parse().ok());
    let row = Row { topic: Arc::clone(&record.at.topic), key: key.clone(), payload, time };
    Ok(Ok((key, Some(row))))
}

/// A value with the schema that it was written with. `Err`: it can't be used.
pub(super) async fn payload(runtime: &Runtime, key: &Key, value: &Bytes) -> Result<Result<Payload, Reject>, RunError> {
    let reject = |code, text: String| Ok(Err(Reject::new(Some(key.clone()), Reason::new(code, text), value.clone())));
    let (id, body) = match schemas::unframe(value) {
        Ok(parts) => parts,
        Err(malformed) => return reject("malformed", malformed.to_string()),
    };
    let schema = match runtime.state.schemas.schema(id).await {
        Ok(schema) => schema,
        Err(error @ StateError::UnknownSchema { .. }) => return reject("unknown_schema", error.to_string()),
        Err(error) => return Err(error.into()),
    };
    Ok(Ok(Payload { schema, body: value.slice_ref(body) }))
}

/// A record that is nobody's.
pub(super) fn no_key(raw: Bytes) -> Reject {
    Reject::new(None, Reason::new("no_key", "the record has no text key"), raw)
}
