//! Statuses, reasons, health authorities and users.

use schemas::records::ats;
use schemas::records::register::{HealthAuthority, Reason, Status, User};

use crate::driver::{Register, gone, now};
use crate::people::*;

#[test]
fn ncas_is_called_inspire() {
    let names = ["Completed NCAS", "NCAS – Referred to NCAS", "Applied to NNAS"];
    let ids = [NCAS, ENGLISH, NNAS];
    for (name, (id, renamed)) in
        names.iter().zip(ids.iter().zip(["Completed Inspire", "Inspire – Referred to Inspire", "Applied to NNAS"]))
    {
        let register = Register::of(&[now(&status(id, name, "System"))]);
        let [status] = &register.all::<Status>()[..] else { panic!("one status") };
        assert_eq!((&*status.id, &*status.status, status.category.as_deref()), (*id, renamed, Some("System")));
    }
}

#[test]
fn reasons_and_health_authorities_keep_their_ids() {
    let coast =
        ats::HealthAuthority { id: NNAS.to_owned(), name: "Coast Health".to_owned(), abbreviation: "CH".to_owned() };
    let mut register = Register::of(&[now(&wages()), now(&coast)]);
    assert_eq!(
        register.all::<Reason>(),
        [Reason { id: WAGES.to_owned(), name: "Wages".to_owned(), i_e_n_program: false, recruitment: true }]
    );
    assert_eq!(
        register.all::<HealthAuthority>(),
        [HealthAuthority { id: NNAS.to_owned(), title: "Coast Health".to_owned(), abbreviation: "CH".to_owned() }]
    );

    register.catch_up(&[gone(&wages()), gone(&coast)]);
    assert!(register.rows().is_empty());
}

#[test]
fn a_master_whose_id_is_no_uuid_is_rejected() {
    let odd = ats::Reason { id: "wages".to_owned(), ..wages() };
    let register = Register::of(&[now(&odd), now(&wages())]);
    assert_eq!(register.all::<Reason>().len(), 1);
    assert_eq!(register.report("reasons").rejected, [("wages".to_owned(), "wrong_id")]);
}

const FIRST: &str = "00000000-0000-4000-8000-000000000001";
const SECOND: &str = "00000000-0000-4000-8000-000000000002";
const THIRD: &str = "00000000-0000-4000-8000-000000000003";

fn users(register: &Register) -> Vec<(String, String, Option<String>)> {
    register.all::<User>().into_iter().map(|user| (user.id, user.name, user.email)).collect()
}

#[test]
fn staff_with_one_address_are_one_user() {
    let register = Register::of(&[
        now(&staff(SECOND, "Riya Recruiter", Some("riya@ats.example"))),
        now(&staff(FIRST, "Riya R.", Some(" Riya@ATS.example "))),
        now(&staff(THIRD, "Sam Scheduler", Some("sam@ats.example"))),
    ]);
    assert_eq!(
        users(&register),
        [
            (FIRST.to_owned(), "Riya R.".to_owned(), Some("Riya@ATS.example".to_owned())),
            (THIRD.to_owned(), "Sam Scheduler".to_owned(), Some("sam@ats.example".to_owned())),
        ]
    );
    assert_eq!(register.all::<User>()[0].user_id.as_deref(), Some(FIRST));
    assert_eq!(register.report("users").left_out["same_email"], 1);
}

#[test]
fn staff_without_an_address_are_users_of_their_own() {
    let register = Register::of(&[
        now(&staff(FIRST, "Ash", None)),
        now(&staff(SECOND, "Bo", Some(""))),
        now(&staff(THIRD, "Cy", Some("  "))),
    ]);
    let emails: Vec<_> = users(&register).into_iter().map(|(_, _, email)| email).collect();
    assert_eq!(emails, [None, None, None]);
}

#[test]
fn when_the_first_of_an_address_goes_the_next_stands_for_the_user() {
    let first = staff(FIRST, "Riya R.", Some("riya@ats.example"));
    let second = staff(SECOND, "Riya Recruiter", Some("riya@ats.example"));
    let mut register = Register::of(&[now(&first), now(&second)]);
    register.catch_up(&[gone(&first)]);
    assert_eq!(
        users(&register),
        [(SECOND.to_owned(), "Riya Recruiter".to_owned(), Some("riya@ats.example".to_owned()))]
    );
}

#[test]
fn a_member_of_staff_with_a_wrong_id_costs_one_user() {
    let register = Register::of(&[now(&staff("17", "Old Row", None)), now(&staff(FIRST, "Riya R.", None))]);
    assert_eq!(register.all::<User>().len(), 1);
    assert_eq!(register.report("users").rejected, [("17".to_owned(), "wrong_id")]);
}
