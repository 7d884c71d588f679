//! Messages of topics, schemas of the registry, and records that people edited.

use std::sync::Arc;

use schemas::records::{ats, register};
use schemas::{Entity, Reader, Schema, catalogue, content_hash, from_avro, from_json, to_avro, to_json};
use serde_json::Value as Json;

use crate::choose;

/// Reads a body into the record's struct and writes it again; `None`: it can't be read.
type Rewrite = fn(&Schema, &[u8]) -> Option<Vec<u8>>;

const ENTITIES: &[(&str, Rewrite)] = &[
    (ats::Staff::TOPIC, rewrite::<ats::Staff>),
    (ats::HealthAuthority::TOPIC, rewrite::<ats::HealthAuthority>),
    (ats::Reason::TOPIC, rewrite::<ats::Reason>),
    (ats::Milestone::TOPIC, rewrite::<ats::Milestone>),
    (ats::Applicant::TOPIC, rewrite::<ats::Applicant>),
    (register::User::TOPIC, rewrite::<register::User>),
    (register::HealthAuthority::TOPIC, rewrite::<register::HealthAuthority>),
    (register::Reason::TOPIC, rewrite::<register::Reason>),
    (register::Status::TOPIC, rewrite::<register::Status>),
    (register::Applicant::TOPIC, rewrite::<register::Applicant>),
    (register::Milestone::TOPIC, rewrite::<register::Milestone>),
];

fn rewrite<T: Entity>(schema: &Schema, body: &[u8]) -> Option<Vec<u8>> {
    let record: T = from_avro(schema, body).ok()?;
    let mut again = Vec::new();
    to_avro(schema, &record, &mut again).expect("a record that was read can be written");
    Some(again)
}

/// A message of one of the topics, frame and body. All ways of reading it agree on whether it can be read, and what can
/// be read is the same after it was written again.
pub fn avro(data: &[u8]) {
    let Some(((topic, rewrite), message)) = choose(ENTITIES, data) else { return };
    let Ok((_, body)) = schemas::unframe(message) else { return };
    let entity = catalogue().entity(topic).expect("every record has a topic");
    let schema = &entity.schema;
    let readable = schemas::check(schema, body).is_ok();
    assert_eq!(readable, schemas::values(schema, body).is_ok(), "values and check must agree");
    assert_eq!(readable, to_json(schema, body).is_ok(), "JSON and check must agree");
    assert_eq!(readable, content_hash(schema, body).is_ok(), "the hash and check must agree");
    let rewritten = rewrite(schema, body);
    assert_eq!(readable, rewritten.is_some(), "the struct and check must agree");
    let Some(rewritten) = rewritten else { return };
    let hash = content_hash(schema, body).expect("it was readable");
    assert_eq!(content_hash(schema, &rewritten), Ok(hash), "reading and writing changed the record");
    shown_and_written_again(schema, body);
}

fn shown_and_written_again(schema: &Schema, body: &[u8]) {
    let Ok(json) = to_json(schema, body) else { return };
    let again = from_json(schema, &json).expect("what is shown can be written");
    assert_eq!(content_hash(schema, body), content_hash(schema, &again), "showing and writing changed the record");
}

/// A schema as a registry may give it, a zero byte, and a body written under it: read as it is, and as our own record.
pub fn schema(data: &[u8]) {
    let Some(((topic, _), rest)) = choose(ENTITIES, data) else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(str::from_utf8) else { return };
    let Ok(writer) = Schema::parse(text) else { return };
    let body = parts.next().unwrap_or_default();
    let readable = schemas::check(&writer, body).is_ok();
    assert_eq!(readable, schemas::values(&writer, body).is_ok(), "values and check must agree");
    if readable {
        shown_and_written_again(&writer, body);
    }
    let ours = &catalogue().entity(topic).expect("every record has a topic").schema;
    if let Ok(reader) = Reader::new(Arc::new(writer), Arc::clone(ours)) {
        assert!(reader.read(body).is_err() || readable, "a reader takes what the writer's schema doesn't");
    }
}

/// A record as somebody edited it, for `dead-letters replay --with`: written, or told what is wrong without quoting it.
pub fn replay(data: &[u8]) {
    let Some(((topic, _), rest)) = choose(ENTITIES, data) else { return };
    let Ok(edited) = serde_json::from_slice::<Json>(rest) else { return };
    let schema = &catalogue().entity(topic).expect("every record has a topic").schema;
    match from_json(schema, &edited) {
        Ok(body) => {
            schemas::check(schema, &body).expect("what was written can be read");
            shown_and_written_again(schema, &body);
        }
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
    }
}
