//! Topics of one's own on the shared broker, and waiting for what a log brings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use pipeline::log::kafka::{KafkaLog, KafkaOptions};
use pipeline::log::{Append, Headers, Log, NewTopic, Offset, Reader, Record, TopicPartition};

/// Longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

pub fn options(bootstrap: &str) -> KafkaOptions {
    let mut options = KafkaOptions::plaintext(bootstrap);
    // The least that brokers take.
    options.limits.session = Duration::from_secs(6);
    options.limits.patience = Duration::from_secs(60);
    options
}

/// A log on the shared broker; `None` where there is none.
pub async fn log() -> Result<Option<KafkaLog>> {
    let Some(kafka) = services::kafka().await? else { return Ok(None) };
    Ok(Some(KafkaLog::connect(options(&kafka.bootstrap())).await?))
}

/// A name that nobody else uses.
pub fn name(hint: &str) -> String {
    format!("kafka-log.{hint}-{:016x}", fastrand::u64(..))
}

pub async fn topic(log: &KafkaLog, hint: &str, partitions: u32) -> Result<Arc<str>> {
    topic_with(log, hint, partitions, &[]).await
}

pub async fn topic_with(log: &KafkaLog, hint: &str, partitions: u32, settings: &[(&str, &str)]) -> Result<Arc<str>> {
    let name = name(hint);
    create(log, &name, partitions, settings).await?;
    Ok(name.into())
}

pub async fn create(log: &KafkaLog, name: &str, partitions: u32, settings: &[(&str, &str)]) -> Result<()> {
    let mut all: BTreeMap<String, String> = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
    all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Ok(log.create(&[NewTopic { name: name.to_owned(), partitions, replication: 1, settings: all }]).await?)
}

pub fn at(topic: &Arc<str>, partition: u32) -> TopicPartition {
    TopicPartition::new(Arc::clone(topic), partition)
}

pub fn record(at: TopicPartition, key: &str, value: &str) -> Append {
    Append {
        at,
        key: Bytes::from(key.to_owned()),
        value: Some(Bytes::from(value.to_owned())),
        headers: Headers::default(),
    }
}

pub fn tombstone(at: TopicPartition, key: &str) -> Append {
    Append { at, key: Bytes::from(key.to_owned()), value: None, headers: Headers::default() }
}

pub fn text(record: &Record) -> &str {
    std::str::from_utf8(record.value.as_deref().unwrap_or(b"-")).unwrap_or("?")
}

/// Reads until `count` records have come.
pub async fn take(reader: &mut dyn Reader, count: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while records.len() < count {
        let chunk = tokio::time::timeout(SOON, reader.next()).await;
        let chunk = chunk.with_context(|| format!("{} of {count} records came", records.len()))??;
        records.extend(chunk.records);
    }
    Ok(records)
}

/// Reads until the end of `at` has been reported at `end` or behind.
pub async fn reach(reader: &mut dyn Reader, at: &TopicPartition, end: Offset) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    loop {
        let chunk = tokio::time::timeout(SOON, reader.next()).await.context("the end wasn't reported")??;
        records.extend(chunk.records);
        if chunk.at_end.iter().any(|(of, reached)| of == at && *reached >= end) {
            return Ok(records);
        }
    }
}

/// Tries until it is so.
pub async fn until<F: Future<Output = Result<bool>>>(what: &str, mut so: impl FnMut() -> F) -> Result<()> {
    let started = std::time::Instant::now();
    while started.elapsed() < SOON {
        if so().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{what}: not within {} s", SOON.as_secs())
}
