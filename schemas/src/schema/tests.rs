#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn refused(fields: &str) -> String {
    let text = format!(r#"{{"type": "record", "name": "nurse", "namespace": "test", "fields": [{fields}]}}"#);
    Schema::parse(&text).unwrap_err().to_string()
}

#[test]
fn a_schema_knows_its_fields() {
    let schema = Schema::parse(
        r#"{"type": "record", "name": "nurse", "namespace": "test", "doc": "a \"nurse\"", "fields": [
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}, "doc": "made up"},
            {"name": "hired", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
            {"name": "wards", "type": {"type": "array", "items": ["string", "null"]}, "default": []},
            {"name": "home", "type": {"type": "record", "name": "address", "fields": [{"name": "city", "type": "string"}]}},
            {"name": "work", "type": ["null", "address"]}
        ]}"#,
    )
    .unwrap();
    assert_eq!(schema.name(), "test.nurse");
    let kinds: Vec<String> = schema.fields().iter().map(|field| field.kind.to_string()).collect();
    assert_eq!(kinds, ["uuid", "date", "array of string", "test.address", "test.address"]);
    let (at, hired) = schema.field("hired").unwrap();
    assert!(at == 1 && hired.nullable && hired.default == Some(serde_json::Value::Null));
    assert!(schema.text().contains(r#""doc":"a \"nurse\"","fields":[{"name":"id","#));
    assert!(!schema.canonical().contains("doc"));
    assert_eq!(Schema::parse(schema.text()).unwrap().text(), schema.text());
}

#[test]
fn ids_without_a_registry_are_stable_and_fit_a_signed_int() {
    let with_doc = r#"{"type":"record","name":"a","doc":"x","fields":[{"name":"b","type":"int"}]}"#;
    let without = r#"{"name":"a","type":"record","fields":[{"type":"int","name":"b"}]}"#;
    let id = Schema::parse(with_doc).unwrap().id_without_registry();
    assert_eq!(id, Schema::parse(without).unwrap().id_without_registry());
    assert!(id.0 > 0 && i32::try_from(id.0).is_ok());
    // Stored messages carry it: it must never change.
    assert_eq!(id, SchemaId(163_759_417));
}

/// The library panics at them. Other names may have any value.
#[test]
fn attributes_with_avros_own_names_must_have_their_shape() {
    for odd in [
        r#""symbols": 0"#,
        r#""items": [null]"#,
        r#""size": 1.5"#,
        r#""precision": "wide""#,
        r#""values": {"type": 7}"#,
    ] {
        let said = refused(&format!(r#"{{"name": "a", "type": "int", {odd}}}"#));
        assert!(said.contains("the name of one of Avro's own"), "{odd}: {said}");
    }
    let text =
        r#"{"type": "record", "name": "nurse", "fields": [{"name": "a", "type": "int", "source": 7, "size": "3"}]}"#;
    Schema::parse(text).unwrap();
}

#[test]
fn what_is_not_accepted_is_named() {
    let cases = [
        (
            r#"{"name": "a", "type": ["null", "int", "string"]}"#,
            "test.nurse.a: a union of 3 branches; only null and one type are accepted",
        ),
        (r#"{"name": "a", "type": "nurse"}"#, "test.nurse.a: nurse contains itself"),
        (r#"{"name": "a", "type": {"type": "array", "items": "null"}}"#, "test.nurse.a: type null isn't accepted"),
        (
            r#"{"name": "a", "type": {"type": "record", "name": "e", "fields": []}}"#,
            "test.nurse.a: a record with no fields",
        ),
        (
            r#"{"name": "a", "type": "int", "default": "x"}"#,
            "test.nurse.a: the default is wrong: expected a whole number of 32 bits",
        ),
        (r#"{"name": "a", "type": "int"}, {"name": "a", "type": "int"}"#, "test.nurse.a: defined twice"),
        (r#"{"name": "a", "type": "nirse"}"#, "test.nurse.a: unknown type nirse"),
        ("", "test.nurse: a record with no fields"),
    ];
    for (fields, expected) in cases {
        assert_eq!(refused(fields), expected);
    }
    assert_eq!(Schema::parse(r#""int""#).unwrap_err().to_string(), "schema: is a int, where a record is expected");
}

#[test]
fn depth_is_bounded_also_through_names() {
    let mut fields = vec![
        r#"{"name": "f0", "type": {"type": "record", "name": "r0", "fields": [{"name": "x", "type": "int"}]}}"#
            .to_owned(),
    ];
    for n in 1..80 {
        let inner = n - 1;
        fields.push(format!(r#"{{"name": "f{n}", "type": {{"type": "record", "name": "r{n}", "fields": [{{"name": "x", "type": "r{inner}"}}]}}}}"#));
    }
    assert!(refused(&fields.join(",")).ends_with("nested deeper than 64"));
}

#[test]
fn a_small_schema_that_stands_for_a_huge_one_is_refused() {
    let leaf = r#"{"name": "a", "type": {"type": "record", "name": "r0", "fields": [{"name": "x", "type": "int", "default": 0}]}}"#;
    let mut fields = vec![leaf.to_owned()];
    for n in 1..40 {
        let inner = n - 1;
        fields.push(format!(
            r#"{{"name": "f{n}", "type": {{"type": "record", "name": "r{n}", "fields": [
                {{"name": "x", "type": "r{inner}", "default": {{}}}}, {{"name": "y", "type": "r{inner}", "default": {{}}}}]}}}}"#
        ));
    }
    assert!(refused(&fields.join(",")).ends_with("has more than 20000 fields, those of its records included"));
}
