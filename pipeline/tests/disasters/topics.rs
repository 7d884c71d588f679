//! Topics that were made anew, and topics that lost their tails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use pipeline::clock::Clock;
use pipeline::log::memory::{Action, Fault, MemoryLog, When};
use pipeline::log::{
    Append, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Record, Subscription, TopicInfo, TopicPartition,
};
use pipeline::run::{Mode, Runtime, SinkTask};
use pipeline::state::State;
use tokio_util::sync::CancellationToken;

use crate::common::sink::TargetStep;
use crate::common::stamp;
use crate::site::{INPUT, OUTPUT, Site, gone, id, put};

/// How long the catalogue keeps them.
const TOMBSTONES: Duration = Duration::from_secs(90 * 24 * 3600);

const ALL: [(u32, &str); 4] = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];

/// Writes records into a topic as a tool for backups does: contents and headers as they were.
async fn refill(log: &MemoryLog, records: &[Record]) {
    let appends = records.iter().map(|record| Append {
        at: record.at.clone(),
        key: record.key.clone().unwrap(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    });
    log.append(appends.collect()).await.unwrap();
}

/// A topic is deleted and made anew while everything is stopped; one reason goes at the same time, and no tombstone says
/// so in the new topic.
///
/// Guard: `ends[*at].end >= life.end` in `Incarnations::present_all` (`state/incarnations.rs`). Without it (and without
/// the landmark, which is a guard behind it) nobody derived the output again: the sink found 3 of 4 rows in no topic, and
/// refused to go on.
#[tokio::test]
async fn a_recreated_topic() {
    for topic in [INPUT, OUTPUT] {
        let site = Site::new().await;
        site.says(&ALL);
        site.day("one").await;
        site.world.log.recreate_topic(topic, 1);
        site.states("person", if topic == INPUT { Vec::new() } else { vec![gone(1)] }).await;
        site.says(&[(2, "b"), (3, "c"), (4, "e")]);
        site.day("two").await;
        site.is(&[(2, "b"), (3, "c"), (4, "e")]).await;
    }
}

/// A row that the target refused when the topic was made anew, and the clock has gone back since: the letter's version is
/// above all that the topic says now.
///
/// Guard: `letter.life` in `Loop::replay` (`run/sink/replay.rs`). Without it the old row came back by the replay, and no
/// change was new enough to put it right.
#[tokio::test]
async fn a_letter_of_a_former_life_replayed() {
    let site = Site::new().await;
    site.says(&ALL);
    site.target.refuses(&[&id(1)]);
    site.day("one").await;
    let letter = site.world.letters().await.remove(0);
    site.world.clock.set(site.world.clock.now() - TimeDelta::hours(1));
    site.world.log.recreate_topic(OUTPUT, 1);
    site.target.refuses(&[]);
    site.says(&[(1, "newest"), (2, "b"), (3, "c"), (4, "d")]);
    site.day("two").await;
    let answer = site.replayed(&letter.id).await;
    site.is(&[(1, "newest"), (2, "b"), (3, "c"), (4, "d")]).await;
    assert!(answer.done && answer.text.contains("made anew"), "{}", answer.text);
}

/// Runs `component` until its process dies behind its very first append to `topic`, of which it can note nothing then.
async fn dies_behind_its_first_append<T: std::fmt::Debug>(
    site: &Site,
    topic: &'static str,
    component: impl Future<Output = T>,
) {
    let appended = Arc::new(AtomicBool::new(false));
    let died = Arc::new(tokio::sync::Notify::new());
    let (seen, dies) = (Arc::clone(&appended), Arc::clone(&died));
    site.world.log.set_faults(Arc::new(move |step| {
        if let Action::Append { topic: to, .. } = &step.action {
            if &**to == topic && step.when == When::After {
                seen.store(true, Ordering::SeqCst);
            } else if seen.load(Ordering::SeqCst) && step.when == When::Before {
                dies.notify_one();
                return Fault::Crash;
            }
        }
        Fault::Ok
    }));
    tokio::select! {
        () = died.notified() => {}
        ended = component => panic!("it must die behind its append: {ended:?}"),
    }
    crate::common::no_faults(&site.world.log);
}

/// A processor dies behind the very first append to its output; the target takes the record. Then the topic is made anew, and
/// filled past its old end, while nobody looks.
///
/// Guard: `end_belied` in `Loop::assigned` (`run/sink.rs`). Without it nobody could tell that the topic was another one, and the
/// target went on behind the former one's end.
#[tokio::test]
async fn an_output_recreated_after_its_owner_died_behind_the_first_append() {
    let site = Site::new().await;
    site.says(&[(2, "b")]);
    site.read(&site.process("source").await).await.unwrap();
    let dying = site.process("dying").await;
    dies_behind_its_first_append(&site, OUTPUT, site.derive(&dying)).await;
    site.world.log.expire_member("muster.reasons", 0);
    site.deliver(&site.process("sink").await).await.unwrap();
    assert_eq!(site.target.next(OUTPUT), Some(Offset(1)));
    site.world.log.recreate_topic(OUTPUT, 1);
    // In the new topic, another record is the first.
    let now = [(1, "a"), (2, "b"), (3, "c")];
    site.says(&now);
    site.day("two").await;
    site.is(&now).await;
}

/// The same with a source and a processor: the one dies, the other has derived what there was. The topic loses it, which
/// leaves the group's offsets as they were.
///
/// Guard: `end_belied` in `Loop::assigned` (`run/processor.rs`). Without it the first record of the refilled topic was never derived.
#[tokio::test]
async fn an_input_truncated_after_its_owner_died_behind_the_first_append() {
    let site = Site::new().await;
    site.says(&[(2, "b")]);
    let dying = site.process("dying").await;
    dies_behind_its_first_append(&site, INPUT, site.read(&dying)).await;
    site.derive(&site.process("processor").await).await.unwrap();
    assert_eq!(site.world.records(OUTPUT).await.len(), 1);
    site.world.log.truncate(&TopicPartition::new(INPUT, 0), Offset::START);
    let now = [(1, "a"), (2, "b"), (3, "c")];
    site.says(&now);
    site.day("two").await;
    site.is(&now).await;
}

/// The same with an owner's memory: a process takes the partition over and saves what it has read, but notes nothing.
///
/// Guard: `end_belied` in `Emitter::memories` (`emitter/own.rs`). Without it the saved memory was taken for what the new topic
/// holds.
#[tokio::test]
async fn a_topic_recreated_after_an_owner_that_only_read_it() {
    let site = Site::new().await;
    site.says(&[(2, "b")]);
    let dying = site.process("dying").await;
    dies_behind_its_first_append(&site, INPUT, site.read(&dying)).await;
    site.emitter(&remembering(&site, "reader").await).await;
    let elsewhere = Site::new().await;
    elsewhere.says(&[(1, "a"), (3, "c")]);
    elsewhere.read(&elsewhere.process("source").await).await.unwrap();
    site.world.log.recreate_topic(INPUT, 1);
    refill(&site.world.log, &elsewhere.world.records(INPUT).await).await;
    let now = [(1, "a"), (2, "b"), (3, "c")];
    site.says(&now);
    site.read(&remembering(&site, "later").await).await.unwrap();
    site.input_is(&now).await;
}

/// A process with memories on the machine's disk.
async fn remembering(site: &Site, name: &str) -> Runtime {
    let mut process = site.process(name).await;
    process.folder = Some(site.world.memories().into());
    process
}

/// The power fails under a single broker, which loses the last records of all topics, and with them what was noted of these
/// records; the target's database hasn't lost anything. Before the sink is back, the topic is longer than it had been.
///
/// Guard: `end_belied` in `Loop::assigned` (`run/sink.rs`). Without it the sink went on behind what it had delivered, and a
/// record of the new tail never reached the target.
#[tokio::test]
async fn a_log_that_lost_its_tail_and_what_was_noted_of_it() {
    let site = Site::new().await;
    site.says(&[(1, "a")]);
    site.day("one").await;
    let ends = site.world.ends().await;
    site.says(&[(1, "a"), (3, "c")]);
    site.day("two").await;
    ends.iter().for_each(|(at, end)| site.world.log.truncate(at, *end));
    let now = [(1, "a"), (2, "b"), (3, "c")];
    site.says(&now);
    site.day("three").await;
    site.is(&now).await;
}

/// The input has lost its tail. A processor derives what is left, notes that it has, and dies before it says how far it has
/// read of the new life. When it comes back, the topic is as long again as what it had read of the former one.
///
/// Guard: `is_of_this_life` in `Loop::usable` (`run/processor.rs`). Without it the processor went on behind the former life's
/// end, and nobody derived what had been stated anew.
#[tokio::test]
async fn a_processor_that_died_between_the_mark_and_the_offsets_of_a_new_life() {
    let site = Site::new().await;
    site.says(&ALL);
    site.day("one").await;
    site.world.log.truncate(&TopicPartition::new(INPUT, 0), Offset(2));
    let died = Arc::new(tokio::sync::Notify::new());
    let dies = Arc::clone(&died);
    site.world.log.set_faults(Arc::new(move |step| match (&step.action, step.when) {
        (Action::Commit { group }, When::Before) if &**group == "muster.reasons" => {
            dies.notify_one();
            Fault::Crash
        }
        _ => Fault::Ok,
    }));
    let dying = site.process("dying").await;
    tokio::select! {
        () = died.notified() => {}
        ended = site.derive(&dying) => panic!("it must die before it has committed: {ended:?}"),
    }
    crate::common::no_faults(&site.world.log);
    site.world.log.expire_member("muster.reasons", 0);
    let now = [(1, "a"), (2, "b"), (3, "new"), (4, "d")];
    site.says(&now);
    site.day("two").await;
    assert_eq!(
        site.world.log.ends(INPUT).await.unwrap()[0].end,
        Offset(4),
        "the story needs a topic of the same length"
    );
    site.is(&now).await;
}

/// The target refuses a row while a new life is read, and the clock has gone back since: what it has of the key is of the
/// former life, and above all that the topic says now.
///
/// Guards: `Sweep::refused` (`run/sink/sweep.rs`); without it neither the letter nor a later change was new enough, and the
/// row stayed as it was. That a sweep which broke off begins again (`offsets.rs`, shown on databases by
/// `a_sweep_that_begins_again_takes_nothing_for_written`); without it the second one found everything written, and nothing
/// refused.
#[tokio::test]
async fn a_row_that_was_refused_when_its_topic_was_made_anew() {
    let now = [(1, "newest"), (2, "b"), (3, "c"), (4, "d")];
    for (replayed, breaks_off) in [(true, false), (false, false), (true, true), (false, true)] {
        let site = Site::new().await;
        site.says(&ALL);
        site.day("one").await;
        site.world.clock.set(site.world.clock.now() - TimeDelta::hours(1));
        site.world.log.recreate_topic(OUTPUT, 1);
        site.target.refuses(&[&id(1)]);
        site.says(&[(1, if replayed { "newest" } else { "new" }), (2, "b"), (3, "c"), (4, "d")]);
        let process = site.process("two").await;
        site.read(&process).await.unwrap();
        site.derive(&process).await.unwrap();
        let struck = AtomicBool::new(!breaks_off);
        let target = site.target.with_faults(Arc::new(move |step, _| match step {
            TargetStep::Sweep if !struck.swap(true, Ordering::SeqCst) => Fault::Unavailable,
            _ => Fault::Ok,
        }));
        let sink = SinkTask { sink: Arc::new(target), ..site.sink() };
        site.world.drive(sink.run(&process, Mode::Once, &CancellationToken::new())).await.unwrap();
        site.target.refuses(&[]);
        if replayed {
            let letter = site.world.letters().await.remove(0);
            assert!(site.replayed(&letter.id).await.done);
        }
        site.says(&now);
        site.day("three").await;
        site.is(&now).await;
    }
}

/// The new life holds the same record, version and all, and the target refuses it once more.
///
/// Guard: `Letter::of_life` (`dead_letters.rs`). With one letter for both lives the row was lost: what was replayed was the
/// former life's.
#[tokio::test]
async fn a_letter_of_a_record_that_the_new_life_holds_too() {
    let site = Site::new().await;
    site.says(&ALL);
    site.target.refuses(&[&id(1)]);
    site.day("one").await;
    // A leader has lost the topic's tail.
    site.world.log.truncate(&TopicPartition::new(OUTPUT, 0), Offset(2));
    site.day("two").await;
    site.target.refuses(&[]);
    let letters = site.world.letters().await;
    assert_eq!(letters.len(), 2, "one of each life");
    for letter in letters {
        assert!(site.replayed(&letter.id).await.done);
    }
    site.is(&ALL).await;
}

/// A topic is made anew and filled from a backup, past its old end, while nobody looks: its ends say nothing. What was
/// written after the backup is missing, and nobody will say it again unless the new life is noticed.
///
/// Guard: the landmark (`Incarnations::standing` in `state/incarnations.rs`). Without it the source asked for changes
/// only (input), and the output kept `A` of the backup.
#[tokio::test]
async fn a_topic_recreated_and_refilled_past_its_old_end() {
    for topic in [INPUT, OUTPUT] {
        let site = Site::new().await;
        site.says(&ALL);
        site.day("one").await;
        let backup = site.world.records(topic).await;
        site.says(&[(1, "newer"), (2, "b"), (3, "c"), (4, "d")]);
        site.day("two").await;
        let end = site.world.log.ends(topic).await.unwrap()[0].end;
        site.world.log.recreate_topic(topic, 1);
        refill(&site.world.log, &backup).await;
        refill(&site.world.log, &backup).await;
        assert!(site.world.log.ends(topic).await.unwrap()[0].end > end, "the story needs a topic past its old end");
        let asked = site.script.passes().len();
        site.day("three").await;
        site.is(&[(1, "newer"), (2, "b"), (3, "c"), (4, "d")]).await;
        if topic == INPUT {
            let passes = site.script.passes().split_off(asked);
            assert!(passes.contains(&pipeline::source::Ask::Everything), "{passes:?}");
        }
    }
}

/// Compaction takes the landmark with its key's next record: nobody can tell whether the topic is the same, so
/// everything is compared once, and nothing is written or deleted for it.
#[tokio::test]
async fn a_landmark_that_compaction_took_costs_one_comparison() {
    let site = Site::new().await;
    site.says(&ALL);
    site.day("one").await;
    // A process writes the landmark's key again and dies before it says how far it came.
    site.states("dying", vec![put(4, "e")]).await;
    site.world.log.compact(INPUT, TOMBSTONES);
    site.says(&[(1, "a"), (2, "b"), (3, "c"), (4, "e")]);
    site.day("two").await;
    let written = site.world.records(INPUT).await.len();
    site.day("three").await;
    site.is(&[(1, "a"), (2, "b"), (3, "c"), (4, "e")]).await;
    assert_eq!((written, site.world.records(INPUT).await.len()), (4, 4), "nothing was said twice");
}

/// The topic is made anew under its running owner, whose next append is larger than all that was there before: its own
/// records stand where it believes that others do.
///
/// Guard: `first < owned.end` in `Emitter::remember` (`emitter/mod.rs`). Without it the emitter took its append for
/// well done and went on with the memory of the old topic, where `a` is no change.
#[tokio::test]
async fn a_topic_recreated_under_its_owner_and_refilled_in_one_append() {
    let site = Site::new().await;
    let process = site.process("one").await;
    let mut owner = site.emitter(&process).await;
    let at = stamp(crate::common::morning());
    owner.emit(vec![put(1, "a"), put(2, "b")], &at).await.unwrap();
    site.world.log.recreate_topic(INPUT, 1);
    let noticed = owner.emit(vec![put(3, "c"), put(4, "d"), put(5, "e")], &at).await;
    assert!(matches!(noticed, Err(pipeline::emitter::EmitError::Reincarnated { .. })), "{noticed:?}");
    owner.own(&[0]).await.unwrap();
    owner.emit((1..=5).map(|n| put(n, "x")).collect(), &at).await.unwrap();
    let all: Vec<(u32, &str)> = (1..=5).map(|n| (n, "x")).collect();
    site.input_is(&all).await;
}

/// The same, but a tool for backups fills the topic before its owner looks.
///
/// Guard: `end_belied` in `Emitter::read_on` (`emitter/look.rs`). Without it the owner took all of it for somebody else's appends
/// behind its own, noted the last one as its life's landmark, and `b` was no change.
#[tokio::test]
async fn a_topic_recreated_under_its_owner_and_refilled_by_somebody_else() {
    let site = Site::new().await;
    let process = site.process("one").await;
    let mut owner = site.emitter(&process).await;
    let at = stamp(crate::common::morning());
    owner.emit(vec![put(1, "a"), put(2, "b")], &at).await.unwrap();
    let backup = site.world.records(INPUT).await;
    owner.emit(vec![put(3, "c")], &at).await.unwrap();
    site.world.log.recreate_topic(INPUT, 1);
    for record in [&backup[0]; 5] {
        refill(&site.world.log, std::slice::from_ref(record)).await;
    }
    site.world.clock.advance(Duration::from_secs(10)).await;
    let noticed = owner.emit(vec![put(2, "b")], &at).await;
    assert!(matches!(noticed, Err(pipeline::emitter::EmitError::Reincarnated { .. })), "{noticed:?}");
    owner.own(&[0]).await.unwrap();
    owner.emit(vec![put(1, "a"), put(2, "b"), put(3, "c")], &at).await.unwrap();
    site.input_is(&[(1, "a"), (2, "b"), (3, "c")]).await;
}

/// A reader has found out that a life is over, while its owner runs on.
///
/// Guard: `is_present` in `Emitter::look` (`emitter/look.rs`). Without it the owner went on in the old life until its process ended,
/// and stated nothing in the new one.
#[tokio::test]
async fn an_owner_hears_that_its_life_is_over() {
    let site = Site::new().await;
    let process = site.process("one").await;
    let mut owner = site.emitter(&process).await;
    let morning = stamp(crate::common::morning());
    owner.emit(vec![put(1, "a")], &morning).await.unwrap();
    let at = TopicPartition::new(INPUT, 0);
    let life = owner.incarnation(0).unwrap().clone();
    site.process("reader").await.state.incarnations.begin_anew(&at, &life).await.unwrap();
    process.state.incarnations.present(&at).await.unwrap();
    site.world.clock.advance(Duration::from_secs(10)).await;
    let heard = owner.check().await;
    assert!(matches!(heard, Err(pipeline::emitter::EmitError::Reincarnated { .. })), "{heard:?}");
}

/// The log of a process that meets another one just before it names a life.
struct Meeting {
    log: MemoryLog,
    both: Arc<tokio::sync::Barrier>,
    met: AtomicBool,
}

#[async_trait]
impl Log for Meeting {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        self.log.create(topics).await
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.log.topics().await
    }
    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        if !self.met.swap(true, Ordering::SeqCst) {
            self.both.wait().await;
        }
        self.log.append(records).await
    }
    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        self.log.ends(topic).await
    }
    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        self.log.read(from).await
    }
    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(group, topics).await
    }
    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.log.committed(group, of).await
    }
}

/// Two processes meet a fresh topic in the same moment, and both would name its life.
///
/// Guard: `expects` in `enter` (`state/followed.rs`), which `StateTable::put_unless_changed` sets. Where every record
/// counts, each had the life that it had named itself, and one of them everything to read again.
#[tokio::test]
async fn two_processes_that_meet_a_fresh_topic_name_one_life() {
    let site = Site::new().await;
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let open = async |name: &str| {
        let meeting = Meeting { log: site.world.log.clone(), both: Arc::clone(&both), met: AtomicBool::default() };
        State::open(Arc::new(meeting), name, &[], None).await.unwrap()
    };
    let (one, two) = (open("one").await, open("two").await);
    let at = TopicPartition::new(INPUT, 0);
    let (first, second) = tokio::join!(one.incarnations.present(&at), two.incarnations.present(&at));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first, second);
    assert_eq!(site.process("three").await.state.incarnations.present(&at).await.unwrap(), first);
    // The one that was slower has covered its own record: compaction must not bring it back.
    site.world.log.compact("muster.topics", Duration::ZERO);
    assert_eq!(site.process("four").await.state.incarnations.present(&at).await.unwrap(), first);
}
