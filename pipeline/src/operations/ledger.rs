//! What every component has done since its process began.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;

use super::runs::counts;
use super::{Operations, OperationsError, pool_or, stored};
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
    /// Writes a component's account.
    pub async fn write_ledger(&self, row: &LedgerRow) -> Result<(), OperationsError> {
        let pool = pool_or!(self, |kept| kept.write_ledger(row).await);
        let query = "insert into ledger (component, process, since, updated, read, delivered, unchanged, superseded, \
                     stale, rejected, parked) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                     on conflict (component, process) do update set since = excluded.since, updated = excluded.updated, \
                     read = excluded.read, delivered = excluded.delivered, unchanged = excluded.unchanged, \
                     superseded = excluded.superseded, stale = excluded.stale, rejected = excluded.rejected, \
                     parked = excluded.parked";
        let c = &row.counts;
        sqlx::query(query)
            .bind(&row.component)
            .bind(&row.process)
            .bind(row.since)
            .bind(row.updated)
            .bind(stored(c.read))
            .bind(stored(c.delivered))
            .bind(stored(c.unchanged))
            .bind(stored(c.superseded))
            .bind(stored(c.stale))
            .bind(stored(c.rejected))
            .bind(stored(c.parked))
            .execute(pool)
            .await?;
        Ok(())
    }

    /// All accounts, by component and process.
    pub async fn ledger(&self) -> Result<Vec<LedgerRow>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.ledger()));
        let rows = sqlx::query("select * from ledger order by component, process").fetch_all(pool).await?;
        let each = rows.iter().map(|row| {
            Ok(LedgerRow {
                component: row.try_get("component")?,
                process: row.try_get("process")?,
                since: row.try_get("since")?,
                updated: row.try_get("updated")?,
                counts: counts(row)?,
            })
        });
        each.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
    }
}
