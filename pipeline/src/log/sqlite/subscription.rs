//! The only member of a group: it has everything, from the first event on, until it leaves.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use sqlx::Row;
use tokio::sync::{oneshot, watch};

use super::super::{Committed, Event, LogError, Offset, Subscription, TopicPartition, settings};
use super::Shared;
use super::reader::{Cursor, fetch};
use super::writer::Job;

pub(super) struct SqliteSubscription {
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    group: Arc<str>,
    /// All partitions of all topics; not the member's before it was told.
    partitions: Vec<TopicPartition>,
    told: bool,
    /// Of the started partitions.
    cursors: Vec<Cursor>,
}

impl SqliteSubscription {
    pub fn join(shared: Arc<Shared>, group: &str, topics: &[Arc<str>]) -> Result<Self, LogError> {
        shared.core.check_open()?;
        let mut partitions = Vec::new();
        for topic in topics {
            let count = shared.core.topic(topic)?.partitions();
            partitions.extend((0..count).map(|partition| TopicPartition::new(topic.clone(), partition)));
        }
        let first = shared.members.lock().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned());
        if !first {
            return Err(LogError::Refused {
                reason: format!("group {group} has a member already"),
                hint: "on the embedded log one member of a group has everything: give each component a name of its \
                       own, or use Kafka to share work"
                    .into(),
            });
        }
        let news = shared.core.news.subscribe();
        Ok(Self { shared, news, group: group.into(), partitions, told: false, cursors: Vec::new() })
    }

    fn holds(&self, of: &[TopicPartition]) -> Result<(), LogError> {
        match of.iter().find(|at| !self.told || !self.partitions.contains(at)) {
            Some(at) => Err(LogError::NotOurs { at: at.clone() }),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Subscription for SqliteSubscription {
    async fn next(&mut self) -> Result<Event, LogError> {
        if !self.told {
            self.told = true;
            return Ok(Event::Assigned(self.partitions.clone()));
        }
        loop {
            // Seen first, looked afterwards: what happens in between wakes us.
            self.news.borrow_and_update();
            let fetched = fetch(&self.shared, &mut self.cursors).await;
            if let Err(LogError::OutOfRange { at, .. }) = &fetched {
                // Told once; the member starts it again where it thinks right.
                self.cursors.retain(|cursor| cursor.at != *at);
            }
            let chunk = fetched?;
            if !chunk.records.is_empty() {
                return Ok(Event::Records(chunk.records));
            }
            // The sender lives in what we share: this ends only with news.
            drop(self.news.changed().await);
        }
    }

    async fn start(&mut self, at: &TopicPartition, from: Offset) -> Result<(), LogError> {
        self.holds(std::slice::from_ref(at))?;
        self.cursors.retain(|cursor| cursor.at != *at);
        self.cursors.push(Cursor::new(&self.shared.core, at, from)?);
        Ok(())
    }

    async fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.holds(of)?;
        self.cursors.retain(|cursor| !of.contains(&cursor.at));
        Ok(())
    }

    async fn committed(&mut self, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.holds(of)?;
        let mut all = Vec::with_capacity(of.len());
        for at in of {
            all.push(committed(&self.shared, &self.group, at).await?);
        }
        Ok(all)
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), LogError> {
        settings::check_commit(offsets)?;
        offsets.iter().try_for_each(|(at, _)| self.holds(std::slice::from_ref(at)))?;
        let (reply, answer) = oneshot::channel();
        let job = Job::Commit { group: self.group.clone(), offsets: offsets.to_vec(), reply };
        self.shared.send(job, answer).await
    }

    async fn released(&mut self) -> Result<(), LogError> {
        // Nothing is ever taken away here.
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}

impl Drop for SqliteSubscription {
    fn drop(&mut self) {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner).remove(&*self.group);
    }
}

/// What a group has committed for one partition.
pub(super) async fn committed(
    shared: &Shared,
    group: &str,
    at: &TopicPartition,
) -> Result<Option<Committed>, LogError> {
    shared.core.check_open()?;
    let Ok(topic) = shared.core.topic(&at.topic) else { return Ok(None) };
    let sql = |err: sqlx::Error| shared.core.error(&err);
    let row = sqlx::query("SELECT next, metadata FROM commits WHERE member_group = ? AND topic = ? AND partition = ?")
        .bind(group)
        .bind(topic.id)
        .bind(at.partition)
        .fetch_optional(&shared.pool)
        .await
        .map_err(sql)?;
    let Some(row) = row else { return Ok(None) };
    let next = Offset(row.try_get(0).map_err(sql)?);
    Ok(Some(Committed { next, metadata: row.try_get(1).map_err(sql)? }))
}
