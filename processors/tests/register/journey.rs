//! Where an applicant stands: status, new process, end of the journey.

use schemas::records::ats::ApplicantMilestone;
use schemas::records::register::Applicant;

use crate::driver::{Register, now};
use crate::people::*;

fn derived(milestones: Vec<ApplicantMilestone>) -> Applicant {
    let mut records: Vec<_> = masters().iter().map(now).collect();
    records.push(now(&anna(milestones)));
    Register::of(&records).all::<Applicant>().remove(0)
}

#[test]
fn the_status_is_that_of_the_latest_start_date() {
    let applicant = derived(vec![on("2022-05-02", NCAS), recorded("2023-01-01T00:00:00", on("2022-05-01", NNAS))]);
    assert_eq!(applicant.status_id.as_deref(), Some(NCAS));
}

#[test]
fn on_the_same_day_the_one_recorded_last_is_the_status() {
    let early = recorded("2022-12-01T08:00:00", on("2022-05-01", NNAS));
    let late = recorded("2022-12-01T08:00:01", on("2022-05-01", NCAS));
    for pair in [vec![early.clone(), late.clone()], vec![late, early]] {
        assert_eq!(derived(pair).status_id.as_deref(), Some(NCAS));
    }
}

#[test]
fn in_a_tie_the_greatest_status_is_the_status() {
    assert!(ENGLISH < NNAS);
    for pair in [[NNAS, ENGLISH], [ENGLISH, NNAS]] {
        let applicant = derived(pair.map(|status| on("2022-05-01", status)).to_vec());
        assert_eq!(applicant.status_id.as_deref(), Some(NNAS));
    }
}

#[test]
fn the_new_process_begins_after_30_january_2023() {
    let registered = |at: Option<&str>| {
        let mut anna = anna(vec![]);
        anna.registration_date = at.map(local);
        Register::of(&[now(&anna)]).all::<Applicant>().remove(0)
    };
    assert!(!registered(Some("2023-01-30T23:59:59")).new_bccnm_process);
    assert!(registered(Some("2023-01-31T00:00:00")).new_bccnm_process);
    assert!(!registered(None).new_bccnm_process);
    assert_eq!(registered(Some("2023-01-30T23:59:59")).registration_date, day("2023-01-30"));
}

#[test]
fn a_person_with_one_name_has_no_stray_space() {
    let name = |first, last| {
        let applicant = applicant(ANNA, 1, first, last, vec![]);
        Register::of(&[now(&applicant)]).all::<Applicant>().remove(0).name
    };
    assert_eq!(name("Anna", "Almqvist"), "Anna Almqvist");
    assert_eq!(name("Sukarni", ""), "Sukarni");
    assert_eq!(name("", "Sukarni"), "Sukarni");
}

const INCOMPLETE: Option<&str> = Some("journey_incomplete");

fn end(milestones: Vec<ApplicantMilestone>) -> Option<String> {
    derived(milestones).end_of_journey
}

#[test]
fn who_is_not_proceeding_has_an_incomplete_journey() {
    assert_eq!(end(vec![on("2022-05-01", NNAS)]), None);
    assert_eq!(end(vec![on("2022-05-01", NOT_PROCEEDING)]).as_deref(), INCOMPLETE);
    assert_eq!(end(vec![undated(NOT_PROCEEDING)]).as_deref(), INCOMPLETE);
}

#[test]
fn who_is_re_engaged_later_is_on_the_way_again() {
    assert_eq!(end(vec![on("2022-05-01", NOT_PROCEEDING), on("2022-06-01", RE_ENGAGED)]), None);
    let before = vec![on("2022-06-01", NOT_PROCEEDING), on("2022-05-01", RE_ENGAGED)];
    assert_eq!(end(before).as_deref(), INCOMPLETE);
    let twice = vec![on("2022-05-01", NOT_PROCEEDING), on("2022-06-01", RE_ENGAGED), on("2022-07-01", NOT_PROCEEDING)];
    assert_eq!(end(twice).as_deref(), INCOMPLETE);
}

#[test]
fn on_the_same_day_or_without_one_it_counts_when_they_were_recorded() {
    let first = "2022-12-01T08:00:00";
    let second = "2022-12-02T08:00:00";
    for (stop, start) in [
        (on("2022-05-01", NOT_PROCEEDING), on("2022-05-01", RE_ENGAGED)),
        (undated(NOT_PROCEEDING), on("2022-05-01", RE_ENGAGED)),
        (on("2022-05-01", NOT_PROCEEDING), undated(RE_ENGAGED)),
        (undated(NOT_PROCEEDING), undated(RE_ENGAGED)),
    ] {
        assert_eq!(end(vec![recorded(first, stop.clone()), recorded(second, start.clone())]), None);
        assert_eq!(end(vec![recorded(second, stop.clone()), recorded(first, start.clone())]).as_deref(), INCOMPLETE);
        // Nothing says that it was later.
        assert_eq!(end(vec![recorded(first, stop), recorded(first, start)]).as_deref(), INCOMPLETE);
    }
}

#[test]
fn what_counts_is_the_masters_name_of_the_milestone() {
    let misnamed = ApplicantMilestone { name: Some("Not proceeding".to_owned()), ..on("2022-05-01", NNAS) };
    assert_eq!(end(vec![misnamed]), None);
}
