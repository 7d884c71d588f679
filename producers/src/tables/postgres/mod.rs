//! PostgreSQL: rows come by binary `COPY` of a query, the fastest way out, in types that our own casts decide.
//!
//! One connection for all tables of a source, which are read one after another. Each page is a short read-only
//! transaction of its own. Whatever goes wrong, the connection is dropped: a read that is broken off leaves it in the
//! middle of something.

pub(super) mod binary;
mod catalog;
pub(super) mod failure;

use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use pipeline::source::SourceError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use self::binary::{BinaryRow, Broken, Splitter};
use self::failure::{failure, refused, unavailable};
use super::config::TablesConfig;
use super::plan::Look;
use super::sql::Name;

/// A PostgreSQL that is read from.
pub struct Postgres {
    options: PgConnectOptions,
    system: String,
    connect_timeout: Duration,
    /// From the first statement of a page to its last row. The server's own time-out comes first, where it can.
    patience: Duration,
    /// The connection, and when it was used last.
    idle: Option<(PgConnection, Instant)>,
}

/// A connection that was idle for longer may be dead by now, and the server has others to serve.
const IDLE: Duration = Duration::from_secs(30);

/// A statement and its parameters.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Selects, and names its parameters as [`super::sql`] does.
    pub sql: String,
    /// Their values, as text.
    pub parameters: Vec<String>,
}

/// What was found before the first row.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The database's time before the statement.
    pub now: DateTime<Utc>,
    /// What tells whether the table is still as it was; empty: it isn't there.
    pub print: String,
}

impl Postgres {
    /// Connects to nothing yet.
    pub fn new(config: &TablesConfig) -> Result<Self, SourceError> {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let options = PgConnectOptions::from_str(config.url.expose());
        // What sqlx says can quote the URL.
        let url = "the URL is no PostgreSQL database's";
        let options = options.map_err(|_| refused(&config.system, url, "write it as postgres://user@host/database"))?;
        let options = options.application_name(&format!("muster {}", config.system)).options([
            ("default_transaction_read_only", "on".to_owned()),
            ("statement_timeout", millis(config.statement_timeout)),
            ("lock_timeout", millis(config.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(config.statement_timeout)),
            // What is sent as text must not depend on the server's settings.
            ("DateStyle", "ISO".to_owned()),
            ("IntervalStyle", "iso_8601".to_owned()),
            ("bytea_output", "hex".to_owned()),
        ]);
        Ok(Self {
            options,
            system: config.system.clone(),
            connect_timeout: config.connect_timeout,
            patience: config.statement_timeout * 3,
            idle: None,
        })
    }

    /// The table's columns. `None`: there is no such table.
    pub async fn look(&mut self, name: &Name, key: &[String]) -> Result<Option<Look>, SourceError> {
        let mut connection = self.connected().await?;
        let looked = within(self.patience, catalog::look(&mut connection, name, key)).await;
        let looked = looked.map_err(|error| failure(&self.system, &error))?;
        self.idle = Some((connection, Instant::now()));
        Ok(looked)
    }

    /// Reads rows. `first` is told the moment before the statement, and may refuse; `row` gets each row, and answers
    /// whether it wants more.
    pub async fn read(
        &mut self,
        name: &Name,
        asked: &Asked,
        first: impl FnOnce(&Moment) -> Result<(), SourceError> + Send,
        row: impl FnMut(&BinaryRow<'_>) -> bool + Send,
    ) -> Result<(), SourceError> {
        let mut connection = self.connected().await?;
        let reading = tokio::time::timeout(self.patience, self.copy(&mut connection, name, asked, first, row));
        let Ok(read) = reading.await else {
            return Err(unavailable(&self.system, "a page took longer than thrice the statement time-out".to_owned()));
        };
        // Where it wanted no more rows, the rest is still on its way.
        if read? {
            self.idle = Some((connection, Instant::now()));
        }
        Ok(())
    }

    async fn copy(
        &self,
        connection: &mut PgConnection,
        name: &Name,
        asked: &Asked,
        first: impl FnOnce(&Moment) -> Result<(), SourceError> + Send,
        mut row: impl FnMut(&BinaryRow<'_>) -> bool + Send,
    ) -> Result<bool, SourceError> {
        let wrong = |error: sqlx::Error| failure(&self.system, &error);
        let mut transaction = connection.begin().await.map_err(wrong)?;
        let (now, print) = catalog::print(&mut transaction, name).await.map_err(wrong)?;
        first(&Moment { now, print })?;
        self.set(&mut transaction, &asked.parameters).await?;
        let statement = format!("copy ({}) to stdout (format binary)", asked.sql);
        let mut splitter = Splitter::default();
        {
            let mut parts = transaction.copy_out_raw(&statement).await.map_err(wrong)?;
            while let Some(part) = parts.try_next().await.map_err(wrong)? {
                let more = splitter.take(&part, &mut row);
                match more {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(Broken) => return Err(self.broken()),
                }
            }
        }
        if !splitter.is_whole() {
            return Err(self.broken());
        }
        transaction.commit().await.map_err(wrong)?;
        Ok(true)
    }

    /// The parameters of `COPY`, which takes none: settings that end with the transaction.
    async fn set(&self, connection: &mut PgConnection, parameters: &[String]) -> Result<(), SourceError> {
        if parameters.is_empty() {
            return Ok(());
        }
        let each = (1..=parameters.len()).map(|n| format!("set_config('muster.p{n}', ${n}, true)"));
        let sql = format!("select {}", each.collect::<Vec<_>>().join(", "));
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for parameter in parameters {
            query = query.bind(parameter);
        }
        query.execute(connection).await.map_err(|error| failure(&self.system, &error))?;
        Ok(())
    }

    /// The moment, and whether the table is still as it was.
    pub async fn moment(&mut self, name: &Name) -> Result<Moment, SourceError> {
        let mut connection = self.connected().await?;
        let found = within(self.patience, catalog::print(&mut connection, name)).await;
        let (now, print) = found.map_err(|error| failure(&self.system, &error))?;
        self.idle = Some((connection, Instant::now()));
        Ok(Moment { now, print })
    }

    /// What a statement of [`super::sql::Statements::hash`] says: rows, and the sum of their hashes without what is
    /// beyond 64 bits.
    pub async fn hash(&mut self, asked: &Asked) -> Result<(u64, i64), SourceError> {
        let found = |row: &PgRow| Ok((row.try_get::<i64, _>(0)?, row.try_get::<String, _>(1)?));
        let (rows, sum) = self.one(asked, found).await?;
        self.sum(rows, &sum)
    }

    /// What a statement of [`super::sql::Statements::hashes`] says, by place: of each of so many ranges as above.
    pub async fn hashes(&mut self, asked: &Asked, ranges: usize) -> Result<Vec<(u64, i64)>, SourceError> {
        let found =
            |row: &PgRow| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get::<String, _>(2)?));
        let mut by_place = vec![(0, 0); ranges];
        for (place, rows, sum) in self.all(asked, found).await? {
            let place = usize::try_from(place).ok().and_then(|place| by_place.get_mut(place));
            *place.ok_or_else(|| self.broken())? = self.sum(rows, &sum)?;
        }
        Ok(by_place)
    }

    /// Rows, and what a sum that wraps around would be.
    fn sum(&self, rows: i64, sum: &str) -> Result<(u64, i64), SourceError> {
        let sum: i128 = sum.parse().map_err(|_| self.broken())?;
        Ok((rows.unsigned_abs(), sum as i64))
    }

    /// The one row of a short statement, made of what `value` takes from it.
    async fn one<T>(
        &mut self,
        asked: &Asked,
        value: impl Fn(&PgRow) -> Result<T, sqlx::Error> + Send,
    ) -> Result<T, SourceError> {
        let found = self.all(asked, value).await?.pop();
        found.ok_or_else(|| self.broken())
    }

    /// All rows of a statement that has few.
    async fn all<T>(
        &mut self,
        asked: &Asked,
        value: impl Fn(&PgRow) -> Result<T, sqlx::Error> + Send,
    ) -> Result<Vec<T>, SourceError> {
        let mut connection = self.connected().await?;
        let reading = async {
            let mut transaction = connection.begin().await.map_err(|error| failure(&self.system, &error))?;
            self.set(&mut transaction, &asked.parameters).await?;
            let rows = sqlx::query(AssertSqlSafe(asked.sql.clone())).persistent(false).fetch_all(&mut *transaction);
            let rows = rows.await.map_err(|error| failure(&self.system, &error))?;
            transaction.commit().await.map_err(|error| failure(&self.system, &error))?;
            rows.iter().map(value).collect::<Result<Vec<T>, _>>().map_err(|error| failure(&self.system, &error))
        };
        let Ok(read) = tokio::time::timeout(self.patience, reading).await else {
            return Err(unavailable(&self.system, "a statement took longer than thrice its time-out".to_owned()));
        };
        let read = read?;
        self.idle = Some((connection, Instant::now()));
        Ok(read)
    }

    /// The highest number of a column; `None`: there is none.
    pub async fn highest(&mut self, sql: String) -> Result<Option<i64>, SourceError> {
        let asked = Asked { sql: format!("select ({sql})::int8"), parameters: Vec::new() };
        self.one(&asked, |row| row.try_get(0)).await
    }

    fn broken(&self) -> SourceError {
        unavailable(&self.system, "the server sent something that isn't the binary format of COPY".to_owned())
    }

    async fn connected(&mut self) -> Result<PgConnection, SourceError> {
        if let Some((connection, used)) = self.idle.take()
            && used.elapsed() < IDLE
        {
            return Ok(connection);
        }
        let connecting = tokio::time::timeout(self.connect_timeout, PgConnection::connect_with(&self.options));
        match connecting.await {
            Ok(connected) => connected.map_err(|error| failure(&self.system, &error)),
            Err(_) => Err(unavailable(&self.system, "no connection within the connect time-out".to_owned())),
        }
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
