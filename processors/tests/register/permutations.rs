//! Whatever the order in which applicants, statuses, reasons and staff arrive: the same register.

use proptest::prelude::*;
use schemas::records::ats::{Applicant, ApplicantMilestone};

use crate::driver::{Record, Register, now};
use crate::people::*;

#[test]
fn every_order_of_a_small_world_gives_the_same_register() {
    let milestones = vec![
        added_by(RIYA, on("2022-05-01", NNAS)),
        ApplicantMilestone { reason_id: Some(WAGES.to_owned()), ..on("2022-06-01", NCAS) },
    ];
    let world = [
        now(&anna(milestones)),
        now(&status(NNAS, "Applied to NNAS", "System")),
        now(&status(NCAS, "Completed NCAS", "System")),
        now(&wages()),
        now(&staff(RIYA, "Riya Recruiter", Some("riya@ats.example"))),
        now(&staff(BORIS, "Riya R.", Some("RIYA@ats.example"))),
    ];
    let expected = Register::of(&world);
    assert_eq!(expected.rows().len(), 7);

    let mut orders = 0;
    permute(&mut world.to_vec(), 0, &mut |order| {
        let mut register = Register::default();
        for record in order {
            register.catch_up(std::slice::from_ref(record));
        }
        assert!(register.rows() == expected.rows(), "another register");
        orders += 1;
    });
    assert_eq!(orders, 720);
}

fn permute(records: &mut Vec<Record>, from: usize, visit: &mut impl FnMut(&[Record])) {
    if from == records.len() {
        return visit(records);
    }
    for at in from..records.len() {
        records.swap(from, at);
        permute(records, from + 1, visit);
        records.swap(from, at);
    }
}

fn any_milestone() -> impl Strategy<Value = ApplicantMilestone> {
    let status = prop::sample::select(vec![NNAS, ENGLISH, NCAS, INTERVIEW, NOT_PROCEEDING, RE_ENGAGED, WAGES]);
    // Few values, so that keys meet and ties happen.
    let start = prop::option::of(prop::sample::select(vec![
        "2022-05-01T00:00:00",
        "2022-05-01T09:30:00",
        "2022-05-02T00:00:00",
    ]));
    let created = prop::option::of(prop::sample::select(vec!["2022-12-01T08:00:00", "2022-12-02T08:00:00"]));
    let notes = prop::option::of(prop::sample::select(vec!["a", "b"]));
    let added_by = prop::option::of(prop::sample::select(vec![RIYA, BORIS, NNAS]));
    (status, start, created, notes, added_by, any::<bool>()).prop_map(
        |(status, start, created, notes, added_by, shout)| ApplicantMilestone {
            id: if shout { status.to_uppercase() } else { status.to_owned() },
            start_date: start.map(local),
            created_date: created.map(moment),
            notes: notes.map(str::to_owned),
            added_by: added_by.map(str::to_owned),
            ..undated(status)
        },
    )
}

fn any_applicants() -> impl Strategy<Value = Vec<Applicant>> {
    let milestones = || prop::collection::vec(any_milestone(), 0..6);
    (milestones(), milestones())
        .prop_map(|(annas, boriss)| vec![anna(annas), applicant(BORIS, 160_002, "Boris", "Brandt", boriss)])
}

fn world_with(applicants: &[Applicant]) -> Vec<Record> {
    let mut records: Vec<Record> = masters().iter().map(now).collect();
    records.push(now(&wages()));
    records.push(now(&staff(RIYA, "Riya Recruiter", Some("riya@ats.example"))));
    records.push(now(&staff(BORIS, "Riya R.", Some("RIYA@ats.example"))));
    records.extend(applicants.iter().map(now));
    records
}

/// A world, and the order and sizes of the batches it arrives in.
fn any_arrival() -> impl Strategy<Value = (Vec<Record>, Vec<Record>, usize)> {
    any_applicants().prop_map(|applicants| world_with(&applicants)).prop_flat_map(|world| {
        let shuffled = Just(world.clone()).prop_shuffle();
        (Just(world), shuffled, 1..6_usize)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_order_in_any_batches_gives_the_same_register((world, arrival, batch) in any_arrival()) {
        let expected = Register::of(&world);
        let mut register = Register::default();
        for records in arrival.chunks(batch) {
            register.catch_up(records);
        }
        prop_assert!(register.rows() == expected.rows());
    }

    #[test]
    fn the_order_of_milestones_in_an_applicant_does_not_matter(
        (one, other) in prop::collection::vec(any_milestone(), 0..8)
            .prop_flat_map(|milestones| (Just(milestones.clone()), Just(milestones).prop_shuffle())),
    ) {
        let count = one.len() as u64;
        let one = Register::of(&world_with(&[anna(one)]));
        let other = Register::of(&world_with(&[anna(other)]));
        prop_assert!(one.rows() == other.rows());
        let report = one.report("applicants");
        prop_assert_eq!(report, other.report("applicants"));

        // Nothing is dropped without a reason.
        let kept = one.all::<schemas::records::register::Milestone>().len() as u64;
        let left_out = |rule| report.left_out.get(rule).copied().unwrap_or_default();
        prop_assert_eq!(kept + report.superseded + left_out("recruitment") + left_out("unknown_status"), count);
    }
}
