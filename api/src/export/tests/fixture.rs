//! A site with snapshots that are written by hand, keys, and instances of the export.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt;
use object_store::ObjectStoreExt;
use pipeline::config::Secret;
use pipeline::operations::{NewToken, Operations};
use pipeline::snapshot::list::ListWriter;
use pipeline::snapshot::{
    Coding, Dataset, Days, Form, Generation, Manifest, Object, Published, Set, Store, StoreSettings, Window,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::export::audit::Clerk;
use crate::export::{Export, ExportOptions, Pepper, new_key, router};

pub const EMPLOYEES: &str = "/api/pis/bulk/employees";
pub const SCOPE: &str = "employee_bulk:read_pis";
pub const ALL: [Coding; 3] = [Coding::Identity, Coding::Gzip, Coding::Zstd];

/// Records of a day: depth 1 has the first ten, depth 2 twenty, depth 3 thirty.
pub const PER_DAY: u32 = 10;
pub const DAYS: u32 = 3;
pub const RECORDS: u32 = 100;

/// What a snapshot is made of.
#[derive(Clone)]
pub struct Contents {
    pub datasets: Vec<&'static str>,
    pub codings: Vec<Coding>,
    pub whole: bool,
    pub records: u32,
    /// Each record is made longer by so much.
    pub filler: usize,
}

impl Default for Contents {
    fn default() -> Self {
        Self { datasets: vec!["employees"], codings: ALL.to_vec(), whole: true, records: RECORDS, filler: 0 }
    }
}

pub struct Site {
    pub folder: TempDir,
    pub store: Store,
    pub operations: Operations,
    pub pepper: Pepper,
    published: u64,
}

/// An instance.
pub struct Instance {
    pub export: Arc<Export>,
    pub router: Router,
    pub clerk: Clerk,
}

impl Site {
    /// With a folder of this machine.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::Local { path: folder.path().join("snapshots") };
        Self::with(folder, Store::open(&settings, &|_| None).unwrap()).await
    }

    /// With a store that is asked for each piece, as a bucket is.
    pub async fn in_memory() -> Self {
        let objects = Arc::new(object_store::memory::InMemory::new());
        let store = Store::new(objects, object_store::path::Path::from("site"));
        Self::with(tempfile::tempdir().unwrap(), store).await
    }

    pub async fn with(folder: TempDir, store: Store) -> Self {
        let operations = Operations::open(&folder.path().join("operations.sqlite")).await.unwrap();
        let pepper = Pepper::new(Secret::new("a secret of this site alone")).unwrap();
        Self { folder, store, operations, pepper, published: 0 }
    }

    /// One with a snapshot of the employees and an instance, and the key of somebody who may read them.
    pub async fn served() -> (Self, Instance, String) {
        let mut site = Self::new().await;
        site.publish(&Contents::default()).await;
        let key = site.key("lviv", &[SCOPE]).await;
        let instance = site.instance(ExportOptions::default()).await;
        (site, instance, key)
    }

    pub async fn key(&self, label: &str, scopes: &[&str]) -> String {
        self.key_until(label, scopes, None).await
    }

    pub async fn key_until(&self, label: &str, scopes: &[&str], expires: Option<DateTime<Utc>>) -> String {
        let key = new_key().unwrap();
        let token = NewToken {
            id: format!("id-{label}"),
            label: label.into(),
            hash: self.pepper.hash(key.expose().as_bytes()),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            created: Utc::now(),
            expires,
        };
        assert!(self.operations.create_token(&token).await.unwrap());
        key.expose().to_owned()
    }

    /// An instance that has looked once.
    pub async fn instance(&self, options: ExportOptions) -> Instance {
        let (export, clerk) = Export::new(options, self.pepper.clone(), self.store.clone(), self.operations.clone());
        export.tokens.refresh().await;
        export.current.look().await;
        Instance { router: router(Arc::clone(&export)), export, clerk }
    }

    /// Publishes the next generation, all of whose records carry its number.
    pub async fn publish(&mut self, contents: &Contents) -> Manifest {
        self.published += 1;
        let generation = Generation(self.published);
        let date = date_of(generation);
        let mut datasets = BTreeMap::new();
        for name in &contents.datasets {
            datasets.insert((*name).to_owned(), self.dataset(name, generation, date, contents).await);
        }
        let manifest = Manifest {
            format: 1,
            generation,
            nominal: date + TimeDelta::hours(1),
            published: date + TimeDelta::hours(2),
            days: Days::Rolling,
            max_depth: DAYS,
            datasets,
            history: Vec::new(),
        };
        assert_eq!(self.store.publish(&manifest).await.unwrap(), Published::Ours);
        manifest
    }

    async fn dataset(&self, name: &str, generation: Generation, date: DateTime<Utc>, contents: &Contents) -> Dataset {
        let folder = format!("data/{generation}/{name}");
        let set =
            async |what: String, of: Range<u32>| self.set(&format!("{folder}/{what}"), of, generation, contents).await;
        let mut windows = Vec::new();
        for depth in 1..=DAYS {
            let whole = match contents.whole {
                true => Some(set(format!("depth-{depth}"), 0..depth * PER_DAY).await),
                false => None,
            };
            let part = set(format!("part-{depth}"), (depth - 1) * PER_DAY..depth * PER_DAY).await;
            windows.push(Window { depth, from: date - TimeDelta::days(depth.into()), part, whole, deleted: 0 });
        }
        Dataset {
            topic: format!("prm.{name}"),
            date,
            offsets: Vec::new(),
            schema: serde_json::Value::Null,
            full: set("full".into(), 0..contents.records).await,
            windows,
            deleted: Set::default(),
            deletions_since: date,
        }
    }

    async fn set(&self, path: &str, records: Range<u32>, generation: Generation, contents: &Contents) -> Set {
        let mut objects = Vec::new();
        for coding in &contents.codings {
            let mut list = ListWriter::new(*coding, 3, Vec::new()).unwrap();
            for id in records.clone() {
                list.push(record(id, generation, contents.filler).as_bytes()).unwrap();
            }
            let (bytes, listed) = list.finish().unwrap();
            let path = format!("{path}.json{}", coding.ending());
            let items = Some(listed.items);
            objects.push(Object {
                form: Form::Json,
                coding: *coding,
                bytes: listed.bytes,
                sha256: sha256(&bytes),
                items,
                path: path.clone(),
            });
            self.store.objects().put(&self.store.path(&path).unwrap(), bytes.into()).await.unwrap();
        }
        if !path.contains("part-") {
            // What is inside is nobody's business here.
            let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
            let path = format!("{path}.parquet");
            let (form, coding) = (Form::Parquet, Coding::Identity);
            objects.push(Object {
                form,
                coding,
                bytes: 10_000,
                sha256: sha256(&bytes),
                items: None,
                path: path.clone(),
            });
            self.store.objects().put(&self.store.path(&path).unwrap(), bytes.into()).await.unwrap();
        }
        Set { records: records.len() as u64, min_changed: None, max_changed: None, objects }
    }
}

pub fn date_of(generation: Generation) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 123_000_000).unwrap() + TimeDelta::days(generation.0 as i64)
}

fn record(id: u32, generation: Generation, filler: usize) -> String {
    // Not to be compressed away.
    let filler: String =
        (0..filler as u64).map(|i| char::from(b'a' + ((i * 7_919 + u64::from(id) * 104_729) % 23) as u8)).collect();
    format!("{{\"id\":{id},\"mark\":{},\"list\":[1,2],\"text\":\"a,\\nb{filler}\"}}", generation.0)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn error(&self) -> (String, String) {
        let answer = self.json();
        let text = |name: &str| answer["error"][name].as_str().unwrap().to_owned();
        (text("type"), text("message"))
    }
}

/// A request with a key.
pub fn get(path: &str, key: &str) -> Builder {
    Request::get(path).header("api-key", key)
}

/// Asks, and reads the answer to its end.
pub async fn ask(router: &Router, request: Builder) -> Answer {
    try_ask(router, request).await.unwrap()
}

/// The same, of an answer that may be broken off.
pub async fn try_ask(router: &Router, request: Builder) -> Result<Answer, axum::Error> {
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// The ids of an answer's records, all of which carry this generation's number.
pub fn ids(records: &[serde_json::Value], generation: u64) -> Vec<u64> {
    records
        .iter()
        .map(|record| {
            assert_eq!(record["mark"], generation);
            record["id"].as_u64().unwrap()
        })
        .collect()
}
