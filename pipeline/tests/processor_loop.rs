//! The loop of processors: outputs are a function of the latest inputs; only the difference is written.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::processors::{AllReasons, Applicants, Reasons, applicant, applicant_id, milestone, milestone_id};
use common::{World, delete, key_of, put, reason, stamp};
use pipeline::change::Change;
use pipeline::clock::Clock;
use pipeline::emitter::Emitter;
use pipeline::log::memory::{Action, Fault, When};
use pipeline::log::{Log, TopicPartition};
use pipeline::run::{AnyProcessor, Mode, ProcessorTask, RunError, Runtime};
use pipeline::state::{Request, RequestKind};
use schemas::records::register;
use tokio_util::sync::CancellationToken;

const INPUT: &str = "ats.reason";
const OUTPUT: &str = "register.reason";

const R1: &str = "00000000-0000-4000-8000-000000000001";
const R2: &str = "00000000-0000-4000-8000-000000000002";
const R3: &str = "00000000-0000-4000-8000-000000000003";

/// What a source would have written.
async fn given(world: &World, topic: &str, changes: Vec<Change>) {
    let process = world.process("source").await;
    let mut emitter = Emitter::open(process.emitter_context(), topic, common::topic(topic)).await.unwrap();
    let all: Vec<u32> = (0..emitter.partitions()).collect();
    emitter.own(&all).await.unwrap();
    for change in changes {
        let emitted = emitter.emit(vec![change], &stamp(world.clock.now())).await.unwrap();
        assert!(emitted.rejects.is_empty(), "{:?}", emitted.rejects);
    }
    for (at, life, end) in emitter.ends() {
        process.state.incarnations.reached(&at, &life, end).await.unwrap();
    }
}

async fn once(world: &World, process: &Runtime, processor: Arc<dyn AnyProcessor>) -> Result<(), RunError> {
    world.drive(ProcessorTask { processor }.run(process, Mode::Once, &CancellationToken::new())).await
}

fn follow(
    processor: Arc<dyn AnyProcessor>,
    process: &Runtime,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<Result<(), RunError>> {
    let (process, stop) = (process.clone(), stop.clone());
    tokio::spawn(async move { ProcessorTask { processor }.run(&process, Mode::Follow, &stop).await })
}

async fn names(world: &World) -> BTreeMap<String, String> {
    let reasons = world.table::<register::Reason>(OUTPUT).await;
    reasons.into_iter().map(|(key, reason)| (key, reason.name)).collect()
}

fn expect(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect()
}

#[tokio::test]
async fn only_the_difference_is_written_tombstones_included() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "a")), put(&reason(R2, "b"))]).await;
    let reasons = Arc::new(Reasons::default());
    once(&world, &world.process("one").await, reasons.clone()).await.unwrap();
    assert_eq!(names(&world).await, expect(&[(R1, "A"), (R2, "B")]));
    // The case of a name doesn't matter downstream.
    given(&world, INPUT, vec![put(&reason(R1, "A")), delete(R2)]).await;
    once(&world, &world.process("two").await, reasons).await.unwrap();
    let records = world.records(OUTPUT).await;
    assert_eq!(records.iter().map(key_of).collect::<Vec<_>>(), [R1, R2, R2]);
    assert!(records[2].value.is_none());
    assert_eq!(world.booked("reasons").await.read, 4);
}

#[tokio::test]
async fn the_register_is_the_same_in_any_order_of_arrival() {
    let steps = || {
        vec![
            ("ats.applicant", put(&applicant(1, "Ada", &[1, 2]))),
            ("ats.applicant", put(&applicant(2, "Grace", &[1]))),
            ("ats.milestone", put(&milestone(1, "Applied"))),
            ("ats.milestone", put(&milestone(2, "Hired"))),
        ]
    };
    let mut registers = Vec::new();
    for order in [[0, 1, 2, 3], [2, 3, 0, 1], [3, 0, 2, 1], [1, 3, 0, 2]] {
        let world = World::new().await;
        let process = world.process("one").await;
        let stop = CancellationToken::new();
        let task = follow(Arc::new(Applicants), &process, &stop);
        for step in order {
            let (topic, change) = steps().remove(step);
            given(&world, topic, vec![change]).await;
            // The processor may see it now, or with the next.
            world.drive(tokio::time::sleep(Duration::from_millis(5))).await;
        }
        world.until(async || world.table::<register::Milestone>("register.milestone").await.len() == 3).await;
        stop.cancel();
        world.drive(task).await.unwrap().unwrap();
        let applicants = world.table::<register::Applicant>("register.applicant").await;
        registers.push((applicants, world.table::<register::Milestone>("register.milestone").await));
    }
    assert!(registers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_table_that_changes_derives_all_again() {
    let world = World::new().await;
    given(&world, "ats.milestone", vec![put(&milestone(1, "Applied"))]).await;
    given(&world, "ats.applicant", vec![put(&applicant(1, "Ada", &[1, 2])), put(&applicant(2, "Grace", &[1]))]).await;
    let process = world.process("one").await;
    let stop = CancellationToken::new();
    let task = follow(Arc::new(Applicants), &process, &stop);
    world.until(async || world.table::<register::Milestone>("register.milestone").await.len() == 2).await;
    given(&world, "ats.milestone", vec![put(&milestone(1, "Asked")), put(&milestone(2, "Hired"))]).await;
    let notes = async || {
        let rows = world.table::<register::Milestone>("register.milestone").await;
        rows.into_values().map(|row| (row.applicant_id, row.notes.unwrap())).collect::<Vec<_>>()
    };
    let ada = |name: &str| (applicant_id(1), name.to_owned());
    world.until(async || notes().await == [ada("Asked"), ada("Hired"), (applicant_id(2), "Asked".to_owned())]).await;
    // The applicants themselves haven't changed.
    assert_eq!(world.records("register.applicant").await.len(), 2);
    // A milestone that leaves the table leaves the register.
    given(&world, "ats.milestone", vec![delete(&milestone_id(1))]).await;
    world.until(async || notes().await == [ada("Hired")]).await;
    stop.cancel();
    world.drive(task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_restart_without_changes_derives_nothing() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "a"))]).await;
    let reasons = Arc::new(Reasons::default());
    once(&world, &world.process("one").await, reasons.clone()).await.unwrap();
    let before = reasons.derived();
    once(&world, &world.process("two").await, reasons.clone()).await.unwrap();
    assert_eq!(reasons.derived(), before);
}

#[tokio::test]
async fn a_raised_version_derives_all_again_and_writes_nothing_that_is_the_same() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "a")), put(&reason(R2, "b"))]).await;
    let reasons = Arc::new(Reasons::default());
    once(&world, &world.process("one").await, reasons.clone()).await.unwrap();
    let before = reasons.derived();
    reasons.raise();
    once(&world, &world.process("two").await, reasons.clone()).await.unwrap();
    assert_eq!(reasons.derived(), before + 2);
    assert_eq!(world.records(OUTPUT).await.len(), 2);
}

#[tokio::test]
async fn an_output_that_was_made_anew_is_written_again() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "a"))]).await;
    let reasons = Arc::new(Reasons::default());
    once(&world, &world.process("one").await, reasons.clone()).await.unwrap();
    world.log.recreate_topic(OUTPUT, 1);
    once(&world, &world.process("two").await, reasons).await.unwrap();
    assert_eq!(names(&world).await, expect(&[(R1, "A")]));
}

#[tokio::test]
async fn groups_without_inputs_are_derived_as_empty_when_an_input_was_made_anew() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "a")), put(&reason(R2, "b")), put(&reason(R3, "c"))]).await;
    let reasons = Arc::new(Reasons::default());
    once(&world, &world.process("one").await, reasons.clone()).await.unwrap();
    world.log.recreate_topic(INPUT, 1);
    given(&world, INPUT, vec![put(&reason(R2, "b"))]).await;
    once(&world, &world.process("two").await, reasons).await.unwrap();
    assert_eq!(names(&world).await, expect(&[(R2, "B")]));
}

#[tokio::test]
async fn a_reject_leaves_the_last_outputs() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "a")), put(&reason(R2, "b"))]).await;
    let reasons = Arc::new(Reasons::default());
    let process = world.process("one").await;
    once(&world, &process, reasons.clone()).await.unwrap();
    given(&world, INPUT, vec![put(&reason(R1, "bad")), put(&reason(R3, "c"))]).await;
    once(&world, &process, reasons.clone()).await.unwrap();
    assert_eq!(names(&world).await, expect(&[(R1, "A"), (R2, "B"), (R3, "C")]));
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].component.as_str(), letters[0].code.as_str()), (1, "reasons", "bad_name"));
    assert_eq!((letters[0].topic.as_deref(), letters[0].key.as_deref()), (Some(INPUT), Some(R1)));
    // The next good record of the key settles it.
    given(&world, INPUT, vec![put(&reason(R1, "good"))]).await;
    once(&world, &process, reasons).await.unwrap();
    assert_eq!(names(&world).await[R1], "GOOD");
    assert_eq!(world.letters().await[0].state.as_str(), "superseded");
}

#[tokio::test]
async fn a_crash_between_outputs_and_commit_writes_nothing_new() {
    for (topic, when) in [(OUTPUT, When::After), ("muster.positions", When::Before), ("muster.positions", When::After)]
    {
        let world = World::new().await;
        given(&world, INPUT, vec![put(&reason(R1, "a")), put(&reason(R2, "b"))]).await;
        let reasons = Arc::new(Reasons::default());
        let process = world.process("one").await;
        let stop = CancellationToken::new();
        common::fail_append(&world.log, topic, 0, when, Fault::Crash);
        let crashed = follow(reasons.clone(), &process, &stop);
        world.until(async || world.records(OUTPUT).await.len() == 2).await;
        world.drive(tokio::time::sleep(Duration::from_millis(20))).await;
        crashed.abort();
        assert!(crashed.await.unwrap_err().is_cancelled());
        common::no_faults(&world.log);
        once(&world, &world.process("two").await, reasons).await.unwrap();
        assert_eq!(world.records(OUTPUT).await.len(), 2, "{topic} {when:?}");
    }
}

#[tokio::test]
async fn two_processes_share_the_partitions_and_a_rebalance_loses_nothing() {
    let world = World::spread().await;
    let people = |from: u32, to: u32, name: &str| (from..to).map(|n| put(&applicant(n, name, &[1]))).collect();
    given(&world, "ats.milestone", vec![put(&milestone(1, "Applied"))]).await;
    given(&world, "ats.applicant", people(0, 40, "Ada")).await;
    let (one, two) = (world.process("one").await, world.process("two").await);
    let (stop_one, stop_two) = (CancellationToken::new(), CancellationToken::new());
    let first = follow(Arc::new(Applicants), &one, &stop_one);
    // The second comes while the first has batches in its hands.
    world.until(async || !world.records("register.milestone").await.is_empty()).await;
    let second = follow(Arc::new(Applicants), &two, &stop_two);
    world.until(async || world.log.members("muster.applicants") == 2).await;
    given(&world, "ats.applicant", people(20, 60, "Grace")).await;
    world.until(async || world.table::<register::Milestone>("register.milestone").await.len() == 60).await;
    stop_one.cancel();
    world.drive(first).await.unwrap().unwrap();
    given(&world, "ats.applicant", people(0, 20, "Jean")).await;
    let first_names = async || {
        let rows = world.table::<register::Applicant>("register.applicant").await;
        rows.into_values().fold(BTreeMap::new(), |mut counts, row| {
            *counts.entry(row.first_name).or_insert(0) += 1;
            counts
        })
    };
    let wanted = BTreeMap::from([("Grace".to_owned(), 40), ("Jean".to_owned(), 20)]);
    world.until(async || first_names().await == wanted).await;
    stop_two.cancel();
    world.drive(second).await.unwrap().unwrap();
    assert_eq!(world.records("register.milestone").await.len(), 60, "nothing was written twice");
}

#[tokio::test]
async fn a_commit_notes_all_outputs_and_partitions_with_one_append() {
    let world = World::spread().await;
    let process = world.process("one").await;
    let stop = CancellationToken::new();
    let task = follow(Arc::new(Applicants), &process, &stop);
    given(&world, "ats.milestone", vec![put(&milestone(1, "Applied"))]).await;
    given(&world, "ats.applicant", vec![put(&applicant(0, "Ada", &[1]))]).await;
    world.until(async || world.table::<register::Milestone>("register.milestone").await.len() == 1).await;
    world
        .until(async || {
            world.log.committed("muster.applicants", &[TopicPartition::new("ats.applicant", 0)]).await.unwrap()[0]
                .is_some()
        })
        .await;
    let source = world.process("source").await;
    let mut emitter =
        Emitter::open(source.emitter_context(), "ats.applicant", common::topic("ats.applicant")).await.unwrap();
    emitter.own(&(0..12).collect::<Vec<_>>()).await.unwrap();
    let mut people = async |numbers: std::ops::Range<u32>| {
        let count = numbers.end as usize;
        let people = numbers.map(|n| put(&applicant(n, "Grace", &[1]))).collect();
        emitter.emit(people, &stamp(world.clock.now())).await.unwrap();
        world.until(async || world.table::<register::Milestone>("register.milestone").await.len() == count).await;
    };
    // The first records of a partition are noted by themselves.
    people(1..200).await;
    let (noted, commits) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count_noted, count_commits) = (Arc::clone(&noted), Arc::clone(&commits));
    world.log.set_faults(Arc::new(move |step| {
        match (&step.action, step.when) {
            (Action::Append { topic, .. }, When::Before) if **topic == *"muster.topics" => {
                count_noted.fetch_add(1, Ordering::SeqCst)
            }
            (Action::Commit { .. }, When::Before) => count_commits.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
        Fault::Ok
    }));
    people(200..260).await;
    stop.cancel();
    world.drive(task).await.unwrap().unwrap();
    let (noted, commits) = (noted.load(Ordering::SeqCst), commits.load(Ordering::SeqCst));
    assert!(noted > 0 && noted <= commits, "{noted} appends for {commits} commits of 24 partitions");
}

#[tokio::test]
async fn a_row_that_a_table_cannot_use_has_its_own_letter_until_it_is_mended() {
    let world = World::new().await;
    given(&world, "ats.milestone", vec![put(&milestone(1, "Applied")), put(&milestone(2, "bad"))]).await;
    given(&world, "ats.applicant", vec![put(&applicant(1, "Ada", &[1, 2]))]).await;
    once(&world, &world.process("one").await, Arc::new(Applicants)).await.unwrap();
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].topic.as_deref()), (1, Some("ats.milestone")));
    assert_eq!(letters[0].key.as_deref(), Some(milestone_id(2).as_str()));
    let bad = world.records("ats.milestone").await.remove(1);
    assert_eq!(letters[0].version, Some(common::version_of(&bad)));
    given(&world, "ats.milestone", vec![put(&milestone(2, "Hired"))]).await;
    once(&world, &world.process("two").await, Arc::new(Applicants)).await.unwrap();
    assert_eq!(world.letters().await[0].state.as_str(), "superseded");
    assert_eq!(world.table::<register::Milestone>("register.milestone").await.len(), 2);
}

#[tokio::test]
async fn a_bad_input_of_one_large_group_has_one_letter_whatever_comes_later() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "bad")), put(&reason(R2, "b"))]).await;
    let process = world.process("one").await;
    once(&world, &process, Arc::new(AllReasons)).await.unwrap();
    let booked = world.booked("reasons").await;
    assert_eq!((booked.read, booked.delivered, booked.rejected), (2, 1, 1));
    let stop = CancellationToken::new();
    let task = follow(Arc::new(AllReasons), &process, &stop);
    for name in ["c", "d"] {
        given(&world, INPUT, vec![put(&reason(R3, name))]).await;
        world.until(async || names(&world).await == expect(&[(R2, "B"), (R3, &name.to_uppercase())])).await;
    }
    stop.cancel();
    world.drive(task).await.unwrap().unwrap();
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].key.as_deref()), (1, Some(R1)));
    let (_, letter) = process.letters.get(&letters[0].id).await.unwrap().unwrap();
    let bad = world.records(INPUT).await.remove(0);
    assert_eq!(letter.place, Some((0, bad.offset)));
    assert_eq!(letter.contents.bytes().unwrap(), bad.value.unwrap(), "as the topic has it, to be shown and repaired");
}

#[tokio::test]
async fn each_part_that_is_set_aside_has_a_letter_of_its_own() {
    let world = World::new().await;
    given(&world, INPUT, vec![put(&reason(R1, "part-a part-b")), put(&reason(R2, "b"))]).await;
    let process = world.process("one").await;
    once(&world, &process, Arc::new(Reasons::default())).await.unwrap();
    assert_eq!(names(&world).await, expect(&[(R1, "PART-A PART-B"), (R2, "B")]));
    let open = async || world.letters().await.into_iter().filter(|letter| letter.state.as_str() == "open").count();
    // With one id for both, the second letter overwrote the first.
    assert_eq!(open().await, 2);
    // Derived again, they are the same letters.
    let reasons = Arc::new(Reasons::default());
    reasons.raise();
    once(&world, &process, reasons).await.unwrap();
    assert_eq!(open().await, 2);
    given(&world, INPUT, vec![put(&reason(R1, "good"))]).await;
    once(&world, &process, Arc::new(Reasons::default())).await.unwrap();
    assert_eq!(open().await, 0);
}

/// Deriving everything anew takes its time; a stop and a rebalance are heard meanwhile, and what is left is done
/// afterwards. (With the check taken out of `interrupted`, in `run/processor/rederive.rs`, all groups were derived before
/// either was heard.)
#[tokio::test]
async fn a_stop_and_a_rebalance_are_heard_while_everything_is_derived_anew() {
    let world = World::new().await;
    let many = 6_000;
    let process = world.process("source").await;
    let mut emitter = Emitter::open(process.emitter_context(), INPUT, common::topic(INPUT)).await.unwrap();
    emitter.own(&[0]).await.unwrap();
    let all = (0..many).map(|n| put(&reason(&applicant_id(n), "a"))).collect();
    emitter.emit(all, &stamp(world.clock.now())).await.unwrap();

    let (reasons, stop) = (Arc::new(Reasons::default()), CancellationToken::new());
    let first = follow(reasons.clone(), &process, &stop);
    world.until(async || reasons.derived() > 0).await;
    stop.cancel();
    world.drive(first).await.unwrap().unwrap();
    assert!(reasons.derived() < many, "it was in the middle of it");
    assert_eq!(process.state.positions.mark("reasons", 0).unwrap(), None);

    let (one, two) = (world.process("one").await, world.process("two").await);
    let (stop_one, stop_two) = (CancellationToken::new(), CancellationToken::new());
    let before = reasons.derived();
    let first = follow(reasons.clone(), &one, &stop_one);
    world.until(async || reasons.derived() > before).await;
    let claims = async || {
        let claims = world.records("muster.tasks").await;
        claims.iter().filter(|record| key_of(record).starts_with("reasons|register.reason")).count()
    };
    let claimed = claims().await;
    let second = follow(reasons.clone(), &two, &stop_two);
    world.until(async || claims().await > claimed).await;
    assert!(reasons.derived() < before + many, "it let go in the middle of it");
    world.until(async || names(&world).await.len() == many as usize).await;
    stop_one.cancel();
    stop_two.cancel();
    world.drive(first).await.unwrap().unwrap();
    world.drive(second).await.unwrap().unwrap();
    assert_eq!(world.records(OUTPUT).await.len(), many as usize, "nothing was written twice");
}

#[tokio::test]
async fn an_output_that_is_too_large_is_a_letter_of_its_input() {
    let world = World::new().await;
    // In upper case this letter takes half as much room again.
    let huge = "\u{149}".repeat(400_000);
    given(&world, INPUT, vec![put(&reason(R1, &huge)), put(&reason(R2, "b"))]).await;
    let process = world.process("one").await;
    once(&world, &process, Arc::new(Reasons::default())).await.unwrap();
    assert_eq!(names(&world).await, expect(&[(R2, "B")]));
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].code.as_str(), letters[0].key.as_deref()), (1, "too_large", Some(R1)));
    assert_eq!(letters[0].topic.as_deref(), Some(INPUT));
    // Nothing has changed: a replay doesn't settle it.
    let replay = RequestKind::Replay { letter: letters[0].id.clone(), edited: None };
    let request =
        Request { id: "q1".into(), target: "reasons".into(), kind: replay, at: world.clock.now(), answer: None };
    process.state.requests.ask(&request).await.unwrap();
    // One pass answers what was asked, too.
    once(&world, &process, Arc::new(Reasons::default())).await.unwrap();
    let answer = world.drive(process.state.requests.answered("q1")).await.unwrap();
    assert!(!answer.done && answer.text.contains("too_large"), "{}", answer.text);
    assert_eq!(world.letters().await[0].state.as_str(), "open");
}
