//! The settings of a tables source: where the database is, and which of its tables become which topics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use chrono_tz::Tz;
use pipeline::config::{self, Problem, Scalar, SecretRef, Section, Url};
use schemas::{TableTopic, Topic};

use super::types::{ColumnKind, NAMES};

/// A source of tables, ready to be connected to.
#[derive(Debug, Clone)]
pub struct TablesConfig {
    /// `postgres://…` or `sqlite://…`, with the password.
    pub url: DatabaseUrl,
    /// The system, as its topics name it.
    pub system: String,
    /// What timestamps without a zone mean; `None`: nobody knows, and they stay without.
    pub zone: Option<Tz>,
    /// Rows read with one statement.
    pub page_rows: u32,
    /// About so many bytes are read with one statement: larger rows, fewer of them.
    pub page_bytes: u64,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// One statement must be done within this.
    pub statement_timeout: Duration,
    /// How long to wait for somebody else's lock.
    pub lock_timeout: Duration,
    /// In the order in which they are read.
    pub tables: Vec<TableConfig>,
}

/// One table and what it becomes.
#[derive(Debug, Clone)]
pub struct TableConfig {
    /// The entity, as in `employee`.
    pub entity: String,
    /// Its topic.
    pub topic: TableTopic,
    /// The PostgreSQL schema it is in; `None`: `public`. SQLite has none.
    pub schema: Option<String>,
    /// Its name, exactly as the database has it.
    pub table: String,
    /// The columns that tell its rows apart.
    pub key: Vec<String>,
    /// The column that moves with every change; `None`: there is none.
    pub change: Option<String>,
    /// How far behind the last success reading begins, where `change` is a time.
    pub overlap: Duration,
    /// The same where `change` is a number.
    pub overlap_count: i64,
    /// Columns that aren't read.
    pub leave_out: Vec<String>,
    /// The only columns that are read, besides the key's; `None`: all.
    pub columns: Option<Vec<String>>,
    /// Column -> `LIKE` pattern: only rows that fit all of them are followed.
    pub like: BTreeMap<String, String>,
    /// Only rows where these columns are null are followed; one that isn't there is null.
    pub null: Vec<String>,
    /// Types that the declared ones don't say.
    pub types: BTreeMap<String, ColumnKind>,
    /// Fields that are found inside a JSON column.
    pub derived: Vec<Derived>,
    /// How rows are compared on the schedule for everything.
    pub compare: Compare,
    /// With [`Compare::Change`]: whole rows are compared when the last time is longer ago than this.
    pub compare_rows_every: Duration,
}

/// What a comparison looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Key and change column: what moved the change column is found.
    Change,
    /// All columns that are read.
    Row,
    /// Nothing: every row is read.
    No,
}

/// A field that is found inside a JSON column: one element of a list, or what stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// The field.
    pub name: String,
    /// The column.
    pub from: String,
    /// The names that lead to it.
    pub path: Vec<String>,
    /// Of a list, the first object that has these values.
    pub conditions: BTreeMap<String, Scalar>,
}

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

    /// A file, not a server.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split_once("://").map_or("?", |(scheme, _)| scheme);
        write!(f, "{scheme}://…")
    }
}

/// Longer than most transactions stay open; what is open for longer is found by the comparison.
pub const OVERLAP: Duration = Duration::from_secs(600);
/// Numbers of a sequence that transactions under way may still hold.
pub const OVERLAP_COUNT: i64 = 1_000;
/// Fewer cost a statement each more often, more hold up the first change for longer.
pub const PAGE_ROWS: u32 = 5_000;
/// What a page may hold in memory, roughly.
pub const PAGE_BYTES: u64 = 16 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A page, or the sums of all ranges, of a table that isn't cached.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

impl TableConfig {
    /// A table with the defaults.
    pub fn new(system: &str, entity: &str, table: &str, key: &[&str]) -> Self {
        let key: Vec<String> = key.iter().map(|column| (*column).to_owned()).collect();
        Self {
            entity: entity.to_owned(),
            topic: TableTopic {
                name: format!("{system}.{entity}"),
                system: system.to_owned(),
                entity: entity.to_owned(),
                key_fields: key.iter().map(|column| field_name(column)).collect(),
                group_fields: key.len(),
                one_partition: false,
            },
            schema: None,
            table: table.to_owned(),
            key,
            change: None,
            overlap: OVERLAP,
            overlap_count: OVERLAP_COUNT,
            leave_out: Vec::new(),
            columns: None,
            like: BTreeMap::new(),
            null: Vec::new(),
            types: BTreeMap::new(),
            derived: Vec::new(),
            compare: Compare::Change,
            compare_rows_every: WEEK,
        }
    }
}

impl TablesConfig {
    /// These tables of the database at `url`, with the default limits.
    pub fn new(url: DatabaseUrl, system: &str, tables: Vec<TableConfig>) -> Self {
        Self {
            url,
            system: system.to_owned(),
            zone: None,
            page_rows: PAGE_ROWS,
            page_bytes: PAGE_BYTES,
            connect_timeout: CONNECT_TIMEOUT,
            statement_timeout: STATEMENT_TIMEOUT,
            lock_timeout: LOCK_TIMEOUT,
            tables,
        }
    }
}

/// The settings as the file has them: the password is only named.
#[derive(Debug, Clone)]
pub struct TablesSettings {
    config: TablesConfig,
    url: Url,
    password: Option<SecretRef>,
}

impl TablesSettings {
    /// Reads all keys of a tables source, its tables' included.
    pub fn read(s: &Section<'_>) -> Self {
        let url = s.url("url", config::DATABASE).required();
        let is_sqlite = url.scheme() == "sqlite";
        let system = s.string("system").check(|name| is_name(name, "system")).required();
        let mut config = TablesConfig::new(DatabaseUrl::new(String::new()), &system, Vec::new());
        config.zone = s.zone("timestamp_zone").optional();
        config.page_rows = s.integer("page_rows", 1..=100_000).or(PAGE_ROWS);
        config.page_bytes = s.bytes("page_bytes").or(PAGE_BYTES);
        config.connect_timeout = s.duration("connect_timeout").check(not_zero).or(CONNECT_TIMEOUT);
        config.statement_timeout = s.duration("statement_timeout").check(not_zero).or(STATEMENT_TIMEOUT);
        config.lock_timeout = s.duration("lock_timeout").check(not_zero).or(LOCK_TIMEOUT);
        let schema = s.string("schema").optional();
        let mut topics: BTreeMap<String, String> = BTreeMap::new();
        for (entity, section) in s.sections("tables") {
            if let Err(wrong) = is_name(&entity, "entity") {
                section.report(section.own_place().problem(wrong));
            }
            let mut table = table(&system, &entity, &section, is_sqlite);
            table.schema = section.string("schema").optional().or(schema.clone());
            if let Some(other) = topics.insert(table.topic.name.clone(), entity.clone()) {
                let message = format!("{other} goes to topic {}, too", table.topic.name);
                section.report(section.place("topic").problem(message).expected("a topic for each table"));
            }
            if schemas::catalogue().topic(&table.topic.name).is_some() {
                let message = format!("{} is a topic that Muster writes itself", table.topic.name);
                section.report(section.place("topic").problem(message).expected("another name"));
            }
            config.tables.push(table);
        }
        if config.tables.is_empty() && !s.has("tables") {
            s.report(s.place("tables").problem("missing").expected("a section [….tables.ENTITY] for each table"));
        }
        for key in ["schema", "password"] {
            if is_sqlite && s.has(key) {
                s.report(s.place(key).problem("has no effect on a SQLite file"));
            }
        }
        Self { config, url, password: s.secret("password").optional() }
    }

    /// The tables, in the order in which they are read.
    pub fn tables(&self) -> &[TableConfig] {
        &self.config.tables
    }

    /// The topics as they are known from the configuration alone.
    pub fn topics(&self) -> Vec<Topic> {
        // A name that isn't Avro's was reported when it was read.
        self.config.tables.iter().filter_map(|table| Topic::of_table(table.topic.clone()).ok()).collect()
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.password.iter()
    }

    /// Fetches the password. `env` looks up a variable: only the binary reads the environment.
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<TablesConfig, Problem> {
        let mut url = self.url.clone();
        if let Some(password) = &self.password {
            let secret = password.resolve(env)?;
            let set = url.set_password(Some(secret.expose()));
            set.map_err(|()| password.place().problem("the URL names no host, so there is nobody to tell a password"))?;
        }
        Ok(TablesConfig { url: DatabaseUrl::new(url), ..self.config.clone() })
    }
}

fn table(system: &str, entity: &str, s: &Section<'_>, is_sqlite: bool) -> TableConfig {
    let name = s.string("table").required();
    let key = s.strings("key").check(|key| are_distinct(key)).required();
    let parts: Vec<&str> = key.iter().map(String::as_str).collect();
    let mut table = TableConfig::new(system, entity, &name, &parts);
    table.topic.name = s.string("topic").check(|name| is_topic(name)).or(table.topic.name);
    if let Some(leading) = s.strings("partition_key").check(|leading| is_beginning(leading, &key)).optional() {
        table.topic.group_fields = leading.len();
    }
    table.topic.one_partition = s.one_of("spread", &[("default", false), ("one", true)]).or(false);
    table.change = s.string("change").optional();
    table.overlap = s.duration("overlap").or(OVERLAP);
    table.overlap_count = s.integer("overlap_count", 0..=i64::MAX).or(OVERLAP_COUNT);
    for key in ["overlap", "overlap_count"] {
        if table.change.is_none() && s.has(key) {
            s.report(s.place(key).problem("has no effect without `change`"));
        }
    }
    let is_key = |name: &str| key.iter().any(|part| part == name);
    let not_key = |names: &Vec<String>| match names.iter().find(|name| is_key(name)) {
        Some(name) => Err(format!("`{name}` is part of the key")),
        None => Ok(()),
    };
    table.leave_out = s.strings("leave_out").check(not_key).or_default();
    table.columns = s.strings("columns").optional();
    if let Some(both) = table.columns.iter().flatten().find(|name| table.leave_out.contains(name)) {
        s.report(s.place("leave_out").problem(format!("`{both}` is also among `columns`")));
    }
    table.like = s.string_map("like").or_default();
    table.null = s.strings("null").check(not_key).or_default();
    table.types = types(s);
    if !is_sqlite && table.types.values().any(|kind| *kind != ColumnKind::Json) {
        let problem = s.place("types").problem("PostgreSQL's columns have types of their own");
        s.report(problem.expected("only \"json\", for text that holds it"));
    }
    table.compare = s
        .one_of("compare", &[("change", Compare::Change), ("row", Compare::Row), ("no", Compare::No)])
        .or(table.compare);
    table.compare_rows_every = s.duration("compare_rows_every").or(table.compare_rows_every);
    table.derived = derived(s, &key);
    table
}

fn types(s: &Section<'_>) -> BTreeMap<String, ColumnKind> {
    let mut types = BTreeMap::new();
    for (column, name) in s.string_map("types").or_default() {
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => {
                types.insert(column, kind.clone());
            }
            None => {
                let known = NAMES.iter().map(|(known, _)| *known);
                let problem = s.place("types").problem(format!("`{name}` is no type for {column}"));
                let expected = format!("one of {}", known.clone().collect::<Vec<_>>().join(", "));
                s.report(problem.expected(expected).nearest_of(&name, known));
            }
        }
    }
    types
}

fn derived(s: &Section<'_>, key: &[String]) -> Vec<Derived> {
    let mut derived = Vec::new();
    for (name, section) in s.sections("derived") {
        if let Err(wrong) = is_name(&name, "field") {
            section.report(section.own_place().problem(wrong));
        }
        if key.iter().any(|column| field_name(column) == name) {
            section.report(section.own_place().problem(format!("`{name}` is part of the key")));
        }
        let path = section.string("path").optional().unwrap_or_default();
        derived.push(Derived {
            name,
            from: section.string("from").required(),
            path: path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            conditions: section.scalar_map("where").or_default(),
        });
    }
    derived
}

/// The field that a column becomes: Avro's names have letters, digits and underscores.
pub fn field_name(column: &str) -> String {
    let mut name: String = column.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert(0, '_');
    }
    name
}

fn is_name(name: &str, what: &str) -> Result<(), String> {
    let is_plain = name == field_name(name) && name.len() <= 100;
    match is_plain {
        true => Ok(()),
        false => Err(format!("{name:?} is no name for the {what}: letters, digits and underscores, no digit first")),
    }
}

fn is_topic(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().all(allowed) && name.contains('.') && name.len() <= 200 && !name.starts_with("muster.") {
        true => Ok(()),
        false => Err("a topic is called as in prm.employee or prm.employee.v2, and not muster.…".to_owned()),
    }
}

fn are_distinct(names: &[String]) -> Result<(), String> {
    let fields: BTreeSet<String> = names.iter().map(|name| field_name(name)).collect();
    match names.len() {
        0 => Err("names no column".to_owned()),
        count if count != fields.len() => Err("names a column twice".to_owned()),
        _ => Ok(()),
    }
}

fn is_beginning(leading: &[String], key: &[String]) -> Result<(), String> {
    match !leading.is_empty() && key.starts_with(leading) {
        true => Ok(()),
        false => Err(format!("must be the first columns of the key ({})", key.join(", "))),
    }
}

fn not_zero(time: &Duration) -> Result<(), String> {
    if time.is_zero() { Err("must be longer than no time".to_owned()) } else { Ok(()) }
}
