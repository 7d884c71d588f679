//! The operations database: history for people. Runs of sources, the index of the dead letters, the ledger, and the audit of
//! exports. Beside it the tokens that exports are allowed by: they alone are more than history.
//!
//! Nothing here decides what is delivered: positions, claims and letters themselves are in the log. So nobody waits for
//! it: what can't be written now is kept (`notes`) or read again from the log ([`crate::dead_letters`]) later.

mod database;
mod exports;
#[cfg(any(test, feature = "testing"))]
mod kept;
mod ledger;
mod letters;
mod notes;
mod postgres;
mod runs;
mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use self::database::{Database, Row, Statement, Trouble, trouble};
use self::notes::Notes;
use crate::telemetry;

pub use self::exports::{ExportEnd, ExportRecord, ExportStart};
#[cfg(any(test, feature = "testing"))]
pub use self::kept::Write;
pub use self::ledger::LedgerRow;
pub(crate) use self::letters::Indexed;
pub use self::letters::{LetterFilter, LetterRow, LetterState};
pub use self::postgres::PostgresOptions;
pub use self::runs::{RunOutcome, RunRecord, RunStart};
pub use self::tokens::{LiveToken, MOST_TOKENS, NewToken, TokenRow};

static SQLITE: Migrator = sqlx::migrate!("src/operations/migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("src/operations/migrations/postgres");

/// Why the operations database couldn't be used.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// The file can't be opened, or isn't ours.
    #[error(
        "the operations database {path} can't be opened: {reason} (move it away to begin a new history; no data is lost)"
    )]
    Open {
        /// The file.
        path: String,
        /// What SQLite says.
        reason: String,
    },
    /// It can't be reached, or not now: what is to be written waits.
    #[error("the operations database is away: {0}")]
    Away(sqlx::Error),
    /// A statement failed.
    #[error("the operations database failed: {0}")]
    Failed(#[source] sqlx::Error),
    /// The address can't be one.
    #[error("the operations database can't be used: {0}")]
    Refused(String),
}

impl From<sqlx::Error> for OperationsError {
    fn from(error: sqlx::Error) -> Self {
        match trouble(&error) {
            Trouble::Away | Trouble::Dropped => Self::Away(error),
            Trouble::Statement => Self::Failed(error),
        }
    }
}

/// The operations database. Cheap to clone; clones share what waits to be written.
#[derive(Clone)]
pub struct Operations {
    database: Database,
    notes: Arc<Notes>,
    /// The tables are there, as far as is known.
    prepared: Arc<AtomicBool>,
    schema: Option<Arc<str>>,
}

/// Answers at once where the history is kept in memory.
macro_rules! or_kept {
    ($operations:expr, |$kept:ident| $answer:expr) => {
        #[cfg(any(test, feature = "testing"))]
        if let $crate::operations::Database::Kept($kept) = &$operations.database {
            return $answer;
        }
    };
}
use or_kept;

impl Operations {
    /// Opens the SQLite file, makes it where it isn't there, and brings its tables up to date. Other processes of
    /// this machine may have it open, too.
    pub async fn open(path: &Path) -> Result<Self, OperationsError> {
        let failed = |reason: String| OperationsError::Open { path: path.display().to_string(), reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(|error| failed(error.to_string()))?;
        keep_private(path).map_err(|error| failed(error.to_string()))?;
        SQLITE.run(&pool).await.map_err(|error| failed(error.to_string()))?;
        let prepared = Arc::new(AtomicBool::new(true));
        Ok(Self { database: Database::Sqlite(pool), notes: Arc::default(), prepared, schema: None })
    }

    /// A history in memory, for tests and simulations: it answers at once, without threads of its own.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_memory() -> Self {
        Self::kept(kept::Kept::default())
    }

    /// A handle for one process of a simulation: before and after each write it asks `hook`. A database's handle never asks.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_faults(
        &self,
        hook: Arc<dyn Fn(Write, crate::log::memory::When) -> crate::log::memory::Fault + Send + Sync>,
    ) -> Self {
        match &self.database {
            Database::Kept(kept) => Self::kept(kept.with_faults(hook)),
            Database::Sqlite(_) | Database::Postgres(..) => self.clone(),
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn kept(kept: kept::Kept) -> Self {
        let prepared = Arc::new(AtomicBool::new(true));
        Self { database: Database::Kept(kept), notes: Arc::default(), prepared, schema: None }
    }

    /// A PostgreSQL that the processes of a site share. Contacts nothing yet: a database that is away holds nobody up.
    /// The tables are brought up to date when it is first used.
    pub fn postgres(options: &PostgresOptions) -> Result<Self, OperationsError> {
        // A pool is waited for, and the server is the first to end what takes too long.
        let within = options.connect_timeout + 2 * options.statement_timeout;
        let database = Database::Postgres(options.pool()?, within);
        let schema = Some(options.schema.as_str().into());
        Ok(Self { database, notes: Arc::default(), prepared: Arc::default(), schema })
    }

    /// Makes sure that it answers and has its tables.
    pub async fn prepare(&self) -> Result<(), OperationsError> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        if let (Database::Postgres(pool, within), Some(schema)) = (&self.database, &self.schema) {
            let prepared = tokio::time::timeout(*within, postgres::prepare(pool, schema, &POSTGRES)).await;
            prepared.unwrap_or_else(|_| Err(OperationsError::Away(database::too_late())))?;
        }
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether it answers, and could have its tables. Makes nothing.
    pub async fn probe(&self) -> Result<(), OperationsError> {
        if let (Database::Postgres(pool, within), Some(schema)) = (&self.database, &self.schema) {
            let probed = tokio::time::timeout(*within, postgres::probe(pool, schema)).await;
            probed.unwrap_or_else(|_| Err(OperationsError::Away(database::too_late())))?;
        }
        Ok(())
    }

    /// Writes what waits, unless the database didn't answer a moment ago.
    pub async fn catch_up(&self) {
        let _turn = self.notes.turn.lock().await;
        while !self.resting()
            && let Some(note) = self.notes.first()
        {
            match self.execute(note.statement).await {
                Ok(_) => {}
                Err(OperationsError::Failed(error)) => {
                    tracing::warn!(error = %error, "a note for the operations database can't be written");
                }
                Err(OperationsError::Away(error)) => {
                    self.notes.rest(&error);
                    break;
                }
                // A database that isn't ours to use: said once, and tried again.
                Err(error) => {
                    self.notes.rest(&sqlx::Error::Configuration(error.to_string().into()));
                    break;
                }
            }
            self.notes.done(note.number);
        }
        metrics::gauge!(telemetry::NOTES).set(self.notes.count() as f64);
    }

    /// Forgets what ended before this: runs, accounts, exports, letters that are settled. Open letters are kept, whatever their age.
    pub async fn forget(&self, before: DateTime<Utc>) -> Result<u64, OperationsError> {
        or_kept!(self, |_kept| Ok(0));
        let mut forgotten = 0;
        for sql in [
            "delete from runs where started < $1",
            "delete from ledger where updated < $1",
            "delete from exports where began < $1",
            "delete from letters where state <> 'open' and settled < $1",
        ] {
            forgotten += self.execute(Statement::new(sql).bind(before)).await?;
        }
        Ok(forgotten)
    }

    /// Forgets exports that began before this: all that a process writes which serves exports alone.
    pub async fn forget_exports(&self, before: DateTime<Utc>) -> Result<u64, OperationsError> {
        or_kept!(self, |_kept| Ok(0));
        self.execute(Statement::new("delete from exports where began < $1").bind(before)).await
    }

    /// How many notes wait for the database.
    pub fn waiting(&self) -> usize {
        self.notes.count()
    }

    /// Whether the database didn't answer a moment ago.
    pub(crate) fn resting(&self) -> bool {
        self.notes.resting()
    }

    /// The database didn't answer: it isn't asked again for a while.
    pub(crate) fn rest(&self, error: &OperationsError) {
        if let OperationsError::Away(error) = error {
            self.notes.rest(error);
        }
    }

    /// Writes a note, now or later. A later note of the same name takes the place of one that still waits.
    async fn note(&self, name: Option<String>, statement: Statement) {
        self.notes.push(name, statement);
        self.catch_up().await;
    }

    async fn execute(&self, statement: Statement) -> Result<u64, OperationsError> {
        self.prepare().await?;
        let done = match self.database.execute(statement.clone()).await {
            Err(error) if self.was_dropped(&error) => {
                self.prepare().await?;
                self.database.execute(statement).await?
            }
            done => done?,
        };
        self.notes.answered();
        Ok(done)
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<Row>, OperationsError> {
        self.prepare().await?;
        let rows = match self.database.rows(statement.clone()).await {
            Err(error) if self.was_dropped(&error) => {
                self.prepare().await?;
                self.database.rows(statement).await?
            }
            rows => rows?,
        };
        self.notes.answered();
        Ok(rows)
    }

    /// Somebody has dropped the tables, to forget: they are made again.
    fn was_dropped(&self, error: &sqlx::Error) -> bool {
        let dropped = trouble(error) == Trouble::Dropped && self.schema.is_some();
        if dropped {
            self.prepared.store(false, Ordering::Release);
        }
        dropped
    }

    async fn row(&self, statement: Statement) -> Result<Option<Row>, OperationsError> {
        Ok(self.rows(statement).await?.into_iter().next())
    }
}

/// Letters hold whole records: nobody but the owner reads the file.
#[cfg(unix)]
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn keep_private(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Counts are stored as 64-bit integers.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counted(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
