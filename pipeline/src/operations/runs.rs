//! One record for each run of a source: when, what was asked, what came of it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Operations, OperationsError, counted, pool_or, stored};
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
    /// Notes that a run begins.
    pub async fn begin_run(&self, run: &RunStart<'_>) -> Result<(), OperationsError> {
        let pool = pool_or!(self, |kept| kept.begin_run(run).await);
        let (from, to) = run.window.unzip();
        sqlx::query("insert into runs (id, source, ask, window_from, window_to, started) values (?, ?, ?, ?, ?, ?)")
            .bind(run.id)
            .bind(run.source)
            .bind(run.ask)
            .bind(from)
            .bind(to)
            .bind(run.started)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// Notes how a run ended.
    pub async fn end_run(
        &self,
        id: &str,
        ended: DateTime<Utc>,
        counts: &Counts,
        vanished: u64,
        outcome: &RunOutcome,
    ) -> Result<(), OperationsError> {
        let pool = pool_or!(self, |kept| kept.end_run(id, ended, counts, vanished, outcome).await);
        let (success, error) = match outcome {
            RunOutcome::Success => (Some(true), None),
            RunOutcome::CutOff => (None, None),
            RunOutcome::Failed(error) => (Some(false), Some(error.as_str())),
        };
        let query = "update runs set ended = ?, success = ?, read = ?, delivered = ?, unchanged = ?, superseded = ?, \
                     stale = ?, rejected = ?, parked = ?, vanished = ?, error = ? where id = ?";
        sqlx::query(query)
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
            .bind(id)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// The newest runs of a feed, newest first.
    pub async fn runs(&self, source: &str, limit: u32) -> Result<Vec<RunRecord>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.runs(source, limit)));
        let rows = sqlx::query("select * from runs where source = ? order by started desc, rowid desc limit ?")
            .bind(source)
            .bind(limit)
            .fetch_all(pool)
            .await?;
        rows.iter().map(|row| Ok(run_record(row)?)).collect()
    }

    /// The newest run of a feed that reached its end.
    pub async fn last_success(&self, source: &str) -> Result<Option<RunRecord>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.last_success(source)));
        let query = "select * from runs where source = ? and success = 1 order by started desc, rowid desc limit 1";
        let row = sqlx::query(query).bind(source).fetch_optional(pool).await?;
        Ok(row.as_ref().map(run_record).transpose()?)
    }

    /// All feeds that have ever run.
    pub async fn sources(&self) -> Result<Vec<String>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.sources()));
        let rows = sqlx::query("select distinct source from runs order by source").fetch_all(pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

fn run_record(row: &SqliteRow) -> Result<RunRecord, sqlx::Error> {
    Ok(RunRecord {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        ask: row.try_get("ask")?,
        window_from: row.try_get("window_from")?,
        window_to: row.try_get("window_to")?,
        started: row.try_get("started")?,
        ended: row.try_get("ended")?,
        success: row.try_get("success")?,
        counts: counts(row)?,
        vanished: counted(row.try_get("vanished")?),
        error: row.try_get("error")?,
    })
}

pub(super) fn counts(row: &SqliteRow) -> Result<Counts, sqlx::Error> {
    Ok(Counts {
        read: counted(row.try_get("read")?),
        delivered: counted(row.try_get("delivered")?),
        unchanged: counted(row.try_get("unchanged")?),
        superseded: counted(row.try_get("superseded")?),
        stale: counted(row.try_get("stale")?),
        rejected: counted(row.try_get("rejected")?),
        parked: counted(row.try_get("parked")?),
    })
}
