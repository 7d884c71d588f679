//! How the operations database is reached where it is a PostgreSQL, and how its tables come to be there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use super::OperationsError;

/// Commands, the API and what components write down: they take turns.
const CONNECTIONS: u32 = 4;

/// Two processes that start at once must not both create the schema. Any number will do, as long as it stays.
const SCHEMA_LOCK: i64 = 0x6d75_7374_6f70;

/// A PostgreSQL database for history.
#[derive(Clone)]
pub struct PostgresOptions {
    /// As in `postgres://user@host/database`, without the password.
    pub url: String,
    /// The user's password, where one is asked for.
    pub password: Option<String>,
    /// The schema that the tables are in: a lower-case name of letters, digits and underscores.
    pub schema: String,
    /// How long to wait for a connection: a database that is away holds work up for so long, at most every ten seconds.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("url", &self.url).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// A database at this address, with the defaults for everything else.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            schema: "muster".to_owned(),
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(10),
        }
    }

    /// Whether a schema may be called so, without quotes.
    pub fn is_schema_name(name: &str) -> bool {
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        begins && name.len() <= 63 && name.chars().all(allowed)
    }

    pub(super) fn pool(&self) -> Result<PgPool, OperationsError> {
        if !Self::is_schema_name(&self.schema) {
            return Err(OperationsError::Refused(format!("`{}` can't be the name of its schema", self.schema)));
        }
        let millis = |duration: Duration| duration.as_millis().to_string();
        let mut options = PgConnectOptions::from_str(&self.url)
            // What sqlx says can quote the URL.
            .map_err(|_| OperationsError::Refused("its URL isn't one of a PostgreSQL database".to_owned()))?
            .application_name("muster operations")
            .options([
                ("search_path", self.schema.clone()),
                ("statement_timeout", millis(self.statement_timeout)),
                ("lock_timeout", millis(self.statement_timeout)),
                ("idle_in_transaction_session_timeout", millis(self.statement_timeout)),
            ]);
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(self.connect_timeout);
        Ok(pool.connect_lazy_with(options))
    }
}

/// Creates the schema and brings its tables up to date. Any number of processes may do so at once.
pub(super) async fn prepare(pool: &PgPool, schema: &str, migrations: &Migrator) -> Result<(), OperationsError> {
    let mut tx = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK).execute(&mut *tx).await?;
    // Whoever may not create schemas may use one that is there.
    let there = sqlx::query("select 1 from pg_namespace where nspname = $1").bind(schema);
    if there.fetch_optional(&mut *tx).await?.is_none() {
        let create = sqlx::query(AssertSqlSafe(format!("create schema {schema}")));
        create.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    // One process at a time, by a lock of sqlx's own.
    migrations.run(pool).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        error => OperationsError::Refused(format!("{error} (was it used by a newer muster? choose another schema)")),
    })
}

/// Whether the server answers, and the schema is there or could be created.
pub(super) async fn probe(pool: &PgPool, schema: &str) -> Result<(), OperationsError> {
    let sql = "select exists (select from pg_namespace where nspname = $1)
        or has_database_privilege(current_database(), 'create')";
    let usable: bool = sqlx::query_scalar(sql).bind(schema).fetch_one(pool).await?;
    if usable {
        return Ok(());
    }
    Err(OperationsError::Refused(format!(
        "the schema {schema} isn't there, and its user may not create it: `create schema {schema} authorization …`"
    )))
}
