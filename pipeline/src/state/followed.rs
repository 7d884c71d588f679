//! A compacted topic, followed whole: the latest record of every key, in memory.
//!
//! For state topics and small reference tables; both are small by design, so they are kept whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::bell::{Bell, Listener};
use crate::log::{Log, LogError, Offset, Reader, Record, TopicPartition};

/// Header of a record that counts only if its key hasn't been written behind this offset (-1: not at all). Every follower
/// reads a partition in one order, so all agree which of two such records counts; compaction leaves nothing to compare
/// with, and what it leaves counts.
pub(super) const EXPECTS: &str = "expects";

/// How long a follower waits before it tries an unavailable log again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Held {
    records: BTreeMap<String, Record>,
    /// Per partition: everything below has been taken in.
    next: Vec<Offset>,
}

/// The latest record of every key. Reading it is cheap: a task of its own follows the log.
pub struct Followed {
    log: Arc<dyn Log>,
    topic: Arc<str>,
    held: Arc<Mutex<Held>>,
    taken_in: Bell,
    follower: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followed {
    /// Reads the topic to its present end, then follows it.
    pub async fn open(log: Arc<dyn Log>, topic: &str) -> Result<Self, LogError> {
        let topic: Arc<str> = topic.into();
        let partitions = log.ends(&topic).await?.len();
        let held = Arc::new(Mutex::new(Held { records: BTreeMap::new(), next: vec![Offset::START; partitions] }));
        let taken_in = Bell::default();
        let follower = tokio::spawn(follow(Arc::clone(&log), Arc::clone(&topic), Arc::clone(&held), taken_in.clone()));
        let followed = Self { log, topic, held, taken_in, follower };
        followed.settled().await?;
        Ok(followed)
    }

    /// The log it lies in.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        u32::try_from(lock(&self.held).next.len()).unwrap_or(u32::MAX)
    }

    /// The latest record of `key`; `None` where it was never there or has gone.
    pub fn get(&self, key: &str) -> Option<Record> {
        lock(&self.held).records.get(key).cloned()
    }

    /// The latest records of all keys that begin with `prefix`, in key order.
    pub fn list(&self, prefix: &str) -> Vec<(String, Record)> {
        let held = lock(&self.held);
        let from = held.records.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    /// Waits until everything that is in the topic now has been taken in.
    pub async fn settled(&self) -> Result<(), LogError> {
        let ends = self.log.ends(&self.topic).await?;
        for (bounds, partition) in ends.iter().zip(0..) {
            self.taken_in_to(partition, bounds.end).await?;
        }
        Ok(())
    }

    /// Waits until everything below `end` has been taken in.
    pub async fn taken_in_to(&self, partition: u32, end: Offset) -> Result<(), LogError> {
        let mut changed = self.taken_in.listener();
        loop {
            changed.catch_up();
            let next = lock(&self.held).next.get(partition as usize).copied();
            let Some(next) = next else {
                return Err(LogError::UnknownTopic { topic: format!("{}|{partition}", self.topic) });
            };
            if next >= end {
                return Ok(());
            }
            changed.rung().await;
        }
    }

    /// Changes whenever something has been taken in.
    pub fn changes(&self) -> Listener {
        self.taken_in.listener()
    }
}

/// Follows the topic for ever. A topic that was recreated or truncated is read again from its start.
async fn follow(log: Arc<dyn Log>, topic: Arc<str>, held: Arc<Mutex<Held>>, taken_in: Bell) {
    loop {
        let error = match reader(log.as_ref(), &topic, &held).await {
            Ok(reader) => take_in(reader, &held, &taken_in).await,
            Err(error) => error,
        };
        match error {
            LogError::OutOfRange { .. } => {
                tracing::warn!(topic = %topic, "a followed topic was recreated or truncated, reading it again");
                let mut held = lock(&held);
                held.records.clear();
                held.next.iter_mut().for_each(|next| *next = Offset::START);
            }
            error => {
                tracing::warn!(topic = %topic, error = %error, "a topic can't be followed, trying again");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}

async fn reader(log: &dyn Log, topic: &Arc<str>, held: &Mutex<Held>) -> Result<Box<dyn Reader>, LogError> {
    // What retention has taken, if somebody set it, isn't there to be read.
    let bounds = log.ends(topic).await?;
    let from: Vec<(TopicPartition, Offset)> = lock(held)
        .next
        .iter()
        .zip(bounds)
        .zip(0u32..)
        .map(|((next, bounds), partition)| {
            (TopicPartition { topic: Arc::clone(topic), partition }, (*next).max(bounds.start))
        })
        .collect();
    log.read(&from).await
}

async fn take_in(mut reader: Box<dyn Reader>, held: &Mutex<Held>, taken_in: &Bell) -> LogError {
    loop {
        let chunk = match reader.next().await {
            Ok(chunk) => chunk,
            Err(error) => return error,
        };
        {
            let mut held = lock(held);
            for record in chunk.records {
                let (partition, next) = (record.at.partition as usize, record.offset.next());
                enter(&mut held.records, record);
                if let Some(place) = held.next.get_mut(partition) {
                    *place = (*place).max(next);
                }
            }
            for (at, end) in chunk.at_end {
                if let Some(place) = held.next.get_mut(at.partition as usize) {
                    *place = (*place).max(end);
                }
            }
        }
        taken_in.ring();
    }
}

fn enter(records: &mut BTreeMap<String, Record>, record: Record) {
    let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else {
        // Ours always have a text key.
        tracing::warn!(topic = %record.at.topic, offset = %record.offset, "a foreign record without a text key is ignored");
        return;
    };
    let expects = record.headers.text(EXPECTS).and_then(|text| text.parse().ok()).map(Offset);
    if expects.is_some_and(|expects| records.get(key).is_some_and(|present| present.offset > expects)) {
        return;
    }
    if record.value.is_some() {
        records.insert(key.to_owned(), record);
    } else {
        records.remove(key);
    }
}
