//! Snapshots of a million employees of whom 2 % have changed on each day, made by `muster snapshot run --here` from a topic on
//! Kafka into a local folder: JSON as it is and gzipped, and Parquet. Depths as files of their own: `depths`.
//!
//! What counts is the process from its start to its end. Each begins with an empty folder and without dirty pages (`sync`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::prm::{Registry, kafka_log, snapshots};
use crate::rounds::{Rounds, Spread};
use crate::site::{Ran, Site};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting, pyarrow};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "snapshots", about: "a topic into files", run: |setting| Box::pin(run(setting)) };

/// As many as snapshots have by default.
pub const DEPTHS: u32 = 30;

/// The parts of 30 depths, and none of them materialised.
pub const PARTS: (&str, &str) = ("materialise = \"none\"", "");

/// The full file alone: a single window, in which nothing has changed, for employment didn't begin within it.
const ALONE: (&str, &str) = ("materialise = \"none\"\nmax_depth = 1", "strict = true\nchanged_by = [\"start_date\"]");

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let (rows, rounds) = (setting.amount(1_000_000, 5_000), setting.amount(2, 1));
    let Filled { registry, source, kafka: _kafka, maker } = filled(&setting, rows).await?;

    let mut first = Rounds::default();
    let mut memory = Vec::new();
    for _ in 0..rounds {
        first.ours.push(maker.make("alone", ALONE).await?.seconds);
        maker.forget("alone")?;
        let parts = maker.make("parts", PARTS).await?;
        first.theirs.push(parts.seconds);
        memory.push(parts.memory);
        maker.forget("parts")?;
    }
    let what = format!("a snapshot of {rows} employees, full and parts for {DEPTHS} depths (`materialise = \"none\"`)");
    let figures = (Spread::of(&first.theirs), Spread::of(&first.ours));
    let parts = Finding::beside(what, "the full file alone, same code", figures, "s", first.ratio());
    let note = format!("{:.0} MB resident at most", Spread::of(&memory).high);
    let mut findings = vec![parts.wants(Goal::RatioAtMost(1.5)).noting(note)];

    let before = maker.store("before");
    maker.make("before", PARTS).await?;
    findings.extend(pyarrow::findings(&setting, &one(&before, "full.parquet")?).await?);
    registry.a_day_passes(rows).await?;
    source.give(&["run", "--once"]).await?;
    let mut next = Rounds::default();
    let mut memory = Vec::new();
    for _ in 0..rounds {
        link(&before, &maker.store("next"))?;
        let ran = maker.make("next", PARTS).await?;
        next.theirs.push(ran.seconds);
        memory.push(ran.memory);
        maker.forget("next")?;
        next.ours.push(maker.make("first", PARTS).await?.seconds);
        maker.forget("first")?;
    }
    let what = "the next day's snapshot, 2 % of the rows changed";
    let figures = (Spread::of(&next.theirs), Spread::of(&next.ours));
    let day = Finding::beside(what, "the first one, of the same topic", figures, "s", next.ratio());
    findings
        .push(day.wants(Goal::RatioAtMost(0.9)).noting(format!("{:.0} MB resident at most", Spread::of(&memory).high)));
    Ok(findings)
}

/// A registry whose employees are on a topic.
pub struct Filled<'a> {
    /// Where they came from.
    pub registry: Registry,
    /// Brings more of them when it is run.
    pub source: Site,
    /// Lasts as long as this does.
    pub kafka: services::OwnKafka,
    /// Makes snapshots of the topic.
    pub maker: Maker<'a>,
}

/// Fills a registry with so many employees, and a topic with them.
pub async fn filled(setting: &Setting, rows: usize) -> Result<Filled<'_>> {
    let registry = Registry::filled(setting, rows).await?;
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let log = kafka_log(&kafka);
    let source = Site::new(setting, "source", &format!("{}{log}", registry.source(&["employee"], "")))?;
    source.give(&["run", "--once"]).await?;
    Ok(Filled { registry, source, kafka, maker: Maker { setting, log, rows } })
}

/// Makes snapshots.
pub struct Maker<'a> {
    /// What the benchmark was told.
    pub setting: &'a Setting,
    /// The configuration of the log.
    pub log: String,
    /// How many rows there are.
    pub rows: usize,
}

impl Maker<'_> {
    /// Where a store is.
    pub fn store(&self, name: &str) -> PathBuf {
        self.setting.scratch.join("stores").join(name)
    }

    /// Makes one there. `section`, `dataset`: what else the configuration says of them.
    pub async fn make(&self, name: &str, (section, dataset): (&str, &str)) -> Result<Ran> {
        let store = self.store(name);
        let configuration = snapshots(&store, "prm.employee", section, dataset) + &self.log;
        let site = Site::new(self.setting, &format!("snapshot-{name}"), &configuration)?;
        settle()?;
        let ran = site.timed(&["snapshot", "run", "--here"]).await?;
        let records = records(&store)?;
        ensure!(records == self.rows as u64, "{records} records of {} rows", self.rows);
        Ok(ran)
    }

    /// Removes a store.
    pub fn forget(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.store(name))?)
    }
}

/// Waits until everything is on the disk: what one process left to be written isn't the next one's business.
pub fn settle() -> Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    Ok(())
}

/// A copy whose files are the same ones: they are never changed.
fn link(from: &Path, to: &Path) -> Result<()> {
    ensure!(Command::new("cp").arg("-al").args([from, to]).status()?.success(), "cp failed");
    Ok(())
}

/// How many records the newest manifest of a store tells of.
pub fn records(store: &Path) -> Result<u64> {
    let mut manifests = files(&store.join("generations"))?;
    manifests.sort();
    let newest = manifests.last().context("no manifest")?;
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(newest)?)?;
    manifest["datasets"]["employees"]["full"]["records"].as_u64().context("a manifest without employees")
}

/// The file of this name in a store of one generation.
pub fn one(store: &Path, name: &str) -> Result<PathBuf> {
    let mut found = files(store)?;
    found.retain(|path| path.ends_with(name));
    found.pop().with_context(|| format!("{} has no {name}", store.display()))
}

/// All files below a folder.
pub fn files(below: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
