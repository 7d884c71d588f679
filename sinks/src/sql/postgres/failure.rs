//! What PostgreSQL's errors mean, by SQLSTATE. DETAIL is never passed on, and a message only where it can name nothing
//! but objects and settings: those of data errors quote values.

use sqlx::postgres::PgDatabaseError;

use crate::sql::failure::{Errors, Failure, Fault, FaultKind};

pub(super) fn failure(errors: &Errors, error: sqlx::Error) -> Failure {
    let unavailable = |reason: String| Failure::Stop(errors.unavailable(reason));
    match error {
        sqlx::Error::Database(database) => match database.try_downcast::<PgDatabaseError>() {
            Ok(error) => by_state(errors, &error),
            Err(_) => unavailable("the database answered with something unknown".to_owned()),
        },
        sqlx::Error::PoolTimedOut => unavailable("no connection within the connect time-out".to_owned()),
        sqlx::Error::Io(error) => unavailable(format!("the connection broke: {}", error.kind())),
        sqlx::Error::Tls(_) => {
            let hint = "check `sslmode` and the certificates of the URL";
            errors.refused("no secure connection could be made", hint).into()
        }
        sqlx::Error::Configuration(_) => {
            errors.refused("the URL can't be used", "write it as postgres://user@host/database").into()
        }
        sqlx::Error::ColumnDecode { index, .. } => {
            errors.refused(format!("column {index} of a table of Muster's has another type"), PLAN).into()
        }
        _ => unavailable("the connection broke".to_owned()),
    }
}

const PLAN: &str = "run `muster plan` to see what the tables lack";

fn by_state(errors: &Errors, error: &PgDatabaseError) -> Failure {
    let state = error.code();
    let message = error.message();
    let unavailable = |why: &str| Failure::Stop(errors.unavailable(format!("{why} ({state})")));
    let refused = |hint: &str| Failure::Stop(errors.refused(format!("{message} ({state})"), hint));
    match state {
        "40001" => Failure::Again("serialization failure".to_owned()),
        "40P01" => Failure::Again("deadlock".to_owned()),
        "25P03" => unavailable("the server ended a transaction that stood idle"),
        "25006" => unavailable("the database is read-only: a failover, or a standby"),
        "53100" => unavailable("the server's disk is full"),
        "53300" => unavailable("the server has no connection left"),
        "55P03" => unavailable("somebody else holds a lock for longer than the lock time-out"),
        "57014" => unavailable("a statement took longer than the statement time-out"),
        "57P01" | "57P02" | "57P03" | "57P05" => unavailable("the server is stopping or starting"),
        "28P01" | "28000" => refused("check user and password of the URL, and the server's pg_hba.conf"),
        "3D000" => refused("create the database, or correct the URL"),
        "3F000" => refused("create the schema, or correct `schema`"),
        "42501" => refused(
            "grant usage on the schemas, and select, insert, update and delete on the tables, to Muster's user; \
             to create or alter tables it must own them",
        ),
        // A trigger's own words could quote the row.
        "P0001" => Failure::Data(Fault {
            kind: FaultKind::Check,
            text: format!("{}a trigger refused the row", of_table(error)),
        }),
        _ => match &state[..2.min(state.len())] {
            "08" | "53" | "57" | "58" => unavailable("the server can't go on"),
            "22" | "23" | "44" => Failure::Data(fault(error)),
            "42" => refused(PLAN),
            "25" => refused("a transaction pooler or a trigger interferes with transactions"),
            _ => errors.refused(format!("unexpected answer {state}"), "see the server's log").into(),
        },
    }
}

fn fault(error: &PgDatabaseError) -> Fault {
    let table = of_table(error);
    let constraint = error.constraint().unwrap_or("?");
    let (kind, text) = match error.code() {
        "23503" => (FaultKind::Reference, format!("{table}foreign key {constraint} isn't met")),
        "23505" => (
            FaultKind::Unique(vec![constraint.to_owned()]),
            format!("{table}another row has the same value of {constraint}"),
        ),
        "23502" => (FaultKind::NotNull, format!("{table}{} must not be null", error.column().unwrap_or("?"))),
        "23514" | "23P01" | "44000" => (FaultKind::Check, format!("{table}constraint {constraint}")),
        "22001" => (FaultKind::Value, format!("{table}a text is too long")),
        "22003" => (FaultKind::Value, format!("{table}a number is out of range")),
        "22P02" | "22007" | "22008" => (FaultKind::Value, format!("{table}a value isn't of its column's type")),
        state => (FaultKind::Value, format!("{table}a value can't be stored ({state})")),
    };
    Fault { kind, text }
}

fn of_table(error: &PgDatabaseError) -> String {
    error.table().map_or_else(String::new, |table| format!("{table}: "))
}
