//! What every component has done since its process began.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::database::Statement;
use super::runs::counts;
use super::{Operations, OperationsError, or_kept, stored};
use crate::ledger::Counts;

/// A component's account in one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    /// The component.
    pub component: String,
    /// The process.
    pub process: String,
    /// Since when it counts.
    pub since: DateTime<Utc>,
    /// When it was last written.
    pub updated: DateTime<Utc>,
    /// What became of its records.
    pub counts: Counts,
}

impl Operations {
    /// Writes a component's account, now or when the database is back.
    pub async fn write_ledger(&self, row: &LedgerRow) {
        or_kept!(self, |kept| kept.write_ledger(row).await);
        let c = &row.counts;
        let statement = Statement::new(
            "insert into ledger (component, process, since, updated, read, delivered, unchanged, superseded, \
             stale, rejected, parked) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             on conflict (component, process) do update set since = excluded.since, updated = excluded.updated, \
             read = excluded.read, delivered = excluded.delivered, unchanged = excluded.unchanged, \
             superseded = excluded.superseded, stale = excluded.stale, rejected = excluded.rejected, \
             parked = excluded.parked",
        )
        .bind(row.component.as_str())
        .bind(row.process.as_str())
        .bind(row.since)
        .bind(row.updated)
        .bind(stored(c.read))
        .bind(stored(c.delivered))
        .bind(stored(c.unchanged))
        .bind(stored(c.superseded))
        .bind(stored(c.stale))
        .bind(stored(c.rejected))
        .bind(stored(c.parked));
        self.note(Some(format!("{} of {}", row.component, row.process)), statement).await;
    }

    /// All accounts, by component and process.
    pub async fn ledger(&self) -> Result<Vec<LedgerRow>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.ledger()));
        self.catch_up().await;
        let rows = self.rows(Statement::new("select * from ledger order by component, process")).await?;
        let each = rows.iter().map(|row| {
            Ok(LedgerRow {
                component: row.get("component")?,
                process: row.get("process")?,
                since: row.get("since")?,
                updated: row.get("updated")?,
                counts: counts(row)?,
            })
        });
        each.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
    }
}
