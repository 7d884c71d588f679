//! Appends: one idempotent producer, a counter per call instead of a task per record.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use super::cluster::Cluster;
use super::context::trace;
use super::errors::{Health, is_unknown_topic, lock};
use super::options::KafkaOptions;
use super::record::native;
use crate::log::{Append, LogError, Offset};

/// Between two looks whether the queue has room, where nothing told us.
const ROOM_AGAIN: Duration = Duration::from_millis(20);

/// After so many records other tasks get their turn.
const RECORDS_PER_TURN: usize = 512;

/// Appends records through the producer of the moment.
pub(super) struct Appender {
    options: KafkaOptions,
    health: Arc<Health>,
    producer: Mutex<Arc<ThreadedProducer<Delivery>>>,
}

/// What the producer's thread calls back.
struct Delivery {
    health: Arc<Health>,
    /// The queue has room again.
    room: Notify,
    /// Calls that wait for room.
    waiting: AtomicUsize,
}

/// One call of [`Appender::append`].
struct Call {
    offsets: Vec<AtomicI64>,
    /// Records without a report.
    left: AtomicUsize,
    done: Notify,
    /// Records that failed, in the order of their reports.
    failed: Mutex<Vec<(usize, Code)>>,
}

/// A record's place in its call; travels with it through librdkafka.
struct Ticket {
    call: Arc<Call>,
    index: usize,
}

impl Call {
    fn settle(&self, records: usize) {
        if records > 0 && self.left.fetch_sub(records, Ordering::AcqRel) == records {
            self.done.notify_one();
        }
    }
}

impl ClientContext for Delivery {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        trace(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.complained(error.rdkafka_error_code().unwrap_or(Code::Unknown), reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(message) => ticket.call.offsets[ticket.index].store(message.offset(), Ordering::Relaxed),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                lock(&ticket.call.failed).push((ticket.index, code));
            }
        }
        ticket.call.settle(1);
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.room.notify_waiters();
        }
    }
}

impl Appender {
    pub(super) fn new(options: &KafkaOptions, health: &Arc<Health>) -> Result<Self, LogError> {
        let producer = Mutex::new(Arc::new(create(options, health)?));
        Ok(Self { options: options.clone(), health: Arc::clone(health), producer })
    }

    /// Enqueues all, then waits for every report.
    pub(super) async fn append(&self, cluster: &Arc<Cluster>, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        let limit = self.options.limits.record_bytes;
        if let Some(index) = records.iter().position(|record| record.size() > limit) {
            let record = &records[index];
            return Err(LogError::TooLarge { at: record.at.clone(), bytes: record.size(), limit, index });
        }
        cluster.expect(records.iter().map(|record| &record.at)).await?;
        let producer = Arc::clone(&lock(&self.producer));
        let call = Arc::new(Call {
            offsets: records.iter().map(|_| AtomicI64::new(-1)).collect(),
            left: AtomicUsize::new(records.len()),
            done: Notify::new(),
            failed: Mutex::default(),
        });
        for (index, record) in records.iter().enumerate() {
            let enqueued = self.enqueue(&producer, &call, index, record).await;
            if let Err(code) = enqueued {
                lock(&call.failed).push((index, code));
                call.settle(records.len() - index);
                break;
            }
            if index % RECORDS_PER_TURN == RECORDS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        while call.left.load(Ordering::Acquire) > 0 {
            call.done.notified().await;
        }
        let failed = std::mem::take(&mut *lock(&call.failed));
        if failed.is_empty() {
            self.health.answered();
            return Ok(call.offsets.iter().map(|offset| Offset(offset.load(Ordering::Relaxed))).collect());
        }
        Err(self.failure(cluster, &producer, &records, failed).await)
    }

    async fn enqueue(
        &self,
        producer: &ThreadedProducer<Delivery>,
        call: &Arc<Call>,
        index: usize,
        record: &Append,
    ) -> Result<(), Code> {
        let mut ticket = Box::new(Ticket { call: Arc::clone(call), index });
        let started = Instant::now();
        let delivery = producer.client().context();
        loop {
            let native = BaseRecord::<[u8], [u8], _> {
                topic: &record.at.topic,
                partition: Some(i32::try_from(record.at.partition).map_err(|_| Code::UnknownPartition)?),
                payload: record.value.as_deref(),
                key: Some(&record.key),
                timestamp: None,
                headers: native(&record.headers),
                delivery_opaque: ticket,
            };
            let Err((error, refused)) = producer.send(native) else { return Ok(()) };
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            if code != Code::QueueFull {
                return Err(code);
            }
            if started.elapsed() > self.options.limits.append_within {
                return Err(Code::MessageTimedOut);
            }
            ticket = refused.delivery_opaque;
            let _waiting = Waiting::new(&delivery.waiting);
            // Told or not, we look again: room may have come between the refusal and here.
            let _ = tokio::time::timeout(ROOM_AGAIN, delivery.room.notified()).await;
        }
    }

    /// The call's error: what a person or another record must mend first, else the first that was reported.
    async fn failure(
        &self,
        cluster: &Arc<Cluster>,
        producer: &Arc<ThreadedProducer<Delivery>>,
        records: &[Append],
        mut failed: Vec<(usize, Code)>,
    ) -> LogError {
        if let Some((code, reason)) = producer.client().fatal_error() {
            return match self.rebuild(producer) {
                Ok(()) => LogError::Unavailable {
                    reason: format!("append: the producer's order was lost and it was built anew: {code}: {reason}"),
                },
                Err(error) => error,
            };
        }
        failed.sort_by_key(|(index, _)| *index);
        if let Some(error) = self.too_large(cluster, records, &failed).await {
            return error;
        }
        if let Some((index, _)) = failed.iter().find(|(_, code)| is_unknown_topic(*code)) {
            let topic = &records[*index].at.topic;
            cluster.forget(topic);
            return LogError::UnknownTopic { topic: topic.to_string() };
        }
        let (index, code) = failed[0];
        let what =
            format!("append of {} records, {} failed, first to {}", records.len(), failed.len(), records[index].at);
        self.health.explain_code(&what, code)
    }

    async fn too_large(
        &self,
        cluster: &Arc<Cluster>,
        records: &[Append],
        failed: &[(usize, Code)],
    ) -> Option<LogError> {
        let refused: Vec<usize> =
            failed.iter().filter(|(_, code)| *code == Code::MessageSizeTooLarge).map(|(index, _)| *index).collect();
        let index = *refused.iter().max_by_key(|index| records[**index].size())?;
        let record = &records[index];
        let limit = match cluster.record_limit(&record.at.topic).await {
            Ok(limit) => limit,
            Err(error) => return Some(error),
        };
        // The broker measures whole batches: with several small records in one, none of them is at fault.
        if refused.len() > 1 && record.size() + super::options::RECORD_OVERHEAD < limit {
            return Some(LogError::Refused {
                reason: format!("append to {}: the topic takes {limit} bytes at once, a batch had more", record.at),
                hint: "raise the topic's max.message.bytes to 1048588 or more, or set batch.size below it".to_owned(),
            });
        }
        Some(LogError::TooLarge { at: record.at.clone(), bytes: record.size(), limit, index })
    }

    /// Replaces a producer that has lost its order for good; who comes second finds it replaced.
    fn rebuild(&self, dead: &Arc<ThreadedProducer<Delivery>>) -> Result<(), LogError> {
        let mut current = lock(&self.producer);
        if Arc::ptr_eq(&current, dead) {
            *current = Arc::new(create(&self.options, &self.health)?);
            tracing::warn!("producer built anew after a fatal error");
        }
        Ok(())
    }
}

/// Counts a call among those that wait for room, however it ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn create(options: &KafkaOptions, health: &Arc<Health>) -> Result<ThreadedProducer<Delivery>, LogError> {
    let delivery = Delivery { health: Arc::clone(health), room: Notify::new(), waiting: AtomicUsize::new(0) };
    ThreadedProducer::from_config_and_context(&options.producer()?, delivery)
        .map_err(|error| health.explain("creating the producer", &error))
}
