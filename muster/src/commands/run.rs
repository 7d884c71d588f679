//! `muster run`: sources, processors and sinks until told to stop; with `--once`, one pass of everything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pipeline::ledger::Counts;
use pipeline::retry::Budget;
use pipeline::run::Mode;
use serde_json::json;

use super::stop_on_signals;
use crate::exit;
use crate::output::Output;
use crate::process::{Ended, Process};
use crate::settings::Settings;
use crate::{contact, progress};

/// After this a component that doesn't stop is left behind: nothing it holds isn't in the log.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// One pass waits so long for a system that is away; then it ends with what is left.
const ONCE: Budget = Budget { failures: Some(8), time: Some(Duration::from_secs(600)) };

/// After this open connections are left behind.
const HTTP_STOPS_WITHIN: Duration = Duration::from_secs(2);

/// Runs the process.
pub async fn run(settings: &Settings, once: bool, output: Output) -> Result<u8> {
    let metrics = api::install_metrics()?;
    let mut process = Process::open(settings).await?;
    let stop = stop_on_signals()?;
    let export = match &settings.export {
        // One pass is for whoever started it.
        Some(export) if !once => {
            // The job that writes them has made a folder of this machine.
            let store = super::serve::store(settings)?;
            Some(super::serve::start(export, store, process.runtime.operations.clone(), stop.clone()).await?)
        }
        _ => None,
    };
    let watch = export.as_ref().map(api::export::Served::watch);
    let serving = api::serve(settings.http, &process.runtime, watch, metrics, stop.clone()).await?;
    let contact = match &process.embedded {
        Some(log) => {
            let socket = settings.folder.join("muster.sock");
            log.set_contact(&socket)?;
            Some(tokio::spawn(contact::serve(socket, process.runtime.clone(), process.sinks.clone(), stop.clone())))
        }
        None => None,
    };
    let ended = if once {
        // Nobody waits for one pass for ever.
        process.runtime.retry.budget = ONCE;
        let shown = stop.child_token();
        let watching = tokio::spawn(progress::watch(Arc::clone(&process.runtime.health), shown.clone()));
        let mut ended = process.once(&stop).await;
        // What jobs work on is what the others have just read.
        ended.extend(process.do_jobs(Mode::Once, &stop).await);
        shown.cancel();
        watching.await.context("the progress lines' task")?;
        ended
    } else {
        tracing::info!(
            sources = process.systems.len(),
            processors = process.processors.len(),
            sinks = process.sinks.len(),
            "muster runs"
        );
        follow(&mut process, &stop).await
    };
    stop.cancel();
    if let Some(contact) = contact {
        contact.await.context("the local socket's task")??;
    }
    if let Some(export) = export {
        export.ended.await.context("the export's task")?;
    }
    // Whoever still reads an answer has had the time.
    if let Ok(served) = tokio::time::timeout(HTTP_STOPS_WITHIN, serving).await {
        served.context("the HTTP server's task")??;
    }
    let code = summary(&process, &ended, once, output).await?;
    process.close().await;
    Ok(code)
}

/// Follows until the stop; then waits for the components, but not for ever.
async fn follow(process: &mut Process, stop: &tokio_util::sync::CancellationToken) -> Vec<Ended> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        ended = process.follow(stop) => ended,
        () = late => {
            tracing::warn!("some components didn't stop in time; what they held is read again next time");
            Vec::new()
        }
    }
}

async fn summary(process: &Process, ended: &[Ended], once: bool, output: Output) -> Result<u8> {
    let failed: Vec<(&str, String)> =
        ended.iter().filter_map(|(name, result)| Some((name.as_str(), result.as_ref().err()?.to_string()))).collect();
    if once {
        // What was done is done, whether or not history can tell.
        let accounts = process.runtime.operations.ledger().await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "the accounts can't be shown");
            Vec::new()
        });
        let mine = accounts.iter().filter(|row| *row.process == *process.runtime.process);
        let counts: Vec<(&str, Counts)> = mine.map(|row| (row.component.as_str(), row.counts)).collect();
        let components: serde_json::Map<String, serde_json::Value> =
            counts.iter().map(|(name, counts)| ((*name).to_owned(), json!(counts))).collect();
        let errors: Vec<_> = failed.iter().map(|(name, error)| json!({ "component": name, "error": error })).collect();
        let object = json!({ "components": components, "errors": errors });
        output.show(&object, || {
            let mut lines: Vec<String> = vec![super::status::accounts_table(&counts)];
            lines.extend(failed.iter().map(|(name, error)| format!("{name} failed: {error}")));
            lines.join("\n")
        })?;
    }
    Ok(if failed.is_empty() { exit::DONE } else { exit::FAILED })
}
