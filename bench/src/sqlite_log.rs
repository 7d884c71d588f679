//! Appending to the embedded log, beside inserting the same bytes with one prepared statement and nothing around it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use pipeline::log::sqlite::{SqliteLog, SqliteOptions};
use pipeline::log::{Append, Headers, Log, NewTopic, TopicPartition};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::rounds::{Rounds, rate};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "sqlite-log", about: "appending to the embedded log", run: |setting| Box::pin(run(setting)) };

const BATCH: usize = 1_000;
/// Of a record's value.
const BYTES: usize = 300;
const TOPIC: &str = "ats.applicant";

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let (batches, rounds) = (setting.amount(50, 2), setting.amount(7, 1));
    let log = SqliteLog::open(&setting.scratch.join("log.sqlite"), SqliteOptions::default()).await?;
    let settings = Default::default();
    log.create(&[NewTopic { name: TOPIC.to_owned(), partitions: 1, replication: 1, settings }]).await?;
    let mut raw = open_raw(&setting.scratch.join("raw.sqlite")).await?;
    let (mut next, mut raw_next) = (0, 0);

    let ours = async || {
        let work: Vec<Vec<Append>> = (0..batches).map(|batch| batch_of(next + batch * BATCH)).collect();
        next += batches * BATCH;
        let began = Instant::now();
        for batch in work {
            ensure!(log.append(batch).await?.len() == BATCH, "records without an offset");
        }
        Ok(began.elapsed().as_secs_f64())
    };
    let theirs = async || {
        let work: Vec<Vec<Append>> = (0..batches).map(|batch| batch_of(raw_next + batch * BATCH)).collect();
        let began = Instant::now();
        for batch in &work {
            insert_raw(&mut raw, batch, raw_next).await?;
            raw_next += BATCH;
        }
        Ok(began.elapsed().as_secs_f64())
    };
    let all = Rounds::in_turn(rounds, ours, theirs).await?;
    log.close().await;
    let count = batches * BATCH;
    let figures = (rate(count, &all.ours), rate(count, &all.theirs));
    let what = format!("append to the SQLite log, batches of {BATCH}, {BYTES} bytes and our headers");
    let against =
        "insert of the same bytes with sqlx, 250 rows a statement, one transaction a batch, same pragmas and table";
    Ok(vec![Finding::beside(what, against, figures, "records/s", all.ratio()).wants(Goal::RatioAtLeast(0.6))])
}

fn batch_of(from: usize) -> Vec<Append> {
    let at = TopicPartition::new(TOPIC, 0);
    (from..from + BATCH).map(|number| record(at.clone(), number)).collect()
}

/// A record as the emitter makes it; its bytes don't repeat.
pub fn record(at: TopicPartition, number: usize) -> Append {
    let mut rng = fastrand::Rng::with_seed(number as u64);
    let key = format!("{:032x}{:04x}", rng.u128(..), rng.u16(..));
    let mut value = vec![0; BYTES];
    rng.fill(&mut value);
    let mut headers = Headers::default();
    let fixed = [
        ("ce_specversion", "1.0"),
        ("ce_source", "muster/ats.applicants"),
        ("ce_type", "ats.applicant.updated"),
        ("ce_time", "2026-05-01T08:00:00.000000Z"),
        ("captured", "2026-05-01T08:00:01.000000Z"),
        ("ask", "changes"),
        ("run", "0d6f6a1e-8a64-4d0f-9f5c-3f1d0a3c2b11"),
        ("writer", "412"),
    ];
    for (name, text) in fixed {
        headers.push(name, text);
    }
    headers.push("ce_id", format!("{:032x}", rng.u128(..)));
    headers.push("ce_subject", key.clone());
    headers.push("version", (1_777_000_000_000 + number).to_string());
    headers.push("hash", format!("1-{:032x}", rng.u128(..)));
    Append { at, key: Bytes::from(key), value: Some(Bytes::from(value)), headers }
}

/// With what the log opens its own file with.
async fn open_raw(path: &Path) -> Result<SqliteConnection> {
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(8192)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-16384")
        .disable_statement_logging();
    let mut connection = connect.connect().await.context("opening a raw file")?;
    let table = "CREATE TABLE records (topic INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, \
         at INTEGER NOT NULL, key BLOB NOT NULL, headers BLOB, value BLOB, PRIMARY KEY (topic, partition, offset)) \
         WITHOUT ROWID";
    sqlx::query(table).execute(&mut connection).await?;
    Ok(connection)
}

/// The same number of bytes in the headers' column, ready made.
async fn insert_raw(connection: &mut SqliteConnection, batch: &[Append], from: usize) -> Result<()> {
    const ROWS: usize = 250;
    let statement = format!("INSERT INTO records VALUES {}", vec!["(?,?,?,?,?,?,?)"; ROWS].join(","));
    let mut transaction = connection.begin().await?;
    for (chunk, records) in batch.chunks(ROWS).enumerate() {
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.clone()));
        for (place, record) in records.iter().enumerate() {
            let offset = i64::try_from(from + chunk * ROWS + place)?;
            let headers = vec![7u8; record.headers.0.iter().map(|(_, value)| value.len() + 2).sum()];
            query = query.bind(1).bind(0).bind(offset).bind(1_777_000_000_000_i64);
            query = query.bind(record.key.as_ref()).bind(headers).bind(record.value.as_deref());
        }
        query.execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}
