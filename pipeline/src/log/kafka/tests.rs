//! Faults that a real broker doesn't have on demand, on librdkafka's simulated cluster.
#![allow(clippy::unwrap_used, reason = "tests")]

mod foreign;
mod members;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{KafkaLog, KafkaOptions};
use crate::log::{Append, Event, Headers, Log, LogError, Offset, Subscription, TopicPartition};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("nurses", 2, 1).unwrap();
    cluster
}

async fn log(cluster: &Cluster) -> KafkaLog {
    let mut options = KafkaOptions::plaintext(cluster.bootstrap_servers());
    options.limits.append_within = Duration::from_secs(5);
    options.limits.request_within = Duration::from_secs(5);
    KafkaLog::connect(options).await.unwrap()
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("nurses", partition)
}

fn hired(partition: u32) -> Append {
    Append { at: at(partition), key: "asha".into(), value: Some("hired".into()), headers: Headers::default() }
}

async fn event(member: &mut dyn Subscription) -> Event {
    tokio::time::timeout(Duration::from_secs(20), member.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn appended_records_are_read_back() {
    let cluster = cluster();
    let log = log(&cluster).await;
    assert_eq!(log.append(vec![hired(1), hired(1)]).await.unwrap(), [Offset(0), Offset(1)]);
    assert_eq!(log.append(Vec::new()).await.unwrap(), []);
    let mut reader = log.read(&[(at(1), Offset(1))]).await.unwrap();
    let chunk = reader.next().await.unwrap();
    assert_eq!(chunk.records[0].value, Some(Bytes::from("hired")));
    assert_eq!(chunk.records[0].offset, Offset(1));
}

#[tokio::test]
async fn more_than_the_queue_holds_is_appended_in_order() {
    let cluster = cluster();
    let mut options = KafkaOptions::plaintext(cluster.bootstrap_servers());
    options.limits.append_queue_records = 100;
    let log = KafkaLog::connect(options).await.unwrap();
    let offsets = log.append((0..5_000).map(|_| hired(0)).collect()).await.unwrap();
    assert!(offsets.iter().enumerate().all(|(n, offset)| *offset == Offset(i64::try_from(n).unwrap())));
}

#[tokio::test]
async fn a_producer_that_lost_its_order_is_replaced() {
    let cluster = cluster();
    let log = log(&cluster).await;
    log.append(vec![hired(0)]).await.unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED]);
    let refused = log.append(vec![hired(0)]).await.unwrap_err();
    assert!(matches!(refused, LogError::Unavailable { .. } | LogError::Refused { .. }), "{refused}");
    log.append(vec![hired(0)]).await.unwrap();
}

#[tokio::test]
async fn a_topic_we_may_not_write_is_refused_with_a_hint() {
    let cluster = cluster();
    let log = log(&cluster).await;
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
    let refused = log.append(vec![hired(0)]).await.unwrap_err();
    assert!(matches!(&refused, LogError::Refused { hint, .. } if hint.contains("kafka-acls")), "{refused}");
}

#[tokio::test]
async fn an_append_to_a_broker_that_hangs_is_unavailable() {
    let cluster = cluster();
    let mut options = KafkaOptions::plaintext(cluster.bootstrap_servers());
    options.limits.append_within = Duration::from_millis(500);
    let log = KafkaLog::connect(options).await.unwrap();
    log.append(vec![hired(0)]).await.unwrap();
    cluster.broker_round_trip_time(1, Duration::from_secs(30)).unwrap();
    let away = log.append(vec![hired(0), hired(1)]).await.unwrap_err();
    assert!(matches!(&away, LogError::Unavailable { reason } if reason.contains("2 failed")), "{away}");
}

#[tokio::test]
async fn a_member_gets_all_partitions_and_a_stale_commit_is_not_ours() {
    let cluster = cluster();
    let log = log(&cluster).await;
    log.append(vec![hired(0), hired(1)]).await.unwrap();
    let topics: [Arc<str>; 1] = ["nurses".into()];
    let mut member = log.subscribe("register", &topics).await.unwrap();
    let Event::Assigned(places) = event(&mut *member).await else { panic!("not assigned") };
    assert_eq!(places, [at(0), at(1)]);
    for at in &places {
        member.start(at, Offset(0)).await.unwrap();
    }
    let mut read = 0;
    while read < 2 {
        let Event::Records(records) = event(&mut *member).await else { panic!("no records") };
        read += records.len();
    }
    let commit = crate::log::Committed { next: Offset(1), metadata: "incarnation".to_owned() };
    member.commit(&[(at(0), commit.clone())]).await.unwrap();

    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    let stale = member.commit(&[(at(1), commit.clone())]).await.unwrap_err();
    assert!(matches!(stale, LogError::NotOurs { .. }), "{stale}");
    let other = TopicPartition::new("nurses", 7);
    assert!(matches!(member.commit(&[(other, commit)]).await, Err(LogError::NotOurs { .. })));
}

#[tokio::test]
async fn nothing_that_is_dropped_waits_for_a_broker_that_hangs() {
    let cluster = cluster();
    let log = log(&cluster).await;
    log.append(vec![hired(0)]).await.unwrap();
    let topics: [Arc<str>; 1] = ["nurses".into()];
    let mut member = log.subscribe("register", &topics).await.unwrap();
    let Event::Assigned(_) = event(&mut *member).await else { panic!("not assigned") };
    let mut reader = log.read(&[(at(0), Offset(0))]).await.unwrap();
    assert_eq!(reader.next().await.unwrap().records.len(), 1);

    cluster.broker_round_trip_time(1, Duration::from_secs(60)).unwrap();
    let unanswered = tokio::time::timeout(Duration::from_millis(100), log.append(vec![hired(0)])).await;
    assert!(unanswered.is_err());
    let started = std::time::Instant::now();
    drop((reader, member, log));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
