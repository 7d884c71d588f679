//! The only one who writes: gathers what waits into one transaction, so that one sync to the disk serves many callers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::super::{Append, Committed, LogError, NewTopic, Offset, TopicPartition};
use super::statements::{Cleaned, NewRow, cleaned, commit, create, insert, purge, recreate, remove};
use super::topics::{Topic, Topics, unknown};
use super::{Core, schema};

/// A transaction takes no further call past this many bytes.
const BATCH_BYTES: usize = 8 << 20;

type Reply<T> = oneshot::Sender<Result<T, LogError>>;

/// What the writer can be asked for.
pub(super) enum Job {
    Append {
        records: Vec<Append>,
        bytes: usize,
        _room: OwnedSemaphorePermit,
        reply: Reply<Vec<Offset>>,
    },
    Commit {
        group: Arc<str>,
        offsets: Vec<(TopicPartition, Committed)>,
        reply: Reply<()>,
    },
    Create {
        topics: Vec<NewTopic>,
        reply: Reply<()>,
    },
    Recreate {
        topic: String,
        partitions: u32,
        reply: Reply<()>,
    },
    /// Removes records from a partition, for compaction.
    Remove {
        topic: i64,
        partition: u32,
        offsets: Vec<i64>,
        reply: Reply<()>,
    },
    /// Remembers what compaction has done.
    Cleaned {
        topic: i64,
        partition: u32,
        done: Cleaned,
        reply: Reply<()>,
    },
    /// Removes some of what is left of a deleted topic. `true`: nothing is left.
    Purge {
        topic: i64,
        reply: Reply<bool>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// What became of a [`Job`].
enum Outcome {
    Appended(Vec<Offset>),
    Done,
    Purged(bool),
    Failed(LogError),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            _ => 0,
        }
    }

    /// Changes what topics there are: nothing else may be in its transaction.
    fn alone(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Recreate { .. } | Self::Close { .. })
    }

    /// Tells the caller, who may have gone away meanwhile.
    fn answer(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Append { reply, .. }, Outcome::Appended(offsets)) => drop(reply.send(Ok(offsets))),
            (Self::Append { reply, .. }, Outcome::Failed(err)) => drop(reply.send(Err(err))),
            (Self::Purge { reply, .. }, Outcome::Purged(empty)) => drop(reply.send(Ok(empty))),
            (Self::Purge { reply, .. }, Outcome::Failed(err)) => drop(reply.send(Err(err))),
            (
                Self::Commit { reply, .. }
                | Self::Create { reply, .. }
                | Self::Recreate { reply, .. }
                | Self::Remove { reply, .. }
                | Self::Cleaned { reply, .. },
                outcome,
            ) => {
                let answer = if let Outcome::Failed(err) = outcome { Err(err) } else { Ok(()) };
                drop(reply.send(answer));
            }
            // Dropping the reply answers; other pairs don't occur.
            (Self::Append { .. } | Self::Purge { .. } | Self::Close { .. }, _) => {}
        }
    }
}

pub(super) struct Writer {
    core: Arc<Core>,
    /// `None` after a failed transaction: the next one begins with a new connection.
    connection: Option<SqliteConnection>,
}

impl Writer {
    pub fn new(core: Arc<Core>, connection: SqliteConnection) -> Self {
        Self { core, connection: Some(connection) }
    }

    /// Works until asked to close, or until nobody can ask any more.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut held_back = None;
        let closing = loop {
            let first = match held_back.take() {
                Some(job) => job,
                None => match inbox.recv().await {
                    Some(job) => job,
                    None => break None,
                },
            };
            if let Job::Close { reply } = first {
                break Some(reply);
            }
            let mut bytes = first.bytes();
            let gathers = !first.alone();
            let mut batch = vec![first];
            while gathers
                && bytes < BATCH_BYTES
                && let Ok(next) = inbox.try_recv()
            {
                if next.alone() {
                    held_back = Some(next);
                    break;
                }
                bytes += next.bytes();
                batch.push(next);
            }
            self.write(batch).await;
        };
        // Refuses what is still queued: its senders see the channel close.
        drop(inbox);
        if let Some(connection) = self.connection.take()
            && let Err(err) = connection.close().await
        {
            tracing::warn!(error = %err, "embedded log not closed cleanly, it will be recovered when opened");
        }
        *self.core.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Whoever waits for this knows now that the file is free.
        drop(closing);
    }

    /// Writes a batch in one transaction and answers everybody in it.
    async fn write(&mut self, batch: Vec<Job>) {
        match self.transact(&batch).await {
            Ok(outcomes) => {
                self.core.tell();
                batch.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(outcome));
            }
            Err(err) => {
                // What the connection is worth now is unknown: closing it rolls back.
                self.connection = None;
                batch.into_iter().for_each(|job| job.answer(Outcome::Failed(same(&err))));
            }
        }
    }

    async fn transact(&mut self, batch: &[Job]) -> Result<Vec<Outcome>, LogError> {
        let core = self.core.clone();
        let sql = |err: sqlx::Error| core.error(&err);
        if self.connection.is_none() {
            let mut fresh = schema::connect_writer(&core.path, &core.options).await?;
            // A commit that failed may have reached the disk all the same.
            let topics = Topics::load(&mut fresh).await.map_err(sql)?;
            *core.topics() = topics;
            self.connection = Some(fresh);
        }
        let Some(connection) = &mut self.connection else { return Err(super::error::closed()) };

        let topics: BTreeMap<Arc<str>, Arc<Topic>> =
            core.topics().iter().map(|topic| (topic.name.clone(), topic.clone())).collect();
        let mut ends: BTreeMap<(&str, u32), Offset> = BTreeMap::new();
        let mut rows: Vec<NewRow> = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut made = Vec::new();

        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(sql)?;
        for job in batch {
            outcomes.push(match job {
                Job::Append { records, .. } => place(&topics, records, &mut ends, &mut rows),
                Job::Commit { group, offsets, .. } => {
                    let gone = offsets.iter().find(|(at, _)| !topics.contains_key(&at.topic));
                    if let Some((at, _)) = gone {
                        outcomes.push(Outcome::Failed(unknown(at, false)));
                        continue;
                    }
                    for (at, committed) in offsets {
                        let topic = topics[&at.topic].id;
                        commit(&mut transaction, group, topic, at.partition, committed).await.map_err(sql)?;
                    }
                    Outcome::Done
                }
                Job::Create { topics: new, .. } => {
                    for topic in new {
                        made.extend(create(&mut transaction, topic).await.map_err(sql)?);
                    }
                    Outcome::Done
                }
                Job::Recreate { topic, partitions, .. } => match topics.get(topic.as_str()) {
                    Some(old) => {
                        made.extend(recreate(&mut transaction, old, *partitions).await.map_err(sql)?);
                        Outcome::Done
                    }
                    None => Outcome::Failed(LogError::UnknownTopic { topic: topic.clone() }),
                },
                Job::Remove { topic, partition, offsets, .. } => {
                    remove(&mut transaction, *topic, *partition, offsets).await.map_err(sql)?;
                    Outcome::Done
                }
                Job::Cleaned { topic, partition, done, .. } => {
                    cleaned(&mut transaction, *topic, *partition, done).await.map_err(sql)?;
                    Outcome::Done
                }
                Job::Purge { topic, .. } => Outcome::Purged(purge(&mut transaction, *topic).await.map_err(sql)?),
                Job::Close { .. } => Outcome::Done,
            });
        }
        insert(&mut transaction, rows, core.options.clock.now()).await.map_err(sql)?;
        transaction.commit().await.map_err(sql)?;

        for ((topic, partition), end) in ends {
            topics[topic].set_end(partition, end);
        }
        let mut known = core.topics();
        made.into_iter().for_each(|topic| known.insert(topic));
        Ok(outcomes)
    }
}

/// Gives the records of a call their offsets; all or none of them.
fn place<'a>(
    topics: &'a BTreeMap<Arc<str>, Arc<Topic>>,
    records: &'a [Append],
    ends: &mut BTreeMap<(&'a str, u32), Offset>,
    rows: &mut Vec<NewRow<'a>>,
) -> Outcome {
    for Append { at, .. } in records {
        // Checked when the call came in, but a topic may have been made anew since.
        let topic = topics.get(&at.topic);
        if topic.is_none_or(|topic| at.partition >= topic.partitions()) {
            return Outcome::Failed(unknown(at, topic.is_some()));
        }
    }
    let mut offsets = Vec::with_capacity(records.len());
    for record in records {
        let topic = topics[&record.at.topic].as_ref();
        let partition = record.at.partition;
        let end = ends.entry((&record.at.topic, partition)).or_insert_with(|| topic.end(partition).unwrap_or_default());
        rows.push(NewRow { topic, offset: *end, record });
        offsets.push(*end);
        *end = end.next();
    }
    Outcome::Appended(offsets)
}

/// The error once more, for the next caller of the same batch.
fn same(err: &LogError) -> LogError {
    match err {
        LogError::Refused { reason, hint } => LogError::Refused { reason: reason.clone(), hint: hint.clone() },
        LogError::Unavailable { reason } => LogError::Unavailable { reason: reason.clone() },
        other => LogError::Unavailable { reason: other.to_string() },
    }
}
