//! What is to be written down, while the database can be reached and while it can't. Nobody who works waits for history:
//! what can't be written now waits here, up to a bound, and is written when the database is back.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::database::Statement;
use crate::telemetry;

/// More than this aren't kept: the oldest go. A run has two, an account one at a time.
const MOST: usize = 10_000;

/// A database that didn't answer isn't asked again for so long: asking takes as long as its time-outs.
const REST: Duration = Duration::from_secs(10);

/// A statement that waits.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// Its number: two with the same text are still two.
    pub(super) number: u64,
    /// A later note of the same name says all that this one does.
    name: Option<String>,
    pub(super) statement: Statement,
}

#[derive(Debug, Default)]
struct Waiting {
    notes: VecDeque<Note>,
    written: u64,
    lost: u64,
    rests_until: Option<Instant>,
}

/// Notes that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: Mutex<Waiting>,
    /// Whose turn it is to write: notes are written in order.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Notes {
    pub(super) fn push(&self, name: Option<String>, statement: Statement) {
        let mut waiting = self.lock();
        waiting.written += 1;
        let number = waiting.written;
        if name.is_some() {
            waiting.notes.retain(|note| note.name != name);
        }
        waiting.notes.push_back(Note { number, name, statement });
        if waiting.notes.len() > MOST {
            waiting.notes.pop_front();
            waiting.lost += 1;
            metrics::counter!(telemetry::NOTES_LOST).increment(1);
            if waiting.lost.is_power_of_two() {
                tracing::warn!(lost = waiting.lost, "the operations database is away for so long that notes are lost");
            }
        }
    }

    pub(super) fn first(&self) -> Option<Note> {
        self.lock().notes.front().cloned()
    }

    pub(super) fn done(&self, number: u64) {
        let mut waiting = self.lock();
        // A full queue may have let it go meanwhile.
        if waiting.notes.front().is_some_and(|note| note.number == number) {
            waiting.notes.pop_front();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().notes.len()
    }

    /// Whether the database didn't answer a moment ago.
    pub(super) fn resting(&self) -> bool {
        self.lock().rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// The database didn't answer. Said once, until it is back.
    pub(super) fn rest(&self, error: &sqlx::Error) {
        let was_well = self.lock().rests_until.replace(Instant::now() + REST).is_none();
        if was_well {
            tracing::warn!(error = %error, "the operations database is away: work goes on, history is caught up later");
        }
    }

    /// The database answered.
    pub(super) fn answered(&self) {
        if self.lock().rests_until.take().is_some() {
            tracing::info!("the operations database is back");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_account_only_the_latest_waits_and_the_oldest_notes_go() {
        let notes = Notes::default();
        for _ in 0..3 {
            notes.push(Some("ledger register".into()), Statement::new("select 1"));
        }
        assert_eq!(notes.count(), 1);
        for _ in 0..2 * MOST {
            notes.push(None, Statement::new("select 1"));
        }
        assert_eq!(notes.count(), MOST);
        assert_eq!(notes.first().map(|note| note.number), Some(3 + MOST as u64 + 1));
    }
}
