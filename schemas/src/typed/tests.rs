#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::{fault::without_values, *};
use crate::{Date, LocalTimestamp, Timestamp, check, decode::tests::NURSE, from_json, to_json};

mod records;

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
    phones: BTreeMap<String, String>,
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

fn one_field(type_json: &str) -> Schema {
    Schema::parse(&format!(r#"{{"type": "record", "name": "r", "fields": [{{"name": "f", "type": {type_json}}}]}}"#))
        .unwrap()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct One<T> {
    f: T,
}

fn written<T: Serialize>(schema: &Schema, f: T) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    to_avro(schema, &One { f }, &mut body).map_err(|e| e.to_string())?;
    check(schema, &body).unwrap();
    Ok(body)
}

fn there_and_back<T>(type_json: &str, value: T)
where
    T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug,
{
    let schema = one_field(type_json);
    let one = One { f: value };
    let mut body = Vec::new();
    to_avro(&schema, &one, &mut body).unwrap();
    check(&schema, &body).unwrap();
    assert_eq!(from_avro::<One<T>>(&schema, &body).unwrap(), one);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Grade {
    A,
    B,
}

#[test]
fn every_kind_comes_back() {
    const DECIMAL: &str = r#"{"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}"#;
    const GRADE: &str = r#"["null", {"type": "enum", "name": "g", "symbols": ["A", "B"]}]"#;
    there_and_back(r#""int""#, i32::MIN);
    there_and_back(r#""int""#, 7u8);
    there_and_back(r#""long""#, i64::MIN);
    there_and_back(r#""long""#, 7u64);
    there_and_back(r#""float""#, 0.1f32);
    there_and_back(r#""double""#, 36.6);
    there_and_back(r#"["string", "null"]"#, Some('x'));
    there_and_back(r#"["string", "null"]"#, None::<String>);
    there_and_back(DECIMAL, "-12.50".to_owned());
    there_and_back(DECIMAL, "0.05".to_owned());
    there_and_back(GRADE, Some(Grade::B));
    there_and_back(GRADE, Some("B".to_owned()));
    there_and_back(
        r#"{"type": "array", "items": {"type": "array", "items": "int"}}"#,
        vec![vec![1], vec![], vec![2, 3]],
    );
    there_and_back(r#"{"type": "array", "items": ["null", "int"]}"#, (Some(1), None::<i32>));
    // More than one byte of count.
    there_and_back(r#"{"type": "array", "items": "int"}"#, (0..1000).collect::<Vec<i32>>());
    there_and_back(
        r#"{"type": "map", "values": {"type": "map", "values": ["null", "boolean"]}}"#,
        HashMap::from([("day".to_owned(), BTreeMap::from([("on".to_owned(), Some(true)), ("off".to_owned(), None)]))]),
    );
}

#[test]
fn times_are_microseconds_whatever_the_schema_counts() {
    let seen = Timestamp(1_675_148_400_500_000);
    for unit in ["millis", "micros"] {
        there_and_back(&format!(r#"{{"type": "long", "logicalType": "timestamp-{unit}"}}"#), seen);
        there_and_back(
            &format!(r#"{{"type": "long", "logicalType": "local-timestamp-{unit}"}}"#),
            LocalTimestamp(seen.0),
        );
    }
    let millis = one_field(r#"{"type": "long", "logicalType": "timestamp-millis"}"#);
    let body = from_json(&millis, &json!({"f": "2023-01-31T07:00:00.5Z"})).unwrap();
    assert_eq!(from_avro::<One<Timestamp>>(&millis, &body).unwrap().f, seen);
    let refused = written(&millis, Timestamp(seen.0 + 1)).unwrap_err();
    assert_eq!(refused, "can't be written as r: f: finer than a millisecond (at byte 0)");
}

#[test]
fn text_and_bytes_can_be_borrowed() {
    #[derive(Deserialize)]
    struct Badge<'a> {
        id: &'a str,
        grade: &'a str,
        photo: &'a [u8],
    }
    let schema = Schema::parse(NURSE).unwrap();
    let json = json!({"id": mei().id, "name": null, "grade": "B", "photo": "00ff"});
    let body = from_json(&schema, &json).unwrap();
    let badge: Badge<'_> = from_avro(&schema, &body).unwrap();
    assert_eq!((badge.id, badge.grade, badge.photo), (mei().id.as_str(), "B", &[0, 0xff][..]));
    assert!(body.as_ptr_range().contains(&badge.id.as_ptr()));
}

#[test]
fn fields_come_in_any_order_and_take_their_defaults() {
    #[derive(Serialize)]
    struct Sparse {
        educations: Vec<School>,
        name: Option<&'static str>,
        id: String,
        badge: u16,
    }
    let educations = vec![School { school: "Lund".into(), year: 2001 }];
    let sparse = Sparse { educations, name: Some("Mei"), id: mei().id, badge: 7 };
    let mut out = b"header".to_vec();
    let schema = Schema::parse(NURSE).unwrap();
    to_avro(&schema, &sparse, &mut out).unwrap();
    let expected = json!({"id": mei().id, "name": "Mei", "badge": 7, "educations": [{"school": "Lund", "year": 2001}]});
    assert_eq!(out[6..], from_json(&schema, &expected).unwrap());
}

#[test]
fn json_and_maps_are_structs_too() {
    let schema = schema();
    let mut body = Vec::new();
    to_avro(&schema, &mei(), &mut body).unwrap();
    // An object of serde_json has its fields in the order of the alphabet.
    let json: serde_json::Value = from_avro(&schema, &body).unwrap();
    assert_eq!(
        (&json["name"], &json["wards"][1], &json["hired"]),
        (&json!("Mei Lindqvist"), &json!(null), &json!(19388))
    );
    let mut again = Vec::new();
    to_avro(&schema, &json, &mut again).unwrap();
    assert_eq!(again, body);

    let refused = to_avro(&schema, &BTreeMap::from([("Mei Lindqvist", 1)]), &mut again).unwrap_err().to_string();
    assert_eq!(refused, "can't be written as test.nurse: entry 0 isn't a field of test.nurse");
    assert_eq!(again, body);
}

#[test]
fn what_does_not_fit_is_named_with_its_path() {
    #[derive(Serialize)]
    struct Extra {
        f: i32,
        extra: i32,
    }
    let int = one_field(r#""int""#);
    let refused = to_avro(&int, &Extra { f: 1, extra: 2 }, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(refused, "can't be written as r: extra: no such field in r");
    assert_eq!(written(&int, "Mei").unwrap_err(), "can't be written as r: f: text, where the schema has int");
    assert_eq!(written(&int, ()).unwrap_err(), "can't be written as r: f: null, where the schema has int");
    let refused = written(&int, i64::MAX).unwrap_err();
    assert_eq!(refused, "can't be written as r: f: a number outside the range of int (at byte 0)");

    let ids = one_field(
        r#"{"type": "map", "values": {"type": "array", "items": {"type": "string", "logicalType": "uuid"}}}"#,
    );
    let refused = written(&ids, BTreeMap::from([("Mei", vec![mei().id, "seven".into()])])).unwrap_err();
    assert_eq!(refused, "can't be written as r: f[0][1]: not a uuid (at byte 43)");
    let refused = written(&ids, BTreeMap::from([(7, vec![mei().id])])).unwrap_err();
    assert_eq!(refused, "can't be written as r: f[0]: a whole number, where the schema has string");

    let pay = one_field(r#"{"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 2}"#);
    let refused = written(&pay, "10.00").unwrap_err();
    assert_eq!(refused, "can't be written as r: f: a decimal of more than 3 digits (at byte 0)");
    let refused = written(&pay, "1.005").unwrap_err();
    assert_eq!(refused, "can't be written as r: f: not a decimal with up to 2 digits behind the point (at byte 0)");

    let body = written(&ids, BTreeMap::from([("Mei", vec![mei().id])])).unwrap();
    let refused = from_avro::<One<BTreeMap<String, Vec<u8>>>>(&ids, &body).unwrap_err().to_string();
    assert_eq!(refused, "f[0][0]: follows r but doesn't fit its struct: invalid type: string (at byte 6)");
    let refused = from_avro::<One<One<Vec<String>>>>(&ids, &body).unwrap_err().to_string();
    assert_eq!(refused, "f: follows r but doesn't fit its struct: a map, where a struct is expected (at byte 0)");
}

#[test]
fn a_fault_in_the_bytes_is_the_one_the_check_finds() {
    let schema = schema();
    let mut body = Vec::new();
    to_avro(&schema, &mei(), &mut body).unwrap();
    for end in 0..body.len() {
        assert_eq!(from_avro::<Nurse>(&schema, &body[..end]).unwrap_err(), check(&schema, &body[..end]).unwrap_err());
    }
    body.push(0);
    assert_eq!(from_avro::<Nurse>(&schema, &body).unwrap_err(), check(&schema, &body).unwrap_err());
}

#[test]
fn a_type_that_stops_early_is_refused() {
    #[derive(Debug)]
    struct Careless;
    impl<'de> Deserialize<'de> for Careless {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Careless, D::Error> {
            Ok(Careless)
        }
    }
    /// Takes what it can get, as lenient types do.
    #[derive(Debug, PartialEq)]
    struct Lenient(Option<Vec<i64>>);
    impl<'de> Deserialize<'de> for Lenient {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Lenient, D::Error> {
            Ok(Lenient(Vec::deserialize(deserializer).ok()))
        }
    }
    let long = one_field(r#""long""#);
    let body = written(&long, 5).unwrap();
    let refused = from_avro::<One<Careless>>(&long, &body).unwrap_err().to_string();
    assert_eq!(refused, "f: follows r but doesn't fit its struct: isn't read to its end (at byte 0)");
    // A scalar was read whole, whatever its type makes of it.
    assert_eq!(from_avro::<One<Lenient>>(&long, &body).unwrap().f, Lenient(None));

    let longs = one_field(r#"{"type": "array", "items": "long"}"#);
    let refused = from_avro::<One<(i64,)>>(&longs, &written(&longs, [1, 2]).unwrap()).unwrap_err().to_string();
    assert_eq!(refused, "f: follows r but doesn't fit its struct: takes fewer items than there are (at byte 0)");
    let texts = one_field(r#"{"type": "array", "items": "string"}"#);
    let refused = from_avro::<One<Lenient>>(&texts, &written(&texts, ["Mei"]).unwrap()).unwrap_err().to_string();
    assert_eq!(refused, "f: follows r but doesn't fit its struct: isn't read to its end (at byte 0)");
}

#[test]
fn flattened_and_renamed_fields_are_found() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Person {
        id: String,
        name: Option<String>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Employee {
        #[serde(rename = "badge")]
        number: i64,
        #[serde(flatten)]
        person: Person,
    }
    let schema = schema();
    let employee = Employee { number: 7, person: Person { id: mei().id, name: mei().name } };
    let mut body = Vec::new();
    to_avro(&schema, &employee, &mut body).unwrap();
    assert_eq!(from_avro::<Employee>(&schema, &body).unwrap(), employee);
    assert_eq!(to_json(&schema, &body).unwrap()["badge"], json!(7));
}
