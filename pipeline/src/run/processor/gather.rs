//! Groups with inputs from several topics: a record brings its group up, whose latest inputs are in the [`Store`].
//!
//! A store takes a record in before its group is derived, so it is never behind what was derived; it may be ahead, since
//! it reads to the topics' ends when partitions are assigned. Then a group is derived from what is newer already, and once
//! more when the record itself comes, which changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use schemas::Key;
use tokio_util::sync::CancellationToken;

use super::derive::{Origin, SetAside, Taken};
use super::read::Read;
use super::store::{Of, Store};
use super::tables::payload;
use super::{Loop, refused};
use crate::blocking;
use crate::change::{Change, Incarnation, Version};
use crate::emitter::{EmitError, version_of};
use crate::ledger::Counts;
use crate::log::{Record, Scan, Subscription};
use crate::processor::Row;
use crate::reject::{Reason, Reject};
use crate::run::RunError;
use crate::telemetry;

/// Groups that are derived together when all are.
const GROUPS_AT_ONCE: usize = 500;

/// What a store may be behind when a partition is assigned and still be read on at once; with more, its groups are derived
/// anew, which leaves off when the log's group has something to say.
const READ_AT_ONCE: i64 = 10_000;

/// More groups than these may keep their thread for longer than it takes to make room for others.
const A_FEW: usize = 100;

/// A group that is to be derived, and what brought it up.
pub(super) struct Touched {
    partition: u32,
    group: Key,
    by: Vec<Origin>,
}

/// A group with its latest inputs.
struct Gathered {
    partition: u32,
    group: Key,
    by: Vec<Origin>,
    inputs: Vec<Taken>,
    /// The first input that can't be read: the group can't be derived.
    unusable: Option<(Origin, Reason)>,
}

impl Loop<'_> {
    /// Whether groups have inputs from several topics. One topic needs no store: its record is the group.
    pub(super) fn gathers(&self) -> bool {
        self.processor.inputs().len() > 1
    }

    /// Refuses inputs that can't make groups together.
    pub(super) async fn check_inputs(&self) -> Result<(), RunError> {
        let inputs = self.processor.inputs();
        if inputs.is_empty() {
            return Err(refused(self.processor, "it has no input topic".into()));
        }
        if !self.gathers() {
            return Ok(());
        }
        if self.processor.one_group() {
            let reason = "all its inputs are one group, which may come from one topic only".into();
            return Err(refused(self.processor, reason));
        }
        let fields = self.group_fields();
        let mut first: Option<(&str, usize)> = None;
        for &topic in inputs {
            // Topics of tables aren't in the built-in catalogue; the configuration is checked for them.
            let of_topic = schemas::catalogue().entity(topic).map_or(fields, |entity| entity.group_fields);
            if of_topic != fields {
                let reason = format!(
                    "{topic} is partitioned by the first {of_topic} fields of its key, the outputs by {fields}: all must \
                     have the same partition key"
                );
                return Err(refused(self.processor, reason));
            }
            let count = self.runtime.log.ends(topic).await?.len();
            let (other, expected) = *first.get_or_insert((topic, count));
            if count != expected {
                return Err(RunError::Refused {
                    component: self.processor.name().to_owned(),
                    reason: format!(
                        "{other} has {expected} partitions and {topic} has {count}: topics whose records make groups \
                         together must have the same count"
                    ),
                    hint: format!("give it the same: `muster topics resize {topic} --partitions {expected}`"),
                });
            }
        }
        Ok(())
    }

    /// How many leading fields of a key make the group: what the outputs are partitioned by.
    fn group_fields(&self) -> usize {
        let entities = self.outputs.values().filter_map(|emitter| emitter.topic().entity());
        entities.map(|entity| entity.group_fields).next().unwrap_or(1)
    }

    /// Opens the store of a partition number, for these lives of its topics.
    pub(super) fn open_store(
        &self,
        number: u32,
        lives: &BTreeMap<String, Incarnation>,
    ) -> Result<Option<Store>, RunError> {
        if !self.gathers() {
            return Ok(None);
        }
        let inputs = self.processor.inputs();
        let partitions = self.outputs.values().map(|emitter| emitter.partitions()).max().unwrap_or(1);
        let processor = self.processor.name();
        let of = Of { processor, partition: number, partitions, inputs, group_fields: self.group_fields() };
        let usable_for_ms = inputs.iter().map(|topic| self.tombstones_live_ms(topic)).min().unwrap_or(i64::MAX) / 2;
        let now_ms = self.runtime.clock.now().timestamp_millis();
        let store = Store::open(self.runtime.folder.as_ref(), &of, lives, now_ms, usable_for_ms);
        Ok(Some(store.map_err(EmitError::from)?))
    }

    /// Reads what the store of a current partition hasn't seen, to the topics' present ends: then no group is derived from
    /// an older input than it was before, whatever compaction has taken. `false`: that is too much to do at once.
    pub(super) async fn catch_up_at_once(&mut self, number: u32) -> Result<bool, RunError> {
        if !self.gathers() {
            return Ok(true);
        }
        let Some(mut scan) = self.begin_catching_up(number, None).await? else { return Ok(true) };
        let Some(store) = self.partitions.get(&number).and_then(|partition| partition.store.as_ref()) else {
            return Ok(true);
        };
        let behind =
            self.inputs_of(number).into_iter().map(|at| scan.end(&at).0 - store.next(&at.topic).0).sum::<i64>();
        if behind > READ_AT_ONCE {
            return Ok(false);
        }
        while let Some(records) = scan.next().await? {
            self.take_in(number, &records)?;
        }
        self.caught_up_store(number, &scan);
        Ok(true)
    }

    /// A scan of what the store hasn't seen. With `lives`, it is made one of these first.
    async fn begin_catching_up(
        &mut self,
        number: u32,
        lives: Option<&BTreeMap<String, Incarnation>>,
    ) -> Result<Option<Scan>, RunError> {
        let inputs = self.inputs_of(number);
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(None) };
        let Some(store) = &mut partition.store else { return Ok(None) };
        let lives = lives.unwrap_or(&partition.mark.inputs);
        // What is on this disk may be of a life that is over, too.
        if self.runtime.state.incarnations.end_belied(&store.kept()).await? {
            return Err(EmitError::Reincarnated { at: inputs[0].clone() }.into());
        }
        let mut fits = store.is_of(lives);
        for at in &inputs {
            let ends = self.runtime.log.ends(&at.topic).await?;
            fits &= ends.get(at.partition as usize).is_some_and(|bounds| store.next(&at.topic) <= bounds.end);
        }
        if !fits {
            store.clear(lives).map_err(EmitError::from)?;
        }
        let from: Vec<_> = inputs.into_iter().map(|at| (at.clone(), store.next(&at.topic))).collect();
        Ok(Some(Scan::begin(self.runtime.log.as_ref(), &from).await?))
    }

    fn take_in(&mut self, number: u32, records: &[Record]) -> Result<(), RunError> {
        let now_ms = self.runtime.clock.now().timestamp_millis();
        if let Some(store) = self.partitions.get_mut(&number).and_then(|partition| partition.store.as_mut()) {
            store.put(records).and_then(|()| store.save_in_time(now_ms)).map_err(EmitError::from)?;
        }
        Ok(())
    }

    fn caught_up_store(&mut self, number: u32, scan: &Scan) {
        let inputs = self.inputs_of(number);
        if let Some(store) = self.partitions.get_mut(&number).and_then(|partition| partition.store.as_mut()) {
            for at in inputs {
                store.reached(&at.topic, scan.end(&at));
            }
        }
    }

    /// Takes the records in, and answers the groups that they bring up; records of no group are set aside.
    pub(super) fn touch(
        &mut self,
        records: Vec<Record>,
        counts: &mut Counts,
    ) -> Result<(Vec<Touched>, Vec<SetAside>), RunError> {
        let mut by_partition: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for record in records {
            by_partition.entry(record.at.partition).or_default().push(record);
        }
        let (mut touched, mut aside) = (Vec::new(), Vec::new());
        for (partition, records) in by_partition {
            self.take_in(partition, &records)?;
            let Some(store) = self.partitions.get(&partition).and_then(|partition| partition.store.as_ref()) else {
                counts.superseded += records.len() as u64;
                continue;
            };
            let mut groups: BTreeMap<String, BTreeMap<(Arc<str>, Key), Origin>> = BTreeMap::new();
            for record in records {
                let Some(key) = record.key.as_deref().and_then(|key| Key::from_bytes(key).ok()) else {
                    counts.rejected += 1;
                    aside.push(SetAside::without_key(record));
                    continue;
                };
                let group = groups.entry(store.group_of(&key).to_owned()).or_default();
                if group.insert((Arc::clone(&record.at.topic), key.clone()), origin(record, key)).is_some() {
                    counts.superseded += 1;
                }
            }
            touched.extend(groups.into_iter().map(|(group, by)| Touched {
                partition,
                group: Key::from(group.as_str()),
                by: by.into_values().collect(),
            }));
        }
        Ok((touched, aside))
    }

    /// Derives these groups from their latest inputs, and emits; answers what must be set aside before offsets move.
    pub(super) async fn derive_groups(
        &mut self,
        touched: Vec<Touched>,
        counts: &mut Counts,
    ) -> Result<Vec<SetAside>, RunError> {
        let mut groups = Vec::with_capacity(touched.len());
        for touched in touched {
            groups.push(self.gather(touched).await?);
        }
        let stamp = self.stamp();
        let mut aside = Vec::new();
        let mut derive = || self.derive_gathered(&groups, &mut aside, counts);
        let changes = if groups.len() > A_FEW { blocking::run(derive)? } else { derive()? };
        let origins: Vec<Origin> = groups.iter().flat_map(Gathered::origins).cloned().collect();
        aside.extend(self.emit(changes, &origins, &stamp).await?);
        Ok(aside)
    }

    async fn gather(&self, touched: Touched) -> Result<Gathered, RunError> {
        let Touched { partition, group, by } = touched;
        let store = self.partitions.get(&partition).and_then(|partition| partition.store.as_ref());
        let stored = store.map(|store| store.inputs(group.as_str())).transpose().map_err(EmitError::from)?;
        let mut gathered = Gathered { partition, group, by, inputs: Vec::new(), unusable: None };
        for input in stored.unwrap_or_default() {
            let (origin, time) = (input.origin, input.time);
            match payload(self.runtime, &origin.key, &origin.raw).await? {
                Ok(payload) => {
                    let (topic, key) = (Arc::clone(&origin.topic), origin.key.clone());
                    gathered.inputs.push(Taken { origin, row: Some(Row { topic, key, payload, time }) });
                }
                Err(reject) => {
                    gathered.unusable.get_or_insert((origin.clone(), reject.reason));
                    gathered.inputs.push(Taken { origin, row: None });
                }
            }
        }
        Ok(gathered)
    }

    fn derive_gathered(
        &mut self,
        groups: &[Gathered],
        aside: &mut Vec<SetAside>,
        counts: &mut Counts,
    ) -> Result<Vec<(&'static str, Change)>, RunError> {
        let tables = self.tables.arranged();
        let mut changes = Vec::with_capacity(groups.len() * 4);
        for gathered in groups {
            let brought = gathered.by.len() as u64;
            if let Some((origin, reason)) = &gathered.unusable {
                counts.rejected += brought;
                aside.push(SetAside::whole(origin, reason.clone()));
                continue;
            }
            let rows: Vec<&Row> = gathered.inputs.iter().filter_map(|input| input.row.as_ref()).collect();
            match self.processor.derive(&gathered.group, &rows, tables.as_ref()) {
                Ok(mut outputs) => {
                    counts.delivered += brought;
                    telemetry::count_parts(self.processor.name(), &outputs);
                    for reject in std::mem::take(&mut outputs.rejects) {
                        let reason = reject.reason.clone();
                        aside.extend(gathered.origin_of(&reject).map(|origin| SetAside::part(origin, &reject, reason)));
                    }
                    let time = rows.iter().filter_map(|row| row.time).max();
                    self.difference(gathered.partition, Some(&gathered.group), outputs.changes, time, &mut changes)?;
                }
                Err(reject) => {
                    // Its last outputs stay.
                    counts.rejected += brought;
                    aside.extend(gathered.origin_of(&reject).map(|origin| SetAside::whole(origin, reject.reason)));
                }
            }
        }
        Ok(changes)
    }

    /// Derives all groups of a partition again, from the store, which is read on to the topics' ends first. `None`: it
    /// left off.
    pub(super) async fn rederive_groups(
        &mut self,
        number: u32,
        lives: &BTreeMap<String, Incarnation>,
        subscription: &mut dyn Subscription,
        stop: &CancellationToken,
    ) -> Result<Option<Read>, RunError> {
        let Some(mut scan) = self.begin_catching_up(number, Some(lives)).await? else { return Ok(None) };
        while let Some(records) = scan.next().await? {
            self.take_in(number, &records)?;
            if self.interrupted(subscription, stop).await? {
                return Ok(None);
            }
        }
        self.caught_up_store(number, &scan);
        let mut read = Read::default();
        for at in self.inputs_of(number) {
            read.next.insert(Arc::clone(&at.topic), scan.end(&at));
        }
        let store = self.partitions.get(&number).and_then(|partition| partition.store.as_ref());
        read.landmarks = store.map(Store::landmarks).unwrap_or_default();
        let mut after: Option<Key> = None;
        loop {
            let touched = self.next_groups(number, after.as_ref())?;
            let Some(last) = touched.last() else { break };
            after = Some(last.group.clone());
            let mut overtaking: BTreeMap<Arc<str>, BTreeMap<String, Version>> = BTreeMap::new();
            for origin in touched.iter().flat_map(|touched| &touched.by) {
                let keys = overtaking.entry(Arc::clone(&origin.topic)).or_default();
                keys.insert(origin.key.as_str().to_owned(), origin.version);
            }
            let read = touched.iter().map(|touched| touched.by.len() as u64).sum();
            let mut counts = Counts { read, ..Counts::default() };
            let aside = self.derive_groups(touched, &mut counts).await?;
            self.settle(aside, &counts, &overtaking).await?;
            if self.interrupted(subscription, stop).await? {
                return Ok(None);
            }
        }
        let done = self.derive_orphans(number, None, subscription, stop).await?;
        Ok(done.then_some(read))
    }

    /// Groups of the store behind `after`, brought up by all their inputs.
    fn next_groups(&self, number: u32, after: Option<&Key>) -> Result<Vec<Touched>, RunError> {
        let Some(store) = self.partitions.get(&number).and_then(|partition| partition.store.as_ref()) else {
            return Ok(Vec::new());
        };
        let mut touched = Vec::new();
        for group in store.groups(after, GROUPS_AT_ONCE).map_err(EmitError::from)? {
            let inputs = store.inputs(group.as_str()).map_err(EmitError::from)?;
            let by = inputs.into_iter().map(|input| Origin { raw: Bytes::new(), ..input.origin }).collect();
            touched.push(Touched { partition: number, group, by });
        }
        Ok(touched)
    }

    /// Saves the stores of these partitions.
    pub(super) fn save_stores(&mut self, numbers: &BTreeSet<u32>) -> Result<(), RunError> {
        let now_ms = self.runtime.clock.now().timestamp_millis();
        for (_, partition) in self.partitions.iter_mut().filter(|(number, _)| numbers.contains(number)) {
            if let Some(store) = &mut partition.store {
                store.save(now_ms).map_err(EmitError::from)?;
            }
        }
        Ok(())
    }
}

impl Gathered {
    /// Its inputs, and what brought it up: records that have gone are among these alone.
    fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.inputs.iter().map(|input| &input.origin).chain(&self.by)
    }

    /// The input that a reject is of. Two topics may hold the same key, but hardly with the same contents.
    fn origin_of(&self, reject: &Reject) -> Option<&Origin> {
        let body = |input: &&Taken| input.row.as_ref().is_some_and(|row| row.payload.body == reject.raw);
        let same_key = |origin: &&Origin| Some(&origin.key) == reject.key.as_ref();
        let exact = self.inputs.iter().filter(body).map(|input| &input.origin).find(same_key);
        exact.or_else(|| self.origins().find(same_key)).or_else(|| self.origins().next())
    }
}

fn origin(record: Record, key: Key) -> Origin {
    let version = version_of(&record).unwrap_or_default();
    let place = (record.at.partition, record.offset);
    Origin { topic: record.at.topic, key, place, version, raw: record.value.unwrap_or_default() }
}
