//! What a manifest says: one generation of all datasets. A contract for others, too: names are stable, fields are only added,
//! `schemas/snapshots/manifest.schema.json` describes it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::change::Incarnation;
use crate::log::Offset;

/// The form of manifests that this version writes and reads. Fields may be added to it; another number is another form.
pub const FORMAT: u32 = 1;

/// Counts the generations of a store, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// With leading zeros, so that names sort as numbers do: `00000042`.
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.0)
    }
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT`].
    pub format: u32,
    /// Which one it is.
    pub generation: Generation,
    /// The time by the schedule that it stands for; depth windows are counted back from here.
    pub nominal: DateTime<Utc>,
    /// When it was written, by its writer's clock.
    pub published: DateTime<Utc>,
    /// How days are counted.
    pub days: Days,
    /// The largest depth there is.
    pub max_depth: u32,
    /// By the name under which they are served, as in `employees`.
    pub datasets: BTreeMap<String, Dataset>,
    /// Generations before it, newest first, as far as the deepest window may go back: windows reach back to them. Not all of
    /// them, where they are many.
    #[serde(default)]
    pub history: Vec<Earlier>,
}

/// A generation before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Which.
    pub generation: Generation,
    /// The time by the schedule that it stood for.
    pub nominal: DateTime<Utc>,
    /// When it was written, by its writer's clock: readers before that had another one. Earlier versions didn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<DateTime<Utc>>,
}

impl Earlier {
    /// When readers began to get it, as far as is known.
    pub fn published(&self) -> DateTime<Utc> {
        self.published.unwrap_or(self.nominal)
    }
}

/// How days are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Days {
    /// A day is 24 hours before the nominal time.
    Rolling,
    /// A day is a calendar day of a zone (IANA name); depth 1 begins with the day before the nominal time's.
    Calendar {
        /// As in `Europe/Kyiv`.
        zone: String,
    },
}

/// One dataset of a generation: a table, complete as of its date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// The topic it was made from.
    pub topic: String,
    /// Everything up to this moment is in it, some later changes may be: `meta.date` of the export.
    pub date: DateTime<Utc>,
    /// Up to where each partition was read. In the order of the partitions.
    pub offsets: Vec<PartitionOffset>,
    /// The Avro schema of the topic's values that the columns were made from.
    pub schema: serde_json::Value,
    /// Every record, in the order of the keys.
    pub full: Set,
    /// Depth windows, from depth 1 on; disjoint, each newer than the one after it.
    pub windows: Vec<Window>,
    /// Keys that were deleted within the deepest window, with the times, in the order of the keys.
    pub deleted: Set,
    /// Deletions are complete from this moment on: what had gone before the first snapshot isn't known.
    pub deletions_since: DateTime<Utc>,
}

/// Up to where a partition was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: u32,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The first offset that isn't in the snapshot.
    pub next: Offset,
}

/// One day's records. Depth k holds the records of the windows 1 to k.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// 1 is the newest.
    pub depth: u32,
    /// Records that changed at this moment or later, and before the newer window's, are in it.
    pub from: DateTime<Utc>,
    /// They, in the order of the keys.
    pub part: Set,
    /// Depth k as objects of its own: the windows 1 to k, one after the other. `None`: readers join the parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Set>,
    /// How many keys were deleted in it.
    #[serde(default)]
    pub deleted: u64,
}

/// The same records in several forms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// How many.
    pub records: u64,
    /// The time of the change that was first; `None` without records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_changed: Option<DateTime<Utc>>,
    /// The time of the change that was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_changed: Option<DateTime<Utc>>,
    /// One for each form.
    pub objects: Vec<Object>,
}

/// One object of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What is in it.
    pub form: Form,
    /// How that is compressed as a whole.
    pub coding: Coding,
    /// Where it is, from the prefix on.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// Of JSON: where the records are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
}

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A JSON array of the records as the export gives them ([`super::list`]).
    Json,
    /// Columns, with those of the snapshot itself beside them: `_key`, `_version`, `_changed`.
    Parquet,
}

/// How an object is compressed as a whole; names are those of HTTP's `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Not at all.
    Identity,
    /// One gzip member.
    Gzip,
    /// zstd frames.
    Zstd,
}

/// Where the records are in an object with a JSON array: what stands between its brackets, so to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// The first byte of them.
    pub start: u64,
    /// The first byte behind them.
    pub end: u64,
    /// Their length when they are decompressed.
    pub plain_bytes: u64,
    /// CRC-32 of them when they are decompressed, as gzip has it.
    pub crc32: u32,
}

impl Coding {
    /// What HTTP calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What the names of objects end with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

impl Set {
    /// The object of this form and coding.
    pub fn object(&self, form: Form, coding: Coding) -> Option<&Object> {
        self.objects.iter().find(|object| object.form == form && object.coding == coding)
    }
}

impl Dataset {
    /// The sets that make up depth `depth`, to be read one after the other; without a depth, all records. `None`: deeper
    /// than this generation goes.
    pub fn sets(&self, depth: Option<u32>) -> Option<Vec<&Set>> {
        let Some(depth) = depth else { return Some(vec![&self.full]) };
        let upto = self.windows.iter().position(|window| window.depth == depth)?;
        match &self.windows[upto].whole {
            Some(whole) => Some(vec![whole]),
            None => Some(self.windows[..=upto].iter().map(|window| &window.part).collect()),
        }
    }
}

impl Manifest {
    /// All objects that it names.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.datasets.values().flat_map(|dataset| {
            let windows = dataset.windows.iter().flat_map(|window| std::iter::once(&window.part).chain(&window.whole));
            let sets = [&dataset.full, &dataset.deleted].into_iter().chain(windows);
            sets.flat_map(|set| &set.objects)
        })
    }
}
