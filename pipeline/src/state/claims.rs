//! Who owns a task or a partition: the latest claim of its key in `muster.tasks`.
//!
//! The claim's offset is the epoch: the same on all logs, new at every start, always rising.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{StateError, StateTable};
use crate::change::Epoch;
use crate::log::Offset;

#[derive(Serialize, Deserialize)]
struct Claimed {
    process: String,
}

/// The claims of all processes.
pub struct Claims {
    table: StateTable,
    process: String,
}

impl Claims {
    /// Claims of this process are written under its name, for people to read.
    pub fn new(table: StateTable, process: &str) -> Self {
        Self { table, process: process.to_owned() }
    }

    /// Takes `key` over from whoever had it.
    pub async fn claim(self: &Arc<Self>, key: &str) -> Result<Claim, StateError> {
        let offset = self.table.put(key, &Claimed { process: self.process.clone() }).await?;
        Ok(Claim { claims: Arc::clone(self), key: key.to_owned(), offset })
    }

    /// Waits until all claims that are in the log now are known here.
    pub async fn settled(&self) -> Result<(), StateError> {
        Ok(self.table.settled().await?)
    }

    /// How many partitions the claims' topic has: tasks are spread over them.
    pub fn partitions(&self) -> u32 {
        self.table.partitions()
    }

    /// The process that last claimed `key`.
    pub fn owner(&self, key: &str) -> Result<Option<String>, StateError> {
        Ok(self.table.get::<Claimed>(key)?.map(|(claimed, _)| claimed.process))
    }
}

/// One claim. Held until a later claim of the same key appears.
#[derive(Clone)]
pub struct Claim {
    claims: Arc<Claims>,
    key: String,
    offset: Offset,
}

impl Claim {
    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.offset.0)
    }

    /// What is claimed.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether no later claim is known here.
    pub fn held(&self) -> bool {
        self.claims.table.written_at(&self.key) == Some(self.offset)
    }

    /// Waits until a later claim is known here.
    pub async fn lost(&self) {
        let mut changes = self.claims.table.changes();
        while self.held() {
            changes.rung().await;
        }
    }
}
