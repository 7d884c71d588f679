//! What the invented applicants look like, and that they are the same everywhere.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, TimeZone};
use serde_json::{Value, json};
use simulators::ats::{Ats, AtsOptions};
use support::{few, ids};

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bytes = |seed| {
        let ats = Ats::generate(AtsOptions { seed, ..few(400) });
        ats.change_some(30);
        ats.add_applicant();
        let masters = ats.masters();
        let lists =
            json!([ats.applicants(), masters.staff, masters.health_authorities, masters.reasons, masters.milestones]);
        lists.to_string()
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn contradictions_are_those_that_were_planted() {
    let ats = Ats::generate(few(3_000));
    for _ in 0..3 {
        let planted = ats.planted();
        assert!((1..20).contains(&planted.repeated_ats1_ids.len()));
        assert!((1..20).contains(&planted.superseded_milestones.len()));
        let (ats1, milestones) = contradictions(&ats.applicants());
        assert_eq!(ats1, planted.repeated_ats1_ids.into_iter().map(sorted_pair).collect());
        assert_eq!(milestones, planted.superseded_milestones.into_iter().collect());
        // Whatever happens to the data, it stays so.
        ats.change_some(1_500);
        ats.add_applicant();
        ats.remove_applicant(&ids(&ats.applicants())[5]);
    }
    let tidy = Ats::generate(AtsOptions { oddities: false, ..few(3_000) });
    assert_eq!(contradictions(&tidy.applicants()), Default::default());
    assert_eq!(tidy.planted(), Default::default());
}

fn sorted_pair((one, other): (String, String)) -> (String, String) {
    if one < other { (one, other) } else { (other, one) }
}

type Pairs = BTreeSet<(String, String)>;

/// Applicants that share an `ats1_id`; applicant and status that are listed twice under one day.
fn contradictions(rows: &[Value]) -> (Pairs, Pairs) {
    let mut holders: BTreeMap<i64, String> = BTreeMap::new();
    let (mut ats1, mut milestones) = (Pairs::new(), Pairs::new());
    for (row, id) in rows.iter().zip(ids(rows)) {
        if let Some(holder) = holders.insert(row["ats1_id"].as_i64().unwrap(), id.clone()) {
            ats1.insert(sorted_pair((holder, id.clone())));
        }
        let mut seen = BTreeSet::new();
        for milestone in row["milestones"].as_array().unwrap() {
            let status = milestone["id"].as_str().unwrap().to_ascii_lowercase();
            let day = milestone["start_date"].as_str().map(|date| date[..10].to_owned());
            if !seen.insert((status.clone(), day)) {
                milestones.insert((id.clone(), status));
            }
        }
    }
    (ats1, milestones)
}

#[test]
fn shapes_and_shares_are_those_of_the_contract() {
    let ats = Ats::generate(few(4_000));
    let rows = ats.applicants();
    let per_cent = |count: usize, of: usize| count * 100 / of;
    let with = |test: &dyn Fn(&Value) -> bool| per_cent(rows.iter().filter(|row| test(row)).count(), rows.len());

    assert!((70..85).contains(&with(&|row| row["country_of_residence"].is_null())));
    assert!((65..80).contains(&with(&|row| row["assigned_to"].is_null())));
    assert!(rows.iter().any(|row| row["assigned_to"].is_object()));
    assert!(rows.iter().any(|row| row["assigned_to"][0]["id"].is_u64()));
    assert!(rows.iter().any(|row| row["countries_of_citizenship"].is_string()));
    assert!(rows.iter().all(|row| row["ats1_id"].is_i64()));
    let odd_case = |id: &str| id != id.to_ascii_lowercase();
    assert!((1..6).contains(&with(&|row| odd_case(row["applicant_id"].as_str().unwrap()))));
    let lengths: BTreeSet<usize> = rows.iter().map(|row| row["updated_date"].as_str().unwrap().len()).collect();
    assert_eq!(lengths, BTreeSet::from([19, 21, 22, 23]), "0 to 3 fraction digits");
    assert!(rows.iter().all(|row| !row["updated_date"].as_str().unwrap()[19..].ends_with('0')));

    let milestones: Vec<&Value> = rows.iter().flat_map(|row| row["milestones"].as_array().unwrap()).collect();
    assert!((350..600).contains(&(milestones.len() * 100 / rows.len())), "about 4.8 each");
    let undated = milestones.iter().filter(|milestone| milestone["start_date"].is_null()).count();
    assert!((12..18).contains(&per_cent(undated, milestones.len())));
    let masters = ats.masters();
    let listed: BTreeMap<String, &Value> =
        masters.milestones.iter().map(|row| (row["id"].as_str().unwrap().to_ascii_lowercase(), row)).collect();
    let kind = |milestone: &&&Value| listed.get(&milestone["id"].as_str().unwrap().to_ascii_lowercase());
    assert!(milestones.iter().any(|milestone| kind(&milestone).is_none()), "some are in no list");
    let recruitment =
        |milestone: &&&Value| kind(milestone).is_some_and(|kind| kind["category"] == "IEN Recruitment Process");
    assert!(milestones.iter().any(|milestone| recruitment(&milestone)));
    for field in ["notes", "added_by", "reason_id", "reason_other", "effective_date"] {
        assert!(milestones.iter().any(|milestone| milestone[field].is_string()), "{field}");
    }
    for name in ["Not proceeding", "Re-engaged", "Withdrew from IEN program", "Completed NCAS"] {
        assert!(milestones.iter().any(|milestone| milestone["name"] == name), "{name}");
    }
    let known = |list: &[Value]| -> BTreeSet<String> {
        list.iter().map(|row| row["id"].as_str().unwrap().to_ascii_lowercase()).collect()
    };
    let (staff, reasons) = (known(&masters.staff), known(&masters.reasons));
    for milestone in &milestones {
        let is_in = |field: &str, ids: &BTreeSet<String>| {
            milestone[field].as_str().is_none_or(|id| ids.contains(&id.to_ascii_lowercase()))
        };
        assert!(is_in("added_by", &staff) && is_in("reason_id", &reasons));
    }
}

#[test]
fn some_staff_share_an_address_and_some_have_none() {
    let staff = Ats::generate(few(2_000)).masters().staff;
    let addresses: Vec<&str> =
        staff.iter().filter_map(|row| row["email"].as_str()).filter(|email| !email.is_empty()).collect();
    let different: BTreeSet<_> = addresses.iter().collect();
    assert!(different.len() < addresses.len());
    assert!(addresses.len() < staff.len());
    assert!(staff.iter().any(|row| row.get("email").is_none()));
}

#[test]
fn dates_are_possible_in_their_order_and_in_their_zone() {
    let ats = Ats::generate(few(4_000));
    let zone = ats.options().zone;
    let at = |date: &Value| {
        let text = date.as_str().unwrap();
        let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").unwrap();
        assert!(zone.from_local_datetime(&local).latest().is_some(), "{text} was skipped in spring");
        local
    };
    let now = ats.now().with_timezone(&zone).naive_local();
    for row in ats.applicants() {
        let (created, updated) = (at(&row["created_date"]), at(&row["updated_date"]));
        assert!(at(&row["registration_date"]) <= created);
        assert!(created <= updated);
        assert!(updated <= now);
        for milestone in row["milestones"].as_array().unwrap() {
            assert!(at(&milestone["created_date"]) <= updated);
        }
    }
}

#[test]
fn a_recorded_feed_is_served_as_it_is_with_the_lists_it_names() {
    let milestone =
        json!({ "id": "E68F902C-8440-4a9c-a05f-2765301de800", "name": "Applied to NNAS", "start_date": null });
    let feed = vec![
        json!({ "applicant_id": "00000000-0000-4000-8000-00000000000b", "updated_date": "2022-11-21T03:51:50.75",
                "created_date": "2022-11-21T03:51:50.75", "milestones": [milestone], "unheard_of": 1 }),
        json!({ "applicant_id": "00000000-0000-4000-8000-00000000000a", "updated_date": "2022-11-21T03:51:50.7",
                "created_date": "2022-11-21T03:51:50.7", "milestones": [milestone],
                "assigned_to": [{ "id": "007C4000-5014-B6FF-C660-3A052C92A000", "name": "Navigators" }] }),
    ];
    let ats = Ats::from_feed(feed.clone(), AtsOptions::default());
    assert_eq!(ats.applicants(), [feed[1].clone(), feed[0].clone()]);
    let masters = ats.masters();
    assert_eq!(masters.milestones.len(), 1);
    assert_eq!(masters.milestones[0]["category"], "IEN Licensing/Registration Process");
    assert_eq!(
        masters.staff,
        [json!({ "id": "007C4000-5014-B6FF-C660-3A052C92A000", "name": "Navigators", "email": null })]
    );
    let removed = ats.remove_milestone("00000000-0000-4000-8000-00000000000A", 0);
    assert_eq!(removed, Some(milestone));
    assert_eq!(ats.remove_milestone("00000000-0000-4000-8000-00000000000A", 0), None);
}

#[test]
fn a_hundred_thousand_applicants_are_no_burden() {
    let ats = Ats::generate(few(100_000));
    assert_eq!(ats.len(), 100_000);
    assert_eq!(ats.change_some(10).len(), 10);
}
