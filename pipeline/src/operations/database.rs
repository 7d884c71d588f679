//! The two databases behind one set of statements. Placeholders are `$1` and column names are the same in both, so a
//! statement is written once; what differs are types, and those are the drivers' business.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Decode, Row as _, Type};
use tokio::time::timeout;

/// An open database.
#[derive(Clone)]
pub(super) enum Database {
    Sqlite(SqlitePool),
    /// And how long all statements of one request may take, as their sum: a network that has begun to swallow packets ends none.
    Postgres(PgPool, Duration),
    /// Without statements: whoever has one asks it directly.
    #[cfg(any(test, feature = "testing"))]
    Kept(super::kept::Kept),
}

/// What is bound to a placeholder.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Bool(Option<bool>),
    Time(Option<DateTime<Utc>>),
    Day(Option<NaiveDate>),
}

/// A statement with its values, in the order of `$1`, `$2`, …
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

/// A row of either database; columns are read by name.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Statement {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }

    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.push(value);
        self
    }

    /// Adds a value, and answers the placeholder it has.
    pub(super) fn push(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Adds to the text.
    pub(super) fn say(&mut self, sql: &str) {
        self.sql.to_mut().push_str(sql);
    }

    fn for_sqlite(self) -> Query<'static, Sqlite, sqlx::sqlite::SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(self.sql.into_owned()));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(value) => query.bind(value),
            Value::Integer(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Time(value) => query.bind(value),
            Value::Day(value) => query.bind(value),
        })
    }

    fn for_postgres(self) -> Query<'static, Postgres, sqlx::postgres::PgArguments> {
        let query = sqlx::query(AssertSqlSafe(self.sql.into_owned()));
        self.values.into_iter().fold(query, |query, value| match value {
            // A key or a reason may hold what a system sent; PostgreSQL has no NUL in its texts.
            Value::Text(value) => query.bind(value.map(|text| text.replace('\0', "\u{fffd}"))),
            Value::Integer(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Time(value) => query.bind(value),
            Value::Day(value) => query.bind(value),
        })
    }
}

/// Back in the pool, it would be asked whether it still works, and keep its place until it answers.
fn given_up<T>(connection: PoolConnection<Postgres>) -> Result<T, sqlx::Error> {
    drop(connection.detach());
    Err(too_late())
}

/// Nobody has answered in time.
pub(super) fn too_late() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

impl Database {
    /// Runs a statement; answers how many rows it touched.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => statement.for_sqlite().execute(pool).await?.rows_affected(),
            Self::Postgres(pool, within) => {
                let mut connection = pool.acquire().await?;
                let done = timeout(*within, statement.for_postgres().execute(&mut *connection)).await;
                done.unwrap_or_else(|_| given_up(connection))?.rows_affected()
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Kept(_) => return Err(sqlx::Error::PoolClosed),
        })
    }

    /// Runs a query.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => statement.for_sqlite().fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect(),
            Self::Postgres(pool, within) => {
                let mut connection = pool.acquire().await?;
                let rows = timeout(*within, statement.for_postgres().fetch_all(&mut *connection)).await;
                let rows = rows.unwrap_or_else(|_| given_up(connection))?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Kept(_) => return Err(sqlx::Error::PoolClosed),
        })
    }

    /// Runs `guard` and, in the same transaction, the others, unless `guard` touched no row: then nothing is done and the
    /// answer is `false`. What `guard` touched is locked until all are done.
    pub(super) async fn guarded(&self, guard: Statement, others: Vec<Statement>) -> Result<bool, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("begin immediate").await?;
                if guard.for_sqlite().execute(&mut *tx).await?.rows_affected() == 0 {
                    return Ok(false);
                }
                for statement in others {
                    statement.for_sqlite().execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
            Self::Postgres(pool, within) => {
                let mut connection = pool.acquire().await?;
                let guarded = async {
                    let mut tx = connection.begin().await?;
                    if guard.for_postgres().execute(&mut *tx).await?.rows_affected() == 0 {
                        return Ok(false);
                    }
                    for statement in others {
                        statement.for_postgres().execute(&mut *tx).await?;
                    }
                    tx.commit().await?;
                    Ok(true)
                };
                return timeout(*within, guarded).await.unwrap_or_else(|_| given_up(connection));
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Kept(_) => return Err(sqlx::Error::PoolClosed),
        }
        Ok(true)
    }
}

impl Row {
    /// The column's value.
    pub(super) fn get<'r, T>(&'r self, column: &str) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

macro_rules! values {
    ($($kind:ident: $of:ty),*) => {$(
        impl From<$of> for Value {
            fn from(value: $of) -> Self {
                Self::$kind(Some(value))
            }
        }
        impl From<Option<$of>> for Value {
            fn from(value: Option<$of>) -> Self {
                Self::$kind(value)
            }
        }
    )*};
}

values!(Text: String, Integer: i64, Bool: bool, Time: DateTime<Utc>, Day: NaiveDate);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

/// What a failure of a statement means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The database can't be used now: the statement may be run again.
    Away,
    /// Its tables have gone: they may be made again, empty.
    Dropped,
    /// This statement will never succeed.
    Statement,
}

/// Tells them apart.
pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => Trouble::Statement,
            _ => Trouble::Away,
        };
    };
    let code = database.code().unwrap_or_default();
    if database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_none() {
        // SQLite's result codes: what a full or failing disk, or another process, makes of a statement passes.
        const CONSTRAINT: i64 = 19;
        const MISMATCH: i64 = 20;
        let primary = code.parse::<i64>().map_or(0, |code| code & 0xff);
        return if [1, CONSTRAINT, MISMATCH].contains(&primary) { Trouble::Statement } else { Trouble::Away };
    }
    match &*code {
        "42P01" | "3F000" => Trouble::Dropped,
        code => match &code[..2.min(code.len())] {
            // Values and constraints.
            "22" | "23" => Trouble::Statement,
            _ => Trouble::Away,
        },
    }
}
