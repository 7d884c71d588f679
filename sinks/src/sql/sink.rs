//! The trait's methods: batches in, transactions out.

use std::collections::{BTreeMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pipeline::ledger::Counts;
use pipeline::log::TopicPartition;
use pipeline::sink::{Applied, Assigned, Batch, Held, Rejected, Resume, Sink, SinkError, Unparked};
use pipeline::verify::Inspect;
use schemas::Key;

use super::SqlSink;
use super::decode::{Arrival, unusable_key};
use super::failure::Failure;
use super::isolate::{Care, outdate};
use super::offsets::{self, Claim};
use super::parked;
use super::transaction::{Mine, OffsetRow, Pending, Transaction, Which};
use super::write::{self, Fate, Fates};

/// Bounds what one look at the target's keys takes in memory.
const HELD_AT_ONCE: u32 = 10_000;

/// Versions of deleted rows that are old enough are dropped this often: once an hour at one retry a second.
const RETRIES_PER_PURGE: u64 = 3_600;

/// Rows that wait for others' rows to go are tried this often, once a minute: nobody says when one goes, they can be many,
/// and no batch of ours changes anything for them.
const RETRIES_PER_LOOK: u64 = 60;

/// After a batch with a bad row, so many are written with care from the beginning.
const WARY_BATCHES: u32 = 16;

#[async_trait]
impl Sink for SqlSink {
    async fn assigned(&self, partitions: &[Assigned]) -> Result<Resume, SinkError> {
        self.prepare().await?;
        let mut stored = BTreeMap::new();
        let mut tx = self.begin().await?;
        // In one order everywhere, so that two owners don't each wait for the other.
        let sorted: BTreeMap<TopicPartition, &Assigned> = partitions.iter().map(|of| (of.at(), of)).collect();
        for (at, assigned) in sorted {
            let row = tx.take_over(&at, assigned.epoch.0).await.map_err(|failure| self.stop(failure))?;
            if row.epoch > assigned.epoch.0 {
                return Err(SinkError::Fenced { at });
            }
            stored.insert(at, row.stored());
        }
        tx.commit().await.map_err(|failure| self.stop(failure))?;
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.extend(partitions.iter().map(|assigned| (assigned.at(), assigned.epoch)));
        Ok(Resume::Own(stored))
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, SinkError> {
        self.prepare().await?;
        let mut care = self.care();
        loop {
            match self.write(batch, care).await {
                Ok(done) if done.rejected.is_empty() => {
                    if care == Care::Careful && done.counts.parked > 0 {
                        self.wary.store(WARY_BATCHES, Ordering::Relaxed);
                    }
                    self.settled.fetch_add(done.settled, Ordering::Relaxed);
                    return Ok(Applied { counts: done.counts });
                }
                // All bad rows are known only when each statement was searched.
                Ok(done) if care == Care::Careful => return Err(SinkError::Rejected(done.rejected)),
                Ok(_) => care = Care::Careful,
                Err(Failure::Data(_)) if care == Care::Brisk => {
                    care = Care::Careful;
                    self.wary.store(WARY_BATCHES, Ordering::Relaxed);
                }
                Err(failure) => return Err(self.stop(failure)),
            }
        }
    }

    async fn retry_parked(&self) -> Result<Unparked, SinkError> {
        self.prepare().await?;
        let mine = self.mine();
        let mut tx = self.begin().await?;
        let retried = self.retry_in(&mut *tx, &mine).await.map_err(|failure| self.stop(failure))?;
        tx.commit().await.map_err(|failure| self.stop(failure))?;
        let settled = retried.settled + self.settled.swap(0, Ordering::Relaxed);
        Ok(Unparked { settled, ..retried })
    }

    async fn forget_parked(&self, rows: &[Rejected]) -> Result<(), SinkError> {
        self.prepare().await?;
        let mut tx = self.begin().await?;
        for row in rows {
            let gone = [(row.key.as_str(), row.version.0)];
            tx.unpark(&row.at.topic, &gone).await.map_err(|failure| self.stop(failure))?;
        }
        tx.commit().await.map_err(|failure| self.stop(failure))
    }

    /// Parked rows count as held, with the version that waits.
    async fn held(&self, of: &Assigned, after: Option<&Key>, limit: usize) -> Result<Option<Vec<Held>>, SinkError> {
        self.prepare().await?;
        let Some(place) = self.tables.of_topic(&of.topic.name) else { return Ok(None) };
        let table = &self.tables.0[place];
        // Other partitions' keys lie between: read as many as fill a page when they are spread evenly.
        let chunk = u32::try_from(limit.saturating_mul(table.subject.partitions as usize)).unwrap_or(u32::MAX);
        let chunk = chunk.clamp(1, HELD_AT_ONCE);
        let mut held: Vec<Held> = Vec::new();
        let mut last = after.map(|key| key.as_str().to_owned());
        let mut tx = self.begin().await?;
        loop {
            let rows = tx.held(table, last.as_deref(), chunk).await.map_err(|failure| self.stop(failure))?;
            let at_end = rows.len() < chunk as usize;
            for row in rows {
                // The parked change of a key comes before its row.
                let seen = last.as_deref() == Some(row.key.as_str());
                last = Some(row.key.as_str().to_owned());
                if !seen && table.partition_of(&row.key) == of.partition {
                    held.push(row);
                }
            }
            if at_end || held.len() >= limit {
                break;
            }
        }
        held.truncate(limit);
        tx.rollback().await.map_err(|failure| self.stop(failure))?;
        Ok(Some(held))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    async fn outdate(&self, of: &Assigned, keys: &[Key]) -> Result<(), SinkError> {
        self.prepare().await?;
        let Some(place) = self.tables.of_topic(&of.topic.name) else { return Ok(()) };
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let mut tx = self.begin().await?;
        mine(&mut *tx, of).await.map_err(|failure| self.stop(failure))?;
        outdate(&mut *tx, &self.tables.0[place], &keys).await.map_err(|failure| self.stop(failure))?;
        tx.commit().await.map_err(|failure| self.stop(failure))
    }

    async fn swept(&self, of: &Assigned) -> Result<(), SinkError> {
        self.prepare().await?;
        let mut tx = self.begin().await?;
        swept(&mut *tx, of).await.map_err(|failure| self.stop(failure))?;
        tx.commit().await.map_err(|failure| self.stop(failure))
    }

    /// Drops nothing durable: the offsets stay for the next owner.
    async fn revoked(&self, partitions: &[TopicPartition]) -> Result<(), SinkError> {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.retain(|at, _| !partitions.contains(at));
        Ok(())
    }
}

/// What a batch came to.
struct Done {
    counts: Counts,
    rejected: Vec<Rejected>,
    /// Rows that had been waiting and are settled now.
    settled: u64,
}

impl SqlSink {
    /// Where rows contradict each other, as a rule many do: a batch that fails and is written again costs twice.
    fn care(&self) -> Care {
        let less = |batches: u32| batches.checked_sub(1);
        match self.wary.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Care::Careful,
            Err(_) => Care::Brisk,
        }
    }

    /// Works the rows of a batch out, throws them away, and answers how many values they had: for measuring.
    pub fn cells(&self, batch: &Batch) -> usize {
        let mut cells = 0;
        for part in &batch.parts {
            let Some(place) = self.tables.of_topic(&part.of.topic.name) else { continue };
            for (tag, delivery) in part.deliveries.iter().enumerate() {
                let arrival = Arrival { tag, place, partition: part.of.partition, delivery, forced: part.sweeping };
                let item = self.decoder.item(&self.tables, &arrival, &*self.database);
                cells += item.ok().and_then(|item| item.cells).map_or(0, |cells| cells.len());
            }
        }
        cells
    }

    /// One attempt at a batch.
    async fn write(&self, batch: &Batch, care: Care) -> Result<Done, Failure> {
        let mut tx = self.database.begin().await?;
        match self.write_in(&mut *tx, batch, care).await {
            Ok(done) if done.rejected.is_empty() => {
                tx.commit().await?;
                Ok(done)
            }
            Ok(done) => {
                tx.rollback().await?;
                Ok(done)
            }
            // Dropping the transaction rolls it back, if the connection still lives.
            Err(failure) => Err(failure),
        }
    }

    async fn write_in(&self, tx: &mut dyn Transaction, batch: &Batch, care: Care) -> Result<Done, Failure> {
        let mut fates = Fates::new();
        let mut arrivals = Vec::with_capacity(batch.len());
        let claims = offsets::claim_all(tx, &batch.parts).await?;
        let mut first = 0;
        for (part, claim) in batch.parts.iter().zip(claims) {
            let tags = first..first + part.deliveries.len();
            first = tags.end;
            if claim == Claim::Written {
                fates.extend(tags.map(|tag| (tag, Fate::Unchanged)));
                continue;
            }
            let topic = &part.of.topic.name;
            let unmapped = || self.errors.refused(format!("no table for topic {topic}"), "map the topic to a table");
            let place = self.tables.of_topic(topic).ok_or_else(unmapped)?;
            for (tag, delivery) in tags.zip(&part.deliveries) {
                match unusable_key(&delivery.key, &*self.database) {
                    Some(reason) => drop(fates.insert(tag, Fate::Rejected(reason))),
                    None => {
                        let partition = part.of.partition;
                        arrivals.push(Arrival { tag, place, partition, delivery, forced: part.sweeping });
                    }
                }
            }
        }
        let which = Which { tries: parked::TRIES_WITH_BATCHES, held: false };
        let waiting =
            parked::load(tx, &self.decoder, &self.tables, &self.mine(), which, first, &*self.database).await?;
        let mut again = waiting.items.clone();
        if !again.is_empty() {
            let arrived: HashSet<(usize, &Key)> = arrivals.iter().map(|of| (of.place, &of.delivery.key)).collect();
            again.retain(|item| !arrived.contains(&(item.table, &item.key)));
        }
        // What is there already, or has been overtaken, needn't even be decoded.
        let new = write::judge(tx, &self.tables, arrivals, false, &mut fates).await?;
        let mut pending = Vec::with_capacity(new.len());
        for (arrival, state) in new {
            match self.decoder.item(&self.tables, &arrival, &*self.database) {
                Ok(item) => pending.push(Pending::of(item, state)),
                Err(reason) => drop(fates.insert(arrival.tag, Fate::Rejected(reason))),
            }
        }
        write::write(tx, &self.tables, pending, again, care, &mut fates).await?;
        let settled = parked::keep(tx, &waiting, &fates).await?;
        parked::park(tx, &self.tables, batch, &fates).await?;
        Ok(account(batch, &fates, settled))
    }

    async fn retry_in(&self, tx: &mut dyn Transaction, mine: &[Mine]) -> Result<Unparked, Failure> {
        let retries = self.retries.fetch_add(1, Ordering::Relaxed);
        if retries.is_multiple_of(RETRIES_PER_PURGE) {
            tx.purge_deleted(millis(self.keep_deleted)).await?;
        }
        let which = Which { tries: i64::MAX, held: retries.is_multiple_of(RETRIES_PER_LOOK) };
        let waiting = parked::load(tx, &self.decoder, &self.tables, mine, which, 0, &*self.database).await?;
        let mut fates = Fates::new();
        write::write(tx, &self.tables, Vec::new(), waiting.items.clone(), Care::Careful, &mut fates).await?;
        let settled = parked::keep(tx, &waiting, &fates).await?;
        let tried = waiting.items.len() as u64;
        let expired = tx.expired(mine, millis(self.park_limit), parked::AT_ONCE).await?;
        let expired = expired.into_iter().map(|row| self.decoder.letter(row)).collect();
        let (all, held_by_others) = tx.waiting(mine).await?;
        let waiting = all.saturating_sub(held_by_others);
        Ok(Unparked { tried, settled, waiting, held_by_others, expired })
    }
}

/// What is kept of a partition that is still ours.
async fn mine(tx: &mut dyn Transaction, of: &Assigned) -> Result<OffsetRow, Failure> {
    let row = tx.offset(&of.at()).await?.filter(|row| row.epoch == of.epoch.0);
    row.ok_or_else(|| Failure::Stop(SinkError::Fenced { at: of.at() }))
}

async fn swept(tx: &mut dyn Transaction, of: &Assigned) -> Result<(), Failure> {
    let row = mine(tx, of).await?;
    // A partition without records, of which the target held nothing: no batch has begun its sweep here.
    let begins = row.incarnation != of.incarnation.0 || row.next < 0;
    let (next, print) = if begins { (0, None) } else { (row.next, row.print) };
    let swept = OffsetRow { incarnation: of.incarnation.0.clone(), next, print, sweeping: false, ..row };
    tx.place(&of.at(), &swept).await?;
    if begins { tx.forget_life(&of.at()).await } else { Ok(()) }
}

fn account(batch: &Batch, fates: &Fates, settled: u64) -> Done {
    let counts = Counts { read: batch.len() as u64, ..Counts::default() };
    let mut done = Done { counts, rejected: Vec::new(), settled };
    let deliveries = batch.parts.iter().flat_map(|part| part.deliveries.iter().map(move |delivery| (part, delivery)));
    for (tag, (part, delivery)) in deliveries.enumerate() {
        match fates.get(&tag) {
            Some(Fate::Delivered) => done.counts.delivered += 1,
            Some(Fate::Unchanged) => done.counts.unchanged += 1,
            Some(Fate::Stale) => done.counts.stale += 1,
            Some(Fate::Parked(_)) => done.counts.parked += 1,
            Some(Fate::Rejected(reason)) => done.rejected.push(Rejected {
                at: part.of.at(),
                key: delivery.key.clone(),
                version: delivery.version,
                reason: reason.clone(),
            }),
            // In no count: the ledger won't balance, and the runner says so.
            None => {}
        }
    }
    done
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
