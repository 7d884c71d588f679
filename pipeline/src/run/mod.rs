//! The loops that drive components, and what they share. A component holds no loop, no retry and no metric.

mod account;
mod error;
mod health;
mod job;
mod metadata;
mod processor;
mod rejects;
mod repair;
mod sink;
mod source;
mod tasks;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use self::account::Account;
pub use self::error::RunError;
pub use self::health::{ComponentHealth, Health, Standing};
pub use self::job::JobTask;
pub use self::processor::{AnyProcessor, ProcessorTask};
pub use self::rejects::RejectLimit;
pub(crate) use self::sink::delivery_of;
pub use self::sink::{SinkLimits, SinkTask};
pub use self::source::{Feed, PassReport, System, Vanished};
pub use self::tasks::{Task, run_systems, run_tasks};

use crate::clock::Clock;
use crate::dead_letters::DeadLetters;
use crate::emitter::EmitterContext;
use crate::emitter::disk::Place;
use crate::log::{Log, LogError};
use crate::operations::Operations;
use crate::retry::{Action, Failure, Policy, Retry};
use crate::state::{Answer, Request, State};

/// What every loop needs of the process around it. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    /// The process's name, for claims and the ledger.
    pub process: Arc<str>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Muster's state in the log.
    pub state: State,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// History for people.
    pub operations: Operations,
    /// Where rejects go.
    pub letters: DeadLetters,
    /// Where disposable local memories are kept; `None`: in RAM.
    pub folder: Option<Place>,
    /// What every component is doing.
    pub health: Arc<Health>,
    /// How long to wait for a system that is away.
    pub retry: Policy,
    /// How many rejects are too many.
    pub rejects: RejectLimit,
    /// As many changes as emitters append at once ([`crate::emitter::AT_ONCE`]).
    pub emit_at_once: usize,
}

impl Runtime {
    /// For emitters.
    pub fn emitter_context(&self) -> EmitterContext {
        EmitterContext {
            log: Arc::clone(&self.log),
            state: self.state.clone(),
            clock: Arc::clone(&self.clock),
            folder: self.folder.clone(),
            at_once: self.emit_at_once,
        }
    }

    /// Where files may lie that go with the process; `None`: in RAM.
    pub(crate) fn scratch(&self) -> Option<&Path> {
        match &self.folder {
            Some(Place::Folder(folder)) => Some(folder),
            #[cfg(any(test, feature = "testing"))]
            Some(Place::Simulated(_)) => None,
            None => None,
        }
    }

    /// Whether a person has paused a component, which its health then says.
    pub fn paused(&self, component: &str) -> bool {
        let paused = self.state.positions.paused(component);
        if paused {
            self.health.waiting(component, "paused by request", self.clock.now());
        }
        paused
    }

    /// Answers a request that failed for a reason that doesn't pass: left open, it would stop its component again at
    /// every start.
    async fn give_up_on(&self, request: &Request, error: &RunError) -> Result<(), RunError> {
        if error.can_pass().is_none() {
            let answer = Answer { done: false, text: error.to_string(), details: serde_json::Value::Null };
            self.state.requests.answer(request.clone(), answer).await?;
        }
        Ok(())
    }

    /// A fresh count of tries.
    pub fn retries(&self) -> Retry {
        Retry::new(self.retry.clone(), fastrand::u64(..))
    }
}

/// How long a loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until everything that is there now is done.
    Once,
    /// Until the requests that are there now are answered; nothing is read unasked.
    Asked,
    /// Until it is told to stop.
    Follow,
}

/// A component's loop, from its beginning to its end.
#[async_trait]
trait Work: Send {
    /// `Ok`: it is done, or was told to stop.
    async fn work(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError>;
}

/// A partition that is being taken away is no failure: the next event says so. To leave the group over it and join again
/// would take the partitions from the other members, which would do the same to us, for ever.
fn unless_revoked(ended: Result<(), RunError>) -> Result<(), RunError> {
    match ended {
        Err(RunError::Log(LogError::NotOurs { at })) => {
            tracing::debug!(topic = &*at.topic, partition = at.partition, "the partition is being taken away");
            Ok(())
        }
        ended => ended,
    }
}

/// Runs a component's loop again after every failure that can pass, with waits; ends when it is done, told to stop,
/// or refused.
async fn supervise(
    name: &str,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
    component: &mut dyn Work,
) -> Result<(), RunError> {
    let mut retries = runtime.retries();
    loop {
        let began = runtime.clock.now();
        let error = match component.work(runtime, mode, stop).await {
            Ok(()) => {
                runtime.health.stopped(name, None);
                return Ok(());
            }
            Err(error) => error,
        };
        let Some(kind) = error.can_pass() else {
            tracing::error!(component = name, error = %error, "component stopped, a person must act");
            runtime.health.stopped(name, Some(error.to_string()));
            return Err(error);
        };
        // A run of a source has tried for as long as it may: whoever asked for one pass decides when to ask again.
        if mode != Mode::Follow && matches!(error, RunError::Source(_)) {
            tracing::error!(component = name, error = %error, "component failed");
            runtime.health.stopped(name, Some(error.to_string()));
            return Err(error);
        }
        let now = runtime.clock.now();
        // A loop that had worked for a while begins its tries anew; one pass has one budget.
        if mode == Mode::Follow && (now - began).num_seconds() > 60 {
            retries.succeeded();
        }
        match retries.failed(&Failure { kind, retry_after: error.retry_after() }, now) {
            Action::Stop { hint } => {
                tracing::error!(component = name, error = %error, hint = %hint, "component stopped, a person must act");
                runtime.health.stopped(name, Some(format!("{error} ({hint})")));
                return Err(error);
            }
            Action::Retry { after } => {
                let wait_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(component = name, error = %error, wait_ms, "component failed, trying again");
                runtime.health.waiting(name, &error.to_string(), now);
                metrics::counter!(crate::telemetry::RETRIES, "component" => name.to_owned()).increment(1);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return if mode == Mode::Follow { Ok(()) } else { Err(error) },
                    () = runtime.clock.sleep(after) => {}
                }
            }
        }
    }
}
