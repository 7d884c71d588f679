//! The story the tests tell: wards, nurses who may have a mentor, and shifts of a nurse on a ward.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use pipeline::change::{Epoch, Incarnation, Version};
use pipeline::log::Offset;
use pipeline::processor::Payload;
use pipeline::sink::{Applied, Assigned, Batch, Delivery, Held, Part, Rejected, Resume, Sink, SinkError};
use pipeline::state::Landmark;
use schemas::{Key, Schema, catalogue, content_hash, from_json, partition_of};
use serde_json::{Value as Json, json};

use crate::sql::table::Subject;
use crate::sql::{DatabaseUrl, Scalar, SqlConfig, SqlSink, TableMapping, Versions};

/// A database of one test.
#[async_trait]
pub(super) trait Target: Send + Sync {
    fn url(&self) -> String;
    /// Where its tables' versions are to be.
    fn versions(&self) -> Versions;
    /// Runs statements that are the same in both databases.
    async fn execute(&self, sql: &str);
    /// Rows as text, columns joined by a blank, null as `-`.
    async fn rows(&self, sql: &str) -> Vec<String>;
}

/// Identities, as text, and keys of a table's rows that are Muster's: `id` and `key`, for a statement.
pub(super) fn ours(target: &dyn Target, topic: &str, table: &str) -> String {
    let beside = if target.url().starts_with("sqlite") { "muster_rows" } else { "muster.rows" };
    match target.versions() {
        Versions::Column => {
            format!(
                "(select cast(id as varchar(40)) as id, muster_key as key from {table} where muster_key is not null)"
            )
        }
        Versions::Side => format!("(select identity as id, key from {beside} where topic = '{topic}')"),
    }
}

const WARD: &str = r#"{"type": "record", "name": "ward", "fields": [
    {"name": "id", "type": "string"},
    {"name": "title", "type": ["null", "string"], "default": null}]}"#;
const NURSE: &str = r#"{"type": "record", "name": "nurse", "fields": [
    {"name": "id", "type": "string"},
    {"name": "name", "type": "string"},
    {"name": "number", "type": ["null", "string"], "default": null},
    {"name": "mentor_id", "type": ["null", "string"], "default": null}]}"#;
const SHIFT: &str = r#"{"type": "record", "name": "shift", "fields": [
    {"name": "id", "type": "string"},
    {"name": "nurse_id", "type": "string"},
    {"name": "ward_id", "type": "string"},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
    {"name": "notes", "type": ["null", "string"], "default": null}]}"#;

/// The sink goes by topics' names only, and topics exist in the catalogue only: the rota borrows the register's.
const TOPICS: [(&str, &str); 3] =
    [("ward", "register.status"), ("nurse", "register.applicant"), ("shift", "register.milestone")];

static SCHEMAS: LazyLock<BTreeMap<&str, Arc<Schema>>> = LazyLock::new(|| {
    let parse = |(entity, text)| (entity, Arc::new(Schema::parse(text).unwrap()));
    [("ward", WARD), ("nurse", NURSE), ("shift", SHIFT)].into_iter().map(parse).collect()
});

pub(super) const NURSE_PARTITIONS: u32 = 3;

pub(super) fn topic(entity: &str) -> &'static str {
    TOPICS.iter().find(|(name, _)| *name == entity).unwrap().1
}

pub(super) fn subjects() -> Vec<Subject> {
    let subject = |(entity, topic): (&str, &str)| Subject {
        topic: topic.into(),
        schema: SCHEMAS[entity].clone(),
        key_fields: match entity {
            "shift" => vec!["nurse_id".to_owned(), "ward_id".to_owned(), "day".to_owned()],
            _ => vec!["id".to_owned()],
        },
        partition_parts: 1,
        partitions: if entity == "nurse" { NURSE_PARTITIONS } else { 1 },
    };
    TOPICS.into_iter().map(subject).collect()
}

/// Where wards, nurses and shifts go.
pub(super) fn config(target: &dyn Target) -> SqlConfig {
    SqlConfig { versions: target.versions(), ..config_at(&target.url()) }
}

pub(super) fn config_at(url: &str) -> SqlConfig {
    let ward = TableMapping::new("ward", topic("ward"), "wards", "id");
    let mut nurse = TableMapping::new("nurse", topic("nurse"), "nurses", "id");
    nurse.refers.insert("mentor_id".to_owned(), "nurse".to_owned());
    nurse.unique = vec![vec!["number".to_owned()]];
    nurse.initial.insert("is_open".to_owned(), Scalar::Bool(true));
    let mut shift = TableMapping::new("shift", topic("shift"), "shifts", "id");
    shift.refers.insert("nurse_id".to_owned(), "nurse".to_owned());
    shift.refers.insert("ward_id".to_owned(), "ward".to_owned());
    SqlConfig::new(DatabaseUrl::new(url), vec![shift, nurse, ward])
}

pub(super) fn change(config: &mut SqlConfig, entity: &str, change: impl FnOnce(&mut TableMapping)) {
    change(config.tables.iter_mut().find(|table| table.entity == entity).unwrap());
}

/// A sink as its runner sees it: remembers where each partition stands.
pub(super) struct Runner {
    pub(super) sink: SqlSink,
    pub(super) epoch: i64,
    pub(super) incarnation: &'static str,
    pub(super) next: BTreeMap<(String, u32), i64>,
    pub(super) sweeping: bool,
}

impl Runner {
    /// Started, with all partitions.
    pub(super) async fn start(target: &dyn Target) -> Self {
        Self::with(config(target), 1).await
    }

    pub(super) async fn with(config: SqlConfig, epoch: i64) -> Self {
        Self::try_with(config, epoch).await.unwrap()
    }

    pub(super) async fn try_with(config: SqlConfig, epoch: i64) -> Result<Self, SinkError> {
        let sink = SqlSink::of("rota", &config, &subjects()).unwrap();
        let mut runner = Self { sink, epoch, incarnation: "spring", next: BTreeMap::new(), sweeping: false };
        let Resume::Own(stored) = runner.sink.assigned(&runner.all()).await? else { panic!("keeps its own offsets") };
        for (at, stored) in stored {
            runner.next.insert((at.topic.to_string(), at.partition), stored.map_or(0, |stored| stored.next.0));
        }
        Ok(runner)
    }

    pub(super) fn all(&self) -> Vec<Assigned> {
        let partitions = |entity| if entity == "nurse" { NURSE_PARTITIONS } else { 1 };
        let of = |(entity, _)| (0..partitions(entity)).map(move |partition| self.of(entity, partition));
        TOPICS.into_iter().flat_map(of).collect()
    }

    pub(super) fn of(&self, entity: &str, partition: u32) -> Assigned {
        Assigned {
            topic: catalogue().topic(topic(entity)).unwrap().clone(),
            partition,
            incarnation: Incarnation(self.incarnation.to_owned()),
            epoch: Epoch(self.epoch),
        }
    }

    /// The batch that comes next and holds these changes.
    pub(super) fn batch(&self, changes: &[Told]) -> Batch {
        let mut parts: BTreeMap<(&str, u32), Vec<Delivery>> = BTreeMap::new();
        for change in changes {
            let partitions = if change.entity == "nurse" { NURSE_PARTITIONS } else { 1 };
            let partition = partition_of(change.delivery.key.prefix(1).as_bytes(), partitions);
            parts.entry((change.entity, partition)).or_default().push(change.delivery.clone());
        }
        let part = |((entity, partition), deliveries): ((&str, u32), Vec<Delivery>)| {
            let expected = *self.next.get(&(topic(entity).to_owned(), partition)).unwrap_or(&0);
            let next = Offset(expected + deliveries.len() as i64);
            Part {
                of: self.of(entity, partition),
                deliveries,
                expected: Offset(expected),
                next,
                landmark: Some(landmark_below(next)),
                sweeping: self.sweeping,
            }
        };
        Batch { parts: parts.into_iter().map(part).collect() }
    }

    /// Delivers a batch, again where another transaction was in the way; counts must balance and offsets move.
    pub(super) async fn apply(&mut self, changes: &[Told]) -> Applied {
        for _ in 0..5 {
            match self.try_apply(changes).await {
                Err(SinkError::Contended { .. }) => tokio::task::yield_now().await,
                done => return done.unwrap(),
            }
        }
        panic!("another transaction is always in the way")
    }

    pub(super) async fn try_apply(&mut self, changes: &[Told]) -> Result<Applied, SinkError> {
        let batch = self.batch(changes);
        let applied = self.sink.apply(&batch).await?;
        applied.counts.balanced().unwrap();
        assert_eq!(applied.counts.read, changes.len() as u64);
        self.moved(&batch);
        Ok(applied)
    }

    pub(super) fn moved(&mut self, batch: &Batch) {
        for part in &batch.parts {
            self.next.insert((part.of.topic.name.clone(), part.of.partition), part.next.0);
        }
    }

    pub(super) async fn rejected(&mut self, changes: &[Told]) -> Vec<Rejected> {
        match self.try_apply(changes).await {
            Err(SinkError::Rejected(rejected)) => rejected,
            other => panic!("expected rejects, found {other:?}"),
        }
    }

    pub(super) async fn held(&self, entity: &str, partition: u32, after: Option<&Key>, limit: usize) -> Vec<Held> {
        self.sink.held(&self.of(entity, partition), after, limit).await.unwrap().unwrap()
    }
}

/// The record right below an offset, for all that these tests know of it.
pub(super) fn landmark_below(next: Offset) -> Landmark {
    Landmark { offset: Offset(next.0 - 1), print: u64::MAX - next.0.unsigned_abs() }
}

/// What the topic of an entity tells.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) entity: &'static str,
    pub(super) delivery: Delivery,
}

pub(super) fn ward(id: &str, version: i64) -> Told {
    put("ward", &[id], version, json!({"id": id, "title": format!("Ward {id}")}))
}

pub(super) fn nurse(id: &str, name: &str, number: Option<&str>, version: i64) -> Told {
    put("nurse", &[id], version, json!({"id": id, "name": name, "number": number}))
}

pub(super) fn mentored(id: &str, mentor: &str, version: i64) -> Told {
    put("nurse", &[id], version, json!({"id": id, "name": id, "mentor_id": mentor}))
}

pub(super) fn shift(nurse: &str, ward: &str, day: &str, notes: &str, version: i64) -> Told {
    let id = format!("{nurse}/{ward}/{day}");
    let day_or_null = (!day.is_empty()).then_some(day);
    let value = json!({"id": id, "nurse_id": nurse, "ward_id": ward, "day": day_or_null, "notes": notes});
    put("shift", &[nurse, ward, day], version, value)
}

pub(super) fn put(entity: &'static str, key: &[&str], version: i64, value: Json) -> Told {
    let schema = SCHEMAS[entity].clone();
    let body = from_json(&schema, &value).unwrap();
    let hash = content_hash(&schema, &body).unwrap();
    let payload = Payload { schema, body: body.into() };
    delivery(entity, key, version, Some(hash), Some(payload))
}

pub(super) fn gone(entity: &'static str, key: &[&str], version: i64) -> Told {
    delivery(entity, key, version, None, None)
}

fn delivery(
    entity: &'static str,
    key: &[&str],
    version: i64,
    hash: Option<schemas::ContentHash>,
    payload: Option<Payload>,
) -> Told {
    let key: Vec<_> = key.iter().map(|part| (!part.is_empty()).then_some(*part)).collect();
    let key = Key::of(&key);
    let delivery = Delivery { key, version: Version(version), hash, offset: Offset(version), payload };
    Told { entity, delivery }
}
