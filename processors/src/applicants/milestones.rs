//! Which milestones of an applicant the register keeps, and what they say there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use pipeline::processor::Outputs;
use schemas::records::ats::{Applicant, ApplicantMilestone};
use schemas::records::register::Milestone;
use schemas::{Date, Entity, Key, LocalTimestamp};
use sha2::{Digest, Sha256};

use super::foreign::ForeignMilestone;
use super::tables::{ApplicantsTables, Sheet, Step};
use crate::decode::{lower, reference};

/// A milestone that the register keeps.
pub(super) struct Kept {
    pub(super) row: Milestone,
    pub(super) step: Step,
}

/// The milestones the register keeps, in the order of (status, start date).
///
/// - Left out: those whose id isn't in the ATS's list (`unknown_status`), and those of recruitment (`recruitment`).
/// - Left out (`spreadsheet`): those of a status that one of the register's spreadsheets has, where that one's word counts,
///   on whatever day.
/// - The same status on the same day twice: the one created last counts, the others are superseded.
/// - Who added it is looked up among the staff. Of nobody known (`unknown_user` counts them) the register keeps null, as
///   the ATS's own client does: a reference to a user who may never come would hold back the whole row, and when the
///   member of staff does come, all applicants are derived again.
/// - A reason that isn't known yet stays as it is: the row waits for it in the target.
pub(super) fn kept(
    applicant: &Applicant,
    foreign: &[&ForeignMilestone],
    tables: &ApplicantsTables,
    out: &mut Outputs,
) -> Vec<Kept> {
    let mut latest: BTreeMap<(String, Option<Date>), (&ApplicantMilestone, Step)> = BTreeMap::new();
    for milestone in &applicant.milestones {
        let status_id = lower(&milestone.id);
        let Some(status) = tables.status(&status_id) else {
            out.leave_out("unknown_status");
            continue;
        };
        if status.is_recruitment {
            out.leave_out("recruitment");
            continue;
        }
        if status.sheet == Sheet::Wins && foreign.iter().any(|row| row.status_id == status_id) {
            out.leave_out("spreadsheet");
            continue;
        }
        match latest.entry((status_id, milestone.start_date.map(LocalTimestamp::date))) {
            Entry::Vacant(free) => {
                free.insert((milestone, status.step));
            }
            Entry::Occupied(mut other) => {
                out.superseded += 1;
                if precedence(milestone) > precedence(other.get().0) {
                    other.insert((milestone, status.step));
                }
            }
        }
    }

    let mut kept = Vec::with_capacity(latest.len());
    for ((status_id, start_date), (milestone, step)) in latest {
        let added_by_id = added_by(milestone, tables, out);
        let row = row(&applicant.applicant_id, status_id, start_date, milestone, added_by_id);
        kept.push(Kept { row, step });
    }
    kept
}

/// The greater counts: newest `created_date`, then greatest id (ATS contract, decided). Here the ids are the same, so
/// everything else that reaches the register follows: whichever comes first in the feed, the same counts.
fn precedence(milestone: &ApplicantMilestone) -> impl Ord {
    let ApplicantMilestone { created_date, effective_date, reason_id, reason_other, notes, added_by, .. } = milestone;
    (*created_date, *effective_date, reason_id, reason_other, notes, added_by)
}

fn added_by(milestone: &ApplicantMilestone, tables: &ApplicantsTables, out: &mut Outputs) -> Option<String> {
    let staff_id = reference(milestone.added_by.as_deref())?;
    let user = tables.users.user(&staff_id);
    if user.is_none() {
        out.leave_out("unknown_user");
    }
    user.map(str::to_owned)
}

fn row(
    applicant_id: &str,
    status_id: String,
    start_date: Option<Date>,
    milestone: &ApplicantMilestone,
    added_by_id: Option<String>,
) -> Milestone {
    let mut row = Milestone {
        id: String::new(),
        applicant_id: applicant_id.to_owned(),
        status_id,
        start_date,
        notes: milestone.notes.clone(),
        reason_id: reference(milestone.reason_id.as_deref()),
        reason_other: milestone.reason_other.clone(),
        effective_date: milestone.effective_date.map(LocalTimestamp::date),
        added_by_id,
        created_date: milestone.created_date,
        updated_date: milestone.created_date,
    };
    row.id = id_of(&row.key());
    row
}

/// The id of the row that the register gets from here for this milestone of an applicant.
pub(super) fn id_of_own(applicant_id: &str, status_id: &str, start_date: Option<Date>) -> String {
    let start_date = start_date.map(|day| day.to_string());
    id_of(&Key::of(&[Some(applicant_id), Some(status_id), start_date.as_deref()]))
}

/// A uuid that the same key always gives: version 8, of the SHA-256 of `register.milestone`, a line feed and the key.
fn id_of(key: &Key) -> String {
    let mut hash = Sha256::new();
    hash.update(Milestone::TOPIC);
    hash.update("\n");
    hash.update(key.as_str());
    let hash: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
