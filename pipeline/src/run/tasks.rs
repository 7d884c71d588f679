//! Shares systems out among processes: each system hashes onto a partition of the tasks' topic, and whoever holds the
//! partition polls it. Two processes never poll the same system.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Mode, RunError, Runtime, System};
use crate::log::{Event, Subscription, TopicPartition};
use crate::state::topic::TASKS;

/// The group that all processes join.
const GROUP: &str = "muster.tasks";

/// A system at work in a task of its own; it comes back when it ends.
struct AtWork {
    stop: CancellationToken,
    task: JoinHandle<(System, Result<(), RunError>)>,
}

/// Runs the systems whose partitions this process holds, until told to stop, or each once.
pub async fn run_systems(
    systems: Vec<System>,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let partitions = runtime.state.claims.partitions();
    let mut resting: BTreeMap<u32, Vec<System>> = BTreeMap::new();
    for system in systems {
        let partition = schemas::partition_of(system.name.as_bytes(), partitions);
        resting.entry(partition).or_default().push(system);
    }
    let mut at_work: BTreeMap<u32, Vec<AtWork>> = BTreeMap::new();
    let mut subscription = runtime.log.subscribe(GROUP, &[Arc::from(TASKS)]).await?;
    let ended = share(subscription.as_mut(), &mut resting, &mut at_work, runtime, mode, stop).await;
    let all: Vec<u32> = at_work.keys().copied().collect();
    let rested = rest(&all, &mut resting, &mut at_work).await;
    subscription.close().await?;
    ended.and(rested)
}

async fn share(
    subscription: &mut dyn Subscription,
    resting: &mut BTreeMap<u32, Vec<System>>,
    at_work: &mut BTreeMap<u32, Vec<AtWork>>,
    runtime: &Runtime,
    mode: Mode,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    loop {
        let event = tokio::select! {
            event = subscription.next() => event?,
            () = stop.cancelled() => return Ok(()),
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
                if mode == Mode::Once {
                    return finish(resting, at_work).await;
                }
            }
            Event::Revoked(partitions) => {
                rest(&numbers(&partitions), resting, at_work).await?;
                subscription.released().await?;
            }
            Event::Lost(partitions) => rest(&numbers(&partitions), resting, at_work).await?,
            // The partitions are never started: the topic is followed whole elsewhere.
            Event::Records(_) => {}
        }
    }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<u32> {
    partitions.iter().map(|at| at.partition).collect()
}

fn start(mut system: System, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> AtWork {
    let stop = stop.child_token();
    let (runtime, token) = (runtime.clone(), stop.clone());
    let task = tokio::spawn(async move {
        let ended = system.run(&runtime, mode, &token).await;
        (system, ended)
    });
    AtWork { stop, task }
}

/// Stops the systems of these partitions; they rest until a partition comes back. A system that had stopped because a
/// person must act says so in the process's health, and doesn't hold the others up.
async fn rest(
    partitions: &[u32],
    resting: &mut BTreeMap<u32, Vec<System>>,
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
    resting: &mut BTreeMap<u32, Vec<System>>,
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

async fn take_back(partition: u32, work: AtWork, resting: &mut BTreeMap<u32, Vec<System>>) -> Result<(), RunError> {
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
