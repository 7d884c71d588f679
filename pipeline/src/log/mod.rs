//! The one seam between Muster and the broker: topics of keyed records that are compacted, so that a topic is a table.
//!
//! Three implementations: [`kafka`] for production, [`sqlite`] for one machine, `memory` for tests and
//! simulations. All pass `testing::log_suite`. [`names`] is a face of each that knows what resized topics are called.

pub mod copy;
pub mod kafka;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod names;
mod scan;
mod settings;
pub mod sqlite;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::scan::{Scan, scan};

/// A place in one partition of a topic. Compares within one incarnation of the partition only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// Where every partition begins.
    pub const START: Self = Self(0);

    /// The offset behind this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Counted from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.topic, self.partition)
    }
}

/// A record's headers, in order. Names are short and known, values are text unless their writer says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(Cow<'static, str>, Bytes)>);

impl Headers {
    /// Adds a header behind the others.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) {
        self.0.push((name.into(), value.into()));
    }

    /// The last header of that name, as Kafka clients read repeated ones.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_ref())
    }

    /// The last header of that name, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// What the headers take, names included, in bytes.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// A record to append. The partition is chosen by the caller: see `schemas::partition_of`.
#[derive(Clone)]
pub struct Append {
    /// Where to.
    pub at: TopicPartition,
    /// What compaction keeps the last record of.
    pub key: Bytes,
    /// `None` is a tombstone: the key is gone.
    pub value: Option<Bytes>,
    /// Travels with the value.
    pub headers: Headers,
}

impl Append {
    /// What the record takes in the log, roughly, in bytes.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + self.headers.size()
    }
}

/// A record as it was read.
#[derive(Clone)]
pub struct Record {
    /// Where from.
    pub at: TopicPartition,
    /// Its place there.
    pub offset: Offset,
    /// When it was appended, as the log says.
    pub timestamp: DateTime<Utc>,
    /// `None` only where somebody else wrote it: ours always have one.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// As appended.
    pub headers: Headers,
}

impl Record {
    /// What the record takes in memory, roughly, in bytes.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + self.headers.size()
    }
}

/// Contents are personal data: keys' lengths and places only.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map(Bytes::len);
        write!(f, "Record({}@{}, value {value:?} bytes)", self.at, self.offset)
    }
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map(Bytes::len);
        write!(f, "Append({}, value {value:?} bytes)", self.at)
    }
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Fixed for the topic's life.
    pub partitions: u32,
    /// Copies of each partition; logs on one machine keep one.
    pub replication: u16,
    /// Settings by their Kafka names (`cleanup.policy`, `delete.retention.ms`, …). A log that has no such thing ignores it.
    pub settings: BTreeMap<String, String>,
}

/// A topic as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many copies of each.
    pub replication: u16,
    /// Its settings by their Kafka names, defaults included where the log tells them.
    pub settings: BTreeMap<String, String>,
}

/// The present bounds of one partition, reported by the log, never computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that may still hold a record.
    pub start: Offset,
    /// The offset the next record will get.
    pub end: Offset,
}

/// What a [`Reader`] brings: records in order per partition, and the partitions whose present end it has reached.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Bounded in count and bytes by the log.
    pub records: Vec<Record>,
    /// A partition appears here when everything up to this end has been handed out, and again after more.
    pub at_end: Vec<(TopicPartition, Offset)>,
}

/// A group's committed place in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub next: Offset,
    /// What the committer wanted to remember with it (at most 4 KiB).
    pub metadata: String,
}

/// What a [`Subscription`] reports.
#[derive(Debug)]
pub enum Event {
    /// These partitions are now this member's. They are paused until [`Subscription::start`].
    Assigned(Vec<TopicPartition>),
    /// These partitions are being taken away. What was handed out of them may still be committed until
    /// [`Subscription::released`], which must follow within 10 s.
    Revoked(Vec<TopicPartition>),
    /// These partitions were taken away already: nothing of them can be committed any more.
    Lost(Vec<TopicPartition>),
    /// Records of started partitions, in order per partition; bounded in count and bytes by the log.
    Records(Vec<Record>),
}

/// Why the log didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It can't be reached, or not now: wait and try again.
    #[error("the log is unavailable: {reason}")]
    Unavailable {
        /// What was tried and what came back.
        reason: String,
    },
    /// It says no, and will say no again: a person must act.
    #[error("the log refused: {reason} ({hint})")]
    Refused {
        /// What was tried and what came back.
        reason: String,
        /// The way out.
        hint: String,
    },
    /// No such topic.
    #[error("topic {topic} doesn't exist (create it with `muster topics create`)")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// One record is larger than the topic takes: the record is at fault, not the log.
    #[error("a record of {bytes} bytes is too large for {at}, which takes {limit}")]
    TooLarge {
        /// Where it was to go.
        at: TopicPartition,
        /// What it takes.
        bytes: usize,
        /// What the topic takes.
        limit: usize,
        /// Its place in the call's list, where known.
        index: usize,
    },
    /// The place isn't in the partition (beyond its end, or before what is still kept): the topic was recreated or
    /// truncated. Never skipped over: the reader must decide.
    #[error("offset {offset} of {at} is outside {}..{}", ends.start, ends.end)]
    OutOfRange {
        /// The partition.
        at: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// What there is.
        ends: Ends,
    },
    /// The partition is no longer this member's: somebody else goes on with it.
    #[error("{at} is no longer ours")]
    NotOurs {
        /// The partition.
        at: TopicPartition,
    },
}

/// A log of topics. Cheap to share; every call may be made from many tasks at once.
#[async_trait]
pub trait Log: Send + Sync {
    /// Creates the topics that don't exist. Those that do are left as they are, whatever their settings.
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError>;

    /// All topics, by name.
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError>;

    /// Appends, in order per partition. `Ok`: all are durable, with their offsets in the order given. `Err`: any of
    /// them may have been appended; the caller appends again and readers take the later one.
    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError>;

    /// The present bounds of each partition of `topic`, in order.
    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError>;

    /// Reads partitions from the given offsets on, outside any group, and goes on with what is appended later.
    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError>;

    /// Joins a group. All members of a group must name the same topics; a member holds the same partition numbers in
    /// each topic of a size (range assignment).
    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError>;

    /// What a group has committed, without joining it.
    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError>;

    /// What the log itself calls a topic: another name where it was resized ([`names`]).
    fn own_name<'n>(&'n self, topic: &'n str) -> Cow<'n, str> {
        Cow::Borrowed(topic)
    }
}

/// Reads whole partitions. Holds a bounded number of records, whatever its user's pace.
#[async_trait]
pub trait Reader: Send {
    /// Waits for something new. Cancel-safe.
    async fn next(&mut self) -> Result<Chunk, LogError>;
}

/// A member of a group. Holds a bounded number of records, whatever its user's pace.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for the next event. Cancel-safe.
    async fn next(&mut self) -> Result<Event, LogError>;

    /// Starts, or starts again, the delivery of an assigned partition at `from`.
    async fn start(&mut self, at: &TopicPartition, from: Offset) -> Result<(), LogError>;

    /// Stops the delivery of partitions without giving them up; [`Self::start`] goes on.
    async fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError>;

    /// What the group has committed for assigned partitions, in the order given.
    async fn committed(&mut self, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError>;

    /// Commits, durably. Fails with [`LogError::NotOurs`] when a partition has gone to another member.
    async fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), LogError>;

    /// Lets go of the partitions of the last [`Event::Revoked`].
    async fn released(&mut self) -> Result<(), LogError>;

    /// Leaves the group, so that others take over at once.
    async fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// The partition's present end, where nothing but gaps lies between it and `from`: compaction may have taken the last
/// records, and then no record will ever tell a member of a group that it has reached the end. `None`: there is more.
pub async fn end_behind_gaps(log: &dyn Log, at: &TopicPartition, from: Offset) -> Result<Option<Offset>, LogError> {
    let chunk = log.read(&[(at.clone(), from)]).await?.next().await?;
    let end = chunk.at_end.into_iter().find(|(ended, _)| ended == at).map(|(_, end)| end);
    Ok(end.filter(|_| chunk.records.is_empty()))
}
