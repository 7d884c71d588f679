//! Topics, appends, ends and readers.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use pipeline::log::{Headers, Log, LogError, NewTopic, Offset, scan};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::setting::{SOON, at, create, log, name, reach, record, take, text, tombstone, topic, topic_with, until};

#[tokio::test]
async fn what_was_appended_is_read_in_order_with_its_headers() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topic = topic(&log, "order", 2).await?;
    let mut headers = Headers::default();
    headers.push("version", "7");
    headers.push("hash", Bytes::from_static(&[0, 159, 146, 150]));
    headers.push("colour", "blue");
    let mut records: Vec<_> = (0..500).map(|n| record(at(&topic, n % 2), "asha", &n.to_string())).collect();
    records[499].headers = headers.clone();
    records[499].value = None;
    let offsets = log.append(records).await?;
    assert_eq!((offsets[0], offsets[1], offsets[499]), (Offset(0), Offset(0), Offset(249)));

    let mut reader = log.read(&[(at(&topic, 0), Offset(0)), (at(&topic, 1), Offset(0))]).await?;
    let read = take(&mut *reader, 500).await?;
    for partition in 0..2 {
        let of: Vec<_> = read.iter().filter(|record| record.at.partition == partition).collect();
        assert!(of.iter().enumerate().all(|(n, record)| record.offset == Offset(n as i64)));
        assert!(
            of[..249].iter().enumerate().all(|(n, record)| text(record) == (2 * n + partition as usize).to_string())
        );
    }
    let last = read.iter().find(|record| record.value.is_none()).unwrap();
    assert_eq!((last.offset, &last.headers), (Offset(249), &headers));
    assert_eq!(last.key.as_deref(), Some(&b"asha"[..]));
    Ok(())
}

#[tokio::test]
async fn a_reader_reports_the_end_and_follows() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let (first, second) = (topic(&log, "end-a", 1).await?, topic(&log, "end-b", 1).await?);
    log.append(vec![record(at(&first, 0), "asha", "hired")]).await?;
    let mut reader = log.read(&[(at(&first, 0), Offset(0)), (at(&second, 0), Offset(0))]).await?;
    reach(&mut *reader, &at(&first, 0), Offset(1)).await?;

    log.append(vec![record(at(&second, 0), "bela", "hired")]).await?;
    let read = reach(&mut *reader, &at(&second, 0), Offset(1)).await?;
    assert_eq!(read.iter().map(text).collect::<Vec<_>>(), ["hired"]);
    Ok(())
}

#[tokio::test]
async fn the_end_behind_dropped_tombstones_is_reached() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let hurry = [
        ("segment.ms", "1000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "1500"),
        ("delete.retention.ms", "100"),
    ];
    let topic = topic_with(&log, "gone", 1, &hurry).await?;
    let here = at(&topic, 0);
    let from = [(here.clone(), Offset(0))];
    log.append(vec![record(here.clone(), "asha", "hired"), tombstone(here.clone(), "bela")]).await?;

    // The cleaner works on closed segments only: a record now and then closes the one before.
    let hurried = || async {
        log.append(vec![tombstone(here.clone(), "chidi")]).await?;
        let mut first = Vec::new();
        scan(&log, &from, |record| first.push(record.offset.0)).await?;
        Ok(!first.contains(&1))
    };
    until("the tombstone is dropped", hurried).await?;

    let end = log.ends(&topic).await?[0].end;
    assert_eq!(scan(&log, &from, |_| ()).await?, [(here.clone(), end)]);
    let mut reader = log.read(&from).await?;
    reach(&mut *reader, &here, end).await?;
    Ok(())
}

#[tokio::test]
async fn the_ends_are_the_brokers_watermarks() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let Some(kafka) = services::kafka().await? else { return Ok(()) };
    let topic = topic(&log, "ends", 3).await?;
    log.append((0..10).map(|n| record(at(&topic, n % 2), "asha", "hired")).collect()).await?;

    let ends = log.ends(&topic).await?;
    let asked = Arc::clone(&topic);
    let theirs = tokio::task::spawn_blocking(move || -> Result<Vec<(i64, i64)>> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
        Ok((0..3).map(|n| consumer.fetch_watermarks(&asked, n, SOON)).collect::<Result<_, _>>()?)
    });
    assert_eq!(ends.iter().map(|ends| (ends.start.0, ends.end.0)).collect::<Vec<_>>(), theirs.await??);
    Ok(())
}

#[tokio::test]
async fn topics_are_created_once_and_told_with_their_settings() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let name = name("settings");
    create(&log, &name, 2, &[("delete.retention.ms", "7776000000")]).await?;
    create(&log, &name, 5, &[("delete.retention.ms", "1")]).await?;

    let topics = log.topics().await?;
    let found = topics.iter().find(|topic| topic.name == name).unwrap();
    assert_eq!((found.partitions, found.replication), (2, 1));
    assert_eq!(found.settings["delete.retention.ms"], "7776000000");
    assert_eq!(found.settings["cleanup.policy"], "compact");
    assert!(topics.iter().all(|topic| !topic.name.starts_with("__")));
    Ok(())
}

#[tokio::test]
async fn what_the_cluster_refuses_is_refused_with_a_way_out() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let many = NewTopic { name: name("many"), partitions: 1, replication: 9, settings: [].into() };
    let refused = log.create(&[many]).await.unwrap_err();
    assert!(matches!(&refused, LogError::Refused { hint, .. } if hint.contains("replication")), "{refused}");

    let missing: Arc<str> = name("missing").into();
    let unknown = |error: LogError| assert!(matches!(error, LogError::UnknownTopic { .. }), "{error}");
    unknown(log.ends(&missing).await.unwrap_err());
    unknown(log.append(vec![record(at(&missing, 0), "asha", "hired")]).await.unwrap_err());
    unknown(log.read(&[(at(&missing, 0), Offset(0))]).await.map(drop).unwrap_err());
    unknown(log.subscribe("nobody", &[missing]).await.map(drop).unwrap_err());
    let topic = topic(&log, "one", 1).await?;
    unknown(log.append(vec![record(at(&topic, 1), "asha", "hired")]).await.unwrap_err());
    Ok(())
}

#[tokio::test]
async fn a_record_that_is_too_large_is_named() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let small = topic_with(&log, "small", 1, &[("max.message.bytes", "20000")]).await?;
    // Nothing that a codec could shrink.
    let noise = |bytes: usize| {
        let value: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(bytes).collect();
        let mut record = record(at(&small, 0), "asha", "");
        record.value = Some(value.into());
        record
    };
    let refused = log.append(vec![noise(100), noise(30_000), noise(100)]).await.unwrap_err();
    let LogError::TooLarge { index, limit, bytes, .. } = refused else { panic!("{refused}") };
    assert_eq!((index, limit, bytes), (1, 20_000, 30_004));

    let refused = log.append(vec![noise(9 << 20)]).await.unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { index: 0, .. }), "{refused}");

    log.append(vec![noise(15_000)]).await?;
    let large = topic_with(&log, "large", 1, &[("max.message.bytes", "8000000")]).await?;
    let mut five_megabytes = noise(5 << 20);
    five_megabytes.at = at(&large, 0);
    let value = five_megabytes.value.clone();
    log.append(vec![five_megabytes]).await?;
    let mut reader = log.read(&[(at(&large, 0), Offset(0))]).await?;
    assert_eq!(take(&mut *reader, 1).await?[0].value, value);
    Ok(())
}

#[tokio::test]
async fn a_place_beyond_the_end_is_out_of_range() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topic = topic(&log, "beyond", 1).await?;
    log.append(vec![record(at(&topic, 0), "asha", "hired")]).await?;
    let mut reader = log.read(&[(at(&topic, 0), Offset(5))]).await?;
    let refused = tokio::time::timeout(SOON, reader.next()).await?.unwrap_err();
    let LogError::OutOfRange { offset, ends, .. } = refused else { panic!("{refused}") };
    assert_eq!((offset, ends.end), (Offset(5), Offset(1)));
    Ok(())
}

#[tokio::test]
async fn a_recreated_topic_is_noticed_by_its_reader_and_taken_by_its_writer() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let Some(kafka) = services::kafka().await? else { return Ok(()) };
    let topic = topic(&log, "recreated", 1).await?;
    log.append((0..10).map(|n| record(at(&topic, 0), "asha", &n.to_string())).collect()).await?;
    let mut reader = log.read(&[(at(&topic, 0), Offset(0))]).await?;
    reach(&mut *reader, &at(&topic, 0), Offset(10)).await?;

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
    admin.delete_topics(&[&topic], &AdminOptions::new().operation_timeout(Some(SOON))).await?;
    until("it is there again", || async {
        create(&log, &topic, 1, &[]).await?;
        Ok(log.ends(&topic).await.is_ok_and(|ends| ends[0].end == Offset(0)))
    })
    .await?;

    let noticed = tokio::time::timeout(SOON, async {
        loop {
            if let Err(error) = reader.next().await {
                return error;
            }
        }
    });
    let noticed = noticed.await?;
    assert!(matches!(noticed, LogError::OutOfRange { .. } | LogError::UnknownTopic { .. }), "{noticed}");

    let offsets = log.append(vec![record(at(&topic, 0), "asha", "again")]).await?;
    assert_eq!(offsets, [Offset(0)]);
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_gets_everything() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topic = topic(&log, "slow", 3).await?;
    let value = "x".repeat(1_000);
    let many = 60_000;
    for _ in 0..many / 6_000 {
        log.append((0..6_000).map(|n| record(at(&topic, n % 3), "asha", &value)).collect()).await?;
    }
    let from: Vec<_> = (0..3).map(|n| (at(&topic, n), Offset(0))).collect();
    let mut reader = log.read(&from).await?;
    // All there is would have come by the time the broker has answered a few times, if nothing held it back.
    for _ in 0..20 {
        log.ends(&topic).await?;
    }
    let read = take(&mut *reader, many).await?;
    assert_eq!(read.len(), many);
    Ok(())
}
