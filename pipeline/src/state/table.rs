//! One compacted state topic, followed whole: a map from key to JSON value that many processes share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::StateError;
use crate::log::{Append, Headers, Log, LogError, Offset, Reader, Record, TopicPartition};

/// How long a follower waits before it tries an unavailable log again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What a state topic holds of one key.
#[derive(Clone)]
struct Entry {
    value: Bytes,
    offset: Offset,
}

#[derive(Default)]
struct Held {
    entries: BTreeMap<String, Entry>,
    /// Per partition: everything below has been taken in.
    next: Vec<Offset>,
}

/// A state topic. Cheap to read: it lives in memory and a task of its own follows the log.
pub struct StateTable {
    log: Arc<dyn Log>,
    topic: Arc<str>,
    held: Arc<Mutex<Held>>,
    taken_in: watch::Sender<u64>,
    follower: JoinHandle<()>,
}

impl Drop for StateTable {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateTable {
    /// Reads the topic to its present end, then follows it.
    pub async fn open(log: Arc<dyn Log>, topic: &str) -> Result<Self, LogError> {
        let topic: Arc<str> = topic.into();
        let partitions = log.ends(&topic).await?.len();
        let held = Arc::new(Mutex::new(Held { entries: BTreeMap::new(), next: vec![Offset::START; partitions] }));
        let (taken_in, _) = watch::channel(0);
        let follower = tokio::spawn(follow(Arc::clone(&log), Arc::clone(&topic), Arc::clone(&held), taken_in.clone()));
        let table = Self { log, topic, held, taken_in, follower };
        table.settled().await?;
        Ok(table)
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        u32::try_from(lock(&self.held).next.len()).unwrap_or(u32::MAX)
    }

    /// What `key` holds, and the offset it was written at.
    pub fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<(V, Offset)>, StateError> {
        let Some(entry) = lock(&self.held).entries.get(key).cloned() else { return Ok(None) };
        Ok(Some((self.understand(key, &entry.value)?, entry.offset)))
    }

    /// The offset at which `key` was last written.
    pub fn written_at(&self, key: &str) -> Option<Offset> {
        lock(&self.held).entries.get(key).map(|entry| entry.offset)
    }

    /// All keys that begin with `prefix`, with what they hold.
    pub fn list<V: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, V)>, StateError> {
        let found: Vec<(String, Entry)> = lock(&self.held)
            .entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        let mut rows = Vec::with_capacity(found.len());
        for (key, entry) in found {
            let value = self.understand(&key, &entry.value)?;
            rows.push((key, value));
        }
        Ok(rows)
    }

    /// Writes `key`, durably, and answers with the offset. What was written is seen by [`Self::get`] afterwards.
    pub async fn put(&self, key: &str, value: &impl Serialize) -> Result<Offset, StateError> {
        let value = serde_json::to_vec(value).map_err(|error| self.not_understood(key, &error))?;
        self.append(key, Some(value.into())).await
    }

    /// Removes `key`, durably.
    pub async fn delete(&self, key: &str) -> Result<Offset, StateError> {
        self.append(key, None).await
    }

    async fn append(&self, key: &str, value: Option<Bytes>) -> Result<Offset, StateError> {
        let partition = schemas::partition_of(key.as_bytes(), self.partitions());
        let at = TopicPartition { topic: Arc::clone(&self.topic), partition };
        let record = Append { at, key: Bytes::copy_from_slice(key.as_bytes()), value, headers: Headers::default() };
        let offsets = self.log.append(vec![record]).await?;
        let Some(offset) = offsets.first().copied() else {
            return Err(LogError::Unavailable { reason: "an append was acknowledged without an offset".into() }.into());
        };
        self.taken_in_to(partition, offset.next()).await?;
        Ok(offset)
    }

    /// Waits until everything that is in the topic now has been taken in.
    pub async fn settled(&self) -> Result<(), LogError> {
        let ends = self.log.ends(&self.topic).await?;
        for (partition, bounds) in ends.iter().enumerate() {
            self.taken_in_to(u32::try_from(partition).unwrap_or(u32::MAX), bounds.end).await?;
        }
        Ok(())
    }

    async fn taken_in_to(&self, partition: u32, end: Offset) -> Result<(), LogError> {
        let mut changed = self.taken_in.subscribe();
        loop {
            changed.borrow_and_update();
            let next = lock(&self.held).next.get(partition as usize).copied();
            let Some(next) = next else {
                return Err(LogError::UnknownTopic { topic: format!("{}|{partition}", self.topic) });
            };
            if next >= end {
                return Ok(());
            }
            if changed.changed().await.is_err() {
                return Err(LogError::Unavailable { reason: format!("{} is no longer followed", self.topic) });
            }
        }
    }

    /// Changes whenever something has been taken in.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.taken_in.subscribe()
    }

    fn understand<V: DeserializeOwned>(&self, key: &str, value: &[u8]) -> Result<V, StateError> {
        serde_json::from_slice(value).map_err(|error| self.not_understood(key, &error))
    }

    fn not_understood(&self, key: &str, error: &serde_json::Error) -> StateError {
        StateError::NotUnderstood { topic: self.topic.to_string(), key: key.to_owned(), reason: error.to_string() }
    }
}

/// Follows the topic for ever. A topic that was recreated or truncated is read again from its start.
async fn follow(log: Arc<dyn Log>, topic: Arc<str>, held: Arc<Mutex<Held>>, taken_in: watch::Sender<u64>) {
    loop {
        let error = match reader(log.as_ref(), &topic, &held).await {
            Ok(reader) => take_in(reader, &held, &taken_in).await,
            Err(error) => error,
        };
        match error {
            LogError::OutOfRange { .. } => {
                tracing::warn!(topic = %topic, "state topic was recreated or truncated, reading it again");
                let mut held = lock(&held);
                held.entries.clear();
                held.next.iter_mut().for_each(|next| *next = Offset::START);
            }
            error => {
                tracing::warn!(topic = %topic, error = %error, "state topic can't be followed, trying again");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}

async fn reader(log: &dyn Log, topic: &Arc<str>, held: &Mutex<Held>) -> Result<Box<dyn Reader>, LogError> {
    let from: Vec<(TopicPartition, Offset)> = lock(held)
        .next
        .iter()
        .zip(0u32..)
        .map(|(next, partition)| (TopicPartition { topic: Arc::clone(topic), partition }, *next))
        .collect();
    log.read(&from).await
}

async fn take_in(mut reader: Box<dyn Reader>, held: &Mutex<Held>, taken_in: &watch::Sender<u64>) -> LogError {
    loop {
        let chunk = match reader.next().await {
            Ok(chunk) => chunk,
            Err(error) => return error,
        };
        {
            let mut held = lock(held);
            for record in chunk.records {
                let (partition, next) = (record.at.partition as usize, record.offset.next());
                enter(&mut held.entries, record);
                if let Some(place) = held.next.get_mut(partition) {
                    *place = (*place).max(next);
                }
            }
            for (at, end) in chunk.at_end {
                if let Some(place) = held.next.get_mut(at.partition as usize) {
                    *place = (*place).max(end);
                }
            }
        }
        taken_in.send_modify(|count| *count += 1);
    }
}

fn enter(entries: &mut BTreeMap<String, Entry>, record: Record) {
    let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else {
        // Ours always have a text key: somebody else's record can't be a state.
        tracing::warn!(topic = %record.at.topic, offset = %record.offset, "state topic holds a record without a text key");
        return;
    };
    match record.value {
        Some(value) => {
            entries.insert(key.to_owned(), Entry { value, offset: record.offset });
        }
        None => {
            entries.remove(key);
        }
    }
}
