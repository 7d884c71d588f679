#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;
use crate::decode::tests::NURSE;

const ID: &str = "0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62";

#[test]
fn a_record_comes_back_as_it_was_edited() {
    let schema = Schema::parse(NURSE).unwrap();
    let given = json!({
        "id": ID, "name": null, "badge": 7, "steps": i64::MAX, "temperature": 37.5, "on_duty": true,
        "hired": "1912-06-23", "seen": "2023-01-31T07:00:00.123000Z", "pay": "-0.05", "photo": "00ff10", "grade": "B",
        "wards": [null, "3b"], "phones": {"home": "555"}, "educations": [{"school": "Lund", "year": 2001}]
    });
    let body = from_json(&schema, &given).unwrap();
    assert_eq!(to_json(&schema, &body).unwrap(), given);
}

#[test]
fn missing_fields_take_their_default() {
    let schema = Schema::parse(NURSE).unwrap();
    let body = from_json(&schema, &json!({"id": ID, "name": "Mei Lindqvist"})).unwrap();
    let shown = to_json(&schema, &body).unwrap();
    assert_eq!(shown["photo"], "ff");
    assert_eq!(shown["grade"], "A");
    assert_eq!(shown["hired"], Json::Null);
}

#[test]
fn all_problems_are_reported_at_once() {
    let schema = Schema::parse(NURSE).unwrap();
    let problems = from_json(
        &schema,
        &json!({"id": "7", "nmae": "x", "badge": 3_000_000_000_i64, "hired": "31.1.2023", "pay": "1.005",
            "photo": "+f", "grade": "C", "educations": [{"year": "2001"}]}),
    )
    .unwrap_err();
    let shown: Vec<String> = problems.iter().map(JsonProblem::to_string).collect();
    assert_eq!(
        shown,
        [
            "nmae: no such field (did you mean name?)",
            "id: expected a uuid such as 0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62",
            "name: expected text, or null, and the field is missing",
            "badge: expected a whole number of 32 bits",
            "hired: expected a date such as 2023-01-31, or null",
            "pay: expected a decimal as text, of up to 12 digits, 2 of them behind the point, or null",
            "photo: expected bytes as hexadecimal text",
            "grade: expected one of A, B",
            "educations[0].school: expected text, and the field is missing",
            "educations[0].year: expected a whole number of 32 bits",
        ]
    );
}

#[test]
fn numbers_without_a_json_form_are_text() {
    let schema =
        Schema::parse(r#"{"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}]}"#).unwrap();
    for text in ["NaN", "Infinity", "-Infinity"] {
        let body = from_json(&schema, &json!({"x": text})).unwrap();
        assert_eq!(to_json(&schema, &body).unwrap(), json!({"x": text}));
    }
}
