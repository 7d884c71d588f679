#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{content_hash, from_json, to_json, value::Decimal};

pub(crate) const NURSE: &str = r#"{"type": "record", "name": "nurse", "namespace": "test", "fields": [
    {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "name", "type": ["string", "null"]},
    {"name": "badge", "type": "int", "default": 0},
    {"name": "steps", "type": ["null", "long"], "default": null},
    {"name": "temperature", "type": "double", "default": 36.6},
    {"name": "on_duty", "type": "boolean", "default": false},
    {"name": "hired", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
    {"name": "seen", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null},
    {"name": "pay", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": null},
    {"name": "photo", "type": "bytes", "default": "\u00ff"},
    {"name": "grade", "type": {"type": "enum", "name": "grade", "symbols": ["A", "B"]}, "default": "A"},
    {"name": "wards", "type": {"type": "array", "items": ["null", "string"]}, "default": []},
    {"name": "phones", "type": {"type": "map", "values": "string"}, "default": {}},
    {"name": "educations", "type": {"type": "array", "items": {"type": "record", "name": "education", "fields": [
        {"name": "school", "type": "string"}, {"name": "year", "type": "int", "default": 0}]}}, "default": []}
]}"#;

const ID: &str = "0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62";

fn nurse() -> (Schema, Vec<u8>) {
    let schema = Schema::parse(NURSE).unwrap();
    let body = from_json(
        &schema,
        &json!({"id": ID, "name": "Mei Lindqvist", "steps": -7, "hired": "2023-01-31", "seen": "2023-01-31T07:00:00.5Z",
            "pay": "-12.50", "photo": "00ff", "grade": "B", "wards": ["3b", null], "phones": {"home": "555"},
            "educations": [{"school": "Lund", "year": 2001}, {"school": "Oulu"}]}),
    )
    .unwrap();
    (schema, body)
}

fn decoded_elsewhere(schema: &Schema, mut body: &[u8]) -> Result<apache_avro::types::Value, apache_avro::Error> {
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema.avro()).build()?;
    reader.read_value(&mut body)
}

fn fault(schema: &str, body: &[u8]) -> String {
    let schema = Schema::parse(schema).unwrap();
    let fault = check(&schema, body).unwrap_err();
    assert_eq!(values(&schema, body).unwrap_err(), fault);
    assert_eq!(content_hash(&schema, body).unwrap_err(), fault);
    fault.to_string()
}

fn fault_of_type(type_json: &str, body: &[u8]) -> String {
    fault(&format!(r#"{{"type": "record", "name": "r", "fields": [{{"name": "f", "type": {type_json}}}]}}"#), body)
}

#[test]
fn values_are_borrowed_from_the_message() {
    let (schema, body) = nurse();
    check(&schema, &body).unwrap();
    let values = values(&schema, &body).unwrap();
    assert_eq!(values[..4], [Value::String(ID), Value::String("Mei Lindqvist"), Value::Int(0), Value::Long(-7)]);
    assert_eq!(values[6], Value::Date(19388));
    assert_eq!(values[7], Value::Timestamp { micros: 1_675_148_400_500_000 });
    assert_eq!(values[8], Value::Decimal(Decimal { unscaled: -1250, scale: 2 }));
    assert_eq!(values[9], Value::Bytes(&[0, 0xff]));
    assert_eq!(values[10], Value::String("B"));
    assert_eq!(values[11], Value::Array(vec![Value::String("3b"), Value::Null]));
    assert_eq!(values[12], Value::Map(vec![("home", Value::String("555"))]));
    let Value::Array(educations) = &values[13] else { panic!("not an array") };
    assert_eq!(educations[1], Value::Record(vec![Value::String("Oulu"), Value::Int(0)]));
}

#[test]
fn agrees_with_apache_avro() {
    let (schema, body) = nurse();
    let decoded = decoded_elsewhere(&schema, &body).unwrap();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(schema.avro()).build().unwrap();
    assert_eq!(writer.write_value_to_vec(decoded).unwrap(), body);
}

#[test]
fn a_fault_names_its_place() {
    let (schema, body) = nurse();
    let truncated = check(&schema, &body[..body.len() - 2]).unwrap_err();
    assert_eq!(truncated.path, "educations[1].year");
    let longer = [&body[..], b"x"].concat();
    assert_eq!(
        check(&schema, &longer).unwrap_err().to_string(),
        format!("1 bytes follow the last field (at byte {})", body.len())
    );
}

#[test]
fn lies_about_lengths_are_found_before_anything_is_read() {
    let cases: [(&str, &[u8], &str); 17] = [
        (r#""string""#, &[0xfe, 0xff, 0xff, 0xff, 0x0f], "f: claims 2147483647 bytes, 0 are left (at byte 0)"),
        (r#""string""#, &[0x01], "f: a negative length (at byte 0)"),
        (r#""string""#, &[4, 0xc3, 0x28], "f: not UTF-8 (at byte 0)"),
        (r#""long""#, &[0xff; 10], "f: a number longer than 64 bits (at byte 0)"),
        (r#""long""#, &[0x80], "f: ends inside a number (at byte 0)"),
        (r#""int""#, &[0x80, 0x80, 0x80, 0x80, 0x10], "f: a number outside the range of int (at byte 0)"),
        (r#""boolean""#, &[2], "f: a boolean that is neither 0 nor 1 (at byte 0)"),
        (r#""double""#, &[0; 7], "f: needs 8 bytes, 7 are left (at byte 0)"),
        (r#"["null", "int"]"#, &[4], "f: branch 2 of a union of 2 (at byte 0)"),
        (r#"{"type": "enum", "name": "e", "symbols": ["A"]}"#, &[1], "f: symbol -1 of an enum of 1 (at byte 0)"),
        (r#"{"type": "string", "logicalType": "uuid"}"#, &[2, b'x'], "f: not a uuid (at byte 0)"),
        (
            r#"{"type": "int", "logicalType": "date"}"#,
            &[0xfe, 0xff, 0xff, 0xff, 0x0f],
            "f: a date outside the years 1 to 9999 (at byte 0)",
        ),
        // A million items in five bytes.
        (
            r#"{"type": "array", "items": ["null", "int"]}"#,
            &[0x80, 0x89, 0x7a, 0, 0],
            "f: claims 1000000 items, 2 bytes are left (at byte 0)",
        ),
        (r#"{"type": "array", "items": "int"}"#, &[1, 0x7f, 0], "f: a negative length (at byte 1)"),
        (r#"{"type": "array", "items": "int"}"#, &[1, 4, 2, 0], "f: a block that claims to end at byte 4 (at byte 3)"),
        (r#"{"type": "map", "values": "int"}"#, &[2, 2, b'a', 0x80], "f[0]: ends inside a number (at byte 3)"),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0}"#,
            &[2, 100],
            "f: a decimal of more than 2 digits (at byte 0)",
        ),
    ];
    for (type_json, body, expected) in cases {
        assert_eq!(fault_of_type(type_json, body), expected);
    }
    // i64::MIN as a block count has no positive counterpart.
    let min = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
    assert!(fault_of_type(r#"{"type": "array", "items": "int"}"#, &min).contains("claims 9223372036854775808 items"));
}

#[test]
fn padded_decimals_are_read() {
    let schema = Schema::parse(
        r#"{"type": "record", "name": "r", "fields": [{"name": "f", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}}]}"#,
    )
    .unwrap();
    let mut body = vec![40];
    body.extend([0xff; 19]);
    body.push(0xfb);
    assert_eq!(values(&schema, &body).unwrap(), [Value::Decimal(Decimal { unscaled: -5, scale: 1 })]);
}

proptest! {
    /// Whatever one flips, cuts or adds: no panic, the walkers agree, and what passes is also read by apache-avro.
    #[test]
    fn damaged_messages_are_judged_alike(at in 0usize..200, byte: u8, cut in 0usize..200) {
        let (schema, mut body) = nurse();
        body.truncate(body.len() - cut.min(body.len()) / 8);
        let at = at % body.len();
        body[at] = byte;
        let verdict = check(&schema, &body);
        prop_assert_eq!(verdict.clone().err(), values(&schema, &body).err());
        prop_assert_eq!(verdict.clone().err(), content_hash(&schema, &body).err());
        prop_assert_eq!(verdict.clone().err(), to_json(&schema, &body).err());
        if verdict.is_ok() {
            prop_assert!(decoded_elsewhere(&schema, &body).is_ok());
        }
    }

    #[test]
    fn noise_never_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let schema = Schema::parse(NURSE).unwrap();
        let _ = check(&schema, &body);
        let _ = values(&schema, &body);
    }
}
