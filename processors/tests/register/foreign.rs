//! Rules 7 to 9 of the ATS contract: milestones that the register's spreadsheets write, beside the ATS's own.

use std::sync::Arc;

use pipeline::processor::Payload;
use processors::FOREIGN_MILESTONE;
use schemas::records::ats::{self, ApplicantMilestone};
use schemas::records::register::{Applicant, Milestone};
use schemas::{Date, Key, Schema, Timestamp};
use serde::Serialize;

use crate::driver::{Record, Register, now, straight_and_resumed};
use crate::people::*;

const BCCNM: &str = "8a9b0d13-f5d7-4be3-8d38-11e5459f9e9a";
const LICENCE: &str = "f9c7e2eb-437b-4ec9-b7f1-546741f243d1";
const UNKNOWN: &str = "3a3f5c2e-0000-4000-8000-00000000ffff";

/// What a source makes of the register's table.
const SCHEMA: &str = r#"{"type": "record", "name": "muster.register.foreign_milestone", "fields": [
    {"name": "applicant_id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "status_id", "type": ["null", {"type": "string", "logicalType": "uuid"}], "default": null},
    {"name": "start_date", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
    {"name": "updated_date", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": null}]}"#;

#[derive(Serialize)]
struct Row {
    applicant_id: String,
    id: String,
    status_id: Option<String>,
    start_date: Option<Date>,
    updated_date: Option<Timestamp>,
}

/// A row that a spreadsheet has written, as the `n`th of its kind.
fn sheet(n: u32, applicant: &str, status: Option<&str>, start_date: Option<Date>) -> Record {
    let id = format!("9a000000-0000-4000-8000-{n:012x}");
    row(id, applicant, status, start_date, "2023-02-01T00:00:00")
}

fn row(id: String, applicant: &str, status: Option<&str>, start_date: Option<Date>, updated: &str) -> Record {
    let schema = Arc::new(Schema::parse(SCHEMA).unwrap());
    let key = Key::of(&[Some(applicant), Some(&id)]);
    let (applicant_id, status_id) = (applicant.to_owned(), status.map(str::to_owned));
    let row = Row { applicant_id, id, status_id, start_date, updated_date: Some(moment(updated)) };
    let mut body = Vec::new();
    schemas::to_avro(&schema, &row, &mut body).unwrap();
    Record { topic: FOREIGN_MILESTONE, key, payload: Some(Payload { schema, body: body.into() }) }
}

fn given_up(row: &Record) -> Record {
    Record { payload: None, ..row.clone() }
}

fn world(milestones: Vec<ApplicantMilestone>, sheets: &[Record]) -> Vec<Record> {
    let mut masters: Vec<ats::Milestone> = masters();
    masters.push(status(BCCNM, "Applied to BCCNM", "IEN Licensing/Registration Process"));
    masters.push(status(LICENCE, "BCCNM Full Licence RPN", "IEN Licensing/Registration Process"));
    let mut records: Vec<Record> = masters.iter().map(now).collect();
    records.push(now(&anna(milestones)));
    records.extend(sheets.iter().cloned());
    records
}

fn milestones(register: &Register) -> Vec<(String, Option<Date>)> {
    register.all::<Milestone>().into_iter().map(|row| (row.status_id, row.start_date)).collect()
}

fn standing(register: &Register) -> Option<String> {
    register.all::<Applicant>().remove(0).status_id
}

fn left_out(register: &Register, rule: &str) -> u64 {
    register.report("applicants").left_out.get(rule).copied().unwrap_or_default()
}

#[test]
fn the_spreadsheets_application_wins_over_the_ats_whatever_its_day() {
    let ats = vec![on("2022-05-01", NNAS), on("2022-06-01", BCCNM)];
    for day_of_sheet in ["2022-04-01", "2022-06-01", "2022-07-01"] {
        let register = straight_and_resumed(&world(ats.clone(), &[sheet(1, ANNA, Some(BCCNM), day(day_of_sheet))]));
        assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-01"))], "{day_of_sheet}");
    }
}

#[test]
fn the_assessment_by_either_name_and_the_licences_are_the_spreadsheets_too() {
    for status in [NCAS, LICENCE] {
        let register = Register::of(&world(vec![on("2022-06-01", status)], &[sheet(1, ANNA, Some(status), None)]));
        assert_eq!(milestones(&register), [], "{status}");
    }
}

#[test]
fn of_other_statuses_both_stand_beside_each_other() {
    let register = Register::of(&world(vec![on("2022-06-01", NNAS)], &[sheet(1, ANNA, Some(NNAS), day("2022-05-01"))]));
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-06-01"))]);
}

#[test]
fn somebody_elses_spreadsheet_row_is_nothing_to_anna() {
    let register = Register::of(&world(vec![on("2022-06-01", BCCNM)], &[sheet(1, BORIS, Some(BCCNM), None)]));
    assert_eq!(milestones(&register).len(), 1);
    // Boris isn't an applicant of the ATS: nothing is made of him.
    assert_eq!(register.all::<Applicant>().len(), 1);
}

#[test]
fn when_the_spreadsheet_gives_it_up_the_ats_has_its_own_back() {
    let row = sheet(1, ANNA, Some(BCCNM), day("2022-07-01"));
    let mut register = Register::of(&world(vec![on("2022-06-01", BCCNM)], std::slice::from_ref(&row)));
    register.catch_up(&[given_up(&row)]);
    assert_eq!(milestones(&register), [(BCCNM.to_owned(), day("2022-06-01"))]);
}

#[test]
fn of_the_return_of_service_the_ats_takes_the_spreadsheets_place() {
    let ats = vec![on("2022-05-01", RETURN_OF_SERVICE), on("2022-06-01", NNAS)];
    let later = sheet(1, ANNA, Some(RETURN_OF_SERVICE), day("2022-07-01"));
    let register = Register::of(&world(ats, std::slice::from_ref(&later)));
    assert_eq!(milestones(&register).len(), 2);
    assert_eq!(standing(&register).as_deref(), Some(NNAS), "the spreadsheet's day is overwritten");
    // The ATS has none: the spreadsheet's stands.
    let register = Register::of(&world(vec![on("2022-06-01", NNAS)], &[later]));
    assert_eq!(standing(&register).as_deref(), Some(RETURN_OF_SERVICE));
}

#[test]
fn the_status_is_that_of_the_latest_whoever_wrote_it() {
    let ats = || vec![on("2022-06-01", NNAS), on("2022-05-01", BCCNM)];
    let of = |start_date| standing(&Register::of(&world(ats(), &[sheet(1, ANNA, Some(BCCNM), start_date)])));
    assert_eq!(of(day("2022-07-01")).as_deref(), Some(BCCNM));
    assert_eq!(of(day("2022-05-20")).as_deref(), Some(NNAS));
    // On one day, what was written down last: the ATS's was on 1 December 2022.
    assert_eq!(of(day("2022-06-01")).as_deref(), Some(BCCNM));
    let early =
        row("9a000000-0000-4000-8000-000000000001".into(), ANNA, Some(BCCNM), day("2022-06-01"), "2022-11-01T00:00:00");
    assert_eq!(standing(&Register::of(&world(ats(), &[early]))).as_deref(), Some(NNAS));
    // Undated, it is no status, and takes the ATS's place all the same.
    assert_eq!(of(None).as_deref(), Some(NNAS));
}

#[test]
fn the_journey_ends_by_the_ats_alone() {
    let stopped = sheet(1, ANNA, Some(NOT_PROCEEDING), day("2022-07-01"));
    let register = Register::of(&world(vec![on("2022-06-01", NNAS)], &[stopped]));
    assert_eq!(register.all::<Applicant>()[0].end_of_journey, None);
}

#[test]
fn a_status_that_the_ats_does_not_list_is_left_out_and_counted() {
    let register =
        Register::of(&world(vec![on("2022-06-01", NNAS)], &[sheet(1, ANNA, Some(UNKNOWN), day("2022-07-01"))]));
    assert_eq!(standing(&register).as_deref(), Some(NNAS));
    assert_eq!(left_out(&register, "foreign_unknown_status"), 1);
}

/// Without this, a row of ours that looks like a spreadsheet's would take its own place, go, and come again, for ever.
#[test]
fn a_row_of_our_own_that_comes_back_is_nobody_elses() {
    let ats = || vec![on("2022-06-01", BCCNM)];
    let ours = Register::of(&world(ats(), &[])).all::<Milestone>().remove(0);
    let back = row(ours.id, ANNA, Some(BCCNM), ours.start_date, "2022-12-01T08:00:00");
    let register = Register::of(&world(ats(), &[back]));
    assert_eq!(milestones(&register), [(BCCNM.to_owned(), day("2022-06-01"))]);
    assert_eq!(left_out(&register, "own_row"), 1);
}

#[test]
fn a_row_that_can_t_be_used_costs_itself() {
    let bad = sheet(1, ANNA, None, day("2022-07-01"));
    let shouted = sheet(2, &ANNA.to_uppercase().replace('1', "A"), Some(BCCNM), None);
    let register = Register::of(&world(vec![on("2022-06-01", BCCNM)], &[bad.clone(), shouted.clone()]));
    assert_eq!(milestones(&register), [(BCCNM.to_owned(), day("2022-06-01"))]);
    let mut rejected = register.report("applicants").rejected.clone();
    rejected.sort();
    let mut wanted = [(bad.key.to_string(), "no_status"), (shouted.key.to_string(), "wrong_id")];
    wanted.sort();
    assert_eq!(rejected, wanted);
}
