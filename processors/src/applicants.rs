//! The register's applicants and their milestones, from the ATS's applicants.

mod foreign;
mod journey;
mod milestones;
mod tables;

use bytes::Bytes;
use pipeline::processor::{Group, Outputs, Processor, Row};
use pipeline::reject::{Reason, Reject};
use schemas::records::{ats, register};
use schemas::{Entity, Key};

use crate::decode::{self, lower, reference};
pub use foreign::{FOREIGN_MILESTONE, ForeignMilestone};
use milestones::Kept;
pub use tables::ApplicantsTables;

/// `ats.applicant` to `register.applicant` and `register.milestone`, with the masters `ats.milestone` and `ats.staff`.
///
/// What each file decides: `milestones` which milestones the register keeps and what they say, `foreign` what counts of the
/// register's own, `journey` the status and the end of the journey, this one the applicant. The outputs are all there is: a milestone that has vanished from the
/// applicant, or whose start date has moved, is no longer derived under its old key and so deleted.
///
/// An applicant that can't be written fails as a whole and keeps its last outputs; a milestone that can't costs itself.
#[derive(Default)]
pub struct Applicants {
    /// Milestones that others write in the register are followed ([`FOREIGN_MILESTONE`]), and are inputs, too.
    pub with_foreign: bool,
}

/// One input of an applicant.
#[derive(Debug)]
pub enum ApplicantsInput {
    /// What the ATS says.
    Polled(Box<ats::Applicant>),
    /// What somebody else has written in the register. One that can't be used costs itself, not its applicant.
    Foreign(Result<ForeignMilestone, Reject>),
}

/// The last day of the college's old process (ATS contract, target tables, `new_bccnm_process`).
const LAST_DAY_OF_OLD_PROCESS: schemas::Date = schemas::Date(19_387);

impl Processor for Applicants {
    type In = ApplicantsInput;
    type Tables = ApplicantsTables;

    fn name(&self) -> &'static str {
        "applicants"
    }

    fn version(&self) -> u32 {
        1
    }

    fn inputs(&self) -> &'static [&'static str] {
        if self.with_foreign { &[ats::Applicant::TOPIC, FOREIGN_MILESTONE] } else { &[ats::Applicant::TOPIC] }
    }

    fn tables(&self) -> &'static [&'static str] {
        &[ats::Milestone::TOPIC, ats::Staff::TOPIC]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[register::Applicant::TOPIC, register::Milestone::TOPIC]
    }

    fn decode(&self, row: &Row) -> Result<ApplicantsInput, Reject> {
        match &*row.topic {
            FOREIGN_MILESTONE => Ok(ApplicantsInput::Foreign(foreign::decode(row))),
            _ => Ok(ApplicantsInput::Polled(Box::new(decode::entity(row)?))),
        }
    }

    fn arrange(&self, rows: &[Row], rejects: &mut Vec<Reject>) -> ApplicantsTables {
        ApplicantsTables::arrange(rows, rejects)
    }

    fn derive(
        &self,
        group: &Group<ApplicantsInput>,
        tables: &ApplicantsTables,
        out: &mut Outputs,
    ) -> Result<(), Reject> {
        let mut foreign = Vec::new();
        for input in &group.inputs {
            match &input.value {
                ApplicantsInput::Polled(_) => {}
                ApplicantsInput::Foreign(Ok(row)) if row.is_own => out.leave_out("own_row"),
                ApplicantsInput::Foreign(Ok(row)) => foreign.push(row),
                ApplicantsInput::Foreign(Err(reject)) => out.reject(reject.clone()),
            }
        }
        for input in &group.inputs {
            let ApplicantsInput::Polled(polled) = &input.value else { continue };
            let milestones = milestones::kept(polled, &foreign, tables, out);
            let status_id = journey::status(&milestones, &foreign, tables, out).map(str::to_owned);
            out.put(&applicant(polled, &milestones, status_id))?;
            let unwritable: Vec<Reject> = milestones.iter().filter_map(|it| out.put(&it.row).err()).collect();
            if !unwritable.is_empty() {
                out.reject(of_input(&input.key, &unwritable));
            }
        }
        Ok(())
    }
}

/// One reject for all milestones of an applicant that can't be written. It has the applicant's key: that is the record
/// to be repaired and derived again.
fn of_input(key: &Key, milestones: &[Reject]) -> Reject {
    let said = |milestone: &Reject| {
        let key = milestone.key.as_ref().map_or("a milestone", Key::as_str);
        format!("{key}: {}", milestone.reason.text)
    };
    let text = milestones.iter().map(said).collect::<Vec<_>>().join("; ");
    Reject::new(Some(key.clone()), Reason::new("milestone_not_encodable", text), Bytes::new())
}

fn applicant(polled: &ats::Applicant, milestones: &[Kept], status_id: Option<String>) -> register::Applicant {
    let registration_date = polled.registration_date.map(schemas::LocalTimestamp::date);
    register::Applicant {
        applicant_id: polled.applicant_id.clone(),
        name: full_name(&polled.first_name, &polled.last_name),
        first_name: polled.first_name.clone(),
        last_name: polled.last_name.clone(),
        ats1_id: Some(polled.ats1_id.to_string()),
        email_address: polled.email_address.clone(),
        phone_number: polled.phone_number.clone(),
        registration_date,
        assigned_to: polled.assigned_to.as_ref().map(|staff| staff.iter().map(assignee).collect()),
        country_of_citizenship: polled.countries_of_citizenship.clone(),
        country_of_residence: polled.country_of_residence.clone(),
        pr_status: polled.pr_status.clone(),
        nursing_educations: polled.nursing_educations.iter().map(education).collect(),
        bccnm_license_number: polled.bccnm_license_number.clone(),
        notes: polled.notes.clone(),
        status_id,
        new_bccnm_process: registration_date.is_some_and(|day| day > LAST_DAY_OF_OLD_PROCESS),
        pathway_id: reference(polled.pathway_id.as_deref()),
        end_of_journey: journey::end(milestones).map(str::to_owned),
        created_date: polled.created_date,
        updated_date: polled.updated_date,
    }
}

/// First and last name with a space between them; no space where there is only one.
fn full_name(first: &str, last: &str) -> String {
    if first.is_empty() || last.is_empty() { format!("{first}{last}") } else { format!("{first} {last}") }
}

fn assignee(staff: &ats::Assignee) -> ats::Assignee {
    ats::Assignee { id: lower(&staff.id), name: staff.name.clone() }
}

fn education(education: &ats::NursingEducation) -> ats::NursingEducation {
    ats::NursingEducation { id: lower(&education.id), ..education.clone() }
}
