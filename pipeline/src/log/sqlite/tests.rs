#![allow(clippy::unwrap_used, reason = "tests")]
//! What only the file has: its lock, its versions, damage, a full disk, compaction in rounds.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::*;
use crate::log::{Headers, scan};

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("nurses", partition)
}

fn record(partition: u32, key: &str, value: Option<&[u8]>) -> Append {
    let value = value.map(|value| value.to_vec().into());
    Append { at: at(partition), key: key.to_owned().into(), value, headers: Headers::default() }
}

fn nurses(settings: &[(&str, &str)]) -> NewTopic {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NewTopic { name: "nurses".into(), partitions: 2, replication: 1, settings }
}

fn options() -> SqliteOptions {
    SqliteOptions { compact_every: None, ..SqliteOptions::default() }
}

async fn with_nurses(folder: &TempDir, options: SqliteOptions) -> SqliteLog {
    let log = SqliteLog::open(&folder.path().join("log.db"), options).await.unwrap();
    log.create(&[nurses(&[("delete.retention.ms", "3600000")])]).await.unwrap();
    log
}

async fn keys(log: &SqliteLog, partition: u32) -> Vec<(i64, String)> {
    let mut keys = Vec::new();
    let take = |r: crate::log::Record| {
        keys.push((r.offset.0, String::from_utf8(r.key.unwrap().to_vec()).unwrap()));
    };
    scan(log, &[(at(partition), Offset::START)], take).await.unwrap();
    keys
}

async fn refusal(path: &Path) -> (String, String) {
    match SqliteLog::open(path, options()).await {
        Err(LogError::Refused { reason, hint }) => (reason, hint),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_and_told_who_has_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    assert_eq!(holder(&path), None);
    let log = with_nurses(&folder, options()).await;
    let pid = std::process::id();
    let (reason, _) = refusal(&path).await;
    assert!(reason.contains(&format!("process {pid}")), "{reason}");
    assert_eq!(holder(&path), Some(Holder { pid, socket: None }));

    log.set_contact(Path::new("/run/muster.sock")).unwrap();
    assert_eq!(holder(&path), Some(Holder { pid, socket: Some("/run/muster.sock".into()) }));

    log.close().await;
    assert_eq!(holder(&path), None);
    assert!(matches!(log.append(vec![record(0, "amal", None)]).await, Err(LogError::Unavailable { .. })));
    SqliteLog::open(&path, options()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_log_lets_go_by_itself() {
    let folder = TempDir::new().unwrap();
    let log = with_nurses(&folder, options()).await;
    drop(log);
    tokio::time::timeout(Duration::from_secs(20), async {
        while holder(&folder.path().join("log.db")).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn files_that_are_not_ours_are_refused_with_the_way_out() {
    let folder = TempDir::new().unwrap();

    let text = folder.path().join("notes.db");
    std::fs::write(&text, "a shopping list, long enough to be taken for a header of some kind".repeat(20)).unwrap();
    let (reason, hint) = refusal(&text).await;
    assert!(reason.contains("damaged or no log"), "{reason}");
    assert!(hint.contains("move it away"), "{hint}");

    let foreign = folder.path().join("foreign.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&foreign).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE recipes (id)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert!(refusal(&foreign).await.0.contains("another program"));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    with_nurses(&folder, options()).await.close().await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (reason, hint) = refusal(&path).await;
    assert!(reason.contains("newer muster (format 99"), "{reason}");
    assert!(hint.contains("start the newer"), "{hint}");
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_keeps_what_it_has() {
    let folder = TempDir::new().unwrap();
    let log = with_nurses(&folder, SqliteOptions { max_bytes: Some(400_000), ..options() }).await;
    log.append(vec![record(0, "amal", Some(b"1"))]).await.unwrap();
    let large = vec![7; 300_000];
    log.append(vec![record(0, "ben", Some(&large))]).await.unwrap();
    match log.append(vec![record(0, "chi", Some(&large))]).await {
        Err(LogError::Refused { hint, .. }) => assert!(hint.contains("make room"), "{hint}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(keys(&log, 0).await, [(0, "amal".into()), (1, "ben".into())]);
    // There is room for a small one, and it takes the place of the one that failed.
    assert_eq!(log.append(vec![record(0, "dua", Some(b"1"))]).await.unwrap(), [Offset(2)]);
}

#[tokio::test]
async fn compaction_keeps_the_latest_in_rounds_of_bounded_memory_and_the_last_record_always() {
    let folder = TempDir::new().unwrap();
    // Three keys fill the memory: many rounds.
    let log = with_nurses(&folder, SqliteOptions { compaction_bytes: 200, ..options() }).await;
    for _ in 0..3 {
        let everybody = ["amal", "ben", "chi", "dua", "eli", "fay", "gus"];
        log.append(everybody.map(|key| record(0, key, Some(b"1"))).to_vec()).await.unwrap();
    }
    log.append(vec![record(0, "ben", None), record(0, "gus", None)]).await.unwrap();

    let done = log.compact(Utc::now()).await.unwrap();
    assert_eq!(done, Compacted { superseded: 16, tombstones: 0 });
    let kept = ["amal", "chi", "dua", "eli", "fay"].into_iter().zip([14, 16, 17, 18, 19]);
    let mut kept: Vec<(i64, String)> = kept.map(|(key, offset)| (offset, key.to_owned())).collect();
    kept.push((21, "ben".into()));
    kept.push((22, "gus".into()));
    assert_eq!(keys(&log, 0).await, kept);

    let later = Utc::now() + TimeDelta::hours(2);
    assert_eq!(log.compact(later).await.unwrap(), Compacted { superseded: 0, tombstones: 1 });
    kept.remove(5);
    assert_eq!(keys(&log, 0).await, kept, "the last record stays, or the end would step back");
    log.close().await;

    let log = SqliteLog::open(&folder.path().join("log.db"), options()).await.unwrap();
    assert_eq!(log.ends("nurses").await.unwrap()[0].end, Offset(23));
    assert_eq!(log.append(vec![record(0, "hal", Some(b"1"))]).await.unwrap(), [Offset(23)]);
    assert_eq!(log.compact(later).await.unwrap().tombstones, 1);
}

#[tokio::test]
async fn compaction_leaves_young_records_alone() {
    let folder = TempDir::new().unwrap();
    let log = SqliteLog::open(&folder.path().join("log.db"), options()).await.unwrap();
    log.create(&[nurses(&[("min.compaction.lag.ms", "60000")])]).await.unwrap();
    log.append(vec![record(1, "amal", Some(b"1")), record(1, "amal", Some(b"2"))]).await.unwrap();
    assert_eq!(log.compact(Utc::now()).await.unwrap().superseded, 0);
    assert_eq!(log.compact(Utc::now() + TimeDelta::minutes(2)).await.unwrap().superseded, 1);
}

#[tokio::test]
async fn a_topic_made_anew_is_empty_and_the_old_records_are_removed_in_time() {
    let folder = TempDir::new().unwrap();
    let log = with_nurses(&folder, options()).await;
    log.append((0..2500).map(|n| record(0, &n.to_string(), Some(b"1"))).collect()).await.unwrap();
    log.recreate_topic("nurses", 3).await.unwrap();
    assert_eq!(log.ends("nurses").await.unwrap().len(), 3);
    log.compact(Utc::now()).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM topics)")
        .fetch_one(&log.shared.pool)
        .await
        .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_group_has_one_member_here() {
    let folder = TempDir::new().unwrap();
    let log = with_nurses(&folder, options()).await;
    let first = log.subscribe("register", &["nurses".into()]).await.unwrap();
    let Err(LogError::Refused { reason, .. }) = log.subscribe("register", &["nurses".into()]).await else {
        panic!("a second member was let in");
    };
    assert!(reason.contains("register"), "{reason}");
    first.close().await.unwrap();
    log.subscribe("register", &["nurses".into()]).await.unwrap();
}

#[tokio::test]
async fn settings_of_topics_survive() {
    let folder = TempDir::new().unwrap();
    with_nurses(&folder, options()).await.close().await;
    let log = SqliteLog::open(&folder.path().join("log.db"), options()).await.unwrap();
    let topics = log.topics().await.unwrap();
    assert_eq!(topics[0].settings, BTreeMap::from([("delete.retention.ms".to_owned(), "3600000".to_owned())]));
}

#[tokio::test]
async fn compaction_happens_by_itself_beside_appends() {
    let folder = TempDir::new().unwrap();
    let compact_every = Some(Duration::from_millis(5));
    let log = with_nurses(&folder, SqliteOptions { compact_every, ..options() }).await;
    let compacted = async {
        while log.ends("nurses").await.unwrap()[0].end < Offset(50) || keys(&log, 0).await.len() > 2 {
            log.append(vec![record(0, "amal", Some(b"1"))]).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), compacted).await.unwrap();
}

#[tokio::test]
async fn damage_is_reported_where_it_is_met() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let log = with_nurses(&folder, options()).await;
    log.append((0..2000).map(|n| record(0, &n.to_string(), Some(&[7; 500]))).collect()).await.unwrap();
    log.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let (begin, end) = (bytes.len() / 4, bytes.len() / 2);
    bytes[begin..end].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    let read = async {
        let log = SqliteLog::open(&path, options()).await?;
        scan(&log, &[(at(0), Offset::START)], |_| {}).await
    };
    match read.await {
        Err(LogError::Refused { reason, hint }) => {
            assert!(reason.contains("damaged"), "{reason}");
            assert!(hint.contains("backup"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
}
