//! `muster check`: the configuration, then every system it names, all at once; one line each, with a remedy. Changes
//! nothing anywhere.

mod log;
mod registry;
mod systems;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use pipeline::config::{self, Problem, Problems};
use pipeline::log::LogError;
use pipeline::sink::SinkError;
use pipeline::source::SourceError;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::exit;
use crate::output::Output;
use crate::process::environment;
use crate::settings::{HistorySettings, Settings};

/// What a system may take to answer everything it is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// One question among several: the others must have their time, too.
const ONE_QUESTION: Duration = Duration::from_secs(4);

/// Windows overlap by a day and versions are milliseconds of our clock, so a minute does no harm yet; but more shows a clock
/// that nobody sets.
const MOST_SKEW: TimeDelta = TimeDelta::seconds(60);

/// How something stands, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// As it should be.
    Ok,
    /// It works, but look at it.
    Warning,
    /// It doesn't answer.
    Unreachable,
    /// It answers, and not as it must.
    Wrong,
    /// The configuration is wrong.
    Config,
}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    /// As in `sink register`.
    check: String,
    standing: Standing,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), standing: Standing::Ok, found: found.into(), remedy: None }
    }

    fn new(check: impl Into<String>, standing: Standing, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: check.into(), standing, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// What an error means, with the hint it carries.
    fn failed(check: impl Into<String>, error: &anyhow::Error) -> Self {
        let standing = match exit::code_of(error) {
            exit::CONFIG => Standing::Config,
            exit::UNREACHABLE => Standing::Unreachable,
            _ => Standing::Wrong,
        };
        let hinted = error.chain().find_map(|cause| {
            let log = match cause.downcast_ref() {
                Some(LogError::Refused { reason, hint }) => Some((reason, hint)),
                _ => None,
            };
            let sink = match cause.downcast_ref() {
                Some(SinkError::Refused { reason, hint, .. }) => Some((reason, hint)),
                _ => None,
            };
            let source = match cause.downcast_ref() {
                Some(SourceError::Refused { reason, hint, .. }) => Some((reason, hint)),
                _ => None,
            };
            log.or(sink).or(source)
        });
        match hinted {
            Some((reason, hint)) => Self::new(check, standing, reason, hint),
            None if standing == Standing::Unreachable => {
                Self::new(check, standing, format!("{error:#}"), "is it up, and is the way there open?")
            }
            None => Self { check: check.into(), standing, found: format!("{error:#}"), remedy: None },
        }
    }
}

/// Checks everything. Exit code 2: the configuration or a secret, 1: something is wrong, 3: something doesn't answer.
pub async fn run(file: &Path, output: Output) -> Result<u8> {
    let settings = match config::load(file, Settings::read) {
        Ok(settings) => settings.context("the configuration names a source or a sink that isn't complete")?,
        Err(problems) => return misconfigured(problems, output),
    };
    let findings = check(Arc::new(settings), file).await;
    let worst = findings.iter().map(|finding| finding.standing).max().unwrap_or(Standing::Ok);
    output.show(&json!({ "standing": worst, "checks": findings }), || text(&findings))?;
    Ok(match worst {
        Standing::Ok | Standing::Warning => exit::DONE,
        Standing::Unreachable => exit::UNREACHABLE,
        Standing::Wrong => exit::FAILED,
        Standing::Config => exit::CONFIG,
    })
}

fn misconfigured(problems: Problems, output: Output) -> Result<u8> {
    if output == Output::Text {
        return Err(problems.into());
    }
    let shown = |problem: &Problem| {
        json!({
            "file": &*problem.file,
            "line": problem.line,
            "column": problem.column,
            "key": problem.path,
            "message": problem.message,
            "expected": problem.expected,
            "nearest": problem.nearest,
        })
    };
    let problems: Vec<_> = problems.iter().map(shown).collect();
    output.show(&json!({ "standing": Standing::Config, "problems": problems }), String::new)?;
    Ok(exit::CONFIG)
}

/// All findings: in the order of the configuration, however long each took.
async fn check(settings: Arc<Settings>, file: &Path) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("configuration", format!("{} can be used", file.display()))];
    for warning in &settings.warnings {
        findings.push(Finding {
            check: "configuration".into(),
            standing: Standing::Warning,
            found: warning.to_string(),
            remedy: None,
        });
    }
    findings.extend(secrets(&settings));
    findings.push(log::folder(&settings.folder));
    findings.push(registry::released());

    let mut checks = JoinSet::new();
    let mut place = 0;
    let mut start = |checks: &mut JoinSet<_>, what: String, check: Check| {
        let here = place;
        place += 1;
        checks.spawn(async move {
            let found = tokio::time::timeout(PATIENCE, check).await;
            let late = |_| {
                let found = format!("no complete answer in {} s", PATIENCE.as_secs());
                vec![Finding::new(&what, Standing::Unreachable, found, "is it up, and is the way there open?")]
            };
            (here, found.unwrap_or_else(late))
        });
    };
    start(&mut checks, "log".into(), Box::pin(log::check(Arc::clone(&settings))));
    if settings.registry.is_some() {
        start(&mut checks, "registry".into(), Box::pin(registry::check(Arc::clone(&settings))));
    }
    if matches!(settings.operations.history, HistorySettings::Postgres { .. }) {
        start(&mut checks, "operations".into(), Box::pin(systems::operations(Arc::clone(&settings))));
    }
    for (at, source) in settings.sources.iter().enumerate() {
        let check = Box::pin(systems::source(Arc::clone(&settings), at));
        start(&mut checks, format!("source {}", source.name), check);
    }
    for (at, sink) in settings.sinks.iter().enumerate() {
        let check = Box::pin(systems::sink(Arc::clone(&settings), at));
        start(&mut checks, format!("sink {}", sink.name), check);
    }
    if settings.snapshots.is_some() {
        start(&mut checks, "snapshots".into(), Box::pin(systems::snapshots(Arc::clone(&settings))));
    }
    let mut done = Vec::new();
    while let Some(joined) = checks.join_next().await {
        done.push(joined.unwrap_or_else(|panicked| {
            let remedy = "this is a mistake in the program: report it";
            (usize::MAX, vec![Finding::new("a check", Standing::Wrong, panicked.to_string(), remedy)])
        }));
    }
    done.sort_by_key(|(place, _)| *place);
    findings.extend(done.into_iter().flat_map(|(_, found)| found));
    findings
}

type Check = std::pin::Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

fn secrets(settings: &Settings) -> Vec<Finding> {
    let count = settings.secrets().len();
    match settings.check_secrets(&environment) {
        Ok(()) => vec![Finding::ok("secrets", format!("{count} found"))],
        Err(missing) => missing
            .iter()
            .map(|problem| {
                let remedy = "set the variable or the file for the user that runs muster";
                Finding::new("secrets", Standing::Config, problem.to_string(), remedy)
            })
            .collect(),
    }
}

/// What a clock's distance from ours means; `None`: nothing to say.
fn skew(check: &str, ahead: Option<TimeDelta>) -> Option<Finding> {
    let ahead = ahead?;
    if ahead.abs() < MOST_SKEW {
        return None;
    }
    let way = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    let found = format!("its clock is {} s {way} this machine's", ahead.abs().num_seconds());
    Some(Finding::new(check, Standing::Warning, found, "have both clocks set by NTP"))
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let lines = findings.iter().map(|finding| {
        let standing = match finding.standing {
            Standing::Ok => "ok",
            Standing::Warning => "warning",
            Standing::Unreachable => "unreachable",
            Standing::Wrong | Standing::Config => "wrong",
        };
        let remedy = finding.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{standing:<11}  {:<width$}  {}{remedy}", finding.check, finding.found)
    });
    lines.collect::<Vec<_>>().join("\n")
}
