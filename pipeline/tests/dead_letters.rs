//! Records that a sink can't deliver: set aside, superseded, replayed, mended.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::processors::Reasons;
use common::sink::{Target, task};
use common::{World, ask, put, reason, reasons_emitter, stamp};
use pipeline::change::Change;
use pipeline::clock::Clock;
use pipeline::dead_letters::DeadLetters;
use pipeline::operations::{LetterState, Operations};
use pipeline::reject::{Reason, Reject};
use pipeline::run::{Mode, ProcessorTask, RunError, Runtime, SinkTask};
use pipeline::state::RequestKind;
use schemas::records::register;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "ats.reason";
/// The register's ids are uuids.
const R1: &str = "00000000-0000-4000-8000-000000000001";

async fn given(world: &World, changes: Vec<Change>) {
    let process = world.process("source").await;
    let mut emitter = reasons_emitter(&process).await;
    for change in changes {
        emitter.emit(vec![change], &stamp(world.clock.now())).await.unwrap();
    }
}

/// A component at work until it is dropped.
struct Running(JoinHandle<Result<(), RunError>>, CancellationToken);

impl Running {
    async fn end(self, world: &World) -> Result<(), RunError> {
        self.1.cancel();
        world.drive(self.0).await.unwrap()
    }
}

fn deliver(task: SinkTask, process: &Runtime) -> Running {
    let (process, stop) = (process.clone(), CancellationToken::new());
    let stopped = stop.clone();
    Running(tokio::spawn(async move { task.run(&process, Mode::Follow, &stopped).await }), stop)
}

fn derive(processor: Arc<Reasons>, process: &Runtime) -> Running {
    let (process, stop) = (process.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let task = ProcessorTask { processor };
    Running(tokio::spawn(async move { task.run(&process, Mode::Follow, &stopped).await }), stop)
}

fn replay(letter: &str) -> RequestKind {
    RequestKind::Replay { letter: letter.to_owned(), edited: None }
}

async fn states(world: &World) -> Vec<String> {
    world.letters().await.iter().map(|letter| letter.state.as_str().to_owned()).collect()
}

#[tokio::test]
async fn what_the_target_will_not_take_is_set_aside_and_the_rest_is_delivered() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "a")), put(&reason("r2", "b")), put(&reason("r3", "c"))]).await;
    let target = Target::new(&world.clock);
    target.refuses(&["r2"]);
    let process = world.process("one").await;
    let sink = task(&target, &[TOPIC]);
    world.drive(sink.run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
    assert_eq!(target.keys(TOPIC), ["r1", "r3"]);
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].component.as_str(), letters[0].key.as_deref()), (1, "register", Some("r2")));
    let booked = world.booked("register").await;
    assert_eq!((booked.read, booked.delivered, booked.rejected), (3, 2, 1));
    // The index can be rebuilt from the log.
    let (_, letter) = process.letters.get(&letters[0].id).await.unwrap().unwrap();
    assert_eq!((letter.place.unwrap().1.0, letter.topic.as_str()), (1, TOPIC));
    assert!(letter.hash.is_some());
}

#[tokio::test]
async fn too_many_rejects_of_one_kind_stop_the_sink() {
    let world = World::new().await;
    let ids: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
    given(&world, ids.iter().map(|id| put(&reason(id, "a"))).collect()).await;
    let target = Target::new(&world.clock);
    target.refuses(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let process = world.process("one").await;
    let sink = task(&target, &[TOPIC]);
    let stopped = world.drive(sink.run(&process, Mode::Once, &CancellationToken::new())).await;
    assert!(matches!(stopped, Err(RunError::TooManyRejects { .. })), "{stopped:?}");
    assert!(world.letters().await.is_empty());
    assert_eq!(target.next(TOPIC), None);
}

#[tokio::test]
async fn a_newer_delivery_supersedes_the_letter() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "a"))]).await;
    let target = Target::new(&world.clock);
    target.refuses(&["r1"]);
    let running = deliver(task(&target, &[TOPIC]), &world.process("one").await);
    world.until(async || states(&world).await == ["open"]).await;
    target.refuses(&[]);
    given(&world, vec![put(&reason("r1", "b"))]).await;
    world.until(async || states(&world).await == ["superseded"]).await;
    running.end(&world).await.unwrap();
    assert!(world.records("muster.dead-letters").await.last().unwrap().value.is_none());
}

#[tokio::test]
async fn a_letter_is_replayed_when_the_target_takes_it() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "a"))]).await;
    let target = Target::new(&world.clock);
    target.refuses(&["r1"]);
    let process = world.process("one").await;
    let running = deliver(task(&target, &[TOPIC]), &process);
    world.until(async || states(&world).await == ["open"]).await;
    let id = world.letters().await[0].id.clone();
    let still = ask(&world, &process, "q1", "register", replay(&id)).await;
    assert!(!still.done && still.text.contains("still can't be delivered"), "{}", still.text);
    target.refuses(&[]);
    let answer = ask(&world, &process, "q2", "register", replay(&id)).await;
    assert!(answer.done, "{}", answer.text);
    assert_eq!(target.keys(TOPIC), ["r1"]);
    assert_eq!(states(&world).await, ["replayed"]);
    let again = ask(&world, &process, "q3", "register", replay(&id)).await;
    assert!(!again.done, "{}", again.text);
    running.end(&world).await.unwrap();
    world.booked("register").await;
}

#[tokio::test]
async fn an_old_version_never_wins_through_a_replay() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "old"))]).await;
    let target = Target::new(&world.clock);
    target.refuses(&["r1"]);
    let process = world.process("one").await;
    let running = deliver(task(&target, &[TOPIC]), &process);
    world.until(async || states(&world).await == ["open"]).await;
    let id = world.letters().await[0].id.clone();
    let (_, mut letter) = process.letters.get(&id).await.unwrap().unwrap();
    target.refuses(&[]);
    given(&world, vec![put(&reason("r1", "new"))]).await;
    world.until(async || states(&world).await == ["superseded"]).await;
    let new = target.row(TOPIC, "r1");
    // As where the index was lost and the letter came in again.
    letter.id = "late".into();
    process.letters.write(&[letter]).await.unwrap();
    let answer = ask(&world, &process, "q1", "register", replay("late")).await;
    assert!(answer.text.contains("newer version"), "{}", answer.text);
    assert_eq!(target.row(TOPIC, "r1"), new);
    assert_eq!(states(&world).await, ["superseded", "superseded"]);
    running.end(&world).await.unwrap();
}

#[tokio::test]
async fn a_letter_that_cannot_be_read_is_no_delete() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "a"))]).await;
    let target = Target::new(&world.clock);
    let process = world.process("one").await;
    let running = deliver(task(&target, &[TOPIC]), &process);
    world.until(async || target.keys(TOPIC) == ["r1"]).await;
    // Somebody writes rubbish over it, with headers of ours and all.
    let mut rubbish = world.records(TOPIC).await.remove(0);
    rubbish.headers.push("version", (common::version_of(&rubbish) + 5).to_string());
    let append = pipeline::log::Append {
        at: rubbish.at.clone(),
        key: rubbish.key.clone().unwrap(),
        value: Some(bytes::Bytes::from_static(b"\x00\x01\x02\x03\x04rubbish")),
        headers: rubbish.headers,
    };
    pipeline::log::Log::append(&world.log, vec![append]).await.unwrap();
    world.until(async || states(&world).await == ["open"]).await;
    let id = world.letters().await[0].id.clone();
    let answer = ask(&world, &process, "q1", "register", replay(&id)).await;
    assert!(!answer.done, "{}", answer.text);
    assert_eq!(target.keys(TOPIC), ["r1"]);
    running.end(&world).await.unwrap();
}

#[tokio::test]
async fn parked_rows_settle_or_expire_into_letters() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "a")), put(&reason("r2", "b"))]).await;
    let target = Target::new(&world.clock);
    target.parks(&["r1", "r2"]);
    let process = world.process("one").await;
    let running = deliver(task(&target, &[TOPIC]), &process);
    world.until(async || world.booked("register").await.parked == 2).await;
    target.parks(&["r2"]);
    world.until(async || target.keys(TOPIC) == ["r1"]).await;
    target.expires();
    world.until(async || states(&world).await == ["open"]).await;
    running.end(&world).await.unwrap();
    let booked = world.booked("register").await;
    assert_eq!((booked.read, booked.delivered, booked.rejected, booked.parked), (2, 1, 1, 0));
    assert_eq!(world.letters().await[0].code, "no_parent");
}

#[tokio::test]
async fn a_processors_letter_is_replayed_by_deriving_again() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "bad"))]).await;
    let process = world.process("one").await;
    let running = derive(Arc::default(), &process);
    world.until(async || states(&world).await == ["open"]).await;
    let id = world.letters().await[0].id.clone();
    let answer = ask(&world, &process, "q1", "reasons", replay(&id)).await;
    assert!(!answer.done && answer.text.contains("still can't be used"), "{}", answer.text);
    running.end(&world).await.unwrap();
}

#[tokio::test]
async fn an_edited_replay_is_a_new_change_that_deriving_again_does_not_undo() {
    let world = World::new().await;
    given(&world, vec![put(&reason(R1, "a"))]).await;
    let target = Target::new(&world.clock);
    target.refuses(&[R1]);
    let process = world.process("one").await;
    let reasons = Arc::new(Reasons::default());
    let deriving = derive(reasons.clone(), &process);
    let delivering = deliver(task(&target, &["register.reason"]), &process);
    world.until(async || states(&world).await == ["open"]).await;
    target.refuses(&[]);
    let letter = world.letters().await[0].id.clone();
    let mended = register::Reason { id: R1.into(), name: "MENDED".into(), i_e_n_program: true, recruitment: false };
    let edited = Some(serde_json::to_value(&mended).unwrap());
    let answer = ask(&world, &process, "q1", "reasons", RequestKind::Replay { letter, edited }).await;
    assert!(answer.done, "{}", answer.text);
    world.until(async || target.keys("register.reason") == [R1]).await;
    assert_eq!(target.row("register.reason", R1).unwrap().body, Some(common::body(&mended)));
    deriving.end(&world).await.unwrap();
    // All is derived again, from an input that hasn't changed.
    reasons.raise();
    let before = reasons.derived();
    let deriving = derive(reasons.clone(), &process);
    world.until(async || reasons.derived() > before).await;
    deriving.end(&world).await.unwrap();
    delivering.end(&world).await.unwrap();
    assert_eq!(world.records("register.reason").await.len(), 2);
    assert_eq!(states(&world).await, ["replayed"]);
}

#[tokio::test]
async fn a_letter_of_another_machine_is_found_in_the_log() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "a"))]).await;
    let target = Target::new(&world.clock);
    target.refuses(&["r1"]);
    let process = world.process("one").await;
    world.drive(task(&target, &[TOPIC]).run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
    let elsewhere = Operations::open(&world.folder.path().join("elsewhere.db")).await.unwrap();
    let letters = DeadLetters::open(process.log.clone(), elsewhere, process.clock.clone()).await.unwrap();
    let id = world.letters().await[0].id.clone();
    let (_, letter) = letters.get(&id).await.unwrap().unwrap();
    assert_eq!(letter.key.as_deref(), Some("r1"));
}

#[tokio::test]
async fn what_was_replayed_and_is_set_aside_again_is_open_again_but_not_what_was_dropped() {
    let world = World::new().await;
    given(&world, vec![put(&reason("r1", "bad")), put(&reason("r2", "bad"))]).await;
    let process = world.process("one").await;
    let reasons = Arc::new(Reasons::default());
    let once = async || {
        let task = ProcessorTask { processor: reasons.clone() };
        world.drive(task.run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
    };
    once().await;
    let letters = world.letters().await;
    for letter in &letters {
        let state = if letter.key.as_deref() == Some("r1") { LetterState::Replayed } else { LetterState::Dropped };
        process.letters.settle(&letter.id, state).await.unwrap();
    }
    reasons.raise();
    once().await;
    let mut now: Vec<_> = world.letters().await.into_iter().map(|l| (l.key.unwrap(), l.state.as_str())).collect();
    now.sort();
    assert_eq!(now, [("r1".to_owned(), "open"), ("r2".to_owned(), "dropped")]);
}

#[tokio::test]
async fn a_record_too_large_for_a_letter_is_cut_off_and_the_letter_says_so() {
    let world = World::new().await;
    let process = world.process("one").await;
    let raw = vec![b'"'; 8 << 20];
    let reject = Reject::new(None, Reason::new("bad", "not a record"), raw);
    process.letters.write(&[process.letters.of_feed("ats.applicant", "run", &reject)]).await.unwrap();
    let letter = &world.letters().await[0];
    assert!(letter.reason.starts_with("not a record (the record has 8388608 bytes"), "{}", letter.reason);
}
