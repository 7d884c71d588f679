//! What a snapshot of a large table takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::SecondsFormat;
use object_store::local::LocalFileSystem;
use pipeline::change::header;
use pipeline::log::sqlite::{SqliteLog, SqliteOptions};
use pipeline::log::{Append, Headers, Log, NewTopic, TopicPartition};
use serde_json::json;

use super::site::{Site, TOPIC, morning, process_over, uuid};

/// Rows enough that everything that could grow with them would be seen to.
const ROWS: u32 = 400_000;

const MOST: u64 = 256 << 20;

/// What verifying may take beside what is there already: two pieces of an object (8 MiB each), or a row group as it is stored (8 MiB)
/// and its dictionaries and pages (as much again at most, for a group's size is told before compression), the end of a file and a
/// batch; and what the allocator keeps between.
const MOST_TO_VERIFY: u64 = 48 << 20;

/// The largest resident size of this process since the last look, in bytes.
fn peak(forget: bool) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
    if forget {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
    }
    kib << 10
}

async fn fill(site: &Site, log: &dyn Log, rows: impl Iterator<Item = u32>, version: i64) {
    let id = site.runtime.state.schemas.id_for_writing(TOPIC, &site.schema).await.unwrap();
    let mut waiting = Vec::new();
    for n in rows {
        let info = format!("{{\"note\":\"{}\"}}", "№".repeat(usize::try_from(n % 60).unwrap()));
        let record = json!({
            "id": uuid(n), "position": format!("P{}", n % 40), "is_active": true, "start_date": "2017-03-02",
            "inserted_at": (morning() - chrono::TimeDelta::minutes(i64::from(n))).to_rfc3339(), "additional_info": info,
        });
        let body = schemas::from_json(&site.schema, &record).unwrap();
        let mut headers = Headers::default();
        headers.push(header::VERSION, (version + i64::from(n)).to_string());
        headers.push(header::CAPTURED, site.now().to_rfc3339_opts(SecondsFormat::Micros, true));
        headers.push(header::ASK, "initial");
        let at = TopicPartition::new(TOPIC, 0);
        let value = Some(schemas::frame(id, &body).into());
        waiting.push(Append { at, key: uuid(n).into_bytes().into(), value, headers });
        if waiting.len() == 5_000 {
            log.append(std::mem::take(&mut waiting)).await.unwrap();
        }
    }
    log.append(waiting).await.unwrap();
}

/// This is glibc's allocator, the binary has another one. Without `MALLOC_ARENA_MAX=2` it takes more: each of glibc's arenas
/// keeps some of what was freed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "some minutes: MALLOC_ARENA_MAX=2 cargo test -p sinks --test snapshots memory -- --ignored, alone"]
async fn a_large_table_takes_no_more_memory_than_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let objects = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let mut site = Site::over(Arc::new(objects)).await;
    let log = Arc::new(SqliteLog::open(&folder.path().join("log.sqlite"), SqliteOptions::default()).await.unwrap());
    let topic = NewTopic { name: TOPIC.into(), partitions: 1, replication: 1, settings: BTreeMap::new() };
    log.create(&[topic]).await.unwrap();
    site.runtime = process_over(Arc::clone(&log) as Arc<dyn Log>, &site.clock).await;
    site.settings.max_depth = 30;
    site.settings.codings.truncate(2);
    // The keys come in no order.
    let mixed = (0..ROWS).map(|n| n.wrapping_mul(7_919) % ROWS);
    fill(&site, log.as_ref(), mixed, 1).await;
    let before = peak(true);
    println!("before: {} MiB", before >> 20);
    for day in 0..2 {
        peak(true);
        let (began, before) = (std::time::Instant::now(), peak(false));
        site.complete_of(1).await;
        let report = site.job().make(&site.runtime, site.now()).await.unwrap();
        let most = peak(true);
        println!(
            "day {day}: {} s, {} MiB, {} before; {}",
            began.elapsed().as_secs(),
            most >> 20,
            before >> 20,
            report.text()
        );
        assert_eq!(report.datasets["employees"].records, u64::from(ROWS));
        assert!(most <= MOST, "{} MiB", most >> 20);
        site.pass(24).await;
        let of_a_day = (0..ROWS).filter(|n| n % 50 == day);
        fill(&site, log.as_ref(), of_a_day, 10_000_000).await;
    }
    peak(true);
    let before = peak(false);
    site.verified().await;
    let most = peak(false);
    println!("verifying: {} MiB, {} before", most >> 20, before >> 20);
    assert!(most - before <= MOST_TO_VERIFY, "{} MiB", (most - before) >> 20);
}
