//! The local socket of a process that holds an embedded log: how commands reach it. One JSON line asks, one answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pipeline::operations::LetterState;
use pipeline::run::{ComponentHealth, Runtime, SinkTask};
use pipeline::state::{Answer, Request};
use pipeline::verify::Watch;
use schemas::SchemaId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::commands::verify;

/// The longest line either side takes: an edited letter is at most a record.
const LONGEST: u64 = 8 << 20;

/// The longest answer: a comparison names up to 10,000 keys of each topic.
const LONGEST_ANSWER: u64 = 64 << 20;

/// Commands at the same time.
const AT_ONCE: usize = 16;

/// How long a process may take to answer: a sync reads a whole system.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// How often a long command hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What a command asks of the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What an owner must do.
    Request(Request),
    /// Settle a letter without delivering it.
    Drop {
        /// Its id.
        letter: String,
    },
    /// Pause a component, or let it go on.
    Pause {
        /// Its name.
        component: String,
        /// Or let it go on.
        paused: bool,
    },
    /// Compare.
    Verify(verify::Task),
    /// What the components are doing.
    Health,
    /// The schema that a value of a topic was written with.
    Schema {
        /// Its id.
        id: u32,
    },
}

/// What the process answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// What came of a request.
    Answer(Answer),
    /// It was done.
    Done,
    /// How far a comparison is; an answer follows.
    Progress {
        /// What is being done.
        stage: String,
        /// How many records of it are done.
        records: u64,
    },
    /// What comparing has shown.
    Verified(Vec<verify::ComponentReport>),
    /// What the components are doing, and why the process isn't ready.
    Health {
        /// By name.
        components: serde_json::Value,
        /// Empty: it is ready.
        unready: Vec<String>,
    },
    /// A schema.
    Schema {
        /// As it was announced.
        text: String,
    },
    /// It couldn't be done.
    Failed(String),
}

/// Serves commands until told to stop. The socket is the owner's alone.
pub async fn serve(path: PathBuf, runtime: Runtime, sinks: Vec<SinkTask>, stop: CancellationToken) -> Result<()> {
    // Whoever held the log before us is gone, or we wouldn't hold it.
    if path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("{} can't be removed", path.display()))?;
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("{} can't be made", path.display()))?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, say: it passes, and commands must find the socket again.
                tracing::warn!(error = %error, "the local socket couldn't take a command");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let (runtime, sinks) = (runtime.clone(), sinks.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = answer(stream, &runtime, &sinks).await {
                tracing::warn!(error = format!("{error:#}"), "a command on the local socket failed");
            }
        });
    }
    std::fs::remove_file(&path).with_context(|| format!("{} can't be removed", path.display()))
}

async fn answer(stream: UnixStream, runtime: &Runtime, sinks: &[SinkTask]) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let told = match serde_json::from_str(&line) {
        Ok(Ask::Verify(task)) => Told::Verified(compare(&mut write, runtime, sinks, &task).await?),
        Ok(ask) => act(ask, runtime).await.unwrap_or_else(|error| Told::Failed(format!("{error:#}"))),
        Err(error) => Told::Failed(format!("the command isn't understood: {error}")),
    };
    tell(&mut write, &told).await
}

async fn tell(write: &mut OwnedWriteHalf, told: &Told) -> Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    Ok(write.write_all(&line).await?)
}

/// Compares, and says now and then how far it is. Whoever asked and has gone ends it.
async fn compare(
    write: &mut OwnedWriteHalf,
    runtime: &Runtime,
    sinks: &[SinkTask],
    task: &verify::Task,
) -> Result<Vec<verify::ComponentReport>> {
    let watch = Watch::default();
    let work = verify::compare(runtime, sinks, task, &watch);
    tokio::pin!(work);
    loop {
        tokio::select! {
            reports = &mut work => return Ok(reports),
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                let (stage, records) = watch.now();
                tell(write, &Told::Progress { stage, records }).await?;
            }
        }
    }
}

/// Does what a command asks, in this process.
pub async fn act(ask: Ask, runtime: &Runtime) -> Result<Told> {
    match ask {
        Ask::Request(request) => {
            runtime.state.requests.ask(&request).await?;
            let answer = tokio::time::timeout(PATIENCE, runtime.state.requests.answered(&request.id)).await;
            Ok(Told::Answer(answer.context("nobody has answered")??))
        }
        Ask::Drop { letter } => {
            runtime.letters.settle(&letter, LetterState::Dropped).await?;
            Ok(Told::Done)
        }
        Ask::Pause { component, paused } => {
            runtime.state.positions.pause(&component, paused).await?;
            Ok(Told::Done)
        }
        Ask::Verify(_) => anyhow::bail!("comparing is done for commands only"),
        Ask::Schema { id } => {
            let schema = runtime.state.schemas.schema(SchemaId(id)).await?;
            Ok(Told::Schema { text: schema.text().to_owned() })
        }
        Ask::Health => {
            let components: std::collections::BTreeMap<String, ComponentHealth> = runtime.health.components();
            let unready = runtime.health.unready(runtime.clock.now());
            Ok(Told::Health { components: serde_json::to_value(components)?, unready })
        }
    }
}

/// Asks the process behind a socket.
pub async fn ask(socket: &Path, ask: &Ask) -> Result<Told> {
    ask_and_watch(socket, ask, |_, _| {}).await
}

/// As [`ask`]; shows how far the process is.
pub async fn ask_and_watch(socket: &Path, ask: &Ask, show: impl Fn(&str, u64)) -> Result<Told> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("the process behind {} can't be reached", socket.display()))?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    let mut lines = BufReader::new(read);
    loop {
        let mut line = String::new();
        (&mut lines).take(LONGEST_ANSWER).read_line(&mut line).await?;
        if line.is_empty() {
            bail!("the process behind {} ended before it answered", socket.display());
        }
        match serde_json::from_str(&line)? {
            Told::Progress { stage, records } => show(&stage, records),
            told => return Ok(told),
        }
    }
}
