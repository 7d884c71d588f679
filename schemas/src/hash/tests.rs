#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::{decode::tests::NURSE, from_json};

const ID: &str = "0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62";

fn schema(fields: &str) -> Schema {
    Schema::parse(&format!(r#"{{"type": "record", "name": "r", "fields": [{fields}]}}"#)).unwrap()
}

fn hash(schema: &Schema, json: &Json) -> ContentHash {
    content_hash(schema, &from_json(schema, json).unwrap()).unwrap()
}

#[test]
fn how_it_was_written_does_not_count() {
    let a =
        schema(r#"{"name": "n", "type": ["null", "int"]}, {"name": "m", "type": {"type": "map", "values": "long"}}"#);
    let b =
        schema(r#"{"name": "m", "type": {"type": "map", "values": "int"}}, {"name": "n", "type": ["long", "null"]}"#);
    let hash_a = content_hash(&a, &[2, 10, 4, 2, b'x', 2, 2, b'y', 4, 0]).unwrap();
    // Other field order, branch order, width, map order, and one block per entry with its size.
    let hash_b = content_hash(&b, &[1, 6, 2, b'y', 4, 1, 6, 2, b'x', 2, 0, 0, 10]).unwrap();
    assert_eq!(hash_a, hash_b);
}

#[test]
fn null_zero_false_and_empty_differ() {
    let of = |type_json: &str, value: Json| {
        hash(&schema(&format!(r#"{{"name": "f", "type": {type_json}}}"#)), &json!({"f": value}))
    };
    let hashes = [
        of(r#"["null", "int"]"#, Json::Null),
        of(r#""int""#, json!(0)),
        of(r#""boolean""#, json!(false)),
        of(r#""double""#, json!(0.0)),
        of(r#""string""#, json!("")),
        of(r#"{"type": "array", "items": "int"}"#, json!([])),
        of(r#"{"type": "map", "values": "int"}"#, json!({})),
        of(r#"{"type": "array", "items": "int"}"#, json!([0])),
        of(r#"{"type": "array", "items": {"type": "array", "items": "int"}}"#, json!([[0]])),
    ];
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(hash), "{at}");
    }
}

#[test]
fn values_do_not_move_between_fields_or_items_unseen() {
    let two = schema(r#"{"name": "a", "type": "string"}, {"name": "b", "type": "string"}"#);
    assert_ne!(hash(&two, &json!({"a": "x", "b": "y"})), hash(&two, &json!({"a": "y", "b": "x"})));
    let list = schema(r#"{"name": "a", "type": {"type": "array", "items": "string"}}"#);
    assert_ne!(hash(&list, &json!({"a": ["x", "y"]})), hash(&list, &json!({"a": ["y", "x"]})));
    assert_ne!(hash(&list, &json!({"a": ["x", "y"]})), hash(&list, &json!({"a": ["xy"]})));
}

#[test]
fn hashes_are_read_back_and_never_change() {
    let stored = hash(&Schema::parse(NURSE).unwrap(), &json!({"id": ID, "name": "Mei Lindqvist", "wards": ["3b"]}));
    assert_eq!(stored.to_string(), "1-3d8a3fa95a1c92c4a73bac8269f5a453");
    assert_eq!(stored.to_string().parse(), Ok(stored));
    for wrong in ["", "1-", "2-00000000000000000000000000000000", "1-0000000000000000000000000000000G"] {
        assert_eq!(wrong.parse::<ContentHash>(), Err(ParseContentHashError));
    }
}

/// The nurse's schema with one more field in front, one more inside the educations, and one more behind.
fn grown() -> Schema {
    let text = NURSE
        .replacen(r#"{"name": "id""#, r#"{"name": "region", "type": "string", "default": "BC"}, {"name": "id""#, 1)
        .replacen(r#"{"name": "school""#, r#"{"name": "country", "type": ["null", "string"], "default": null}, {"name": "school""#, 1)
        .replacen(r#""default": []}
]}"#, r#""default": []}, {"name": "tags", "type": {"type": "map", "values": "int"}, "default": {"a": 1, "b": 2}}]}"#, 1);
    let grown = Schema::parse(&text).unwrap();
    assert_eq!(grown.fields().len(), Schema::parse(NURSE).unwrap().fields().len() + 2);
    grown
}

fn any_nurse() -> impl Strategy<Value = Json> {
    let text = "[a-z|é]{0,8}";
    let education = (text, 0i32..3).prop_map(|(school, year)| json!({"school": school, "year": year}));
    let scalars = (prop::option::of(text), -2i32..3, prop::option::of(any::<i64>()), any::<bool>(), -1000i32..1000);
    let nested = (
        prop::collection::vec(prop::option::of(text), 0..3),
        prop::collection::btree_map("[a-c]", text, 0..3),
        prop::collection::vec(education, 0..3),
    );
    (scalars, nested).prop_map(|((name, badge, steps, on_duty, half_degrees), (wards, phones, educations))| {
        json!({"id": ID, "name": name, "badge": badge, "steps": steps, "on_duty": on_duty,
            "temperature": f64::from(half_degrees) / 2.0, "wards": wards, "phones": phones, "educations": educations})
    })
}

proptest! {
    #[test]
    fn a_new_field_at_its_default_changes_no_hash(nurse in any_nurse()) {
        prop_assert_eq!(hash(&Schema::parse(NURSE).unwrap(), &nurse), hash(&grown(), &nurse));
    }

    #[test]
    fn hashes_are_equal_exactly_when_contents_are(one in any_nurse(), other in any_nurse()) {
        let schema = Schema::parse(NURSE).unwrap();
        prop_assert_eq!(one == other, hash(&schema, &one) == hash(&schema, &other));
    }

    #[test]
    fn any_one_changed_field_changes_the_hash(nurse in any_nurse(), other in any_nurse()) {
        let schema = Schema::parse(NURSE).unwrap();
        let before = hash(&schema, &nurse);
        for (name, value) in other.as_object().unwrap() {
            let mut edited = nurse.clone();
            edited[name] = value.clone();
            prop_assert_eq!(edited == nurse, hash(&schema, &edited) == before, "{}", name);
        }
    }
}
