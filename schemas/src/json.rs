//! Messages as JSON for people: to show a dead letter, to edit and replay one.
//!
//! Dates are `2023-01-31`, moments `2023-01-31T07:00:00.000000Z`, local times the same without `Z`, decimals text with
//! every digit of their scale, bytes hexadecimal text, enums their symbol, NaN and the infinities text.

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::{
    decode::values,
    encode::{Encoder, Notation},
    malformed::Malformed,
    schema::{Item, Kind, Record, Schema},
    time::{Date, LocalTimestamp, Timestamp},
    value::Value,
};

/// One thing that is wrong with a JSON record. Never quotes values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonProblem {
    /// Where, as in `nursing_educations[3].year`; empty for the record itself.
    pub path: String,
    /// What was expected there, as in `expected a date such as 2023-01-31`.
    pub expected: String,
    /// For an unknown field: the name that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for JsonProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() { "the record" } else { &self.path };
        write!(f, "{place}: {}", self.expected)?;
        match &self.nearest {
            Some(name) => write!(f, " (did you mean {name}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for JsonProblem {}

/// The body as a JSON object, fields in the order of the schema's names.
pub fn to_json(schema: &Schema, body: &[u8]) -> Result<Json, Malformed> {
    Ok(record_to_json(&values(schema, body)?, schema.record()))
}

/// Encodes a JSON object. Missing fields take their default; unknown fields, and missing ones without a default, are
/// problems. All problems are reported at once.
pub fn from_json(schema: &Schema, json: &Json) -> Result<Vec<u8>, Vec<JsonProblem>> {
    let mut encoder = Encoder::new(Notation::Human);
    encoder.record(json, schema.record(), "");
    if encoder.problems.is_empty() { Ok(encoder.out) } else { Err(encoder.problems) }
}

fn record_to_json(fields: &[Value<'_>], record: &Record) -> Json {
    let named = record.fields.iter().zip(fields).map(|(f, value)| (f.name.clone(), value_to_json(value, &f.kind)));
    Json::Object(named.collect::<Map<_, _>>())
}

fn value_to_json(value: &Value<'_>, kind: &Kind) -> Json {
    match (value, kind) {
        (Value::Null, _) => Json::Null,
        (Value::Boolean(b), _) => Json::from(*b),
        (Value::Int(n), _) => Json::from(*n),
        (Value::Long(n), _) => Json::from(*n),
        (Value::Float(x), _) => float_to_json(f64::from(*x)),
        (Value::Double(x), _) => float_to_json(*x),
        (Value::String(text), _) => Json::from(*text),
        (Value::Bytes(bytes), _) => Json::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        (Value::Date(days), _) => Json::from(Date(*days).to_string()),
        (Value::Timestamp { micros }, _) => Json::from(Timestamp(*micros).to_string()),
        (Value::LocalTimestamp { micros }, _) => Json::from(LocalTimestamp(*micros).to_string()),
        (Value::Decimal(decimal), _) => Json::from(decimal.to_string()),
        (Value::Array(items), Kind::Array(item)) => items.iter().map(|value| item_to_json(value, item)).collect(),
        (Value::Map(entries), Kind::Map(item)) => {
            let named = entries.iter().map(|(key, value)| ((*key).to_owned(), item_to_json(value, item)));
            Json::Object(named.collect())
        }
        (Value::Record(fields), Kind::Record(record)) => record_to_json(fields, record),
        (Value::Array(_) | Value::Map(_) | Value::Record(_), _) => unreachable!("decoded by this very schema"),
    }
}

fn item_to_json(value: &Value<'_>, item: &Item) -> Json {
    value_to_json(value, &item.kind)
}

fn float_to_json(x: f64) -> Json {
    let as_text = || {
        Json::from(if x.is_nan() {
            "NaN"
        } else if x > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        })
    };
    serde_json::Number::from_f64(x).map_or_else(as_text, Json::Number)
}

#[cfg(test)]
mod tests;
