//! A snapshot of ten million rows beside one of a million: time and memory.
//!
//! The topics are real ones: the source loads some thousand employees into two of them, and each record is then appended again
//! with other keys until there are enough. `MUSTER_BENCH_ROWS` says how many rows the larger one has, where ten million take
//! more disk than there is (about 4 KB a row: topic, sorted runs, and the snapshot itself) or more time.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use pipeline::log::kafka::{KafkaLog, KafkaOptions};
use pipeline::log::{Append, Log, Offset, Record, TopicPartition};
use tokio::task::JoinSet;

use crate::prm::{Registry, kafka_log, snapshots, wanted_rows};
use crate::rounds::Spread;
use crate::site::{Ran, Site};
use crate::snapshots::{records, settle};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "snapshots-big", about: "ten times as many rows into files", run: |setting| Box::pin(run(setting)) };

/// Records in one call of `append`, and calls at once.
const BATCH: usize = 2_000;
const AT_ONCE: usize = 8;

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let seed = setting.amount(50_000, 500);
    let many = setting.amount(wanted_rows(10_000_000)?, 20_000);
    let few = many / 10;
    ensure!(few >= seed && few.is_multiple_of(seed), "not {many} rows but a multiple of {}", seed * 10);
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let registry = Registry::filled(&setting, seed).await?;
    let log = kafka_log(&kafka);
    let source = Site::new(&setting, "source", &format!("{}{log}", registry.source(&["few", "many"], "")))?;
    source.give(&["run", "--once"]).await?;
    let kafka_log = Arc::new(KafkaLog::connect(KafkaOptions::plaintext(kafka.bootstrap())).await?);
    multiply(&kafka_log, "prm.few", few / seed).await?;
    multiply(&kafka_log, "prm.many", many / seed).await?;
    drop(kafka_log);

    let made = async |topic: &str, rows: usize| -> Result<Ran> {
        let store = setting.scratch.join("store");
        let configuration = snapshots(&store, topic, "materialise = \"none\"", "") + &log;
        let site = Site::new(&setting, topic, &configuration)?;
        settle()?;
        let ran = site.timed(&["snapshot", "run", "--here"]).await?;
        let records = records(&store)?;
        ensure!(records == rows as u64, "{records} records of {rows}");
        std::fs::remove_dir_all(store)?;
        Ok(ran)
    };
    // Of the small one there are several, for it is over quickly.
    let (mut small, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..setting.amount(3, 1) {
        let ran = made("prm.few", few).await?;
        small.push(ran.seconds);
        memory.push(ran.memory);
    }
    let large = made("prm.many", many).await?;
    let small = Spread::of(&small);
    let ratio = Spread {
        median: large.seconds / small.median,
        low: large.seconds / small.high,
        high: large.seconds / small.low,
    };
    let what = format!("a first snapshot of {many} employees, parts for 30 depths");
    let figures = (Spread::exactly(large.seconds), small);
    let time = Finding::beside(&what, format!("of {few}"), figures, "s", ratio);
    let most = Finding::alone("the same: resident memory, at most", Spread::exactly(large.memory), "MB");
    let note = format!("of {few}: {:.0} MB", Spread::of(&memory).high);
    Ok(vec![time.wants(Goal::RatioAtMost(10.5)), most.wants(Goal::AtMost(256.0)).noting(note)])
}

/// Appends every record of a topic again, under other keys, until there are `times` as many.
async fn multiply(log: &Arc<KafkaLog>, topic: &str, times: usize) -> Result<()> {
    let partitions = u32::try_from(log.ends(topic).await?.len())?;
    let of = |partition| TopicPartition::new(topic, partition);
    let from: Vec<_> = (0..partitions).map(|partition| (of(partition), Offset::START)).collect();
    let mut reading = pipeline::log::Scan::begin(&**log, &from).await?;
    let mut seed = Vec::new();
    while let Some(records) = reading.next().await? {
        seed.extend(records);
    }
    let mut appending = JoinSet::new();
    for copy in 1..u32::try_from(times)? {
        for records in seed.chunks(BATCH) {
            let copies: Result<Vec<Append>> = records.iter().map(|record| copied(record, copy, partitions)).collect();
            let (log, copies) = (Arc::clone(log), copies?);
            appending.spawn(async move { log.append(copies).await });
            if appending.len() >= AT_ONCE {
                appending.join_next().await.context("an append")???;
            }
        }
    }
    while let Some(done) = appending.join_next().await {
        done??;
    }
    Ok(())
}

/// The same employee with another id: its first eight digits are others, and no two copies have the same ones.
fn copied(record: &Record, copy: u32, partitions: u32) -> Result<Append> {
    let (key, value) = record.key.as_deref().zip(record.value.as_deref()).context("a record without key or value")?;
    let digits = std::str::from_utf8(key.get(..8).context("a key that is no uuid")?)?;
    let other = u32::from_str_radix(digits, 16)?.wrapping_add(copy.wrapping_mul(0x9E37_79B1));
    let other = format!("{other:08x}");
    let renamed = |text: &[u8]| -> Bytes {
        let mut text = text.to_vec();
        let found: Vec<usize> =
            text.windows(key.len()).enumerate().filter(|(_, here)| *here == key).map(|(at, _)| at).collect();
        found.into_iter().for_each(|at| text[at..at + 8].copy_from_slice(other.as_bytes()));
        text.into()
    };
    let mut headers = record.headers.clone();
    for (_, value) in headers.0.iter_mut().filter(|(name, _)| name == "ce_subject") {
        *value = renamed(value);
    }
    let (key, value) = (renamed(key), renamed(value));
    let at = TopicPartition::new(Arc::clone(&record.at.topic), schemas::partition_of(&key, partitions));
    Ok(Append { at, key, value: Some(value), headers })
}
