//! The loop of a job: due runs, missed runs, requests, failures, pauses.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use common::{World, ask};
use pipeline::job::{Done, Job, JobError};
use pipeline::run::{JobTask, Mode, Runtime, Standing, Task, run_tasks};
use pipeline::schedule::Schedule;
use pipeline::state::RequestKind;
use tokio_util::sync::CancellationToken;

/// Remembers which runs it made.
#[derive(Default)]
struct Diary {
    runs: Mutex<Vec<DateTime<Utc>>>,
    failures: AtomicU32,
    complaints: Mutex<Vec<String>>,
    /// A run doesn't end, and gets on with it or doesn't.
    endless: AtomicU32,
}

const GETS_ON: u32 = 1;
const IS_STUCK: u32 = 2;

#[async_trait]
impl Job for Diary {
    fn name(&self) -> &str {
        "diary"
    }

    async fn last(&self, _: &Runtime) -> Result<Option<DateTime<Utc>>, JobError> {
        Ok(self.runs.lock().unwrap().iter().max().copied())
    }

    async fn complaints(&self, _: &Runtime) -> Result<Vec<String>, JobError> {
        Ok(self.complaints.lock().unwrap().clone())
    }

    async fn run(&self, runtime: &Runtime, nominal: DateTime<Utc>) -> Result<Done, JobError> {
        while self.endless.load(Ordering::SeqCst) == GETS_ON {
            runtime.health.step("diary");
            runtime.clock.sleep(std::time::Duration::from_secs(20)).await;
        }
        if self.endless.load(Ordering::SeqCst) == IS_STUCK {
            std::future::pending::<()>().await;
        }
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(JobError::Unavailable { reason: "no ink".into() });
        }
        self.runs.lock().unwrap().push(nominal);
        let complaints = self.complaints.lock().unwrap().clone();
        Ok(Done { text: format!("written for {nominal}"), complaints, ..Done::default() })
    }
}

impl Diary {
    fn runs(&self) -> Vec<DateTime<Utc>> {
        self.runs.lock().unwrap().clone()
    }
}

fn at(day: u32, hour: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2024, 3, day, hour, 0, 0).unwrap()
}

/// Due at two in the night.
fn nightly(diary: &Arc<Diary>) -> JobTask {
    JobTask { job: Arc::clone(diary) as Arc<dyn Job>, schedule: Schedule::cron("0 2 * * *", Tz::UTC).ok() }
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(task: JobTask, runtime: &Runtime) -> Running {
    let stop = CancellationToken::new();
    let (runtime, token) = (runtime.clone(), stop.clone());
    let task = tokio::spawn(async move {
        run_tasks(vec![Task::Job(task)], &runtime, Mode::Follow, &token).await.unwrap();
    });
    Running { stop, task }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn missed_runs_are_made_up_for_once_by_the_latest_time() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.runs.lock().unwrap().push(at(1, 2));
    // It is the fourth, eight o'clock: three nights were missed.
    let running = start(nightly(&diary), &runtime);
    world.until(async || diary.runs().len() == 2).await;
    assert_eq!(diary.runs()[1], at(4, 2));
    world.until(async || diary.runs().len() == 4).await;
    assert_eq!(diary.runs()[2..], [at(5, 2), at(6, 2)]);
    running.end().await;
    let runs = world.operations().runs("diary", 10).await.unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run.success == Some(true)));
}

/// Counted from that run's time, the next one would be due in years, or tomorrow for ever.
#[tokio::test]
async fn a_run_that_was_made_with_a_clock_ahead_holds_nobody_up() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.runs.lock().unwrap().push(Utc.with_ymd_and_hms(2030, 1, 1, 2, 0, 0).unwrap());
    let before = runtime.clock.now();
    let running = start(nightly(&diary), &runtime);
    world.until(async || diary.runs().len() == 4).await;
    assert!(diary.runs()[1] - before < TimeDelta::hours(1), "one is made at once");
    assert_eq!(diary.runs()[2..], [at(5, 2), at(6, 2)]);
    running.end().await;
}

#[tokio::test]
async fn what_is_asked_for_is_done_now_and_answered() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.runs.lock().unwrap().push(at(4, 2));
    let running = start(nightly(&diary), &runtime);
    let answer = ask(&world, &runtime, "request-1", "diary", RequestKind::Run).await;
    assert!(answer.done && answer.text.starts_with("written for"), "{answer:?}");
    assert_eq!(diary.runs().len(), 2);
    let everything = RequestKind::Sync { window: None, page: None, everything: true };
    let answer = ask(&world, &runtime, "request-2", "diary", everything).await;
    assert!(!answer.done && answer.text.contains("is a job"), "{answer:?}");
    running.end().await;
}

#[tokio::test]
async fn a_failed_run_is_told_of_and_tried_again_for_the_same_time() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.runs.lock().unwrap().push(at(3, 2));
    diary.failures.store(2, Ordering::SeqCst);
    let running = start(nightly(&diary), &runtime);
    world
        .until(async || {
            let health = runtime.health.components();
            matches!(health.get("diary").map(|h| &h.standing), Some(Standing::Waiting { reason }) if reason == "no ink")
        })
        .await;
    world.until(async || diary.runs().len() == 2).await;
    assert_eq!(diary.runs()[1], at(4, 2));
    world.until(async || runtime.health.unready(runtime.clock.now()).is_empty()).await;
    running.end().await;
}

#[tokio::test]
async fn what_a_run_complains_of_makes_the_process_unready() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.complaints.lock().unwrap().push("page 7 is missing".into());
    let running = start(nightly(&diary), &runtime);
    world
        .until(async || runtime.health.unready(runtime.clock.now()).iter().any(|why| why.contains("page 7 is missing")))
        .await;
    running.end().await;
}

/// Complaints were kept in memory alone: whoever was started anew was ready.
#[tokio::test]
async fn what_the_last_run_complained_of_is_told_after_a_restart() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.runs.lock().unwrap().push(at(4, 2));
    diary.complaints.lock().unwrap().push("page 7 is missing".into());
    let running = start(nightly(&diary), &runtime);
    world
        .until(async || runtime.health.unready(runtime.clock.now()).iter().any(|why| why.contains("page 7 is missing")))
        .await;
    assert_eq!(diary.runs().len(), 1, "nothing was due");
    running.end().await;
}

/// A timer told of progress, whatever the run did.
#[tokio::test]
async fn a_run_that_gets_no_further_makes_the_process_unready_and_a_long_one_doesnt() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    let diary = Arc::new(Diary::default());
    diary.endless.store(GETS_ON, Ordering::SeqCst);
    let running = start(nightly(&diary), &runtime);
    let since = runtime.clock.now();
    world
        .until(async || {
            let now = runtime.clock.now();
            let unready = runtime.health.unready(now);
            assert!(!unready.iter().any(|why| why.contains("hasn't got on")), "{unready:?}");
            now - since > TimeDelta::minutes(20)
        })
        .await;
    diary.endless.store(IS_STUCK, Ordering::SeqCst);
    world
        .until(async || runtime.health.unready(runtime.clock.now()).iter().any(|why| why.contains("hasn't got on")))
        .await;
    running.end().await;
}

#[tokio::test]
async fn a_paused_job_rests_and_goes_on() {
    let world = World::new().await;
    let runtime = world.process("a").await;
    runtime.state.positions.pause("diary", true).await.unwrap();
    let diary = Arc::new(Diary::default());
    let running = start(nightly(&diary), &runtime);
    let since = runtime.clock.now();
    world.until(async || runtime.clock.now() - since > TimeDelta::hours(1)).await;
    assert!(diary.runs().is_empty());
    runtime.state.positions.pause("diary", false).await.unwrap();
    world.until(async || diary.runs().len() == 1).await;
    running.end().await;
}

#[tokio::test]
async fn of_two_processes_one_does_it() {
    let world = World::new().await;
    let (one, two) = (world.process("a").await, world.process("b").await);
    let diary = Arc::new(Diary::default());
    diary.runs.lock().unwrap().push(at(3, 2));
    let running = [start(nightly(&diary), &one), start(nightly(&diary), &two)];
    world.until(async || diary.runs().len() == 4).await;
    assert_eq!(diary.runs(), [at(3, 2), at(4, 2), at(5, 2), at(6, 2)]);
    for running in running {
        running.end().await;
    }
}
