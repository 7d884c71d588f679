//! A topic with invented employees, a clock that is moved by hand, and a store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, TimeDelta, TimeZone, Utc};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use pipeline::change::header;
use pipeline::clock::VirtualClock;
use pipeline::dead_letters::DeadLetters;
use pipeline::log::memory::MemoryLog;
use pipeline::log::{Append, Headers, Log, NewTopic, TopicPartition};
use pipeline::operations::Operations;
use pipeline::retry::Policy;
use pipeline::run::{Health, RejectLimit, Runtime};
use pipeline::snapshot::{Coding, Dataset, Form, Manifest, Set, Store, StoreSettings};
use pipeline::source::Position;
use pipeline::state::{Progress, SavedPosition, State};
use schemas::{Profile, Schema};
use serde_json::{Value, json};
use sinks::snapshot::{DatasetSettings, Report, SnapshotError, SnapshotSettings, Snapshots};
use tempfile::TempDir;

pub const TOPIC: &str = "prm.employee";
pub const PARTITIONS: u32 = 3;

/// The first version of the table's schema.
pub fn employee() -> Schema {
    Schema::parse(
        &json!({
            "type": "record", "name": "employee", "namespace": "muster.prm", "fields": [
                { "name": "id", "type": { "type": "string", "logicalType": "uuid" } },
                { "name": "position", "type": "string" },
                { "name": "is_active", "type": "boolean" },
                { "name": "start_date", "type": { "type": "int", "logicalType": "date" } },
                { "name": "end_date", "type": ["null", { "type": "int", "logicalType": "date" }], "default": null },
                { "name": "additional_info", "type": ["null", "string"], "default": null },
                { "name": "inserted_at", "type": { "type": "long", "logicalType": "timestamp-micros" } },
                { "name": "updated_at", "type": ["null", { "type": "long", "logicalType": "timestamp-micros" }], "default": null }
            ]
        })
        .to_string(),
    )
    .unwrap()
}

pub fn morning() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2024, 3, 20, 2, 0, 0).unwrap()
}

/// A uuid that is the same for the same number, and orders as numbers do.
pub fn uuid(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-{n:012x}")
}

pub struct Site {
    pub log: MemoryLog,
    pub clock: VirtualClock,
    pub runtime: Runtime,
    pub store: Store,
    pub settings: SnapshotSettings,
    pub folder: TempDir,
    pub schema: Arc<Schema>,
    versions: AtomicI64,
    /// The request that reads a record was sent so long before.
    pub captured_before: TimeDelta,
    /// What the table holds: by id, as the export shows it.
    pub table: BTreeMap<String, Value>,
}

impl Site {
    pub async fn new() -> Self {
        Self::over(Arc::new(InMemory::new())).await
    }

    pub async fn over(objects: Arc<dyn ObjectStore>) -> Self {
        let clock = VirtualClock::manual(morning());
        let log = MemoryLog::default();
        log.set_clock(Arc::new(clock.clone()));
        let topic = NewTopic { name: TOPIC.into(), partitions: PARTITIONS, replication: 1, settings: BTreeMap::new() };
        log.create(&[topic]).await.unwrap();
        let runtime = process(&log, &clock).await;
        let mut employees = DatasetSettings::of(TOPIC);
        employees.json_fields = BTreeSet::from(["additional_info".to_owned()]);
        employees.as_datetime = BTreeSet::from(["start_date".to_owned(), "end_date".to_owned()]);
        employees.key_fields = Some(vec!["id".into()]);
        let nowhere = StoreSettings::Local { path: "unused".into() };
        let mut settings = SnapshotSettings::of(nowhere, BTreeMap::from([("employees".to_owned(), employees)]));
        settings.max_depth = 5;
        settings.codings = vec![Coding::Identity, Coding::Gzip, Coding::Zstd];
        Self {
            log,
            clock,
            runtime,
            store: Store::new(objects, Path::from("site")),
            settings,
            folder: tempfile::tempdir().unwrap(),
            schema: Arc::new(employee()),
            versions: AtomicI64::new(0),
            captured_before: TimeDelta::zero(),
            table: BTreeMap::new(),
        }
    }

    pub fn job(&self) -> Snapshots {
        Snapshots::new(self.settings.clone(), self.store.clone(), self.folder.path().to_owned())
    }

    pub fn now(&self) -> DateTime<Utc> {
        use pipeline::clock::Clock;
        self.clock.now()
    }

    pub async fn pass(&self, hours: i64) {
        self.clock.advance(TimeDelta::hours(hours).to_std().unwrap()).await;
    }

    /// An employee as the source reads it now: `updated` by the table's own account.
    pub async fn put(&mut self, n: u32, position: &str, updated: Option<DateTime<Utc>>) {
        let inserted = morning() - TimeDelta::days(400);
        self.put_as(n, position, inserted, updated, "changes").await;
    }

    pub async fn put_as(
        &mut self,
        n: u32,
        position: &str,
        inserted: DateTime<Utc>,
        updated: Option<DateTime<Utc>>,
        ask: &'static str,
    ) {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let info = format!("{{\"note\": \"№ {n}\",\n \"educations\": []}}");
        let mut record = json!({
            "id": uuid(n), "position": position, "is_active": !n.is_multiple_of(3), "start_date": "2017-03-02",
            "inserted_at": text(inserted), "additional_info": info,
        });
        let mut shown = json!({
            "id": uuid(n), "position": position, "is_active": !n.is_multiple_of(3), "start_date": "2017-03-02T00:00:00.000Z",
            "inserted_at": shown_time(inserted), "additional_info": { "note": format!("№ {n}"), "educations": [] },
        });
        if let Some(updated) = updated {
            record["updated_at"] = text(updated).into();
            shown["updated_at"] = shown_time(updated).into();
        }
        if let Some((_, field)) = self.schema.field("grade")
            && field.default == Some(json!("none"))
        {
            shown["grade"] = "none".into();
        }
        self.table.insert(uuid(n), shown);
        let body = schemas::from_json(&self.schema, &record).unwrap();
        self.append(&uuid(n), Some(body), ask).await;
    }

    pub async fn delete(&mut self, n: u32) {
        self.table.remove(&uuid(n));
        self.append(&uuid(n), None, "changes").await;
    }

    async fn append(&self, key: &str, body: Option<Vec<u8>>, ask: &'static str) {
        let version = self.versions.fetch_add(1, Ordering::SeqCst) + 1;
        self.append_version(key, body, ask, version).await;
    }

    pub async fn append_version(&self, key: &str, body: Option<Vec<u8>>, ask: &'static str, version: i64) {
        let id = self.runtime.state.schemas.id_for_writing(TOPIC, &self.schema).await.unwrap();
        let mut headers = Headers::default();
        headers.push(header::VERSION, version.to_string());
        headers
            .push(header::CAPTURED, (self.now() - self.captured_before).to_rfc3339_opts(SecondsFormat::Micros, true));
        headers.push(header::ASK, ask);
        let at = TopicPartition::new(TOPIC, schemas::partition_of(key.as_bytes(), PARTITIONS));
        let value = body.map(|body| schemas::frame(id, &body).into());
        let record = Append { at, key: key.as_bytes().to_vec().into(), value, headers };
        self.log.append(vec![record]).await.unwrap();
    }

    /// The source has completed a pass: everything up to now is in the topic.
    pub async fn complete(&self) {
        self.complete_of(PARTITIONS).await;
    }

    /// The same of a topic with so many partitions.
    pub async fn complete_of(&self, partitions: u32) {
        let now = self.now();
        let all: Vec<TopicPartition> = (0..partitions).map(|p| TopicPartition::new(TOPIC, p)).collect();
        let incarnations = self.runtime.state.incarnations.present_all(&all).await.unwrap();
        let saved = SavedPosition {
            position: Position(json!(1)),
            incarnations: incarnations.into_values().collect(),
            under_way: None,
            finished: Some(now),
            reconciled: Some(now),
        };
        self.runtime.state.positions.save_position(TOPIC, &saved).await.unwrap();
        let ends = self.runtime.log.ends(TOPIC).await.unwrap().into_iter().map(|ends| ends.end).collect();
        let progress = Progress { complete_to: now, ends, run: "run".into() };
        self.runtime.state.positions.save_progress(TOPIC, &progress).await.unwrap();
    }

    /// A pass of the source, and a snapshot behind it.
    pub async fn snapshot(&self) -> Report {
        self.complete().await;
        self.job().make(&self.runtime, self.now()).await.unwrap()
    }

    pub async fn try_snapshot(&self) -> Result<Report, SnapshotError> {
        self.complete().await;
        self.job().make(&self.runtime, self.now()).await
    }

    /// Does `work` while time passes: whoever waits for the clock is woken.
    pub async fn clock_driven<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {
                    self.clock.advance_to_next_sleeper().await;
                }
            }
        }
    }

    pub async fn latest(&self) -> Manifest {
        self.store.latest(None).await.unwrap().unwrap()
    }

    pub async fn employees(&self) -> Dataset {
        self.latest().await.datasets["employees"].clone()
    }

    /// What a reader of this depth gets: by id.
    pub async fn read(&self, depth: Option<u32>) -> BTreeMap<String, Value> {
        read(&self.store, &self.employees().await, depth).await
    }

    pub async fn verified(&self) {
        let found = sinks::snapshot::verify::verify(&self.store, &self.latest().await, |_| {}).await.unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
    }
}

pub async fn process(log: &MemoryLog, clock: &VirtualClock) -> Runtime {
    process_over(Arc::new(log.clone()), clock).await
}

pub async fn process_over(log: Arc<dyn Log>, clock: &VirtualClock) -> Runtime {
    let states = schemas::catalogue().topics().iter().filter(|topic| topic.entity().is_none());
    let states: Vec<NewTopic> = states
        .map(|topic| NewTopic {
            name: topic.name.clone(),
            partitions: topic.partitions(Profile::Embedded),
            replication: 1,
            settings: BTreeMap::new(),
        })
        .collect();
    let name = format!("process-{}", fastrand::u32(..));
    let state = State::open(Arc::clone(&log), &name, &states, None).await.unwrap();
    let operations = Operations::in_memory();
    let clock: Arc<dyn pipeline::clock::Clock> = Arc::new(clock.clone());
    let letters = DeadLetters::open(Arc::clone(&log), operations.clone(), Arc::clone(&clock)).await.unwrap();
    Runtime {
        process: name.as_str().into(),
        log,
        state,
        clock,
        operations,
        letters,
        folder: None,
        health: Arc::new(Health::default()),
        retry: Policy::default(),
        rejects: RejectLimit::default(),
        emit_at_once: pipeline::emitter::AT_ONCE,
    }
}

/// As the export shows moments.
pub fn shown_time(time: DateTime<Utc>) -> String {
    let digits =
        if time.timestamp_subsec_micros().is_multiple_of(1000) { SecondsFormat::Millis } else { SecondsFormat::Micros };
    time.to_rfc3339_opts(digits, true)
}

pub async fn bytes(store: &Store, path: &str) -> Vec<u8> {
    let location = store.path(path).unwrap();
    store.objects().get(&location).await.unwrap().bytes().await.unwrap().to_vec()
}

pub fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Coding::Identity => plain.extend_from_slice(bytes),
        Coding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
        Coding::Zstd => plain = zstd::stream::decode_all(bytes).unwrap(),
    }
    plain
}

/// The records of a set, from each of its JSON objects, which must agree.
pub async fn records(store: &Store, set: &Set) -> Vec<Value> {
    let mut found: Option<Vec<Value>> = None;
    for object in set.objects.iter().filter(|object| object.form == Form::Json) {
        let bytes = bytes(store, &object.path).await;
        assert_eq!(bytes.len() as u64, object.bytes);
        let records: Vec<Value> = serde_json::from_slice(&plain(object.coding, &bytes)).unwrap();
        assert_eq!(records.len() as u64, set.records, "{}", object.path);
        if let Some(found) = &found {
            assert_eq!(found, &records, "{}", object.path);
        }
        found = Some(records);
    }
    found.unwrap()
}

pub async fn read(store: &Store, dataset: &Dataset, depth: Option<u32>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for set in dataset.sets(depth).unwrap() {
        for record in records(store, set).await {
            let id = record["id"].as_str().unwrap().to_owned();
            assert!(all.insert(id, record).is_none(), "a record twice");
        }
    }
    all
}
