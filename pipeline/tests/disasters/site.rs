//! A site over the memory log: a system of reasons, the processor that puts them in capitals, and a target. Days pass;
//! between them anything may happen. What is right is read off the system alone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use pipeline::change::Change;
use pipeline::clock::{Clock, VirtualClock};
use pipeline::emitter::Emitter;
use pipeline::log::memory::MemoryLog;
use pipeline::log::{
    Append, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Record, Subscription, TopicInfo, TopicPartition,
};
use pipeline::run::{Mode, ProcessorTask, RunError, Runtime, SinkTask};
use pipeline::state::{Answer, Request, RequestKind};
use schemas::records::{ats, register};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::processors::Reasons;
use crate::common::sink::{Target, task};
use crate::common::source::{Script, feed, good, system};
use crate::common::{World, entity_in, key_of, reason, stamp, topic, version_of};

pub const INPUT: &str = "ats.reason";
pub const OUTPUT: &str = "register.reason";

/// What somebody holds: the name of each key.
pub type Names = BTreeMap<String, String>;

/// The key of the `n`th reason.
pub fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

pub fn put(n: u32, name: &str) -> Change {
    crate::common::put(&reason(&id(n), name))
}

pub fn gone(n: u32) -> Change {
    crate::common::delete(&id(n))
}

/// What [`OUTPUT`] and the target should hold.
pub fn names(rows: &[(u32, &str)]) -> Names {
    rows.iter().map(|(n, name)| (id(*n), name.to_uppercase())).collect()
}

pub struct Site {
    pub world: World,
    pub script: Script,
    pub reasons: Arc<Reasons>,
    pub target: Target,
}

impl Site {
    pub async fn new() -> Self {
        let world = World::new().await;
        let (script, target) = (Script::new(&world.clock, []), Target::new(&world.clock));
        Self { world, script, reasons: Arc::default(), target }
    }

    /// What the system holds from now on.
    pub fn says(&self, rows: &[(u32, &str)]) {
        self.script.set(rows.iter().map(|(n, name)| good(&id(*n), name)).collect::<Vec<_>>());
    }

    pub async fn process(&self, name: &str) -> Runtime {
        self.world.process(name).await
    }

    /// A process that runs everything once.
    pub async fn day(&self, name: &str) {
        let process = self.process(name).await;
        self.read(&process).await.unwrap();
        self.derive(&process).await.unwrap();
        self.deliver(&process).await.unwrap();
    }

    pub async fn read(&self, process: &Runtime) -> Result<(), RunError> {
        let mut system = system(vec![feed(&self.script)]);
        self.world.drive(system.run(process, Mode::Once, &CancellationToken::new())).await
    }

    pub async fn derive(&self, process: &Runtime) -> Result<(), RunError> {
        self.world.drive(self.processor().run(process, Mode::Once, &CancellationToken::new())).await
    }

    /// The answer to a request that the sink should deliver this letter.
    pub async fn replayed(&self, letter: &str) -> Answer {
        let process = self.process("clerk").await;
        let (id, kind) = (format!("replay-{letter}"), RequestKind::Replay { letter: letter.to_owned(), edited: None });
        let at = self.world.clock.now();
        let request = Request { id: id.clone(), target: "register".into(), kind, at, answer: None };
        process.state.requests.ask(&request).await.unwrap();
        self.deliver(&process).await.unwrap();
        self.world.drive(process.state.requests.answered(&id)).await.unwrap()
    }

    pub async fn deliver(&self, process: &Runtime) -> Result<(), RunError> {
        self.world.drive(self.sink().run(process, Mode::Once, &CancellationToken::new())).await
    }

    pub fn processor(&self) -> ProcessorTask {
        ProcessorTask { processor: Arc::clone(&self.reasons) as _ }
    }

    pub fn sink(&self) -> SinkTask {
        task(&self.target, &[OUTPUT])
    }

    /// A process that goes on until it is told to stop.
    pub fn follow(&self, process: &Runtime, stop: &CancellationToken) -> Vec<JoinHandle<Result<(), RunError>>> {
        let (mut system, processor, sink) = (system(vec![feed(&self.script)]), self.processor(), self.sink());
        let (one, two, three) = (process.clone(), process.clone(), process.clone());
        let (a, b, c) = (stop.clone(), stop.clone(), stop.clone());
        vec![
            tokio::spawn(async move { system.run(&one, Mode::Follow, &a).await }),
            tokio::spawn(async move { processor.run(&two, Mode::Follow, &b).await }),
            tokio::spawn(async move { sink.run(&three, Mode::Follow, &c).await }),
        ]
    }

    /// An emitter of the system's feed that has just taken its partition over.
    pub async fn emitter(&self, process: &Runtime) -> Emitter {
        let mut emitter = Emitter::open(process.emitter_context(), INPUT, topic(INPUT)).await.unwrap();
        emitter.own(&[0]).await.unwrap();
        emitter
    }

    /// What a source says without a pass: deletes, above all.
    pub async fn states(&self, process: &str, changes: Vec<Change>) {
        let mut emitter = self.emitter(&self.process(process).await).await;
        emitter.emit(changes, &stamp(self.world.clock.now())).await.unwrap();
    }

    /// The topic as a table: what compaction keeps.
    pub async fn last_records(&self) -> Names {
        table(self.world.records(OUTPUT).await, |_, _| true)
    }

    /// The topic as a reader takes it: a version that isn't newer than the one it holds is dropped.
    pub async fn highest_versions(&self) -> Names {
        table(self.world.records(OUTPUT).await, |held, new| new > held)
    }

    pub fn target_holds(&self) -> Names {
        holds(&self.target)
    }

    /// The topic, whichever way it is read, and the target hold this and nothing else.
    pub async fn is(&self, rows: &[(u32, &str)]) {
        let wanted = names(rows);
        assert_eq!(self.last_records().await, wanted, "the topic's last records");
        assert_eq!(self.highest_versions().await, wanted, "the topic's highest versions");
        assert_eq!(self.target_holds(), wanted, "the target");
        for component in [INPUT, "reasons", "register"] {
            // Asserts that each account balances.
            self.world.booked(component).await;
        }
    }

    /// The same for the source's own topic.
    pub async fn input_is(&self, rows: &[(u32, &str)]) {
        let wanted: Names = rows.iter().map(|(n, name)| (id(*n), (*name).to_owned())).collect();
        let records = self.world.records(INPUT).await;
        assert_eq!(input_table(records.clone(), |_, _| true), wanted, "the input's last records");
        assert_eq!(input_table(records, |held, new| new > held), wanted, "the input's highest versions");
    }
}

/// What a target holds of [`OUTPUT`].
pub fn holds(target: &Target) -> Names {
    let rows = target.rows(OUTPUT).into_iter();
    let schema = &schemas::catalogue().entity(OUTPUT).unwrap().schema;
    let name = |body: &[u8]| schemas::from_avro::<register::Reason>(schema, body).unwrap().name;
    rows.map(|(key, row)| (key, name(&row.body.unwrap()))).collect()
}

fn table(records: Vec<Record>, newer: impl Fn(i64, i64) -> bool) -> Names {
    fold(records, newer, |value| entity_in::<register::Reason>(OUTPUT, value).name)
}

fn input_table(records: Vec<Record>, newer: impl Fn(i64, i64) -> bool) -> Names {
    fold(records, newer, |value| entity_in::<ats::Reason>(INPUT, value).name)
}

fn fold(records: Vec<Record>, newer: impl Fn(i64, i64) -> bool, name: impl Fn(&[u8]) -> String) -> Names {
    let mut held: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
    for record in records {
        let (key, version) = (key_of(&record), version_of(&record));
        if held.get(&key).is_none_or(|(before, _)| newer(*before, version)) {
            held.insert(key, (version, record.value.as_deref().map(&name)));
        }
    }
    held.into_iter().filter_map(|(key, (_, name))| Some((key, name?))).collect()
}

/// Where a process stands still for as long as a test wants. What passes the gate is done, and never answered: whoever
/// stood there is as good as dead.
#[derive(Clone)]
pub struct Gate {
    open: watch::Sender<bool>,
    waiting: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
}

impl Gate {
    pub fn closed() -> Self {
        Self { open: watch::Sender::new(false), waiting: Arc::default(), passed: Arc::default() }
    }

    pub fn waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    pub async fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }

    pub fn pass(&self) {
        self.passed.fetch_add(1, Ordering::SeqCst);
    }

    /// Opens, and waits until what stood there is done.
    pub async fn let_through(&self) {
        self.open.send_replace(true);
        let passed = async {
            while self.passed.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), passed).await.unwrap();
    }
}

/// The log as a process sees it that stalls in the middle of an append to `topic`.
pub struct Stalling {
    pub log: MemoryLog,
    pub topic: &'static str,
    pub gate: Gate,
}

#[async_trait]
impl Log for Stalling {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        self.log.create(topics).await
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.log.topics().await
    }
    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        if records.iter().all(|record| *record.at.topic != *self.topic) {
            return self.log.append(records).await;
        }
        self.gate.wait().await;
        self.log.append(records).await?;
        self.gate.pass();
        std::future::pending().await
    }
    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        self.log.ends(topic).await
    }
    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        self.log.read(from).await
    }
    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(group, topics).await
    }
    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.log.committed(group, of).await
    }
}

/// The clock of a machine that is so much ahead of the world's, or behind it.
pub struct Wrong {
    pub clock: VirtualClock,
    pub by: TimeDelta,
}

impl fmt::Debug for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrong by {}", self.by)
    }
}

#[async_trait]
impl Clock for Wrong {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + self.by
    }
    async fn sleep(&self, length: Duration) {
        self.clock.sleep(length).await;
    }
    async fn sleep_until(&self, time: DateTime<Utc>) {
        self.clock.sleep_until(time - self.by).await;
    }
}
