//! Two who think that they own a partition: stalled, too fast a clock, the same version, on each of the three sides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use pipeline::clock::Clock;
use pipeline::run::{Mode, RunError, Runtime, SinkTask};
use pipeline::sink::{Applied, Assigned, Batch, Held, Resume, Sink, SinkError};
use pipeline::source::Ask;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::sink::{Target, task};
use crate::common::source::{feed, system};
use crate::common::{stamp, version_of};
use crate::site::{Gate, INPUT, OUTPUT, Site, Stalling, Wrong, put};

/// A process whose next append to `topic` stands at the gate.
async fn stalling(site: &Site, topic: &'static str, gate: &Gate) -> Runtime {
    let mut process = site.process("former").await;
    process.log = Arc::new(Stalling { log: site.world.log.clone(), topic, gate: gate.clone() });
    process
}

fn reading(site: &Site, process: Runtime) -> JoinHandle<Result<(), RunError>> {
    let mut system = system(vec![feed(&site.script)]);
    tokio::spawn(async move { system.run(&process, Mode::Once, &CancellationToken::new()).await })
}

fn deriving(site: &Site, process: Runtime) -> JoinHandle<Result<(), RunError>> {
    let processor = site.processor();
    tokio::spawn(async move { processor.run(&process, Mode::Once, &CancellationToken::new()).await })
}

/// A source stalls in the middle of its append; another process reads the system's next state and delivers it; then the
/// first one's append arrives, and its process is never heard of again.
///
/// Guard: `Emitter::heal`, called by `Emitter::catch_up` (`emitter/look.rs`). Without it the input's last record was `stale`.
#[tokio::test]
async fn a_stalled_former_owner_that_appends_late_at_the_source() {
    let site = Site::new().await;
    site.says(&[(1, "first"), (2, "other")]);
    site.day("one").await;
    let gate = Gate::closed();
    site.says(&[(1, "stale"), (2, "other")]);
    let stuck = reading(&site, stalling(&site, INPUT, &gate).await);
    site.world.until(async || gate.waiting()).await;
    site.says(&[(1, "right"), (2, "other")]);
    site.day("two").await;
    gate.let_through().await;
    site.day("three").await;
    stuck.abort();
    site.input_is(&[(1, "right"), (2, "other")]).await;
    site.is(&[(1, "right"), (2, "other")]).await;
}

/// The same on the other side: a processor stalls in the middle of its output, is declared dead, and appends late.
///
/// Guard: as above. Without it the topic's last record, which is all that compaction leaves, was `STALE`.
#[tokio::test]
async fn a_stalled_former_owner_that_appends_late_at_the_processor() {
    let site = Site::new().await;
    site.says(&[(1, "first"), (2, "other")]);
    site.day("one").await;
    let gate = Gate::closed();
    site.says(&[(1, "stale"), (2, "other")]);
    site.read(&site.process("source").await).await.unwrap();
    let stuck = deriving(&site, stalling(&site, OUTPUT, &gate).await);
    site.world.until(async || gate.waiting()).await;
    site.says(&[(1, "right"), (2, "other")]);
    assert!(site.world.log.expire_member("muster.reasons", 0));
    site.day("two").await;
    gate.let_through().await;
    site.day("three").await;
    stuck.abort();
    site.is(&[(1, "right"), (2, "other")]).await;
}

/// The former owner's clock is a year ahead, and so are its versions. What its successor writes must be above them.
///
/// Guard: `known.highest.next(now)` in `Emitter::make` (`emitter/make.rs`). With the clock alone as the version
/// (`Version(0).next(now)`), a reader that goes by versions stayed at `first`.
#[tokio::test]
async fn a_former_owner_with_a_fast_clock() {
    let site = Site::new().await;
    site.says(&[(1, "first"), (2, "other")]);
    let mut fast = site.process("fast").await;
    fast.clock = Arc::new(Wrong { clock: site.world.clock.clone(), by: TimeDelta::days(365) });
    site.read(&fast).await.unwrap();
    site.derive(&fast).await.unwrap();
    site.deliver(&fast).await.unwrap();
    site.is(&[(1, "first"), (2, "other")]).await;
    // A key that nobody has seen begins above everything, too: it may have gone with its tombstone.
    site.says(&[(1, "right"), (2, "other"), (3, "new")]);
    site.day("successor").await;
    site.input_is(&[(1, "right"), (2, "other"), (3, "new")]).await;
    site.is(&[(1, "right"), (2, "other"), (3, "new")]).await;
}

/// A former owner with a fast clock appends late: its version is far above its successor's, whose record is right all
/// the same.
///
/// Guard: `merge` in `emitter/absorb.rs` orders by (writer, version). Ordered by version alone, the late record counted
/// as right, and the input stayed `stale`.
#[tokio::test]
async fn a_former_owner_with_a_fast_clock_that_appends_late() {
    let site = Site::new().await;
    site.says(&[(1, "first")]);
    site.day("one").await;
    let gate = Gate::closed();
    let mut fast = stalling(&site, INPUT, &gate).await;
    fast.clock = Arc::new(Wrong { clock: site.world.clock.clone(), by: TimeDelta::days(365) });
    site.says(&[(1, "stale")]);
    let stuck = reading(&site, fast);
    site.world.until(async || gate.waiting()).await;
    site.says(&[(1, "right")]);
    let successor = site.process("successor").await;
    let mut owner = site.emitter(&successor).await;
    owner.emit(vec![put(1, "right")], &stamp(site.world.clock.now())).await.unwrap();
    gate.let_through().await;
    stuck.abort();
    // Nobody states anything: the next owner must find it out by itself.
    let third = site.process("third").await;
    drop(site.emitter(&third).await);
    site.derive(&third).await.unwrap();
    site.deliver(&third).await.unwrap();
    site.input_is(&[(1, "right")]).await;
    site.is(&[(1, "right")]).await;
}

/// Two writers give the same version to different values in the same millisecond, and the wrong one comes first. A reader
/// that has taken it would drop the right one as no newer.
///
/// Guard: `overtaken` in `merge` (`emitter/absorb.rs`). Without it the right record kept its version, and a reader that
/// goes by versions held `stale` for ever.
#[tokio::test]
async fn equal_versions_from_two_writers() {
    let site = Site::new().await;
    site.says(&[(1, "first")]);
    site.day("one").await;
    let gate = Gate::closed();
    let late = Target::new(&site.world.clock);
    let reader = SinkTask { name: "archive".into(), ..task(&late, &[INPUT]) };
    let take = async |name: &str| {
        let process = site.process(name).await;
        site.world.drive(reader.run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
    };
    site.says(&[(1, "stale")]);
    let stuck = reading(&site, stalling(&site, INPUT, &gate).await);
    site.world.until(async || gate.waiting()).await;
    let successor = site.process("successor").await;
    let mut owner = site.emitter(&successor).await;
    gate.let_through().await;
    take("a").await;
    // The successor's clock shows the millisecond that the former owner's showed.
    let version = version_of(site.world.records(INPUT).await.last().unwrap());
    site.world.clock.set(DateTime::from_timestamp_millis(version).unwrap());
    owner.emit(vec![put(1, "right")], &stamp(site.world.clock.now())).await.unwrap();
    let versions: Vec<i64> = site.world.records(INPUT).await.iter().map(version_of).collect();
    assert_eq!(versions[1], versions[2], "the story needs equal versions: {versions:?}");
    take("b").await;
    stuck.abort();
    site.input_is(&[(1, "right")]).await;
    let held = late.row(INPUT, &crate::site::id(1)).unwrap().body;
    assert_eq!(held, Some(crate::common::body(&crate::common::reason(&crate::site::id(1), "right"))));
}

/// The right record was overwritten by a late one and taken by compaction; its owner finds that out, and dies before it
/// could ask the system for everything. The next owner must.
///
/// Guard: `set_incomplete` in `Emitter::append_again` (`emitter/heal.rs`). Without it the next owner asked for changes
/// only, among which an entity that hasn't changed never comes.
#[tokio::test]
async fn a_value_that_compaction_took_is_stated_again_though_its_owner_died() {
    let site = Site::new().await;
    // The other one stands last: compaction leaves the landmark, which would tell by itself that something is wrong.
    site.says(&[(1, "first"), (2, "other")]);
    site.day("one").await;
    let gate = Gate::closed();
    site.says(&[(1, "stale"), (2, "other")]);
    let stuck = reading(&site, stalling(&site, INPUT, &gate).await);
    site.world.until(async || gate.waiting()).await;
    site.says(&[(1, "right"), (2, "other")]);
    let successor = site.process("successor").await;
    let mut owner = site.emitter(&successor).await;
    owner.emit(vec![put(1, "right")], &stamp(site.world.clock.now())).await.unwrap();
    gate.let_through().await;
    stuck.abort();
    assert!(site.world.log.compact(INPUT, Duration::from_secs(3600)) > 0);
    site.world.clock.advance(Duration::from_secs(6)).await;
    owner.check().await.unwrap();
    drop((owner, successor));
    let asked = site.script.passes().len();
    site.day("three").await;
    site.day("four").await;
    assert_eq!(site.script.passes().split_off(asked), [Ask::Everything, Ask::Changes], "once, and then no more");
    site.input_is(&[(1, "right"), (2, "other")]).await;
    site.is(&[(1, "right"), (2, "other")]).await;
}

/// Two processes poll the same system: a partitioned network makes both believe that it is theirs. They take it from
/// each other with every claim; what the log says in the end is what the system says.
///
/// Guard: `claim.held()` in `Emitter::ready` (`emitter/look.rs`). Without it the first one wrote beside the second
/// instead of being told `Fenced`.
#[tokio::test]
async fn two_processes_that_both_own_a_partition_at_the_source() {
    let site = Site::new().await;
    let (one, two) = (site.process("one").await, site.process("two").await);
    let mut first = site.emitter(&one).await;
    let at = stamp(site.world.clock.now());
    first.emit(vec![put(1, "first")], &at).await.unwrap();
    let mut second = site.emitter(&two).await;
    second.emit(vec![put(1, "right")], &at).await.unwrap();
    one.state.claims.settled().await.unwrap();
    let fenced = first.emit(vec![put(1, "stale")], &at).await;
    assert!(matches!(fenced, Err(pipeline::emitter::EmitError::Fenced { .. })), "{fenced:?}");
    site.input_is(&[(1, "right")]).await;
    // As whole loops, for an hour of changes.
    let stop = CancellationToken::new();
    let tasks: Vec<_> = [one, two]
        .into_iter()
        .map(|process| {
            let (mut system, stop) = (system(vec![feed(&site.script)]), stop.clone());
            tokio::spawn(async move { system.run(&process, Mode::Follow, &stop).await })
        })
        .collect();
    for round in 0..6 {
        let name = format!("name {round}");
        site.says(&[(1, &name), (2, "other")]);
        site.world
            .until(async || {
                site.world.table::<schemas::records::ats::Reason>(INPUT).await.values().any(|r| r.name == name)
            })
            .await;
    }
    stop.cancel();
    for task in tasks {
        site.world.drive(task).await.unwrap().unwrap();
    }
    site.day("last").await;
    site.input_is(&[(1, "name 5"), (2, "other")]).await;
    site.is(&[(1, "name 5"), (2, "other")]).await;
}

/// A processor is declared dead in the middle of its work and goes on with it, while another one has its partitions:
/// each believes that they are its own, in turns.
///
/// Several guards stand behind each other here (the log refuses the commit of a member that is dead, `claim.held()` stops
/// its emitter, healing mends what it wrote): none of them alone, taken out, was seen to fail this test. Each has its own:
/// `a_stalled_former_owner_that_appends_late_at_the_processor`, `two_processes_that_both_own_a_partition_at_the_source`.
#[tokio::test]
async fn two_processes_that_both_own_a_partition_at_the_processor() {
    let site = Site::new().await;
    site.says(&[(1, "first"), (2, "other")]);
    site.day("zero").await;
    let (one, two) = (site.process("one").await, site.process("two").await);
    let stop = CancellationToken::new();
    let tasks: Vec<_> = [one, two]
        .into_iter()
        .map(|process| {
            let (processor, stop) = (site.processor(), stop.clone());
            tokio::spawn(async move { processor.run(&process, Mode::Follow, &stop).await })
        })
        .collect();
    site.world.until(async || site.world.log.members("muster.reasons") == 2).await;
    for round in 0..6 {
        let name = format!("name {round}");
        site.states("source", vec![put(1, &name)]).await;
        site.world.log.expire_member("muster.reasons", 0);
        let wanted = crate::site::names(&[(1, &name), (2, "other")]);
        site.world.until(async || site.last_records().await == wanted).await;
    }
    stop.cancel();
    for task in tasks {
        site.world.drive(task).await.unwrap().unwrap();
    }
    site.says(&[(1, "name 5"), (2, "other")]);
    site.day("last").await;
    site.is(&[(1, "name 5"), (2, "other")]).await;
}

/// A target that takes its time with the first batch it is given.
struct Slow {
    target: Target,
    gate: Gate,
}

#[async_trait]
impl Sink for Slow {
    async fn assigned(&self, partitions: &[Assigned]) -> Result<Resume, SinkError> {
        self.target.assigned(partitions).await
    }
    async fn apply(&self, batch: &Batch) -> Result<Applied, SinkError> {
        self.gate.wait().await;
        let applied = self.target.apply(batch).await;
        self.gate.pass();
        applied
    }
    async fn held(
        &self,
        of: &Assigned,
        after: Option<&schemas::Key>,
        limit: usize,
    ) -> Result<Option<Vec<Held>>, SinkError> {
        self.target.held(of, after, limit).await
    }
    async fn outdate(&self, of: &Assigned, keys: &[schemas::Key]) -> Result<(), SinkError> {
        self.target.outdate(of, keys).await
    }
    async fn swept(&self, of: &Assigned) -> Result<(), SinkError> {
        self.target.swept(of).await
    }
    async fn revoked(&self, _: &[pipeline::log::TopicPartition]) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A sink's batch stands in a slow network while another process delivers it and what came after it. When it arrives at
/// last, the target doesn't take it: its offsets mustn't go back, nor its rows.
///
/// Guard: the claim's epoch in `Loop::assigned` (`run/sink.rs`), which the target compares (`sinks/src/sql/offsets.rs`:
/// `a_former_owner_is_fenced` in `sinks/src/sql/tests/suite.rs` shows it on real databases). With the same epoch for all
/// (`Epoch(0)`) the late batch was taken instead of being refused.
#[tokio::test]
async fn two_processes_that_both_own_a_partition_at_the_sink() {
    let site = Site::new().await;
    site.says(&[(1, "first"), (2, "other")]);
    let source = site.process("source").await;
    site.read(&source).await.unwrap();
    site.derive(&source).await.unwrap();
    let gate = Gate::closed();
    let slow = Arc::new(Slow { target: site.target.clone(), gate: gate.clone() });
    let late = SinkTask { sink: slow, ..site.sink() };
    let former = site.process("former").await;
    let stop = CancellationToken::new();
    let stuck = {
        let (former, stop) = (former.clone(), stop.clone());
        tokio::spawn(async move { late.run(&former, Mode::Follow, &stop).await })
    };
    site.world.until(async || gate.waiting()).await;
    assert!(site.world.log.expire_member("muster.register", 0));
    site.deliver(&site.process("new").await).await.unwrap();
    let (batches, next) = (site.target.batches().len(), site.target.next(OUTPUT));
    gate.let_through().await;
    assert_eq!((site.target.batches().len(), site.target.next(OUTPUT)), (batches, next), "the late batch was refused");
    stop.cancel();
    site.world.drive(stuck).await.unwrap().unwrap();
    site.says(&[(1, "right"), (2, "other")]);
    site.day("last").await;
    site.is(&[(1, "right"), (2, "other")]).await;
}
