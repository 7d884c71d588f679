//! The log in memory passes both parts of the suite.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipeline::log::memory::MemoryLog;
use pipeline::log::{Log, Offset, TopicPartition};
use pipeline::testing::log_suite::Harness;

#[derive(Default)]
struct InMemory(MemoryLog);

#[async_trait]
impl Harness for InMemory {
    async fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.0.clone())
    }

    async fn reopen(&self) -> bool {
        // Its users' processes end; it doesn't.
        true
    }

    async fn recreate_topic(&self, topic: &str, partitions: u32) -> bool {
        self.0.recreate_topic(topic, partitions);
        true
    }

    async fn truncate(&self, at: &TopicPartition, end: Offset) -> bool {
        self.0.truncate(at, end);
        true
    }

    async fn compact(&self, topic: &str) -> bool {
        self.0.compact(topic, Duration::ZERO);
        true
    }

    fn fetched(&self) -> Option<u64> {
        Some(self.0.fetched())
    }
}

async fn harness() -> InMemory {
    InMemory::default()
}

pipeline::core_log_tests!(harness());
pipeline::group_log_tests!(harness());
