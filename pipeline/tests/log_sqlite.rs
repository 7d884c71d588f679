//! The embedded log passes the core of the suite.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use pipeline::log::Log;
use pipeline::log::sqlite::{SqliteLog, SqliteOptions};
use pipeline::testing::log_suite::Harness;
use tempfile::TempDir;
use tokio::sync::Mutex;

struct InFile {
    folder: TempDir,
    log: Mutex<SqliteLog>,
}

impl InFile {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let log = Mutex::new(open(folder.path().join("log.db")).await);
        Self { folder, log }
    }
}

async fn open(path: PathBuf) -> SqliteLog {
    SqliteLog::open(&path, SqliteOptions { compact_every: None, ..SqliteOptions::default() }).await.unwrap()
}

#[async_trait]
impl Harness for InFile {
    async fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.lock().await.clone())
    }

    async fn reopen(&self) -> bool {
        let mut log = self.log.lock().await;
        log.close().await;
        *log = open(self.folder.path().join("log.db")).await;
        true
    }

    async fn recreate_topic(&self, topic: &str, partitions: u32) -> bool {
        self.log.lock().await.recreate_topic(topic, partitions).await.unwrap();
        true
    }

    async fn compact(&self, _topic: &str) -> bool {
        self.log.lock().await.compact(Utc::now()).await.unwrap();
        true
    }

    fn fetched(&self) -> Option<u64> {
        Some(self.log.try_lock().ok()?.fetched())
    }
}

pipeline::core_log_tests!(InFile::new());
