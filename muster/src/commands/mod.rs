//! One file for each command.

mod check;
mod dead_letters;
mod demo;
mod pause;
mod plan;
mod run;
mod simulate;
mod status;
mod sync;
pub(crate) mod topics;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use pipeline::config;
use pipeline::log::sqlite::holder;
use pipeline::state::{Answer, Request, RequestKind};
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command};
use crate::contact::{self, Ask, Told};
use crate::exit;
use crate::process::{Process, environment};
use crate::settings::{LogSettings, Settings};

/// How long a command waits for the owner in another process.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command and answers with the exit code.
pub async fn run(args: Args) -> Result<u8> {
    let output = args.output();
    match &args.command {
        Command::Demo { stay, applicants } => demo::run(*stay, *applicants, output).await,
        Command::Run { once } => {
            let settings = settings(&args)?;
            settings.check_secrets(&environment)?;
            for warning in &settings.warnings {
                tracing::warn!("{warning}");
            }
            run::run(&settings, *once, output).await
        }
        Command::Check => check::run(&args.config, output).await,
        Command::Plan { apply } => plan::run(&settings(&args)?, *apply, output).await,
        Command::Topics { action } => topics::run(&settings(&args)?, action.as_ref(), output).await,
        Command::Sync { target, from, to, page, full } => {
            let kind = RequestKind::Sync { window: from.zip(*to), page: *page, everything: *full };
            sync::run(&settings(&args)?, target, kind, output).await
        }
        Command::Pause { component } => pause::run(&settings(&args)?, component, true, output).await,
        Command::Resume { component } => pause::run(&settings(&args)?, component, false, output).await,
        Command::DeadLetters { action } => dead_letters::run(&settings(&args)?, action, output).await,
        Command::Status { health } => status::run(&settings(&args)?, *health, output).await,
        Command::Simulate { system } => simulate::run(system).await,
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Args::command(), "muster", &mut std::io::stdout());
            Ok(exit::DONE)
        }
    }
}

fn settings(args: &Args) -> Result<Settings> {
    let read = config::load(&args.config, Settings::read)?;
    read.context("the configuration names a source or a sink that isn't complete")
}

/// Stops on SIGTERM and Ctrl-C; a second one ends the process at once.
fn stop_on_signals() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let token = stop.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(i32::from(exit::FAILED));
            }
            tracing::info!("stopping");
            token.cancel();
        }
    });
    Ok(stop)
}

/// Asks the owner: the process that holds the embedded log, any process of the cluster, or, where none runs, this one.
async fn ask_owner(settings: &Settings, request: Request) -> Result<Answer> {
    if let LogSettings::Sqlite { path } = &settings.log
        && let Some(holder) = holder(path)
    {
        let socket = holder.socket.context("the process that holds the log has no local socket yet: try again")?;
        return match contact::ask(&socket, &Ask::Request(request)).await? {
            Told::Answer(answer) => Ok(answer),
            Told::Failed(reason) => bail!(reason),
            told => bail!("the process gave another answer than was asked for: {told:?}"),
        };
    }
    let mut process = Process::open(settings).await?;
    process.runtime.state.requests.ask(&request).await?;
    if let LogSettings::Kafka(_) = settings.log {
        let answered = tokio::time::timeout(PATIENCE, process.runtime.state.requests.answered(&request.id)).await;
        return Ok(answered.context("no process has answered: is `muster run` running?")??);
    }
    // Nobody runs: this process is the owner for a moment.
    let stop = stop_on_signals()?;
    let ended = process.once(&stop).await;
    for (name, result) in ended {
        result.with_context(|| name)?;
    }
    let answer =
        tokio::time::timeout(Duration::from_secs(1), process.runtime.state.requests.answered(&request.id)).await;
    let answer = answer.with_context(|| format!("nothing here answers for {}", request.target))??;
    process.close().await;
    Ok(answer)
}
