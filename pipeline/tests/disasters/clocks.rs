//! Clocks that step, back and forward, and tables that come last.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use pipeline::clock::Clock;
use pipeline::emitter::Emitter;
use pipeline::run::{Mode, ProcessorTask, SinkTask};
use schemas::records::register;
use tokio_util::sync::CancellationToken;

use crate::common::processors::{Applicants, applicant, milestone};
use crate::common::sink::{Target, task};
use crate::common::{World, put as say, stamp, topic};
use crate::site::{Site, names};

/// The clock of the machine that runs everything steps by a day, then back by a day, then ahead by a year and back. Each
/// change reaches the target within minutes all the same, with a version above all others.
///
/// Guards: `last > now` in `next_run` (`run/source/mod.rs`): without it the feed rested for the whole day that the clock
/// had gone back; `known.highest.next(now)` in `Emitter::make` (`emitter/make.rs`): without it the target refused what
/// came after a step back.
#[tokio::test]
async fn clocks_step_back_and_forward_under_a_running_process() {
    let site = Site::new().await;
    site.says(&[(1, "a"), (2, "b")]);
    site.day("zero").await;
    let (process, stop) = (site.process("one").await, CancellationToken::new());
    let tasks = site.follow(&process, &stop);
    for (round, days) in [1, -1, 365, -365, -1].into_iter().enumerate() {
        let name = format!("name {round}");
        site.world.clock.set(site.world.clock.now() + TimeDelta::days(days));
        let began = site.world.clock.now();
        site.says(&[(1, &name), (2, "b")]);
        let wanted = names(&[(1, &name), (2, "b")]);
        let late = || site.world.clock.now() - began > TimeDelta::minutes(10);
        site.world.until(async || site.target_holds() == wanted || late()).await;
        assert!(!late(), "a step of {days} days held the change up");
    }
    stop.cancel();
    for task in tasks {
        site.world.drive(task).await.unwrap().unwrap();
    }
    site.is(&[(1, "name 4"), (2, "b")]).await;
}

/// The source's process has a clock a day behind, then a day ahead of the others; the processor and the sink have the
/// right time. Everything arrives each time.
///
/// Guard: `known.highest.next(now)` in `Emitter::make` (`emitter/make.rs`). Without it a reader that goes by versions stayed
/// at the name of before.
#[tokio::test]
async fn clocks_of_source_and_runner_differ() {
    let site = Site::new().await;
    for (round, by) in [0, -1, 1, 0, -1].into_iter().enumerate() {
        let name = format!("name {round}");
        site.says(&[(1, &name), (2, "b")]);
        let mut source = site.process("source").await;
        source.clock = Arc::new(crate::site::Wrong { clock: site.world.clock.clone(), by: TimeDelta::days(by) });
        site.read(&source).await.unwrap();
        site.derive(&source).await.unwrap();
        site.deliver(&site.process("runner").await).await.unwrap();
        site.is(&[(1, &name), (2, "b")]).await;
        site.world.clock.advance(Duration::from_secs(600)).await;
    }
}

/// A healing look, a retry of parked rows and a look for gaps are due again soon after the clock has stepped back.
///
/// Guard: `.abs()` where the loops compare the time with their last look (`Loop::idle` in `run/processor.rs`). Without
/// it nobody looked for ten minutes, and would not have for a day.
#[tokio::test]
async fn clocks_stepping_back_do_not_put_off_healing() {
    let site = Site::new().await;
    site.says(&[(1, "a")]);
    site.day("zero").await;
    let stale = site.world.records(crate::site::OUTPUT).await.remove(0);
    site.says(&[(1, "b")]);
    site.day("one").await;
    let (process, stop) = (site.process("two").await, CancellationToken::new());
    let tasks = site.follow(&process, &stop);
    let owned = async || process.state.claims.owner("reasons|register.reason|0").unwrap() == Some("two".to_owned());
    site.world.until(owned).await;
    site.world.drive(site.world.clock.sleep(Duration::from_secs(10))).await;
    site.world.clock.set(site.world.clock.now() - TimeDelta::days(1));
    let append = pipeline::log::Append {
        at: stale.at.clone(),
        key: stale.key.clone().unwrap(),
        value: stale.value.clone(),
        headers: stale.headers.clone(),
    };
    pipeline::log::Log::append(&site.world.log, vec![append]).await.unwrap();
    let began = site.world.clock.now();
    let late = || site.world.clock.now() - began > TimeDelta::minutes(10);
    site.world.until(async || late() || site.last_records().await == names(&[(1, "b")])).await;
    assert!(!late(), "nobody looked");
    stop.cancel();
    for task in tasks {
        site.world.drive(task).await.unwrap().unwrap();
    }
    site.is(&[(1, "b")]).await;
}

/// Applicants come first and are delivered; the table that names their milestones comes last.
///
/// Guard: `self.tables.changed(…)` in `Loop::follow` (`run/processor.rs`), with the mark's `tables` in `Loop::assigned`
/// for a process that was stopped meanwhile. Without them the milestones never came.
#[tokio::test]
async fn reference_tables_arriving_last() {
    for running in [true, false] {
        let world = World::new().await;
        let target = Target::new(&world.clock);
        let process = world.process("one").await;
        let stop = CancellationToken::new();
        let derive = ProcessorTask { processor: Arc::new(Applicants) };
        let deliver: SinkTask = task(&target, &["register.applicant", "register.milestone"]);
        let source = async |name: &'static str, change| {
            let process = world.process("source").await;
            let mut emitter = Emitter::open(process.emitter_context(), name, topic(name)).await.unwrap();
            emitter.own(&[0]).await.unwrap();
            emitter.emit(vec![change], &stamp(world.clock.now())).await.unwrap();
        };
        source("ats.applicant", say(&applicant(1, "Ada", &[1, 2]))).await;
        source("ats.applicant", say(&applicant(2, "Grace", &[1]))).await;
        world.drive(derive.run(&process, Mode::Once, &stop)).await.unwrap();
        world.drive(deliver.run(&process, Mode::Once, &stop)).await.unwrap();
        assert_eq!((target.keys("register.applicant").len(), target.keys("register.milestone").len()), (2, 0));

        let following = running.then(|| {
            let (derive, process, stop) = (derive.clone(), process.clone(), stop.clone());
            tokio::spawn(async move { derive.run(&process, Mode::Follow, &stop).await })
        });
        if running {
            world.until(async || world.log.members("muster.applicants") == 1).await;
            world.drive(world.clock.sleep(Duration::from_secs(2))).await;
        }
        source("ats.milestone", say(&milestone(2, "Hired"))).await;
        source("ats.milestone", say(&milestone(1, "Applied"))).await;
        if let Some(following) = following {
            world.until(async || world.table::<register::Milestone>("register.milestone").await.len() == 3).await;
            stop.cancel();
            world.drive(following).await.unwrap().unwrap();
        } else {
            world.drive(derive.run(&process, Mode::Once, &stop)).await.unwrap();
        }
        let go_on = CancellationToken::new();
        world.drive(deliver.run(&world.process("two").await, Mode::Once, &go_on)).await.unwrap();
        assert_eq!((target.keys("register.applicant").len(), target.keys("register.milestone").len()), (2, 3));
    }
}
