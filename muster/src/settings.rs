//! The configuration file: what a process is made of.

mod export;
mod operations;
mod wiring;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use pipeline::config::{self, Place, Problem, Problems, SecretRef, Section};
use pipeline::log::kafka::Mechanism;
use pipeline::retry::{Budget, Policy};
use pipeline::run::{RejectLimit, SinkLimits, Vanished};
use pipeline::schedule::Schedule;
use producers::SourceSettings;
use schemas::Catalogue;
use sinks::SinkSettings;
use sinks::snapshot::SnapshotSettings;

pub use self::export::ExportSettings;
pub use self::operations::{HistorySettings, OperationsSettings};

/// How often everything is read when nothing is said. Systems don't move a record's date with every edit (a recorded feed
/// has milestones newer than their applicant's `updated_date`), so what polling by date misses is found by this alone.
const WEEKLY: Schedule = Schedule::Every(Duration::from_secs(7 * 24 * 3600));

/// How often a feed is read when nothing is said: as the register's own scheduler does.
const DAILY: Schedule = Schedule::Every(Duration::from_secs(24 * 3600));

/// Everything the file says.
#[derive(Debug)]
pub struct Settings {
    /// Where the process keeps its files.
    pub folder: PathBuf,
    /// The log.
    pub log: LogSettings,
    /// The schema registry.
    pub registry: Option<RegistrySettings>,
    /// History for people.
    pub operations: OperationsSettings,
    /// Where HTTP is served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// How snapshots are served; `None`: they aren't.
    pub export: Option<ExportSettings>,
    /// How long to wait for systems that are away.
    pub retry: Policy,
    /// How many rejects are too many.
    pub rejects: RejectLimit,
    /// Systems that are read from.
    pub sources: Vec<Source>,
    /// Processors that are run, by name.
    pub processors: Vec<String>,
    /// Systems that are written to.
    pub sinks: Vec<Sink>,
    /// Snapshots of datasets in an object store.
    pub snapshots: Option<SnapshotSettings>,
    /// The topics there are: those built into the program, and those of tables.
    pub catalogue: Arc<Catalogue>,
    /// What can be meant, but most likely isn't: parts that nothing in this file uses.
    pub warnings: Vec<Problem>,
}

/// Where topics are kept.
#[derive(Debug)]
pub enum LogSettings {
    /// In one file of this machine.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// In a Kafka cluster.
    Kafka(Box<KafkaSettings>),
}

/// A Kafka cluster.
#[derive(Debug)]
pub struct KafkaSettings {
    /// `host:port`, several of them with commas.
    pub bootstrap: String,
    /// Encryption, by files in PEM format.
    pub tls: Option<TlsSettings>,
    /// User name and password.
    pub sasl: Option<SaslSettings>,
    /// Copies of each partition of the topics that are created.
    pub replication: u16,
    /// Partitions of the topics that are created.
    pub partitions: u32,
    /// Other settings of librdkafka.
    pub extra: BTreeMap<String, String>,
    /// A process that isn't heard of for so long loses its partitions.
    pub session: Duration,
}

/// Encryption.
#[derive(Debug)]
pub struct TlsSettings {
    /// Who signs the brokers' certificates.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// User name and password.
#[derive(Debug)]
pub struct SaslSettings {
    /// How the password is proven.
    pub mechanism: Mechanism,
    /// Who.
    pub username: String,
    /// The password.
    pub password: SecretRef,
}

/// A schema registry.
#[derive(Debug)]
pub struct RegistrySettings {
    /// Base path included.
    pub url: config::Url,
    /// Basic authentication.
    pub basic: Option<(String, SecretRef)>,
    /// A bearer token.
    pub bearer: Option<SecretRef>,
}

/// A system that is read from.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Where its section stands.
    pub place: Place,
    /// Which system, and how.
    pub from: SourceSettings,
    /// For feeds that don't say it themselves.
    pub default: FeedSettings,
    /// Feeds that differ, by name.
    pub feeds: BTreeMap<String, FeedSettings>,
}

/// How a feed is read.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    /// When changes are asked for.
    pub schedule: Schedule,
    /// When everything is asked for.
    pub reconcile: Option<Schedule>,
    /// What to do about entities that have gone.
    pub vanished: Vanished,
}

/// A system that is written to.
#[derive(Debug)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Where its section stands.
    pub place: Place,
    /// Which system, and how.
    pub to: SinkSettings,
    /// The size of its batches.
    pub limits: SinkLimits,
}

impl Settings {
    /// Reads the whole file; what is wrong is reported by the sections.
    pub fn read(root: &Section<'_>) -> Option<Self> {
        let folder = root.path("folder").or(PathBuf::from("muster-data"));
        let http =
            root.section("http").map(|http| http.socket_address("listen").or(SocketAddr::from(([127, 0, 0, 1], 8080))));
        let log = log(root, &folder);
        let operations = operations::read(root, &folder);
        let export = export::read(root);
        let registry = root.section("registry").map(|section| registry(&section));
        let retry = root.section("retry").map(|section| retry(&section)).unwrap_or_default();
        let rejects = root.section("rejects").map(|section| rejects(&section)).unwrap_or_default();
        let sources =
            root.sections("sources").into_iter().map(|(name, section)| source(name, &section)).collect::<Vec<_>>();
        let processors = processors(root);
        let own = sources.iter().flatten().flat_map(|source| source.from.own_topics());
        let catalogue = Arc::new(schemas::catalogue().with(own));
        let sinks = root.sections("sinks").into_iter();
        let sinks = sinks.map(|(name, section)| sink(name, &section, &catalogue)).collect::<Vec<_>>();
        let snapshots = root.section("snapshots").map(|section| SnapshotSettings::read(&section));
        let all_read = sources.iter().all(Option::is_some)
            && sinks.iter().all(Option::is_some)
            && snapshots.as_ref().is_none_or(Option::is_some);
        let snapshots = snapshots.flatten();
        let sources = sources.into_iter().flatten().collect::<Vec<_>>();
        let sinks = sinks.into_iter().flatten().collect::<Vec<_>>();
        let wiring = wiring::compare(&sources, &processors, root, &sinks, snapshots.as_ref(), &catalogue);
        for problem in wiring.problems {
            root.report(problem);
        }
        let settings = Self {
            folder,
            log: log?,
            registry,
            operations,
            http,
            export,
            retry,
            rejects,
            sources,
            processors,
            sinks,
            snapshots,
            catalogue,
            warnings: wiring.warnings,
        };
        all_read.then_some(settings)
    }

    /// All secrets that are named.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let mut secrets = Vec::new();
        if let LogSettings::Kafka(kafka) = &self.log {
            secrets.extend(kafka.sasl.iter().map(|sasl| &sasl.password));
        }
        if let Some(registry) = &self.registry {
            secrets.extend(registry.basic.iter().map(|(_, password)| password).chain(&registry.bearer));
        }
        secrets.extend(self.operations.secret());
        secrets.extend(self.export.iter().map(|export| &export.pepper));
        secrets.extend(self.sources.iter().flat_map(|source| source.from.secrets()));
        secrets.extend(self.sinks.iter().flat_map(|sink| sink.to.secrets()));
        secrets.extend(self.snapshots.iter().flat_map(SnapshotSettings::secrets));
        secrets
    }

    /// Whether all secrets can be had. `env` looks up a variable of the environment.
    pub fn check_secrets(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<(), Problems> {
        let missing: Problems = self.secrets().into_iter().filter_map(|secret| secret.resolve(env).err()).collect();
        missing.into_result()
    }
}

fn log(root: &Section<'_>, folder: &std::path::Path) -> Option<LogSettings> {
    if !root.has("log") {
        return Some(LogSettings::Sqlite { path: folder.join("log.sqlite") });
    }
    root.tagged("log", &["sqlite", "kafka"]).map(|(kind, section)| match kind {
        "sqlite" => LogSettings::Sqlite { path: section.path("path").or(folder.join("log.sqlite")) },
        _ => LogSettings::Kafka(Box::new(kafka(&section))),
    })
}

fn kafka(section: &Section<'_>) -> KafkaSettings {
    KafkaSettings {
        bootstrap: section.list("bootstrap", config::kinds::host_port()).required().join(","),
        tls: section.section("tls").map(|tls| TlsSettings {
            ca: tls.path("ca").optional(),
            certificate: tls.path("certificate").optional(),
            key: tls.path("key").optional(),
        }),
        sasl: section.section("sasl").map(|sasl| SaslSettings {
            mechanism: sasl
                .one_of(
                    "mechanism",
                    &[
                        ("SCRAM-SHA-512", Mechanism::ScramSha512),
                        ("SCRAM-SHA-256", Mechanism::ScramSha256),
                        ("PLAIN", Mechanism::Plain),
                    ],
                )
                .or(Mechanism::ScramSha512),
            username: sasl.string("username").required(),
            password: sasl.secret("password").required(),
        }),
        replication: section.integer("replication", 1..=9).or(3),
        partitions: section.integer("partitions", 1..=1_000).or(12),
        extra: section.string_map("settings").or_default(),
        session: section.duration("session").or(Duration::from_secs(45)),
    }
}

fn registry(section: &Section<'_>) -> RegistrySettings {
    let username = section.string("username").optional();
    let password = section.secret("password").optional();
    if username.is_some() != password.is_some() {
        let key = if username.is_some() { "username" } else { "password" };
        section.report(section.place(key).problem("username and password go together").expected("both or neither"));
    }
    if section.has("token") && (section.has("username") || section.has("password")) {
        let problem = section.place("token").problem("given together with `username` and `password`");
        section.report(problem.expected("either a token or username and password"));
    }
    RegistrySettings {
        url: section.url("url", config::HTTP).required(),
        basic: username.zip(password),
        bearer: section.secret("token").optional(),
    }
}

fn retry(section: &Section<'_>) -> Policy {
    let default = Policy::default();
    Policy {
        first: section.duration("first").or(default.first),
        most: section.duration("most").or(default.most),
        most_retry_after: section.duration("most_retry_after").or(default.most_retry_after),
        budget: Budget::UNLIMITED,
    }
}

fn rejects(section: &Section<'_>) -> RejectLimit {
    let default = RejectLimit::default();
    RejectLimit {
        count: section.integer("count", 0..=u64::from(u32::MAX)).or(default.count),
        share: section.share("share").or(default.share),
    }
}

fn source(name: String, section: &Section<'_>) -> Option<Source> {
    let nothing = FeedSettings { schedule: DAILY, reconcile: Some(WEEKLY), vanished: Vanished::Report };
    let default = feed(section, &nothing);
    let from = SourceSettings::read(section);
    let mut feeds = BTreeMap::new();
    if let Some(all) = section.section("feeds") {
        let Some(from) = &from else {
            all.ignore_rest();
            return None;
        };
        for name in from.feed_names() {
            if let Some(section) = all.section_of(&name) {
                feeds.insert(name, feed(&section, &default));
            }
        }
    }
    Some(Source { name, place: section.own_place().clone(), from: from?, default, feeds })
}

fn feed(section: &Section<'_>, default: &FeedSettings) -> FeedSettings {
    let max_share = section.share("vanished_max_share").or(match default.vanished {
        Vanished::Delete { max_share } => max_share,
        Vanished::Report => 0.1,
    });
    let vanished =
        section.one_of("vanished", &[("report", Vanished::Report), ("delete", Vanished::Delete { max_share })]);
    FeedSettings {
        schedule: section.schedule(Tz::UTC).unwrap_or_else(|| default.schedule.clone()),
        reconcile: match section.section("reconcile") {
            Some(section) => section.schedule(Tz::UTC),
            None => default.reconcile.clone(),
        },
        vanished: vanished.or(match default.vanished {
            Vanished::Delete { .. } => Vanished::Delete { max_share },
            Vanished::Report => Vanished::Report,
        }),
    }
}

fn processors(root: &Section<'_>) -> Vec<String> {
    let known: Vec<&'static str> =
        processors::all(schemas::catalogue()).iter().map(|processor| processor.name()).collect();
    let named = root
        .strings("processors")
        .check(|names| match names.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let nearest = config::nearest(name, known.iter().copied());
                let nearest = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
                Err(format!("there is no processor called `{name}`; expected some of {}{nearest}", known.join(", ")))
            }
            None => Ok(()),
        })
        .optional();
    named.unwrap_or_else(|| known.iter().map(|name| (*name).to_owned()).collect())
}

fn sink(name: String, section: &Section<'_>, catalogue: &Catalogue) -> Option<Sink> {
    let default = SinkLimits::default();
    let limits = SinkLimits {
        records: section.integer("batch_records", 1..=100_000).or(default.records),
        bytes: section.bytes("batch_bytes").or(default.bytes as u64).try_into().unwrap_or(default.bytes),
        linger: section.duration("linger").or(default.linger),
        sweep_percent: section.integer("sweep_percent", 0..=100).or(default.sweep_percent),
    };
    let to = SinkSettings::read(section)?;
    for problem in to.problems(catalogue) {
        section.report(problem);
    }
    Some(Sink { name, place: section.own_place().clone(), to, limits })
}

#[cfg(test)]
mod tests;
