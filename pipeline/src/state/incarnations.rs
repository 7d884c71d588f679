//! The lives of topic partitions: a topic that was recreated or truncated under us is noticed, never skipped over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::{StateError, StateTable};
use crate::bell::Listener;
use crate::change::{Incarnation, header};
use crate::log::names::{self, Names};
use crate::log::{Ends, Headers, Log, LogError, Offset, Record, TopicPartition};

#[derive(Clone, Serialize, Deserialize)]
struct Life {
    incarnation: Incarnation,
    /// The last end that an append or a look has shown.
    end: Offset,
    /// What tells this life from another one that is as long. Earlier versions knew none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    landmark: Option<Landmark>,
    /// Keys have lost their right record: everything is to be stated again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
}

/// A record that somebody knows in a life, as a place and a fingerprint. In one life a place never holds another record;
/// compaction may take the record, and then nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landmark {
    /// Where the record stands.
    pub offset: Offset,
    /// Of its key and value, and of who wrote it when.
    #[serde(with = "hexadecimal")]
    pub print: u64,
}

impl Landmark {
    /// Of a record that stands at `offset`.
    pub fn of(offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) -> Self {
        let mut hasher = Xxh3::new();
        for part in [key, value, headers.get(header::VERSION), headers.get(header::WRITER)] {
            hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        Self { offset, print: (hasher.digest128() >> 64) as u64 }
    }

    /// Of a record that was read.
    pub fn of_record(record: &Record) -> Self {
        Self::of(record.offset, record.key.as_deref(), record.value.as_deref(), &record.headers)
    }
}

/// As it stands in a group's commits: `41:9f86d081884c7d65`.
impl fmt::Display for Landmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.offset, self.print)
    }
}

impl FromStr for Landmark {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (offset, print) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { offset: Offset(offset.parse()?), print: u64::from_str_radix(print, 16)? })
    }
}

mod hexadecimal {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(print: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{print:016x}"))
    }

    /// Earlier versions wrote twice as many digits: the first ones are the same.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        u64::from_str_radix(text.get(..16).unwrap_or(&text), 16).map_err(D::Error::custom)
    }
}

/// How far somebody knows a partition.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The partition.
    pub at: TopicPartition,
    /// The life it knows.
    pub incarnation: Incarnation,
    /// Its end there.
    pub end: Offset,
    /// The last record known there, where one was seen.
    pub landmark: Option<Landmark>,
}

/// What stands where a landmark stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Other,
    Nothing,
}

/// The incarnations of all entity topics' partitions.
pub struct Incarnations {
    table: StateTable,
    log: Arc<dyn Log>,
    /// Two components of this process that ask at the same moment get the same answer.
    naming: Mutex<()>,
}

impl Incarnations {
    /// As `muster.topics` holds them.
    pub fn new(table: StateTable, log: Arc<dyn Log>) -> Self {
        Self { table, log, naming: Mutex::default() }
    }

    /// By the log's own name: a topic that was resized begins a new life.
    fn key(&self, at: &TopicPartition) -> String {
        format!("{}|{}", self.log.own_name(&at.topic), at.partition)
    }

    /// The names that topics have now, and changes whenever something is written beside them.
    pub fn names(&self) -> Result<(Names, Listener), StateError> {
        let changes = self.table.changes();
        Ok((self.table.get::<Names>(names::KEY)?.map(|(names, _)| names).unwrap_or_default(), changes))
    }

    /// The partition's present incarnation: see [`Self::present_all`].
    pub async fn present(&self, at: &TopicPartition) -> Result<Incarnation, StateError> {
        let mut found = self.present_all(std::slice::from_ref(at)).await?;
        found.remove(at).ok_or_else(|| LogError::UnknownTopic { topic: at.to_string() }.into())
    }

    /// The partitions' present incarnations. A new one is made where there was none, where the partition ends below what
    /// had been written, and where the landmark isn't found: better compared once too often than never.
    pub async fn present_all(
        &self,
        of: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Incarnation>, StateError> {
        let _naming = self.naming.lock().await;
        let mut found = BTreeMap::new();
        loop {
            self.table.settled().await?;
            let mut open: BTreeMap<&TopicPartition, Option<(Life, Offset)>> = BTreeMap::new();
            for at in of.iter().filter(|at| !found.contains_key(*at)) {
                open.insert(at, self.table.get(&self.key(at))?);
            }
            if open.is_empty() {
                return Ok(found);
            }
            // Looked at after the records: others append, and note how far they came, all the time.
            let ends = self.ends(open.keys().copied()).await?;
            let lives = open.iter().filter_map(|(at, known)| Some((*at, &known.as_ref()?.0)));
            let standing = self.standing(lives.filter(|(at, life)| ends[*at].end >= life.end), &ends).await?;
            self.table.settled().await?;
            let mut news = Vec::new();
            for (at, known) in open {
                let key = self.key(at);
                let written_at = known.as_ref().map(|(_, written_at)| *written_at);
                if let Some((life, _)) = known {
                    if standing.contains(at) {
                        found.insert(at.clone(), life.incarnation);
                        continue;
                    }
                    if self.table.written_at(&key) != written_at {
                        // Somebody has named a later life, or come further, meanwhile.
                        continue;
                    }
                    tracing::warn!(topic = %at.topic, partition = at.partition, "topic was recreated or truncated: a new incarnation begins");
                }
                let life =
                    Life { incarnation: new_incarnation(), end: ends[at].end, landmark: None, incomplete: false };
                news.push((key, life, written_at));
            }
            // Of two processes that name a life at the same moment, the first has named it: the next round tells.
            self.table.put_unless_changed(&news).await?;
        }
    }

    async fn ends(
        &self,
        of: impl Iterator<Item = &TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Ends>, StateError> {
        let mut topics: BTreeMap<Arc<str>, Vec<Ends>> = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for at in of {
            if !topics.contains_key(&at.topic) {
                topics.insert(Arc::clone(&at.topic), self.log.ends(&at.topic).await?);
            }
            let bounds = topics[&at.topic].get(at.partition as usize).copied();
            let bounds = bounds.ok_or_else(|| LogError::UnknownTopic { topic: at.to_string() })?;
            ends.insert(at.clone(), bounds);
        }
        Ok(ends)
    }

    /// Those lives whose landmarks stand where they stood; without one, a life is believed.
    async fn standing<'l>(
        &self,
        lives: impl Iterator<Item = (&'l TopicPartition, &'l Life)>,
        ends: &BTreeMap<TopicPartition, Ends>,
    ) -> Result<BTreeSet<TopicPartition>, StateError> {
        let mut standing = BTreeSet::new();
        let mut open: BTreeMap<TopicPartition, Landmark> = BTreeMap::new();
        for (at, life) in lives {
            match life.landmark {
                Some(landmark) => drop(open.insert(at.clone(), landmark)),
                None => drop(standing.insert(at.clone())),
            }
        }
        let found = self.look_at(open, ends).await?;
        standing.extend(found.into_iter().filter(|(_, found)| *found == Found::Same).map(|(at, _)| at));
        Ok(standing)
    }

    /// What stands where these landmarks stood, with one reading of all.
    async fn look_at(
        &self,
        mut open: BTreeMap<TopicPartition, Landmark>,
        ends: &BTreeMap<TopicPartition, Ends>,
    ) -> Result<BTreeMap<TopicPartition, Found>, StateError> {
        let mut found: BTreeMap<TopicPartition, Found> = open.keys().map(|at| (at.clone(), Found::Nothing)).collect();
        open.retain(|at, landmark| ends.get(at).is_some_and(|b| b.start <= landmark.offset && landmark.offset < b.end));
        'again: while !open.is_empty() {
            let from: Vec<_> = open.iter().map(|(at, landmark)| (at.clone(), landmark.offset)).collect();
            let mut reader = match self.log.read(&from).await {
                Err(LogError::OutOfRange { at, .. }) if open.remove(&at).is_some() => continue,
                reader => reader?,
            };
            while !open.is_empty() {
                let chunk = match reader.next().await {
                    Err(LogError::OutOfRange { at, .. }) if open.remove(&at).is_some() => continue 'again,
                    chunk => chunk?,
                };
                for record in &chunk.records {
                    // The first one at or behind the place: behind it, where compaction has taken the landmark.
                    let Some(landmark) = open.remove(&record.at).filter(|landmark| landmark.offset == record.offset)
                    else {
                        continue;
                    };
                    let same = Landmark::of_record(record) == landmark;
                    found.insert(record.at.clone(), if same { Found::Same } else { Found::Other });
                }
                for (at, end) in &chunk.at_end {
                    let Some(landmark) = open.get(at) else { continue };
                    // The end may have been reported before it was known: where it lies behind the landmark, that comes.
                    if *end > landmark.offset || self.ends([at].into_iter()).await?[at].end <= landmark.offset {
                        open.remove(at);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Ends those lives that somebody has read further than they go now, and those where another record stands than they
    /// have read: the landmark is the last one below the offset that they have kept. Answers whether there were any: then what
    /// they have kept counts for nothing.
    ///
    /// The landmark in `muster.topics` isn't enough: a log that has lost its tail may have lost what was noted of it, too.
    pub async fn end_belied(&self, kept: &[Reached]) -> Result<bool, StateError> {
        let mut of_now = Vec::with_capacity(kept.len());
        for kept in kept {
            if self.is_present(&kept.at, &kept.incarnation)? {
                of_now.push(kept);
            }
        }
        let ends = self.ends(of_now.iter().map(|kept| &kept.at)).await?;
        let landmarks = of_now.iter().filter_map(|kept| Some((kept.at.clone(), kept.landmark?))).collect();
        let found = self.look_at(landmarks, &ends).await?;
        let mut any = false;
        for Reached { at, incarnation, end, .. } in of_now {
            if *end > ends[at].end || found.get(at) == Some(&Found::Other) {
                tracing::warn!(topic = %at.topic, partition = at.partition, "what was read of the topic stands there no longer: a new incarnation begins");
                self.begin_anew(at, incarnation).await?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Whether nobody has named a later life, as far as is known here.
    pub fn is_present(&self, at: &TopicPartition, incarnation: &Incarnation) -> Result<bool, StateError> {
        let known = self.table.get::<Life>(&self.key(at))?;
        Ok(known.is_some_and(|(life, _)| life.incarnation == *incarnation))
    }

    /// Another life than this one has been seen to have begun, whatever the partition's end says by now.
    pub async fn begin_anew(&self, at: &TopicPartition, former: &Incarnation) -> Result<(), StateError> {
        let key = self.key(at);
        loop {
            let known = self.known(&key).await?.filter(|(life, _)| life.incarnation == *former);
            let Some((_, written_at)) = known else { return Ok(()) };
            let incarnation = new_incarnation();
            let life = Life { incarnation, end: Offset::START, landmark: None, incomplete: false };
            // Where somebody else has noted meanwhile how far the former one came, it is still to be ended.
            self.table.put_unless_changed(&[(key.clone(), life, Some(written_at))]).await?;
        }
    }

    /// Remembers how far a partition reached, so that a shorter one is noticed.
    pub async fn reached(&self, at: &TopicPartition, incarnation: &Incarnation, end: Offset) -> Result<(), StateError> {
        let reached = Reached { at: at.clone(), incarnation: incarnation.clone(), end, landmark: None };
        self.reached_all(&[reached]).await
    }

    /// Remembers how far partitions reached, and what stands there, with one append.
    pub async fn reached_all(&self, reached: &[Reached]) -> Result<(), StateError> {
        loop {
            let mut news = Vec::new();
            for reached in reached {
                let key = self.key(&reached.at);
                let known = self.table.get::<Life>(&key)?;
                if let Some(life) = further(known.as_ref().map(|(life, _)| life), reached) {
                    news.push((key, life, known.map(|(_, at)| at)));
                }
            }
            if news.is_empty() {
                return Ok(());
            }
            // Where somebody else wrote meanwhile, there may be nothing left to say.
            self.table.put_unless_changed(&news).await?;
        }
    }

    /// Whether keys of the partition have lost their right record, in this life, and not everything was stated again.
    pub fn incomplete(&self, at: &TopicPartition, incarnation: &Incarnation) -> Result<bool, StateError> {
        let known = self.table.get::<Life>(&self.key(at))?;
        Ok(known.is_some_and(|(life, _)| life.incarnation == *incarnation && life.incomplete))
    }

    /// Remembers, durably, that keys have lost their right record, or that everything was stated again since.
    pub async fn set_incomplete(
        &self,
        at: &TopicPartition,
        incarnation: &Incarnation,
        incomplete: bool,
    ) -> Result<(), StateError> {
        let key = self.key(at);
        loop {
            let Some((life, written_at)) = self.table.get::<Life>(&key)? else { return Ok(()) };
            if life.incarnation != *incarnation || life.incomplete == incomplete {
                return Ok(());
            }
            let life = Life { incomplete, ..life };
            self.table.put_unless_changed(&[(key.clone(), life, Some(written_at))]).await?;
        }
    }

    async fn known(&self, key: &str) -> Result<Option<(Life, Offset)>, StateError> {
        self.table.settled().await?;
        self.table.get(key)
    }
}

fn new_incarnation() -> Incarnation {
    Incarnation(format!("{:016x}", fastrand::u64(..)))
}

/// What is to be remembered, where it says more than what is known.
fn further(known: Option<&Life>, reached: &Reached) -> Option<Life> {
    let Reached { incarnation, end, landmark, .. } = reached.clone();
    let Some(life) = known else { return Some(Life { incarnation, end, landmark, incomplete: false }) };
    // A later life has its own end.
    if life.incarnation != incarnation {
        return None;
    }
    let known_to = life.landmark.map(|landmark| landmark.offset);
    let landmark = landmark.filter(|landmark| known_to.is_none_or(|known| landmark.offset > known));
    if landmark.is_none() && life.end >= end {
        return None;
    }
    Some(Life { end: life.end.max(end), landmark: landmark.or(life.landmark), ..life.clone() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_landmark_is_read_as_it_was_written_and_as_it_was_written_before() {
        let landmark = Landmark { offset: Offset(41), print: 0x0086_d081_884c_7d65 };
        assert_eq!(landmark.to_string(), "41:0086d081884c7d65");
        assert_eq!(landmark.to_string().parse(), Ok(landmark));
        let said = serde_json::to_value(landmark).unwrap();
        assert_eq!(said, serde_json::json!({ "offset": 41, "print": "0086d081884c7d65" }));
        let earlier = serde_json::json!({ "offset": 41, "print": "0086d081884c7d659a2feaa0c55ad015" });
        for text in [said, earlier] {
            assert_eq!(serde_json::from_value::<Landmark>(text).unwrap(), landmark);
        }
        for wrong in ["", "41", "41:", ":7d65", "41:xyz"] {
            assert!(wrong.parse::<Landmark>().is_err(), "{wrong}");
        }
    }
}
