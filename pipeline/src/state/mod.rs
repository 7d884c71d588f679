//! Muster's own state, kept in compacted topics of the log, so that any process can take over and a local disk is
//! never precious.
//!
//! Every process that needs a state topic follows it whole ([`StateTable`]); many may write it, and the last one wins.

mod claims;
mod followed;
mod incarnations;
mod positions;
mod requests;
mod schema_store;
mod table;

use std::sync::Arc;

pub use self::claims::{Claim, Claims};
pub use self::followed::Followed;
pub use self::incarnations::{Incarnations, Landmark, Reached};
pub use self::positions::{Mark, Positions, Progress, SavedPosition};
pub use self::requests::{Answer, Request, RequestKind, Requests};
pub use self::schema_store::SchemaStore;
pub use self::table::StateTable;

use crate::log::{Log, LogError, NewTopic};

/// The names of the state topics.
pub mod topic {
    /// Claims: who owns which task or partition.
    pub const TASKS: &str = "muster.tasks";
    /// Sources' positions and processors' marks.
    pub const POSITIONS: &str = "muster.positions";
    /// Incarnations and acknowledged ends of topic partitions.
    pub const TOPICS: &str = "muster.topics";
    /// Schema texts by id.
    pub const SCHEMAS: &str = "muster.schemas";
    /// How far each feed is complete.
    pub const PROGRESS: &str = "muster.progress";
    /// Rejects with everything needed to repair and replay them.
    pub const DEAD_LETTERS: &str = "muster.dead-letters";
    /// What an owner is asked to do, and what it answered.
    pub const REQUESTS: &str = "muster.requests";
}

/// Why state couldn't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The log's own error.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record of a state topic isn't what this version of Muster writes.
    #[error("{topic} holds a value under {key} that isn't understood: {reason} (was it written by a newer muster?)")]
    NotUnderstood {
        /// The state topic.
        topic: String,
        /// The record's key.
        key: String,
        /// What the decoder says.
        reason: String,
    },
    /// A value names a schema that neither the log nor the registry knows: the value is at fault.
    #[error("schema {id} is known neither to the log nor to a registry")]
    UnknownSchema {
        /// The id.
        id: u32,
    },
    /// The schema registry's error.
    #[error(transparent)]
    Registry(#[from] schemas::RegistryError),
    /// A schema that the log's text store holds can't be parsed.
    #[error(transparent)]
    Schema(#[from] schemas::SchemaError),
}

/// Everything a process knows of Muster's state.
#[derive(Clone)]
pub struct State {
    /// Who owns what.
    pub claims: Arc<Claims>,
    /// Positions, marks and progress.
    pub positions: Arc<Positions>,
    /// Lives of topic partitions.
    pub incarnations: Arc<Incarnations>,
    /// Schemas by id.
    pub schemas: Arc<SchemaStore>,
    /// What owners are asked.
    pub requests: Arc<Requests>,
}

impl State {
    /// Creates the state topics that are missing, reads them to their present ends and follows them.
    pub async fn open(
        log: Arc<dyn Log>,
        process: &str,
        state_topics: &[NewTopic],
        registry: Option<schemas::Registry>,
    ) -> Result<Self, StateError> {
        log.create(state_topics).await?;
        let table = |name: &'static str| StateTable::open(Arc::clone(&log), name);
        Ok(Self {
            claims: Arc::new(Claims::new(table(topic::TASKS).await?, process)),
            positions: Arc::new(Positions::new(table(topic::POSITIONS).await?, table(topic::PROGRESS).await?)),
            incarnations: Arc::new(Incarnations::new(table(topic::TOPICS).await?, Arc::clone(&log))),
            schemas: Arc::new(SchemaStore::new(table(topic::SCHEMAS).await?, registry)),
            requests: Arc::new(Requests::new(table(topic::REQUESTS).await?)),
        })
    }
}
