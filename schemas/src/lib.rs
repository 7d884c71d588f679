//! The contract with downstream teams: Avro schemas, topic catalogue, codecs and the registry client.
//!
//! A [`Schema`] is parsed once into a flat plan; everything that touches message bytes walks that plan: [`check`] and
//! [`values`] decode without trust, [`content_hash`] fingerprints, [`to_json`] and [`from_json`] serve people,
//! [`from_avro`] and [`to_avro`] serve Rust structs, [`raw`] those that know each column's type beforehand, [`Reader`]
//! resolves older and newer writers.

mod catalogue;
pub mod compatibility;
mod cursor;
mod decode;
mod encode;
mod hash;
mod json;
mod key;
mod malformed;
mod partition;
pub mod raw;
mod reader;
pub mod records;
mod registry;
mod schema;
mod time;
mod typed;
mod value;
pub mod wire;

pub use catalogue::{Catalogue, EntityTopic, Profile, TableTopic, Topic, TopicKind, catalogue};
pub use decode::{check, values};
pub use hash::{ContentHash, ParseContentHashError, content_hash};
pub use json::{JsonProblem, from_json, to_json};
pub use key::Key;
pub use malformed::Malformed;
pub use partition::partition_of;
pub use reader::Reader;
pub use records::Entity;
pub use registry::{Registry, RegistryAuth, RegistryConfig, RegistryError, Verdict};
pub use schema::{Field, Item, Kind, Record, Schema, SchemaError, SchemaId};
pub use time::{Date, LocalTimestamp, Timestamp};
pub use typed::{EncodeError, from_avro, to_avro};
pub use value::{Decimal, Value};
pub use wire::{frame, frame_into, unframe};
