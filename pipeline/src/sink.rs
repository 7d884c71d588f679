//! What a sink is: a system that is written to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::{ContentHash, Key, Topic};

use crate::change::{Epoch, Incarnation, Version};
use crate::ledger::Counts;
use crate::log::{Offset, TopicPartition};
use crate::processor::Payload;
use crate::reject::Reason;
use crate::state::Landmark;
use crate::verify::Inspect;

/// A partition that is now ours to deliver.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// The topic, from the catalogue.
    pub topic: Arc<Topic>,
    /// The partition.
    pub partition: u32,
    /// Which life of the partition.
    pub incarnation: Incarnation,
    /// Ours: a target refuses what comes with a lower one.
    pub epoch: Epoch,
}

impl Assigned {
    /// The partition's name.
    pub fn at(&self) -> TopicPartition {
        TopicPartition::new(self.topic.name.as_str(), self.partition)
    }
}

/// What a target remembers of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which life of the partition its offset belongs to.
    pub incarnation: Incarnation,
    /// The next offset to deliver.
    pub next: Offset,
    /// The last record below, where one was delivered.
    pub landmark: Option<Landmark>,
    /// When it was stored, in ms since 1970, by the target's clock.
    pub at_ms: i64,
    /// A sweep isn't finished: keys that this incarnation doesn't hold are still to be deleted.
    pub sweeping: bool,
}

/// Where delivery goes on.
#[derive(Debug)]
pub enum Resume {
    /// From the group's committed offsets.
    GroupOffsets,
    /// From what the target itself keeps; the runner judges whether it is still valid. `None`: from the start.
    Own(BTreeMap<TopicPartition, Option<Stored>>),
}

/// One change on its way into a target.
#[derive(Clone)]
pub struct Delivery {
    /// The entity's key.
    pub key: Key,
    /// A row never goes back to an older one.
    pub version: Version,
    /// Of the contents; `None` for a delete.
    pub hash: Option<ContentHash>,
    /// Where it stands in the topic.
    pub offset: Offset,
    /// `None`: delete.
    pub payload: Option<Payload>,
}

/// The changes of one partition in a batch: the latest per key.
#[derive(Clone)]
pub struct Part {
    /// The partition.
    pub of: Assigned,
    /// Ascending by offset, one per key.
    pub deliveries: Vec<Delivery>,
    /// The next offset that the target must still hold when this part is written (compare and set).
    pub expected: Offset,
    /// The next offset afterwards.
    pub next: Offset,
    /// The last record below it, to be kept with it: with another one there, the offset means nothing any more.
    pub landmark: Option<Landmark>,
    /// The topic wins whatever its version: the target is being swept after a new incarnation.
    pub sweeping: bool,
}

/// What a sink is given to deliver. Bounded in count and bytes by the runner.
#[derive(Clone, Default)]
pub struct Batch {
    /// One for each partition.
    pub parts: Vec<Part>,
}

impl Batch {
    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.deliveries.len()).sum()
    }

    /// Whether it holds none (its offsets may still move).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change that the target can't take.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The partition it came from.
    pub at: TopicPartition,
    /// Its key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// Why, without contents.
    pub reason: Reason,
}

/// What became of a batch. `counts.read` equals the batch's length.
#[derive(Debug, Default)]
pub struct Applied {
    /// Every delivery is in one of these.
    pub counts: Counts,
}

/// What became of parked rows since the last time.
#[derive(Debug, Default)]
pub struct Unparked {
    /// Rows that were tried: a target takes so many at once, those that were tried least often first.
    pub tried: u64,
    /// Rows that could be delivered at last, or were overtaken.
    pub settled: u64,
    /// Rows still waiting, but for those of `held_by_others`.
    pub waiting: u64,
    /// Rows that wait for as long as a row of somebody else's is there: nothing is wrong, and they never expire.
    pub held_by_others: u64,
    /// Rows that have waited too long: the runner writes dead letters, then calls [`Sink::forget_parked`].
    pub expired: Vec<(Rejected, Option<Payload>)>,
}

/// What a target holds of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: Key,
    /// The version that was written.
    pub version: Version,
    /// The contents that were written, where the target keeps their hash.
    pub hash: Option<ContentHash>,
    /// The row is marked as deleted: nothing but its version counts.
    pub gone: bool,
}

/// Why a batch couldn't be delivered. Named by what the runner does.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Wait and try the same batch again: nothing of it, or all of it, or some of it has been applied.
    #[error("{sink} is unavailable: {reason}")]
    Unavailable {
        /// Whose target.
        sink: String,
        /// What was tried and what came back, without contents.
        reason: String,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Another transaction was in the way, and nothing was applied: try the same batch again soon.
    #[error("{sink}: another transaction was in the way: {reason}")]
    Contended {
        /// Whose target.
        sink: String,
        /// What came back, without contents.
        reason: String,
    },
    /// A person must act.
    #[error("{sink} refused: {reason} ({hint})")]
    Refused {
        /// Whose target.
        sink: String,
        /// What was tried and what came back, without contents.
        reason: String,
        /// The way out.
        hint: String,
    },
    /// These can't be delivered: set them aside, then apply the rest. Never reported for deadlocks, serialization
    /// failures, lost connections or time-outs.
    #[error("{} of the batch can't be delivered", .0.len())]
    Rejected(Vec<Rejected>),
    /// Another owner has the partition: give it back.
    #[error("{at} belongs to a later owner")]
    Fenced {
        /// The partition.
        at: TopicPartition,
    },
}

/// A target. Everything may be applied twice and gives the same as once.
#[async_trait]
pub trait Sink: Send + Sync {
    /// These partitions are now ours: fences former owners where it can, and says where to go on.
    async fn assigned(&self, partitions: &[Assigned]) -> Result<Resume, SinkError>;

    /// `Ok`: the whole batch is durable or accounted for, offsets too where the target keeps them.
    async fn apply(&self, batch: &Batch) -> Result<Applied, SinkError>;

    /// Tries parked rows again. Sinks that park nothing answer the default.
    async fn retry_parked(&self) -> Result<Unparked, SinkError> {
        Ok(Unparked::default())
    }

    /// Drops parked rows that are in the dead letters now.
    async fn forget_parked(&self, _rows: &[Rejected]) -> Result<(), SinkError> {
        Ok(())
    }

    /// What the target holds of a partition, in key order, with what it has marked as deleted. `None`: it can't list.
    async fn held(&self, of: &Assigned, after: Option<&Key>, limit: usize) -> Result<Option<Vec<Held>>, SinkError>;

    /// How the target is compared with its topics. `None`: it can't be.
    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    /// What the target has of these keys may be of a former life of the topic, whose versions say nothing: from now on every
    /// version is newer.
    async fn outdate(&self, of: &Assigned, keys: &[Key]) -> Result<(), SinkError>;

    /// The sweep of a partition is finished: nothing is left that the topic doesn't hold. One that isn't finished begins
    /// again with the next owner, who must not find anything written before.
    async fn swept(&self, of: &Assigned) -> Result<(), SinkError>;

    /// These partitions are no longer ours.
    async fn revoked(&self, partitions: &[TopicPartition]) -> Result<(), SinkError>;
}
