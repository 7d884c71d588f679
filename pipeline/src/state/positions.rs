//! How far sources and processors have got: positions, marks and progress.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{StateError, StateTable};
use crate::change::Incarnation;
use crate::log::Offset;
use crate::source::{Ask, Position};

/// A source's position, as `muster.positions` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPosition {
    /// In the source's own terms.
    pub position: Position,
    /// The lives of the topic's partitions it belongs to: with other ones, everything is asked for again.
    pub incarnations: Vec<Incarnation>,
    /// A pass that began and hasn't reached its end.
    pub under_way: Option<Ask>,
    /// When the last pass that reached its end began.
    pub finished: Option<DateTime<Utc>>,
    /// When the last pass over everything that reached its end began.
    pub reconciled: Option<DateTime<Utc>>,
}

/// Under what a processor's groups of one partition have all been derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The processor's version.
    pub version: u32,
    /// The reference tables' contents.
    pub tables: BTreeMap<String, String>,
    /// The lives of the outputs' partitions.
    pub outputs: BTreeMap<String, Incarnation>,
    /// The lives of the inputs' partitions.
    pub inputs: BTreeMap<String, Incarnation>,
}

/// How far a feed is complete, for snapshots and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Every change up to here, in the source's time, is in the topic.
    pub complete_to: DateTime<Utc>,
    /// The ends of the topic's partitions by then.
    pub ends: Vec<Offset>,
    /// The run that completed it.
    pub run: String,
}

/// Positions, marks and progress of all components.
pub struct Positions {
    positions: StateTable,
    progress: StateTable,
}

impl Positions {
    /// As `muster.positions` and `muster.progress` hold them.
    pub fn new(positions: StateTable, progress: StateTable) -> Self {
        Self { positions, progress }
    }

    /// Where `feed` has got to.
    pub fn position(&self, feed: &str) -> Result<Option<SavedPosition>, StateError> {
        Ok(self.positions.get(&format!("source|{feed}"))?.map(|(saved, _)| saved))
    }

    /// Saves where `feed` has got to. The changes before it must be in the log.
    pub async fn save_position(&self, feed: &str, saved: &SavedPosition) -> Result<(), StateError> {
        self.positions.put(&format!("source|{feed}"), saved).await?;
        Ok(())
    }

    /// Under what `processor` has derived all groups of `partition`.
    pub fn mark(&self, processor: &str, partition: u32) -> Result<Option<Mark>, StateError> {
        Ok(self.positions.get(&format!("mark|{processor}|{partition}"))?.map(|(mark, _)| mark))
    }

    /// Saves under what all groups of `partition` have been derived.
    pub async fn save_mark(&self, processor: &str, partition: u32, mark: &Mark) -> Result<(), StateError> {
        self.positions.put(&format!("mark|{processor}|{partition}"), mark).await?;
        Ok(())
    }

    /// Whether a person has paused `component`.
    pub fn paused(&self, component: &str) -> bool {
        self.positions.written_at(&format!("paused|{component}")).is_some()
    }

    /// Pauses `component` in every process, or lets it go on.
    pub async fn pause(&self, component: &str, paused: bool) -> Result<(), StateError> {
        let key = format!("paused|{component}");
        if paused {
            self.positions.put(&key, &true).await?
        } else {
            self.positions.delete(&key).await?
        };
        Ok(())
    }

    /// How far `feed` is complete.
    pub fn progress(&self, feed: &str) -> Result<Option<Progress>, StateError> {
        Ok(self.progress.get(feed)?.map(|(progress, _)| progress))
    }

    /// Saves how far `feed` is complete.
    pub async fn save_progress(&self, feed: &str, progress: &Progress) -> Result<(), StateError> {
        self.progress.put(feed, progress).await?;
        Ok(())
    }
}
