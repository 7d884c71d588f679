//! What an owner is asked to do: a record in `muster.requests`, answered by the owner once.
//!
//! Nobody but a topic's owner appends to it; a command that needs a change asks for it here and waits for the answer.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::{StateError, StateTable};
use crate::bell::Listener;
use crate::change::Version;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RequestKind {
    /// Run a feed (or all feeds of a system) now.
    Sync {
        /// A window of days instead of the changes since the last success.
        window: Option<(NaiveDate, NaiveDate)>,
        /// The page of the window to begin with; 1 is the first.
        #[serde(default)]
        page: Option<std::num::NonZeroU32>,
        /// Everything, to find what was missed and what has gone.
        everything: bool,
    },
    /// Run a job now.
    Run,
    /// Try a dead letter again.
    Replay {
        /// The letter.
        letter: String,
        /// What to deliver instead of the letter's own contents: JSON, as `dead-letters show` prints it.
        edited: Option<serde_json::Value>,
    },
    /// Compare what the system says with the feed's topic. Asked of a feed's owner, since nobody else reads the system.
    Compare {
        /// Emit what the system says where the topic says something else.
        repair: bool,
    },
    /// State keys of a topic again, with a new version, for targets that hold something else. Asked of who writes it.
    Repair {
        /// The topic.
        topic: String,
        /// The partition that they lie in: its owner answers.
        partition: u32,
        /// Each key, and the version that must be surpassed where it isn't the topic's own.
        keys: Vec<(String, Option<Version>)>,
    },
}

/// A request to an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by who asks; acted on once.
    pub id: String,
    /// The component, feed or system that is asked.
    pub target: String,
    /// What is asked.
    #[serde(flatten)]
    pub kind: RequestKind,
    /// When it was asked.
    pub at: DateTime<Utc>,
    /// What came of it; `None` while nobody has acted on it.
    pub answer: Option<Answer>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub done: bool,
    /// For a person.
    pub text: String,
    /// Counts and the like, for `--json`.
    pub details: serde_json::Value,
}

/// All requests.
pub struct Requests {
    table: StateTable,
}

impl Requests {
    /// As `muster.requests` holds them.
    pub fn new(table: StateTable) -> Self {
        Self { table }
    }

    /// Asks. The answer comes by [`Self::answered`].
    pub async fn ask(&self, request: &Request) -> Result<(), StateError> {
        self.table.put(&request.id, request).await?;
        Ok(())
    }

    /// The open requests that `mine` accepts, oldest first.
    pub fn open(&self, mine: impl Fn(&str) -> bool) -> Result<Vec<Request>, StateError> {
        let all = self.table.list::<Request>("")?;
        let mut open: Vec<Request> =
            all.into_iter().map(|(_, r)| r).filter(|r| r.answer.is_none() && mine(&r.target)).collect();
        open.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.id.cmp(&b.id)));
        Ok(open)
    }

    /// Answers a request; it isn't open afterwards.
    pub async fn answer(&self, mut request: Request, answer: Answer) -> Result<(), StateError> {
        request.answer = Some(answer);
        self.table.put(&request.id.clone(), &request).await?;
        Ok(())
    }

    /// Waits for the answer to a request. The caller bounds the wait.
    pub async fn answered(&self, id: &str) -> Result<Answer, StateError> {
        let mut changes = self.table.changes();
        loop {
            if let Some((request, _)) = self.table.get::<Request>(id)?
                && let Some(answer) = request.answer
            {
                return Ok(answer);
            }
            changes.rung().await;
        }
    }

    /// Forgets answered requests older than `before`, so that the topic stays small.
    pub async fn forget(&self, before: DateTime<Utc>) -> Result<(), StateError> {
        for (id, request) in self.table.list::<Request>("")? {
            if request.answer.is_some() && request.at < before {
                self.table.delete(&id).await?;
            }
        }
        Ok(())
    }

    /// Changes whenever a request or an answer has arrived.
    pub fn changes(&self) -> Listener {
        self.table.changes()
    }
}
