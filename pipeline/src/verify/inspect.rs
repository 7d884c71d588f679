//! How a target is looked at beside the sink that writes it: what it must be able to tell.

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemas::{Key, Topic};
use serde::{Deserialize, Serialize};

use crate::change::Version;
use crate::sink::{Delivery, Held, SinkError, Stored};

/// How a row differs from what the topic says of its key. Names columns and versions, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Difference {
    /// There is no row.
    Missing,
    /// There is a row, though the entity is gone or was never in the topic.
    Extra {
        /// What the row holds.
        held: Version,
    },
    /// The row holds an older version, or none.
    Stale {
        /// What it holds.
        held: Option<Version>,
    },
    /// The row holds a version that is above the topic's.
    Newer {
        /// What it holds.
        held: Version,
    },
    /// The row holds the right version, but not what was written with it.
    Columns {
        /// The columns that say something else.
        columns: Vec<String>,
    },
    /// The change waits in the target for another row. No difference: it is accounted for.
    Waiting,
}

impl Difference {
    /// Its name, as reports have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra { .. } => "extra",
            Self::Stale { .. } => "stale",
            Self::Newer { .. } => "newer",
            Self::Columns { .. } => "different",
            Self::Waiting => "waiting",
        }
    }

    /// The version that a change must have to be written over it.
    pub fn above(&self) -> Option<Version> {
        match self {
            Self::Extra { held } | Self::Newer { held } => Some(*held),
            Self::Stale { held } => *held,
            Self::Missing | Self::Columns { .. } | Self::Waiting => None,
        }
    }
}

/// A row that isn't what the change at `place` leaves there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The change's place in the list that was given.
    pub place: usize,
    /// How it differs.
    pub difference: Difference,
}

/// A target that can be compared. Reads only; takes nothing over from the sink that writes it.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// What the target remembers of a topic's partitions; those it has never seen are left out.
    async fn stored(&self, topic: &Topic) -> Result<BTreeMap<u32, Stored>, SinkError>;

    /// The rows that aren't what these changes, one for each key, leave there. Rows of somebody else's and columns that
    /// Muster doesn't keep up to date are never looked at.
    async fn compare(&self, topic: &Topic, changes: &[Delivery]) -> Result<Vec<Found>, SinkError>;

    /// The rows that are there and ours, whatever their partition, in key order, those that are marked as deleted among them;
    /// rows that wait count with the version that waits.
    async fn rows(&self, topic: &Topic, after: Option<&Key>, limit: usize) -> Result<Vec<Held>, SinkError>;
}
