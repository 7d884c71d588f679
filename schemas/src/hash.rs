//! The hash that says whether an entity changed: equal contents, equal hash, whatever schema version wrote them.
//!
//! Each field gives 128 bits of xxh3 over its canonical value, seeded with its name; a record is the sum of its fields
//! that differ from their default, a map the sum of its entries, an array the chain of its items. So the order of
//! fields, map entries and union branches, the splitting into blocks, the width of integers and a new field at its
//! default don't count, at any depth, and nothing is allocated. Changing what goes in here makes every stored hash
//! void: give the algorithm a new id then.

use std::{fmt, str::FromStr};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::{
    cursor::{Blocks, Cursor},
    malformed::Malformed,
    schema::{Field, Item, Kind, Record, Schema},
    value::Value,
};

/// 128 bits over the contents of an entity. Displays as `1-<32 hex digits>`, where 1 is the id of the algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 16]);

/// A text that isn't a content hash of the algorithm in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content hash: expected 1- and 32 hexadecimal digits")]
pub struct ParseContentHashError;

/// The prefix of hashes made here.
const ALGORITHM: &str = "1-";

/// What kind of canonical value was hashed, so that 0 and false differ.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Shape {
    Null = 1,
    Boolean,
    Integer,
    Float,
    Text,
    Decimal,
    Array,
    Map,
    Record,
}

/// The hash of a body's contents. Fails where [`crate::check`] fails.
pub fn content_hash(schema: &Schema, body: &[u8]) -> Result<ContentHash, Malformed> {
    let mut cursor = Cursor::new(body);
    let sum = record_sum(&mut cursor, schema.record())?;
    cursor.finish()?;
    Ok(ContentHash(digest(0, Shape::Record, &sum.to_le_bytes()).to_le_bytes()))
}

pub(crate) fn seed_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// The digest of one encoded value of a field.
pub(crate) fn digest_of(avro: &[u8], field: &Field) -> Result<u128, Malformed> {
    let mut cursor = Cursor::new(avro);
    let digest = value_digest(&mut cursor, &field.kind, field.null_branch, field.name_seed)?;
    cursor.finish()?;
    Ok(digest)
}

fn record_sum(cursor: &mut Cursor<'_>, record: &Record) -> Result<u128, Malformed> {
    let mut sum = 0u128;
    for field in &record.fields {
        let digest = value_digest(cursor, &field.kind, field.null_branch, field.name_seed)
            .map_err(|fault| fault.in_field(&field.name))?;
        if field.default_digest != Some(digest) {
            sum = sum.wrapping_add(digest);
        }
    }
    Ok(sum)
}

fn value_digest(cursor: &mut Cursor<'_>, kind: &Kind, null_branch: Option<u8>, seed: u64) -> Result<u128, Malformed> {
    if cursor.is_null(null_branch)? {
        return Ok(digest(seed, Shape::Null, &[]));
    }
    match kind {
        Kind::Record(record) => Ok(digest(seed, Shape::Record, &record_sum(cursor, record)?.to_le_bytes())),
        Kind::Array(item) => array_digest(cursor, item, seed),
        Kind::Map(item) => map_digest(cursor, item, seed),
        scalar => Ok(scalar_digest(&cursor.scalar(scalar)?, seed)),
    }
}

fn array_digest(cursor: &mut Cursor<'_>, item: &Item, seed: u64) -> Result<u128, Malformed> {
    let mut chain = 0u128;
    let mut blocks = Blocks::new();
    while let Some(index) = blocks.next(cursor)? {
        let next = value_digest(cursor, &item.kind, item.null_branch, 0).map_err(|fault| fault.in_item(index))?;
        chain = digest(seed, Shape::Array, &concat(chain, next));
    }
    Ok(digest(seed, Shape::Array, &chain.to_le_bytes()))
}

fn map_digest(cursor: &mut Cursor<'_>, item: &Item, seed: u64) -> Result<u128, Malformed> {
    let mut sum = 0u128;
    let mut blocks = Blocks::new();
    while let Some(index) = blocks.next(cursor)? {
        let key = cursor.string().map_err(|fault| fault.in_item(index))?;
        let entry =
            value_digest(cursor, &item.kind, item.null_branch, seed_of(key)).map_err(|fault| fault.in_item(index))?;
        // The key's full width goes in here; as a seed alone it would have 64 bits.
        let key = digest(0, Shape::Text, key.as_bytes());
        sum = sum.wrapping_add(digest(seed, Shape::Map, &concat(key, entry)));
    }
    Ok(digest(seed, Shape::Map, &sum.to_le_bytes()))
}

fn scalar_digest(value: &Value<'_>, seed: u64) -> u128 {
    let integer = |n: i64| digest(seed, Shape::Integer, &n.to_le_bytes());
    match value {
        Value::Boolean(b) => digest(seed, Shape::Boolean, &[u8::from(*b)]),
        Value::Int(n) | Value::Date(n) => integer(i64::from(*n)),
        Value::Long(n) => integer(*n),
        Value::Timestamp { micros } | Value::LocalTimestamp { micros } => integer(*micros),
        Value::Float(x) => float_digest(f64::from(*x), seed),
        Value::Double(x) => float_digest(*x, seed),
        Value::String(text) => digest(seed, Shape::Text, text.as_bytes()),
        Value::Bytes(bytes) => digest(seed, Shape::Text, bytes),
        Value::Decimal(decimal) => {
            let mut bytes = [0; 20];
            bytes[..16].copy_from_slice(&decimal.unscaled.to_le_bytes());
            bytes[16..].copy_from_slice(&decimal.scale.to_le_bytes());
            digest(seed, Shape::Decimal, &bytes)
        }
        Value::Null | Value::Array(_) | Value::Map(_) | Value::Record(_) => {
            unreachable!("a cursor's scalar is never null or composite")
        }
    }
}

fn float_digest(x: f64, seed: u64) -> u128 {
    // All NaNs are one value.
    let x = if x.is_nan() { f64::NAN } else { x };
    digest(seed, Shape::Float, &x.to_le_bytes())
}

fn digest(seed: u64, shape: Shape, bytes: &[u8]) -> u128 {
    // An odd multiplier keeps the shapes of one name apart.
    xxh3_128_with_seed(bytes, seed ^ (shape as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn concat(a: u128, b: u128) -> [u8; 32] {
    let mut both = [0; 32];
    both[..16].copy_from_slice(&a.to_le_bytes());
    both[16..].copy_from_slice(&b.to_le_bytes());
    both
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = ParseContentHashError;

    fn from_str(text: &str) -> Result<ContentHash, ParseContentHashError> {
        let digits = text.strip_prefix(ALGORITHM).ok_or(ParseContentHashError)?;
        let well_formed = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(ParseContentHashError);
        }
        let number = u128::from_str_radix(digits, 16).map_err(|_| ParseContentHashError)?;
        Ok(ContentHash(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests;
