//! One value on its way into a column.

use pipeline::config::Scalar;
use schemas::{Date, Item, Kind, LocalTimestamp, Timestamp, Value};
use serde_json::{Map, Value as Json, json};

/// A value as databases take it. Decimals and JSON are text in their canonical form.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    Date(Date),
    Timestamp(Timestamp),
    LocalTimestamp(LocalTimestamp),
}

/// What a column is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Uuid,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Date,
    Timestamp,
    LocalTimestamp,
    Decimal { precision: u32, scale: u32 },
    Json,
}

impl Shape {
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Boolean => Self::Bool,
            Kind::Int => Self::Int,
            Kind::Long => Self::Long,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::String | Kind::Enum(_) => Self::Text,
            Kind::Uuid => Self::Uuid,
            Kind::Bytes => Self::Bytes,
            Kind::Date => Self::Date,
            Kind::TimestampMillis | Kind::TimestampMicros => Self::Timestamp,
            Kind::LocalTimestampMillis | Kind::LocalTimestampMicros => Self::LocalTimestamp,
            Kind::Decimal { precision, scale } => Self::Decimal { precision: *precision, scale: *scale },
            Kind::Json | Kind::Array(_) | Kind::Map(_) | Kind::Record(_) => Self::Json,
        }
    }
}

impl Cell {
    /// The column's value of a decoded field.
    pub(super) fn of(kind: &Kind, value: &Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(b) => Self::Bool(*b),
            Value::Int(n) => Self::Int(i64::from(*n)),
            Value::Long(n) => Self::Int(*n),
            Value::Float(x) => Self::Real(shortest(*x)),
            Value::Double(x) => Self::Real(*x),
            Value::String(text) => Self::Text((*text).to_owned()),
            Value::Bytes(bytes) => Self::Blob(bytes.to_vec()),
            Value::Date(days) => Self::Date(Date(*days)),
            Value::Timestamp { micros } => Self::Timestamp(Timestamp(*micros)),
            Value::LocalTimestamp { micros } => Self::LocalTimestamp(LocalTimestamp(*micros)),
            Value::Decimal(decimal) => Self::Text(decimal.to_string()),
            Value::Array(_) | Value::Map(_) | Value::Record(_) => Self::Text(json_of(kind, value).to_string()),
        }
    }

    /// An object of several fields. What is null isn't in it.
    pub(super) fn object<'v>(parts: impl Iterator<Item = (&'v str, &'v Kind, &'v Value<'v>)>) -> Self {
        let parts = parts.filter(|(.., value)| !matches!(value, Value::Null));
        let entries = parts.map(|(name, kind, value)| (name.to_owned(), json_of(kind, value)));
        Self::Text(Json::Object(entries.collect()).to_string())
    }

    /// The text by which a parent's key or identity is looked up; `None` for null.
    pub(super) fn as_text(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Real(x) => x.to_string(),
            Self::Text(text) => text.clone(),
            Self::Blob(bytes) => hex(bytes),
            // ISO, as every database reads them.
            Self::Date(day) => day.to_string(),
            Self::Timestamp(moment) => moment.to_string(),
            Self::LocalTimestamp(time) => time.to_string(),
        })
    }
}

impl From<&Scalar> for Cell {
    fn from(literal: &Scalar) -> Self {
        match literal {
            Scalar::Bool(b) => Self::Bool(*b),
            Scalar::Integer(n) => Self::Int(*n),
            Scalar::Number(x) => Self::Real(*x),
            Scalar::Text(text) => Self::Text(text.clone()),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the JSON columns hold it: records are objects, bytes are hexadecimal, decimals and what JSON's numbers can't say
/// are text.
fn json_of(kind: &Kind, value: &Value<'_>) -> Json {
    match (kind, value) {
        (_, Value::Null) => Json::Null,
        (_, Value::Boolean(b)) => json!(b),
        (_, Value::Int(n)) => json!(n),
        (_, Value::Long(n)) => json!(n),
        (_, Value::Float(x)) => number(shortest(*x)),
        (_, Value::Double(x)) => number(*x),
        (Kind::Array(item), Value::Array(items)) => items.iter().map(|value| item_of(item, value)).collect(),
        (Kind::Map(item), Value::Map(entries)) => {
            Json::Object(entries.iter().map(|(key, value)| ((*key).to_owned(), item_of(item, value))).collect())
        }
        (Kind::Record(record), Value::Record(values)) => {
            let named = record.fields.iter().zip(values);
            let entries = named.map(|(field, value)| (field.name.clone(), json_of(&field.kind, value)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
        (_, Value::Bytes(bytes)) => Json::String(hex(bytes)),
        // A reader gives no value that isn't of its kind.
        (_, Value::Array(_) | Value::Map(_) | Value::Record(_)) => Json::Null,
        (kind, value) => Cell::of(kind, value).as_text().map_or(Json::Null, Json::String),
    }
}

/// By way of its shortest text, so that 0.1 stays 0.1 in a wider column.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

fn number(x: f64) -> Json {
    if x.is_finite() { json!(x) } else { json!(x.to_string()) }
}

fn item_of(item: &Item, value: &Value<'_>) -> Json {
    json_of(&item.kind, value)
}
