//! Puts a process together from its settings: log, state, components.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::TimeDelta;
use pipeline::clock::{Clock, SystemClock};
use pipeline::config::{Problems, SecretRef};
use pipeline::dead_letters::DeadLetters;
use pipeline::log::kafka::{KafkaLog, KafkaOptions, Limits, Password, Security, Tls};
use pipeline::log::names::Names;
use pipeline::log::sqlite::{SqliteLog, SqliteOptions};
use pipeline::log::{Log, NewTopic};
use pipeline::operations::{Operations, PostgresOptions};
use pipeline::run::{
    Feed, Health, JobTask, Mode, ProcessorTask, RunError, Runtime, SinkTask, System, Task, run_systems, run_tasks,
};
use pipeline::snapshot::{Store, private_folder};
use pipeline::state::{State, StateError};
use schemas::{Catalogue, Profile, Registry, RegistryAuth, RegistryConfig, TopicKind};
use sinks::snapshot::{SnapshotSettings, Snapshots};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::commands::topics::resizable;
use crate::exit;
use crate::settings::{HistorySettings, KafkaSettings, LogSettings, RegistrySettings, Settings};

/// The environment, read here and nowhere else.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How long a log that can't be used yet is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Answered requests are kept this long: an edited replay holds a record.
const KEEP_ANSWERS: TimeDelta = TimeDelta::days(7);

/// How often history is caught up when nothing else writes it.
const LOOK_AFTER_HISTORY: Duration = Duration::from_secs(10);

/// How often old history is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

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
    /// What is done at set times or on request.
    pub jobs: Vec<JobTask>,
    /// How long history is kept.
    keep: TimeDelta,
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
            let log: Arc<dyn Log> = Arc::new(open_kafka(kafka).await?);
            let names = Names::read(log.as_ref()).await?;
            Ok((names.over(log), None))
        }
    }
}

/// A cluster as it is, whatever its topics stand for.
pub async fn open_kafka(kafka: &KafkaSettings) -> Result<KafkaLog> {
    Ok(KafkaLog::connect(kafka_options(kafka)?).await?)
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

/// History for people. A PostgreSQL isn't contacted yet: one that is away holds nobody up.
pub async fn open_operations(settings: &Settings) -> Result<Operations> {
    Ok(match &settings.operations.history {
        HistorySettings::Sqlite { path } => Operations::open(path).await?,
        HistorySettings::Postgres { options, password } => {
            let password = password.as_ref().map(secret).transpose()?;
            Operations::postgres(&PostgresOptions { password, ..options.clone() })?
        }
    })
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

/// The topics of the catalogue, as the log is to have them.
pub fn topics(settings: &Settings) -> Vec<NewTopic> {
    let log = &settings.log;
    let profile = profile(log);
    let mut topics: Vec<NewTopic> = settings
        .catalogue
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
        private_folder(&settings.folder).with_context(|| format!("{} can't be created", settings.folder.display()))?;
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
        let wanted = topics(settings);
        log.create(&wanted).await?;
        check_partitions(log.as_ref(), &wanted).await?;
        let state_topics: Vec<NewTopic> =
            wanted.iter().filter(|topic| is_state(&settings.catalogue, &topic.name)).cloned().collect();
        let process = process_name();
        let state =
            State::open(Arc::clone(&log), &process, &state_topics, registry(settings.registry.as_ref())?).await?;
        check_names(log.as_ref(), &state)?;
        state.requests.forget(clock.now() - KEEP_ANSWERS).await?;
        let operations = open_operations(settings).await?;
        let letters = DeadLetters::open(Arc::clone(&log), operations.clone(), Arc::clone(&clock)).await?;
        let letters = letters.with_lives(Arc::clone(&state.incarnations));
        letters.try_catch_up().await;
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
            emit_at_once: pipeline::emitter::AT_ONCE,
        };
        let systems = systems(settings, &runtime)?;
        let processors = processors::all(&settings.catalogue)
            .into_iter()
            .filter(|processor| settings.processors.iter().any(|name| name == processor.name()))
            .map(|processor| ProcessorTask { processor })
            .collect();
        let sinks = sinks(settings)?;
        let jobs = jobs(settings)?;
        let keep = TimeDelta::from_std(settings.operations.keep).unwrap_or(TimeDelta::MAX);
        Ok(Self { runtime, embedded, systems, processors, sinks, jobs, keep })
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

    /// Does every job, or with [`Mode::Asked`] what was asked of it, and nothing else.
    pub async fn do_jobs(&mut self, mode: Mode, stop: &CancellationToken) -> Vec<Ended> {
        let mut ended = Vec::new();
        for job in self.jobs.clone() {
            let name = job.name().to_owned();
            ended.push((name, run_tasks(vec![Task::Job(job)], &self.runtime, mode, stop).await));
        }
        ended
    }

    /// Does what was asked of owners and nothing else; with `drain`, what comes of it is derived and delivered.
    pub async fn asked(&mut self, drain: bool, stop: &CancellationToken) -> Vec<Ended> {
        let mut ended = Vec::new();
        for system in std::mem::take(&mut self.systems) {
            let name = system.name.clone();
            ended.push((name, run_systems(vec![system], &self.runtime, Mode::Asked, stop).await));
        }
        if drain {
            for task in &self.processors {
                ended.push((task.processor.name().to_owned(), task.run(&self.runtime, Mode::Once, stop).await));
            }
            for task in &self.sinks {
                ended.push((task.name.to_string(), task.run(&self.runtime, Mode::Once, stop).await));
            }
        }
        ended
    }

    /// Runs everything until told to stop. A component that stops because a person must act doesn't stop the others.
    pub async fn follow(&mut self, stop: &CancellationToken) -> Vec<Ended> {
        let stop = &stop.child_token();
        let mut tasks = JoinSet::new();
        let systems = std::mem::take(&mut self.systems).into_iter().map(Task::System);
        let shared: Vec<Task> = systems.chain(self.jobs.iter().cloned().map(Task::Job)).collect();
        let (runtime, token) = (self.runtime.clone(), stop.clone());
        tasks.spawn(async move { ("sources".to_owned(), run_tasks(shared, &runtime, Mode::Follow, &token).await) });
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
        // Ends with the process.
        let _history = AbortOnDrop(tokio::spawn(look_after_history(self.runtime.clone(), self.keep)));
        let state = self.runtime.state.clone();
        let mut resized = Box::pin(async move { resized(&state).await });
        let mut ended = Vec::new();
        loop {
            let joined = tokio::select! {
                joined = tasks.join_next() => joined,
                why = &mut resized, if !stop.is_cancelled() => {
                    ended.push(("topics".to_owned(), Err(begin_again(why))));
                    stop.cancel();
                    continue;
                }
            };
            let Some(joined) = joined else { return ended };
            ended.push(joined.unwrap_or_else(|panicked| {
                let reason = panicked.to_string();
                let hint = "this is a mistake in the program; start it again".to_owned();
                ("a component".to_owned(), Err(RunError::Refused { component: "a component".into(), reason, hint }))
            }));
        }
    }

    /// Closes the log, so that another process can open it.
    pub async fn close(self) {
        let Self { embedded, runtime, systems, processors, sinks, jobs, keep: _ } = self;
        runtime.operations.catch_up().await;
        // They follow the log for as long as they live.
        drop((runtime, systems, processors, sinks, jobs));
        if let Some(embedded) = embedded {
            embedded.close().await;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Catches history up after its database was away, follows what other processes wrote, and forgets what is old.
async fn look_after_history(runtime: Runtime, keep: TimeDelta) {
    let mut forgot: Option<Instant> = None;
    loop {
        runtime.operations.catch_up().await;
        runtime.letters.try_catch_up().await;
        if forgot.is_none_or(|at| at.elapsed() > FORGET_EVERY)
            && let Some(before) = runtime.clock.now().checked_sub_signed(keep)
        {
            match runtime.operations.forget(before).await {
                Ok(rows) => {
                    forgot = Some(Instant::now());
                    tracing::debug!(rows, "old history forgotten");
                }
                // Said already, and tried again.
                Err(error) => tracing::debug!(error = %error, "old history isn't forgotten yet"),
            }
        }
        tokio::time::sleep(LOOK_AFTER_HISTORY).await;
    }
}

fn is_state(catalogue: &Catalogue, name: &str) -> bool {
    catalogue.topic(name).is_some_and(|topic| matches!(topic.kind, TopicKind::State))
}

/// Nobody may write to topics that are being copied, or to those that were copied before.
fn check_names(log: &dyn Log, state: &State) -> Result<()> {
    let (names, _) = state.incarnations.names()?;
    if let Some(resize) = &names.under_way {
        let topics: Vec<&str> = resize.topics.keys().map(String::as_str).collect();
        bail!(
            "{} are being given {} partitions, or that was broken off: wait for it, give `muster topics resize {} --partitions \
             {}` again, or give it up with `muster topics resize --abandon`",
            topics.join(", "),
            resize.partitions,
            topics.first().unwrap_or(&"TOPIC"),
            resize.partitions
        );
    }
    if names.topics.iter().any(|(name, own)| log.own_name(name) != own.as_str()) {
        bail!("topics were resized a moment ago: start again");
    }
    Ok(())
}

/// Waits until topics are resized under us.
async fn resized(state: &State) -> Result<(), StateError> {
    let (began_with, mut changes) = state.incarnations.names()?;
    loop {
        changes.rung().await;
        let (names, _) = state.incarnations.names()?;
        if names.under_way.is_some() || names.topics != began_with.topics {
            return Ok(());
        }
    }
}

fn begin_again(why: Result<(), StateError>) -> RunError {
    let error = match why {
        Ok(()) => RunError::Refused {
            component: "topics".into(),
            reason: "they are being resized".into(),
            hint: "start again when `muster topics resize` has ended".into(),
        },
        Err(error) => error.into(),
    };
    tracing::error!(error = %error, "everything stops");
    error
}

/// A topic that has another number of partitions would put keys elsewhere than their readers look.
async fn check_partitions(log: &dyn Log, wanted: &[NewTopic]) -> Result<()> {
    let there = log.topics().await?;
    for topic in wanted {
        let Some(found) = there.iter().find(|found| found.name == topic.name) else {
            bail!("topic {} doesn't exist and could not be created", topic.name);
        };
        if resizable(&topic.name) && found.partitions != topic.partitions {
            bail!(
                "topic {} has {} partitions, the configuration says {}: set `log.kafka.partitions` to what the cluster has, \
                 or stop all processes and give `muster topics resize {} --partitions {}`",
                topic.name,
                found.partitions,
                topic.partitions,
                topic.name,
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
            .feeds(&environment, &memories(settings), Arc::clone(&runtime.clock))
            .with_context(|| format!("source {}", source.name))?;
        let mut system = System { name: source.name.clone(), feeds: Vec::with_capacity(feeds.len()) };
        for feed in feeds {
            let Some(topic) = settings.catalogue.topic(&feed.topic) else {
                bail!(
                    "feed {} of source {} writes {}, which isn't in the catalogue",
                    feed.name,
                    source.name,
                    feed.topic
                );
            };
            let how = source.feeds.get(&feed.name).unwrap_or(&source.default);
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
pub fn partitions(settings: &Settings) -> impl Fn(&schemas::Topic) -> u32 {
    let wanted = topics(settings);
    move |topic| wanted.iter().find(|w| w.name == topic.name).map_or(1, |w| w.partitions)
}

fn sinks(settings: &Settings) -> Result<Vec<SinkTask>> {
    let count = partitions(settings);
    let mut tasks = Vec::with_capacity(settings.sinks.len());
    for sink in &settings.sinks {
        let built = sink
            .to
            .build(&sink.name, &environment, &settings.catalogue, &count)
            .with_context(|| format!("sink {}", sink.name))?;
        tasks.push(SinkTask {
            name: sink.name.as_str().into(),
            sink: built.sink,
            topics: built.topics,
            limits: sink.limits,
        });
    }
    Ok(tasks)
}

fn jobs(settings: &Settings) -> Result<Vec<JobTask>> {
    let Some(of) = &settings.snapshots else { return Ok(Vec::new()) };
    Ok(vec![JobTask { job: Arc::new(snapshots(settings, of)?), schedule: of.schedule.clone() }])
}

/// The job that writes snapshots. Contacts nothing, but makes a local store's folder.
pub fn snapshots(settings: &Settings, of: &SnapshotSettings) -> Result<Snapshots> {
    let store = Store::open(&of.store, &environment).context("the store of the snapshots")?;
    let mut of = of.clone();
    for dataset in of.datasets.values_mut() {
        // Topics of tables are known to the configuration alone.
        let known = || settings.catalogue.entity(&dataset.topic).map(|entity| entity.key_fields.clone());
        dataset.key_fields = dataset.key_fields.take().or_else(known);
    }
    Ok(Snapshots::new(of, store, settings.folder.clone()))
}

fn memories(settings: &Settings) -> PathBuf {
    settings.folder.join("memories")
}

/// For claims and people: the machine's name where it is known, and the process.
fn process_name() -> String {
    let host = environment("HOSTNAME").unwrap_or_else(|| "muster".into());
    format!("{host}-{}", std::process::id())
}
