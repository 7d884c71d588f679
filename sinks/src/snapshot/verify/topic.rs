//! A dataset against its topic: every key with its version, as of the offsets that the manifest names.

use std::io;
use std::path::Path;

use pipeline::log::{Offset, TopicPartition};
use pipeline::run::Runtime;
use pipeline::snapshot::{Dataset, Store};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::super::SnapshotError;
use super::super::changes::{Begin, collect};
use super::super::runs::{Change, Sorted};
use super::super::scratch::Scratch;
use super::rows::{Keys, RowKey};

/// What comparing has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Keys with the same version in both.
    pub same: u64,
    /// Keys that have moved on in the topic since: compaction may have taken what they were.
    pub moved_on: u64,
    /// Keys that only the topic has.
    pub missing: u64,
    /// Keys that only the snapshot has.
    pub surplus: u64,
    /// Keys with another version.
    pub differing: u64,
    /// The first of the three above.
    pub keys: Vec<String>,
}

impl Compared {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.missing + self.surplus + self.differing == 0
    }

    fn named(&mut self, key: &str, most: usize) {
        if self.keys.len() < most {
            self.keys.push(key.to_owned());
        }
    }
}

/// Compares, naming at most so many keys. Another life of a partition than the manifest's can't be compared, which is said. Files
/// lie below `scratch` meanwhile, in a folder of its own.
pub async fn compare_with_topic(
    runtime: &Runtime,
    store: &Store,
    dataset: &Dataset,
    scratch: &Path,
    most: usize,
) -> Result<Compared, SnapshotError> {
    let mut begins = Vec::new();
    for offset in &dataset.offsets {
        let at = TopicPartition::new(dataset.topic.as_str(), offset.partition);
        if runtime.state.incarnations.present(&at).await? != offset.incarnation {
            return Err(SnapshotError::Dataset {
                reason: format!("{at} has begun a new life since"),
                hint: "compare a newer generation".into(),
            });
        }
        begins.push(Begin { at, incarnation: offset.incarnation.clone(), from: offset.next });
    }
    let failed = |source| SnapshotError::Scratch { source };
    let scratch = Scratch::below(scratch).map_err(failed)?;
    let (newer_folder, all_folder) = (scratch.path().join("newer"), scratch.path().join("all"));
    std::fs::create_dir_all(&newer_folder).map_err(failed)?;
    std::fs::create_dir_all(&all_folder).map_err(failed)?;
    let quiet = |_: u64| {};
    const MEMORY: usize = 32 << 20;
    let mut all: Vec<Begin> = begins.clone();
    all.iter_mut().for_each(|begin| begin.from = Offset::START);
    let all = collect(runtime, &all, &all_folder, MEMORY, &quiet).await?;
    // Read last, so that whatever is in the other one behind the offsets is in here, too.
    let newer = collect(runtime, &begins, &newer_folder, MEMORY, &quiet).await?;
    let (store, dataset, handle) = (store.clone(), dataset.clone(), Handle::current());
    let work = move || {
        // The folder stays while the thread is at work, which nobody may be waiting for any more.
        let _held = scratch;
        let keys = Keys::open(&store, &handle, &dataset.full)?;
        join(all.changes, newer.changes, keys, most)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panicked| failed(io::Error::other(panicked)))?
}

fn join(mut all: Sorted, mut newer: Sorted, rows: Option<Keys>, most: usize) -> Result<Compared, SnapshotError> {
    let failed = |source| SnapshotError::Scratch { source };
    let mut compared = Compared::default();
    let mut rows = rows;
    let mut row: Option<RowKey> = next_row(&mut rows)?;
    let mut said: Option<Change> = all.next().map_err(failed)?;
    let mut moved: Option<Change> = newer.next().map_err(failed)?;
    loop {
        let row_key = row.as_ref().map(|row| row.key.as_bytes());
        let said_key = said.as_ref().map(|said| said.key.as_slice());
        let Some(key) = [row_key, said_key].into_iter().flatten().min().map(<[u8]>::to_vec) else {
            return Ok(compared);
        };
        while moved.as_ref().is_some_and(|moved| moved.key < key) {
            moved = newer.next().map_err(failed)?;
        }
        let has_moved = moved.as_ref().is_some_and(|moved| moved.key == key);
        let in_row = if row_key == Some(&*key) { row.take() } else { None };
        let in_topic = if said_key == Some(&*key) { said.take() } else { None };
        let live = in_topic.as_ref().filter(|change| change.body.is_some());
        let text = String::from_utf8_lossy(&key);
        match (&in_row, live) {
            _ if has_moved => compared.moved_on += 1,
            (Some(row), Some(change)) if row.version == change.version => compared.same += 1,
            (Some(_), Some(_)) => {
                compared.differing += 1;
                compared.named(&text, most);
            }
            (Some(_), None) => {
                compared.surplus += 1;
                compared.named(&text, most);
            }
            (None, Some(_)) => {
                compared.missing += 1;
                compared.named(&text, most);
            }
            (None, None) => {}
        }
        if in_row.is_some() {
            row = next_row(&mut rows)?;
        }
        if in_topic.is_some() {
            said = all.next().map_err(failed)?;
        }
    }
}

fn next_row(rows: &mut Option<Keys>) -> Result<Option<RowKey>, SnapshotError> {
    rows.as_mut().map_or(Ok(None), Keys::next)
}
