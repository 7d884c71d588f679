//! What a source is: one feed of a system that is read from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use schemas::{Key, Schema};
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::reject::Reject;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// What has changed since the position, with the source's own overlap.
    Changes,
    /// All records there are.
    Everything,
    /// What has changed in a window of days, both inclusive, in the source's zone. Doesn't move the position.
    Window {
        /// First day.
        from: NaiveDate,
        /// Last day.
        to: NaiveDate,
        /// The page of the window to begin with, in pages of the source's own size; 1 is the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page: Option<std::num::NonZeroU32>,
    },
}

/// Where a source has got to, in the source's own terms. Saved after the changes before it are in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub serde_json::Value);

/// What one read brings.
#[derive(Debug)]
pub struct Page {
    /// In the source's order; a key may come more than once, the later one counts.
    pub changes: Vec<Change>,
    /// Records that can't be used. A reject with a key counts as present in a pass over everything; one without a key
    /// means that this pass finds nothing absent.
    pub rejects: Vec<Reject>,
    /// How many records of the system the page is made of (`changes` + `rejects` + `superseded`).
    pub read: u64,
    /// Records that a later record of the same page overtook.
    pub superseded: u64,
    /// Where to go on.
    pub next: Position,
    /// Nothing lies behind this page: the pass is complete.
    pub end: bool,
    /// When the requests for this page were sent, the earliest of them.
    pub captured: DateTime<Utc>,
    /// Every change up to this moment, in the source's time, has now been read. `None` at the end of a pass over
    /// everything means that the source can't vouch for it: nothing is taken for absent.
    pub complete_to: Option<DateTime<Utc>>,
    /// For a pass over everything that doesn't bring every record, because the source has compared: the keys that it has
    /// found gone, all those of the pass on its last page. What isn't named is there. `None`: the pass brings every record
    /// there is, and what it doesn't bring is absent.
    pub gone: Option<Vec<Key>>,
}

/// Why a system couldn't be read. Named by what the runner does.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Wait and try again.
    #[error("{system} is unavailable: {reason}")]
    Unavailable {
        /// Whose system.
        system: String,
        /// What was asked and what came back, without contents.
        reason: String,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// The system's records have got another shape: ask for the [`Source::schema`] again, then for the same page. No failure.
    #[error("{system} has changed: {reason}")]
    Evolved {
        /// Whose system.
        system: String,
        /// What has changed.
        reason: String,
    },
    /// A person must act.
    #[error("{system} refused: {reason} ({hint})")]
    Refused {
        /// Whose system.
        system: String,
        /// What was asked and what came back, without contents.
        reason: String,
        /// The way out.
        hint: String,
    },
}

/// One feed: one topic, one position. Reading is cancel-safe: a page that was not returned is read again.
#[async_trait]
pub trait Source: Send {
    /// The next page after `after`, in the source's own order; the first page of a new pass where `after` is the end
    /// of one. The same page may be asked for again at any time. It is read while the page before it is appended: where
    /// that fails, reading goes on before both.
    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError>;

    /// The schema that bodies will be written with, from now until a read says that it has
    /// [evolved](SourceError::Evolved); `None`: the catalogue's. `announced`: what the topic's values were written with so
    /// far, oldest first; the schema must be compatible with all of them. Asked before the first read.
    async fn schema(&mut self, announced: &[Arc<Schema>]) -> Result<Option<Arc<Schema>>, SourceError> {
        let _ = announced;
        Ok(None)
    }

    /// Whether a pass over everything may bring only what differs from the one before. Where everything must be stated
    /// again, such a source is asked without a position.
    fn compares(&self) -> bool {
        false
    }

    /// Decodes one record as the system gives it, for the replay of a dead letter.
    fn decode(&self, raw: &[u8]) -> Result<Change, Reject>;
}
