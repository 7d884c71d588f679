//! The operations database: history for people. Runs of sources, the index of the dead letters, and the ledger.
//!
//! Nothing here decides what is delivered: positions, claims and letters themselves are in the log.

#[cfg(any(test, feature = "testing"))]
mod kept;
mod ledger;
mod letters;
mod runs;

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

#[cfg(any(test, feature = "testing"))]
pub use self::kept::Write;
pub use self::ledger::LedgerRow;
pub use self::letters::{LetterFilter, LetterRow, LetterState};
pub use self::runs::{RunOutcome, RunRecord, RunStart};

static MIGRATIONS: Migrator = sqlx::migrate!("src/operations/migrations");

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
    /// A statement failed.
    #[error("the operations database failed: {0}")]
    Failed(#[from] sqlx::Error),
}

/// The operations database. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    store: Store,
}

#[derive(Clone)]
enum Store {
    Sqlite(SqlitePool),
    #[cfg(any(test, feature = "testing"))]
    Kept(kept::Kept),
}

/// The pool of a real database; answers at once where the history is kept in memory.
macro_rules! pool_or {
    ($operations:expr, |$kept:ident| $answer:expr) => {
        match &$operations.store {
            $crate::operations::Store::Sqlite(pool) => pool,
            #[cfg(any(test, feature = "testing"))]
            $crate::operations::Store::Kept($kept) => return $answer,
        }
    };
}
use pool_or;

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
        MIGRATIONS.run(&pool).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self { store: Store::Sqlite(pool) })
    }

    /// A history in memory, for tests and simulations: it answers at once, without threads of its own.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_memory() -> Self {
        Self { store: Store::Kept(kept::Kept::default()) }
    }

    /// A handle for one process of a simulation: before and after each write it asks `hook`. A file's handle never asks.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_faults(
        &self,
        hook: std::sync::Arc<dyn Fn(Write, crate::log::memory::When) -> crate::log::memory::Fault + Send + Sync>,
    ) -> Self {
        match &self.store {
            Store::Kept(kept) => Self { store: Store::Kept(kept.with_faults(hook)) },
            Store::Sqlite(_) => self.clone(),
        }
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

/// Counts are stored as SQLite's 64-bit integers.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counted(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
