//! Why a statement failed, by what the sink does about it. Databases' own texts can quote values: only what is known
//! to name nothing but tables, columns and settings gets this far.

use std::time::Duration;

use pipeline::reject::Reason;
use pipeline::sink::SinkError;

/// Why a transaction couldn't be carried through.
#[derive(Debug)]
pub(super) enum Failure {
    /// Some row of the statement is wrong: found by halves.
    Data(Fault),
    /// The transaction ran into another one: the same again.
    Again(String),
    /// The runner must wait or stop.
    Stop(SinkError),
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Stop(error)
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// Table, column or constraint and what was expected.
    pub(super) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// A foreign key: the parent isn't there, or children still are.
    Reference,
    /// Another row has the values of these columns.
    Unique(Vec<String>),
    NotNull,
    /// A check constraint, a trigger or an exclusion said no.
    Check,
    /// The value doesn't fit the column's type.
    Value,
}

/// Makes the errors of one target.
#[derive(Debug, Clone)]
pub(super) struct Errors {
    /// The component's name.
    pub(super) sink: String,
}

impl Errors {
    pub(super) fn unavailable(&self, reason: impl Into<String>) -> SinkError {
        SinkError::Unavailable { sink: self.sink.clone(), reason: reason.into(), retry_after: None::<Duration> }
    }

    pub(super) fn refused(&self, reason: impl Into<String>, hint: impl Into<String>) -> SinkError {
        SinkError::Refused { sink: self.sink.clone(), reason: reason.into(), hint: hint.into() }
    }
}

/// The reasons a row can be set aside or parked for.
pub(super) mod reason {
    use super::Reason;

    /// The row it refers to isn't in the target.
    pub(in crate::sql) const MISSING_PARENT: &str = "missing_parent";
    /// Other rows still refer to the row that is to be deleted.
    pub(in crate::sql) const STILL_REFERRED_TO: &str = "still_referred_to";
    /// Another row has a value that only one may have.
    pub(in crate::sql) const CONTRADICTION: &str = "contradiction";
    /// Several rows of somebody else's look like this one.
    pub(in crate::sql) const AMBIGUOUS: &str = "ambiguous_match";

    /// A row like it is somebody else's, for good: it waits until that row goes, for however long.
    pub(in crate::sql) const HELD_BY_OTHERS: &str = "held_by_others";

    pub(in crate::sql) fn held_by_others(table: &str, columns: &str) -> Reason {
        Reason::new(HELD_BY_OTHERS, format!("a row of {table} with the same {columns} belongs to others (`theirs`)"))
    }

    pub(in crate::sql) fn missing_parent(table: &str, column: &str, parent: &str) -> Reason {
        Reason::new(MISSING_PARENT, format!("{table}.{column} refers to a {parent} that isn't there yet"))
    }

    pub(in crate::sql) fn ambiguous(table: &str, columns: &str) -> Reason {
        Reason::new(AMBIGUOUS, format!("several rows of {table} that aren't Muster's have the same {columns}"))
    }
}
