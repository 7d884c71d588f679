//! From SQLite's result codes to what the caller can do about them.

use std::path::Path;

use super::super::LogError;

/// Primary result codes, <https://www.sqlite.org/rescode.html>.
mod code {
    pub const PERM: i32 = 3;
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const NOTADB: i32 = 26;
}

/// What `err` means to the users of the log at `path`.
pub(super) fn classify(path: &Path, err: &sqlx::Error) -> LogError {
    let Some(database) = err.as_database_error() else {
        return match err {
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => closed(),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => damaged(path, &err.to_string()),
            other => LogError::Unavailable { reason: format!("{}: {other}", path.display()) },
        };
    };
    let extended: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    let message = database.message();
    let refused = |hint: &str| LogError::Refused {
        reason: format!("{}: {message} (SQLite code {extended})", path.display()),
        hint: hint.into(),
    };
    match extended & 0xff {
        code::FULL => {
            refused("make room on the disk or raise the file's limit, then start again: what was acknowledged is kept")
        }
        code::IOERR => refused("look at the disk, then start again: what was acknowledged is kept"),
        code::CORRUPT | code::NOTADB => damaged(path, message),
        code::PERM | code::READONLY | code::CANTOPEN => {
            refused("the file and its folder must be writable by the user that runs muster")
        }
        code::BUSY | code::LOCKED => LogError::Unavailable {
            reason: format!("{}: {message}: another program is reading or writing the file", path.display()),
        },
        _ => refused("this is a fault in muster: please report it with this message"),
    }
}

/// The file can't be believed any more.
pub(super) fn damaged(path: &Path, what: &str) -> LogError {
    LogError::Refused {
        reason: format!("{} is damaged or no log: {what}", path.display()),
        hint: "restore it from a backup, or move it away and start with an empty one: sources then read everything \
               again"
            .into(),
    }
}

/// The log was closed under its user.
pub(super) fn closed() -> LogError {
    LogError::Unavailable { reason: "the embedded log was closed".into() }
}
