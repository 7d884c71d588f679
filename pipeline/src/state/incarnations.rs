//! The lives of topic partitions: a topic that was recreated or truncated under us is noticed, never skipped over.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{StateError, StateTable};
use crate::change::Incarnation;
use crate::log::{Log, LogError, Offset, TopicPartition};

#[derive(Serialize, Deserialize)]
struct Life {
    incarnation: Incarnation,
    /// The last end that an append or a look has shown.
    end: Offset,
}

/// The incarnations of all entity topics' partitions.
pub struct Incarnations {
    table: StateTable,
    log: Arc<dyn Log>,
    /// Two components of this process that ask at the same moment get the same answer.
    naming: Mutex<()>,
}

impl Incarnations {
    /// As `muster.topics` holds them.
    pub fn new(table: StateTable, log: Arc<dyn Log>) -> Self {
        Self { table, log, naming: Mutex::default() }
    }

    /// The partition's present incarnation. A new one is made where there was none, and where the partition ends
    /// below what had been written.
    pub async fn present(&self, at: &TopicPartition) -> Result<Incarnation, StateError> {
        let key = at.to_string();
        let _naming = self.naming.lock().await;
        let mut known = self.known(&key).await?;
        let end = loop {
            // Looked at after the record: others append, and note how far they came, all the time.
            let end = self.end(at).await?;
            let Some((life, written_at)) = &known else { break end };
            if end >= life.end {
                return Ok(life.incarnation.clone());
            }
            // Somebody may have named a later life meanwhile.
            let again = self.known(&key).await?;
            if again.as_ref().is_some_and(|(_, at)| at == written_at) {
                tracing::warn!(topic = %at.topic, partition = at.partition, "topic was recreated or truncated: a new incarnation begins");
                break end;
            }
            known = again;
        };
        let incarnation = Incarnation(format!("{:016x}", fastrand::u64(..)));
        self.table.put(&key, &Life { incarnation, end }).await?;
        // Another process may have made one at the same moment: the later record is the one that all will read.
        match self.known(&key).await? {
            Some((life, _)) => Ok(life.incarnation),
            None => Err(LogError::Unavailable { reason: format!("{} lost {key}", self.table.topic()) }.into()),
        }
    }

    /// Remembers how far the partition reached, so that a shorter one is noticed.
    pub async fn reached(&self, at: &TopicPartition, incarnation: &Incarnation, end: Offset) -> Result<(), StateError> {
        let key = at.to_string();
        let nothing_new = match self.table.get::<Life>(&key)? {
            // A later life has its own end.
            Some((life, _)) => life.incarnation != *incarnation || life.end >= end,
            None => false,
        };
        if nothing_new {
            return Ok(());
        }
        self.table.put(&key, &Life { incarnation: incarnation.clone(), end }).await?;
        Ok(())
    }

    async fn known(&self, key: &str) -> Result<Option<(Life, Offset)>, StateError> {
        self.table.settled().await?;
        self.table.get(key)
    }

    async fn end(&self, at: &TopicPartition) -> Result<Offset, StateError> {
        let ends = self.log.ends(&at.topic).await?;
        let bounds = ends.get(at.partition as usize);
        Ok(bounds.ok_or_else(|| LogError::UnknownTopic { topic: at.to_string() })?.end)
    }
}
