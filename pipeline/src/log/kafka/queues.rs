//! Partition queues: each assigned partition has its own, so that an end or an error names its partition (librdkafka's
//! common queue tells the number without the topic), and a partition is held back by not looking into its queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;

use super::cluster::signed;
use super::context::Hears;
use super::errors::Health;
use super::options::KafkaOptions;
use super::record::copied;
use super::wake::Bell;
use crate::log::{Ends, LogError, Offset, Record, TopicPartition};

/// The next event of a client's common queue, without waiting; `None`: there is none, whatever was called back meanwhile.
pub(super) fn next_event<C: Hears>(consumer: &BaseConsumer<C>) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
    loop {
        let event = consumer.poll(Duration::ZERO);
        let called_back = consumer.context().heard().anything();
        if event.is_some() || !called_back {
            return event;
        }
    }
}

/// Records taken from one partition before the next one's turn.
const PER_TURN: usize = 256;

/// What a partition's queue had.
pub(super) enum Polled {
    Record(Record),
    /// The present end was reached.
    End,
    Failed(Code),
    Nothing,
}

/// An assigned partition.
pub(super) struct Part<C: ConsumerContext> {
    pub(super) at: TopicPartition,
    /// What comes next is here or behind.
    pub(super) next: Offset,
    queue: PartitionQueue<C>,
}

impl<C: ConsumerContext> Part<C> {
    /// The queue of an assigned partition, which rings `bell` when something comes.
    pub(super) fn split(
        consumer: &Arc<BaseConsumer<C>>,
        at: &TopicPartition,
        next: Offset,
        bell: &Arc<Bell>,
    ) -> Result<Self, LogError> {
        let queue = consumer.split_partition_queue(&at.topic, signed(at.partition));
        let mut queue = queue.ok_or_else(|| LogError::UnknownTopic { topic: at.to_string() })?;
        let bell = Arc::clone(bell);
        queue.set_nonempty_callback(move || bell.ring());
        Ok(Self { at: at.clone(), next, queue })
    }

    /// Looks into the queue without waiting.
    pub(super) fn poll(&mut self) -> Polled {
        match self.queue.poll(Duration::ZERO) {
            None => Polled::Nothing,
            Some(Ok(message)) => {
                let record = copied(&self.at, &message);
                self.next = record.offset.next();
                Polled::Record(record)
            }
            Some(Err(KafkaError::PartitionEOF(_))) => Polled::End,
            Some(Err(error)) => Polled::Failed(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        }
    }
}

/// A chunk being filled from partitions in turn, up to its bounds.
pub(super) struct Filling {
    pub(super) records: Vec<Record>,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
}

impl Filling {
    pub(super) fn new(options: &KafkaOptions) -> Self {
        let limits = &options.limits;
        Self { records: Vec::new(), bytes: 0, max_records: limits.chunk_records.max(1), max_bytes: limits.chunk_bytes }
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= self.max_records || self.bytes >= self.max_bytes
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.size();
        self.records.push(record);
    }

    /// Takes from `parts` in turn, beginning with number `turn`, until full or nothing is left. Ends and errors go to
    /// `other`, which says whether to go on with that partition.
    pub(super) fn take_from<C: ConsumerContext>(
        &mut self,
        parts: &mut [Part<C>],
        turn: &mut usize,
        wanted: impl Fn(&TopicPartition) -> bool,
        mut other: impl FnMut(&Part<C>, Polled),
    ) {
        let mut idle = 0;
        while idle < parts.len() {
            *turn = (*turn + 1) % parts.len();
            let part = &mut parts[*turn];
            let mut found = false;
            for _ in 0..PER_TURN {
                if self.is_full() {
                    return;
                }
                if !wanted(&part.at) {
                    break;
                }
                let from = part.next;
                match part.poll() {
                    Polled::Nothing => break,
                    // Fetched before the last start: not asked for any more.
                    Polled::Record(record) if record.offset < from => part.next = from,
                    Polled::Record(record) => self.push(record),
                    polled => other(part, polled),
                }
                found = true;
            }
            idle = if found { 0 } else { idle + 1 };
        }
    }
}

/// The partition's bounds from its leader. Blocks.
pub(super) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    options: &KafkaOptions,
    health: &Health,
    at: &TopicPartition,
) -> Result<Ends, LogError> {
    let (start, end) = consumer
        .fetch_watermarks(&at.topic, signed(at.partition), options.limits.request_within)
        .map_err(|error| health.explain(&format!("ends of {at}"), &error))?;
    Ok(Ends { start: Offset(start), end: Offset(end) })
}

/// Is `topic` there? `None`: nobody answered. Blocks.
pub(super) fn exists<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    options: &KafkaOptions,
    topic: &str,
) -> Option<bool> {
    let metadata = consumer.fetch_metadata(Some(topic), options.limits.request_within).ok()?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Some(
        found.is_some_and(|found| {
            !found.error().is_some_and(|error| super::errors::is_unknown_topic(Code::from(error)))
        }),
    )
}

/// Notices when no broker has been reached for too long.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
}

impl Silence {
    /// All brokers are down, says librdkafka. It doesn't say when one is up again.
    pub(super) fn begins(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Something was read.
    pub(super) fn ends(&mut self) {
        self.since = None;
    }

    /// Asks the cluster once patience is over. An error is told once per patience. Blocks.
    pub(super) fn check<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        options: &KafkaOptions,
        health: &Health,
        topic: &str,
    ) -> Option<LogError> {
        if self.since?.elapsed() < options.limits.patience {
            return None;
        }
        let answer = consumer.fetch_metadata(Some(topic), Duration::from_secs(2));
        self.since = answer.is_err().then(Instant::now);
        let what = format!("reading {topic} from {}", options.bootstrap);
        answer.err().map(|error| health.explain(&what, &error))
    }
}
