//! PostgreSQL: a few rows travel as one array per column (`UNNEST`), as text that is cast to the column's own type, many
//! by way of a temporary table (`COPY`), so that one statement serves every batch size and whatever types somebody's
//! tables have.

mod about;
mod adoption;
mod beside;
mod binary;
mod catalog;
mod compare;
mod contested;
pub(super) mod dialect;
mod failure;
mod parked;
mod place;
mod rows;
mod source;
mod stage;
mod survey;
mod transaction;

use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

use super::config::SqlConfig;
use super::failure::{Errors, Failure};
use super::plan::{Catalog, Plan};
use super::survey::Survey;
use super::table::Tables;
use super::transaction::{About, Database, Transaction};
use failure::failure;
use source::Staged;

/// A PostgreSQL database as a target.
pub(super) struct Postgres {
    pool: PgPool,
    component: Arc<str>,
    schema: Arc<str>,
    tables: Arc<Tables>,
    known: RwLock<Arc<Catalog>>,
    errors: Errors,
}

/// Two processes that start at once must not both create the tables. Any number will do, as long as it stays.
const MIGRATION_LOCK: i64 = 0x6d75_7374_6572;

impl Postgres {
    /// Connects to nothing yet. Fails when the URL can't be one.
    pub(super) fn new(
        config: &SqlConfig,
        component: &str,
        tables: Arc<Tables>,
        errors: Errors,
    ) -> Result<Self, String> {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let options = PgConnectOptions::from_str(config.url.expose())
            // What sqlx says can quote the URL.
            .map_err(|_| "not a URL of a PostgreSQL database, as in postgres://user@host/register".to_owned())?
            .application_name(&format!("muster {component}"))
            .options([
                ("statement_timeout", millis(config.statement_timeout)),
                ("lock_timeout", millis(config.lock_timeout)),
                // A stalled owner mustn't hold its locks against the next one.
                ("idle_in_transaction_session_timeout", millis(config.statement_timeout)),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.connections)
            .acquire_timeout(config.connect_timeout)
            .connect_lazy_with(options);
        let schema = config.schema.as_deref().unwrap_or("public").into();
        Ok(Self { pool, component: component.into(), schema, tables, known: RwLock::default(), errors })
    }

    async fn begin_as(&self, begin: &'static str) -> Result<Box<dyn Transaction>, Failure> {
        let tx = self.pool.begin_with(begin).await.map_err(|error| self.wrong(error))?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (component, schema, errors) = (self.component.clone(), self.schema.clone(), self.errors.clone());
        Ok(Box::new(transaction::Open { tx, component, schema, known, errors, staged: Staged::new() }))
    }

    fn wrong(&self, error: sqlx::Error) -> Failure {
        failure(&self.errors, error)
    }
}

#[async_trait]
impl Database for Postgres {
    async fn catalog(&self) -> Result<Catalog, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.wrong(error))?;
        let read = catalog::read(&mut connection, &self.schema, &self.tables).await;
        read.map_err(|error| self.wrong(error))
    }

    async fn survey(&self) -> Result<Vec<Survey>, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.wrong(error))?;
        let read = survey::read(&mut connection, &self.component, &self.schema, &self.tables).await;
        read.map_err(|error| self.wrong(error))
    }

    async fn about(&self) -> Result<About, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.wrong(error))?;
        let read = about::read(&mut connection, &self.schema, &self.tables).await;
        read.map_err(|error| self.wrong(error))
    }

    fn plan(&self, catalog: &Catalog) -> Plan {
        super::plan::plan(&self.tables, catalog, &dialect::Postgres { schema: &self.schema })
    }

    async fn migrate(&self) -> Result<Plan, Failure> {
        let mut tx = self.pool.begin().await.map_err(|error| self.wrong(error))?;
        let locked = sqlx::query("select pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx).await;
        locked.map_err(|error| self.wrong(error))?;
        let read = catalog::read(&mut tx, &self.schema, &self.tables).await;
        let plan = self.plan(&read.map_err(|error| self.wrong(error))?);
        if !plan.refused.is_empty() {
            return Ok(plan);
        }
        for statement in &plan.statements {
            let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *tx).await;
            done.map_err(|error| self.wrong(error))?;
        }
        tx.commit().await.map_err(|error| self.wrong(error))?;
        Ok(plan)
    }

    fn learn(&self, catalog: &Catalog) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog.clone());
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, Failure> {
        // A deferred constraint would fail at COMMIT, when nobody can say which row it was.
        self.begin_as("begin; set constraints all immediate").await
    }

    async fn begin_reading(&self) -> Result<Box<dyn Transaction>, Failure> {
        self.begin_as("begin isolation level repeatable read read only").await
    }

    fn unwritable(&self, text: &str) -> Option<&'static str> {
        // Found here, since it would spoil the whole array it travels in.
        text.contains('\0').then_some("holds a NUL character, which PostgreSQL can't store")
    }
}
