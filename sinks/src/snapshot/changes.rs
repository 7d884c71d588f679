//! Reads what a topic says since the offsets of the previous generation, to its present end, and sorts it by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::DateTime;
use pipeline::change::{Incarnation, header};
use pipeline::log::{LogError, Offset, Record, Scan, TopicPartition};
use pipeline::run::Runtime;
use pipeline::snapshot::manifest::PartitionOffset;
use pipeline::state::StateError;
use schemas::{Schema, SchemaId};

use super::SnapshotError;
use super::runs::{Change, Sorted, Sorter};

/// What was read.
pub(super) struct Collected {
    pub changes: Sorted,
    /// Up to where.
    pub offsets: Vec<PartitionOffset>,
    /// What values were written with, by id.
    pub schemas: HashMap<u32, Arc<Schema>>,
    /// The schema of the newest value.
    pub newest: Option<Arc<Schema>>,
    /// How many records.
    pub read: u64,
}

/// Where a partition's reading begins, and in which life of it.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub at: TopicPartition,
    pub incarnation: Incarnation,
    pub from: Offset,
}

/// Reads these partitions to the ends they have now.
pub(super) async fn collect(
    runtime: &Runtime,
    begins: &[Begin],
    scratch: &Path,
    sort_memory: usize,
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<Collected, SnapshotError> {
    let from: Vec<(TopicPartition, Offset)> = begins.iter().map(|begin| (begin.at.clone(), begin.from)).collect();
    let mut scan = Scan::begin(runtime.log.as_ref(), &from).await?;
    let offsets = begins.iter().map(|begin| PartitionOffset {
        partition: begin.at.partition,
        incarnation: begin.incarnation.clone(),
        next: scan.end(&begin.at).max(begin.from),
    });
    let offsets: Vec<PartitionOffset> = offsets.collect();
    let mut sorter = Sorter::new(scratch, sort_memory);
    let mut schemas: HashMap<u32, Arc<Schema>> = HashMap::new();
    let mut newest: Option<(i64, u32)> = None;
    let mut read = 0;
    while let Some(records) = scan.next().await? {
        if records.is_empty() {
            continue;
        }
        let mut changes = Vec::with_capacity(records.len());
        for record in &records {
            let change = change(record)?;
            if change.body.is_some() {
                if let Entry::Vacant(unknown) = schemas.entry(change.schema) {
                    unknown.insert(schema(runtime, record, change.schema).await?);
                }
                newest = newest.max(Some((change.version, change.schema)));
            }
            changes.push(change);
        }
        read += changes.len() as u64;
        told(read);
        // Sorting and writing to disk take their time: not on the runtime's threads.
        sorter = blocking(move || {
            for change in changes {
                sorter.push(change)?;
            }
            Ok(sorter)
        })
        .await?;
    }
    let changes = blocking(move || sorter.finish()).await?;
    let newest = newest.and_then(|(_, id)| schemas.get(&id).cloned());
    Ok(Collected { changes, offsets, schemas, newest, read })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SnapshotError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|source| SnapshotError::Scratch { source })
}

async fn schema(runtime: &Runtime, record: &Record, id: u32) -> Result<Arc<Schema>, SnapshotError> {
    match runtime.state.schemas.schema(SchemaId(id)).await {
        Ok(schema) => Ok(schema),
        Err(error @ (StateError::UnknownSchema { .. } | StateError::Schema(_))) => {
            Err(not_ours(record, &error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a record says. One that can't be used stops the dataset: without it the snapshot would be wrong, and say nothing of it.
fn change(record: &Record) -> Result<Change, SnapshotError> {
    let key = record.key.as_deref().filter(|key| std::str::from_utf8(key).is_ok());
    let Some(key) = key else { return Err(not_ours(record, "it has no key that is text")) };
    let headers = &record.headers;
    let Some(version) = headers.text(header::VERSION).and_then(|text| text.parse().ok()) else {
        return Err(not_ours(record, "it has no version"));
    };
    let captured = headers.text(header::CAPTURED).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let captured = captured.map_or(record.timestamp, |captured| captured.to_utc());
    let (schema, body) = match &record.value {
        None => (0, None),
        Some(value) => match schemas::unframe(value) {
            Ok((id, body)) => (id.0, Some(body.to_vec())),
            Err(fault) => return Err(not_ours(record, &fault.to_string())),
        },
    };
    Ok(Change {
        key: key.to_vec(),
        version,
        captured: captured.timestamp_micros(),
        initial: headers.text(header::ASK) == Some("initial"),
        schema,
        body,
    })
}

fn not_ours(record: &Record, why: &str) -> SnapshotError {
    SnapshotError::Dataset {
        reason: format!("the record at {}@{} can't be used: {why}", record.at, record.offset),
        hint: "something other than muster writes this topic: have the record deleted or written again".into(),
    }
}

/// Whether the log says that the place that was read isn't there any more.
pub(super) fn is_void(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Log(LogError::OutOfRange { .. }))
}
