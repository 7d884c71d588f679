//! Systems are shared out among processes; one that has stopped, or a group that fails, doesn't hold the others up.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use common::source::{Script, feed, good, refused, system};
use common::{World, key_of};
use pipeline::log::memory::MemoryLog;
use pipeline::log::{
    Append, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Subscription, TopicInfo, TopicPartition,
};
use pipeline::run::{Mode, RunError, Runtime, Standing, run_systems};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "ats.reason";

/// A log whose groups can't be joined at first.
struct NoGroupsYet {
    log: MemoryLog,
    refused: AtomicBool,
}

#[async_trait]
impl Log for NoGroupsYet {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        self.log.create(topics).await
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.log.topics().await
    }
    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        self.log.append(records).await
    }
    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        self.log.ends(topic).await
    }
    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        self.log.read(from).await
    }
    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        if !self.refused.swap(true, Ordering::SeqCst) {
            return Err(LogError::Unavailable { reason: "no coordinator".into() });
        }
        self.log.subscribe(group, topics).await
    }
    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.log.committed(group, of).await
    }
}

fn follow(script: &Script, process: &Runtime, stop: &CancellationToken) -> JoinHandle<Result<(), RunError>> {
    let (systems, process, stop) = (vec![system(vec![feed(script)])], process.clone(), stop.clone());
    tokio::spawn(async move { run_systems(systems, &process, Mode::Follow, &stop).await })
}

#[tokio::test]
async fn a_group_that_fails_is_joined_again() {
    let world = World::new().await;
    let script = Script::new(&world.clock, [good("r1", "a")]);
    let mut process = world.process("one").await;
    process.log = Arc::new(NoGroupsYet { log: world.log.clone(), refused: AtomicBool::default() });
    let stop = CancellationToken::new();
    let task = follow(&script, &process, &stop);
    world.until(async || world.records(TOPIC).await.iter().map(key_of).eq(["r1"])).await;
    stop.cancel();
    world.drive(task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_system_that_has_stopped_is_given_up_like_any_other() {
    let world = World::new().await;
    let script = Script::new(&world.clock, [good("r1", "a")]);
    script.fail_next(refused());
    let process = world.process("one").await;
    let stop = CancellationToken::new();
    let task = follow(&script, &process, &stop);
    let stopped = |standing: &Standing| matches!(standing, Standing::Stopped { reason: Some(_) });
    world.until(async || process.health.components().get("ats").is_some_and(|ats| stopped(&ats.standing))).await;
    // Its partition goes, and comes back: somebody has acted meanwhile.
    assert!(world.log.expire_member("muster.tasks", 0));
    world.until(async || world.records(TOPIC).await.iter().map(key_of).eq(["r1"])).await;
    stop.cancel();
    world.drive(task).await.unwrap().unwrap();
}
