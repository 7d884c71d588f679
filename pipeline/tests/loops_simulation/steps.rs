//! Every durable step, in one place, and how often each was struck.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pipeline::log::memory::{Action, Step, When};
use pipeline::operations::Write;

use crate::common::sink::TargetStep;

/// Something that a process makes durable, somewhere. What isn't listed here can't be made durable: the hooks of the log,
/// the target, the operations database and the machine's disk name each of their steps by one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durable {
    /// The state topics that are missing are made.
    TopicsMade,
    /// The text of a schema, before the first value is written with it.
    SchemaNoted,
    /// A task or a partition is taken over.
    ClaimAppended,
    /// A life of a partition, or how far it has been seen to reach.
    LifeNoted,
    /// A source's changes, deletes of what has vanished among them.
    SourceAppended,
    /// How far a source has got.
    PositionSaved,
    /// Up to when a feed is complete.
    ProgressSaved,
    /// A processor's outputs, tombstones among them.
    ProcessorAppended,
    /// Under what all groups have been derived.
    MarkSaved,
    /// How far a processor has read.
    ProcessorCommitted,
    /// A partition is claimed in the target.
    TargetClaimed,
    /// The target's COMMIT: rows and offsets.
    TargetCommitted,
    /// Parked rows are tried again.
    TargetUnparked,
    /// The end of a sweep.
    TargetSwept,
    /// How far a sink has read, for people.
    SinkCommitted,
    /// A dead letter.
    LetterAppended,
    /// A letter leaves the log.
    LetterSettled,
    /// What came of a request.
    RequestAnswered,
    /// An emitter's memory reaches the disk.
    MemorySynced,
    /// A run, on record.
    RunBegun,
    /// A run's end, on record.
    RunEnded,
    /// A letter, in the index.
    LetterIndexed,
    /// What became of a letter, in the index.
    LetterIndexSettled,
    /// A component's account.
    AccountWritten,
}

impl Durable {
    pub const ALL: &[Durable] = &[
        Self::TopicsMade,
        Self::SchemaNoted,
        Self::ClaimAppended,
        Self::LifeNoted,
        Self::SourceAppended,
        Self::PositionSaved,
        Self::ProgressSaved,
        Self::ProcessorAppended,
        Self::MarkSaved,
        Self::ProcessorCommitted,
        Self::TargetClaimed,
        Self::TargetCommitted,
        Self::TargetUnparked,
        Self::TargetSwept,
        Self::SinkCommitted,
        Self::LetterAppended,
        Self::LetterSettled,
        Self::RequestAnswered,
        Self::MemorySynced,
        Self::RunBegun,
        Self::RunEnded,
        Self::LetterIndexed,
        Self::LetterIndexSettled,
        Self::AccountWritten,
    ];

    /// The log's steps, told apart by topic and key.
    pub fn of_log(step: &Step) -> Self {
        match &step.action {
            Action::Create => Self::TopicsMade,
            Action::Commit { group } if &**group == "muster.register" => Self::SinkCommitted,
            Action::Commit { .. } => Self::ProcessorCommitted,
            Action::Append { topic, keys } => {
                let begins = |with: &[u8]| keys.iter().all(|appended| appended.key.starts_with(with));
                match &**topic {
                    "muster.tasks" => Self::ClaimAppended,
                    "muster.positions" if begins(b"source|") => Self::PositionSaved,
                    "muster.positions" if begins(b"mark|") => Self::MarkSaved,
                    "muster.topics" => Self::LifeNoted,
                    "muster.schemas" => Self::SchemaNoted,
                    "muster.progress" => Self::ProgressSaved,
                    "muster.requests" => Self::RequestAnswered,
                    "muster.dead-letters" if keys.iter().all(|appended| appended.tombstone) => Self::LetterSettled,
                    "muster.dead-letters" => Self::LetterAppended,
                    topic if topic.starts_with("ats.") => Self::SourceAppended,
                    topic if topic.starts_with("register.") => Self::ProcessorAppended,
                    other => panic!("an append to {other} is no durable step that is listed: name it in steps.rs"),
                }
            }
        }
    }

    pub fn of_target(step: TargetStep) -> Self {
        match step {
            TargetStep::Claim => Self::TargetClaimed,
            TargetStep::Commit => Self::TargetCommitted,
            TargetStep::Unpark => Self::TargetUnparked,
            TargetStep::Sweep => Self::TargetSwept,
        }
    }

    pub fn of_operations(write: Write) -> Self {
        match write {
            Write::RunBegun => Self::RunBegun,
            Write::RunEnded => Self::RunEnded,
            Write::LetterEntered => Self::LetterIndexed,
            Write::LetterSettled => Self::LetterIndexSettled,
            Write::Account => Self::AccountWritten,
        }
    }
}

/// How a step is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// The process goes down.
    Crash,
    /// The step fails, or its answer is lost; the process goes on.
    Failure,
}

/// A step, whether it was struck after it was done, and how.
type Struck = (Durable, bool, Blow);

/// Which steps were struck, how, and how often. Clones are the same.
#[derive(Clone, Default)]
pub struct Coverage(Arc<Mutex<BTreeMap<Struck, u64>>>);

impl Coverage {
    pub fn note(&self, step: Durable, when: When, blow: Blow) {
        *self.0.lock().unwrap().entry((step, when == When::After, blow)).or_default() += 1;
    }

    pub fn count(&self, step: Durable, when: When, blow: Blow) -> u64 {
        self.0.lock().unwrap().get(&(step, when == When::After, blow)).copied().unwrap_or(0)
    }

    /// The steps that were never struck before, or never after, by one of the blows.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for &step in Durable::ALL {
            for when in [When::Before, When::After] {
                for blow in [Blow::Crash, Blow::Failure] {
                    if self.count(step, when, blow) == 0 {
                        missing.push(format!("{blow:?} {when:?} {step:?}"));
                    }
                }
            }
        }
        missing
    }

    /// For people: a line for each step.
    pub fn table(&self) -> String {
        let mut table = format!("{:<20} {:>7} {:>7} {:>7} {:>7}\n", "", "crash<", "crash>", "fail<", "fail>");
        for &step in Durable::ALL {
            let count = |when, blow| self.count(step, when, blow);
            table += &format!(
                "{:<20} {:>7} {:>7} {:>7} {:>7}\n",
                format!("{step:?}"),
                count(When::Before, Blow::Crash),
                count(When::After, Blow::Crash),
                count(When::Before, Blow::Failure),
                count(When::After, Blow::Failure)
            );
        }
        table
    }
}
