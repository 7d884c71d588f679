//! A broker that is killed in the middle.

use std::time::Duration;

use anyhow::Result;
use pipeline::log::kafka::KafkaLog;
use pipeline::log::{Log, LogError, Offset};
use services::Kafka;

use super::setting::{at, create, options, record, take, text};

#[tokio::test]
async fn a_killed_broker_loses_nothing_and_readers_go_on() -> Result<()> {
    let Some(kafka) = Kafka::own().await? else { return Ok(()) };
    let mut patient = options(&kafka.bootstrap());
    patient.limits.append_within = Duration::from_secs(60);
    let log = KafkaLog::connect(patient).await?;
    create(&log, "rota", 1, &[]).await?;
    let rota = "rota".into();
    let here = at(&rota, 0);
    let mut reader = log.read(&[(here.clone(), Offset(0))]).await?;

    log.append((0..100).map(|n| record(here.clone(), "asha", &n.to_string())).collect()).await?;
    let mut read = take(&mut *reader, 100).await?;
    kafka.kill().await?;
    let meanwhile = {
        let (log, here) = (log.clone(), here.clone());
        tokio::spawn(async move {
            log.append((100..200).map(|n| record(here.clone(), "asha", &n.to_string())).collect()).await
        })
    };
    kafka.restart().await?;
    meanwhile.await??;
    log.append((200..300).map(|n| record(here.clone(), "asha", &n.to_string())).collect()).await?;

    read.extend(take(&mut *reader, 200).await?);
    let values: Vec<&str> = read.iter().map(text).collect();
    assert_eq!(values, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_away_is_unavailable_to_all() -> Result<()> {
    let Some(kafka) = Kafka::own().await? else { return Ok(()) };
    let mut hasty = options(&kafka.bootstrap());
    hasty.limits.append_within = Duration::from_secs(2);
    hasty.limits.request_within = Duration::from_secs(2);
    hasty.limits.patience = Duration::from_secs(2);
    let log = KafkaLog::connect(hasty.clone()).await?;
    create(&log, "rota", 1, &[]).await?;
    let rota = "rota".into();
    log.append(vec![record(at(&rota, 0), "asha", "hired")]).await?;
    let mut reader = log.read(&[(at(&rota, 0), Offset(0))]).await?;
    take(&mut *reader, 1).await?;

    kafka.kill().await?;
    let away = |error: LogError| assert!(matches!(error, LogError::Unavailable { .. }), "{error}");
    away(log.append(vec![record(at(&rota, 0), "asha", "left")]).await.unwrap_err());
    away(log.ends("rota").await.unwrap_err());
    away(KafkaLog::connect(hasty).await.map(drop).unwrap_err());
    loop {
        // The end it had reached may be told first.
        if let Err(error) = tokio::time::timeout(super::setting::SOON, reader.next()).await? {
            away(error);
            break;
        }
    }

    kafka.restart().await?;
    log.append(vec![record(at(&rota, 0), "bela", "hired")]).await?;
    loop {
        if let Ok(chunk) = tokio::time::timeout(super::setting::SOON, reader.next()).await?
            && chunk.records.iter().any(|record| record.key.as_deref() == Some(b"bela"))
        {
            return Ok(());
        }
    }
}
