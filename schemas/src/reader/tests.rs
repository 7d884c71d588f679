#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;
use crate::{Value, from_json};

fn schema(fields: &str) -> Arc<Schema> {
    Arc::new(Schema::parse(&format!(r#"{{"type": "record", "name": "nurse", "fields": [{fields}]}}"#)).unwrap())
}

const OLD: &str = r#"{"name": "id", "type": "int"},
    {"name": "shoe_size", "type": ["null", "int"], "default": null},
    {"name": "family", "type": "string"},
    {"name": "schools", "type": {"type": "array", "items": {"type": "record", "name": "school", "fields": [
        {"name": "name", "type": "string"}, {"name": "year", "type": "int"}]}}}"#;

const NEW: &str = r#"{"name": "surname", "aliases": ["family"], "type": ["null", "string"], "default": null},
    {"name": "id", "type": "long"},
    {"name": "region", "type": "string", "default": "BC"},
    {"name": "schools", "type": {"type": "array", "items": {"type": "record", "name": "school", "fields": [
        {"name": "country", "type": "string", "default": "?"},
        {"name": "year", "type": ["null", "long"]}, {"name": "name", "type": "string"}]}}}"#;

#[test]
fn an_older_message_is_read_in_the_new_order() {
    let (old, new) = (schema(OLD), schema(NEW));
    let body = from_json(
        &old,
        &json!({"id": 7, "shoe_size": 38, "family": "Lindqvist", "schools": [{"name": "Lund", "year": 2001}]}),
    )
    .unwrap();
    let reader = Reader::new(Arc::clone(&old), new).unwrap();
    let school = Value::Record(vec![Value::String("?"), Value::Long(2001), Value::String("Lund")]);
    let expected = [Value::String("Lindqvist"), Value::Long(7), Value::String("BC"), Value::Array(vec![school])];
    assert_eq!(reader.read(&body).unwrap(), expected);
    let fault = reader.read(&body[..body.len() - 2]).unwrap_err();
    assert_eq!(fault.path, "schools[0].year");
}

#[test]
fn what_could_not_be_read_is_found_before_the_first_message() {
    let refused = |writer: &str, reader: &str| Reader::new(schema(writer), schema(reader)).unwrap_err().to_string();
    assert_eq!(refused(NEW, OLD), "id: a long can't be read as int");
    assert_eq!(
        refused(r#"{"name": "a", "type": "int"}"#, r#"{"name": "b", "type": "int"}"#),
        "b: isn't in the schema it was written with (nurse), and has no default"
    );
    assert_eq!(
        refused(
            r#"{"name": "s", "type": {"type": "record", "name": "x", "fields": [{"name": "y", "type": "string"}]}}"#,
            r#"{"name": "s", "type": {"type": "record", "name": "x", "fields": [{"name": "y", "type": "int"}]}}"#,
        ),
        "s.y: a string can't be read as int"
    );
}

#[test]
fn null_where_a_value_is_needed_is_a_fault_of_the_message() {
    let reader =
        Reader::new(schema(r#"{"name": "a", "type": ["null", "int"]}"#), schema(r#"{"name": "a", "type": "int"}"#));
    let reader = reader.unwrap();
    assert_eq!(reader.read(&[2, 14]).unwrap(), [Value::Int(7)]);
    assert_eq!(reader.read(&[0]).unwrap_err().to_string(), "a: null, where the reader needs a value (at byte 0)");
}

#[test]
fn numbers_text_and_symbols_are_converted() {
    let read = |writer: &str, reader: &str, body: &[u8]| {
        let field = |type_json: &str| schema(&format!(r#"{{"name": "f", "type": {type_json}}}"#));
        let reader = Reader::new(field(writer), field(reader)).unwrap();
        reader.read(body).map(|values| format!("{:?}", values[0])).map_err(|fault| fault.reason)
    };
    assert_eq!(read(r#""int""#, r#""double""#, &[14]).unwrap(), "Double(7.0)");
    assert_eq!(read(r#""bytes""#, r#""string""#, &[2, b'x']).unwrap(), "String(\"x\")");
    assert_eq!(read(r#""bytes""#, r#""string""#, &[2, 0xff]).unwrap_err(), "not UTF-8");
    let symbols = |list: &str| format!(r#"{{"type": "enum", "name": "e", "symbols": [{list}]}}"#);
    assert_eq!(read(&symbols(r#""A", "B""#), &symbols(r#""B""#), &[2]).unwrap(), "String(\"B\")");
    let unknown = read(&symbols(r#""A", "B""#), &symbols(r#""B""#), &[0]);
    assert_eq!(unknown.unwrap_err(), "a symbol the reader's enum doesn't have");
}
