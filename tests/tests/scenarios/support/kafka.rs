//! The same program with another configuration file: a real Kafka, a real registry, a real PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use services::{OwnKafka, TestDatabase};

use super::site::Parts;

/// Services that a scenario has to itself, as far as they can be told apart.
pub struct Cluster {
    /// Its own broker: topics have fixed names.
    pub kafka: OwnKafka,
    /// The registry's address.
    pub registry: String,
    /// Its own database.
    pub database: TestDatabase,
}

impl Cluster {
    /// Finds or starts them; `None` where one is missing.
    pub async fn find(name: &str) -> Result<Option<Self>> {
        let Some(kafka) = services::Kafka::own().await? else { return Ok(None) };
        let Some(registry) = services::registry().await? else { return Ok(None) };
        let Some(postgres) = services::postgres().await? else { return Ok(None) };
        let database = postgres.database(name).await?;
        Ok(Some(Self { kafka, registry: registry.url(), database }))
    }

    /// The configuration.
    pub fn parts(&self, ats: &str) -> Parts {
        Parts {
            ats: ats.to_owned(),
            log: log(&self.kafka),
            database: Some(self.database.url.clone()),
            more: registry(&self.registry),
        }
    }
}

/// A process that isn't heard of for six seconds, the least that brokers take, loses its partitions.
pub fn log(kafka: &OwnKafka) -> String {
    format!("[log.kafka]\nbootstrap = [\"{}\"]\nreplication = 1\nsession = \"6s\"", kafka.bootstrap())
}

/// The section of a registry.
pub fn registry(url: &str) -> String {
    format!("[registry]\nurl = \"{url}\"")
}

/// The latest value of every key of a topic, as any consumer reads them; deleted keys are gone.
pub fn latest(bootstrap: &str, topic: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "somebody-else")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    tokio::task::block_in_place(|| {
        let about = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let partitions = about.topics().first().context("no such topic")?.partitions();
        let mut all = TopicPartitionList::new();
        for partition in partitions {
            all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let mut held = BTreeMap::new();
        let mut at_end = 0;
        while at_end < partitions.len() {
            match consumer.poll(Duration::from_secs(20)).context("the topic has no end")? {
                Ok(message) => {
                    let key = message.key().context("a key")?.to_vec();
                    match message.payload() {
                        Some(value) => drop(held.insert(key, value.to_vec())),
                        None => drop(held.remove(&key)),
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => at_end += 1,
                Err(error) => bail!(error),
            }
        }
        Ok(held)
    })
}

/// How many members a group has, as the broker says; none while they are being told their partitions.
pub fn members(bootstrap: &str, group: &str) -> Result<usize> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let groups = tokio::task::block_in_place(|| consumer.fetch_group_list(Some(group), Duration::from_secs(10)))?;
    let group = groups.groups().first().context("no such group yet")?;
    Ok(if group.state() == "Stable" { group.members().len() } else { 0 })
}

/// As [`members`], as a condition.
pub fn has_members(bootstrap: &str, group: &str, wanted: usize) -> Result<()> {
    let there = members(bootstrap, group)?;
    ensure!(there == wanted, "{group} has {there} members");
    Ok(())
}
