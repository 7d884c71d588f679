//! The section `operations`: where history for people is kept, and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline::config::{SecretRef, Section};
use pipeline::operations::PostgresOptions;

/// Where a process's history goes when nothing is said: in its folder.
const FILE: &str = "operations.sqlite";

/// What PostgreSQL's URLs begin with.
const POSTGRES: &[&str] = &["postgres", "postgresql"];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// History for people.
#[derive(Debug)]
pub struct OperationsSettings {
    /// How long what has ended is kept.
    pub keep: Duration,
    /// Where.
    pub history: HistorySettings,
}

/// Where history is.
#[derive(Debug)]
pub enum HistorySettings {
    /// In a file of this machine: each has its own.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// In a PostgreSQL that all processes share.
    Postgres {
        /// How it is reached, but for the password.
        options: PostgresOptions,
        /// The password.
        password: Option<SecretRef>,
    },
}

impl OperationsSettings {
    /// The secret it needs.
    pub fn secret(&self) -> Option<&SecretRef> {
        match &self.history {
            HistorySettings::Postgres { password, .. } => password.as_ref(),
            HistorySettings::Sqlite { .. } => None,
        }
    }
}

pub(super) fn read(root: &Section<'_>, folder: &Path) -> OperationsSettings {
    let file = |section: Option<&Section<'_>>| {
        let path = section.map(|section| section.path("path").or(folder.join(FILE)));
        HistorySettings::Sqlite { path: path.unwrap_or_else(|| folder.join(FILE)) }
    };
    let Some(section) = root.section("operations") else {
        return OperationsSettings { keep: 365 * DAY, history: file(None) };
    };
    let keep = section.duration("keep").check(|keep| match *keep < DAY {
        true => Err("shorter than a day: nobody could look up what happened yesterday".to_owned()),
        false => Ok(()),
    });
    let keep = keep.or(365 * DAY);
    let (sqlite, server) = (section.section("sqlite"), section.section("postgres"));
    if sqlite.is_some() && server.is_some() {
        let problem = section.place("sqlite").problem("given together with `postgres`");
        section.report(problem.expected("either operations.sqlite or operations.postgres"));
    }
    let history = match server {
        Some(server) => postgres(&server),
        None => file(sqlite.as_ref()),
    };
    OperationsSettings { keep, history }
}

fn postgres(section: &Section<'_>) -> HistorySettings {
    let url = section.url("url", POSTGRES).required();
    let default = PostgresOptions::new(url);
    let schema = section.string("schema").check(|name| match PostgresOptions::is_schema_name(name) {
        true => Ok(()),
        false => Err("isn't a name of lower-case letters, digits and underscores".to_owned()),
    });
    HistorySettings::Postgres {
        password: section.secret("password").optional(),
        options: PostgresOptions {
            schema: schema.or(default.schema.clone()),
            connect_timeout: section.duration("connect_timeout").or(default.connect_timeout),
            statement_timeout: section.duration("statement_timeout").or(default.statement_timeout),
            ..default
        },
    }
}
