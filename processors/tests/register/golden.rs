//! The cases in `golden/`: `input.jsonl` (topic and value, or topic, key and null), `expected.jsonl` (the register's
//! rows, then what each processor counted).
//!
//! To write a case anew, delete its `expected.jsonl`, run the test, and read what it wrote.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use pipeline::processor::Payload;
use schemas::{Key, catalogue};
use serde_json::{Value as Json, json};

use crate::driver::{Record, Register, Report, straight_and_resumed};

#[test]
fn golden_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let cases: BTreeSet<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(cases.len() >= 6, "cases are missing");
    let wrong: Vec<String> = cases.iter().filter_map(|case| differs(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the case, if anything.
fn differs(case: &Path) -> Option<String> {
    let input = std::fs::read_to_string(case.join("input.jsonl")).unwrap();
    let records: Vec<Record> = input.lines().map(record).collect();
    let found = lines(&straight_and_resumed(&records));

    let expected = case.join("expected.jsonl");
    if !expected.exists() {
        std::fs::write(&expected, found.join("\n") + "\n").unwrap();
        return Some(format!("{} was missing and is now written: read it", expected.display()));
    }
    let wanted: Vec<Json> =
        std::fs::read_to_string(&expected).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<Json> = found.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let missing = wanted.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}"));
    let extra = found.iter().filter(|line| !wanted.contains(line)).map(|line| format!("+ {line}"));
    let difference: Vec<String> = missing.chain(extra).collect();
    let case = case.display();
    (!difference.is_empty()).then(|| format!("{case}:\n{}", difference.join("\n")))
}

fn record(line: &str) -> Record {
    let json: Json = serde_json::from_str(line).unwrap();
    let name = json["topic"].as_str().unwrap();
    let topic = catalogue().topics().iter().find(|topic| topic.name == name).unwrap();
    let entity = topic.entity().unwrap();
    match &json["value"] {
        Json::Null => Record { topic: &topic.name, key: Key::from(json["key"].as_str().unwrap()), payload: None },
        value => {
            let body =
                schemas::from_json(&entity.schema, value).unwrap_or_else(|problems| panic!("{line}: {problems:?}"));
            let key = entity.key_of(&body).unwrap();
            let payload = Payload { schema: Arc::clone(&entity.schema), body: body.into() };
            Record { topic: &topic.name, key, payload: Some(payload) }
        }
    }
}

fn lines(register: &Register) -> Vec<String> {
    let mut lines = Vec::new();
    for ((topic, key), body) in register.rows() {
        let value = schemas::to_json(&catalogue().entity(topic).unwrap().schema, body).unwrap();
        lines.push(json!({ "topic": topic, "key": key, "value": value }).to_string());
    }
    for (processor, report) in &register.reports {
        if *report != Report::default() {
            let Report { superseded, left_out, rejected } = report;
            let report =
                json!({ "processor": processor, "superseded": superseded, "left_out": left_out, "rejected": rejected });
            lines.push(report.to_string());
        }
    }
    lines
}
