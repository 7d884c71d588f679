//! The loop of a processor: inputs in, the difference to the last outputs out.
//!
//! Outputs are a function of the latest inputs of a group and the reference tables, never of the order in which they
//! came. When what they were derived under has changed (the mark), all groups are derived again.

mod derive;
mod erased;
mod gather;
mod read;
mod rederive;
mod replay;
mod store;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::Key;
use tokio_util::sync::CancellationToken;

use self::derive::Taken;
pub use self::erased::AnyProcessor;
use self::read::{Read, last_of};
use self::store::Store;
use self::tables::ReferenceTables;
use super::metadata::Metadata;
use super::{Account, Mode, RunError, Runtime, Work, supervise, unless_revoked};
use crate::emitter::Emitter;
use crate::log::{Committed, Event, Offset, Record, Subscription, TopicPartition, end_behind_gaps};
use crate::state::{Mark, Reached};

/// What groups come to is held until the log has it, headers and all: many times what they took as inputs.
const GROUPS_AT_ONCE: usize = 500;

/// How long a loop waits for records before it looks after everything else.
const IDLE: Duration = Duration::from_millis(200);

/// How long it waits for events while groups are to be derived anew.
const A_MOMENT: Duration = Duration::from_millis(1);

/// How often an idle processor looks whether somebody else appended to its outputs.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often an idle processor looks whether the records it waits for have gone.
const GAPS_EVERY: Duration = Duration::from_secs(1);

/// A processor with its loop.
#[derive(Clone)]
pub struct ProcessorTask {
    /// What it derives.
    pub processor: Arc<dyn AnyProcessor>,
}

/// What a processor holds of one partition number (of all its inputs and outputs).
struct Partition {
    /// How far it has been read.
    read: Read,
    /// What it was derived under.
    mark: Mark,
    /// All inputs, for a processor whose inputs are one group.
    rows: BTreeMap<(Arc<str>, Key), Taken>,
    /// The latest inputs, for a processor with several input topics.
    store: Option<Store>,
}

/// What the group has committed: where reading goes on, and what it said of it.
type Kept = BTreeMap<TopicPartition, (Offset, Metadata)>;

struct Loop<'a> {
    runtime: &'a Runtime,
    processor: &'a dyn AnyProcessor,
    account: &'a mut Account,
    outputs: BTreeMap<&'static str, Emitter>,
    tables: ReferenceTables,
    partitions: BTreeMap<u32, Partition>,
    /// Of these partitions all groups are to be derived anew.
    anew: BTreeSet<u32>,
    /// No partition is delivered, since groups are derived anew.
    halted: bool,
    /// What the group said meanwhile.
    pending: Option<Event>,
    looked: chrono::DateTime<chrono::Utc>,
    gaps_looked: chrono::DateTime<chrono::Utc>,
    paused: bool,
}

impl ProcessorTask {
    /// Runs the processor until told to stop, or until everything that is there now is derived.
    pub async fn run(&self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let now = runtime.clock.now();
        let name = self.processor.name();
        let mut account = Account::new(name, now);
        runtime.health.starting(name, LOOK_EVERY * 6, now);
        let mut work = ProcessorWork { processor: self.processor.as_ref(), account: &mut account };
        supervise(name, runtime, mode, stop, &mut work).await
    }
}

struct ProcessorWork<'a> {
    processor: &'a dyn AnyProcessor,
    account: &'a mut Account,
}

#[async_trait]
impl Work for ProcessorWork<'_> {
    async fn work(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let processor = self.processor;
        let mut outputs = BTreeMap::new();
        for &name in processor.outputs() {
            let Some(topic) = schemas::catalogue().topic(name) else {
                return Err(refused(processor, format!("output {name} isn't in the catalogue")));
            };
            let emitter = Emitter::open(runtime.emitter_context(), processor.name(), Arc::clone(topic)).await?;
            outputs.insert(name, emitter);
        }
        let tables = ReferenceTables::open(runtime, processor).await?;
        let looked = runtime.clock.now();
        let mut work = Loop {
            runtime,
            processor,
            account: self.account,
            outputs,
            tables,
            partitions: BTreeMap::new(),
            anew: BTreeSet::new(),
            halted: false,
            pending: None,
            looked,
            gaps_looked: looked,
            paused: false,
        };
        work.check_inputs().await?;
        let inputs: Vec<Arc<str>> = processor.inputs().iter().map(|name| Arc::from(*name)).collect();
        let mut subscription = runtime.log.subscribe(&format!("muster.{}", processor.name()), &inputs).await?;
        let ended = work.follow(subscription.as_mut(), mode, stop).await;
        for emitter in work.outputs.values_mut() {
            emitter.save_all()?;
        }
        work.save_stores(&work.partitions.keys().copied().collect())?;
        work.account.write(runtime, true).await?;
        subscription.close().await?;
        ended
    }
}

fn refused(processor: &dyn AnyProcessor, reason: String) -> RunError {
    let hint = "this is a mistake in the program or the configuration".into();
    RunError::Refused { component: processor.name().to_owned(), reason, hint }
}

impl Loop<'_> {
    async fn follow(
        &mut self,
        subscription: &mut dyn Subscription,
        mode: Mode,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut assigned = false;
        loop {
            let patience = if self.anew.is_empty() || self.paused { IDLE } else { A_MOMENT };
            let event = match self.pending.take() {
                Some(event) => Some(event),
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    event = subscription.next() => Some(event?),
                    () = self.runtime.clock.sleep(patience) => None,
                },
            };
            match event {
                Some(Event::Assigned(partitions)) => {
                    assigned = true;
                    unless_revoked(self.assigned(subscription, &partitions).await)?;
                }
                Some(Event::Revoked(partitions)) => {
                    self.revoked(&partitions)?;
                    subscription.released().await?;
                }
                Some(Event::Lost(partitions)) => self.revoked(&partitions)?,
                Some(Event::Records(records)) => {
                    self.batch(records).await?;
                    unless_revoked(self.commit(subscription).await)?;
                }
                None => self.idle().await?,
            }
            if self.heed_pause(subscription).await? {
                if mode == Mode::Once {
                    return Ok(());
                }
                continue;
            }
            self.runtime.health.progressed(self.processor.name(), self.runtime.clock.now());
            self.account.write(self.runtime, false).await?;
            let forgotten: u64 = self.outputs.values_mut().map(Emitter::take_forgotten).sum();
            if self.tables.changed(self.runtime, self.processor).await? || forgotten > 0 {
                self.anew.extend(self.partitions.keys());
            }
            unless_revoked(self.rederive(subscription, stop).await)?;
            if mode == Mode::Once && assigned && !self.halted && self.pending.is_none() && self.caught_up().await? {
                return self.answer_requests().await;
            }
        }
    }

    /// Stops and starts the delivery of records as a person asks; whatever was handed out is derived.
    async fn heed_pause(&mut self, subscription: &mut dyn Subscription) -> Result<bool, RunError> {
        let paused = self.runtime.paused(self.processor.name());
        for (number, partition) in &self.partitions {
            for (topic, next) in &partition.read.next {
                let at = TopicPartition { topic: Arc::clone(topic), partition: *number };
                match (self.paused, paused) {
                    (false, true) => subscription.pause(&[at]).await?,
                    (true, false) => subscription.start(&at, *next).await?,
                    _ => {}
                }
            }
        }
        self.paused = paused;
        Ok(paused)
    }

    /// Claims the outputs of the partitions, and derives all their groups again where the mark says so.
    async fn assigned(
        &mut self,
        subscription: &mut dyn Subscription,
        assigned: &[TopicPartition],
    ) -> Result<(), RunError> {
        let mut numbers: Vec<u32> = assigned.iter().map(|at| at.partition).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for topic in self.processor.inputs() {
            let here = assigned.iter().filter(|at| &*at.topic == *topic).count();
            if here != numbers.len() {
                let reason = format!("{topic} was assigned with other partitions than the other inputs of the group");
                return Err(refused(self.processor, reason));
            }
        }
        let mut forgotten = 0;
        for emitter in self.outputs.values_mut() {
            let topic = emitter.topic().name.clone();
            if let Some(beyond) = numbers.iter().find(|number| **number >= emitter.partitions()) {
                let reason = format!("{topic} has no partition {beyond}: inputs and outputs must have the same count");
                return Err(refused(self.processor, reason));
            }
            emitter.own(&numbers).await?;
            forgotten += emitter.take_forgotten();
        }
        let inputs: Vec<TopicPartition> = numbers.iter().flat_map(|number| self.inputs_of(*number)).collect();
        let committed = subscription.committed(&inputs).await?;
        let understood = |committed: Committed| Some((committed.next, Metadata::parse(&committed.metadata)?));
        let committed: Kept = inputs
            .into_iter()
            .zip(committed)
            .filter_map(|(at, committed)| Some((at, understood(committed?)?)))
            .collect();
        let kept = committed.iter().map(|(at, (next, metadata))| Reached {
            at: at.clone(),
            incarnation: metadata.life.clone(),
            end: *next,
            landmark: metadata.landmark,
        });
        self.runtime.state.incarnations.end_belied(&kept.collect::<Vec<_>>()).await?;
        let mut marks = self.present_marks(&numbers).await?;
        for &number in &numbers {
            let at: Vec<TopicPartition> = self.inputs_of(number);
            let Some(mark) = marks.remove(&number) else { continue };
            let whole = self.usable(&at, &committed, &mark).await?;
            let derived = self.runtime.state.positions.mark(self.processor.name(), number)?;
            let mut read = Read::default();
            for at in &at {
                let Some((next, metadata)) = committed.get(at) else { continue };
                read.next.insert(Arc::clone(&at.topic), *next);
                let landmark = metadata.landmark.filter(|_| mark.inputs.get(&*at.topic) == Some(&metadata.life));
                read.landmarks.extend(landmark.map(|landmark| (Arc::clone(&at.topic), landmark)));
            }
            let current = derived.as_ref() == Some(&mark) && whole && forgotten == 0 && !self.processor.one_group();
            // A store can't be opened twice.
            self.partitions.remove(&number);
            let store = self.open_store(number, &mark.inputs)?;
            self.partitions.insert(number, Partition { read, mark, rows: BTreeMap::new(), store });
            if current && self.catch_up_at_once(number).await? {
                for at in &at {
                    let next = self.partitions[&number].read.next[&at.topic];
                    subscription.start(at, next).await?;
                }
            } else {
                self.anew.insert(number);
            }
        }
        // What was just started is paused again where it must be.
        self.paused = false;
        Ok(())
    }

    /// Whether reading can go on where it was committed: the places are there, of the lives that `mark` names, and tombstones
    /// behind them still are.
    async fn usable(&self, at: &[TopicPartition], committed: &Kept, mark: &Mark) -> Result<bool, RunError> {
        let now_ms = self.runtime.clock.now().timestamp_millis();
        for at in at {
            let Some((next, Metadata { life, at_ms, .. })) = committed.get(at) else { return Ok(false) };
            let bounds = self.runtime.log.ends(&at.topic).await?;
            let bounds = bounds.get(at.partition as usize).copied();
            if bounds.is_none_or(|bounds| *next > bounds.end) {
                // It ends below what was read of it: a new incarnation begins.
                self.runtime.state.incarnations.reached(at, life, *next).await?;
                return Ok(false);
            }
            let tombstones_live = self.tombstones_live_ms(&at.topic);
            // Either way: a clock that was set doesn't tell how long it was.
            let away_ms = (now_ms - at_ms).saturating_abs();
            // A mark is saved before the offsets: who died in between has left those of the former life, which may have been
            // passed again by now.
            let is_of_this_life = mark.inputs.get(&*at.topic).is_some_and(|present| present == life);
            if !is_of_this_life || bounds.is_none_or(|bounds| *next < bounds.start) || away_ms > tombstones_live {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How long a topic's tombstones are kept. Topics of tables aren't in the built-in catalogue: they are kept as all are.
    fn tombstones_live_ms(&self, topic: &str) -> i64 {
        let outputs = self.outputs.values().map(|emitter| emitter.topic().delete_retention).min();
        let retention = schemas::catalogue().topic(topic).map(|topic| topic.delete_retention).or(outputs);
        retention.map_or(i64::MAX, |retention| i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), RunError> {
        let mut numbers: Vec<u32> = partitions.iter().map(|at| at.partition).collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.save_stores(&numbers.iter().copied().collect())?;
        for number in &numbers {
            self.partitions.remove(number);
            self.anew.remove(number);
        }
        for emitter in self.outputs.values_mut() {
            emitter.disown(&numbers)?;
        }
        Ok(())
    }

    fn inputs_of(&self, number: u32) -> Vec<TopicPartition> {
        self.processor.inputs().iter().map(|topic| TopicPartition::new(*topic, number)).collect()
    }

    /// Under what groups of these partitions are derived now.
    async fn present_marks(&self, numbers: &[u32]) -> Result<BTreeMap<u32, Mark>, RunError> {
        let inputs: Vec<TopicPartition> = numbers.iter().flat_map(|number| self.inputs_of(*number)).collect();
        let lives = self.runtime.state.incarnations.present_all(&inputs).await?;
        let mark = |number: &u32| {
            let here = lives.iter().filter(|(at, _)| at.partition == *number);
            let outputs = self.outputs.iter();
            Mark {
                version: self.processor.version(),
                tables: self.tables.contents(),
                outputs: outputs
                    .filter_map(|(name, e)| Some(((*name).to_owned(), e.incarnation(*number)?.clone())))
                    .collect(),
                inputs: here.map(|(at, life)| (at.topic.to_string(), life.clone())).collect(),
            }
        };
        Ok(numbers.iter().map(|number| (*number, mark(number))).collect())
    }

    /// Derives the groups that a batch touches. What is durable afterwards may be committed.
    async fn batch(&mut self, records: Vec<Record>) -> Result<(), RunError> {
        // A rebalance may have taken a partition away between the log's answer and now.
        let records: Vec<Record> =
            records.into_iter().filter(|record| self.partitions.contains_key(&record.at.partition)).collect();
        let last = last_of(&records);
        let at_once = if self.processor.one_group() { usize::MAX } else { GROUPS_AT_ONCE };
        let mut rest = records;
        while rest.len() > at_once {
            let later = rest.split_off(at_once);
            self.derive_records(rest).await?;
            rest = later;
        }
        self.derive_records(rest).await?;
        for (at, last) in last {
            if let Some(partition) = self.partitions.get_mut(&at.partition) {
                partition.read.passed(&at.topic, last);
            }
        }
        Ok(())
    }

    async fn commit(&mut self, subscription: &mut dyn Subscription) -> Result<(), RunError> {
        // So that whoever comes next notices a topic that was made anew.
        let reached: Vec<_> = self.outputs.values().flat_map(Emitter::reached).collect();
        self.runtime.state.incarnations.reached_all(&reached).await?;
        let now_ms = self.runtime.clock.now().timestamp_millis();
        let mut offsets = Vec::new();
        // What a partition that is yet to be derived anew has read was perhaps of another life than its mark names.
        for (number, partition) in self.partitions.iter().filter(|(number, _)| !self.anew.contains(number)) {
            for (topic, next) in &partition.read.next {
                let Some(life) = partition.mark.inputs.get(&**topic).cloned() else { continue };
                let landmark = partition.read.landmarks.get(topic).copied();
                let metadata = Metadata { life, at_ms: now_ms, sweeping: false, landmark }.to_string();
                let at = TopicPartition { topic: Arc::clone(topic), partition: *number };
                offsets.push((at, Committed { next: *next, metadata }));
            }
        }
        subscription.commit(&offsets).await?;
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), RunError> {
        let now = self.runtime.clock.now();
        if (now - self.looked).abs().to_std().unwrap_or_default() >= LOOK_EVERY {
            self.looked = now;
            for emitter in self.outputs.values_mut() {
                emitter.check().await?;
            }
        }
        self.skip_gaps().await?;
        self.answer_requests().await
    }

    /// Moves on over what compaction has taken from the end of an input: no record will tell that it is reached.
    async fn skip_gaps(&mut self) -> Result<(), RunError> {
        let now = self.runtime.clock.now();
        if (now - self.gaps_looked).abs().to_std().unwrap_or_default() < GAPS_EVERY {
            return Ok(());
        }
        self.gaps_looked = now;
        for (number, partition) in &mut self.partitions {
            for (topic, next) in &mut partition.read.next {
                let at = TopicPartition { topic: Arc::clone(topic), partition: *number };
                let ends = self.runtime.log.ends(topic).await?;
                let end = ends.get(*number as usize).map_or(Offset::START, |bounds| bounds.end);
                if *next < end
                    && let Some(end) = end_behind_gaps(self.runtime.log.as_ref(), &at, *next).await?
                {
                    *next = end;
                }
            }
        }
        Ok(())
    }

    async fn caught_up(&self) -> Result<bool, RunError> {
        for topic in self.processor.inputs() {
            let ends = self.runtime.log.ends(topic).await?;
            for (number, partition) in &self.partitions {
                let end = ends.get(*number as usize).map_or(Offset::START, |bounds| bounds.end);
                let next = partition.read.next.get(*topic).copied().unwrap_or(Offset::START);
                if next < end {
                    return Ok(false);
                }
            }
        }
        self.tables.settled().await?;
        Ok(!self.tables.behind())
    }
}
