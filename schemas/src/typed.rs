//! Rust structs to Avro and back.

use serde::{Serialize, de::DeserializeOwned};

use crate::{decode::check, malformed::Malformed, schema::Schema};

/// A struct that can't be written under its schema. Says where and why, never the contents.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The struct doesn't fit the schema: a fault of the program.
    #[error("can't be written as {schema}: {reason}")]
    Mismatch {
        /// The schema's name.
        schema: String,
        /// What doesn't fit.
        reason: String,
    },
    /// A value is outside what its field can hold (a uuid that isn't one, a date in the year 20230).
    #[error("can't be written as {schema}: {fault}")]
    Value {
        /// The schema's name.
        schema: String,
        /// The field and the fault.
        fault: Malformed,
    },
}

/// Checks the body, then reads it into a struct. `schema` is the one the body was written with. Fields are matched by
/// name: the struct may leave some out, and those an older schema lacks come from `#[serde(default)]`.
pub fn from_avro<T: DeserializeOwned>(schema: &Schema, body: &[u8]) -> Result<T, Malformed> {
    check(schema, body)?;
    serde_avro_fast::from_datum_slice(body, schema.fast()).map_err(|e| {
        let reason = without_values(&e.to_string());
        Malformed::new(0, format!("follows {} but doesn't fit its struct: {reason}", schema.name()))
    })
}

/// Appends the struct's Avro body to `out`; what was appended passes [`check`]. Nullable fields the struct leaves out
/// are written as null; bytes need a type that serializes as bytes, which `Vec<u8>` by itself doesn't. On an error `out` is as it was.
pub fn to_avro<T: Serialize>(schema: &Schema, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut config = serde_avro_fast::ser::SerializerConfig::new(schema.fast());
    let written = serde_avro_fast::to_datum(value, &mut *out, &mut config);
    let result = match written {
        Ok(_) => {
            check(schema, &out[start..]).map_err(|fault| EncodeError::Value { schema: schema.name().to_owned(), fault })
        }
        Err(e) => {
            Err(EncodeError::Mismatch { schema: schema.name().to_owned(), reason: without_values(&e.to_string()) })
        }
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// A serde message without the values it may quote; names of fields stay.
fn without_values(message: &str) -> String {
    match message.split_once("field `") {
        Some((before, after)) if !before.contains(['"', '`']) => {
            let name = after.split('`').next().unwrap_or_default();
            format!("{before}field {name}")
        }
        _ => message.split(['"', '`']).next().unwrap_or_default().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests;
