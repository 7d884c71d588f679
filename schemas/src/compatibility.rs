//! Whether the current schemas still understand everything that was ever released, and the other way round
//! (FULL_TRANSITIVE). Works offline; a registry, where there is one, judges again.
//!
//! apache-avro's `schema_compatibility` is asked in both directions, and only its unconditional yes counts: for two
//! unions that merely share null it says "partial". Its yes is too kind in these cases, which have rules of their own
//! here: it compares names without namespace, takes every logical type for its base type (`timestamp-millis` for
//! `timestamp-micros`, `date` for `int`), lets enums with a default lose symbols, and doesn't look at defaults, whose
//! values the content hash leaves out.

use std::{collections::BTreeMap, fmt, sync::Arc};

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use crate::{
    catalogue::catalogue,
    reader::Reader,
    schema::{Kind, Record, Schema, SchemaError},
};

/// A released version of a topic's schema, with one message written under it.
#[derive(Debug)]
pub struct Released {
    /// The topic, as in `ats.applicant`.
    pub topic: &'static str,
    /// 1, 2, …
    pub version: u32,
    /// The schema as released.
    pub text: &'static str,
    /// The Avro body of a message, as it may still stand in a topic.
    pub message: &'static [u8],
    /// What the message says: `{"hash": "1-…", "record": {…}}`.
    pub meaning: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/released.rs"));

/// Why a current schema can't be used in the place of, or beside, a released one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// The topic.
    pub topic: String,
    /// The released version it was compared with; `None` when none has been released.
    pub version: Option<u32>,
    /// The field, as in `milestones[].start_date`; empty when it isn't about a field.
    pub path: String,
    /// What is wrong, and the way out where there is one.
    pub what: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)?;
        if let Some(version) = self.version {
            write!(f, " (against released version {version})")?;
        }
        let separator = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{separator}{}: {}", self.path, self.what)
    }
}

/// All released versions, oldest first for each topic.
pub fn released() -> &'static [Released] {
    RELEASED
}

/// Compares every current schema with every released version of it. Empty: all is well.
pub fn check_released() -> Vec<Incompatibility> {
    let mut found = Vec::new();
    for topic in catalogue().topics() {
        let Some(entity) = topic.entity() else { continue };
        let mut versions = RELEASED.iter().filter(|released| released.topic == topic.name).peekable();
        if versions.peek().is_none() {
            found.push(unreleased(&topic.name, None));
        }
        while let Some(released) = versions.next() {
            let problem = |(path, what)| Incompatibility {
                topic: topic.name.clone(),
                version: Some(released.version),
                path,
                what,
            };
            match Schema::parse(released.text) {
                Err(err) => found.push(problem((String::new(), err.to_string()))),
                Ok(schema) => {
                    let newest = versions.peek().is_none();
                    if newest && schema.text() != entity.schema.text() {
                        found.push(unreleased(&topic.name, Some(released.version)));
                    }
                    found.extend(compare(&Arc::new(schema), &entity.schema).into_iter().map(problem));
                }
            }
        }
    }
    found
}

fn unreleased(topic: &str, newest: Option<u32>) -> Incompatibility {
    let next = newest.unwrap_or(0) + 1;
    let path = topic.replace('.', "/");
    let what = format!(
        "the current schema isn't released: run `cargo run -p schemas --example release -- {topic} SAMPLE.json`, \
         which writes schemas/released/{path}/{next}.*"
    );
    Incompatibility { topic: topic.to_owned(), version: newest, path: String::new(), what }
}

/// What keeps two schemas from reading each other's messages: (field, fault). Empty: fully compatible.
pub fn compare(old: &Arc<Schema>, new: &Arc<Schema>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if old.name() != new.name() {
        found.push((String::new(), format!("{} was renamed to {}", old.name(), new.name())));
    }
    same_meaning(old.record(), new.record(), "", &mut found);
    for (direction, writer, reader) in [("older messages", old, new), ("newer messages", new, old)] {
        if let Err(err) = Reader::new(Arc::clone(writer), Arc::clone(reader)) {
            let (path, what) = match err {
                SchemaError::Unreadable { path, what } => (path, what),
                other => (String::new(), other.to_string()),
            };
            found.push((path, format!("{direction} can't be read: {what}")));
            continue;
        }
        let fault = match SchemaCompatibility::can_read(writer.avro(), reader.avro()) {
            Ok(Compatibility::Full) => continue,
            Ok(Compatibility::Partial) => "some couldn't be".to_owned(),
            Err(err) => err.to_string(),
        };
        // Once a rule of ours has named the field, the general verdict adds nothing.
        if found.is_empty() {
            found.push((String::new(), format!("{direction} can't all be read: {fault}")));
        }
    }
    found
}

/// The rules that apache-avro doesn't have: see the top of this file.
fn same_meaning(old: &Record, new: &Record, path: &str, found: &mut Vec<(String, String)>) {
    let new_fields: BTreeMap<&str, _> = new.fields.iter().map(|field| (field.name.as_str(), field)).collect();
    for before in &old.fields {
        let Some(after) = new_fields.get(before.name.as_str()) else { continue };
        let path = format!("{path}{}", before.name);
        if before.nullable != after.nullable {
            let (was, is) = if before.nullable { ("nullable", "required") } else { ("required", "nullable") };
            found.push((path.clone(), format!("was {was} and is {is}")));
        }
        if before.default.is_some() && before.default_digest != after.default_digest {
            found.push((path.clone(), "its default changed, and with it every content hash".to_owned()));
        }
        same_kind(&before.kind, &after.kind, &path, found);
    }
}

fn same_kind(old: &Kind, new: &Kind, path: &str, found: &mut Vec<(String, String)>) {
    match (old, new) {
        (Kind::Record(old), Kind::Record(new)) => same_meaning(old, new, &format!("{path}."), found),
        (Kind::Array(old), Kind::Array(new)) | (Kind::Map(old), Kind::Map(new)) => {
            if old.nullable != new.nullable {
                found.push((format!("{path}[]"), "its items may be null in one version only".to_owned()));
            }
            same_kind(&old.kind, &new.kind, &format!("{path}[]"), found);
        }
        (Kind::Enum(old), Kind::Enum(new)) => {
            let differs = old.iter().any(|symbol| !new.contains(symbol)) || old.len() != new.len();
            if differs {
                found
                    .push((path.to_owned(), "the symbols of its enum changed; code lists are strings here".to_owned()));
            }
        }
        (old, new) => {
            if old.to_string() != new.to_string() {
                found.push((path.to_owned(), format!("was {old} and is {new}")));
            }
        }
    }
}

#[cfg(test)]
mod tests;
