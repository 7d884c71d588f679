//! Golden cases (`../golden/*.json`, invented people), the recorded feed, odd JSON and the bounds.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::path::Path;

use chrono_tz::America::Vancouver;
use proptest::prelude::*;
use schemas::records::ats::Applicant;
use schemas::{from_avro, to_json};
use serde_json::{Value, json};

use super::*;

fn applicants() -> Decoder {
    Decoder::new(AtsFeed::Applicants, Vancouver)
}

fn decode_all(feed: AtsFeed, body: &[u8]) -> Vec<Result<Change, Reject>> {
    let decoder = Decoder::new(feed, Vancouver);
    split::elements(body).unwrap().into_iter().map(|element| decoder.decode(element)).collect()
}

fn decode_one(value: &Value) -> Result<Change, Reject> {
    decode_all(AtsFeed::Applicants, json!([value]).to_string().as_bytes()).remove(0)
}

fn record(change: &Change) -> Applicant {
    let Change::Put { body, .. } = change else { panic!("a source of the ATS never deletes") };
    from_avro(applicants().schema, body).unwrap()
}

fn eve() -> Value {
    json!({
        "applicant_id": "44444444-4444-4444-8444-444444444444", "ats1_id": 7, "first_name": "Eve", "last_name": "Adams",
        "email_address": "eve@example.org", "phone_number": "", "countries_of_citizenship": [], "pr_status": "No status",
        "nursing_educations": [], "milestones": []
    })
}

fn shown(feed: AtsFeed, records: &[Result<Change, Reject>]) -> String {
    let schema = Decoder::new(feed, Vancouver).schema;
    let mut shown = String::new();
    for record in records {
        match record {
            Ok(Change::Put { key, body, time }) => {
                let time = time.map_or_else(|| "no time".to_owned(), |time| time.to_rfc3339());
                let json = serde_json::to_string_pretty(&to_json(schema, body).unwrap()).unwrap();
                writeln!(shown, "{key}, {time}\n{json}").unwrap();
            }
            Ok(Change::Delete { key, .. }) => writeln!(shown, "{key} deleted").unwrap(),
            Err(reject) => {
                let key = reject.key.as_ref().map_or("no key", Key::as_str);
                writeln!(shown, "rejected, {key}: {}", reject.reason).unwrap();
            }
        }
    }
    shown
}

fn golden(feed: AtsFeed, name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/ats/golden/{name}.json"));
    shown(feed, &decode_all(feed, &std::fs::read(file).unwrap()))
}

#[test]
fn golden_cases() {
    insta::with_settings!({ snapshot_path => "../golden", prepend_module_to_snapshot => false, omit_expression => true }, {
        for (feed, name) in [
            (AtsFeed::Staff, "staff"),
            (AtsFeed::HealthAuthorities, "health_authorities"),
            (AtsFeed::Reasons, "reasons"),
            (AtsFeed::Milestones, "milestones"),
            (AtsFeed::Applicants, "applicants"),
            (AtsFeed::Applicants, "older_rows"),
            (AtsFeed::Applicants, "wrong_applicants"),
        ] {
            insta::assert_snapshot!(name, golden(feed, name));
        }
    });
}

#[test]
fn one_object_in_the_place_of_a_list_of_staff_is_its_id_and_its_name() {
    // The original stored the whole object as the name.
    let mut row = eve();
    row["assigned_to"] = json!({"id": "ABC", "name": "Riya Recruiter"});
    let assigned = record(&decode_one(&row).unwrap()).assigned_to.unwrap();
    assert_eq!(assigned.len(), 1);
    assert_eq!((assigned[0].id.as_str(), assigned[0].name.as_deref()), ("abc", Some("Riya Recruiter")));
}

#[test]
fn blank_dates_and_notes_are_none() {
    let mut row = eve();
    for field in ["registration_date", "updated_date", "notes"] {
        row[field] = json!(" ");
    }
    row["milestones"] = json!([{"id": "wages", "start_date": "", "effective_date": " "}]);
    let applicant = record(&decode_one(&row).unwrap());
    assert_eq!((applicant.registration_date, applicant.updated_date, applicant.notes), (None, None, None));
    assert_eq!((applicant.milestones[0].start_date, applicant.milestones[0].effective_date), (None, None));
}

#[test]
fn reasons_never_quote_the_record() {
    assert!(!golden(AtsFeed::Applicants, "wrong_applicants").contains("Secret"));
}

#[test]
fn every_applicant_of_the_recorded_feed_is_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recorded/ats/applicants.json");
    let body = std::fs::read(file).unwrap();
    let feed: Vec<Value> = serde_json::from_slice(&body).unwrap();
    let decoded = decode_all(AtsFeed::Applicants, &body);
    assert_eq!(decoded.len(), feed.len());
    for (change, row) in decoded.iter().zip(&feed) {
        let change = change.as_ref().unwrap();
        let applicant = record(change);
        assert_eq!(applicant.applicant_id, row["applicant_id"].as_str().unwrap().to_lowercase());
        assert_eq!(applicant.ats1_id, row["ats1_id"].as_i64().unwrap());
        assert_eq!(applicant.milestones.len(), row["milestones"].as_array().unwrap().len());
        assert_eq!(applicant.nursing_educations.len(), row["nursing_educations"].as_array().unwrap().len());
        assert!(change.time().is_some());
        for (milestone, row) in applicant.milestones.iter().zip(row["milestones"].as_array().unwrap()) {
            let day = milestone.start_date.map(|date| date.date().to_string());
            assert_eq!(day.as_deref(), row["start_date"].as_str().map(|date| &date[..10]));
        }
    }
}

#[test]
fn bounds_cost_one_applicant() {
    let reason = |change: (&str, Value)| {
        let mut row = eve();
        row[change.0] = change.1;
        let reject = decode_one(&row).unwrap_err();
        assert_eq!(reject.key.unwrap().as_str(), "44444444-4444-4444-8444-444444444444");
        assert!(reject.raw.len() <= MAX_RECORD);
        reject.reason.to_string()
    };
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    assert_eq!(
        reason(("notes", deep)),
        "too_deep: the record: expected at most 32 objects and lists inside each other"
    );
    assert_eq!(reason(("more", json!("x".repeat(MAX_RECORD)))), "too_large: the record: expected at most 512 KiB");
    assert_eq!(reason(("notes", json!("x".repeat(300_000)))), "too_long: notes: expected at most 256 KiB of JSON");
    assert_eq!(
        reason(("last_name", json!("x".repeat(70_000)))),
        "too_long: last_name: expected at most 64 KiB of text"
    );
    let many = vec![json!({ "id": "a" }); 1_001];
    assert_eq!(reason(("milestones", json!(many))), "too_long: milestones: expected at most 1000 items");
}

#[test]
fn a_body_of_brackets_alone_is_survived() {
    let mut body = vec![b'['; 1_000_000];
    body.extend(vec![b']'; 1_000_000]);
    assert_eq!(decode_all(AtsFeed::Applicants, &body).len(), 1);
}

#[test]
fn text_that_is_not_utf8_costs_one_applicant() {
    let mut body = b"[".to_vec();
    body.extend(
        eve().to_string().replace("Adams", "Ad\u{1}ms").bytes().map(|byte| if byte == 1 { 0xff } else { byte }),
    );
    body.extend(format!(",{}]", eve()).bytes());
    let decoded = decode_all(AtsFeed::Applicants, &body);
    assert_eq!(decoded.iter().filter(|record| record.is_ok()).count(), 1);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("id|name|start_date|year|[a-z]{1,3}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const FIELDS: [&str; 18] = [
    "applicant_id",
    "ats1_id",
    "first_name",
    "last_name",
    "email_address",
    "phone_number",
    "country_of_residence",
    "countries_of_citizenship",
    "pr_status",
    "assigned_to",
    "pathway_id",
    "registration_date",
    "created_date",
    "updated_date",
    "bccnm_license_number",
    "notes",
    "nursing_educations",
    "milestones",
];

proptest! {
    #[test]
    fn any_json_is_read_or_rejected(value in any_json()) {
        for feed in AtsFeed::ALL {
            let body = json!([value]).to_string();
            prop_assert_eq!(decode_all(feed, body.as_bytes()).len(), 1);
        }
    }

    #[test]
    fn any_value_in_any_field_is_read_or_rejected_with_its_key(field in prop::sample::select(&FIELDS[1..]), value in any_json()) {
        let mut row = eve();
        row[field] = value;
        match decode_one(&row) {
            Ok(change) => prop_assert_eq!(record(&change).applicant_id, "44444444-4444-4444-8444-444444444444"),
            Err(reject) => {
                prop_assert!(reject.key.is_some());
                prop_assert!(reject.reason.text.contains(field), "{}", reject.reason);
            }
        }
    }
}
