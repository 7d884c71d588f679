//! Keys come and go; what they were used for is on record.

use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fixture::{EMPLOYEES, SCOPE, Site, ask, get};
use crate::export::{ExportOptions, serve};

/// Asks a real instance until it answers so.
async fn until(address: std::net::SocketAddr, key: &str, status: &str) -> Duration {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let began = Instant::now();
    loop {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("HEAD {EMPLOYEES} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Breaks when `tokens.follow` isn't spawned in `serve`, or reads every ten seconds.
#[tokio::test]
async fn a_token_that_is_revoked_stops_working_within_five_seconds_on_every_instance() {
    let (site, _, key) = Site::served().await;
    let stop = CancellationToken::new();
    let mut instances = Vec::new();
    for _ in 0..2 {
        let listen = "127.0.0.1:0".parse().unwrap();
        let (pepper, store, operations) = (site.pepper.clone(), site.store.clone(), site.operations.clone());
        let limits =
            crate::export::LimitSettings { requests_per_minute: 100_000.try_into().unwrap(), ..Default::default() };
        let options = ExportOptions { limits, ..ExportOptions::default() };
        instances.push(serve(listen, options, pepper, store, operations, stop.clone()).await.unwrap());
    }
    for instance in &instances {
        until(instance.address, &key, "200").await;
        assert!(instance.watch().unready().is_empty());
    }
    // Each process has its own connection to the file.
    let other = pipeline::operations::Operations::open(&site.folder.path().join("operations.sqlite")).await.unwrap();
    other.revoke_token("id-lviv", Utc::now()).await.unwrap();
    let began = Instant::now();
    for instance in &instances {
        until(instance.address, &key, "401").await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    stop.cancel();
    for instance in instances {
        instance.ended.await.unwrap();
    }
}

#[tokio::test]
async fn while_the_database_is_away_known_keys_hold_for_a_while_and_then_nobody_is_sent_away_as_unknown() {
    let (site, _, key) = Site::served().await;
    let grace = Duration::from_secs(2);
    let instance = site.instance(ExportOptions { grace, ..ExportOptions::default() }).await;
    let known = ask(&instance.router, get(EMPLOYEES, &key)).await;
    assert_eq!(known.status.as_u16(), 200);
    // Nobody reads the tokens again here: as if the database were away.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask(&instance.router, get(EMPLOYEES, &key).method("HEAD")).await;
        if answer.status.as_u16() == 503 {
            assert_eq!(answer.header("retry-after"), "5");
            break;
        }
        assert_eq!(answer.status.as_u16(), 200);
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ask(&instance.router, get(EMPLOYEES, "mst_guess")).await.status.as_u16(), 503);
    instance.export.tokens.refresh().await;
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key)).await.status.as_u16(), 200);
}

#[tokio::test]
async fn every_export_is_on_record() {
    let (site, instance, key) = Site::served().await;
    let whole =
        ask(&instance.router, get(EMPLOYEES, &key).header("x-request-id", "first").header("accept-encoding", "gzip"))
            .await;
    ask(&instance.router, get("/api/pis/bulk/employees?depth=2", &key).header("x-request-id", "second")).await;
    // Refused, or without a body: no export.
    ask(&instance.router, get("/api/pis/bulk/employees?depth=9", &key)).await;
    ask(&instance.router, get(EMPLOYEES, &key).header("if-none-match", "*")).await;
    let stop = CancellationToken::new();
    stop.cancel();
    instance.clerk.write(stop).await;
    let mut exports = site.operations.exports("id-lviv", 10).await.unwrap();
    exports.sort_by(|one, other| one.request.cmp(&other.request));
    let told: Vec<_> = exports
        .iter()
        .map(|e| {
            (e.request.as_str(), e.label.as_str(), e.resource.as_str(), e.depth, e.coding.as_str(), e.status.as_deref())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("first", "lviv", "employees", None, "gzip", Some("complete")),
            ("second", "lviv", "employees", Some(2), "identity", Some("complete")),
        ]
    );
    assert_eq!(exports[0].bytes, Some(whole.body.len() as u64));
    assert!(
        exports.iter().all(|export| export.ended.is_some_and(|ended| ended >= export.began) && export.generation == 1)
    );
}

#[tokio::test]
async fn a_key_given_twice_is_none() {
    let (_site, instance, key) = Site::served().await;
    let answer = ask(&instance.router, get(EMPLOYEES, &key).header("api-key", &key)).await;
    assert_eq!(answer.error(), ("access_denied".into(), "Invalid api key".into()));
    assert_eq!(SCOPE, "employee_bulk:read_pis");
}
