//! Changes the filled tables, one transaction at a time, and knows what must be in them afterwards.
//!
//! [`plan`] draws what a transaction does, [`ledger`] remembers what came of all of them, [`Changer`] writes.

mod ledger;
mod plan;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use sqlx::{Postgres, Sqlite, Transaction};

use super::database::{Database, Pool};
use super::error::PrmError;
use super::history::Times;
use super::recipe::Prm;
use super::row::Row;
use super::tables::Table;
use super::{postgres, sqlite};
use ledger::Ledger;
use plan::Touch;

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Insert,
    /// It is another now.
    Update,
    /// It goes.
    Delete,
}

/// One row of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What is done to it.
    pub action: Action,
    /// The row afterwards; where it goes, its key is what counts.
    pub row: Row,
}

/// A transaction that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its time, which all its rows bear as `updated_at`.
    pub at: DateTime<Utc>,
    /// In the order in which they were written.
    pub writes: Vec<Write>,
}

/// Changes a database that [`super::fill()`] has filled with the same [`Prm`], and that nobody else changes. What it does follows from
/// the seed and from what it was asked for before; only times come from elsewhere.
#[derive(Debug)]
pub struct Changer {
    prm: Prm,
    database: Database,
    ledger: Ledger,
    turn: u64,
}

/// A transaction that has written its rows and isn't committed. Dropped, it is rolled back, and its rows are never touched again.
///
/// SQLite has one writer at a time, so there the rows are written at the commit; readers see no difference.
#[derive(Debug)]
#[must_use = "dropped, it is rolled back"]
pub struct Late {
    at: NaiveDateTime,
    touches: Vec<Touch>,
    writes: Vec<Write>,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Postgres(Transaction<'static, Postgres>),
    Sqlite,
}

impl Changer {
    /// For a database that stands as it was filled.
    pub fn new(prm: Prm, database: Database) -> Changer {
        Changer { ledger: Ledger::new(&prm), prm, database, turn: 0 }
    }

    /// Makes about so many changes in one transaction: mostly edits of employees (status, dismissal with the end of the role,
    /// specialities, position), some new employees with their parties, some edits of other tables, now and then a division that
    /// leaves a contract. `at` is the transaction's time, which all its rows bear; `None` is the database's `now()`.
    ///
    /// # Errors
    /// What the database says; then nothing has changed, unless it was the answer to the commit that got lost.
    pub async fn change(&mut self, changes: usize, at: Option<DateTime<Utc>>) -> Result<Changed, PrmError> {
        let late = self.begin(changes, at).await?;
        self.commit(late).await
    }

    /// The same, but not yet committed: other changes may come before it, with later times.
    ///
    /// # Errors
    /// As [`Changer::change`].
    pub async fn begin(&mut self, changes: usize, at: Option<DateTime<Utc>>) -> Result<Late, PrmError> {
        let touches = plan::draw(&self.prm, self.turn, changes, &mut self.ledger);
        self.turn += 1;
        let begun = self.write(&touches, at.map(|at| at.naive_utc())).await;
        if begun.is_err() {
            self.ledger.release(&touches);
        }
        let (at, writes, open) = begun?;
        Ok(Late { at, touches, writes, open })
    }

    async fn write(
        &self,
        touches: &[Touch],
        at: Option<NaiveDateTime>,
    ) -> Result<(NaiveDateTime, Vec<Write>, Open), PrmError> {
        match &self.database.pool {
            Pool::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let at = match at {
                    Some(at) => whole_micros(at),
                    None => postgres::now(&mut transaction).await?,
                };
                let writes = self.writes(touches, at);
                for write in &writes {
                    postgres::write(&mut transaction, &self.database.place, write).await?;
                }
                Ok((at, writes, Open::Postgres(transaction)))
            }
            Pool::Sqlite(_) => {
                let at = whole_micros(at.unwrap_or_else(|| Utc::now().naive_utc()));
                Ok((at, self.writes(touches, at), Open::Sqlite))
            }
        }
    }

    fn writes(&self, touches: &[Touch], at: NaiveDateTime) -> Vec<Write> {
        let write = |touch: &Touch| {
            let inserted_at = touch.inserted_at.unwrap_or(at);
            let times = Times { inserted_at, updated_at: at };
            Write { action: touch.action, row: self.prm.row_at(touch.table, touch.number, touch.edit, times) }
        };
        touches.iter().map(write).collect()
    }

    /// Commits what was begun.
    ///
    /// # Errors
    /// As [`Changer::change`].
    pub async fn commit(&mut self, late: Late) -> Result<Changed, PrmError> {
        let Late { at, touches, writes, open } = late;
        let committed = self.finish(&writes, open).await;
        match committed {
            Ok(()) => self.ledger.book(&touches, at),
            Err(_) => self.ledger.release(&touches),
        }
        committed.map(|()| Changed { at: at.and_utc(), writes })
    }

    async fn finish(&self, writes: &[Write], open: Open) -> Result<(), PrmError> {
        match (open, &self.database.pool) {
            (Open::Postgres(transaction), _) => Ok(transaction.commit().await?),
            (Open::Sqlite, Pool::Sqlite(pool)) => {
                let mut transaction: Transaction<'static, Sqlite> = pool.begin_with("begin immediate").await?;
                for write in writes {
                    sqlite::write(&mut transaction, &self.database.place, write).await?;
                }
                Ok(transaction.commit().await?)
            }
            // A transaction of another changer.
            (Open::Sqlite, Pool::Postgres(_)) => Err(PrmError::Stranger),
        }
    }

    /// Every row that the table must hold now, in no particular order.
    pub fn expected(&self, table: Table) -> impl Iterator<Item = Row> + '_ {
        self.ledger.expected(&self.prm, table)
    }
}

/// What the columns keep.
fn whole_micros(at: NaiveDateTime) -> NaiveDateTime {
    at.trunc_subsecs(6)
}
