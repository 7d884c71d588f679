//! Keeps the index of the letters in step with their topic. The topic alone says what is open: the index follows it, from
//! where it stood, so that it may be lost, shared by several processes, or away for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::{Letter, LetterError};
use crate::change::Version;
use crate::log::{Log, Offset, Record, TopicPartition};
use crate::operations::{Indexed, LetterRow, LetterState, Operations};
use crate::state::Incarnations;
use crate::state::topic::DEAD_LETTERS;

/// Header of the record that settles a letter: what has become of it.
pub(super) const STATE: &str = "state";
/// Header of the record that settles a letter: when.
pub(super) const AT: &str = "at";

/// Deliveries that are remembered while the index can't be asked whether they supersede a letter.
const MOST_MISSED: usize = 20_000;

/// The index's follower.
pub(super) struct Index {
    pub(super) log: Arc<dyn Log>,
    pub(super) operations: Operations,
    pub(super) partitions: u32,
    /// Tells a topic that was made anew from the one that was read before.
    pub(super) lives: Option<Arc<Incarnations>>,
    /// One at a time in this process; between processes the database decides.
    turn: tokio::sync::Mutex<()>,
    missed: Mutex<HashMap<(String, String), HashMap<String, Version>>>,
}

impl Index {
    pub(super) fn new(log: Arc<dyn Log>, operations: Operations, partitions: u32) -> Self {
        let (turn, missed) = Default::default();
        Self { log, operations, partitions, lives: None, turn, missed }
    }

    /// Follows the topic to its present end, unless the database didn't answer a moment ago. What fails is tried again
    /// later: the letters themselves are in the log.
    pub(super) async fn try_catch_up(&self) {
        if self.operations.resting() {
            return;
        }
        match self.catch_up().await {
            Ok(()) => {}
            Err(LetterError::Operations(error)) => self.operations.rest(&error),
            Err(error) => tracing::warn!(error = %error, "the index of the dead letters lags behind"),
        }
    }

    /// Follows the topic to its present end.
    pub(super) async fn catch_up(&self) -> Result<(), LetterError> {
        let _turn = self.turn.lock().await;
        for partition in 0..self.partitions {
            self.follow(&TopicPartition::new(DEAD_LETTERS, partition)).await?;
        }
        Ok(())
    }

    async fn follow(&self, at: &TopicPartition) -> Result<(), LetterError> {
        let incarnation = match &self.lives {
            Some(lives) => Some(lives.present(at).await?),
            None => None,
        };
        let life = incarnation.as_ref().map_or("", |incarnation| incarnation.0.as_str());
        loop {
            let mut from = self.operations.letters_read(at.partition, life).await?;
            let ends = self.log.ends(DEAD_LETTERS).await?;
            let Some(bounds) = ends.get(at.partition as usize).copied() else { return Ok(()) };
            if from > bounds.end {
                self.operations.read_letters_again(at.partition).await?;
                from = Offset::START;
            }
            if from >= bounds.end {
                return Ok(());
            }
            let mut reader = self.log.read(&[(at.clone(), from.max(bounds.start))]).await?;
            while from < bounds.end {
                let chunk = reader.next().await?;
                let mut next = from;
                for (_, end) in &chunk.at_end {
                    next = next.max(*end);
                }
                for record in &chunk.records {
                    next = next.max(record.offset.next());
                }
                // What comes twice must not open a letter again that was settled since.
                let new = chunk.records.into_iter().filter(|record| record.offset >= from);
                let records = new.filter_map(indexed).collect();
                if !self.operations.index_letters(at.partition, life, from, next, records).await? {
                    // Another process has gone on from there: see how far.
                    break;
                }
                from = next;
            }
            if from >= bounds.end {
                if let (Some(lives), Some(incarnation)) = (&self.lives, &incarnation) {
                    lives.reached(at, incarnation, from).await?;
                }
                return Ok(());
            }
        }
    }

    /// Remembers deliveries until the index can be asked about them.
    pub(super) fn missed(&self, component: &str, topic: &str, delivered: &[(&str, Version)]) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = missed.values().map(HashMap::len).sum();
        let room = MOST_MISSED.saturating_sub(kept);
        if room < delivered.len() {
            tracing::debug!(component, topic, "letters may stay open although newer versions were delivered");
        }
        let kept = missed.entry((component.to_owned(), topic.to_owned())).or_default();
        for (key, version) in delivered.iter().take(room) {
            let latest = kept.entry((*key).to_owned()).or_insert(*version);
            *latest = (*latest).max(*version);
        }
    }

    /// What was remembered, to be asked about now.
    pub(super) fn take_missed(&self, component: &str, topic: &str) -> HashMap<String, Version> {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.is_empty() {
            return HashMap::new();
        }
        missed.remove(&(component.to_owned(), topic.to_owned())).unwrap_or_default()
    }
}

fn indexed(record: Record) -> Option<Indexed> {
    let id = std::str::from_utf8(record.key.as_deref()?).ok()?.to_owned();
    let Some(value) = record.value else {
        // Earlier versions didn't say: it is settled, one way or another.
        let state = record.headers.text(STATE).map_or(LetterState::Dropped, LetterState::parse);
        let at = record.headers.text(AT).and_then(|at| at.parse::<DateTime<Utc>>().ok());
        return Some(Indexed::Settled { id, state, at: at.unwrap_or(record.timestamp) });
    };
    let letter: Letter = match serde_json::from_slice(&value) {
        Ok(letter) => letter,
        Err(error) => {
            // Its text may quote the letter.
            let (line, column) = (error.line(), error.column());
            tracing::warn!(offset = %record.offset, line, column, "a dead letter isn't understood (a newer muster's?)");
            return None;
        }
    };
    let row = LetterRow {
        id,
        state: LetterState::Open,
        component: letter.component,
        topic: Some(letter.topic),
        key: letter.key,
        version: letter.version.map(|version| version.0),
        code: letter.code,
        reason: letter.reason,
        at: letter.at,
        settled: None,
    };
    let text = String::from_utf8(value.to_vec()).ok()?;
    Some(Indexed::Entered { row: Box::new(row), run: letter.run, letter: text })
}
