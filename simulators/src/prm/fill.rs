//! Fills the tables, all in one transaction: either everything is there afterwards, or what was there before.

use super::database::{Database, Pool};
use super::error::PrmError;
use super::recipe::Prm;
use super::tables::Table;
use super::{postgres, sqlite};

/// How far a fill has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The table that is being filled; `None` while keys and indexes are made, and when all is done.
    pub table: Option<Table>,
    /// Rows written, of all tables.
    pub rows: u64,
    /// Of so many.
    pub of: u64,
}

/// Told every some thousand rows.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// What to do with rows that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave them and refuse.
    Refuse,
    /// Delete them: all rows of the eight tables.
    Replace,
}

/// Creates what is missing of the eight tables and fills them, in one transaction. Memory stays the same whatever the number of rows.
///
/// # Errors
/// [`PrmError::Filled`] when a table holds rows and they aren't to be replaced; whatever the database says. Nothing has changed then.
pub async fn fill(
    prm: &Prm,
    database: &Database,
    existing: Existing,
    on_progress: OnProgress<'_>,
) -> Result<(), PrmError> {
    match &database.pool {
        Pool::Postgres(pool) => postgres::fill(prm, pool, &database.place, existing, on_progress).await,
        Pool::Sqlite(pool) => sqlite::fill(prm, pool, &database.place, existing, on_progress).await,
    }
}

/// Counts rows for whoever watches.
pub(super) struct Meter<'a> {
    on_progress: OnProgress<'a>,
    rows: u64,
    of: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(prm: &Prm, on_progress: OnProgress<'a>) -> Meter<'a> {
        Meter { on_progress, rows: 0, of: Table::ALL.iter().map(|table| prm.rows(*table)).sum() }
    }

    pub(super) fn written(&mut self, table: Table, rows: u64) {
        self.rows += rows;
        (self.on_progress)(Progress { table: Some(table), rows: self.rows, of: self.of });
    }

    pub(super) fn finishing(&mut self) {
        (self.on_progress)(Progress { table: None, rows: self.rows, of: self.of });
    }
}
