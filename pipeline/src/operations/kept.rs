//! The operations database of tests and simulations: in memory, at once, and failing when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::{
    Indexed, LedgerRow, LetterFilter, LetterRow, LetterState, OperationsError, RunOutcome, RunRecord, RunStart,
};
use crate::ledger::Counts;
use crate::log::Offset;
use crate::log::memory::{Fault, When};

/// Something that is written to the operations database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// A run that begins.
    RunBegun,
    /// How a run ended.
    RunEnded,
    /// A letter in the index.
    LetterEntered,
    /// What became of a letter.
    LetterSettled,
    /// A component's account.
    Account,
}

type Hook = Arc<dyn Fn(Write, When) -> Fault + Send + Sync>;

/// Clones are the same database.
#[derive(Clone, Default)]
pub(super) struct Kept {
    tables: Arc<Mutex<Tables>>,
    faults: Option<Hook>,
}

#[derive(Default)]
struct Tables {
    runs: Vec<RunRecord>,
    letters: BTreeMap<String, (LetterRow, String)>,
    ledger: BTreeMap<(String, String), LedgerRow>,
    /// By partition of the letters' topic: its life, and up to where it was followed.
    letters_read: BTreeMap<u32, (String, Offset)>,
}

impl Kept {
    pub fn with_faults(&self, hook: Hook) -> Self {
        Self { tables: Arc::clone(&self.tables), faults: Some(hook) }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, with whatever the hook wants before and after.
    async fn write(&self, what: Write, write: impl FnOnce(&mut Tables)) -> Result<(), OperationsError> {
        self.step(what, When::Before).await?;
        write(&mut self.tables());
        self.step(what, When::After).await
    }

    /// Writes a note. One that finds nobody waits, and is written all the same.
    async fn note(&self, what: Write, write: impl FnOnce(&mut Tables)) {
        // What an operator of a simulation makes of it is only whether the process goes on from here.
        let (Ok(()) | Err(_)) = self.step(what, When::Before).await;
        write(&mut self.tables());
        let (Ok(()) | Err(_)) = self.step(what, When::After).await;
    }

    async fn step(&self, what: Write, when: When) -> Result<(), OperationsError> {
        match self.faults.as_ref().map_or(Fault::Ok, |hook| hook(what, when)) {
            Fault::Ok => Ok(()),
            Fault::Stall(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Fault::Unavailable => Err(sqlx::Error::PoolTimedOut.into()),
            Fault::Crash => std::future::pending().await,
        }
    }

    pub async fn begin_run(&self, run: &RunStart<'_>) {
        let (window_from, window_to) = run.window.unzip();
        let record = RunRecord {
            id: run.id.to_owned(),
            source: run.source.to_owned(),
            ask: run.ask.to_owned(),
            window_from,
            window_to,
            started: run.started,
            ended: None,
            success: None,
            counts: Counts::default(),
            vanished: 0,
            error: None,
        };
        self.note(Write::RunBegun, |tables| tables.runs.push(record)).await;
    }

    pub async fn end_run(&self, id: &str, ended: DateTime<Utc>, counts: &Counts, vanished: u64, outcome: &RunOutcome) {
        self.note(Write::RunEnded, |tables| {
            let Some(run) = tables.runs.iter_mut().find(|run| run.id == id) else { return };
            (run.ended, run.counts, run.vanished) = (Some(ended), *counts, vanished);
            (run.success, run.error) = match outcome {
                RunOutcome::Success => (Some(true), None),
                RunOutcome::CutOff => (None, None),
                RunOutcome::Failed(error) => (Some(false), Some(error.clone())),
            };
        })
        .await;
    }

    pub fn runs(&self, source: &str, limit: u32) -> Vec<RunRecord> {
        let tables = self.tables();
        let mut runs: Vec<RunRecord> = tables.runs.iter().rev().filter(|run| run.source == source).cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.started));
        runs.truncate(limit as usize);
        runs
    }

    pub fn last_success(&self, source: &str) -> Option<RunRecord> {
        self.runs(source, u32::MAX).into_iter().find(|run| run.success == Some(true))
    }

    pub fn sources(&self) -> Vec<String> {
        let sources: BTreeSet<String> = self.tables().runs.iter().map(|run| run.source.clone()).collect();
        sources.into_iter().collect()
    }

    pub fn letters_read(&self, partition: u32, life: &str) -> Offset {
        let mut tables = self.tables();
        let (of, next) = tables.letters_read.entry(partition).or_insert_with(|| (life.to_owned(), Offset::START));
        if of != life {
            (*of, *next) = (life.to_owned(), Offset::START);
        }
        *next
    }

    pub fn read_letters_again(&self, partition: u32) -> Result<(), OperationsError> {
        if let Some((_, next)) = self.tables().letters_read.get_mut(&partition) {
            *next = Offset::START;
        }
        Ok(())
    }

    pub async fn index_letters(
        &self,
        partition: u32,
        (life, from, next): (&str, Offset, Offset),
        records: Vec<Indexed>,
    ) -> Result<bool, OperationsError> {
        let what = match records.first() {
            Some(Indexed::Settled { .. }) => Write::LetterSettled,
            Some(Indexed::Entered { .. }) | None => Write::LetterEntered,
        };
        let mut done = false;
        self.write(what, |tables| {
            let read = tables.letters_read.get_mut(&partition).filter(|(of, at)| of == life && *at == from);
            let Some((_, at)) = read else { return };
            *at = next;
            done = true;
            records.into_iter().for_each(|record| tables.index(record));
        })
        .await?;
        Ok(done)
    }

    pub fn letters(&self, filter: &LetterFilter, limit: u32) -> Vec<LetterRow> {
        let tables = self.tables();
        let mut letters: Vec<LetterRow> =
            tables.letters.values().map(|(row, _)| row).filter(|row| passes(filter, row)).cloned().collect();
        letters.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
        letters.truncate(limit as usize);
        letters
    }

    pub fn count_letters(&self, filter: &LetterFilter) -> u64 {
        self.tables().letters.values().filter(|(row, _)| passes(filter, row)).count() as u64
    }

    pub fn letter(&self, id: &str) -> Option<(LetterRow, String)> {
        self.tables().letters.get(id).cloned()
    }

    pub fn open_letters_of(&self, component: &str, keys: &[&str]) -> Vec<LetterRow> {
        let tables = self.tables();
        let open = tables.letters.values().map(|(row, _)| row).filter(|row| {
            row.state == LetterState::Open
                && row.component == component
                && row.key.as_deref().is_some_and(|key| keys.contains(&key))
        });
        open.cloned().collect()
    }

    pub async fn write_ledger(&self, row: &LedgerRow) {
        let at = (row.component.clone(), row.process.clone());
        self.note(Write::Account, |tables| drop(tables.ledger.insert(at, row.clone()))).await;
    }

    /// Nobody exports in a simulation.
    pub fn keeps_no_exports(&self) {}

    pub fn ledger(&self) -> Vec<LedgerRow> {
        self.tables().ledger.values().cloned().collect()
    }
}

impl Tables {
    fn index(&mut self, record: Indexed) {
        match record {
            Indexed::Entered { row, letter, .. } => {
                let new = || ((*row).clone(), letter.clone());
                let (entered, text) = self.letters.entry(row.id.clone()).or_insert_with(new);
                let settled = matches!(entered.state, LetterState::Replayed | LetterState::Superseded);
                if settled && entered.version.is_some() {
                    (entered.state, entered.settled) = (LetterState::Open, None);
                    (entered.code, entered.reason, entered.at) = (row.code.clone(), row.reason.clone(), row.at);
                    *text = letter;
                }
            }
            Indexed::Settled { id, state, at } => {
                let Some((row, _)) = self.letters.get_mut(&id) else { return };
                if row.state == LetterState::Open || state != LetterState::Superseded {
                    (row.state, row.settled) = (state, Some(at));
                }
            }
        }
    }
}

fn passes(filter: &LetterFilter, row: &LetterRow) -> bool {
    filter.state.is_none_or(|state| state == row.state)
        && filter.component.as_ref().is_none_or(|component| *component == row.component)
        && filter.topic.as_ref().is_none_or(|topic| Some(topic) == row.topic.as_ref())
        && filter.code.as_ref().is_none_or(|code| *code == row.code)
        && filter.key.as_ref().is_none_or(|key| Some(key) == row.key.as_ref())
        && filter.since.is_none_or(|since| row.at >= since)
        && filter.until.is_none_or(|until| row.at < until)
}
