//! A log in memory, for unit tests and seeded simulations: real semantics of groups, compaction and lost topics, and
//! a hook at every durable step. Neighbours: [`super::sqlite`] and `kafka`, which keep what they are told.
//!
//! The handle outlives its users: a simulation stops a "process" by dropping its tasks and starts the next one on a
//! clone of the same [`MemoryLog`].

mod assign;
mod faults;
mod group;
mod reader;
mod state;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

pub use self::assign::range;
pub use self::faults::{Action, Appended, Delivery, Fault, Step, When};
use self::faults::{DeliveryHook, FaultHook};
use self::group::Group;
use self::reader::{Cursor, MemoryReader};
use self::state::{State, Topic};
use self::subscription::MemorySubscription;
use super::{
    Append, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Subscription, TopicInfo, TopicPartition, settings,
};
use crate::bell::Bell;
use crate::clock::{Clock, SystemClock};

/// What a [`MemoryLog`] does in its own time.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// The most records handed out at once.
    pub chunk_records: usize,
    /// The most bytes handed out at once; a single larger record still passes.
    pub chunk_bytes: usize,
    /// How long a rebalance waits for a member to let go before it takes its partitions away.
    pub revocation_timeout: Duration,
    /// How long a member that vanished without closing keeps its partitions. Zero: it leaves at once.
    pub session_timeout: Duration,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            chunk_records: 500,
            chunk_bytes: 1 << 20,
            revocation_timeout: Duration::from_secs(10),
            session_timeout: Duration::ZERO,
        }
    }
}

/// A log in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    /// Of this handle alone.
    own_faults: Option<FaultHook>,
}

struct Shared {
    options: MemoryOptions,
    state: Mutex<State>,
    hooks: Mutex<Hooks>,
    /// Changes with every append and every turn of a group: what readers wait for.
    news: Bell,
    fetched: AtomicU64,
}

struct Hooks {
    faults: FaultHook,
    delivery: Option<DeliveryHook>,
    clock: Arc<dyn Clock>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(options: MemoryOptions) -> Self {
        let hooks = Hooks { faults: Arc::new(|_| Fault::Ok), delivery: None, clock: Arc::new(SystemClock) };
        let shared = Shared {
            options,
            state: Mutex::default(),
            hooks: Mutex::new(hooks),
            news: Bell::default(),
            fetched: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), own_faults: None }
    }

    /// Asks `hook` before and after each durable step what is to happen there. It may call this log.
    pub fn set_faults(&self, hook: Arc<dyn Fn(&Step) -> Fault + Send + Sync>) {
        self.shared.hooks().faults = hook;
    }

    /// A handle for one process: its durable steps ask `hook`, and not the log's.
    #[must_use]
    pub fn with_faults(&self, hook: Arc<dyn Fn(&Step) -> Fault + Send + Sync>) -> Self {
        Self { shared: Arc::clone(&self.shared), own_faults: Some(hook) }
    }

    /// Asks `hook` of every record that is about to be handed out. It must not call this log.
    pub fn set_delivery(&self, hook: Arc<dyn Fn(&super::Record) -> Delivery + Send + Sync>) {
        self.shared.hooks().delivery = Some(hook);
    }

    /// Stamps records with this clock from now on, and judges the age of tombstones by it.
    pub fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.shared.hooks().clock = clock;
    }

    /// Keeps the latest record of each key, then drops tombstones at least `tombstones_older_than` old. Offsets keep
    /// their gaps, also at the end. Answers how many records went.
    pub fn compact(&self, topic: &str, tombstones_older_than: Duration) -> usize {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let Some(topic) = state.topics.get_mut(topic) else { return 0 };
        topic.partitions.iter_mut().map(|partition| partition.compact(now, tombstones_older_than)).sum()
    }

    /// Deletes a topic and makes it anew, empty, with `partitions` partitions. What groups had committed for it goes
    /// with it, as on Kafka. Readers behind its start are told [`LogError::OutOfRange`].
    pub fn recreate_topic(&self, topic: &str, partitions: u32) {
        let mut state = self.shared.state();
        let Some(found) = state.topics.get_mut(topic) else { return };
        found.recreate(partitions);
        for group in state.groups.values_mut() {
            group.offsets.retain(|at, _| &*at.topic != topic);
        }
        drop(state);
        self.shared.tell();
    }

    /// Loses the records from `end` on, as an unclean leader election does. What groups had committed stays.
    pub fn truncate(&self, at: &TopicPartition, end: Offset) {
        if let Ok(partition) = self.shared.state().partition_mut(at) {
            partition.truncate(end);
        }
        self.shared.tell();
    }

    /// Deletes the records before `start`, as retention does.
    pub fn delete_before(&self, at: &TopicPartition, start: Offset) {
        if let Ok(partition) = self.shared.state().partition_mut(at) {
            partition.delete_before(start);
        }
        self.shared.tell();
    }

    /// Forgets what a group has committed, as Kafka does with a group that stood empty for a week.
    pub fn forget_group(&self, group: &str) {
        if let Some(group) = self.shared.state().groups.get_mut(group) {
            group.forget();
        }
    }

    /// How many members a group has now.
    pub fn members(&self, group: &str) -> usize {
        self.shared.state().groups.get(group).map_or(0, Group::size)
    }

    /// Declares the `nth` member of a group (in the order they joined) dead, as a broker does that heard nothing from
    /// it: its partitions go to the others at once, it is told `Lost` and joins again. `false`: there is no such member.
    pub fn expire_member(&self, group: &str, nth: usize) -> bool {
        let expired = {
            let mut state = self.shared.state();
            let State { topics, groups, .. } = &mut *state;
            groups.get_mut(group).is_some_and(|group| group.expire(nth, topics, self.shared.group_deadline()))
        };
        self.shared.tell();
        expired
    }

    /// How many records were handed out to readers and members since the log was made.
    pub fn fetched(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> DateTime<Utc> {
        self.hooks().clock.now()
    }

    /// When a rebalance that begins now stops waiting.
    fn group_deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.options.revocation_timeout
    }

    /// Wakes everybody who waits for something new.
    fn tell(&self) {
        self.news.ring();
    }

    /// What the fault hook wants at this step; a crash never returns.
    async fn step(&self, own: Option<&FaultHook>, action: Action, when: When) -> Result<(), LogError> {
        let hook = own.cloned().unwrap_or_else(|| self.hooks().faults.clone());
        match hook(&Step { action, when }) {
            Fault::Ok => Ok(()),
            Fault::Stall(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Fault::Unavailable => Err(LogError::Unavailable { reason: "an injected fault".into() }),
            Fault::Crash => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        topics.iter().try_for_each(settings::check_topic)?;
        self.shared.step(self.own_faults.as_ref(), Action::Create, When::Before).await?;
        {
            let mut state = self.shared.state();
            for topic in topics {
                let name: Arc<str> = topic.name.as_str().into();
                state.topics.entry(name).or_insert_with(|| Topic::new(topic));
            }
        }
        self.shared.step(self.own_faults.as_ref(), Action::Create, When::After).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(self.shared.state().topics.values().map(|topic| topic.info.clone()).collect())
    }

    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        let mut by_topic: Vec<(Arc<str>, Vec<(usize, Append)>)> = Vec::new();
        {
            let state = self.shared.state();
            for (index, record) in records.into_iter().enumerate() {
                state.check(&record, index)?;
                match by_topic.iter_mut().find(|(topic, _)| *topic == record.at.topic) {
                    Some((_, part)) => part.push((index, record)),
                    None => by_topic.push((record.at.topic.clone(), vec![(index, record)])),
                }
            }
        }
        let count = by_topic.iter().map(|(_, part)| part.len()).sum();
        let mut offsets = vec![Offset::START; count];
        // Topic by topic, so that a fault in between leaves a part appended: a broker's partitions fail apart, too.
        for (topic, part) in by_topic {
            let appended =
                |(_, record): &(usize, Append)| Appended { key: record.key.clone(), tombstone: record.value.is_none() };
            let action = Action::Append { topic, keys: part.iter().map(appended).collect() };
            self.shared.step(self.own_faults.as_ref(), action.clone(), When::Before).await?;
            let now = self.shared.now();
            {
                let mut state = self.shared.state();
                for (index, record) in part {
                    offsets[index] = state.partition_mut(&record.at)?.append(record, now);
                }
            }
            self.shared.tell();
            self.shared.step(self.own_faults.as_ref(), action, When::After).await?;
        }
        Ok(offsets)
    }

    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        let state = self.shared.state();
        let found = state.topics.get(topic).ok_or_else(|| LogError::UnknownTopic { topic: topic.into() })?;
        Ok(found.partitions.iter().map(|partition| partition.ends()).collect())
    }

    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        let state = self.shared.state();
        let mut cursors = Vec::with_capacity(from.len());
        for (at, offset) in from {
            cursors.push(Cursor::new(&state, at, *offset)?);
        }
        drop(state);
        Ok(Box::new(MemoryReader::new(self.shared.clone(), cursors)))
    }

    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(MemorySubscription::join(self.shared.clone(), self.own_faults.clone(), group, topics)?))
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        let state = self.shared.state();
        let none = BTreeMap::new();
        let offsets = state.groups.get(group).map_or(&none, |group| &group.offsets);
        Ok(of.iter().map(|at| offsets.get(at).cloned()).collect())
    }
}
