//! Appending: order, offsets, durability, limits, and what comes back of a record.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;

use super::super::{
    Harness, all, assigned, at, cannot, group, key, record, tombstone, topic, topic_with, value, within,
};
use crate::log::{Append, Committed, Ends, Headers, LogError, NewTopic, Offset, TopicPartition};

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

/// A record just below the limit passes; one above is refused and named by its place in the call.
pub async fn large_messages_pass_and_too_large_ones_are_named(harness: &dyn Harness) {
    let log = harness.log().await;
    let default = topic(harness, 1).await;
    let place = at(&default, 0);
    // Noise: a log may measure what is left after compression, as Kafka does.
    let noise = |bytes: usize| std::iter::repeat_with(|| fastrand::u8(..)).take(bytes).collect::<Vec<u8>>();
    let large = |bytes: usize| Append { value: Some(Bytes::from(noise(bytes))), ..record(&place, "amal", "") };
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
        replication: harness.replication(),
        settings: harness.compacting(),
    };
    let new = group();
    log.create(&[named(&old, 5), named(&new, 3)]).await.expect("created");
    let topics = log.topics().await.expect("listed");
    let partitions = |name: &str| topics.iter().find(|topic| topic.name == name).map(|topic| topic.partitions);
    assert_eq!((partitions(&old), partitions(&new)), (Some(2), Some(3)));
    assert_eq!(all(harness, &at(&old, 1)).await.len(), 1);
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
