//! Rust structs to Avro and back, through serde.

mod composite;
mod fault;
mod read;
mod write;

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use self::{fault::Fault, read::Input, write::ValueWriter};
use crate::{malformed::Malformed, schema::Schema};

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

/// Checks the body while reading it into a struct, which may borrow text and bytes from it. `schema` is the one the body
/// was written with. Fields are matched by name: the struct may leave some out, and those an older schema lacks come from
/// `#[serde(default)]`.
///
/// Dates are days (`i32`) and times microseconds (`i64`), whichever unit the schema has: what [`crate::Date`],
/// [`crate::Timestamp`] and [`crate::LocalTimestamp`] hold. Uuids, enums and decimals are text; an enum may also be a
/// Rust enum without contents.
pub fn from_avro<'de, T: Deserialize<'de>>(schema: &'de Schema, body: &'de [u8]) -> Result<T, Malformed> {
    let mut input = Input::new(body);
    let value = input.value(PhantomData, schema.kind(), None).map_err(|Fault { malformed, misfit }| match misfit {
        false => malformed,
        true => {
            let reason = format!("follows {} but doesn't fit its struct: {}", schema.name(), malformed.reason);
            Malformed { reason, ..malformed }
        }
    })?;
    input.cursor.finish()?;
    Ok(value)
}

/// Appends the struct's Avro body to `out`; what was appended passes [`crate::check`]. Types are as in [`from_avro`];
/// fields may come in any order. Those the struct leaves out are written as their default, or as null; bytes need a
/// type that serializes as bytes, which `Vec<u8>` by itself doesn't. On an error `out` is as it was.
pub fn to_avro<T: Serialize + ?Sized>(schema: &Schema, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let written = value.serialize(ValueWriter { out, kind: schema.kind(), null_branch: None });
    written.map_err(|Fault { malformed, misfit }| {
        out.truncate(start);
        let schema = schema.name().to_owned();
        if misfit {
            let place = if malformed.path.is_empty() { String::new() } else { format!("{}: ", malformed.path) };
            EncodeError::Mismatch { schema, reason: format!("{place}{}", malformed.reason) }
        } else {
            EncodeError::Value { schema, fault: Malformed { at: malformed.at - start, ..malformed } }
        }
    })
}

#[cfg(test)]
mod tests;
