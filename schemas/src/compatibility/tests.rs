#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{Value, content_hash, to_json};

#[test]
fn current_schemas_are_released_and_compatible() {
    let found: Vec<String> = check_released().iter().map(Incompatibility::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn released_messages_stay_readable() {
    for released in RELEASED {
        let place = format!("{} {}", released.topic, released.version);
        let meaning: serde_json::Value = serde_json::from_str(released.meaning).unwrap();
        let written = Arc::new(Schema::parse(released.text).unwrap());
        assert_eq!(to_json(&written, released.message).unwrap(), meaning["record"], "{place}");
        assert_eq!(content_hash(&written, released.message).unwrap().to_string(), meaning["hash"], "{place}");

        let current = &catalogue().entity(released.topic).unwrap().schema;
        let reader = Reader::new(Arc::clone(&written), Arc::clone(current)).unwrap();
        let values = reader.read(released.message).unwrap();
        assert_eq!(values.len(), current.fields().len(), "{place}");
        let hidden = |value: &&Value<'_>| matches!(value, Value::Null);
        assert!(values.iter().filter(hidden).count() < values.len(), "{place}: a sample without values proves little");
    }
}

#[test]
fn versions_are_numbered_without_gaps() {
    for topic in catalogue().topics().iter().filter(|topic| topic.entity().is_some()) {
        let versions: Vec<u32> = RELEASED.iter().filter(|r| r.topic == topic.name).map(|r| r.version).collect();
        let expected: Vec<u32> = (1..=u32::try_from(versions.len()).unwrap()).collect();
        assert_eq!(versions, expected, "{}", topic.name);
    }
    assert!(RELEASED.iter().all(|released| catalogue().entity(released.topic).is_some()));
}

fn compared(old: &str, new: &str) -> Vec<String> {
    let schema = |fields: &str| {
        let text = format!(r#"{{"type": "record", "name": "nurse", "namespace": "test", "fields": [{fields}]}}"#);
        Arc::new(Schema::parse(&text).unwrap())
    };
    compare(&schema(old), &schema(new)).into_iter().map(|(path, what)| format!("{path}: {what}")).collect()
}

#[test]
fn new_fields_with_a_default_are_fine_in_any_place() {
    let old = r#"{"name": "id", "type": "long"}, {"name": "schools", "type": {"type": "array", "items":
        {"type": "record", "name": "school", "fields": [{"name": "name", "type": "string"}]}}}"#;
    let new = r#"{"name": "region", "type": ["null", "string"], "default": null}, {"name": "id", "type": "long", "doc": "x"},
        {"name": "schools", "type": {"type": "array", "items": {"type": "record", "name": "school", "fields":
        [{"name": "name", "type": "string"}, {"name": "year", "type": "int", "default": 0}]}}}"#;
    assert_eq!(compared(old, new), [""; 0]);
    assert_eq!(compared(new, old), [""; 0]);
}

#[test]
fn what_one_side_could_not_read_is_named() {
    let field = |type_json: &str| format!(r#"{{"name": "f", "type": {type_json}}}"#);
    let changed = |old: &str, new: &str| compared(&field(old), &field(new));
    assert_eq!(
        compared(r#"{"name": "a", "type": "int"}"#, r#"{"name": "a", "type": "int"}, {"name": "b", "type": "int"}"#),
        ["b: older messages can't be read: isn't in the schema it was written with (test.nurse), and has no default"]
    );
    assert_eq!(
        changed(r#""int""#, r#""long""#),
        ["f: was int and is long", "f: newer messages can't be read: a long can't be read as int"]
    );
    assert_eq!(changed(r#""int""#, r#"["null", "int"]"#), ["f: was required and is nullable"]);
    assert_eq!(
        changed(r#"["null", "int"]"#, r#"["null", "string"]"#),
        [
            "f: was int and is string",
            "f: older messages can't be read: a int can't be read as string",
            "f: newer messages can't be read: a string can't be read as int"
        ]
    );
}

#[test]
fn what_apache_avro_lets_pass_is_found() {
    let field = |type_json: &str| format!(r#"{{"name": "f", "type": {type_json}}}"#);
    let changed = |old: &str, new: &str| compared(&field(old), &field(new));
    let logical = |base: &str, name: &str| format!(r#"{{"type": "{base}", "logicalType": "{name}"}}"#);
    assert_eq!(
        changed(&logical("long", "timestamp-millis"), &logical("long", "timestamp-micros")),
        ["f: was timestamp-millis and is timestamp-micros"]
    );
    assert_eq!(changed(&logical("int", "date"), r#""int""#)[0], "f: was date and is int");
    let symbols = |list: &str| format!(r#"{{"type": "enum", "name": "e", "symbols": [{list}], "default": "A"}}"#);
    assert_eq!(
        changed(&symbols(r#""A""#), &symbols(r#""A", "B""#)),
        ["f: the symbols of its enum changed; code lists are strings here"]
    );
    let with_default = |default: u8| format!(r#"{{"name": "f", "type": "int", "default": {default}}}"#);
    assert_eq!(
        compared(&with_default(0), &with_default(1)),
        ["f: its default changed, and with it every content hash"]
    );
    let renamed = |namespace: &str| {
        let text = format!(
            r#"{{"type": "record", "name": "nurse", "namespace": "{namespace}", "fields": [{{"name": "a", "type": "int"}}]}}"#
        );
        Arc::new(Schema::parse(&text).unwrap())
    };
    assert_eq!(
        compare(&renamed("ats"), &renamed("esr")),
        [(String::new(), "ats.nurse was renamed to esr.nurse".to_owned())]
    );
}
