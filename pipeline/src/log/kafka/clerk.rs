//! What a member asks its group's coordinator, on a thread of its own: librdkafka waits for the answer, and a coordinator
//! may be away for long, while the member must go on answering rebalances.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset as NativeOffset, TopicPartitionList};

use super::cluster::{committed_of, signed};
use super::context::MemberContext;
use super::errors::{Health, is_stale_member, is_unknown_topic};
use super::options::KafkaOptions;
use super::queues::exists;
use super::subscription::Reply;
use crate::log::{Committed, LogError, TopicPartition};

/// Questions that wait. A user has one at a time, but may give up waiting for it and ask again.
const WAITING: usize = 8;

enum Question {
    Commit { offsets: Vec<(TopicPartition, Committed)>, assignment: u64, reply: Reply<()> },
    Committed { of: Vec<TopicPartition>, reply: Reply<Vec<Option<Committed>>> },
}

/// The member's side.
pub(super) struct Clerk {
    questions: SyncSender<Question>,
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

/// What both sides see.
#[derive(Default)]
struct Desk {
    /// Questions without an answer.
    open: AtomicUsize,
    /// The assignment of the moment: a commit that waited while it went isn't sent under the next one, where it would
    /// put back what another member has committed since.
    assignment: AtomicU64,
}

impl Clerk {
    pub(super) fn start(
        consumer: &Arc<BaseConsumer<MemberContext>>,
        options: &KafkaOptions,
        health: &Arc<Health>,
    ) -> Result<Self, LogError> {
        let (questions, asked) = sync_channel(WAITING);
        let desk = Arc::new(Desk::default());
        let worker = Worker {
            consumer: Arc::clone(consumer),
            desk: Arc::clone(&desk),
            options: options.clone(),
            health: Arc::clone(health),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-commits".to_owned())
            .spawn(move || worker.run(&asked))
            .map_err(|error| LogError::Unavailable { reason: format!("starting a member's thread: {error}") })?;
        Ok(Self { questions, desk, thread })
    }

    pub(super) fn commit(&self, offsets: Vec<(TopicPartition, Committed)>, reply: Reply<()>) {
        let assignment = self.desk.assignment.load(Ordering::Acquire);
        self.ask(Question::Commit { offsets, assignment, reply });
    }

    pub(super) fn committed(&self, of: Vec<TopicPartition>, reply: Reply<Vec<Option<Committed>>>) {
        self.ask(Question::Committed { of, reply });
    }

    /// Commits of the assignment until now are no longer sent.
    pub(super) fn assignment_ends(&self) {
        self.desk.assignment.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.desk.open.load(Ordering::Acquire) == 0
    }

    /// No more questions; the thread ends after the one it is at.
    pub(super) fn dismiss(self) -> JoinHandle<()> {
        self.thread
    }

    fn ask(&self, question: Question) {
        self.desk.open.fetch_add(1, Ordering::AcqRel);
        // An answer that nobody waits for any more is no loss.
        let unasked = match self.questions.try_send(question) {
            Ok(()) => return,
            Err(TrySendError::Full(question) | TrySendError::Disconnected(question)) => question,
        };
        self.desk.open.fetch_sub(1, Ordering::AcqRel);
        let reason = "earlier questions still wait for the group's coordinator".to_owned();
        match unasked {
            Question::Commit { reply, .. } => drop(reply.send(Err(LogError::Unavailable { reason }))),
            Question::Committed { reply, .. } => drop(reply.send(Err(LogError::Unavailable { reason }))),
        }
    }
}

/// The thread's side.
struct Worker {
    consumer: Arc<BaseConsumer<MemberContext>>,
    desk: Arc<Desk>,
    options: KafkaOptions,
    health: Arc<Health>,
}

impl Worker {
    fn run(self, asked: &Receiver<Question>) {
        while let Ok(question) = asked.recv() {
            match question {
                // Its user gave up waiting: what they commit next is what counts.
                Question::Commit { reply, .. } if reply.is_closed() => {}
                Question::Committed { reply, .. } if reply.is_closed() => {}
                Question::Commit { offsets, assignment, reply } => {
                    drop(reply.send(self.commit(&offsets, assignment)));
                }
                Question::Committed { of, reply } => {
                    drop(reply.send(committed_of(&self.consumer, &self.options, &self.health, &of)));
                }
            }
            self.desk.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// `Ok`: all are committed. librdkafka's answer is the last error of any partition, without its name: the caller
    /// commits all of them again, or none.
    fn commit(&self, offsets: &[(TopicPartition, Committed)], assignment: u64) -> Result<(), LogError> {
        let Some((first, _)) = offsets.first() else { return Ok(()) };
        if self.desk.assignment.load(Ordering::Acquire) != assignment {
            return Err(LogError::NotOurs { at: first.clone() });
        }
        let failed = |error: KafkaError| match error.rdkafka_error_code() {
            Some(code) if is_stale_member(code) => LogError::NotOurs { at: first.clone() },
            Some(code) if is_unknown_topic(code) => self.missing(offsets, &error),
            _ => self.health.explain("committing offsets", &error),
        };
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (at, committed) in offsets {
            let mut element = list.add_partition(&at.topic, signed(at.partition));
            element.set_offset(NativeOffset::Offset(committed.next.0)).map_err(failed)?;
            element.set_metadata(&committed.metadata);
        }
        self.consumer.commit(&list, CommitMode::Sync).map_err(failed)
    }

    /// Which topic the coordinator doesn't know.
    fn missing(&self, offsets: &[(TopicPartition, Committed)], error: &KafkaError) -> LogError {
        let mut asked: Option<&str> = None;
        for (at, _) in offsets {
            if asked == Some(&at.topic) {
                continue;
            }
            if exists(&self.consumer, &self.options, &at.topic) == Some(false) {
                return LogError::UnknownTopic { topic: at.topic.to_string() };
            }
            asked = Some(&at.topic);
        }
        self.health.explain("committing offsets", error)
    }
}
