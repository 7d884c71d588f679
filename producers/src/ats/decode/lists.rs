//! The fields of the master lists (ATS contract, "Endpoints of the ATS"). No I/O.

use schemas::records::ats::{HealthAuthority, Milestone, Reason, Staff};
use serde::Deserialize;

use super::field::Wrong;
use super::shape::Scalar;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct StaffJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    email: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct HealthAuthorityJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    abbreviation: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ReasonJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    i_e_n_program: Scalar<'a>,
    #[serde(borrow)]
    recruitment: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct MilestoneJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    category: Scalar<'a>,
    #[serde(borrow, rename = "process-related")]
    process_related: Scalar<'a>,
}

/// Ids of staff were numbers once: any form is taken.
pub(super) fn staff(json: StaffJson<'_>) -> Result<Staff, Wrong> {
    Ok(Staff { id: json.id.id("id")?, name: json.name.text("name")?, email: json.email.optional_text("email")? })
}

pub(super) fn health_authority(json: HealthAuthorityJson<'_>) -> Result<HealthAuthority, Wrong> {
    Ok(HealthAuthority {
        id: json.id.uuid("id")?,
        name: json.name.text("name")?,
        abbreviation: json.abbreviation.text("abbreviation")?,
    })
}

pub(super) fn reason(json: ReasonJson<'_>) -> Result<Reason, Wrong> {
    Ok(Reason {
        id: json.id.uuid("id")?,
        name: json.name.text("name")?,
        i_e_n_program: json.i_e_n_program.bool("i_e_n_program")?,
        recruitment: json.recruitment.bool("recruitment")?,
    })
}

pub(super) fn milestone(json: MilestoneJson<'_>) -> Result<Milestone, Wrong> {
    Ok(Milestone {
        id: json.id.uuid("id")?,
        name: json.name.text("name")?,
        category: json.category.optional_text("category")?,
        process_related: json.process_related.optional_bool("process-related")?,
    })
}
