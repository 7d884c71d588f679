#![allow(clippy::unwrap_used, reason = "tests")]
//! What only the memory log does: faults, late and doubled deliveries, lost tails, members declared dead.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::log::{Event, Headers, scan};

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("nurses", partition)
}

fn record(key: &str, value: Option<&str>) -> Append {
    let value = value.map(|value| value.to_owned().into());
    Append { at: at(0), key: key.to_owned().into(), value, headers: Headers::default() }
}

async fn with_nurses(options: MemoryOptions, partitions: u32) -> MemoryLog {
    let log = MemoryLog::new(options);
    let topic = NewTopic { name: "nurses".into(), partitions, replication: 1, settings: BTreeMap::new() };
    log.create(&[topic]).await.unwrap();
    log
}

async fn keys(log: &MemoryLog) -> Vec<String> {
    let mut keys = Vec::new();
    scan(log, &[(at(0), Offset::START)], |r| keys.push(String::from_utf8(r.key.unwrap().to_vec()).unwrap()))
        .await
        .unwrap();
    keys
}

async fn assigned(member: &mut Box<dyn Subscription>) -> Vec<TopicPartition> {
    loop {
        if let Event::Assigned(partitions) = member.next().await.unwrap() {
            return partitions;
        }
    }
}

/// A hook that strikes once, at an append.
fn once(when: When, fault: Fault) -> Arc<dyn Fn(&Step) -> Fault + Send + Sync> {
    let left = AtomicUsize::new(1);
    Arc::new(move |at| {
        if matches!(at.action, Action::Append { .. }) && at.when == when && left.swap(0, Ordering::Relaxed) == 1 {
            fault
        } else {
            Fault::Ok
        }
    })
}

#[tokio::test]
async fn a_fault_before_an_append_leaves_nothing_and_one_after_it_everything() {
    let log = with_nurses(MemoryOptions::default(), 1).await;

    log.set_faults(once(When::Before, Fault::Unavailable));
    assert!(matches!(log.append(vec![record("amal", Some("1"))]).await, Err(LogError::Unavailable { .. })));
    assert!(keys(&log).await.is_empty());

    log.set_faults(once(When::After, Fault::Unavailable));
    assert!(matches!(log.append(vec![record("amal", Some("1"))]).await, Err(LogError::Unavailable { .. })));
    assert_eq!(keys(&log).await, ["amal"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_never_returns() {
    let log = with_nurses(MemoryOptions::default(), 1).await;
    log.set_faults(once(When::After, Fault::Crash));
    let append = log.append(vec![record("amal", Some("1"))]);
    assert!(tokio::time::timeout(Duration::from_secs(3600), append).await.is_err());
    assert_eq!(keys(&log).await, ["amal"]);
}

#[tokio::test(start_paused = true)]
async fn deliveries_come_late_or_twice_but_in_order() {
    let log = with_nurses(MemoryOptions::default(), 1).await;
    log.set_delivery(Arc::new(|record| match record.offset.0 {
        0 => Delivery::Twice,
        2 => Delivery::After(Duration::from_secs(5)),
        _ => Delivery::Now,
    }));
    log.append(["amal", "ben", "chi"].map(|key| record(key, Some("1"))).to_vec()).await.unwrap();
    assert_eq!(keys(&log).await, ["amal", "amal", "ben", "chi"]);
}

#[tokio::test]
async fn a_reader_behind_a_lost_tail_is_told_even_when_the_partition_has_grown_again() {
    let log = with_nurses(MemoryOptions::default(), 1).await;
    log.append(["amal", "ben", "chi"].map(|key| record(key, Some("1"))).to_vec()).await.unwrap();
    let mut reader = log.read(&[(at(0), Offset(3))]).await.unwrap();
    let mut before_the_cut = log.read(&[(at(0), Offset(1))]).await.unwrap();
    assert_eq!(reader.next().await.unwrap().at_end, [(at(0), Offset(3))]);

    log.truncate(&at(0), Offset(1));
    log.append(["dua", "eli", "fay"].map(|key| record(key, Some("1"))).to_vec()).await.unwrap();
    assert!(matches!(reader.next().await, Err(LogError::OutOfRange { offset: Offset(3), .. })));
    assert_eq!(before_the_cut.next().await.unwrap().records[0].key.as_deref(), Some(&b"dua"[..]));
}

#[tokio::test]
async fn what_retention_deleted_is_out_of_range() {
    let log = with_nurses(MemoryOptions::default(), 1).await;
    log.append(["amal", "ben"].map(|key| record(key, Some("1"))).to_vec()).await.unwrap();
    let mut reader = log.read(&[(at(0), Offset::START)]).await.unwrap();
    log.delete_before(&at(0), Offset(1));
    assert!(matches!(reader.next().await, Err(LogError::OutOfRange { .. })));
    assert_eq!(keys(&log).await, ["ben"]);
}

#[tokio::test]
async fn compaction_may_leave_a_gap_at_the_end() {
    let log = with_nurses(MemoryOptions::default(), 1).await;
    let records = vec![record("amal", Some("1")), record("ben", Some("1")), record("ben", None)];
    log.append(records).await.unwrap();
    assert_eq!(log.compact("nurses", Duration::from_secs(60)), 1);
    assert_eq!(log.compact("nurses", Duration::ZERO), 1);
    assert_eq!(keys(&log).await, ["amal"]);
    assert_eq!(log.ends("nurses").await.unwrap()[0], Ends { start: Offset(0), end: Offset(3) });
}

#[tokio::test]
async fn a_member_declared_dead_loses_its_partitions_and_comes_back() {
    let log = with_nurses(MemoryOptions::default(), 2).await;
    let topics = ["nurses".into()];
    let mut amal = log.subscribe("register", &topics).await.unwrap();
    assert_eq!(assigned(&mut amal).await.len(), 2);

    assert!(log.expire_member("register", 0));
    let commit = (at(0), Committed { next: Offset(1), metadata: String::new() });
    assert!(matches!(amal.commit(&[commit]).await, Err(LogError::NotOurs { .. })));
    assert!(matches!(amal.next().await.unwrap(), Event::Lost(lost) if lost.len() == 2));
    assert_eq!(assigned(&mut amal).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_let_go_in_time_loses_its_partitions() {
    let log = with_nurses(MemoryOptions::default(), 2).await;
    let topics = ["nurses".into()];
    let mut amal = log.subscribe("register", &topics).await.unwrap();
    assert_eq!(assigned(&mut amal).await.len(), 2);
    let mut ben = log.subscribe("register", &topics).await.unwrap();
    assert_eq!(assigned(&mut ben).await.len(), 2, "amal never let go");
    assert!(matches!(amal.next().await.unwrap(), Event::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_crashed_member_is_noticed_after_the_session() {
    let session_timeout = Duration::from_secs(6);
    let log = with_nurses(MemoryOptions { session_timeout, ..MemoryOptions::default() }, 2).await;
    let topics = ["nurses".into()];
    let mut amal = log.subscribe("register", &topics).await.unwrap();
    assert_eq!(assigned(&mut amal).await.len(), 2);
    drop(amal);
    let began = tokio::time::Instant::now();
    let mut ben = log.subscribe("register", &topics).await.unwrap();
    assert_eq!(assigned(&mut ben).await.len(), 2);
    assert!(began.elapsed() >= session_timeout);
}

#[test]
fn ranges_are_the_same_in_every_topic() {
    let topics = [("nurses".into(), 6), ("posts".into(), 6)];
    for members in 1..=4 {
        for share in range(&topics, members) {
            let (nurses, posts): (Vec<_>, Vec<_>) = share.into_iter().partition(|at| &*at.topic == "nurses");
            let numbers = |of: Vec<TopicPartition>| of.into_iter().map(|at| at.partition).collect::<Vec<_>>();
            assert_eq!(numbers(nurses), numbers(posts));
        }
    }
}
