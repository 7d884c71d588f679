//! A table of a million rows into a topic, and compared when nothing has changed, beside `COPY (SELECT …) TO STDOUT` of the
//! same columns of the same rows, which sends a row's text and does nothing with it.
//!
//! The load is one `muster run --once` from an empty Kafka, from its start to its end. A comparison is a `muster run --once`
//! with nothing else due; what counts is the run's own time by its record, for the process's start and the broker's
//! groups are the same for a table of ten rows. Its times are kept with milliseconds.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgPool, Row};

use crate::prm::{Registry, kafka_log};
use crate::rounds::{Rounds, Spread, rate};
use crate::site::Site;
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "tables", about: "a table into a topic, and compared", run: |setting| Box::pin(run(setting)) };

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let rows = setting.amount(1_000_000, 5_000);
    let registry = Registry::filled(&setting, rows).await?;
    let pool = PgPool::connect(&registry.url()).await?;
    let filling = Finding::alone(
        format!("`muster simulate prm`: {rows} employees and their sister tables into PostgreSQL"),
        Spread::exactly(registry.filling.seconds),
        "s",
    );
    let memory_of_filling = format!("{:.0} MB resident at most", registry.filling.memory);
    let mut findings = vec![filling.noting(memory_of_filling)];
    findings.extend(load(&setting, &registry, &pool, rows).await?);
    findings.extend(compare(&setting, &registry, &pool, rows).await?);
    Ok(findings)
}

/// Each round with a broker of its own: topic and memory begin empty.
async fn load(setting: &Setting, registry: &Registry, pool: &PgPool, rows: usize) -> Result<Vec<Finding>> {
    let rounds = setting.amount(3, 1);
    let (mut times, mut memory) = (Rounds::default(), Vec::new());
    registry.copy(pool).await?;
    for round in 0..rounds {
        let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
        let configuration = registry.source(&["employee"], "") + &kafka_log(&kafka);
        let site = Site::new(setting, &format!("load-{round}"), &configuration)?;
        times.theirs.push(copied(registry, pool).await?);
        let ran = site.timed(&["run", "--once"]).await?;
        times.ours.push(ran.seconds);
        memory.push(ran.memory);
        let read = last_run(&setting.scratch.join(format!("load-{round}"))).await?;
        ensure!(read.delivered == rows as u64, "{} of {rows} rows were delivered", read.delivered);
        std::fs::remove_dir_all(setting.scratch.join(format!("load-{round}")))?;
    }
    let figures = (rate(rows, &times.ours), rate(rows, &times.theirs));
    let what = format!("initial load of {rows} employees, table -> Kafka, one `muster run --once`");
    let against = "`COPY (SELECT …) TO STDOUT` of the same rows";
    let load = Finding::beside(&what, against, figures, "rows/s", times.ratio());
    let most = Finding::alone("the same: resident memory, at most", Spread::of(&memory), "MB");
    Ok(vec![load.wants(Goal::RatioAtLeast(0.3)), most])
}

async fn compare(setting: &Setting, registry: &Registry, pool: &PgPool, rows: usize) -> Result<Vec<Finding>> {
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let site =
        |besides: &str| Site::new(setting, "compared", &(registry.source(&["employee"], besides) + &kafka_log(&kafka)));
    let folder = setting.scratch.join("compared");
    let by_change = site("")?;
    by_change.give(&["run", "--once"]).await?;
    // The first time all rows are read once more, and remembered in ranges.
    by_change.give(&["run", "--once"]).await?;
    let remembering = last_run(&folder).await?;
    ensure!(remembering.read == rows as u64, "{} of {rows} rows were read to be remembered", remembering.read);
    let mut findings = Vec::new();
    let kinds = [("key and change column", "", 0.5), ("whole rows", "compare = \"row\"\n", 2.0)];
    for (name, besides, most) in kinds {
        let site = site(besides)?;
        let rounds = setting.amount(5, 1);
        let mut times = Rounds::in_turn(
            rounds,
            async || {
                site.give(&["run", "--once"]).await?;
                let run = last_run(&folder).await?;
                ensure!(
                    run.ask == "everything" && run.delivered == 0 && run.read == 0,
                    "it wasn't a comparison: {run:?}"
                );
                Ok(run.seconds)
            },
            async || copied(registry, pool).await,
        )
        .await?;
        // How many times its time, not how many times as fast.
        std::mem::swap(&mut times.ours, &mut times.theirs);
        let what = format!("comparison of {rows} unchanged rows, {name}");
        let figures = (Spread::of(&times.theirs), Spread::of(&times.ours));
        let against = "`COPY (SELECT …) TO STDOUT` of the same rows";
        findings.push(Finding::beside(what, against, figures, "s", times.ratio()).wants(Goal::RatioAtMost(most)));
    }
    let what = "the first comparison after the load, which reads all rows again and remembers them";
    findings.push(Finding::alone(what, Spread::exactly(remembering.seconds), "s"));
    Ok(findings)
}

async fn copied(registry: &Registry, pool: &PgPool) -> Result<f64> {
    let began = Instant::now();
    let bytes = registry.copy(pool).await?;
    ensure!(bytes > 0, "nothing was copied");
    Ok(began.elapsed().as_secs_f64())
}

/// A run of the source, by its record.
#[derive(Debug)]
struct Run {
    ask: String,
    seconds: f64,
    read: u64,
    delivered: u64,
}

async fn last_run(folder: &Path) -> Result<Run> {
    let options = SqliteConnectOptions::new().filename(folder.join("data/operations.sqlite")).read_only(true);
    let mut connection = options.disable_statement_logging().connect().await?;
    let newest = "select ask, started, ended, read, delivered from runs order by rowid desc limit 1";
    let row = sqlx::query(newest).fetch_one(&mut connection).await?;
    let (started, ended): (DateTime<Utc>, Option<DateTime<Utc>>) = (row.try_get(1)?, row.try_get(2)?);
    let took = ended.context("a run that didn't end")? - started;
    let number = |place: usize| -> Result<u64> { Ok(u64::try_from(row.try_get::<i64, _>(place)?)?) };
    let seconds = took.as_seconds_f64();
    Ok(Run { ask: row.try_get(0)?, seconds, read: number(3)?, delivered: number(4)? })
}
