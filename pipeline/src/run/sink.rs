//! The loop of a sink: changes in, batches to the target, offsets behind them.
//!
//! The target alone decides where reading goes on, where it keeps offsets itself. A bad record is in the dead
//! letters before its offset is passed; a bad system makes us wait.

mod batch;
mod deliver;
mod replay;
mod sweep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use schemas::Topic;
use tokio_util::sync::CancellationToken;

pub(crate) use self::batch::delivery as delivery_of;
use self::sweep::Sweep;
use super::metadata::Metadata;
use super::{Account, Mode, RunError, Runtime, Work, supervise, unless_revoked};
use crate::change::Epoch;
use crate::log::{Committed, Ends, Event, Offset, Record, Subscription, TopicPartition, end_behind_gaps};
use crate::retry::Breaker;
use crate::sink::{Assigned, Delivery, Part, Resume, Sink, Stored};
use crate::state::{Landmark, Reached};
use crate::telemetry;

/// How long a loop waits for records before it looks after everything else.
const IDLE: Duration = Duration::from_millis(200);

/// How often parked rows are tried again while nothing else happens.
const PARKED_EVERY: Duration = Duration::from_secs(1);

/// And for so long at most: records wait meanwhile.
const PARKED_AT_MOST: TimeDelta = TimeDelta::milliseconds(500);

/// How often the group's commits follow a target that keeps its offsets itself: they only show people how far it is, and
/// each costs as much as a small batch.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Records that had piled up behind a batch are the next one, unless they are so many that more is on its way.
const MORE_IS_COMING: usize = 1_000;

/// How much a batch may hold, and how long it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkLimits {
    /// Records.
    pub records: usize,
    /// Bytes of keys, values and headers.
    pub bytes: usize,
    /// How long an incomplete batch waits for more.
    pub linger: Duration,
    /// A sweep refuses to delete more than this share of what the target holds, in per cent.
    pub sweep_percent: u8,
}

impl Default for SinkLimits {
    fn default() -> Self {
        // Past 5,000 rows a statement no longer gets faster, and a bad row costs more halves.
        Self { records: 5_000, bytes: 16 << 20, linger: Duration::from_millis(5), sweep_percent: 50 }
    }
}

/// A sink with its loop.
#[derive(Clone)]
pub struct SinkTask {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The target.
    pub sink: Arc<dyn Sink>,
    /// What it delivers.
    pub topics: Vec<Arc<Topic>>,
    /// The size of its batches.
    pub limits: SinkLimits,
}

/// A partition at work.
struct Place {
    of: Assigned,
    /// Everything below is in the target.
    next: Offset,
    /// The last record below.
    landmark: Option<Landmark>,
    /// Nothing but gaps lies between `next` and here. The target's own offset only moves with records.
    empty_to: Offset,
    sweep: Option<Sweep>,
}

impl Place {
    /// Everything below has been delivered, or is no longer there.
    fn reached(&self) -> Offset {
        self.next.max(self.empty_to)
    }

    /// Changes that move nothing on.
    fn part(&self, deliveries: Vec<Delivery>, sweeping: bool) -> Part {
        let Self { of, next, landmark, .. } = self;
        Part { of: of.clone(), deliveries, expected: *next, next: *next, landmark: *landmark, sweeping }
    }
}

struct Loop<'a> {
    runtime: &'a Runtime,
    task: &'a SinkTask,
    account: &'a mut Account,
    breaker: Breaker,
    places: BTreeMap<TopicPartition, Place>,
    parked_tried: DateTime<Utc>,
    gaps_looked: DateTime<Utc>,
    waiting: u64,
    paused: bool,
    /// The target keeps no offsets: the group's commits are the memory.
    group_offsets: bool,
    /// Something was delivered that the group's commits don't show.
    uncommitted: bool,
    committed: DateTime<Utc>,
}

impl SinkTask {
    /// Runs the sink until told to stop, or until everything that is there now is delivered.
    pub async fn run(&self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let now = runtime.clock.now();
        let mut account = Account::new(&self.name, now);
        runtime.health.starting(&self.name, Duration::from_secs(30), now);
        let mut work = SinkWork { task: self, account: &mut account };
        supervise(&self.name, runtime, mode, stop, &mut work).await
    }
}

struct SinkWork<'a> {
    task: &'a SinkTask,
    account: &'a mut Account,
}

#[async_trait]
impl Work for SinkWork<'_> {
    async fn work(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let task = self.task;
        let names: Vec<Arc<str>> = task.topics.iter().map(|topic| Arc::from(topic.name.as_str())).collect();
        let mut subscription = runtime.log.subscribe(&format!("muster.{}", task.name), &names).await?;
        let mut work = Loop {
            runtime,
            task,
            account: self.account,
            breaker: Breaker::new(Default::default()),
            places: BTreeMap::new(),
            parked_tried: runtime.clock.now(),
            gaps_looked: runtime.clock.now(),
            waiting: 0,
            paused: false,
            group_offsets: true,
            uncommitted: false,
            committed: runtime.clock.now(),
        };
        let ended = work.follow(subscription.as_mut(), mode, stop).await;
        if ended.is_ok() && work.uncommitted {
            unless_revoked(work.commit(subscription.as_mut()).await)?;
        }
        work.account.write(runtime, true).await?;
        subscription.close().await?;
        ended
    }
}

impl Loop<'_> {
    async fn follow(
        &mut self,
        subscription: &mut dyn Subscription,
        mode: Mode,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut assigned = false;
        let mut next: Option<Event> = None;
        loop {
            if stop.is_cancelled() {
                return Ok(());
            }
            let waiting = match next.take() {
                Some(event) => Some(event),
                None => subscription.next().now_or_never().transpose()?,
            };
            let piled_up = waiting.is_some();
            let event = match waiting {
                Some(event) => Some(event),
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    event = subscription.next() => Some(event?),
                    () = self.runtime.clock.sleep(IDLE) => None,
                },
            };
            let is_idle = event.is_none();
            match event {
                Some(Event::Assigned(partitions)) => {
                    assigned = true;
                    unless_revoked(self.assigned(subscription, &partitions).await)?;
                }
                Some(Event::Revoked(partitions)) => {
                    if self.uncommitted {
                        unless_revoked(self.commit(subscription).await)?;
                    }
                    self.revoked(&partitions).await?;
                    subscription.released().await?;
                }
                Some(Event::Lost(partitions)) => self.revoked(&partitions).await?,
                Some(Event::Records(records)) => {
                    let linger = match piled_up && records.len() < MORE_IS_COMING {
                        true => Duration::ZERO,
                        false => self.task.limits.linger,
                    };
                    let mut records = VecDeque::from(self.gather(subscription, records, linger, &mut next).await?);
                    while !records.is_empty() {
                        let batch = full_batch(&mut records, &self.task.limits);
                        if !self.deliver(batch, stop).await? {
                            return Ok(());
                        }
                    }
                    self.uncommitted = true;
                }
                None => self.look_for_gaps().await?,
            }
            if self.uncommitted && (self.group_offsets || is_idle || self.shows_too_little()) {
                unless_revoked(self.commit(subscription).await)?;
            }
            if self.heed_pause(subscription).await? {
                if mode == Mode::Once {
                    return Ok(());
                }
                continue;
            }
            self.finish_sweeps(stop).await?;
            self.look_after_parked(stop).await?;
            self.answer_requests(stop).await?;
            self.runtime.health.progressed(&self.task.name, self.runtime.clock.now());
            self.account.write(self.runtime, false).await?;
            if mode == Mode::Once && assigned && next.is_none() && self.caught_up().await? {
                return self.try_all_parked(TimeDelta::MAX, stop).await;
            }
        }
    }

    /// Stops and starts the delivery of records as a person asks; whatever was handed out is delivered.
    async fn heed_pause(&mut self, subscription: &mut dyn Subscription) -> Result<bool, RunError> {
        let paused = self.runtime.paused(&self.task.name);
        if paused && !self.paused {
            let at: Vec<TopicPartition> = self.places.keys().cloned().collect();
            subscription.pause(&at).await?;
        } else if !paused && self.paused {
            for (at, place) in &self.places {
                subscription.start(at, place.next).await?;
            }
        }
        self.paused = paused;
        Ok(paused)
    }

    /// Takes records until the batch is full, nothing more comes, or something else happens (`other`).
    async fn gather(
        &self,
        subscription: &mut dyn Subscription,
        mut records: Vec<Record>,
        linger: Duration,
        other: &mut Option<Event>,
    ) -> Result<Vec<Record>, RunError> {
        let limits = self.task.limits;
        let mut bytes: usize = records.iter().map(Record::size).sum();
        // From the first record on: a trickle mustn't hold it back.
        let mut full_time = self.runtime.clock.sleep(linger);
        while records.len() < limits.records && bytes < limits.bytes {
            let event = tokio::select! {
                // What is there already is taken also without lingering.
                biased;
                event = subscription.next() => event?,
                () = &mut full_time => break,
            };
            match event {
                Event::Records(more) => {
                    bytes += more.iter().map(Record::size).sum::<usize>();
                    records.extend(more);
                }
                event => {
                    *other = Some(event);
                    break;
                }
            }
        }
        Ok(records)
    }

    async fn assigned(
        &mut self,
        subscription: &mut dyn Subscription,
        partitions: &[TopicPartition],
    ) -> Result<(), RunError> {
        let (ours, stored) = loop {
            let (ours, stored) = self.take_over(subscription, partitions).await?;
            let each = ours.iter().zip(&stored);
            let kept = each.filter_map(|(of, stored)| {
                let Stored { incarnation, next, landmark, .. } = stored.clone()?;
                Some(Reached { at: of.at(), incarnation, end: next, landmark })
            });
            if !self.runtime.state.incarnations.end_belied(&kept.collect::<Vec<_>>()).await? {
                break (ours, stored);
            }
        };
        for (of, stored) in ours.into_iter().zip(stored) {
            let at = of.at();
            let landmark = stored.as_ref().and_then(|stored| stored.landmark);
            let bounds = self.bounds(&at).await?;
            let (next, sweep) = self.judge(&of, stored, bounds);
            let landmark = landmark.filter(|landmark| landmark.offset < next);
            subscription.start(&at, next).await?;
            self.places.insert(at, Place { of, next, landmark, empty_to: next, sweep });
        }
        // What was just started is paused again where it must be.
        self.paused = false;
        Ok(())
    }

    /// Claims partitions, in the log and in the target, and asks what has been stored of them.
    async fn take_over(
        &mut self,
        subscription: &mut dyn Subscription,
        partitions: &[TopicPartition],
    ) -> Result<(Vec<Assigned>, Vec<Option<Stored>>), RunError> {
        let mut ours = Vec::with_capacity(partitions.len());
        let lives = self.runtime.state.incarnations.present_all(partitions).await?;
        for at in partitions {
            let Some(topic) = self.task.topics.iter().find(|topic| topic.name == *at.topic) else { continue };
            let claim = self.runtime.state.claims.claim(&format!("{}|{at}", self.task.name)).await?;
            let Some(incarnation) = lives.get(at).cloned() else { continue };
            let epoch: Epoch = claim.epoch();
            ours.push(Assigned { topic: Arc::clone(topic), partition: at.partition, incarnation, epoch });
        }
        let resume = self.task.sink.assigned(&ours).await?;
        let at: Vec<TopicPartition> = ours.iter().map(Assigned::at).collect();
        self.group_offsets = matches!(resume, Resume::GroupOffsets);
        let committed: Vec<Option<Stored>> = match resume {
            Resume::GroupOffsets => {
                subscription.committed(&at).await?.into_iter().map(|c| c.and_then(stored)).collect()
            }
            Resume::Own(mut own) => at.iter().map(|at| own.remove(at).flatten()).collect(),
        };
        Ok((ours, committed))
    }

    /// Where to go on. A void offset means: from the start, and the topic wins whatever its version.
    fn judge(&self, of: &Assigned, stored: Option<Stored>, bounds: Ends) -> (Offset, Option<Sweep>) {
        let Some(stored) = stored else {
            // A partition that a resize has brought: the target's rows of its keys came from other partitions, and may
            // have gone from the topic since.
            let resized = self.runtime.log.own_name(&of.topic.name) != of.topic.name.as_str();
            return (bounds.start, resized.then(|| Sweep::until(bounds.end)));
        };
        // Either way: a clock that was set doesn't tell how long it was.
        let away_ms = (self.runtime.clock.now().timestamp_millis() - stored.at_ms).saturating_abs();
        let tombstones_gone = away_ms > i64::try_from(of.topic.delete_retention.as_millis()).unwrap_or(i64::MAX);
        let outside = stored.next > bounds.end || stored.next < bounds.start;
        let void = stored.incarnation != of.incarnation || outside;
        if void || stored.sweeping || tombstones_gone {
            tracing::warn!(sink = &*self.task.name, topic = %of.topic.name, partition = of.partition, void, tombstones_gone,
                "the target is compared with the whole topic");
            return (bounds.start, Some(Sweep::until(bounds.end)));
        }
        (stored.next, None)
    }

    async fn bounds(&self, at: &TopicPartition) -> Result<Ends, RunError> {
        let ends = self.runtime.log.ends(&at.topic).await?;
        let bounds = ends.get(at.partition as usize).copied();
        Ok(bounds.ok_or_else(|| crate::log::LogError::UnknownTopic { topic: at.to_string() })?)
    }

    async fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), RunError> {
        self.places.retain(|at, _| !partitions.contains(at));
        self.task.sink.revoked(partitions).await?;
        Ok(())
    }

    /// Group commits show people how far a sink is; for targets without offsets of their own, they are the memory.
    async fn commit(&mut self, subscription: &mut dyn Subscription) -> Result<(), RunError> {
        let now_ms = self.runtime.clock.now().timestamp_millis();
        let offsets: Vec<(TopicPartition, Committed)> = self
            .places
            .iter()
            .map(|(at, place)| {
                let (life, sweeping) = (place.of.incarnation.clone(), place.sweep.is_some());
                let metadata = Metadata { life, at_ms: now_ms, sweeping, landmark: place.landmark };
                (at.clone(), Committed { next: place.next, metadata: metadata.to_string() })
            })
            .collect();
        subscription.commit(&offsets).await?;
        self.uncommitted = false;
        self.committed = self.runtime.clock.now();
        Ok(())
    }

    fn shows_too_little(&self) -> bool {
        (self.runtime.clock.now() - self.committed).to_std().unwrap_or_default() >= SHOWN_EVERY
    }

    async fn caught_up(&self) -> Result<bool, RunError> {
        let mut behind = 0;
        for topic in &self.task.topics {
            let ends = self.runtime.log.ends(&topic.name).await?;
            let mut lag = 0;
            for (at, place) in self.places.iter().filter(|(at, _)| *at.topic == *topic.name) {
                let end = ends.get(at.partition as usize).map_or(Offset::START, |bounds| bounds.end);
                lag += (end.0 - place.reached().0).max(0);
                behind += u64::from(place.sweep.is_some());
            }
            metrics::gauge!(telemetry::LAG, "component" => self.task.name.to_string(), "topic" => topic.name.clone())
                .set(lag as f64);
            behind += lag.unsigned_abs();
        }
        Ok(behind == 0)
    }

    /// Finds the partitions that have been quiet because nothing is left between them and their ends.
    async fn look_for_gaps(&mut self) -> Result<(), RunError> {
        let now = self.runtime.clock.now();
        if (now - self.gaps_looked).abs().to_std().unwrap_or_default() < PARKED_EVERY {
            return Ok(());
        }
        self.gaps_looked = now;
        for (at, place) in &mut self.places {
            let ends = self.runtime.log.ends(&at.topic).await?;
            let end = ends.get(at.partition as usize).map_or(Offset::START, |bounds| bounds.end);
            if place.reached() < end
                && let Some(empty_to) = end_behind_gaps(self.runtime.log.as_ref(), at, place.reached()).await?
            {
                place.empty_to = empty_to;
            }
        }
        Ok(())
    }

    async fn look_after_parked(&mut self, stop: &CancellationToken) -> Result<(), RunError> {
        let now = self.runtime.clock.now();
        if (now - self.parked_tried).abs().to_std().unwrap_or_default() < PARKED_EVERY {
            return Ok(());
        }
        self.parked_tried = now;
        self.try_all_parked(PARKED_AT_MOST, stop).await?;
        self.caught_up().await?;
        Ok(())
    }
}

/// The log hands out as much as it likes: takes no more than a batch may hold, and at least one record.
fn full_batch(records: &mut VecDeque<Record>, limits: &SinkLimits) -> Vec<Record> {
    let mut batch = Vec::with_capacity(records.len().min(limits.records));
    let mut bytes = 0;
    while let Some(record) = records.pop_front() {
        bytes += record.size();
        if !batch.is_empty() && (batch.len() >= limits.records || bytes > limits.bytes) {
            records.push_front(record);
            break;
        }
        batch.push(record);
    }
    batch
}

/// What the group's commit says, for targets that keep no offsets.
fn stored(committed: Committed) -> Option<Stored> {
    let Metadata { life, at_ms, sweeping, landmark } = Metadata::parse(&committed.metadata)?;
    Some(Stored { incarnation: life, next: committed.next, landmark, at_ms, sweeping })
}
