//! Keeps the latest record of each key, then drops old tombstones. As Kafka's cleaner does it: the keys of the part
//! that wasn't cleaned yet are held in bounded memory, and everything before them that they supersede is removed.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use tokio::sync::oneshot;

use super::super::{LogError, settings};
use super::Shared;
use super::statements::Cleaned;
use super::topics::Topic;
use super::writer::Job;
use crate::clock::Clock;

/// What a compaction has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Records that a later one of their key supersedes.
    pub superseded: u64,
    /// Tombstones past their time.
    pub tombstones: u64,
}

impl AddAssign for Compacted {
    fn add_assign(&mut self, other: Self) {
        self.superseded += other.superseded;
        self.tombstones += other.tombstones;
    }
}

/// Which partitions are worth the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eagerness {
    /// All that have something to clean.
    All,
    /// Those of which a good part is new, as Kafka's `min.cleanable.dirty.ratio` says.
    WhereItPays,
}

/// Records are looked at in pages of this many, and removed in transactions of as many at most: appends pass between.
const PAGE: i64 = 1000;

/// What a remembered key takes beside its bytes, roughly.
const ENTRY_BYTES: usize = 64;

/// Compacts now and then, until the log is closed or gone.
pub(super) async fn keep_compact(shared: Weak<Shared>, clock: Arc<dyn Clock>, every: Duration) {
    loop {
        clock.sleep(every).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.core.check_open().is_err() {
            return;
        }
        match compact(&shared, clock.now(), Eagerness::WhereItPays).await {
            Ok(Compacted { superseded: 0, tombstones: 0 }) => {}
            Ok(Compacted { superseded, tombstones }) => tracing::debug!(superseded, tombstones, "log compacted"),
            Err(err) => tracing::warn!(error = %err, "log not compacted, trying again later"),
        }
    }
}

pub(super) async fn compact(shared: &Shared, now: DateTime<Utc>, eagerness: Eagerness) -> Result<Compacted, LogError> {
    shared.core.check_open()?;
    purge_deleted(shared).await?;
    let topics: Vec<Arc<Topic>> = shared.core.topics().iter().cloned().collect();
    let mut all = Compacted::default();
    for topic in topics {
        // A topic is a table: only one that says otherwise keeps every record.
        if topic.settings.get("cleanup.policy").is_some_and(|policy| !policy.contains("compact")) {
            continue;
        }
        for partition in 0..topic.partitions() {
            let pass = Pass::prepare(shared, &topic, partition, now, eagerness).await?;
            if let Some(pass) = pass {
                all += pass.run().await?;
            }
        }
    }
    Ok(all)
}

/// Removes what is left of topics that were made anew.
async fn purge_deleted(shared: &Shared) -> Result<(), LogError> {
    let sql = |err: sqlx::Error| shared.core.error(&err);
    let deleted: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM topics WHERE name IS NULL").fetch_all(&shared.pool).await.map_err(sql)?;
    for topic in deleted {
        loop {
            let (reply, answer) = oneshot::channel();
            if shared.send(Job::Purge { topic, reply }, answer).await? {
                break;
            }
        }
    }
    Ok(())
}

/// One partition's cleaning.
struct Pass<'a> {
    shared: &'a Shared,
    topic: i64,
    partition: u32,
    /// The last record always stays, so that the partition's end can be told.
    last: i64,
    /// Records written later than this (ms) are left alone.
    not_after: i64,
    /// Tombstones written before or at this (ms) go.
    tombstones_until: i64,
    done: Cleaned,
}

/// The part of a record that compaction looks at.
struct Glance {
    offset: i64,
    at: i64,
    key: Vec<u8>,
    tombstone: bool,
}

impl<'a> Pass<'a> {
    /// `None`: there is nothing to do, or too little.
    async fn prepare(
        shared: &'a Shared,
        topic: &Topic,
        partition: u32,
        now: DateTime<Utc>,
        eagerness: Eagerness,
    ) -> Result<Option<Self>, LogError> {
        let end = topic.end(partition).unwrap_or_default().0;
        let now = now.timestamp_millis();
        let lag: i64 = settings::number(&topic.settings, "min.compaction.lag.ms", 0);
        let retention: i64 = settings::number(&topic.settings, "delete.retention.ms", DAY_MS);
        let ratio: f64 = settings::number(&topic.settings, "min.cleanable.dirty.ratio", 0.5);
        let done = cleaned(shared, topic.id, partition).await?;
        let dirty = end - done.upto;
        // In the background old tombstones wait a little longer, so that they go in bulk.
        let patience = if eagerness == Eagerness::All { 0 } else { retention / 24 };
        let due = done.tombstone.is_some_and(|at| at.saturating_add(retention).saturating_add(patience) <= now);
        let pays = match eagerness {
            Eagerness::All => dirty > 0,
            Eagerness::WhereItPays => dirty > 0 && dirty as f64 >= ratio * (dirty + done.kept) as f64,
        };
        let pass = Self {
            shared,
            topic: topic.id,
            partition,
            last: end - 1,
            not_after: now.saturating_sub(lag),
            tombstones_until: now.saturating_sub(retention),
            done,
        };
        Ok((end > 0 && (due || pays)).then_some(pass))
    }

    /// Cleans up to the first record that is too young, in as many rounds as the memory for keys demands.
    async fn run(mut self) -> Result<Compacted, LogError> {
        let mut all = Compacted::default();
        loop {
            let (latest, upto, more) = self.latest_keys().await?;
            all += self.remove_up_to(upto, &latest).await?;
            let (reply, answer) = oneshot::channel();
            let job = Job::Cleaned { topic: self.topic, partition: self.partition, done: self.done, reply };
            self.shared.send(job, answer).await?;
            if !more {
                return Ok(all);
            }
        }
    }

    /// The latest offset of each key from where cleaning left off; where that ends, and whether for lack of memory.
    async fn latest_keys(&self) -> Result<(HashMap<Vec<u8>, i64>, i64, bool), LogError> {
        let mut latest = HashMap::new();
        let mut bytes = 0;
        let mut upto = self.done.upto;
        loop {
            let page = self.page(upto, self.last + 1).await?;
            let full_page = page.len() as i64 == PAGE;
            for Glance { offset, at, key, .. } in page {
                if at > self.not_after {
                    return Ok((latest, upto, false));
                }
                let size = key.len() + ENTRY_BYTES;
                if latest.insert(key, offset).is_none() {
                    bytes += size;
                }
                upto = offset + 1;
                if bytes >= self.shared.core.options.compaction_bytes {
                    return Ok((latest, upto, upto <= self.last));
                }
            }
            if !full_page {
                return Ok((latest, self.last + 1, false));
            }
        }
    }

    /// Removes what `latest` supersedes before `upto`, and tombstones past their time, oldest first: a tombstone
    /// never goes before what it deletes.
    async fn remove_up_to(&mut self, upto: i64, latest: &HashMap<Vec<u8>, i64>) -> Result<Compacted, LogError> {
        let mut all = Compacted::default();
        let mut left = Cleaned { upto, kept: 0, tombstone: None };
        let mut from = 0;
        loop {
            let page = self.page(from, upto).await?;
            let Some(last) = page.last() else { break };
            from = last.offset + 1;
            let mut doomed = Vec::new();
            for Glance { offset, at, key, tombstone } in page {
                if offset == self.last {
                    // Counted as left; a later record of the partition lets it go.
                } else if latest.get(&key).is_some_and(|newest| *newest > offset) {
                    doomed.push(offset);
                    all.superseded += 1;
                    continue;
                } else if tombstone && at <= self.tombstones_until {
                    doomed.push(offset);
                    all.tombstones += 1;
                    continue;
                }
                left.kept += 1;
                if tombstone {
                    left.tombstone = Some(left.tombstone.map_or(at, |oldest| oldest.min(at)));
                }
            }
            if !doomed.is_empty() {
                let (reply, answer) = oneshot::channel();
                let job = Job::Remove { topic: self.topic, partition: self.partition, offsets: doomed, reply };
                self.shared.send(job, answer).await?;
            }
        }
        self.done = left;
        Ok(all)
    }

    async fn page(&self, from: i64, upto: i64) -> Result<Vec<Glance>, LogError> {
        let sql = |err: sqlx::Error| self.shared.core.error(&err);
        let rows = sqlx::query(
            "SELECT offset, at, key, value IS NULL FROM records
             WHERE topic = ?1 AND partition = ?2 AND offset >= ?3 AND offset < ?4 ORDER BY offset LIMIT ?5",
        )
        .bind(self.topic)
        .bind(self.partition)
        .bind(from)
        .bind(upto)
        .bind(PAGE)
        .fetch_all(&self.shared.pool)
        .await
        .map_err(sql)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            page.push(Glance {
                offset: row.try_get(0).map_err(sql)?,
                at: row.try_get(1).map_err(sql)?,
                key: row.try_get(2).map_err(sql)?,
                tombstone: row.try_get(3).map_err(sql)?,
            });
        }
        Ok(page)
    }
}

/// Kafka's default for `delete.retention.ms`.
const DAY_MS: i64 = 86_400_000;

async fn cleaned(shared: &Shared, topic: i64, partition: u32) -> Result<Cleaned, LogError> {
    let sql = |err: sqlx::Error| shared.core.error(&err);
    let row = sqlx::query("SELECT upto, kept, tombstone FROM cleaned WHERE topic = ? AND partition = ?")
        .bind(topic)
        .bind(partition)
        .fetch_optional(&shared.pool)
        .await
        .map_err(sql)?;
    let Some(row) = row else { return Ok(Cleaned::default()) };
    Ok(Cleaned {
        upto: row.try_get(0).map_err(sql)?,
        kept: row.try_get(1).map_err(sql)?,
        tombstone: row.try_get(2).map_err(sql)?,
    })
}
