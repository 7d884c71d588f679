//! One broker or three, alike for who kills them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use services::{Brokers, Kafka, OwnKafka};

/// The cluster.
pub enum Cluster {
    /// A broker.
    One(OwnKafka),
    /// Three, any of which may be missing.
    Three(Box<Brokers>),
}

impl Cluster {
    /// Starts so many brokers; `proxies` are the ports that stand before them. `None` where they can't be had.
    pub async fn own(brokers: usize, proxies: Option<&[u16]>) -> Result<Option<Self>> {
        Ok(match (brokers, proxies) {
            (1, None) => Kafka::own().await?.map(Self::One),
            (1, Some(&[proxy])) => Kafka::own_behind(proxy).await?.map(Self::One),
            (3, None) => Brokers::own().await?.map(|brokers| Self::Three(Box::new(brokers))),
            (3, Some(&[one, two, three])) => {
                let brokers = Brokers::own_behind([one, two, three]).await?;
                brokers.map(|brokers| Self::Three(Box::new(brokers)))
            }
            _ => bail!("a cluster has one broker or three, each with a proxy or none"),
        })
    }

    /// Bootstrap servers without proxies.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::One(kafka) => kafka.bootstrap(),
            Self::Three(brokers) => brokers.bootstrap(),
        }
    }

    /// How many brokers.
    pub fn size(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Three(_) => 3,
        }
    }

    /// The port that a broker's proxy forwards to.
    pub fn behind_proxy(&self, broker: usize) -> Result<u16> {
        match self {
            Self::One(kafka) => kafka.behind_proxy(),
            Self::Three(brokers) => brokers.behind_proxy(broker),
        }
    }

    /// SIGKILL.
    pub async fn kill(&self, broker: usize) -> Result<()> {
        match self {
            Self::One(kafka) => kafka.kill().await,
            Self::Three(brokers) => brokers.kill(broker).await,
        }
    }

    /// Starts a killed broker again.
    pub async fn restart(&self, broker: usize) -> Result<()> {
        match self {
            Self::One(kafka) => kafka.restart().await,
            Self::Three(brokers) => brokers.restart(broker).await,
        }
    }

    /// What the brokers have printed since they were started last.
    pub fn logs(&self) -> Vec<PathBuf> {
        match self {
            Self::One(kafka) => vec![kafka.log()],
            Self::Three(brokers) => (0..3).map(|broker| brokers.log(broker)).collect(),
        }
    }

    /// The broker that leads a partition now; an error while nobody does.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<usize> {
        let Self::Three(brokers) = self else { return Ok(0) };
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.bootstrap()).create()?;
        let about = tokio::task::block_in_place(|| client.fetch_metadata(Some(topic), Duration::from_secs(10)))?;
        let partitions = about.topics().first().context("the cluster doesn't know the topic")?.partitions();
        let place = partitions.iter().find(|one| one.id() == partition).context("no such partition")?;
        brokers.with_id(place.leader()).with_context(|| format!("nobody leads partition {partition} of {topic}"))
    }
}
