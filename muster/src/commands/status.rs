//! `muster status`: what every component has done and is doing.

use anyhow::{Result, bail};
use pipeline::ledger::Counts;
use pipeline::log::sqlite::holder;
use pipeline::operations::{LetterFilter, LetterState};
use serde_json::{Value, json};

use crate::contact::{self, Ask, Told};
use crate::exit;
use crate::output::{Output, table};
use crate::process::open_operations;
use crate::settings::{LogSettings, Settings};

/// Shows the history, and asks the running process where there is one.
pub async fn run(settings: &Settings, health: bool, output: Output) -> Result<u8> {
    let process = process(settings).await?;
    if health {
        return ready(settings, process.as_ref(), output);
    }
    let operations = open_operations(settings).await?;
    let mut feeds = Vec::new();
    for source in operations.sources().await? {
        let last = operations.runs(&source, 1).await?.into_iter().next();
        let success = operations.last_success(&source).await?;
        feeds.push((source, last, success));
    }
    let open = LetterFilter { state: Some(LetterState::Open), ..LetterFilter::default() };
    let letters = operations.count_letters(&open).await?;
    let accounts = operations.ledger().await?;
    let unbalanced = accounts.iter().filter(|row| row.counts.balanced().is_err()).count();
    let sources: Vec<Value> = feeds
        .iter()
        .map(|(source, last, success)| json!({ "source": source, "last_run": last, "last_success": success }))
        .collect();
    let object = json!({
        "running": process,
        "sources": sources,
        "accounts": accounts,
        "ledger": if unbalanced == 0 { "balanced" } else { "unbalanced" },
        "open_dead_letters": letters,
    });
    output.show(&object, || {
        let rows: Vec<Vec<String>> = feeds
            .iter()
            .map(|(source, last, success)| {
                let time = |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%d %H:%M:%S").to_string();
                let ended = last.as_ref().map(|run| match (run.success, &run.error) {
                    (Some(true), _) => format!("{} read, {} changed", run.counts.read, run.counts.delivered),
                    (_, Some(error)) => format!("failed: {error}"),
                    _ => "under way, or cut off".into(),
                });
                vec![
                    source.clone(),
                    last.as_ref().map_or_else(|| "-".into(), |run| time(run.started)),
                    success.as_ref().map_or_else(|| "never".into(), |run| time(run.started)),
                    ended.unwrap_or_default(),
                ]
            })
            .collect();
        let counts: Vec<(String, Counts)> =
            accounts.iter().map(|row| (format!("{} ({})", row.component, row.process), row.counts)).collect();
        let counts: Vec<(&str, Counts)> = counts.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
        let running = match &process {
            Some(process) => format!("running: {}", describe(process)),
            None => absent(settings).into(),
        };
        let runs = table(&["feed", "last run (UTC)", "last success", "came to"], &rows);
        let parts = [running, String::new(), runs, String::new(), accounts_table(&counts), String::new()];
        parts.join("\n") + &format!("open dead letters: {letters}")
    })?;
    Ok(exit::DONE)
}

fn describe(process: &Value) -> String {
    let unready = process["unready"].as_array().cloned().unwrap_or_default();
    if unready.is_empty() {
        return "ready".into();
    }
    let reasons: Vec<&str> = unready.iter().filter_map(Value::as_str).collect();
    format!("not ready: {}", reasons.join("; "))
}

fn ready(settings: &Settings, process: Option<&Value>, output: Output) -> Result<u8> {
    let Some(process) = process else { bail!(absent(settings)) };
    output.show(process, || describe(process))?;
    let ready = process["unready"].as_array().is_some_and(Vec::is_empty);
    Ok(if ready { exit::DONE } else { exit::FAILED })
}

/// What can be said where no process answered.
fn absent(settings: &Settings) -> &'static str {
    match settings.log {
        // Nobody can be asked: whether a process runs isn't known.
        LogSettings::Kafka(_) if settings.http.is_none() => {
            "whether it is running can't be told: that is asked over HTTP, and there is no section [http]"
        }
        _ => "not running, or not on this machine",
    }
}

/// The running process: through its local socket where the log is embedded, else through its HTTP.
async fn process(settings: &Settings) -> Result<Option<Value>> {
    if let LogSettings::Sqlite { path } = &settings.log {
        let Some(socket) = holder(path).and_then(|holder| holder.socket) else { return Ok(None) };
        return match contact::ask(&socket, &Ask::Health).await? {
            Told::Health { components, unready } => Ok(Some(json!({ "components": components, "unready": unready }))),
            Told::Failed(reason) => bail!(reason),
            told => bail!("the process gave another answer than was asked for: {told:?}"),
        };
    }
    let Some(listen) = settings.http else { return Ok(None) };
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(5)).build()?;
    match client.get(format!("http://{listen}/health/ready")).send().await {
        Ok(answer) => Ok(Some(answer.json().await?)),
        Err(error) if error.is_connect() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Accounts as a table.
pub fn accounts_table(counts: &[(&str, Counts)]) -> String {
    let rows: Vec<Vec<String>> = counts
        .iter()
        .map(|(name, c)| {
            let numbers = [c.read, c.delivered, c.unchanged, c.superseded, c.stale, c.rejected, c.parked];
            std::iter::once((*name).to_owned()).chain(numbers.iter().map(u64::to_string)).collect()
        })
        .collect();
    table(&["component", "read", "delivered", "unchanged", "superseded", "stale", "rejected", "parked"], &rows)
}
