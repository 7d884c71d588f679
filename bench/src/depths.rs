//! Depths as files of their own, as the original has them: beside the same snapshot without them and a plain copy of as many
//! bytes, and beside the original's way, a query and a file for each depth.
//!
//! `MUSTER_BENCH_ROWS` says how many employees, where a million take more disk than there is: about 16 KB a row.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use futures::TryStreamExt;
use serde_json::{Map, Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::prm::{COLUMNS, Registry, wanted_rows};
use crate::rounds::{Rounds, Spread};
use crate::snapshots::{DEPTHS, Filled, Maker, PARTS, files, filled, settle};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "depths", about: "depths as files of their own", run: |setting| Box::pin(run(setting)) };

/// Each depth as files of its own.
const WHOLE: (&str, &str) = ("materialise = \"all\"", "");

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let (rows, rounds) = (setting.amount(wanted_rows(1_000_000)?, 5_000), setting.amount(3, 1));
    let Filled { registry, source: _source, kafka: _kafka, maker } = filled(&setting, rows).await?;
    let mut all = All::default();
    for _ in 0..rounds {
        round(&maker, &registry, &mut all).await?;
    }
    Ok(all.findings(rows))
}

/// Round by round.
#[derive(Default)]
struct All {
    parts: Vec<f64>,
    whole: Vec<f64>,
    copy: Vec<f64>,
    original: Vec<f64>,
    memory: Vec<f64>,
    copied: u64,
}

impl All {
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
            beside(&whole, &copying, &self.whole, &copied).wants(Goal::RatioAtMost(1.3)),
            against_original(&parts, &self.parts).wants(Goal::RatioAtLeast(5.0)),
            against_original(&whole, &self.whole),
            Finding::alone("resident memory of the process, at most", Spread::of(&self.memory), "MB"),
        ]
    }
}

async fn round(maker: &Maker<'_>, registry: &Registry, all: &mut All) -> Result<()> {
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

/// The files of a store that are one depth each.
fn depths(store: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(store)?;
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("depth-")));
    Ok(found)
}

/// Copies them, and says how long it took and how many bytes they are. What was copied is removed: twice as
/// many bytes might not fit on the disk.
fn copied(files: &[PathBuf], to: &Path) -> Result<(f64, u64)> {
    std::fs::create_dir_all(to)?;
    settle()?;
    let (mut seconds, mut bytes) = (0.0, 0);
    for (nth, file) in files.iter().enumerate() {
        let began = Instant::now();
        bytes += std::fs::copy(file, to.join(nth.to_string()))?;
        seconds += began.elapsed().as_secs_f64();
        std::fs::remove_file(file)?;
    }
    std::fs::remove_dir_all(to)?;
    Ok((seconds, bytes))
}
