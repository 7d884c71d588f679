//! A place where the program runs: a folder, its configuration, and the commands a person would give there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use serde_json::Value;
use simulators::ats::Ats;
use tokio::process::Command;

use super::oracle;
use super::program::{self, Done, Running};
use super::register::{Database, Register};
use super::until;

/// What the simulated system wants to be told.
pub const API_KEY: &str = "harbour-lights";

const REGISTER: &str = include_str!("register.toml");

/// Which log, which registry, which database.
#[derive(Clone, Default)]
pub struct Parts {
    /// The simulated system's address.
    pub ats: String,
    /// Lines of the section `log`, and of `registry`; empty: the embedded log.
    pub log: String,
    /// The register; `None`: a SQLite file in the folder.
    pub database: Option<String>,
    /// Sections that come last.
    pub more: String,
}

/// A folder with a configuration.
pub struct Site {
    folder: tempfile::TempDir,
    program: &'static Path,
    parts: Parts,
    http: u16,
    started: AtomicU32,
}

impl Site {
    /// An empty folder with everything configured.
    pub async fn new(parts: Parts) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("muster-e2e-").tempdir()?;
        let program = program::program().await?;
        let http = services::free_port()?;
        let site = Self { folder, program, parts, http, started: AtomicU32::new(0) };
        site.set_key(API_KEY)?;
        site.configure(|text| text)?;
        Ok(site)
    }

    /// A SQLite register behind an embedded log.
    pub async fn embedded(ats: &str) -> Result<Self> {
        Self::new(Parts { ats: ats.to_owned(), ..Parts::default() }).await
    }

    /// Writes the configuration, changed by `edit`.
    pub fn configure(&self, edit: impl FnOnce(String) -> String) -> Result<()> {
        let folder = self.folder.path().display().to_string();
        let Parts { ats, log, more, .. } = &self.parts;
        let database = match self.database() {
            Database::Sqlite(file) => format!("sqlite://{}", file.display()),
            Database::Postgres(url) => url,
        };
        let register = REGISTER.replace("DATABASE", &database);
        let http = self.http;
        let text = format!(
            "folder = \"{folder}/data\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n[retry]\nfirst = \"100ms\"\nmost = \"1s\"\n{log}\n\
             [sources.ats]\nevery = \"1s\"\nfrom.ats = {{ url = \"{ats}\", api_key = {{ file = \"{folder}/key\" }} }}\n\
             {register}\n{more}"
        );
        Ok(std::fs::write(self.config(), edit(text))?)
    }

    /// What the source says to the simulated system.
    pub fn set_key(&self, key: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join("key"), key)?)
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("muster.toml")
    }

    /// Where the register is.
    pub fn database(&self) -> Database {
        match &self.parts.database {
            None => Database::Sqlite(self.path("register.sqlite")),
            Some(url) => Database::Postgres(url.clone()),
        }
    }

    /// A command of the program.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    /// Gives a command and waits for its end.
    pub async fn give(&self, args: &[&str]) -> Result<Done> {
        program::finish(&mut self.command(args)).await
    }

    /// As [`Site::give`]; the command must do what it is told, and its result is read as JSON.
    pub async fn ask(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<&str> = std::iter::once("--json").chain(args.iter().copied()).collect();
        self.give(&args).await?.ok()?.json()
    }

    /// Starts `muster run`.
    pub fn start(&self) -> Result<Running> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Running::start(&mut self.command(&["run"]), self.path(&format!("run-{number}.log")))
    }

    /// What its processes have printed, each in a file.
    pub fn logs(&self) -> Vec<PathBuf> {
        let started = self.started.load(Ordering::Relaxed);
        (0..started).map(|number| self.path(&format!("run-{number}.log"))).collect()
    }

    /// What the HTTP interface answers.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(5)).build()?;
        let answer = client.get(format!("http://127.0.0.1:{}{path}", self.http)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The register as it is now.
    pub async fn register(&self) -> Result<Register> {
        Register::read(&self.database()).await
    }

    /// The register holds what the simulated system's state asks for, row by row.
    pub async fn agrees_with(&self, ats: &Ats) -> Result<()> {
        oracle::expected(&ats.applicants(), &ats.masters())?.compare(&self.register().await?)
    }

    /// Waits until the register holds what it must.
    pub async fn settles(&self, running: &mut Running, ats: &Ats) -> Result<()> {
        running.during(until("the register equals the oracle", || async { self.agrees_with(ats).await })).await
    }

    /// No record is unaccounted for.
    pub async fn ledger_balances(&self) -> Result<Value> {
        let status = self.ask(&["status"]).await?;
        ensure!(status["ledger"] == "balanced", "{status:#}");
        Ok(status)
    }
}
