//! Cursors over partitions, and the reader outside any group. Nothing is fetched ahead: a chunk is made when asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::{Chunk, LogError, Offset, Reader, TopicPartition};
use super::faults::Delivery;
use super::state::State;
use super::{MemoryOptions, Shared};
use crate::bell::Listener;

/// A place in a partition from which records are handed out.
pub(super) struct Cursor {
    pub at: TopicPartition,
    next: Offset,
    life: usize,
    told_end: Option<Offset>,
    /// The delivery hook has been asked about the record at this offset.
    asked: Option<Offset>,
    not_before: Option<Instant>,
}

impl Cursor {
    pub fn new(state: &State, at: &TopicPartition, from: Offset) -> Result<Self, LogError> {
        let partition = state.partition(at)?;
        let life = partition.life();
        if !partition.reaches(life, from) {
            return Err(LogError::OutOfRange { at: at.clone(), offset: from, ends: partition.ends() });
        }
        Ok(Self { at: at.clone(), next: from, life, told_end: None, asked: None, not_before: None })
    }
}

/// Waits until something happened in the log, or until `wake`.
pub(super) async fn wait(news: &mut Listener, wake: Option<Instant>) {
    let happened = news.rung();
    match wake {
        None => happened.await,
        Some(wake) => drop(tokio::time::timeout_at(wake, happened).await),
    }
}

/// Takes what the cursors have, within the bounds of a chunk, and says when a held-back record is due.
pub(super) fn fetch(shared: &Shared, cursors: &mut [Cursor]) -> Result<(Chunk, Option<Instant>), LogError> {
    let delivery = shared.hooks().delivery.clone();
    let MemoryOptions { chunk_records, chunk_bytes, .. } = shared.options;
    let state = shared.state();
    let now = Instant::now();
    let mut chunk = Chunk::default();
    let mut bytes = 0;
    let mut wake: Option<Instant> = None;

    'cursors: for cursor in cursors.iter_mut() {
        let partition = state.partition(&cursor.at)?;
        if !partition.reaches(cursor.life, cursor.next) {
            // What this call has taken from other cursors is handed out first.
            if chunk.records.is_empty() && chunk.at_end.is_empty() {
                let ends = partition.ends();
                return Err(LogError::OutOfRange { at: cursor.at.clone(), offset: cursor.next, ends });
            }
            continue;
        }
        cursor.life = partition.life();
        while let Some(record) = partition.first_from(&cursor.at, cursor.next) {
            let full = chunk.records.len() >= chunk_records || bytes + record.size() > chunk_bytes;
            if full && !chunk.records.is_empty() {
                break 'cursors;
            }
            let mut twice = false;
            if cursor.asked != Some(record.offset) {
                cursor.asked = Some(record.offset);
                match delivery.as_ref().map_or(Delivery::Now, |hook| hook(&record)) {
                    Delivery::Now => {}
                    Delivery::After(time) => cursor.not_before = Some(now + time),
                    Delivery::Twice => twice = true,
                }
            }
            if let Some(due) = cursor.not_before.filter(|due| *due > now) {
                wake = Some(wake.map_or(due, |earliest| earliest.min(due)));
                continue 'cursors;
            }
            cursor.not_before = None;
            cursor.next = if twice { record.offset } else { record.offset.next() };
            bytes += record.size();
            chunk.records.push(record);
            if twice {
                continue 'cursors;
            }
        }
        let end = partition.ends().end;
        cursor.next = end;
        if cursor.told_end != Some(end) {
            cursor.told_end = Some(end);
            chunk.at_end.push((cursor.at.clone(), end));
        }
    }
    drop(state);
    shared.fetched.fetch_add(chunk.records.len() as u64, Ordering::Relaxed);
    // The next chunk begins with another partition, so that a busy one doesn't starve the rest.
    if let Some(last) = chunk.records.last() {
        let last = cursors.iter().position(|cursor| cursor.at == last.at).map_or(0, |index| index + 1);
        cursors.rotate_left(last % cursors.len());
    }
    Ok((chunk, wake))
}

pub(super) struct MemoryReader {
    shared: Arc<Shared>,
    news: Listener,
    cursors: Vec<Cursor>,
}

impl MemoryReader {
    pub fn new(shared: Arc<Shared>, cursors: Vec<Cursor>) -> Self {
        let news = shared.news.listener();
        Self { shared, news, cursors }
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Chunk, LogError> {
        loop {
            // Seen first, looked afterwards: what happens in between wakes us.
            self.news.catch_up();
            let (chunk, wake) = fetch(&self.shared, &mut self.cursors)?;
            if !chunk.records.is_empty() || !chunk.at_end.is_empty() {
                return Ok(chunk);
            }
            wait(&mut self.news, wake).await;
        }
    }
}
