//! The lives of topic partitions: a topic that was recreated or truncated under us is noticed, never skipped over.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::{StateError, StateTable};
use crate::change::{Incarnation, header};
use crate::log::{Headers, Log, LogError, Offset, Record, TopicPartition};

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

/// The last record that an owner knows in a life, as a place and a fingerprint. In one life a place never holds another
/// record; compaction may take the record, and then nobody can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landmark {
    offset: Offset,
    print: String,
}

impl Landmark {
    /// Of a record that stands at `offset`: its key and value, and who wrote it when.
    pub fn of(offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) -> Self {
        let mut hasher = Xxh3::new();
        for part in [key, value, headers.get(header::VERSION), headers.get(header::WRITER)] {
            hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        Self { offset, print: format!("{:032x}", hasher.digest128()) }
    }

    /// Of a record that was read.
    pub fn of_record(record: &Record) -> Self {
        Self::of(record.offset, record.key.as_deref(), record.value.as_deref(), &record.headers)
    }
}

/// How far an owner knows a partition.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The partition.
    pub at: TopicPartition,
    /// The life it knows.
    pub incarnation: Incarnation,
    /// Its end there.
    pub end: Offset,
    /// The last record it knows there, where it has seen one.
    pub landmark: Option<Landmark>,
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

    /// The partition's present incarnation. A new one is made where there was none, where the partition ends below what
    /// had been written, and where the landmark isn't found: better compared once too often than never.
    pub async fn present(&self, at: &TopicPartition) -> Result<Incarnation, StateError> {
        let key = at.to_string();
        let _naming = self.naming.lock().await;
        loop {
            let known = self.known(&key).await?;
            // Looked at after the record: others append, and note how far they came, all the time.
            let end = self.end(at).await?;
            if let Some((life, written_at)) = &known {
                if end >= life.end && self.stands(at, life).await? {
                    return Ok(life.incarnation.clone());
                }
                let again = self.known(&key).await?;
                if again.is_none_or(|(_, again)| again != *written_at) {
                    // Somebody has named a later life, or come further, meanwhile.
                    continue;
                }
                tracing::warn!(topic = %at.topic, partition = at.partition, "topic was recreated or truncated: a new incarnation begins");
            }
            let life = Life { incarnation: new_incarnation(), end, landmark: None, incomplete: false };
            // Of two processes that name a life at the same moment, the first has named it: the next round tells.
            self.table.put_unless_changed(&[(key.clone(), life, known.map(|(_, at)| at))]).await?;
        }
    }

    /// Another life than this one has been seen to have begun, whatever the partition's end says by now.
    pub async fn begin_anew(&self, at: &TopicPartition, former: &Incarnation) -> Result<(), StateError> {
        let key = at.to_string();
        let known = self.known(&key).await?;
        if let Some((_, written_at)) = known.filter(|(life, _)| life.incarnation == *former) {
            let incarnation = new_incarnation();
            let life = Life { incarnation, end: Offset::START, landmark: None, incomplete: false };
            self.table.put_unless_changed(&[(key, life, Some(written_at))]).await?;
        }
        Ok(())
    }

    /// Whether the landmark of a life stands where it stood.
    async fn stands(&self, at: &TopicPartition, life: &Life) -> Result<bool, StateError> {
        let Some(landmark) = &life.landmark else { return Ok(true) };
        let mut reader = match self.log.read(&[(at.clone(), landmark.offset)]).await {
            Err(LogError::OutOfRange { .. }) => return Ok(false),
            reader => reader?,
        };
        loop {
            let chunk = match reader.next().await {
                Err(LogError::OutOfRange { .. }) => return Ok(false),
                chunk => chunk?,
            };
            if let Some(record) = chunk.records.first() {
                return Ok(Landmark::of_record(record) == *landmark);
            }
            if chunk.at_end.iter().any(|(of, end)| of == at && *end > landmark.offset) {
                return Ok(false);
            }
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
                let key = reached.at.to_string();
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
        let known = self.table.get::<Life>(&at.to_string())?;
        Ok(known.is_some_and(|(life, _)| life.incarnation == *incarnation && life.incomplete))
    }

    /// Remembers, durably, that keys have lost their right record, or that everything was stated again since.
    pub async fn set_incomplete(
        &self,
        at: &TopicPartition,
        incarnation: &Incarnation,
        incomplete: bool,
    ) -> Result<(), StateError> {
        let key = at.to_string();
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

    async fn end(&self, at: &TopicPartition) -> Result<Offset, StateError> {
        let ends = self.log.ends(&at.topic).await?;
        let bounds = ends.get(at.partition as usize);
        Ok(bounds.ok_or_else(|| LogError::UnknownTopic { topic: at.to_string() })?.end)
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
    let known_to = life.landmark.as_ref().map(|landmark| landmark.offset);
    let landmark = landmark.filter(|landmark| known_to.is_none_or(|known| landmark.offset > known));
    if landmark.is_none() && life.end >= end {
        return None;
    }
    Some(Life { end: life.end.max(end), landmark: landmark.or_else(|| life.landmark.clone()), ..life.clone() })
}
