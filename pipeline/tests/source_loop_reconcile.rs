//! What has vanished from a system: found in two complete passes, guarded; and replays of a feed's letters.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::source::{Row, Script, feed, good, system};
use common::{World, key_of};
use pipeline::run::{Feed, Mode, RunError, Runtime, Vanished};
use pipeline::schedule::Schedule;
use pipeline::state::{Answer, Request, RequestKind};
use schemas::records::ats::Reason;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "ats.reason";

/// Every pass is over everything, and what has vanished is deleted.
fn deleting(script: &Script, max_share: f64) -> Feed {
    let often = Some(Schedule::Every(Duration::from_secs(1)));
    Feed { reconcile: often, vanished: Vanished::Delete { max_share }, ..feed(script) }
}

async fn pass(world: &World, process: &Runtime, feed: Feed) -> Result<(), RunError> {
    world.clock.advance(Duration::from_secs(60)).await;
    world.drive(system(vec![feed]).run(process, Mode::Once, &CancellationToken::new())).await
}

async fn there(world: &World) -> Vec<String> {
    world.table::<Reason>(TOPIC).await.into_keys().collect()
}

async fn with_folder(world: &World) -> Runtime {
    let mut process = world.process("one").await;
    // A pass in a process of its own: what was seen before is in the memory on disk.
    process.folder = Some(world.memories().into());
    process
}

fn four() -> Vec<Row> {
    ["r1", "r2", "r3", "r4"].map(|id| good(id, "a")).into()
}

#[tokio::test]
async fn what_is_absent_from_two_complete_passes_is_deleted() {
    let world = World::new().await;
    let script = Script::new(&world.clock, four());
    let process = with_folder(&world).await;
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    script.set(four().split_off(1));
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    assert_eq!(there(&world).await.len(), 4, "one pass without it proves nothing");
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    assert_eq!(there(&world).await, ["r2", "r3", "r4"]);
    assert_eq!(world.operations().runs(TOPIC, 1).await.unwrap()[0].vanished, 1);
}

#[tokio::test]
async fn what_came_in_one_pass_is_not_gone_after_one_other() {
    let world = World::new().await;
    let script = Script::new(&world.clock, four());
    let process = with_folder(&world).await;
    pass(&world, &process, deleting(&script, 0.9)).await.unwrap();
    let mut five = four();
    five.push(good("r5", "new"));
    script.set(five);
    pass(&world, &process, deleting(&script, 0.9)).await.unwrap();
    script.set(four());
    pass(&world, &process, deleting(&script, 0.9)).await.unwrap();
    assert_eq!(there(&world).await.len(), 5, "it was absent once");
    pass(&world, &process, deleting(&script, 0.9)).await.unwrap();
    assert_eq!(there(&world).await.len(), 4);
}

#[tokio::test]
async fn what_vanished_is_reported_where_it_is_not_to_be_deleted() {
    let world = World::new().await;
    let script = Script::new(&world.clock, four());
    let process = with_folder(&world).await;
    let reporting = || Feed { vanished: Vanished::Report, ..deleting(&script, 0.5) };
    pass(&world, &process, reporting()).await.unwrap();
    script.set(four().split_off(1));
    pass(&world, &process, reporting()).await.unwrap();
    pass(&world, &process, reporting()).await.unwrap();
    assert_eq!(there(&world).await.len(), 4);
    assert_eq!(world.operations().runs(TOPIC, 1).await.unwrap()[0].vanished, 1);
}

#[tokio::test]
async fn more_than_the_share_is_not_deleted() {
    let world = World::new().await;
    let script = Script::new(&world.clock, four());
    let process = with_folder(&world).await;
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    script.set(four().split_off(3));
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    let refused = pass(&world, &process, deleting(&script, 0.5)).await;
    assert!(matches!(&refused, Err(RunError::Refused { reason, .. }) if reason.contains("max_share")), "{refused:?}");
    assert_eq!(there(&world).await.len(), 4);
    let run = &world.operations().runs(TOPIC, 1).await.unwrap()[0];
    assert_eq!((run.success, run.vanished), (Some(false), 3));
}

#[tokio::test]
async fn a_record_without_a_key_means_that_nothing_is_deleted() {
    let world = World::new().await;
    let script = Script::new(&world.clock, four());
    let process = with_folder(&world).await;
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    let mut rows = four().split_off(1);
    rows.push(Row::Unreadable("{}".into()));
    script.set(rows);
    for _ in 0..3 {
        pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    }
    assert_eq!(there(&world).await.len(), 4);
}

#[tokio::test]
async fn a_rejected_record_counts_as_present() {
    let world = World::new().await;
    let script = Script::new(&world.clock, four());
    let process = with_folder(&world).await;
    pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    let mut rows = four();
    rows[0] = Row::Bad("r1".into());
    script.set(rows);
    for _ in 0..3 {
        pass(&world, &process, deleting(&script, 0.5)).await.unwrap();
    }
    assert_eq!(there(&world).await.len(), 4);
    let counts = world.operations().runs(TOPIC, 1).await.unwrap()[0].counts;
    assert_eq!((counts.read, counts.unchanged), (4, 4));
    counts.balanced().unwrap();
}

async fn replay(world: &World, process: &Runtime, script: &Script, edited: Option<serde_json::Value>) -> Answer {
    let letter = world.letters().await[0].id.clone();
    let id = format!("q{}", world.records("muster.requests").await.len());
    let kind = RequestKind::Replay { letter, edited };
    let request = Request { id: id.clone(), target: TOPIC.into(), kind, at: chrono::Utc::now(), answer: None };
    process.state.requests.ask(&request).await.unwrap();
    pass(world, process, feed(script)).await.unwrap();
    process.state.requests.answered(&id).await.unwrap()
}

#[tokio::test]
async fn a_letter_that_is_still_bad_stays_open() {
    let world = World::new().await;
    let script = Script::new(&world.clock, [Row::Bad("r2".into())]);
    let process = with_folder(&world).await;
    pass(&world, &process, feed(&script)).await.unwrap();
    let answer = replay(&world, &process, &script, None).await;
    assert!(!answer.done && answer.text.contains("still can't be used"), "{}", answer.text);
    assert_eq!(world.letters().await[0].state.as_str(), "open");
}

#[tokio::test]
async fn an_edited_letter_is_written_and_the_bad_record_is_not_rejected_again() {
    let world = World::new().await;
    let script = Script::new(&world.clock, [good("r1", "a"), Row::Bad("r2".into())]);
    let process = with_folder(&world).await;
    pass(&world, &process, feed(&script)).await.unwrap();
    let mended = serde_json::to_value(common::reason("r2", "mended")).unwrap();
    let answer = replay(&world, &process, &script, Some(mended)).await;
    assert!(answer.done, "{}", answer.text);
    pass(&world, &process, feed(&script)).await.unwrap();
    assert_eq!(world.table::<Reason>(TOPIC).await["r2"].name, "mended");
    assert_eq!(world.letters().await[0].state.as_str(), "replayed");
    let open = world.records("muster.dead-letters").await.pop().unwrap();
    assert!(open.value.is_none(), "letter {} must not come back", key_of(&open));
}
