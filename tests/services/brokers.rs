//! Three Kafka brokers on one machine, which a test has to itself: leaders change, one may be lost.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::instance::{Launch, Private};
use crate::kafka::{self, Jars, Listeners};
use crate::{missing, ports};

/// A cluster of three, each broker with its own data. Ends within seconds of being dropped.
pub struct Brokers {
    servers: [Private<Member>; 3],
}

impl Brokers {
    /// Starts three brokers from packages; `None` where they can't be had.
    pub async fn own() -> Result<Option<Self>> {
        Self::start([None; 3]).await
    }

    /// As [`Brokers::own`], each with a second listener that sends clients to one of these proxies' ports, where somebody
    /// must forward to [`Brokers::behind_proxy`].
    pub async fn own_behind(proxies: [u16; 3]) -> Result<Option<Self>> {
        Self::start(proxies.map(Some)).await
    }

    async fn start(proxies: [Option<u16>; 3]) -> Result<Option<Self>> {
        let jars = match Jars::fetch().await {
            Ok(jars) => jars,
            Err(missing) => return missing::without("Kafka of three brokers", &missing, None),
        };
        let each = if proxies[0].is_some() { 3 } else { 2 };
        let all = ports::free(3 * each)?;
        let voters: Vec<String> = (0..3).map(|n| format!("{}@127.0.0.1:{}", n + 1, all[n * each + 1])).collect();
        let member = |n: usize| {
            let ports = all[n * each..(n + 1) * each].to_vec();
            Member { jars: jars.clone(), number: n, ports, proxy: proxies[n], voters: voters.join(",") }
        };
        // None of them is ready before two are there.
        let starting =
            tokio::try_join!(Private::start(member(0)), Private::start(member(1)), Private::start(member(2)),);
        let (one, two, three) = starting?;
        Ok(Some(Self { servers: [one, two, three] }))
    }

    /// Bootstrap servers: all three.
    pub fn bootstrap(&self) -> String {
        self.servers.each_ref().map(|server| format!("127.0.0.1:{}", server.port())).join(",")
    }

    /// The port of a broker's listener that a proxy forwards to.
    pub fn behind_proxy(&self, broker: usize) -> Result<u16> {
        self.servers[broker].ports().get(2).copied().context("this broker has no listener behind a proxy")
    }

    /// Which broker has this id in the cluster's metadata.
    pub fn with_id(&self, id: i32) -> Option<usize> {
        usize::try_from(id - 1).ok().filter(|broker| *broker < self.servers.len())
    }

    /// What a broker has printed.
    pub fn log(&self, broker: usize) -> PathBuf {
        self.servers[broker].log()
    }

    /// Kills a broker outright.
    pub async fn kill(&self, broker: usize) -> Result<()> {
        self.servers[broker].signal("KILL").await
    }

    /// Starts a killed broker again, with the same ports and data.
    pub async fn restart(&self, broker: usize) -> Result<()> {
        self.servers[broker].restart().await
    }
}

/// What differs from a lone broker's settings; a later line goes before an earlier one.
const SETTINGS: &[(&str, &str)] = &[
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("share.coordinator.state.topic.replication.factor", "3"),
    ("share.coordinator.state.topic.min.isr", "2"),
    // A lost broker's partitions move within seconds.
    ("broker.session.timeout.ms", "3000"),
    ("replica.lag.time.max.ms", "5000"),
    ("controller.quorum.election.timeout.ms", "500"),
    ("controller.quorum.fetch.timeout.ms", "1000"),
];

/// One of the three.
#[derive(Debug)]
struct Member {
    jars: Jars,
    number: usize,
    /// Chosen for all three together: each must know the others' controllers.
    ports: Vec<u16>,
    proxy: Option<u16>,
    voters: String,
}

impl Launch for Member {
    fn name(&self) -> &'static str {
        "kafka-4.3.1-of-three"
    }

    fn signal(&self) -> &'static str {
        "KILL"
    }

    fn ports(&self) -> usize {
        self.ports.len()
    }

    fn choose_ports(&self) -> Result<Vec<u16>> {
        Ok(self.ports.clone())
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let listeners = Listeners::new(ports, self.proxy)?;
        let id = (self.number + 1).to_string();
        let settings = kafka::SETTINGS.iter().chain(SETTINGS).copied().chain([("node.id", id.as_str())]);
        let quorum = format!("controller.quorum.voters={}", self.voters);
        self.jars.broker(folder, listeners, settings, &quorum, &[]).await
    }

    async fn answers(&self, folder: &Path, port: u16) -> Result<()> {
        kafka::answers(folder, port).await
    }
}
