//! What every log must do: both parts of the suite.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::log::kafka::{KafkaLog, KafkaOptions};
use pipeline::log::{Append, Headers, Log, NewTopic, TopicPartition};
use pipeline::testing::log_suite::Harness;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::setting::{SOON, options};

/// A log on a cluster.
pub struct OnKafka {
    bootstrap: String,
    log: Arc<KafkaLog>,
    replication: u16,
}

impl OnKafka {
    /// On this cluster, with so many copies of each topic.
    pub async fn connect(options: KafkaOptions, bootstrap: String, replication: u16) -> Self {
        let log = Arc::new(KafkaLog::connect(options).await.unwrap());
        Self { bootstrap, log, replication }
    }
}

async fn harness() -> Option<OnKafka> {
    let bootstrap = services::kafka().await.unwrap()?.bootstrap();
    Some(OnKafka::connect(options(&bootstrap), bootstrap, 1).await)
}

#[async_trait]
impl Harness for OnKafka {
    async fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    async fn recreate_topic(&self, topic: &str, partitions: u32) -> bool {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().unwrap();
        let wait = AdminOptions::new().operation_timeout(Some(SOON));
        admin.delete_topics(&[topic], &wait).await.unwrap();
        let again =
            NewTopic { name: topic.to_owned(), partitions, replication: self.replication, settings: BTreeMap::new() };
        // The name is free a moment after the answer.
        loop {
            self.log.create(std::slice::from_ref(&again)).await.unwrap();
            if self.log.ends(topic).await.is_ok_and(|ends| ends.iter().all(|ends| ends.end.0 == 0)) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The cleaner works on closed segments only: a record now and then closes the one before.
    async fn compact(&self, topic: &str) -> bool {
        let partitions = self.log.ends(topic).await.unwrap().len();
        let fillers = (0..u32::try_from(partitions).unwrap()).map(|partition| Append {
            at: TopicPartition::new(topic, partition),
            key: Bytes::from_static(b"filler"),
            value: Some(Bytes::from_static(b"-")),
            headers: Headers::default(),
        });
        self.log.append(fillers.collect()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        true
    }

    fn compacting(&self) -> BTreeMap<String, String> {
        let settings = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "1000"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "1500"),
            ("delete.retention.ms", "100"),
        ];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn replication(&self) -> u16 {
        self.replication
    }

    fn patience(&self) -> Duration {
        SOON
    }
}

mod core {
    use super::harness;

    pipeline::core_log_tests! {
        match harness().await {
            Some(harness) => std::future::ready(harness),
            None => return,
        }
    }
}

mod groups {
    use super::harness;

    pipeline::group_log_tests! {
        match harness().await {
            Some(harness) => std::future::ready(harness),
            None => return,
        }
    }
}
