//! What the tests of the emitter and the loops share: a world in memory with a clock of its own, and fakes of the
//! three kinds of component.
#![allow(dead_code, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(missing_docs, reason = "tests")]

pub mod processors;
pub mod sink;
pub mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeZone, Utc};
use pipeline::change::{Asked, Change};
use pipeline::clock::{Clock, VirtualClock};
use pipeline::dead_letters::DeadLetters;
use pipeline::emitter::{Emitter, Stamp};
use pipeline::ledger::Counts;
use pipeline::log::memory::{Action, Fault, MemoryLog, MemoryOptions, Step, When};
use pipeline::log::{Log, NewTopic, Offset, Record, TopicPartition, scan};
use pipeline::operations::{LetterFilter, LetterRow, Operations};
use pipeline::retry::Policy;
use pipeline::run::{Health, RejectLimit, Runtime};
use pipeline::state::{Answer, Request, RequestKind, State};
use schemas::records::ats::Reason;
use schemas::{Entity, Key, Profile, Topic, catalogue};
use tempfile::TempDir;
use tokio::sync::Notify;

/// Everything that outlives a process: the log, the operations database, the time.
pub struct World {
    pub log: MemoryLog,
    pub clock: VirtualClock,
    pub folder: TempDir,
    /// Told when a process has crashed, so that its tasks are dropped.
    pub crash: Arc<Notify>,
    operations: Operations,
    profile: Profile,
}

pub fn morning() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2024, 3, 4, 8, 0, 0).unwrap()
}

impl World {
    /// Every topic has one partition.
    pub async fn new() -> Self {
        Self::with(Profile::Embedded).await
    }

    /// Large topics have twelve partitions.
    pub async fn spread() -> Self {
        Self::with(Profile::Production).await
    }

    async fn with(profile: Profile) -> Self {
        let clock = VirtualClock::manual(morning());
        let log = MemoryLog::default();
        log.set_clock(Arc::new(clock.clone()));
        let topics: Vec<NewTopic> = catalogue().topics().iter().map(|topic| new_topic(topic, profile)).collect();
        log.create(&topics).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::open(&folder.path().join("operations.db")).await.unwrap();
        Self { log, clock, folder, crash: Arc::default(), operations, profile }
    }

    /// A world without threads, files and real time: the same seed gives the same history. Entity topics have so many
    /// partitions. Needs a runtime with paused time.
    pub async fn simulated(options: MemoryOptions, partitions: u32) -> Self {
        let clock = VirtualClock::automatic(morning());
        let log = MemoryLog::new(options);
        log.set_clock(Arc::new(clock.clone()));
        let profile = Profile::Embedded;
        let sized = |topic: &Arc<Topic>| match topic.entity() {
            Some(_) => NewTopic { partitions, ..new_topic(topic, profile) },
            None => new_topic(topic, profile),
        };
        log.create(&catalogue().topics().iter().map(sized).collect::<Vec<_>>()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { log, clock, folder, crash: Arc::default(), operations: Operations::in_memory(), profile }
    }

    /// The state topics, as a process makes them where they are missing.
    pub fn state_topics(&self) -> Vec<NewTopic> {
        let topics = catalogue().topics().iter().filter(|topic| topic.entity().is_none());
        topics.map(|topic| new_topic(topic, self.profile)).collect()
    }

    /// A process as it starts: nothing of an earlier one is left but what was durable.
    pub async fn process(&self, name: &str) -> Runtime {
        let log: Arc<dyn Log> = Arc::new(self.log.clone());
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let state = State::open(Arc::clone(&log), name, &self.state_topics(), None).await.unwrap();
        let operations = self.operations.clone();
        let letters = DeadLetters::open(Arc::clone(&log), operations.clone(), Arc::clone(&clock)).await.unwrap();
        Runtime {
            process: name.into(),
            log,
            state,
            clock,
            operations,
            letters,
            folder: None,
            health: Arc::new(Health::default()),
            retry: Policy::default(),
            rejects: RejectLimit::default(),
            // Few, so that what is emitted has several parts.
            emit_at_once: 3,
        }
    }

    /// Strikes once, at the `nth` durable step from now (each has a before and an after).
    pub fn strike(&self, nth: u64, fault: Fault) {
        let (seen, crash) = (AtomicU64::new(0), Arc::clone(&self.crash));
        self.log.set_faults(Arc::new(move |_| {
            if seen.fetch_add(1, Ordering::SeqCst) != nth {
                return Fault::Ok;
            }
            if fault == Fault::Crash {
                crash.notify_waiters();
            }
            fault
        }));
    }

    /// History outlives processes; it is opened once, since opening takes longer than most tests.
    pub fn operations(&self) -> Operations {
        self.operations.clone()
    }

    /// Where memories may be kept on disk.
    pub fn memories(&self) -> PathBuf {
        self.folder.path().join("memories")
    }

    /// Does `work` while time passes: whenever somebody sleeps, the clock goes on to when they wake.
    pub async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        /// Answers of the operations database take real time, so virtual time must not run ahead of everything.
        const PACE: Duration = Duration::from_millis(1);
        /// A test that needs longer than this waits for something that will not come.
        const PATIENCE: Duration = Duration::from_secs(60);
        let work = async {
            tokio::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => return done,
                    () = tokio::time::sleep(PACE) => { self.clock.advance_to_next_sleeper().await; }
                }
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("the condition came about in time")
    }

    /// Lets time pass until the condition holds.
    pub async fn until(&self, mut holds: impl AsyncFnMut() -> bool) {
        self.drive(async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// All records of a topic that are in the log now.
    pub async fn records(&self, topic: &str) -> Vec<Record> {
        let partitions = self.log.ends(topic).await.unwrap().len();
        let all: Vec<_> =
            (0..partitions).map(|p| (TopicPartition::new(topic, u32::try_from(p).unwrap()), Offset::START)).collect();
        let mut records = Vec::new();
        scan(&self.log, &all, |record| records.push(record)).await.unwrap();
        records
    }

    /// Where each partition of the log ends, its own topics' included.
    pub async fn ends(&self) -> Vec<(TopicPartition, Offset)> {
        let mut ends = Vec::new();
        for topic in self.log.topics().await.unwrap() {
            for (partition, bounds) in self.log.ends(&topic.name).await.unwrap().into_iter().enumerate() {
                ends.push((TopicPartition::new(topic.name.as_str(), partition as u32), bounds.end));
            }
        }
        ends
    }

    /// What the topic says as a table, by key: the last record of each, tombstones left out.
    pub async fn table<E: Entity>(&self, topic: &str) -> std::collections::BTreeMap<String, E> {
        let mut table = std::collections::BTreeMap::new();
        for record in self.records(topic).await {
            let key = key_of(&record);
            match &record.value {
                Some(value) => table.insert(key, entity_in::<E>(topic, value)),
                None => table.remove(&key),
            };
        }
        table
    }

    /// The letters of the index, oldest first.
    pub async fn letters(&self) -> Vec<LetterRow> {
        let mut letters = self.operations().letters(&LetterFilter::default(), 1_000).await.unwrap();
        letters.reverse();
        letters
    }

    /// What a component of a process has booked.
    pub async fn booked(&self, component: &str) -> Counts {
        let mut sum = Counts::default();
        for row in self.operations().ledger().await.unwrap() {
            if row.component == component {
                row.counts.balanced().unwrap();
                sum += row.counts;
            }
        }
        sum
    }
}

pub fn new_topic(topic: &Topic, profile: Profile) -> NewTopic {
    NewTopic {
        name: topic.name.clone(),
        partitions: topic.partitions(profile),
        replication: 1,
        settings: topic.kafka_config(profile).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

pub fn topic(name: &str) -> Arc<Topic> {
    Arc::clone(catalogue().topic(name).unwrap())
}

pub fn key(text: &str) -> Key {
    Key::from_bytes(text.as_bytes()).unwrap()
}

pub fn key_of(record: &Record) -> String {
    String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap()
}

pub fn version_of(record: &Record) -> i64 {
    record.headers.text("version").unwrap().parse().unwrap()
}

pub fn entity_in<E: Entity>(topic: &str, value: &[u8]) -> E {
    let (_, body) = schemas::unframe(value).unwrap();
    schemas::from_avro(&catalogue().entity(topic).unwrap().schema, body).unwrap()
}

pub fn body<E: Entity>(entity: &E) -> Bytes {
    let mut body = Vec::new();
    schemas::to_avro(&catalogue().entity(E::TOPIC).unwrap().schema, entity, &mut body).unwrap();
    body.into()
}

pub fn put<E: Entity>(entity: &E) -> Change {
    Change::Put { key: entity.key(), body: body(entity), time: None }
}

pub fn delete(id: &str) -> Change {
    Change::Delete { key: key(id), time: None }
}

/// A reason of the ATS: the smallest entity there is.
pub fn reason(id: &str, name: &str) -> Reason {
    Reason { id: id.into(), name: name.into(), i_e_n_program: true, recruitment: false }
}

pub fn stamp(at: DateTime<Utc>) -> Stamp {
    Stamp { captured: at, asked: Asked::Changes, run: "run-1".into() }
}

/// An emitter for `ats.reason` that owns its partition.
pub async fn reasons_emitter(runtime: &Runtime) -> Emitter {
    let mut emitter = Emitter::open(runtime.emitter_context(), "ats.reason", topic("ats.reason")).await.unwrap();
    emitter.own(&[0]).await.unwrap();
    emitter
}

/// Strikes once, at the `nth` time (from 0) that something is appended to `topic`.
pub fn fail_append(log: &MemoryLog, topic: &str, nth: u64, when: When, fault: Fault) {
    let (topic, seen) = (topic.to_owned(), AtomicU64::new(0));
    log.set_faults(Arc::new(move |step: &Step| {
        let matches = matches!(&step.action, Action::Append { topic: to, .. } if **to == *topic) && step.when == when;
        if matches && seen.fetch_add(1, Ordering::SeqCst) == nth { fault } else { Fault::Ok }
    }));
}

pub fn no_faults(log: &MemoryLog) {
    log.set_faults(Arc::new(|_| Fault::Ok));
}

/// Asks an owner and waits for the answer.
pub async fn ask(world: &World, runtime: &Runtime, id: &str, target: &str, kind: RequestKind) -> Answer {
    let request = Request { id: id.into(), target: target.into(), kind, at: world.clock.now(), answer: None };
    runtime.state.requests.ask(&request).await.unwrap();
    world.drive(runtime.state.requests.answered(id)).await.unwrap()
}
