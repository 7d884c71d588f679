//! What a Kafka log is told about its cluster, and the librdkafka settings that follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::log::LogError;

/// Where the cluster is, how to get in, and how much memory and time to spend.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, several of them with commas.
    pub bootstrap: String,
    /// What the brokers' logs and quotas call this process.
    pub client_id: String,
    /// How to get in.
    pub security: Security,
    /// Other librdkafka settings by their names; those that durability or order rest on are refused.
    pub extra: BTreeMap<String, String>,
    /// Memory and time.
    pub limits: Limits,
}

impl KafkaOptions {
    /// A cluster without encryption or authentication, default limits.
    pub fn plaintext(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: "muster".to_owned(),
            security: Security::Plaintext,
            extra: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// The extra settings may hold secrets: names only.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("bootstrap", &self.bootstrap)
            .field("client_id", &self.client_id)
            .field("security", &self.security)
            .field("extra", &self.extra.keys().collect::<Vec<_>>())
            .field("limits", &self.limits)
            .finish()
    }
}

/// How to get in. All but [`Security::Plaintext`] need the cargo feature `kafka-tls`.
#[derive(Debug, Clone)]
pub enum Security {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// Encrypted, and authenticated where a certificate is given.
    Tls(Tls),
    /// User name and password.
    Sasl {
        /// How the password is proven.
        mechanism: Mechanism,
        /// Who.
        username: String,
        /// Never printed.
        password: Password,
        /// `None`: not encrypted, which with [`Mechanism::Plain`] shows the password to the network.
        tls: Option<Tls>,
    },
}

/// Files in PEM format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the brokers' certificates; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, where the brokers want one.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// How a password is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// `SCRAM-SHA-256`
    ScramSha256,
    /// `SCRAM-SHA-512`
    ScramSha512,
    /// `PLAIN`
    Plain,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Plain => "PLAIN",
        }
    }
}

/// A password that prints as dots.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Takes it from wherever it is kept.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// Memory and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Records waiting to be appended: their number.
    pub append_queue_records: u32,
    /// Records waiting to be appended: their bytes.
    pub append_queue_bytes: usize,
    /// An append that isn't durable by then is [`LogError::Unavailable`].
    pub append_within: Duration,
    /// The largest record that is tried; what a topic takes may be less.
    pub record_bytes: usize,
    /// What one reader or subscription fetches ahead.
    pub read_ahead_bytes: usize,
    /// Records in one chunk or event.
    pub chunk_records: usize,
    /// Bytes in one chunk or event, give or take one record.
    pub chunk_bytes: usize,
    /// An administrative request without an answer by then is [`LogError::Unavailable`].
    pub request_within: Duration,
    /// Readers and subscriptions say [`LogError::Unavailable`] when no broker could be reached for so long; they go on trying.
    pub patience: Duration,
    /// A member that isn't heard of for so long loses its partitions. Brokers take 6 s to 30 min unless told otherwise.
    pub session: Duration,
    /// How long a revocation waits to be released.
    pub release_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            append_queue_records: 100_000,
            append_queue_bytes: 64 << 20,
            append_within: Duration::from_secs(30),
            record_bytes: 8 << 20,
            read_ahead_bytes: 8 << 20,
            chunk_records: 1_000,
            chunk_bytes: 2 << 20,
            request_within: Duration::from_secs(10),
            patience: Duration::from_secs(15),
            session: Duration::from_secs(30),
            release_within: Duration::from_secs(10),
        }
    }
}

/// Durability, order and the end of partitions rest on these.
const OURS: [&str; 20] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "sasl.password",
    "session.timeout.ms",
    "transactional.id",
];

/// A batch stays under what topics take by default (1 048 588 bytes), so that only a record alone can be too large.
const BATCH_BYTES: usize = 1_000_000;

impl KafkaOptions {
    /// What all clients of this cluster share. Refuses what can't be meant.
    pub(super) fn base(&self) -> Result<ClientConfig, LogError> {
        if let Some(name) = self.extra.keys().find(|name| OURS.contains(&name.as_str())) {
            return Err(LogError::Refused {
                reason: format!("the Kafka setting {name} is fixed: durability and order rest on it"),
                hint: format!("take {name} out of the extra settings"),
            });
        }
        let mut config = ClientConfig::new();
        // What is worth a line is decided by the subscriber to our own lines.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            // A broker that comes back is found within two seconds, not ten.
            .set("reconnect.backoff.max.ms", "2000")
            .set("log.connection.close", "false");
        self.secure(&mut config)?;
        for (name, value) in &self.extra {
            config.set(name, value);
        }
        Ok(config)
    }

    fn secure(&self, config: &mut ClientConfig) -> Result<(), LogError> {
        if matches!(self.security, Security::Plaintext) {
            return Ok(());
        }
        if !cfg!(feature = "kafka-tls") {
            return Err(LogError::Refused {
                reason: "this muster was built without TLS and SASL for Kafka".to_owned(),
                hint: "build it with `--features kafka-tls`, or use the container image".to_owned(),
            });
        }
        let tls = match &self.security {
            Security::Plaintext => return Ok(()),
            Security::Tls(tls) => {
                config.set("security.protocol", "ssl");
                Some(tls)
            }
            Security::Sasl { mechanism, username, password, tls } => {
                config
                    .set("security.protocol", if tls.is_some() { "sasl_ssl" } else { "sasl_plaintext" })
                    .set("sasl.mechanism", mechanism.name())
                    .set("sasl.username", username)
                    .set("sasl.password", &password.0);
                tls.as_ref()
            }
        };
        let files = tls.into_iter().flat_map(|tls| {
            [
                ("ssl.ca.location", &tls.ca),
                ("ssl.certificate.location", &tls.certificate),
                ("ssl.key.location", &tls.key),
            ]
        });
        for (name, file) in files {
            if let Some(file) = file {
                config.set(name, file.to_string_lossy());
            }
        }
        Ok(())
    }

    /// Appends: idempotent, to all replicas in sync, compressed, bounded.
    pub(super) fn producer(&self) -> Result<ClientConfig, LogError> {
        let mut config = self.base()?;
        let limits = &self.limits;
        let defaults = [
            ("compression.codec", "zstd".to_owned()),
            // Callers hand in batches: waiting longer for more only delays them.
            ("linger.ms", "1".to_owned()),
            ("batch.size", BATCH_BYTES.to_string()),
        ];
        for (name, value) in defaults {
            if !self.extra.contains_key(name) {
                config.set(name, value);
            }
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", (limits.record_bytes + RECORD_OVERHEAD).to_string())
            .set("message.timeout.ms", limits.append_within.as_millis().to_string())
            .set("queue.buffering.max.messages", limits.append_queue_records.to_string())
            .set("queue.buffering.max.kbytes", (limits.append_queue_bytes >> 10).max(1).to_string())
            // How long a topic that the metadata doesn't show is waited for.
            .set("topic.metadata.propagation.max.ms", "5000");
        Ok(config)
    }

    /// Asks for metadata, offsets and settings; reads nothing.
    pub(super) fn tools(&self) -> Result<ClientConfig, LogError> {
        self.base()
    }

    /// Reads `partitions` partitions at most at once. librdkafka wants a group even where none is joined.
    pub(super) fn consumer(&self, group: &str, partitions: usize) -> Result<ClientConfig, LogError> {
        let mut config = self.base()?;
        let partitions = partitions.max(1);
        let ahead = (self.limits.read_ahead_bytes / partitions).clamp(64 << 10, 16 << 20);
        let defaults = [
            ("fetch.message.max.bytes", ahead.min(1 << 20).to_string()),
            ("fetch.max.bytes", self.limits.read_ahead_bytes.clamp(1 << 20, 50 << 20).to_string()),
            ("queued.max.messages.kbytes", (ahead >> 10).to_string()),
            ("queued.min.messages", (50_000 / partitions).max(1_000).to_string()),
            // The end of a partition is noticed, and a new place read from, at the next fetch.
            ("fetch.wait.max.ms", "50".to_owned()),
            ("fetch.error.backoff.ms", "100".to_owned()),
            ("fetch.queue.backoff.ms", "10".to_owned()),
        ];
        for (name, value) in defaults {
            if !self.extra.contains_key(name) {
                config.set(name, value);
            }
        }
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set(
            // A place that isn't there is an error for the reader to decide on, never a silent skip.
            "auto.offset.reset",
            "error",
        );
        Ok(config)
    }

    /// Joins `group`.
    pub(super) fn member(&self, group: &str, partitions: usize) -> Result<ClientConfig, LogError> {
        let mut config = self.consumer(group, partitions)?;
        let session = self.limits.session.as_millis();
        // The thread polls whatever its user's pace, so this only bounds how long a rebalance waits for a member that
        // is stuck in a commit.
        let poll = (session * 2).max(60_000);
        config
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", session.to_string())
            .set("heartbeat.interval.ms", (session / 5).clamp(200, 3_000).to_string())
            .set("max.poll.interval.ms", poll.to_string());
        Ok(config)
    }
}

/// What a record's frame takes at most: lengths, offsets, times.
pub(super) const RECORD_OVERHEAD: usize = 4 << 10;

#[cfg(test)]
mod tests;
