//! One test for each bug or trap that the ATS contract lists and that concerns the processors.

use schemas::Entity;
use schemas::records::ats::{self, Assignee};
use schemas::records::register::{Applicant, Milestone};

use crate::driver::{Record, Register, gone, now};
use crate::people::*;

fn world(applicants: &[ats::Applicant]) -> Vec<Record> {
    let mut records: Vec<Record> = masters().iter().map(now).collect();
    records.push(now(&staff(RIYA, "Riya Recruiter", Some("riya@ats.example"))));
    records.extend(applicants.iter().map(now));
    records
}

/// The milestones that the register has, as (status, start date).
fn milestones(register: &Register) -> Vec<(String, Option<schemas::Date>)> {
    register.all::<Milestone>().into_iter().map(|row| (row.status_id, row.start_date)).collect()
}

#[test]
fn the_last_milestone_of_a_run_is_written() {
    let register = Register::of(&world(&[anna(vec![on("2022-05-01", NNAS), on("2022-06-01", NCAS)])]));
    assert_eq!(milestones(&register), [(NCAS.to_owned(), day("2022-06-01")), (NNAS.to_owned(), day("2022-05-01"))]);
}

#[test]
fn changed_notes_of_a_milestone_are_applied() {
    let mut register = Register::of(&world(&[anna(vec![noted("draft", on("2022-05-01", NNAS))])]));
    let before = register.all::<Milestone>().remove(0);

    let changed = ats::ApplicantMilestone {
        reason_id: Some(WAGES.to_uppercase()),
        reason_other: Some("moved away".to_owned()),
        effective_date: Some(local("2022-07-01T23:59:59")),
        ..noted("final", on("2022-05-01", NNAS))
    };
    register.catch_up(&[now(&anna(vec![changed]))]);

    let [after] = &register.all::<Milestone>()[..] else { panic!("one milestone") };
    assert_eq!(after.id, before.id);
    assert_eq!(after.notes.as_deref(), Some("final"));
    assert_eq!(after.reason_id.as_deref(), Some(WAGES));
    assert_eq!(after.reason_other.as_deref(), Some("moved away"));
    assert_eq!(after.effective_date, day("2022-07-01"));
}

#[test]
fn a_moved_start_date_leaves_one_row() {
    let mut register = Register::of(&world(&[anna(vec![on("2022-05-01", NNAS)])]));
    register.catch_up(&[now(&anna(vec![on("2022-05-09", NNAS)]))]);
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-09"))]);
}

#[test]
fn a_start_date_that_is_filled_in_later_leaves_one_row() {
    let mut register = Register::of(&world(&[anna(vec![undated(NNAS)])]));
    register.catch_up(&[now(&anna(vec![on("2022-05-09", NNAS)]))]);
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-09"))]);
}

#[test]
fn a_vanished_milestone_falls_out_even_when_its_status_is_reached_on_another_day() {
    let mut register = Register::of(&world(&[anna(vec![on("2022-05-01", NNAS), on("2022-08-01", NNAS)])]));
    register.catch_up(&[now(&anna(vec![on("2022-05-01", NNAS)]))]);
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-01"))]);
}

#[test]
fn an_undated_milestone_never_becomes_the_status() {
    let late = recorded("2023-05-05T08:00:00", undated(NCAS));
    let register = Register::of(&world(&[anna(vec![late.clone(), on("2019-02-01", NNAS)])]));
    assert_eq!(register.all::<Applicant>()[0].status_id.as_deref(), Some(NNAS));

    let register = Register::of(&world(&[anna(vec![late])]));
    assert_eq!(register.all::<Applicant>()[0].status_id, None);
    assert_eq!(milestones(&register), [(NCAS.to_owned(), None)]);
}

#[test]
fn undated_duplicates_are_one_row() {
    let older = recorded("2022-12-01T08:00:00", noted("older", undated(NNAS)));
    let newer = recorded("2022-12-02T08:00:00", noted("newer", undated(NNAS)));
    for pair in [vec![older.clone(), newer.clone()], vec![newer, older]] {
        let register = Register::of(&world(&[anna(pair)]));
        let [row] = &register.all::<Milestone>()[..] else { panic!("one milestone") };
        assert_eq!(row.notes.as_deref(), Some("newer"));
        assert_eq!(register.report("applicants").superseded, 1);
    }
}

#[test]
fn two_milestones_of_one_status_and_day_give_one_row_whatever_their_order() {
    // Same moment, too: then what they say decides, not who comes first.
    let morning = noted("a", on("2022-05-01", NNAS));
    let evening = noted(
        "b",
        ats::ApplicantMilestone {
            id: NNAS.to_uppercase(),
            start_date: Some(local("2022-05-01T18:30:00")),
            ..on("2022-05-01", NNAS)
        },
    );
    let one = Register::of(&world(&[anna(vec![morning.clone(), evening.clone()])]));
    let other = Register::of(&world(&[anna(vec![evening, morning])]));
    assert_eq!(one.all::<Milestone>().len(), 1);
    assert!(one.rows() == other.rows());
    assert_eq!(one.report("applicants").superseded, 1);
}

#[test]
fn a_return_of_service_agreement_is_written_like_any_other_milestone() {
    let mut register = Register::of(&world(&[anna(vec![on("2022-05-01", RETURN_OF_SERVICE)])]));
    register.catch_up(&[now(&anna(vec![noted("countersigned", on("2022-05-01", RETURN_OF_SERVICE))]))]);
    assert_eq!(register.all::<Milestone>()[0].notes.as_deref(), Some("countersigned"));
}

#[test]
fn an_id_in_upper_case_makes_no_second_applicant() {
    let shouting = applicant(&"abcdef00-0000-4000-8000-000000000001".to_uppercase(), 1, "Anna", "Almqvist", vec![]);
    let register = Register::of(&world(std::slice::from_ref(&shouting)));
    assert_eq!(register.all::<Applicant>(), []);
    assert_eq!(register.report("applicants").rejected, [(shouting.key().to_string(), "wrong_id")]);
}

#[test]
fn ids_inside_an_applicant_are_found_whatever_their_case() {
    let mut anna = anna(vec![on("2022-05-01", &NNAS.to_uppercase())]);
    anna.pathway_id = Some(WAGES.to_uppercase());
    let register = Register::of(&world(&[anna]));
    let applicant = register.all::<Applicant>().remove(0);
    assert_eq!(applicant.status_id.as_deref(), Some(NNAS));
    assert_eq!(applicant.pathway_id.as_deref(), Some(WAGES));
    assert_eq!(register.all::<Milestone>()[0].status_id, NNAS);
}

#[test]
fn an_empty_reference_is_none() {
    let mut anna =
        anna(vec![ats::ApplicantMilestone { reason_id: Some(String::new()), ..added_by(" ", on("2022-05-01", NNAS)) }]);
    anna.pathway_id = Some(String::new());
    let register = Register::of(&world(&[anna]));
    assert_eq!(register.all::<Applicant>()[0].pathway_id, None);
    assert_eq!(register.all::<Milestone>()[0].reason_id, None);
    assert_eq!(register.all::<Milestone>()[0].added_by_id, None);
    assert!(register.report("applicants").left_out.is_empty());
}

#[test]
fn added_by_is_found_whatever_its_case() {
    let register = Register::of(&world(&[anna(vec![added_by(&RIYA.to_uppercase(), on("2022-05-01", NNAS))])]));
    assert_eq!(register.all::<Milestone>()[0].added_by_id.as_deref(), Some(RIYA));
}

#[test]
fn added_by_is_the_user_who_stands_for_the_member_of_staff() {
    let mut records = world(&[anna(vec![added_by(RIYA, on("2022-05-01", NNAS))])]);
    let smallest = "00000000-0000-4000-8000-000000000001";
    records.push(now(&staff(smallest, "Riya R.", Some(" RIYA@ats.example"))));
    let register = Register::of(&records);
    assert_eq!(register.all::<Milestone>()[0].added_by_id.as_deref(), Some(smallest));
}

#[test]
fn added_by_somebody_unknown_is_null_until_they_come() {
    let new_hire = "99999999-0000-4000-8000-000000000001";
    let mut register = Register::of(&world(&[anna(vec![added_by(new_hire, on("2022-05-01", NNAS))])]));
    assert_eq!(register.all::<Milestone>()[0].added_by_id, None);
    assert_eq!(register.report("applicants").left_out["unknown_user"], 1);

    register.catch_up(&[now(&staff(new_hire, "Noor Newhire", None))]);
    assert_eq!(register.all::<Milestone>()[0].added_by_id.as_deref(), Some(new_hire));
}

#[test]
fn assigned_to_keeps_id_and_name() {
    let mut anna = anna(vec![]);
    anna.assigned_to = Some(vec![Assignee { id: RIYA.to_uppercase(), name: Some("Riya Recruiter".to_owned()) }]);
    let register = Register::of(&world(&[anna]));
    let assigned_to = register.all::<Applicant>().remove(0).assigned_to;
    assert!(assigned_to == Some(vec![Assignee { id: RIYA.to_owned(), name: Some("Riya Recruiter".to_owned()) }]));
}

#[test]
fn unknown_and_recruitment_milestones_are_left_out_and_counted() {
    let archived = "99999999-0000-4000-8000-00000000000f";
    let register = Register::of(&world(&[anna(vec![
        on("2022-05-01", NNAS),
        on("2022-06-01", INTERVIEW),
        on("2022-06-02", OLD_INTERVIEW),
        on("2022-06-03", archived),
    ])]));
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-01"))]);
    assert_eq!(register.all::<Applicant>()[0].status_id.as_deref(), Some(NNAS));
    let report = register.report("applicants");
    assert_eq!(report.left_out["recruitment"], 2);
    assert_eq!(report.left_out["unknown_status"], 1);
}

#[test]
fn milestones_whose_masters_come_late_are_there_in_the_end() {
    // The original loses half its masters when a run fails half-way, and the milestones with them.
    let mut register = Register::of(&[now(&anna(vec![on("2022-05-01", NNAS), on("2022-06-01", NCAS)]))]);
    assert_eq!(milestones(&register), []);
    register.catch_up(&masters().iter().map(now).collect::<Vec<_>>());
    assert_eq!(milestones(&register).len(), 2);
    assert_eq!(register.all::<Applicant>()[0].status_id.as_deref(), Some(NCAS));
}

#[test]
fn a_status_that_moves_to_recruitment_takes_its_milestones_away() {
    let mut register = Register::of(&world(&[anna(vec![on("2022-05-01", NNAS), on("2022-06-01", NCAS)])]));
    register.catch_up(&[now(&status(NCAS, "Completed NCAS", "IEN Recruitment Process"))]);
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-01"))]);
    assert_eq!(register.all::<Applicant>()[0].status_id.as_deref(), Some(NNAS));
}

#[test]
fn an_applicant_without_milestones_is_written() {
    let register = Register::of(&world(&[anna(vec![])]));
    let applicant = register.all::<Applicant>().remove(0);
    assert_eq!(applicant.name, "Anna Almqvist");
    assert_eq!(applicant.status_id, None);
    assert_eq!(applicant.country_of_citizenship, [""; 0]);
}

#[test]
fn two_applicants_with_one_ats1_id_are_both_derived() {
    // Which of them the register holds is for the target to find out: here nobody knows who came first.
    let anna = anna(vec![]);
    let boris = applicant(BORIS, anna.ats1_id, "Boris", "Brandt", vec![]);
    let register = Register::of(&world(&[anna, boris]));
    let numbers: Vec<_> = register.all::<Applicant>().into_iter().map(|row| row.ats1_id).collect();
    assert_eq!(numbers, [Some("160001".to_owned()), Some("160001".to_owned())]);
}

#[test]
fn an_applicant_that_is_gone_takes_its_milestones_along_and_nobody_elses() {
    let anna = anna(vec![on("2022-05-01", NNAS)]);
    let boris = applicant(BORIS, 2, "Boris", "Brandt", vec![on("2022-05-02", NNAS)]);
    let mut register = Register::of(&world(&[anna.clone(), boris]));
    register.catch_up(&[gone(&anna)]);
    assert_eq!(register.all::<Applicant>().len(), 1);
    assert_eq!(register.all::<Milestone>()[0].applicant_id, BORIS);
}

#[test]
fn countries_outside_iso_3166_are_kept_as_they_are() {
    let mut anna = anna(vec![]);
    anna.country_of_residence = Some("Tibet (CN)".to_owned());
    anna.countries_of_citizenship = vec!["xk".to_owned(), "Unknown".to_owned()];
    let register = Register::of(&world(&[anna]));
    let applicant = register.all::<Applicant>().remove(0);
    assert_eq!(applicant.country_of_residence.as_deref(), Some("Tibet (CN)"));
    assert_eq!(applicant.country_of_citizenship, ["xk", "Unknown"]);
}

#[test]
fn times_of_a_milestone_are_those_of_the_ats_and_nothing_is_generated() {
    let records = world(&[anna(vec![recorded("2022-12-24T18:00:00", on("2022-05-01", NNAS))])]);
    let (first, again) = (Register::of(&records), Register::of(&records));
    assert!(first.rows() == again.rows());
    let row = first.all::<Milestone>().remove(0);
    assert_eq!(row.created_date, Some(moment("2022-12-24T18:00:00")));
    assert_eq!(row.updated_date, row.created_date);
}

#[test]
fn the_id_of_a_milestone_stays_the_same_for_ever() {
    // Written down: another id would be another row in every target.
    let register = Register::of(&world(&[anna(vec![on("2022-05-01", NNAS), undated(NNAS)])]));
    let ids: Vec<String> = register.all::<Milestone>().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["e1182650-12ed-894d-accb-3a7946fa6934", "12665618-04b8-8539-a0c7-49169f77a9e5"]);
}

#[test]
fn a_milestone_that_can_not_be_written_costs_itself() {
    let odd = |day| ats::ApplicantMilestone { reason_id: Some("wages".to_owned()), ..on(day, NCAS) };
    let register = Register::of(&world(&[anna(vec![odd("2022-06-01"), on("2022-05-01", NNAS), odd("2022-06-02")])]));
    assert_eq!(milestones(&register), [(NNAS.to_owned(), day("2022-05-01"))]);
    let report = register.report("applicants");
    // One letter, of the record that a person can repair.
    assert_eq!(report.rejected, [(ANNA.to_owned(), "milestone_not_encodable")]);
}

#[test]
fn an_applicant_that_can_not_be_written_keeps_what_was_there() {
    let mut register = Register::of(&world(&[anna(vec![on("2022-05-01", NNAS)])]));
    let mut broken = anna(vec![]);
    broken.pathway_id = Some("the long way".to_owned());
    register.catch_up(&[now(&broken)]);
    assert_eq!(register.report("applicants").rejected, [(ANNA.to_owned(), "not_encodable")]);
    assert_eq!(milestones(&register).len(), 1);
}
