//! What a log does with several members in one group.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::member::{Member, View, until};
use super::{Harness, all, assigned, at, delivered, group, record, topic, within};
use crate::log::{Committed, Event, Log, LogError, Offset, Subscription, TopicPartition};

/// The partition numbers a member holds of a topic.
fn numbers(view: &View, topic: &Arc<str>) -> BTreeSet<u32> {
    view.owned.iter().filter(|at| at.topic == *topic).map(|at| at.partition).collect()
}

/// Whether the members share six partitions of each topic evenly, each holding the same numbers in both.
fn shared_by_range(views: &[View], topics: &[Arc<str>]) -> bool {
    let mut all = BTreeSet::new();
    for view in views {
        let first = numbers(view, &topics[0]);
        if first != numbers(view, &topics[1]) || first.len() != 6 / views.len() {
            return false;
        }
        all.extend(first);
    }
    all.len() == 6
}

/// Two topics of six partitions, with one member, two, three, and two again: the range assignor.
pub async fn members_hold_the_same_partitions_in_every_topic(harness: &dyn Harness) {
    let log = harness.log().await;
    let topics = [topic(harness, 6).await, topic(harness, 6).await];
    let group = group();
    let by_range = |views: &[View]| shared_by_range(views, &topics);

    let amal = Member::join(&*log, &group, &topics).await;
    until(harness, "one member has everything", &[&amal], by_range).await;
    let ben = Member::join(&*log, &group, &topics).await;
    until(harness, "two members have half each", &[&amal, &ben], by_range).await;
    let chi = Member::join(&*log, &group, &topics).await;
    until(harness, "three members have a third each", &[&amal, &ben, &chi], by_range).await;
    ben.close().await;
    until(harness, "two members have half each again", &[&amal, &chi], by_range).await;
    amal.close().await;
    chi.close().await;
}

/// Members come and go while records flow: what was handed out and committed at revocation never comes again, and
/// nothing is left out.
pub async fn a_batch_in_flight_survives_a_rebalance(harness: &dyn Harness) {
    const PER_ROUND: usize = 40;
    let log = harness.log().await;
    let topics = [topic(harness, 4).await];
    let group = group();
    let fill = |round: usize| {
        let partition = move |n: usize| (n % 4) as u32;
        let topic = topics[0].clone();
        let log = log.clone();
        async move {
            let records = (0..PER_ROUND).map(|n| record(&at(&topic, partition(n)), &format!("{round}-{n}"), "1"));
            log.append(records.collect()).await.expect("appended");
        }
    };
    let total = |views: &[View]| views.iter().map(|view| view.seen.len()).sum::<usize>();

    let amal = Member::join(&*log, &group, &topics).await;
    fill(1).await;
    until(harness, "the first member works", &[&amal], |views| total(views) > 0).await;
    let ben = Member::join(&*log, &group, &topics).await;
    fill(2).await;
    until(harness, "both work", &[&amal, &ben], |views| total(views) >= 2 * PER_ROUND && !views[1].owned.is_empty())
        .await;
    fill(3).await;
    let first = amal.close().await;
    fill(4).await;
    let rest = 4 * PER_ROUND - first.seen.len();
    until(harness, "the rest comes to the other", &[&ben], |views| total(views) >= rest).await;
    let second = ben.close().await;

    let mut seen = [first.seen, second.seen].concat();
    seen.sort();
    let mut written = Vec::new();
    for partition in 0..4 {
        let records = all(harness, &at(&topics[0], partition)).await;
        written.extend(records.into_iter().map(|record| (record.at, record.offset)));
    }
    assert_eq!(seen, written, "every record once");
}

/// A first member with one record in flight, and a second one that has joined: the first was told to let go.
async fn revoked(
    harness: &dyn Harness,
    log: &Arc<dyn Log>,
    group: &str,
    topic: &Arc<str>,
) -> (Box<dyn Subscription>, tokio::task::JoinHandle<Box<dyn Subscription>>, TopicPartition) {
    let topics = [topic.clone()];
    let place = at(topic, 0);
    log.append(vec![record(&place, "amal", "1"), record(&place, "ben", "1")]).await.expect("appended");
    let mut first = log.subscribe(group, &topics).await.expect("the first member joins");
    assert!(assigned(harness, &mut *first).await.contains(&place));
    first.start(&place, Offset::START).await.expect("started");
    delivered(harness, &mut *first, 1).await;

    let joining = {
        let (log, group) = (log.clone(), group.to_owned());
        tokio::spawn(async move {
            let mut second = log.subscribe(&group, &topics).await.expect("the second member joins");
            while !matches!(second.next().await.expect("the member goes on"), Event::Assigned(_)) {}
            second
        })
    };
    loop {
        let event = within(harness, "revocation", first.next()).await.expect("the member goes on");
        if let Event::Revoked(partitions) = event {
            assert!(partitions.contains(&place), "an eager rebalance takes everything");
            return (first, joining, place);
        }
    }
}

fn one() -> Committed {
    Committed { next: Offset(1), metadata: "inside".into() }
}

/// Between `Revoked` and `released` the member may still commit, and whoever comes next finds it.
pub async fn a_commit_inside_revocation_counts(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 2).await, group());
    let (mut first, joining, place) = revoked(harness, &log, &group, &topic).await;
    first.commit(&[(place.clone(), one())]).await.expect("a commit inside revocation");
    assert!(!joining.is_finished(), "the rebalance waits for those who let go");
    first.released().await.expect("released");
    let rejoined = tokio::spawn(async move {
        while !matches!(first.next().await.expect("the member goes on"), Event::Assigned(_)) {}
        first
    });
    let second = within(harness, "the second member", joining).await.expect("joined");
    within(harness, "the first member", rejoined).await.expect("joined again").close().await.expect("closed");
    assert_eq!(log.committed(&group, &[place]).await.expect("known"), [Some(one())]);
    second.close().await.expect("closed");
}

/// After `released` the partition is somebody else's: a late commit fails and changes nothing.
pub async fn a_commit_after_letting_go_is_not_ours(harness: &dyn Harness) {
    let log = harness.log().await;
    let (topic, group) = (topic(harness, 2).await, group());
    let (mut first, joining, place) = revoked(harness, &log, &group, &topic).await;
    first.released().await.expect("released");
    match first.commit(&[(place.clone(), one())]).await {
        Err(LogError::NotOurs { .. }) => {}
        other => panic!("a commit after letting go: {other:?}"),
    }
    first.close().await.expect("closed");
    let second = within(harness, "the second member", joining).await.expect("joined");
    assert_eq!(log.committed(&group, &[place]).await.expect("known"), [None]);
    second.close().await.expect("closed");
}

/// A member that closes doesn't make the others wait for a session to end.
pub async fn others_take_over_at_once_after_a_close(harness: &dyn Harness) {
    let log = harness.log().await;
    let topics = [topic(harness, 2).await];
    let group = group();
    let amal = Member::join(&*log, &group, &topics).await;
    let ben = Member::join(&*log, &group, &topics).await;
    let half_each = |views: &[View]| views.iter().all(|view| view.owned.len() == 1);
    until(harness, "half each", &[&amal, &ben], half_each).await;
    amal.close().await;
    until(harness, "the other has everything", &[&ben], |views| views[0].owned.len() == 2).await;
    ben.close().await;
}

/// What a crashed member hadn't committed comes again, what it had doesn't.
pub async fn others_take_over_from_the_commit_after_a_crash(harness: &dyn Harness) {
    let log = harness.log().await;
    let topics = [topic(harness, 1).await];
    let (place, group) = (at(&topics[0], 0), group());
    log.append(["amal", "ben", "chi"].map(|key| record(&place, key, "1")).to_vec()).await.expect("appended");
    let mut first = log.subscribe(&group, &topics).await.expect("joined");
    assigned(harness, &mut *first).await;
    first.start(&place, Offset::START).await.expect("started");
    delivered(harness, &mut *first, 3).await;
    first.commit(&[(place.clone(), one())]).await.expect("committed");
    drop(first);

    let second = Member::join(&*log, &group, &topics).await;
    until(harness, "the rest comes again", &[&second], |views| views[0].seen.len() >= 2).await;
    assert_eq!(second.close().await.seen, [(place.clone(), Offset(1)), (place, Offset(2))]);
}
