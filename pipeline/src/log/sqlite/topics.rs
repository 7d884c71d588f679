//! Topics and their ends, in memory. Changed by the [`super::writer`] only, after it has committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::super::{Append, Ends, LogError, Offset, TopicInfo, TopicPartition, settings};

#[derive(Default)]
pub(super) struct Topics {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
}

pub(super) struct Topic {
    /// New with each creation: tells a topic from an earlier one of its name.
    pub id: i64,
    pub name: Arc<str>,
    pub settings: BTreeMap<String, String>,
    limit: usize,
    ends: Vec<AtomicI64>,
}

impl Topic {
    pub fn new(id: i64, name: Arc<str>, settings: BTreeMap<String, String>, ends: Vec<i64>) -> Self {
        let limit = settings::max_message_bytes(&settings);
        Self { id, name, settings, limit, ends: ends.into_iter().map(AtomicI64::new).collect() }
    }

    pub fn partitions(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The end of a partition; `None`: there is no such partition.
    pub fn end(&self, partition: u32) -> Option<Offset> {
        self.ends.get(partition as usize).map(|end| Offset(end.load(Ordering::Acquire)))
    }

    /// The partition's end, after what was appended there is committed.
    pub fn set_end(&self, partition: u32, end: Offset) {
        if let Some(known) = self.ends.get(partition as usize) {
            known.store(end.0, Ordering::Release);
        }
    }

    pub fn ends(&self) -> Vec<Ends> {
        self.ends.iter().map(|end| ends(Offset(end.load(Ordering::Acquire)))).collect()
    }

    pub fn info(&self) -> TopicInfo {
        TopicInfo {
            name: self.name.to_string(),
            partitions: self.partitions(),
            replication: 1,
            settings: self.settings.clone(),
        }
    }
}

/// Nothing is ever deleted from a partition's beginning but what compaction takes.
pub(super) fn ends(end: Offset) -> Ends {
    Ends { start: Offset::START, end }
}

impl Topics {
    /// What the file holds.
    pub async fn load(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let mut topics = Self::default();
        let rows = sqlx::query("SELECT id, name, partitions, settings FROM topics WHERE name IS NOT NULL")
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            let (id, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            let partitions: u32 = row.try_get(2)?;
            let settings: String = row.try_get(3)?;
            let settings = serde_json::from_str(&settings).map_err(|err| sqlx::Error::Decode(err.into()))?;
            let mut ends = Vec::with_capacity(partitions as usize);
            for partition in 0..partitions {
                let last: Option<i64> =
                    sqlx::query_scalar("SELECT max(offset) FROM records WHERE topic = ?1 AND partition = ?2")
                        .bind(id)
                        .bind(partition)
                        .fetch_one(&mut *connection)
                        .await?;
                ends.push(last.map_or(0, |last| last + 1));
            }
            topics.insert(Topic::new(id, name.into(), settings, ends));
        }
        Ok(topics)
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).cloned()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    pub fn insert(&mut self, topic: Topic) {
        self.by_name.insert(topic.name.clone(), Arc::new(topic));
    }

    /// Whether the record, the `index`th of its call, could be appended; its size.
    pub fn check(&self, record: &Append, index: usize) -> Result<usize, LogError> {
        let topic = self.by_name.get(&record.at.topic).ok_or_else(|| unknown(&record.at, false))?;
        if record.at.partition >= topic.partitions() {
            return Err(unknown(&record.at, true));
        }
        let (bytes, limit) = (record.size(), topic.limit);
        if bytes > limit {
            return Err(LogError::TooLarge { at: record.at.clone(), bytes, limit, index });
        }
        Ok(bytes)
    }
}

/// Names the partition only where the topic itself is there.
pub(super) fn unknown(at: &TopicPartition, has_topic: bool) -> LogError {
    LogError::UnknownTopic { topic: if has_topic { at.to_string() } else { at.topic.to_string() } }
}
