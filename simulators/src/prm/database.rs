//! The database that is filled and changed.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};

use super::ddl::{Dialect, Place};
use super::error::PrmError;

/// One that fills or changes, some that hold transactions open.
const CONNECTIONS: u32 = 8;

/// A database on the network answers sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// A PostgreSQL database or a SQLite file, connected. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    pub(super) place: Place,
    pub(super) pool: Pool,
}

#[derive(Clone, Debug)]
pub(super) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Database {
    /// Connects to `postgres://…` or `sqlite:///path` (made if it isn't there). The schema is created when it is filled; `None` is
    /// the search path's first. The password counts where the address has none.
    ///
    /// # Errors
    /// When the address can't be read, or nobody answers there within some seconds.
    pub async fn connect(url: &str, schema: Option<&str>, password: Option<&str>) -> Result<Database, PrmError> {
        if url.starts_with("sqlite:") {
            if schema.is_some() {
                return Err(PrmError::Schema);
            }
            let options = SqliteConnectOptions::from_str(url).map_err(|error| PrmError::Address(Some(error)))?;
            let options = options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .busy_timeout(PATIENCE)
                .foreign_keys(true);
            // SQLite has one writer at a time; a second connection would only wait.
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
            let pool = pool.map_err(PrmError::Unreachable)?;
            return Ok(Database { place: Place { dialect: Dialect::Sqlite, schema: None }, pool: Pool::Sqlite(pool) });
        }
        if !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            return Err(PrmError::Address(None));
        }
        let mut options = PgConnectOptions::from_str(url).map_err(|error| PrmError::Address(Some(error)))?;
        let names_password = url::Url::parse(url).is_ok_and(|url| url.password().is_some());
        if let Some(password) = password.filter(|_| !names_password) {
            options = options.password(password);
        }
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = pool.connect_with(options.application_name("muster simulate prm")).await;
        let pool = pool.map_err(PrmError::Unreachable)?;
        let place = Place { dialect: Dialect::Postgres, schema: schema.map(str::to_owned) };
        Ok(Database { place, pool: Pool::Postgres(pool) })
    }
}
