//! What an operator says about a database target: where it is, and which entity goes to which table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pipeline::config::Scalar;

/// A database target.
#[derive(Debug, Clone)]
pub struct SqlConfig {
    /// `postgres://…` or `sqlite://…`.
    pub url: DatabaseUrl,
    /// Where the tables are: a PostgreSQL schema. `None`: `public`. SQLite has none.
    pub schema: Option<String>,
    /// One for each entity that is delivered.
    pub tables: Vec<TableMapping>,
    /// For tables that don't say it themselves.
    pub on_delete: OnDelete,
    /// For tables that don't say it themselves.
    pub versions: Versions,
    /// Creates and additively alters what is missing at start-up; otherwise that is left to `muster plan`.
    pub alter: bool,
    /// A row that has waited longer than this for its parent becomes a dead letter.
    pub park_limit: Duration,
    /// Connections at the same time.
    pub connections: u32,
    /// One statement must be done within this.
    pub statement_timeout: Duration,
    /// How long to wait for a connection: a free one, or a new one.
    pub connect_timeout: Duration,
    /// How long to wait for somebody else's lock.
    pub lock_timeout: Duration,
    /// How long the versions of deleted rows are kept.
    pub keep_deleted: Duration,
}

impl SqlConfig {
    /// A target with the default limits.
    pub fn new(url: DatabaseUrl, tables: Vec<TableMapping>) -> Self {
        Self {
            url,
            schema: None,
            tables,
            on_delete: OnDelete::Hard,
            versions: Versions::Column,
            alter: true,
            park_limit: PARK_LIMIT,
            connections: CONNECTIONS,
            statement_timeout: STATEMENT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            lock_timeout: LOCK_TIMEOUT,
            keep_deleted: KEEP_DELETED,
        }
    }
}

/// Long enough for a feed that stood still over a week-end and a public holiday.
pub(super) const PARK_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The batches come one after another; the rest is for `held` and the commands.
pub(super) const CONNECTIONS: u32 = 4;
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// As long as topics keep tombstones.
pub(super) const KEEP_DELETED: Duration = Duration::from_secs(90 * 24 * 3600);

/// A connection string. Shown without what could be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole string, credentials included.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole string, for connecting only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split_once("://").map_or("?", |(scheme, _)| scheme);
        write!(f, "{scheme}://…")
    }
}

/// Which entity goes to which table, and how.
#[derive(Debug, Clone)]
pub struct TableMapping {
    /// The entity's name in this configuration: what `refers` names.
    pub entity: String,
    /// The topic it comes from.
    pub topic: String,
    /// The table.
    pub table: String,
    /// The column of the table's own identity, which other tables' rows point to. An adopted row keeps its value.
    pub key: Option<String>,
    /// Columns by which a row that is already there is recognised and adopted (null equals null). `None`: the columns
    /// of the entity's key fields. Empty: rows are never adopted.
    pub matching: Option<Vec<String>>,
    /// Columns among these that are compared without regard to case.
    pub fold: Vec<String>,
    /// Column -> `LIKE` pattern: a row that isn't Muster's and fits one of them is never adopted. What would be that row
    /// waits beside it.
    pub theirs: BTreeMap<String, String>,
    /// Entity field -> column. `None`: all fields, under their own names, but those that `json` names.
    pub columns: Option<BTreeMap<String, String>>,
    /// Column -> an object in it: name in the object -> entity field. What else is in the object is somebody else's.
    pub json: BTreeMap<String, BTreeMap<String, String>>,
    /// Columns that are kept up to date. `None`: all mapped ones but the identity.
    pub owned: Option<Vec<String>>,
    /// Columns that get this value when a row is inserted, and are somebody else's afterwards.
    pub initial: BTreeMap<String, Scalar>,
    /// Owned column -> a value that somebody else writes there. As long as it stands there, a null doesn't replace it.
    pub keeps: BTreeMap<String, String>,
    /// Column -> parent entity. The entity's field holds the parent's key; the column gets the parent row's identity.
    pub refers: BTreeMap<String, String>,
    /// `None`: as the target says.
    pub on_delete: Option<OnDelete>,
    /// `None`: as the target says.
    pub versions: Option<Versions>,
    /// Sets of columns whose values only one row may have. A row that contradicts waits until the value is free.
    pub unique: Vec<Vec<String>>,
}

impl TableMapping {
    /// Entity `entity` of `topic` goes to `table`, field by field, and the table's identity is `key`.
    pub fn new(entity: &str, topic: &str, table: &str, key: &str) -> Self {
        Self {
            entity: entity.to_owned(),
            topic: topic.to_owned(),
            table: table.to_owned(),
            key: Some(key.to_owned()),
            matching: None,
            fold: Vec::new(),
            theirs: BTreeMap::new(),
            columns: None,
            json: BTreeMap::new(),
            owned: None,
            initial: BTreeMap::new(),
            keeps: BTreeMap::new(),
            refers: BTreeMap::new(),
            on_delete: None,
            versions: None,
            unique: Vec::new(),
        }
    }
}

/// What becomes of a row whose entity is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum OnDelete {
    /// It is deleted.
    Hard,
    /// A column says that it is gone. The column is emptied when the entity comes back.
    Soft {
        /// The column, as in `deleted_date`.
        column: String,
        /// What it gets; `None`: the time of deletion.
        value: Option<Scalar>,
    },
}

/// Where it stands which rows are Muster's, and key, version and hash of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// In three columns of the table.
    Column,
    /// In a table of Muster's own, by the text of the row's `key` column: the table gets no column and no index of it.
    Side,
}
