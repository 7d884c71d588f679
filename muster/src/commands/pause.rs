//! `muster pause` and `muster resume`: a component rests in every process, and goes on where it was.

use anyhow::{Result, bail};
use pipeline::log::sqlite::holder;
use serde_json::json;

use crate::contact::{self, Ask, Told};
use crate::exit;
use crate::output::Output;
use crate::process::Process;
use crate::settings::{LogSettings, Settings};

/// Pauses a component, or lets it go on.
pub async fn run(settings: &Settings, component: &str, paused: bool, output: Output) -> Result<u8> {
    known(settings, component)?;
    let socket = match &settings.log {
        LogSettings::Sqlite { path } => holder(path).and_then(|holder| holder.socket),
        LogSettings::Kafka(_) => None,
    };
    match socket {
        Some(socket) => {
            let ask = Ask::Pause { component: component.to_owned(), paused };
            if let Told::Failed(reason) = contact::ask(&socket, &ask).await? {
                bail!(reason);
            }
        }
        None => {
            let process = Process::open(settings).await?;
            process.runtime.state.positions.pause(component, paused).await?;
            process.close().await;
        }
    }
    let done = if paused { "paused" } else { "resumed" };
    output.show(&json!({ "component": component, "state": done }), || format!("{component}: {done}"))?;
    Ok(exit::DONE)
}

fn known(settings: &Settings, component: &str) -> Result<()> {
    let sources = settings.sources.iter().map(|source| source.name.as_str());
    let targets = settings.sinks.iter().map(|sink| sink.name.as_str());
    let jobs = settings.snapshots.iter().map(|_| sinks::snapshot::NAME);
    let processors = settings.processors.iter().map(String::as_str);
    let names: Vec<&str> = sources.chain(processors).chain(targets).chain(jobs).collect();
    if names.contains(&component) {
        return Ok(());
    }
    let nearest = pipeline::config::nearest(component, names.iter().copied());
    let nearest = nearest.map(|name| format!(" Did you mean `{name}`?")).unwrap_or_default();
    bail!("the configuration has no component called `{component}`.{nearest} There are: {}", names.join(", "))
}
