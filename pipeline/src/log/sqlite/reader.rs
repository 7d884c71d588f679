//! Cursors over partitions, and the reader outside any group. Nothing is fetched ahead: a chunk is read when asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use chrono::DateTime;
use futures::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tokio::sync::watch;

use super::super::{Chunk, LogError, Offset, Reader, Record, TopicPartition};
use super::error::damaged;
use super::topics::{Topic, ends, unknown};
use super::{Core, Shared, headers};

/// A place in a partition from which records are handed out.
pub(super) struct Cursor {
    pub at: TopicPartition,
    /// Tells whether the topic is still the one this began with.
    topic: i64,
    next: Offset,
    told_end: Option<Offset>,
}

impl Cursor {
    pub fn new(core: &Core, at: &TopicPartition, from: Offset) -> Result<Self, LogError> {
        core.check_open()?;
        let topic = core.topic(&at.topic)?;
        let cursor = Self { at: at.clone(), topic: topic.id, next: from, told_end: None };
        cursor.end(&topic)?;
        Ok(cursor)
    }

    /// The present end, when this place is still in the partition.
    fn end(&self, topic: &Topic) -> Result<Offset, LogError> {
        let end = topic.end(self.at.partition).ok_or_else(|| unknown(&self.at, true))?;
        let same = topic.id == self.topic || self.next == Offset::START;
        if same && Offset::START <= self.next && self.next <= end {
            return Ok(end);
        }
        Err(LogError::OutOfRange { at: self.at.clone(), offset: self.next, ends: ends(end) })
    }
}

/// What a fetch has found out about a cursor; taken over when all of it has succeeded, so that a fetch can be dropped.
struct Step {
    cursor: usize,
    topic: i64,
    next: Offset,
    at_end: bool,
}

/// Reads what the cursors have, within the bounds of a chunk.
pub(super) async fn fetch(shared: &Shared, cursors: &mut [Cursor]) -> Result<Chunk, LogError> {
    let core = &shared.core;
    core.check_open()?;
    let (max_records, max_bytes) = (core.options.chunk_records, core.options.chunk_bytes);
    let mut chunk = Chunk::default();
    let mut bytes = 0;
    let mut steps = Vec::new();

    for (index, cursor) in cursors.iter().enumerate() {
        if chunk.records.len() >= max_records || bytes >= max_bytes {
            break;
        }
        let topic = core.topic(&cursor.at.topic)?;
        let end = match cursor.end(&topic) {
            Ok(end) => end,
            // What this call has taken from other cursors is handed out first.
            Err(_) if !steps.is_empty() => continue,
            Err(err) => return Err(err),
        };
        let mut step = Step { cursor: index, topic: topic.id, next: cursor.next, at_end: false };
        if cursor.next < end {
            let room = max_records - chunk.records.len();
            let before = chunk.records.len();
            let full = read(shared, &topic, cursor, end, room, max_bytes, &mut bytes, &mut chunk.records).await?;
            if core.topic(&cursor.at.topic)?.id != topic.id {
                // Made anew while we read: what came may have had holes.
                chunk.records.truncate(before);
                continue;
            }
            let last = chunk.records[before..].last();
            step.next = if full { last.map_or(cursor.next, |record| record.offset.next()) } else { end };
        }
        if step.next == end && cursor.told_end != Some(end) {
            step.at_end = true;
            chunk.at_end.push((cursor.at.clone(), end));
        }
        if step.at_end || step.next != cursor.next {
            steps.push(step);
        }
    }

    shared.fetched.fetch_add(chunk.records.len() as u64, Ordering::Relaxed);
    let last_read = steps.iter().rev().find(|step| !step.at_end).map(|step| step.cursor + 1);
    for step in steps {
        let cursor = &mut cursors[step.cursor];
        cursor.topic = step.topic;
        cursor.next = step.next;
        if step.at_end {
            cursor.told_end = Some(step.next);
        }
    }
    // The next chunk begins with another partition, so that a busy one doesn't starve the rest.
    if let Some(last_read) = last_read {
        cursors.rotate_left(last_read % cursors.len());
    }
    Ok(chunk)
}

/// Reads from one partition. `true`: a bound was reached before the end.
#[expect(clippy::too_many_arguments, reason = "one inner loop, drawn out of `fetch` for its reader")]
async fn read(
    shared: &Shared,
    topic: &Topic,
    cursor: &Cursor,
    end: Offset,
    room: usize,
    max_bytes: usize,
    bytes: &mut usize,
    records: &mut Vec<Record>,
) -> Result<bool, LogError> {
    let mut rows = sqlx::query(
        "SELECT offset, at, key, headers, value FROM records
         WHERE topic = ?1 AND partition = ?2 AND offset >= ?3 AND offset < ?4 ORDER BY offset LIMIT ?5",
    )
    .bind(topic.id)
    .bind(cursor.at.partition)
    .bind(cursor.next.0)
    .bind(end.0)
    .bind(i64::try_from(room).unwrap_or(i64::MAX))
    .fetch(&shared.pool);
    let mut taken = 0;
    while let Some(row) = rows.try_next().await.map_err(|err| shared.core.error(&err))? {
        let record = record(&shared.core, &cursor.at, &row)?;
        if !records.is_empty() && *bytes + record.size() > max_bytes {
            *bytes = max_bytes;
            return Ok(true);
        }
        *bytes += record.size();
        records.push(record);
        taken += 1;
    }
    Ok(taken >= room)
}

fn record(core: &Core, at: &TopicPartition, row: &SqliteRow) -> Result<Record, LogError> {
    let sql = |err: sqlx::Error| core.error(&err);
    let offset = Offset(row.try_get(0).map_err(sql)?);
    let timestamp: i64 = row.try_get(1).map_err(sql)?;
    let key: Vec<u8> = row.try_get(2).map_err(sql)?;
    let blob: Option<Vec<u8>> = row.try_get(3).map_err(sql)?;
    let value: Option<Vec<u8>> = row.try_get(4).map_err(sql)?;
    let headers =
        headers::decode(blob).ok_or_else(|| damaged(&core.path, &format!("headers of {at}, offset {offset}")))?;
    Ok(Record {
        at: at.clone(),
        offset,
        timestamp: DateTime::from_timestamp_millis(timestamp).unwrap_or_default(),
        key: Some(key.into()),
        value: value.map(Into::into),
        headers,
    })
}

pub(super) struct SqliteReader {
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    cursors: Vec<Cursor>,
}

impl SqliteReader {
    pub fn new(shared: Arc<Shared>, cursors: Vec<Cursor>) -> Self {
        let news = shared.core.news.subscribe();
        Self { shared, news, cursors }
    }
}

#[async_trait]
impl Reader for SqliteReader {
    async fn next(&mut self) -> Result<Chunk, LogError> {
        loop {
            // Seen first, looked afterwards: what happens in between wakes us.
            self.news.borrow_and_update();
            let chunk = fetch(&self.shared, &mut self.cursors).await?;
            if !chunk.records.is_empty() || !chunk.at_end.is_empty() {
                return Ok(chunk);
            }
            // The sender lives in what we share: this ends only with news.
            drop(self.news.changed().await);
        }
    }
}
