//! The suite on SQLite files, and what only SQLite has.

use async_trait::async_trait;
use pipeline::sink::SinkError;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Row};

use super::rota::*;
use super::round_trip::{Reading, canonical, comes_back};
use crate::sql::Versions;

struct File {
    folder: tempfile::TempDir,
    pool: SqlitePool,
    versions: Versions,
}

impl File {
    async fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("rota.db")).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        Some(Self { folder, pool, versions: Versions::Column })
    }

    /// Its tables allow no column of ours.
    async fn beside() -> Option<Self> {
        Some(Self { versions: Versions::Side, ..Self::new().await? })
    }
}

#[async_trait]
impl Target for File {
    fn url(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("rota.db").display())
    }

    fn versions(&self) -> Versions {
        self.versions
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await.unwrap();
        let text = |row: &sqlx::sqlite::SqliteRow, at: usize| {
            row.try_get_unchecked::<Option<String>, _>(at).unwrap().unwrap_or("-".to_owned())
        };
        rows.iter().map(|row| (0..row.columns().len()).map(|at| text(row, at)).collect::<Vec<_>>().join(" ")).collect()
    }
}

mod column {
    crate::sql::tests::suite::conformance!(super::File::new().await);
}

mod beside {
    crate::sql::tests::suite::conformance!(super::File::beside().await);
}

#[tokio::test]
async fn a_locked_file_is_waited_for() {
    let target = File::new().await.unwrap();
    let mut config = config(&target);
    config.lock_timeout = std::time::Duration::from_millis(50);
    let mut runner = Runner::with(config, 1).await;
    let lock = target.pool.begin_with("begin immediate").await.unwrap();
    let busy = runner.try_apply(&[ward("icu", 1)]).await;
    assert!(matches!(busy, Err(SinkError::Unavailable { .. })), "{busy:?}");
    drop(lock);
    target.execute("select 1").await;
    runner.apply(&[ward("icu", 1)]).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_needs_a_person() {
    let target = File::new().await.unwrap();
    let path = target.folder.path().join("letter.txt");
    std::fs::write(&path, "Dear Ann, this is not a database, however long the letter may get.".repeat(99)).unwrap();
    let mut config = config(&target);
    config.url = crate::sql::DatabaseUrl::new(format!("sqlite://{}", path.display()));
    assert!(matches!(Runner::try_with(config, 1).await, Err(SinkError::Refused { .. })));
}

#[async_trait]
impl Reading for File {
    async fn everything(&self) -> Vec<Vec<Option<String>>> {
        let sql = "select id, case flag when 1 then 'true' when 0 then 'false' end, few, many, coarse, fine, words,
            case when raw is not null then lower(hex(raw)) end, uuid, day, moment, local, price, mood, list, map, part from everything order by id";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.unwrap();
        let column = |row: &sqlx::sqlite::SqliteRow, at: usize| match at {
            4 | 5 => row.try_get::<Option<f64>, _>(at).unwrap().map(canonical),
            _ => row.try_get_unchecked::<Option<String>, _>(at).unwrap(),
        };
        rows.iter().map(|row| (0..row.columns().len()).map(|at| column(row, at)).collect()).collect()
    }
}

#[tokio::test]
async fn values_come_back() {
    comes_back(&File::new().await.unwrap()).await;
}

#[tokio::test]
async fn the_register_makes_its_own_tables() {
    super::register::the_register_makes_its_own_tables(&File::new().await.unwrap()).await;
}
