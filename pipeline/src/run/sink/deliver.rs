//! Delivers a batch: waits for a target that is away, sets aside what it can't take, applies the rest.

use std::collections::{BTreeMap, HashSet};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::Loop;
use super::batch::{Unusable, batch};
use crate::change::{Incarnation, Version};
use crate::dead_letters::Letter;
use crate::ledger::Counts;
use crate::log::{Record, TopicPartition};
use crate::processor::Payload;
use crate::reject::{Reason, Reject};
use crate::retry::{Action, Failure, Kind};
use crate::run::RunError;
use crate::sink::{Applied, Batch, Rejected, SinkError};
use crate::telemetry;

impl Loop<'_> {
    /// Delivers records and moves on behind them. `false`: told to stop before the target would take them.
    pub(super) async fn deliver(&mut self, records: Vec<Record>, stop: &CancellationToken) -> Result<bool, RunError> {
        let began = self.runtime.clock.now();
        let mut counts = Counts::default();
        let (batch, unusable) = batch(self.runtime, &self.places, records, &mut counts).await?;
        let name = self.task.name.to_string();
        metrics::histogram!(telemetry::BATCH_RECORDS, "component" => name.clone()).record(counts.read as f64);
        self.note_seen(&batch, &unusable);
        self.set_aside_unusable(unusable, counts.read).await?;
        let Some(delivered) = self.apply(batch, &mut counts, stop).await? else { return Ok(false) };
        for part in &delivered.parts {
            if let Some(place) = self.places.get_mut(&part.of.at()) {
                (place.next, place.landmark) = (part.next, part.landmark);
                let keys = part.deliveries.iter().map(|delivery| &delivery.key);
                place.sweep.iter_mut().for_each(|sweep| sweep.delivered(keys.clone()));
            }
        }
        self.account.book(&counts)?;
        // Once a topic: each asks the operations database.
        let mut by_topic: BTreeMap<&str, Vec<(&str, Version)>> = BTreeMap::new();
        for part in &delivered.parts {
            let keys = part.deliveries.iter().map(|delivery| (delivery.key.as_str(), delivery.version));
            by_topic.entry(&part.of.topic.name).or_default().extend(keys);
        }
        for (topic, keys) in by_topic {
            self.runtime.letters.delivered(&self.task.name, topic, &keys).await?;
        }
        let took = (self.runtime.clock.now() - began).to_std().unwrap_or_default();
        metrics::histogram!(telemetry::BATCH_SECONDS, "component" => name).record(took.as_secs_f64());
        tracing::debug!(sink = &*self.task.name, rows = counts.read, delivered = counts.delivered, "batch applied");
        Ok(true)
    }

    /// The topic has told of these keys, also those that the target won't take: what becomes of them isn't the sweep's to
    /// decide.
    fn note_seen(&mut self, batch: &Batch, unusable: &[Unusable]) {
        for part in &batch.parts {
            if let Some(sweep) = self.places.get_mut(&part.of.at()).and_then(|place| place.sweep.as_mut()) {
                sweep.seen(part.deliveries.iter().map(|delivery| &delivery.key));
            }
        }
        for unusable in unusable {
            if let Some(sweep) = self.places.get_mut(&unusable.at).and_then(|place| place.sweep.as_mut()) {
                sweep.seen(unusable.reject.key.iter());
                sweep.refused(unusable.reject.key.iter());
            }
        }
    }

    /// Applies a batch, whatever it takes. Answers what was applied of it; `None`: told to stop meanwhile.
    ///
    /// The subscription isn't watched meanwhile: partitions that are taken away while the target is away end as lost.
    /// That is safe: a target with offsets of its own refuses the batch by its epoch (the new owner's is higher), any other
    /// takes it twice and keeps the newer versions, and our commit is refused. Whoever has the partitions now reads the
    /// batch again.
    pub(super) async fn apply(
        &mut self,
        mut batch: Batch,
        counts: &mut Counts,
        stop: &CancellationToken,
    ) -> Result<Option<Batch>, RunError> {
        let of = batch.len() as u64;
        let mut retries = self.runtime.retries();
        loop {
            if let Err(wait) = self.breaker.ask(self.runtime.clock.now()) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(None),
                    () = self.runtime.clock.sleep(wait) => continue,
                }
            }
            let error = match self.task.sink.apply(&batch).await {
                Ok(applied) => {
                    self.breaker.succeeded();
                    self.check_accounted(&batch, &applied)?;
                    *counts += Counts { read: 0, ..applied.counts };
                    return Ok(Some(batch));
                }
                Err(error) => error,
            };
            let now = self.runtime.clock.now();
            let failure = match &error {
                SinkError::Rejected(rejected) => {
                    // The target is well, the records aren't.
                    self.breaker.succeeded();
                    counts.rejected += self.set_aside(&mut batch, rejected, of).await?;
                    continue;
                }
                SinkError::Unavailable { retry_after, .. } => {
                    self.breaker.failed(now);
                    Failure { kind: Kind::Unavailable, retry_after: *retry_after }
                }
                // It answers: it is well.
                SinkError::Contended { .. } => {
                    self.breaker.succeeded();
                    Failure::from(Kind::Contended)
                }
                SinkError::Refused { .. } | SinkError::Fenced { .. } => return Err(error.into()),
            };
            self.runtime.health.waiting(&self.task.name, &error.to_string(), now);
            metrics::counter!(telemetry::RETRIES, "component" => self.task.name.to_string()).increment(1);
            match retries.failed(&failure, now) {
                Action::Stop { .. } => return Err(error.into()),
                Action::Retry { after } => {
                    let wait_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(sink = &*self.task.name, attempt = retries.failures(), wait_ms, error = %error,
                        "sink unavailable, trying again");
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(None),
                        () = self.runtime.clock.sleep(after) => {}
                    }
                }
            }
        }
    }

    fn check_accounted(&self, batch: &Batch, applied: &Applied) -> Result<(), RunError> {
        let counts = Counts { read: batch.len() as u64, ..applied.counts };
        let component = self.task.name.to_string();
        counts.balanced().map_err(|breach| RunError::Unbalanced { component, breach })
    }

    /// Writes letters for what the target can't take, and takes it out of the batch.
    async fn set_aside(&mut self, batch: &mut Batch, rejected: &[Rejected], of: u64) -> Result<u64, RunError> {
        self.runtime.rejects.check(&self.task.name, of, rejected.iter().map(|r| r.reason.code))?;
        if rejected.is_empty() {
            return Err(RunError::Refused {
                component: self.task.name.to_string(),
                reason: "the sink rejected a batch without saying which records".into(),
                hint: "this is a mistake in the program".into(),
            });
        }
        let mut letters = Vec::with_capacity(rejected.len());
        for reject in rejected {
            let delivery = batch
                .parts
                .iter()
                .filter(|part| part.of.at() == reject.at)
                .flat_map(|part| &part.deliveries)
                .find(|delivery| delivery.key == reject.key);
            let Some(delivery) = delivery else {
                return Err(RunError::Refused {
                    component: self.task.name.to_string(),
                    reason: "the sink rejected a record that isn't in the batch".into(),
                    hint: "this is a mistake in the program".into(),
                });
            };
            let mut letter = self.letter(
                &reject.at,
                &reject.key,
                reject.reason.clone(),
                delivery.payload.as_ref(),
                delivery.version,
            );
            letter.place = Some((reject.at.partition, delivery.offset));
            letter.hash = delivery.hash.map(|hash| hash.to_string());
            letters.push(letter);
        }
        self.runtime.letters.write(&letters).await?;
        self.tell(&letters);
        for reject in rejected {
            if let Some(sweep) = self.places.get_mut(&reject.at).and_then(|place| place.sweep.as_mut()) {
                sweep.refused(std::iter::once(&reject.key));
            }
        }
        let out: HashSet<(TopicPartition, &str)> = rejected.iter().map(|r| (r.at.clone(), r.key.as_str())).collect();
        for part in &mut batch.parts {
            let at = part.of.at();
            part.deliveries.retain(|delivery| !out.contains(&(at.clone(), delivery.key.as_str())));
        }
        Ok(out.len() as u64)
    }

    async fn set_aside_unusable(&self, unusable: Vec<Unusable>, of: u64) -> Result<(), RunError> {
        if unusable.is_empty() {
            return Ok(());
        }
        self.runtime.rejects.check(&self.task.name, of, unusable.iter().map(|u| u.reject.reason.code))?;
        let letters: Vec<Letter> = unusable
            .iter()
            .map(|u| {
                let place = Some((u.at.partition, u.offset));
                let letter = self.runtime.letters.of_record(&self.task.name, &u.at.topic, place, &u.reject, u.version);
                letter.of_life(self.life(&u.at))
            })
            .collect();
        self.runtime.letters.write(&letters).await?;
        self.tell(&letters);
        Ok(())
    }

    fn tell(&self, letters: &[Letter]) {
        tracing::warn!(sink = &*self.task.name, rejected = letters.len(), "records were set aside in the dead letters");
    }

    /// A letter for a change: its value as the topic has it, frame and all.
    fn letter(
        &self,
        at: &TopicPartition,
        key: &schemas::Key,
        reason: Reason,
        payload: Option<&Payload>,
        version: Version,
    ) -> Letter {
        let raw =
            payload.map(|payload| schemas::frame(self.runtime.state.schemas.id_of(&payload.schema), &payload.body));
        let reject = Reject::new(Some(key.clone()), reason, raw.unwrap_or_default());
        let letter = self.runtime.letters.of_record(&self.task.name, &at.topic, None, &reject, version);
        letter.of_life(self.life(at))
    }

    fn life(&self, at: &TopicPartition) -> Option<Incarnation> {
        self.places.get(at).map(|place| place.of.incarnation.clone())
    }

    /// Tries parked rows until none of them settles, since a row may wait for another one that waits, or until `most` has
    /// passed: a rebalance mustn't wait for long.
    pub(super) async fn try_all_parked(&mut self, most: TimeDelta, stop: &CancellationToken) -> Result<(), RunError> {
        let began = self.runtime.clock.now();
        let mut in_vain = 0;
        loop {
            let (tried, settled) = self.try_parked().await?;
            in_vain = if settled > 0 { 0 } else { in_vain + tried };
            let all_in_vain = tried == 0 || in_vain >= self.waiting;
            if all_in_vain || stop.is_cancelled() || (self.runtime.clock.now() - began).abs() >= most {
                return Ok(());
            }
        }
    }

    /// Tries parked rows again, as many as the target takes at once; those that have waited too long go to the dead letters.
    /// Answers how many were tried, and how many settled.
    async fn try_parked(&mut self) -> Result<(u64, u64), RunError> {
        let tried = match self.task.sink.retry_parked().await {
            Ok(tried) => tried,
            // The next batch finds out how long to wait.
            Err(SinkError::Unavailable { .. } | SinkError::Contended { .. }) => return Ok((0, 0)),
            Err(error) => return Err(error.into()),
        };
        // Before a sweep has begun in the target, rows of a former life wait there: letters would give them this one's name.
        let is_of_this_life = |row: &Rejected| self.places.get(&row.at).is_some_and(|place| place.sweep.is_none());
        let expired: Vec<_> = tried.expired.into_iter().filter(|(row, _)| is_of_this_life(row)).collect();
        if !expired.is_empty() {
            let letters: Vec<Letter> = expired
                .iter()
                .map(|(row, payload)| self.letter(&row.at, &row.key, row.reason.clone(), payload.as_ref(), row.version))
                .collect();
            self.runtime.letters.write(&letters).await?;
            self.tell(&letters);
            let rows: Vec<Rejected> = expired.iter().map(|(row, _)| row.clone()).collect();
            self.task.sink.forget_parked(&rows).await?;
        }
        self.account.unpark(tried.settled, expired.len() as u64);
        self.waiting = tried.waiting;
        metrics::gauge!(telemetry::PARKED, "component" => self.task.name.to_string()).set(tried.waiting as f64);
        let held = metrics::gauge!(telemetry::HELD_BY_OTHERS, "component" => self.task.name.to_string());
        held.set(tried.held_by_others as f64);
        Ok((tried.tried, tried.settled))
    }
}
