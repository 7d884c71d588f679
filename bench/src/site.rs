//! The released binary at work: its folder, its configuration, its process.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

use crate::{Setting, machine};

/// The register's tables, as applicants go into them.
pub const REGISTER: &str = include_str!("register.toml");

/// What the simulated system wants to be told.
pub const API_KEY: &str = "harbour-lights";

/// How often a process's memory is looked at; the system keeps the most there was.
const OFTEN: Duration = Duration::from_millis(20);

/// A folder with a configuration.
pub struct Site {
    program: PathBuf,
    folder: PathBuf,
}

impl Site {
    /// `name`: of the folder, and of what is printed.
    pub fn new(setting: &Setting, name: &str, configuration: &str) -> Result<Self> {
        ensure!(setting.program.exists(), "there is no {}: use `cargo xtask bench`", setting.program.display());
        let folder = setting.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        let text = format!("folder = \"{}\"\n{configuration}", folder.join("data").display());
        std::fs::write(folder.join("muster.toml"), text)?;
        Ok(Self { program: setting.program.clone(), folder })
    }

    /// Starts a command; what it prints goes into a file.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        let printed = self.folder.join("printed");
        let file = std::fs::File::options().create(true).append(true).open(&printed)?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.join("muster.toml")).args(arguments).kill_on_drop(true);
        command.env("API_KEY", API_KEY).env("MUSTER_LOG", "warn");
        command.stdout(file.try_clone()?).stderr(file);
        Ok(Process { child: command.spawn().context("starting muster")?, printed })
    }

    /// Runs a command to its end.
    pub async fn give(&self, arguments: &[&str]) -> Result<()> {
        let mut process = self.start(arguments)?;
        let status = process.child.wait().await?;
        ensure!(status.success(), "muster {}: {status}\n{}", arguments.join(" "), process.printed());
        Ok(())
    }

    /// What a command answers with `--json`.
    pub async fn ask(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.join("muster.toml")).arg("--json").args(arguments).kill_on_drop(true);
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "muster {}: {}\n{said}", arguments.join(" "), output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs a command to its end, and says what it took.
    pub async fn timed(&self, arguments: &[&str]) -> Result<Ran> {
        let began = Instant::now();
        let mut process = self.start(arguments)?;
        let id = process.child.id().context("the process has ended")?;
        let mut memory = 0.0;
        let status = loop {
            tokio::select! {
                status = process.child.wait() => break status?,
                () = tokio::time::sleep(OFTEN) => {}
            }
            // Of a process that has ended nothing can be read any more.
            memory = machine::memory_mb(id, "VmHWM").unwrap_or(memory);
        };
        let seconds = began.elapsed().as_secs_f64();
        ensure!(status.success(), "muster {}: {status}\n{}", arguments.join(" "), process.printed());
        Ok(Ran { seconds, memory })
    }
}

/// What a command came to.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// From its start to its end, by the clock on the wall.
    pub seconds: f64,
    /// Resident memory in MB, at most.
    pub memory: f64,
}

/// A process of ours. Killed when dropped.
pub struct Process {
    child: Child,
    printed: PathBuf,
}

impl Process {
    /// Its memory in MB: now, and at most so far.
    pub fn memory(&mut self) -> Result<(f64, f64)> {
        let id = self.child.id().context("the process has ended")?;
        let read = |line| machine::memory_mb(id, line).context("reading a process's memory");
        Ok((read("VmRSS")?, read("VmHWM")?))
    }

    /// Whether it has ended; an error when it did so badly.
    pub fn has_ended(&mut self) -> Result<bool> {
        let Some(status) = self.child.try_wait()? else { return Ok(false) };
        ensure!(status.success(), "muster: {status}\n{}", self.printed());
        Ok(true)
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn printed(&self) -> String {
        let text = std::fs::read_to_string(&self.printed).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Tries until it is so; the process must live that long.
    pub async fn until<T>(
        &mut self,
        within: Duration,
        every: Duration,
        mut so: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            if let Some(answer) = so().await? {
                return Ok(answer);
            }
            if self.has_ended()? {
                bail!("muster has ended:\n{}", self.printed());
            }
            if began.elapsed() > within {
                bail!("not within {} s:\n{}", within.as_secs(), self.printed());
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// A simulated ATS in a process of its own, with these options besides, and where it listens.
pub async fn recruiters(setting: &Setting, applicants: usize, besides: &[&str]) -> Result<(Process, String)> {
    let site = Site::new(setting, &format!("ats-{}", free_port()?), "")?;
    let port = free_port()?.to_string();
    let applicants = applicants.to_string();
    let options = ["--port", &port, "--applicants", &applicants, "--api-key", API_KEY];
    let mut process = site.start(&[&["simulate", "ats"], &options[..], besides].concat())?;
    let url = format!("http://127.0.0.1:{port}");
    let every = Duration::from_millis(100);
    let asked = format!("{url}/milestones");
    let answers = async || Ok(reqwest::get(&asked).await.is_ok().then_some(()));
    process.until(Duration::from_secs(120), every, answers).await?;
    Ok((process, url))
}

/// Free until somebody else is quicker.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The section of the source.
pub fn source(url: &str, every: &str) -> String {
    format!(
        "[sources.ats]\nevery = \"{every}\"\n\
         from.ats = {{ url = \"{url}\", api_key = {{ env = \"API_KEY\" }}, page_size = 500 }}\n"
    )
}
