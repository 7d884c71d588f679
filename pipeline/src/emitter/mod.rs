//! Makes every change: compares what a component states with what the topic holds, and appends the difference.
//!
//! Sources and processors both write through an [`Emitter`]. *The topic is the memory*: a value whose hash is
//! unchanged is not a change. One writer per partition is claimed and checked; what a stalled former owner appends
//! late is found and healed.

mod absorb;
pub mod disk;
mod headers;
mod heal;
mod look;
mod make;
pub mod memory;
mod own;
mod restate;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemas::{ContentHash, Key, Schema, SchemaId, Topic};

use self::disk::Place;
use self::make::{Entry, Made};
use self::memory::{Known, Memory, MemoryError};
pub use self::restate::Restate;
use crate::change::{Asked, Change, Epoch, Incarnation, Version};
use crate::clock::Clock;
use crate::ledger::Counts;
use crate::log::{Append, Log, LogError, Offset, Record, TopicPartition};
use crate::reject::{Reason, Reject};
use crate::state::{Claim, Landmark, Reached, State, StateError};

/// What the changes of one call have in common.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// When the request that read them was sent.
    pub captured: DateTime<Utc>,
    /// What the source was asked.
    pub asked: Asked,
    /// The run.
    pub run: Arc<str>,
}

/// Why changes couldn't be emitted. Nothing is lost: the caller states them again.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The log or the state in it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The local memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Another process has claimed the partition: it goes on with it.
    #[error("{at} belongs to a later owner")]
    Fenced {
        /// The partition.
        at: TopicPartition,
    },
    /// The partition was recreated or truncated: own it again and state everything.
    #[error("{at} has begun a new life")]
    Reincarnated {
        /// The partition.
        at: TopicPartition,
    },
    /// A change lies in a partition that isn't owned: a bug, or a topic with another partition count.
    #[error("{at} isn't owned by this emitter")]
    NotOwned {
        /// The partition.
        at: TopicPartition,
    },
    /// The topic is written by a newer Muster.
    #[error("{topic} is written with schema {id}, which this version doesn't know: a newer muster writes this topic")]
    NewerSchema {
        /// The topic.
        topic: String,
        /// The unknown schema.
        id: u32,
    },
}

impl From<LogError> for EmitError {
    fn from(error: LogError) -> Self {
        Self::State(StateError::Log(error))
    }
}

/// What became of the changes of one call.
#[derive(Debug, Default)]
pub struct Emitted {
    /// `read` is the number of changes given; `delivered` were appended.
    pub counts: Counts,
    /// Of the delivered ones, by kind.
    pub created: u64,
    /// Of the delivered ones, by kind.
    pub updated: u64,
    /// Of the delivered ones, by kind.
    pub deleted: u64,
    /// Changes that the topic can't take (too large, not decodable). They aren't counted yet: the caller writes the
    /// letters and counts them.
    pub rejects: Vec<Reject>,
}

/// What owning a partition has shown.
#[derive(Debug, Clone)]
pub struct OwnedPartition {
    /// Its present life.
    pub incarnation: Incarnation,
}

struct Owned {
    claim: Claim,
    writer: Epoch,
    incarnation: Incarnation,
    memory: Memory,
    /// The end that our own appends have led to. Records between it and an append of ours are somebody else's.
    end: Offset,
    /// An append failed half-way, or somebody else has appended: read on before the next change.
    behind: bool,
    looked: DateTime<Utc>,
}

impl Owned {
    fn reached(&self, at: TopicPartition) -> Reached {
        Reached { at, incarnation: self.incarnation.clone(), end: self.end, landmark: self.memory.landmark() }
    }
}

/// What an emitter needs of the process around it.
#[derive(Clone)]
pub struct EmitterContext {
    /// Where to.
    pub log: Arc<dyn Log>,
    /// Claims, incarnations, schema ids.
    pub state: State,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where memories are kept; `None`: in RAM (tests, simulations).
    pub folder: Option<Place>,
    /// So many changes are appended at once; while the log confirms them, the next ones are made.
    pub at_once: usize,
}

/// As many changes at once as keep a log busy.
pub const AT_ONCE: usize = 1_000;

/// Writes one topic for one component.
pub struct Emitter {
    component: Arc<str>,
    topic: Arc<Topic>,
    name: Arc<str>,
    partitions: u32,
    schema: Arc<Schema>,
    schema_id: SchemaId,
    group_fields: usize,
    context: EmitterContext,
    owned: BTreeMap<u32, Owned>,
    forgotten: u64,
}

impl Emitter {
    /// An emitter for `topic`, which must exist; it owns no partition yet.
    pub async fn open(context: EmitterContext, component: &str, topic: Arc<Topic>) -> Result<Self, EmitError> {
        let name: Arc<str> = topic.name.as_str().into();
        let partitions = u32::try_from(context.log.ends(&name).await?.len()).unwrap_or(u32::MAX);
        let Some(entity) = topic.entity() else {
            return Err(LogError::UnknownTopic { topic: topic.name.clone() }.into());
        };
        let (schema, group_fields) = (Arc::clone(&entity.schema), entity.group_fields);
        let schema_id = context.state.schemas.id_for_writing(&context.log.own_name(&name), &schema).await?;
        let component = component.into();
        let owned = BTreeMap::new();
        Ok(Self { component, topic, name, partitions, schema, schema_id, group_fields, context, owned, forgotten: 0 })
    }

    /// Goes on with another schema of the same topic, which must be compatible with the one before: what is known of
    /// the keys stays.
    pub async fn evolve(&mut self, schema: Arc<Schema>) -> Result<(), EmitError> {
        let own_name = self.context.log.own_name(&self.name);
        self.schema_id = self.context.state.schemas.id_for_writing(&own_name, &schema).await?;
        self.topic = Arc::new(self.topic.with_schema(Arc::clone(&schema)));
        self.schema = schema;
        Ok(())
    }

    /// The topic it writes.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The partition of `key`.
    pub fn partition_of(&self, key: &Key) -> u32 {
        schemas::partition_of(key.prefix(self.group_fields).as_bytes(), self.partitions)
    }

    /// How many keys, since this was last asked, had their right record overwritten and taken by compaction: everything
    /// must be stated again.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// Everything in these partitions was stated again: what [`Self::take_forgotten`] told is done with, also for owners
    /// to come.
    pub async fn restated(&self, partitions: &[u32]) -> Result<(), EmitError> {
        if self.forgotten > 0 {
            // More were lost meanwhile.
            return Ok(());
        }
        for (partition, owned) in self.owned.iter().filter(|(partition, _)| partitions.contains(partition)) {
            let at = self.at(*partition);
            self.context.state.incarnations.set_incomplete(&at, &owned.incarnation, false).await?;
        }
        Ok(())
    }

    /// Gives partitions up and keeps their memories on disk.
    pub fn disown(&mut self, partitions: &[u32]) -> Result<(), EmitError> {
        for partition in partitions {
            if self.owned.contains_key(partition) {
                self.save(*partition)?;
                self.owned.remove(partition);
            }
        }
        Ok(())
    }

    /// The partitions it owns.
    pub fn owned(&self) -> Vec<u32> {
        self.owned.keys().copied().collect()
    }

    /// The life of an owned partition.
    pub fn incarnation(&self, partition: u32) -> Option<&Incarnation> {
        self.owned.get(&partition).map(|owned| &owned.incarnation)
    }

    /// The memory of an owned partition: what the topic holds, by key.
    pub fn memory(&mut self, partition: u32) -> Option<&mut Memory> {
        self.owned.get_mut(&partition).map(|owned| &mut owned.memory)
    }

    /// The ends that the emitter's own appends have led to, with the partitions' lives.
    pub fn ends(&self) -> Vec<(TopicPartition, Incarnation, Offset)> {
        let each = self.owned.iter();
        each.map(|(partition, owned)| (self.at(*partition), owned.incarnation.clone(), owned.end)).collect()
    }

    /// How far it knows its partitions, for [`crate::state::Incarnations::reached_all`].
    pub fn reached(&self) -> Vec<Reached> {
        self.owned.iter().map(|(partition, owned)| owned.reached(self.at(*partition))).collect()
    }

    fn at(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.name), partition }
    }

    /// Appends what differs from the topic. Later changes of a key supersede earlier ones of the same call. `Ok`:
    /// everything is durable or accounted for.
    pub async fn emit(&mut self, changes: Vec<Change>, stamp: &Stamp) -> Result<Emitted, EmitError> {
        let given = changes.len() as u64;
        let latest = latest_per_key(changes);
        let superseded = given - latest.len() as u64;
        let mut emitted = self.emit_as(&latest, None, stamp).await?;
        emitted.counts.read = given;
        emitted.counts.superseded = superseded;
        Ok(emitted)
    }

    /// Appends an edited replay: a new change whose `hash` is the original's, so that stating the unchanged original
    /// again doesn't undo it.
    pub async fn emit_edited(
        &mut self,
        change: Change,
        original: ContentHash,
        stamp: &Stamp,
    ) -> Result<Emitted, EmitError> {
        let mut emitted = self.emit_as(&[change], Some(original), stamp).await?;
        emitted.counts.read = 1;
        Ok(emitted)
    }

    async fn emit_as(
        &mut self,
        changes: &[Change],
        original: Option<ContentHash>,
        stamp: &Stamp,
    ) -> Result<Emitted, EmitError> {
        let mut emitted = Emitted::default();
        let mut partitions: Vec<u32> = changes.iter().map(|change| self.partition_of(change.key())).collect();
        partitions.sort_unstable();
        partitions.dedup();
        self.ready(partitions).await?;

        let mut parts = changes.chunks(self.context.at_once.max(1));
        let mut floors = BTreeMap::new();
        let mut part = parts.next();
        let mut made = part.map(|part| self.make(part, original, stamp, &mut floors));
        while let Some(this) = made.take() {
            let mut this = this?;
            part = parts.next();
            // While the log confirms one part, the next one is made.
            let next = async { part.map(|part| self.make(part, original, stamp, &mut floors)) };
            let (answer, next) = tokio::join!(self.append(&this.appends), next);
            let offsets = self.appended(answer, &mut this, &mut emitted).await?;
            this.count(&mut emitted);
            let landmarks = landmarks(&this.appends, &offsets);
            let read_on = self.remember(this.entries, &offsets, landmarks).await?;
            // What was made before other records were found, and perhaps healed, may not stand above them.
            made = if read_on { part.map(|part| self.make(part, original, stamp, &mut floors)) } else { next };
        }
        self.save_one()?;
        Ok(emitted)
    }

    async fn append(&self, appends: &[Append]) -> Result<Vec<Offset>, LogError> {
        if appends.is_empty() { Ok(Vec::new()) } else { self.context.log.append(appends.to_vec()).await }
    }

    /// Saves a memory that wants it: one at a time, since it waits for the disk.
    fn save_one(&mut self) -> Result<(), EmitError> {
        let now = self.context.clock.now().timestamp_millis();
        let wants = self.owned.iter().find(|(_, owned)| owned.memory.wants_saving(now));
        let wants = wants.map(|(partition, _)| *partition);
        wants.map_or(Ok(()), |partition| self.save(partition))
    }

    /// What came of appending a part: what the topic finds too large is set aside, and the rest appended again.
    async fn appended(
        &mut self,
        mut answer: Result<Vec<Offset>, LogError>,
        made: &mut Made,
        emitted: &mut Emitted,
    ) -> Result<Vec<Offset>, EmitError> {
        loop {
            match answer {
                Ok(offsets) => return Ok(offsets),
                Err(LogError::TooLarge { index, bytes, limit, .. }) if index < made.appends.len() => {
                    let append = made.appends.remove(index);
                    let entry = made.entries.remove(index);
                    self.behind(entry.partition);
                    let text = format!("the change takes {bytes} bytes, the topic takes {limit}");
                    let raw = append.value.unwrap_or_default();
                    emitted.rejects.push(Reject::new(Some(entry.key), Reason::new("too_large", text), raw));
                    answer = self.append(&made.appends).await;
                }
                Err(error) => {
                    // Any of them may be in the log: read on before the next change.
                    for entry in &made.entries {
                        self.behind(entry.partition);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    fn behind(&mut self, partition: u32) {
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.behind = true;
        }
    }

    /// Takes our own appends into the memory; where somebody else's lie between them, reads on and heals. Answers
    /// whether it did.
    async fn remember(
        &mut self,
        entries: Vec<Entry>,
        offsets: &[Offset],
        mut landmarks: BTreeMap<u32, Landmark>,
    ) -> Result<bool, EmitError> {
        let mut by_partition: BTreeMap<u32, Vec<(Key, Known)>> = BTreeMap::new();
        for (Entry { partition, key, known, .. }, offset) in entries.into_iter().zip(offsets) {
            by_partition.entry(partition).or_default().push((key, Known { offset: *offset, last: *offset, ..known }));
        }
        let mut read_on = false;
        for (partition, entries) in by_partition {
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            let first = entries.first().map_or(owned.end, |(_, known)| known.offset);
            let last = entries.last().map_or(owned.end, |(_, known)| known.offset.next());
            if first < owned.end {
                // Something of this life stood there: it is another one, however long it is by now.
                let former = owned.incarnation.clone();
                let at = self.at(partition);
                self.context.state.incarnations.begin_anew(&at, &former).await?;
                return Err(EmitError::Reincarnated { at });
            }
            let contiguous = first == owned.end && last.0 - first.0 == entries.len() as i64;
            if contiguous && !owned.behind {
                owned.memory.put(&entries, last, true)?;
                owned.end = last;
                owned.memory.passed(landmarks.remove(&partition));
            } else {
                owned.behind = true;
                self.catch_up(partition, false).await?;
                read_on = true;
            }
        }
        Ok(read_on)
    }

    /// Saves the memory of an owned partition to disk.
    fn save(&mut self, partition: u32) -> Result<(), EmitError> {
        let now = self.context.clock.now().timestamp_millis();
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.memory.save(now)?;
        }
        Ok(())
    }

    /// Saves all memories to disk.
    pub fn save_all(&mut self) -> Result<(), EmitError> {
        for partition in self.owned() {
            self.save(partition)?;
        }
        Ok(())
    }

    /// What a value's contents come to.
    pub(crate) fn hash(&self, body: &[u8]) -> Result<ContentHash, Reason> {
        schemas::content_hash(&self.schema, body)
            .map_err(|malformed| Reason::new("not_encodable", malformed.to_string()))
    }
}

/// The last record of each partition that these appends made.
fn landmarks(appends: &[Append], offsets: &[Offset]) -> BTreeMap<u32, Landmark> {
    let mut last: BTreeMap<u32, (Offset, &Append)> = BTreeMap::new();
    for (append, offset) in appends.iter().zip(offsets) {
        let before = last.entry(append.at.partition).or_insert((*offset, append));
        if *offset > before.0 {
            *before = (*offset, append);
        }
    }
    let of =
        |offset, append: &Append| Landmark::of(offset, Some(&append.key), append.value.as_deref(), &append.headers);
    last.into_iter().map(|(partition, (offset, append))| (partition, of(offset, append))).collect()
}

/// The last change of each key, in the order in which the keys came last.
fn latest_per_key(changes: Vec<Change>) -> Vec<Change> {
    let mut last: HashMap<Key, usize> = HashMap::with_capacity(changes.len());
    for (i, change) in changes.iter().enumerate() {
        last.insert(change.key().clone(), i);
    }
    if last.len() == changes.len() {
        return changes;
    }
    changes.into_iter().enumerate().filter(|(i, change)| last.get(change.key()) == Some(i)).map(|(_, c)| c).collect()
}

/// The version a change carries, where its writer was Muster.
pub(crate) fn version_of(record: &Record) -> Option<Version> {
    record.headers.text(crate::change::header::VERSION)?.parse().ok().map(Version)
}

/// The hash a change carries, where its writer was Muster.
pub(crate) fn hash_of(record: &Record) -> Option<ContentHash> {
    record.headers.text(crate::change::header::HASH)?.parse().ok()
}
