//! What the embedded log has acknowledged survives the death of its process; a second process is told who has it.
//!
//! The test binary runs itself again as the process that is killed: see [`child`].
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use pipeline::log::sqlite::{Holder, SqliteLog, SqliteOptions, holder};
use pipeline::log::{Append, Committed, Headers, Log, LogError, NewTopic, Offset, TopicPartition, scan};

/// Says to [`child`] which file to write.
const FILE: &str = "LOG_SQLITE_KILL_FILE";

const PARTITIONS: u32 = 3;

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("nurses", partition)
}

/// Not a test of its own: appends from several tasks and prints what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(file) = std::env::var_os(FILE) else { return };
    // Compaction in the background takes part.
    let every = Some(std::time::Duration::from_millis(20));
    let options = SqliteOptions { compact_every: every, ..SqliteOptions::default() };
    let log = SqliteLog::open(Path::new(&file), options).await.unwrap();
    let topic = NewTopic { name: "nurses".into(), partitions: PARTITIONS, replication: 1, settings: BTreeMap::new() };
    log.create(&[topic]).await.unwrap();
    println!("\nready");

    let tasks = (0..PARTITIONS).map(|partition| {
        let log = log.clone();
        tokio::spawn(async move {
            loop {
                // A few large ones among many small ones; in the last partition keys come again, to be compacted.
                let keys = if partition + 1 == PARTITIONS { 500 } else { u32::MAX };
                let records = (0..fastrand::u64(1..30)).map(|n| Append {
                    at: at(partition),
                    key: Bytes::from(format!("{partition}-{}", fastrand::u32(..keys))),
                    value: Some(Bytes::from(vec![n as u8; if n == 7 { 20_000 } else { 200 }])),
                    headers: Headers::default(),
                });
                let records: Vec<Append> = records.collect();
                let keys: Vec<Bytes> = records.iter().map(|record| record.key.clone()).collect();
                let offsets = log.append(records).await.unwrap();
                let mut out = std::io::stdout().lock();
                for (offset, key) in offsets.iter().zip(keys) {
                    writeln!(out, "ack {partition} {offset} {}", std::str::from_utf8(&key).unwrap()).unwrap();
                }
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();

    let mut member = log.subscribe("register", &["nurses".into()]).await.unwrap();
    member.next().await.unwrap();
    let place = [at(0)];
    let before = member.committed(&place).await.unwrap()[0].as_ref().map_or(0, |committed| committed.next.0);
    for next in before + 1.. {
        member.commit(&[(at(0), Committed { next: Offset(next), metadata: String::new() })]).await.unwrap();
        println!("commit {next}");
        assert!(!tasks.iter().any(|task| task.is_finished()));
    }
}

fn start(file: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// The next whole line; `None` at the end. A line that was cut by the kill acknowledges nothing.
fn line(out: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line.ends_with('\n').then(|| line.trim_end().to_owned())
}

#[derive(Default)]
struct Acknowledged {
    records: BTreeMap<(u32, i64), String>,
    committed: i64,
}

impl Acknowledged {
    /// `true`: the line told something.
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["ack", partition, offset, key] => {
                let place = (partition.parse().unwrap(), offset.parse().unwrap());
                let known = self.records.insert(place, (*key).to_owned());
                assert_eq!(known, None, "an offset was given twice");
                true
            }
            ["commit", next] => {
                self.committed = next.parse().unwrap();
                true
            }
            _ => false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("log.db");
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut acknowledged = Acknowledged::default();

    for round in 0..8 {
        let (mut child, mut out) = start(&file);
        let mut patience = random.u32(1..1500);
        while patience > 0 {
            let line = line(&mut out).expect("the child writes until it is killed");
            patience -= u32::from(acknowledged.note(&line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(line) = line(&mut out) {
            acknowledged.note(&line);
        }

        let log = SqliteLog::open(&file, SqliteOptions { compact_every: None, ..SqliteOptions::default() })
            .await
            .unwrap_or_else(|err| panic!("round {round}: {err}"));
        for partition in 0..PARTITIONS {
            let mut there = BTreeMap::new();
            let from = [(at(partition), Offset::START)];
            let take = |r: pipeline::log::Record| {
                there.insert(r.offset.0, String::from_utf8(r.key.unwrap().to_vec()).unwrap());
            };
            let end = scan(&log, &from, take).await.unwrap()[0].1;
            let keys: std::collections::BTreeSet<&String> = there.values().collect();
            let ours = acknowledged.records.range((partition, 0)..(partition + 1, 0));
            for ((_, offset), key) in ours {
                assert!(*offset < end.0, "round {round}: {partition}|{offset} is beyond the end");
                match there.get(offset) {
                    Some(found) => assert_eq!(found, key, "round {round}: {partition}|{offset}"),
                    // Only compaction may have taken it, because the key came again.
                    None => assert!(keys.contains(key), "round {round}: {partition}|{offset} is lost"),
                }
            }
        }
        let committed = log.committed("register", &[at(0)]).await.unwrap();
        assert!(committed[0].as_ref().map_or(0, |committed| committed.next.0) >= acknowledged.committed);
        log.close().await;
    }
    assert!(!acknowledged.records.is_empty());
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_the_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("log.db");
    let (mut child, mut out) = start(&file);
    while line(&mut out).expect("the child gets ready") != "ready" {}

    assert_eq!(holder(&file), Some(Holder { pid: child.id(), socket: None }));
    match SqliteLog::open(&file, SqliteOptions::default()).await {
        Err(LogError::Refused { reason, hint }) => {
            assert!(reason.contains(&format!("process {}", child.id())), "{reason}");
            assert!(hint.contains("stop that process"), "{hint}");
        }
        other => panic!("{:?}", other.map(|_| "opened")),
    }

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(holder(&file), None, "a dead process holds nothing");
    let log: Arc<dyn Log> = Arc::new(SqliteLog::open(&file, SqliteOptions::default()).await.unwrap());
    assert_eq!(log.topics().await.unwrap().len(), 1);
}
