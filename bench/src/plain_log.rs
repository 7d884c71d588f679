//! A log that costs nothing: state topics in memory, records of other topics are counted and forgotten. What is measured
//! on it is what stands before the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline::log::{
    Append, Chunk, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Record, Subscription, TopicInfo,
    TopicPartition,
};
use schemas::{Catalogue, Profile, TopicKind};
use tokio::sync::watch;

/// See the file.
pub struct PlainLog {
    held: Arc<Mutex<Held>>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct Held {
    ends: BTreeMap<String, Vec<i64>>,
    /// Of state topics.
    records: Vec<Record>,
}

impl PlainLog {
    /// With the catalogue's topics, as the embedded log has them.
    pub fn new(catalogue: &Catalogue) -> Self {
        let topics = catalogue.topics().iter();
        let ends = topics.map(|topic| (topic.name.clone(), vec![0; topic.partitions(Profile::Embedded) as usize]));
        let held = Held { ends: ends.collect(), records: Vec::new() };
        Self { held: Arc::new(Mutex::new(held)), news: watch::Sender::new(()) }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(topic: &str) -> LogError {
    LogError::UnknownTopic { topic: topic.to_owned() }
}

fn not_here() -> LogError {
    LogError::Refused { reason: "this log has no groups".into(), hint: "it is for measuring alone".into() }
}

fn is_state(topic: &str) -> bool {
    schemas::catalogue().topic(topic).is_some_and(|topic| matches!(topic.kind, TopicKind::State))
}

#[async_trait]
impl Log for PlainLog {
    async fn create(&self, _topics: &[NewTopic]) -> Result<(), LogError> {
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(Vec::new())
    }

    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        let mut held = lock(&self.held);
        let mut offsets = Vec::with_capacity(records.len());
        for Append { at, key, value, headers } in records {
            let ends = held.ends.get_mut(&*at.topic).ok_or_else(|| unknown(&at.topic))?;
            let end = ends.get_mut(at.partition as usize).ok_or_else(|| unknown(&at.topic))?;
            let offset = Offset(*end);
            *end += 1;
            offsets.push(offset);
            if is_state(&at.topic) {
                let timestamp = DateTime::<Utc>::default();
                held.records.push(Record { at, offset, timestamp, key: Some(key), value, headers });
            }
        }
        drop(held);
        self.news.send_replace(());
        Ok(offsets)
    }

    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        let held = lock(&self.held);
        let ends = held.ends.get(topic).ok_or_else(|| unknown(topic))?;
        Ok(ends.iter().map(|end| Ends { start: Offset::START, end: Offset(*end) }).collect())
    }

    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        let mut news = self.news.subscribe();
        news.mark_changed();
        Ok(Box::new(PlainReader { held: Arc::clone(&self.held), news, from: from.to_vec() }))
    }

    async fn subscribe(&self, _group: &str, _topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        Err(not_here())
    }

    async fn committed(&self, _group: &str, _of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        Err(not_here())
    }
}

struct PlainReader {
    held: Arc<Mutex<Held>>,
    news: watch::Receiver<()>,
    from: Vec<(TopicPartition, Offset)>,
}

#[async_trait]
impl Reader for PlainReader {
    async fn next(&mut self) -> Result<Chunk, LogError> {
        if self.news.changed().await.is_err() {
            return Err(LogError::Unavailable { reason: "the log has gone".into() });
        }
        let held = lock(&self.held);
        let mut chunk = Chunk::default();
        for (at, next) in &mut self.from {
            let records = held.records.iter().filter(|record| record.at == *at && record.offset >= *next);
            chunk.records.extend(records.cloned());
            let end = held.ends.get(&*at.topic).and_then(|ends| ends.get(at.partition as usize));
            *next = Offset(end.copied().unwrap_or_default());
            chunk.at_end.push((at.clone(), *next));
        }
        Ok(chunk)
    }
}
