//! SQLite: a file, read row by row over a connection that can't write. Values are what they are in each row, whatever
//! their column declares.

mod cells;

use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDateTime, Utc};
use futures::TryStreamExt;
use pipeline::source::SourceError;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};

use self::cells::{Parameter, SqliteCells, parameter};
use super::config::TablesConfig;
use super::engine::Gather;
use super::plan::{Column, Look};
use super::postgres::failure::{refused, unavailable};
use super::postgres::{Asked, Moment};
use super::sql::Name;
use super::types::ColumnKind;

/// A SQLite file that is read from.
pub struct Sqlite {
    options: SqliteConnectOptions,
    system: String,
    /// One statement's limit.
    timeout: Duration,
    patience: Duration,
}

/// So many steps of SQLite's machine go by between two looks at the clock: some microseconds.
const STEPS: i32 = 10_000;

/// Table and views have columns; the key's tell rows apart where an index says so.
const COLUMNS: &str =
    r#"select name, type, "notnull" or pk > 0 as required, pk from pragma_table_info(?1) order by cid"#;
const INDEXES: &str = r#"
    select l.name, i.name as column from pragma_index_list(?1) l, pragma_index_info(l.name) i
    where l."unique" and not l.partial"#;
const IS_VIEW: &str = "select count(*) > 0 from sqlite_master where name = ?1 and type = 'view'";
const NOW: &str = "select strftime('%Y-%m-%d %H:%M:%f', 'now')";

impl Sqlite {
    /// Opens nothing yet.
    pub fn new(config: &TablesConfig) -> Result<Self, SourceError> {
        let options = SqliteConnectOptions::from_str(config.url.expose());
        let url = "the URL is no SQLite file's";
        let options = options.map_err(|_| refused(&config.system, url, "write it as sqlite:///path/to/file"))?;
        Ok(Self {
            options: options.read_only(true).create_if_missing(false).busy_timeout(config.lock_timeout),
            system: config.system.clone(),
            timeout: config.statement_timeout,
            patience: config.statement_timeout * 3,
        })
    }

    /// The table's columns. `None`: there is no such table.
    pub async fn look(&mut self, name: &Name, key: &[String]) -> Result<Option<Look>, SourceError> {
        let mut connection = self.connected().await?;
        self.limit(&mut connection).await?;
        let looked = self.look_with(&mut connection, name, key).await;
        looked.map_err(|error| self.failure(&error))
    }

    async fn look_with(
        &self,
        connection: &mut SqliteConnection,
        name: &Name,
        key: &[String],
    ) -> Result<Option<Look>, sqlx::Error> {
        let (columns, print) = self.columns(connection, name).await?;
        if columns.is_empty() {
            return Ok(None);
        }
        let is_view: bool = sqlx::query_scalar(IS_VIEW).bind(&name.table).fetch_one(&mut *connection).await?;
        let mut sets: Vec<(String, Vec<String>)> = Vec::new();
        let primary = sqlx::query(COLUMNS).bind(&name.table).fetch_all(&mut *connection).await?;
        let of_primary = primary.iter().filter(|row| row.try_get::<i64, _>("pk").is_ok_and(|pk| pk > 0));
        let of_primary = of_primary.map(|row| row.try_get("name")).collect::<Result<Vec<String>, _>>()?;
        if !of_primary.is_empty() {
            sets.push((String::new(), of_primary));
        }
        for row in sqlx::query(INDEXES).bind(&name.table).fetch_all(connection).await? {
            let (index, column): (String, Option<String>) = (row.try_get("name")?, row.try_get("column")?);
            // An expression has no name.
            let column = column.unwrap_or_default();
            match sets.iter_mut().find(|(name, _)| *name == index) {
                Some((_, columns)) => columns.push(column),
                None => sets.push((index, vec![column])),
            }
        }
        let unique = sets.iter().any(|(_, columns)| columns.iter().all(|column| key.contains(column)));
        Ok(Some(Look { columns, print, unique: (!is_view).then_some(unique) }))
    }

    async fn columns(
        &self,
        connection: &mut SqliteConnection,
        name: &Name,
    ) -> Result<(Vec<Column>, String), sqlx::Error> {
        let rows = sqlx::query(COLUMNS).bind(&name.table).fetch_all(connection).await?;
        let mut columns = Vec::with_capacity(rows.len());
        for row in rows {
            let (column, shown): (String, String) = (row.try_get("name")?, row.try_get("type")?);
            let kind = ColumnKind::of_sqlite(&shown);
            columns.push(Column {
                name: column,
                required: row.try_get::<i64, _>("required")? != 0,
                cast: shown.clone(),
                shown,
                hidden_in: None,
                kind,
            });
        }
        let print = columns.iter().map(|column| format!("{} {} {}", column.name, column.shown, column.required));
        let print = print.collect::<Vec<_>>().join(",");
        Ok((columns, print))
    }

    /// Reads rows, all within one transaction. `first` is told the moment before the statement, and may refuse.
    pub async fn read(
        &mut self,
        name: &Name,
        asked: &Asked,
        first: impl FnOnce(&Moment) -> Result<(), SourceError> + Send,
        gather: &mut Gather<'_>,
    ) -> Result<(), SourceError> {
        let mut connection = self.connected().await?;
        let wrong = |error: sqlx::Error| self.failure(&error);
        let reading = async {
            let mut transaction = connection.begin().await.map_err(wrong)?;
            let now: String = sqlx::query_scalar(NOW).fetch_one(&mut *transaction).await.map_err(wrong)?;
            let now = NaiveDateTime::parse_from_str(&now, "%Y-%m-%d %H:%M:%S%.f");
            let now: DateTime<Utc> = now.map(|now| now.and_utc()).unwrap_or_default();
            let (_, print) = self.columns(&mut transaction, name).await.map_err(wrong)?;
            first(&Moment { now, print })?;
            self.limit(&mut transaction).await?;
            let mut rows = bound(asked).fetch(&mut *transaction);
            while let Some(row) = rows.try_next().await.map_err(wrong)? {
                let more = gather.row(&SqliteCells(&row), None);
                if gather.rows.last.as_ref().is_some_and(|last| last.key.iter().any(String::is_empty)) {
                    let reason =
                        format!("a key of {} is text that isn't UTF-8, behind which no page can begin", name.table);
                    return Err(refused(&self.system, &reason, "mend the row, or read a view that leaves it out"));
                }
                if !more {
                    break;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(self.patience, reading).await {
            Ok(read) => read,
            Err(_) => {
                Err(unavailable(&self.system, "a page took longer than thrice the statement time-out".to_owned()))
            }
        }
    }

    /// The highest number of a column; `None`: there is none.
    pub async fn highest(&mut self, sql: String) -> Result<Option<i64>, SourceError> {
        let mut connection = self.connected().await?;
        self.limit(&mut connection).await?;
        let highest = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await;
        highest.map_err(|error| self.failure(&error))
    }

    async fn connected(&self) -> Result<SqliteConnection, SourceError> {
        SqliteConnection::connect_with(&self.options).await.map_err(|error| self.failure(&error))
    }

    /// From now on, what takes longer than the statement time-out is broken off by SQLite itself: its thread would go on
    /// with it for nobody.
    async fn limit(&self, connection: &mut SqliteConnection) -> Result<(), SourceError> {
        let until = Instant::now() + self.timeout;
        let mut handle = connection.lock_handle().await.map_err(|error| self.failure(&error))?;
        handle.set_progress_handler(STEPS, move || Instant::now() < until);
        Ok(())
    }

    /// SQLite's messages name objects, not values.
    fn failure(&self, error: &sqlx::Error) -> SourceError {
        match error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // SQLITE_INTERRUPT
                Some("9") => {
                    unavailable(&self.system, "a statement took longer than the statement time-out".to_owned())
                }
                // SQLITE_CANTOPEN
                Some("14") => {
                    refused(&self.system, "the file can't be opened", "correct the URL, or the file's rights")
                }
                Some("26") => refused(&self.system, "the file is no SQLite database", "correct the URL"),
                _ => unavailable(&self.system, database.message().to_owned()),
            },
            sqlx::Error::Io(error) => unavailable(&self.system, error.kind().to_string()),
            _ => unavailable(&self.system, "the file can't be read".to_owned()),
        }
    }
}

fn bound(asked: &Asked) -> sqlx::query::Query<'_, sqlx::Sqlite, SqliteArguments> {
    let mut query = sqlx::query(AssertSqlSafe(asked.sql.clone())).persistent(false);
    for text in &asked.parameters {
        query = match parameter(text) {
            Parameter::Integer(n) => query.bind(n),
            Parameter::Real(x) => query.bind(x),
            Parameter::Text(text) => query.bind(text),
            Parameter::Blob(bytes) => query.bind(bytes),
        };
    }
    query
}
