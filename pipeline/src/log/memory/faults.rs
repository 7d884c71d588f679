//! What a simulation can make the memory log do: fail or crash at a durable step, deliver late or twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::Record;

/// A moment at which a fault can strike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is made durable.
    pub action: Action,
    /// Before it is durable, or after.
    pub when: When,
}

/// Something that is made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The records of one append call that go to this topic.
    Append {
        /// The topic's name.
        topic: Arc<str>,
        /// Their keys, in order.
        keys: Arc<[Appended]>,
    },
    /// A group's offsets.
    Commit {
        /// The group's name.
        group: Arc<str>,
    },
    /// The creation of topics.
    Create,
}

/// What a hook is told of a record that is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Its key.
    pub key: Bytes,
    /// It has no value.
    pub tombstone: bool,
}

/// On which side of the durable moment a [`Step`] lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing has happened yet.
    Before,
    /// It is durable; the caller doesn't know yet.
    After,
}

/// What is to happen at a [`Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Go on.
    Ok,
    /// The call fails with `LogError::Unavailable`.
    Unavailable,
    /// The call takes this long, as one of a process that stalls. In tokio's time.
    Stall(Duration),
    /// The call never returns: the simulation drops the tasks of the process that made it.
    Crash,
}

/// How a record is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Now,
    /// After this time; what follows it in its partition waits behind it.
    After(Duration),
    /// Once now and once more with the next chunk.
    Twice,
}

pub(super) type FaultHook = Arc<dyn Fn(&Step) -> Fault + Send + Sync>;
pub(super) type DeliveryHook = Arc<dyn Fn(&Record) -> Delivery + Send + Sync>;
