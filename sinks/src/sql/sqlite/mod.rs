//! SQLite: one file, one writer at a time. Lists travel as JSON text (`json_each`), rows as multi-row `VALUES`.

mod adoption;
mod beside;
mod compare;
mod dialect;
mod failure;
mod place;
mod rows;
mod survey;
mod transaction;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row, SqliteConnection, SqlitePool};

use super::config::SqlConfig;
use super::failure::{Errors, Failure};
use super::plan::{Catalog, ExistingColumn, ExistingTable, Plan};
use super::survey::Survey;
use super::table::{Tables, quoted};
use super::transaction::{About, Database, Transaction};
use failure::failure;

/// A SQLite file as a target.
pub(super) struct Sqlite {
    /// `None`: in memory.
    file: Option<PathBuf>,
    pool: SqlitePool,
    component: Arc<str>,
    tables: Arc<Tables>,
    errors: Errors,
}

impl Sqlite {
    /// Opens nothing yet. Fails when the URL can't be one.
    pub(super) fn new(
        config: &SqlConfig,
        component: &str,
        tables: Arc<Tables>,
        errors: Errors,
    ) -> Result<Self, String> {
        let options = SqliteConnectOptions::from_str(config.url.expose())
            // What sqlx says can quote the URL.
            .map_err(|_| "not a URL of a SQLite file, as in sqlite:///var/lib/register.db".to_owned())?;
        // A file of somebody else's keeps its journal mode; ours lets readers in while we write.
        let is_new = !options.get_filename().exists();
        let in_memory = options.get_filename().to_string_lossy().contains(":memory:");
        let file = (!in_memory).then(|| options.get_filename().to_owned());
        let options = options
            .create_if_missing(true)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(config.lock_timeout);
        let options = if is_new { options.journal_mode(SqliteJournalMode::Wal) } else { options };
        let pool = SqlitePoolOptions::new()
            .max_connections(config.connections)
            .acquire_timeout(config.connect_timeout)
            .connect_lazy_with(options);
        Ok(Self { file, pool, component: component.into(), tables, errors })
    }

    /// To connect would make the file: whoever only looks must not.
    fn is_missing(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !file.exists())
    }

    /// Deadlocks can't happen, since every transaction is a writer from its first statement on.
    async fn begin_writing(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, Failure> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|error| failure(&self.errors, error))
    }

    async fn read_catalog(&self, connection: &mut SqliteConnection) -> Result<Catalog, sqlx::Error> {
        let mut tables = BTreeMap::new();
        for table in &self.tables.0 {
            let kind: Option<String> =
                sqlx::query_scalar("select type from sqlite_master where name = ?1 collate nocase")
                    .bind(&table.name)
                    .fetch_optional(&mut *connection)
                    .await?;
            if let Some(kind) = kind {
                tables.insert(table.name.clone(), existing(connection, &table.name, kind != "table").await?);
            }
        }
        let has_migrations: bool =
            sqlx::query_scalar("select exists (select 1 from sqlite_master where name = 'muster_sink_migrations')")
                .fetch_one(&mut *connection)
                .await?;
        let mut migrations = 0;
        if has_migrations {
            let done: i64 =
                sqlx::query_scalar("select count(*) from muster_sink_migrations").fetch_one(&mut *connection).await?;
            migrations = usize::try_from(done).unwrap_or(0);
        }
        Ok(Catalog { migrations, tables, temporary: false })
    }
}

async fn existing(connection: &mut SqliteConnection, name: &str, is_other: bool) -> Result<ExistingTable, sqlx::Error> {
    let mut table = ExistingTable { is_other, ..ExistingTable::default() };
    let columns = sqlx::query("select name, type, \"notnull\", dflt_value is not null, pk from pragma_table_xinfo(?1)")
        .bind(name)
        .fetch_all(&mut *connection)
        .await?;
    for row in columns {
        let full: String = row.try_get(1)?;
        // An integer primary key is the row id, which SQLite fills by itself.
        let is_row_id = row.try_get::<i64, _>(4)? > 0 && full.eq_ignore_ascii_case("integer");
        let column = ExistingColumn {
            cast: full.clone(),
            full,
            nullable: !row.try_get::<bool, _>(2)?,
            has_default: row.try_get::<bool, _>(3)? || is_row_id,
            default: None,
            length: None,
            category: 'S',
        };
        table.columns.insert(row.try_get(0)?, column);
    }
    let indexes = sqlx::query("select name, \"unique\", partial from pragma_index_list(?1)")
        .bind(name)
        .fetch_all(&mut *connection)
        .await?;
    for row in indexes {
        let index: String = row.try_get(0)?;
        if !row.try_get::<bool, _>(2)? {
            let sql = format!("select coalesce(name, '') from pragma_index_info({})", quoted(&index));
            let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
            table.indexed.extend(columns.first().cloned());
            if row.try_get(1)? {
                table.uniques.insert(index.clone(), columns);
            }
        }
        table.indexes.push(index);
    }
    Ok(table)
}

#[async_trait]
impl Database for Sqlite {
    async fn catalog(&self) -> Result<Catalog, Failure> {
        if self.is_missing() {
            return Ok(Catalog::default());
        }
        let wrong = |error| failure(&self.errors, error);
        let mut connection = self.pool.acquire().await.map_err(wrong)?;
        self.read_catalog(&mut connection).await.map_err(wrong)
    }

    async fn survey(&self) -> Result<Vec<Survey>, Failure> {
        if self.is_missing() {
            return Ok(Vec::new());
        }
        let wrong = |error| failure(&self.errors, error);
        let mut connection = self.pool.acquire().await.map_err(wrong)?;
        let catalog = self.read_catalog(&mut connection).await.map_err(wrong)?;
        survey::read(&mut connection, &self.component, &catalog, &self.tables).await.map_err(wrong)
    }

    async fn about(&self) -> Result<About, Failure> {
        let wrong = |error| failure(&self.errors, error);
        let mut about = About::default();
        if let Some(file) = self.file.as_ref().filter(|_| self.is_missing()) {
            about.version = "SQLite, a file that isn't there yet".to_owned();
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                about.denied_to_create.push(format!("the folder {} isn't there", folder.display()));
            }
            return Ok(about);
        }
        let mut connection = self.pool.acquire().await.map_err(wrong)?;
        let version: String =
            sqlx::query_scalar("select sqlite_version()").fetch_one(&mut *connection).await.map_err(wrong)?;
        about.version = format!("SQLite {version}");
        let is_read_only = |file: &PathBuf| file.metadata().is_ok_and(|metadata| metadata.permissions().readonly());
        if let Some(file) = self.file.as_ref().filter(|file| is_read_only(file)) {
            about.denied.push(format!("the file {} is read-only", file.display()));
        }
        Ok(about)
    }

    fn plan(&self, catalog: &Catalog) -> Plan {
        super::plan::plan(&self.tables, catalog, &dialect::Sqlite)
    }

    async fn migrate(&self) -> Result<Plan, Failure> {
        let wrong = |error| failure(&self.errors, error);
        let mut tx = self.begin_writing().await?;
        let catalog = self.read_catalog(&mut tx).await.map_err(wrong)?;
        let plan = self.plan(&catalog);
        if !plan.refused.is_empty() {
            return Ok(plan);
        }
        for statement in &plan.statements {
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *tx).await.map_err(wrong)?;
        }
        tx.commit().await.map_err(wrong)?;
        Ok(plan)
    }

    fn learn(&self, _catalog: &Catalog) {}

    async fn begin(&self) -> Result<Box<dyn Transaction>, Failure> {
        let tx = self.begin_writing().await?;
        Ok(Box::new(transaction::Open::new(tx, self.component.clone(), self.errors.clone())))
    }

    async fn begin_reading(&self) -> Result<Box<dyn Transaction>, Failure> {
        let tx = self.pool.begin().await.map_err(|error| failure(&self.errors, error))?;
        Ok(Box::new(transaction::Open::new(tx, self.component.clone(), self.errors.clone())))
    }

    fn unwritable(&self, _text: &str) -> Option<&'static str> {
        None
    }
}
