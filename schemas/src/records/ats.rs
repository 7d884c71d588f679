//! What is polled from the ATS. Schemas: `avro/ats/`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Entity, debug_key};
use crate::{
    key::Key,
    time::{LocalTimestamp, Timestamp},
};

/// `ats.staff`: a recruiter or other member of staff.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "staff")]
#[expect(missing_docs, reason = "see avro/ats/staff.avsc")]
pub struct Staff {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub email: Option<String>,
}

/// `ats.health_authority`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "health_authority")]
#[expect(missing_docs, reason = "see avro/ats/health_authority.avsc")]
pub struct HealthAuthority {
    pub id: String,
    pub name: String,
    pub abbreviation: String,
}

/// `ats.reason`: why an applicant can be withdrawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "reason")]
#[expect(missing_docs, reason = "see avro/ats/reason.avsc")]
pub struct Reason {
    pub id: String,
    pub name: String,
    pub i_e_n_program: bool,
    pub recruitment: bool,
}

/// `ats.milestone`: a milestone that applicants can reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "milestone")]
#[expect(missing_docs, reason = "see avro/ats/milestone.avsc")]
pub struct Milestone {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub category: Option<String>,
    #[serde(default)]
    pub process_related: Option<bool>,
}

/// `ats.applicant`, with the milestones reached.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "applicant")]
#[expect(missing_docs, reason = "see avro/ats/applicant.avsc")]
pub struct Applicant {
    pub applicant_id: String,
    pub ats1_id: i64,
    pub first_name: String,
    pub last_name: String,
    pub email_address: String,
    pub phone_number: String,
    #[serde(default)]
    pub country_of_residence: Option<String>,
    #[serde(default)]
    pub countries_of_citizenship: Vec<String>,
    pub pr_status: String,
    #[serde(default)]
    pub assigned_to: Option<Vec<Assignee>>,
    #[serde(default)]
    pub pathway_id: Option<String>,
    #[serde(default)]
    pub registration_date: Option<LocalTimestamp>,
    #[serde(default)]
    pub created_date: Option<Timestamp>,
    #[serde(default)]
    pub updated_date: Option<Timestamp>,
    #[serde(default)]
    pub bccnm_license_number: Option<String>,
    #[serde(default)]
    pub notes: Option<String>,
    #[serde(default)]
    pub nursing_educations: Vec<NursingEducation>,
    #[serde(default)]
    pub milestones: Vec<ApplicantMilestone>,
}

/// A member of staff an applicant is assigned to.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "assignee")]
#[expect(missing_docs, reason = "see avro/ats/applicant.avsc")]
pub struct Assignee {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
}

/// One nursing education of an applicant.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "nursing_education")]
#[expect(missing_docs, reason = "see avro/ats/applicant.avsc")]
pub struct NursingEducation {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub country: Option<String>,
    #[serde(default)]
    pub num_years: i32,
    #[serde(default)]
    pub year: i32,
}

/// A milestone an applicant has reached.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "applicant_milestone")]
#[expect(missing_docs, reason = "see avro/ats/applicant.avsc")]
pub struct ApplicantMilestone {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub start_date: Option<LocalTimestamp>,
    #[serde(default)]
    pub created_date: Option<Timestamp>,
    #[serde(default)]
    pub notes: Option<String>,
    #[serde(default)]
    pub added_by: Option<String>,
    #[serde(default)]
    pub reason_id: Option<String>,
    #[serde(default)]
    pub reason_other: Option<String>,
    #[serde(default)]
    pub effective_date: Option<LocalTimestamp>,
}

impl Entity for Staff {
    const TOPIC: &'static str = "ats.staff";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for HealthAuthority {
    const TOPIC: &'static str = "ats.health_authority";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for Reason {
    const TOPIC: &'static str = "ats.reason";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for Milestone {
    const TOPIC: &'static str = "ats.milestone";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for Applicant {
    const TOPIC: &'static str = "ats.applicant";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.applicant_id)])
    }
}

impl fmt::Debug for Staff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "Staff", &self.id)
    }
}

impl fmt::Debug for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "Applicant", &self.applicant_id)
    }
}

impl fmt::Debug for Assignee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "Assignee", &self.id)
    }
}

impl fmt::Debug for NursingEducation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "NursingEducation", &self.id)
    }
}

impl fmt::Debug for ApplicantMilestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "ApplicantMilestone", &self.id)
    }
}
