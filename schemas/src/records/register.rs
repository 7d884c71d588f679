//! What the register of applicants holds. Schemas: `avro/register/`.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::ats::{Assignee, NursingEducation};
use super::{Entity, debug_key};
use crate::{
    key::Key,
    time::{Date, Timestamp},
};

/// `register.user`: the members of staff with one e-mail address.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "user")]
#[expect(missing_docs, reason = "see avro/register/user.avsc")]
pub struct User {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub user_id: Option<String>,
}

/// `register.health_authority`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "health_authority")]
#[expect(missing_docs, reason = "see avro/register/health_authority.avsc")]
pub struct HealthAuthority {
    pub id: String,
    pub title: String,
    pub abbreviation: String,
}

/// `register.reason`: why an applicant can be withdrawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "reason")]
#[expect(missing_docs, reason = "see avro/register/reason.avsc")]
pub struct Reason {
    pub id: String,
    pub name: String,
    pub i_e_n_program: bool,
    pub recruitment: bool,
}

/// `register.status`: a status applicants can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "status")]
#[expect(missing_docs, reason = "see avro/register/status.avsc")]
pub struct Status {
    pub id: String,
    pub status: String,
    #[serde(default)]
    pub category: Option<String>,
}

/// `register.applicant`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "applicant")]
#[expect(missing_docs, reason = "see avro/register/applicant.avsc")]
pub struct Applicant {
    pub applicant_id: String,
    pub name: String,
    pub first_name: String,
    pub last_name: String,
    #[serde(default)]
    pub ats1_id: Option<String>,
    pub email_address: String,
    pub phone_number: String,
    #[serde(default)]
    pub registration_date: Option<Date>,
    #[serde(default)]
    pub assigned_to: Option<Vec<Assignee>>,
    #[serde(default)]
    pub country_of_citizenship: Vec<String>,
    #[serde(default)]
    pub country_of_residence: Option<String>,
    pub pr_status: String,
    #[serde(default)]
    pub nursing_educations: Vec<NursingEducation>,
    #[serde(default)]
    pub bccnm_license_number: Option<String>,
    #[serde(default)]
    pub notes: Option<String>,
    #[serde(default)]
    pub status_id: Option<String>,
    pub new_bccnm_process: bool,
    #[serde(default)]
    pub pathway_id: Option<String>,
    #[serde(default)]
    pub end_of_journey: Option<String>,
    #[serde(default)]
    pub created_date: Option<Timestamp>,
    #[serde(default)]
    pub updated_date: Option<Timestamp>,
}

/// `register.milestone`: a milestone an applicant has reached (status audit).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "milestone")]
#[expect(missing_docs, reason = "see avro/register/milestone.avsc")]
pub struct Milestone {
    pub id: String,
    pub applicant_id: String,
    pub status_id: String,
    #[serde(default)]
    pub start_date: Option<Date>,
    #[serde(default)]
    pub notes: Option<String>,
    #[serde(default)]
    pub reason_id: Option<String>,
    #[serde(default)]
    pub reason_other: Option<String>,
    #[serde(default)]
    pub effective_date: Option<Date>,
    #[serde(default)]
    pub added_by_id: Option<String>,
    #[serde(default)]
    pub created_date: Option<Timestamp>,
    #[serde(default)]
    pub updated_date: Option<Timestamp>,
}

impl Entity for User {
    const TOPIC: &'static str = "register.user";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for HealthAuthority {
    const TOPIC: &'static str = "register.health_authority";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for Reason {
    const TOPIC: &'static str = "register.reason";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for Status {
    const TOPIC: &'static str = "register.status";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.id)])
    }
}

impl Entity for Applicant {
    const TOPIC: &'static str = "register.applicant";

    fn key(&self) -> Key {
        Key::of(&[Some(&self.applicant_id)])
    }
}

impl Entity for Milestone {
    const TOPIC: &'static str = "register.milestone";

    fn key(&self) -> Key {
        let start_date = self.start_date.map(|day| day.to_string());
        Key::of(&[Some(&self.applicant_id), Some(&self.status_id), start_date.as_deref()])
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "User", &self.id)
    }
}

impl fmt::Debug for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "Applicant", &self.applicant_id)
    }
}

impl fmt::Debug for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_key(f, "Milestone", self.key().as_str())
    }
}
