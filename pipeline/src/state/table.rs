//! One state topic: a map from key to JSON value that many processes share. The last writer of a key wins.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StateError;
use super::followed::{EXPECTS, Followed};
use crate::bell::Listener;
use crate::log::{Append, Headers, Log, LogError, Offset, Record, TopicPartition};

/// A state topic.
pub struct StateTable {
    followed: Followed,
}

impl StateTable {
    /// Reads the topic to its present end, then follows it.
    pub async fn open(log: Arc<dyn Log>, topic: &str) -> Result<Self, LogError> {
        Ok(Self { followed: Followed::open(log, topic).await? })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.followed.topic()
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        self.followed.partitions()
    }

    /// What `key` holds, and the offset it was written at.
    pub fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<(V, Offset)>, StateError> {
        let Some(record) = self.followed.get(key) else { return Ok(None) };
        Ok(Some((self.understand(key, &record)?, record.offset)))
    }

    /// The offset at which `key` was last written.
    pub fn written_at(&self, key: &str) -> Option<Offset> {
        self.followed.get(key).map(|record| record.offset)
    }

    /// All keys that begin with `prefix`, with what they hold.
    pub fn list<V: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, V)>, StateError> {
        let mut rows = Vec::new();
        for (key, record) in self.followed.list(prefix) {
            let value = self.understand(&key, &record)?;
            rows.push((key, value));
        }
        Ok(rows)
    }

    /// Writes `key`, durably, and answers with the offset. What was written is seen by [`Self::get`] afterwards.
    pub async fn put(&self, key: &str, value: &impl Serialize) -> Result<Offset, StateError> {
        let value = serde_json::to_vec(value).map_err(|error| self.not_understood(key, &error))?;
        self.append(key, Some(value.into())).await
    }

    /// Writes each key whose present record still stands where it was seen (`None`: it wasn't there), durably and with one
    /// append. Where somebody was faster, their value stays.
    pub async fn put_unless_changed<V: Serialize>(
        &self,
        entries: &[(String, V, Option<Offset>)],
    ) -> Result<(), StateError> {
        let mut appends = Vec::with_capacity(entries.len());
        for (key, value, seen) in entries {
            let value = serde_json::to_vec(value).map_err(|error| self.not_understood(key, &error))?;
            appends.push(self.conditional(key, value.into(), *seen));
        }
        while !appends.is_empty() {
            let places: Vec<(Bytes, u32)> = appends.iter().map(|a| (a.key.clone(), a.at.partition)).collect();
            let offsets = self.followed.log().append(std::mem::take(&mut appends)).await?;
            for ((key, partition), offset) in places.into_iter().zip(offsets) {
                self.followed.taken_in_to(partition, offset.next()).await?;
                let Some(present) = std::str::from_utf8(&key).ok().and_then(|key| self.followed.get(key)) else {
                    continue;
                };
                if present.offset < offset {
                    // Ours doesn't count, but compaction would keep it: theirs is written again, above it.
                    let key = std::str::from_utf8(&key).unwrap_or_default();
                    appends.push(self.conditional(key, present.value.unwrap_or_default(), Some(present.offset)));
                }
            }
        }
        Ok(())
    }

    fn conditional(&self, key: &str, value: Bytes, seen: Option<Offset>) -> Append {
        let mut record = self.record(key, Some(value));
        record.headers.push(EXPECTS, seen.map_or(-1, |offset| offset.0).to_string());
        record
    }

    /// Removes `key`, durably.
    pub async fn delete(&self, key: &str) -> Result<Offset, StateError> {
        self.append(key, None).await
    }

    async fn append(&self, key: &str, value: Option<Bytes>) -> Result<Offset, StateError> {
        let record = self.record(key, value);
        let partition = record.at.partition;
        let offsets = self.followed.log().append(vec![record]).await?;
        let Some(offset) = offsets.first().copied() else {
            return Err(LogError::Unavailable { reason: "an append was acknowledged without an offset".into() }.into());
        };
        self.followed.taken_in_to(partition, offset.next()).await?;
        Ok(offset)
    }

    fn record(&self, key: &str, value: Option<Bytes>) -> Append {
        let partition = schemas::partition_of(key.as_bytes(), self.partitions());
        let at = TopicPartition { topic: Arc::clone(self.followed.topic()), partition };
        Append { at, key: Bytes::copy_from_slice(key.as_bytes()), value, headers: Headers::default() }
    }

    /// Waits until everything that is in the topic now has been taken in.
    pub async fn settled(&self) -> Result<(), LogError> {
        self.followed.settled().await
    }

    /// Changes whenever something has been taken in.
    pub fn changes(&self) -> Listener {
        self.followed.changes()
    }

    fn understand<V: DeserializeOwned>(&self, key: &str, record: &Record) -> Result<V, StateError> {
        let value = record.value.as_deref().unwrap_or_default();
        serde_json::from_slice(value).map_err(|error| self.not_understood(key, &error))
    }

    fn not_understood(&self, key: &str, error: &serde_json::Error) -> StateError {
        StateError::NotUnderstood { topic: self.topic().to_owned(), key: key.to_owned(), reason: error.to_string() }
    }
}
