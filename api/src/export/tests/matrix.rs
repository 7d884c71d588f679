//! Every route, with every kind of key and every method.

use axum::http::Request;

use super::fixture::{Contents, Site, ask};
use crate::export::{ExportOptions, resources};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];

fn reads(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

#[tokio::test]
async fn every_route_with_every_scope_and_every_method() {
    let mut site = Site::new().await;
    let all = resources();
    let datasets: Vec<&'static str> =
        all.keys().map(|name| -> &'static str { Box::leak(name.clone().into_boxed_str()) }).collect();
    site.publish(&Contents { datasets, ..Contents::default() }).await;
    let mut keys = vec![(None, None), (Some("mst_guess".to_owned()), None)];
    keys.push((Some(site.key("nothing", &[]).await), Some(String::new())));
    for (name, resource) in &all {
        keys.push((Some(site.key(name, &[&resource.scope]).await), Some(resource.scope.clone())));
    }
    let limits =
        crate::export::LimitSettings { requests_per_minute: 1_000_000.try_into().unwrap(), ..Default::default() };
    let instance = site.instance(ExportOptions { limits, ..ExportOptions::default() }).await;
    let mut asked = 0;
    for (key, scope) in &keys {
        for method in METHODS {
            let mut status = async |path: &str| {
                asked += 1;
                let request = Request::builder().method(method).uri(path);
                let request = match key {
                    Some(key) => request.header("api-key", key),
                    None => request,
                };
                ask(&instance.router, request).await.status.as_u16()
            };
            let is_valid = scope.is_some();
            let expected = |allowed: u16| if is_valid { allowed } else { 401 };
            for (name, resource) in &all {
                let may = scope.as_deref() == Some(&resource.scope);
                let allowed = if !may {
                    403
                } else if reads(method) {
                    200
                } else {
                    405
                };
                for path in [format!("/api/pis/bulk/{name}"), format!("/api/pis/bulk/{name}?depth=1")] {
                    assert_eq!(status(&path).await, expected(allowed), "{method} {path}, {scope:?}");
                }
            }
            for path in [
                "/",
                "/api",
                "/api/pis/bulk",
                "/api/pis/bulk/",
                "/api/pis/bulk/nothing",
                "/api/pis/bulk/employees/",
                "/api/pis/bulk/employees/1",
                "/api/pis/bulk/../employees",
                "/api/pis/bulk/%2e%2e",
                "/api/pis/bulk/%ff",
                "/api/pis/bulk/EMPLOYEES",
                "/API/pis/bulk/employees",
                "//api/pis/bulk/employees",
                "/metrics",
                "/health/live",
                "/openapi.json/",
                "/api/v1/sources",
                "/api/bulk/manifest/x",
            ] {
                assert_eq!(status(path).await, expected(403), "{method} {path}, {scope:?}");
            }
            let found = if reads(method) { 200 } else { 405 };
            assert_eq!(status("/api/bulk/manifest").await, expected(found), "{method} manifest, {scope:?}");
            assert_eq!(status("/openapi.json").await, found, "{method} openapi.json, {scope:?}");
        }
    }
    assert_eq!(asked, keys.len() * METHODS.len() * (2 * all.len() + 18 + 2));
}
