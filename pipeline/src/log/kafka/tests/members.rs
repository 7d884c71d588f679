//! What a member does while its coordinator is away, and what it is given first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Cluster, at, cluster, event, hired};
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::log::{Append, Committed, Event, Headers, Log, LogError, Offset, Subscription, TopicPartition};

async fn hasty(cluster: &Cluster) -> KafkaLog {
    let mut options = KafkaOptions::plaintext(cluster.bootstrap_servers());
    options.limits.request_within = Duration::from_secs(1);
    KafkaLog::connect(options).await.unwrap()
}

async fn member(log: &KafkaLog) -> (Box<dyn Subscription>, Vec<TopicPartition>) {
    let mut member = log.subscribe("register", &["nurses".into()]).await.unwrap();
    let Event::Assigned(places) = event(&mut *member).await else { panic!("not assigned") };
    (member, places)
}

fn place(next: i64) -> (TopicPartition, Committed) {
    (at(0), Committed { next: Offset(next), metadata: "incarnation".to_owned() })
}

#[tokio::test]
async fn a_coordinator_that_is_away_does_not_hold_up_the_member() {
    let cluster = cluster();
    let log = hasty(&cluster).await;
    log.append(vec![hired(0)]).await.unwrap();
    let (mut member, _) = member(&log).await;
    member.start(&at(0), Offset(0)).await.unwrap();
    let Event::Records(_) = event(&mut *member).await else { panic!("no records") };

    cluster.broker_down(1).unwrap();
    for _ in 0..3 {
        let away = member.commit(&[place(1)]).await.unwrap_err();
        assert!(matches!(away, LogError::Unavailable { .. }), "{away}");
        let away = member.committed(&[at(0)]).await.unwrap_err();
        assert!(matches!(away, LogError::Unavailable { .. }), "{away}");
        // The thread has its hands free.
        let asked = Instant::now();
        member.pause(&[at(0)]).await.unwrap();
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    }

    cluster.broker_up(1).unwrap();
    let back = async {
        while let Err(error) = member.commit(&[place(1)]).await {
            assert!(matches!(error, LogError::Unavailable { .. }), "{error}");
        }
        loop {
            match member.committed(&[at(0)]).await {
                Ok(committed) => return committed,
                Err(error) => assert!(matches!(error, LogError::Unavailable { .. }), "{error}"),
            }
        }
    };
    let committed = tokio::time::timeout(Duration::from_secs(30), back).await.unwrap();
    assert_eq!(committed, [Some(place(1).1)]);
}

#[tokio::test]
async fn leaving_while_the_coordinator_is_away_ends() {
    let cluster = cluster();
    let log = hasty(&cluster).await;
    let (mut member, _) = member(&log).await;
    cluster.broker_down(1).unwrap();
    assert!(member.commit(&[place(0)]).await.is_err());
    let left = tokio::time::timeout(Duration::from_secs(5), member.close()).await.unwrap();
    assert!(matches!(left, Ok(()) | Err(LogError::Unavailable { .. })), "{left:?}");
}

#[tokio::test]
async fn the_first_records_of_many_partitions_started_at_different_times_all_come() {
    const PARTITIONS: u32 = 200;
    let cluster = cluster();
    cluster.create_topic("posts", i32::try_from(PARTITIONS).unwrap(), 1).unwrap();
    let mut options = KafkaOptions::plaintext(cluster.bootstrap_servers());
    options.limits.request_within = Duration::from_secs(10);
    let log = KafkaLog::connect(options).await.unwrap();
    let filled = |n| Append {
        at: TopicPartition::new("posts", n % PARTITIONS),
        key: "asha".into(),
        value: Some("filled".into()),
        headers: Headers::default(),
    };
    log.append((0..PARTITIONS * 5).map(filled).collect()).await.unwrap();
    let mut member = log.subscribe("register", &["posts".into()]).await.unwrap();
    let Event::Assigned(places) = event(&mut *member).await else { panic!("not assigned") };

    let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (n, at) in places.iter().enumerate() {
        member.start(at, Offset(0)).await.unwrap();
        // Those already started are being read by then.
        if n % 50 == 49 {
            let Event::Records(records) = event(&mut *member).await else { panic!("no records") };
            records.iter().for_each(|record| came(&mut next, record));
        }
    }
    while next.values().sum::<i64>() < i64::from(PARTITIONS * 5) {
        let Event::Records(records) = event(&mut *member).await else { panic!("no records") };
        records.iter().for_each(|record| came(&mut next, record));
    }
}

fn came(next: &mut BTreeMap<TopicPartition, i64>, record: &crate::log::Record) {
    let next = next.entry(record.at.clone()).or_default();
    assert_eq!(record.offset.0, *next, "{record:?}");
    *next += 1;
}
