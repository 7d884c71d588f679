//! What a comparison came to: counts, and the first differing keys.

use serde::{Deserialize, Serialize};

use super::inspect::Difference;

/// How many keys are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Entities that were compared, those that are gone left out.
    pub compared: u64,
    /// Without a row.
    pub missing: u64,
    /// With a row that shouldn't be there.
    pub extra: u64,
    /// With an older version.
    pub stale: u64,
    /// With a version above the topic's.
    pub newer: u64,
    /// With the right version and other contents.
    pub different: u64,
    /// Of all these, seen once only: there were too many to look at again, some may have been on their way.
    pub seen_once: u64,
    /// Waiting in the target for another row.
    pub waiting: u64,
    /// In the dead letters.
    pub set_aside: u64,
    /// Repaired by hand, so that the topic says something else than the system on purpose.
    #[serde(default)]
    pub edited: u64,
    /// Gone from the system, and kept as the configuration says.
    #[serde(default)]
    pub kept: u64,
    /// Not delivered yet.
    pub undelivered: u64,
    /// Changed again and again while they were looked at.
    pub in_flight: u64,
}

impl Tally {
    /// How many keys differ.
    pub fn differing(&self) -> u64 {
        self.missing + self.extra + self.stale + self.newer + self.different
    }

    /// Counts one key.
    pub fn count(&mut self, difference: &Difference) {
        match difference {
            Difference::Missing => self.missing += 1,
            Difference::Extra { .. } => self.extra += 1,
            Difference::Stale { .. } => self.stale += 1,
            Difference::Newer { .. } => self.newer += 1,
            Difference::Columns { .. } => self.different += 1,
            Difference::Waiting => self.waiting += 1,
        }
    }
}

/// One key that differs. Keys hold no personal data: they are made of the systems' own ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// The entity's key.
    pub key: String,
    /// The partition it lies in.
    pub partition: u32,
    /// How it differs.
    #[serde(flatten)]
    pub difference: Difference,
}

/// What comparing one topic with one neighbour came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityReport {
    /// The topic.
    pub topic: String,
    /// How many.
    pub tally: Tally,
    /// The first keys that differ, in key order.
    pub keys: Vec<Differing>,
    /// The sink hasn't come to the end that the topic had when the comparison began, however long it was waited for.
    pub behind: bool,
}

impl EntityReport {
    /// Nothing differs, and everything has been delivered.
    pub fn same(&self) -> bool {
        self.tally.differing() == 0 && !self.behind
    }
}
