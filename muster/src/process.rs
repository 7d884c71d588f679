//! Puts a process together from its settings: log, state, components.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::TimeDelta;
use pipeline::clock::{Clock, SystemClock};
use pipeline::config::{Problems, SecretRef};
use pipeline::dead_letters::DeadLetters;
use pipeline::log::kafka::{KafkaLog, KafkaOptions, Limits, Password, Security, Tls};
use pipeline::log::sqlite::{SqliteLog, SqliteOptions};
use pipeline::log::{Log, NewTopic};
use pipeline::operations::Operations;
use pipeline::run::{Feed, Health, Mode, ProcessorTask, RunError, Runtime, SinkTask, System, run_systems};
use pipeline::state::State;
use schemas::{Profile, Registry, RegistryAuth, RegistryConfig, TopicKind};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exit;
use crate::settings::{KafkaSettings, LogSettings, RegistrySettings, Settings};

/// The environment, read here and nowhere else.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How long a log that can't be used yet is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Answered requests are kept this long: an edited replay holds a record.
const KEEP_ANSWERS: TimeDelta = TimeDelta::days(7);

/// Makes the process's folder, for its owner alone: the log in it holds records.
fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("{} can't be created", folder.display()))
}

/// A process: everything that its components share, and the components.
pub struct Process {
    /// What components share.
    pub runtime: Runtime,
    /// The embedded log, where that is the log.
    pub embedded: Option<Arc<SqliteLog>>,
    /// Systems that are read from.
    pub systems: Vec<System>,
    /// What derives.
    pub processors: Vec<ProcessorTask>,
    /// Systems that are written to.
    pub sinks: Vec<SinkTask>,
}

/// What became of one component.
pub type Ended = (String, Result<(), RunError>);

/// The log alone, for commands that look at topics.
pub async fn open_log(settings: &Settings) -> Result<(Arc<dyn Log>, Option<Arc<SqliteLog>>)> {
    match &settings.log {
        LogSettings::Sqlite { path } => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(|| format!("{} can't be created", folder.display()))?;
            }
            let log = Arc::new(SqliteLog::open(path, SqliteOptions::default()).await?);
            Ok((Arc::clone(&log) as Arc<dyn Log>, Some(log)))
        }
        LogSettings::Kafka(kafka) => {
            let options = kafka_options(kafka)?;
            let log = KafkaLog::connect(options).await?;
            Ok((Arc::new(log), None))
        }
    }
}

/// How a Kafka cluster is reached.
pub fn kafka_options(kafka: &KafkaSettings) -> Result<KafkaOptions> {
    let tls = kafka.tls.as_ref().map(|tls| Tls {
        ca: tls.ca.clone(),
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    });
    let security = match (&kafka.sasl, tls) {
        (Some(sasl), tls) => Security::Sasl {
            mechanism: sasl.mechanism,
            username: sasl.username.clone(),
            password: Password::new(secret(&sasl.password)?),
            tls,
        },
        (None, Some(tls)) => Security::Tls(tls),
        (None, None) => Security::Plaintext,
    };
    let limits = Limits { session: kafka.session, ..Limits::default() };
    let mut options = KafkaOptions::plaintext(&kafka.bootstrap);
    options.security = security;
    options.extra = kafka.extra.clone();
    options.limits = limits;
    Ok(options)
}

fn secret(secret: &SecretRef) -> Result<String> {
    let resolved = secret.resolve(&environment).map_err(|problem| Problems::from_iter([problem]));
    Ok(resolved?.expose().to_owned())
}

/// The registry's client, where one is configured.
pub fn registry(settings: Option<&RegistrySettings>) -> Result<Option<Registry>> {
    let Some(settings) = settings else { return Ok(None) };
    Ok(Some(Registry::new(registry_config(settings)?)?))
}

/// How a registry is reached.
pub fn registry_config(settings: &RegistrySettings) -> Result<RegistryConfig> {
    let auth = match (&settings.basic, &settings.bearer) {
        (Some((user, password)), _) => Some(RegistryAuth::Basic { user: user.clone(), password: secret(password)? }),
        (None, Some(token)) => Some(RegistryAuth::Bearer(secret(token)?)),
        (None, None) => None,
    };
    Ok(RegistryConfig { auth, ..RegistryConfig::new(settings.url.as_str()) })
}

/// The topics of the catalogue, as this log is to have them.
pub fn topics(log: &LogSettings) -> Vec<NewTopic> {
    let profile = profile(log);
    let mut topics: Vec<NewTopic> = schemas::catalogue()
        .topics()
        .iter()
        .map(|topic| NewTopic {
            name: topic.name.clone(),
            partitions: topic.partitions(profile),
            replication: topic.replication(profile),
            settings: topic.kafka_config(profile).into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        })
        .collect();
    if let LogSettings::Kafka(kafka) = log {
        let in_sync = if kafka.replication > 2 { 2 } else { 1 };
        for topic in &mut topics {
            topic.replication = kafka.replication;
            topic.settings.insert("min.insync.replicas".into(), in_sync.to_string());
            // Masters and most state have one partition always.
            if topic.partitions > 1 {
                topic.partitions = kafka.partitions;
            }
        }
    }
    topics
}

/// Where topics are kept, as the catalogue asks.
pub fn profile(log: &LogSettings) -> Profile {
    match log {
        LogSettings::Sqlite { .. } => Profile::Embedded,
        LogSettings::Kafka(_) => Profile::Production,
    }
}

impl Process {
    /// Opens everything that the components share and puts them together. Contacts the log and the registry, but no
    /// system that is read from or written to.
    pub async fn open(settings: &Settings) -> Result<Self> {
        make_private(&settings.folder)?;
        let (log, embedded) = open_log(settings).await?;
        let patience = Instant::now() + PATIENCE;
        loop {
            match Self::with_log(settings, Arc::clone(&log), embedded.clone()).await {
                // A cluster elects leaders for topics that were just created, or is being restarted.
                Err(error) if exit::code_of(&error) == exit::UNREACHABLE && Instant::now() < patience => {
                    tracing::warn!(error = format!("{error:#}"), "the log isn't ready, trying again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    async fn with_log(settings: &Settings, log: Arc<dyn Log>, embedded: Option<Arc<SqliteLog>>) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let wanted = topics(&settings.log);
        log.create(&wanted).await?;
        check_partitions(log.as_ref(), &wanted).await?;
        let state_topics: Vec<NewTopic> = wanted.iter().filter(|topic| is_state(&topic.name)).cloned().collect();
        let process = process_name();
        let state =
            State::open(Arc::clone(&log), &process, &state_topics, registry(settings.registry.as_ref())?).await?;
        state.requests.forget(clock.now() - KEEP_ANSWERS).await?;
        let operations = Operations::open(&settings.folder.join("operations.sqlite")).await?;
        let letters = DeadLetters::open(Arc::clone(&log), operations.clone(), Arc::clone(&clock)).await?;
        letters.rebuild_index().await?;
        let runtime = Runtime {
            process: process.into(),
            log,
            state,
            clock,
            operations,
            letters,
            folder: Some(memories(settings).into()),
            health: Arc::new(Health::default()),
            retry: settings.retry.clone(),
            rejects: settings.rejects,
        };
        let systems = systems(settings, &runtime)?;
        let processors = processors::all()
            .into_iter()
            .filter(|processor| settings.processors.iter().any(|name| name == processor.name()))
            .map(|processor| ProcessorTask { processor })
            .collect();
        let sinks = sinks(settings)?;
        Ok(Self { runtime, embedded, systems, processors, sinks })
    }

    /// Runs every source once, then drains processors and sinks. Answers what became of each.
    pub async fn once(&mut self, stop: &CancellationToken) -> Vec<Ended> {
        let mut ended = Vec::new();
        for system in std::mem::take(&mut self.systems) {
            let name = system.name.clone();
            ended.push((name, run_systems(vec![system], &self.runtime, Mode::Once, stop).await));
        }
        for task in &self.processors {
            ended.push((task.processor.name().to_owned(), task.run(&self.runtime, Mode::Once, stop).await));
        }
        for task in &self.sinks {
            ended.push((task.name.to_string(), task.run(&self.runtime, Mode::Once, stop).await));
        }
        ended
    }

    /// Runs everything until told to stop. A component that stops because a person must act doesn't stop the others.
    pub async fn follow(&mut self, stop: &CancellationToken) -> Vec<Ended> {
        let mut tasks = JoinSet::new();
        let systems = std::mem::take(&mut self.systems);
        let (runtime, token) = (self.runtime.clone(), stop.clone());
        tasks.spawn(async move { ("sources".to_owned(), run_systems(systems, &runtime, Mode::Follow, &token).await) });
        for task in self.processors.clone() {
            let (runtime, token) = (self.runtime.clone(), stop.clone());
            tasks.spawn(
                async move { (task.processor.name().to_owned(), task.run(&runtime, Mode::Follow, &token).await) },
            );
        }
        for task in self.sinks.clone() {
            let (runtime, token) = (self.runtime.clone(), stop.clone());
            tasks.spawn(async move { (task.name.to_string(), task.run(&runtime, Mode::Follow, &token).await) });
        }
        let mut ended = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            ended.push(joined.unwrap_or_else(|panicked| {
                let reason = panicked.to_string();
                let hint = "this is a mistake in the program; start it again".to_owned();
                ("a component".to_owned(), Err(RunError::Refused { component: "a component".into(), reason, hint }))
            }));
        }
        ended
    }

    /// Closes the log, so that another process can open it.
    pub async fn close(self) {
        let Self { embedded, runtime, systems, processors, sinks } = self;
        // They follow the log for as long as they live.
        drop((runtime, systems, processors, sinks));
        if let Some(embedded) = embedded {
            embedded.close().await;
        }
    }
}

fn is_state(name: &str) -> bool {
    schemas::catalogue().topic(name).is_some_and(|topic| matches!(topic.kind, TopicKind::State))
}

/// A topic that has another number of partitions would put keys elsewhere than their readers look.
async fn check_partitions(log: &dyn Log, wanted: &[NewTopic]) -> Result<()> {
    let there = log.topics().await?;
    for topic in wanted {
        let Some(found) = there.iter().find(|found| found.name == topic.name) else {
            bail!("topic {} doesn't exist and could not be created", topic.name);
        };
        if found.partitions != topic.partitions {
            bail!(
                "topic {} has {} partitions, the configuration says {}: set `log.kafka.partitions` to what the cluster has",
                topic.name,
                found.partitions,
                topic.partitions
            );
        }
    }
    Ok(())
}

fn systems(settings: &Settings, runtime: &Runtime) -> Result<Vec<System>> {
    let mut systems = Vec::with_capacity(settings.sources.len());
    for source in &settings.sources {
        let feeds = source
            .from
            .feeds(&environment, Arc::clone(&runtime.clock))
            .with_context(|| format!("source {}", source.name))?;
        let mut system = System { name: source.name.clone(), feeds: Vec::with_capacity(feeds.len()) };
        for feed in feeds {
            let Some(topic) = schemas::catalogue().topic(feed.topic) else {
                bail!(
                    "feed {} of source {} writes {}, which isn't in the catalogue",
                    feed.name,
                    source.name,
                    feed.topic
                );
            };
            let how = source.feeds.get(feed.name).unwrap_or(&source.default);
            system.feeds.push(Feed {
                topic: Arc::clone(topic),
                source: feed.source,
                schedule: how.schedule.clone(),
                reconcile: how.reconcile.clone(),
                vanished: how.vanished,
            });
        }
        systems.push(system);
    }
    Ok(systems)
}

/// How many partitions a topic has on this log.
pub fn partitions(log: &LogSettings) -> impl Fn(&schemas::Topic) -> u32 {
    let wanted = topics(log);
    move |topic| wanted.iter().find(|w| w.name == topic.name).map_or(1, |w| w.partitions)
}

fn sinks(settings: &Settings) -> Result<Vec<SinkTask>> {
    let count = partitions(&settings.log);
    let mut tasks = Vec::with_capacity(settings.sinks.len());
    for sink in &settings.sinks {
        let built = sink.to.build(&sink.name, &environment, &count).with_context(|| format!("sink {}", sink.name))?;
        tasks.push(SinkTask {
            name: sink.name.as_str().into(),
            sink: built.sink,
            topics: built.topics,
            limits: sink.limits,
        });
    }
    Ok(tasks)
}

fn memories(settings: &Settings) -> PathBuf {
    settings.folder.join("memories")
}

/// For claims and people: the machine's name where it is known, and the process.
fn process_name() -> String {
    let host = environment("HOSTNAME").unwrap_or_else(|| "muster".into());
    format!("{host}-{}", std::process::id())
}
