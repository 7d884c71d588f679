//! The settings of the ATS source, and what they are when nothing is said.

use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use pipeline::config::{self, Secret, SecretRef, Section, Url};

use super::AtsFeed;

/// How to read an ATS. Built by [`AtsSettings::resolve`], or by [`AtsConfig::new`] with the defaults.
#[derive(Debug, Clone)]
pub struct AtsConfig {
    /// What the feeds' paths are appended to.
    pub url: Url,
    /// The value of the header `ApiKey`, sent for staff and applicants only.
    pub api_key: Secret,
    /// Where each feed is.
    pub paths: AtsPaths,
    /// What dates without a zone mean.
    pub zone: Tz,
    /// Rows asked for per page.
    pub page_size: u32,
    /// Pages asked for at once.
    pub concurrency: u32,
    /// How far behind the last success a window begins.
    pub overlap: Duration,
    /// From the start of a request to the last byte of its answer.
    pub timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
    /// Larger answers are cut off: they count as unavailable.
    pub max_body: u64,
    /// How often a window is read at most until a pass brings nothing new.
    pub max_passes: u32,
    /// More rows in one pass than this are a mistake; as many are remembered while a window is read (about 50 bytes each).
    pub max_records: u64,
    /// The day the first window begins; `None`: the first one has no dates.
    pub from: Option<NaiveDate>,
}

/// The path of each feed, beginning with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtsPaths {
    /// `{id, name, email}`.
    pub staff: String,
    /// `{id, name, abbreviation}`.
    pub health_authorities: String,
    /// `{id, name, i_e_n_program, recruitment}`.
    pub reasons: String,
    /// `{id, name, category, process-related}`.
    pub milestones: String,
    /// The applicants, paged.
    pub applicants: String,
}

impl AtsPaths {
    /// As the ATS serves them today (ATS contract, "path in current code").
    pub fn current() -> Self {
        Self::of(["/staff", "/health-authorities", "/withdrawal-reasons", "/milestones", "/applicants"])
    }

    /// As they were in 2022 (ATS contract, "original path").
    pub fn original() -> Self {
        Self::of(["/staff", "/HealthAuthority", "/Reason", "/Milestone", "/Applicant"])
    }

    fn of([staff, health_authorities, reasons, milestones, applicants]: [&str; 5]) -> Self {
        Self {
            staff: staff.to_owned(),
            health_authorities: health_authorities.to_owned(),
            reasons: reasons.to_owned(),
            milestones: milestones.to_owned(),
            applicants: applicants.to_owned(),
        }
    }

    /// The path of a feed.
    pub fn of_feed(&self, feed: AtsFeed) -> &str {
        match feed {
            AtsFeed::Staff => &self.staff,
            AtsFeed::HealthAuthorities => &self.health_authorities,
            AtsFeed::Reasons => &self.reasons,
            AtsFeed::Milestones => &self.milestones,
            AtsFeed::Applicants => &self.applicants,
        }
    }
}

impl AtsConfig {
    /// The defaults for an ATS at `url`.
    pub fn new(url: Url, api_key: impl Into<String>) -> Self {
        Self {
            url,
            api_key: Secret::new(api_key),
            paths: AtsPaths::current(),
            zone: chrono_tz::America::Vancouver,
            // 5 x 50 is what was agreed with the developer of the ATS; larger pages were slow.
            page_size: 50,
            concurrency: 5,
            overlap: Duration::from_secs(86_400),
            // What the original's client allows.
            timeout: Duration::from_secs(50),
            idle_timeout: Duration::from_secs(20),
            // A page of 50 is about 60 kB.
            max_body: 32 << 20,
            max_passes: 10,
            max_records: 5_000_000,
            from: None,
        }
    }
}

/// The settings as the file has them: the secret is only named.
#[derive(Debug, Clone)]
pub struct AtsSettings {
    config: AtsConfig,
    api_key: SecretRef,
}

impl AtsSettings {
    /// Reads the keys of an ATS; what is wrong with them is reported by the section. Schedules are read by the wiring.
    pub fn read(section: &Section<'_>) -> Self {
        let default = AtsConfig::new(section.url("url", config::HTTP).check(has_no_query).required(), "");
        let versions = [("current", AtsPaths::current()), ("original", AtsPaths::original())];
        let mut paths = section.one_of("paths", &versions).or(default.paths);
        for (key, path) in [
            ("staff_path", &mut paths.staff),
            ("health_authorities_path", &mut paths.health_authorities),
            ("reasons_path", &mut paths.reasons),
            ("milestones_path", &mut paths.milestones),
            ("applicants_path", &mut paths.applicants),
        ] {
            if let Some(given) = section.string(key).check(|path| is_path(path)).optional() {
                *path = given;
            }
        }
        let config = AtsConfig {
            paths,
            zone: section.zone("source_zone").or(default.zone),
            page_size: section.integer("page_size", 1..=1_000).or(default.page_size),
            concurrency: section.integer("concurrency", 1..=32).or(default.concurrency),
            overlap: section.duration("overlap").or(default.overlap),
            timeout: section.duration("timeout").check(not_zero).or(default.timeout),
            idle_timeout: section.duration("idle_timeout").check(not_zero).or(default.idle_timeout),
            max_body: section.bytes("max_body").check(at_least_a_page).or(default.max_body),
            // One pass never proves anything: it brings everything for the first time.
            max_passes: section.integer("max_passes", 2..=1_000).or(default.max_passes),
            max_records: section.integer("max_records", 1..=1_000_000_000).or(default.max_records),
            from: section.date("from").optional(),
            ..default
        };
        Self { config, api_key: section.secret("api_key").required() }
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> [&SecretRef; 1] {
        [&self.api_key]
    }

    /// Fetches the secret. `env` looks up a variable of the environment.
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<AtsConfig, config::Problem> {
        Ok(AtsConfig { api_key: self.api_key.resolve(env)?, ..self.config.clone() })
    }
}

fn has_no_query(url: &Url) -> Result<(), String> {
    let has_one = url.query().is_some() || url.fragment().is_some();
    if has_one { Err("must end before any ? or #: paths are appended to it".to_owned()) } else { Ok(()) }
}

fn is_path(path: &str) -> Result<(), String> {
    let is_plain = path.starts_with('/') && !path.contains(['?', '#', ' ']);
    if is_plain { Ok(()) } else { Err("must begin with / and hold neither a query nor spaces".to_owned()) }
}

fn not_zero(time: &Duration) -> Result<(), String> {
    if time.is_zero() { Err("would give up at once".to_owned()) } else { Ok(()) }
}

fn at_least_a_page(bytes: &u64) -> Result<(), String> {
    if *bytes < 64 << 10 { Err("is less than a page needs; expected at least 64KiB".to_owned()) } else { Ok(()) }
}
