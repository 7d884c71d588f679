//! What librdkafka calls back: its log lines, its complaints, and rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;

use super::errors::{Health, lock};
use crate::log::TopicPartition;

/// librdkafka's line, at our levels. A lost connection is one of its errors, but it mends by itself: who waits says so.
pub(super) fn trace(level: RDKafkaLogLevel, fac: &str, line: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match level {
        Emerg | Alert | Critical => tracing::error!(target: "librdkafka", fac, line),
        Error if fac == "FAIL" => tracing::info!(target: "librdkafka", fac, line),
        Error | Warning => tracing::warn!(target: "librdkafka", fac, line),
        Notice => tracing::info!(target: "librdkafka", fac, line),
        Info | Debug => tracing::debug!(target: "librdkafka", fac, line),
    }
}

/// Whether something was called back: a poll that did so says, like an empty one, that there was nothing.
#[derive(Debug, Default)]
pub(super) struct Heard(AtomicBool);

impl Heard {
    fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Since the last time it was asked.
    pub(super) fn anything(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// A context that tells what its polls called back.
pub(super) trait Hears: ConsumerContext {
    fn heard(&self) -> &Heard;
}

/// The context of clients that ask and read.
pub(super) struct Context {
    health: Arc<Health>,
    heard: Heard,
}

impl Context {
    pub(super) fn new(health: &Arc<Health>) -> Self {
        Self { health: Arc::clone(health), heard: Heard::default() }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.heard.note();
        trace(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.note();
        self.health.complained(error.rdkafka_error_code().unwrap_or(Code::Unknown), reason);
    }
}

impl ConsumerContext for Context {}

impl Hears for Context {
    fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// A rebalance that the member's thread has to answer with an assignment of its own.
#[derive(Debug)]
pub(super) enum Rebalance {
    /// These are to be assigned.
    Assign(Vec<TopicPartition>),
    /// All are to be given up; `lost`: they are gone already.
    Revoke { lost: bool },
}

/// The context of a group's member. librdkafka rejoins only after the assignment was changed, so a rebalance is only
/// noted here: the thread answers it when everything handed out has been let go.
pub(super) struct MemberContext {
    pub(super) health: Arc<Health>,
    pub(super) rebalances: Mutex<VecDeque<Rebalance>>,
    /// The thread has gone: rebalances are answered on the spot, or the client would never close.
    pub(super) closing: AtomicBool,
    pub(super) heard: Heard,
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.heard.note();
        trace(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.note();
        self.health.complained(error.rdkafka_error_code().unwrap_or(Code::Unknown), reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.heard.note();
        if self.closing.load(Ordering::Acquire) {
            if let Err(error) = consumer.unassign() {
                tracing::debug!(%error, "unassigning while closing");
            }
            return;
        }
        let rebalance = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(places(list)),
            _ => Rebalance::Revoke { lost: consumer.assignment_lost() },
        };
        lock(&self.rebalances).push_back(rebalance);
    }
}

impl Hears for MemberContext {
    fn heard(&self) -> &Heard {
        &self.heard
    }
}

fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let mut places: Vec<TopicPartition> = list
        .elements()
        .iter()
        .filter_map(|e| Some(TopicPartition::new(e.topic(), u32::try_from(e.partition()).ok()?)))
        .collect();
    places.sort();
    places
}
