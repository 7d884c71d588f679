//! A client for the simulated ATS that knows nothing but HTTP.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;
use simulators::ats::{Ats, AtsOptions};
use simulators::server::Server;

pub struct Site {
    pub ats: Ats,
    pub server: Server,
    pub client: Client,
}

/// An ATS with so many applicants, on a socket.
pub fn site(options: AtsOptions) -> Site {
    serve(Ats::generate(options))
}

pub fn serve(ats: Ats) -> Site {
    let server = ats.serve(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    Site { ats, server, client: client() }
}

pub fn client() -> Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

pub fn few(applicants: usize) -> AtsOptions {
    AtsOptions { applicants, ..AtsOptions::default() }
}

impl Site {
    pub async fn get(&self, path: &str) -> Response {
        self.try_get(path).await.unwrap()
    }

    pub async fn try_get(&self, path: &str) -> reqwest::Result<Response> {
        let url = format!("{}{path}", self.server.url());
        self.client.get(url).header("ApiKey", &self.ats.options().api_key).send().await
    }

    pub async fn rows(&self, path: &str) -> Vec<Value> {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// All rows of one pass of pages, in the order they came.
    pub async fn pass(&self, window: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let page = self.rows(&format!("/applicants?next=50&offset={}{window}", all.len())).await;
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }
}

pub fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["applicant_id"].as_str().unwrap().to_ascii_lowercase()).collect()
}

pub fn times_seen(rows: &[Value]) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for id in ids(rows) {
        *seen.entry(id).or_default() += 1;
    }
    seen
}
