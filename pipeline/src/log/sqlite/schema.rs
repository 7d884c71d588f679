//! The file: how it is opened, what it holds, and which versions of it are known.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::super::LogError;
use super::SqliteOptions;
use super::error::{classify, damaged};

/// "MLOG": tells a log from other SQLite files.
const APPLICATION_ID: i32 = 0x4d4c_4f47;

/// Raised by one with each change of the tables.
const VERSION: i32 = 1;

/// Records lie in the primary key's tree itself, in the order in which they are read. `cleaned` is compaction's
/// memory per partition: up to where duplicates were removed, how many records are left there, and the oldest tombstone.
const TABLES: &str = "
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        partitions INTEGER NOT NULL,
        settings TEXT NOT NULL
    );
    CREATE TABLE records (
        topic INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        at INTEGER NOT NULL,
        key BLOB NOT NULL,
        headers BLOB,
        value BLOB,
        PRIMARY KEY (topic, partition, offset)
    ) WITHOUT ROWID;
    CREATE TABLE commits (
        member_group TEXT NOT NULL,
        topic INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        next INTEGER NOT NULL,
        metadata TEXT NOT NULL,
        PRIMARY KEY (member_group, topic, partition)
    ) WITHOUT ROWID;
    CREATE TABLE cleaned (
        topic INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        upto INTEGER NOT NULL,
        kept INTEGER NOT NULL,
        tombstone INTEGER,
        PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;";

/// The writer's connection: every commit is on the disk when it says so.
pub(super) async fn connect_writer(path: &Path, options: &SqliteOptions) -> Result<SqliteConnection, LogError> {
    let connect = common(path)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864")
        .pragma("cache_size", "-16384");
    let mut connection = connect.connect().await.map_err(|err| classify(path, &err))?;
    prepare(path, &mut connection).await?;
    if let Some(bytes) = options.max_bytes {
        let pages = bytes / u64::from(PAGE_BYTES);
        let limit = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(limit)).execute(&mut connection).await.map_err(|err| classify(path, &err))?;
    }
    Ok(connection)
}

/// Records up to a quarter of this lie in one page; Muster's have a few hundred bytes, seldom a few thousand.
const PAGE_BYTES: u32 = 8192;

/// What connections that only read are made with.
pub(super) fn readers(path: &Path) -> SqliteConnectOptions {
    // Rows wait in this buffer while they are handed over: large messages times this is what a read may hold.
    common(path).row_buffer_size(16).pragma("query_only", "1")
}

fn common(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(false)
        .disable_statement_logging()
}

/// Makes the tables in an empty file; refuses what isn't a log of a version we know.
async fn prepare(path: &Path, connection: &mut SqliteConnection) -> Result<(), LogError> {
    let application: i32 = pragma(path, connection, "PRAGMA application_id").await?;
    let version: i32 = pragma(path, connection, "PRAGMA user_version").await?;
    let tables: i32 = pragma(path, connection, "SELECT count(*) FROM sqlite_schema").await?;
    if application == 0 && tables == 0 {
        return create(connection).await.map_err(|err| classify(path, &err));
    }
    if application != APPLICATION_ID {
        return Err(damaged(path, "it is an SQLite file of another program"));
    }
    if version > VERSION {
        return Err(LogError::Refused {
            reason: format!("{} was written by a newer muster (format {version}, known {VERSION})", path.display()),
            hint: "start the newer muster, or give this one another file".into(),
        });
    }
    Ok(())
}

async fn create(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(TABLES).execute(&mut *transaction).await?;
    let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};");
    sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn pragma(path: &Path, connection: &mut SqliteConnection, sql: &'static str) -> Result<i32, LogError> {
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|err| classify(path, &err))
}
