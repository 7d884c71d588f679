//! Where an applicant stands: the status now, and whether the journey has ended.

use pipeline::processor::Outputs;
use schemas::records::register::Milestone;

use super::foreign::ForeignMilestone;
use super::milestones::Kept;
use super::tables::{ApplicantsTables, Sheet, Step};

/// The status of the milestone with the greatest start date, then the greatest `updated_date`, then the greatest status, among
/// the ATS's and those that others have written. An undated milestone never counts: without a dated one there is no status.
///
/// One of others whose status the ATS's list doesn't have is left out (`foreign_unknown_status`): the applicant would wait
/// for a status that nobody delivers.
pub(super) fn status<'a>(
    milestones: &'a [Kept],
    foreign: &[&'a ForeignMilestone],
    tables: &ApplicantsTables,
    out: &mut Outputs,
) -> Option<&'a str> {
    let ours = milestones.iter().map(|milestone| &milestone.row);
    let mut dated: Vec<_> = ours.map(|row| (row.start_date, row.updated_date, row.status_id.as_str())).collect();
    for row in foreign {
        let Some(status) = tables.status(&row.status_id) else {
            out.leave_out("foreign_unknown_status");
            continue;
        };
        let is_overwritten = || milestones.iter().any(|milestone| milestone.row.status_id == row.status_id);
        if status.sheet == Sheet::Yields && is_overwritten() {
            out.leave_out("foreign_overwritten");
            continue;
        }
        dated.push((row.start_date, row.updated_date, row.status_id.as_str()));
    }
    let latest = dated.into_iter().filter(|(start_date, ..)| start_date.is_some()).max()?;
    Some(latest.2)
}

/// By the ATS's milestones alone: `journey_incomplete` when the applicant isn't proceeding and no later milestone says "Re-engaged". `journey_complete`
/// is the register's own business.
pub(super) fn end(milestones: &[Kept]) -> Option<&'static str> {
    let of_step =
        |step| milestones.iter().filter(move |milestone| milestone.step == step).map(|milestone| &milestone.row);
    let has_stopped = |stop| !of_step(Step::ReEngaged).any(|start| is_later(start, stop));
    of_step(Step::NotProceeding).any(has_stopped).then_some("journey_incomplete")
}

/// Whether `a` was reached after `b`. By their start dates; on the same day, or when one has no start date, by when the
/// ATS recorded them. When that isn't known either, or is the same moment, nothing says that it was later.
fn is_later(a: &Milestone, b: &Milestone) -> bool {
    match (a.start_date, b.start_date) {
        (Some(a_day), Some(b_day)) if a_day != b_day => a_day > b_day,
        _ => {
            matches!((a.created_date, b.created_date), (Some(a_recorded), Some(b_recorded)) if a_recorded > b_recorded)
        }
    }
}
