//! A target in memory that keeps its own offsets with compare-and-set, as a database does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::change::{Epoch, Incarnation, Version};
use pipeline::clock::{Clock, VirtualClock};
use pipeline::ledger::Counts;
use pipeline::log::memory::{Fault, When};
use pipeline::log::{Offset, TopicPartition};
use pipeline::processor::Payload;
use pipeline::reject::Reason as Why;
use pipeline::run::{SinkLimits, SinkTask};
use pipeline::sink::{
    Applied, Assigned, Batch, Delivery, Held, Part, Rejected, Resume, Sink, SinkError, Stored, Unparked,
};
use pipeline::verify::{Difference, Found, Inspect};
use schemas::{ContentHash, Key, Topic};

use super::topic;

/// A row: what was written last, or that it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub version: Version,
    pub hash: Option<ContentHash>,
    /// `None`: deleted.
    pub body: Option<Bytes>,
}

/// What the next batch meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is written.
    Away,
    /// Another transaction is in the way; nothing is written.
    Contended,
    /// Everything is written, and the answer is lost.
    LostAnswer,
    /// Another owner comes in between.
    Fenced,
}

/// Something that the target makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetStep {
    /// Partitions are taken over.
    Claim,
    /// Rows and offsets, together.
    Commit,
    /// Parked rows are tried again.
    Unpark,
    /// The end of a sweep.
    Sweep,
}

type Hook = Arc<dyn Fn(TargetStep, When) -> Fault + Send + Sync>;

#[derive(Clone, Default)]
struct State {
    rows: BTreeMap<(String, String), Row>,
    /// Where the rows' changes came from.
    partitions: BTreeMap<(String, String), u32>,
    offsets: BTreeMap<TopicPartition, (Epoch, Option<Stored>)>,
    /// Keys that can't be written.
    refuses: BTreeSet<String>,
    /// Keys whose row waits for another.
    parks: BTreeSet<String>,
    /// Parked rows that are tried at once.
    at_once: Option<usize>,
    parked: Vec<Parked>,
    /// Parked rows have waited too long.
    expired: bool,
    troubles: VecDeque<Trouble>,
    batches: Vec<usize>,
    totals: Counts,
}

/// Clones are the same target.
#[derive(Clone)]
pub struct Target {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
    faults: Option<Hook>,
}

/// A target as it was.
pub struct Backup(State);

impl Target {
    pub fn new(clock: &VirtualClock) -> Self {
        Self { state: Arc::default(), clock: clock.clone(), faults: None }
    }

    /// A handle for one process: before and after each durable step it asks `hook`.
    pub fn with_faults(&self, hook: Hook) -> Self {
        Self { faults: Some(hook), ..self.clone() }
    }

    async fn step(&self, step: TargetStep, when: When) -> Result<(), SinkError> {
        match self.faults.as_ref().map_or(Fault::Ok, |hook| hook(step, when)) {
            Fault::Ok => Ok(()),
            Fault::Stall(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Fault::Unavailable => Err(away()),
            Fault::Crash => std::future::pending().await,
        }
    }

    /// All of it as it is now.
    pub fn backup(&self) -> Backup {
        Backup(self.state.lock().unwrap().clone())
    }

    /// As it was when the backup was made; what it refuses and parks stays.
    pub fn restore(&self, backup: &Backup) {
        let mut state = self.state.lock().unwrap();
        state.rows.clone_from(&backup.0.rows);
        state.offsets.clone_from(&backup.0.offsets);
        state.parked.clone_from(&backup.0.parked);
    }

    /// How many rows wait for another.
    pub fn waiting(&self) -> usize {
        self.state.lock().unwrap().parked.len()
    }

    /// Keys and contents' hashes of the live rows of a topic.
    pub fn rows(&self, topic: &str) -> BTreeMap<String, Row> {
        let state = self.state.lock().unwrap();
        let rows = state.rows.iter().filter(|((of, _), row)| of == topic && row.body.is_some());
        rows.map(|((_, key), row)| (key.clone(), row.clone())).collect()
    }

    pub fn keys(&self, topic: &str) -> Vec<String> {
        self.rows(topic).into_keys().collect()
    }

    pub fn row(&self, topic: &str, key: &str) -> Option<Row> {
        self.rows(topic).remove(key)
    }

    pub fn meets(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.state.lock().unwrap().troubles.extend(troubles);
    }

    pub fn refuses(&self, keys: &[&str]) {
        self.state.lock().unwrap().refuses = keys.iter().map(|key| (*key).to_owned()).collect();
    }

    /// Of the parked rows, so many are tried at once.
    pub fn tries(&self, at_once: usize) {
        self.state.lock().unwrap().at_once = Some(at_once);
    }

    pub fn parks(&self, keys: &[&str]) {
        self.state.lock().unwrap().parks = keys.iter().map(|key| (*key).to_owned()).collect();
    }

    pub fn expires(&self) {
        self.state.lock().unwrap().expired = true;
    }

    pub fn batches(&self) -> Vec<usize> {
        self.state.lock().unwrap().batches.clone()
    }

    pub fn totals(&self) -> Counts {
        self.state.lock().unwrap().totals
    }

    pub fn next(&self, topic: &str) -> Option<Offset> {
        let state = self.state.lock().unwrap();
        state.offsets.get(&TopicPartition::new(topic, 0)).and_then(|(_, stored)| Some(stored.as_ref()?.next))
    }

    /// Changes a row as somebody with other tools would; `None`: it goes.
    pub fn spoil(&self, topic: &str, key: &str, how: impl FnOnce(Option<Row>) -> Option<Row>) {
        let mut state = self.state.lock().unwrap();
        let place = (topic.to_owned(), key.to_owned());
        let row = how(state.rows.remove(&place));
        state.rows.extend(row.map(|row| (place, row)));
    }

    /// Sets where reading resumes, as somebody would who wants everything delivered again.
    pub fn rewind(&self) {
        for (_, stored) in self.state.lock().unwrap().offsets.values_mut() {
            *stored = None;
        }
    }
}

fn held(key: &str, row: &Row) -> Held {
    Held { key: super::key(key), version: row.version, hash: row.hash, gone: row.body.is_none() }
}

fn away() -> SinkError {
    SinkError::Unavailable { sink: "target".into(), reason: "away".into(), retry_after: None }
}

/// A row that waits.
#[derive(Clone)]
struct Parked {
    row: Rejected,
    payload: Option<Payload>,
    /// It came in a sweep: it wins whatever its version.
    forced: bool,
}

impl Parked {
    fn place(&self) -> (String, String) {
        (self.row.at.topic.to_string(), self.row.key.as_str().to_owned())
    }
}

impl State {
    /// The answer was lost.
    fn has_written(&self, part: &Part) -> bool {
        let there = self.offsets.get(&part.of.at()).and_then(|(_, stored)| stored.as_ref());
        there.is_some_and(|there| {
            there.incarnation == part.of.incarnation
                && there.sweeping == part.sweeping
                && there.next == part.next
                && there.next != part.expected
        })
    }

    /// `true`: the part is still to be written.
    fn claim(&mut self, part: &Part, at_ms: i64) -> Result<bool, SinkError> {
        let at = part.of.at();
        let fenced = || SinkError::Fenced { at: at.clone() };
        let (epoch, stored) = self.offsets.get_mut(&at).ok_or_else(fenced)?;
        if *epoch != part.of.epoch {
            return Err(fenced());
        }
        let life: &Incarnation = &part.of.incarnation;
        let (next, landmark) = (part.next, part.landmark);
        let moved = Stored { incarnation: life.clone(), next, landmark, at_ms, sweeping: part.sweeping };
        let there = stored.as_ref().filter(|there| there.incarnation == *life && there.sweeping == part.sweeping);
        let write = match there {
            Some(there) if there.next == part.expected => true,
            Some(there) if there.next == part.next => false,
            Some(there) => part.sweeping && there.next.0 < 0,
            None => part.sweeping || stored.is_none(),
        };
        let answer_was_lost = there.is_some_and(|there| there.next == part.next);
        if !write && !answer_was_lost {
            return Err(fenced());
        }
        let begins_a_sweep = write && part.sweeping && there.is_none_or(|there| there.next.0 < 0);
        *stored = Some(moved);
        if begins_a_sweep {
            self.forget_life(&at);
        }
        Ok(write)
    }

    /// What was deleted in another life keeps no version, and nothing waits any more.
    fn forget_life(&mut self, at: &TopicPartition) {
        let Self { rows, partitions, parked, .. } = self;
        parked.retain(|parked| parked.row.at != *at);
        let of = |place: &(String, String)| *place.0 == *at.topic && partitions.get(place) == Some(&at.partition);
        rows.retain(|place, row| row.body.is_some() || !of(place));
    }

    fn swept(&mut self, of: &Assigned) {
        let Some((_, Some(stored))) = self.offsets.get_mut(&of.at()) else { return };
        stored.sweeping = false;
        if stored.incarnation != of.incarnation || stored.next.0 < 0 {
            (stored.incarnation, stored.next, stored.landmark) = (of.incarnation.clone(), Offset::START, None);
            self.forget_life(&of.at());
        }
    }

    /// Every version is newer from now on, also that of a sweep's own deletes.
    fn outdate(&mut self, place: &(String, String)) {
        if let Some(row) = self.rows.get_mut(place) {
            row.version = Version(-1);
        }
    }

    fn write(&mut self, part: &Part, delivery: &Delivery, counts: &mut Counts) {
        let place = (part.of.topic.name.clone(), delivery.key.as_str().to_owned());
        self.partitions.insert(place.clone(), part.of.partition);
        let row = Row {
            version: delivery.version,
            hash: delivery.hash,
            body: delivery.payload.as_ref().map(|payload| payload.body.clone()),
        };
        // What waits of this key was the newest when it came.
        let waits = self.parked.iter().find(|parked| parked.place() == place).map(|parked| parked.row.version);
        if let Some(newest) = waits.filter(|newest| !part.sweeping && *newest >= row.version) {
            if newest == row.version {
                counts.unchanged += 1
            } else {
                counts.stale += 1
            }
            return;
        }
        self.parked.retain(|parked| parked.place() != place);
        match self.rows.get(&place) {
            Some(held) if *held == row => counts.unchanged += 1,
            Some(held) if waits.is_none() && held.version >= row.version && !part.sweeping => counts.stale += 1,
            _ if self.parks.contains(&place.1) => {
                counts.parked += 1;
                let why = Why::new("no_parent", "its parent isn't there yet");
                let (at, key, version) = (part.of.at(), delivery.key.clone(), delivery.version);
                let row = Rejected { at, key, version, reason: why };
                self.parked.push(Parked { row, payload: delivery.payload.clone(), forced: part.sweeping });
                if part.sweeping {
                    self.outdate(&place);
                }
            }
            _ => {
                counts.delivered += 1;
                self.rows.insert(place, row);
            }
        }
    }
}

#[async_trait]
impl Sink for Target {
    async fn assigned(&self, partitions: &[Assigned]) -> Result<Resume, SinkError> {
        self.step(TargetStep::Claim, When::Before).await?;
        let mut own = BTreeMap::new();
        for of in partitions {
            let mut state = self.state.lock().unwrap();
            let (epoch, stored) = state.offsets.entry(of.at()).or_insert((Epoch(-1), None));
            if *epoch < of.epoch {
                *epoch = of.epoch;
                // A sweep that wasn't finished begins again.
                stored.iter_mut().filter(|stored| stored.sweeping).for_each(|stored| stored.next = Offset(-1));
            }
            own.insert(of.at(), stored.clone());
        }
        self.step(TargetStep::Claim, When::After).await?;
        Ok(Resume::Own(own))
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, SinkError> {
        self.step(TargetStep::Commit, When::Before).await?;
        let applied = self.write(batch)?;
        self.step(TargetStep::Commit, When::After).await?;
        Ok(applied)
    }

    async fn retry_parked(&self) -> Result<Unparked, SinkError> {
        self.step(TargetStep::Unpark, When::Before).await?;
        let tried = self.unpark();
        self.step(TargetStep::Unpark, When::After).await?;
        Ok(tried)
    }

    async fn forget_parked(&self, rows: &[Rejected]) -> Result<(), SinkError> {
        let mut state = self.state.lock().unwrap();
        let is_it = |row: &Rejected, parked: &Rejected| {
            (&row.at, &row.key, row.version) == (&parked.at, &parked.key, parked.version)
        };
        state.parked.retain(|parked| !rows.iter().any(|row| is_it(row, &parked.row)));
        Ok(())
    }

    async fn held(&self, of: &Assigned, after: Option<&Key>, limit: usize) -> Result<Option<Vec<Held>>, SinkError> {
        let mut rows = self.rows(&of.topic.name);
        // What waits to be there counts as held.
        let state = self.state.lock().unwrap();
        for waiting in state.parked.iter().filter(|waiting| *waiting.row.at.topic == *of.topic.name) {
            let Some(payload) = &waiting.payload else { continue };
            let row = Row { version: waiting.row.version, hash: None, body: Some(payload.body.clone()) };
            rows.insert(waiting.row.key.as_str().to_owned(), row);
        }
        let behind = rows.into_iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after.as_str()));
        let held = behind.take(limit).map(|(key, row)| held(&key, &row));
        Ok(Some(held.collect()))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    async fn outdate(&self, of: &Assigned, keys: &[Key]) -> Result<(), SinkError> {
        let mut state = self.state.lock().unwrap();
        keys.iter().for_each(|key| state.outdate(&(of.topic.name.clone(), key.as_str().to_owned())));
        Ok(())
    }

    async fn swept(&self, of: &Assigned) -> Result<(), SinkError> {
        self.step(TargetStep::Sweep, When::Before).await?;
        self.state.lock().unwrap().swept(of);
        self.step(TargetStep::Sweep, When::After).await
    }

    async fn revoked(&self, _: &[TopicPartition]) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Target {
    fn write(&self, batch: &Batch) -> Result<Applied, SinkError> {
        let now = self.clock.now().timestamp_millis();
        let mut state = self.state.lock().unwrap();
        let trouble = state.troubles.pop_front();
        if trouble == Some(Trouble::Away) {
            return Err(away());
        }
        if trouble == Some(Trouble::Contended) {
            return Err(SinkError::Contended { sink: "target".into(), reason: "deadlock".into() });
        }
        if trouble == Some(Trouble::Fenced) {
            let at = batch.parts[0].of.at();
            let (epoch, _) = state.offsets.get_mut(&at).unwrap();
            *epoch = Epoch(epoch.0 + 1);
            return Err(SinkError::Fenced { at });
        }
        let refused: Vec<Rejected> = batch
            .parts
            .iter()
            .filter(|part| !state.has_written(part))
            .flat_map(|part| part.deliveries.iter().map(move |delivery| (part, delivery)))
            .filter(|(_, delivery)| delivery.payload.is_some() && state.refuses.contains(delivery.key.as_str()))
            .map(|(part, delivery)| Rejected {
                at: part.of.at(),
                key: delivery.key.clone(),
                version: delivery.version,
                reason: Why::new("check_violation", "the row breaks a rule of the table"),
            })
            .collect();
        if !refused.is_empty() {
            return Err(SinkError::Rejected(refused));
        }
        let mut counts = Counts { read: batch.len() as u64, ..Counts::default() };
        for part in &batch.parts {
            if state.claim(part, now)? {
                for delivery in &part.deliveries {
                    state.write(part, delivery, &mut counts);
                }
            } else {
                counts.unchanged += part.deliveries.len() as u64;
            }
        }
        if trouble == Some(Trouble::LostAnswer) {
            return Err(SinkError::Unavailable { sink: "target".into(), reason: "reset".into(), retry_after: None });
        }
        state.batches.push(batch.len());
        state.totals += counts;
        Ok(Applied { counts })
    }

    fn unpark(&self) -> Unparked {
        let mut state = self.state.lock().unwrap();
        if state.expired {
            let expired = state.parked.iter().map(|parked| (parked.row.clone(), parked.payload.clone())).collect();
            return Unparked { expired, ..Unparked::default() };
        }
        let at_once = state.at_once.unwrap_or(usize::MAX).min(state.parked.len());
        let parked: Vec<_> = state.parked.drain(..at_once).collect();
        let (tried, mut settled) = (parked.len() as u64, 0);
        for waiting in parked {
            if state.parks.contains(waiting.row.key.as_str()) {
                state.parked.push(waiting);
                continue;
            }
            settled += 1;
            let (place, version) = (waiting.place(), waiting.row.version);
            let body = waiting.payload.map(|payload| payload.body);
            if waiting.forced || state.rows.get(&place).is_none_or(|held| held.version < version) {
                state.rows.insert(place, Row { version, hash: None, body });
            }
        }
        Unparked { tried, settled, waiting: state.parked.len() as u64, ..Unparked::default() }
    }
}

#[async_trait]
impl Inspect for Target {
    async fn stored(&self, topic: &Topic) -> Result<BTreeMap<u32, Stored>, SinkError> {
        let state = self.state.lock().unwrap();
        let of_topic = state.offsets.iter().filter(|(at, _)| *at.topic == *topic.name);
        Ok(of_topic.filter_map(|(at, (_, stored))| Some((at.partition, stored.clone()?))).collect())
    }

    async fn compare(&self, topic: &Topic, changes: &[Delivery]) -> Result<Vec<Found>, SinkError> {
        // As long as a database would take: others get on meanwhile.
        tokio::task::yield_now().await;
        let rows = self.rows(&topic.name);
        let parked = self.state.lock().unwrap().parked.clone();
        let difference = |change: &Delivery| {
            let row = rows.get(change.key.as_str());
            let waits = parked.iter().any(|Parked { row, .. }| row.key == change.key && row.version == change.version);
            match (row, &change.payload) {
                (None, None) => None,
                (_, Some(_)) if waits => Some(Difference::Waiting),
                (Some(row), None) => Some(Difference::Extra { held: row.version }),
                (None, Some(_)) => Some(Difference::Missing),
                (Some(row), Some(_)) if row.version < change.version => {
                    Some(Difference::Stale { held: Some(row.version) })
                }
                (Some(row), Some(_)) if row.version > change.version => Some(Difference::Newer { held: row.version }),
                (Some(row), Some(payload)) => (row.body.as_ref() != Some(&payload.body) || row.hash != change.hash)
                    .then(|| Difference::Columns { columns: vec!["name".to_owned()] }),
            }
        };
        let found = changes.iter().enumerate();
        Ok(found.filter_map(|(place, change)| Some(Found { place, difference: difference(change)? })).collect())
    }

    async fn rows(&self, topic: &Topic, after: Option<&Key>, limit: usize) -> Result<Vec<Held>, SinkError> {
        let rows = Target::rows(self, &topic.name).into_iter();
        let behind = rows.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after.as_str()));
        let held = behind.take(limit).map(|(key, row)| held(&key, &row));
        Ok(held.collect())
    }
}

/// A sink task named `register` over these topics.
pub fn task(target: &Target, topics: &[&str]) -> SinkTask {
    let topics = topics.iter().map(|name| topic(name)).collect();
    SinkTask { name: "register".into(), sink: Arc::new(target.clone()), topics, limits: SinkLimits::default() }
}
