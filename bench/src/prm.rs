//! A provider registry to begin with: filled by `muster simulate prm` into a PostgreSQL of its own, its employees followed into
//! a topic as `docker/muster.toml` has them.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use services::{OwnKafka, OwnPostgres};
use sqlx::postgres::{PgConnection, PgPoolCopyExt};
use sqlx::{Connection, Executor, PgPool};

use crate::Setting;
use crate::site::{Ran, Site};

/// What of the employees is read, and what a plain copy of the same rows reads.
pub const COLUMNS: &str = "id, position, status, employee_type, is_active, start_date, end_date, legal_entity_id, division_id, \
     party_id, status_reason, additional_info, speciality, inserted_at, updated_at";

/// The employees' table and its sisters.
pub struct Registry {
    postgres: OwnPostgres,
    /// What filling it took.
    pub filling: Ran,
}

impl Registry {
    /// Fills one with so many employees, and as many of the others as go with them.
    pub async fn filled(setting: &Setting, employees: usize) -> Result<Self> {
        let postgres = services::Postgres::measured().await?.context("there is no PostgreSQL")?;
        let (rows, url) = (employees.to_string(), postgres.url());
        let site = Site::new(setting, "simulated-prm", "")?;
        let filling = site.timed(&["simulate", "prm", "--rows", &rows, "--into", &url]).await?;
        let mut connection = PgConnection::connect(&url).await?;
        connection.execute("checkpoint").await?;
        Ok(Self { postgres, filling })
    }

    /// The database.
    pub fn url(&self) -> String {
        self.postgres.url()
    }

    /// The source: each of `entities` follows the employees. `besides`: what else is said of the table.
    pub fn source(&self, entities: &[&str], besides: &str) -> String {
        let mut text = format!(
            "processors = []\n[sources.prm]\nevery = \"1h\"\nvanished = \"report\"\nreconcile = {{ every = \"1s\" }}\n\
             [sources.prm.from.tables]\nurl = \"{}\"\nsystem = \"prm\"\ntimestamp_zone = \"UTC\"\n",
            self.url()
        );
        for entity in entities {
            // Writing into a string can't fail.
            let _ = write!(
                text,
                "[sources.prm.from.tables.tables.{entity}]\ntable = \"employees\"\nkey = [\"id\"]\nchange = \"updated_at\"\n\
                 leave_out = [\"inserted_by\", \"updated_by\"]\n{besides}\
                 derived.speciality = {{ from = \"additional_info\", path = \"specialities\", \
                 where = {{ speciality_officio = true }} }}\n"
            );
        }
        text
    }

    /// Reads the same rows with `COPY`, as fast as the server gives them. Answers the bytes.
    pub async fn copy(&self, pool: &PgPool) -> Result<u64> {
        let mut rows = pool.copy_out_raw(&format!("copy (select {COLUMNS} from employees) to stdout")).await?;
        let mut bytes = 0;
        while let Some(piece) = rows.try_next().await? {
            bytes += piece.len() as u64;
        }
        Ok(bytes)
    }

    /// Changes every fiftieth employee, as people would within a day.
    pub async fn a_day_passes(&self, employees: usize) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url()).await?;
        let done = connection
            .execute(
                "update employees set position = 'P' || (100 + hashtext(id::text) % 7), updated_at = now() at time zone 'utc' \
                 where abs(hashtextextended(id::text, 7) % 50) = 3",
            )
            .await?;
        let changed = done.rows_affected() as usize;
        ensure!(changed * 50 > employees * 7 / 10 && changed * 50 < employees * 13 / 10, "{changed} of {employees}");
        connection.execute("vacuum analyze employees").await?;
        connection.execute("checkpoint").await?;
        Ok(())
    }
}

/// How many rows somebody wants instead of so many, for there is not disk or time enough for these.
pub fn wanted_rows(usual: usize) -> Result<usize> {
    const NAME: &str = "MUSTER_BENCH_ROWS";
    match std::env::var(NAME) {
        Ok(text) => text.parse().with_context(|| format!("{NAME} isn't a number")),
        Err(_) => Ok(usual),
    }
}

/// The log on a real broker.
pub fn kafka_log(kafka: &OwnKafka) -> String {
    format!("[log.kafka]\nbootstrap = [\"{}\"]\nreplication = 1\n", kafka.bootstrap())
}

/// Snapshots of the employees, in the folder `store`. `besides`: what else the section and the dataset say.
pub fn snapshots(store: &std::path::Path, topic: &str, besides: &str, dataset: &str) -> String {
    format!(
        "processors = []\n[snapshots]\nstore.local = {{ path = \"{}\" }}\n{besides}\n[snapshots.datasets.employees]\n\
         topic = \"{topic}\"\nas_datetime = [\"start_date\", \"end_date\"]\n{dataset}\n",
        store.display()
    )
}
