//! Where an applicant stands: the status now, and whether the journey has ended.

use super::milestones::Kept;
use super::tables::Step;
use schemas::records::register::Milestone;

/// The status of the milestone with the greatest start date, then the greatest `updated_date`, then the greatest status.
/// An undated milestone never counts: without a dated one there is no status.
pub(super) fn status(milestones: &[Kept]) -> Option<&str> {
    let dated = milestones.iter().map(|milestone| &milestone.row).filter(|row| row.start_date.is_some());
    let latest = dated.max_by_key(|row| (row.start_date, row.updated_date, &row.status_id))?;
    Some(&latest.status_id)
}

/// `journey_incomplete` when the applicant isn't proceeding and no later milestone says "Re-engaged". `journey_complete`
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
