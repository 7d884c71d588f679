//! Proxies between the processes and what they talk to. The last process goes without, so that one may be cut off while
//! another goes on; only the recruiting system is behind a proxy for all.

use anyhow::Result;
use services::{Proxy, Toxic, Toxiproxy};

use super::brokers::Cluster;
use super::plan::Way;

/// The ways that can be spoiled.
pub struct Network {
    /// Holds the proxies up.
    _toxiproxy: Toxiproxy,
    kafka: Vec<Proxy>,
    database: Proxy,
    system: Proxy,
}

impl Network {
    /// Stands between. `before_brokers` are the ports that the brokers send their clients to.
    pub async fn between(
        toxiproxy: Toxiproxy,
        before_brokers: &[u16],
        cluster: &Cluster,
        database: u16,
        system: u16,
    ) -> Result<Self> {
        let mut kafka = Vec::new();
        for (broker, listen) in before_brokers.iter().enumerate() {
            kafka.push(toxiproxy.proxy(&format!("kafka-{broker}"), *listen, cluster.behind_proxy(broker)?).await?);
        }
        let database = toxiproxy.proxy("database", services::free_port()?, database).await?;
        let system = toxiproxy.proxy("system", services::free_port()?, system).await?;
        Ok(Self { _toxiproxy: toxiproxy, kafka, database, system })
    }

    /// Bootstrap servers.
    pub fn bootstrap(&self) -> String {
        self.kafka.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port())).collect::<Vec<_>>().join(",")
    }

    /// The database's port.
    pub fn database(&self) -> u16 {
        self.database.port()
    }

    /// The recruiting system's port.
    pub fn system(&self) -> u16 {
        self.system.port()
    }

    /// Spoils a way.
    pub async fn poison(&self, way: Way, toxic: Toxic) -> Result<()> {
        for proxy in self.on(way) {
            proxy.poison(toxic).await?;
        }
        Ok(())
    }

    /// A way is as it should be again.
    pub async fn heal(&self, way: Way) -> Result<()> {
        for proxy in self.on(way) {
            proxy.heal().await?;
        }
        Ok(())
    }

    fn on(&self, way: Way) -> Vec<&Proxy> {
        match way {
            Way::Kafka => self.kafka.iter().collect(),
            Way::Database => vec![&self.database],
            Way::System => vec![&self.system],
        }
    }
}
