//! Makes a batch of records: the latest per key, decoded as far as their frames.

use std::collections::{BTreeMap, HashMap};

use schemas::Key;

use super::Place;
use crate::change::Version;
use crate::emitter::{hash_of, version_of};
use crate::ledger::Counts;
use crate::log::{Offset, Record, TopicPartition};
use crate::processor::Payload;
use crate::reject::{Reason, Reject};
use crate::run::{RunError, Runtime};
use crate::sink::{Batch, Delivery, Part};
use crate::state::{Landmark, StateError};

/// A record that can't even be handed to a sink.
pub(super) struct Unusable {
    pub at: TopicPartition,
    pub offset: Offset,
    pub version: Version,
    pub reject: Reject,
}

/// The batch of these records, and those that can't be used. `counts` gets what was read, superseded and rejected.
pub(super) async fn batch(
    runtime: &Runtime,
    places: &BTreeMap<TopicPartition, Place>,
    records: Vec<Record>,
    counts: &mut Counts,
) -> Result<(Batch, Vec<Unusable>), RunError> {
    let mut by_partition: BTreeMap<TopicPartition, Vec<Record>> = BTreeMap::new();
    for record in records {
        // A rebalance may have taken a partition away between the log's answer and now.
        if places.contains_key(&record.at) {
            counts.read += 1;
            by_partition.entry(record.at.clone()).or_default().push(record);
        }
    }
    let (mut parts, mut unusable) = (Vec::with_capacity(by_partition.len()), Vec::new());
    for (at, records) in by_partition {
        let Some(place) = places.get(&at) else { continue };
        let Some(last) = records.last() else { continue };
        let (next, landmark) = (last.offset.next(), Some(Landmark::of_record(last)));
        let mut deliveries = Vec::with_capacity(records.len());
        for record in latest_per_key(records, counts) {
            match delivery(runtime, &record).await? {
                Ok(delivery) => deliveries.push(delivery),
                Err(reject) => {
                    counts.rejected += 1;
                    let version = version_of(&record).unwrap_or_default();
                    unusable.push(Unusable { at: at.clone(), offset: record.offset, version, reject });
                }
            }
        }
        let (of, sweeping) = (place.of.clone(), place.sweep.is_some());
        parts.push(Part { of, deliveries, expected: place.next, next, landmark, sweeping });
    }
    Ok((Batch { parts }, unusable))
}

fn latest_per_key(records: Vec<Record>, counts: &mut Counts) -> Vec<Record> {
    // By place in the batch, not by offset: the log may hand the same record out twice.
    let last: HashMap<Option<bytes::Bytes>, usize> =
        records.iter().enumerate().map(|(i, r)| (r.key.clone(), i)).collect();
    counts.superseded += (records.len() - last.len()) as u64;
    let latest = records.into_iter().enumerate().filter(|(i, record)| last.get(&record.key) == Some(i));
    latest.map(|(_, record)| record).collect()
}

/// The change that a record carries, or why it can't be handed to a sink.
pub(crate) async fn delivery(runtime: &Runtime, record: &Record) -> Result<Result<Delivery, Reject>, RunError> {
    let raw = record.value.clone().unwrap_or_default();
    let Some(key) = record.key.as_deref().and_then(|key| Key::from_bytes(key).ok()) else {
        return Ok(Err(Reject::new(None, Reason::new("no_key", "the record has no text key"), raw)));
    };
    let reject = |code, text: String| Ok(Err(Reject::new(Some(key.clone()), Reason::new(code, text), raw.clone())));
    let Some(version) = version_of(record) else {
        return reject("foreign", "the record has no version: something other than muster wrote it".into());
    };
    let Some(value) = &record.value else {
        let offset = record.offset;
        return Ok(Ok(Delivery { key, version, hash: None, offset, payload: None }));
    };
    let (id, body) = match schemas::unframe(value) {
        Ok(parts) => parts,
        Err(malformed) => return reject("malformed", malformed.to_string()),
    };
    let schema = match runtime.state.schemas.schema(id).await {
        Ok(schema) => schema,
        Err(error @ StateError::UnknownSchema { .. }) => return reject("unknown_schema", error.to_string()),
        Err(error) => return Err(error.into()),
    };
    if let Err(malformed) = schemas::check(&schema, body) {
        return reject("malformed", malformed.to_string());
    }
    let payload = Some(Payload { schema, body: value.slice_ref(body) });
    Ok(Ok(Delivery { key, version, hash: hash_of(record), offset: record.offset, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_handed_out_twice_is_taken_once() {
        let record = Record {
            at: TopicPartition::new("register.applicant", 0),
            offset: Offset(4),
            timestamp: chrono::DateTime::UNIX_EPOCH,
            key: Some(bytes::Bytes::from_static(b"amal")),
            value: None,
            headers: crate::log::Headers::default(),
        };
        let mut counts = Counts::default();
        let latest = latest_per_key(vec![record.clone(), record], &mut counts);
        // By offset both were the latest, and one of them was counted as superseded besides: the account didn't balance.
        assert_eq!((latest.len(), counts.superseded), (1, 1));
    }
}
