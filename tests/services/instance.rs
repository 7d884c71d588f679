//! Starts servers that end by themselves: each runs under `supervise.sh`, which stops it and removes its folder when
//! no test process holds the lock on its `users` file any more, however these processes ended.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cache, lock, ports, program};

const SUPERVISE: &str = include_str!("supervise.sh");

/// How long a shared server waits for the next user: longer than the pause between two test binaries, short enough
/// not to be noticed after the last one.
const SHARED_GRACE: Duration = Duration::from_secs(12);

/// Cold JVMs on a busy machine with two cores take 10 s; with a dozen other programs at work beside them, 90 s.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(180);

const ATTEMPTS: usize = 3;

const POLL: Duration = Duration::from_millis(50);

/// How to start one kind of server.
pub(crate) trait Launch {
    /// Name and version: servers are shared under it.
    fn name(&self) -> &'static str;
    /// The signal that stops it; what it loses by that is thrown away anyway.
    fn signal(&self) -> &'static str;
    /// How many ports it needs. Users talk to the first.
    fn ports(&self) -> usize {
        1
    }
    /// The ports, chosen anew for each attempt.
    fn choose_ports(&self) -> Result<Vec<u16>> {
        ports::free(self.ports())
    }
    /// Prepares the folder, unless an earlier start did, and returns the command line.
    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>>;
    /// What is still to be done once the command runs under its supervisor.
    async fn begin(&self, _folder: &Path, _ports: &[u16]) -> Result<()> {
        Ok(())
    }
    /// `Ok` once it serves requests.
    async fn answers(&self, folder: &Path, port: u16) -> Result<()>;
}

/// A server in use. It runs at least until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) port: u16,
    /// Holds the shared lock.
    _users: File,
}

/// The server of this kind that all test processes share; the first one starts it.
pub(crate) async fn shared(launch: &impl Launch) -> Result<Lease> {
    let run = cache::folder()?.join("run");
    std::fs::create_dir_all(&run).context("creating the folder of running services")?;
    let file = |what: &str| run.join(format!("{}.{what}", launch.name()));

    // In this order: once we are a user, the server we find below isn't stopped any more.
    let users = lock::shared(&file("users")).await?;
    let _starting = lock::exclusive(&file("starting")).await?;
    if let Some(port) = running(launch, &file("current")).await {
        return Ok(Lease { port, _users: users });
    }
    let (folder, ports) = start_anywhere(launch, &file("users")).await?;
    let port = ports[0];
    std::fs::write(folder.join("ready"), "").context("marking a service as ready")?;
    std::fs::write(file("current"), format!("{port} {}", folder.display())).context("naming a running service")?;
    Ok(Lease { port, _users: users })
}

/// The port of the server named in the file, if it is still there.
async fn running(launch: &impl Launch, current: &Path) -> Option<u16> {
    let named = std::fs::read_to_string(current).ok()?;
    let (port, folder) = named.split_once(' ')?;
    let port = port.parse().ok()?;
    let folder = Path::new(folder);
    let ready = folder.join("ready").exists();
    (ready && launch.answers(folder, port).await.is_ok()).then_some(port)
}

async fn start_anywhere(launch: &impl Launch, users: &Path) -> Result<(PathBuf, Vec<u16>)> {
    let mut attempts = Attempts::new();
    loop {
        let folder = new_folder()?;
        let ports = launch.choose_ports()?;
        match start(launch, &folder, &ports, users, SHARED_GRACE).await {
            Ok(()) => return Ok((folder, ports)),
            Err(err) => attempts.after(err)?,
        }
    }
}

/// Whether to try again: a port may have been taken by somebody else between choosing and using it. What took long to
/// fail wasn't that.
struct Attempts {
    made: usize,
    began: Instant,
}

impl Attempts {
    fn new() -> Self {
        Self { made: 0, began: Instant::now() }
    }

    /// The failure itself, when another attempt makes no sense.
    fn after(&mut self, failure: anyhow::Error) -> Result<()> {
        self.made += 1;
        let is_last = self.made >= ATTEMPTS || self.began.elapsed() > START_DEADLINE;
        if is_last { Err(failure) } else { Ok(()) }
    }
}

/// Outside the cache, because servers that run as another user can't get into our home folder.
fn new_folder() -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("muster-tests-").tempdir().context("creating a throw-away folder")?;
    Ok(folder.keep())
}

/// Starts the server under its supervisor and waits until it answers.
async fn start(launch: &impl Launch, folder: &Path, ports: &[u16], users: &Path, grace: Duration) -> Result<()> {
    let command = match launch.command(folder, ports).await {
        Ok(command) => command,
        Err(err) => {
            // No supervisor yet that would clear up.
            let _ = std::fs::remove_dir_all(folder);
            return Err(err);
        }
    };
    let log = folder.join("log");
    supervise(launch, command, folder, users, grace, &log)?;
    let started = match launch.begin(folder, ports).await {
        Ok(()) => answering(launch, folder, ports[0]).await,
        Err(err) => Err(err),
    };
    let Err(failure) = started else { return Ok(()) };
    let said = program::last_lines(&std::fs::read_to_string(&log).unwrap_or_default(), 15);
    std::fs::write(folder.join("stop"), "").context("giving up a service")?;
    let said = if said.is_empty() { said } else { format!("; it said:\n{said}") };
    bail!("{} {failure:#}{said}", launch.name())
}

async fn answering(launch: &impl Launch, folder: &Path, port: u16) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let Err(silence) = launch.answers(folder, port).await else { return Ok(()) };
        if folder.join("exited").exists() {
            bail!("ended while starting");
        }
        if Instant::now() > deadline {
            return Err(silence.context("did not answer"));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn supervise(
    launch: &impl Launch,
    command: Vec<OsString>,
    folder: &Path,
    users: &Path,
    grace: Duration,
    log: &Path,
) -> Result<()> {
    let output = File::create(log).context("creating a service's log")?;
    let half_seconds = grace.as_millis() / 500;
    let mut supervisor = Command::new("sh");
    supervisor.args(["-c", SUPERVISE, "muster-tests"]);
    supervisor.arg(users).arg(half_seconds.to_string()).arg(launch.signal()).arg(folder).args(command);
    // A process group of its own: Ctrl-C in a terminal ends the tests, which then ends the server in good order.
    // Its own output: who waits for the end of the tests' output mustn't wait for the server.
    supervisor.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    supervisor.spawn().with_context(|| format!("starting {}", launch.name()))?;
    Ok(())
}

/// A server of one test alone, which may be stopped, killed and started again on the same port and data.
/// It ends within a second or so of being dropped.
pub(crate) struct Private<L> {
    launch: L,
    folder: PathBuf,
    ports: Vec<u16>,
    _users: File,
}

impl<L: Launch> Private<L> {
    pub(crate) async fn start(launch: L) -> Result<Self> {
        let mut attempts = Attempts::new();
        loop {
            let folder = new_folder()?;
            let ports = launch.choose_ports()?;
            let users = lock::shared(&folder.join("users")).await?;
            match start(&launch, &folder, &ports, &folder.join("users"), Duration::ZERO).await {
                Ok(()) => return Ok(Self { launch, folder, ports, _users: users }),
                Err(err) => attempts.after(err)?,
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What it has printed since its last start.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Sends the signal and waits until the process is gone.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        if !self.is_running() {
            bail!("{} is not running", self.launch.name());
        }
        let pid = std::fs::read_to_string(self.folder.join("pid")).context("reading a service's process id")?;
        let mut kill = tokio::process::Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal, pid.trim()]);
        program::run(kill, Duration::from_secs(5)).await?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_running() {
            if Instant::now() > deadline {
                bail!("{} did not end within 30 s of {signal}", self.launch.name());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts it again after [`Self::signal`].
    pub(crate) async fn restart(&self) -> Result<()> {
        if self.is_running() {
            bail!("{} is still running", self.launch.name());
        }
        for old in ["exited", "pid"] {
            std::fs::remove_file(self.folder.join(old)).context("forgetting the stopped service")?;
        }
        start(&self.launch, &self.folder, &self.ports, &self.folder.join("users"), Duration::ZERO).await
    }

    fn is_running(&self) -> bool {
        !self.folder.join("exited").exists()
    }
}
