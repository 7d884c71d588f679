//! The records of the contract as Rust structs. Fields mean what the `doc` of the schemas in `avro/` says.
//!
//! Records with personal data print their key only: they may stand in a log line by mistake.

pub mod ats;
pub mod register;

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::key::Key;

/// A record that is the value of an entity topic.
pub trait Entity: Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The topic, as in the catalogue.
    const TOPIC: &'static str;

    /// The record's key: the catalogue's key fields.
    fn key(&self) -> Key;
}

/// Prints the key alone, as in `Applicant(d6099581-…)`.
fn debug_key(f: &mut fmt::Formatter<'_>, name: &str, key: &str) -> fmt::Result {
    write!(f, "{name}({key})")
}

#[cfg(test)]
mod tests;
