//! What PostgreSQL's errors mean for a source, by SQLSTATE. Messages are passed on only where they name nothing but
//! objects and settings: those of data errors quote values.

use pipeline::source::SourceError;
use sqlx::postgres::PgDatabaseError;

/// Why a statement failed.
pub fn failure(system: &str, error: &sqlx::Error) -> SourceError {
    let unavailable = |reason: String| unavailable(system, reason);
    let refused = |reason: &str, hint: &str| refused(system, reason, hint);
    match error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => by_state(system, error),
            None => unavailable("the database answered with something unknown".to_owned()),
        },
        sqlx::Error::PoolTimedOut => unavailable("no connection within the connect time-out".to_owned()),
        sqlx::Error::Io(error) => unavailable(format!("the connection broke: {}", error.kind())),
        sqlx::Error::Tls(_) => {
            refused("no secure connection could be made", "check `sslmode` and the certificates of the URL")
        }
        sqlx::Error::Configuration(_) => refused("the URL can't be used", "write it as postgres://user@host/database"),
        _ => unavailable("the connection broke".to_owned()),
    }
}

fn by_state(system: &str, error: &PgDatabaseError) -> SourceError {
    let (state, message) = (error.code(), error.message());
    let unavailable = |why: &str| unavailable(system, format!("{why} ({state})"));
    let refused = |hint: &str| refused(system, &format!("{message} ({state})"), hint);
    match state {
        "53300" => unavailable("the server has no connection left"),
        "55P03" => unavailable("somebody else holds a lock for longer than the lock time-out"),
        "57014" => unavailable("a statement took longer than the statement time-out"),
        "57P01" | "57P02" | "57P03" | "57P05" => unavailable("the server is stopping or starting"),
        // A standby that applies a change of the rows being read.
        "40001" | "40P01" => unavailable("the statement was cancelled in favour of another"),
        "28P01" | "28000" => refused("check user and password of the URL, and the server's pg_hba.conf"),
        "3D000" => refused("create the database, or correct the URL"),
        "3F000" => refused("correct `schema`"),
        "42501" => refused("grant usage on the schema, and select on the table, to Muster's user"),
        // Looked at a moment ago, it was there: the next look says what has become of it.
        "42P01" | "42703" | "42804" | "42846" | "0A000" => unavailable("the table was altered meanwhile"),
        _ => match &state[..2.min(state.len())] {
            "08" | "53" | "57" | "58" | "25" => unavailable("the server can't go on"),
            // The message could quote a value.
            "22" => super::failure::refused(
                system,
                &format!("{UNSENDABLE} ({state})"),
                "leave the column out (`leave_out`), or mend the value",
            ),
            _ => super::failure::refused(system, &format!("unexpected answer {state}"), "see the server's log"),
        },
    }
}

const UNSENDABLE: &str = "a value can't be sent as its column's type";

/// Whether a value of some row is to blame: the others can be read without it.
pub fn is_of_a_value(error: &SourceError) -> bool {
    matches!(error, SourceError::Refused { reason, .. } if reason.starts_with(UNSENDABLE))
}

/// Wait and try again.
pub fn unavailable(system: &str, reason: String) -> SourceError {
    SourceError::Unavailable { system: system.to_owned(), reason, retry_after: None }
}

/// A person must act.
pub fn refused(system: &str, reason: &str, hint: &str) -> SourceError {
    SourceError::Refused { system: system.to_owned(), reason: reason.to_owned(), hint: hint.to_owned() }
}
