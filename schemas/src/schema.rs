//! An Avro record schema, parsed and compiled to a flat plan that the codecs walk.
//!
//! Only what the contract needs is accepted: records of scalars, logical types, arrays, maps and other records, each
//! nullable or not. Wider unions, recursion, `fixed` and records without fields are refused with the field's name:
//! every item then takes at least one byte, so that no claimed count can exceed the bytes that are left.

mod compile;

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

/// Records, arrays and maps inside each other: more are refused. Decoders and encoders go as deep as
/// the schema, each on one thread's stack.
pub(crate) const MAX_DEPTH: usize = 64;

/// A parsed record schema. Cheap to share (`Arc<Schema>`), not to parse.
pub struct Schema {
    record: Arc<Record>,
    /// The record again, as a value's kind.
    kind: Kind,
    text: String,
    canonical: String,
    avro: apache_avro::Schema,
}

/// The number a message names its schema by (Confluent wire format).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

/// A record: the message itself, or a nested one.
#[derive(Debug)]
pub struct Record {
    /// Full name, as in `muster.ats.applicant`.
    pub name: String,
    /// What a record means; empty when the schema doesn't say.
    pub doc: String,
    /// In the order of the schema, which is the order in messages.
    pub fields: Vec<Field>,
}

/// One field of a record.
#[derive(Debug)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// Meaning, unit and source; empty when the schema doesn't say.
    pub doc: String,
    /// Former names, under which a [`crate::Reader`] also finds the field in older messages.
    pub aliases: Vec<String>,
    /// What it holds when it isn't null.
    pub kind: Kind,
    /// Whether it may be null.
    pub nullable: bool,
    /// The default as written in the schema; `Some(Value::Null)` is a default of null.
    pub default: Option<serde_json::Value>,
    pub(crate) null_branch: Option<u8>,
    /// The default, encoded.
    pub(crate) default_avro: Option<Box<[u8]>>,
    /// What [`crate::content_hash`] makes of the name, and of the default.
    pub(crate) name_seed: u64,
    pub(crate) default_digest: Option<u128>,
}

/// What an array or a map holds.
#[derive(Debug)]
pub struct Item {
    /// What it holds when it isn't null.
    pub kind: Kind,
    /// Whether items may be null.
    pub nullable: bool,
    pub(crate) null_branch: Option<u8>,
}

/// The type of a value, logical types included.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are Avro's own")]
pub enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    Uuid,
    /// Text that holds one JSON value (`string` with `"logicalType": "json"`, which is Muster's own). Whoever writes it
    /// has seen to that; codecs take it for text.
    Json,
    Date,
    TimestampMillis,
    TimestampMicros,
    LocalTimestampMillis,
    LocalTimestampMicros,
    Decimal {
        precision: u32,
        scale: u32,
    },
    Enum(Vec<String>),
    Array(Box<Item>),
    Map(Box<Item>),
    Record(Arc<Record>),
}

/// Why a schema can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not JSON, or not Avro.
    #[error("not an Avro schema: {reason}")]
    Invalid {
        /// What the parser said.
        reason: String,
    },
    /// Avro, but outside what is accepted here.
    #[error("{path}: {what}")]
    Unsupported {
        /// Record and field, as in `muster.ats.applicant.assigned_to`.
        path: String,
        /// What is there and what is accepted.
        what: String,
    },
    /// A reader schema that can't read what the writer schema writes.
    #[error("{path}: {what}")]
    Unreadable {
        /// The field of the reader schema.
        path: String,
        /// Why not.
        what: String,
    },
}

impl Schema {
    /// Parses and compiles a record schema.
    pub fn parse(text: &str) -> Result<Schema, SchemaError> {
        let invalid = |reason: String| SchemaError::Invalid { reason };
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
        let record = compile::record(&json)?;
        let text = compact(text);
        let avro = apache_avro::Schema::parse(&json).map_err(|e| invalid(e.to_string()))?;
        if !serde_json::to_value(&avro).is_ok_and(|json| has_canonical_form(&json)) {
            let what =
                "an attribute has the name of one of Avro's own (such as `size` or `symbols`), and not its shape";
            return Err(invalid(what.to_owned()));
        }
        let kind = Kind::Record(Arc::clone(&record));
        Ok(Schema { record, kind, text, canonical: avro.canonical_form(), avro })
    }

    /// Full name, as in `muster.ats.applicant`.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The schema as given, docs included, without white space.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Avro's Parsing Canonical Form: without docs, defaults, aliases and logical types.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The id where there is no registry: 31 bits of the SHA-256 of the canonical form, never 0.
    pub fn id_without_registry(&self) -> SchemaId {
        let digest = Sha256::digest(self.canonical.as_bytes());
        let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        // 31 bits: registries and their clients hold ids in a signed 32-bit integer.
        SchemaId((head & 0x7fff_ffff).max(1))
    }

    /// The fields, in the order of the schema.
    pub fn fields(&self) -> &[Field] {
        &self.record.fields
    }

    /// A field and its place, by name.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.record.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    /// The record itself.
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The schema as apache-avro sees it, for what works on schemas rather than messages.
    pub fn avro(&self) -> &apache_avro::Schema {
        &self.avro
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }
}

/// JSON without the white space between its tokens, otherwise as given.
fn compact(json: &str) -> String {
    let mut compacted = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for c in json.chars() {
        if !in_text && c.is_ascii_whitespace() {
            continue;
        }
        in_text ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        compacted.push(c);
    }
    compacted
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("name", &self.name()).field("fields", &self.fields().len()).finish()
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Kind {
    /// The name a person knows it by, as in `timestamp-micros` or `array of string`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Uuid => "uuid",
            Kind::Json => "json",
            Kind::Date => "date",
            Kind::TimestampMillis => "timestamp-millis",
            Kind::TimestampMicros => "timestamp-micros",
            Kind::LocalTimestampMillis => "local-timestamp-millis",
            Kind::LocalTimestampMicros => "local-timestamp-micros",
            Kind::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Kind::Enum(_) => "enum",
            Kind::Array(item) => return write!(f, "array of {}", item.kind),
            Kind::Map(item) => return write!(f, "map of {}", item.kind),
            Kind::Record(record) => &record.name,
        };
        f.write_str(name)
    }
}

/// Whether apache-avro can make the canonical form: it takes attributes of its own names for what they are in types,
/// wherever they stand, and panics where they aren't.
fn has_canonical_form(json: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match json {
        Json::Object(attributes) => attributes.iter().all(|(name, value)| match name.as_str() {
            "name" | "type" | "fields" | "symbols" | "items" | "values" | "order" => has_canonical_form(value),
            "size" | "precision" | "scale" => match value {
                Json::String(text) => text.parse::<i64>().is_ok(),
                value => value.is_i64(),
            },
            _ => true,
        }),
        Json::Array(items) => items.iter().all(has_canonical_form),
        json => json.is_string(),
    }
}

#[cfg(test)]
mod tests;
