//! Slow readers, many readers, and readers while snapshots come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use object_store::ObjectStoreExt;
use pipeline::snapshot::{Coding, Generation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::fixture::{ALL, Contents, EMPLOYEES, Instance, SCOPE, Site, ask, date_of, get, ids, try_ask};
use crate::export::envelope::moment;
use crate::export::{ConnectionSettings, ExportOptions, LimitSettings, server};

/// A client that has asked, over a connection that takes 4 KiB.
async fn connected(instance: &Instance, key: &str) -> (DuplexStream, JoinHandle<()>) {
    let (ours, mut theirs) = duplex(4 * 1024);
    let settings = ConnectionSettings::default();
    let serving = tokio::spawn(server::connection(ours, instance.router.clone(), settings, CancellationToken::new()));
    let request = format!("GET {EMPLOYEES} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\n\r\n");
    theirs.write_all(request.as_bytes()).await.unwrap();
    (theirs, serving)
}

/// Breaks (hangs) when `Paced::wait` doesn't look at the time.
#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off_after_a_minute_and_that_is_on_record() {
    let mut site = Site::in_memory().await;
    site.publish(&Contents { filler: 20_000, ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    tokio::time::pause();
    let began = Instant::now();
    let (mut client, serving) = connected(&instance, &key).await;
    let mut some = [0; 1_000];
    client.read_exact(&mut some).await.unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200 OK\r\n"));
    serving.await.unwrap();
    let after = began.elapsed();
    assert!(after >= Duration::from_secs(60) && after < Duration::from_secs(62), "{after:?}");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 100_000, "{}", rest.len());
    tokio::time::resume();
    assert_eq!(instance.export.buffers.held(), 0);
    let stop = CancellationToken::new();
    stop.cancel();
    instance.clerk.write(stop).await;
    let export = site.operations.exports("id-lviv", 1).await.unwrap().remove(0);
    assert_eq!(export.status.as_deref(), Some("slow"));
    assert!(export.bytes.unwrap() < export.expected);
}

#[tokio::test]
async fn headers_that_do_not_come_are_not_waited_for() {
    let (_site, instance, _) = Site::served().await;
    tokio::time::pause();
    let (ours, mut theirs) = duplex(4 * 1024);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server::connection(ours, instance.router.clone(), ConnectionSettings::default(), stop));
    theirs.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
    let began = Instant::now();
    serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_are_refused() {
    let (_site, instance, key) = Site::served().await;
    let (long, many) = (format!("x-long: {}\r\n", "a".repeat(20_000)), "x-many: a\r\n".repeat(65));
    for headers in [long, many] {
        let (ours, theirs) = duplex(64 * 1024);
        let stop = CancellationToken::new();
        let serving =
            tokio::spawn(server::connection(ours, instance.router.clone(), ConnectionSettings::default(), stop));
        let (mut read, mut write) = tokio::io::split(theirs);
        let request = format!("GET {EMPLOYEES} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\n{headers}\r\n");
        write.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_clients_that_do_not_read_hold_little_memory_and_hinder_nobody() {
    let mut site = Site::in_memory().await;
    site.publish(&Contents { filler: 20_000, codings: vec![Coding::Identity], ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let limits =
        LimitSettings { requests_per_minute: 100_000.try_into().unwrap(), answers_per_key: 2_000, answers: 2_000 };
    let instance = site.instance(ExportOptions { limits, ..ExportOptions::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        let (mut client, serving) = connected(&instance, &key).await;
        let mut some = [0; 100];
        client.read_exact(&mut some).await.unwrap();
        clients.push((client, serving));
    }
    let held = instance.export.buffers.held();
    assert!(held > 10 << 20, "they hold something: {held}");
    assert!(held <= (16 + 24) << 20, "{held}");
    let answer = ask(&instance.router, get(EMPLOYEES, &key)).await;
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 100);
    drop(clients);
}

#[tokio::test]
async fn limits_of_a_key_and_of_all_are_free_again_when_an_answer_has_ended() {
    let (site, _, key) = Site::served().await;
    let limits = LimitSettings { answers_per_key: 1, ..LimitSettings::default() };
    let instance = site.instance(ExportOptions { limits, ..ExportOptions::default() }).await;
    let request = get(EMPLOYEES, &key).body(Body::empty()).unwrap();
    let under_way = instance.router.clone().oneshot(request).await.unwrap();
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key)).await.status.as_u16(), 429);
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key).method("HEAD")).await.status.as_u16(), 200);
    under_way.into_body().collect().await.unwrap();
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key)).await.status.as_u16(), 200);
}

#[tokio::test]
async fn what_was_begun_on_a_local_disk_is_read_to_its_end_when_its_generation_is_pruned() {
    let mut site = Site::new().await;
    site.publish(&Contents { filler: 20_000, ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let response = instance.router.clone().oneshot(get(EMPLOYEES, &key).body(Body::empty()).unwrap()).await.unwrap();
    std::fs::remove_dir_all(site.folder.path().join("snapshots/data/00000001")).unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["data"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn what_was_begun_in_a_bucket_is_broken_off_and_never_silently_short() {
    let mut site = Site::in_memory().await;
    let manifest = site.publish(&Contents { filler: 20_000, ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let response = instance.router.clone().oneshot(get(EMPLOYEES, &key).body(Body::empty()).unwrap()).await.unwrap();
    for object in manifest.objects() {
        site.store.objects().delete(&site.store.path(&object.path).unwrap()).await.unwrap();
    }
    response.into_body().collect().await.unwrap_err();
    let stop = CancellationToken::new();
    stop.cancel();
    instance.clerk.write(stop).await;
    let export = site.operations.exports("id-lviv", 1).await.unwrap().remove(0);
    assert_eq!(export.status.as_deref(), Some("failed"));
}

#[tokio::test]
async fn an_object_that_was_changed_under_its_manifest_is_never_a_short_answer() {
    let mut site = Site::new().await;
    site.publish(&Contents { codings: vec![Coding::Gzip], ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let path = site.folder.path().join("snapshots/data/00000001/employees/full.json.gz");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    try_ask(&instance.router, get(EMPLOYEES, &key)).await.err().unwrap();
}

/// Breaks when the plan is drawn up from a manifest that is taken from `current` a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_publications_are_never_mixed_by_whoever_reads_meanwhile() {
    const PUBLICATIONS: u64 = 50;
    let mut site = Site::new().await;
    let contents = |generation: u64| {
        let mut contents = Contents { whole: generation.is_multiple_of(2), ..Contents::default() };
        contents.codings = if generation.is_multiple_of(3) { vec![Coding::Gzip] } else { ALL.to_vec() };
        contents
    };
    site.publish(&contents(1)).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let limits = LimitSettings { requests_per_minute: 1_000_000.try_into().unwrap(), ..LimitSettings::default() };
    let instance = site.instance(ExportOptions { limits, ..ExportOptions::default() }).await;
    let (reads, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let mut readers = Vec::new();
    for reader in 0..4_u64 {
        let (router, key, reads, stop) = (instance.router.clone(), key.clone(), Arc::clone(&reads), stop.clone());
        readers.push(tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !stop.is_cancelled() {
                let count = reads.load(Ordering::Relaxed) + reader;
                let (query, records) =
                    [("", 100), ("?depth=1", 10), ("?depth=2", 20), ("?depth=3", 30)][(count % 4) as usize];
                let accept = ["application/json", "application/x-ndjson"][(count / 4 % 2) as usize];
                let answer = ask(&router, get(&format!("{EMPLOYEES}{query}"), &key).header("accept", accept)).await;
                assert_eq!(answer.status.as_u16(), 200);
                let generation: u64 = answer.header("snapshot-generation").parse().unwrap();
                assert_eq!(answer.header("snapshot-date"), moment(date_of(Generation(generation))));
                let found = if accept == "application/json" {
                    let body = answer.json();
                    assert_eq!(body["meta"]["date"], moment(date_of(Generation(generation))));
                    body["data"].as_array().unwrap().clone()
                } else {
                    let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
                };
                assert_eq!(ids(&found, generation), (0..records).collect::<Vec<_>>());
                seen.insert(generation);
                reads.fetch_add(1, Ordering::Relaxed);
            }
            seen
        }));
    }
    for generation in 2..=PUBLICATIONS {
        let before = reads.load(Ordering::Relaxed);
        site.publish(&contents(generation)).await;
        instance.export.current.look().await;
        while reads.load(Ordering::Relaxed) < before + 8 && !readers.iter().any(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if generation > 6 {
            let pruned = Generation(generation - 6);
            std::fs::remove_dir_all(site.folder.path().join(format!("snapshots/data/{pruned}"))).unwrap();
        }
    }
    stop.cancel();
    let mut seen = BTreeSet::new();
    for reader in readers {
        seen.extend(reader.await.unwrap());
    }
    assert!(seen.len() as u64 > PUBLICATIONS / 2, "{seen:?}");
}
