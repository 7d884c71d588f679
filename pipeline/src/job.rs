//! A job: work done at a set time or on request, up to a set point. The fourth kind of component.
//!
//! A job holds no loop, no schedule and no retry: [`crate::run::JobTask`] has them. It is run by one process at a time, like a
//! system that is read from, but may be begun twice after a crash: what it leaves behind when it is cut off must do no harm.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::ledger::Counts;
use crate::log::LogError;
use crate::run::Runtime;
use crate::state::StateError;

/// Work that has a beginning and an end.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Its name, for requests, health, metrics and the history of runs.
    fn name(&self) -> &str;

    /// The nominal time of the newest run that was completed, by whomever; `None`: there was none. It decides what is due.
    async fn last(&self, runtime: &Runtime) -> Result<Option<DateTime<Utc>>, JobError>;

    /// What a person should look at of the newest run that was completed, by whomever: a process that is started anew doesn't
    /// know what that complained of.
    async fn complaints(&self, _runtime: &Runtime) -> Result<Vec<String>, JobError> {
        Ok(Vec::new())
    }

    /// One run, which stands for this time: that of the schedule, however late it is. `Ok`: it is complete and durable. When
    /// the future is dropped, the run is given up, and nothing of it counts. With each step it says so
    /// ([`crate::run::Health::step`]): a run without any is stuck, and the process isn't ready.
    async fn run(&self, runtime: &Runtime, nominal: DateTime<Utc>) -> Result<Done, JobError>;
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// For a person.
    pub text: String,
    /// For programs.
    pub details: serde_json::Value,
    /// What became of the records it read.
    pub counts: Counts,
    /// What a person should look at although the run was completed; the process isn't ready while there is something.
    pub complaints: Vec<String>,
}

/// Why a run failed. Named by what its loop does.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Wait and try again.
    #[error("{reason}")]
    Unavailable {
        /// What was tried and what came back.
        reason: String,
    },
    /// A person must act.
    #[error("{reason} ({hint})")]
    Refused {
        /// What is wrong.
        reason: String,
        /// The way out.
        hint: String,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Muster's own state.
    #[error(transparent)]
    State(#[from] StateError),
}
