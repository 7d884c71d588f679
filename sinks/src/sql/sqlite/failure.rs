//! What SQLite's errors mean. Messages are passed on only where they name nothing but tables and columns.

use crate::sql::failure::{Errors, Failure, Fault, FaultKind};

pub(super) fn failure(errors: &Errors, error: sqlx::Error) -> Failure {
    let database = match error {
        sqlx::Error::Database(database) => database,
        sqlx::Error::PoolTimedOut => {
            return errors.unavailable("no free connection within the connect time-out").into();
        }
        sqlx::Error::Io(error) => {
            return errors.unavailable(format!("the file can't be used: {}", error.kind())).into();
        }
        sqlx::Error::Configuration(_) => {
            return errors.refused("the URL can't be used", "write it as sqlite:///path/to/file.db").into();
        }
        sqlx::Error::ColumnDecode { index, .. } => {
            return errors.refused(format!("column {index} holds another type"), "run `muster plan`").into();
        }
        _ => return errors.unavailable("the connection broke").into(),
    };
    let code: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(1);
    let message = database.message();
    // The low byte is the primary code, the rest says more.
    match code & 0xff {
        5 | 6 => errors.unavailable("the database is locked by another process").into(),
        7 | 10 => errors.unavailable(format!("SQLite couldn't read or write ({code})")).into(),
        13 => errors.unavailable("the disk is full").into(),
        8 => errors.refused("the database is read-only", "make the file and its folder writable for Muster").into(),
        3 | 14 | 23 => {
            let hint = "check that the folder exists and that Muster may write there";
            errors.refused("the database can't be opened", hint).into()
        }
        11 | 26 => errors.refused("the file is damaged or no database", "restore it from a backup").into(),
        18 | 20 => {
            Failure::Data(Fault { kind: FaultKind::Value, text: "a value is too large or of a wrong type".into() })
        }
        19 => Failure::Data(constraint(code, message)),
        _ => errors.refused(format!("SQLite says: {message}"), "run `muster plan` to see what the tables lack").into(),
    }
}

fn constraint(code: i32, message: &str) -> Fault {
    let named = message.split_once("failed: ").map_or("", |(_, named)| named);
    let (kind, text) = match code {
        787 => (FaultKind::Reference, "a foreign key isn't met".to_owned()),
        1555 | 2067 | 2579 => {
            let columns = named.split(", ").map(|name| name.rsplit_once('.').map_or(name, |(_, column)| column));
            let columns: Vec<String> = columns.map(str::to_owned).collect();
            (FaultKind::Unique(columns), format!("another row has the same {named}"))
        }
        1299 => (FaultKind::NotNull, format!("{named} must not be null")),
        275 => (FaultKind::Check, format!("check constraint {named}")),
        3091 => (FaultKind::Value, "a value of a wrong type for a strict table".to_owned()),
        // A trigger's own words could quote the row.
        1811 => (FaultKind::Check, "a trigger refused the row".to_owned()),
        _ => (FaultKind::Check, "a constraint isn't met".to_owned()),
    };
    Fault { kind, text }
}
