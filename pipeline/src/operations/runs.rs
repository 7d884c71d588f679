//! One record for each run of a source: when, what was asked, what came of it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::database::{Row, Statement};
use super::{Operations, OperationsError, counted, or_kept, stored};
use crate::ledger::Counts;

/// A run as it begins.
#[derive(Debug, Clone)]
pub struct RunStart<'a> {
    /// Its id, as the header `run` of its changes has it.
    pub id: &'a str,
    /// The feed.
    pub source: &'a str,
    /// `changes`, `everything`, `initial` or `window`.
    pub ask: &'a str,
    /// The window, where one was asked for.
    pub window: Option<(NaiveDate, NaiveDate)>,
    /// When it began.
    pub started: DateTime<Utc>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// It reached its end.
    Success,
    /// It was told to stop, and is taken up where it was.
    CutOff,
    /// Why it failed.
    Failed(String),
}

/// A run as the audit tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// The feed.
    pub source: String,
    /// What was asked.
    pub ask: String,
    /// The window's first day, where one was asked for.
    pub window_from: Option<NaiveDate>,
    /// The window's last day.
    pub window_to: Option<NaiveDate>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended; `None`: under way, or cut off.
    pub ended: Option<DateTime<Utc>>,
    /// Whether it reached the end; `None`: under way, or cut off.
    pub success: Option<bool>,
    /// What became of its records.
    pub counts: Counts,
    /// Entities that are known here and have gone from the system.
    pub vanished: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl Operations {
    /// Notes that a run begins, now or when the database is back.
    pub async fn begin_run(&self, run: &RunStart<'_>) {
        or_kept!(self, |kept| kept.begin_run(run).await);
        let (from, to) = run.window.unzip();
        let statement = Statement::new(
            "insert into runs (id, source, ask, window_from, window_to, started) values ($1, $2, $3, $4, $5, $6) \
             on conflict (id) do nothing",
        )
        .bind(run.id)
        .bind(run.source)
        .bind(run.ask)
        .bind(from)
        .bind(to)
        .bind(run.started);
        self.note(None, statement).await;
    }

    /// Notes how a run ended, now or when the database is back.
    pub async fn end_run(&self, id: &str, ended: DateTime<Utc>, counts: &Counts, vanished: u64, outcome: &RunOutcome) {
        or_kept!(self, |kept| kept.end_run(id, ended, counts, vanished, outcome).await);
        let (success, error) = match outcome {
            RunOutcome::Success => (Some(true), None),
            RunOutcome::CutOff => (None, None),
            RunOutcome::Failed(error) => (Some(false), Some(error.as_str())),
        };
        let statement = Statement::new(
            "update runs set ended = $1, success = $2, read = $3, delivered = $4, unchanged = $5, superseded = $6, \
             stale = $7, rejected = $8, parked = $9, vanished = $10, error = $11 where id = $12",
        )
        .bind(ended)
        .bind(success)
        .bind(stored(counts.read))
        .bind(stored(counts.delivered))
        .bind(stored(counts.unchanged))
        .bind(stored(counts.superseded))
        .bind(stored(counts.stale))
        .bind(stored(counts.rejected))
        .bind(stored(counts.parked))
        .bind(stored(vanished))
        .bind(error)
        .bind(id);
        self.note(None, statement).await;
    }

    /// The newest runs of a feed, newest first.
    pub async fn runs(&self, source: &str, limit: u32) -> Result<Vec<RunRecord>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.runs(source, limit)));
        self.catch_up().await;
        let sql = "select * from runs where source = $1 order by started desc, rowid desc limit $2";
        let rows = self.rows(Statement::new(sql).bind(source).bind(i64::from(limit))).await?;
        rows.iter().map(|row| Ok(run_record(row)?)).collect()
    }

    /// The newest run of a feed that reached its end.
    pub async fn last_success(&self, source: &str) -> Result<Option<RunRecord>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.last_success(source)));
        self.catch_up().await;
        let sql = "select * from runs where source = $1 and success order by started desc, rowid desc limit 1";
        let row = self.row(Statement::new(sql).bind(source)).await?;
        Ok(row.as_ref().map(run_record).transpose()?)
    }

    /// All feeds that have ever run.
    pub async fn sources(&self) -> Result<Vec<String>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.sources()));
        self.catch_up().await;
        let rows = self.rows(Statement::new("select distinct source from runs order by source")).await?;
        rows.iter().map(|row| Ok(row.get("source")?)).collect()
    }
}

fn run_record(row: &Row) -> Result<RunRecord, sqlx::Error> {
    Ok(RunRecord {
        id: row.get("id")?,
        source: row.get("source")?,
        ask: row.get("ask")?,
        window_from: row.get("window_from")?,
        window_to: row.get("window_to")?,
        started: row.get("started")?,
        ended: row.get("ended")?,
        success: row.get("success")?,
        counts: counts(row)?,
        vanished: counted(row.get("vanished")?),
        error: row.get("error")?,
    })
}

pub(super) fn counts(row: &Row) -> Result<Counts, sqlx::Error> {
    Ok(Counts {
        read: counted(row.get("read")?),
        delivered: counted(row.get("delivered")?),
        unchanged: counted(row.get("unchanged")?),
        superseded: counted(row.get("superseded")?),
        stale: counted(row.get("stale")?),
        rejected: counted(row.get("rejected")?),
        parked: counted(row.get("parked")?),
    })
}
