//! The masters that the applicants' rules look at: which statuses are known, and who is whose user.

use std::collections::HashMap;

use pipeline::processor::Row;
use pipeline::reject::{Reason, Reject};
use schemas::Entity;
use schemas::records::ats;

use crate::decode;
use crate::users::Directory;

/// Milestones of these categories belong to recruitment, which the register keeps by itself (ATS contract, categories:
/// today's name and the original's).
const RECRUITMENT: [&str; 2] = ["IEN Recruitment Process", "Recruitment"];

/// The masters, arranged for [`super::Applicants`].
#[derive(Default)]
pub struct ApplicantsTables {
    statuses: HashMap<String, Status>,
    pub(super) users: Directory,
}

/// What the rules need to know of a status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) is_recruitment: bool,
    pub(super) step: Step,
    pub(super) sheet: Sheet,
}

/// What it means that one of the register's spreadsheets has a status (ATS contract, what a run does, 7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sheet {
    /// The spreadsheet's milestone takes the place of the ATS's.
    Wins,
    /// The ATS's takes the place of the spreadsheet's.
    Yields,
    /// They stand beside each other.
    Beside,
}

/// Where the spreadsheet's word counts: the college's and the assessment's, which was called NCAS before it was Inspire.
const WINS: [&str; 9] = [
    "Applied to BCCNM",
    "Completed Inspire",
    "Completed NCAS",
    "BCCNM Provisional Licence LPN",
    "BCCNM Provisional Licence RN",
    "BCCNM Provisional Licence RPN",
    "BCCNM Full Licence LPN",
    "BCCNM Full Licence RN",
    "BCCNM Full Licence RPN",
];

/// What a status means for the end of the journey.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    NotProceeding,
    ReEngaged,
    Other,
}

impl ApplicantsTables {
    pub(super) fn arrange(rows: &[Row], rejects: &mut Vec<Reject>) -> Self {
        let mut statuses = HashMap::new();
        let mut staff = Vec::new();
        for row in rows {
            let read = match &*row.topic {
                ats::Milestone::TOPIC => decode::entity::<ats::Milestone>(row).map(|milestone| {
                    let status = Status::of(&milestone);
                    statuses.insert(milestone.id, status);
                }),
                ats::Staff::TOPIC => decode::entity::<ats::Staff>(row).map(|member| staff.push(member)),
                other => {
                    let reason = Reason::new("wrong_topic", format!("{other} is no table of this processor"));
                    Err(Reject::new(Some(row.key.clone()), reason, row.payload.body.clone()))
                }
            };
            if let Err(reject) = read {
                rejects.push(reject);
            }
        }
        Self { statuses, users: Directory::of(&staff) }
    }

    /// The status of that id, which must be in lower case. `None`: the ATS's list of milestones doesn't have it.
    pub(super) fn status(&self, id: &str) -> Option<Status> {
        self.statuses.get(id).copied()
    }
}

impl Status {
    fn of(milestone: &ats::Milestone) -> Self {
        let category = milestone.category.as_deref().unwrap_or_default();
        Self {
            is_recruitment: RECRUITMENT.iter().any(|recruitment| is_same(category, recruitment)),
            step: match &*milestone.name {
                name if is_same(name, "Not proceeding") => Step::NotProceeding,
                name if is_same(name, "Re-engaged") => Step::ReEngaged,
                _ => Step::Other,
            },
            sheet: match &*milestone.name {
                name if WINS.iter().any(|wins| is_same(name, wins)) => Sheet::Wins,
                name if is_same(name, "Signed Return of Service Agreement") => Sheet::Yields,
                _ => Sheet::Beside,
            },
        }
    }
}

fn is_same(text: &str, other: &str) -> bool {
    text.trim().eq_ignore_ascii_case(other)
}
