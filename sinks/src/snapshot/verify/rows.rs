//! The rows of a dataset's Parquet files, against each other: order, windows, and that the windows' rows are the full set's.

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use pipeline::snapshot::{Coding, Dataset, Form, Set, Store};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::super::SnapshotError;
use super::super::base::Rows;
use super::super::columns::{CHANGED, KEY, VERSION};
use super::super::merge::named;
use super::super::windows::window_of;

/// The snapshot's own columns of a file's rows, in order.
pub(super) struct Keys {
    rows: Rows,
    now: Option<(StringArray, Int64Array, TimestampMicrosecondArray)>,
    at: usize,
}

/// One row's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowKey {
    pub key: String,
    pub version: i64,
    pub changed: i64,
}

impl Keys {
    /// `None`: the set has no Parquet file.
    pub fn open(store: &Store, handle: &Handle, set: &Set) -> Result<Option<Self>, SnapshotError> {
        let Some(object) = set.object(Form::Parquet, Coding::Identity) else { return Ok(None) };
        Ok(Some(Self { rows: Rows::open(store, object, handle)?, now: None, at: 0 }))
    }

    pub fn next(&mut self) -> Result<Option<RowKey>, SnapshotError> {
        loop {
            if let Some((keys, versions, changed)) = &self.now
                && self.at < keys.len()
            {
                let at = self.at;
                self.at += 1;
                let row =
                    RowKey { key: keys.value(at).to_owned(), version: versions.value(at), changed: changed.value(at) };
                return Ok(Some(row));
            }
            let Some(batch) = self.rows.next()? else { return Ok(None) };
            self.now = Some(own(&batch)?);
            self.at = 0;
        }
    }
}

fn own(batch: &RecordBatch) -> Result<(StringArray, Int64Array, TimestampMicrosecondArray), SnapshotError> {
    let keys = named(batch, KEY)?.as_string_opt::<i32>().cloned();
    let versions = named(batch, VERSION)?.as_primitive_opt::<Int64Type>().cloned();
    let changed = named(batch, CHANGED)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
    match (keys, versions, changed) {
        (Some(keys), Some(versions), Some(changed)) => Ok((keys, versions, changed)),
        _ => Err(SnapshotError::Damaged {
            path: "a file".into(),
            reason: "the snapshot's own columns have other types".into(),
        }),
    }
}

/// Rows in order, as far as two files must have the same: how many, and a digest of them.
#[derive(Default)]
struct Trace {
    rows: u64,
    digest: Sha256,
}

impl Trace {
    fn add(&mut self, row: &RowKey) {
        self.rows += 1;
        self.digest.update((row.key.len() as u64).to_le_bytes());
        self.digest.update(&row.key);
        self.digest.update(row.version.to_le_bytes());
        self.digest.update(row.changed.to_le_bytes());
    }
}

/// The rows of the full set that lie in a window must be the rows of that window's part, in the same order. One file is open at a
/// time: with those of all windows, each with a row group, memory would grow with the depths.
pub(super) fn compare(store: &Store, handle: &Handle, dataset: &Dataset) -> Result<Vec<String>, SnapshotError> {
    let mut problems = Vec::new();
    let begins: Vec<i64> = dataset.windows.iter().map(|window| window.from.timestamp_micros()).collect();
    let Some(mut full) = Keys::open(store, handle, &dataset.full)? else {
        return Ok(vec!["the full set has no Parquet file".into()]);
    };
    let mut of_windows: Vec<Trace> = begins.iter().map(|_| Trace::default()).collect();
    let mut rows = 0;
    let mut unordered = 0_u64;
    let mut last: Option<String> = None;
    while let Some(row) = full.next()? {
        rows += 1;
        unordered += u64::from(last.as_ref().is_some_and(|last| *last >= row.key));
        if let Some(window) = window_of(&begins, row.changed) {
            of_windows[window].add(&row);
        }
        last = Some(row.key);
    }
    drop(full);
    if unordered > 0 {
        problems.push(format!("{unordered} rows of the full set aren't in the order of the keys"));
    }
    if rows != dataset.full.records {
        problems.push(format!("{rows} rows in the full set instead of {}", dataset.full.records));
    }
    for (window, in_full) in dataset.windows.iter().zip(of_windows) {
        let mut in_part = Trace::default();
        if let Some(mut part) = Keys::open(store, handle, &window.part)? {
            while let Some(row) = part.next()? {
                in_part.add(&row);
            }
        }
        let (depth, rows) = (window.depth, in_part.rows);
        if rows != window.part.records {
            problems.push(format!("{rows} rows in window {depth} instead of {}", window.part.records));
        }
        if rows != in_full.rows {
            problems.push(format!("the full set has {} rows of window {depth}, its part {rows}", in_full.rows));
        } else if in_part.digest.finalize() != in_full.digest.finalize() {
            problems.push(format!("the rows of window {depth} aren't those that the full set has of it"));
        }
    }
    for window in &dataset.windows {
        let Some(mut whole) =
            window.whole.as_ref().map(|whole| Keys::open(store, handle, whole)).transpose()?.flatten()
        else {
            continue;
        };
        let (mut rows, mut outside) = (0, 0);
        while let Some(row) = whole.next()? {
            rows += 1;
            outside += u64::from(row.changed < window.from.timestamp_micros());
        }
        let wanted = window.whole.as_ref().map_or(0, |whole| whole.records);
        if rows != wanted || outside > 0 {
            let text = format!(
                "depth {} has {rows} rows instead of {wanted}, {outside} of them older than it goes",
                window.depth
            );
            problems.push(text);
        }
    }
    Ok(problems)
}
