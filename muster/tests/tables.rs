//! A SQLite table followed by the program: plan, check, run, a column that comes, one that is retyped.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use tokio::process::Command;

struct Site {
    folder: TempDir,
    connection: SqliteConnection,
}

impl Site {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("rota.db")).create_if_missing(true);
        let mut site = Self { connection: SqliteConnection::connect_with(&options).await.unwrap(), folder };
        site.execute(
            "create table nurses (id integer primary key, name text, grade integer, updated_at datetime);
             insert into nurses values (1, 'Ann', 5, '2024-01-01 08:00:00'), (2, 'Bea', 6, '2024-01-02 08:00:00');
             create table wards (code text not null primary key, name text); insert into wards values ('s', 'Surgery')",
        )
        .await;
        let at = site.folder.path().display();
        let text = format!(
            r#"
            folder = "{at}/data"
            processors = []
            [sources.rota]
            every = "1h"
            reconcile.every = "1d"
            [sources.rota.from.tables]
            url = "sqlite://{at}/rota.db"
            system = "rota"
            timestamp_zone = "UTC"
            tables.nurse = {{ table = "nurses", key = ["id"], change = "updated_at" }}
            tables.ward = {{ table = "wards", key = ["code"] }}
            "#
        );
        std::fs::write(site.folder.path().join("muster.toml"), text).unwrap();
        site
    }

    async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await.unwrap();
    }

    /// Runs a command; answers with its exit code and the object it printed.
    async fn muster(&self, arguments: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.arg("--config").arg(self.folder.path().join("muster.toml")).arg("--json").args(arguments);
        let output = command.output().await.unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), serde_json::from_str(&told).unwrap_or(Value::String(told)))
    }

    async fn fields(&self) -> Vec<String> {
        let (code, told) = self.muster(&["plan"]).await;
        assert_eq!(code, 0, "{told:#}");
        let plan = &told["sources"]["rota"][0];
        assert_eq!(plan["topic"], "rota.nurse");
        let fields = plan["schema"]["fields"].as_array().unwrap();
        fields.iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_followed_and_its_columns_come_and_go() {
    let mut site = Site::start().await;
    let (code, told) = site.muster(&["check"]).await;
    assert_eq!(code, 0, "{told:#}");
    assert_eq!(site.fields().await, ["id", "name", "grade", "updated_at"]);
    let (code, told) = site.muster(&["run", "--once"]).await;
    assert_eq!(code, 0, "{told:#}");

    site.execute("alter table nurses add ward text; alter table nurses drop column grade").await;
    site.execute("update nurses set ward = 's', updated_at = datetime('now') where id = 2").await;
    assert_eq!(site.fields().await, ["id", "name", "grade", "updated_at", "ward"]);
    let (code, told) = site.muster(&["sync", "rota.nurse"]).await;
    assert_eq!(code, 0, "{told:#}");
    assert!(told["text"].as_str().unwrap().contains("1 changed"), "{told:#}");
    // What went with its column moved no time: the next pass over everything states it.
    let (_, told) = site.muster(&["verify"]).await;
    assert_eq!(told["components"][0]["entities"][0]["keys"][0]["key"], "1", "{told:#}");

    site.execute("drop table nurses; create table nurses (id integer primary key, name integer, updated_at datetime)")
        .await;
    let (code, told) = site.muster(&["plan"]).await;
    assert_eq!(code, 1);
    let error = told["sources"]["rota"][0]["error"].as_str().unwrap();
    assert!(error.contains("name was string and is long") && error.contains("leave_out"), "{error}");
    site.execute("insert into wards values ('m', 'Maternity')").await;
    let (code, _) = site.muster(&["run", "--once"]).await;
    assert_eq!(code, 1, "somebody must look after the nurses");
    site.execute("drop table nurses; create table nurses (id integer primary key, name text, updated_at datetime)")
        .await;
    let (code, told) = site.muster(&["sync", "rota.ward"]).await;
    assert_eq!(code, 0, "{told:#}");
    assert!(told["text"].as_str().unwrap().contains("2 read, 0 changed"), "the wards had gone on: {told:#}");
}
