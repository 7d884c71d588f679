//! The tables source on real databases: a rota of nurses, and the hands that change it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod compare;
mod drift;
mod odd;
mod postgres;
mod settings;
mod sqlite;
mod trouble;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline::change::Change;
use pipeline::clock::{Clock, SystemClock};
use pipeline::reject::Reject;
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use schemas::Schema;
use serde_json::Value as Json;
use services::TestDatabase;
use sqlx::{AssertSqlSafe, PgPool};

use super::{DatabaseUrl, TableConfig, TablesConfig, sources};

/// A database of one test.
struct Server {
    database: TestDatabase,
    pool: PgPool,
}

impl Server {
    /// `None`: there is no PostgreSQL here, and that has been said.
    async fn new() -> Option<Self> {
        let postgres = services::postgres().await.unwrap()?;
        let database = postgres.database("tables").await.unwrap();
        let pool = PgPool::connect(&database.url).await.unwrap();
        Some(Self { database, pool })
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// Its tables, read five rows at a time.
    fn config(&self, tables: Vec<TableConfig>) -> TablesConfig {
        let url = DatabaseUrl::new(self.database.url.clone());
        TablesConfig { page_rows: 5, zone: Some(chrono_tz::Tz::UTC), ..TablesConfig::new(url, "rota", tables) }
    }
}

/// Nurses by number, with a time that moves with every change.
fn nurses() -> TableConfig {
    TableConfig { change: Some("updated_at".into()), ..TableConfig::new("rota", "nurse", "nurses", &["id"]) }
}

/// What a runner does with one feed, without a log: it keeps the position, what was announced, and what came.
struct Follower {
    source: Box<dyn Source>,
    position: Option<Position>,
    announced: Vec<Arc<Schema>>,
    /// What the topic would say.
    topic: BTreeMap<String, Json>,
    rejects: Vec<Reject>,
    /// Records of the last pass.
    read: u64,
    /// Those of them that said something new.
    changed: u64,
    /// What the last pass has found gone.
    gone: Option<Vec<String>>,
    complete_to: Option<DateTime<Utc>>,
}

impl Follower {
    async fn of(config: TablesConfig) -> Self {
        Self::begin(config, Path::new("")).await.unwrap()
    }

    async fn begin(config: TablesConfig, folder: &Path) -> Result<Self, SourceError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let source = sources(config, folder, &clock)?.remove(0).source;
        let mut follower = Self {
            source,
            position: None,
            announced: Vec::new(),
            topic: BTreeMap::new(),
            rejects: Vec::new(),
            read: 0,
            changed: 0,
            gone: None,
            complete_to: None,
        };
        follower.look().await?;
        Ok(follower)
    }

    async fn look(&mut self) -> Result<(), SourceError> {
        let schema = self.source.schema(&self.announced).await?.unwrap();
        if self.announced.last().is_none_or(|last| last.text() != schema.text()) {
            self.announced.push(schema);
        }
        Ok(())
    }

    /// One page, whatever the columns have become meanwhile.
    async fn page(&mut self, ask: &Ask) -> Result<Page, SourceError> {
        loop {
            match self.source.read(ask, self.position.as_ref()).await {
                Err(SourceError::Evolved { .. }) => self.look().await?,
                read => return read,
            }
        }
    }

    /// Reads one page and keeps what came. Answers whether the pass has ended.
    async fn step(&mut self, ask: &Ask) -> Result<bool, SourceError> {
        let page = self.page(ask).await?;
        assert_eq!(page.read, (page.changes.len() + page.rejects.len()) as u64);
        self.read += page.read;
        for change in page.changes {
            let Change::Put { key, body, .. } = change else { panic!("a table never deletes") };
            let schema = self.announced.last().unwrap();
            schemas::content_hash(schema, &body).unwrap();
            let json = schemas::to_json(schema, &body).unwrap();
            let before = self.topic.insert(key.as_str().to_owned(), json.clone());
            self.changed += u64::from(before != Some(json));
        }
        self.rejects.extend(page.rejects);
        self.gone = page.gone.map(|gone| gone.iter().map(|key| key.as_str().to_owned()).collect());
        self.complete_to = page.complete_to;
        self.position = Some(page.next);
        Ok(page.end)
    }

    /// One pass.
    async fn pass(&mut self, ask: &Ask) -> &mut Self {
        self.try_pass(ask).await.unwrap();
        self
    }

    async fn try_pass(&mut self, ask: &Ask) -> Result<(), SourceError> {
        (self.read, self.changed) = (0, 0);
        while !self.step(ask).await? {}
        Ok(())
    }

    fn keys(&self) -> Vec<&str> {
        self.topic.keys().map(String::as_str).collect()
    }

    fn field(&self, key: &str, field: &str) -> &Json {
        &self.topic[key][field]
    }
}
