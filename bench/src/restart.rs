//! How long it takes from a kill -9 until the work goes on, with a million keys in the memories.
//!
//! The embedded log, so that one partition's memory has them all: 200,000 applicants, and the million milestones derived of
//! them. The simulated ATS goes on changing. Work goes on when the group of the processor of applicants commits an offset
//! that it hadn't when the process was killed: log, state and memories are open, the source has read and emitted, the
//! processor has derived and emitted. Sinks keep nothing in memory, and would only make the load longer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::rounds::Spread;
use crate::site::{Site, recruiters, source};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "restart", about: "from kill -9 to progress", run: |setting| Box::pin(run(setting)) };

const OFTEN: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(300);

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let (applicants, rounds) = (setting.amount(200_000, 1_000), setting.amount(7, 1));
    let (_ats, url) = recruiters(&setting, applicants, &["--changes", "5"]).await?;
    let site = Site::new(&setting, "restart", &source(&url, "1s"))?;
    site.give(&["run", "--once"]).await?;

    let mut log = open(&setting.scratch.join("restart/data/log.sqlite")).await?;
    let keys = sqlx::query_scalar(KEYS).fetch_one(&mut log).await?;
    let mut muster = site.start(&["run"])?;
    let mut took = Vec::new();
    for _ in 0..=rounds {
        // At work before it is killed.
        for _ in 0..3 {
            let before = committed(&mut log).await?;
            muster.until(LONG, OFTEN, async || beyond(&mut log, before).await).await?;
        }
        muster.kill().await?;
        let before = committed(&mut log).await?;
        let began = Instant::now();
        muster = site.start(&["run"])?;
        muster.until(LONG, OFTEN, async || beyond(&mut log, before).await).await?;
        took.push(began.elapsed().as_secs_f64());
    }
    muster.kill().await?;
    let keys: i64 = keys;
    let what = "kill -9 -> progress again, embedded log, 1,000,000 keys in the memories";
    let note = format!("{keys} in the largest");
    Ok(vec![Finding::alone(what, Spread::of(&took), "s").wants(Goal::AtMost(5.0)).noting(note)])
}

const KEYS: &str = "select count(*) from records join topics on topics.id = records.topic \
     where topics.name = 'register.milestone'";

/// Beside the process that has it: it is only read.
async fn open(file: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(5));
    Ok(options.disable_statement_logging().connect().await?)
}

/// How far the processor's group is.
async fn committed(log: &mut SqliteConnection) -> Result<i64> {
    let sum = "select coalesce(sum(next), 0) from commits where member_group = 'muster.applicants'";
    Ok(sqlx::query_scalar(sum).fetch_one(log).await?)
}

async fn beyond(log: &mut SqliteConnection, before: i64) -> Result<Option<()>> {
    Ok((committed(log).await? > before).then_some(()))
}
