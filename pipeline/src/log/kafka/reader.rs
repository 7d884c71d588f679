//! Reads partitions outside any group: a consumer on its own thread, a small channel to the async side.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Message, Offset as NativeOffset, TopicPartitionList};
use tokio::sync::mpsc;

use super::cluster::signed;
use super::context::Context;
use super::errors::{Health, is_final, is_out_of_range, is_unknown_topic};
use super::options::KafkaOptions;
use super::queues::{Filling, Part, Polled, Silence, exists, next_event, watermarks};
use super::wake::Bell;
use crate::log::{Chunk, LogError, Offset, Reader, TopicPartition};

/// Never joined: librdkafka assigns nothing without a group's name.
const NO_GROUP: &str = "muster-reader";

/// Between two looks when no queue rings: complaints arrive without ringing.
const IDLE: Duration = Duration::from_millis(50);

/// An end without news for so long is compared with the broker's: see [`Worker::compare_ends`].
const COMPARE_AFTER: Duration = Duration::from_millis(250);

/// Chunks that wait for their reader; one more may wait in the thread.
const CHUNKS: usize = 2;

/// The async side; dropping it stops the thread.
pub(super) struct KafkaReader {
    chunks: mpsc::Receiver<Result<Chunk, LogError>>,
    bell: Arc<Bell>,
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Chunk, LogError> {
        let chunk = self.chunks.recv().await;
        self.bell.ring();
        chunk.unwrap_or_else(|| {
            Err(LogError::Unavailable { reason: "the reader has stopped after an error: read again".to_owned() })
        })
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.chunks.close();
        self.bell.ring();
    }
}

/// Starts reading.
pub(super) fn start(
    options: &KafkaOptions,
    health: &Arc<Health>,
    from: &[(TopicPartition, Offset)],
) -> Result<KafkaReader, LogError> {
    let mut config = options.consumer(NO_GROUP, from.len())?;
    config.set("enable.partition.eof", "true");
    let context = Context::new(health);
    let failed = |error| health.explain("creating a reader", &error);
    let consumer: BaseConsumer<Context> = BaseConsumer::from_config_and_context(&config, context).map_err(failed)?;
    let mut list = TopicPartitionList::with_capacity(from.len());
    for (at, offset) in from {
        list.add_partition_offset(&at.topic, signed(at.partition), NativeOffset::Offset(offset.0)).map_err(failed)?;
    }
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let bell = Arc::new(Bell::default());
    let consumer = Arc::new(consumer);
    // Before librdkafka fetches: what it has before a partition has its own queue goes to the common one.
    let parts = from.iter().map(|(at, offset)| Part::split(&consumer, at, *offset, &bell));
    let parts = parts.collect::<Result<_, _>>()?;
    consumer.assign(&list).map_err(failed)?;
    let mut worker = Worker {
        parts,
        consumer,
        ends: HashMap::new(),
        turn: 0,
        silence: Silence::default(),
        bell: Arc::clone(&bell),
        options: options.clone(),
        health: Arc::clone(health),
    };
    std::thread::Builder::new()
        .name("kafka-reader".to_owned())
        .spawn(move || {
            let Err(error) = worker.run(&sender) else { return };
            // Nobody listening is no loss: then nobody asks.
            let _ = sender.blocking_send(Err(error));
        })
        .map_err(|error| LogError::Unavailable { reason: format!("starting a reader's thread: {error}") })?;
    Ok(KafkaReader { chunks, bell })
}

/// What is known about the end of a partition that was reached.
struct End {
    /// When to compare it with the broker's; `None`: done.
    compare: Option<Instant>,
    /// A later end than the last record tells, waiting to be reached.
    target: Option<Offset>,
}

/// The thread's side.
struct Worker {
    // Before the consumer: its queues must go first.
    parts: Vec<Part<Context>>,
    consumer: Arc<BaseConsumer<Context>>,
    ends: HashMap<TopicPartition, End>,
    turn: usize,
    silence: Silence,
    bell: Arc<Bell>,
    options: KafkaOptions,
    health: Arc<Health>,
}

impl Worker {
    /// Until nobody listens, or an error that a reader must decide on.
    fn run(&mut self, out: &mpsc::Sender<Result<Chunk, LogError>>) -> Result<(), LogError> {
        let mut waiting: Option<Chunk> = None;
        while !out.is_closed() {
            self.serve()?;
            let chunk = match waiting.take() {
                Some(chunk) => Some(chunk),
                None => self.fill(Filling::new(&self.options))?,
            };
            match chunk {
                Some(chunk) => {
                    if let Err(mpsc::error::TrySendError::Full(Ok(chunk))) = out.try_send(Ok(chunk)) {
                        waiting = Some(chunk);
                        self.bell.wait(IDLE);
                    }
                }
                None => {
                    self.compare_ends();
                    let topic = self.parts.first().map_or("", |part| &part.at.topic);
                    if let Some(error) = self.silence.check(&self.consumer, &self.options, &self.health, topic) {
                        // Told only while somebody waits for it: the reader goes on trying.
                        let _ = out.try_send(Err(error));
                    }
                    self.bell.wait(IDLE);
                }
            }
        }
        Ok(())
    }

    /// Complaints. Records and ends have the queues of their partitions.
    fn serve(&mut self) -> Result<(), LogError> {
        while let Some(event) = next_event(&self.consumer) {
            match event {
                Ok(message) => {
                    let (topic, partition) = (message.topic(), message.partition());
                    let reason = format!("a record of {topic}|{partition} came out of turn: read again");
                    return Err(LogError::Unavailable { reason });
                }
                Err(error) => {
                    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                    if code == Code::AllBrokersDown {
                        self.silence.begins();
                    }
                    if is_final(code) || matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                        return Err(self.health.explain("reading", &error));
                    }
                }
            }
        }
        Ok(())
    }

    fn fill(&mut self, mut filling: Filling) -> Result<Option<Chunk>, LogError> {
        let mut ended: Vec<TopicPartition> = Vec::new();
        let mut failed: Vec<(TopicPartition, Code)> = Vec::new();
        let wanted = |_: &TopicPartition| true;
        filling.take_from(&mut self.parts, &mut self.turn, wanted, |part, polled| match polled {
            Polled::End => ended.push(part.at.clone()),
            Polled::Failed(code) => failed.push((part.at.clone(), code)),
            Polled::Record(_) | Polled::Nothing => {}
        });
        for (at, code) in failed {
            self.judge(&at, code)?;
        }
        for record in &filling.records {
            if let Some(end) = self.ends.get_mut(&record.at) {
                end.compare = None;
            }
        }
        let mut at_end = Vec::with_capacity(ended.len());
        for at in ended {
            let end = self.reached(&at);
            at_end.push((at, end));
        }
        if filling.records.is_empty() && at_end.is_empty() {
            return Ok(None);
        }
        self.silence.ends();
        Ok(Some(Chunk { records: filling.records, at_end }))
    }

    /// The end that was reached: behind the last record, or the end that was being looked for.
    fn reached(&mut self, at: &TopicPartition) -> Offset {
        let end = self.ends.entry(at.clone()).or_insert(End { compare: None, target: None });
        let target = end.target.take();
        // Found by looking for it: no need to look again.
        end.compare = target.is_none().then(|| Instant::now() + COMPARE_AFTER);
        let Some(part) = self.parts.iter_mut().find(|part| part.at == *at) else { return Offset::START };
        part.next = part.next.max(target.unwrap_or(part.next));
        part.next
    }

    /// Where the last offsets of a partition hold no record any more (compaction drops tombstones), its end lies behind
    /// what was read, and librdkafka's report of the end loses the offset on its way through its Rust binding. So a quiet
    /// end is compared with the broker's once; when that is later, the partition is read again from the same place, and
    /// the next report of an end is at least that one.
    fn compare_ends(&mut self) {
        let now = Instant::now();
        for part in &self.parts {
            let Some(end) = self.ends.get_mut(&part.at) else { continue };
            if end.compare.is_none_or(|at| at > now) {
                continue;
            }
            let Ok(bounds) = watermarks(&self.consumer, &self.options, &self.health, &part.at) else {
                end.compare = Some(now + COMPARE_AFTER * 4);
                continue;
            };
            end.compare = None;
            if bounds.end <= part.next {
                continue;
            }
            let from = NativeOffset::Offset(part.next.0);
            match self.consumer.seek(
                &part.at.topic,
                signed(part.at.partition),
                from,
                self.options.limits.request_within,
            ) {
                Ok(()) => end.target = Some(bounds.end),
                Err(_) => end.compare = Some(now + COMPARE_AFTER),
            }
        }
    }

    /// An error in a partition's queue: final, or one that mends by itself.
    fn judge(&self, at: &TopicPartition, code: Code) -> Result<(), LogError> {
        if is_out_of_range(code) {
            let ends = watermarks(&self.consumer, &self.options, &self.health, at)?;
            let offset = self.parts.iter().find(|part| part.at == *at).map_or(Offset::START, |part| part.next);
            return Err(LogError::OutOfRange { at: at.clone(), offset, ends });
        }
        if is_unknown_topic(code) && exists(&self.consumer, &self.options, &at.topic) == Some(false) {
            return Err(LogError::UnknownTopic { topic: at.topic.to_string() });
        }
        if is_final(code) {
            return Err(self.health.explain_code(&format!("reading {at}"), code));
        }
        tracing::debug!(topic = &*at.topic, partition = at.partition, %code, "reading goes on after an error");
        Ok(())
    }
}
