//! Where a statement has its rows from: arrays that are bound to it, or, for many rows, a temporary table.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;

use super::place::Place;
use super::rows::{Statement, column_of, keys};
use super::stage::Stage;
use crate::sql::table::Table;
use crate::sql::transaction::Pending;

/// From so many rows on a temporary table is quicker: it costs three round trips more, and a row in it less than half as
/// much (bench/README.md). Tests have small batches, and go both ways.
const STAGED_FROM: usize = if cfg!(test) { 3 } else { 1_000 };

/// The temporary tables that have rows of this transaction; its end empties them.
pub(super) type Staged = BTreeSet<String>;

/// Either way the rows are `s`, with `c0`, `c1` …, and `key`, `version`, `hash`.
pub(super) enum Source {
    /// One array of texts for each column, then keys, versions and hashes.
    Arrays,
    /// The temporary table of this name.
    Stage(String),
}

impl Source {
    /// For these rows. Fills the temporary table, where it is one.
    pub(super) async fn of(
        connection: &mut PgConnection,
        place: &Place<'_>,
        rows: &[&&Pending],
        staged: &mut Staged,
    ) -> Result<Self, sqlx::Error> {
        if rows.len() < STAGED_FROM || !place.known.temporary {
            return Ok(Self::Arrays);
        }
        let Some(stage) = Stage::of(place, rows) else { return Ok(Self::Arrays) };
        stage.fill(connection, staged).await?;
        Ok(Self::Stage(stage.name))
    }

    /// How many parameters [`Self::bind`] binds: the first ones.
    pub(super) fn width(&self, table: &Table) -> usize {
        match self {
            Self::Arrays => table.columns.len() + 3,
            Self::Stage(_) => 0,
        }
    }

    /// As it stands behind `from`.
    pub(super) fn sql(&self, table: &Table) -> String {
        let columns = table.columns.len();
        match self {
            Self::Stage(name) => format!("{name} as s"),
            Self::Arrays => {
                let arrays = (1..=columns + 1).map(|n| format!("${n}::text[]"));
                let arrays = arrays.chain([format!("${}::bigint[]", columns + 2), format!("${}::text[]", columns + 3)]);
                let names = (0..columns).map(|n| format!("c{n}"));
                let names = names.chain(["key".into(), "version".into(), "hash".into()]);
                let (arrays, names): (Vec<_>, Vec<_>) = arrays.zip(names).unzip();
                format!("unnest({}) as s ({})", arrays.join(", "), names.join(", "))
            }
        }
    }

    pub(super) fn bind<'q>(&self, mut statement: Statement<'q>, table: &Table, rows: &[&&Pending]) -> Statement<'q> {
        if matches!(self, Self::Stage(_)) {
            return statement;
        }
        for column in 0..table.columns.len() {
            statement = statement.bind(column_of(rows, column));
        }
        statement
            .bind(keys(rows))
            .bind(rows.iter().map(|row| row.item.version).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.item.hash.clone()).collect::<Vec<_>>())
    }
}
