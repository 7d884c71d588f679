//! What a log no longer keeps: compaction, and places that were lost.

use super::super::{
    Harness, all, assigned, at, cannot, delivered, group, is_lost_place, key, record, tombstone, topic, topic_with,
    until_end, value, within,
};
use crate::log::{Append, Event, LogError, Offset, TopicPartition, scan};

/// Appends versions and tombstones, and waits until each key's records are those of `expected` (key and version).
async fn compact_until(harness: &dyn Harness, place: &TopicPartition, expected: &[(&str, Option<&str>)]) -> bool {
    let compacted = async {
        loop {
            if !harness.compact(&place.topic).await {
                return false;
            }
            let records = all(harness, place).await;
            let ours = records.iter().filter(|record| key(record) != "filler");
            let left: Vec<(String, Option<String>)> = ours.map(|record| (key(record), value(record))).collect();
            let left: Vec<(&str, Option<&str>)> = left.iter().map(|(key, v)| (key.as_str(), v.as_deref())).collect();
            if left == expected {
                return true;
            }
            tokio::task::yield_now().await;
        }
    };
    within(harness, "compaction", compacted).await
}

/// Of each key the latest record stays, with its offset; then tombstones go, too.
pub async fn compaction_keeps_the_latest_and_then_drops_tombstones(harness: &dyn Harness) {
    let log = harness.log().await;
    let topic = topic_with(harness, 1, harness.compacting()).await;
    let place = at(&topic, 0);
    let mut records: Vec<Append> = Vec::new();
    for version in ["1", "2", "3"] {
        records.extend(["amal", "ben", "chi"].map(|key| record(&place, key, version)));
    }
    records.push(tombstone(&place, "ben"));
    records.push(record(&place, "filler", ""));
    log.append(records).await.expect("appended");
    if !compact_until(harness, &place, &[("amal", Some("3")), ("chi", Some("3"))]).await {
        return cannot("compact");
    }
    let offsets: Vec<Offset> =
        all(harness, &place).await.iter().filter(|record| key(record) != "filler").map(|r| r.offset).collect();
    assert_eq!(offsets, [Offset(6), Offset(8)], "offsets keep their gaps");
    assert!(log.ends(&topic).await.expect("known")[0].end >= Offset(11));
}

/// A scan from anywhere ends at the end that was reported, whatever compaction has left there.
pub async fn a_scan_ends_where_compaction_left_gaps(harness: &dyn Harness) {
    let log = harness.log().await;
    let topic = topic_with(harness, 1, harness.compacting()).await;
    let place = at(&topic, 0);
    let mut records: Vec<Append> = ["1", "2", "3"].map(|version| record(&place, "amal", version)).to_vec();
    records.extend([record(&place, "ben", "1"), tombstone(&place, "ben"), tombstone(&place, "chi")]);
    log.append(records).await.expect("appended");
    let compacted = async {
        loop {
            if !harness.compact(&topic).await {
                return false;
            }
            // Some logs keep the last record or two, whatever they are.
            if all(harness, &place).await.iter().filter(|record| key(record) == "amal").count() == 1 {
                return true;
            }
            tokio::task::yield_now().await;
        }
    };
    if !within(harness, "compaction", compacted).await {
        return cannot("compact");
    }
    let end = log.ends(&topic).await.expect("known")[0].end;
    for from in (0..=end.0).map(Offset) {
        let from = [(place.clone(), from)];
        let stopped = within(harness, "the scan", scan(&*log, &from, |_| {})).await.expect("scanned");
        assert!(stopped[0].1 >= end);
    }
}

/// Reading from beyond the end is an error, of the reader and of the member, at once or when it is asked.
pub async fn a_place_beyond_the_end_is_an_error(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 1).await, group());
    let place = at(&topic, 0);
    log.append(vec![record(&place, "amal", "1")]).await.expect("appended");
    let read = async {
        let mut reader = log.read(&[(place.clone(), Offset(5))]).await?;
        reader.next().await.map(|_| ())
    };
    match within(harness, "an answer", read).await {
        Err(LogError::OutOfRange { at, offset: Offset(5), ends }) => {
            assert_eq!((at, ends.end), (place.clone(), Offset(1)));
        }
        other => panic!("reading from beyond the end: {other:?}"),
    }
    let scanned = scan(&*log, &[(place.clone(), Offset(5))], |_| {}).await;
    assert!(matches!(scanned, Err(LogError::OutOfRange { .. })), "{scanned:?}");

    let mut member = log.subscribe(&group, &[topic]).await.expect("joined");
    assigned(harness, &mut *member).await;
    let started = async {
        member.start(&place, Offset(5)).await?;
        member.next().await.map(|_| ())
    };
    let started = within(harness, "an answer", started).await;
    assert!(matches!(started, Err(LogError::OutOfRange { .. })), "{started:?}");
    // The member decides, and goes on.
    member.start(&place, Offset::START).await.expect("started");
    assert_eq!(delivered(harness, &mut *member, 1).await.len(), 1);
    member.close().await.expect("closed");
}

/// Reads on in a partition whose place was lost, until the error comes.
async fn must_fail(harness: &dyn Harness, reader: &mut dyn crate::log::Reader) {
    let failed = async {
        loop {
            match reader.next().await {
                Ok(chunk) => assert!(chunk.records.is_empty(), "records of a place that was lost"),
                Err(err) => return err,
            }
        }
    };
    let err = within(harness, "an error", failed).await;
    assert!(is_lost_place(&err), "{err}");
}

/// A reader in the middle of a topic that is made anew is told, even when it holds more than before.
pub async fn a_recreated_topic_is_an_error_to_its_readers(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 1).await, group());
    let place = at(&topic, 0);
    log.append(["amal", "ben", "chi"].map(|key| record(&place, key, "1")).to_vec()).await.expect("appended");
    let mut reader = log.read(&[(place.clone(), Offset::START)]).await.expect("reading");
    until_end(harness, &mut *reader, &place, Offset(3)).await;
    let mut member = log.subscribe(&group, std::slice::from_ref(&topic)).await.expect("joined");
    assigned(harness, &mut *member).await;
    member.start(&place, Offset::START).await.expect("started");
    delivered(harness, &mut *member, 3).await;

    if !harness.recreate_topic(&topic, 1).await {
        return cannot("recreate a topic");
    }
    log.append(vec![record(&place, "dua", "1")]).await.expect("appended");
    assert_eq!(log.ends(&topic).await.expect("known")[0].end, Offset(1));
    must_fail(harness, &mut *reader).await;
    let told = async {
        loop {
            match member.next().await {
                Ok(Event::Records(records)) => panic!("{} records of a place that was lost", records.len()),
                Ok(_) => {}
                Err(err) => return err,
            }
        }
    };
    let err = within(harness, "an error", told).await;
    assert!(is_lost_place(&err), "{err}");
    assert_eq!(all(harness, &place).await.iter().map(key).collect::<Vec<_>>(), ["dua"]);
}

/// A reader behind a tail that was lost is told; so is who wants to start there.
pub async fn a_truncated_partition_is_an_error_to_its_readers(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    log.append(["amal", "ben", "chi"].map(|key| record(&place, key, "1")).to_vec()).await.expect("appended");
    let mut reader = log.read(&[(place.clone(), Offset::START)]).await.expect("reading");
    until_end(harness, &mut *reader, &place, Offset(3)).await;
    if !harness.truncate(&place, Offset(1)).await {
        return cannot("truncate a partition");
    }
    must_fail(harness, &mut *reader).await;
    assert!(matches!(log.read(&[(place.clone(), Offset(3))]).await, Err(LogError::OutOfRange { .. })));
    assert_eq!(all(harness, &place).await.iter().map(key).collect::<Vec<_>>(), ["amal"]);
}
