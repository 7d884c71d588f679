//! Shares tasks out among processes: each system that is read from, and each job, hashes onto a partition of the tasks' topic,
//! and whoever holds the partition runs it. Two processes never poll the same system.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{JobTask, Mode, RunError, Runtime, System};
use crate::log::{Event, Subscription, TopicPartition};
use crate::retry::{Action, Failure};
use crate::state::topic::TASKS;

/// The group that all processes join.
const GROUP: &str = "muster.tasks";

/// What one process at a time does.
pub enum Task {
    /// Reads a system.
    System(System),
    /// Does a job.
    Job(JobTask),
}

impl Task {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Self::System(system) => &system.name,
            Self::Job(job) => job.name(),
        }
    }

    async fn run(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        match self {
            Self::System(system) => system.run(runtime, mode, stop).await,
            Self::Job(job) => job.run(runtime, mode, stop).await,
        }
    }
}

/// A task at work in a task of the runtime; it comes back when it ends.
struct AtWork {
    stop: CancellationToken,
    task: JoinHandle<(Task, Result<(), RunError>)>,
}

/// Runs the systems whose partitions this process holds: see [`run_tasks`].
pub async fn run_systems(
    systems: Vec<System>,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    run_tasks(systems.into_iter().map(Task::System).collect(), runtime, mode, stop).await
}

/// Runs the tasks whose partitions this process holds, until told to stop, or each once.
pub async fn run_tasks(
    tasks: Vec<Task>,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let partitions = runtime.state.claims.partitions();
    let mut resting: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
    for task in tasks {
        let partition = schemas::partition_of(task.name().as_bytes(), partitions);
        resting.entry(partition).or_default().push(task);
    }
    let mut retries = runtime.retries();
    loop {
        let ended = member(&mut resting, runtime, mode, stop).await;
        let Err(error) = &ended else { return ended };
        let (Mode::Follow, Some(kind), false) = (mode, error.can_pass(), stop.is_cancelled()) else { return ended };
        // The group can't be reached, or let us go: all tasks rest until it takes us again.
        let failure = Failure { kind, retry_after: None };
        let Action::Retry { after } = retries.failed(&failure, runtime.clock.now()) else { return ended };
        let wait_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(error = %error, wait_ms, "the group of the tasks failed, joining it again");
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = runtime.clock.sleep(after) => {}
        }
    }
}

/// Joins the group and runs what it is given, until told to stop or the group fails.
async fn member(
    resting: &mut BTreeMap<u32, Vec<Task>>,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mut at_work: BTreeMap<u32, Vec<AtWork>> = BTreeMap::new();
    let mut subscription = runtime.log.subscribe(GROUP, &[Arc::from(TASKS)]).await?;
    let ended = share(subscription.as_mut(), resting, &mut at_work, runtime, mode, stop).await;
    let all: Vec<u32> = at_work.keys().copied().collect();
    let rested = rest(&all, resting, &mut at_work).await;
    subscription.close().await?;
    ended.and(rested)
}

async fn share(
    subscription: &mut dyn Subscription,
    resting: &mut BTreeMap<u32, Vec<Task>>,
    at_work: &mut BTreeMap<u32, Vec<AtWork>>,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            event = subscription.next() => event?,
        };
        match event {
            Event::Assigned(partitions) => {
                for partition in numbers(&partitions) {
                    let systems = resting.remove(&partition).unwrap_or_default();
                    at_work
                        .entry(partition)
                        .or_default()
                        .extend(systems.into_iter().map(|s| start(s, runtime, mode, stop)));
                }
                if mode != Mode::Follow {
                    return finish(resting, at_work).await;
                }
            }
            Event::Revoked(partitions) => {
                give_up(&numbers(&partitions), resting, at_work).await;
                subscription.released().await?;
            }
            Event::Lost(partitions) => give_up(&numbers(&partitions), resting, at_work).await,
            // The partitions are never started: the topic is followed whole elsewhere.
            Event::Records(_) => {}
        }
    }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<u32> {
    partitions.iter().map(|at| at.partition).collect()
}

fn start(mut shared: Task, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> AtWork {
    let stop = stop.child_token();
    let (runtime, token) = (runtime.clone(), stop.clone());
    let task = tokio::spawn(async move {
        let ended = shared.run(&runtime, mode, &token).await;
        (shared, ended)
    });
    AtWork { stop, task }
}

/// Stops the systems of partitions that go elsewhere. One that had stopped before, because a person must act, has said
/// so in the process's health, and doesn't hold the others up.
async fn give_up(partitions: &[u32], resting: &mut BTreeMap<u32, Vec<Task>>, at_work: &mut BTreeMap<u32, Vec<AtWork>>) {
    if let Err(error) = rest(partitions, resting, at_work).await {
        tracing::warn!(error = %error, "a system that is given up had stopped before");
    }
}

/// Stops the systems of these partitions; they rest until a partition comes back.
async fn rest(
    partitions: &[u32],
    resting: &mut BTreeMap<u32, Vec<Task>>,
    at_work: &mut BTreeMap<u32, Vec<AtWork>>,
) -> Result<(), RunError> {
    let mut first = Ok(());
    for partition in partitions {
        for work in at_work.remove(partition).unwrap_or_default() {
            work.stop.cancel();
            first = first.and(take_back(*partition, work, resting).await);
        }
    }
    first
}

/// Waits until every system has run once.
async fn finish(
    resting: &mut BTreeMap<u32, Vec<Task>>,
    at_work: &mut BTreeMap<u32, Vec<AtWork>>,
) -> Result<(), RunError> {
    let mut first = Ok(());
    for (partition, works) in std::mem::take(at_work) {
        for work in works {
            first = first.and(take_back(partition, work, resting).await);
        }
    }
    first
}

async fn take_back(partition: u32, work: AtWork, resting: &mut BTreeMap<u32, Vec<Task>>) -> Result<(), RunError> {
    match work.task.await {
        Ok((system, ended)) => {
            resting.entry(partition).or_default().push(system);
            ended
        }
        Err(panicked) => Err(RunError::Refused {
            component: "a source".into(),
            reason: panicked.to_string(),
            hint: "this is a mistake in the program; start it again".into(),
        }),
    }
}
