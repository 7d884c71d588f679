//! Comparing a target with its topic: what was spoilt is named, what is on its way isn't.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use async_trait::async_trait;
use common::sink::{self, Target, task};
use common::source::{Row, Script, feed, good, system, unavailable};
use common::{World, delete, put, reason, reasons_emitter, stamp, topic};
use pipeline::change::{Change, Version};
use pipeline::clock::Clock;
use pipeline::emitter::Emitter;
use pipeline::reject::Reject;
use pipeline::run::{Feed, Mode, Runtime, SinkTask, Vanished};
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use pipeline::state::{Answer, Request, RequestKind};
use pipeline::verify::{EntityReport, Options, Watch};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "ats.reason";

async fn emit(world: &World, emitter: &mut Emitter, changes: Vec<Change>) {
    emitter.emit(changes, &stamp(world.clock.now())).await.unwrap();
}

async fn deliver(world: &World, process: &Runtime, task: SinkTask) {
    world.drive(task.run(process, Mode::Once, &CancellationToken::new())).await.unwrap();
}

async fn compared(process: &Runtime, target: &Target, options: &Options) -> EntityReport {
    let watch = Watch::default();
    pipeline::verify::target(process, "register", &topic(TOPIC), target, options, &watch).await.unwrap()
}

fn named(report: &EntityReport) -> Vec<String> {
    report.keys.iter().map(|one| format!("{} {}", one.key, one.difference.name())).collect()
}

#[tokio::test]
async fn everything_that_was_spoilt_is_named() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    let all = ["a", "b", "c", "d", "e", "f"].map(|id| put(&reason(id, "first")));
    emit(&world, &mut emitter, all.to_vec()).await;
    emit(&world, &mut emitter, vec![delete("f"), put(&reason("a", "second"))]).await;
    let target = Target::new(&world.clock);
    deliver(&world, &process, task(&target, &[TOPIC])).await;
    let healthy = world.drive(compared(&process, &target, &Options::default())).await;
    assert!(healthy.same() && healthy.keys.is_empty(), "{healthy:?}");
    assert_eq!(healthy.tally.compared, 5);

    let older = |row: Option<sink::Row>| Some(sink::Row { version: Version(1), ..row.unwrap() });
    let newer = |row: Option<sink::Row>| Some(sink::Row { version: Version(i64::MAX), ..row.unwrap() });
    let another = target.row(TOPIC, "e");
    target.spoil(TOPIC, "a", |_| None);
    target.spoil(TOPIC, "b", older);
    target.spoil(TOPIC, "c", newer);
    target.spoil(TOPIC, "d", |row| Some(sink::Row { body: Some("other".into()), ..row.unwrap() }));
    target.spoil(TOPIC, "f", |_| another.clone());
    target.spoil(TOPIC, "never", |_| another);
    let report = world.drive(compared(&process, &target, &Options::default())).await;
    assert_eq!(named(&report), ["a missing", "b stale", "c newer", "d different", "f extra", "never extra"]);
    assert_eq!((report.tally.differing(), report.behind, report.same()), (6, false, false));

    // More than may be looked at again are counted all the same.
    let few = Options { candidates: 2, ..Options::default() };
    let report = world.drive(compared(&process, &target, &few)).await;
    assert_eq!((report.tally.differing(), report.tally.seen_once, report.keys.len()), (6, 4, 2));

    // What is stated again is written again, above whatever was held.
    let wanted: Vec<_> = named(&world.drive(compared(&process, &target, &Options::default())).await)
        .iter()
        .map(|line| line.split_once(' ').unwrap().0.to_owned())
        .filter(|key| key != "c")
        .map(|key| pipeline::emitter::Restate {
            above: target.row(TOPIC, &key).map(|row| row.version),
            key: common::key(&key),
        })
        .collect();
    emitter.restate(&wanted).await.unwrap();
    deliver(&world, &process, task(&target, &[TOPIC])).await;
    let report = world.drive(compared(&process, &target, &Options::default())).await;
    assert_eq!(named(&report), ["c newer"], "nothing is above the highest version there is");
    let restated = world.table::<schemas::records::ats::Reason>(TOPIC).await;
    assert_eq!((restated["a"].name.as_str(), restated["b"].name.as_str()), ("second", "first"));
    assert!(!restated.contains_key("never") && !restated.contains_key("f"));
}

#[tokio::test]
async fn what_was_not_delivered_is_said_to_be_so() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    emit(&world, &mut emitter, vec![put(&reason("a", "first")), put(&reason("b", "first"))]).await;
    let target = Target::new(&world.clock);
    deliver(&world, &process, task(&target, &[TOPIC])).await;
    emit(&world, &mut emitter, vec![put(&reason("a", "second")), put(&reason("c", "first"))]).await;
    let report = world.drive(compared(&process, &target, &Options::default())).await;
    assert_eq!((report.tally.differing(), report.tally.undelivered, report.behind), (0, 2, true));
    assert!(!report.same());
    // Nobody has ever delivered anything here.
    let empty = Target::new(&world.clock);
    let report = world.drive(compared(&process, &empty, &Options::default())).await;
    assert_eq!((report.tally.differing(), report.tally.undelivered, report.behind), (0, 3, true));
}

#[tokio::test]
async fn what_waits_or_is_set_aside_is_no_difference() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    emit(&world, &mut emitter, ["a", "b", "c"].map(|id| put(&reason(id, "first"))).to_vec()).await;
    let target = Target::new(&world.clock);
    target.refuses(&["a"]);
    target.parks(&["b"]);
    deliver(&world, &process, task(&target, &[TOPIC])).await;
    let report = world.drive(compared(&process, &target, &Options::default())).await;
    assert_eq!((report.tally.set_aside, report.tally.waiting, report.same()), (1, 1, true), "{report:?}");
}

#[tokio::test]
async fn nothing_differs_while_changes_flow() {
    let world = World::new().await;
    let process = world.process("one").await;
    let target = Target::new(&world.clock);
    let stop = CancellationToken::new();
    let delivering = {
        let (task, process, stop) = (task(&target, &[TOPIC]), process.clone(), stop.clone());
        tokio::spawn(async move { task.run(&process, Mode::Follow, &stop).await })
    };
    let changing = {
        let (process, clock, stop) = (process.clone(), world.clock.clone(), stop.clone());
        tokio::spawn(async move {
            let mut emitter = reasons_emitter(&process).await;
            let mut n = 0u32;
            while !stop.is_cancelled() {
                n += 1;
                let id = format!("r{}", n % 40);
                let change = if n.is_multiple_of(7) { delete(&id) } else { put(&reason(&id, &format!("name {n}"))) };
                emitter.emit(vec![change], &stamp(clock.now())).await.unwrap();
                clock.sleep(Duration::from_millis(7)).await;
            }
            n
        })
    };
    let options = Options { wait: Duration::from_secs(5), ..Options::default() };
    for _ in 0..8 {
        let report = world.drive(compared(&process, &target, &options)).await;
        assert!(report.same(), "{report:?}");
        world.drive(world.clock.sleep(Duration::from_millis(170))).await;
    }
    stop.cancel();
    assert!(world.drive(changing).await.unwrap() > 100, "changes flowed");
    world.drive(delivering).await.unwrap().unwrap();
}

/// A system whose records change without saying so: a reading of changes brings nothing.
struct Silent(Script);

#[async_trait]
impl Source for Silent {
    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        let mut page = self.0.read(ask, after).await?;
        if *ask == Ask::Changes {
            page.changes.clear();
            page.rejects.clear();
            page.read = 0;
        }
        Ok(page)
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        self.0.decode(raw)
    }
}

fn silent(script: &Script, vanished: Vanished) -> Feed {
    Feed { source: Box::new(Silent(script.clone())), vanished, ..feed(script) }
}

/// Asks for a comparison, and does what was asked.
async fn compared_with_source(world: &World, process: &Runtime, feed: Feed, repair: bool) -> (Answer, EntityReport) {
    let id = format!("request-{}", process.state.requests.open(|_| true).unwrap().len());
    let id = format!("{id}-{}", world.records("muster.requests").await.len());
    let kind = RequestKind::Compare { repair };
    let request = Request { id: id.clone(), target: TOPIC.into(), kind, at: world.clock.now(), answer: None };
    process.state.requests.ask(&request).await.unwrap();
    let stop = CancellationToken::new();
    world.drive(system(vec![feed]).run(process, Mode::Asked, &stop)).await.unwrap();
    let answer = process.state.requests.answered(&id).await.unwrap();
    let report = serde_json::from_value(answer.details[0]["report"].clone()).unwrap();
    (answer, report)
}

#[tokio::test]
async fn what_the_topic_says_otherwise_is_named_and_mended() {
    let world = World::new().await;
    let process = world.process("one").await;
    let script = Script::new(&world.clock, ["a", "b", "c", "d", "e"].map(|id| good(id, "first")));
    let deletes = Vanished::Delete { max_share: 0.5 };
    let feed = || silent(&script, deletes);
    world.drive(system(vec![feed()]).run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
    let before = world.records(TOPIC).await.len();
    let (_, healthy) = compared_with_source(&world, &process, feed(), false).await;
    assert!(healthy.same() && healthy.tally.compared == 5, "{healthy:?}");

    {
        // Somebody who owned the topic wrote what the system never said, and took away what it says.
        let mut emitter = reasons_emitter(&process).await;
        emit(&world, &mut emitter, vec![put(&reason("never", "said")), delete("b")]).await;
        // A person has repaired this one.
        let original = emitter.memory(0).unwrap().get(&["c"]).unwrap()[0].unwrap().hash.unwrap();
        emitter.emit_edited(put(&reason("c", "by hand")), original, &stamp(world.clock.now())).await.unwrap();
    }
    // `d` says something else without telling, `e` can't be used any more, but is there.
    script.set([good("a", "first"), good("b", "first"), good("c", "first"), good("d", "second"), Row::Bad("e".into())]);
    let written = world.records(TOPIC).await.len();
    let (_, report) = compared_with_source(&world, &process, feed(), false).await;
    assert_eq!(named(&report), ["b missing", "d different", "never extra"]);
    assert_eq!((report.tally.edited, report.tally.set_aside, report.same()), (1, 1, false));
    assert_eq!(world.records(TOPIC).await.len(), written, "comparing emits nothing");
    assert_eq!(written, before + 3);

    let (_, kept) = compared_with_source(&world, &process, silent(&script, Vanished::Report), false).await;
    assert_eq!((kept.tally.kept, kept.tally.extra), (1, 0));

    let (answer, report) = compared_with_source(&world, &process, feed(), true).await;
    assert_eq!((named(&report).len(), &answer.details[0]["mended"]), (3, &3.into()));
    let (_, after) = compared_with_source(&world, &process, feed(), false).await;
    assert!(after.same() && after.tally.edited == 1, "{after:?}");
}

#[tokio::test]
async fn what_the_system_changed_meanwhile_is_no_difference() {
    let world = World::new().await;
    let process = world.process("one").await;
    let script = Script::new(&world.clock, [good("a", "first"), good("b", "first")]);
    world.drive(system(vec![feed(&script)]).run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
    script.set([good("a", "second"), good("b", "first"), good("c", "first")]);
    let (_, report) = compared_with_source(&world, &process, feed(&script), false).await;
    assert!(report.same(), "the reading of changes in between brings them: {report:?}");
    assert_eq!(world.table::<schemas::records::ats::Reason>(TOPIC).await.len(), 3);
    script.fail_next(unavailable(None));
    script.away(true);
    let request = Request {
        id: "away".into(),
        target: TOPIC.into(),
        kind: RequestKind::Compare { repair: false },
        at: world.clock.now(),
        answer: None,
    };
    process.state.requests.ask(&request).await.unwrap();
    world.drive(system(vec![feed(&script)]).run(&process, Mode::Asked, &CancellationToken::new())).await.unwrap();
    let answer = process.state.requests.answered("away").await.unwrap();
    assert!(!answer.done && answer.details[0]["unreachable"] == true, "{answer:?}");
}
