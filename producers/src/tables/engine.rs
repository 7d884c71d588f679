//! The database behind a source, whichever it is, and the rows that one statement brings.

use std::collections::HashSet;

use pipeline::source::SourceError;
use schemas::Key;

use super::config::TablesConfig;
use super::plan::{Look, Plan};
use super::postgres::{Asked, Moment, Postgres};
use super::rows::{Cells, Rows};
use super::sql::{Dialect, Name};
use super::sqlite::Sqlite;

/// A database that is read from.
pub enum Engine {
    /// A server.
    Postgres(Postgres),
    /// A file.
    Sqlite(Sqlite),
}

impl Engine {
    /// Connects to nothing yet.
    pub fn new(config: &TablesConfig) -> Result<Self, SourceError> {
        Ok(match config.url.is_sqlite() {
            true => Self::Sqlite(Sqlite::new(config)?),
            false => Self::Postgres(Postgres::new(config)?),
        })
    }

    /// Whose SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// The table's columns. `None`: there is no such table.
    pub async fn look(&mut self, name: &Name, key: &[String]) -> Result<Option<Look>, SourceError> {
        match self {
            Self::Postgres(postgres) => postgres.look(name, key).await,
            Self::Sqlite(sqlite) => sqlite.look(name, key).await,
        }
    }

    /// Reads rows. `first` is told the moment before the statement, and may refuse.
    pub async fn read(
        &mut self,
        name: &Name,
        asked: &Asked,
        first: impl FnOnce(&Moment) -> Result<(), SourceError> + Send,
        gather: &mut Gather<'_>,
    ) -> Result<(), SourceError> {
        match self {
            Self::Postgres(postgres) => {
                let width = gather.plan.select.len();
                let row = |row: &super::postgres::binary::BinaryRow<'_>| {
                    let hashes = (row.width() > width).then(|| [row.extra(width), row.extra(width + 1)]);
                    gather.row(row, hashes)
                };
                postgres.read(name, asked, first, row).await
            }
            Self::Sqlite(sqlite) => sqlite.read(name, asked, first, gather).await,
        }
    }

    /// The moment, and whether the table is still as it was. Only servers are compared with.
    pub async fn moment(&mut self, name: &Name) -> Result<Moment, SourceError> {
        match self {
            Self::Postgres(postgres) => postgres.moment(name).await,
            Self::Sqlite(_) => Err(files_are_read()),
        }
    }

    /// How many rows a range has, and what their hashes come to.
    pub async fn hash(&mut self, asked: &Asked) -> Result<(u64, i64), SourceError> {
        match self {
            Self::Postgres(postgres) => postgres.hash(asked).await,
            Self::Sqlite(_) => Err(files_are_read()),
        }
    }

    /// The same of `ranges` ranges at once, in their order.
    pub async fn hashes(&mut self, asked: &Asked, ranges: usize) -> Result<Vec<(u64, i64)>, SourceError> {
        match self {
            Self::Postgres(postgres) => postgres.hashes(asked, ranges).await,
            Self::Sqlite(_) => Err(files_are_read()),
        }
    }

    /// What so many doubtful keys have come to: those that are there.
    pub async fn present(
        &mut self,
        name: &Name,
        asked: &Asked,
        first: impl FnOnce(&Moment) -> Result<(), SourceError> + Send,
        plan: &Plan,
    ) -> Result<HashSet<Key>, SourceError> {
        let Self::Postgres(postgres) = self else { return Err(files_are_read()) };
        let mut found = HashSet::new();
        let row = |row: &super::postgres::binary::BinaryRow<'_>| {
            let kinds = plan.key.iter().map(|at| &plan.select[*at].kind).enumerate();
            let parts: Result<Vec<String>, _> = kinds.map(|(at, kind)| row.key_part(at, kind)).collect();
            if let Ok(parts) = parts {
                found.insert(Key::of(&parts.iter().map(|part| Some(part.as_str())).collect::<Vec<_>>()));
            }
            true
        };
        postgres.read(name, asked, first, row).await?;
        Ok(found)
    }

    /// The highest number of the column that the statement selects; `None`: there is none.
    pub async fn highest(&mut self, sql: String) -> Result<Option<i64>, SourceError> {
        match self {
            Self::Postgres(postgres) => postgres.highest(sql).await,
            Self::Sqlite(sqlite) => sqlite.highest(sql).await,
        }
    }
}

/// A position of a server's table, and a URL that is a file's by now: the pass is given up for good when it is asked for
/// anew.
fn files_are_read() -> SourceError {
    SourceError::Refused {
        system: "tables".to_owned(),
        reason: "a comparison was under way, and the URL is that of another kind of database by now".to_owned(),
        hint: "give the table another topic".to_owned(),
    }
}

/// What a statement brings.
pub struct Gather<'p> {
    /// How the table is read.
    pub plan: &'p Plan,
    /// The rows.
    pub rows: Rows,
    /// They come in the order of the change column.
    pub by_change: bool,
    /// As many as were asked for; `None`: all of a range.
    pub limit: Option<u32>,
    /// More bytes aren't taken: the rest is for the next statement.
    pub most_bytes: usize,
    /// There may be more behind the last row.
    pub more: bool,
    /// What the rows' hashes come to: of key and change column, and of whole rows.
    pub hashes: [i64; 2],
}

impl<'p> Gather<'p> {
    /// Nothing yet.
    pub fn new(plan: &'p Plan, by_change: bool, limit: Option<u32>, most_bytes: usize) -> Self {
        Self { plan, rows: Rows::default(), by_change, limit, most_bytes, more: false, hashes: [0; 2] }
    }

    /// Takes a row, and says whether another is wanted.
    pub fn row(&mut self, cells: &impl Cells, hashes: Option<[i64; 2]>) -> bool {
        self.rows.add(self.plan, cells);
        if let Some(hashes) = hashes {
            self.hashes = [self.hashes[0].wrapping_add(hashes[0]), self.hashes[1].wrapping_add(hashes[1])];
        }
        let full = self.rows.bytes() >= self.most_bytes;
        let last = self.limit.is_some_and(|limit| self.rows.read >= u64::from(limit));
        if full || last {
            self.more = true;
            self.rows.mark(self.plan, cells, self.by_change);
        }
        !full
    }
}

/// How many rows to ask for next, so that a page takes about as many bytes as it may.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    most_rows: u32,
    page_bytes: u64,
    next: u32,
    /// No more than these, whatever their size: doubled with each page.
    ceiling: u32,
}

/// The first page shows how large rows are.
const FIRST_PAGE: u32 = 500;

impl Pace {
    /// Begins carefully.
    pub fn new(config: &TablesConfig) -> Self {
        let most_rows = config.page_rows;
        Self { most_rows, page_bytes: config.page_bytes, next: FIRST_PAGE.min(most_rows), ceiling: most_rows }
    }

    /// Rows to ask for.
    pub fn rows(&self) -> u32 {
        self.next
    }

    /// Bytes at which a page ends before its last row: rows may have become larger all at once.
    pub fn most_bytes(&self) -> usize {
        usize::try_from(self.page_bytes.saturating_mul(2)).unwrap_or(usize::MAX)
    }

    /// Learns from a page.
    pub fn learn(&mut self, rows: u64, bytes: usize) {
        if rows == 0 {
            return;
        }
        let each = (bytes as u64 / rows).max(1);
        let fitting = u32::try_from(self.page_bytes / each).unwrap_or(u32::MAX);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.most_rows);
        self.next = fitting.clamp(1, self.ceiling);
    }

    /// Begins again with few: more than these couldn't be read at once.
    pub fn slow(&mut self, rows: u32) {
        (self.next, self.ceiling) = (rows, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::config::DatabaseUrl;

    #[test]
    fn larger_rows_are_asked_for_by_fewer() {
        let mut pace = Pace::new(&TablesConfig::new(DatabaseUrl::new("sqlite://x"), "rota", Vec::new()));
        assert_eq!(pace.rows(), 500);
        pace.learn(500, 50_000);
        assert_eq!(pace.rows(), 5_000);
        pace.learn(5_000, 5_000 << 20);
        assert_eq!(pace.rows(), 16);
        pace.learn(1, 1 << 30);
        assert_eq!(pace.rows(), 1);
    }
}
