//! Whatever an entity can hold comes back from a database as it went in.

use async_trait::async_trait;
use pipeline::change::{Epoch, Incarnation, Version};
use pipeline::log::Offset;
use pipeline::processor::Payload;
use pipeline::sink::{Assigned, Batch, Delivery, Part, Sink};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use schemas::{Key, Schema, Value, catalogue, from_json, values};
use serde_json::{Value as Json, json};
use std::sync::{Arc, LazyLock};

use super::rota::Target;
use crate::sql::table::Subject;
use crate::sql::{DatabaseUrl, SqlConfig, SqlSink, TableMapping};

const EVERYTHING: &str = r#"{"type": "record", "name": "everything", "fields": [
    {"name": "id", "type": "string"},
    {"name": "flag", "type": ["null", "boolean"], "default": null},
    {"name": "few", "type": ["null", "int"], "default": null},
    {"name": "many", "type": ["null", "long"], "default": null},
    {"name": "coarse", "type": ["null", "float"], "default": null},
    {"name": "fine", "type": ["null", "double"], "default": null},
    {"name": "words", "type": ["null", "string"], "default": null},
    {"name": "raw", "type": ["null", "bytes"], "default": null},
    {"name": "uuid", "type": ["null", {"type": "string", "logicalType": "uuid"}], "default": null},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
    {"name": "moment", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": null},
    {"name": "local", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}], "default": null},
    {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}], "default": null},
    {"name": "mood", "type": ["null", {"type": "enum", "name": "mood", "symbols": ["glad", "tired"]}], "default": null},
    {"name": "list", "type": ["null", {"type": "array", "items": ["null", "string"]}], "default": null},
    {"name": "map", "type": ["null", {"type": "map", "values": "long"}], "default": null},
    {"name": "part", "type": ["null", {"type": "record", "name": "part", "fields": [
        {"name": "name", "type": "string"}, {"name": "share", "type": "double"}]}], "default": null}]}"#;

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(Schema::parse(EVERYTHING).unwrap()));

fn text() -> impl Strategy<Value = String> {
    // Quotes, backslashes, braces and commas are what arrays and JSON stumble over; NUL has a test of its own.
    prop_oneof!["[ -~äß€\u{1F469}\"'{}\\\\,]{0,12}", "NULL|null|\\\\x00|\\{\\}|\\\\u0041", "[\u{1}-\u{1f}]{0,4}"]
}

fn maybe(some: impl Strategy<Value = Json> + 'static) -> impl Strategy<Value = Json> {
    prop_oneof![1 => Just(Json::Null), 4 => some]
}

fn entity() -> impl Strategy<Value = Json> {
    let day = (1..=9999i32, 1..=12u32, 1..=28u32).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"));
    let time = (day.clone(), 0..86_400u32, 0..1_000_000u32)
        .prop_map(|(day, s, us)| format!("{day}T{:02}:{:02}:{:02}.{us:06}", s / 3600, s / 60 % 60, s % 60));
    let finite = any::<f64>().prop_filter("finite", |x| x.is_finite());
    let scalars = (
        maybe(any::<bool>().prop_map(|x| json!(x))),
        maybe(any::<i32>().prop_map(|x| json!(x))),
        maybe(any::<i64>().prop_map(|x| json!(x))),
        maybe((-1_000_000i32..1_000_000).prop_map(|x| json!(f64::from(x) / 8.0))),
        maybe(finite.clone().prop_map(|x| json!(x))),
        maybe(text().prop_map(|x| json!(x))),
    );
    let logical = (
        maybe("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}".prop_map(|x| json!(x))),
        maybe(day.prop_map(|x| json!(x))),
        maybe(time.clone().prop_map(|x| json!(format!("{x}Z")))),
        maybe(time.prop_map(|x| json!(x))),
        maybe(
            (any::<bool>(), 0..10u64.pow(17), 0..1000u32)
                .prop_map(|(minus, whole, part)| json!(format!("{}{whole}.{part:03}", if minus { "-" } else { "" }))),
        ),
        maybe(prop_oneof![Just(json!("glad")), Just(json!("tired"))]),
    );
    let nested = (
        maybe("([0-9a-f]{2}){0,5}".prop_map(|x| json!(x))),
        maybe(prop::collection::vec(prop::option::of(text()), 0..4).prop_map(|x| json!(x))),
        maybe(prop::collection::btree_map(text(), any::<i64>(), 0..4).prop_map(|x| json!(x))),
        maybe((text(), -1000i32..1000).prop_map(|(name, x)| json!({"name": name, "share": f64::from(x) / 4.0}))),
    );
    (scalars, logical, nested).prop_map(
        |((flag, few, many, coarse, fine, words), (uuid, day, moment, local, price, mood), (raw, list, map, part))| {
            json!({
                "flag": flag, "few": few, "many": many, "coarse": coarse, "fine": fine, "words": words, "raw": raw, "uuid": uuid,
                "day": day, "moment": moment, "local": local, "price": price, "mood": mood, "list": list, "map": map,
                "part": part,
            })
        },
    )
}

/// How the database writes each column as text, in the order of the schema.
#[async_trait]
pub(super) trait Reading: Target {
    /// Rows by id, one text per column, in one canonical form for both databases.
    async fn everything(&self) -> Vec<Vec<Option<String>>>;
}

/// The value as [`Reading::everything`] would give it.
fn expected(value: &Value<'_>, name: &str, told: &Json) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Float(x) => canonical(f64::from(*x)),
        Value::Double(x) => canonical(*x),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Array(_) | Value::Map(_) | Value::Record(_) => told[name].to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Long(n) => n.to_string(),
        Value::String(text) => (*text).to_owned(),
        Value::Decimal(decimal) => decimal.to_string(),
        Value::Date(days) => schemas::Date(*days).to_string(),
        Value::Timestamp { micros } => schemas::Timestamp(*micros).to_string(),
        Value::LocalTimestamp { micros } => schemas::LocalTimestamp(*micros).to_string(),
    })
}

/// One text per number, so that `1.0` and `1` are the same.
pub(super) fn canonical(x: f64) -> String {
    format!("{:e}", if x == 0.0 { 0.0 } else { x })
}

/// Delivers random entities and reads them back.
pub(super) async fn comes_back(target: &dyn Reading) {
    let subject = Subject {
        topic: "register.status".into(),
        schema: SCHEMA.clone(),
        key_fields: vec!["id".to_owned()],
        partition_parts: 1,
        partitions: 1,
    };
    let mapping = TableMapping::new("everything", "register.status", "everything", "id");
    let config = SqlConfig::new(DatabaseUrl::new(target.url()), vec![mapping]);
    let sink = SqlSink::of("round trip", &config, &[subject]).unwrap();

    let seed = std::env::var("MUSTER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    eprintln!("again with MUSTER_TEST_SEED={seed}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat());
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut told = Vec::new();
    for n in 0..300 {
        let mut value = entity().new_tree(&mut runner).unwrap().current();
        value["id"] = json!(format!("{n:04}"));
        told.push(value);
    }
    let of = Assigned {
        topic: catalogue().topic("register.status").unwrap().clone(),
        partition: 0,
        incarnation: Incarnation("one".to_owned()),
        epoch: Epoch(1),
    };
    let bodies: Vec<Vec<u8>> = told.iter().map(|value| from_json(&SCHEMA, value).unwrap()).collect();
    let delivery = |(n, body): (usize, &Vec<u8>)| Delivery {
        key: Key::from(format!("{n:04}")),
        version: Version(1),
        hash: None,
        offset: Offset(n as i64),
        payload: Some(Payload { schema: SCHEMA.clone(), body: body.clone().into() }),
    };
    let deliveries: Vec<_> = bodies.iter().enumerate().map(delivery).collect();
    let next = Offset(deliveries.len() as i64);
    sink.assigned(std::slice::from_ref(&of)).await.unwrap();
    let part = Part { of, deliveries, expected: Offset(0), next, landmark: None, sweeping: false };
    let applied = sink.apply(&Batch { parts: vec![part] }).await.unwrap();
    assert_eq!(applied.counts.delivered, 300);

    let found = target.everything().await;
    assert_eq!(found.len(), 300);
    for ((value, body), found) in told.iter().zip(&bodies).zip(found) {
        let decoded = values(&SCHEMA, body).unwrap();
        for ((field, decoded), found) in SCHEMA.fields().iter().zip(&decoded).zip(found) {
            assert_eq!(found, expected(decoded, &field.name, value), "{} of {value}", field.name);
        }
    }
}
