//! The fields of an applicant (ATS contract, "Applicant object"). No I/O.
//!
//! An applicant is taken whole or not at all: one bad milestone rejects the applicant, since a list without it would
//! delete it downstream. For the same reason `milestones` may be neither missing nor null.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use schemas::records::ats::{Applicant, ApplicantMilestone, Assignee, NursingEducation};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::field::{Absent, One, Wrong, stored};
use super::shape::{Item, List, NoObject, Scalar};

/// Longer notes are a fault of the source.
const MAX_NOTES: usize = 256 << 10;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ApplicantJson<'a> {
    #[serde(borrow)]
    applicant_id: Scalar<'a>,
    #[serde(borrow)]
    ats1_id: Scalar<'a>,
    #[serde(borrow)]
    first_name: Scalar<'a>,
    #[serde(borrow)]
    last_name: Scalar<'a>,
    #[serde(borrow)]
    email_address: Scalar<'a>,
    #[serde(borrow)]
    phone_number: Scalar<'a>,
    #[serde(borrow)]
    country_of_residence: Scalar<'a>,
    #[serde(borrow)]
    countries_of_citizenship: List<'a, NoObject>,
    #[serde(borrow)]
    pr_status: Scalar<'a>,
    #[serde(borrow)]
    assigned_to: List<'a, AssigneeJson<'a>>,
    #[serde(borrow)]
    pathway_id: Scalar<'a>,
    #[serde(borrow)]
    registration_date: Scalar<'a>,
    #[serde(borrow)]
    created_date: Scalar<'a>,
    #[serde(borrow)]
    updated_date: Scalar<'a>,
    #[serde(borrow)]
    bccnm_license_number: Scalar<'a>,
    /// Any JSON; kept as it is written.
    #[serde(borrow)]
    notes: Option<&'a RawValue>,
    #[serde(borrow)]
    nursing_educations: List<'a, EducationJson<'a>>,
    #[serde(borrow)]
    milestones: List<'a, MilestoneJson<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AssigneeJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EducationJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    country: Scalar<'a>,
    #[serde(borrow)]
    num_years: Scalar<'a>,
    #[serde(borrow)]
    year: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MilestoneJson<'a> {
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    start_date: Scalar<'a>,
    #[serde(borrow)]
    created_date: Scalar<'a>,
    #[serde(borrow)]
    notes: Scalar<'a>,
    #[serde(borrow)]
    added_by: Scalar<'a>,
    #[serde(borrow)]
    reason_id: Scalar<'a>,
    #[serde(borrow)]
    reason_other: Scalar<'a>,
    #[serde(borrow)]
    effective_date: Scalar<'a>,
}

/// The applicant, and when the ATS says it changed.
pub(super) fn applicant(json: ApplicantJson<'_>, zone: Tz) -> Result<(Applicant, Option<DateTime<Utc>>), Wrong> {
    let created = json.created_date.moment("created_date", zone)?;
    let updated = json.updated_date.moment("updated_date", zone)?;
    let applicant = Applicant {
        applicant_id: json.applicant_id.uuid("applicant_id")?,
        ats1_id: json.ats1_id.whole("ats1_id")?,
        first_name: json.first_name.text("first_name")?,
        last_name: json.last_name.text("last_name")?,
        email_address: json.email_address.text("email_address")?,
        phone_number: json.phone_number.text("phone_number")?,
        country_of_residence: json.country_of_residence.optional_text("country_of_residence")?,
        countries_of_citizenship: countries(json.countries_of_citizenship)?,
        pr_status: json.pr_status.text("pr_status")?,
        assigned_to: assignees(json.assigned_to)?,
        pathway_id: json.pathway_id.optional_id("pathway_id")?,
        registration_date: json.registration_date.local("registration_date", zone)?,
        created_date: stored(created),
        updated_date: stored(updated),
        bccnm_license_number: json.bccnm_license_number.optional_text("bccnm_license_number")?,
        notes: notes(json.notes)?,
        nursing_educations: educations(json.nursing_educations)?,
        milestones: milestones(json.milestones, zone)?,
    };
    Ok((applicant, updated.or(created)))
}

fn countries(list: List<'_, NoObject>) -> Result<Vec<String>, Wrong> {
    const NAME: &str = "countries_of_citizenship";
    let mut countries = Vec::new();
    for (at, item) in list.items(NAME, One::IsAList, Absent::MayBeNull)?.unwrap_or_default().into_iter().enumerate() {
        let Item::Scalar(country) = item else { return Err(Wrong::new("wrong_type", "", "text").inside(NAME, at)) };
        countries.extend(country.optional_text("").map_err(|wrong| wrong.inside(NAME, at))?);
    }
    Ok(countries)
}

fn assignees(list: List<'_, AssigneeJson<'_>>) -> Result<Option<Vec<Assignee>>, Wrong> {
    const NAME: &str = "assigned_to";
    let Some(items) = list.items(NAME, One::IsAList, Absent::MayBeMissing)? else { return Ok(None) };
    let mut assignees = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let assignee = match item {
            Item::Object(AssigneeJson { id, name }) => {
                id.id("id").and_then(|id| Ok(Assignee { id, name: name.optional_text("name")? }))
            }
            // Older rows.
            Item::Scalar(id) => id.id("").map(|id| Assignee { id, name: None }),
        };
        assignees.push(assignee.map_err(|wrong| wrong.inside(NAME, at))?);
    }
    Ok(Some(assignees))
}

/// Kept as written, so that nothing of it is lost; null and blank text are none.
fn notes(notes: Option<&RawValue>) -> Result<Option<String>, Wrong> {
    let Some(notes) = notes.map(RawValue::get) else { return Ok(None) };
    if notes.len() > MAX_NOTES {
        return Err(Wrong::new("too_long", "notes", "at most 256 KiB of JSON"));
    }
    let is_blank = notes.trim_matches('"').trim_ascii().is_empty();
    Ok((!is_blank).then(|| notes.to_owned()))
}

fn educations(list: List<'_, EducationJson<'_>>) -> Result<Vec<NursingEducation>, Wrong> {
    const NAME: &str = "nursing_educations";
    let mut educations = Vec::new();
    for (at, item) in list.items(NAME, One::IsWrong, Absent::MayBeNull)?.unwrap_or_default().into_iter().enumerate() {
        educations.push(object(item).and_then(education).map_err(|wrong| wrong.inside(NAME, at))?);
    }
    Ok(educations)
}

fn education(json: EducationJson<'_>) -> Result<NursingEducation, Wrong> {
    Ok(NursingEducation {
        id: json.id.id("id")?,
        name: json.name.text("name")?,
        country: json.country.optional_text("country")?,
        num_years: json.num_years.small_whole("num_years")?,
        year: json.year.small_whole("year")?,
    })
}

fn milestones(list: List<'_, MilestoneJson<'_>>, zone: Tz) -> Result<Vec<ApplicantMilestone>, Wrong> {
    const NAME: &str = "milestones";
    let items = list.items(NAME, One::IsWrong, Absent::Required)?.unwrap_or_default();
    let mut milestones = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let milestone = object(item).and_then(|json| milestone(json, zone));
        milestones.push(milestone.map_err(|wrong| wrong.inside(NAME, at))?);
    }
    Ok(milestones)
}

fn milestone(json: MilestoneJson<'_>, zone: Tz) -> Result<ApplicantMilestone, Wrong> {
    Ok(ApplicantMilestone {
        id: json.id.id("id")?,
        name: json.name.optional_text("name")?,
        start_date: json.start_date.local("start_date", zone)?,
        created_date: stored(json.created_date.moment("created_date", zone)?),
        notes: json.notes.optional_text("notes")?,
        added_by: json.added_by.optional_id("added_by")?,
        reason_id: json.reason_id.optional_id("reason_id")?,
        reason_other: json.reason_other.optional_text("reason_other")?,
        effective_date: json.effective_date.local("effective_date", zone)?,
    })
}

fn object<T>(item: Item<'_, T>) -> Result<T, Wrong> {
    match item {
        Item::Object(object) => Ok(object),
        Item::Scalar(_) => Err(Wrong::new("wrong_type", "", "an object")),
    }
}
