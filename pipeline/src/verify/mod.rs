//! Compares what two neighbours hold of the same entities: a target with the topic it is filled from ([`target()`]).
//!
//! Nothing is taken over and nothing is written. Changes may flow all the while: what differs is a candidate first,
//! and a difference only when it is still there although the latest change of its key has been delivered. Memory is
//! bounded: the topic's keys are kept in a disposable file (`index`), differences up to a limit.

mod index;
mod inspect;
mod report;
mod settle;
mod target;
mod walk;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use self::index::IndexError;
pub(crate) use self::index::{Entry, Index};
pub use self::inspect::{Difference, Found, Inspect};
pub use self::report::{Differing, EntityReport, Tally};
pub use self::target::target;

use crate::log::LogError;
use crate::operations::OperationsError;
use crate::run::RunError;
use crate::sink::SinkError;

/// How far a comparison goes.
#[derive(Debug, Clone)]
pub struct Options {
    /// So many candidates are looked at again, and named where they differ; what is beyond is counted as it was seen
    /// first.
    pub candidates: usize,
    /// How long what is on its way is waited for.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { candidates: 10_000, wait: Duration::from_secs(30) }
    }
}

/// What a comparison is doing, for whoever watches it.
#[derive(Debug, Default)]
pub struct Watch {
    stage: Mutex<String>,
    records: AtomicU64,
}

impl Watch {
    /// What is being done, and how many records of it are done.
    pub fn now(&self) -> (String, u64) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (stage, self.records.load(Ordering::Relaxed))
    }

    fn begin(&self, stage: String) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.records.store(0, Ordering::Relaxed);
    }

    fn done(&self, records: usize) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
    }
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The target.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The disposable file.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index of the dead letters.
    #[error(transparent)]
    Operations(#[from] OperationsError),
    /// Reading records failed otherwise.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl VerifyError {
    /// Whether trying again later may help.
    pub fn can_pass(&self) -> bool {
        match self {
            Self::Log(error) => matches!(error, LogError::Unavailable { .. }),
            Self::Sink(error) => matches!(error, SinkError::Unavailable { .. }),
            Self::Run(error) => error.can_pass().is_some(),
            Self::Index(_) | Self::Operations(_) => false,
        }
    }
}
