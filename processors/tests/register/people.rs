//! Invented people and masters.

use chrono::{NaiveDate, NaiveDateTime};
use schemas::records::ats::{Applicant, ApplicantMilestone, Milestone, Reason, Staff};
use schemas::{LocalTimestamp, Timestamp};

pub const NNAS: &str = "e68f902c-8440-4a9c-a05f-2765301de800";
pub const ENGLISH: &str = "da06889e-55a1-4ff2-9984-80ae23d7e44b";
pub const NCAS: &str = "06e2d762-05ba-4667-93d2-7843d3cf9fc5";
pub const RETURN_OF_SERVICE: &str = "3a3f5c2e-0000-4000-8000-000000000001";
pub const INTERVIEW: &str = "3a3f5c2e-0000-4000-8000-000000000002";
pub const OLD_INTERVIEW: &str = "3a3f5c2e-0000-4000-8000-000000000003";
pub const NOT_PROCEEDING: &str = "3a3f5c2e-0000-4000-8000-000000000004";
pub const RE_ENGAGED: &str = "3a3f5c2e-0000-4000-8000-000000000005";
pub const WAGES: &str = "5b1d6f70-0000-4000-8000-000000000001";
pub const RIYA: &str = "77e2b3d4-0000-4000-8000-00000000000a";
pub const ANNA: &str = "11111111-0000-4000-8000-000000000001";
pub const BORIS: &str = "11111111-0000-4000-8000-000000000002";

const LICENSING: &str = "IEN Licensing/Registration Process";

pub fn masters() -> Vec<Milestone> {
    vec![
        status(NNAS, "Applied to NNAS", LICENSING),
        status(ENGLISH, "Completed English Language Requirement", LICENSING),
        status(NCAS, "Completed NCAS", LICENSING),
        status(RETURN_OF_SERVICE, "Signed Return of Service Agreement", LICENSING),
        status(INTERVIEW, "Interview – Passed", "IEN Recruitment Process"),
        status(OLD_INTERVIEW, "Interviewed", "Recruitment"),
        status(NOT_PROCEEDING, "Not Proceeding", "System"),
        status(RE_ENGAGED, "Re-Engaged", "System"),
    ]
}

pub fn status(id: &str, name: &str, category: &str) -> Milestone {
    Milestone { id: id.to_owned(), name: name.to_owned(), category: Some(category.to_owned()), process_related: None }
}

pub fn wages() -> Reason {
    Reason { id: WAGES.to_owned(), name: "Wages".to_owned(), i_e_n_program: false, recruitment: true }
}

pub fn staff(id: &str, name: &str, email: Option<&str>) -> Staff {
    Staff { id: id.to_owned(), name: name.to_owned(), email: email.map(str::to_owned) }
}

pub fn anna(milestones: Vec<ApplicantMilestone>) -> Applicant {
    applicant(ANNA, 160_001, "Anna", "Almqvist", milestones)
}

pub fn applicant(id: &str, number: i64, first: &str, last: &str, milestones: Vec<ApplicantMilestone>) -> Applicant {
    Applicant {
        applicant_id: id.to_owned(),
        ats1_id: number,
        first_name: first.to_owned(),
        last_name: last.to_owned(),
        email_address: format!("{first}@nurses.example").to_lowercase(),
        phone_number: String::new(),
        country_of_residence: None,
        countries_of_citizenship: Vec::new(),
        pr_status: "No status".to_owned(),
        assigned_to: None,
        pathway_id: None,
        registration_date: Some(local("2022-06-28T17:57:43")),
        created_date: Some(moment("2022-11-21T03:51:45")),
        updated_date: Some(moment("2022-11-21T03:51:45")),
        bccnm_license_number: None,
        notes: None,
        nursing_educations: Vec::new(),
        milestones,
    }
}

/// A milestone reached on a day and recorded on 1 December 2022.
pub fn on(day: &str, status: &str) -> ApplicantMilestone {
    ApplicantMilestone { start_date: Some(local(&format!("{day}T00:00:00"))), ..undated(status) }
}

pub fn undated(status: &str) -> ApplicantMilestone {
    ApplicantMilestone {
        id: status.to_owned(),
        name: None,
        start_date: None,
        created_date: Some(moment("2022-12-01T08:00:00")),
        notes: None,
        added_by: None,
        reason_id: None,
        reason_other: None,
        effective_date: None,
    }
}

pub fn recorded(at: &str, milestone: ApplicantMilestone) -> ApplicantMilestone {
    ApplicantMilestone { created_date: Some(moment(at)), ..milestone }
}

pub fn noted(notes: &str, milestone: ApplicantMilestone) -> ApplicantMilestone {
    ApplicantMilestone { notes: Some(notes.to_owned()), ..milestone }
}

pub fn added_by(staff: &str, milestone: ApplicantMilestone) -> ApplicantMilestone {
    ApplicantMilestone { added_by: Some(staff.to_owned()), ..milestone }
}

pub fn local(text: &str) -> LocalTimestamp {
    text.parse::<NaiveDateTime>().unwrap().into()
}

pub fn moment(text: &str) -> Timestamp {
    text.parse::<NaiveDateTime>().unwrap().and_utc().into()
}

pub fn day(text: &str) -> Option<schemas::Date> {
    Some(text.parse::<NaiveDate>().unwrap().into())
}
