//! Each service starts, answers and goes; run against whatever this machine has.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::Kafka;

#[tokio::test]
async fn two_databases_do_not_see_each_other() -> Result<()> {
    let Some(postgres) = crate::postgres().await? else { return Ok(()) };
    let (day, night) = (postgres.database("day shift").await?, postgres.database("night shift").await?);
    let mut day = PgConnection::connect(&day.url).await?;
    let mut night = PgConnection::connect(&night.url).await?;

    day.execute("create table rota (worker text)").await?;

    let in_night = night.fetch_one("select to_regclass('rota') is null").await?;
    assert!(in_night.get::<bool, _>(0));
    Ok(())
}

#[tokio::test]
async fn the_shared_kafka_keeps_what_it_is_given() -> Result<()> {
    let Some(kafka) = crate::kafka().await? else { return Ok(()) };
    let topic = format!("services-shared-{:016x}", fastrand::u64(..));
    create(&kafka.bootstrap(), &topic).await?;
    produce(&kafka.bootstrap(), &topic, "Asha starts on Monday").await?;
    assert_eq!(consume(&kafka.bootstrap(), &topic, 1).await?, ["Asha starts on Monday"]);
    Ok(())
}

#[tokio::test]
async fn a_broker_of_ones_own_keeps_its_data_when_stopped_and_when_killed() -> Result<()> {
    let Some(kafka) = Kafka::own().await? else { return Ok(()) };
    create(&kafka.bootstrap(), "rota").await?;
    produce(&kafka.bootstrap(), "rota", "Asha").await?;

    kafka.stop().await?;
    assert!(crate::ports::reachable(&kafka.bootstrap()).await.is_err());
    kafka.restart().await?;
    produce(&kafka.bootstrap(), "rota", "Bela").await?;

    kafka.kill().await?;
    assert!(crate::ports::reachable(&kafka.bootstrap()).await.is_err());
    kafka.restart().await?;
    assert_eq!(consume(&kafka.bootstrap(), "rota", 2).await?, ["Asha", "Bela"]);

    let bootstrap = kafka.bootstrap();
    drop(kafka);
    gone(&bootstrap).await;
    Ok(())
}

#[tokio::test]
async fn the_registry_returns_a_schema_by_its_id() -> Result<()> {
    let Some(registry) = crate::registry().await? else { return Ok(()) };
    // The client is built without a provider of its own; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let subject = format!("{}/subjects/services-{:016x}-value/versions", registry.url(), fastrand::u64(..));
    let schema = r#"{"type":"record","name":"Worker","fields":[{"name":"name","type":"string"}]}"#;

    let answer = client.post(&subject).json(&json!({ "schema": schema })).send().await?.error_for_status()?;
    let id = answer.json::<Value>().await?["id"].as_u64().unwrap();

    let by_id = format!("{}/schemas/ids/{id}", registry.url());
    let answer = client.get(&by_id).send().await?.error_for_status()?.json::<Value>().await?;
    assert_eq!(answer["schema"], schema);
    Ok(())
}

async fn create(bootstrap: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let created = admin.create_topics(&[NewTopic::new(topic, 1, TopicReplication::Fixed(1))], &options).await?;
    assert_eq!(created, [Ok(topic.to_owned())]);
    Ok(())
}

async fn produce(bootstrap: &str, topic: &str, value: &str) -> Result<()> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true");
    let producer: FutureProducer = settings.create()?;
    let record = FutureRecord::to(topic).key("asha").payload(value);
    producer.send(record, Duration::from_secs(20)).await.map_err(|(err, _)| err)?;
    Ok(())
}

async fn consume(bootstrap: &str, topic: &str, count: usize) -> Result<Vec<String>> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("group.id", format!("{topic}-readers"));
    let consumer: StreamConsumer = settings.set("auto.offset.reset", "earliest").create()?;
    consumer.subscribe(&[topic])?;
    let mut values = Vec::new();
    while values.len() < count {
        let message = tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await??;
        values.push(String::from_utf8_lossy(message.payload().unwrap()).into_owned());
    }
    Ok(values)
}

async fn gone(address: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while crate::ports::reachable(address).await.is_ok() {
        assert!(Instant::now() < deadline, "the service is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
