//! The events between a member's thread and its user. Unlike a channel it can be taken back from: what wasn't seen
//! before a revocation never is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::errors::lock;
use super::wake::Bell;
use crate::log::{Event, LogError, TopicPartition};

/// Bounded by the thread: [`Outbox::record_events`] stays small, and other events wait for an answer.
pub(super) struct Outbox {
    events: Mutex<VecDeque<Result<Event, LogError>>>,
    told: Notify,
    bell: Arc<Bell>,
}

impl Outbox {
    pub(super) fn new(bell: &Arc<Bell>) -> Self {
        Self { events: Mutex::default(), told: Notify::new(), bell: Arc::clone(bell) }
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&self) -> Result<Event, LogError> {
        loop {
            let event = lock(&self.events).pop_front();
            if let Some(event) = event {
                self.bell.ring();
                return event;
            }
            self.told.notified().await;
        }
    }

    pub(super) fn push(&self, event: Event) {
        lock(&self.events).push_back(Ok(event));
        self.told.notify_one();
    }

    /// Adds an error, unless one that says the same waits already.
    pub(super) fn fail(&self, error: LogError) {
        let mut events = lock(&self.events);
        let said = error.to_string();
        if !events.iter().any(|event| event.as_ref().is_err_and(|before| before.to_string() == said)) {
            events.push_back(Err(error));
        }
        drop(events);
        self.told.notify_one();
    }

    pub(super) fn record_events(&self) -> usize {
        lock(&self.events).iter().filter(|event| matches!(event, Ok(Event::Records(_)))).count()
    }

    /// Takes back the unseen records of partitions that `gone` names.
    pub(super) fn take_back(&self, gone: impl Fn(&TopicPartition) -> bool) {
        let mut events = lock(&self.events);
        events.retain_mut(|event| match event {
            Ok(Event::Records(records)) => {
                records.retain(|record| !gone(&record.at));
                !records.is_empty()
            }
            _ => true,
        });
    }

    /// Takes back an assignment that wasn't seen yet.
    pub(super) fn take_back_assigned(&self) -> bool {
        let mut events = lock(&self.events);
        let before = events.len();
        events.retain(|event| !matches!(event, Ok(Event::Assigned(_))));
        events.len() < before
    }
}
