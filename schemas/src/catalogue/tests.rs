#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{Kind, Record, compatibility};

#[test]
fn every_topic_of_entities_is_complete() {
    for topic in catalogue().topics() {
        let Some(entity) = topic.entity() else { continue };
        assert_eq!(entity.schema.name(), format!("muster.{}", topic.name));
        assert!((1..=entity.key_fields.len()).contains(&entity.group_fields), "{}", topic.name);
        for field in &entity.key_fields {
            assert!(entity.schema.field(field).is_some(), "{} {field}", topic.name);
        }
        every_field_is_documented(entity.schema.record());
    }
}

fn every_field_is_documented(record: &Record) {
    assert!(!record.doc.is_empty(), "{}", record.name);
    for field in &record.fields {
        let place = format!("{}.{}", record.name, field.name);
        assert!(field.doc.contains("Source: "), "{place} doesn't say where it comes from");
        assert!(
            !field.nullable || field.default == Some(serde_json::Value::Null),
            "{place} is nullable without default"
        );
        if let Kind::Array(item) = &field.kind
            && let Kind::Record(inner) = &item.kind
        {
            every_field_is_documented(inner);
        }
    }
}

#[test]
fn every_schema_has_its_topic() {
    let avro = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("avro");
    let mut files = Vec::new();
    for system in std::fs::read_dir(avro).unwrap().map(Result::unwrap) {
        for file in std::fs::read_dir(system.path()).unwrap().map(Result::unwrap) {
            let entity = file.path().file_stem().unwrap().to_string_lossy().into_owned();
            files.push(format!("{}.{entity}", system.file_name().to_string_lossy()));
        }
    }
    let mut topics: Vec<&str> = catalogue().names().filter(|name| !name.starts_with("muster.")).collect();
    files.sort();
    topics.sort_unstable();
    assert_eq!(files, topics);
}

#[test]
fn groups_and_their_derived_entities_share_partitions() {
    let of = |name: &str, profile| catalogue().topic(name).unwrap().partitions(profile);
    for profile in [Profile::Production, Profile::Embedded] {
        assert_eq!(of("ats.applicant", profile), of("register.applicant", profile));
        assert_eq!(of("ats.applicant", profile), of("register.milestone", profile));
        assert_eq!(of("ats.staff", profile), of("register.user", profile));
    }
    assert_eq!(of("ats.applicant", Profile::Production), 12);
    assert_eq!(of("ats.applicant", Profile::Embedded), 1);
    assert_eq!(of("ats.staff", Profile::Production), 1);
}

#[test]
fn the_key_is_read_from_the_body() {
    let milestone = catalogue().entity("register.milestone").unwrap();
    let released = compatibility::released().iter().find(|released| released.topic == "register.milestone").unwrap();
    let key = milestone.key_of(released.message).unwrap();
    let applicant = "7b0c1a52-3f57-4c0e-9a5e-2f1f6f0a9c11";
    assert_eq!(key.as_str(), format!("{applicant}|9066b792-6fbf-4e60-803f-0554e4b4dba9|2023-01-31"));
    assert_eq!(milestone.partition_key(&key), applicant);
}

#[test]
fn state_topics_are_known_but_hold_no_entities() {
    let tasks = catalogue().topic("muster.tasks").unwrap();
    assert!(tasks.entity().is_none());
    assert_eq!(tasks.kafka_config(Profile::Production)[1], ("delete.retention.ms", "7776000000".to_owned()));
    assert!(catalogue().topic("ats.aplicant").is_none());
}
