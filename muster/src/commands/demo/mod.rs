//! `muster demo`: the main jobs, told as a story. A simulated recruiting system goes in, a national register comes out; a
//! provider registry's tables go in, snapshots and an export come out.

mod employees;
mod register;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chrono::Utc;
use pipeline::config;
use pipeline::ledger::Counts;
use pipeline::operations::{LetterFilter, LetterState};
use pipeline::run::Mode;
use pipeline::snapshot::Manifest;
use pipeline::state::{Request, RequestKind};
use serde_json::{Value, json};
use simulators::ats::{Ats, AtsOptions};
use simulators::server::Server;
use tokio_util::sync::CancellationToken;

use self::employees::{EMPLOYEES, Employees, Export};
use self::register::Register;
use super::{ask_owner, stop_on_signals};
use crate::exit;
use crate::output::{Output, line};
use crate::process::{Process, open_operations};
use crate::settings::Settings;

/// The configuration, with two places to fill in.
const CONFIG: &str = include_str!("demo.toml");

/// The key of the simulated system.
const API_KEY: &str = "demo-key";

/// The process is killed once the register holds this share of the applicants.
const KILLED_AT: f64 = 0.3;

/// A bad record: its registration date isn't one. Invented.
fn bad_record() -> Value {
    json!({
        "applicant_id": "0d9d3c52-6a1f-4f7e-9a55-0f6a4c1d2e3b", "ats1_id": 9_000_001, "first_name": "Odalys",
        "last_name": "Ferncastle", "email_address": "odalys@example.org", "phone_number": "",
        "country_of_residence": null, "countries_of_citizenship": ["PH"], "pr_status": "No status",
        "assigned_to": null, "pathway_id": null, "registration_date": "the first of May",
        "created_date": "2026-05-01T09:00:00", "updated_date": Utc::now().format("%Y-%m-%dT%H:%M:%S").to_string(),
        "nursing_educations": [], "milestones": []
    })
}

/// What is told, and what it came to.
struct Story {
    output: Output,
    settings: Settings,
    config: PathBuf,
    ats: Ats,
    server: Server,
    employees: Employees,
    export: Option<Export>,
    totals: Totals,
}

#[derive(Default)]
struct Totals {
    read: u64,
    changed: u64,
    unchanged: u64,
    delivered: u64,
    rejected: u64,
    parked: u64,
}

/// Runs the demonstration.
pub async fn run(stay: bool, applicants: u32, output: Output) -> Result<u8> {
    let began = Instant::now();
    let folder =
        tempfile::Builder::new().prefix("muster-demo-").tempdir().context("no folder for the demonstration")?;
    let mut story = Story::begin(folder.path(), applicants, output).await?;
    let stop = stop_on_signals()?;
    let told = async {
        story.load_and_be_killed().await?;
        story.change().await?;
        story.dead_letter().await?;
        story.export(&stop).await?;
        story.summary(began.elapsed()).await
    };
    tokio::select! {
        told = told => told?,
        // The folder goes with this function.
        () = stop.cancelled() => bail!("stopped before the end"),
    }
    if stay {
        let kept = folder.keep();
        return story.stay(&kept, stop).await;
    }
    story.server.stop().await;
    Ok(exit::DONE)
}

impl Story {
    async fn begin(folder: &Path, applicants: u32, output: Output) -> Result<Self> {
        let options = AtsOptions {
            applicants: applicants as usize,
            api_key: API_KEY.into(),
            now: Utc::now(),
            ticking: true,
            ..AtsOptions::default()
        };
        let ats = Ats::generate(options);
        let server =
            ats.serve(SocketAddr::from(([127, 0, 0, 1], 0))).context("the simulated system can't be served")?;
        let employees = Employees::begin(folder).await.context("the simulated registry can't be made")?;
        std::fs::write(folder.join("api-key"), API_KEY)?;
        std::fs::write(folder.join("pepper"), uuid::Uuid::new_v4().to_string())?;
        let text = CONFIG.replace("FOLDER", &folder.display().to_string()).replace("URL", &server.url());
        let config = folder.join("muster.toml");
        std::fs::write(&config, &text)?;
        let settings =
            config::read("demo.toml", &text, Settings::read)?.context("the demonstration's configuration")?;
        let totals = Totals::default();
        let story = Self { output, settings, config, ats, server, employees, export: None, totals };
        story.tell(&format!(
            "1. A recruiting system (simulated, {}) has {applicants} applicants with their milestones.\n   \
             Muster will read it, write every change once to its topics, work out the register and keep a database the same.\n   \
             A provider registry (simulated, a SQLite file) has {EMPLOYEES} employees, in eight tables: these will be published.",
            story.server.url()
        ))?;
        Ok(story)
    }

    fn tell(&self, text: &str) -> Result<()> {
        if self.output == Output::Text { line(text) } else { Ok(()) }
    }

    fn database(&self) -> PathBuf {
        self.settings.folder.join("register.sqlite")
    }

    /// The first load, by a process of its own, which is killed in the middle; then again, to the end.
    async fn load_and_be_killed(&mut self) -> Result<()> {
        let wanted = (self.ats.len() as f64 * KILLED_AT) as u64;
        let program = std::env::current_exe().context("the program's own path")?;
        let mut child = tokio::process::Command::new(program)
            .arg("--config")
            .arg(&self.config)
            .arg("run")
            .env("MUSTER_LOG", "off")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("the process that is to be killed can't be started")?;
        let ended = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Register::peek(&self.database()).await >= wanted {
                break None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let held = match ended {
            Some(status) => bail!("the first process ended before it could be killed ({status})"),
            None => {
                child.kill().await?;
                Register::peek(&self.database()).await
            }
        };
        self.tell(&format!("\n2. The first process was killed (SIGKILL) when the register held {held} applicants."))?;
        let counts = self.pass().await?;
        let register = Register::read(&self.database()).await?;
        register.compare(&register::expected(&self.ats))?;
        self.totals.parked = register.parked;
        self.tell(&format!(
            "   A second process went on where it was: {} records read, {} of them new to the topics.\n   \
             The register now holds {} applicants, {} milestones, {} staff; {} rows wait, because their number in the old\n   \
             system belongs to somebody else. Nothing is missing and nothing is there twice (compared with the system row by row).",
            counts.source.read, counts.source.delivered, register.applicants.len(), register.milestones, register.users, register.parked
        ))
    }

    /// Changes in the system: exactly those flow.
    async fn change(&mut self) -> Result<()> {
        let before = Register::read(&self.database()).await?;
        let changed = self.ats.change_some(7);
        let ids: Vec<String> = before.applicants.iter().filter(|id| !changed.contains(id)).cloned().collect();
        let mut removed = None;
        for id in &ids {
            if let Some(milestone) = self.ats.remove_milestone(id, 0) {
                removed = Some((id.clone(), milestone));
                break;
            }
        }
        ensure!(removed.is_some(), "no applicant has a milestone to remove");
        self.ats.add_raw(bad_record());
        self.tell(&format!(
            "\n3. In the system, {} applicants change, one loses a milestone, and one record arrives that can't be right.",
            changed.len()
        ))?;
        let counts = self.pass().await?;
        let register = Register::read(&self.database()).await?;
        register.compare(&register::expected(&self.ats))?;
        self.tell(&format!(
            "   Of {} records read again, {} were changes; the other {} were known already and went no further.\n   \
             {} rows of the register were written. {} record is in the dead letters.",
            counts.source.read,
            counts.source.delivered,
            counts.source.unchanged,
            counts.sink.delivered,
            counts.source.rejected
        ))
    }

    /// The bad record: shown, repaired, replayed.
    async fn dead_letter(&mut self) -> Result<()> {
        let operations = open_operations(&self.settings).await?;
        let open = LetterFilter { state: Some(LetterState::Open), ..LetterFilter::default() };
        let letters = operations.letters(&open, 10).await?;
        let Some(letter) = letters.first() else { bail!("the bad record isn't in the dead letters") };
        self.tell(&format!(
            "\n4. The dead letter {}: key {}, {}: {}",
            letter.id,
            letter.key.as_deref().unwrap_or("-"),
            letter.code,
            letter.reason
        ))?;
        let mut repaired = bad_record();
        repaired["registration_date"] = json!("2026-05-01T09:00:00");
        let request = Request {
            id: uuid::Uuid::new_v4().to_string(),
            target: letter.component.clone(),
            kind: RequestKind::Replay { letter: letter.id.clone(), edited: Some(repaired) },
            at: Utc::now(),
            answer: None,
        };
        let answer = ask_owner(&self.settings, request).await?;
        ensure!(answer.done, "the repaired record was refused: {}", answer.text);
        let left = operations.count_letters(&open).await?;
        let register = Register::read(&self.database()).await?;
        let there = letter.key.as_ref().is_some_and(|key| register.applicants.contains(key));
        ensure!(there, "the repaired record isn't in the register");
        self.tell(&format!(
            "   Replayed with its date repaired: {}. It is in the register; {left} letters are open.",
            answer.text
        ))
    }

    /// Changes in the registry: they come into the next snapshot, which the export serves.
    async fn export(&mut self, stop: &CancellationToken) -> Result<()> {
        let before = self.publish().await?;
        let changed = self.employees.change().await?;
        self.pass().await?;
        let after = self.publish().await?;
        ensure!(after.generation > before.generation, "no snapshot was published");
        let export = Export::begin(&self.settings, stop).await?;
        let exported = self.employees.compare(&export, &changed).await?;
        let size = employees::size(&after);
        self.tell(&format!(
            "\n5. In the registry, {} employees change. Snapshot {} was published: {} tables, {} records, complete as of its date.\n   \
             The export answered with {} employees, equal to the tables, and with the {} of the last day; a wrong key got 401.",
            changed.len(),
            after.generation,
            size["datasets"],
            size["records"],
            exported.full,
            exported.depth_1
        ))?;
        self.tell(&format!("   To try while it runs (--stay):\n{}", export.to_try()))?;
        self.export = Some(export);
        Ok(())
    }

    /// Makes a snapshot of what the topics hold, in this process.
    async fn publish(&self) -> Result<Manifest> {
        let mut process = Process::open(&self.settings).await?;
        for (name, result) in process.do_jobs(Mode::Once, &CancellationToken::new()).await {
            result.with_context(|| name)?;
        }
        process.close().await;
        employees::published(&self.settings).await
    }

    /// One pass of everything, in this process.
    async fn pass(&mut self) -> Result<PassCounts> {
        let mut process = Process::open(&self.settings).await?;
        let ended = process.once(&CancellationToken::new()).await;
        for (name, result) in ended {
            result.with_context(|| name)?;
        }
        let mut counts = PassCounts::default();
        for row in process.runtime.operations.ledger().await? {
            if *row.process != *process.runtime.process {
                continue;
            }
            row.counts.balanced()?;
            if row.component.starts_with("ats.") {
                counts.source += row.counts;
            } else if row.component == "register" {
                counts.sink += row.counts;
            }
        }
        process.close().await;
        self.totals.read += counts.source.read;
        self.totals.changed += counts.source.delivered;
        self.totals.unchanged += counts.source.unchanged;
        self.totals.rejected += counts.source.rejected + counts.sink.rejected;
        self.totals.delivered += counts.sink.delivered;
        Ok(counts)
    }

    async fn summary(&self, took: Duration) -> Result<()> {
        let Totals { read, changed, unchanged, delivered, rejected, parked } = self.totals;
        let ats = json!({ "read": read, "changed": changed, "unchanged": unchanged, "delivered": delivered,
            "rejected": rejected, "parked": parked });
        let snapshot = employees::size(&employees::published(&self.settings).await?);
        let systems = json!({ "ats": ats, "prm": snapshot });
        let object = json!({ "seconds": took.as_secs_f64(), "ledger": "balanced", "systems": systems });
        self.output.show(&object, || {
            format!(
                "\nAfter the kill: {read} records read = {changed} changed + {unchanged} unchanged + {rejected} rejected (+ those overtaken).\n\
                 {delivered} rows delivered, {parked} waiting. The ledger balances. {:.1} s.",
                took.as_secs_f64()
            )
        })
    }

    /// Keeps everything running.
    async fn stay(self, folder: &Path, stop: CancellationToken) -> Result<u8> {
        let shown = folder.display();
        line(&format!(
            "\nStaying. Ctrl-C ends it; its folder is yours to look at, and to remove.\n  the system  {} (header ApiKey: {API_KEY}; faults: POST /__admin/faults)\n  \
             the register  sqlite3 {shown}/register.sqlite\n  the log  {shown}/log.sqlite\n  the snapshots  {shown}/snapshots\n  \
             commands  muster --config {shown}/muster.toml status",
            self.server.url()
        ))?;
        let settings = self.settings;
        let mut process = Process::open(&settings).await?;
        if let Some(log) = &process.embedded {
            let socket = settings.folder.join("muster.sock");
            log.set_contact(&socket)?;
            tokio::spawn(crate::contact::serve(socket, process.runtime.clone(), process.sinks.clone(), stop.clone()));
        }
        let metrics = api::install_metrics()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        match api::serve(Some(address), &process.runtime, None, metrics, stop.clone()).await {
            Ok(_) => line(&format!(
                "  the API  http://{address}/api/v1/sources/ats.applicant/runs, /health/ready, /metrics"
            ))?,
            Err(error) => line(&format!("  no API: {error}"))?,
        }
        for (name, result) in process.follow(&stop).await {
            result.with_context(|| name)?;
        }
        process.close().await;
        Ok(exit::DONE)
    }
}

/// What one pass came to.
#[derive(Default)]
struct PassCounts {
    source: Counts,
    sink: Counts,
}
