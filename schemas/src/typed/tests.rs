#![allow(clippy::unwrap_used, reason = "tests")]

use serde::Deserialize;

use super::*;
use crate::{Date, Timestamp, decode::tests::NURSE};

fn schema() -> Schema {
    let photo = r#"{"name": "photo", "type": "bytes", "default": "\u00ff"},"#;
    Schema::parse(&NURSE.replace(photo, "")).unwrap()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct School {
    school: String,
    year: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nurse {
    id: String,
    name: Option<String>,
    badge: i32,
    steps: Option<i64>,
    temperature: f64,
    on_duty: bool,
    hired: Option<Date>,
    seen: Option<Timestamp>,
    grade: String,
    wards: Vec<Option<String>>,
    phones: std::collections::BTreeMap<String, String>,
    educations: Vec<School>,
}

fn mei() -> Nurse {
    Nurse {
        id: "0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62".into(),
        name: Some("Mei Lindqvist".into()),
        badge: 7,
        steps: None,
        temperature: 36.6,
        on_duty: true,
        hired: Some(Date(19388)),
        seen: None,
        grade: "B".into(),
        wards: vec![Some("3b".into()), None],
        phones: [("home".into(), "555".into())].into(),
        educations: vec![School { school: "Lund".into(), year: 2001 }],
    }
}

#[test]
fn a_struct_comes_back() {
    let schema = schema();
    let mut out = b"header".to_vec();
    to_avro(&schema, &mei(), &mut out).unwrap();
    assert_eq!(from_avro::<Nurse>(&schema, &out[6..]).unwrap(), mei());
}

#[test]
fn a_value_out_of_range_is_refused_and_nothing_is_written() {
    let schema = schema();
    let mut out = b"header".to_vec();
    let wrong = Nurse { id: "seven".into(), ..mei() };
    let refused = to_avro(&schema, &wrong, &mut out).unwrap_err().to_string();
    assert_eq!(refused, "can't be written as test.nurse: id: not a uuid (at byte 0)");
    assert_eq!(out, b"header");
}

#[test]
fn a_struct_that_does_not_fit_is_refused_without_its_values() {
    let schema = schema();
    let refused = to_avro(&schema, &School { school: "Lund".into(), year: 2001 }, &mut Vec::new()).unwrap_err();
    assert!(matches!(refused, EncodeError::Mismatch { .. }) && !refused.to_string().contains("Lund"), "{refused}");

    let mut body = Vec::new();
    to_avro(&schema, &mei(), &mut body).unwrap();
    let refused = from_avro::<School>(&schema, &body).unwrap_err().to_string();
    assert_eq!(refused, "follows test.nurse but doesn't fit its struct: missing field school (at byte 0)");
    assert_eq!(without_values(r#"invalid type: string "Mei", expected i32"#), "invalid type: string");
}
