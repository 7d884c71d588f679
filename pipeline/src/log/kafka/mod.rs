//! The production log: Apache Kafka through librdkafka.
//!
//! Appends go through one idempotent producer (`producer`); readers and group members each have a consumer on a thread
//! of their own (`reader`, `member`), which alone touches it; everything else is a question to the cluster
//! (`cluster`), and a member's commits are made on one more thread, because they may wait long (`clerk`). Nothing here
//! retries: errors say what the caller's table of retries needs to know.
//!
//! What it can't know:
//! - **A topic that was recreated and already has as many records again.** Brokers give each life of a topic an id, but
//!   librdkafka's Rust binding shows it nowhere, so a new life is noticed by its offsets alone: a place beyond the end is
//!   [`LogError::OutOfRange`], a shorter partition a new incarnation ([`crate::state`]). When the new topic has grown past
//!   every place that is remembered of the old one, nothing shows. Whoever recreates a topic by hand therefore stops its
//!   readers first and starts them again before it fills.
//! - **Which partition of a commit failed.** One that fails for any of its partitions fails as a whole; others of it may
//!   have been committed.
//! - **Members of the same group that read other topics**, before the group is assigned: a member that finds different
//!   partition numbers in topics of one size says so instead of reading them.
//!
//! Dropping things never waits for a broker: threads end by themselves. What an append has answered `Ok` to is durable
//! whatever happens then; an append that is dropped before its answer may or may not have happened.

mod clerk;
mod cluster;
mod context;
mod errors;
mod member;
mod options;
mod outbox;
mod producer;
mod queues;
mod reader;
mod record;
mod subscription;
#[cfg(test)]
mod tests;
mod wake;

use std::sync::Arc;

use async_trait::async_trait;

use self::cluster::Cluster;
use self::errors::Health;
pub use self::options::{KafkaOptions, Limits, Mechanism, Password, Security, Tls};
use self::producer::Appender;
use super::{
    Append, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Subscription, TopicInfo, TopicPartition,
};

/// A Kafka cluster as a log. Clones share their connections.
#[derive(Clone)]
pub struct KafkaLog {
    inner: Arc<Inner>,
}

struct Inner {
    options: KafkaOptions,
    health: Arc<Health>,
    appender: Appender,
    cluster: Arc<Cluster>,
}

impl KafkaLog {
    /// Connects, and makes sure that a broker answers. Settings that can't be meant are [`LogError::Refused`], brokers
    /// that don't answer [`LogError::Unavailable`].
    pub async fn connect(options: KafkaOptions) -> Result<Self, LogError> {
        let health = Arc::new(Health::default());
        let appender = Appender::new(&options, &health)?;
        let cluster = Arc::new(Cluster::new(&options, &health)?);
        cluster.reach().await?;
        Ok(Self { inner: Arc::new(Inner { options, health, appender, cluster }) })
    }

    /// Groups whose names begin so and that have members, with how many, as the brokers know them.
    pub async fn members(&self, prefix: &str) -> Result<Vec<(String, usize)>, LogError> {
        self.inner.cluster.members(prefix).await
    }

    /// Deletes topics, with all they hold. Those that aren't there have been deleted before.
    pub async fn delete(&self, topics: &[&str]) -> Result<(), LogError> {
        self.inner.cluster.delete(topics).await
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        self.inner.cluster.create(topics).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.inner.cluster.topics().await
    }

    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        self.inner.appender.append(&self.inner.cluster, records).await
    }

    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        self.inner.cluster.ends(topic).await
    }

    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        // Those of one topic stand together as a rule: then it is asked about once.
        let mut asked: Option<(&Arc<str>, u32)> = None;
        for (at, _) in from {
            let partitions = match asked {
                Some((topic, partitions)) if *topic == at.topic => partitions,
                _ => self.inner.cluster.partitions(&at.topic).await?,
            };
            asked = Some((&at.topic, partitions));
            if at.partition >= partitions {
                return Err(LogError::UnknownTopic { topic: at.to_string() });
            }
        }
        let reader = reader::start(&self.inner.options, &self.inner.health, from)?;
        Ok(Box::new(reader))
    }

    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        let mut counted = Vec::with_capacity(topics.len());
        for topic in topics {
            counted.push((Arc::clone(topic), self.inner.cluster.partitions(topic).await?));
        }
        let subscription = subscription::start(&self.inner.options, &self.inner.health, group, counted)?;
        Ok(Box::new(subscription))
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.inner.cluster.committed(group, of).await
    }
}
