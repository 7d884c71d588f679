//! A real feed, scrambled by its owner: every applicant and milestone of it is accounted for in the register, compared
//! with what follows straight from the file.

use std::collections::{BTreeMap, BTreeSet};

use schemas::records::ats;
use schemas::records::register::{Applicant, Milestone, Status};
use schemas::{Key, catalogue};
use serde_json::{Value as Json, json};

use crate::driver::{Record, Register, now};
use crate::people;

const FEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recorded/ats/applicants.json");

fn feed() -> Vec<Json> {
    serde_json::from_str(&std::fs::read_to_string(FEED).unwrap()).unwrap()
}

/// As the source would write it; which zone its times are in makes no difference here.
fn polled(row: &Json) -> ats::Applicant {
    let mut row = row.clone();
    let in_utc = |row: &mut Json, field: &str| row[field] = json!(format!("{}Z", row[field].as_str().unwrap()));
    in_utc(&mut row, "created_date");
    in_utc(&mut row, "updated_date");
    for milestone in row["milestones"].as_array_mut().unwrap() {
        in_utc(milestone, "created_date");
    }
    let schema = &catalogue().entity("ats.applicant").unwrap().schema;
    schemas::from_avro(schema, &schemas::from_json(schema, &row).unwrap()).unwrap()
}

/// The applicants, and the list of milestones that follows from theirs.
fn records(feed: &[Json]) -> Vec<Record> {
    let milestones = feed.iter().flat_map(|row| row["milestones"].as_array().unwrap());
    let names: BTreeMap<&str, &str> =
        milestones.map(|it| (it["id"].as_str().unwrap(), it["name"].as_str().unwrap())).collect();
    let masters = names.iter().map(|(id, name)| now(&people::status(id, name, "IEN Licensing/Registration Process")));
    masters.chain(feed.iter().map(|row| now(&polled(row)))).collect()
}

fn day(milestone: &Json) -> Option<&str> {
    Some(milestone["start_date"].as_str()?.split_once('T').unwrap().0)
}

#[test]
fn every_applicant_and_milestone_of_the_feed_is_in_the_register() {
    let feed = feed();
    let register = Register::of(&records(&feed));

    let applicants: BTreeMap<String, Applicant> =
        register.all::<Applicant>().into_iter().map(|row| (row.applicant_id.clone(), row)).collect();
    assert_eq!(applicants.len(), feed.len());
    let milestones: BTreeSet<String> =
        register.all::<Milestone>().iter().map(|row| schemas::Entity::key(row).to_string()).collect();

    let mut in_feed = BTreeSet::new();
    for row in &feed {
        let id = row["applicant_id"].as_str().unwrap();
        let applicant = &applicants[id];
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        assert_eq!(applicant.name, format!("{} {}", text("first_name"), text("last_name")), "{id}");
        assert_eq!(applicant.ats1_id, Some(row["ats1_id"].to_string()), "{id}");
        assert_eq!(applicant.registration_date.unwrap().to_string(), text("registration_date")[..10], "{id}");
        assert_eq!(applicant.new_bccnm_process, text("registration_date").as_str() >= "2023-01-31", "{id}");
        assert_eq!(applicant.end_of_journey, None, "{id}");
        assert_eq!(applicant.nursing_educations.len(), row["nursing_educations"].as_array().unwrap().len(), "{id}");
        assert_eq!(applicant.country_of_citizenship.len(), row["countries_of_citizenship"].as_array().unwrap().len());

        let of_feed = row["milestones"].as_array().unwrap();
        let latest = of_feed.iter().filter(|it| day(it).is_some()).max_by_key(|it| {
            // The feed cuts trailing zeros off its fractions of a second.
            let recorded = people::moment(it["created_date"].as_str().unwrap());
            (day(it), recorded, it["id"].as_str())
        });
        assert_eq!(applicant.status_id.as_deref(), latest.map(|it| it["id"].as_str().unwrap()), "{id}");
        for milestone in of_feed {
            in_feed.insert(Key::of(&[Some(id), milestone["id"].as_str(), day(milestone)]).to_string());
        }
    }
    assert_eq!(in_feed.len(), 221, "the feed has no milestone twice");
    assert_eq!(milestones, in_feed);

    let report = register.report("applicants");
    assert_eq!((report.superseded, report.left_out.len(), report.rejected.len()), (0, 0, 0));
}

#[test]
fn the_feeds_statuses_are_renamed_and_referred_to() {
    let register = Register::of(&records(&feed()));
    let names: Vec<String> = register.all::<Status>().into_iter().map(|row| row.status).collect();
    assert_eq!(names.len(), 14);
    assert!(names.iter().any(|name| name == "Applied to Inspire"));
    assert!(names.iter().all(|name| !name.contains("NCAS")));

    let statuses: BTreeSet<String> = register.all::<Status>().into_iter().map(|row| row.id).collect();
    assert!(register.all::<Milestone>().iter().all(|row| statuses.contains(&row.status_id)));
    let ids: BTreeSet<String> = register.all::<Milestone>().into_iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), 221);
}

#[test]
fn the_feed_gives_the_same_register_backwards_and_one_by_one() {
    let mut records = records(&feed());
    let straight = Register::of(&records);
    records.reverse();
    let mut register = Register::default();
    for record in &records {
        register.catch_up(std::slice::from_ref(record));
    }
    assert!(register.rows() == straight.rows());
}
