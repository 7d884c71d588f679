//! The rows of a dataset's Parquet files, against each other: order, windows, and that the windows' rows are the full set's.

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use pipeline::snapshot::{Coding, Dataset, Form, Set, Store};
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

/// Each row of the full set, with the window it lies in, must be the next row of that window's part; and the other way round.
pub(super) fn compare(store: &Store, handle: &Handle, dataset: &Dataset) -> Result<Vec<String>, SnapshotError> {
    let mut problems = Vec::new();
    let begins: Vec<i64> = dataset.windows.iter().map(|window| window.from.timestamp_micros()).collect();
    let Some(mut full) = Keys::open(store, handle, &dataset.full)? else {
        return Ok(vec!["the full set has no Parquet file".into()]);
    };
    let mut parts = Vec::with_capacity(dataset.windows.len());
    for window in &dataset.windows {
        let mut part = Keys::open(store, handle, &window.part)?;
        let head = match &mut part {
            Some(part) => part.next()?,
            None => None,
        };
        parts.push((part, head, 0_u64));
    }
    let mut rows = 0;
    let mut last: Option<String> = None;
    while let Some(row) = full.next()? {
        rows += 1;
        if last.as_ref().is_some_and(|last| *last >= row.key) {
            problems.push(format!("row {rows} of the full set isn't in the order of the keys"));
        }
        if let Some(window) = window_of(&begins, row.changed)
            && let (Some(part), head, seen) = &mut parts[window]
        {
            if head.as_ref() != Some(&row) {
                problems.push(format!("row {rows} of the full set isn't the next one of window {}", window + 1));
                return Ok(problems);
            }
            *seen += 1;
            *head = part.next()?;
        }
        last = Some(row.key);
    }
    if rows != dataset.full.records {
        problems.push(format!("{rows} rows in the full set instead of {}", dataset.full.records));
    }
    for (window, (_, head, seen)) in dataset.windows.iter().zip(&parts) {
        if head.is_some() {
            problems.push(format!("window {} has rows that the full set hasn't", window.depth));
        }
        if *seen != window.part.records {
            problems.push(format!("{seen} rows in window {} instead of {}", window.depth, window.part.records));
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
