//! Milestones that others write in the register: a spreadsheet's, followed back from its table (ATS contract, what a run does,
//! 7 to 9). Which rows these are is for the configuration of their source to say.

use pipeline::processor::Row;
use pipeline::reject::{Reason, Reject};
use schemas::{Date, Timestamp};
use serde::Deserialize;

use super::milestones::id_of_own;
use crate::decode::{is_lower_case_uuid, lower};

/// The topic of the source that follows them, where the configuration has one. Its schema is made of the table's columns.
pub const FOREIGN_MILESTONE: &str = "register.foreign_milestone";

/// A milestone that somebody else has written in the register.
#[derive(Debug)]
pub struct ForeignMilestone {
    pub(super) status_id: String,
    pub(super) start_date: Option<Date>,
    pub(super) updated_date: Option<Timestamp>,
    /// It is a row that the register got from here: nobody else's word.
    pub(super) is_own: bool,
}

/// The columns that count; others may be there.
#[derive(Deserialize)]
struct Columns {
    applicant_id: String,
    id: String,
    #[serde(default)]
    status_id: Option<String>,
    #[serde(default)]
    start_date: Option<Date>,
    #[serde(default)]
    updated_date: Option<Timestamp>,
}

/// The milestone of `row`. Its group is an applicant's only if the ids are written alike.
pub(super) fn decode(row: &Row) -> Result<ForeignMilestone, Reject> {
    let reject =
        |code, text: String| Reject::new(Some(row.key.clone()), Reason::new(code, text), row.payload.body.clone());
    let columns: Columns = schemas::from_avro(&row.payload.schema, &row.payload.body)
        .map_err(|fault| reject("malformed", fault.to_string()))?;
    if row.key.prefix(1) != columns.applicant_id {
        return Err(reject("wrong_key", format!("the key of a record in {} isn't its applicant's", row.topic)));
    }
    if !is_lower_case_uuid(&columns.applicant_id) {
        return Err(reject(
            "wrong_id",
            format!("the applicant of a record in {} must be a uuid in lower case", row.topic),
        ));
    }
    let Some(status_id) = columns.status_id.as_deref().map(lower) else {
        return Err(reject("no_status", format!("a record in {} has no status_id", row.topic)));
    };
    let is_own = columns.id == id_of_own(&columns.applicant_id, &status_id, columns.start_date);
    Ok(ForeignMilestone { status_id, start_date: columns.start_date, updated_date: columns.updated_date, is_own })
}
