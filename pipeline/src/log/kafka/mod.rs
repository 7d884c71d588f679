//! The production log: Apache Kafka through librdkafka.
//!
//! Appends go through one idempotent producer (`producer`); readers and group members each have a consumer on a thread
//! of their own (`reader`, `member`), which alone touches it; everything else is a question to the cluster
//! (`cluster`). Nothing here retries: errors say what the caller's table of retries needs to know.

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
        let mut partitions = 0;
        for topic in topics {
            partitions += self.inner.cluster.partitions(topic).await?;
        }
        let subscription =
            subscription::start(&self.inner.options, &self.inner.health, group, topics, partitions as usize)?;
        Ok(Box::new(subscription))
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.inner.cluster.committed(group, of).await
    }
}
