//! Dead letters: rejects stored with everything needed to repair and replay them.
//!
//! The letter itself is a record of `muster.dead-letters`, written before progress moves past the reject; the
//! operations database indexes it for people (`index`). Contents never appear in headers, keys or logs.

mod index;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::change::{Incarnation, Version};
use crate::clock::Clock;
use crate::log::{Append, Headers, Log, LogError, Offset, TopicPartition};
use crate::operations::{LetterFilter, LetterState, Operations, OperationsError};
use crate::reject::{Reason, Reject};
use crate::state::topic::DEAD_LETTERS;
use crate::state::{Incarnations, StateError};
use crate::telemetry;

use self::index::Index;

/// The record of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "lowercase")]
pub enum Contents {
    /// As the system gave it, where that is text.
    Text {
        /// The record.
        raw: String,
    },
    /// Anything else: an Avro value with its wire frame, or bytes that aren't text.
    Binary {
        /// The record, in base64.
        raw: String,
    },
}

/// More of a record than this isn't kept: a letter must fit its topic (4 MiB), six bytes for one at the worst.
const KEPT: usize = 512 << 10;

impl Contents {
    /// Keeps bytes as text where they are; at most the first 512 KiB.
    pub fn of(raw: &[u8]) -> Self {
        let raw = &raw[..raw.len().min(KEPT)];
        match std::str::from_utf8(raw) {
            Ok(text) => Self::Text { raw: text.to_owned() },
            Err(_) => Self::Binary { raw: BASE64.encode(raw) },
        }
    }

    /// Keeps bytes as base64, whatever they are; at most the first 512 KiB.
    pub fn binary(raw: &[u8]) -> Self {
        let raw = &raw[..raw.len().min(KEPT)];
        Self::Binary { raw: BASE64.encode(raw) }
    }

    /// The record's bytes.
    pub fn bytes(&self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Text { raw } => Ok(raw.clone().into_bytes()),
            Self::Binary { raw } => BASE64.decode(raw),
        }
    }
}

/// One dead letter.
#[derive(Clone, Serialize, Deserialize)]
pub struct Letter {
    /// The same reject has the same id, so that writing it twice leaves one.
    pub id: String,
    /// Who set it aside: a feed, a processor or a sink.
    pub component: String,
    /// The topic the record came from; for a feed, the one it was to go to.
    pub topic: String,
    /// Where it stands there, for records that were read from a topic.
    pub place: Option<(u32, Offset)>,
    /// Which life of the topic that was, for a sink's letters: in another one, its version says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Incarnation>,
    /// Its key, where it could be read.
    pub key: Option<String>,
    /// Its version, for records that were read from a topic.
    pub version: Option<Version>,
    /// Its hash, for records that were read from a topic.
    pub hash: Option<String>,
    /// Groups letters of one kind.
    pub code: String,
    /// Why, without contents.
    pub reason: String,
    /// When it was set aside.
    pub at: DateTime<Utc>,
    /// The run, for feeds.
    pub run: Option<String>,
    /// The record.
    pub contents: Contents,
}

impl Letter {
    /// The letter of a record in this life of its topic. The same record in another life has a letter of its own: whoever
    /// settles one hasn't settled the other.
    #[must_use]
    pub fn of_life(mut self, life: Option<Incarnation>) -> Self {
        if let Some(Incarnation(name)) = &life {
            self.id = letter_id(&[self.id.as_bytes(), name.as_bytes()]);
        }
        self.life = life;
        self
    }
}

/// Why a letter couldn't be written or settled. Progress must not move past the reject.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index.
    #[error(transparent)]
    Operations(#[from] OperationsError),
    /// The letter can't be written as JSON.
    #[error("a dead letter can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// Which life of their topic it is.
    #[error(transparent)]
    State(StateError),
}

impl From<StateError> for LetterError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Log(error) => Self::Log(error),
            error => Self::State(error),
        }
    }
}

/// Writes and settles letters.
#[derive(Clone)]
pub struct DeadLetters {
    index: Arc<Index>,
    clock: Arc<dyn Clock>,
}

impl DeadLetters {
    /// The letters' topic must exist.
    pub async fn open(log: Arc<dyn Log>, operations: Operations, clock: Arc<dyn Clock>) -> Result<Self, LetterError> {
        let partitions = u32::try_from(log.ends(DEAD_LETTERS).await?.len()).unwrap_or(u32::MAX);
        Ok(Self { index: Arc::new(Index::new(log, operations, partitions)), clock })
    }

    /// The same, with an index that begins anew when the letters' topic was made anew.
    pub fn with_lives(self, lives: Arc<Incarnations>) -> Self {
        let Index { log, operations, partitions, .. } = &*self.index;
        let mut index = Index::new(Arc::clone(log), operations.clone(), *partitions);
        index.lives = Some(lives);
        Self { index: Arc::new(index), ..self }
    }

    /// The index.
    pub fn operations(&self) -> &Operations {
        &self.index.operations
    }

    /// A letter for a reject of a feed.
    pub fn of_feed(&self, feed: &str, run: &str, reject: &Reject) -> Letter {
        let id = letter_id(&[feed.as_bytes(), &reject.raw]);
        self.letter(id, feed, feed, reject, Some(run), Contents::of(&reject.raw))
    }

    /// A letter for a reject of a processor or a sink: the record of `key` in `topic`.
    pub fn of_record(
        &self,
        component: &str,
        topic: &str,
        place: Option<(u32, Offset)>,
        reject: &Reject,
        version: Version,
    ) -> Letter {
        self.of_part(component, topic, place, reject, version, None)
    }

    /// The same of one part of what was made of the record: several parts have letters of their own.
    pub fn of_part(
        &self,
        component: &str,
        topic: &str,
        place: Option<(u32, Offset)>,
        reject: &Reject,
        version: Version,
        part: Option<&str>,
    ) -> Letter {
        // Records without a key are told apart by where they stand.
        let key = match (&reject.key, place) {
            (Some(key), _) => key.as_str().to_owned(),
            (None, place) => place.map(|(partition, offset)| format!("{partition}@{offset}")).unwrap_or_default(),
        };
        let version_bytes = version.0.to_le_bytes();
        let whole = [component.as_bytes(), topic.as_bytes(), key.as_bytes(), &version_bytes];
        let parts: Vec<&[u8]> = whole.into_iter().chain(part.map(str::as_bytes)).collect();
        let id = letter_id(&parts);
        let mut letter = self.letter(id, component, topic, reject, None, Contents::binary(&reject.raw));
        letter.place = place;
        letter.version = Some(version);
        letter
    }

    fn letter(
        &self,
        id: String,
        component: &str,
        topic: &str,
        reject: &Reject,
        run: Option<&str>,
        contents: Contents,
    ) -> Letter {
        let Reason { code, text } = &reject.reason;
        Letter {
            id,
            component: component.to_owned(),
            topic: topic.to_owned(),
            place: None,
            life: None,
            key: reject.key.as_ref().map(|key| key.as_str().to_owned()),
            version: None,
            hash: None,
            code: (*code).to_owned(),
            reason: match reject.raw.len() {
                ..=KEPT => text.clone(),
                bytes => format!("{text} (the record has {bytes} bytes; the letter keeps the first {KEPT})"),
            },
            at: self.clock.now(),
            run: run.map(str::to_owned),
            contents,
        }
    }

    /// Writes letters, durably: to the log, then to the index.
    pub async fn write(&self, letters: &[Letter]) -> Result<(), LetterError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut appends = Vec::with_capacity(letters.len());
        for letter in letters {
            appends.push(self.append(&letter.id, Some(serde_json::to_vec(letter)?.into())));
        }
        self.index.log.append(appends).await?;
        for letter in letters {
            let labels = [("component", letter.component.clone()), ("code", letter.code.clone())];
            metrics::counter!(telemetry::LETTERS, &labels).increment(1);
        }
        self.index.try_catch_up().await;
        Ok(())
    }

    /// Settles a letter, durably: it leaves the log, and the index remembers what became of it.
    pub async fn settle(&self, id: &str, state: LetterState) -> Result<(), LetterError> {
        let mut append = self.append(id, None);
        append.headers.push(index::STATE, state.as_str());
        append.headers.push(index::AT, self.clock.now().to_rfc3339());
        self.index.log.append(vec![append]).await?;
        self.index.try_catch_up().await;
        Ok(())
    }

    /// These versions of these keys of a topic were delivered: older open letters of the component are superseded.
    pub async fn delivered(
        &self,
        component: &str,
        topic: &str,
        delivered: &[(&str, Version)],
    ) -> Result<u64, LetterError> {
        let filter = LetterFilter {
            state: Some(LetterState::Open),
            component: Some(component.to_owned()),
            topic: Some(topic.to_owned()),
            ..LetterFilter::default()
        };
        if delivered.is_empty() {
            return Ok(0);
        }
        if self.operations().resting() {
            self.index.missed(component, topic, delivered);
            return Ok(0);
        }
        let missed = self.index.take_missed(component, topic);
        let mut latest: HashMap<&str, Version> = missed.iter().map(|(key, version)| (key.as_str(), *version)).collect();
        for (key, version) in delivered {
            let known = latest.entry(key).or_insert(*version);
            *known = (*known).max(*version);
        }
        let open = match self.operations().count_letters(&filter).await {
            Ok(0) => return Ok(0),
            Ok(_) => {
                let keys: Vec<&str> = latest.keys().copied().collect();
                self.operations().open_letters_of(component, &keys).await
            }
            Err(error) => Err(error),
        };
        let open = match open {
            Ok(open) => open,
            Err(error) => {
                // History holds nobody up; a letter that stays open is found to be superseded when it is replayed.
                self.operations().rest(&error);
                let again: Vec<(&str, Version)> = latest.into_iter().collect();
                self.index.missed(component, topic, &again);
                return Ok(0);
            }
        };
        let mut superseded = 0;
        for letter in open {
            let delivered = letter.key.as_deref().and_then(|key| latest.get(key));
            let newer = delivered.is_some_and(|version| letter.version.is_none_or(|v| v < version.0));
            if newer && letter.topic.as_deref() == Some(topic) {
                self.settle(&letter.id, LetterState::Superseded).await?;
                superseded += 1;
            }
        }
        Ok(superseded)
    }

    /// These keys of a feed could be read, whether they had changed or not: their open letters are superseded. Asked of every
    /// page, so that a crash between a change and its letter is made up for when the record is read again.
    pub async fn readable(&self, feed: &str, keys: &[&str]) -> Result<u64, LetterError> {
        // What can't be read has no version.
        let delivered: Vec<(&str, Version)> = keys.iter().map(|key| (*key, Version(i64::MAX))).collect();
        self.delivered(feed, feed, &delivered).await
    }

    /// One letter, whole. `None`: no such id.
    pub async fn get(&self, id: &str) -> Result<Option<(LetterState, Letter)>, LetterError> {
        if let Some(found) = self.indexed(id).await? {
            return Ok(Some(found));
        }
        // Another machine's process may have written it since.
        self.index.catch_up().await?;
        self.indexed(id).await
    }

    async fn indexed(&self, id: &str) -> Result<Option<(LetterState, Letter)>, LetterError> {
        let Some((row, text)) = self.operations().letter(id).await? else { return Ok(None) };
        Ok(Some((row.state, serde_json::from_str(&text)?)))
    }

    /// Enters what the log holds and the index doesn't know yet: other processes write letters, too, and the index may
    /// have been lost or away.
    pub async fn catch_up(&self) -> Result<(), LetterError> {
        self.index.catch_up().await
    }

    /// The same, where nobody waits for it: a database that is away is asked again later.
    pub async fn try_catch_up(&self) {
        self.index.try_catch_up().await;
    }

    fn append(&self, id: &str, value: Option<Bytes>) -> Append {
        let partition = schemas::partition_of(id.as_bytes(), self.index.partitions);
        let key = Bytes::copy_from_slice(id.as_bytes());
        Append { at: TopicPartition::new(DEAD_LETTERS, partition), key, value, headers: Headers::default() }
    }
}

/// 64 bits are plenty for letters, and short enough to type.
fn letter_id(parts: &[&[u8]]) -> String {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    format!("{:016x}", hasher.digest())
}
