//! Delivers entities into the tables of a database, PostgreSQL or SQLite, and keeps its offsets there, in the same
//! transaction as the rows.
//!
//! `table` works the mapping out, `plan` says what the database lacks, `decode` makes rows of changes, `write`
//! carries them out, `compare` looks how rows differ, `exchange` settles what waits in a circle, `offsets` says who may; `postgres` and `sqlite` hold the statements behind the traits of
//! `transaction`, `survey` what is in the tables before. Each mapped table gets three columns (`muster_key`, `muster_version`,
//! `muster_hash`), or, where it allows none, an entry in `muster.rows` for each row: only `place` knows which, in either
//! folder, and only `beside` writes the entries. The rest (offsets, parked rows, versions of deleted rows) lies in tables of
//! Muster's own.

mod cell;
mod compare;
mod config;
mod decode;
mod exchange;
mod failure;
mod isolate;
mod offsets;
mod parked;
mod plan;
mod postgres;
mod settings;
mod sink;
mod sqlite;
mod survey;
mod table;
mod transaction;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline::change::Epoch;
use pipeline::log::TopicPartition;
use pipeline::sink::SinkError;
use schemas::{Catalogue, Topic};
use tokio::sync::OnceCell;
use tracing::info;

pub use config::{DatabaseUrl, OnDelete, SqlConfig, TableMapping, Versions};
pub use pipeline::config::Scalar;
pub use plan::{Plan, Refusal};
pub use settings::SqlSettings;
pub use survey::Survey;

use decode::Decoder;
use failure::{Errors, Failure, Fault};
use table::{Subject, Tables};
use transaction::{Database, Mine, Transaction};

/// How many partitions a topic has on its log.
pub type Partitions<'a> = dyn Fn(&Topic) -> u32 + 'a;

/// What a look at a target has shown.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The database and its version, as in `PostgreSQL 16.11`.
    pub version: String,
    /// What its clock shows; `None`: it has none of its own.
    pub now: Option<DateTime<Utc>>,
    /// What stands in the way of writing, as far as can be told without writing: one phrase each.
    pub denied: Vec<String>,
    /// What it lacks.
    pub plan: Plan,
    /// Whether a sink that starts carries the plan out itself.
    pub alter: bool,
}

/// A database target. Cheap to make; connects when it is first used.
pub struct SqlSink {
    tables: Arc<Tables>,
    database: Box<dyn Database>,
    decoder: Decoder,
    errors: Errors,
    alter: bool,
    park_limit: Duration,
    keep_deleted: Duration,
    ready: OnceCell<()>,
    /// The partitions that are ours, and since which epoch.
    mine: Mutex<BTreeMap<TopicPartition, Epoch>>,
    /// Parked rows that were settled and aren't reported yet.
    settled: AtomicU64,
    /// Calls of `retry_parked`, for what needs doing now and then.
    retries: AtomicU64,
    /// So many batches to come are written with care from the beginning.
    wary: AtomicU32,
}

impl SqlSink {
    /// The target `name` of the mapped topics. Fails with everything that is wrong with the mapping; connects to
    /// nothing. `partitions` says how many a topic has on its log.
    pub fn new(
        name: &str,
        config: &SqlConfig,
        catalogue: &Catalogue,
        partitions: &Partitions<'_>,
    ) -> Result<Self, Vec<String>> {
        Self::of(name, config, &Subject::all(catalogue, partitions))
    }

    fn of(name: &str, config: &SqlConfig, subjects: &[Subject]) -> Result<Self, Vec<String>> {
        let tables = Tables::new(config, subjects);
        let tables = Arc::new(tables.map_err(|misfits| misfits.iter().map(ToString::to_string).collect::<Vec<_>>())?);
        let errors = Errors { sink: name.to_owned() };
        let database = database(name, config, &tables, &errors).map_err(|problem| vec![problem])?;
        Ok(Self {
            tables,
            database,
            decoder: Decoder::default(),
            errors,
            alter: config.alter,
            park_limit: config.park_limit,
            keep_deleted: config.keep_deleted,
            ready: OnceCell::new(),
            mine: Mutex::default(),
            settled: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            wary: AtomicU32::new(0),
        })
    }

    /// What the database lacks. Changes nothing.
    pub async fn plan(&self) -> Result<Plan, SinkError> {
        let catalog = self.database.catalog().await.map_err(|failure| self.stop(failure))?;
        Ok(self.database.plan(&catalog))
    }

    /// What the mapped tables hold that are there, and whose it is. Changes nothing.
    pub async fn survey(&self) -> Result<Vec<Survey>, SinkError> {
        self.database.survey().await.map_err(|failure| self.stop(failure))
    }

    /// Does what [`plan`](Self::plan) says, whole or not at all, and answers what was done. With something refused,
    /// nothing is done.
    pub async fn apply_plan(&self) -> Result<Plan, SinkError> {
        self.database.migrate().await.map_err(|failure| self.stop(failure))
    }

    /// Connects and looks around: what answers, what Muster's user may not do, and what the database lacks. Changes
    /// nothing.
    pub async fn probe(&self) -> Result<Probe, SinkError> {
        let about = self.database.about().await.map_err(|failure| self.stop(failure))?;
        let plan = self.plan().await?;
        let mut denied = about.denied;
        if !plan.statements.is_empty() {
            denied.extend(about.denied_to_create);
        }
        Ok(Probe { version: about.version, now: about.now, denied, plan, alter: self.alter })
    }

    /// The tables can be written, or it is said why not. Once.
    async fn prepare(&self) -> Result<(), SinkError> {
        let prepared = self.ready.get_or_try_init(|| async {
            let mut plan = self.plan().await?;
            if self.alter && !plan.statements.is_empty() && plan.refused.is_empty() {
                plan = self.apply_plan().await?;
                info!(sink = self.errors.sink, statements = plan.statements.len(), "tables created or altered");
                plan.statements.clear();
            }
            let hint = "run `muster plan` to see every statement and what stands in the way";
            if let Some(refusal) = plan.refused.first() {
                return Err(self.errors.refused(refusal.to_string(), hint));
            }
            if !plan.statements.is_empty() {
                let reason = format!("the tables lack something: {} statements", plan.statements.len());
                return Err(self.errors.refused(reason, hint));
            }
            let catalog = self.database.catalog().await.map_err(|failure| self.stop(failure))?;
            self.database.learn(&catalog);
            Ok(())
        });
        prepared.await.map(|_| ())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, SinkError> {
        self.database.begin().await.map_err(|failure| self.stop(failure))
    }

    /// The partitions that are ours now.
    fn mine(&self) -> Vec<Mine> {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.iter().map(|(at, epoch)| (at.clone(), *epoch)).collect()
    }

    /// For what has no rows to blame and is tried again by the runner.
    fn stop(&self, failure: Failure) -> SinkError {
        match failure {
            Failure::Stop(error) => error,
            Failure::Again(reason) => SinkError::Contended { sink: self.errors.sink.clone(), reason },
            Failure::Data(Fault { text, .. }) => self.errors.refused(text, "run `muster plan`"),
        }
    }
}

fn database(
    name: &str,
    config: &SqlConfig,
    tables: &Arc<Tables>,
    errors: &Errors,
) -> Result<Box<dyn Database>, String> {
    let url = config.url.expose();
    if url.starts_with("sqlite:") {
        return Ok(Box::new(sqlite::Sqlite::new(config, name, tables.clone(), errors.clone())?));
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return Ok(Box::new(postgres::Postgres::new(config, name, tables.clone(), errors.clone())?));
    }
    Err("`url` must begin with postgres:// or sqlite://".to_owned())
}
