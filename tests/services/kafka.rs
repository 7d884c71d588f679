//! Apache Kafka: one broker in KRaft mode. Three of them are in [`crate::brokers`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testcontainers::{ContainerRequest, ImageExt};
use testcontainers_modules::kafka::apache;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::container::{Container, Probe};
use crate::engine::Engine;
use crate::find::{self, Found};
use crate::given::Variable;
use crate::instance::{Launch, Private};
use crate::maven::Maven;
use crate::missing::{self, Missing};
use crate::{cache, ports, program};

const POM: &str = include_str!("kafka-pom.xml");

/// A cluster id is 16 bytes in URL-safe base64, and mustn't begin with a hyphen.
const CLUSTER: &str = "bXVzdGVyLXRlc3RzLTAwMQ";

/// A real Kafka that all tests share: name topics and groups so that nobody else uses them.
#[derive(Clone, Debug)]
pub struct Kafka {
    found: Arc<Found>,
}

/// The Kafka for tests, found or started as the [crate] says.
pub async fn kafka() -> Result<Option<Kafka>> {
    static ONCE: OnceCell<Result<Option<Kafka>, String>> = OnceCell::const_new();
    find::once(&ONCE, async {
        let packages = async { Jars::fetch().await.map(|jars| Alone { jars, proxy: None }) };
        let found = find::find("Kafka", Variable::Kafka, container, packages).await?;
        Ok(found.map(|found| Kafka { found: Arc::new(found) }))
    })
    .await
}

impl Kafka {
    /// Bootstrap servers, `host:port`.
    pub fn bootstrap(&self) -> String {
        match &*self.found {
            Found::Given(servers) => servers.clone(),
            Found::Started(lease) => format!("127.0.0.1:{}", lease.port),
        }
    }

    /// A broker for one test alone, to be stopped and started at will. Always started from packages, also where the
    /// shared one is given: somebody else's broker isn't ours to kill.
    pub async fn own() -> Result<Option<OwnKafka>> {
        Self::own_before(None).await
    }

    /// As [`Kafka::own`], with a second listener: who comes there is sent on to `127.0.0.1:proxy`, where somebody must
    /// forward to [`OwnKafka::behind_proxy`]. Brokers tell clients where to connect, so a proxy needs this.
    pub async fn own_behind(proxy: u16) -> Result<Option<OwnKafka>> {
        Self::own_before(Some(proxy)).await
    }

    async fn own_before(proxy: Option<u16>) -> Result<Option<OwnKafka>> {
        match Jars::fetch().await {
            Ok(jars) => Ok(Some(OwnKafka { server: Private::start(Alone { jars, proxy }).await? })),
            Err(missing) => missing::without("Kafka that may be restarted", &missing, None),
        }
    }

    /// As [`Kafka::own`], for measuring: with the compiler that a broker has in production, which takes longer to start.
    pub async fn measured() -> Result<Option<OwnKafka>> {
        match Jars::fetch().await {
            Ok(jars) => {
                let jars = Jars { quick_start: false, ..jars };
                Ok(Some(OwnKafka { server: Private::start(Alone { jars, proxy: None }).await? }))
            }
            Err(missing) => missing::without("Kafka to measure with", &missing, None),
        }
    }
}

/// A broker of one test alone. Ends within seconds of being dropped.
pub struct OwnKafka {
    server: Private<Alone>,
}

impl OwnKafka {
    /// Bootstrap servers; the same after a restart.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// The port of the listener that a proxy forwards to.
    pub fn behind_proxy(&self) -> Result<u16> {
        self.server.ports().get(2).copied().context("this broker has no listener behind a proxy")
    }

    /// What the broker has printed.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }

    /// Stops the broker in good order (about 3 s).
    pub async fn stop(&self) -> Result<()> {
        self.server.signal("TERM").await
    }

    /// Kills the broker outright.
    pub async fn kill(&self) -> Result<()> {
        self.server.signal("KILL").await
    }

    /// Starts the stopped or killed broker again, with the same port and data.
    pub async fn restart(&self) -> Result<()> {
        self.server.restart().await
    }
}

/// The settings that the container's module has its own of.
const ROLES: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT"),
];

/// A lone broker's settings but for its roles and addresses.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("auto.create.topics.enable", "false"),
    ("num.network.threads", "2"),
    ("num.io.threads", "2"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // Tests that kill processes wait until these are missed.
    ("group.min.session.timeout.ms", "1000"),
    // A killed broker comes back only when its old session has run out (9 s by default).
    ("broker.session.timeout.ms", "4000"),
    ("broker.heartbeat.interval.ms", "500"),
    // Tests of compaction wait for it.
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    ("log.cleaner.threads", "1"),
    ("log.cleaner.backoff.ms", "500"),
];

/// The broker as a folder of jars.
#[derive(Clone, Debug)]
pub(crate) struct Jars {
    java: PathBuf,
    folder: PathBuf,
    /// Compiles less well, sooner.
    quick_start: bool,
}

impl Jars {
    pub(crate) async fn fetch() -> Result<Self, Missing> {
        let maven = Maven::find()?;
        let fill = |staging: PathBuf| {
            let maven = maven.clone();
            async move {
                let pom = staging.join("pom.xml");
                std::fs::write(&pom, POM).context("writing Kafka's POM")?;
                maven.copy_dependencies(&pom, &staging).await
            }
        };
        match cache::filled("kafka-4.3.1", fill).await {
            Ok(folder) => Ok(Self { java: maven.java, folder, quick_start: true }),
            Err(err) => Err(Missing(format!("fetching it failed: {err:#}"))),
        }
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.folder.display())
    }
}

/// Where one broker listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listeners {
    pub(crate) port: u16,
    pub(crate) controller: u16,
    /// The port behind a proxy, and the proxy's.
    pub(crate) proxied: Option<(u16, u16)>,
}

impl Listeners {
    /// The ports in the order of [`Launch::ports`], and the proxy's.
    pub(crate) fn new(ports: &[u16], proxy: Option<u16>) -> Result<Self> {
        match (ports, proxy) {
            (&[port, controller], None) => Ok(Self { port, controller, proxied: None }),
            (&[port, controller, behind], Some(proxy)) => Ok(Self { port, controller, proxied: Some((behind, proxy)) }),
            _ => bail!("a broker needs two ports, and a third behind a proxy"),
        }
    }

    fn settings(self) -> [String; 2] {
        let Self { port, controller, proxied } = self;
        let usual = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
        let also = |port: Option<u16>| port.map(|port| format!(",PROXIED://127.0.0.1:{port}")).unwrap_or_default();
        let (behind, proxy) = (also(proxied.map(|(behind, _)| behind)), also(proxied.map(|(_, proxy)| proxy)));
        [format!("listeners={usual}{behind}"), format!("advertised.listeners={usual}{proxy}")]
    }
}

impl Jars {
    /// Writes the broker's settings, formats its folder unless an earlier start did, and returns its command line.
    pub(crate) async fn broker(
        &self,
        folder: &Path,
        listeners: Listeners,
        settings: impl Iterator<Item = (&str, &str)>,
        quorum: &str,
        format: &[&str],
    ) -> Result<Vec<OsString>> {
        let file = folder.join("server.properties");
        let data = folder.join("data");
        let mut lines: Vec<String> =
            ROLES.iter().copied().chain(settings).map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(quorum.to_owned());
        lines.extend(listeners.settings());
        lines.push(format!("log.dirs={}", data.display()));
        std::fs::write(&file, lines.join("\n")).context("writing the broker's settings")?;

        let is_restart = data.exists();
        if !is_restart {
            let mut tool = Command::new(&self.java);
            tool.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &self.class_path()]);
            tool.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&file).args(format);
            program::run(tool, Duration::from_secs(60)).await.context("formatting the broker's data folder")?;
        }
        let mut command = vec![OsString::from(&self.java)];
        let options: &[&str] = match self.quick_start {
            true => &["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
            false => &["-Xms512m", "-Xmx512m"],
        };
        command.extend(options.iter().map(OsString::from));
        command.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".into());
        // For the line that `answers` waits for.
        command.push("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info".into());
        command.extend(["-cp".into(), self.class_path().into(), "kafka.Kafka".into(), file.into()]);
        Ok(command)
    }
}

/// A broker that is its own controller.
#[derive(Debug)]
pub(crate) struct Alone {
    jars: Jars,
    /// The port of a proxy before it.
    proxy: Option<u16>,
}

impl Launch for Alone {
    fn name(&self) -> &'static str {
        "kafka-4.3.1"
    }

    fn signal(&self) -> &'static str {
        "KILL"
    }

    fn ports(&self) -> usize {
        if self.proxy.is_some() { 3 } else { 2 }
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let listeners = Listeners::new(ports, self.proxy)?;
        let quorum = format!("controller.quorum.bootstrap.servers=127.0.0.1:{}", listeners.controller);
        self.jars.broker(folder, listeners, SETTINGS.iter().copied(), &quorum, &["--standalone"]).await
    }

    async fn answers(&self, folder: &Path, port: u16) -> Result<()> {
        answers(folder, port).await
    }
}

/// An open port isn't enough: the broker is fenced until its start is complete, and refuses to create topics.
pub(crate) async fn answers(folder: &Path, port: u16) -> Result<()> {
    let log = std::fs::read_to_string(folder.join("log")).context("reading the broker's log")?;
    if !log.contains("Kafka Server started") {
        bail!("the broker has not finished starting");
    }
    ports::open(port).await?;
    Ok(())
}

fn container(engine: Engine) -> Container<apache::Kafka> {
    Container {
        engine,
        service: "kafka-4.3.1-container",
        image: "apache/kafka:4.3.1",
        request: |name, version| {
            let image: ContainerRequest<_> = apache::Kafka::default().with_name(name).with_tag(version);
            let variable = |key: &str| format!("KAFKA_{}", key.replace('.', "_").to_uppercase());
            SETTINGS.iter().fold(image, |image, (key, value)| image.with_env_var(variable(key), *value))
        },
        inside: apache::KAFKA_PORT.as_u16(),
        probe: Probe::Kafka,
    }
}
