//! Forms, codings, conditions.

use std::io::Read;

use pipeline::snapshot::Coding;

use super::fixture::{Answer, Contents, EMPLOYEES, SCOPE, Site, ask, get, ids};
use crate::export::ExportOptions;

fn plain(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    match answer.header("content-encoding") {
        "" => plain.extend_from_slice(&answer.body),
        "gzip" => {
            // One member, as clients read it that know no more.
            let mut decoder = flate2::bufread::GzDecoder::new(&answer.body[..]);
            decoder.read_to_end(&mut plain).unwrap();
            assert!(decoder.into_inner().is_empty(), "something follows the member");
        }
        "zstd" => plain = zstd::stream::decode_all(&answer.body[..]).unwrap(),
        coding => panic!("{coding}"),
    }
    plain
}

#[tokio::test]
async fn every_coding_and_form_has_the_same_records_whatever_is_stored() {
    for stored in
        [&[Coding::Identity, Coding::Gzip, Coding::Zstd][..], &[Coding::Gzip], &[Coding::Zstd], &[Coding::Identity]]
    {
        for whole in [true, false] {
            let mut site = Site::new().await;
            site.publish(&Contents { codings: stored.to_vec(), whole, ..Contents::default() }).await;
            let key = site.key("lviv", &[SCOPE]).await;
            let instance = site.instance(ExportOptions::default()).await;
            for (query, records) in [("", 100), ("?depth=1", 10), ("?depth=3", 30)] {
                let path = format!("{EMPLOYEES}{query}");
                for (accept, coding) in [("gzip", Coding::Gzip), ("zstd", Coding::Zstd), ("identity", Coding::Identity)]
                {
                    let answer = ask(&instance.router, get(&path, &key).header("accept-encoding", accept)).await;
                    let expected = if stored.contains(&coding) { coding } else { Coding::Identity };
                    let expected = if expected == Coding::Identity { "" } else { expected.name() };
                    assert_eq!(answer.header("content-encoding"), expected, "{accept} of {stored:?}");
                    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
                    let body: serde_json::Value = serde_json::from_slice(&plain(&answer)).unwrap();
                    let ids = ids(body["data"].as_array().unwrap(), 1);
                    assert_eq!(ids, (0..records).collect::<Vec<_>>(), "{accept} of {stored:?}");
                }
                let request =
                    get(&path, &key).header("accept", "application/x-ndjson").header("accept-encoding", "gzip");
                let answer = ask(&instance.router, request).await;
                assert_eq!(
                    (answer.header("content-type"), answer.header("content-encoding")),
                    ("application/x-ndjson", "")
                );
                assert_eq!(answer.header("content-length"), answer.body.len().to_string());
                assert_eq!(answer.header("snapshot-date"), "2023-11-15T22:13:20.123Z");
                let lines = answer.body.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n');
                let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
                assert_eq!(ids(&lines, 1).len() as u64, records);
            }
        }
    }
}

#[tokio::test]
async fn no_records_are_an_empty_list_and_no_lines() {
    let mut site = Site::new().await;
    site.publish(&Contents { records: 0, ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key)).await.json()["data"], serde_json::json!([]));
    let lines = ask(&instance.router, get(EMPLOYEES, &key).header("accept", "application/x-ndjson")).await;
    assert_eq!((lines.status.as_u16(), lines.body.len(), lines.header("content-length")), (200, 0, "0"));
}

#[tokio::test]
async fn a_bucket_answers_as_a_folder_does() {
    let mut site = Site::in_memory().await;
    site.publish(&Contents { filler: 20_000, ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let answer = ask(&instance.router, get(EMPLOYEES, &key)).await;
    assert!(answer.body.len() > 2_000_000, "{}", answer.body.len());
    assert_eq!(ids(answer.json()["data"].as_array().unwrap(), 1).len(), 100);
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_is_no_export() {
    let (site, instance, key) = Site::served().await;
    for accept in ["application/json", "application/x-ndjson", "application/vnd.apache.parquet"] {
        let request =
            |method: &str| get(EMPLOYEES, &key).method(method).header("accept", accept).header("x-request-id", "r");
        let (got, headed) = (ask(&instance.router, request("GET")).await, ask(&instance.router, request("HEAD")).await);
        assert_eq!((headed.status, headed.body.len()), (got.status, 0));
        assert_eq!(headed.headers, got.headers);
    }
    instance.clerk.write(stopped()).await;
    assert_eq!(site.operations.exports("id-lviv", 100).await.unwrap().len(), 3, "those that were got");
}

fn stopped() -> tokio_util::sync::CancellationToken {
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    stop
}

#[tokio::test]
async fn whoever_has_it_already_is_not_sent_it_again_until_there_is_another() {
    let (mut site, instance, key) = Site::served().await;
    let mut tags = Vec::new();
    for (path, accept, coding) in [
        (EMPLOYEES, "application/json", "identity"),
        (EMPLOYEES, "application/json", "gzip"),
        (EMPLOYEES, "application/json", "zstd"),
        (EMPLOYEES, "application/x-ndjson", "identity"),
        (EMPLOYEES, "application/vnd.apache.parquet", "identity"),
        ("/api/pis/bulk/employees?depth=1", "application/json", "gzip"),
        ("/api/pis/bulk/employees?depth=2", "application/json", "gzip"),
    ] {
        let request = || get(path, &key).header("accept", accept).header("accept-encoding", coding);
        let first = ask(&instance.router, request()).await;
        let tag = first.header("etag").to_owned();
        assert_eq!(tag.starts_with("W/"), accept != "application/vnd.apache.parquet");
        assert_eq!(first.header("cache-control"), "private, no-cache");
        assert_eq!(first.header("vary"), "accept, accept-encoding");
        for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = ask(&instance.router, request().header("if-none-match", known)).await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
            assert_eq!(again.header("etag"), tag);
        }
        assert!(!tags.contains(&tag), "another answer has this tag");
        tags.push(tag);
    }
    site.publish(&Contents::default()).await;
    instance.export.current.look().await;
    let answer = ask(&instance.router, get(EMPLOYEES, &key).header("if-none-match", tags.join(", "))).await;
    assert_eq!((answer.status.as_u16(), answer.header("snapshot-generation")), (200, "2"));
}

#[tokio::test]
async fn what_cannot_be_had_is_not_acceptable() {
    let (_site, instance, key) = Site::served().await;
    for (name, value) in [("accept", "text/html"), ("accept-encoding", "br, *;q=0")] {
        let answer = ask(&instance.router, get(EMPLOYEES, &key).header(name, value)).await;
        assert_eq!((answer.status.as_u16(), answer.error().0.as_str()), (406, "not_acceptable"), "{value}");
    }
}

#[tokio::test]
async fn the_manifest_shows_what_the_key_may_read_and_no_paths() {
    let mut site = Site::new().await;
    site.publish(&Contents { datasets: vec!["employees", "parties"], ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let answer = ask(&instance.router, get("/api/bulk/manifest", &key)).await;
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(!text.contains("parties") && !text.contains("data/"), "{text}");
    let data = &answer.json()["data"];
    assert_eq!((&data["generation"], &data["max_depth"]), (&1.into(), &3.into()));
    let employees = &data["resources"]["employees"];
    assert_eq!(employees["date"], "2023-11-15T22:13:20.123Z");
    assert_eq!(employees["full"]["records"], 100);
    assert_eq!(employees["windows"][1]["part"]["records"], 10);
    // The deletions' own files: a reader of depths needs them.
    assert!(employees["deleted"]["objects"].is_array(), "{employees}");
    assert_eq!(employees["windows"][1]["whole"]["objects"][0]["sha256"].as_str().unwrap().len(), 64);
    let nobody = site.key("nobody", &[]).await;
    instance.export.tokens.refresh().await;
    let answer = ask(&instance.router, get("/api/bulk/manifest", &nobody)).await;
    assert_eq!(answer.json()["data"]["resources"], serde_json::json!({}));
    let instance = site.instance(ExportOptions { show_paths: true, ..ExportOptions::default() }).await;
    let answer = ask(&instance.router, get("/api/bulk/manifest", &key)).await;
    assert!(std::str::from_utf8(&answer.body).unwrap().contains("data/00000001/employees/full.json.gz"));
}

#[tokio::test]
async fn what_is_wanted_by_its_tag_is_that_or_nothing_and_a_head_has_no_range() {
    let (_site, instance, key) = Site::served().await;
    let parquet = |method: &str| get(EMPLOYEES, &key).method(method).header("accept", "application/vnd.apache.parquet");
    let tag = ask(&instance.router, parquet("HEAD")).await.header("etag").to_owned();
    for (wanted, status) in [(tag.as_str(), 200), ("*", 200), ("\"another\"", 412), (&format!("W/{tag}"), 412)] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&instance.router, parquet(method).header("if-match", wanted)).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {wanted}");
        }
    }
    // A tag of JSON is weak, and nothing is the same as that.
    let weak = ask(&instance.router, get(EMPLOYEES, &key)).await.header("etag").to_owned();
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key).header("if-match", weak)).await.status.as_u16(), 412);
    let ranged = |method: &str| parquet(method).header("range", "bytes=0-9").header("if-range", &tag);
    assert_eq!(ask(&instance.router, ranged("GET")).await.status.as_u16(), 206);
    let headed = ask(&instance.router, ranged("HEAD")).await;
    assert_eq!((headed.status.as_u16(), headed.header("content-length")), (200, "10000"));
}
