//! Readers outside any group: ends, following, back-pressure, claims.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;

use super::super::{Harness, assigned, at, delivered, group, key, record, take, topic, until_end, value, within};
use crate::log::{Append, Offset, TopicPartition};

/// Each partition's end is reported once it is reached, also that of an empty one.
pub async fn a_reader_is_told_the_end_of_each_partition(harness: &dyn Harness) {
    let log = harness.log().await;
    let topic = topic(harness, 3).await;
    log.append(vec![record(&at(&topic, 0), "amal", "1"), record(&at(&topic, 2), "ben", "1")]).await.expect("appended");
    let from: Vec<_> = (0..3).map(|partition| (at(&topic, partition), Offset::START)).collect();
    let mut reader = log.read(&from).await.expect("reading");
    let mut ends = BTreeMap::new();
    let mut count = 0;
    while ends.len() < 3 {
        let chunk = within(harness, "the ends", reader.next()).await.expect("the reader reads on");
        count += chunk.records.len();
        ends.extend(chunk.at_end.into_iter().map(|(at, end)| (at.partition, end)));
    }
    assert_eq!(count, 2);
    assert_eq!(ends, BTreeMap::from([(0, Offset(1)), (1, Offset(0)), (2, Offset(1))]));
}

/// A reader at the end wakes for what comes, and is told the new end.
pub async fn a_reader_follows_what_is_appended_later(harness: &dyn Harness) {
    let log = harness.log().await;
    let topic = topic(harness, 1).await;
    let place = at(&topic, 0);
    let mut reader = log.read(&[(place.clone(), Offset::START)]).await.expect("reading");
    assert!(until_end(harness, &mut *reader, &place, Offset(0)).await.is_empty());
    for (n, person) in ["amal", "ben", "chi"].into_iter().enumerate() {
        let append = log.append(vec![record(&place, person, "1")]);
        let end = Offset(n as i64 + 1);
        let (appended, read) = tokio::join!(append, until_end(harness, &mut *reader, &place, end));
        appended.expect("appended");
        assert_eq!(read.iter().map(key).collect::<Vec<_>>(), [person]);
    }
}

/// Futures of `next` that are dropped half-way take nothing with them.
pub async fn a_dropped_wait_loses_nothing(harness: &dyn Harness) {
    let log = harness.log().await;
    let topic = topic(harness, 1).await;
    let place = at(&topic, 0);
    let mut reader = log.read(&[(place.clone(), Offset::START)]).await.expect("reading");
    let writer = {
        let (log, place) = (log.clone(), place.clone());
        tokio::spawn(async move {
            for n in 0..200 {
                log.append(vec![record(&place, "amal", &n.to_string())]).await.expect("appended");
            }
        })
    };
    let mut versions = Vec::new();
    let read = async {
        let mut patience = 0;
        while versions.len() < 200 {
            // From hopelessly short to long enough.
            patience = if patience > 20_000 { 0 } else { patience * 2 + 1 };
            let wait = std::time::Duration::from_micros(patience);
            if let Ok(chunk) = tokio::time::timeout(wait, reader.next()).await {
                versions.extend(chunk.expect("the reader reads on").records.iter().filter_map(value));
            }
        }
    };
    within(harness, "all records", read).await;
    writer.await.expect("the writer ends");
    assert_eq!(versions, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Readers don't take from each other.
pub async fn many_readers_read_the_same(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    log.append((0..100).map(|n| record(&place, &n.to_string(), "1")).collect()).await.expect("appended");
    let read = join_all((0..8).map(|_| async {
        let mut reader = log.read(&[(place.clone(), Offset::START)]).await.expect("reading");
        take(harness, &mut *reader, 100).await.iter().map(key).collect::<Vec<_>>()
    }));
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert!(read.await.into_iter().all(|keys| keys == expected));
}

/// What the log may fetch for a reader that takes one chunk, of all that waits for it.
const BOUND: usize = 12 << 20;

/// Appends 32 MiB in records of 32 KiB.
async fn much(harness: &dyn Harness, place: &TopicPartition) {
    const RECORD: usize = 32 << 10;
    let log = harness.log().await;
    for _ in 0..32 {
        let record = |_| Append { value: Some(Bytes::from(vec![7; RECORD])), ..record(place, "amal", "") };
        log.append((0..32).map(record).collect()).await.expect("appended");
    }
}

fn check_bound(harness: &dyn Harness, before: Option<u64>, taken: usize) {
    assert!(taken <= BOUND, "{taken} bytes at once");
    if let (Some(before), Some(now)) = (before, harness.fetched()) {
        let fetched = (now - before) as usize * (32 << 10);
        assert!(fetched <= BOUND, "{fetched} bytes fetched, {taken} taken");
    }
}

/// A reader that doesn't ask isn't sent more than a bounded amount ahead.
pub async fn a_slow_reader_is_not_sent_more_than_it_takes(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    much(harness, &place).await;
    let before = harness.fetched();
    let mut reader = log.read(&[(place, Offset::START)]).await.expect("reading");
    let records = take(harness, &mut *reader, 1).await;
    check_bound(harness, before, records.iter().map(|record| record.size()).sum());
    assert_eq!(records.len() + take(harness, &mut *reader, 1024 - records.len()).await.len(), 1024);
}

/// The same for a member of a group.
pub async fn a_slow_member_is_not_sent_more_than_it_takes(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 1).await, group());
    let place = at(&topic, 0);
    much(harness, &place).await;
    let mut member = log.subscribe(&group, &[topic]).await.expect("joined");
    assigned(harness, &mut *member).await;
    let before = harness.fetched();
    member.start(&place, Offset::START).await.expect("started");
    let records = delivered(harness, &mut *member, 1).await;
    check_bound(harness, before, records.iter().map(|record| record.size()).sum());
    assert_eq!(records.len() + delivered(harness, &mut *member, 1024 - records.len()).await.len(), 1024);
    member.close().await.expect("closed");
}

/// Whoever claims appends a claim and reads on to it; the offset decides who came last, and the earlier one sees it.
pub async fn claims_are_settled_by_their_offsets(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    let claim = |who: &'static str| {
        let (log, place) = (log.clone(), place.clone());
        async move {
            let epoch = log.append(vec![record(&place, "register|nurses|0", who)]).await.expect("appended")[0];
            let mut reader = log.read(&[(place.clone(), Offset::START)]).await.expect("reading");
            let seen = until_end(harness, &mut *reader, &place, epoch.next()).await;
            assert!(seen.iter().any(|record| record.offset == epoch && value(record).as_deref() == Some(who)));
            (epoch, who, reader, seen)
        }
    };
    let ((epoch_a, a, reader_a, seen_a), (epoch_b, b, reader_b, seen_b)) = tokio::join!(claim("amal"), claim("ben"));
    assert_ne!(epoch_a, epoch_b);
    let (winner, mut follows, seen) = if epoch_a > epoch_b { (a, reader_b, seen_b) } else { (b, reader_a, seen_a) };
    let mut last = seen.last().and_then(value);
    while last.as_deref() != Some(winner) {
        let chunk = within(harness, "the later claim", follows.next()).await.expect("the reader reads on");
        last = chunk.records.last().and_then(value).or(last);
    }
}
