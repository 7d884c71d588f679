//! From the schema's JSON to the plan. Called once per schema, by [`super::Schema::parse`].

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value as Json};

use super::{Field, Item, Kind, MAX_DEPTH, Record, SchemaError};
use crate::{encode, hash};

/// A few records that refer to each other twice make a schema of kilobytes stand for billions of fields.
const MAX_SIZE: usize = 20_000;
/// Defaults of records contain those of their fields, so they could grow the same way.
const MAX_DEFAULT: usize = 64 << 10;

/// What a place in a schema holds: a kind, or null and a kind.
struct Slot {
    kind: Kind,
    null_branch: Option<u8>,
    depth: usize,
    /// Kinds in it, counting a named record again at each place that refers to it.
    size: usize,
}

#[derive(Clone)]
enum Named {
    /// A record whose fields are being compiled: meeting it again is recursion.
    Open,
    Record(Arc<Record>, usize, usize),
    Enum(Vec<String>),
}

#[derive(Default)]
struct Compiler {
    named: HashMap<String, Named>,
}

pub(super) fn record(json: &Json) -> Result<Arc<Record>, SchemaError> {
    let slot = Compiler::default().slot(json, None, "schema", 0)?;
    match slot {
        Slot { kind: Kind::Record(record), null_branch: None, .. } => Ok(record),
        Slot { kind, .. } => Err(unsupported("schema", format!("is a {kind}, where a record is expected"))),
    }
}

impl Compiler {
    fn slot(&mut self, json: &Json, namespace: Option<&str>, path: &str, above: usize) -> Result<Slot, SchemaError> {
        if above > MAX_DEPTH {
            return Err(unsupported(path, format!("nested deeper than {MAX_DEPTH}")));
        }
        match json {
            Json::Array(branches) => self.union(branches, namespace, path, above),
            Json::String(name) => {
                let slot = self.by_name(name, namespace, path)?;
                if above + slot.depth > MAX_DEPTH {
                    return Err(unsupported(path, format!("nested deeper than {MAX_DEPTH}")));
                }
                Ok(slot)
            }
            Json::Object(object) => self.object(object, namespace, path, above),
            _ => Err(unsupported(path, "the type is neither a name, an object nor a union")),
        }
    }

    fn union(
        &mut self,
        branches: &[Json],
        namespace: Option<&str>,
        path: &str,
        above: usize,
    ) -> Result<Slot, SchemaError> {
        let is_null = |branch: &Json| branch == "null" || branch.get("type").is_some_and(|t| t == "null");
        let (null_branch, other) = match branches {
            [null, other] if is_null(null) && !is_null(other) => (0, other),
            [other, null] if is_null(null) && !is_null(other) => (1, other),
            _ => {
                let what = format!("a union of {} branches; only null and one type are accepted", branches.len());
                return Err(unsupported(path, what));
            }
        };
        let slot = self.slot(other, namespace, path, above)?;
        if slot.null_branch.is_some() {
            return Err(unsupported(path, "a union directly inside a union"));
        }
        Ok(Slot { null_branch: Some(null_branch), ..slot })
    }

    fn by_name(&self, name: &str, namespace: Option<&str>, path: &str) -> Result<Slot, SchemaError> {
        let plain = |kind| Ok(Slot { kind, null_branch: None, depth: 0, size: 1 });
        match name {
            "boolean" => plain(Kind::Boolean),
            "int" => plain(Kind::Int),
            "long" => plain(Kind::Long),
            "float" => plain(Kind::Float),
            "double" => plain(Kind::Double),
            "string" => plain(Kind::String),
            "bytes" => plain(Kind::Bytes),
            "null" | "fixed" => Err(unsupported(path, format!("type {name} isn't accepted"))),
            _ => match self.named.get(&full_name(name, namespace)) {
                Some(Named::Record(record, depth, size)) => {
                    Ok(Slot { kind: Kind::Record(Arc::clone(record)), null_branch: None, depth: *depth, size: *size })
                }
                Some(Named::Enum(symbols)) => plain(Kind::Enum(symbols.clone())),
                Some(Named::Open) => Err(unsupported(path, format!("{name} contains itself"))),
                None => Err(unsupported(path, format!("unknown type {name}"))),
            },
        }
    }

    fn object(
        &mut self,
        object: &Map<String, Json>,
        namespace: Option<&str>,
        path: &str,
        above: usize,
    ) -> Result<Slot, SchemaError> {
        let type_name = match object.get("type") {
            Some(Json::String(name)) => name.as_str(),
            Some(inner) => return self.slot(inner, namespace, path, above + 1),
            None => return Err(unsupported(path, "no type")),
        };
        match type_name {
            "record" => self.new_record(object, namespace, path, above),
            "enum" => {
                let symbols = strings(object.get("symbols"));
                if symbols.is_empty() {
                    return Err(unsupported(path, "an enum without symbols"));
                }
                let (name, _) = own_name(object, namespace, path)?;
                self.named.insert(name, Named::Enum(symbols.clone()));
                Ok(Slot { kind: Kind::Enum(symbols), null_branch: None, depth: 0, size: 1 })
            }
            "array" | "map" => {
                let key = if type_name == "array" { "items" } else { "values" };
                let Some(inner) = object.get(key) else {
                    return Err(unsupported(path, format!("{type_name} without {key}")));
                };
                let Slot { kind, null_branch, depth, size } = self.slot(inner, namespace, path, above + 1)?;
                let item = Box::new(Item { kind, nullable: null_branch.is_some(), null_branch });
                let kind = if type_name == "array" { Kind::Array(item) } else { Kind::Map(item) };
                Ok(Slot { kind, null_branch: None, depth: depth + 1, size: size + 1 })
            }
            _ => {
                let slot = self.by_name(type_name, namespace, path)?;
                match object.get("logicalType").and_then(Json::as_str) {
                    Some(logical) => Ok(Slot { kind: with_logical_type(slot.kind, logical, object, path)?, ..slot }),
                    None => Ok(slot),
                }
            }
        }
    }

    fn new_record(
        &mut self,
        object: &Map<String, Json>,
        namespace: Option<&str>,
        path: &str,
        above: usize,
    ) -> Result<Slot, SchemaError> {
        let (name, own_namespace) = own_name(object, namespace, path)?;
        let path = if path == "schema" { name.as_str() } else { path };
        if self.named.insert(name.clone(), Named::Open).is_some() {
            return Err(unsupported(path, format!("{name} is defined twice")));
        }
        let Some(Json::Array(field_jsons)) = object.get("fields") else {
            return Err(unsupported(path, "a record without a list of fields"));
        };
        if field_jsons.is_empty() {
            return Err(unsupported(path, "a record with no fields"));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(field_jsons.len());
        let (mut depth, mut size) = (0, 1);
        for json in field_jsons {
            let (field, field_depth, field_size) = self.field(json, own_namespace.as_deref(), path, above)?;
            if fields.iter().any(|other| other.name == field.name) {
                return Err(unsupported(&format!("{path}.{}", field.name), "defined twice"));
            }
            depth = depth.max(field_depth);
            size += field_size;
            if size > MAX_SIZE {
                return Err(unsupported(
                    path,
                    format!("has more than {MAX_SIZE} fields, those of its records included"),
                ));
            }
            fields.push(field);
        }
        let record = Arc::new(Record { name: name.clone(), doc: text(object.get("doc")), fields });
        self.named.insert(name, Named::Record(Arc::clone(&record), depth + 1, size));
        Ok(Slot { kind: Kind::Record(record), null_branch: None, depth: depth + 1, size })
    }

    fn field(
        &mut self,
        json: &Json,
        namespace: Option<&str>,
        path: &str,
        above: usize,
    ) -> Result<(Field, usize, usize), SchemaError> {
        let Some(name) = json.get("name").and_then(Json::as_str) else {
            return Err(unsupported(path, "a field without a name"));
        };
        let path = format!("{path}.{name}");
        let Some(type_json) = json.get("type") else { return Err(unsupported(&path, "no type")) };
        let Slot { kind, null_branch, depth, size } = self.slot(type_json, namespace, &path, above + 1)?;
        let mut field = Field {
            name: name.to_owned(),
            doc: text(json.get("doc")),
            aliases: strings(json.get("aliases")),
            kind,
            nullable: null_branch.is_some(),
            default: json.get("default").cloned(),
            null_branch,
            default_avro: None,
            name_seed: hash::seed_of(name),
            default_digest: None,
        };
        if let Some(default) = &field.default {
            let avro = encode::default(default, &field.kind, field.null_branch)
                .map_err(|problem| unsupported(&path, format!("the default is wrong: {problem}")))?;
            if avro.len() > MAX_DEFAULT {
                return Err(unsupported(&path, format!("the default takes more than {MAX_DEFAULT} bytes")));
            }
            let digest = hash::digest_of(&avro, &field)
                .map_err(|malformed| unsupported(&path, format!("the default is wrong: {malformed}")))?;
            field.default_avro = Some(avro.into_boxed_slice());
            field.default_digest = Some(digest);
        }
        Ok((field, depth, size))
    }
}

fn with_logical_type(base: Kind, logical: &str, object: &Map<String, Json>, path: &str) -> Result<Kind, SchemaError> {
    Ok(match (base, logical) {
        (Kind::String, "uuid") => Kind::Uuid,
        (Kind::String, "json") => Kind::Json,
        (Kind::Int, "date") => Kind::Date,
        (Kind::Long, "timestamp-millis") => Kind::TimestampMillis,
        (Kind::Long, "timestamp-micros") => Kind::TimestampMicros,
        (Kind::Long, "local-timestamp-millis") => Kind::LocalTimestampMillis,
        (Kind::Long, "local-timestamp-micros") => Kind::LocalTimestampMicros,
        (Kind::Bytes, "decimal") => {
            let number = |key| object.get(key).and_then(Json::as_u64).and_then(|n| u32::try_from(n).ok());
            let (precision, scale) = (number("precision").unwrap_or(0), number("scale").unwrap_or(0));
            if precision == 0 || precision > 38 || scale > precision {
                return Err(unsupported(path, "a decimal has a precision of 1 to 38 and a scale not above it"));
            }
            Kind::Decimal { precision, scale }
        }
        (base, _) => return Err(unsupported(path, format!("logical type {logical} on {base} isn't accepted"))),
    })
}

fn own_name(
    object: &Map<String, Json>,
    enclosing: Option<&str>,
    path: &str,
) -> Result<(String, Option<String>), SchemaError> {
    let Some(name) = object.get("name").and_then(Json::as_str) else {
        return Err(unsupported(path, "a record or enum without a name"));
    };
    let namespace = object.get("namespace").and_then(Json::as_str).or(enclosing);
    let full = full_name(name, namespace);
    let own_namespace = full.rsplit_once('.').map(|(namespace, _)| namespace.to_owned());
    Ok((full, own_namespace))
}

fn full_name(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !name.contains('.') && !namespace.is_empty() => format!("{namespace}.{name}"),
        _ => name.to_owned(),
    }
}

fn strings(json: Option<&Json>) -> Vec<String> {
    let items = json.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
}

fn text(json: Option<&Json>) -> String {
    json.and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn unsupported(path: &str, what: impl Into<String>) -> SchemaError {
    SchemaError::Unsupported { path: path.to_owned(), what: what.into() }
}
