//! What a database holds after a fill: exactly the rows, with types, keys and references.

use std::collections::BTreeSet;

use simulators::prm::{Cell, Database, Existing, Kind, Options, Prm, PrmError, Row, Table, fill};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

/// A row as text, with the names of JSON objects in one order.
pub type Line = Vec<Option<String>>;

/// An empty database of a test, and how to look into it.
pub struct Site {
    pub url: String,
    pub database: Database,
    look: Look,
    _keep: Keep,
}

enum Look {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

enum Keep {
    Postgres { _database: services::TestDatabase },
    Sqlite { _folder: tempfile::TempDir },
}

impl Site {
    pub async fn sqlite() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/prm.sqlite", folder.path().display());
        let database = Database::connect(&url, None, None).await.unwrap();
        let look = Look::Sqlite(SqlitePool::connect(&url).await.unwrap());
        Site { url, database, look, _keep: Keep::Sqlite { _folder: folder } }
    }

    /// `None`: there is no PostgreSQL here, and that has been said.
    pub async fn postgres() -> Option<Site> {
        let postgres = services::postgres().await.unwrap()?;
        let held = postgres.database("prm").await.unwrap();
        let database = Database::connect(&held.url, None, None).await.unwrap();
        let look = Look::Postgres(PgPool::connect(&held.url).await.unwrap());
        Some(Site { url: held.url.clone(), database, look, _keep: Keep::Postgres { _database: held } })
    }

    /// All rows of a table.
    pub async fn lines(&self, table: Table) -> BTreeSet<Line> {
        let columns: Vec<String> =
            table.columns().iter().map(|column| self.as_text(column.name, column.kind)).collect();
        let select = format!("select {} from {table}", columns.join(", "));
        let lines: Vec<Line> = match &self.look {
            Look::Postgres(pool) => {
                sqlx::query(AssertSqlSafe(select)).fetch_all(pool).await.unwrap().iter().map(line).collect()
            }
            Look::Sqlite(pool) => {
                sqlx::query(AssertSqlSafe(select)).fetch_all(pool).await.unwrap().iter().map(line).collect()
            }
        };
        let count = lines.len();
        let lines: BTreeSet<Line> = lines.into_iter().map(|line| normal(table, line)).collect();
        assert_eq!(lines.len(), count, "{table} holds a row twice");
        lines
    }

    fn as_text(&self, name: &str, kind: Kind) -> String {
        match (&self.look, kind) {
            (Look::Sqlite(_), _) => format!("cast({name} as text)"),
            (Look::Postgres(_), Kind::Boolean) => format!("{name}::int::text"),
            (Look::Postgres(_), Kind::Timestamp) => format!("to_char({name}, 'YYYY-MM-DD HH24:MI:SS.US')"),
            (Look::Postgres(_), Kind::Timestamptz) => {
                format!("to_char({name} at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00'")
            }
            (Look::Postgres(_), _) => format!("{name}::text"),
        }
    }

    /// Numbers and texts, as PostgreSQL or SQLite say them.
    pub async fn ask(&self, postgres: &str, sqlite: &str) -> BTreeSet<Line> {
        match &self.look {
            Look::Postgres(pool) => {
                let rows = sqlx::query(AssertSqlSafe(postgres.to_owned())).fetch_all(pool).await.unwrap();
                rows.iter().map(line).collect()
            }
            Look::Sqlite(pool) => {
                let rows = sqlx::query(AssertSqlSafe(sqlite.to_owned())).fetch_all(pool).await.unwrap();
                rows.iter().map(line).collect()
            }
        }
    }
}

fn line<R: sqlx::Row>(row: &R) -> Line
where
    usize: sqlx::ColumnIndex<R>,
    Option<String>: sqlx::Type<R::Database> + for<'r> sqlx::Decode<'r, R::Database>,
{
    (0..row.columns().len()).map(|at| row.get::<Option<String>, _>(at)).collect()
}

fn normal(table: Table, line: Line) -> Line {
    let cell = |(text, kind): (Option<String>, Kind)| match (text, kind) {
        (Some(json), Kind::Jsonb) => Some(serde_json::from_str::<serde_json::Value>(&json).unwrap().to_string()),
        (text, _) => text,
    };
    line.into_iter().zip(table.columns().iter().map(|column| column.kind)).map(cell).collect()
}

/// How a row must look in a database.
pub fn line_of(row: &Row) -> Line {
    normal(row.table, row.cells.iter().map(Cell::text).collect())
}

/// The database holds these rows and no others.
pub async fn assert_holds(site: &Site, rows: impl Fn(Table) -> Vec<Row>) {
    for table in Table::ALL {
        let (held, expected) = (site.lines(table).await, rows(table));
        assert_eq!(held.len(), expected.len(), "{table}");
        let expected: BTreeSet<Line> = expected.iter().map(line_of).collect();
        if let Some(other) = expected.difference(&held).next() {
            panic!("{table} lacks {other:?}");
        }
    }
}

async fn holds_exactly_the_rows_of_the_seed(site: &Site) {
    let prm = |seed| Prm::new(Options { seed, employees: 1_234, ..Options::default() });
    let rows = |prm: &Prm, table| (0..prm.rows(table)).map(|number| prm.row(table, number, 0)).collect();
    let mut last = None;
    fill(&prm(1), &site.database, Existing::Refuse, &mut |progress| last = Some(progress)).await.unwrap();
    assert_holds(site, |table| rows(&prm(1), table)).await;
    let last = last.unwrap();
    assert_eq!((last.table, last.rows), (None, last.of));

    let again = fill(&prm(2), &site.database, Existing::Refuse, &mut |_| {}).await;
    assert!(matches!(again, Err(PrmError::Filled(Table::LegalEntities))), "{again:?}");
    assert_holds(site, |table| rows(&prm(1), table)).await;

    fill(&prm(2), &site.database, Existing::Replace, &mut |_| {}).await.unwrap();
    assert_holds(site, |table| rows(&prm(2), table)).await;
}

#[tokio::test]
async fn a_sqlite_file_holds_exactly_the_rows_of_the_seed() {
    let site = Site::sqlite().await;
    holds_exactly_the_rows_of_the_seed(&site).await;
    assert_eq!(site.ask("", "select \"table\" from pragma_foreign_key_check()").await, BTreeSet::new());
    let refers = site.ask("", "select \"from\", \"table\" from pragma_foreign_key_list('employees')").await;
    assert_eq!(refers.len(), 3, "{refers:?}");
}

#[tokio::test]
async fn a_postgres_database_holds_exactly_the_rows_of_the_seed() {
    let Some(site) = Site::postgres().await else { return };
    holds_exactly_the_rows_of_the_seed(&site).await;
    let references =
        "select conrelid::regclass::text, conname::text from pg_constraint where contype = 'f' and convalidated
        and connamespace = 'public'::regnamespace";
    let references = site.ask(references, "").await;
    let promised: usize = Table::ALL.iter().map(|table| table.references().len()).sum();
    assert_eq!(references.len(), promised, "{references:?}");
    let keys = site.ask("select conrelid::regclass::text from pg_constraint where contype = 'p' and connamespace = 'public'::regnamespace", "").await;
    assert_eq!(keys.len(), Table::ALL.len(), "{keys:?}");
}

/// The contract's section on the source table, line by line.
#[tokio::test]
async fn employees_is_the_contracts_source_table() {
    let Some(site) = Site::postgres().await else { return };
    let prm = Prm::new(Options { employees: 10, ..Options::default() });
    fill(&prm, &site.database, Existing::Refuse, &mut |_| {}).await.unwrap();
    let columns = "select column_name || ' ' || data_type || case is_nullable when 'NO' then ' not null' else '' end
        || coalesce(' default ' || column_default, '') from information_schema.columns where table_name = 'employees'";
    let columns: Vec<String> = site.ask(columns, "").await.into_iter().flatten().flatten().collect();
    assert_eq!(
        columns,
        [
            "additional_info jsonb",
            "division_id uuid",
            "employee_type character varying not null",
            "end_date date",
            "id uuid not null",
            "inserted_at timestamp without time zone not null",
            "inserted_by uuid not null",
            "is_active boolean not null default false",
            "legal_entity_id uuid",
            "party_id uuid",
            "position character varying not null",
            "speciality jsonb",
            "start_date date not null",
            "status character varying not null",
            "status_reason character varying",
            "updated_at timestamp without time zone not null",
            "updated_by uuid not null",
        ]
    );
    let indexes = "select substring(indexdef from 'btree (.*)$') from pg_indexes where tablename = 'employees'";
    let indexes: Vec<String> = site.ask(indexes, "").await.into_iter().flatten().flatten().collect();
    assert_eq!(
        indexes,
        ["(division_id)", "(id)", "(legal_entity_id)", "(legal_entity_id, status, is_active)", "(party_id)"]
    );
}

#[tokio::test]
async fn a_schema_is_made_and_keeps_others_out() {
    let Some(site) = Site::postgres().await else { return };
    let named = Database::connect(&site.url, Some("The \"PRM\""), None).await.unwrap();
    let prm = Prm::new(Options { employees: 20, ..Options::default() });
    fill(&prm, &named, Existing::Refuse, &mut |_| {}).await.unwrap();
    let schemas = "select distinct schemaname::text from pg_tables where tablename = 'employees'";
    assert_eq!(site.ask(schemas, "").await, [vec![Some("The \"PRM\"".to_owned())]].into());
}

#[tokio::test]
async fn a_fill_that_is_given_up_leaves_nothing() {
    let Some(site) = Site::postgres().await else { return };
    let prm = Prm::new(Options { employees: 20_000, ..Options::default() });
    let (told, mut rows) = tokio::sync::mpsc::unbounded_channel();
    let mut on_progress = |progress| told.send(progress).unwrap();
    tokio::select! {
        _ = fill(&prm, &site.database, Existing::Refuse, &mut on_progress) => panic!("it was faster than we"),
        _ = async { while rows.recv().await.unwrap().table != Some(Table::Employees) {} } => {}
    }
    let small = Prm::new(Options { employees: 20, ..Options::default() });
    // Waits for the server to notice and let go of the tables.
    fill(&small, &site.database, Existing::Refuse, &mut |_| {}).await.unwrap();
    assert_eq!(site.lines(Table::Employees).await.len(), 20);
}

#[tokio::test]
async fn addresses_that_are_none_are_refused_and_never_shown() {
    for address in ["mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "secret"] {
        let error = Database::connect(address, None, None).await.unwrap_err();
        assert!(matches!(error, PrmError::Address(_)), "{error:?}");
        assert!(!format!("{:#}", error).contains("secret"));
    }
    let schema = Database::connect("sqlite::memory:", Some("prm"), None).await.unwrap_err();
    assert!(matches!(schema, PrmError::Schema));
}
