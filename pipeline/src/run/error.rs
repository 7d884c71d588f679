//! Why a loop ended.

use std::time::Duration;

use crate::dead_letters::LetterError;
use crate::emitter::EmitError;
use crate::job::JobError;
use crate::ledger::Unbalanced;
use crate::log::LogError;
use crate::operations::OperationsError;
use crate::retry::Kind;
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::state::StateError;

/// Why a loop ended. Nothing is lost by it: progress only moves past what is durable.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A system that is read from.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A system that is written to.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A job; what its log or state says is [`Self::Log`] or [`Self::State`].
    #[error(transparent)]
    Job(JobError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Muster's own state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The emitter.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The dead letters.
    #[error(transparent)]
    Letters(#[from] LetterError),
    /// The operations database.
    #[error(transparent)]
    Operations(#[from] OperationsError),
    /// A breach of the ledger.
    #[error("{component}: {breach}")]
    Unbalanced {
        /// Whose.
        component: String,
        /// What is missing.
        breach: Unbalanced,
    },
    /// So many records were rejected for one reason that the configuration must be wrong.
    #[error(
        "{component} rejected {rejected} of {of} records for one reason, {reason}: is the configuration right? (limit: {limit})"
    )]
    TooManyRejects {
        /// Whose.
        component: String,
        /// How many.
        rejected: u64,
        /// Of how many.
        of: u64,
        /// The reason's code.
        reason: String,
        /// The setting.
        limit: String,
    },
    /// Something in the log or the configuration that only a person can mend.
    #[error("{component}: {reason} ({hint})")]
    Refused {
        /// Whose.
        component: String,
        /// What is wrong.
        reason: String,
        /// The way out.
        hint: String,
    },
}

impl RunError {
    /// Whether waiting helps, and as what kind of failure; `None`: a person must act.
    pub fn can_pass(&self) -> Option<Kind> {
        match self {
            Self::Source(SourceError::Unavailable { .. }) | Self::Sink(SinkError::Unavailable { .. }) => {
                Some(Kind::Unavailable)
            }
            Self::Job(JobError::Unavailable { .. }) => Some(Kind::Unavailable),
            Self::Job(JobError::Log(error)) => of_log(error),
            Self::Sink(SinkError::Fenced { .. } | SinkError::Contended { .. }) => Some(Kind::Contended),
            Self::Log(error) | Self::State(StateError::Log(error)) | Self::Letters(LetterError::Log(error)) => {
                of_log(error)
            }
            Self::State(StateError::Registry(error)) => of_registry(error),
            Self::Emit(EmitError::State(StateError::Log(error))) => of_log(error),
            Self::Emit(EmitError::State(StateError::Registry(error))) => of_registry(error),
            Self::Emit(EmitError::Fenced { .. } | EmitError::Reincarnated { .. } | EmitError::NotOwned { .. }) => {
                Some(Kind::Contended)
            }
            // The local memory is rebuilt; the operations database may be busy.
            Self::Emit(EmitError::Memory(_)) | Self::Operations(_) | Self::Letters(LetterError::Operations(_)) => {
                Some(Kind::Unavailable)
            }
            // The next pass asks for the schema first.
            Self::Source(SourceError::Evolved { .. }) => Some(Kind::Contended),
            Self::Source(SourceError::Refused { .. })
            | Self::Job(JobError::Refused { .. } | JobError::State(_))
            | Self::Sink(SinkError::Refused { .. } | SinkError::Rejected(_))
            | Self::State(_)
            | Self::Emit(_)
            | Self::Letters(_)
            | Self::Unbalanced { .. }
            | Self::TooManyRejects { .. }
            | Self::Refused { .. } => None,
        }
    }

    /// How long the other side asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Source(SourceError::Unavailable { retry_after, .. })
            | Self::Sink(SinkError::Unavailable { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

fn of_log(error: &LogError) -> Option<Kind> {
    match error {
        LogError::Unavailable { .. } => Some(Kind::Unavailable),
        // The partition moved, or the topic began a new life: the loop begins again and finds out.
        LogError::NotOurs { .. } | LogError::OutOfRange { .. } => Some(Kind::Contended),
        LogError::Refused { .. } | LogError::UnknownTopic { .. } | LogError::TooLarge { .. } => None,
    }
}

fn of_registry(error: &schemas::RegistryError) -> Option<Kind> {
    matches!(error, schemas::RegistryError::Unavailable { .. }).then_some(Kind::Unavailable)
}
