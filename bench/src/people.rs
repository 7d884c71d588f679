//! Invented applicants, the same ones every time, as large and as varied as those of the ATS.

use fastrand::Rng;
use schemas::records::ats::{Applicant, ApplicantMilestone, Assignee, NursingEducation};
use schemas::records::register;
use schemas::{LocalTimestamp, Timestamp};

const FIRST: [&str; 6] = ["Ada", "Grace", "Marwa", "Noor", "Chidi", "Béatrice"];
const LAST: [&str; 6] = ["Okafor", "Reyes", "Lindqvist", "Singh", "O'Hara", "Nguyễn"];
const COUNTRIES: [&str; 5] = ["PH", "IN", "NG", "GB", "US"];
/// Milestones that applicants reach.
pub const MILESTONES: usize = 40;

/// In microseconds.
const DAY: i64 = 86_400_000_000;
/// 2022-01-01
const BEGIN: i64 = 18_993 * DAY;

/// The `number`th applicant of all, in the state it has after `edits` edits.
pub fn applicant(number: u64, edits: u64) -> Applicant {
    let mut rng = Rng::with_seed(number);
    let begin = BEGIN + rng.i64(0..1000) * DAY + rng.i64(0..DAY / 1_000_000) * 1_000_000;
    let (first, last) = (pick(&mut rng, &FIRST), pick(&mut rng, &LAST));
    let milestones = (0..rng.usize(2..8)).map(|place| milestone(&mut rng, begin, place)).collect();
    let assignee = |rng: &mut Rng| Assignee { id: uuid(rng), name: Some(pick(rng, &LAST).to_owned()) };
    Applicant {
        applicant_id: uuid(&mut rng),
        ats1_id: i64::try_from(number).unwrap_or(i64::MAX) + 100_000,
        first_name: first.to_owned(),
        last_name: format!("{last} {number}"),
        email_address: format!("{}.{number}@example.org", first.to_lowercase()),
        phone_number: format!("+1 604 555 {:04}", number % 10_000),
        country_of_residence: Some(pick(&mut rng, &COUNTRIES).to_owned()),
        countries_of_citizenship: vec![pick(&mut rng, &COUNTRIES).to_owned()],
        pr_status: "Work Visa".to_owned(),
        assigned_to: rng.bool().then(|| vec![assignee(&mut rng)]),
        pathway_id: rng.bool().then(|| uuid(&mut rng)),
        registration_date: Some(LocalTimestamp(begin)),
        created_date: Some(Timestamp(begin)),
        updated_date: Some(Timestamp(begin + 30 * DAY + i64::try_from(edits).unwrap_or_default() * 1_000_000)),
        bccnm_license_number: rng.bool().then(|| format!("LR-{number}")),
        notes: None,
        nursing_educations: (0..rng.usize(1..3)).map(|_| education(&mut rng)).collect(),
        milestones,
    }
}

/// The same as the register holds them, without a status.
pub fn registered(polled: Applicant) -> register::Applicant {
    register::Applicant {
        applicant_id: polled.applicant_id,
        name: format!("{} {}", polled.first_name, polled.last_name),
        first_name: polled.first_name,
        last_name: polled.last_name,
        ats1_id: Some(polled.ats1_id.to_string()),
        email_address: polled.email_address,
        phone_number: polled.phone_number,
        registration_date: polled.registration_date.map(LocalTimestamp::date),
        assigned_to: polled.assigned_to,
        country_of_citizenship: polled.countries_of_citizenship,
        country_of_residence: polled.country_of_residence,
        pr_status: polled.pr_status,
        nursing_educations: polled.nursing_educations,
        bccnm_license_number: polled.bccnm_license_number,
        notes: polled.notes,
        status_id: None,
        new_bccnm_process: false,
        pathway_id: polled.pathway_id,
        end_of_journey: None,
        created_date: polled.created_date,
        updated_date: polled.updated_date,
    }
}

/// The id of a milestone that applicants can reach.
pub fn milestone_id(place: usize) -> String {
    uuid(&mut Rng::with_seed(u64::MAX - place as u64))
}

fn milestone(rng: &mut Rng, begin: i64, place: usize) -> ApplicantMilestone {
    let at = begin + i64::try_from(place).unwrap_or_default() * 20 * DAY;
    ApplicantMilestone {
        id: milestone_id(rng.usize(..MILESTONES)),
        name: Some("Applied to the college".to_owned()),
        start_date: Some(LocalTimestamp(at)),
        created_date: Some(Timestamp(at)),
        notes: rng.bool().then(|| "documents sent by courier".to_owned()),
        added_by: rng.bool().then(|| uuid(rng)),
        reason_id: None,
        reason_other: None,
        effective_date: None,
    }
}

fn education(rng: &mut Rng) -> NursingEducation {
    NursingEducation {
        id: uuid(rng),
        name: "Bachelor of Science in Nursing".to_owned(),
        country: Some(pick(rng, &COUNTRIES).to_owned()),
        num_years: rng.i32(2..5),
        year: rng.i32(1990..2022),
    }
}

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    from[rng.usize(..from.len())]
}

fn uuid(rng: &mut Rng) -> String {
    let hex = format!("{:032x}", rng.u128(..));
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
