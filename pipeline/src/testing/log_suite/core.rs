//! What every log does: order, durability, reading to the end and on, commits, compaction, limits, lost places.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::future::join_all;

use super::{
    Harness, all, assigned, at, cannot, delivered, group, is_lost_place, key, record, take, tombstone, topic,
    topic_with, until_end, value, within,
};
use crate::log::{Append, Committed, Ends, Event, Headers, LogError, NewTopic, Offset, TopicPartition, scan};

/// Versions of many keys, appended in many calls, are read in the order of the calls.
pub async fn order_is_kept_per_key(harness: &dyn Harness) {
    let log = harness.log().await;
    let topic = topic(harness, 2).await;
    let people = ["amal", "ben", "chi", "dua"];
    for version in 0..25 {
        let places = people.iter().enumerate().map(|(n, key)| (at(&topic, n as u32 % 2), key));
        let records = places.map(|(place, key)| record(&place, key, &version.to_string())).collect();
        log.append(records).await.expect("appended");
    }
    let records = [all(harness, &at(&topic, 0)).await, all(harness, &at(&topic, 1)).await].concat();
    for person in people {
        let versions: Vec<_> = records.iter().filter(|record| key(record) == person).filter_map(value).collect();
        let expected: Vec<String> = (0..25).map(|version: i32| version.to_string()).collect();
        assert_eq!(versions, expected, "{person}");
    }
}

/// An append answers with the offset of each record in its place, across topics and partitions.
pub async fn offsets_come_in_the_order_given(harness: &dyn Harness) {
    let log = harness.log().await;
    let (nurses, posts) = (topic(harness, 2).await, topic(harness, 1).await);
    let records = vec![
        record(&at(&nurses, 1), "amal", "1"),
        record(&at(&posts, 0), "ward 3", "1"),
        record(&at(&nurses, 1), "ben", "1"),
        record(&at(&nurses, 0), "chi", "1"),
        record(&at(&nurses, 1), "dua", "1"),
    ];
    let offsets = log.append(records).await.expect("appended");
    assert_eq!(offsets, [0, 0, 1, 0, 2].map(Offset));
    let keys: Vec<String> = all(harness, &at(&nurses, 1)).await.iter().map(key).collect();
    assert_eq!(keys, ["amal", "ben", "dua"]);
    assert!(log.append(Vec::new()).await.expect("nothing is appended").is_empty());
    let ends = log.ends(&nurses).await.expect("known");
    assert_eq!(ends, [Ends { start: Offset(0), end: Offset(1) }, Ends { start: Offset(0), end: Offset(3) }]);
}

/// Records, topics and commits outlive the log's process.
pub async fn what_was_acknowledged_is_there_after_a_restart(harness: &dyn Harness) {
    let (topic, group) = (topic(harness, 1).await, group());
    let place = at(&topic, 0);
    let committed = Committed { next: Offset(1), metadata: "incarnation 7".into() };
    {
        let log = harness.log().await;
        log.append(vec![record(&place, "amal", "1"), record(&place, "ben", "1")]).await.expect("appended");
        let mut member = log.subscribe(&group, std::slice::from_ref(&topic)).await.expect("joined");
        assigned(harness, &mut *member).await;
        member.commit(&[(place.clone(), committed.clone())]).await.expect("committed");
        member.close().await.expect("closed");
    }
    if !harness.reopen().await {
        return cannot("restart");
    }
    let log = harness.log().await;
    let keys: Vec<String> = all(harness, &place).await.iter().map(key).collect();
    assert_eq!(keys, ["amal", "ben"]);
    assert_eq!(log.committed(&group, std::slice::from_ref(&place)).await.expect("known"), [Some(committed)]);
    assert_eq!(log.append(vec![record(&place, "chi", "1")]).await.expect("appended"), [Offset(2)]);
}

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

/// A commit is read back with its metadata (up to 4 KiB), by the member and from outside; what wasn't committed isn't.
pub async fn a_commit_keeps_offset_and_metadata(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 2).await, group());
    let places = [at(&topic, 0), at(&topic, 1)];
    log.append(vec![record(&places[0], "amal", "1")]).await.expect("appended");
    assert_eq!(log.committed(&group, &places).await.expect("known"), [None, None]);
    let mut member = log.subscribe(&group, std::slice::from_ref(&topic)).await.expect("joined");
    assigned(harness, &mut *member).await;
    for metadata in ["{\"incarnation\":\"ab\"}".to_owned(), "é".repeat(2048), String::new()] {
        let committed = Committed { next: Offset(1), metadata };
        member.commit(&[(places[0].clone(), committed.clone())]).await.expect("committed");
        assert_eq!(log.committed(&group, &places).await.expect("known"), [Some(committed.clone()), None]);
        assert_eq!(member.committed(&places).await.expect("known"), [Some(committed), None]);
    }
    member.close().await.expect("closed");
}

/// A new member finds where the group had got to, and is handed only what follows.
pub async fn a_member_goes_on_where_its_group_had_committed(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 1).await, group());
    let place = at(&topic, 0);
    let topics = [topic];
    log.append(["amal", "ben", "chi"].map(|key| record(&place, key, "1")).to_vec()).await.expect("appended");
    let mut first = log.subscribe(&group, &topics).await.expect("joined");
    assigned(harness, &mut *first).await;
    let committed = Committed { next: Offset(2), metadata: String::new() };
    first.commit(&[(place.clone(), committed)]).await.expect("committed");
    first.close().await.expect("closed");

    let mut second = log.subscribe(&group, &topics).await.expect("joined again");
    assigned(harness, &mut *second).await;
    let found = second.committed(std::slice::from_ref(&place)).await.expect("known");
    let Some(Some(Committed { next, .. })) = found.first() else { panic!("nothing was committed") };
    second.start(&place, *next).await.expect("started");
    assert_eq!(delivered(harness, &mut *second, 1).await.iter().map(key).collect::<Vec<_>>(), ["chi"]);
    second.close().await.expect("closed");
}

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

/// A record just below the limit passes; one above is refused and named by its place in the call.
pub async fn large_messages_pass_and_too_large_ones_are_named(harness: &dyn Harness) {
    let log = harness.log().await;
    let default = topic(harness, 1).await;
    let place = at(&default, 0);
    let large = |bytes: usize| Append { value: Some(Bytes::from(vec![7; bytes])), ..record(&place, "amal", "") };
    log.append(vec![large(1_000_000), large(10)]).await.expect("a megabyte passes");
    let read = all(harness, &place).await;
    assert_eq!(
        read.iter().map(|record| record.value.as_ref().map_or(0, Bytes::len)).collect::<Vec<_>>(),
        [1_000_000, 10]
    );
    match log.append(vec![large(10), large(1_200_000)]).await {
        Err(LogError::TooLarge { at, index: 1, .. }) => assert_eq!(at, place),
        other => panic!("1.2 MB to a topic that takes one: {other:?}"),
    }

    let settings = BTreeMap::from([("max.message.bytes".to_owned(), "4000000".to_owned())]);
    let roomy = at(&topic_with(harness, 1, settings).await, 0);
    log.append(vec![Append { at: roomy.clone(), ..large(3_500_000) }]).await.expect("where the topic takes it");
    assert_eq!(all(harness, &roomy).await[0].value.as_ref().map(Bytes::len), Some(3_500_000));
}

/// Empty, repeated, binary and long headers, in order; also on tombstones.
pub async fn headers_come_back_as_they_were(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    let mut headers = Headers::default();
    headers.push("ce_type", "ats.applicant.updated");
    headers.push("twice", "first");
    headers.push("hash", vec![0, 255, 128, 10]);
    headers.push("twice", "second");
    headers.push("empty", "");
    headers.push("długi", vec![b'x'; 5000]);
    let with = |append: Append| Append { headers: headers.clone(), ..append };
    let records = vec![with(record(&place, "amal", "1")), with(tombstone(&place, "ben")), record(&place, "chi", "1")];
    log.append(records).await.expect("appended");
    let read = all(harness, &place).await;
    assert_eq!(read[0].headers, headers);
    assert_eq!(read[1].headers, headers);
    assert_eq!(read[2].headers, Headers::default());
    assert_eq!(read[0].headers.text("twice"), Some("second"));
}

/// An empty value is a value, an empty key a key, and bytes needn't be text.
pub async fn empty_values_are_not_tombstones(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    let binary = Bytes::from_static(&[0, 159, 146, 150]);
    let odd = Append { key: binary.clone(), value: Some(binary.clone()), ..record(&place, "", "") };
    let records = vec![record(&place, "amal", ""), tombstone(&place, "amal"), record(&place, "", "1"), odd];
    log.append(records).await.expect("appended");
    let read = all(harness, &place).await;
    assert_eq!(read[0].value, Some(Bytes::new()));
    assert_eq!(read[1].value, None);
    assert_eq!(read[2].key, Some(Bytes::new()));
    assert_eq!((read[3].key.clone(), read[3].value.clone()), (Some(binary.clone()), Some(binary)));
}

/// One subscription brings all its topics, each partition in order, and commits them together.
pub async fn several_topics_come_through_one_subscription(harness: &dyn Harness) {
    let log = harness.log().await;
    let (nurses, posts, group) = (topic(harness, 2).await, topic(harness, 2).await, group());
    let mut places = vec![at(&nurses, 0), at(&nurses, 1), at(&posts, 0), at(&posts, 1)];
    places.sort();
    let mut member = log.subscribe(&group, &[nurses, posts]).await.expect("joined");
    assert_eq!(assigned(harness, &mut *member).await, places);
    for place in &places {
        member.start(place, Offset::START).await.expect("started");
    }
    for version in ["1", "2"] {
        log.append(places.iter().map(|place| record(place, "amal", version)).collect()).await.expect("appended");
    }
    let records = delivered(harness, &mut *member, 8).await;
    for place in &places {
        let versions: Vec<_> = records.iter().filter(|record| record.at == *place).filter_map(value).collect();
        assert_eq!(versions, ["1", "2"], "{place}");
    }
    let commit = |place: &TopicPartition| (place.clone(), Committed { next: Offset(2), metadata: String::new() });
    let offsets: Vec<_> = places.iter().map(commit).collect();
    member.commit(&offsets).await.expect("committed");
    let committed = log.committed(&group, &places).await.expect("known");
    assert!(committed.iter().flatten().all(|committed| committed.next == Offset(2)) && committed.len() == 4);
    member.close().await.expect("closed");
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

/// Every call names the topic that isn't there.
pub async fn what_does_not_exist_is_named(harness: &dyn Harness) {
    let log = harness.log().await;
    let place = TopicPartition::new(group(), 0);
    let named = |result: Result<(), LogError>| match result {
        Err(LogError::UnknownTopic { topic }) => assert!(topic.contains(&*place.topic), "{topic}"),
        other => panic!("a topic that doesn't exist: {other:?}"),
    };
    named(log.append(vec![record(&place, "amal", "1")]).await.map(|_| ()));
    named(log.ends(&place.topic).await.map(|_| ()));
    let read = async { log.read(&[(place.clone(), Offset::START)]).await?.next().await.map(|_| ()) };
    named(within(harness, "an answer", read).await);
    named(log.subscribe(&group(), std::slice::from_ref(&place.topic)).await.map(|_| ()));
    let beyond = at(&topic(harness, 2).await, 2);
    let appended = within(harness, "an answer", log.append(vec![record(&beyond, "amal", "1")])).await;
    assert!(matches!(appended, Err(LogError::UnknownTopic { .. })), "{appended:?}");
}

/// Topics that are there stay as they are, and those that aren't are made.
pub async fn creating_again_changes_nothing(harness: &dyn Harness) {
    let log = harness.log().await;
    let old = topic(harness, 2).await;
    log.append(vec![record(&at(&old, 1), "amal", "1")]).await.expect("appended");
    let named = |name: &str, partitions| NewTopic {
        name: name.to_owned(),
        partitions,
        replication: 1,
        settings: harness.compacting(),
    };
    let new = group();
    log.create(&[named(&old, 5), named(&new, 3)]).await.expect("created");
    let topics = log.topics().await.expect("listed");
    let partitions = |name: &str| topics.iter().find(|topic| topic.name == name).map(|topic| topic.partitions);
    assert_eq!((partitions(&old), partitions(&new)), (Some(2), Some(3)));
    assert_eq!(all(harness, &at(&old, 1)).await.len(), 1);
}

/// `start` on a running partition goes where it is told, back or forth.
pub async fn start_goes_back(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 1).await, group());
    let place = at(&topic, 0);
    log.append(["amal", "ben", "chi"].map(|key| record(&place, key, "1")).to_vec()).await.expect("appended");
    let mut member = log.subscribe(&group, &[topic]).await.expect("joined");
    assigned(harness, &mut *member).await;
    for (from, expected) in [(0, vec!["amal", "ben", "chi"]), (1, vec!["ben", "chi"]), (2, vec!["chi"])] {
        member.start(&place, Offset(from)).await.expect("started");
        let records = delivered(harness, &mut *member, expected.len()).await;
        assert_eq!(records.iter().map(key).collect::<Vec<_>>(), expected);
    }
    member.close().await.expect("closed");
}

/// A paused partition, and one that was never started, bring nothing; the others go on.
pub async fn paused_partitions_are_silent(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 3).await, group());
    let places = [at(&topic, 0), at(&topic, 1), at(&topic, 2)];
    let mut member = log.subscribe(&group, &[topic]).await.expect("joined");
    assigned(harness, &mut *member).await;
    member.start(&places[0], Offset::START).await.expect("started");
    member.start(&places[1], Offset::START).await.expect("started");
    log.append(vec![record(&places[0], "amal", "1"), record(&places[1], "ben", "1")]).await.expect("appended");
    delivered(harness, &mut *member, 2).await;

    member.pause(&places[..1]).await.expect("paused");
    for version in ["2", "3"] {
        log.append(places.iter().map(|place| record(place, "amal", version)).collect()).await.expect("appended");
    }
    let records = delivered(harness, &mut *member, 2).await;
    assert_eq!(records.iter().map(|record| record.at.partition).collect::<BTreeSet<_>>(), BTreeSet::from([1]));
    member.start(&places[0], Offset(1)).await.expect("started");
    let records = delivered(harness, &mut *member, 2).await;
    assert_eq!(
        records.iter().map(|record| (record.at.partition, record.offset.0)).collect::<Vec<_>>(),
        [(0, 1), (0, 2)]
    );
    member.close().await.expect("closed");
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

/// Appends from many tasks are all there once, each at the offset it was told, in each task's order.
pub async fn many_tasks_append_at_once(harness: &dyn Harness) {
    const TASKS: usize = 16;
    const CALLS: usize = 20;
    let log = harness.log().await;
    let place = at(&topic(harness, 1).await, 0);
    let tasks = (0..TASKS).map(|task| {
        let (log, place) = (log.clone(), place.clone());
        tokio::spawn(async move {
            let mut told = Vec::new();
            for call in 0..CALLS {
                let value = format!("{task}-{call}");
                let offsets = log.append(vec![record(&place, &task.to_string(), &value)]).await.expect("appended");
                told.push((offsets[0], value));
            }
            told
        })
    });
    let told: Vec<_> = join_all(tasks).await.into_iter().map(|told| told.expect("the task ends")).collect();
    assert!(told.iter().all(|told| told.is_sorted()), "the order of each task");
    let told: BTreeMap<Offset, String> = told.into_iter().flatten().collect();
    let read = all(harness, &place).await;
    let read: BTreeMap<Offset, String> = read.iter().filter_map(|r| Some((r.offset, value(r)?))).collect();
    assert_eq!(read.len(), TASKS * CALLS);
    assert_eq!(read, told);
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
