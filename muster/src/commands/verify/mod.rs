//! `muster verify`: compares what the neighbours hold of the same entities, names what differs, and with `--repair` has
//! it emitted again by whoever owns it.
//!
//! Runs beside running processes: it reads, and asks owners for what only they may do. On the embedded log the process
//! that holds it does the reading.

mod repair;
mod sources;
mod text;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use pipeline::log::sqlite::holder;
use pipeline::run::{Runtime, SinkTask};
use pipeline::verify::{EntityReport, Options, VerifyError, Watch};
use serde::{Deserialize, Serialize};

use crate::contact::{self, Ask, Told};
use crate::exit;
use crate::output::Output;
use crate::process::Process;
use crate::settings::{LogSettings, Settings};

/// How often progress is shown.
const REDRAW: Duration = Duration::from_millis(200);

/// What a person has asked.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only this component.
    pub component: Option<String>,
    /// What differs is emitted again.
    pub repair: bool,
    /// How many keys are shown of each entity.
    pub keys: usize,
    /// How long what is on its way is waited for.
    pub wait: Duration,
}

/// What the process that reads is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// Only this component.
    pub component: Option<String>,
    /// How long what is on its way is waited for.
    pub wait_ms: u64,
}

/// What was compared with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ComponentReport {
    /// A sink, a feed or a processor.
    pub component: String,
    /// What came of each of its topics.
    pub entities: Vec<EntityReport>,
    /// Why nothing can be said about the rest.
    pub error: Option<Failed>,
}

/// Why a component couldn't be compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failed {
    /// For a person.
    pub text: String,
    /// Something outside doesn't answer.
    pub unreachable: bool,
}

impl ComponentReport {
    fn same(&self) -> bool {
        self.error.is_none() && self.entities.iter().all(EntityReport::same)
    }
}

/// Compares and shows. Exit code 1: something differs, or hasn't been delivered.
pub async fn run(settings: &Settings, wanted: &Wanted, output: Output) -> Result<u8> {
    known(settings, wanted.component.as_deref())?;
    let task = Task {
        component: wanted.component.clone(),
        wait_ms: u64::try_from(wanted.wait.as_millis()).unwrap_or(u64::MAX),
    };
    let feeds = sources::feeds(settings, task.component.as_deref());
    let mut reports = sources::compare(settings, &feeds, wanted.repair).await?;
    reports.extend(look(settings, &task).await?);
    let mut answers = None;
    if wanted.repair {
        answers = repair::repair(settings, &reports).await?;
    }
    let mended = answers.as_ref().map(|answers| text::Mended { found: text::differing(&reports), answers });
    if mended.is_some() {
        // What is left is what counts.
        reports = sources::compare(settings, &feeds, false).await?;
        reports.extend(look(settings, &task).await?);
    }
    let shown = text::Shown { reports: &reports, keys: wanted.keys, mended };
    output.show(&shown.object(), || shown.text())?;
    let unreachable = reports.iter().filter_map(|report| report.error.as_ref()).any(|error| error.unreachable);
    Ok(match reports.iter().all(ComponentReport::same) {
        true => exit::DONE,
        false if unreachable => exit::UNREACHABLE,
        false => exit::FAILED,
    })
}

/// The reports, from the process that holds the log, or from here.
async fn look(settings: &Settings, task: &Task) -> Result<Vec<ComponentReport>> {
    let line = Line::new();
    let named = |sink: &crate::settings::Sink| task.component.as_deref().is_none_or(|name| name == sink.name);
    if !settings.sinks.iter().any(named) {
        return Ok(Vec::new());
    }
    if let LogSettings::Sqlite { path } = &settings.log
        && let Some(holder) = holder(path)
    {
        let socket = holder.socket.context("the process that holds the log has no local socket yet: try again")?;
        let ask = Ask::Verify(task.clone());
        return match contact::ask_and_watch(&socket, &ask, |stage, records| line.show(stage, records)).await? {
            Told::Verified(reports) => Ok(reports),
            Told::Failed(reason) => bail!(reason),
            told => bail!("the process gave another answer than was asked for: {told:?}"),
        };
    }
    let process = Process::open(settings).await?;
    let watch = Arc::new(Watch::default());
    let reports = {
        let work = compare(&process.runtime, &process.sinks, task, &watch);
        tokio::pin!(work);
        loop {
            tokio::select! {
                reports = &mut work => break reports,
                () = tokio::time::sleep(REDRAW) => {
                    let (stage, records) = watch.now();
                    line.show(&stage, records);
                }
            }
        }
    };
    process.close().await;
    Ok(reports)
}

/// Compares in this process.
pub async fn compare(runtime: &Runtime, sinks: &[SinkTask], task: &Task, watch: &Watch) -> Vec<ComponentReport> {
    let options = Options { wait: Duration::from_millis(task.wait_ms), ..Options::default() };
    let mut reports = Vec::new();
    for sink in sinks.iter().filter(|sink| task.component.as_deref().is_none_or(|name| name == &*sink.name)) {
        let mut report = ComponentReport { component: sink.name.to_string(), entities: Vec::new(), error: None };
        let Some(target) = sink.sink.inspect() else {
            report.error = Some(Failed { text: "its target can't be compared".into(), unreachable: false });
            reports.push(report);
            continue;
        };
        for topic in &sink.topics {
            match pipeline::verify::target(runtime, &sink.name, topic, target, &options, watch).await {
                Ok(entity) => report.entities.push(entity),
                Err(error) => {
                    report.error = Some(failed(&error));
                    break;
                }
            }
        }
        reports.push(report);
    }
    reports
}

fn failed(error: &VerifyError) -> Failed {
    Failed { text: error.to_string(), unreachable: error.can_pass() }
}

fn known(settings: &Settings, component: Option<&str>) -> Result<()> {
    let Some(component) = component else { return Ok(()) };
    let mut names: Vec<&str> = settings.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let feeds = sources::feeds(settings, None);
    names.extend(settings.sources.iter().map(|source| source.name.as_str()).chain(feeds.iter().map(String::as_str)));
    if names.contains(&component) {
        return Ok(());
    }
    let nearest = pipeline::config::nearest(component, names.iter().copied());
    let nearest = nearest.map(|name| format!(" Did you mean `{name}`?")).unwrap_or_default();
    bail!("nothing called `{component}` can be verified.{nearest} There are: {}", names.join(", "))
}

/// One line on a terminal that says how far it is; nothing elsewhere.
struct Line(Option<ProgressBar>);

impl Line {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self(Some(bar))
    }

    fn show(&self, stage: &str, records: u64) {
        if let Some(bar) = &self.0 {
            bar.set_message(format!("{stage}: {}", HumanCount(records)));
            bar.tick();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
