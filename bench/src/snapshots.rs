//! Snapshots of employees of whom 2 % have changed on each day, made by `muster snapshot run --here` from a topic on
//! Kafka into a local folder: JSON as it is and gzipped, and Parquet.
//!
//! What counts is the process from its start to its end. Each begins with an empty folder and without dirty pages (`sync`).

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use serde_json::{Map, Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::prm::{COLUMNS, Registry, kafka_log, snapshots};
use crate::rounds::{Rounds, Spread};
use crate::site::{Ran, Site};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting, pyarrow};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "snapshots", about: "a topic into files", run: |setting| Box::pin(run(setting)) };

const DEPTHS: u32 = 30;

/// The parts of 30 depths, and none of them materialised.
const PARTS: (&str, &str) = ("materialise = \"none\"", "");

/// The same, each depth as files of its own.
const WHOLE: (&str, &str) = ("materialise = \"all\"", "");

/// The full file alone: a single window, in which nothing has changed, for employment didn't begin within it.
const ALONE: (&str, &str) = ("materialise = \"none\"\nmax_depth = 1", "strict = true\nchanged_by = [\"start_date\"]");

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    // All depths and a copy of them take about 30 KB a row: a million rows are for larger disks.
    let (rows, rounds) = (setting.amount(300_000, 5_000), setting.amount(2, 1));
    let registry = Registry::filled(&setting, rows).await?;
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let log = kafka_log(&kafka);
    let source = Site::new(&setting, "source", &format!("{}{log}", registry.source(&["employee"], "")))?;
    source.give(&["run", "--once"]).await?;
    let maker = Maker { setting: &setting, log, rows };

    let mut all = First::default();
    for _ in 0..rounds {
        first(&maker, &registry, &mut all).await?;
    }
    let mut findings = all.findings(rows);

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

/// Makes snapshots.
struct Maker<'a> {
    setting: &'a Setting,
    log: String,
    rows: usize,
}

impl Maker<'_> {
    fn store(&self, name: &str) -> PathBuf {
        self.setting.scratch.join("stores").join(name)
    }

    async fn make(&self, name: &str, (section, dataset): (&str, &str)) -> Result<Ran> {
        let store = self.store(name);
        let configuration = snapshots(&store, "prm.employee", section, dataset) + &self.log;
        let site = Site::new(self.setting, &format!("snapshot-{name}"), &configuration)?;
        settle()?;
        let ran = site.timed(&["snapshot", "run", "--here"]).await?;
        let records = records(&store)?;
        ensure!(records == self.rows as u64, "{records} records of {} rows", self.rows);
        Ok(ran)
    }

    fn forget(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.store(name))?)
    }
}

/// Of first snapshots, round by round.
#[derive(Default)]
struct First {
    alone: Vec<f64>,
    parts: Vec<f64>,
    whole: Vec<f64>,
    copy: Vec<f64>,
    original: Vec<f64>,
    memory: Vec<f64>,
    copied: u64,
}

impl First {
    fn findings(&self, rows: usize) -> Vec<Finding> {
        let times = |ours: &[f64], theirs: &[f64]| Rounds { ours: theirs.to_vec(), theirs: ours.to_vec() }.ratio();
        let beside = |what: &str, against: &str, ours: &[f64], theirs: &[f64]| {
            Finding::beside(what, against, (Spread::of(ours), Spread::of(theirs)), "s", times(ours, theirs))
        };
        let copied = self.parts.iter().zip(&self.copy).map(|(parts, copy)| parts + copy).collect::<Vec<_>>();
        let parts =
            format!("a snapshot of {rows} employees, full and parts for {DEPTHS} depths (`materialise = \"none\"`)");
        let whole = format!("the same with all {DEPTHS} depths as files of their own");
        let copying = format!("the above and a plain copy of as many bytes ({:.1} GB)", self.copied as f64 / 1e9);
        let original =
            "the original's way: 31 queries, each row to JSON, 31 files; JSON alone, neither gzip nor Parquet";
        let faster = |ours: &[f64]| Rounds { ours: ours.to_vec(), theirs: self.original.clone() }.ratio();
        let against_original = |what: &str, ours: &[f64]| {
            Finding::beside(what, original, (Spread::of(ours), Spread::of(&self.original)), "s", faster(ours))
        };
        vec![
            beside(&parts, "the full file alone, same code", &self.parts, &self.alone).wants(Goal::RatioAtMost(1.5)),
            beside(&whole, &copying, &self.whole, &copied).wants(Goal::RatioAtMost(1.3)),
            against_original(&parts, &self.parts).wants(Goal::RatioAtLeast(5.0)),
            against_original(&whole, &self.whole),
            Finding::alone("resident memory of the process, at most", Spread::of(&self.memory), "MB"),
        ]
    }
}

async fn first(maker: &Maker<'_>, registry: &Registry, all: &mut First) -> Result<()> {
    all.alone.push(maker.make("alone", ALONE).await?.seconds);
    maker.forget("alone")?;
    let parts = maker.make("parts", PARTS).await?;
    all.parts.push(parts.seconds);
    maker.forget("parts")?;
    let whole = maker.make("whole", WHOLE).await?;
    all.whole.push(whole.seconds);
    all.memory.extend([parts.memory, whole.memory]);
    let (seconds, bytes) = copied(&depths(&maker.store("whole"))?, &maker.setting.scratch.join("copied"))?;
    all.copy.push(seconds);
    all.copied = bytes;
    maker.forget("whole")?;
    all.original.push(as_the_original(registry, maker.rows, &maker.setting.scratch.join("original")).await?);
    Ok(())
}

/// One query for each file, as the original's job has it; here by a compiled program that holds a row at a time.
async fn as_the_original(registry: &Registry, rows: usize, folder: &Path) -> Result<f64> {
    std::fs::create_dir_all(folder)?;
    let mut connection = PgConnection::connect(&registry.url()).await?;
    settle()?;
    let began = Instant::now();
    for depth in 0..=DEPTHS {
        let within = match depth {
            0 => String::new(),
            days => format!(" where updated_at > now() at time zone 'utc' - interval '{days} days'"),
        };
        let query = AssertSqlSafe(format!("select {COLUMNS} from employees{within}"));
        let mut found = sqlx::query(query).fetch(&mut connection);
        let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(folder.join(format!("{depth}.json")))?);
        file.write_all(b"{\"data\":[")?;
        let mut count = 0;
        while let Some(row) = found.try_next().await? {
            if count > 0 {
                file.write_all(b",")?;
            }
            serde_json::to_writer(&mut file, &record(&row)?)?;
            count += 1;
        }
        file.write_all(b"]}")?;
        file.flush()?;
        ensure!(depth > 0 || count == rows, "{count} records of {rows} rows");
    }
    let took = began.elapsed().as_secs_f64();
    std::fs::remove_dir_all(folder)?;
    Ok(took)
}

fn record(row: &PgRow) -> Result<Value> {
    let mut record = Map::new();
    let moment = |at: chrono::NaiveDateTime| json!(at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
    for (place, name) in COLUMNS.split(", ").enumerate() {
        let value = match name {
            "id" | "legal_entity_id" | "division_id" | "party_id" => {
                row.try_get::<Option<Uuid>, _>(place)?.map(|id| json!(id.to_string()))
            }
            "is_active" => row.try_get::<Option<bool>, _>(place)?.map(Value::from),
            "start_date" | "end_date" => {
                let day: Option<chrono::NaiveDate> = row.try_get(place)?;
                day.map(|day| moment(day.and_time(chrono::NaiveTime::MIN)))
            }
            "inserted_at" | "updated_at" => row.try_get::<Option<chrono::NaiveDateTime>, _>(place)?.map(moment),
            "additional_info" | "speciality" => row.try_get::<Option<Value>, _>(place)?,
            _ => row.try_get::<Option<String>, _>(place)?.map(Value::from),
        };
        record.insert(name.to_owned(), value.unwrap_or_default());
    }
    Ok(Value::Object(record))
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

/// The files of a store that are one depth each.
fn depths(store: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(store)?;
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("depth-")));
    Ok(found)
}

/// Copies them, and says how long it took and how many bytes they are.
fn copied(files: &[PathBuf], to: &Path) -> Result<(f64, u64)> {
    std::fs::create_dir_all(to)?;
    settle()?;
    let began = Instant::now();
    let mut bytes = 0;
    for (nth, file) in files.iter().enumerate() {
        bytes += std::fs::copy(file, to.join(nth.to_string()))?;
    }
    let took = began.elapsed().as_secs_f64();
    std::fs::remove_dir_all(to)?;
    Ok((took, bytes))
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

fn files(below: &Path) -> Result<Vec<PathBuf>> {
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
