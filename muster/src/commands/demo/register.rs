//! The demonstration's own look at the register, and at what should be in it.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use simulators::ats::Ats;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

/// What the register holds.
pub(super) struct Register {
    /// Ids.
    pub applicants: BTreeSet<String>,
    /// Rows.
    pub milestones: u64,
    /// Rows.
    pub users: u64,
    /// Rows that wait.
    pub parked: u64,
}

/// What it should hold, worked out from the system's state alone.
pub(super) struct Expected {
    applicants: BTreeSet<String>,
    milestones: u64,
}

async fn open(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.connect().await.with_context(|| format!("{} can't be read", path.display()))
}

async fn count(register: &mut SqliteConnection, query: &'static str) -> Result<u64> {
    let rows: i64 = sqlx::query_scalar(query).fetch_one(register).await?;
    Ok(u64::try_from(rows)?)
}

impl Register {
    /// How many applicants it holds; none while it isn't there yet.
    pub async fn peek(path: &Path) -> u64 {
        let Ok(mut register) = open(path).await else { return 0 };
        let rows = count(&mut register, "select count(*) from ien_applicants").await.unwrap_or(0);
        // A read-only look leaves nothing behind; a failure to say goodbye is no failure.
        register.close().await.ok();
        rows
    }

    /// Everything the demonstration compares.
    pub async fn read(path: &Path) -> Result<Self> {
        let mut register = open(path).await?;
        let ids: Vec<String> = sqlx::query_scalar("select id from ien_applicants").fetch_all(&mut register).await?;
        let rows = ids.len();
        let applicants: BTreeSet<String> = ids.into_iter().collect();
        ensure!(rows == applicants.len(), "an applicant is in the register twice");
        let found = Self {
            applicants,
            milestones: count(&mut register, "select count(*) from ien_applicant_status_audit").await?,
            users: count(&mut register, "select count(*) from ien_users").await?,
            parked: count(&mut register, "select count(*) from muster_parked").await?,
        };
        register.close().await?;
        Ok(found)
    }

    /// The register holds what it should: every row, or the row waits.
    pub fn compare(&self, expected: &Expected) -> Result<()> {
        let extra = self.applicants.difference(&expected.applicants).count();
        ensure!(extra == 0, "{extra} applicants are in the register and not in the system");
        let missing = expected.applicants.difference(&self.applicants).count() as u64;
        let rows = self.milestones + missing + (expected.milestones - self.milestones.min(expected.milestones));
        let waiting = rows - self.milestones;
        ensure!(self.milestones <= expected.milestones, "there are more milestones than there should be");
        ensure!(
            waiting == self.parked,
            "{waiting} rows aren't in the register ({missing} applicants), but {} wait",
            self.parked
        );
        Ok(())
    }
}

/// Every applicant that can be read, and every milestone whose status is known and isn't a recruitment one, once.
pub(super) fn expected(ats: &Ats) -> Expected {
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_lowercase);
    let kept: HashSet<String> = ats
        .masters()
        .milestones
        .iter()
        .filter(|status| !status["category"].as_str().is_some_and(|category| category.contains("Recruitment")))
        .filter_map(|status| text(status, "id"))
        .collect();
    let mut applicants = BTreeSet::new();
    let mut milestones = HashSet::new();
    for applicant in ats.applicants() {
        // The bad record: no date begins with a letter.
        let readable =
            applicant["registration_date"].as_str().is_none_or(|date| !date.starts_with(char::is_alphabetic));
        let Some(id) = text(&applicant, "applicant_id").filter(|_| readable) else { continue };
        for milestone in applicant["milestones"].as_array().into_iter().flatten() {
            let Some(status) = text(milestone, "id").filter(|status| kept.contains(status)) else { continue };
            let day = milestone["start_date"].as_str().map(|date| date.chars().take(10).collect::<String>());
            milestones.insert((id.clone(), status, day));
        }
        applicants.insert(id);
    }
    Expected { applicants, milestones: milestones.len() as u64 }
}
