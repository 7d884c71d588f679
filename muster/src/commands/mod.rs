//! One file for each command.

mod check;
mod dead_letters;
mod demo;
mod pause;
mod plan;
mod run;
mod serve;
mod simulate;
mod snapshot;
mod status;
mod sync;
mod token;
pub(crate) mod topics;
pub mod verify;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use pipeline::config;
use pipeline::log::sqlite::holder;
use pipeline::run::Mode;
use pipeline::state::{Answer, Request, RequestKind};
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command};
use crate::contact::{self, Ask, Told};
use crate::exit;
use crate::output::line;
use crate::process::{Process, environment};
use crate::settings::{LogSettings, Settings};

/// How long a command waits for the owner in another process.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same, where the owner reads a whole system first.
const PATIENCE_WITH_SYSTEMS: Duration = Duration::from_secs(1800);

/// The same, where it does a job.
const PATIENCE_WITH_JOBS: Duration = Duration::from_secs(12 * 3600);

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
        Command::Serve => serve::run(&settings(&args)?).await,
        Command::Token { action } => token::run(&settings(&args)?, action, output).await,
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
        Command::Verify { component, repair, keys, wait } => {
            let wanted = verify::Wanted {
                component: component.clone(),
                repair: *repair,
                keys: *keys,
                wait: Duration::from_secs(*wait),
            };
            verify::run(&settings(&args)?, &wanted, output).await
        }
        Command::Snapshot { action } => snapshot::run(&settings(&args)?, action, output).await,
        Command::Simulate { system } => simulate::run(system).await,
        Command::Completions { shell } => {
            // Not straight to standard output: it panics when its reader has gone (`| head`).
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "muster", &mut script);
            line(&String::from_utf8_lossy(&script))?;
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

/// The component that writes a topic.
fn writer(topic: &str) -> String {
    let processor =
        processors::all(schemas::catalogue()).into_iter().find(|processor| processor.outputs().contains(&topic));
    processor.map_or_else(|| topic.to_owned(), |processor| processor.name().to_owned())
}

/// Asks the owner: the process that holds the embedded log, any process of the cluster, or, where none runs, this one.
async fn ask_owner(settings: &Settings, request: Request) -> Result<Answer> {
    let answers = ask_owners(settings, vec![request]).await?;
    answers.into_iter().next().context("nobody has answered")
}

/// As [`ask_owner`], for several requests at once; the answers come in their order.
async fn ask_owners(settings: &Settings, requests: Vec<Request>) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(requests.len());
    if let LogSettings::Sqlite { path } = &settings.log
        && let Some(holder) = holder(path)
    {
        let socket = holder.socket.context("the process that holds the log has no local socket yet: try again")?;
        for request in requests {
            match contact::ask(&socket, &Ask::Request(request)).await? {
                Told::Answer(answer) => answers.push(answer),
                Told::Failed(reason) => bail!(reason),
                told => bail!("the process gave another answer than was asked for: {told:?}"),
            }
        }
        return Ok(answers);
    }
    let mut process = Process::open(settings).await?;
    for request in &requests {
        process.runtime.state.requests.ask(request).await?;
    }
    let mut patience = PATIENCE;
    if let LogSettings::Sqlite { .. } = settings.log {
        // Nobody runs: this process is the owner for a moment.
        patience = Duration::from_secs(1);
        let stop = stop_on_signals()?;
        let compares = |kind: &RequestKind| matches!(kind, RequestKind::Compare { .. });
        let mends =
            |kind: &RequestKind| matches!(kind, RequestKind::Repair { .. } | RequestKind::Compare { repair: true });
        let ended = if requests.iter().all(|request| request.kind == RequestKind::Run) {
            process.do_jobs(Mode::Asked, &stop).await
        } else if requests.iter().all(|request| compares(&request.kind) || mends(&request.kind)) {
            process.asked(requests.iter().any(|request| mends(&request.kind)), &stop).await
        } else {
            process.once(&stop).await
        };
        for (name, result) in ended {
            result.with_context(|| name)?;
        }
    } else if requests.iter().any(|request| matches!(request.kind, RequestKind::Compare { .. })) {
        patience = PATIENCE_WITH_SYSTEMS;
    } else if requests.iter().any(|request| request.kind == RequestKind::Run) {
        patience = PATIENCE_WITH_JOBS;
    }
    for request in requests {
        let answered = tokio::time::timeout(patience, process.runtime.state.requests.answered(&request.id)).await;
        let nobody = || match settings.log {
            LogSettings::Kafka(_) => "no process has answered: is `muster run` running?".to_owned(),
            LogSettings::Sqlite { .. } => format!("nothing here answers for {}", request.target),
        };
        answers.push(answered.with_context(nobody)??);
    }
    process.close().await;
    Ok(answers)
}
