//! The one member of a group: commits, several topics, starting and pausing.

use std::collections::BTreeSet;

use super::super::{Harness, assigned, at, delivered, group, key, record, topic, value};
use crate::log::{Committed, Offset, TopicPartition};

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
