//! The contract, text by text, and in its order.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::fixture::{Contents, EMPLOYEES, SCOPE, Site, ask, get, ids};
use crate::export::{BeyondMaxDepth, ExportOptions, LimitSettings, WithoutSnapshot};

fn gateway_error(status: u16, path: &str, kind: &str, message: &str) -> Value {
    let url = format!("http://ehealth.example{path}");
    json!({
        "meta": { "code": status, "url": url, "type": "object", "request_id": "worker#1" },
        "error": { "type": kind, "message": message },
    })
}

#[tokio::test]
async fn the_envelope_has_all_records_and_the_snapshots_date() {
    let (_site, instance, key) = Site::served().await;
    let request = get(EMPLOYEES, &key).header("host", "ehealth.example").header("x-request-id", "worker#1");
    let answer = ask(&instance.router, request).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let body = answer.json();
    let meta = json!({
        "code": 200,
        "url": "http://ehealth.example/api/pis/bulk/employees",
        "type": "list",
        "request_id": "worker#1",
        "date": "2023-11-15T22:13:20.123Z",
    });
    assert_eq!(body["meta"], meta);
    assert_eq!(ids(body["data"].as_array().unwrap(), 1), (0..100).collect::<Vec<_>>());
    assert_eq!(body.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_depth_has_the_records_of_the_last_days() {
    let (_site, instance, key) = Site::served().await;
    for depth in 1..=3 {
        let answer = ask(&instance.router, get(&format!("{EMPLOYEES}?depth={depth}"), &key)).await;
        let body = answer.json();
        assert_eq!(ids(body["data"].as_array().unwrap(), 1).len() as u64, depth * 10);
        assert_eq!(body["meta"]["date"], "2023-11-15T22:13:20.123Z");
    }
}

#[tokio::test]
async fn the_gateways_refusals_have_its_texts_and_its_shape() {
    let (site, instance, key) = Site::served().await;
    let expired = site.key_until("expired", &[SCOPE], Some(Utc::now() - TimeDelta::seconds(1))).await;
    let revoked = site.key("revoked", &[SCOPE]).await;
    site.operations.revoke_token("id-revoked", Utc::now()).await.unwrap();
    let other = site.key("other", &["party_bulk:read_pis"]).await;
    instance.export.tokens.refresh().await;
    let nowhere = "/api/pis/bulk/nothing";
    let no_rule = "ACL: No matching rule was found for path /api/pis/bulk/nothing";
    let missing = "Your scope does not allow to access this resource. Missing allowances: employee_bulk:read_pis";
    let near = format!("{}x", &key[..key.len() - 1]);
    for (key, path, status, kind, message) in [
        (None, EMPLOYEES, 401, "access_denied", "Api key is not set"),
        (Some(""), EMPLOYEES, 401, "access_denied", "Api key is not set"),
        (None, nowhere, 401, "access_denied", "Api key is not set"),
        (Some("mst_guess"), EMPLOYEES, 401, "access_denied", "Invalid api key"),
        (Some("mst_guess"), nowhere, 401, "access_denied", "Invalid api key"),
        (Some(near.as_str()), EMPLOYEES, 401, "access_denied", "Invalid api key"),
        (Some(expired.as_str()), EMPLOYEES, 401, "access_denied", "Invalid api key"),
        (Some(revoked.as_str()), EMPLOYEES, 401, "access_denied", "Invalid api key"),
        (Some(key.as_str()), nowhere, 403, "forbidden", no_rule),
        (Some(other.as_str()), nowhere, 403, "forbidden", no_rule),
        (Some(other.as_str()), EMPLOYEES, 403, "forbidden", missing),
        // The allowance comes before the parameters.
        (Some(other.as_str()), "/api/pis/bulk/employees?depth=abc", 403, "forbidden", missing),
    ] {
        let mut request =
            axum::http::Request::get(path).header("host", "ehealth.example").header("x-request-id", "worker#1");
        if let Some(key) = key {
            request = request.header("api-key", key);
        }
        let answer = ask(&instance.router, request).await;
        let path = path.split('?').next().unwrap();
        assert_eq!(answer.json(), gateway_error(status, path, kind, message));
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!((answer.header("cache-control"), answer.header("x-request-id")), ("no-store", "worker#1"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn a_depth_that_is_none_breaks_a_rule() {
    let (_site, instance, key) = Site::served().await;
    for (depth, rule, params, description) in [
        ("abc", "cast", json!(["integer"]), "is invalid"),
        ("1.5", "cast", json!(["integer"]), "is invalid"),
        ("", "cast", json!(["integer"]), "is invalid"),
        ("0", "number", json!([{ "greater_than": 0 }]), "must be greater than 0"),
        ("-1", "number", json!([{ "greater_than": 0 }]), "must be greater than 0"),
        ("4", "number", json!([{ "less_than_or_equal_to": 3 }]), "must be less than or equal to 3"),
        ("99999999999999999999", "number", json!([{ "less_than_or_equal_to": 3 }]), "must be less than or equal to 3"),
    ] {
        let answer = ask(&instance.router, get(&format!("{EMPLOYEES}?depth={depth}"), &key)).await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["meta"]["code"]), (422, &json!(422)), "{depth}");
        assert_eq!(body["error"]["type"], "validation_failed");
        assert!(body["error"]["message"].as_str().unwrap().starts_with("Validation failed. "));
        let rules = json!([{ "rule": rule, "params": params, "description": description }]);
        let invalid = json!([{ "entry": "$.depth", "entry_type": "query_parameter", "rules": rules }]);
        assert_eq!(body["error"]["invalid"], invalid, "{depth}");
    }
}

#[tokio::test]
async fn a_depth_beyond_the_deepest_is_all_records_where_that_is_set() {
    let (site, _, key) = Site::served().await;
    let options = ExportOptions { beyond_max_depth: BeyondMaxDepth::Full, ..ExportOptions::default() };
    let instance = site.instance(options).await;
    let answer = ask(&instance.router, get(&format!("{EMPLOYEES}?depth=4"), &key)).await;
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn without_a_snapshot_it_is_not_found_or_to_be_tried_later() {
    let site = Site::new().await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let answer = ask(&instance.router, get(EMPLOYEES, &key)).await;
    assert_eq!((answer.status.as_u16(), answer.error().0.as_str()), (404, "not_found"));
    let options = ExportOptions { without_snapshot: WithoutSnapshot::Unavailable, ..ExportOptions::default() };
    let answer = ask(&site.instance(options).await.router, get(EMPLOYEES, &key)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "60"));
}

#[tokio::test]
async fn a_dataset_that_the_snapshot_lacks_is_as_no_snapshot() {
    let (site, _, _) = Site::served().await;
    let key = site.key("odesa", &["party_bulk:read_pis"]).await;
    let instance = site.instance(ExportOptions::default()).await;
    let answer = ask(&instance.router, get("/api/pis/bulk/parties", &key)).await;
    assert_eq!(answer.status.as_u16(), 404);
}

#[tokio::test]
async fn an_object_that_is_gone_or_too_short_is_an_internal_error_without_details() {
    for too_short in [false, true] {
        let (site, instance, key) = Site::served().await;
        let path = site.folder.path().join("snapshots/data/00000001/employees/depth-2.json");
        match too_short {
            true => std::fs::write(path, b"[").unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
        let answer = ask(&instance.router, get(&format!("{EMPLOYEES}?depth=2"), &key)).await;
        assert_eq!(answer.status.as_u16(), 500);
        assert_eq!(answer.error(), ("internal_error".into(), "Internal error".into()));
        let answer = ask(&instance.router, get(&format!("{EMPLOYEES}?depth=1"), &key)).await;
        assert_eq!(answer.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn two_resources_are_octets_as_in_the_original_and_one_takes_no_depth() {
    let mut site = Site::new().await;
    let datasets = vec!["contract_divisions", "declarations_limit"];
    site.publish(&Contents { datasets, ..Contents::default() }).await;
    let scopes = ["contract_division_bulk:read_pis", "declarations_limit_bulk:read_pis"];
    let key = site.key("lviv", &scopes).await;
    let instance = site.instance(ExportOptions::default()).await;
    for (path, records) in [
        ("/api/pis/bulk/contract_divisions", 100),
        ("/api/pis/bulk/contract_divisions?depth=1", 10),
        ("/api/pis/bulk/declarations_limit", 100),
        ("/api/pis/bulk/declarations_limit?depth=1", 100),
        ("/api/pis/bulk/declarations_limit?depth=abc", 100),
    ] {
        for accept in ["application/json", "application/octet-stream", "*/*"] {
            let answer = ask(&instance.router, get(path, &key).header("accept", accept)).await;
            assert_eq!(answer.header("content-type"), "application/octet-stream", "{path}");
            assert_eq!(answer.json()["data"].as_array().unwrap().len(), records, "{path}");
        }
    }
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_again_before_it_is_looked_at() {
    let (site, _, key) = Site::served().await;
    let limits = LimitSettings { requests_per_minute: 2.try_into().unwrap(), ..LimitSettings::default() };
    let instance = site.instance(ExportOptions { limits, ..ExportOptions::default() }).await;
    for key in [key.as_str(), "mst_guess"] {
        for _ in 0..2 {
            assert_ne!(ask(&instance.router, get("/nowhere", key)).await.status.as_u16(), 429);
        }
        let answer = ask(&instance.router, get("/nowhere", key)).await;
        assert_eq!((answer.status.as_u16(), answer.error().0.as_str()), (429, "too_many_requests"));
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
    }
}
