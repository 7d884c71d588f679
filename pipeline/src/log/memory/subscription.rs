//! A member's face of a [`Group`].

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::{Committed, Event, LogError, Offset, Subscription, TopicPartition, settings};
use super::Shared;
use super::faults::{Action, FaultHook, When};
use super::group::Group;
use super::reader::{Cursor, fetch, wait};
use super::state::{State, Topics};
use crate::bell::Listener;

pub(super) struct MemorySubscription {
    shared: Arc<Shared>,
    own_faults: Option<FaultHook>,
    news: Listener,
    group: Arc<str>,
    id: u64,
    /// Of the started partitions.
    cursors: Vec<Cursor>,
    closed: bool,
}

impl MemorySubscription {
    pub fn join(
        shared: Arc<Shared>,
        own_faults: Option<FaultHook>,
        group: &str,
        topics: &[Arc<str>],
    ) -> Result<Self, LogError> {
        let name: Arc<str> = group.into();
        let id = {
            let mut state = shared.state();
            let State { topics: all, groups, next_member } = &mut *state;
            if let Some(unknown) = topics.iter().find(|topic| !all.contains_key(*topic)) {
                return Err(LogError::UnknownTopic { topic: unknown.to_string() });
            }
            let group = groups.entry(name.clone()).or_insert_with(|| Group::new(topics));
            group.tick(Instant::now(), all, shared.group_deadline());
            group.join(&name, *next_member, topics, all, shared.group_deadline())?;
            *next_member += 1;
            *next_member - 1
        };
        shared.tell();
        let news = shared.news.listener();
        Ok(Self { shared, own_faults, news, group: name, id, cursors: Vec::new(), closed: false })
    }

    /// Works on the group, after what time demands of it, and wakes the others.
    fn with<T>(&self, work: impl FnOnce(&mut Group, &Topics) -> T) -> T {
        let deadline = self.shared.group_deadline();
        let mut state = self.shared.state();
        let State { topics, groups, .. } = &mut *state;
        let group = groups.entry(self.group.clone()).or_insert_with(|| Group::new(&[]));
        if group.tick(Instant::now(), topics, deadline) {
            self.shared.tell();
        }
        work(group, topics)
    }

    fn holds(&self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.with(|group, _| of.iter().try_for_each(|at| group.holds(self.id, at)))
    }
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn next(&mut self) -> Result<Event, LogError> {
        loop {
            // Seen first, looked afterwards: what happens in between wakes us.
            self.news.catch_up();
            let deadline = self.shared.group_deadline();
            let (event, delivers, turn) = self.with(|group, topics| {
                let rejoined = group.rejoin(self.id, topics, deadline);
                if rejoined {
                    self.shared.tell();
                }
                (group.event(self.id), group.delivers(self.id), group.wake())
            });
            if let Some(event) = event {
                // All partitions come and go together: nothing of an earlier assignment goes on.
                self.cursors.clear();
                return Ok(event);
            }
            let mut due = None;
            if delivers {
                let fetched = fetch(&self.shared, &mut self.cursors);
                if let Err(LogError::OutOfRange { at, .. }) = &fetched {
                    self.cursors.retain(|cursor| cursor.at != *at);
                }
                let (chunk, wake) = fetched?;
                if !chunk.records.is_empty() {
                    return Ok(Event::Records(chunk.records));
                }
                due = wake;
            }
            wait(&mut self.news, due.into_iter().chain(turn).min()).await;
        }
    }

    async fn start(&mut self, at: &TopicPartition, from: Offset) -> Result<(), LogError> {
        self.holds(std::slice::from_ref(at))?;
        self.cursors.retain(|cursor| cursor.at != *at);
        let cursor = Cursor::new(&self.shared.state(), at, from)?;
        self.cursors.push(cursor);
        Ok(())
    }

    async fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.holds(of)?;
        self.cursors.retain(|cursor| !of.contains(&cursor.at));
        Ok(())
    }

    async fn committed(&mut self, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.holds(of)?;
        Ok(self.with(|group, _| of.iter().map(|at| group.offsets.get(at).cloned()).collect()))
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), LogError> {
        settings::check_commit(offsets)?;
        let action = Action::Commit { group: self.group.clone() };
        self.shared.step(self.own_faults.as_ref(), action.clone(), When::Before).await?;
        self.with(|group, _| {
            offsets.iter().try_for_each(|(at, _)| group.holds(self.id, at))?;
            group.offsets.extend(offsets.iter().cloned());
            Ok(())
        })?;
        self.shared.step(self.own_faults.as_ref(), action, When::After).await
    }

    async fn released(&mut self) -> Result<(), LogError> {
        self.with(|group, topics| group.released(self.id, topics));
        self.shared.tell();
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<(), LogError> {
        self.closed = true;
        let deadline = self.shared.group_deadline();
        self.with(|group, topics| group.leave(self.id, topics, deadline));
        self.shared.tell();
        Ok(())
    }
}

/// A member that is dropped without closing is a crashed process: the group notices after the session's time.
impl Drop for MemorySubscription {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let now = Instant::now();
        let patience = self.shared.options.session_timeout;
        let deadline = self.shared.group_deadline();
        self.with(|group, topics| {
            if patience.is_zero() {
                group.leave(self.id, topics, deadline);
            } else {
                group.vanish(self.id, now + patience);
            }
        });
        // Others must learn when to look again.
        self.shared.tell();
    }
}
