//! Reads a record of the ATS, and refuses one whose key could not lead to keys of the register. Used by every processor.

use pipeline::processor::Row;
use pipeline::reject::{Reason, Reject};
use schemas::Entity;
use uuid::Uuid;

/// The record of `row`, whose key is a uuid in lower case.
///
/// The source lower-cases ids. One that isn't lower case would make the same entity of the register a second time, from
/// another group; one that isn't a uuid can't be a key of the register at all.
pub(crate) fn entity<E: Entity>(row: &Row) -> Result<E, Reject> {
    let reject =
        |code, text: String| Reject::new(Some(row.key.clone()), Reason::new(code, text), row.payload.body.clone());

    let entity: E = schemas::from_avro(&row.payload.schema, &row.payload.body)
        .map_err(|fault| reject("malformed", fault.to_string()))?;
    if entity.key() != row.key {
        return Err(reject("wrong_key", format!("the key of a record in {} isn't that of its contents", row.topic)));
    }
    if !is_lower_case_uuid(row.key.as_str()) {
        return Err(reject("wrong_id", format!("the id of a record in {} must be a uuid in lower case", row.topic)));
    }
    Ok(entity)
}

/// Whether the text is an id as keys have it.
pub(crate) fn is_lower_case_uuid(text: &str) -> bool {
    // Other notations of a uuid have other lengths.
    text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase()) && Uuid::try_parse(text).is_ok()
}

/// An id in the register's notation.
pub(crate) fn lower(id: &str) -> String {
    id.trim().to_lowercase()
}

/// A reference in the register's notation; the ATS also writes an empty text for none.
pub(crate) fn reference(id: Option<&str>) -> Option<String> {
    id.map(lower).filter(|id| !id.is_empty())
}
