//! The register as somebody else sees it: plain SQL, the same values whatever the database.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

/// Where the register is.
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// The address of a PostgreSQL database.
    Postgres(String),
}

impl Database {
    /// Whether a table has a row with this id.
    pub async fn has(&self, table: &str, id: &str) -> Result<bool> {
        ensure!(id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "an id");
        let mut connected = Connected::open(self).await?;
        let found = connected.texts(format!("select cast(id as text) from {table} where id = '{id}'")).await;
        connected.close().await?;
        Ok(!found?.is_empty())
    }
}

/// How a column's values are compared.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Time,
    Json,
}

type Columns = &'static [(&'static str, Kind)];

/// Tables, the columns that name a row, and the columns that are compared.
const TABLES: &[(&str, &[&str], Columns)] = &[
    ("ien_users", &["id"], &[("id", Kind::Text), ("name", Kind::Text), ("email", Kind::Text), ("user_id", Kind::Text)]),
    ("ien_ha_pcn", &["id"], &[("id", Kind::Text), ("title", Kind::Text), ("abbreviation", Kind::Text)]),
    (
        "ien_status_reasons",
        &["id"],
        &[("id", Kind::Text), ("name", Kind::Text), ("i_e_n_program", Kind::Bool), ("recruitment", Kind::Bool)],
    ),
    (
        "ien_applicant_status",
        &["id"],
        &[("id", Kind::Text), ("status", Kind::Text), ("category", Kind::Text), ("version", Kind::Text)],
    ),
    (
        "ien_applicants",
        &["id"],
        &[
            ("id", Kind::Text),
            ("name", Kind::Text),
            ("first_name", Kind::Text),
            ("last_name", Kind::Text),
            ("ats1_id", Kind::Text),
            ("email_address", Kind::Text),
            ("phone_number", Kind::Text),
            ("registration_date", Kind::Text),
            ("assigned_to", Kind::Json),
            ("country_of_citizenship", Kind::Json),
            ("country_of_residence", Kind::Text),
            ("pr_status", Kind::Text),
            ("nursing_educations", Kind::Json),
            ("bccnm_license_number", Kind::Text),
            ("notes", Kind::Json),
            ("status_id", Kind::Text),
            ("new_bccnm_process", Kind::Bool),
            ("pathway_id", Kind::Text),
            ("end_of_journey", Kind::Text),
            ("is_open", Kind::Bool),
            ("created_date", Kind::Time),
            ("updated_date", Kind::Time),
        ],
    ),
    (
        "ien_applicant_status_audit",
        &["applicant_id", "status_id", "start_date"],
        &[
            ("applicant_id", Kind::Text),
            ("status_id", Kind::Text),
            ("start_date", Kind::Text),
            ("notes", Kind::Text),
            ("reason_id", Kind::Text),
            ("reason_other", Kind::Text),
            ("effective_date", Kind::Text),
            ("added_by_id", Kind::Text),
            ("created_date", Kind::Time),
            ("updated_date", Kind::Time),
        ],
    ),
];

/// Rows of a table by what names them.
pub type Table = BTreeMap<String, Map<String, Value>>;

/// What a register holds.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Register {
    /// By table.
    pub tables: BTreeMap<String, Table>,
    /// Rows that wait, by topic and key, and why.
    pub waiting: BTreeMap<String, String>,
}

enum Connected {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connected {
    async fn open(database: &Database) -> Result<Self> {
        Ok(match database {
            Database::Sqlite(file) => {
                Self::Sqlite(SqliteConnectOptions::new().filename(file).read_only(true).connect().await?)
            }
            Database::Postgres(url) => Self::Postgres(PgConnection::connect(url).await?),
        })
    }

    async fn texts(&mut self, query: String) -> Result<Vec<String>> {
        let query = AssertSqlSafe(query);
        Ok(match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_all(connection).await?,
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_all(connection).await?,
        })
    }

    /// All tables are of the same moment.
    async fn begin(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => sqlx::query("begin").execute(connection).await.map(drop)?,
            Self::Postgres(connection) => {
                sqlx::query("begin isolation level repeatable read").execute(connection).await.map(drop)?;
            }
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}

impl Database {
    /// Changes the register, as somebody with other tools would.
    pub async fn execute(&self, sql: String) -> Result<()> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(file) => {
                let mut connection = SqliteConnectOptions::new().filename(file).connect().await?;
                sqlx::query(sql).execute(&mut connection).await?;
                connection.close().await?;
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::query(sql).execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }
}

impl Register {
    /// Everything, as of one moment.
    pub async fn read(database: &Database) -> Result<Self> {
        let mut connected = Connected::open(database).await?;
        connected.begin().await?;
        let (object, parked) = match database {
            Database::Sqlite(_) => ("json_object", "muster_parked"),
            Database::Postgres(_) => ("json_build_object", "muster.parked"),
        };
        let mut register = Self::default();
        for (table, named_by, columns) in TABLES {
            let pairs: Vec<String> = columns.iter().map(|(name, _)| format!("'{name}', {name}")).collect();
            let query = format!("select cast({object}({}) as text) from {table}", pairs.join(", "));
            let mut rows = Table::new();
            for text in connected.texts(query).await? {
                let row = row(&text, columns)?;
                let name = name(&row, named_by);
                let twice = rows.insert(name.clone(), row).is_some();
                ensure!(!twice, "{table} has {name} twice");
            }
            register.tables.insert((*table).to_owned(), rows);
        }
        for text in connected.texts(format!("select topic || '/' || key || ' ' || code from {parked}")).await? {
            let (row, code) = text.split_once(' ').context("a waiting row")?;
            register.waiting.insert(row.to_owned(), code.to_owned());
        }
        connected.close().await?;
        Ok(register)
    }

    /// How many rows a table has; none while it isn't there.
    pub async fn count(database: &Database, table: &str) -> u64 {
        let Ok(mut connected) = Connected::open(database).await else { return 0 };
        let counted = connected.texts(format!("select cast(count(*) as text) from {table}")).await;
        connected.close().await.ok();
        counted.ok().and_then(|rows| rows.first()?.parse().ok()).unwrap_or_default()
    }

    /// What Muster wrote where: every row's key, version and hash, of all tables.
    pub async fn versions(database: &Database) -> Result<Vec<String>> {
        let mut connected = Connected::open(database).await?;
        let mut all = Vec::new();
        for (table, ..) in TABLES {
            let columns = "'|' || muster_key || '|' || muster_version || '|' || muster_hash";
            all.extend(connected.texts(format!("select '{table}' || {columns} from {table} order by 1")).await?);
        }
        connected.close().await?;
        Ok(all)
    }

    /// The rows of a table.
    pub fn table(&self, name: &str) -> &Table {
        &self.tables[name]
    }
}

fn name(row: &Map<String, Value>, columns: &[&str]) -> String {
    columns.iter().map(|column| row[*column].as_str().unwrap_or_default()).collect::<Vec<_>>().join("|")
}

fn row(text: &str, columns: Columns) -> Result<Map<String, Value>> {
    let mut row: Map<String, Value> = serde_json::from_str(text)?;
    for (column, kind) in columns {
        let Some(value) = row.get_mut(*column) else { continue };
        *value = match (kind, value.take()) {
            (_, Value::Null) => Value::Null,
            (Kind::Bool, Value::Number(number)) => Value::Bool(number.as_i64() == Some(1)),
            (Kind::Time, Value::String(text)) => moment(text.parse().with_context(|| format!("{column}: {text}"))?),
            (Kind::Json, Value::String(text)) => serde_json::from_str(&text).context(*column)?,
            (_, value) => value,
        };
    }
    Ok(row)
}

/// A moment as it is compared.
pub fn moment(at: DateTime<Utc>) -> Value {
    Value::String(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
