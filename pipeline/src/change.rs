//! One create, update or delete of one entity, and the headers it travels with.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemas::Key;
use serde::{Deserialize, Serialize};

/// One create, update or delete, as a source or a processor states it. Whether it is a create or an
/// update, or no change at all, is for the emitter to find out.
#[derive(Clone)]
pub enum Change {
    /// The entity is now this.
    Put {
        /// The entity's key.
        key: Key,
        /// The entity: an Avro body in the topic's current schema, without the wire frame.
        body: Bytes,
        /// When the source says it changed.
        time: Option<DateTime<Utc>>,
    },
    /// The entity is gone.
    Delete {
        /// The entity's key.
        key: Key,
        /// When the source says it went.
        time: Option<DateTime<Utc>>,
    },
}

impl Change {
    /// The entity's key.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// When the source says it changed.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Put { time, .. } | Self::Delete { time, .. } => *time,
        }
    }
}

/// Never shows the contents: they are personal data.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, body, .. } => write!(f, "Put({}, {} bytes)", key.as_str(), body.len()),
            Self::Delete { key, .. } => write!(f, "Delete({})", key.as_str()),
        }
    }
}

/// Orders the changes of one key: strictly increasing, whatever offsets and clocks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub i64);

impl Version {
    /// The version after `self`: the clock's milliseconds unless they are not ahead of it.
    pub fn next(self, now: DateTime<Utc>) -> Self {
        Self((self.0 + 1).max(now.timestamp_millis()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An owner's epoch: the offset of its claim. New at every start, always rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one life of a topic partition: a new one begins when its end is found below what had been written, or another record
/// where one was known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub String);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a source was asked when it read the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// What has changed since the last success, or in a window.
    Changes,
    /// All records, to find what was missed and what has gone.
    Everything,
    /// All records, for the first time.
    Initial,
}

impl Asked {
    /// As the header `ask` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Everything => "everything",
            Self::Initial => "initial",
        }
    }
}

/// The names of the headers a change travels with: CloudEvents Kafka binding 1.0.2 (binary mode), and ours.
pub mod header {
    /// Always `1.0`.
    pub const CE_SPECVERSION: &str = "ce_specversion";
    /// Derived from topic, key and version.
    pub const CE_ID: &str = "ce_id";
    /// The component that wrote it.
    pub const CE_SOURCE: &str = "ce_source";
    /// `<system>.<entity>.created|updated|deleted`.
    pub const CE_TYPE: &str = "ce_type";
    /// When the source says it changed, RFC 3339.
    pub const CE_TIME: &str = "ce_time";
    /// The key.
    pub const CE_SUBJECT: &str = "ce_subject";
    /// See [`super::Version`].
    pub const VERSION: &str = "version";
    /// See `schemas::ContentHash`.
    pub const HASH: &str = "hash";
    /// The hash of an edited replay's own contents, where `hash` is the original's.
    pub const EDITED: &str = "edited";
    /// When the request that read it was sent, RFC 3339.
    pub const CAPTURED: &str = "captured";
    /// See [`super::Asked`].
    pub const ASK: &str = "ask";
    /// The run that wrote it.
    pub const RUN: &str = "run";
    /// See [`super::Epoch`].
    pub const WRITER: &str = "writer";
}
