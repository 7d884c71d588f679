//! The description that clients get.

use std::collections::BTreeSet;

use super::fixture::{Contents, EMPLOYEES, SCOPE, Site, ask, get};
use crate::export::{ExportOptions, LimitSettings};

async fn described() -> serde_json::Value {
    let (_site, instance, _) = Site::served().await;
    // Without a key.
    ask(&instance.router, axum::http::Request::get("/openapi.json")).await.json()
}

#[tokio::test]
async fn it_is_generated_from_the_routes() {
    let mut document = described().await;
    document["info"]["version"] = "of the day".into();
    insta::assert_json_snapshot!(document);
}

/// It is made once, and who has it isn't sent it again.
#[tokio::test]
async fn it_has_a_tag() {
    let (_site, instance, _) = Site::served().await;
    let asked = || axum::http::Request::get("/openapi.json");
    let first = ask(&instance.router, asked()).await;
    assert_eq!(first.header("content-type"), "application/json");
    let again = ask(&instance.router, asked().header("if-none-match", first.header("etag"))).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
}

/// Makes the export answer with a status, whatever it takes. A status that is documented has its story here.
async fn made_to_answer(status: u16) -> u16 {
    let (site, instance, key) = Site::served().await;
    let parquet = get(EMPLOYEES, &key).header("accept", "application/vnd.apache.parquet");
    let request = match status {
        200 => get(EMPLOYEES, &key),
        206 | 416 => {
            let head =
                ask(&instance.router, get(EMPLOYEES, &key).header("accept", "application/vnd.apache.parquet")).await;
            let range = if status == 206 { "bytes=0-0" } else { "bytes=10000-" };
            parquet.header("range", range).header("if-range", head.header("etag"))
        }
        304 => get(EMPLOYEES, &key).header("if-none-match", "*"),
        401 => get(EMPLOYEES, "mst_guess"),
        403 => get("/api/pis/bulk/nothing", &key),
        404 => {
            let empty = Site::new().await;
            let key = empty.key("lviv", &[SCOPE]).await;
            return ask(&empty.instance(ExportOptions::default()).await.router, get(EMPLOYEES, &key))
                .await
                .status
                .as_u16();
        }
        405 => get(EMPLOYEES, &key).method("POST"),
        412 => get(EMPLOYEES, &key).header("if-match", "\"another\""),
        406 => get(EMPLOYEES, &key).header("accept", "text/html"),
        414 => get(&format!("{EMPLOYEES}?x={}", "a".repeat(2_100)), &key),
        422 => get(&format!("{EMPLOYEES}?depth=0"), &key),
        429 | 503 => {
            let mut site = site;
            site.publish(&Contents { filler: 100_000, ..Contents::default() }).await;
            let own = if status == 429 { 1 } else { 10 };
            let limits = LimitSettings { answers: 1, answers_per_key: own, ..LimitSettings::default() };
            let limits = if own == 1 { LimitSettings { answers: 10, ..limits } } else { limits };
            let instance = site.instance(ExportOptions { limits, ..ExportOptions::default() }).await;
            let under_way = tower::ServiceExt::oneshot(
                instance.router.clone(),
                get(EMPLOYEES, &key).body(axum::body::Body::empty()).unwrap(),
            );
            let under_way = under_way.await.unwrap();
            let refused = ask(&instance.router, get(EMPLOYEES, &key)).await;
            assert_eq!(refused.header("retry-after"), "5");
            drop(under_way);
            assert_eq!(ask(&instance.router, get(EMPLOYEES, &key)).await.status.as_u16(), 200);
            return refused.status.as_u16();
        }
        500 => {
            std::fs::remove_file(site.folder.path().join("snapshots/data/00000001/employees/full.json")).unwrap();
            get(EMPLOYEES, &key)
        }
        status => panic!("{status} is documented, and nothing shows how it comes about"),
    };
    ask(&instance.router, request).await.status.as_u16()
}

#[tokio::test]
async fn every_documented_status_can_be_had() {
    let document = described().await;
    let responses = document["paths"]["/api/pis/bulk/{resource}"]["get"]["responses"].as_object().unwrap();
    let documented: BTreeSet<u16> = responses.keys().map(|status| status.parse().unwrap()).collect();
    assert!(documented.len() >= 14, "{documented:?}");
    for status in documented {
        assert_eq!(made_to_answer(status).await, status);
    }
}
